//! Putting a tree in the place of a directory where an instance lives, through an access: staged beside it from a tar stream,
//! then swapped in by renames.
//!
//! A directory is renamed as a whole; one that is mounted, or whose parent may not be written to, stays, and its entries are
//! moved one by one. Each step may be run again after whatever ended it, and then finishes. Scripts work in directories that they
//! have entered, by names without a `/`: nobody who owns the parent directory leads them elsewhere by a link.

mod error;
mod script;
#[cfg(test)]
mod tests;

pub use self::error::{RemoteError, StageError};

use crate::access::{Access, AccessError, Command, Finished};
use std::io::{self, BufWriter, Write};

/// The answers are short: a path at most.
const MOST_ANSWER: u64 = 64 * 1024;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// The steps for one directory.
pub struct RemoteSwap<'a> {
    access: &'a Access,
    path: &'a str,
    tag: &'a str,
}

impl<'a> RemoteSwap<'a> {
    /// For the directory `path`, an absolute path, which need not exist; one that is a link is what that leads to. `tag` makes
    /// the names unique that things have meanwhile: letters and digits, such as a job's id.
    pub fn new(access: &'a Access, path: &'a str, tag: &'a str) -> Self {
        Self { access, path, tag }
    }

    /// Make the new tree, complete and durable, from the tar stream that `fill` writes; `fill` returns how many entries there
    /// are in it. What an earlier call left is made anew.
    pub fn stage<E: std::error::Error>(
        &self,
        fill: impl FnOnce(&mut dyn Write) -> Result<u64, StageError<E>>,
    ) -> Result<(), StageError<E>> {
        let mut running = self.access.start(&self.script(script::STAGE), true)?;
        let mut input = BufWriter::with_capacity(WRITE_BYTES, running.stdin());
        let filled = fill(&mut input).and_then(|entries| {
            input.flush()?;
            Ok(entries)
        });
        // Whatever is still held is not to be written where that failed.
        let (input, _) = input.into_parts();
        if let Err(error) = &filled
            && !matches!(error, StageError::Write(_))
        {
            drop(running);
            return filled.map(drop);
        }
        drop(input);
        // Why it took no more, tar knows better.
        let Finished { said } = running.finish()?;
        let entries = filled?;
        if !said.is_empty() {
            return Err(self.complained(said).into());
        }
        let found = self.run(script::COMPLETE, &[&entries.to_string()])?;
        if found.is_empty() { Ok(()) } else { Err(self.incomplete(entries, found).into()) }
    }

    /// Swap what was staged in, or finish that. Returns where the old state is kept; none where there was none.
    pub fn swap(&self) -> Result<Option<String>, RemoteError> {
        let kept = self.run(script::SWAP, &[])?;
        Ok((!kept.is_empty()).then_some(kept))
    }

    /// Put the old state back, if the swap has begun, and the new one where it was staged. [`RemoteSwap::abandon`] removes that.
    pub fn undo(&self) -> Result<(), RemoteError> {
        self.run(script::UNDO, &[]).map(drop)
    }

    /// Remove what was staged and is not swapped in.
    pub fn abandon(&self) -> Result<(), RemoteError> {
        self.run(script::ABANDON, &[]).map(drop)
    }

    /// Remove the old state. Refused while the swap is not finished.
    pub fn drop_old(&self) -> Result<(), RemoteError> {
        self.run(script::DROP_OLD, &[]).map(drop)
    }

    fn script(&self, step: &str) -> Command {
        let script = [script::PLACE, step].concat();
        Command::shell(&script).arguments([self.path, self.tag])
    }

    fn run(&self, step: &str, arguments: &[&str]) -> Result<String, RemoteError> {
        let mut running = self.access.start(&self.script(step).arguments(arguments), false)?;
        let mut answer = String::new();
        let read = io::Read::read_to_string(
            &mut io::Read::take(running.stdout(), MOST_ANSWER),
            &mut answer,
        );
        let Finished { said } = running.finish()?;
        read.map_err(|source| AccessError::Stream {
            action: "read from",
            program: "sh".into(),
            via: self.access.via().clone(),
            source,
        })?;
        if said.is_empty() { Ok(answer) } else { Err(self.complained(said)) }
    }

    fn complained(&self, said: String) -> RemoteError {
        RemoteError::Complained { path: self.path.to_owned(), said }
    }

    fn incomplete(&self, entries: u64, found: String) -> RemoteError {
        RemoteError::Incomplete { path: self.path.to_owned(), entries, found }
    }
}
