//! An upgrade as a document: its plan, and the journal of what became of it.
//!
//! What always holds: a journal only grows, each record has the number of its place, and a plan has at least one hop. What a
//! journal means is for `upgrade::machine` to say. The same document is in the catalog and in the repository, so that a new
//! host can go on where a burnt one ended.

mod plan;
mod rule;
mod step;

pub use plan::{Hop, OnFailure, Plan, Side, Terms};
pub use rule::{
    Approval, Environment, Gate, NoOverride, NoSuchRule, Overridable, Override, RuleName,
    RuleResult, Verdict,
};
pub use step::{Outcome, Step, VolumeCopy};

use crate::model::id::UpgradeId;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A plan, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Journal {
    /// Which upgrade.
    pub id: UpgradeId,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// Who asked for it.
    pub planned_by: String,
    /// What is to be done.
    pub plan: Plan,
    /// What happened, oldest first. The first has the number 1.
    pub records: Vec<Record>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the journal, from 1.
    pub number: u64,
    /// When, by the clock of the host that wrote it.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// What can happen in an upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// A process has taken it up: for the first time, or after the one before was interrupted.
    TakenUp {
        /// The host's name.
        host: String,
    },
    /// A step is about to be done. Without an end it was interrupted, and may have been done in part or wholly.
    Began {
        /// Which hop of the plan, from 0.
        hop: usize,
        /// Which.
        step: Step,
    },
    /// It was done.
    Done {
        /// Which.
        step: Step,
        /// What it left behind.
        outcome: Outcome,
    },
    /// It was not.
    Failed {
        /// Which.
        step: Step,
        /// Why, with its causes.
        why: String,
        /// What a person can do about it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
        /// Of an upgrade of production: nothing of it was changed, neither now nor by an earlier try.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        untouched: bool,
    },
    /// The rules were asked.
    Judged {
        /// Where.
        gate: Gate,
        /// What they said.
        results: Vec<RuleResult>,
    },
    /// One of the approvers has said yes.
    Approved(Approval),
    /// A person has said that a rule is no hindrance.
    Overridden(Override),
    /// A person has asked for a change of course.
    Asked {
        /// Which.
        request: Request,
        /// Who.
        by: String,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
}

impl Entry {
    /// As the API and the catalog call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::TakenUp { .. } => "taken_up",
            Self::Began { .. } => "began",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Judged { .. } => "judged",
            Self::Approved(_) => "approved",
            Self::Overridden(_) => "overridden",
            Self::Asked { .. } => "asked",
        }
    }

    /// The step that it is about.
    pub fn step(&self) -> Option<Step> {
        match self {
            Self::Began { step, .. } | Self::Done { step, .. } | Self::Failed { step, .. } => {
                Some(*step)
            }
            Self::Judged { gate: Gate::Staging, .. } => Some(Step::GateStaging),
            Self::Judged { gate: Gate::BeforeStop, .. } => Some(Step::GateBeforeStop),
            Self::Judged { gate: Gate::Production, .. } => Some(Step::GateProduction),
            Self::TakenUp { .. } | Self::Approved(_) | Self::Overridden(_) | Self::Asked { .. } => {
                None
            }
        }
    }

    /// The person who brought it about.
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Approved(Approval { by, .. })
            | Self::Overridden(Override { by, .. })
            | Self::Asked { by, .. } => Some(by),
            _ => None,
        }
    }
}

/// A change of course that a person may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Request {
    /// Go on: try again what failed, ask again the rules that said no.
    Resume,
    /// Give it up, while production is untouched.
    Abort {
        /// Staging keeps the new version.
        keep_staging: bool,
    },
    /// Bring production's old version back.
    RollBack {
        /// What the new version left may be lost, as there is no room to keep it.
        discard_current: bool,
    },
    /// Production was put back, and is right although its tests say no.
    AcceptBack,
}

/// How one journal of an upgrade stands to another one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They are the same.
    Same,
    /// The other one goes on where it ends.
    Older,
    /// It goes on where the other one ends.
    Newer,
    /// Both have what the other one has not: two hosts wrote without knowing of each other.
    Diverged,
}

impl Journal {
    /// An upgrade of which nothing was done yet.
    pub fn new(id: UpgradeId, plan: Plan, planned_at: Timestamp, planned_by: String) -> Self {
        Self { id, planned_at, planned_by, plan, records: Vec::new() }
    }

    /// Itself, where all holds that has to.
    pub fn checked(self) -> Result<Self, NoJournal> {
        if self.plan.hops.is_empty() {
            return Err(NoJournal::NoHop(self.id));
        }
        let misplaced = (1..).zip(&self.records).find(|(place, record)| record.number != *place);
        match misplaced {
            Some((place, record)) => {
                Err(NoJournal::Misnumbered { id: self.id, place, number: record.number })
            }
            None => Ok(self),
        }
    }

    /// How it stands to `other`, which is of the same upgrade.
    pub fn relation(&self, other: &Self) -> Relation {
        let common = self.records.len().min(other.records.len());
        let same_head =
            (self.id, self.planned_at, &self.plan) == (other.id, other.planned_at, &other.plan);
        if !same_head || self.records[..common] != other.records[..common] {
            return Relation::Diverged;
        }
        match self.records.len().cmp(&other.records.len()) {
            std::cmp::Ordering::Less => Relation::Older,
            std::cmp::Ordering::Equal => Relation::Same,
            std::cmp::Ordering::Greater => Relation::Newer,
        }
    }

    /// When something happened last.
    pub fn changed_at(&self) -> Timestamp {
        self.records.last().map_or(self.planned_at, |record| record.at)
    }
}

