//! Putting a database back over the wire: beside what is there, and swapped in.
//!
//! MongoDB cannot rename a database. So each collection is made under another name in the same database, with its indexes, and
//! counted; then all that is there is renamed aside, and the new ones to their names. All of that can be run again, so that a
//! swap that was interrupted is finished; nothing is dropped before it is told that it may be.

use super::listing::{Collection, Kind};
use super::{Room, Server, says};
use crate::component::mongodb::MongoError;
use crate::component::mongodb::document::DocumentReader;
use bson::raw::{RawArrayBuf, RawDocumentBuf};
use bson::{Bson, Document, Timestamp, doc, rawdoc};
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What the names of collections begin with that are being made.
pub(in crate::component::mongodb) const FRESH: &str = "belay_new_";
/// What the names of collections begin with that were set aside.
pub(in crate::component::mongodb) const ASIDE: &str = "belay_old_";
/// The server's number for: there is one of this name.
const NAMESPACE_EXISTS: i32 = 48;
/// Collections that are filled at once.
const WRITERS: usize = 4;
/// Bytes of documents in one message; the server takes 48 MB, and a single document may have 16 MiB.
const MESSAGE_BYTES: usize = 16 * 1024 * 1024;
/// So much of the server's disk stays free.
pub const RESERVE_BYTES: u64 = 256 * 1024 * 1024;
/// After so many bytes it is looked how much that is.
const LOOKS_EVERY_BYTES: u64 = 64 * 1024 * 1024;
/// Documents in one message; the server takes 100 000.
const MESSAGE_DOCUMENTS: usize = 10_000;

/// What comes back, as the snapshot has it.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// From its metadata.
    pub collection: Collection,
    /// How many documents it has.
    pub documents: u64,
}

/// Where the documents of a collection come from.
pub type Content<'a, 'b> = &'b (dyn Fn(&str) -> std::io::Result<Box<dyn Read + 'a>> + Sync + 'b);

/// What a restore is to do. It holds no secrets: it has to be written down before the first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Into which database.
    pub database: String,
    /// What makes the names of this restore unique.
    job: String,
    /// Each collection that comes back.
    pub collections: Vec<Planned>,
    /// Each view that comes back, with what it is made with, in Extended JSON.
    pub views: Vec<(String, serde_json::Value)>,
    /// Collections that are there now.
    pub old: Vec<Planned>,
    /// Views that are there now, with what they were made with.
    pub old_views: Vec<(String, serde_json::Value)>,
}

/// A collection under two names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Its own.
    pub name: String,
    /// The one under which it is made, or set aside.
    pub other: String,
}

/// Whether a collection is one that a restore makes, or has set aside.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(FRESH) || name.starts_with(ASIDE)
}

/// Look at a server, and plan a restore into one of its databases. Nothing is changed. `job` makes the names unique.
pub fn look(
    server: &Server,
    database: &str,
    incoming: &[Incoming],
    job: &str,
) -> Result<RestorePlan, MongoError> {
    let mut plan = RestorePlan {
        database: database.to_owned(),
        job: job.to_owned(),
        collections: Vec::new(),
        views: Vec::new(),
        old: Vec::new(),
        old_views: Vec::new(),
    };
    for (number, Incoming { collection, .. }) in incoming.iter().enumerate() {
        let name = collection.name.clone();
        if name.starts_with("system.") {
            // The server lets nobody rename it.
            return Err(MongoError::Unsupported { what: format!("the collection '{name}'") });
        }
        if collection.kind == Kind::View {
            plan.views.push((name, json_of(&collection.options)));
        } else {
            plan.collections.push(Planned { name, other: format!("{FRESH}{job}_{number}") });
        }
    }
    let present = server.present(database)?;
    for (number, Present { name, options, is_view }) in present.into_iter().enumerate() {
        if is_view {
            plan.old_views.push((name, json_of(&options)));
        } else if !is_ours(&name) {
            plan.old.push(Planned { name, other: format!("{ASIDE}{job}_{number}") });
        }
    }
    Ok(plan)
}

