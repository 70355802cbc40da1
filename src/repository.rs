//! Snapshots in restic's format, version 2: opening and creating repositories, their documents and keys.
//!
//! What always holds: packs are durable before the index that lists them, and both before the snapshot that needs them.
//! A crash leaves at worst packs that nothing refers to, which a prune reclaims.
//!
//! | who | lock | may run beside |
//! | --- | --- | --- |
//! | backup, pin, key | shared | any shared |
//! | list, show, ls, diff, restore, check | shared | any shared |
//! | prune | exclusive | nothing |

pub mod blob_index;
pub mod check;
pub mod error;
pub mod format;
pub mod keys;
pub mod lock;
pub mod prune;
mod queue;
pub mod reader;
mod whole;
pub mod writer;

pub use error::RepositoryError;

use crate::model::id::{FileId, SnapshotId};
use crate::store::{FileKind, FileName, Store};
use format::config::ConfigFile;
use format::crypto::MasterKey;
use format::key::ScryptCost;
use format::snapshot::SnapshotFile;
use format::{document, snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// The bytes that `config` may have.
const MAX_CONFIG_BYTES: u64 = 64 * 1024;
/// The bytes that a sealed document may have.
const MAX_DOCUMENT_BYTES: u64 = 256 * 1024 * 1024;

/// An open repository.
pub struct Repository {
    store: Arc<dyn Store>,
    key: MasterKey,
    key_id: FileId,
    config: Result<ConfigFile, String>,
    compression: i32,
}

/// A snapshot as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its document.
    pub file: SnapshotFile,
}

/// The snapshots of a repository, and those that could not be read.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Oldest first.
    pub readable: Vec<Snapshot>,
    /// Damaged ones, with the reason.
    pub damaged: Vec<(SnapshotId, RepositoryError)>,
}

impl Repository {
    /// Make a repository with one password.
    pub fn init(
        store: Arc<dyn Store>,
        password: &[u8],
        cost: ScryptCost,
    ) -> Result<Self, RepositoryError> {
        match store.read(FileName::Config, MAX_CONFIG_BYTES) {
            Ok(_) => return Err(RepositoryError::Exists { location: store.location() }),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        store.create()?;
        if !store.list(FileKind::Key)?.is_empty() {
            // Another program's interrupted init, or a repository that lost its `config`: not ours to guess.
            return Err(RepositoryError::KeysWithoutConfig { location: store.location() });
        }
        let random =
            |error| RepositoryError::format(&FileName::Config, format::FormatError::invalid(error));
        let key = MasterKey::random().map_err(random)?;
        let config = ConfigFile::random().map_err(random)?;
        let key_id = keys::write(store.as_ref(), &key, password, cost, None)?;
        let sealed =
            config.seal(&key).map_err(|error| RepositoryError::format(&FileName::Config, error))?;
        store.write(FileName::Config, &sealed)?;
        store.keep_reserve()?;
        Ok(Self { store, key, key_id, config: Ok(config), compression: 1 })
    }

    /// Open a repository with any of its passwords. A damaged `config` is borne, since nothing in it is needed to
    /// restore; [`Repository::require_config`] tells it to whoever is about to write.
    pub fn open(store: Arc<dyn Store>, password: &[u8]) -> Result<Self, RepositoryError> {
        let sealed = store.read(FileName::Config, MAX_CONFIG_BYTES);
        let is_missing = matches!(&sealed, Err(error) if error.is_not_found());
        let key_files = match store.list(FileKind::Key) {
            Ok(files) if files.is_empty() && is_missing => {
                return Err(RepositoryError::NotFound { location: store.location() });
            }
            Err(error) if error.is_not_found() && is_missing => {
                return Err(RepositoryError::NotFound { location: store.location() });
            }
            other => other?,
        };
        let (key_id, key) = keys::open(store.as_ref(), key_files, password)?;
        let config = match sealed {
            Ok(sealed) => ConfigFile::open(&key, &sealed).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Ok(Self { store, key, key_id, config, compression: 1 })
    }

    /// Compress with zstd's level `level` from now on.
    pub fn set_compression(&mut self, level: i32) {
        self.compression = level;
    }

    /// Where it is, for people.
    pub fn location(&self) -> String {
        self.store.location()
    }

    /// The key file that the password opened.
    pub fn key_id(&self) -> FileId {
        self.key_id
    }

    /// Its id and version; an error when `config` is damaged or of another version.
    pub fn require_config(&self) -> Result<&ConfigFile, RepositoryError> {
        self.config.as_ref().map_err(|reason| RepositoryError::DamagedConfig {
            location: self.location(),
            reason: reason.clone(),
        })
    }

    /// Its id, also where `config` is damaged: then a stand-in that is the same each time, made from the key.
    pub fn id(&self) -> FileId {
        self.config
            .as_ref()
            .map_or_else(|_| FileId(self.key.derive(b"belay repository id")), |config| config.id)
    }

    /// The store below it.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Read a document.
    fn load<T: DeserializeOwned>(
        &self,
        kind: FileKind,
        id: FileId,
        limit: usize,
    ) -> Result<T, RepositoryError> {
        let name = FileName::Id(kind, id);
        let sealed = self.store.read(name, MAX_DOCUMENT_BYTES)?;
        document::open(&self.key, id, &sealed, limit)
            .map_err(|error| RepositoryError::format(&name, error))
    }

    /// Write a document durably.
    fn save<T: Serialize>(&self, kind: FileKind, content: &T) -> Result<FileId, RepositoryError> {
        let (id, sealed) = document::seal(&self.key, content)
            .map_err(|error| RepositoryError::format(&format_args!("{}/", kind.folder()), error))?;
        self.store.write(FileName::Id(kind, id), &sealed)?;
        Ok(id)
    }

    /// All snapshots. One that another process removed meanwhile is passed over.
    pub fn snapshots(&self) -> Result<Snapshots, RepositoryError> {
        let mut snapshots = Snapshots::default();
        for listed in self.store.list(FileKind::Snapshot)? {
            let id = SnapshotId::from(listed.id);
            match self.snapshot(id) {
                Ok(snapshot) => snapshots.readable.push(snapshot),
                Err(error) if error.is_not_found() => {}
                Err(error) if error.is_damage() => snapshots.damaged.push((id, error)),
                Err(error) => return Err(error),
            }
        }
        snapshots.readable.sort_by_key(|snapshot| (snapshot.file.time, snapshot.id));
        Ok(snapshots)
    }

    /// The ids of all snapshots, without reading them.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, RepositoryError> {
        Ok(self
            .store
            .list(FileKind::Snapshot)?
            .into_iter()
            .map(|listed| listed.id.into())
            .collect())
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot, RepositoryError> {
        let file = self.load(FileKind::Snapshot, id.into(), snapshot::MAX_BYTES)?;
        Ok(Snapshot { id, file })
    }

    /// Remove a snapshot's document; what only it referred to stays until a prune.
    pub fn remove_snapshot(&self, id: SnapshotId) -> Result<(), RepositoryError> {
        Ok(self.store.remove(FileName::Id(FileKind::Snapshot, id.into()))?)
    }
}
