//! The gate's rules by name, and what they say.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// One of the two instances of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Environment {
    /// Where a version is tried.
    Staging,
    /// Where users work.
    Production,
}

impl Environment {
    /// As the command line and the API call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

impl fmt::Display for Environment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// A place in an upgrade where the rules are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Before staging is upgraded.
    Staging,
    /// Before production's writers are stopped: that is not done in vain. What only its last backup can show is not asked.
    BeforeStop,
    /// Immediately before production is upgraded.
    Production,
}

impl Gate {
    /// What it stands before.
    pub fn environment(self) -> Environment {
        match self {
            Self::Staging => Environment::Staging,
            Self::BeforeStop | Self::Production => Environment::Production,
        }
    }
}

/// A rule, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleName {
    /// Both instances have sealed snapshots of one moment each.
    BothBackedUp,
    /// They are young enough.
    Fresh,
    /// The keys in them decrypt what is in them.
    KeyFit,
    /// There is room for what the upgrade and its rollback need.
    Room,
    /// The images of the old and the new version are there, by digest.
    Images,
    /// No checkpoint is skipped, nothing goes backwards, the edition stays.
    Path,
    /// Staging runs the target version.
    StagingFirst,
    /// It passed its tests there.
    StagingTested,
    /// It has run there for long enough, and passed them again.
    Soaked,
    /// One of the approvers has said yes to this very plan.
    Approved,
    /// Now is a time for it.
    Window,
    /// The new version can read the apps in production's git repositories.
    AppsReadable,
    /// A drill has shown that the snapshots restore.
    Drilled,
}

impl RuleName {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 13] = [
        Self::BothBackedUp,
        Self::Fresh,
        Self::KeyFit,
        Self::Room,
        Self::Images,
        Self::Path,
        Self::StagingFirst,
        Self::StagingTested,
        Self::Soaked,
        Self::Approved,
        Self::Window,
        Self::AppsReadable,
        Self::Drilled,
    ];

    /// As it is written everywhere.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BothBackedUp => "both-backed-up",
            Self::Fresh => "fresh",
            Self::KeyFit => "key-fit",
            Self::Room => "room",
            Self::Images => "images",
            Self::Path => "path",
            Self::StagingFirst => "staging-first",
            Self::StagingTested => "staging-tested",
            Self::Soaked => "soaked",
            Self::Approved => "approved",
            Self::Window => "window",
            Self::AppsReadable => "apps-readable",
            Self::Drilled => "drilled",
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What was given is no rule's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no rule of the gate")]
pub struct NoSuchRule(String);

impl FromStr for RuleName {
    type Err = NoSuchRule;

    fn from_str(text: &str) -> Result<Self, NoSuchRule> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.as_str() == text)
            .ok_or_else(|| NoSuchRule(text.chars().take(64).collect()))
    }
}

/// A rule that a person may override. The others are no values of this type, so that no journal can hold an override of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overridable {
    /// [`RuleName::Room`].
    Room,
    /// [`RuleName::Images`].
    Images,
    /// [`RuleName::Soaked`].
    Soaked,
    /// [`RuleName::Approved`].
    Approved,
    /// [`RuleName::Window`].
    Window,
    /// [`RuleName::AppsReadable`].
    AppsReadable,
    /// [`RuleName::Drilled`].
    Drilled,
}

impl Overridable {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Room,
        Self::Images,
        Self::Soaked,
        Self::Approved,
        Self::Window,
        Self::AppsReadable,
        Self::Drilled,
    ];
}

impl From<Overridable> for RuleName {
    fn from(rule: Overridable) -> Self {
        match rule {
            Overridable::Room => Self::Room,
            Overridable::Images => Self::Images,
            Overridable::Soaked => Self::Soaked,
            Overridable::Approved => Self::Approved,
            Overridable::Window => Self::Window,
            Overridable::AppsReadable => Self::AppsReadable,
            Overridable::Drilled => Self::Drilled,
        }
    }
}

/// The rule holds whatever a person says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the rule '{0}' has no override")]
pub struct NoOverride(pub RuleName);

impl TryFrom<RuleName> for Overridable {
    type Error = NoOverride;

    fn try_from(rule: RuleName) -> Result<Self, NoOverride> {
        Self::ALL.into_iter().find(|it| RuleName::from(*it) == rule).ok_or(NoOverride(rule))
    }
}

/// How a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Pass,
    /// It does not, which closes the gate.
    Fail,
    /// It does not, and a person has said that this is no hindrance.
    Overridden,
    /// There is nothing that it could be asked of here.
    NotApplicable,
}

impl Verdict {
    /// As the command line and the API call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Overridden => "overridden",
            Self::NotApplicable => "not applicable",
        }
    }
}

/// What a rule says, and of what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleResult {
    /// Which.
    pub rule: RuleName,
    /// How it stands.
    pub verdict: Verdict,
    /// What it looked at, a line each.
    pub evidence: Vec<String>,
    /// What would make it pass; none where it does, or is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needed: Option<String>,
    /// When it will pass by itself, where time alone does that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passes_at: Option<Timestamp>,
    /// Who said that it is no hindrance, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
}

impl RuleResult {
    /// Whether it keeps the gate closed.
    pub fn closes(&self) -> bool {
        self.verdict == Verdict::Fail
    }
}

/// A person's word that a rule is no hindrance in one hop of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Which hop of the plan, from 0.
    pub hop: usize,
    /// Which rule.
    pub rule: Overridable,
    /// Why.
    pub reason: String,
    /// Who.
    pub by: String,
}

/// One of the approvers says yes to one hop of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Which hop of the plan, from 0.
    pub hop: usize,
    /// The digest of the plan that was looked at.
    pub plan: crate::model::id::Sha256,
    /// Who, by the credentials of the connection.
    pub by: String,
    /// What they said to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_everywhere() {
        for rule in RuleName::ALL {
            assert_eq!(rule.as_str().parse(), Ok(rule));
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.as_str());
        }
        for rule in Overridable::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), RuleName::from(rule).as_str());
        }
        assert_eq!(
            "backups".parse::<RuleName>().unwrap_err().to_string(),
            "'backups' is no rule of the gate"
        );
    }

    #[test]
    fn six_rules_have_no_override_not_even_in_a_document() {
        use RuleName::{BothBackedUp, Fresh, KeyFit, Path, StagingFirst, StagingTested};
        let without = [BothBackedUp, Fresh, KeyFit, Path, StagingFirst, StagingTested];
        for rule in RuleName::ALL {
            let found = Overridable::try_from(rule);
            assert_eq!(found.is_err(), without.contains(&rule), "{rule}");
            let json = serde_json::to_string(&rule).unwrap();
            assert_eq!(serde_json::from_str::<Overridable>(&json).ok(), found.ok(), "{rule}");
        }
    }
}
