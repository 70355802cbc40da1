//! What an upgrade is to do: decided once, before anything is done, and never changed afterwards.

use crate::model::id::{InstanceId, Sha256};
use crate::model::name::Name;
use crate::model::version::{Edition, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256 as Hasher};
use std::time::Duration;

/// Which pair goes to which version, over which stops, and on which terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The pair.
    pub pair: Name,
    /// Its staging instance.
    pub staging: Side,
    /// Its production instance.
    pub production: Side,
    /// What both are, such as `appsmith`.
    pub platform: String,
    /// The edition of both, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<Edition>,
    /// From version to version, in order; at least one.
    pub hops: Vec<Hop>,
    /// What the configuration asked for when the plan was made.
    pub terms: Terms,
}

/// An instance of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// For good.
    pub id: InstanceId,
    /// In the configuration.
    pub name: Name,
    /// What it ran when the plan was made.
    pub version: Version,
}

/// One move to another version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// What production runs before.
    pub from: Version,
    /// What both run after.
    pub to: Version,
    /// Why it stops here; none for the last hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What happens when the new version fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The old one is brought back.
    #[default]
    Rollback,
    /// Everything is left as it is, and people are told.
    Hold,
}

/// The conditions of an upgrade. They are part of the plan: a configuration that changes meanwhile changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// How old the snapshots may be at the gates.
    #[serde(rename = "fresh_s", with = "seconds")]
    pub fresh: Duration,
    /// How long staging runs the new version before production gets it.
    #[serde(rename = "soak_s", with = "seconds")]
    pub soak: Duration,
    /// When production may be upgraded, as the configuration says it; at any time where there are none.
    #[serde(default)]
    pub windows: Vec<String>,
    /// Who may say yes; nobody has to where there are none.
    #[serde(default)]
    pub approvers: Vec<String>,
    /// What happens when the new version fails.
    pub on_failure: OnFailure,
    /// Whether there are commands that keep users out, and let them in again.
    #[serde(default)]
    pub maintenance: bool,
    /// Whether volumes are copied aside before the new version starts.
    #[serde(default)]
    pub copy_volumes: bool,
    /// How old the last drill may be; none where none is asked for.
    #[serde(default, rename = "drilled_s", with = "maybe_seconds")]
    pub drilled: Option<Duration>,
    /// How long production is watched before the upgrade is committed.
    #[serde(rename = "commit_after_s", with = "seconds")]
    pub commit_after: Duration,
}

impl Plan {
    /// Tells this plan from every other. What somebody approves is this.
    pub fn digest(&self) -> Sha256 {
        let json = serde_json::to_vec(self).expect("a plan has texts and numbers only");
        Sha256(Hasher::digest(json).into())
    }

    /// What both instances run in the end.
    pub fn target(&self) -> &Version {
        &self.hops.last().expect("a plan has a hop: `Journal` refuses one without").to
    }
}

/// Durations as whole seconds.
mod seconds {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(
        duration: &Duration,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(duration.as_secs())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_secs)
    }
}

/// The same of one that may be missing.
mod maybe_seconds {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use std::time::Duration;

    // serde asks for this very form.
    #[allow(clippy::ref_option)]
    pub(super) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
    }
}
