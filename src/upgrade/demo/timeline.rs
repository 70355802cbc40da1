//! The journal of an upgrade as a timeline for people: what counts, and when it was.

use crate::model::upgrade::{
    Entry, Environment, Gate, Journal, Outcome, Record, RuleResult, Step, Verdict,
};
use crate::ops::demo::{Line, Tell};
use jiff::Timestamp;

/// How much of a journal was told.
pub(super) struct Timeline {
    began: Timestamp,
    told: usize,
}

impl Timeline {
    pub(super) fn new(began: Timestamp) -> Self {
        Self { began, told: 0 }
    }

    /// Tell what is new in it.
    pub(super) fn tell(&mut self, journal: &Journal, tell: Tell<'_>) {
        for record in &journal.records[self.told..] {
            if let Some(text) = said(record, journal) {
                let tenths = record.at.duration_since(self.began).as_millis().max(0) / 100;
                let at = format!("{}.{} s", tenths / 10, tenths % 10);
                tell(Line::Moment(format!("{at:>7}  {text}")));
            }
        }
        self.told = journal.records.len();
    }
}

fn said(record: &Record, journal: &Journal) -> Option<String> {
    match &record.entry {
        Entry::Judged { gate, results } => judged(*gate, results),
        Entry::Done { step, outcome } => done(*step, outcome, journal),
        Entry::Failed { step, why, .. } => Some(format!("could not {}: {why}", step.action())),
        Entry::Approved(approval) => Some(format!("{} approves", approval.by)),
        Entry::TakenUp { .. }
        | Entry::Began { .. }
        | Entry::Overridden(_)
        | Entry::Asked { .. } => None,
    }
}

/// The one between, before production's writers are stopped, is told only where it says no.
fn judged(gate: Gate, results: &[RuleResult]) -> Option<String> {
    let of = |verdict: Verdict| -> Vec<&str> {
        let rules = results.iter().filter(|result| result.verdict == verdict);
        rules.map(|result| result.rule.as_str()).collect()
    };
    let (passed, failed) = (of(Verdict::Pass), of(Verdict::Fail));
    let environment = gate.environment();
    if !failed.is_empty() {
        return Some(format!("the gate to {environment} is closed by {}", failed.join(", ")));
    }
    (gate != Gate::BeforeStop)
        .then(|| format!("the gate to {environment} is open: {} pass", passed.join(", ")))
}

fn done(step: Step, outcome: &Outcome, journal: &Journal) -> Option<String> {
    let plan = &journal.plan;
    let (from, to) = (&plan.hops[0].from, plan.target());
    let snapshot = outcome.snapshot.map(|id| id.short()).unwrap_or_default();
    let environment = step.environment().unwrap_or(Environment::Production);
    Some(match step {
        Step::BackUpStaging | Step::BackUpProduction => {
            format!("{environment} is backed up: snapshot {snapshot}")
        }
        Step::PinBoth => "both snapshots are pinned".to_owned(),
        Step::UpgradeStaging | Step::UpgradeProduction => format!("{environment} gets {to}"),
        Step::TestStaging => format!("staging passes its tests: {}", names(outcome)),
        Step::TestStagingAgain => "staging has soaked, and passes them again".to_owned(),
        Step::BackUpStagingAgain => format!("staging is backed up again: snapshot {snapshot}"),
        Step::StopWriters => "production's writers are stopped".to_owned(),
        Step::BackUpStopped => {
            format!("production's last backup, with nothing missing: snapshot {snapshot}")
        }
        Step::Verify | Step::VerifyBack => {
            format!("production passes its tests: {}", names(outcome))
        }
        Step::MaintenanceOff => "users are let in".to_owned(),
        Step::Commit => "committed: the upgrade is for good".to_owned(),
        Step::StopProduction => "production is stopped".to_owned(),
        Step::PutBackProduction => {
            format!(
                "what {to} left is backed up: snapshot {snapshot}; the data before it are put back"
            )
        }
        Step::StartBack => format!("production gets {from} back"),
        _ => return None,
    })
}

/// Which tests there were, without what they found.
fn names(outcome: &Outcome) -> String {
    let names = outcome.notes.iter().filter_map(|note| note.split_once(" passed"));
    names.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}
