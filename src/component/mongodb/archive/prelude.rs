//! The prelude: which versions wrote the archive, and which namespaces are in it with which metadata.

use super::error::{ArchiveError, Place, display_namespace};
use super::fields::Fields;
use super::{FORMAT_VERSION, MAGIC, TERMINATOR};
use crate::component::mongodb::document::{self, DocumentError, DocumentReader, Value};
use crate::component::mongodb::names::{self, NameError};
use crate::model::node::display_path;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::io::Read;

/// The longest prelude: 50,000 collections with ten indexes each fit.
const MAX_PRELUDE_BYTES: u64 = 64 * 1024 * 1024;
/// Metadata fit into a document, together with the names.
const MAX_METADATA_BYTES: usize = document::MAX_DOCUMENT_BYTES - 1024;
const MAX_SHOWN_CHARACTERS: usize = 200;

/// Who wrote an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The server's version: `6.0.5`.
    pub server: String,
    /// The version of the `mongodump` that wrote it: `100.18.0`.
    pub tool: String,
    /// How many collections were dumped at once.
    pub concurrent_collections: i32,
}

/// The file `prelude.json` of a database's folder.
#[derive(Deserialize, Serialize)]
struct PreludeFile {
    #[serde(rename = "ServerVersion")]
    server: String,
    #[serde(rename = "ToolVersion")]
    tool: String,
}

impl Versions {
    /// What belongs into the file `prelude.json` of each database's folder.
    pub fn to_json(&self) -> String {
        let file = PreludeFile { server: self.server.clone(), tool: self.tool.clone() };
        serde_json::to_string(&file).expect("texts are JSON")
    }

    /// What such a file says; it does not say how many collections were dumped at once.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        let PreludeFile { server, tool } = serde_json::from_str(json)?;
        Ok(Self { server, tool, concurrent_collections: 1 })
    }
}

/// What a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Documents, and metadata.
    Collection,
    /// Metadata only.
    View,
    /// What happened while the dump went on, of the whole server; no metadata.
    Oplog,
    /// Users or roles of one database, beside its collections; no metadata.
    Auth,
}

/// Why a namespace cannot be, or cannot be dumped.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// Its name is none.
    #[error(transparent)]
    Name(NameError),
    /// A time series: its buckets are kept in another way by each version of the server.
    #[error("it is a time series, which Belay cannot dump yet")]
    TimeSeries,
    /// `mongodump` could not read its indexes: it had gone.
    #[error("it has no metadata: it was dropped or renamed while the dump began")]
    Gone,
    /// The metadata are not JSON of the form that `mongodump` writes.
    #[error("its metadata are not what mongodump writes")]
    Metadata(#[source] serde_json::Error),
    /// The metadata are longer than a document can be.
    #[error("its metadata are longer than {MAX_METADATA_BYTES} bytes")]
    LongMetadata,
    /// The metadata contradict themselves or the rest.
    #[error("{0}")]
    Contradiction(String),
}

/// The metadata's JSON, as far as it is looked at.
#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    options: Options,
    indexes: Vec<Index>,
    uuid: Option<String>,
    #[serde(rename = "collectionName")]
    collection_name: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

/// The metadata's JSON, where only the name is wanted.
#[derive(Deserialize)]
struct ToldName {
    #[serde(rename = "collectionName")]
    collection_name: Option<String>,
}

#[derive(Default, Deserialize)]
struct Options {
    #[serde(rename = "viewOn")]
    view_on: Option<String>,
    timeseries: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(rename = "key")]
    _key: IgnoredAny,
    #[serde(rename = "name")]
    _name: String,
}

/// A collection, a view, or the oplog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    database: String,
    collection: String,
    kind: Kind,
    metadata: String,
    uuid: Option<String>,
    indexes: usize,
}

impl Namespace {
    /// A namespace with the metadata that `mongodump` wrote of it; there are none of the oplog and of users and
    /// roles. `said` is what else says what it is: `collection`, `view`, or nothing.
    pub fn new(
        database: String,
        collection: String,
        said: &str,
        metadata: String,
    ) -> Result<Self, NamespaceError> {
        names::check_collection(&collection).map_err(NamespaceError::Name)?;
        let bare = if database.is_empty() && format!("{collection}.bson") == names::OPLOG_FILE {
            Some(Kind::Oplog)
        } else {
            names::check_database(&database).map_err(NamespaceError::Name)?;
            names::is_auth(&collection).then_some(Kind::Auth)
        };
        let namespace =
            Self { database, collection, kind: Kind::Collection, metadata, uuid: None, indexes: 0 };
        match bare {
            Some(kind) => namespace.without_metadata(kind, said),
            None => namespace.with_metadata(said),
        }
    }

