//! What can be asked for as a job, and how it ended, as the command line, the API and the daemon hand it to each other.

use crate::model::name::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a job is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Work {
    /// Take a snapshot of an instance.
    Backup {
        /// Which.
        instance: Name,
        /// Read every file, also those whose size and times are as in the snapshot before.
        #[serde(default)]
        reread: bool,
        /// A component that had files in the snapshot before may have none now.
        #[serde(default)]
        allow_empty: bool,
    },
    /// Finish what interrupted runs have left of an instance, and start again what they had stopped.
    Recover {
        /// Which.
        instance: Name,
    },
    /// Verify a repository.
    Check {
        /// Its name in the configuration.
        repository: Name,
        /// Which part of all bytes is read, such as `1/7`; none is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        read_data: Option<String>,
    },
    /// Forget snapshots and reclaim their room.
    Prune {
        /// Its name in the configuration.
        repository: Name,
        /// Only tell what would be done.
        #[serde(default)]
        dry_run: bool,
        /// How much of the repository may stay unused, in percent; none is the default.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_unused: Option<f64>,
    },
}

impl Work {
    /// Whether its parameters mean something, as far as that can be told without looking at anything.
    pub fn check(&self) -> Result<(), InvalidWork> {
        match self {
            Self::Check { read_data: Some(slice), .. } => {
                let parts = slice.split_once('/');
                let parts =
                    parts.and_then(|(n, t)| Some((n.parse::<u16>().ok()?, t.parse::<u16>().ok()?)));
                let is_slice =
                    parts.is_some_and(|(n, t)| (1..=256).contains(&t) && (1..=t).contains(&n));
                if is_slice { Ok(()) } else { Err(InvalidWork::Slice(slice.clone())) }
            }
            Self::Prune { max_unused: Some(percent), .. } if !(0.0..=100.0).contains(percent) => {
                Err(InvalidWork::Percent(*percent))
            }
            _ => Ok(()),
        }
    }

    /// The kind as a noun, for people.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Recover { .. } => "recovery",
            Self::Check { .. } => "check",
            Self::Prune { .. } => "prune",
        }
    }

    /// The instance that it is about, if it is about one.
    pub fn instance(&self) -> Option<&Name> {
        match self {
            Self::Backup { instance, .. } | Self::Recover { instance } => Some(instance),
            Self::Check { .. } | Self::Prune { .. } => None,
        }
    }

    /// What it is about: an instance or a repository.
    pub fn subject(&self) -> &Name {
        match self {
            Self::Backup { instance, .. } | Self::Recover { instance } => instance,
            Self::Check { repository, .. } | Self::Prune { repository, .. } => repository,
        }
    }
}

/// What a job asks for is not there.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidWork {
    /// No part of a repository.
    #[error(
        "'{0}' is no slice: n/t is expected, such as 1/7 for the first of seven, and at most 256 of them"
    )]
    Slice(String),
    /// No share.
    #[error("max_unused: {0} is no share: a number from 0 to 100 is expected")]
    Percent(f64),
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// The exit code of the command that asks for the same.
    pub exit_code: u8,
    /// What it says to people.
    pub text: String,
    /// What it says to programs; null where it failed.
    pub document: Value,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// The same may go well when it is tried again.
    #[serde(default)]
    pub may_pass: bool,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error with its reasons.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}
