//! The steps of an upgrade, each safe to run again, and what they leave behind.

use crate::model::id::SnapshotId;
use crate::model::upgrade::{Environment, Gate};
use serde::{Deserialize, Serialize};
use std::fmt;

/// One thing that is done to a pair. `upgrade::machine` says in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The new version's image is fetched to where staging lives.
    PullStaging,
    /// A snapshot of staging, running the old version.
    BackUpStaging,
    /// A snapshot of production.
    BackUpProduction,
    /// Both are pinned.
    PinBoth,
    /// The rules are asked about staging.
    GateStaging,
    /// Staging's tests, before: what is broken then does not count against the new version.
    BaselineStaging,
    /// Staging gets the new version.
    UpgradeStaging,
    /// Its tests, compared with those before.
    TestStaging,
    /// The same once it has run for a while.
    TestStagingAgain,
    /// The new version's image is fetched to where production lives.
    PullProduction,
    /// A snapshot of staging, running the new version.
    BackUpStagingAgain,
    /// Production's tests, before.
    BaselineProduction,
    /// The rules are asked before production's writers are stopped.
    GateBeforeStop,
    /// Users are kept out of production.
    MaintenanceOn,
    /// What writes to production is stopped, and a timer set beside it that starts it again should Belay's host die.
    StopWriters,
    /// Production's last snapshot of the old version. It fails unless writers are stopped from before it to its end.
    BackUpStopped,
    /// The last two snapshots are pinned.
    PinLast,
    /// The volumes of its embedded databases are copied aside.
    CopyVolumes,
    /// The timer beside the writers is ended: from here on only Belay starts them, so that an upgrade that is interrupted, and goes
    /// on much later, finds what its last backup holds.
    HoldWriters,
    /// The rules are asked with everything read again.
    GateProduction,
    /// Production gets the new version. From its beginning on production counts as touched, unless it fails and says that it has
    /// changed nothing. Where production's writers run although they were held, it has to fail so.
    UpgradeProduction,
    /// Production's tests, compared with those before.
    Verify,
    /// Users are let in.
    MaintenanceOff,
    /// The upgrade is for good.
    Commit,
    /// Pins are removed, and copied volumes.
    ReleasePins,
    /// Production was not touched: its writers go on.
    ResumeWriters,
    /// Production was not touched: users are let in.
    EndMaintenance,
    /// A snapshot of staging as the new version left it, or what there is of it moved aside.
    SaveStaging,
    /// Staging gets the old version back, with its data.
    PutBackStaging,
    /// Its tests, compared with those before.
    TestStagingBack,
    /// A rollback: users are kept out of production.
    KeepUsersOut,
    /// A rollback: production is stopped.
    StopProduction,
    /// A rollback: a snapshot of production as the new version left it, or what there is of it moved aside.
    SaveProduction,
    /// A rollback: production gets the old version back, with its data. It stays stopped, so that doing this again loses nothing;
    /// where something has started it meanwhile, it is stopped first.
    PutBackProduction,
    /// A rollback: the old version starts.
    StartBack,
    /// A rollback: production's tests, compared with those before.
    VerifyBack,
    /// A rollback: users are let in.
    LetUsersIn,
}

