//! Reading a database over the wire: all collections at one moment, several at once, every document as it is.
//!
//! Collections are read by UUID: a read by name of one that was dropped or renamed meanwhile answers with nothing, and no error.
//! What there is is listed again at the end; where it differs, all is read again.

use super::listing::{Collection, Kind};
use super::{Server, says};
use crate::component::mongodb::{MongoError, document};
use bson::raw::RawDocumentBuf;
use bson::{Bson, Document, RawDocument, Timestamp, doc};
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Collections that are read at once.
const READERS: usize = 4;
/// How often a database that changes is read.
const TRIES: u32 = 5;

/// Errors that the server gives when what is read is not there any more as it was: dropped or renamed, or changed in its indexes.
const CHANGED: [i32; 4] = [26, 175, 246, 361];
/// The moment is too long ago (`SnapshotTooOld`).
const TOO_OLD: i32 = 239;

/// Where what is read goes.
pub trait Files: Sync {
    /// A file while it is written.
    type File: Write + Send;
    /// One that is whole.
    type Stored: Send;
    /// Begin a file.
    fn open(&self) -> Self::File;
    /// It is whole.
    fn store(&self, file: Self::File) -> io::Result<Self::Stored>;
}

/// Who looks at documents as they come by: the collection's name, and the document.
pub type Tap<'a> = &'a (dyn Fn(&str, &RawDocument) + Sync);

/// Show a validated document to whoever looks at documents.
pub fn show(document: &[u8], collection: &str, tap: Tap<'_>) {
    if let Ok(document) = RawDocument::from_bytes(document) {
        tap(collection, document);
    }
}

/// A collection or view that was read to its end.
#[derive(Debug)]
pub struct DumpedCollection<S> {
    /// What it is.
    pub collection: Collection,
    /// Its documents; none of a view.
    pub stored: Option<S>,
    /// How many.
    pub documents: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A database that was read.
#[derive(Debug)]
pub struct Dumped<S> {
    /// All that it has, by name.
    pub collections: Vec<DumpedCollection<S>>,
    /// The moment of the cluster's time that all but capped collections are of; otherwise why they are
    /// not of one moment.
    pub moment: Result<Timestamp, String>,
}

/// Read a database.
pub fn dump<F: Files>(
    server: &Server,
    database: &str,
    files: &F,
    tap: Tap<'_>,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Dumped<F::Stored>, MongoError> {
    let mut too_old = false;
    let mut change = String::new();
    for _ in 0..TRIES {
        let attempt = Attempt {
            server,
            database,
            files,
            tap,
            progress,
            without_moment: too_old,
            stop: AtomicBool::new(false),
            bytes: AtomicU64::new(0),
        };
        match attempt.read() {
            Ok(dumped) => return Ok(dumped),
            Err(Trouble::Changed(what)) => change = what,
            Err(Trouble::TooOld) => too_old = true,
            Err(Trouble::Failed(error)) => return Err(error),
        }
    }
    Err(MongoError::KeepsChanging { database: database.to_owned(), tries: TRIES, change })
}

/// Why an attempt was given up.
enum Trouble {
    /// Something is not as it was when it began.
    Changed(String),
    /// The server does not keep its history for as long as the reading takes.
    TooOld,
    Failed(MongoError),
}

impl Trouble {
    fn is_count(&self) -> bool {
        matches!(self, Self::Failed(MongoError::Count { .. }))
    }
}

impl From<MongoError> for Trouble {
    fn from(error: MongoError) -> Self {
        match error {
            MongoError::Server { code: Some(code), ref said, .. } if CHANGED.contains(&code) => {
                Self::Changed(said.clone())
            }
            MongoError::Server { code: Some(TOO_OLD), .. } => Self::TooOld,
            other => Self::Failed(other),
        }
    }
}

struct Attempt<'a, F: Files> {
    server: &'a Server,
    database: &'a str,
    files: &'a F,
    tap: Tap<'a>,
    progress: &'a (dyn Fn(u64) + Sync),
    /// At one moment it took too long.
    without_moment: bool,
    stop: AtomicBool,
    bytes: AtomicU64,
}

