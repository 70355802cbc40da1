//! Each rule passes, fails, and is overridden where that may be.

use super::*;
use crate::model::id::{InstanceId, SnapshotId};
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{OnFailure, Overridable, Side, Terms};
use crate::model::version::{Edition, Version};
use crate::platform::recipe::Recipe;
use crate::policy::readable::Readability;
use crate::upgrade::words::later;

mod unread;
mod ways;

use ways::{Spoilt, production_snapshot, staging_snapshot, ways};

const HOUR: Duration = Duration::from_hours(1);
const OLD_IMAGE: &str = "sha256:00001111222233334444";
const NEW_IMAGE: &str = "sha256:aaaabbbbccccddddeeee";
const OTHER_IMAGE: &str = "sha256:ffffffffffffffffffff";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    at("2026-11-21T02:00:00Z")
}

fn before(hours: u64) -> Timestamp {
    now().checked_sub(HOUR * u32::try_from(hours).unwrap()).unwrap()
}

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

/// Everything that a look at the gate is made of, so that a test can spoil one thing.
#[derive(Clone)]
struct Scene {
    gate: Gate,
    plan: Plan,
    seen: Seen,
    tested: Option<Tested>,
    approvals: Vec<Approval>,
    overrides: Vec<Override>,
    now: Timestamp,
}

fn plan() -> Plan {
    let side = |number, name: &str| Side {
        id: InstanceId([number; 16]),
        name: name.parse().unwrap(),
        version: version("v2.4.3"),
    };
    let hop = |from, to| Hop { from: version(from), to: version(to), why: None };
    Plan {
        pair: "main".parse().unwrap(),
        staging: side(1, "staging"),
        production: side(2, "production"),
        platform: "appsmith".to_owned(),
        edition: Some(Edition::Community),
        hops: vec![hop("v2.4.3", "v2.5.1"), hop("v2.5.1", "v2.7.1")],
        terms: Terms {
            fresh: 2 * HOUR,
            soak: HOUR,
            windows: vec!["Sat 01:00-05:00".to_owned()],
            approvers: vec!["alice".to_owned(), "bob".to_owned()],
            on_failure: OnFailure::Rollback,
            maintenance: true,
            copy_volumes: true,
            drilled: Some(30 * 24 * HOUR),
            commit_after: 7 * 24 * HOUR,
        },
    }
}

fn snapshot(number: u8, hours: u64) -> SnapshotSeen {
    SnapshotSeen {
        id: SnapshotId([number; 32]),
        time: before(hours),
        is_sealed: true,
        is_whole: true,
        is_of_one_moment: true,
        key_fit: KeyFit::Fit,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "as it stands in what is seen")]
fn runs(text: &str, image: &str) -> Option<Running> {
    let edition = Some(Edition::Community);
    Some(Running { version: version(text), edition, image: Some(image.to_owned()) })
}

#[expect(clippy::unnecessary_wraps, reason = "as it stands in what is seen")]
fn images() -> Option<Images> {
    Some(Images { old: Some(OLD_IMAGE.to_owned()), new: Some(NEW_IMAGE.to_owned()) })
}

/// A gate that is open, by every rule.
fn open(gate: Gate) -> Scene {
    let plan = plan();
    let approval = Approval {
        hop: 0,
        plan: plan.digest(),
        by: "bob".to_owned(),
        reason: Some("fine".to_owned()),
    };
    let is_before = gate == Gate::Staging;
    let staging = InstanceSeen {
        running: if is_before { runs("v2.4.3", OLD_IMAGE) } else { runs("v2.5.1", NEW_IMAGE) },
        snapshot: Some(snapshot(1, 1)),
        stopped_since: None,
        images: images(),
    };
    let production = InstanceSeen {
        running: runs("v2.4.3", OLD_IMAGE),
        snapshot: Some(snapshot(2, 0)),
        stopped_since: (gate == Gate::Production).then(|| before(0)),
        images: images(),
    };
    let room = Room {
        environment: Environment::Production,
        what: "a copy of the volumes".to_owned(),
        place: "/srv/appsmith".to_owned(),
        needed_bytes: 5 << 30,
        free_bytes: Some(20 << 30),
    };
    let app = App { name: "orders: Orders".to_owned(), readability: Readability::Readable };
    let seen = Seen {
        staging,
        production,
        checkpoints: Recipe::of(crate::config::Platform::Appsmith).checkpoints,
        room: vec![room],
        way_back: Vec::new(),
        window: Some(Window { is_open: true, opens_at: None }),
        apps: vec![app],
        drill: Some(Drill { at: before(48), passed: true }),
        unread: Vec::new(),
    };
    let image = Some(NEW_IMAGE.to_owned());
    let tested = Tested { version: version("v2.5.1"), image, first: before(5), last: before(3) };
    Scene {
        gate,
        plan,
        seen,
        tested: (!is_before).then_some(tested),
        approvals: vec![approval],
        overrides: Vec::new(),
        now: now(),
    }
}