impl Step {
    /// As the API and the catalog call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PullStaging => "pull_staging",
            Self::BackUpStaging => "back_up_staging",
            Self::BackUpProduction => "back_up_production",
            Self::PinBoth => "pin_both",
            Self::GateStaging => "gate_staging",
            Self::BaselineStaging => "baseline_staging",
            Self::UpgradeStaging => "upgrade_staging",
            Self::TestStaging => "test_staging",
            Self::TestStagingAgain => "test_staging_again",
            Self::PullProduction => "pull_production",
            Self::BackUpStagingAgain => "back_up_staging_again",
            Self::BaselineProduction => "baseline_production",
            Self::GateBeforeStop => "gate_before_stop",
            Self::MaintenanceOn => "maintenance_on",
            Self::StopWriters => "stop_writers",
            Self::BackUpStopped => "back_up_stopped",
            Self::PinLast => "pin_last",
            Self::CopyVolumes => "copy_volumes",
            Self::HoldWriters => "hold_writers",
            Self::GateProduction => "gate_production",
            Self::UpgradeProduction => "upgrade_production",
            Self::Verify => "verify",
            Self::MaintenanceOff => "maintenance_off",
            Self::Commit => "commit",
            Self::ReleasePins => "release_pins",
            Self::ResumeWriters => "resume_writers",
            Self::EndMaintenance => "end_maintenance",
            Self::SaveStaging => "save_staging",
            Self::PutBackStaging => "put_back_staging",
            Self::TestStagingBack => "test_staging_back",
            Self::KeepUsersOut => "keep_users_out",
            Self::StopProduction => "stop_production",
            Self::SaveProduction => "save_production",
            Self::PutBackProduction => "put_back_production",
            Self::StartBack => "start_back",
            Self::VerifyBack => "verify_back",
            Self::LetUsersIn => "let_users_in",
        }
    }

    /// What is tried, as it completes the sentence "cannot …".
    pub fn action(self) -> &'static str {
        match self {
            Self::PullStaging => "fetch the image for staging",
            Self::BackUpStaging => "back up staging",
            Self::BackUpProduction => "back up production",
            Self::PinBoth => "pin both snapshots",
            Self::GateStaging => "ask the rules about staging",
            Self::BaselineStaging => "test staging before its upgrade",
            Self::UpgradeStaging => "upgrade staging",
            Self::TestStaging => "test staging",
            Self::TestStagingAgain => "test staging again",
            Self::PullProduction => "fetch the image for production",
            Self::BackUpStagingAgain => "back up staging again",
            Self::BaselineProduction => "test production before its upgrade",
            Self::GateBeforeStop | Self::GateProduction => "ask the rules about production",
            Self::MaintenanceOn | Self::KeepUsersOut => "keep users out of production",
            Self::StopWriters => "stop production's writers",
            Self::BackUpStopped => "back up production with its writers stopped",
            Self::PinLast => "pin the last snapshots",
            Self::CopyVolumes => "copy production's volumes aside",
            Self::HoldWriters => "keep production's writers stopped",
            Self::UpgradeProduction => "upgrade production",
            Self::Verify => "test production",
            Self::MaintenanceOff | Self::EndMaintenance | Self::LetUsersIn => {
                "let users into production"
            }
            Self::Commit => "commit the upgrade",
            Self::ReleasePins => "release the upgrade's pins",
            Self::ResumeWriters => "start production's writers again",
            Self::SaveStaging => "save what the new version left of staging",
            Self::PutBackStaging => "put staging back",
            Self::TestStagingBack => "test staging after it was put back",
            Self::StopProduction => "stop production",
            Self::SaveProduction => "save what the new version left of production",
            Self::PutBackProduction => "put production back",
            Self::StartBack => "start production's old version",
            Self::VerifyBack => "test production after it was put back",
        }
    }

    /// The gate that it is, where it is one: it ends with [`Entry::Judged`](super::Entry::Judged).
    pub fn gate(self) -> Option<Gate> {
        match self {
            Self::GateStaging => Some(Gate::Staging),
            Self::GateBeforeStop => Some(Gate::BeforeStop),
            Self::GateProduction => Some(Gate::Production),
            _ => None,
        }
    }

    /// Which instance it is done to.
    pub fn environment(self) -> Option<Environment> {
        match self {
            Self::PinBoth | Self::PinLast | Self::Commit | Self::ReleasePins => None,
            Self::PullStaging
            | Self::BackUpStaging
            | Self::GateStaging
            | Self::BaselineStaging
            | Self::UpgradeStaging
            | Self::TestStaging
            | Self::TestStagingAgain
            | Self::BackUpStagingAgain
            | Self::SaveStaging
            | Self::PutBackStaging
            | Self::TestStagingBack => Some(Environment::Staging),
            _ => Some(Environment::Production),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What a step that succeeded leaves behind, for later steps and for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The snapshot that it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
    /// The digest of the image that it fetched, started or tested, where the driver has images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Where it put what no snapshot could hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_at: Option<String>,
    /// The volumes that hold the instance's own databases, and where a copy of each lies, or would.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeCopy>,
    /// What a person should know, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A volume, and where a copy of it lies: both are absolute paths on the host of the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeCopy {
    /// The volume's directory.
    pub source: String,
    /// Its copy: `NAME` in a directory `AREA` that is beside the volume, and belongs to one upgrade.
    pub copy: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_called_the_same_in_documents_and_in_the_catalog() {
        for step in [Step::PullStaging, Step::BackUpStagingAgain, Step::LetUsersIn, Step::Verify] {
            assert_eq!(serde_json::to_value(step).unwrap(), step.as_str());
        }
    }
}