impl<F: Files> Attempt<'_, F> {
    fn read(&self) -> Result<Dumped<F::Stored>, Trouble> {
        let before = self.server.collections(self.database)?;
        let at = self.moment(&before)?;
        let waiting = Mutex::new(before.clone());
        let read = Mutex::new(Vec::new());
        let trouble = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 0..READERS.min(before.len()) {
                scope.spawn(|| {
                    while let Some(collection) = pop(&waiting) {
                        match self.collection(collection, at) {
                            Ok(dumped) => locked(&read).push(dumped),
                            Err(error) => {
                                // The others fail because of it, at most.
                                if !self.stop.swap(true, Ordering::SeqCst) {
                                    *locked(&trouble) = Some(error);
                                }
                                return;
                            }
                        }
                    }
                });
            }
        });
        let mut trouble = trouble.into_inner().unwrap_or_else(PoisonError::into_inner);
        // What is counted is asked for by name: one that is not there any more counts nothing.
        if let Some(trouble) = trouble.take_if(|trouble| !trouble.is_count()) {
            return Err(trouble);
        }
        let after = self.server.collections(self.database)?;
        if let Some(change) = difference(&before, &after) {
            return Err(Trouble::Changed(change));
        }
        if let Some(trouble) = trouble {
            return Err(trouble);
        }
        let mut collections = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        collections.sort_by(|one: &DumpedCollection<_>, other| {
            one.collection.name.cmp(&other.collection.name)
        });
        let moment = match (at, self.server.one_moment) {
            (Some(at), _) => Ok(at),
            (None, Err(reason)) => Err(reason.to_owned()),
            (None, Ok(())) if self.without_moment => {
                Err("reading took longer than the server keeps its history (minSnapshotHistoryWindowInSeconds)".into())
            }
            (None, Ok(())) => Err("only capped collections are there, which cannot be read so".into()),
        };
        Ok(Dumped { collections, moment })
    }

    /// The moment that all is read at; none where that is not possible.
    fn moment(&self, collections: &[Collection]) -> Result<Option<Timestamp>, MongoError> {
        if self.without_moment || self.server.one_moment.is_err() {
            return Ok(None);
        }
        let of = |kind| collections.iter().find(|collection| collection.kind == kind);
        let Some(first) = of(Kind::Collection) else {
            // Where nothing is to be read, any moment will do.
            let is_nothing = of(Kind::Capped).is_none();
            return is_nothing.then(|| self.server.now()).transpose();
        };
        let action = format!("read '{}' at one moment", self.database);
        let find = doc! {
            "find": first.by_uuid(), "batchSize": 0, "singleBatch": true,
            "readConcern": { "level": "snapshot" },
        };
        let reply = self.server.command(self.database, find, &action)?;
        match reply.get_document("cursor").map(|cursor| cursor.get("atClusterTime")) {
            Ok(Some(Bson::Timestamp(at))) => Ok(Some(*at)),
            _ => Err(MongoError::Strange {
                action,
                reason: "it does not say of which moment that is".into(),
            }),
        }
    }

    fn collection(
        &self,
        collection: Collection,
        at: Option<Timestamp>,
    ) -> Result<DumpedCollection<F::Stored>, Trouble> {
        if collection.kind == Kind::View {
            return Ok(DumpedCollection { collection, stored: None, documents: 0, bytes: 0 });
        }
        let at = at.filter(|_| collection.kind == Kind::Collection);
        let sink = |source| MongoError::Sink { collection: collection.name.clone(), source };
        let mut file = self.files.open();
        let (mut documents, mut bytes) = (0, 0);
        self.each_document(&collection, at, &mut |document| {
            document::validate(document.as_bytes()).map_err(|error| MongoError::Strange {
                action: format!("read the collection '{}.{}'", self.database, collection.name),
                reason: error.to_string(),
            })?;
            (self.tap)(&collection.name, document);
            file.write_all(document.as_bytes()).map_err(sink)?;
            let length = document.as_bytes().len() as u64;
            documents += 1;
            bytes += length;
            (self.progress)(self.bytes.fetch_add(length, Ordering::Relaxed) + length);
            Ok(())
        })?;
        if let Some(at) = at {
            let counted = self.count(&collection, at)?;
            if counted != documents {
                let collection = collection.name;
                return Err(MongoError::Count { collection, read: documents, counted }.into());
            }
        }
        let stored = Some(self.files.store(file).map_err(sink)?);
        Ok(DumpedCollection { collection, stored, documents, bytes })
    }

    fn each_document(
        &self,
        collection: &Collection,
        at: Option<Timestamp>,
        each: &mut dyn FnMut(&RawDocument) -> Result<(), MongoError>,
    ) -> Result<(), MongoError> {
        let action = format!("read the collection '{}.{}'", self.database, collection.name);
        let mut find = doc! { "find": collection.by_uuid() };
        match at {
            Some(at) => find.insert("readConcern", at_moment(at)),
            None => find.insert("readConcern", doc! { "level": "local" }),
        };
        let server = self.server;
        // A cursor that is left early tells the server so, from there.
        let _inside = server.runtime.enter();
        let database = server.client.database(self.database);
        let mut cursor = server.wait(&action, async {
            let cursor = database.run_cursor_command(find).await?;
            Ok(cursor.with_type::<RawDocumentBuf>())
        })?;
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Err(MongoError::Strange { action, reason: "another reader failed".into() });
            }
            if !server.wait(&action, cursor.advance())? {
                return Ok(());
            }
            each(cursor.current())?;
        }
    }

    /// How many documents the server counts.
    fn count(&self, collection: &Collection, at: Timestamp) -> Result<u64, MongoError> {
        let name = collection.name.as_str();
        let action = format!("count the collection '{}.{name}'", self.database);
        let mut aggregate = doc! {
            "aggregate": name, "pipeline": [{ "$count": "count" }], "cursor": {},
            "readConcern": at_moment(at),
        };
        if collection.indexes.iter().any(|index| says(index, "name", "_id_")) {
            aggregate.insert("hint", doc! { "_id": 1 });
        }
        self.server.counted(self.database, aggregate, &action)
    }
}

fn at_moment(at: Timestamp) -> Document {
    doc! { "level": "snapshot", "atClusterTime": at }
}

fn pop<T>(waiting: &Mutex<Vec<T>>) -> Option<T> {
    locked(waiting).pop()
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What differs between two listings.
fn difference(before: &[Collection], after: &[Collection]) -> Option<String> {
    let is_in = |listing: &[Collection], name: &str| listing.iter().any(|each| each.name == name);
    for collection in before {
        let name = &collection.name;
        match after.iter().find(|other| other.name == *name) {
            None => return Some(format!("'{name}' was dropped or renamed")),
            Some(other) if other.uuid != collection.uuid => {
                return Some(format!("'{name}' was made anew"));
            }
            Some(other) if other != collection => {
                return Some(format!("the options or indexes of '{name}' were changed"));
            }
            Some(_) => {}
        }
    }
    let new = after.iter().find(|collection| !is_in(before, &collection.name));
    new.map(|collection| format!("'{}' was made", collection.name))
}
