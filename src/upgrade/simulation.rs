//! Upgrades in a fake world, by the hundred thousand: steps fail, before, halfway or after they were done; the power goes at any
//! write and within any step; clocks are set; servers change behind Belay's back; people say anything at any time.
//!
//! What must hold is asked of what is really so (`truth`), never of the machine: production is touched only under the conditions
//! of promise 3; whenever nothing runs, a production that is neither old nor new is marked so in the journal that is durable, and
//! so is one whose writers or users are kept out; what comes back has all that was written. In the end the world calms down, and a
//! person who acts sensibly gets every upgrade to its end.

mod people;
mod truth;
mod world;

use super::machine::{Command, Production, State, Upgrade, Waiting, What};
use super::runner::{Rest, Runner, Stopped};
use crate::model::id::{InstanceId, UpgradeId};
use crate::model::upgrade::{
    Entry, Hop, Journal, OnFailure, Plan, Record, Request, Side, Step, Terms,
};
use jiff::Timestamp;
use people::APPROVERS;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use truth::{DAY, HOUR, MINUTE, Random};
use world::Fake;

const VERSIONS: [&str; 3] = ["v2.4.3", "v2.5.1", "v2.7.1"];
const RUNS: u64 = 100_000;
/// So many are looked at one after the other by one thread.
const CHUNK: u64 = 500;

/// How often things go wrong, of a thousand times.
#[derive(Clone, Copy)]
struct Temper {
    crashes: u64,
    failures: u64,
    drifts: u64,
    commands: u64,
}

impl Temper {
    const CALM: Self = Self { crashes: 0, failures: 0, drifts: 0, commands: 0 };

    fn new(random: &mut Random) -> Self {
        Self {
            crashes: random.pick(&[0, 3, 20, 80]),
            failures: random.pick(&[0, 0, 20, 120]),
            drifts: random.pick(&[0, 0, 10, 60]),
            commands: random.pick(&[0, 0, 10, 80]),
        }
    }
}

/// Which plan it is.
#[derive(Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "each may be configured without the others")]
struct PlanOf {
    hops: usize,
    fresh: i64,
    soak: i64,
    has_window: bool,
    has_approvers: bool,
    maintenance: bool,
    copy_volumes: bool,
    on_failure: OnFailure,
}

impl PlanOf {
    fn new(random: &mut Random) -> Self {
        Self {
            hops: random.pick(&[1, 1, 2]),
            fresh: random.pick(&[2 * HOUR, 3 * HOUR]),
            soak: random.pick(&[0, 30 * MINUTE, 20 * HOUR]),
            has_window: random.per_mille(500),
            has_approvers: random.per_mille(500),
            maintenance: random.per_mille(500),
            copy_volumes: random.per_mille(500),
            on_failure: random.pick(&[OnFailure::Rollback, OnFailure::Rollback, OnFailure::Hold]),
        }
    }

    fn plan(&self) -> Plan {
        let version = |number: usize| VERSIONS[number].parse().unwrap();
        let side = |number, name: &str| Side {
            id: InstanceId([number; 16]),
            name: name.parse().unwrap(),
            version: version(0),
        };
        let hop = |number| Hop { from: version(number), to: version(number + 1), why: None };
        let seconds = |seconds: i64| Duration::from_secs(seconds.unsigned_abs());
        Plan {
            pair: "main".parse().unwrap(),
            staging: side(1, "staging"),
            production: side(2, "production"),
            platform: "appsmith".to_owned(),
            edition: None,
            hops: (0..self.hops).map(hop).collect(),
            terms: Terms {
                fresh: seconds(self.fresh),
                soak: seconds(self.soak),
                windows: if self.has_window { vec!["01:00-05:00".to_owned()] } else { Vec::new() },
                approvers: if self.has_approvers {
                    APPROVERS.map(str::to_owned).to_vec()
                } else {
                    Vec::new()
                },
                on_failure: self.on_failure,
                maintenance: self.maintenance,
                copy_volumes: self.copy_volumes,
                drilled: None,
                commit_after: seconds(7 * DAY),
            },
        }
    }

    fn journal(&self) -> Journal {
        Journal::new(UpgradeId([1; 8]), self.plan(), Timestamp::UNIX_EPOCH, "alice".to_owned())
    }
}

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    crashes: u64,
    touched: u64,
    held: u64,
    gate_closed: u64,
    heard: u64,
    refused: u64,
    overridden: u64,
    committed: u64,
    aborted: u64,
    rolled_back: u64,
    second_hops: u64,
    records: u64,
}

