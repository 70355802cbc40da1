//! What can go wrong when a tree is put where an instance lives.

use crate::access::AccessError;
use std::io;

/// A step failed; calling it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The way there, or the step itself.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// It ended well, and complained nevertheless.
    #[error("putting back {path} ended without an error and said: {said}")]
    Complained {
        /// The directory.
        path: String,
        /// What was said.
        said: String,
    },
    /// Not all of it is there.
    #[error("of {path}, {entries} entries were written, and {found} are there")]
    Incomplete {
        /// The directory.
        path: String,
        /// How many there should be.
        entries: u64,
        /// How many were counted.
        found: String,
    },
}

impl RemoteError {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Access(error) => error.hint(),
            Self::Complained { .. } | Self::Incomplete { .. } => {
                Some("is there room there? `df -h`, `df -i`".into())
            }
        }
    }
}

/// The new tree could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StageError<E: std::error::Error> {
    /// The far end.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The stream could not be written on.
    #[error("could not write the tar stream: {0}")]
    Write(#[from] io::Error),
    /// What was to be written could not be read.
    #[error(transparent)]
    Source(E),
}

impl<E: std::error::Error> From<AccessError> for StageError<E> {
    fn from(error: AccessError) -> Self {
        Self::Remote(error.into())
    }
}
