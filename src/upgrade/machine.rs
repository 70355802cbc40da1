//! The upgrade as a machine: a fold over its journal, and what comes next.
//!
//! What always holds: an [`Upgrade`] is what its [`Journal`] says and nothing else, so that a process that takes it up after a
//! crash, on this host or another, is where the one before was. Each step may be run again. No record can be added that does not
//! fit ([`Misfit`]): above all, production is touched only directly after a gate that was open. Nothing here asks a clock or does
//! I/O; [`runner`](super::runner) does.

mod course;
mod fold;
mod requests;
mod state;
#[cfg(test)]
mod tests;

pub use course::{frees_production, steps};
pub use requests::{Command, Refusal, What};
pub use state::{Production, State};

use super::rules::{Case, Seen, TESTS_COUNT_FOR, Tested};
use super::words::later;
use crate::model::upgrade::{
    Approval, Gate, Hop, Journal, Outcome, Override, Plan, Record, RuleName, Step,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long pins and copied volumes are kept once an upgrade is over.
pub const RELEASE_AFTER: Duration = Duration::from_hours(30 * 24);
/// When a step of a way back that failed is tried again, by itself; after the last it is a person's turn.
pub const RETRIES: [Duration; 3] =
    [Duration::from_mins(1), Duration::from_mins(5), Duration::from_mins(15)];
/// When what only tidies up is tried again.
const TIDY_AGAIN: Duration = Duration::from_hours(1);
/// A step during which Belay itself ended as often has failed.
pub const MOST_INTERRUPTIONS: u8 = 3;

/// An upgrade: its journal, and where that has led.
#[derive(Clone, Debug)]
pub struct Upgrade {
    journal: Journal,
    progress: Progress,
}

/// Where the journal has led.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each may be so without the others")]
struct Progress {
    hop: usize,
    course: Course,
    /// A step that began, and has not ended.
    running: Option<Step>,
    /// How often Belay ended during a step.
    interruptions: BTreeMap<Step, u8>,
    /// The last failure, as long as nothing has mended it.
    trouble: Option<Trouble>,
    /// What led away from the course forward.
    cause: Option<Trouble>,
    held: bool,
    blocked: Option<Blocked>,
    /// In this hop: nobody can say any more that production is as it was.
    production_touched: bool,
    staging_touched: bool,
    /// Production's writers may be stopped.
    writers_stopped: bool,
    /// Users may be kept out of production.
    users_kept_out: bool,
    keep_staging: bool,
    discard_current: bool,
    tested: Option<Tested>,
    approvals: Vec<Approval>,
    overrides: Vec<Override>,
    /// What the steps of this hop left behind.
    outcomes: BTreeMap<Step, Outcome>,
    production: Production,
}

/// Which way it goes, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Course {
    Forward(usize),
    StandDown { at: usize, then: Then },
    Abort(usize),
    RollBack(usize),
    Provisional { since: Timestamp },
    Over { state: State, since: Timestamp, released: bool },
}

/// What follows once production goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Then {
    TryAgain,
    Hold,
    Block(Blocked),
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// Which.
    pub step: Step,
    /// Why, with its causes.
    pub why: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// When.
    pub at: Timestamp,
    /// How often in a row.
    pub tries: u32,
}

/// Rules that said no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// Where they were asked.
    pub gate: Gate,
    /// Which.
    pub rules: Vec<RuleName>,
    /// When all of them pass by themselves, where time alone does that.
    pub until: Option<Timestamp>,
    /// Where to go on then.
    #[serde(skip)]
    place: usize,
}

/// What of the world the machine has to know besides the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Whether a window is open. It does not matter where the plan has none.
    pub window_is_open: bool,
    /// When the next one opens, where one does.
    pub window_opens_at: Option<Timestamp>,
    /// Whether production was found healthy, just now.
    pub production_is_healthy: bool,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This.
    Do(Step),
    /// Nothing, until then or until a person says something.
    Wait {
        /// For what.
        waiting: Waiting,
        /// When to look again; none where only a person or the world can change it.
        until: Option<Timestamp>,
    },
    /// Nothing, for good.
    Ended(State),
}

/// What an upgrade waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// For staging to have run long enough.
    Soak,
    /// For one of the approvers.
    Approval,
    /// For a window.
    Window,
    /// For the rules that said no.
    Gate,
    /// For the next try of what failed.
    Retry,
    /// For a person.
    Person,
    /// For the end of the time in which production is watched.
    CommitWindow,
    /// For production to be healthy.
    Health,
    /// For the end of the time in which the snapshots stay pinned.
    Release,
}

/// The record does not fit where the journal is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record {number} of upgrade {upgrade} does not fit: {what}")]
pub struct Misfit {
    upgrade: crate::model::id::UpgradeId,
    number: u64,
    what: String,
}

impl Upgrade {
    /// An upgrade of which nothing was done yet.
    pub fn new(journal: Journal) -> Result<Self, Misfit> {
        Self::replay(journal)
    }