    /// The namespace whose files in a dump's folder have names that begin with `stem`. `database` may be another than
    /// the one that was dumped.
    pub fn of_files(
        database: String,
        stem: &str,
        metadata: String,
    ) -> Result<Self, NamespaceError> {
        let told = if metadata.is_empty() {
            None
        } else {
            let told: ToldName =
                serde_json::from_str(&metadata).map_err(NamespaceError::Metadata)?;
            told.collection_name
        };
        let collection =
            names::collection_of(stem, told.as_deref()).map_err(NamespaceError::Name)?;
        Self::new(database, collection, "", metadata)
    }

    fn without_metadata(self, kind: Kind, said: &str) -> Result<Self, NamespaceError> {
        if !said.is_empty() || !self.metadata.is_empty() {
            return Err(NamespaceError::Contradiction("it cannot have metadata".to_owned()));
        }
        Ok(Self { kind, ..self })
    }

    fn with_metadata(self, said: &str) -> Result<Self, NamespaceError> {
        let contradiction = |reason: String| Err(NamespaceError::Contradiction(reason));
        if said == "timeseries" || self.collection.starts_with("system.buckets.") {
            return Err(NamespaceError::TimeSeries);
        }
        if self.metadata.is_empty() {
            return Err(NamespaceError::Gone);
        }
        if self.metadata.len() > MAX_METADATA_BYTES {
            return Err(NamespaceError::LongMetadata);
        }
        let metadata: Metadata =
            serde_json::from_str(&self.metadata).map_err(NamespaceError::Metadata)?;
        if metadata.options.timeseries.is_some() {
            return Err(NamespaceError::TimeSeries);
        }
        // Older programs tell neither the name nor the kind.
        if metadata.collection_name.as_ref().is_some_and(|name| *name != self.collection) {
            return contradiction("its metadata are those of another collection".to_owned());
        }
        let is_view = metadata.options.view_on.is_some();
        let kind = if is_view { Kind::View } else { Kind::Collection };
        for told in [said, metadata.kind.as_deref().unwrap_or_default()] {
            if !told.is_empty() && told != kind.name() {
                let told = display_path(told.as_bytes());
                return contradiction(format!("it is a {}, and called '{told}'", kind.name()));
            }
        }
        let is_uuid =
            |uuid: &str| uuid.len() == 32 && uuid.bytes().all(|byte| byte.is_ascii_hexdigit());
        if metadata.uuid.as_deref().is_some_and(|uuid| !is_uuid(uuid)) {
            return contradiction("its UUID is none".to_owned());
        }
        Ok(Self { kind, uuid: metadata.uuid, indexes: metadata.indexes.len(), ..self })
    }

    /// The database; empty for the oplog.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// The collection's name, as it is.
    pub fn collection(&self) -> &str {
        &self.collection
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The metadata's JSON, byte for byte; empty where there are none.
    pub fn metadata(&self) -> &str {
        &self.metadata
    }

    /// How the server knows it: 32 hex digits. Views have none, and so had collections before MongoDB 3.6.
    pub fn uuid(&self) -> Option<&str> {
        self.uuid.as_deref()
    }

    /// How many indexes it has.
    pub fn indexes(&self) -> usize {
        self.indexes
    }

    /// Where its documents belong in a dump's folder; a view has none.
    pub fn documents_path(&self) -> Option<String> {
        match self.kind {
            Kind::View => None,
            Kind::Oplog => Some(names::OPLOG_FILE.to_owned()),
            Kind::Collection | Kind::Auth => {
                Some(names::documents_path(&self.database, &self.collection))
            }
        }
    }

    /// Where its metadata belong in a dump's folder, if it has any.
    pub fn metadata_path(&self) -> Option<String> {
        let has_metadata = matches!(self.kind, Kind::Collection | Kind::View);
        has_metadata.then(|| names::metadata_path(&self.database, &self.collection))
    }

    fn encode(&self) -> Vec<u8> {
        document::build(&[
            ("db", Value::Text(&self.database)),
            ("collection", Value::Text(&self.collection)),
            ("metadata", Value::Text(&self.metadata)),
            ("size", Value::Int32(0)),
            ("type", Value::Text(self.kind.name())),
        ])
    }
}

impl Kind {
    /// As the prelude says it.
    fn name(self) -> &'static str {
        match self {
            Self::Collection => "collection",
            Self::View => "view",
            Self::Oplog | Self::Auth => "",
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&display_namespace(&self.database, &self.collection))
    }
}

