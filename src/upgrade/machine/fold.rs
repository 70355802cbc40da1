//! What each record of a journal changes. One that does not fit changes nothing.

use super::course::{self, HOP, place};
use super::requests;
use super::state::{Production, State};
use super::{Blocked, Course, MOST_INTERRUPTIONS, Progress, RETRIES, Then, Trouble};
use crate::model::upgrade::{
    Entry, Gate, OnFailure, Outcome, Plan, Request, RuleName, RuleResult, Step,
};
use crate::upgrade::rules::{Tested, is_open};
use crate::upgrade::words::later;
use jiff::Timestamp;
use std::time::Duration;

/// A gate that said no is asked again after a minute at the soonest.
const NOT_SOONER: Duration = Duration::from_mins(1);

/// What a record changes, or why it does not fit. Whatever can be wrong with it is looked at before anything changes.
pub(super) fn fold(
    plan: &Plan,
    progress: &mut Progress,
    at: Timestamp,
    entry: &Entry,
) -> Result<(), String> {
    match entry {
        Entry::TakenUp { .. } => progress.taken_up(plan, at),
        Entry::Began { hop, step } => progress.began(plan, *hop, *step)?,
        Entry::Done { step, outcome } => {
            if step.gate().is_some() {
                return Err(format!("{step} ends with what the rules said"));
            }
            progress.ended(*step)?;
            progress.done(plan, *step, outcome, at);
        }
        Entry::Failed { step, why, hint, untouched } => {
            progress.ended(*step)?;
            if *untouched && *step == Step::UpgradeProduction {
                progress.production_touched = false;
                progress.production = Production::Runs(plan.hops[progress.hop].from.clone());
            }
            progress.failed(plan, *step, why.clone(), hint.clone(), at);
        }
        Entry::Judged { gate, results } => {
            let step = entry.step().expect("a gate is a step");
            progress.ended(step)?;
            progress.judged(plan, *gate, results, at);
        }
        Entry::Approved(approval) => {
            requests::may_approve(progress, plan, approval).map_err(|no| no.message)?;
            progress.approvals.push(approval.clone());
            progress.ask_again(RuleName::Approved);
        }
        Entry::Overridden(it) => {
            requests::may_override(progress, plan, it).map_err(|no| no.message)?;
            progress.overrides.push(it.clone());
            progress.ask_again(it.rule.into());
        }
        Entry::Asked { request, reason, .. } => {
            if let Some(running) = progress.running {
                return Err(format!("a change of course within {running}"));
            }
            requests::may_ask(progress, *request, reason.as_deref()).map_err(|no| no.message)?;
            progress.asked(plan, *request, at);
        }
    }
    Ok(())
}

impl Progress {
    /// The process before may have ended in the middle of anything.
    fn taken_up(&mut self, plan: &Plan, at: Timestamp) {
        let interrupted = self.running.take();
        if let Some(step) = interrupted {
            let count = self.interruptions.entry(step).or_default();
            *count += 1;
            if *count >= MOST_INTERRUPTIONS {
                self.interruptions.remove(&step);
                let why = format!(
                    "Belay ended {MOST_INTERRUPTIONS} times while it tried to {}",
                    step.action()
                );
                let hint = "see why in the daemon's log, then resume".to_owned();
                self.failed(plan, step, why, Some(hint), at);
            }
        }
        // What stood still may have been started by the timer beside it, and written: the last backup is no longer the last.
        if matches!(self.course, Course::Forward(_)) && self.reaches_out() {
            self.stand_down(plan, Then::TryAgain, at);
        } else {
            self.rewind(plan, interrupted);
        }
    }

