//! Why a tree could not be read through an access, and what to do then.

use crate::access::AccessError;
use crate::model::event::Cancelled;
use crate::model::via::Via;
use std::io;

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E: std::error::Error> {
    /// The way there, or tar's own failure.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// There is no tar that can do it.
    #[error(
        "GNU tar 1.28 or newer is needed where the files are (via {via}), and what was found is: {found}"
    )]
    NoTar {
        /// Where.
        via: Via,
        /// What tar says of itself.
        found: String,
    },
    /// What tar gave is not the whole archive of a tree.
    #[error("the tar stream of {path} is not whole: {reason}{}", and_said(said))]
    Invalid {
        /// The directory.
        path: String,
        /// What is wrong.
        reason: String,
        /// What tar said; it may be nothing.
        said: String,
    },
    /// tar ended well, and complained nevertheless.
    #[error("tar of {path} ended without an error and said: {said}")]
    Complained {
        /// The directory.
        path: String,
        /// What it said.
        said: String,
    },
    /// What was read could not be stored.
    #[error("could not store the files of {path}: {source}")]
    Store {
        /// The directory.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The sink failed.
    #[error(transparent)]
    Sink(E),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn and_said(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; tar said: {said}") }
}

impl<E: std::error::Error> StreamError<E> {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Access(error) => error.hint(),
            Self::NoTar { .. } => Some(
                "install it there (Debian: `apt-get install tar`, Alpine: `apk add tar`); the tar of busybox is not enough"
                    .into(),
            ),
            _ => None,
        }
    }

    /// Whether somebody asked to stop; what the sink says of that, the caller knows.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Access(AccessError::Cancelled(_)))
    }
}
