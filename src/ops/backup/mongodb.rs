//! A MongoDB database on its way into a snapshot.

use super::mongodump::{self, Taken, Taking, Untaken};
use super::part::Part;
use super::{Component, Run, progress_of};
use crate::component::mongodb::archive::Versions;
use crate::component::mongodb::tools::{DumpSaid, Tools};
use crate::component::mongodb::wire::{Files, Tap, dump, show};
use crate::component::mongodb::{MongoError, MongodbDetails, names};
use crate::ops::OpsError;
use crate::ops::instance::MongoDatabase;
use crate::repository::RepositoryError;
use crate::repository::writer::{Content, FileStream, PendingContent, Writer};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

/// Why nothing that the program gives is of one moment.
const MONGODUMP: &str = "mongodump reads one collection after the other, and the server goes on";

/// Counts what comes.
struct Counting<'a, R> {
    inner: R,
    bytes: u64,
    told: &'a mut dyn FnMut(u64),
}

impl<R: io::Read> io::Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.bytes += length as u64;
        (self.told)(self.bytes);
        Ok(length)
    }
}

impl Files for Writer {
    type File = FileStream;
    type Stored = Content;

    fn open(&self) -> FileStream {
        self.file()
    }

    fn store(&self, file: FileStream) -> io::Result<Content> {
        file.finish().and_then(PendingContent::wait).map_err(io::Error::other)
    }
}

impl Run<'_> {
    pub(super) fn read_mongodb(
        &self,
        place: &MongoDatabase,
        writer: &Writer,
        tap: Tap<'_>,
    ) -> Result<Component, OpsError> {
        if let Some((tools, url, database)) = place.dumped_by()? {
            return self.dump_mongodb(tools, url, &database, writer, tap);
        }
        let failed = |source| self.failed_mongodb(source);
        let server = place.open(self.context)?;
        let database = place.name(&server)?;
        let events = &self.context.events;
        events.phase("reading", format!("database {database} of {}", self.instance.name));
        let progress = Mutex::new(progress_of(events));
        let told = |bytes| {
            if let Ok(mut progress) = progress.lock() {
                progress(bytes, 0);
            }
        };
        let dumped = dump(&server, &database, writer, tap, &told).map_err(failed)?;
        let details = MongodbDetails::of(&server, &database, &dumped);
        let mut part = Part::new(writer, "mongodb");
        let versions = Versions {
            server: server.version.clone(),
            tool: format!("belay {}", env!("CARGO_PKG_VERSION")),
            concurrent_collections: 1,
        };
        part.add(&names::prelude_path(&database), versions.to_json().as_bytes())?;
        let mut counts =
            BTreeMap::from([("collections".to_owned(), 0), ("documents".to_owned(), 0)]);
        let mut count = |what: &str, more: u64| *counts.entry(what.to_owned()).or_insert(0) += more;
        for each in dumped.collections {
            let name = each.collection.name.as_str();
            let metadata = each.collection.metadata();
            part.add(&names::metadata_path(&database, name), metadata.as_bytes())?;
            if let Some(content) = each.stored {
                part.add_content(&names::documents_path(&database, name), content);
            }
            count("collections", 1);
            count("documents", each.documents);
        }
        if let Some(reason) = &details.not_one_moment {
            part.warn(events, format!("mongodb: {database} is not of one moment: {reason}"));
        }
        let details = serde_json::to_value(details).expect("names and numbers become JSON");
        Ok(part.finish(server.told(), counts, details)?)
    }

    /// By MongoDB's own program: what it gives, how it ends and what it says have to agree.
    fn dump_mongodb(
        &self,
        tools: &Tools,
        url: &str,
        database: &str,
        writer: &Writer,
        tap: Tap<'_>,
    ) -> Result<Component, OpsError> {
        let failed = |source| self.failed_mongodb(source);
        let events = &self.context.events;
        events.phase("reading", format!("database {database} of {}", self.instance.name));
        let mut running = tools.dump(url, database).map_err(failed)?;
        let mut progress = progress_of(events);
        let archive = Counting {
            inner: running.stdout().buffered(),
            bytes: 0,
            told: &mut |bytes| progress(bytes, 0),
        };
        let see = |collection: &str, document: &[u8]| show(document, collection, tap);
        let taking = Taking { database: Some(database), not_one_moment: MONGODUMP, see: &see };
        let source = format!("mongodump via {}", tools.access.via());
        let taken = mongodump::take(archive, &taking, Part::new(writer, "mongodb"), source);
        let ended = running.finish();
        let (mut component, taken) = match (taken, ended) {
            // Where it fell silent too early, how it ended says why.
            (Err(Untaken::Archive(error)), Err(ended)) if error.is_early_end() => {
                return Err(failed(MongoError::Program(Box::new(ended))));
            }
            (Err(Untaken::Archive(error)), _) => {
                return Err(failed(MongoError::Archive(Box::new(error))));
            }
            (Err(Untaken::Database(problem)), _) => {
                return Err(failed(MongoError::NotDumped(problem)));
            }
            (Err(Untaken::Repository(error)), _) => return Err(error.into()),
            (Ok(_), Err(ended)) => return Err(failed(MongoError::Program(Box::new(ended)))),
            (Ok(taken), Ok(finished)) => {
                self.compare(&taken.1, &DumpSaid::parse(&finished.said)).map_err(failed)?;
                taken
            }
        };
        if !taken.left_out.is_empty() {
            events.note(format!(
                "mongodump gave more than the database {database}, which is not in the snapshot: {}.",
                taken.left_out.join(", ")
            ));
        }
        let warning = format!("mongodb: {database} is not of one moment: {MONGODUMP}");
        events.warn(&warning);
        component.warnings.push(warning);
        Ok(component)
    }

    /// What the program says that it wrote is what came.
    fn compare(&self, taken: &Taken, said: &DumpSaid) -> Result<(), MongoError> {
        if !said.complaints.is_empty() {
            return Err(MongoError::Complained { said: said.complaints.join("; ") });
        }
        for other in &said.others {
            self.context.events.warn(format!("mongodump said: {other}"));
        }
        for collection in &taken.details.collections {
            let full = format!("{}.{}", taken.database, collection.name);
            let mut told = said.written.iter().filter(|(name, _)| *name == full);
            if let Some((_, counted)) = told.find(|(_, count)| *count != collection.documents) {
                let (name, read) = (collection.name.clone(), collection.documents);
                return Err(MongoError::Count { collection: name, read, counted: *counted });
            }
        }
        Ok(())
    }

    fn failed_mongodb(&self, source: MongoError) -> OpsError {
        match source {
            // What the repository says is told as such.
            MongoError::Sink { source, collection } => match source.downcast::<RepositoryError>() {
                Ok(error) => error.into(),
                Err(source) => self.failed_mongodb_server(MongoError::Sink { source, collection }),
            },
            other => self.failed_mongodb_server(other),
        }
    }

    fn failed_mongodb_server(&self, source: MongoError) -> OpsError {
        OpsError::Mongodb { instance: self.instance.name.to_string(), source }
    }
}