    /// Where a journal leads.
    pub fn replay(mut journal: Journal) -> Result<Self, Misfit> {
        let records = std::mem::take(&mut journal.records);
        let progress = Progress::new(&journal.plan);
        let mut upgrade = Self { journal, progress };
        records.into_iter().try_for_each(|record| upgrade.apply(record))?;
        Ok(upgrade)
    }

    /// Add what happened. On an error nothing has changed.
    pub fn apply(&mut self, record: Record) -> Result<(), Misfit> {
        let next = self.journal.records.len() as u64 + 1;
        let misfit =
            |what: String| Misfit { upgrade: self.journal.id, number: record.number, what };
        if record.number != next {
            return Err(misfit(format!("{next} comes next")));
        }
        fold::fold(&self.journal.plan, &mut self.progress, record.at, &record.entry)
            .map_err(misfit)?;
        self.journal.records.push(record);
        Ok(())
    }

    /// What it is made of.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What is to be done.
    pub fn plan(&self) -> &Plan {
        &self.journal.plan
    }

    /// Which hop of the plan is on the way, from 0.
    pub fn hop_number(&self) -> usize {
        self.progress.hop
    }

    /// The hop that is on the way.
    pub fn hop(&self) -> &Hop {
        &self.journal.plan.hops[self.progress.hop]
    }

    /// Whether a step began, and has not ended: somebody does it, or was cut off.
    pub fn is_in_a_step(&self) -> bool {
        self.progress.running.is_some()
    }

    /// What a step of this hop left behind, when it was done last.
    pub fn outcome(&self, step: Step) -> Option<&Outcome> {
        self.progress.outcomes.get(&step)
    }

    /// That staging passed its tests in this hop.
    pub fn tested(&self) -> Option<&Tested> {
        self.progress.tested.as_ref()
    }

    /// What was overridden in this hop.
    pub fn overrides(&self) -> &[Override] {
        &self.progress.overrides
    }

