//! What a database has: its collections and views, with options and indexes, as `mongodump` writes them down.

use super::Server;
use super::restore::is_ours;
use crate::component::mongodb::MongoError;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Documents of any size and number.
    Collection,
    /// Documents up to a size, the oldest of which make room for new ones.
    Capped,
    /// A question, and no documents.
    View,
}

/// A collection or a view.
#[derive(Clone, Debug, PartialEq)]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it was made with.
    pub options: Document,
    /// Its indexes.
    pub indexes: Vec<Document>,
    /// It stays the same when the name changes, and is another one when the collection is made anew. None for a view.
    pub uuid: Option<[u8; 16]>,
}

/// How many of a reply's documents come at a time. Nobody has so many collections or indexes.
const ALL: i32 = 1_000_000;

impl Server {
    /// All that a database has, by name, without what restores have set aside. An error where there is no such database: the server itself makes no difference between
    /// one that is empty and one that does not exist.
    pub fn collections(&self, database: &str) -> Result<Vec<Collection>, MongoError> {
        let action = format!("list the collections of '{database}'");
        let command = doc! { "listCollections": 1, "cursor": { "batchSize": ALL } };
        let mut collections = Vec::new();
        for listed in self.all_of(database, command, &action)? {
            if let Some(collection) = self.collection(database, &listed, &action)? {
                collections.push(collection);
            }
        }
        if collections.is_empty() {
            let databases = self.admin(doc! { "listDatabases": 1, "nameOnly": true }, &action)?;
            let listed = databases.get_array("databases").into_iter().flatten();
            let name = |each: &Bson| each.as_document()?.get_str("name").ok().map(str::to_owned);
            let known: Vec<String> = listed.filter_map(name).collect();
            if !known.iter().any(|name| name == database) {
                return Err(MongoError::NoDatabase { database: database.to_owned(), known });
            }
        }
        collections.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(collections)
    }

    fn collection(
        &self,
        database: &str,
        listed: &Document,
        action: &str,
    ) -> Result<Option<Collection>, MongoError> {
        let strange = |reason: String| MongoError::Strange { action: action.to_owned(), reason };
        let name = listed.get_str("name").map_err(|error| strange(error.to_string()))?.to_owned();
        // What the server keeps for itself; views are listed one by one. What scripts are kept in is the users' own.
        if name.starts_with("system.") && name != "system.js" || is_ours(&name) {
            return Ok(None);
        }
        let options = listed.get_document("options").cloned().unwrap_or_default();
        let kind = match listed.get_str("type").unwrap_or("collection") {
            "view" => Kind::View,
            "timeseries" => {
                let what = format!("the time-series collection '{name}'");
                return Err(MongoError::Unsupported { what });
            }
            "collection" if options.get_bool("capped").unwrap_or(false) => Kind::Capped,
            "collection" => Kind::Collection,
            other => return Err(strange(format!("'{name}' is a {other}"))),
        };
        if kind == Kind::View {
            return Ok(Some(Collection { name, kind, options, indexes: Vec::new(), uuid: None }));
        }
        let uuid = match listed.get_document("info").ok().and_then(|info| info.get("uuid")) {
            Some(Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes })) => {
                bytes.as_slice().try_into().ok()
            }
            _ => None,
        };
        let Some(uuid) = uuid else { return Err(strange(format!("'{name}' has no UUID"))) };
        let indexes = self.indexes(database, &name)?;
        Ok(Some(Collection { name, kind, options, indexes, uuid: Some(uuid) }))
    }

    /// The indexes of a collection.
    pub(super) fn indexes(&self, database: &str, name: &str) -> Result<Vec<Document>, MongoError> {
        let command = doc! { "listIndexes": name, "cursor": { "batchSize": ALL } };
        let mut indexes =
            self.all_of(database, command, &format!("list the indexes of '{database}.{name}'"))?;
        for index in &mut indexes {
            index.remove("ns");
        }
        Ok(indexes)
    }

    /// The number that a command answers with which counts documents.
    pub(super) fn counted(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<u64, MongoError> {
        let rows = self.all_of(database, command, action)?;
        let count = match rows.first().and_then(|row| row.get("count")) {
            // Of nothing there is no row.
            None => Some(0),
            Some(Bson::Int32(count)) => u64::try_from(*count).ok(),
            Some(Bson::Int64(count)) => u64::try_from(*count).ok(),
            Some(_) => None,
        };
        count.ok_or_else(|| MongoError::Strange {
            action: action.to_owned(),
            reason: "that is no number".into(),
        })
    }

    /// All documents of a reply that comes in one batch.
    pub(super) fn all_of(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<Vec<Document>, MongoError> {
        let database = self.client.database(database);
        self.wait(action, async move {
            let mut cursor = database.run_cursor_command(command).await?;
            let mut all = Vec::new();
            while cursor.advance().await? {
                all.push(cursor.deserialize_current()?);
            }
            Ok(all)
        })
    }
}

impl Collection {
    /// The collection's UUID as commands take it in place of a name.
    pub(super) fn by_uuid(&self) -> Bson {
        match self.uuid {
            Some(uuid) => {
                Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: uuid.to_vec() })
            }
            None => Bson::String(self.name.clone()),
        }
    }

    /// The text of `COLLECTION.metadata.json`, in the canonical form of Extended JSON 2.
    pub fn metadata(&self) -> String {
        let mut metadata = Document::new();
        if !self.options.is_empty() {
            metadata.insert("options", self.options.clone());
        }
        metadata.insert("indexes", self.indexes.clone());
        if let Some(uuid) = self.uuid {
            metadata.insert("uuid", hex::encode(uuid));
        }
        metadata.insert("collectionName", self.name.as_str());
        metadata.insert("type", if self.kind == Kind::View { "view" } else { "collection" });
        Bson::Document(metadata).into_canonical_extjson().to_string()
    }
}
