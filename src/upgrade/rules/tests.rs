//! Each rule passes, fails, and is overridden where that may be.

mod unread;

use super::*;
use crate::model::id::{InstanceId, Sha256, SnapshotId};
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{OnFailure, Overridable, Side, Terms};
use crate::model::version::{Edition, Version};
use crate::platform::recipe::Recipe;
use crate::policy::readable::Readability;
use crate::upgrade::words::later;

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

fn runs(text: &str, image: &str) -> Option<Running> {
    let edition = Some(Edition::Community);
    Some(Running { version: version(text), edition, image: Some(image.to_owned()) })
}

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

/// One way to spoil an open gate, and which rule alone says no.
struct Spoilt {
    gate: Gate,
    rule: RuleName,
    what: &'static str,
    spoil: fn(&mut Scene),
    /// A part of what would make it pass.
    needs: &'static str,
}

const fn spoilt(
    gate: Gate,
    rule: RuleName,
    what: &'static str,
    spoil: fn(&mut Scene),
    needs: &'static str,
) -> Spoilt {
    Spoilt { gate, rule, what, spoil, needs }
}

fn staging_snapshot(scene: &mut Scene) -> &mut SnapshotSeen {
    scene.seen.staging.snapshot.as_mut().unwrap()
}

fn production_snapshot(scene: &mut Scene) -> &mut SnapshotSeen {
    scene.seen.production.snapshot.as_mut().unwrap()
}

fn ways_about_backups() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{BothBackedUp, Fresh, KeyFit as Fit};
    vec![
        spoilt(
            Staging,
            BothBackedUp,
            "not sealed",
            |it| staging_snapshot(it).is_sealed = false,
            "back up staging",
        ),
        spoilt(
            Production,
            BothBackedUp,
            "blobs gone",
            |it| production_snapshot(it).is_whole = false,
            "back up production",
        ),
        spoilt(
            BeforeStop,
            BothBackedUp,
            "production not sealed",
            |it| production_snapshot(it).is_sealed = false,
            "back up production",
        ),
        spoilt(
            Staging,
            BothBackedUp,
            "skewed",
            |it| production_snapshot(it).is_of_one_moment = false,
            "back up production with its writers stopped",
        ),
        spoilt(
            Staging,
            Fresh,
            "old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            BeforeStop,
            Fresh,
            "old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            Production,
            Fresh,
            "staging's is old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            Staging,
            Fresh,
            "from the future",
            |it| staging_snapshot(it).time = later(now(), HOUR),
            "set the clock right",
        ),
        spoilt(
            Production,
            Fresh,
            "writers never stopped",
            |it| it.seen.production.stopped_since = None,
            "back up production while its writers are stopped",
        ),
        spoilt(
            Production,
            Fresh,
            "writers ran in between",
            |it| production_snapshot(it).time = before(1),
            "back up production while its writers are stopped",
        ),
        spoilt(
            Production,
            Fresh,
            "production's is from the future",
            |it| production_snapshot(it).time = later(now(), HOUR),
            "back up production while its writers are stopped",
        ),
        spoilt(
            Staging,
            Fit,
            "other keys",
            |it| production_snapshot(it).key_fit = KeyFit::Unfit,
            "set production's own keys",
        ),
    ]
}