    /// Time has passed, and what was backed up is old: back to where that is done again, unless `stays` has to be run to its end.
    fn rewind(&mut self, plan: &Plan, stays: Option<Step>) {
        let Course::Forward(at) = self.course else { return };
        let stays = |step| stays == Some(step);
        let (step, place_of) = (HOP[at], |step| place(step).expect("it is a step forward"));
        let upgrades_staging = step == Step::UpgradeStaging && stays(step);
        if at > place_of(Step::BackUpStaging)
            && at <= place_of(Step::UpgradeStaging)
            && !upgrades_staging
        {
            self.go_forward(plan, place_of(Step::BackUpStaging));
        } else if at > place_of(Step::BackUpStagingAgain) && !self.production_touched {
            self.go_forward(plan, place_of(Step::BackUpStagingAgain));
        }
    }

    /// Whether something of production that was not touched may stand still.
    fn reaches_out(&self) -> bool {
        !self.production_touched && (self.writers_stopped || self.users_kept_out)
    }

    fn began(&mut self, plan: &Plan, hop: usize, step: Step) -> Result<(), String> {
        if let Some(running) = self.running {
            return Err(format!("{step} begins within {running}"));
        }
        if hop != self.hop || self.held || !self.may_begin(plan, step) {
            return Err(format!("{step} of hop {hop} is not what comes next"));
        }
        self.running = Some(step);
        self.blocked = None;
        match step {
            Step::UpgradeStaging => {
                self.staging_touched = true;
                self.tested = None;
                // Whoever approved had looked at what is replaced now.
                self.approvals.clear();
            }
            Step::MaintenanceOn | Step::KeepUsersOut => self.users_kept_out = true,
            Step::StopWriters => self.writers_stopped = true,
            Step::UpgradeProduction => {
                self.production_touched = true;
                self.production = self.in_doubt(plan);
            }
            Step::StopProduction => {
                self.writers_stopped = true;
                self.production = self.in_doubt(plan);
            }
            _ => {}
        }
        if let Course::Forward(_) = self.course {
            self.course = Course::Forward(place(step).expect("`may_begin` knows its place"));
        }
        Ok(())
    }

    fn may_begin(&self, plan: &Plan, step: Step) -> bool {
        match &self.course {
            Course::Forward(at) => match place(step) {
                // What only looks may be done again, as long as production is untouched and goes on.
                Some(place) if place < *at => {
                    step == Step::TestStagingAgain
                        && !self.production_touched
                        && !self.reaches_out()
                }
                Some(place) => place == *at,
                None => false,
            },
            Course::Provisional { .. } => step == Step::Commit,
            Course::Over { released, .. } => step == Step::ReleasePins && !released,
            Course::StandDown { .. } | Course::Abort(_) | Course::RollBack(_) => {
                self.next_back(plan) == Some(step)
            }
        }
    }

    fn in_doubt(&self, plan: &Plan) -> Production {
        let hop = &plan.hops[self.hop];
        Production::InDoubt { from: hop.from.clone(), to: hop.to.clone() }
    }

    /// The step that is running has come to an end.
    fn ended(&mut self, step: Step) -> Result<(), String> {
        if self.running != Some(step) {
            return Err(format!("{step} ends, and had not begun"));
        }
        self.running = None;
        Ok(())
    }

    fn done(&mut self, plan: &Plan, step: Step, outcome: &Outcome, at: Timestamp) {
        self.trouble = None;
        self.interruptions.remove(&step);
        // What staging was before counts, not what it became.
        let is_of_before = matches!(step, Step::BackUpStaging | Step::BaselineStaging);
        if !is_of_before || !self.staging_touched {
            self.outcomes.insert(step, outcome.clone());
        }
        let hop = &plan.hops[self.hop];
        match step {
            Step::TestStaging => self.passed_tests(plan, outcome, at),
            Step::TestStagingAgain => match &mut self.tested {
                Some(tested) if tested.image == outcome.image => tested.last = at,
                // Something else runs there now, so it begins anew.
                _ => self.passed_tests(plan, outcome, at),
            },
            Step::UpgradeProduction | Step::ResumeWriters | Step::StartBack => {
                self.writers_stopped = false;
            }
            Step::MaintenanceOff | Step::EndMaintenance | Step::LetUsersIn => {
                self.users_kept_out = false;
            }
            Step::Verify => self.production = Production::Runs(hop.to.clone()),
            Step::VerifyBack => self.production = Production::Runs(hop.from.clone()),
            Step::Commit => {
                self.course = Course::Over { state: State::Committed, since: at, released: false };
            }
            Step::ReleasePins => {
                if let Course::Over { released, .. } = &mut self.course {
                    *released = true;
                }
            }
            _ => {}
        }
        self.advance(plan, step, at);
    }

