//! The MongoDB database of an instance, as a part that comes back: what the snapshot has of it, and where that goes.

use super::DatabasePlan;
use crate::component::mongodb::tools::Filler;
use crate::component::mongodb::wire::restore::{Incoming, RestorePlan, look};
use crate::component::mongodb::wire::{Collection, Server};
use crate::component::mongodb::{CollectionDetails, MongoError, MongodbDetails};
use crate::model::manifest::ComponentManifest;
use crate::ops::backup::progress_of;
use crate::ops::restore::Source;
use crate::ops::restore::stored::{content, read_small};
use crate::ops::{Context, OpsError};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Mutex;

/// A database that comes back.
pub(super) struct Collections {
    pub(super) server: Server,
    pub(super) plan: RestorePlan,
    /// What fills the new collections; none where that is done over the wire.
    filler: Option<Filler>,
    incoming: Vec<Incoming>,
    /// Where the documents of each collection are in the snapshot.
    files: BTreeMap<String, String>,
}

/// What the manifest says of the database.
pub(super) fn details_of(
    source: &Source,
    component: &ComponentManifest,
) -> Result<MongodbDetails, OpsError> {
    serde_json::from_value(component.details.clone()).map_err(|error| OpsError::WrongFile {
        object: format!("the manifest of snapshot {}", source.snapshot.id.short()),
        reason: error.to_string(),
    })
}

impl Collections {
    /// Look at the server, and plan; returns also what people are told. Nothing is changed.
    pub(super) fn look(
        source: &Source,
        details: MongodbDetails,
        ((server, database), filler): ((Server, String), Option<Filler>),
        job: &str,
        failed: impl Fn(MongoError) -> OpsError,
    ) -> Result<(Self, DatabasePlan), OpsError> {
        let read = |details: &CollectionDetails| incoming(source, details, &failed);
        let incoming = details.collections.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let plan = look(&server, &database, &incoming, job).map_err(&failed)?;
        let comes = |name: &String| details.collections.iter().any(|each| each.name == *name);
        let old = plan.old.iter().map(|old| &old.name);
        let told = DatabasePlan {
            server: server.told(),
            database,
            collections: details.collections.len() as u64,
            documents: details.collections.iter().map(|each| each.documents).sum(),
            replaced: plan.old.len() as u64,
            extra: old.filter(|name| !comes(name)).cloned().collect(),
        };
        let files = details.collections.into_iter();
        let files = files.filter_map(|each| Some((each.name, each.file?))).collect();
        Ok((Self { server, plan, filler, incoming, files }, told))
    }

    /// Whether there is anything in its place now.
    pub(super) fn replaces_nothing(&self) -> bool {
        self.plan.old.is_empty() && self.plan.old_views.is_empty()
    }

    /// Make the new collections beside the present ones.
    pub(super) fn fill(&self, source: &Source, context: &Context) -> Result<(), MongoError> {
        context.events.phase("restoring", format!("database {}", self.plan.database));
        let progress = Mutex::new(progress_of(&context.events));
        let told = |bytes| {
            if let Ok(mut progress) = progress.lock() {
                progress(bytes, 0);
            }
        };
        let open = |name: &str| -> io::Result<Box<dyn Read + '_>> {
            let path = self.files.get(name).ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(content(source, path).map_err(io::Error::other)?))
        };
        let Self { server, plan, incoming, .. } = self;
        match &self.filler {
            Some(filler) => filler.fill(server, plan, incoming, &open, &told),
            None => plan.fill(server, incoming, &open, &told),
        }
    }
}

/// What comes back of a collection, from its metadata in the snapshot.
fn incoming(
    source: &Source,
    CollectionDetails { name, documents, metadata, .. }: &CollectionDetails,
    failed: impl Fn(MongoError) -> OpsError,
) -> Result<Incoming, OpsError> {
    let text = read_small(source, metadata)?;
    let collection = Collection::from_metadata(name, &String::from_utf8_lossy(&text));
    Ok(Incoming { collection: collection.map_err(failed)?, documents: *documents })
}
