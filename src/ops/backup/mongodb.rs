//! A MongoDB database on its way into a snapshot.

use super::part::Part;
use super::{Component, Run, progress_of};
use crate::component::mongodb::archive::Versions;
use crate::component::mongodb::wire::{Files, Tap, dump};
use crate::component::mongodb::{MongoError, MongodbDetails, names};
use crate::ops::OpsError;
use crate::ops::instance::MongoDatabase;
use crate::repository::RepositoryError;
use crate::repository::writer::{Content, FileStream, PendingContent, Writer};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;

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