impl Scene {
    fn judge(&self) -> Vec<RuleResult> {
        judge(&Case {
            gate: self.gate,
            plan: &self.plan,
            hop: 0,
            seen: &self.seen,
            tested: self.tested.as_ref(),
            approvals: &self.approvals,
            overrides: &self.overrides,
            now: self.now,
        })
    }

    fn with(mut self, spoil: impl FnOnce(&mut Self)) -> Self {
        spoil(&mut self);
        self
    }
}

fn result(results: Vec<RuleResult>, rule: RuleName) -> RuleResult {
    results.into_iter().find(|result| result.rule == rule).unwrap()
}

#[test]
fn a_pair_that_meets_every_rule_may_go_on() {
    for gate in [Gate::Staging, Gate::BeforeStop, Gate::Production] {
        let results = open(gate).judge();
        let rules: Vec<RuleName> = results.iter().map(|result| result.rule).collect();
        assert_eq!(rules, RuleName::ALL);
        for result in &results {
            let asked = gate.environment() == Environment::Production
                || !matches!(
                    result.rule,
                    RuleName::StagingFirst
                        | RuleName::StagingTested
                        | RuleName::Soaked
                        | RuleName::Approved
                        | RuleName::Window
                );
            let expected = if asked { Verdict::Pass } else { Verdict::NotApplicable };
            assert_eq!(result.verdict, expected, "{gate:?}: {result:?}");
            assert!(!result.evidence.is_empty(), "{gate:?}: {result:?}");
            assert_eq!(result.needed, None);
        }
        assert!(is_open(&results));
    }
}

#[test]
fn each_rule_alone_closes_the_gate_and_says_what_it_needs() {
    for Spoilt { gate, rule, what, spoil, needs } in ways() {
        let results = open(gate).with(spoil).judge();
        assert!(!is_open(&results), "{rule} ({what})");
        let closing: Vec<RuleName> =
            results.iter().filter(|result| result.closes()).map(|result| result.rule).collect();
        assert_eq!(closing, [rule], "{what}: {results:#?}");
        let needed = result(results, rule).needed.unwrap();
        assert!(needed.contains(needs), "{rule} ({what}): {needed}");
    }
    for rule in RuleName::ALL {
        assert!(ways().iter().any(|way| way.rule == rule), "{rule} has no way to fail");
    }
}

#[test]
fn each_rule_that_may_be_overridden_opens_the_gate_again_and_stays_visible() {
    for Spoilt { gate, rule, what, spoil, .. } in ways() {
        let Ok(overridable) = Overridable::try_from(rule) else { continue };
        let told = Override {
            hop: 0,
            rule: overridable,
            reason: "the disk grows tonight".to_owned(),
            by: "alice".to_owned(),
        };
        let results = open(gate).with(spoil).with(|it| it.overrides.push(told.clone())).judge();
        assert!(is_open(&results), "{rule} ({what}): {results:#?}");
        let overridden = result(results, rule);
        assert_eq!(overridden.verdict, Verdict::Overridden);
        assert_eq!(overridden.overridden.as_ref(), Some(&told));
        assert!(overridden.needed.is_some(), "what it would need stays visible");
        // In another hop it has to be said again.
        let other = Override { hop: 1, ..told };
        assert!(!is_open(&open(gate).with(spoil).with(|it| it.overrides.push(other)).judge()));
    }
}

#[test]
fn an_override_of_one_rule_is_none_of_another() {
    let all: Vec<Override> = Overridable::ALL
        .into_iter()
        .map(|rule| Override { hop: 0, rule, reason: "all".to_owned(), by: "alice".to_owned() })
        .collect();
    for Spoilt { gate, rule, what, spoil, .. } in ways() {
        let mut overrides = all.clone();
        overrides.retain(|it| RuleName::from(it.rule) != rule);
        let results = open(gate).with(spoil).with(|it| it.overrides = overrides).judge();
        assert!(!is_open(&results), "{rule} ({what})");
    }
}

