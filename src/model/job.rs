//! What can be asked for as a job, and how it ended, as the command line, the API and the daemon hand it to each other.

use crate::model::id::Sha256;
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
    /// Bring a snapshot back in place of an instance.
    Restore(RestoreWork),
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
    /// Go on with the upgrade of a pair, as far as its gate allows. It is asked for by what people say to upgrades, and by the daemon itself.
    Upgrade(UpgradeWork),
}

/// Whose upgrade goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeWork {
    /// The pair.
    pub pair: Name,
    /// What is to begin, where none is on its way yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<UpgradeStart>,
}

/// An upgrade that a person wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpgradeStart {
    /// The version to go to.
    pub to: String,
    /// Versions to stop at on the way, besides those that the platform asks for.
    #[serde(default)]
    pub stops: Vec<String>,
    /// The digest of the plan that the person has seen.
    pub plan: Sha256,
    /// Who.
    pub by: String,
}

/// What comes back, and in place of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreWork {
    /// An id, the beginning of one, or `latest:NAME`.
    pub snapshot: String,
    /// The instance that is overwritten.
    pub instance: Name,
    /// The repository that the snapshot is in; none is the instance's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<Name>,
    /// Only these components.
    #[serde(default)]
    pub components: Vec<String>,
    /// Only these paths, as they are shown.
    #[serde(default)]
    pub paths: Vec<String>,
    /// The snapshot is of another instance, and that is meant.
    #[serde(default)]
    pub as_clone: bool,
    /// The name of the instance that is overwritten by another's snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm: Option<String>,
    /// Why the present state may be lost, where there is no room to keep it and it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discard_current: Option<String>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// A person knows that the instance is overwritten, and wants that.
    #[serde(default)]
    pub yes: bool,
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
            Self::Restore(RestoreWork { instance, dry_run: false, yes: false, .. }) => {
                Err(InvalidWork::Unconfirmed(instance.clone()))
            }
            _ => Ok(()),
        }
    }

    /// The kind as a noun, for people.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Backup { .. } => "backup",
            Self::Restore(_) => "restore",
            Self::Recover { .. } => "recovery",
            Self::Check { .. } => "check",
            Self::Prune { .. } => "prune",
            Self::Upgrade(_) => "upgrade",
        }
    }

    /// The instance that it is about, if it is about one.
    pub fn instance(&self) -> Option<&Name> {
        match self {
            Self::Backup { instance, .. }
            | Self::Restore(RestoreWork { instance, .. })
            | Self::Recover { instance } => Some(instance),
            Self::Check { .. } | Self::Prune { .. } | Self::Upgrade(_) => None,
        }
    }

    /// What it is about: an instance, a repository or a pair.
    pub fn subject(&self) -> &Name {
        match self {
            Self::Backup { instance, .. }
            | Self::Restore(RestoreWork { instance, .. })
            | Self::Recover { instance } => instance,
            Self::Check { repository, .. } | Self::Prune { repository, .. } => repository,
            Self::Upgrade(UpgradeWork { pair, .. }) => pair,
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
    /// Nobody said that it is meant.
    #[error(
        "yes: a restore overwrites the instance '{0}': look at what it would do with \"dry_run\": true, and ask for it with \"yes\": true"
    )]
    Unconfirmed(Name),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_is_asked_for_with_a_yes_or_only_looked_at() {
        let of = |more: &str| -> Result<Work, serde_json::Error> {
            serde_json::from_str(&format!(
                r#"{{"kind":"restore","snapshot":"latest:a","instance":"a"{more}}}"#
            ))
        };
        assert!(matches!(of("").unwrap().check(), Err(InvalidWork::Unconfirmed(_))));
        assert_eq!(of(r#","dry_run":true"#).unwrap().check(), Ok(()));
        let meant = of(r#","yes":true"#).unwrap();
        assert_eq!(meant.check(), Ok(()));
        assert_eq!((meant.noun(), meant.subject().as_str()), ("restore", "a"));
        let text = serde_json::to_string(&meant).unwrap();
        assert_eq!(serde_json::from_str::<Work>(&text).unwrap(), meant);
        assert!(of(r#","confrim":"a""#).is_err(), "a slip in a name is an error");
    }
}
