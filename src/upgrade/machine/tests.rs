//! The machine, course by course; `simulation` has all of them at once.

use super::*;
use crate::model::id::UpgradeId;
use crate::model::upgrade::tests::plan;
use crate::model::upgrade::{Entry, OnFailure, Request, RuleResult, Verdict};

mod people;
mod restarts;

const HOUR: Duration = Duration::from_hours(1);

/// An upgrade, and a clock.
struct Scene {
    upgrade: Upgrade,
    now: Timestamp,
    facts: Facts,
}

impl Scene {
    fn new(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = plan();
        // One hop, as a rule.
        plan.hops.remove(0);
        plan.terms.windows = vec!["Sat 01:00-05:00".to_owned()];
        change(&mut plan);
        let start = Timestamp::from_second(1_780_000_000).unwrap();
        let journal = Journal::new(UpgradeId([1; 8]), plan, start, "alice".to_owned());
        let facts =
            Facts { window_is_open: true, window_opens_at: None, production_is_healthy: true };
        Self { upgrade: Upgrade::new(journal).unwrap(), now: start, facts }
    }

    fn apply(&mut self, entry: Entry) -> Result<(), Misfit> {
        let number = self.upgrade.journal().records.len() as u64 + 1;
        self.upgrade.apply(Record { number, at: self.now, entry })
    }

    fn next(&self) -> Decision {
        self.upgrade.next(self.now, &self.facts)
    }

    fn next_step(&self) -> Step {
        match self.next() {
            Decision::Do(step) => step,
            other => panic!("{other:?}"),
        }
    }

    fn waits_for(&self) -> Waiting {
        match self.next() {
            Decision::Wait { waiting, .. } => waiting,
            other => panic!("{other:?}"),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = later(self.now, time);
    }

    fn begin(&mut self) -> Step {
        let (step, hop) = (self.next_step(), self.upgrade.hop_number());
        self.apply(Entry::Began { hop, step }).unwrap();
        step
    }

    fn succeed(&mut self) -> Step {
        let step = self.begin();
        let entry = match step.gate() {
            Some(gate) => Entry::Judged { gate, results: Vec::new() },
            None => Entry::Done { step, outcome: Outcome::default() },
        };
        self.apply(entry).unwrap();
        step
    }

    fn fail(&mut self) -> Step {
        let step = self.begin();
        self.fail_begun(step, false);
        step
    }

    fn fail_begun(&mut self, step: Step, untouched: bool) {
        let entry = Entry::Failed { step, why: "the disk is full".into(), hint: None, untouched };
        self.apply(entry).unwrap();
    }

    fn close(&mut self, gate: Gate, rules: &[(RuleName, Option<Timestamp>)]) {
        let results = rules.iter().map(|(rule, passes_at)| RuleResult {
            rule: *rule,
            verdict: Verdict::Fail,
            evidence: Vec::new(),
            needed: Some("something".to_owned()),
            passes_at: *passes_at,
            overridden: None,
        });
        let results = results.collect();
        self.apply(Entry::Judged { gate, results }).unwrap();
    }

    fn say(&mut self, by: &str, reason: Option<&str>, what: What) -> Result<(), Refusal> {
        let command = Command { by: by.to_owned(), reason: reason.map(str::to_owned), what };
        let entry = self.upgrade.hear(&command)?;
        self.apply(entry).unwrap();
        Ok(())
    }

    fn ask(&mut self, request: Request) -> Result<(), Refusal> {
        self.say("alice", None, What::Ask(request))
    }

    fn approve(&mut self) {
        let digest = self.upgrade.plan().digest();
        self.say("bob", None, What::Approve(digest)).unwrap();
    }

    /// Everything succeeds, and what is waited for comes, up to a step, which is not begun.
    fn up_to(&mut self, end: Step) -> Vec<Step> {
        let mut done = Vec::new();
        for _ in 0..200 {
            match self.next() {
                Decision::Do(step) if step == end => return done,
                Decision::Do(_) => done.push(self.succeed()),
                Decision::Wait { waiting: Waiting::Approval, .. } => self.approve(),
                Decision::Wait { until: Some(until), .. } => self.now = until.max(self.now),
                other => panic!("{other:?} on the way to {end}"),
            }
        }
        panic!("{end} does not come");
    }

    /// The same up to an end or to a person's turn.
    fn up_to_rest(&mut self) -> Vec<Step> {
        let mut done = Vec::new();
        while let Decision::Do(_) = self.next() {
            done.push(self.succeed());
        }
        done
    }

    fn state(&self) -> State {
        self.upgrade.state()
    }

    fn take_up(&mut self) {
        // As another process would: from the journal alone.
        self.upgrade = Upgrade::replay(self.upgrade.journal().clone()).unwrap();
        self.apply(Entry::TakenUp { host: "backup1".to_owned() }).unwrap();
    }
}

#[test]
fn an_upgrade_goes_its_way_and_waits_where_it_has_to() {
    let mut scene = Scene::new(|_| {});
    assert_eq!(scene.state(), State::Planned);
    scene.up_to(Step::UpgradeStaging);
    assert_eq!(scene.state(), State::UpgradingStaging);
    scene.succeed();
    assert_eq!(scene.state(), State::TestingStaging);
    scene.succeed();
    assert_eq!((scene.state(), scene.waits_for()), (State::Soaking, Waiting::Soak));
    scene.pass(Duration::from_mins(29));
    assert_eq!(scene.waits_for(), Waiting::Soak);
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.succeed(), Step::TestStagingAgain);
    assert_eq!((scene.state(), scene.waits_for()), (State::AwaitingApproval, Waiting::Approval));
    scene.approve();
    assert_eq!(scene.succeed(), Step::PullProduction);
    let opens = later(scene.now, 9 * HOUR);
    (scene.facts.window_is_open, scene.facts.window_opens_at) = (false, Some(opens));
    assert_eq!(scene.state(), State::AwaitingWindow);
    assert_eq!(scene.next(), Decision::Wait { waiting: Waiting::Window, until: Some(opens) });
    (scene.now, scene.facts.window_is_open) = (opens, true);
    let done = scene.up_to(Step::UpgradeProduction);
    assert_eq!(done.last(), Some(&Step::GateProduction));
    assert_eq!(scene.state(), State::UpgradingProduction);
    assert!(scene.upgrade.writers_are_stopped() && !scene.upgrade.has_touched_production());
    scene.succeed();
    assert_eq!(scene.state(), State::Verifying);
    assert!(matches!(scene.upgrade.production(), Production::InDoubt { .. }));
    assert_eq!(scene.up_to_rest(), [Step::Verify, Step::MaintenanceOff]);
    assert_eq!((scene.state(), scene.waits_for()), (State::Provisional, Waiting::CommitWindow));
    let target = scene.upgrade.plan().target().clone();
    assert_eq!(scene.upgrade.production(), &Production::Runs(target));
}

