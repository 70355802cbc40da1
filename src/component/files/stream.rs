//! Reading a tree where it lives, on another host or in a container: a tar stream, into the same sink as a walk.
//!
//! The archive is GNU tar's in the format `pax`, sorted by name, with each hard link as a file of its own, and ends with its
//! end mark. What is not exactly that is an error, and so is every end of tar but a good one. Memory is bounded whatever the
//! tree's size, but for the names of files that have several.

pub(super) mod archive;
mod error;
mod header;
mod said;
mod sparse;

pub use self::error::StreamError;

use self::archive::{Archive, Fault};
use self::said::Said;
use super::swap::{BEFORE, RESTORE};
use super::walk::{TreeSink, WalkReport};
use crate::access::{Access, AccessError, Command, Ending, Finished};
use crate::model::event::Cancel;
use std::collections::HashMap;

/// The answers to what is asked before are short.
const MOST_ANSWER: u64 = 64 * 1024;
/// A list of names that is longer is not used: the files are then stored with one name each.
const MOST_LINKS: u64 = 64 * 1024 * 1024;
/// The first version that sorts.
const NEEDED: (u32, u32) = (1, 28);

/// Says whether a directory is at a path.
const LOOK: &str = r#"LC_ALL=C; export LC_ALL
if [ -d "$1" ]; then echo there; exit 0; fi
if said=$(ls -d -- "$1" 2>&1); then echo "$1 is no directory" >&2; exit 1; fi
case $said in *"No such file or directory"*) ;; *) printf '%s\n' "$said" >&2; exit 1 ;; esac"#;

/// Of a file of several names: device, inode, how many names, and one of them.
const LINK: &str = r"%D %i %n %P\0";

/// What is at the far end of an access, and can be read.
pub struct RemoteTree<'a> {
    access: &'a Access,
    path: &'a str,
    has_attributes: bool,
}

impl<'a> RemoteTree<'a> {
    /// Look for the directory `path`, an absolute path; none where nothing has that name.
    pub fn find<E: std::error::Error>(
        access: &'a Access,
        path: &'a str,
    ) -> Result<Option<Self>, StreamError<E>> {
        let look = Command::shell(LOOK).argument(path);
        let answer = access.run(&look, &[], MOST_ANSWER)?;
        if answer.is_empty() {
            return Ok(None);
        }
        // Not in a shell: that of busybox has a tar of its own.
        let version = Command::new("tar").argument("--version");
        let told = access.run(&version, &[], MOST_ANSWER)?;
        let told = String::from_utf8_lossy(&told);
        let told = told.lines().next().unwrap_or("none");
        if version_of(told).is_none_or(|version| version < NEEDED) {
            let (via, found) = (access.via().clone(), told.to_owned());
            return Err(StreamError::NoTar { via, found });
        }
        let mut tree = Self { access, path, has_attributes: true };
        // Packing nothing tells whether it was built with them.
        let probe = tree.create().argument("--files-from=/dev/null");
        let mut running = access.start(&probe, false)?;
        let mut output = running.stdout();
        std::io::copy(&mut output, &mut std::io::sink()).ok();
        drop(output);
        tree.has_attributes = match running.finish() {
            Ok(Finished { said }) => said.is_empty(),
            Err(AccessError::Failed { ending: Ending::Status(_), .. }) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Some(tree))
    }

    /// The command that packs, but for what.
    fn create(&self) -> Command {
        let attributes: &[&str] =
            if self.has_attributes { &["--xattrs", "--xattrs-include=*"] } else { &[] };
        Command::new("tar")
            .variable("LC_ALL", "C")
            .arguments(["--create", "--file=-", "--format=pax", "--pax-option=delete=atime"])
            .arguments(["--numeric-owner", "--sort=name", "--hard-dereference", "--sparse"])
            .arguments(attributes)
    }