    /// The last failure, as long as nothing has mended it.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.progress.trouble.as_ref()
    }

    /// The failure for which it goes back, or was given up.
    pub fn cause(&self) -> Option<&Trouble> {
        self.progress.cause.as_ref()
    }

    /// The rules that said no.
    pub fn blocked(&self) -> Option<&Blocked> {
        self.progress.blocked.as_ref()
    }

    /// What is known of production's version.
    pub fn production(&self) -> &Production {
        &self.progress.production
    }

    /// Whether production's writers may be stopped.
    pub fn writers_are_stopped(&self) -> bool {
        self.progress.writers_stopped
    }

    /// Whether users may be kept out of production.
    pub fn users_are_kept_out(&self) -> bool {
        self.progress.users_kept_out
    }

    /// Whether the upgrade has touched production in this hop.
    pub fn has_touched_production(&self) -> bool {
        self.progress.production_touched
    }

    /// Whether the upgrade may have touched staging in this hop.
    pub fn has_touched_staging(&self) -> bool {
        self.progress.staging_touched
    }

    /// Whether what the new version left may be lost, as a person has said.
    pub fn may_discard_current(&self) -> bool {
        self.progress.discard_current
    }

    /// One look at the gate, with what the journal has to say to it.
    pub fn case<'a>(&'a self, gate: Gate, seen: &'a Seen, now: Timestamp) -> Case<'a> {
        Case {
            gate,
            plan: &self.journal.plan,
            hop: self.progress.hop,
            seen,
            tested: self.progress.tested.as_ref(),
            approvals: &self.progress.approvals,
            overrides: &self.progress.overrides,
            now,
        }
    }

    /// What it is at.
    pub fn state(&self) -> State {
        let progress = &self.progress;
        if progress.held {
            return State::Held;
        }
        match &progress.course {
            Course::Over { state, .. } => *state,
            Course::Provisional { .. } => State::Provisional,
            Course::StandDown { .. } => State::StandingDown,
            Course::Abort(_) => State::Aborting,
            Course::RollBack(_) => State::RollingBack,
            Course::Forward(_) if progress.blocked.is_some() => State::GateClosed,
            Course::Forward(at) => self.forward_state(course::HOP[*at]),
        }
    }

    fn forward_state(&self, step: Step) -> State {
        match step {
            Step::PullStaging if self.journal.records.is_empty() => State::Planned,
            Step::PullStaging | Step::BackUpStaging | Step::BackUpProduction | Step::PinBoth => {
                State::BackingUp
            }
            Step::GateStaging | Step::BaselineStaging | Step::UpgradeStaging => {
                State::UpgradingStaging
            }
            Step::TestStaging => State::TestingStaging,
            Step::TestStagingAgain => State::Soaking,
            Step::PullProduction if self.lacks_approval() => State::AwaitingApproval,
            Step::BackUpStagingAgain
                if self.progress.running.is_none() && !self.plan().terms.windows.is_empty() =>
            {
                State::AwaitingWindow
            }
            Step::UpgradeProduction => State::UpgradingProduction,
            Step::Verify | Step::MaintenanceOff => State::Verifying,
            _ => State::BackingUpProduction,
        }
    }

    /// What comes next, in the light of `facts`.
    pub fn next(&self, now: Timestamp, facts: &Facts) -> Decision {
        let progress = &self.progress;
        let wait = |waiting, until| Decision::Wait { waiting, until };
        if let Some(step) = progress.running {
            return Decision::Do(step);
        }
        if progress.held {
            return wait(Waiting::Person, None);
        }
        if let Some(blocked) = &progress.blocked
            && blocked.until.is_none_or(|until| now < until)
        {
            return wait(Waiting::Gate, blocked.until);
        }
        if let Some(again) = self.next_try()
            && now < again
        {
            return wait(Waiting::Retry, Some(again));
        }
        let plan = &self.journal.plan;
        match &progress.course {
            Course::Forward(at) => self.next_forward(course::HOP[*at], now, facts),
            Course::StandDown { .. } | Course::Abort(_) | Course::RollBack(_) => {
                let step = progress.next_back(plan);
                // The fold leaves a way back with its last step.
                step.map_or_else(|| wait(Waiting::Person, None), Decision::Do)
            }
            Course::Provisional { since } => {
                let ends = later(*since, plan.terms.commit_after);
                if now < ends {
                    wait(Waiting::CommitWindow, Some(ends))
                } else if facts.production_is_healthy {
                    Decision::Do(Step::Commit)
                } else {
                    wait(Waiting::Health, None)
                }
            }
            Course::Over { state, released: true, .. } => Decision::Ended(*state),
            Course::Over { since, .. } => {
                let ends = later(*since, RELEASE_AFTER);
                if now < ends {
                    wait(Waiting::Release, Some(ends))
                } else {
                    Decision::Do(Step::ReleasePins)
                }
            }
        }
    }

    fn next_forward(&self, step: Step, now: Timestamp, facts: &Facts) -> Decision {
        let wait = |waiting, until| Decision::Wait { waiting, until };
        match step {
            Step::TestStagingAgain if !self.is_overridden(RuleName::Soaked) => {
                let first = self.progress.tested.as_ref().map_or(now, |tested| tested.first);
                let ends = later(first, self.journal.plan.terms.soak);
                if now < ends { wait(Waiting::Soak, Some(ends)) } else { Decision::Do(step) }
            }
            Step::PullProduction if self.lacks_approval() => wait(Waiting::Approval, None),
            Step::BackUpStagingAgain => {
                let has_windows = !self.journal.plan.terms.windows.is_empty();
                if has_windows && !facts.window_is_open && !self.is_overridden(RuleName::Window) {
                    return wait(Waiting::Window, facts.window_opens_at);
                }
                let last = self.progress.tested.as_ref().map(|tested| tested.last);
                let still_counts =
                    last.is_some_and(|last| now >= last && now <= later(last, TESTS_COUNT_FOR));
                Decision::Do(if still_counts { step } else { Step::TestStagingAgain })
            }
            _ => Decision::Do(step),
        }
    }

    /// When what failed is tried again by itself.
    fn next_try(&self) -> Option<Timestamp> {
        let Trouble { step, at, tries, .. } = self.progress.trouble.as_ref()?;
        let delay = match step {
            Step::Commit | Step::ReleasePins => TIDY_AGAIN,
            _ => RETRIES[(*tries as usize).clamp(1, RETRIES.len()) - 1],
        };
        Some(later(*at, delay))
    }

    fn is_overridden(&self, rule: RuleName) -> bool {
        self.progress.overrides.iter().any(|it| RuleName::from(it.rule) == rule)
    }

    fn lacks_approval(&self) -> bool {
        !self.journal.plan.terms.approvers.is_empty()
            && self.progress.approvals.is_empty()
            && !self.is_overridden(RuleName::Approved)
    }
}

impl Progress {
    fn new(plan: &Plan) -> Self {
        let mut progress = Self {
            hop: 0,
            course: Course::Forward(0),
            running: None,
            interruptions: BTreeMap::new(),
            trouble: None,
            cause: None,
            held: false,
            blocked: None,
            production_touched: false,
            staging_touched: false,
            writers_stopped: false,
            users_kept_out: false,
            keep_staging: false,
            discard_current: false,
            tested: None,
            approvals: Vec::new(),
            overrides: Vec::new(),
            outcomes: BTreeMap::new(),
            production: Production::Runs(plan.hops[0].from.clone()),
        };
        progress.go_forward(plan, 0);
        progress
    }

    /// Go on with the first step from there that has to be done.
    fn go_forward(&mut self, plan: &Plan, at: usize) {
        let (at, _) =
            course::from(&course::HOP, at, plan, self).expect("the callers know that one is left");
        self.course = Course::Forward(at);
    }

    /// The next step of a way back.
    fn next_back(&self, plan: &Plan) -> Option<Step> {
        let (steps, at) = self.way_back()?;
        course::from(steps, at, plan, self).map(|(_, step)| step)
    }

    fn way_back(&self) -> Option<(&'static [Step], usize)> {
        match &self.course {
            Course::StandDown { at, .. } => Some((&course::STAND_DOWN, *at)),
            Course::Abort(at) => Some((&course::ABORT, *at)),
            Course::RollBack(at) => Some((&course::ROLL_BACK, *at)),
            _ => None,
        }
    }
}