#[test]
fn it_is_committed_after_the_window_and_only_while_production_is_healthy() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::MaintenanceOff);
    scene.succeed();
    scene.facts.production_is_healthy = false;
    scene.pass(7 * 24 * HOUR);
    assert_eq!((scene.state(), scene.waits_for()), (State::Provisional, Waiting::Health));
    scene.facts.production_is_healthy = true;
    assert_eq!(scene.fail(), Step::Commit);
    assert_eq!((scene.state(), scene.waits_for()), (State::Provisional, Waiting::Retry));
    scene.pass(HOUR);
    assert_eq!(scene.succeed(), Step::Commit);
    assert_eq!((scene.state(), scene.waits_for()), (State::Committed, Waiting::Release));
    scene.pass((30 * 24 * HOUR).checked_sub(Duration::from_secs(1)).unwrap());
    assert_eq!(scene.waits_for(), Waiting::Release);
    scene.pass(Duration::from_secs(1));
    assert_eq!(scene.succeed(), Step::ReleasePins);
    assert_eq!(scene.next(), Decision::Ended(State::Committed));
}

#[test]
fn what_is_not_configured_is_not_waited_for_nor_done() {
    let mut scene = Scene::new(|plan| {
        let terms = &mut plan.terms;
        (terms.soak, terms.maintenance, terms.copy_volumes) = (Duration::ZERO, false, false);
        terms.approvers.clear();
        terms.windows.clear();
    });
    scene.facts.window_is_open = false;
    let done = scene.up_to_rest();
    assert_eq!(scene.state(), State::Provisional);
    assert_eq!(done, steps(scene.upgrade.plan()));
    for step in
        [Step::TestStagingAgain, Step::MaintenanceOn, Step::MaintenanceOff, Step::CopyVolumes]
    {
        assert!(!done.contains(&step), "{step}");
    }
}