/// What an archive says of itself before the first document. No two namespaces have the same name, or the same files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prelude {
    versions: Versions,
    namespaces: Vec<Namespace>,
}

impl Prelude {
    /// A prelude that names these namespaces.
    pub fn new(versions: Versions, namespaces: Vec<Namespace>) -> Result<Self, ArchiveError> {
        let mut paths = HashSet::new();
        for namespace in &namespaces {
            let own = [namespace.documents_path(), namespace.metadata_path()];
            if !own.into_iter().flatten().all(|path| paths.insert(path)) {
                return Err(ArchiveError::Twice { namespace: namespace.to_string() });
            }
        }
        Ok(Self { versions, namespaces })
    }

    /// Who wrote the archive.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// The namespaces, in the archive's order, which is none.
    pub fn namespaces(&self) -> &[Namespace] {
        &self.namespaces
    }

    /// The prelude as it stands at an archive's beginning.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(document::build(&[
            ("concurrent_collections", Value::Int32(self.versions.concurrent_collections)),
            ("version", Value::Text(FORMAT_VERSION)),
            ("server_version", Value::Text(&self.versions.server)),
            ("tool_version", Value::Text(&self.versions.tool)),
        ]));
        for namespace in &self.namespaces {
            bytes.extend(namespace.encode());
        }
        bytes.extend(TERMINATOR);
        bytes
    }

    /// Read the beginning of an archive up to the first block.
    pub(super) fn read(reader: &mut DocumentReader<impl Read>) -> Result<Self, ArchiveError> {
        read_magic(reader)?;
        let versions = read_versions(reader)?;
        let mut namespaces = Vec::new();
        loop {
            let offset = reader.position();
            if offset > MAX_PRELUDE_BYTES {
                return Err(ArchiveError::LongPrelude { limit: MAX_PRELUDE_BYTES });
            }
            let Some(fields) = Fields::next(reader, &Place::Prelude)? else { break };
            namespaces.push(read_namespace(&fields, offset)?);
        }
        Self::new(versions, namespaces)
    }
}

fn read_magic(reader: &mut DocumentReader<impl Read>) -> Result<(), ArchiveError> {
    let in_prelude = |source| ArchiveError::Documents { place: Place::Prelude, source };
    let beginning = reader.peek(MAX_SHOWN_CHARACTERS).map_err(in_prelude)?;
    if beginning.is_empty() {
        return Err(ArchiveError::Empty);
    }
    if !beginning.starts_with(&MAGIC) {
        // Whole where it is cut off: more may come, or may not.
        if MAGIC.starts_with(beginning) {
            let end = beginning.len() as u64;
            return Err(in_prelude(DocumentError::Truncated { offset: 0, end }));
        }
        let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = display_path(&line[..line.len().min(MAX_SHOWN_CHARACTERS)]);
        let beginning = line.chars().take(MAX_SHOWN_CHARACTERS).collect();
        return Err(ArchiveError::NotAnArchive { beginning });
    }
    reader.consume(MAGIC.len());
    Ok(())
}

fn read_versions(reader: &mut DocumentReader<impl Read>) -> Result<Versions, ArchiveError> {
    let offset = reader.position();
    let damaged = |reason| ArchiveError::Damaged { place: Place::Prelude, offset, reason };
    let fields = Fields::next(reader, &Place::Prelude)?;
    let fields = fields.ok_or_else(|| damaged("it has no header".to_owned()))?;
    let format = fields.text("version").map_err(damaged)?;
    if format != FORMAT_VERSION {
        return Err(ArchiveError::UnknownVersion(display_path(format.as_bytes())));
    }
    let versions = || {
        Ok(Versions {
            server: fields.text("server_version")?.to_owned(),
            tool: fields.text("tool_version")?.to_owned(),
            concurrent_collections: fields.int32("concurrent_collections")?,
        })
    };
    versions().map_err(damaged)
}

fn read_namespace(fields: &Fields<'_>, offset: u64) -> Result<Namespace, ArchiveError> {
    let damaged = |reason| ArchiveError::Damaged { place: Place::Prelude, offset, reason };
    let [database, collection, metadata] =
        ["db", "collection", "metadata"].map(|name| fields.text(name).map_err(damaged));
    let (database, collection, metadata) = (database?, collection?, metadata?);
    // Older programs do not write it.
    let said = if fields.has("type") { fields.text("type").map_err(damaged)? } else { "" };
    Namespace::new(database.to_owned(), collection.to_owned(), said, metadata.to_owned()).map_err(
        |source| {
            let namespace = display_namespace(database, collection);
            ArchiveError::Namespace { namespace, offset, source }
        },
    )
}
