//! What the manifest says of a database: enough to put it back, and to tell whether all came back.

use super::archive::Namespace;
use super::names;
use super::wire::{Dumped, Kind, Server};
use serde::{Deserialize, Serialize};

/// What the manifest's `details` hold for this component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MongodbDetails {
    /// The server's version, such as `6.0.5`.
    pub server_version: String,
    /// The database's name.
    pub database: String,
    /// The second of the server's clock, counted since 1970, that all but what was read apart is of.
    pub moment: Option<u32>,
    /// Why there is no such moment, where there is none.
    pub not_one_moment: Option<String>,
    /// Collections that cannot be read at a moment, and are of a later one.
    pub apart: Vec<String>,
    /// Collections and views, by name.
    pub collections: Vec<CollectionDetails>,
}

/// What the manifest says of a collection or a view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectionDetails {
    /// Its name.
    pub name: String,
    /// How many documents it has.
    pub documents: u64,
    /// Where they are in the snapshot; none for a view.
    pub file: Option<String>,
    /// Where its options and indexes are in the snapshot.
    pub metadata: String,
}

impl MongodbDetails {
    /// Of a database that was read over the wire. The paths are as the component has them, below `/mongodb`.
    pub fn of<S>(server: &Server, database: &str, dumped: &Dumped<S>) -> Self {
        let in_snapshot = |path: String| format!("/mongodb/{path}");
        let collections = dumped.collections.iter().map(|each| {
            let name = each.collection.name.as_str();
            let has_documents = each.collection.kind != Kind::View;
            CollectionDetails {
                name: name.to_owned(),
                documents: each.documents,
                file: has_documents.then(|| in_snapshot(names::documents_path(database, name))),
                metadata: in_snapshot(names::metadata_path(database, name)),
            }
        });
        let capped = dumped.collections.iter().filter(|each| each.collection.kind == Kind::Capped);
        Self {
            server_version: server.version.clone(),
            database: database.to_owned(),
            moment: dumped.moment.as_ref().ok().map(|at| at.time),
            not_one_moment: dumped.moment.as_ref().err().cloned(),
            apart: capped.map(|each| each.collection.name.clone()).collect(),
            collections: collections.collect(),
        }
    }
    /// Of a database in an archive of `mongodump`: its collections and views, each with how many documents it has.
    pub fn of_archive<'a>(
        server_version: &str,
        database: &str,
        not_one_moment: &str,
        namespaces: impl Iterator<Item = (&'a Namespace, u64)>,
    ) -> Self {
        let in_snapshot = |path: String| format!("/mongodb/{path}");
        let of = |(namespace, documents): (&Namespace, u64)| CollectionDetails {
            name: namespace.collection().to_owned(),
            documents,
            file: namespace.documents_path().map(in_snapshot),
            metadata: in_snapshot(names::metadata_path(database, namespace.collection())),
        };
        let mut collections: Vec<CollectionDetails> = namespaces.map(of).collect();
        collections.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            server_version: server_version.to_owned(),
            database: database.to_owned(),
            moment: None,
            not_one_moment: Some(not_one_moment.to_owned()),
            apart: Vec::new(),
            collections,
        }
    }
}