fn ways_about_versions() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{Images as Pictures, Path, Soaked, StagingFirst, StagingTested};
    vec![
        spoilt(
            Staging,
            Pictures,
            "not pulled",
            |it| it.seen.staging.images.as_mut().unwrap().new = None,
            "fetch the new image",
        ),
        spoilt(
            Production,
            Pictures,
            "no way back",
            |it| it.seen.production.images.as_mut().unwrap().old = None,
            "fetch the old image",
        ),
        spoilt(
            BeforeStop,
            Pictures,
            "another image under the same tag",
            |it| it.seen.production.images.as_mut().unwrap().new = Some(OTHER_IMAGE.to_owned()),
            "the very image that staging tried",
        ),
        spoilt(
            Staging,
            Path,
            "production moved on",
            |it| it.seen.production.running = runs("v2.4.4", OLD_IMAGE),
            "make a new plan",
        ),
        spoilt(
            Production,
            Path,
            "production is not to be told",
            |it| it.seen.production.running = None,
            "tells its version",
        ),
        spoilt(
            Staging,
            Path,
            "staging is newer",
            |it| it.seen.staging.running = runs("v2.6.0", NEW_IMAGE),
            "restore a snapshot",
        ),
        spoilt(
            Staging,
            Path,
            "staging is far behind",
            |it| it.seen.staging.running = runs("v1.50", OLD_IMAGE),
            "go to v1.99 first",
        ),
        spoilt(
            Staging,
            Path,
            "another edition",
            |it| it.plan.hops[0].to = version("v2.5.1-ee"),
            "a version of the edition that runs",
        ),
        spoilt(
            Production,
            StagingFirst,
            "staging was put back",
            |it| it.seen.staging.running = runs("v2.4.3", NEW_IMAGE),
            "upgrade staging to v2.5.1",
        ),
        spoilt(
            Production,
            StagingFirst,
            "another version than the target",
            |it| it.seen.staging.running = runs("v2.5.2", NEW_IMAGE),
            "upgrade staging to v2.5.1",
        ),
        spoilt(
            BeforeStop,
            StagingTested,
            "another image since",
            |it| it.seen.staging.running = runs("v2.5.1", OTHER_IMAGE),
            "upgraded and tested again",
        ),
        spoilt(
            Production,
            StagingTested,
            "tests of another version",
            |it| it.tested.as_mut().unwrap().version = version("v2.5.0"),
            "upgraded and tested again",
        ),
        spoilt(
            BeforeStop,
            Soaked,
            "not for long",
            |it| it.tested.as_mut().unwrap().first = now(),
            "wait until 2026-11-21T03:00:00Z",
        ),
        spoilt(
            Production,
            Soaked,
            "not tested at its end",
            |it| it.tested.as_mut().unwrap().first = before(3),
            "test staging again now",
        ),
        spoilt(
            Production,
            StagingTested,
            "expired",
            |it| {
                let tested = it.tested.as_mut().unwrap();
                (tested.first, tested.last) = (before(400), before(399));
            },
            "upgraded and tested again",
        ),
    ]
}

fn ways_about_conditions() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{Approved, AppsReadable, Drilled, Room as Space, Window as Time};
    vec![
        spoilt(
            Staging,
            Space,
            "full",
            |it| it.seen.room[0].free_bytes = Some(1 << 30),
            "free 4.0 GiB in /srv/appsmith of production",
        ),
        spoilt(
            Production,
            Space,
            "not to be told",
            |it| it.seen.room[0].free_bytes = None,
            "can be looked at",
        ),
        spoilt(
            Production,
            Approved,
            "nobody",
            |it| it.approvals.clear(),
            "one of alice, bob says `belay upgrade approve`",
        ),
        spoilt(
            Production,
            Approved,
            "the wrong name",
            |it| it.approvals[0].by = "eve".to_owned(),
            "one of alice, bob",
        ),
        spoilt(
            BeforeStop,
            Approved,
            "another plan",
            |it| it.approvals[0].plan = Sha256([0; 32]),
            "one of alice, bob",
        ),
        spoilt(
            BeforeStop,
            Approved,
            "another hop",
            |it| it.approvals[0].hop = 1,
            "one of alice, bob",
        ),
        spoilt(
            Production,
            Time,
            "closed",
            |it| {
                it.seen.window =
                    Some(Window { is_open: false, opens_at: Some(at("2026-11-28T00:00:00Z")) })
            },
            "wait until 2026-11-28T00:00:00Z",
        ),
        spoilt(
            BeforeStop,
            Time,
            "never",
            |it| it.seen.window = Some(Window { is_open: false, opens_at: None }),
            "opens some day",
        ),
        spoilt(Production, Time, "not to be told", |it| it.seen.window = None, "can be read"),
        spoilt(
            Staging,
            AppsReadable,
            "too new",
            |it| {
                it.seen.apps[0].readability =
                    Readability::NotReadable { reason: "schema 14".to_owned() }
            },
            "belay apps status",
        ),
        spoilt(
            Production,
            AppsReadable,
            "nobody knows",
            |it| {
                it.seen.apps[0].readability =
                    Readability::Unknown { reason: "no metadata".to_owned() }
            },
            "belay apps status",
        ),
        spoilt(Staging, Drilled, "never", |it| it.seen.drill = None, "be drilled"),
        spoilt(
            Production,
            Drilled,
            "failed",
            |it| it.seen.drill.as_mut().unwrap().passed = false,
            "be drilled",
        ),
        spoilt(
            Production,
            Drilled,
            "long ago",
            |it| it.seen.drill.as_mut().unwrap().at = before(24 * 31),
            "be drilled",
        ),
        spoilt(
            Production,
            Drilled,
            "in the future",
            |it| it.seen.drill.as_mut().unwrap().at = later(now(), HOUR),
            "be drilled",
        ),
    ]
}

fn ways() -> Vec<Spoilt> {
    let mut ways = ways_about_backups();
    ways.extend(ways_about_versions());
    ways.extend(ways_about_conditions());
    ways
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
            it.seen.window = Some(Window { is_open: false, opens_at: Some(later(now(), HOUR)) })
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
