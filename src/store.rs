//! Bytes under names: what a repository is stored on.
//!
//! A store knows nothing of what the bytes mean. Every file but `config` is named by the SHA-256 sum of its bytes,
//! is written once and never changed, so a store needs neither append nor rename nor locks of its own.

pub mod faulty;
pub mod local;

use crate::model::id::FileId;
use std::fmt;
use std::io;
use std::time::SystemTime;

/// The kinds of files in a repository; each has a folder of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// `keys/`: the master key, encrypted with a password.
    Key,
    /// `locks/`: who is at work.
    Lock,
    /// `snapshots/`: one small document for each snapshot.
    Snapshot,
    /// `index/`: which blobs are in which pack, and where.
    Index,
    /// `data/xx/`: blobs.
    Pack,
}

impl FileKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Key, Self::Lock, Self::Snapshot, Self::Index, Self::Pack];

    /// The folder's name.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Key => "keys",
            Self::Lock => "locks",
            Self::Snapshot => "snapshots",
            Self::Index => "index",
            Self::Pack => "data",
        }
    }
}

/// Names a file in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileName {
    /// The one file `config`.
    Config,
    /// Any other file.
    Id(FileKind, FileId),
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => formatter.write_str("config"),
            Self::Id(kind @ FileKind::Pack, id) => {
                write!(formatter, "{}/{:02x}/{id}", kind.folder(), id.0[0])
            }
            Self::Id(kind, id) => write!(formatter, "{}/{id}", kind.folder()),
        }
    }
}

/// A file as a listing shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: FileId,
    /// Its size in bytes.
    pub size: u64,
    /// When the store says that it was written; `None` where the store does not tell.
    pub modified: Option<SystemTime>,
}

/// What a failed call was about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make the folders of a new repository.
    Create,
    /// Read a file or a part of it.
    Read,
    /// Write a file durably.
    Write,
    /// List a folder.
    List,
    /// Remove a file.
    Remove,
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::List => "list",
            Self::Remove => "remove",
        })
    }
}

/// A call to a store failed.
#[derive(Debug, thiserror::Error)]
#[error("could not {operation} {object}: {source}")]
pub struct StoreError {
    /// What was tried.
    pub operation: Operation,
    /// On what: a path or an address.
    pub object: String,
    /// Why it failed.
    pub source: io::Error,
}

impl StoreError {
    /// Whether the file is not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether there is no room left, on the device or under a quota.
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "make room on the repository's file system, or run `belay prune`, which keeps a reserve for this",
            ),
            io::ErrorKind::PermissionDenied => {
                Some("run as the user that owns the repository, or give this user access to it")
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                Some("mount the repository's file system writable")
            }
            _ => None,
        }
    }
}

/// Where a repository's files are. Calls block; several threads may call at once.
pub trait Store: Send + Sync {
    /// The place, for people: a path or an address without secrets.
    fn location(&self) -> String;

    /// Make what a new repository needs before its first file.
    fn create(&self) -> Result<(), StoreError>;

    /// All files of a kind, in no particular order. Foreign and half-written files are not among them.
    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StoreError>;

    /// A whole file; an error when it is larger than `limit` bytes.
    fn read(&self, name: FileName, limit: u64) -> Result<Vec<u8>, StoreError>;

    /// Exactly `length` bytes from `offset`; an error when the file is shorter.
    fn read_range(&self, name: FileName, offset: u64, length: usize)
    -> Result<Vec<u8>, StoreError>;

    /// Write a file so that it survives a power cut once this returns; nobody ever sees a part of it under its name.
    /// A file that is there already with the same size is left alone; `config` is never replaced.
    fn write(&self, name: FileName, bytes: &[u8]) -> Result<(), StoreError>;

    /// Remove a file; one that is not there is no error.
    fn remove(&self, name: FileName) -> Result<(), StoreError>;

    /// Remove what interrupted writes left; returns how many files and bytes. Only under an exclusive lock.
    fn remove_leftovers(&self) -> Result<(u64, u64), StoreError>;

    /// Keep room aside that [`Store::release_reserve`] gives back, so that a prune can write its index on a full disk.
    fn keep_reserve(&self) -> Result<(), StoreError>;

    /// Give the reserve back; returns how many bytes it had, 0 where there was none.
    fn release_reserve(&self) -> Result<u64, StoreError>;
}