    /// Read all of it to its end, the root under the given name. What restores have left directly in it is left out.
    /// `progress` is told bytes and files so far.
    ///
    /// Where something changed or vanished while it was read, the report names it, and the caller may read all again.
    pub fn read<S: TreeSink>(
        &self,
        name: &[u8],
        cancel: &Cancel,
        sink: &mut S,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<WalkReport, StreamError<S::Error>> {
        let links = self.links()?;
        let command = self
            .create()
            .argument("--anchored")
            .arguments([BEFORE, RESTORE].map(|ours| format!("--exclude=./{ours}*")))
            .arguments(["-C", self.path, "."]);
        let mut running = self.access.start(&command, false)?;
        let input = running.stdout().buffered();
        let read = Archive::new(input, name, &links, cancel, sink, progress).read();
        match read {
            // Their own failure would be that of the pipe that closed on them.
            Err(Fault::Sink(error)) => return Err(StreamError::Sink(error)),
            Err(Fault::Cancelled(cancelled)) => return Err(cancelled.into()),
            Err(Fault::Store(source)) => {
                return Err(StreamError::Store { path: self.path.to_owned(), source });
            }
            Err(Fault::Invalid(reason)) => return Err(self.invalid(reason, String::new())),
            Err(Fault::Ended(_)) | Ok(_) => {}
        }
        let said = match running.finish() {
            Ok(Finished { said }) => Said::parse(&said).filter(Said::is_all_read).ok_or(said),
            Err(AccessError::Failed { said, ending, via, program }) => match Said::parse(&said) {
                Some(known) if ending == Ending::Status(1) && !known.is_all_read() => Ok(known),
                _ => return Err(AccessError::Failed { said, ending, via, program }.into()),
            },
            Err(error) => return Err(error.into()),
        };
        match (read, said) {
            (Ok(mut report), Ok(said)) => {
                said.add_to(&mut report);
                if !self.has_attributes {
                    let sentence =
                        "extended attributes are left out: tar was built without them there";
                    report.warnings.push(sentence.into());
                }
                Ok(report)
            }
            (Err(Fault::Ended(reason)), said) => {
                Err(self.invalid(reason, said.err().unwrap_or_default()))
            }
            (_, said) => Err(StreamError::Complained {
                path: self.path.to_owned(),
                said: said.err().unwrap_or_default(),
            }),
        }
    }

    fn invalid<E: std::error::Error>(&self, reason: String, said: String) -> StreamError<E> {
        StreamError::Invalid { path: self.path.to_owned(), reason, said }
    }

    /// The files of several names, by their path; none where that cannot be told there.
    fn links<E: std::error::Error>(&self) -> Result<HashMap<Vec<u8>, Linked>, StreamError<E>> {
        let list = Command::new("find")
            .arguments(["-H", self.path, "-type", "f", "-links", "+1", "-printf", LINK]);
        match self.access.run(&list, &[], MOST_LINKS) {
            Ok(list) => Ok(parse_links(&list)),
            Err(
                AccessError::Failed { ending: Ending::Status(_), .. } | AccessError::TooMuch { .. },
            ) => Ok(HashMap::new()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What tells that two names are of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linked {
    device: u64,
    inode: u64,
    names: u64,
}

/// What is no such line is passed over: the content comes with every name all the same.
fn parse_links(list: &[u8]) -> HashMap<Vec<u8>, Linked> {
    let parse = |line: &[u8]| {
        let mut fields = line.splitn(4, |byte| *byte == b' ');
        let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
        let linked = Linked { device: number()?, inode: number()?, names: number()? };
        Some((fields.next()?.to_vec(), linked))
    };
    list.split(|byte| *byte == 0).filter_map(parse).collect()
}

/// The version that GNU tar tells in its first line: `tar (GNU tar) 1.34`.
fn version_of(line: &str) -> Option<(u32, u32)> {
    let (_, version) = line.split_once("(GNU tar) ")?;
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}