#[test]
fn an_override_where_the_rule_passes_is_not_needed() {
    let told = Override {
        hop: 0,
        rule: Overridable::Window,
        reason: "now".to_owned(),
        by: "alice".to_owned(),
    };
    let results = open(Gate::Production).with(|it| it.overrides.push(told)).judge();
    assert_eq!(result(results, RuleName::Window).verdict, Verdict::Pass);
}

#[test]
fn without_any_snapshot_three_rules_say_no() {
    let results = open(Gate::Staging).with(|it| it.seen.production.snapshot = None).judge();
    for rule in [RuleName::BothBackedUp, RuleName::Fresh, RuleName::KeyFit] {
        let result = result(results.clone(), rule);
        let needed = "back up production (`belay backup production`)";
        assert_eq!(result.needed.as_deref(), Some(needed), "{rule}");
    }
}

#[test]
fn nothing_is_asked_for_that_is_not_configured() {
    let results = open(Gate::Production)
        .with(|it| {
            let terms = &mut it.plan.terms;
            (terms.soak, terms.drilled) = (Duration::ZERO, None);
            terms.approvers.clear();
            terms.windows.clear();
            it.approvals.clear();
            it.seen.window = None;
            it.seen.drill = None;
            it.seen.room.clear();
            it.seen.apps.clear();
            for instance in [&mut it.seen.staging, &mut it.seen.production] {
                instance.images = None;
                instance.running.as_mut().unwrap().image = None;
            }
            it.tested.as_mut().unwrap().image = None;
        })
        .judge();
    for rule in [
        RuleName::Room,
        RuleName::Images,
        RuleName::Soaked,
        RuleName::Approved,
        RuleName::Window,
        RuleName::AppsReadable,
        RuleName::Drilled,
    ] {
        assert_eq!(result(results.clone(), rule).verdict, Verdict::NotApplicable, "{rule}");
    }
    assert!(is_open(&results));
}

#[test]
fn what_time_alone_mends_says_when() {
    let results = open(Gate::BeforeStop)
        .with(|it| it.tested.as_mut().unwrap().first = now())
        .with(|it| {
            it.seen.window = Some(Window { is_open: false, opens_at: Some(later(now(), HOUR)) });
        })
        .judge();
    for rule in [RuleName::Soaked, RuleName::Window] {
        assert_eq!(result(results.clone(), rule).passes_at, Some(later(now(), HOUR)), "{rule}");
    }
    let other = open(Gate::BeforeStop).with(|it| it.approvals.clear()).judge();
    assert_eq!(result(other, RuleName::Approved).passes_at, None);
}

#[test]
fn at_the_last_gate_stagings_snapshot_may_be_as_old_as_productions_backup_took_long() {
    // Production's backup took five hours, with its writers stopped all along.
    let scene = open(Gate::Production).with(|it| {
        production_snapshot(it).time = before(5);
        it.seen.production.stopped_since = Some(before(5));
        staging_snapshot(it).time = before(6);
        it.tested.as_mut().unwrap().first = before(9);
        it.tested.as_mut().unwrap().last = before(7);
    });
    assert!(is_open(&scene.judge()), "{:#?}", scene.judge());
    let older = scene.with(|it| staging_snapshot(it).time = before(8)).judge();
    assert!(result(older, RuleName::Fresh).closes());
}

#[test]
fn a_production_that_no_longer_runs_what_the_plan_says_needs_another_plan() {
    for running in ["v2.4.2", "v2.5.1", "v2.7.1"] {
        for gate in [Gate::Staging, Gate::BeforeStop, Gate::Production] {
            let results =
                open(gate).with(|it| it.seen.production.running = runs(running, OLD_IMAGE)).judge();
            let path = result(results, RuleName::Path);
            assert!(path.needed.unwrap().contains("runs v2.4.3"), "{running}");
        }
    }
}

#[test]
fn staging_that_runs_the_target_already_is_no_hindrance() {
    let scene = open(Gate::Staging).with(|it| it.seen.staging.running = runs("v2.5.1", NEW_IMAGE));
    assert!(is_open(&scene.judge()));
}