/// A journal as it may come out of a repository.
#[derive(Deserialize)]
struct Unchecked {
    id: UpgradeId,
    planned_at: Timestamp,
    planned_by: String,
    plan: Plan,
    records: Vec<Record>,
}

/// The document is no journal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoJournal {
    /// The plan goes nowhere.
    #[error("the plan of upgrade {0} has no hop")]
    NoHop(UpgradeId),
    /// A record is not where its number says.
    #[error("record {place} of upgrade {id} has the number {number}")]
    Misnumbered {
        /// The upgrade.
        id: UpgradeId,
        /// Where it is, from 1.
        place: u64,
        /// What it says.
        number: u64,
    },
}

impl TryFrom<Unchecked> for Journal {
    type Error = NoJournal;

    fn try_from(unchecked: Unchecked) -> Result<Self, NoJournal> {
        let Unchecked { id, planned_at, planned_by, plan, records } = unchecked;
        Self { id, planned_at, planned_by, plan, records }.checked()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::id::InstanceId;
    use serde_json::json;
    use std::time::Duration;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    pub(crate) fn plan() -> Plan {
        let side = |number, name: &str| Side {
            id: InstanceId([number; 16]),
            name: name.parse().unwrap(),
            version: "v1.90".parse().unwrap(),
        };
        let hop = |from: &str, to: &str, why: Option<&str>| Hop {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            why: why.map(str::to_owned),
        };
        Plan {
            pair: "main".parse().unwrap(),
            staging: side(1, "staging"),
            production: side(2, "production"),
            platform: "appsmith".to_owned(),
            edition: None,
            hops: vec![hop("v1.90", "v1.99", Some("a checkpoint")), hop("v1.99", "v2.5.1", None)],
            terms: Terms {
                fresh: Duration::from_hours(2),
                soak: Duration::from_mins(30),
                windows: Vec::new(),
                approvers: vec!["alice".to_owned(), "bob".to_owned()],
                on_failure: OnFailure::Rollback,
                maintenance: true,
                copy_volumes: true,
                drilled: None,
                commit_after: Duration::from_hours(7 * 24),
            },
        }
    }

    pub(crate) fn journal(entries: Vec<Entry>) -> Journal {
        let mut journal = Journal::new(UpgradeId([5; 8]), plan(), at(0), "alice".to_owned());
        journal.records = (1..)
            .zip(entries)
            .map(|(number, entry)| Record { number, at: at(number.cast_signed()), entry })
            .collect();
        journal
    }

    fn began(step: Step) -> Entry {
        Entry::Began { hop: 0, step }
    }

    #[test]
    fn a_journal_reads_back_as_it_is_written() {
        let written = journal(vec![
            Entry::TakenUp { host: "backup1".into() },
            began(Step::BackUpStaging),
            Entry::Done { step: Step::BackUpStaging, outcome: Outcome::default() },
            Entry::Failed { step: Step::PinBoth, why: "no".into(), hint: None, untouched: false },
            Entry::Asked {
                request: Request::Abort { keep_staging: true },
                by: "bob".into(),
                reason: Some("not today".into()),
            },
        ]);
        let json = serde_json::to_value(&written).unwrap();
        assert_eq!(json["plan"]["terms"]["soak_s"], 1800);
        assert_eq!(
            json["records"][4],
            json!({
                "number": 5, "at": "2023-11-14T22:13:25Z", "kind": "asked",
                "request": {"what": "abort", "keep_staging": true}, "by": "bob", "reason": "not today"
            })
        );
        assert_eq!(serde_json::from_value::<Journal>(json).unwrap(), written);
    }

    #[test]
    fn what_is_no_journal_is_refused() {
        let good = serde_json::to_value(journal(vec![began(Step::PullStaging)])).unwrap();
        let refused = |change: &dyn Fn(&mut serde_json::Value)| {
            let mut bad = good.clone();
            change(&mut bad);
            serde_json::from_value::<Journal>(bad).unwrap_err().to_string()
        };
        assert!(refused(&|it| it["plan"]["hops"] = json!([])).contains("has no hop"));
        assert!(refused(&|it| it["records"][0]["number"] = json!(2)).contains("has the number 2"));
        assert!(refused(&|it| it["records"][0]["step"] = json!("hurry")).contains("hurry"));
        let over = json!({"number": 2, "at": "2023-11-14T22:13:25Z", "kind": "overridden",
            "hop": 0, "rule": "both-backed-up", "reason": "in a hurry", "by": "eve"});
        let error = refused(&|it| it["records"].as_array_mut().unwrap().push(over.clone()));
        assert!(error.contains("both-backed-up"), "{error}");
    }

    #[test]
    fn a_journal_that_goes_on_is_told_from_one_that_parts() {
        let steps = [Step::PullStaging, Step::BackUpStaging, Step::BackUpProduction].map(began);
        let long = journal(steps.to_vec());
        let short = journal(steps[..2].to_vec());
        let other = journal(vec![began(Step::PullStaging), began(Step::PinBoth)]);
        assert_eq!(long.relation(&long.clone()), Relation::Same);
        assert_eq!(
            (short.relation(&long), long.relation(&short)),
            (Relation::Older, Relation::Newer)
        );
        assert_eq!(
            (other.relation(&long), long.relation(&other)),
            (Relation::Diverged, Relation::Diverged)
        );
        let mut replanned = long.clone();
        replanned.plan.terms.soak = Duration::ZERO;
        assert_eq!(replanned.relation(&long), Relation::Diverged);
    }

    #[test]
    fn an_approval_of_one_plan_is_none_of_another() {
        let mut other = plan();
        assert_eq!(plan().digest(), other.digest());
        other.terms.approvers.pop();
        assert_ne!(plan().digest(), other.digest());
    }
}
