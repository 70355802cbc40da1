//! Notices: what people and monitors are told, whatever carries it.
//!
//! A notice holds no secret: it is kept in the catalog and sent to other hosts.

use crate::model::id::JobId;
use crate::model::name::Name;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoticeKind {
    /// A job failed.
    Failure,
    /// What was wrong is well again.
    Recovery,
    /// A due run did not happen.
    Missed,
    /// The last good snapshot is older than the objective allows.
    Rpo,
    /// A check found damage, or could not be made.
    CheckFailed,
    /// Somebody rewrote the history of a git repository.
    HistoryRewritten,
    /// A step of an upgrade.
    Upgrade,
    /// An instance runs a version that Belay did not install.
    VersionChanged,
    /// A backup began; for health-check pings only, as the next two are.
    RunStarted,
    /// A backup sealed its snapshot.
    RunSucceeded,
    /// A backup failed: each time it does, while [`Self::Failure`] is told once for a lasting problem.
    RunFailed,
}

impl NoticeKind {
    /// Those that webhooks and mail carry, and that `on` may name.
    pub const TOLD: [Self; 8] = [
        Self::Failure,
        Self::Recovery,
        Self::Missed,
        Self::Rpo,
        Self::CheckFailed,
        Self::HistoryRewritten,
        Self::Upgrade,
        Self::VersionChanged,
    ];

    /// As the configuration and JSON call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Recovery => "recovery",
            Self::Missed => "missed",
            Self::Rpo => "rpo",
            Self::CheckFailed => "check-failed",
            Self::HistoryRewritten => "history-rewritten",
            Self::Upgrade => "upgrade",
            Self::VersionChanged => "version-changed",
            Self::RunStarted => "run-started",
            Self::RunSucceeded => "run-succeeded",
            Self::RunFailed => "run-failed",
        }
    }

    /// Whether only health-check pings carry it.
    pub fn is_for_pings(self) -> bool {
        !Self::TOLD.contains(&self)
    }
}

impl fmt::Display for NoticeKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// The instance's name; none where it is about a repository or the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Name>,
    /// The job that it comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<JobId>,
    /// When it happened.
    pub at: Timestamp,
    /// Since when the problem lasts, where it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether it was told before, and is still so.
    #[serde(default)]
    pub reminder: bool,
    /// All in one line.
    pub title: String,
    /// Whole sentences; empty where the title says it all.
    #[serde(default)]
    pub body: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The name of the host that Belay runs on.
    pub host: String,
    /// The end of the job's log; empty where there is none.
    #[serde(default)]
    pub log: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_written_as_the_configuration_calls_them() {
        let pings = [NoticeKind::RunStarted, NoticeKind::RunSucceeded, NoticeKind::RunFailed];
        for kind in NoticeKind::TOLD.into_iter().chain(pings) {
            let json = serde_json::to_value(kind).unwrap();
            assert_eq!(json, kind.as_str());
            assert_eq!(serde_json::from_value::<NoticeKind>(json).unwrap(), kind);
            assert_eq!(kind.is_for_pings(), pings.contains(&kind));
        }
    }

    #[test]
    fn a_notice_reads_back_as_it_was_written() {
        let notice = Notice {
            kind: NoticeKind::CheckFailed,
            instance: Some("production".parse().unwrap()),
            job: Some(JobId([1; 8])),
            at: "2026-11-21T22:00:00Z".parse().unwrap(),
            since: Some("2026-11-20T22:00:00Z".parse().unwrap()),
            reminder: true,
            title: "ä".to_owned(),
            body: "One.\nTwo.".to_owned(),
            hint: Some("do".to_owned()),
            host: "prod1".to_owned(),
            log: "end\n".to_owned(),
        };
        let json = serde_json::to_string(&notice).unwrap();
        assert_eq!(serde_json::from_str::<Notice>(&json).unwrap(), notice);
        let least = r#"{"kind":"missed","at":"2026-11-21T22:00:00Z","title":"t","host":"h"}"#;
        assert_eq!(serde_json::from_str::<Notice>(least).unwrap().instance, None);
    }
}