    fn passed_tests(&mut self, plan: &Plan, outcome: &Outcome, at: Timestamp) {
        let version = plan.hops[self.hop].to.clone();
        let image = outcome.image.clone();
        self.tested = Some(Tested { version, image, first: at, last: at });
    }

    /// On to the next step after this one.
    fn advance(&mut self, plan: &Plan, step: Step, at: Timestamp) {
        if let Course::Forward(_) = self.course {
            let next = place(step).expect("steps forward have a place") + 1;
            if course::from(&HOP, next, plan, self).is_some() {
                self.go_forward(plan, next);
            } else {
                self.finish_hop(plan, at);
            }
        }
        let Some((steps, _)) = self.way_back() else { return };
        let found = steps.iter().position(|it| *it == step);
        if let (
            Course::StandDown { at: place, .. } | Course::Abort(place) | Course::RollBack(place),
            Some(found),
        ) = (&mut self.course, found)
        {
            *place = found + 1;
            self.leave_way_back(plan, at);
        }
    }

    fn finish_hop(&mut self, plan: &Plan, at: Timestamp) {
        if self.hop + 1 == plan.hops.len() {
            self.course = Course::Provisional { since: at };
        } else {
            let (hop, production) = (self.hop + 1, self.production.clone());
            *self = Self { hop, production, ..Self::new(plan) };
        }
    }

    /// Where the way back has no step left, what follows it.
    fn leave_way_back(&mut self, plan: &Plan, at: Timestamp) {
        if self.next_back(plan).is_some() {
            return;
        }
        let over = |state| Course::Over { state, since: at, released: false };
        match self.course.clone() {
            Course::Abort(_) => self.course = over(State::Aborted),
            Course::RollBack(_) => self.course = over(State::RolledBack),
            Course::StandDown { then, .. } => {
                let again = place(Step::BackUpStagingAgain).expect("it is a step forward");
                match then {
                    Then::TryAgain => self.go_forward(plan, again),
                    Then::Hold => {
                        self.go_forward(plan, again);
                        self.trouble = self.cause.take();
                        self.held = true;
                    }
                    Then::Block(blocked) => {
                        self.go_forward(plan, blocked.place);
                        self.blocked = Some(blocked);
                    }
                }
            }
            Course::Forward(_) | Course::Provisional { .. } | Course::Over { .. } => {}
        }
    }

    fn stand_down(&mut self, plan: &Plan, then: Then, at: Timestamp) {
        self.course = Course::StandDown { at: 0, then };
        self.leave_way_back(plan, at);
    }

    fn abort(&mut self, plan: &Plan, at: Timestamp) {
        self.course = Course::Abort(0);
        self.leave_way_back(plan, at);
    }

