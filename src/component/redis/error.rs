//! What can go wrong with a Redis server, with what to do about it.

use super::rdb::RdbError;
use crate::access::AccessError;
use crate::model::event::Cancelled;
use std::io;

/// A failure of the component `redis`.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The way there, or `redis-cli`'s own failure.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The address is none that is known.
    #[error("the address of the Redis server cannot be read: {0}")]
    Address(&'static str),
    /// The server, or `redis-cli`, said no.
    #[error("{server} answered to {asked}: {said}")]
    Refused {
        /// Which server.
        server: String,
        /// What was asked.
        asked: String,
        /// What was said.
        said: String,
    },
    /// `redis-cli` ended well, and complained nevertheless.
    #[error("redis-cli ended without an error and said: {said}")]
    Complained {
        /// What it said.
        said: String,
    },
    /// What it gave is not a whole RDB file.
    #[error("the dump is not whole: {source}{}", and_said(said))]
    Invalid {
        /// What is wrong.
        source: RdbError,
        /// What `redis-cli` said; it may be nothing.
        said: String,
    },
    /// What was read could not be stored.
    #[error("could not store the dump: {0}")]
    Sink(io::Error),
    /// Keys are still there.
    #[error("{server} was flushed, and still has: {left}")]
    NotFlushed {
        /// Which server.
        server: String,
        /// What it says of its databases.
        left: String,
    },
    /// A snapshot's file could not be loaded.
    #[error("could not read the snapshot's dump: {0}")]
    Source(RdbError),
    /// Not everything was taken.
    #[error("{server} did not take all keys back: {said}")]
    NotLoaded {
        /// Which server.
        server: String,
        /// What was said.
        said: String,
    },
    /// The job was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn and_said(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!("; redis-cli said: {said}") }
}

impl RedisError {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<String> {
        let said = match self {
            Self::Address(_) => {
                return Some(
                    "write it as redis://USER:PASSWORD@HOST:PORT, or with rediss://".into(),
                );
            }
            Self::Access(AccessError::Failed { said, .. }) | Self::Refused { said, .. } => said,
            _ => "",
        };
        if ["NOAUTH", "WRONGPASS", "AUTH failed"].iter().any(|word| said.contains(word)) {
            return Some("is the password of its environment the server's?".into());
        }
        if said.contains("NOPERM") {
            return Some(
                "let that user run PSYNC, INFO, and for restores FLUSHALL and RESTORE".into(),
            );
        }
        match self {
            Self::Access(error) => error.hint(),
            Self::Refused { .. } | Self::NotFlushed { .. } | Self::NotLoaded { .. } => Some(
                "does that server let this user run PSYNC, INFO, and for restores FLUSHALL or FLUSHDB, and RESTORE? Is there room?".into(),
            ),
            _ => None,
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Access(AccessError::Cancelled(_)))
    }
}
