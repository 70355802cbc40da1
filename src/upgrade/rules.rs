//! The gate: rules that look at evidence and say whether a pair may go on, and what would make them say yes.
//!
//! What always holds: a rule that says no closes the gate, unless a person has overridden it, and it is one that can be
//! overridden (`Overridable`); what could not be read is never taken for good; nothing here asks a clock or does I/O.

mod backups;
mod conditions;
mod seen;
#[cfg(test)]
mod tests;
mod versions;

pub use seen::{
    App, Drill, Images, InstanceSeen, Room, Running, Seen, SnapshotSeen, Tested, Unread, Window,
};

use crate::model::upgrade::{
    Approval, Environment, Gate, Hop, Override, Plan, RuleName, RuleResult, Verdict,
};
use jiff::Timestamp;
use std::time::Duration;

/// For how long it counts that staging passed its tests: people and other programs change it meanwhile.
pub const TESTS_COUNT_FOR: Duration = Duration::from_hours(14 * 24);

/// One look at the gate.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// Where.
    pub gate: Gate,
    /// The plan.
    pub plan: &'a Plan,
    /// Which of its hops.
    pub hop: usize,
    /// What was read.
    pub seen: &'a Seen,
    /// That staging passed its tests in this hop.
    pub tested: Option<&'a Tested>,
    /// What was approved.
    pub approvals: &'a [Approval],
    /// What was overridden.
    pub overrides: &'a [Override],
    /// Now.
    pub now: Timestamp,
}

impl Case<'_> {
    fn hop(&self) -> &Hop {
        &self.plan.hops[self.hop]
    }

    fn sides(&self) -> [(Environment, &InstanceSeen); 2] {
        [
            (Environment::Staging, &self.seen.staging),
            (Environment::Production, &self.seen.production),
        ]
    }

    fn is_about_production(&self) -> bool {
        self.gate.environment() == Environment::Production
    }
}

/// What a rule finds: nothing that it needs, or what it does.
#[derive(Debug, Default)]
struct Finding {
    evidence: Vec<String>,
    needed: Vec<String>,
    is_applicable: bool,
    passes_at: Option<Timestamp>,
}

impl Finding {
    fn new() -> Self {
        Self { is_applicable: true, ..Self::default() }
    }

    /// There is nothing to ask, because of this.
    fn not_applicable(why: impl Into<String>) -> Self {
        Self { evidence: vec![why.into()], ..Self::default() }
    }

    fn saw(&mut self, line: impl Into<String>) {
        self.evidence.push(line.into());
    }

    fn needs(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.needed.contains(&what) {
            self.needed.push(what);
        }
    }
}

/// What each rule says, in the order of [`RuleName::ALL`].
pub fn judge(case: &Case<'_>) -> Vec<RuleResult> {
    RuleName::ALL.into_iter().map(|rule| judge_one(rule, case)).collect()
}

/// Whether no rule closes the gate.
pub fn is_open(results: &[RuleResult]) -> bool {
    !results.iter().any(RuleResult::closes)
}

fn judge_one(rule: RuleName, case: &Case<'_>) -> RuleResult {
    let mut finding = match rule {
        RuleName::BothBackedUp => backups::both_backed_up(case),
        RuleName::Fresh => backups::fresh(case),
        RuleName::KeyFit => backups::key_fit(case),
        RuleName::Room => conditions::room(case),
        RuleName::Images => versions::images(case),
        RuleName::Path => versions::path(case),
        RuleName::StagingFirst => versions::staging_first(case),
        RuleName::StagingTested => versions::staging_tested(case),
        RuleName::Soaked => versions::soaked(case),
        RuleName::Approved => conditions::approved(case),
        RuleName::Window => conditions::window(case),
        RuleName::AppsReadable => conditions::apps_readable(case),
        RuleName::Drilled => conditions::drilled(case),
    };
    if finding.is_applicable {
        for it in case.seen.unread.iter().filter(|it| it.rules.contains(&rule)) {
            finding.saw(it.why.as_str());
            finding.needs(it.needed.as_str());
        }
    }
    let fails = finding.is_applicable && !finding.needed.is_empty();
    let overridden = if fails { overriding(rule, case) } else { None };
    let verdict = match (finding.is_applicable, fails, overridden.is_some()) {
        (false, ..) => Verdict::NotApplicable,
        (true, false, _) => Verdict::Pass,
        (true, true, false) => Verdict::Fail,
        (true, true, true) => Verdict::Overridden,
    };
    RuleResult {
        rule,
        verdict,
        evidence: finding.evidence,
        needed: fails.then(|| finding.needed.join("; ")),
        passes_at: finding.passes_at.filter(|_| verdict == Verdict::Fail),
        overridden,
    }
}

/// The newest override of a rule in this hop.
fn overriding(rule: RuleName, case: &Case<'_>) -> Option<Override> {
    let mut of_rule = case
        .overrides
        .iter()
        .rev()
        .filter(|it| it.hop == case.hop && RuleName::from(it.rule) == rule);
    of_rule.next().cloned()
}
