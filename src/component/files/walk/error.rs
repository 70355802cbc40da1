//! Why a walk fails, and what to do then.

use crate::model::event::Cancelled;
use std::io;

/// Why a walk failed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E: std::error::Error> {
    /// Something of the tree could not be read.
    #[error("could not {action} {path}: {source}")]
    Source {
        /// What was tried.
        action: &'static str,
        /// On what, escaped for people.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A directory never kept still while it was listed: what is always in it may be missing in what was seen.
    #[error("could not list {path}: for {seconds} seconds it changed each time")]
    Unsettled {
        /// Which one, escaped for people.
        path: String,
        /// For how long it was tried.
        seconds: u64,
    },
    /// A pattern is wrong; the configuration is checked for that.
    #[error("the pattern to exclude is wrong: {0}")]
    Pattern(#[from] globset::Error),
    /// The sink failed.
    #[error(transparent)]
    Sink(E),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl<E: std::error::Error> WalkError<E> {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<&'static str> {
        let source = match self {
            Self::Source { source, .. } => source,
            Self::Unsettled { .. } => {
                return Some(
                    "leave it out with `exclude`, or have what writes there pause meanwhile",
                );
            }
            _ => return None,
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Some("let the user that runs Belay read it, or leave it out with `exclude`")
            }
            io::ErrorKind::NotFound => Some("is the path right, and is its file system mounted?"),
            io::ErrorKind::StaleNetworkFileHandle => Some(
                "directories were moved or replaced while they were read: try again when that is over",
            ),
            _ => None,
        }
    }
}