impl Tally {
    fn heard(&mut self, command: &Command, is_heard: bool) {
        if is_heard {
            self.heard += 1;
            self.overridden += u64::from(matches!(command.what, What::Override(_)));
        } else {
            self.refused += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.touched += other.touched;
        self.held += other.held;
        self.gate_closed += other.gate_closed;
        self.heard += other.heard;
        self.refused += other.refused;
        self.overridden += other.overridden;
        self.committed += other.committed;
        self.aborted += other.aborted;
        self.rolled_back += other.rolled_back;
        self.second_hops += other.second_hops;
        self.records += other.records;
    }
}

/// Production as it is, and as the durable journal says.
fn assert_marked(fake: &Fake, upgrade: &Upgrade) {
    let production = &fake.truth.production;
    let hop = upgrade.hop_number();
    if let Production::Runs(version) = upgrade.production() {
        // Somebody else may have changed its version before it was touched; half of one is Belay's doing only.
        assert!(!production.half, "half of a version, and not marked");
        if upgrade.has_touched_production() {
            assert_eq!(version.to_string(), VERSIONS[production.version]);
        }
    } else {
        assert!(upgrade.has_touched_production());
    }
    let in_doubt = matches!(upgrade.production(), Production::InDoubt { .. });
    let is_marked = in_doubt || upgrade.writers_are_stopped();
    assert!(production.writers || is_marked, "stopped, and not marked, in hop {hop}");
    assert!(!production.users_kept_out || upgrade.users_are_kept_out(), "closed, and not marked");
}

/// Nothing more will be done: what must be so.
fn assert_over(fake: &Fake, upgrade: &Upgrade, state: State) {
    let (truth, hop) = (&fake.truth, upgrade.hop_number());
    let production = &truth.production;
    assert!(production.writers && !production.users_kept_out, "{state}: {production:?}");
    match state {
        State::Committed => {
            assert!(production.is_good(fake.of.hops), "{production:?}");
            assert_eq!(upgrade.production(), &Production::Runs(upgrade.plan().target().clone()));
        }
        State::RolledBack => assert!(production.is_good(hop), "{production:?}"),
        State::Aborted => {
            assert!(!upgrade.has_touched_production());
            assert!(production.works && !production.half, "{production:?}");
        }
        other => panic!("{other} is no end"),
    }
}

/// What a sensible person does when it is a person's turn.
fn act_sensibly(fake: &mut Fake, upgrade: &Upgrade, waiting: Waiting, turns: u32) {
    let possible = upgrade.possible();
    match waiting {
        Waiting::Approval => {
            let digest = upgrade.plan().digest();
            fake.people.approve("bob", digest, digest);
        }
        Waiting::Health => fake.truth.ill = false,
        Waiting::Gate | Waiting::Person => {
            assert!(!possible.is_empty(), "it is a person's turn, and there is nothing to say");
            // Once more, then back.
            let resume = possible.contains(&Request::Resume) && turns.is_multiple_of(3);
            let request = if resume { Request::Resume } else { way_out(&possible) };
            fake.people.ask(request);
        }
        _ => {}
    }
}

/// The change of course that ends it soonest.
fn way_out(possible: &[Request]) -> Request {
    let has = |request| possible.contains(&request);
    let abort = Request::Abort { keep_staging: false };
    let back = Request::RollBack { discard_current: false };
    [abort, back, Request::Resume].into_iter().find(|request| has(*request)).unwrap_or(possible[0])
}

/// One upgrade from its plan to its end.
fn live(fake: &mut Fake) -> Tally {
    let stormy = fake.random.below(12);
    let mut rests = 0;
    let mut turns = 0;
    for process in 0_u64.. {
        assert!(process < 200, "it does not come to an end");
        if process == 10 + stormy {
            fake.calm_down();
        }
        let upgrade = Upgrade::replay(fake.durable.clone()).unwrap();
        assert_marked(fake, &upgrade);
        let Ok(mut runner) = Runner::take_up(upgrade, &mut *fake) else {
            fake.reboot();
            continue;
        };
        loop {
            let rest = match runner.run() {
                Ok(rest) => rest,
                Err(Stopped::Misfit(misfit)) => panic!("{misfit}"),
                Err(_) => break,
            };
            let (upgrade, fake) = runner.parts();
            let fake = &mut **fake;
            assert_marked(fake, upgrade);
            let (waiting, until) = match rest {
                Rest::Waits { waiting, until } => (waiting, until),
                Rest::Ended(state) => return end(fake, upgrade, state),
            };
            if upgrade.state().is_over() {
                assert_over(fake, upgrade, upgrade.state());
            }
            rests += 1;
            assert!(rests < 2_000, "it does not come to an end");
            if rests == 60 {
                fake.calm_down();
            }
            fake.tally.held += u64::from(waiting == Waiting::Person);
            fake.tally.gate_closed += u64::from(waiting == Waiting::Gate);
            let is_calm = fake.temper.crashes + fake.temper.failures == 0;
            if is_calm || fake.random.per_mille(600) {
                act_sensibly(fake, upgrade, waiting, turns);
                turns += 1;
            }
            let now = fake.truth.now();
            let wait = until.map_or(10 * MINUTE, |until| until.duration_since(now).as_secs());
            let early = !is_calm && fake.random.per_mille(200);
            fake.truth.pass(if early { wait / 2 } else { wait }.max(1));
            if fake.random.per_mille(fake.temper.crashes) {
                break;
            }
        }
        fake.reboot();
    }
    unreachable!("the loop has no other end")
}

fn end(fake: &mut Fake, upgrade: &Upgrade, state: State) -> Tally {
    assert_over(fake, upgrade, state);
    let tally = &mut fake.tally;
    match state {
        State::Committed => tally.committed += 1,
        State::Aborted => tally.aborted += 1,
        _ => tally.rolled_back += 1,
    }
    tally.second_hops += u64::from(upgrade.hop_number() == 1);
    tally.records += upgrade.journal().records.len() as u64;
    *tally
}

/// How it went, up to its end.
fn told(journal: &Journal) -> String {
    let lines = journal.records.iter().rev().take(40).rev().map(|record| {
        let Record { number, at, entry } = record;
        let what = match entry {
            Entry::Judged { results, .. } => {
                let closing = results.iter().filter(|result| result.closes());
                closing.map(|result| result.rule.as_str()).collect::<Vec<_>>().join(" ")
            }
            Entry::Failed { why, .. } => why.clone(),
            Entry::Asked { request, by, .. } => format!("{request:?} by {by}"),
            _ => String::new(),
        };
        let step = entry.step().map(Step::as_str).unwrap_or_default();
        format!("{number:>4} {at} {} {step} {what}", entry.kind())
    });
    let lines: Vec<String> = lines.collect();
    format!("{:?}\n{}", journal.plan.terms, lines.join("\n"))
}

/// All seeds of a range, each told when it fails.
fn live_all(seeds: std::ops::Range<u64>) -> Tally {
    let mut all = Tally::default();
    for seed in seeds {
        let mut fake = Fake::new(seed);
        let lived = catch_unwind(AssertUnwindSafe(|| live(&mut fake)));
        all.add(&lived.unwrap_or_else(|_| {
            panic!("the upgrade of seed {seed} went wrong: {}", told(&fake.durable))
        }));
    }
    all
}

#[test]
fn a_hundred_thousand_upgrades_keep_the_promises() {
    let next = std::sync::atomic::AtomicU64::new(0);
    let work = || {
        let mut all = Tally::default();
        loop {
            let first = next.fetch_add(CHUNK, std::sync::atomic::Ordering::Relaxed);
            if first >= RUNS {
                return all;
            }
            all.add(&live_all(first..first + CHUNK));
        }
    };
    let tally = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(work));
        let mut all = Tally::default();
        for thread in threads {
            all.add(&thread.join().unwrap());
        }
        all
    });
    // Each thing that can happen did happen, and often enough to mean something.
    assert_eq!(tally.committed + tally.aborted + tally.rolled_back, RUNS, "{tally:?}");
    assert!(tally.committed > RUNS / 10 && tally.aborted > RUNS / 10, "{tally:?}");
    assert!(tally.rolled_back > RUNS / 20 && tally.second_hops > RUNS / 20, "{tally:?}");
    assert!(tally.crashes > RUNS && tally.touched > RUNS / 4, "{tally:?}");
    assert!(tally.held > RUNS / 10 && tally.gate_closed > RUNS / 10, "{tally:?}");
    assert!(tally.heard > RUNS / 4 && tally.refused > RUNS / 4, "{tally:?}");
    assert!(tally.overridden > RUNS / 50, "{tally:?}");
}

#[test]
fn the_same_seed_is_the_same_upgrade() {
    let lived = || {
        let mut fake = Fake::new(7);
        (format!("{:?}", live(&mut fake)), told(&fake.durable))
    };
    assert_eq!(lived(), lived());
}