#[test]
fn a_staging_that_fails_is_put_back_and_production_stays_as_it_is() {
    for failing in [Step::UpgradeStaging, Step::TestStaging, Step::TestStagingAgain] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(failing);
        scene.fail();
        assert_eq!(scene.state(), State::Aborting, "{failing}");
        let back = scene.up_to_rest();
        assert_eq!(back, [Step::SaveStaging, Step::PutBackStaging, Step::TestStagingBack]);
        assert_eq!(scene.state(), State::Aborted);
        assert_eq!(scene.upgrade.cause().map(|cause| cause.step), Some(failing));
        assert!(!scene.upgrade.has_touched_production());
    }
}

#[test]
fn what_fails_is_held_where_that_is_asked_for() {
    for (failing, then) in [
        (Step::TestStaging, Step::TestStaging),
        (Step::UpgradeProduction, Step::UpgradeProduction),
        (Step::Verify, Step::Verify),
    ] {
        let mut scene = Scene::new(|plan| plan.terms.on_failure = OnFailure::Hold);
        scene.up_to(failing);
        scene.fail();
        assert_eq!((scene.state(), scene.waits_for()), (State::Held, Waiting::Person), "{failing}");
        assert_eq!(scene.upgrade.trouble().unwrap().why, "the disk is full");
        scene.ask(Request::Resume).unwrap();
        assert_eq!(scene.next_step(), then);
    }
}

#[test]
fn what_fails_before_production_is_touched_lets_it_go_on_and_is_held() {
    for failing in [
        Step::MaintenanceOn,
        Step::StopWriters,
        Step::BackUpStopped,
        Step::PinLast,
        Step::GateProduction,
    ] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(failing);
        scene.fail();
        assert_eq!(scene.state(), State::StandingDown, "{failing}");
        let back = scene.up_to_rest();
        assert_eq!(back.last(), Some(&Step::EndMaintenance));
        assert_eq!(back.contains(&Step::ResumeWriters), failing != Step::MaintenanceOn);
        assert_eq!(scene.state(), State::Held);
        assert_eq!(scene.upgrade.trouble().unwrap().step, failing);
        assert!(!scene.upgrade.writers_are_stopped() && !scene.upgrade.users_are_kept_out());
        scene.ask(Request::Resume).unwrap();
        assert_eq!(scene.next_step(), Step::BackUpStagingAgain);
        scene.up_to(Step::Verify);
    }
}

#[test]
fn an_upgrade_of_production_that_changed_nothing_needs_no_rollback() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::UpgradeProduction);
    let step = scene.begin();
    assert!(scene.upgrade.has_touched_production());
    scene.fail_begun(step, true);
    assert_eq!(scene.up_to_rest(), [Step::ResumeWriters, Step::EndMaintenance]);
    assert_eq!(scene.state(), State::Held);
    let from = scene.upgrade.hop().from.clone();
    assert_eq!(scene.upgrade.production(), &Production::Runs(from));
    scene.ask(Request::Abort { keep_staging: true }).unwrap();
    assert_eq!((scene.up_to_rest(), scene.state()), (vec![], State::Aborted));
}

#[test]
fn a_production_that_fails_gets_its_old_version_back() {
    for failing in [Step::UpgradeProduction, Step::Verify] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(failing);
        scene.fail();
        assert_eq!(scene.state(), State::RollingBack, "{failing}");
        let back = scene.up_to_rest();
        let expected = [
            Step::KeepUsersOut,
            Step::StopProduction,
            Step::SaveProduction,
            Step::PutBackProduction,
            Step::StartBack,
            Step::VerifyBack,
            Step::LetUsersIn,
        ];
        assert_eq!(back, expected);
        assert_eq!((scene.state(), scene.waits_for()), (State::RolledBack, Waiting::Release));
        let from = scene.upgrade.hop().from.clone();
        assert_eq!(scene.upgrade.production(), &Production::Runs(from));
        assert_eq!(scene.upgrade.cause().map(|cause| cause.step), Some(failing));
    }
}

