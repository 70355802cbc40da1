//! In which state an upgrade is, in a word.

use crate::model::version::Version;
use serde::Serialize;
use std::fmt;

/// What an upgrade is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing was done yet.
    Planned,
    /// Both instances are backed up.
    BackingUp,
    /// Staging gets the new version.
    UpgradingStaging,
    /// It is tested.
    TestingStaging,
    /// It runs for a while.
    Soaking,
    /// One of the approvers has to say yes.
    AwaitingApproval,
    /// A window has to open.
    AwaitingWindow,
    /// Production is backed up for the last time, its writers stopped.
    BackingUpProduction,
    /// Production gets the new version.
    UpgradingProduction,
    /// It is tested.
    Verifying,
    /// Users work with the new version; a person may still bring the old one back.
    Provisional,
    /// The new version is for good.
    Committed,
    /// A rule said no: somebody or something has to change.
    GateClosed,
    /// Production was not touched, and what was stopped of it goes on.
    StandingDown,
    /// It is given up, and staging put back.
    Aborting,
    /// It was given up before production was touched.
    Aborted,
    /// Production gets the old version back.
    RollingBack,
    /// Production runs the old version again.
    RolledBack,
    /// Something failed, and a person has to decide.
    Held,
}

impl State {
    /// As the command line and the API call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::BackingUp => "backing up",
            Self::UpgradingStaging => "upgrading staging",
            Self::TestingStaging => "testing staging",
            Self::Soaking => "soaking",
            Self::AwaitingApproval => "awaiting approval",
            Self::AwaitingWindow => "awaiting window",
            Self::BackingUpProduction => "backing up production",
            Self::UpgradingProduction => "upgrading production",
            Self::Verifying => "verifying",
            Self::Provisional => "provisional",
            Self::Committed => "committed",
            Self::GateClosed => "gate closed",
            Self::StandingDown => "standing down",
            Self::Aborting => "aborting",
            Self::Aborted => "aborted",
            Self::RollingBack => "rolling back",
            Self::RolledBack => "rolled back",
            Self::Held => "held",
        }
    }

    /// Whether nothing more will be done to either instance.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Committed | Self::Aborted | Self::RolledBack)
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What is known of production's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Production {
    /// It runs this one, as it did before or as its tests have shown.
    Runs(Version),
    /// It is between two versions, or runs one that was not shown to be right.
    InDoubt {
        /// The one before.
        from: Version,
        /// The one to come.
        to: Version,
    },
}

impl fmt::Display for Production {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Runs(version) => write!(formatter, "runs {version}"),
            Self::InDoubt { from, to } => {
                write!(formatter, "is between {from} and {to}, or not shown to be right")
            }
        }
    }
}
