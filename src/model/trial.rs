//! What tests of an instance found: before an upgrade, so that what was broken already does not count, and after it.
//!
//! Texts come from instances and their scripts: escape them before a terminal sees them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one test found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Which test, as the configuration calls it: `health`, `counts`, `http /status`, `command /etc/belay/smoke.sh`.
    pub name: String,
    /// Whether it passed.
    pub verdict: TrialVerdict,
    /// What it looked at and found, a line each, at most [`TrialResult::MOST_DETAILS`].
    pub details: Vec<String>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
}

impl TrialResult {
    /// More lines are counted, not kept.
    pub const MOST_DETAILS: usize = 50;
}

/// Whether a test passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrialVerdict {
    /// It did.
    Passed,
    /// It did not, or did not end in time.
    Failed,
    /// It says nothing: there was nothing to look at, or the platform has no such thing.
    NotApplicable,
}

impl TrialVerdict {
    /// Whether an upgrade may go on.
    pub fn is_fine(self) -> bool {
        self != Self::Failed
    }
}

/// What an instance was like before an upgrade. What is not known is left out, and counts as well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Baseline {
    /// When it was taken; none of one that was not.
    #[serde(default)]
    pub taken_at: Option<Timestamp>,
    /// The version that ran.
    #[serde(default)]
    pub version: Option<String>,
    /// Parts that did not answer, with the reason, such as `PostgREST`.
    #[serde(default)]
    pub parts: BTreeMap<String, String>,
    /// The apps that it listed; none where that was not looked at.
    #[serde(default)]
    pub apps: Option<Vec<AppBaseline>>,
    /// What was encrypted; none where that was not looked at.
    #[serde(default)]
    pub keys: Option<KeysBaseline>,
    /// Rows or documents by table or collection, `DATABASE/SCHEMA.TABLE` or `DATABASE/COLLECTION`; none where nothing was counted.
    #[serde(default)]
    pub counts: Option<BTreeMap<String, u64>>,
    /// Tests that could not look, with the reason: what they would have found is not known.
    #[serde(default)]
    pub unknown: BTreeMap<String, String>,
}

/// An app before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppBaseline {
    /// What the instance knows it by.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The workspace that it is in, by name.
    pub workspace: String,
    /// Its pages that were looked at, each with whether it answered.
    pub pages: Vec<PageBaseline>,
    /// Why it was broken before, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A page of an app before an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageBaseline {
    /// What the instance knows it by.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Why it was broken before, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What was encrypted before an upgrade, of what was tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysBaseline {
    /// Values that decrypted.
    pub fit: u64,
    /// Values that did not.
    pub unfit: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_of_an_older_version_reads_and_one_reads_back_as_it_was() {
        assert_eq!(serde_json::from_str::<Baseline>("{}").unwrap(), Baseline::default());
        let page = |trouble: Option<&str>| PageBaseline {
            id: "p1".into(),
            name: "Home".into(),
            trouble: trouble.map(Into::into),
        };
        let app = AppBaseline {
            id: "a1".into(),
            name: "Orders".into(),
            workspace: "Acme".into(),
            pages: vec![page(None), page(Some("answered with 500"))],
            trouble: None,
        };
        let baseline = Baseline {
            taken_at: Some(Timestamp::UNIX_EPOCH),
            version: Some("v1.97".into()),
            parts: BTreeMap::from([("PostgREST".into(), "no answer".into())]),
            apps: Some(vec![app]),
            keys: Some(KeysBaseline { fit: 3, unfit: 0 }),
            counts: Some(BTreeMap::from([("appsmith/application".into(), 7)])),
            unknown: BTreeMap::from([("apps-open".into(), "no answer".into())]),
        };
        let text = serde_json::to_string(&baseline).unwrap();
        assert_eq!(serde_json::from_str::<Baseline>(&text).unwrap(), baseline);
        assert!(TrialVerdict::NotApplicable.is_fine() && !TrialVerdict::Failed.is_fine());
    }
}