#[test]
fn a_way_back_is_tried_again_by_itself_and_then_held() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Verify);
    scene.fail();
    scene.up_to(Step::PutBackProduction);
    for delay in RETRIES {
        assert_eq!(scene.fail(), Step::PutBackProduction);
        assert_eq!((scene.state(), scene.waits_for()), (State::RollingBack, Waiting::Retry));
        scene.pass(delay);
    }
    assert_eq!(scene.fail(), Step::PutBackProduction);
    assert_eq!((scene.state(), scene.waits_for()), (State::Held, Waiting::Person));
    assert!(matches!(scene.upgrade.production(), Production::InDoubt { .. }));
    scene.ask(Request::Resume).unwrap();
    assert_eq!(scene.next_step(), Step::PutBackProduction);
    // Or all of it once more.
    scene.fail();
    scene.ask(Request::RollBack { discard_current: false }).unwrap();
    assert_eq!(scene.next_step(), Step::KeepUsersOut);
    scene.up_to_rest();
    assert_eq!(scene.state(), State::RolledBack);
}

#[test]
fn a_rollback_does_not_wait_for_users_to_be_kept_out() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Verify);
    scene.fail();
    assert_eq!(scene.fail(), Step::KeepUsersOut);
    assert_eq!(scene.next_step(), Step::StopProduction);
    assert_eq!(scene.up_to_rest().last(), Some(&Step::LetUsersIn), "it may have been done");
}

#[test]
fn a_gate_that_closes_behind_stopped_writers_lets_them_go_on() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::GateProduction);
    scene.begin();
    let opens = later(scene.now, 20 * HOUR);
    scene.close(Gate::Production, &[(RuleName::Window, Some(opens))]);
    assert_eq!(scene.state(), State::StandingDown);
    assert_eq!(scene.up_to_rest(), [Step::ResumeWriters, Step::EndMaintenance]);
    assert_eq!(scene.state(), State::GateClosed);
    assert_eq!(scene.next(), Decision::Wait { waiting: Waiting::Gate, until: Some(opens) });
    scene.now = opens;
    assert_eq!(scene.next_step(), Step::BackUpStagingAgain);
    scene.up_to(Step::Verify);
}

#[test]
fn a_closed_gate_waits_for_time_only_where_time_alone_opens_it() {
    for (rules, goes_on_with) in [
        (vec![RuleName::Room], Step::BackUpStagingAgain),
        (vec![RuleName::Images], Step::PullProduction),
        (vec![RuleName::StagingTested, RuleName::Room], Step::PullStaging),
        (vec![RuleName::StagingFirst], Step::PullStaging),
        (vec![RuleName::Soaked], Step::TestStagingAgain),
    ] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(Step::GateBeforeStop);
        scene.begin();
        let rules: Vec<_> = rules.into_iter().map(|rule| (rule, None)).collect();
        scene.close(Gate::BeforeStop, &rules);
        assert_eq!(scene.next(), Decision::Wait { waiting: Waiting::Gate, until: None });
        assert!(!scene.upgrade.writers_are_stopped());
        scene.ask(Request::Resume).unwrap();
        assert_eq!(scene.next_step(), goes_on_with, "{rules:?}");
    }
}

#[test]
fn a_gate_is_not_asked_again_at_once_whatever_the_rules_say_of_the_time() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::GateBeforeStop);
    scene.begin();
    scene.close(Gate::BeforeStop, &[(RuleName::Window, Some(scene.now))]);
    assert_eq!(scene.waits_for(), Waiting::Gate);
    scene.pass(Duration::from_mins(1));
    assert_eq!(scene.next_step(), Step::BackUpStagingAgain);
}

#[test]
fn each_hop_goes_through_all_of_it_and_a_rollback_takes_back_one() {
    let mut scene = Scene::new(|plan| *plan = crate::model::upgrade::tests::plan());
    let first = scene.up_to(Step::MaintenanceOff);
    scene.succeed();
    assert_eq!((scene.upgrade.hop_number(), scene.next_step()), (1, Step::PullStaging));
    assert!(!scene.upgrade.has_touched_production());
    let second = scene.up_to(Step::MaintenanceOff);
    assert_eq!(first, second);
    scene.succeed();
    assert_eq!(scene.state(), State::Provisional);
    scene.ask(Request::RollBack { discard_current: false }).unwrap();
    scene.up_to_rest();
    let middle = "v1.99".parse().unwrap();
    assert_eq!(scene.upgrade.production(), &Production::Runs(middle));
}