    fn failed(
        &mut self,
        plan: &Plan,
        step: Step,
        why: String,
        hint: Option<String>,
        at: Timestamp,
    ) {
        let before = self.trouble.take().filter(|before| before.step == step);
        let tries = before.map_or(1, |before| before.tries.saturating_add(1));
        let trouble = Trouble { step, why, hint, at, tries };
        let is_last_try = tries as usize > RETRIES.len();
        self.trouble = Some(trouble.clone());
        let rolls_back = plan.terms.on_failure == OnFailure::Rollback;
        match (&self.course, step) {
            (Course::Provisional { .. } | Course::Over { .. }, _) => {}
            // Whether users are told or not, the old version has to come back.
            (Course::RollBack(_), Step::KeepUsersOut) => {
                self.trouble = None;
                self.advance(plan, step, at);
            }
            (Course::StandDown { .. } | Course::Abort(_) | Course::RollBack(_), _)
            | (Course::Forward(_), Step::MaintenanceOff) => self.held = is_last_try,
            (
                Course::Forward(_),
                Step::UpgradeStaging | Step::TestStaging | Step::TestStagingAgain,
            ) if rolls_back => {
                (self.cause, self.trouble) = (Some(trouble), None);
                self.abort(plan, at);
            }
            (Course::Forward(_), Step::UpgradeProduction | Step::Verify)
                if rolls_back && self.production_touched =>
            {
                (self.cause, self.trouble) = (Some(trouble), None);
                self.course = Course::RollBack(0);
            }
            (Course::Forward(_), _) if self.reaches_out() => {
                (self.cause, self.trouble) = (Some(trouble), None);
                self.stand_down(plan, Then::Hold, at);
            }
            (Course::Forward(_), _) => self.held = true,
        }
    }

    fn judged(&mut self, plan: &Plan, gate: Gate, results: &[RuleResult], at: Timestamp) {
        let step = self.forward_step();
        self.trouble = None;
        self.interruptions.remove(&step);
        if is_open(results) {
            return self.advance(plan, step, at);
        }
        let closing = || results.iter().filter(|result| result.closes());
        let rules: Vec<RuleName> = closing().map(|result| result.rule).collect();
        // All of them, or it takes a person.
        let until = closing().map(|result| result.passes_at).collect::<Option<Vec<_>>>();
        // Not at once, whatever the rules say of the time: each try takes snapshots, or even stops production.
        let until = until.and_then(|times| times.into_iter().max());
        let until = until.map(|until| until.max(later(at, NOT_SOONER)));
        let place = place(go_on_from(gate, &rules)).expect("it is a step forward");
        let blocked = Blocked { gate, rules, until, place };
        if self.reaches_out() {
            self.stand_down(plan, Then::Block(blocked), at);
        } else {
            self.go_forward(plan, place);
            self.blocked = Some(blocked);
        }
    }

    fn forward_step(&self) -> Step {
        match self.course {
            Course::Forward(at) => HOP[at],
            _ => unreachable!("gates stand on the way forward only"),
        }
    }

    /// A person has said something about a rule: it is asked again, if it said no.
    fn ask_again(&mut self, rule: RuleName) {
        self.blocked.take_if(|blocked| blocked.rules.contains(&rule));
        if let Course::StandDown { then, .. } = &mut self.course
            && matches!(then, Then::Block(blocked) if blocked.rules.contains(&rule))
        {
            *then = Then::TryAgain;
        }
    }

    fn asked(&mut self, plan: &Plan, request: Request, at: Timestamp) {
        self.held = false;
        self.blocked = None;
        let trouble = self.trouble.take();
        self.interruptions.clear();
        match request {
            Request::Resume => self.rewind(plan, trouble.map(|trouble| trouble.step)),
            Request::AcceptBack => {
                self.production = Production::Runs(plan.hops[self.hop].from.clone());
                self.advance(plan, Step::VerifyBack, at);
            }
            Request::Abort { keep_staging } => {
                self.keep_staging |= keep_staging;
                self.abort(plan, at);
            }
            Request::RollBack { discard_current } => {
                self.discard_current |= discard_current;
                self.course = Course::RollBack(0);
            }
        }
    }
}

/// Where to go on once a gate that was closed may be asked again: so far back that what the rules miss is done again.
fn go_on_from(gate: Gate, rules: &[RuleName]) -> Step {
    let has = |rule| rules.contains(&rule);
    if gate == Gate::Staging || has(RuleName::StagingFirst) || has(RuleName::StagingTested) {
        Step::PullStaging
    } else if has(RuleName::Soaked) {
        Step::TestStagingAgain
    } else if has(RuleName::Images) {
        Step::PullProduction
    } else {
        Step::BackUpStagingAgain
    }
}
