//! New collections filled by `mongorestore`: the archive that it takes is written here, under their names, and what it has made of
//! that is compared over the wire. What it says of itself counts only against it.

use super::said::RestoreSaid;
use super::{Tools, failed};
use crate::component::mongodb::MongoError;
use crate::component::mongodb::archive::{EncodeError, Encoder, Namespace, Prelude, Versions};
use crate::component::mongodb::wire::restore::{Content, Incoming, Planned, RestorePlan};
use crate::component::mongodb::wire::{Collection, Server};
use std::io::{self, Write};
use zeroize::Zeroizing;

/// `mongorestore`, and what it has to be told.
pub struct Filler {
    /// Where it is.
    pub tools: Tools,
    /// The connection string, with its password.
    pub url: Zeroizing<String>,
    /// The version of the server that the documents come from.
    pub server_version: String,
}

/// Tells how much went through, and stops before the server's disk is full.
struct Watching<'a, W> {
    inner: W,
    bytes: u64,
    told: &'a dyn Fn(u64),
    server: &'a Server,
    database: &'a str,
}

impl<W: Write> Write for Watching<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        let before = self.bytes;
        self.bytes += length as u64;
        self.server.ensure_room(self.database, before..self.bytes).map_err(io::Error::other)?;
        (self.told)(self.bytes);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Why not all was handed over.
enum Unfed {
    /// It takes no more.
    Gone,
    /// It must not have more, or there is something wrong with that.
    Stopped(MongoError),
}

impl Unfed {
    fn of(error: EncodeError, collection: &str) -> Self {
        match error {
            EncodeError::Write(error) => error.downcast().map_or(Self::Gone, Self::Stopped),
            EncodeError::Documents { source, .. } => Self::Stopped(unfit(collection, &source)),
            error @ EncodeError::View(_) => Self::Stopped(unfit(collection, &error)),
        }
    }
}

impl Filler {
    /// Make all collections of a plan under their other names. What is there is not touched.
    pub fn fill(
        &self,
        server: &Server,
        plan: &RestorePlan,
        incoming: &[Incoming],
        content: Content<'_, '_>,
        progress: &dyn Fn(u64),
    ) -> Result<(), MongoError> {
        // Left by an attempt that was interrupted.
        plan.abandon(server)?;
        let work: Vec<(&Planned, &Incoming)> = plan.pairs(incoming).collect();
        if work.is_empty() {
            return Ok(());
        }
        let prelude = self.prelude(&plan.database, &work)?;
        let mut running = self.tools.restore(&self.url, &plan.database)?;
        let (inner, database) = (running.stdin(), plan.database.as_str());
        let input = Watching { inner, bytes: 0, told: progress, server, database };
        let fed = feed(input, &prelude, &work, content);
        // Its input has ended by now, whole or not, so that it ends too: nothing is written behind the back of who clears away.
        let finished = match (fed, running.finish()) {
            (Ok(()), Ok(finished)) => finished,
            (Err(Unfed::Stopped(error)), Ok(_)) => return Err(error),
            (Err(Unfed::Stopped(error)), Err(ended)) => {
                let ended = failed(ended);
                return Err(if ended.is_cancelled() { ended } else { error });
            }
            (Ok(()) | Err(Unfed::Gone), Err(ended)) => return Err(failed(ended)),
            (Err(Unfed::Gone), Ok(_)) => {
                let reason = "it ended well before it had taken all";
                return Err(MongoError::NotRestored(reason.into()));
            }
        };
        let documents = work.iter().map(|(_, incoming)| incoming.documents).sum();
        ensure_said(&RestoreSaid::parse(&finished.said), documents)?;
        work.iter().try_for_each(|(planned, incoming)| {
            server.ensure_made(&plan.database, &planned.other, incoming)
        })
    }

    /// What the archive says of the collections: metadata under their other names, and without the UUIDs of the old ones.
    fn prelude(
        &self,
        database: &str,
        work: &[(&Planned, &Incoming)],
    ) -> Result<Prelude, MongoError> {
        let namespace = |(planned, incoming): &(&Planned, &Incoming)| {
            let Planned { name, other } = planned;
            let collection = incoming.collection.clone();
            let collection = Collection { name: other.clone(), uuid: None, ..collection };
            let metadata = collection.metadata();
            Namespace::new(database.to_owned(), other.clone(), "collection", metadata)
                .map_err(|error| unfit(name, &error))
        };
        let versions = Versions {
            server: self.server_version.clone(),
            tool: format!("belay {}", env!("CARGO_PKG_VERSION")),
            concurrent_collections: 1,
        };
        let namespaces = work.iter().map(namespace).collect::<Result<_, _>>()?;
        Prelude::new(versions, namespaces).map_err(|error| unfit(database, &error))
    }
}

fn unfit(collection: &str, reason: &impl ToString) -> MongoError {
    MongoError::Source { collection: collection.to_owned(), reason: reason.to_string() }
}

fn feed(
    input: impl Write,
    prelude: &Prelude,
    work: &[(&Planned, &Incoming)],
    content: Content<'_, '_>,
) -> Result<(), Unfed> {
    let all = |error| Unfed::of(error, "all");
    let mut encoder = Encoder::new(input, prelude).map_err(all)?;
    for (Planned { name, .. }, Incoming { documents, .. }) in work {
        let content = content(name).map_err(|error| Unfed::Stopped(unfit(name, &error)))?;
        let written = encoder.write(content).map_err(|error| Unfed::of(error, name))?;
        if written.documents != *documents {
            let (collection, counted) = (name.clone(), *documents);
            let read = written.documents;
            return Err(Unfed::Stopped(MongoError::Count { collection, read, counted }));
        }
    }
    encoder.finish().map(drop).map_err(all)
}

/// It tells of no failure, and of as many documents as it was given.
fn ensure_said(said: &RestoreSaid, documents: u64) -> Result<(), MongoError> {
    let reason = match said.documents {
        _ if !said.complaints.is_empty() => {
            format!("it ended well, and complained: {}", said.complaints.join("; "))
        }
        Some((restored, 0)) if restored == documents => return Ok(()),
        Some((restored, failed)) => format!(
            "it says that it restored {restored} of {documents} documents, and that {failed} failed"
        ),
        None => "it does not say how many documents it restored".into(),
    };
    Err(MongoError::NotRestored(reason))
}
