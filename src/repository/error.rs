//! What can go wrong with a repository, sorted by what a person does about it.

use super::format::FormatError;
use crate::model::event::Cancelled;
use crate::model::id::{BlobId, FileId};
use crate::model::node::display_path;
use crate::model::size::Bytes;
use crate::store::{Operation, StoreError};
use std::fmt::Display;
use std::io;

/// A failure of the repository layer.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file is there, and is not what it should be.
    #[error("{file} is damaged: {source}")]
    Damaged {
        /// The file, by its name in the repository.
        file: String,
        /// Why.
        source: FormatError,
    },
    /// `config` is damaged or of another version.
    #[error("the configuration of the repository {location} cannot be used: {reason}")]
    DamagedConfig {
        /// The repository.
        location: String,
        /// Why.
        reason: String,
    },
    /// Nothing is there.
    #[error("there is no repository at {location}")]
    NotFound {
        /// Where it was looked for.
        location: String,
    },
    /// A repository is there already.
    #[error("there is a repository already at {location}")]
    Exists {
        /// Where.
        location: String,
    },
    /// Key files without `config`.
    #[error("{location} has key files but no configuration: it is half made, or was damaged")]
    KeysWithoutConfig {
        /// Where.
        location: String,
    },
    /// No key file opens with the password.
    #[error("the password opens none of the {tried} keys of {location}{damaged}")]
    WrongPassword {
        /// The repository.
        location: String,
        /// How many key files were tried.
        tried: usize,
        /// Key files that are damaged, said in words; empty when there are none.
        damaged: String,
        /// Whether it has the shape of a recovery key.
        is_recovery_key: bool,
    },
    /// Somebody else holds a lock that excludes ours.
    #[error("the repository {location} is locked {holder}")]
    Locked {
        /// The repository.
        location: String,
        /// Who holds the lock and since when, in words.
        holder: String,
    },
    /// Our own lock was removed, or could not be refreshed for too long.
    #[error("the lock on {location} was lost: {reason}")]
    LockLost {
        /// The repository.
        location: String,
        /// How.
        reason: String,
    },
    /// A blob is in no index and no pack.
    #[error("the {kind} blob {id} is missing: no pack of the repository holds it")]
    MissingBlob {
        /// `data` or `tree`.
        kind: &'static str,
        /// Its id.
        id: BlobId,
    },
    /// A pack, verified before it was written, did not read back: the memory or the processor is at fault.
    #[error(
        "a pack did not read back from memory as it was made: {source}. This machine's memory may be faulty"
    )]
    Unverified {
        /// What did not fit.
        source: FormatError,
    },
    /// A directory whose tree no reader would take: the walk that met it ends before it is stored.
    #[error(
        "the directory {directory} has too many entries: their list, with those of the directories above and below it, \
         could not be read back within {limit} of memory"
    )]
    LargeDirectory {
        /// Its path, escaped for people.
        directory: String,
        /// What the lists of directories that are open at one time may take.
        limit: Bytes,
    },
    /// Something removed packs or indexes that a finished run needs.
    #[error("{kind} {id} was removed while this run needed it; the snapshot was not kept")]
    RemovedMeanwhile {
        /// `pack` or `index`.
        kind: &'static str,
        /// Its id.
        id: FileId,
    },
    /// The last key, or the one in use, is not removed.
    #[error("{0}")]
    Refused(String),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A thread or another part of the machine failed.
    #[error("{0}")]
    Internal(String),
}

impl RepositoryError {
    /// A damaged file.
    pub(crate) fn format(file: &dyn Display, source: FormatError) -> Self {
        Self::Damaged { file: file.to_string(), source }
    }

    /// A directory that needs more than `limit` bytes of memory.
    pub(crate) fn large_directory(path: &[u8], limit: usize) -> Self {
        Self::LargeDirectory { directory: display_path(path), limit: Bytes(limit as u64) }
    }

    /// Whether a file is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_not_found())
    }

    /// Whether the repository itself is at fault: something is damaged or missing in it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::DamagedConfig { .. } | Self::MissingBlob { .. } => true,
            // Whatever keeps one file from being read (too short, not there, a bad block), the others may still be.
            // No permission is no damage: the user is the wrong one, not the file.
            Self::Store(error) => {
                error.operation == Operation::Read
                    && error.source.kind() != io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }

    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.hint(),
            Self::Damaged { .. } | Self::MissingBlob { .. } => Some(
                "run `belay check --read-data` to see what is touched; the rest still restores, of this snapshot with --path or --component",
            ),
            Self::DamagedConfig { .. } => Some(
                "restoring still works; to write again, bring `config` back from a copy of the repository",
            ),
            Self::NotFound { .. } => Some(
                "is its disk mounted, and the URL right? A new repository is made with `belay init`",
            ),
            Self::Exists { .. } => Some("use it as it is, or choose another place for a new one"),
            Self::KeysWithoutConfig { .. } => Some(
                "choose an empty place for a new repository, or bring `config` back from a copy",
            ),
            Self::WrongPassword { is_recovery_key: true, .. } => Some(
                "it has the shape of a recovery key: compare it with the paper letter by letter, or is it another repository's, or one that was removed?",
            ),
            Self::WrongPassword { .. } => Some(
                "check the password, or use another one of the repository: the recovery key opens it, too",
            ),
            Self::Locked { .. } => Some(
                "wait until it is done; a lock whose process is dead is removed by itself, one of another machine after 30 minutes",
            ),
            Self::LockLost { .. } => {
                Some("nothing was lost; run it again, and do not remove locks while Belay works")
            }
            Self::RemovedMeanwhile { .. } => {
                Some("run it again; was a prune run without its lock?")
            }
            Self::LargeDirectory { .. } => Some(
                "leave it out with `exclude`, or spread its files over more directories; somewhat over a million fit into one",
            ),
            Self::Unverified { .. } => {
                Some("test this machine's memory before you rely on its backups")
            }
            Self::Refused(_) | Self::Cancelled(_) | Self::Internal(_) => None,
        }
    }
}