impl RestorePlan {
    /// Each collection that comes back, with what comes.
    pub(in crate::component::mongodb) fn pairs<'a>(
        &'a self,
        incoming: &'a [Incoming],
    ) -> impl Iterator<Item = (&'a Planned, &'a Incoming)> {
        incoming.iter().filter_map(|incoming| {
            let planned =
                self.collections.iter().find(|each| each.name == incoming.collection.name)?;
            Some((planned, incoming))
        })
    }

    /// Make all collections under their other names, and count them. What is there is not touched.
    pub fn fill(
        &self,
        server: &Server,
        incoming: &[Incoming],
        content: Content<'_, '_>,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<(), MongoError> {
        let work = Mutex::new(self.pairs(incoming).collect::<Vec<_>>());
        let stop = AtomicBool::new(false);
        let failure = Mutex::new(None);
        let filled = AtomicU64::new(0);
        let fill = Fill { server, database: &self.database, content, progress, filled };
        std::thread::scope(|scope| {
            for _ in 0..WRITERS.min(self.collections.len()) {
                scope.spawn(|| {
                    while let Some((planned, incoming)) = locked(&work).pop() {
                        if stop.load(Ordering::SeqCst) {
                            return;
                        }
                        if let Err(error) = fill.collection(&planned.other, incoming) {
                            stop.store(true, Ordering::SeqCst);
                            locked(&failure).get_or_insert(error);
                            return;
                        }
                    }
                });
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Set all aside that is there, and put the new state in its place; or go on where that was interrupted. Writers should be
    /// stopped: what they make meanwhile is set aside, too.
    pub fn swap(&self, server: &Server) -> Result<(), MongoError> {
        let Self { database, job, collections, old, .. } = self;
        let present = server.present(database)?;
        let is_there = |name: &str| present.iter().any(|there| there.name == name);
        // A view is no target of a rename, and what it looks at is moved.
        for view in present.iter().filter(|there| there.is_view) {
            server.drop_collection(database, &view.name)?;
        }
        for Planned { name, other } in old {
            if is_there(name) && !is_there(other) {
                server.rename(database, name, other)?;
            }
        }
        let mut late = 0;
        let mut set_aside = |name: &str| {
            late += 1;
            server.rename(database, name, &format!("{ASIDE}{job}_late_{late}"))
        };
        for Planned { name, other } in collections {
            if !is_there(other) {
                if is_there(name) {
                    continue;
                }
                return Err(MongoError::Source {
                    collection: name.clone(),
                    reason: format!("{other}, in which it was made, is not there any more"),
                });
            }
            match server.rename(database, other, name) {
                // Somebody has written to it since, and so made it.
                Err(MongoError::Server { code: Some(NAMESPACE_EXISTS), .. }) => {
                    set_aside(name)?;
                    server.rename(database, other, name)?;
                }
                renamed => renamed?,
            }
        }
        let is_known = |name: &str| {
            is_ours(name) || collections.iter().chain(old).any(|known| known.name == name)
        };
        for extra in present.iter().filter(|there| !there.is_view && !is_known(&there.name)) {
            set_aside(&extra.name)?;
        }
        for (name, options) in &self.views {
            let mut create = doc! { "create": name.as_str() };
            create.extend(document_of(options.clone(), name)?);
            server.command(database, create, &format!("make the view '{database}.{name}'"))?;
        }
        Ok(())
    }

    /// Whether somebody wrote to what is set aside now, after this moment of the server, or made more of it. An error where that
    /// is not known.
    pub fn was_written(&self, server: &Server, since: Timestamp) -> Result<bool, MongoError> {
        let is_planned = |aside: &String| self.old.iter().any(|old| old.other == *aside);
        if !self.aside(server)?.iter().all(is_planned) {
            return Ok(true);
        }
        let action = "see whether somebody wrote meanwhile";
        let names = self.old.iter().map(|old| format!("{}.{}", self.database, old.name));
        let names: Vec<Bson> = names.map(Bson::String).collect();
        let find = |filter: Document| {
            let find =
                doc! { "find": "oplog.rs", "limit": 1, "singleBatch": true, "filter": filter };
            server.all_of("local", find, action)
        };
        let oldest = find(doc! {})?;
        let oldest = oldest.first().and_then(|entry| entry.get_timestamp("ts").ok());
        if oldest.is_none_or(|oldest| oldest > since) {
            let reason = "its log does not go back so far (oplogSizeMB)".into();
            return Err(MongoError::Strange { action: action.into(), reason });
        }
        let written = find(doc! {
            "ts": { "$gt": since },
            "$or": [
                { "op": { "$in": ["i", "u", "d"] }, "ns": { "$in": names.clone() } },
                { "op": "c", "o.applyOps.ns": { "$in": names } },
            ],
        })?;
        Ok(!written.is_empty())
    }

    /// The names of what this restore has set aside.
    pub fn aside(&self, server: &Server) -> Result<Vec<String>, MongoError> {
        aside_of(server, &self.database, &self.job)
    }

    /// Drop what was set aside.
    pub fn drop_old(&self, server: &Server) -> Result<(), MongoError> {
        let aside = self.aside(server)?;
        aside.iter().try_for_each(|name| server.drop_collection(&self.database, name))
    }

    /// Remove what was made; nothing is swapped yet.
    pub fn abandon(&self, server: &Server) -> Result<(), MongoError> {
        self.collections
            .iter()
            .try_for_each(|planned| server.drop_collection(&self.database, &planned.other))
    }
}

/// The collections of a database that the restore of this id has set aside.
pub fn aside_of(server: &Server, database: &str, job: &str) -> Result<Vec<String>, MongoError> {
    let own = format!("{ASIDE}{job}_");
    let present = server.present(database)?.into_iter();
    Ok(present.map(|there| there.name).filter(|name| name.starts_with(&own)).collect())
}

fn json_of(document: &Document) -> serde_json::Value {
    Bson::Document(document.clone()).into_canonical_extjson()
}

/// A document out of Extended JSON.
fn document_of(json: serde_json::Value, collection: &str) -> Result<Document, MongoError> {
    let invalid = |reason: String| MongoError::Source { collection: collection.to_owned(), reason };
    match Bson::try_from(json).map_err(|error| invalid(error.to_string()))? {
        Bson::Document(document) => Ok(document),
        _ => Err(invalid("its metadata is no document".into())),
    }
}

impl Collection {
    /// From the text of `COLLECTION.metadata.json`; the name of the file where the text has none.
    pub fn from_metadata(name: &str, text: &str) -> Result<Self, MongoError> {
        let invalid = |reason: String| MongoError::Source { collection: name.to_owned(), reason };
        let json = serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        let metadata = document_of(json, name)?;
        let options = metadata.get_document("options").cloned().unwrap_or_default();
        let mut indexes = Vec::new();
        for index in metadata.get_array("indexes").into_iter().flatten() {
            let index =
                index.as_document().ok_or_else(|| invalid("an index is no document".into()))?;
            indexes.push(index.clone());
        }
        let kind = match metadata.get_str("type").unwrap_or("collection") {
            "view" => Kind::View,
            _ if options.contains_key("viewOn") => Kind::View,
            "timeseries" => {
                return Err(MongoError::Unsupported {
                    what: format!("the time-series collection '{name}'"),
                });
            }
            _ if options.get_bool("capped").unwrap_or(false) => Kind::Capped,
            _ => Kind::Collection,
        };
        let uuid = metadata.get_str("uuid").ok().and_then(|text| hex::decode(text).ok());
        let uuid = uuid.and_then(|bytes| bytes.try_into().ok());
        let name = metadata.get_str("collectionName").unwrap_or(name).to_owned();
        Ok(Self { name, kind, options, indexes, uuid })
    }
}

/// What a database has now.
struct Present {
    name: String,
    options: Document,
    is_view: bool,
}

impl Server {
    /// The moment that the server is at; an error where it has no such thing.
    pub fn now(&self) -> Result<Timestamp, MongoError> {
        let action = "ask for the moment";
        match self.admin(doc! { "ping": 1 }, action)?.get_timestamp("operationTime") {
            Ok(now) => Ok(now),
            Err(_) => Err(MongoError::Strange {
                action: action.into(),
                reason: "it is no member of a replica set".into(),
            }),
        }
    }

    /// Collections and views, without what the server keeps for itself.
    fn present(&self, database: &str) -> Result<Vec<Present>, MongoError> {
        let action = format!("list the collections of '{database}'");
        let mut present = Vec::new();
        for listed in self.all_of(database, doc! { "listCollections": 1 }, &action)? {
            let name = listed.get_str("name").unwrap_or_default().to_owned();
            if !name.starts_with("system.") {
                let options = listed.get_document("options").cloned().unwrap_or_default();
                present.push(Present { name, options, is_view: says(&listed, "type", "view") });
            }
        }
        Ok(present)
    }

    /// An error where too little of the disk is free; looked at now and then, while these bytes of all are written.
    pub(in crate::component::mongodb) fn ensure_room(
        &self,
        database: &str,
        written: Range<u64>,
    ) -> Result<(), MongoError> {
        if written.start / LOOKS_EVERY_BYTES != written.end / LOOKS_EVERY_BYTES
            && let Some(Room { free, .. }) = self.room(database)?
            && free < RESERVE_BYTES
        {
            return Err(MongoError::NoRoom { free });
        }
        Ok(())
    }

    fn drop_collection(&self, database: &str, name: &str) -> Result<(), MongoError> {
        let command = doc! { "drop": name, "writeConcern": { "w": "majority" } };
        match self.command(database, command, &format!("drop '{database}.{name}'")) {
            // It is gone already.
            Err(MongoError::Server { code: Some(26), .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn rename(&self, database: &str, from: &str, to: &str) -> Result<(), MongoError> {
        let command = doc! {
            "renameCollection": format!("{database}.{from}"), "to": format!("{database}.{to}"),
            "writeConcern": { "w": "majority" },
        };
        self.admin(command, &format!("put '{database}.{to}' in place")).map(drop)
    }
}

/// What filling collections needs.
struct Fill<'a, 'b> {
    server: &'b Server,
    database: &'b str,
    content: Content<'a, 'b>,
    progress: &'b (dyn Fn(u64) + Sync),
    filled: AtomicU64,
}

impl Fill<'_, '_> {
    fn collection(&self, fresh: &str, incoming: &Incoming) -> Result<(), MongoError> {
        let Incoming { collection, documents } = incoming;
        let name = &collection.name;
        // Left by an attempt that was interrupted.
        self.server.drop_collection(self.database, fresh)?;
        let mut create = doc! { "create": fresh };
        create.extend(collection.options.clone());
        let action = format!("make the collection '{}.{name}'", self.database);
        self.server.command(self.database, create, &action)?;
        let written = self.documents(fresh, name)?;
        if written != *documents {
            let (collection, counted) = (name.clone(), *documents);
            return Err(MongoError::Count { collection, read: written, counted });
        }
        // The server makes these itself, from the collection's options.
        let is_made =
            |index: &Document| says(index, "name", "_id_") || index.contains_key("clustered");
        let indexes: Vec<Document> =
            collection.indexes.iter().filter(|index| !is_made(index)).cloned().collect();
        if indexes.is_empty() {
            return Ok(());
        }
        let command = doc! { "createIndexes": fresh, "indexes": indexes };
        let action = format!("make the indexes of '{}.{name}'", self.database);
        self.server.command(self.database, command, &action).map(drop)
    }

    /// Write all documents; returns how many.
    fn documents(&self, fresh: &str, name: &str) -> Result<u64, MongoError> {
        let invalid = |reason: String| MongoError::Source { collection: name.to_owned(), reason };
        let content = (self.content)(name).map_err(|error| invalid(error.to_string()))?;
        let mut content = DocumentReader::new(content);
        let mut written = 0;
        let mut batch = Batch::default();
        while let Some(document) =
            content.next_document().map_err(|error| invalid(error.to_string()))?
        {
            let length = document.len();
            if batch.bytes > 0 && batch.bytes + length > MESSAGE_BYTES
                || batch.count == MESSAGE_DOCUMENTS
            {
                written += self.write(fresh, name, std::mem::take(&mut batch))?;
            }
            let document = RawDocumentBuf::from_bytes(document.to_vec())
                .map_err(|error| invalid(error.to_string()))?;
            batch.documents.push(document);
            batch.bytes += length;
            batch.count += 1;
        }
        if batch.count > 0 {
            written += self.write(fresh, name, batch)?;
        }
        Ok(written)
    }

    fn write(&self, fresh: &str, name: &str, batch: Batch) -> Result<u64, MongoError> {
        let action = format!("write to the collection '{}.{name}'", self.database);
        let Batch { documents, bytes, count } = batch;
        let insert = rawdoc! {
            "insert": fresh, "ordered": true, "bypassDocumentValidation": true, "documents": documents,
        };
        let database = self.server.client.database(self.database);
        let reply = self.server.wait(&action, async { database.run_raw_command(insert).await })?;
        if let Some(Bson::Array(errors)) = reply.get("writeErrors") {
            let first = errors.first().and_then(Bson::as_document);
            let said = first.and_then(|first| first.get_str("errmsg").ok()).unwrap_or_default();
            let code = first.and_then(|first| first.get_i32("code").ok());
            return Err(MongoError::Server { action, said: said.to_owned(), code });
        }
        if reply.get_i32("n").ok() != i32::try_from(count).ok() {
            return Err(MongoError::Strange { action, reason: "it has not written all".into() });
        }
        let before = self.filled.fetch_add(bytes as u64, Ordering::Relaxed);
        let done = before + bytes as u64;
        self.server.ensure_room(self.database, before..done)?;
        (self.progress)(done);
        Ok(count as u64)
    }
}

#[derive(Default)]
struct Batch {
    documents: RawArrayBuf,
    bytes: usize,
    count: usize,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
