//! The fake world: it does the steps, or fails, or the power goes, and it knows what must hold when production is touched.

use super::people::People;
use super::truth::{Flaw, HOUR, MINUTE, Random, Shot, Truth};
use super::{PlanOf, Temper, VERSIONS};
use crate::model::id::{Sha256, SnapshotId};
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{
    Entry, Environment, Gate, Journal, Outcome, Overridable, Record, Step,
};
use crate::model::version::Version;
use crate::upgrade::machine::{Command, Facts, Refusal, Upgrade};
use crate::upgrade::rules::{Images, InstanceSeen, Room, Running, Seen, SnapshotSeen, Window};
use crate::upgrade::runner::{Failure, World};
use jiff::Timestamp;

/// What becomes of a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Succeeds,
    Fails,
    FailsHalfway,
    FailsAtTheEnd,
    CutBefore,
    CutHalfway,
    CutAfter,
}

/// The journal could not be written: the process is gone.
#[derive(Debug)]
pub(super) struct Gone;

pub(super) struct Fake {
    pub(super) random: Random,
    pub(super) truth: Truth,
    pub(super) temper: Temper,
    pub(super) of: PlanOf,
    pub(super) people: People,
    /// What a new process would read.
    pub(super) durable: Journal,
    gone: bool,
    /// Of the plan.
    digest: Sha256,
    /// Which version does not work, where.
    pub(super) breaks_staging: [bool; 3],
    pub(super) breaks_production: [bool; 3],
    /// Staging passed its tests: when in truth, with which version, and which image.
    passed: Vec<(i64, usize, bool)>,
    /// What was saved of each server, before it is put back.
    saved_staging: Option<(usize, bool, u64)>,
    saved_production: Option<(usize, bool, u64)>,
    /// Production's data when this hop touched it.
    touched: Option<(usize, u64)>,
    /// It really was.
    is_changed: bool,
    /// Users have written to the new version, as they were let in.
    users_were_in: bool,
    pub(super) tally: super::Tally,
}

fn digest(version: usize, odd: bool) -> String {
    format!("sha256:{}{}", version, if odd { "odd" } else { "as published" })
}

fn fail<T>(why: &str) -> Result<T, Failure> {
    Err(Failure { why: why.to_owned(), hint: None, untouched: false })
}

impl Fake {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let temper = Temper::new(&mut random);
        let of = PlanOf::new(&mut random);
        let mut breaks = || [1, 2, 3].map(|_| random.per_mille(150));
        let (breaks_staging, breaks_production) = (breaks(), breaks());
        Self {
            truth: Truth::new(),
            people: People::new(),
            durable: of.journal(),
            temper,
            of,
            gone: false,
            digest: of.plan().digest(),
            breaks_staging,
            breaks_production,
            passed: Vec::new(),
            saved_staging: None,
            saved_production: None,
            touched: None,
            is_changed: false,
            users_were_in: false,
            tally: super::Tally::default(),
            random,
        }
    }

    /// From now on nothing fails any more but what is broken for good.
    pub(super) fn calm_down(&mut self) {
        self.temper = Temper::CALM;
        self.truth.set_clock(0);
        self.truth.room = true;
        self.truth.ill = false;
        self.people.queue.clear();
        for server in [&mut self.truth.staging, &mut self.truth.production] {
            server.keys_fit = true;
        }
    }

    /// The process is gone; a new one comes after a while.
    pub(super) fn reboot(&mut self) {
        self.tally.crashes += 1;
        self.gone = false;
        let alone = self.random.pick(&[1, 5 * MINUTE, HOUR, 9 * HOUR, 40 * HOUR]);
        self.truth.pass_alone(alone);
    }

    fn fate(&mut self) -> Fate {
        if self.random.per_mille(self.temper.crashes) {
            return self.random.pick(&[Fate::CutBefore, Fate::CutHalfway, Fate::CutAfter]);
        }
        if self.random.per_mille(self.temper.failures) {
            return self.random.pick(&[Fate::Fails, Fate::FailsHalfway, Fate::FailsAtTheEnd]);
        }
        Fate::Succeeds
    }

    /// Something happens that nobody asked for; but not between the last gate and what follows it.
    fn drift(&mut self) {
        if !self.random.per_mille(self.temper.drifts) {
            return;
        }
        let truth = &mut self.truth;
        match self.random.below(10) {
            0 => truth.staging.odd_image = !truth.staging.odd_image,
            1 => truth.staging.version = self.random.below(3) as usize,
            // A colleague, or Watchtower: only while production is nobody's.
            2 if self.touched.is_none() && truth.production.writers => {
                truth.production.version = self.random.below(3) as usize;
            }
            3 => truth.room = !truth.room,
            4 => truth.production.keys_fit = !truth.production.keys_fit,
            5 => truth.ill = !truth.ill,
            6 => {
                let flaws = [Flaw::NotSealed, Flaw::NotWhole, Flaw::OfSeveralMoments];
                let (of_production, flaw) = (self.random.per_mille(500), self.random.pick(&flaws));
                truth.shots.push(Shot { flaw: Some(flaw), ..truth.shot(of_production) });
            }
            _ => {
                let by = self.random.pick(&[MINUTE, HOUR, 50 * HOUR, 900 * HOUR]);
                let back = self.random.per_mille(500);
                let wrong_by = if back { truth.wrong_by - by } else { truth.wrong_by + by };
                truth.set_clock(if self.random.per_mille(300) { 0 } else { wrong_by });
            }
        }
    }

    fn is_just_before_production(&self) -> bool {
        // A yes that somebody says meanwhile takes no time.
        let is_yes = |entry: &Entry| matches!(entry, Entry::Approved(_) | Entry::Overridden(_));
        let mut records = self.durable.records.iter().rev();
        let last = records.find(|record| !is_yes(&record.entry));
        last.is_some_and(|last| matches!(last.entry, Entry::Judged { gate: Gate::Production, .. }))
    }

    fn shoot(&mut self, of_production: bool) -> SnapshotId {
        let truth = &mut self.truth;
        truth.shots.push(truth.shot(of_production));
        let number = truth.shots.len() as u64 - 1;
        let minutes = self.random.pick(&[1, 5, 5, 20, 90]);
        truth.pass(minutes * MINUTE);
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_be_bytes());
        SnapshotId(id)
    }

    fn shot(&self, id: SnapshotId) -> Shot {
        let number: [u8; 8] = id.0[..8].try_into().unwrap();
        self.truth.shots[u64::from_be_bytes(number) as usize]
    }

    fn pin(&mut self, upgrade: &Upgrade, steps: [Step; 2]) {
        for step in steps {
            let id = upgrade.outcome(step).unwrap().snapshot.unwrap();
            let number: [u8; 8] = id.0[..8].try_into().unwrap();
            self.truth.shots[u64::from_be_bytes(number) as usize].pinned = true;
        }
    }

    /// The conditions of promise 3, from what is really so.
    fn assert_production_may_be_touched(&self, upgrade: &Upgrade) {
        let (truth, hop) = (&self.truth, upgrade.hop_number());
        let newest = |of_production| {
            truth.shots.iter().rev().find(|shot| shot.of_production == of_production).unwrap()
        };
        let (staging, production) = (newest(false), newest(true));
        assert_eq!(truth.production.version, hop, "production runs what the plan says");
        assert!(truth.production.is_good(hop), "{:?}", truth.production);
        assert!(!truth.production.writers, "writers are stopped");
        assert_eq!(production.data, truth.production.data, "nothing was written since the backup");
        assert!(production.pinned && staging.pinned, "both are pinned");
        assert!(production.keys_fit && staging.keys_fit, "keys fit");
        assert_eq!([staging.flaw, production.flaw], [None; 2], "both are good");
        let undisturbed = |since: i64| truth.clock_set < since;
        if undisturbed(staging.time) {
            let age = production.time - staging.time;
            assert!(age <= self.of.fresh, "staging's is {age} s older than production's");
        }
        let image = truth.staging.odd_image;
        assert_eq!(truth.staging.version, hop + 1, "staging runs the target");
        let passed = self.passed.iter().filter(|it| (it.1, it.2) == (hop + 1, image));
        let passed: Vec<i64> = passed.map(|it| it.0).collect();
        assert!(!passed.is_empty(), "staging passed its tests with this very image");
        let people = &self.people;
        if undisturbed(passed[0]) && !people.may_have_overridden(Overridable::Soaked, hop) {
            let (first, last) = (passed[0], passed[passed.len() - 1]);
            assert!(last >= first + self.of.soak, "it soaked");
        }
        let approved = !self.of.has_approvers || people.may_have_approved(hop);
        assert!(approved || people.may_have_overridden(Overridable::Approved, hop), "approved");
        let in_window = !self.of.has_window || truth.window().0;
        assert!(in_window || people.may_have_overridden(Overridable::Window, hop), "in the window");
        assert!(truth.room || people.may_have_overridden(Overridable::Room, hop), "there is room");
    }

    /// The effect of a step, wholly or only halfway.
    fn act(&mut self, upgrade: &Upgrade, step: Step, halfway: bool) -> Result<Outcome, Failure> {
        let hop = upgrade.hop_number();
        let mut outcome = Outcome::default();
        match step {
            Step::BackUpStaging | Step::BackUpStagingAgain if !halfway => {
                outcome.snapshot = Some(self.shoot(false));
            }
            Step::BackUpProduction if !halfway => outcome.snapshot = Some(self.shoot(true)),
            Step::BackUpStopped if !halfway => {
                let before = self.truth.production.data;
                outcome.snapshot = Some(self.shoot(true));
                if self.truth.production.data != before || self.truth.production.writers {
                    return fail("its writers were not stopped all the time");
                }
            }
            Step::PinBoth if !halfway => {
                self.pin(upgrade, [Step::BackUpStaging, Step::BackUpProduction]);
            }
            Step::PinLast if !halfway => {
                self.pin(upgrade, [Step::BackUpStagingAgain, Step::BackUpStopped]);
            }
            Step::MaintenanceOn | Step::KeepUsersOut => self.truth.production.users_kept_out = true,
            Step::MaintenanceOff | Step::EndMaintenance | Step::LetUsersIn if !halfway => {
                self.users_were_in |= step == Step::MaintenanceOff;
                self.truth.production.users_kept_out = false;
            }
            Step::StopWriters => {
                let clock = self.truth.clock();
                let server = &mut self.truth.production;
                server.armed = true;
                if server.writers && !halfway {
                    (server.writers, server.stopped_since) = (false, Some(clock));
                }
            }
            Step::HoldWriters if !halfway => self.truth.production.armed = false,
            Step::ResumeWriters if !halfway => {
                let server = &mut self.truth.production;
                (server.writers, server.armed, server.stopped_since) = (true, false, None);
            }
            Step::UpgradeStaging => {
                let works = !self.breaks_staging[hop + 1];
                let server = &mut self.truth.staging;
                server.half = halfway;
                (server.version, server.odd_image, server.works) = (hop + 1, false, works);
                if halfway {
                    server.works = false;
                }
                self.saved_staging = None;
                outcome.image = Some(digest(hop + 1, false));
            }
            Step::UpgradeProduction => return self.upgrade_production(upgrade, halfway),
            Step::SaveStaging if !halfway => {
                self.saved_staging = Some(self.truth.staging.content());
            }
            Step::SaveProduction if !halfway => {
                self.saved_production = Some(self.truth.production.content());
            }
            Step::StopProduction if !halfway => {
                let server = &mut self.truth.production;
                (server.writers, server.armed) = (false, false);
            }
            Step::StartBack if !halfway => self.truth.production.writers = true,
            Step::PutBackStaging => self.put_back_staging(upgrade, halfway),
            Step::PutBackProduction => self.put_back_production(upgrade, halfway),
            _ => return self.look(upgrade, step, outcome),
        }
        let minutes = self.random.pick(&[0, 1, 3, 10]);
        self.truth.pass(minutes * MINUTE);
        Ok(outcome)
    }

    /// Steps that only test.
    fn look(
        &mut self,
        upgrade: &Upgrade,
        step: Step,
        mut outcome: Outcome,
    ) -> Result<Outcome, Failure> {
        let hop = upgrade.hop_number();
        let truth = &self.truth;
        let (server, version) = match step {
            Step::TestStaging | Step::TestStagingAgain => (&truth.staging, hop + 1),
            Step::Verify => (&truth.production, hop + 1),
            Step::VerifyBack => (&truth.production, hop),
            Step::TestStagingBack => {
                let id = upgrade.outcome(Step::BackUpStaging).unwrap().snapshot.unwrap();
                (&truth.staging, self.shot(id).version)
            }
            _ => return Ok(outcome),
        };
        if !server.is_good(version) {
            return fail("its tests found something");
        }
        if step == Step::Verify {
            self.people.hop = version;
        }
        if matches!(step, Step::TestStaging | Step::TestStagingAgain) {
            let odd = server.odd_image;
            outcome.image = Some(digest(server.version, odd));
            self.passed.push((truth.time, version, odd));
        }
        self.truth.pass(2 * MINUTE);
        Ok(outcome)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as the other steps")]
    fn upgrade_production(&mut self, upgrade: &Upgrade, halfway: bool) -> Result<Outcome, Failure> {
        let hop = upgrade.hop_number();
        let (_, data) = self.touched.expect("it has begun");
        if !self.is_changed {
            assert_eq!(self.truth.production.data, data, "nothing was written since the backup");
        }
        self.is_changed = true;
        self.saved_production = None;
        self.users_were_in = false;
        let works = !self.breaks_production[hop + 1] && !halfway;
        let server = &mut self.truth.production;
        (server.version, server.half, server.works) = (hop + 1, halfway, works);
        (server.armed, server.stopped_since, server.writers) = (false, None, !halfway);
        self.truth.pass(5 * MINUTE);
        Ok(Outcome::default())
    }

    fn put_back_staging(&mut self, upgrade: &Upgrade, halfway: bool) {
        assert!(self.saved_staging.is_some(), "what is there is saved first");
        let id = upgrade.outcome(Step::BackUpStaging).unwrap().snapshot.unwrap();
        let shot = self.shot(id);
        let server = &mut self.truth.staging;
        (server.half, server.works, server.version) = (halfway, !halfway, shot.version);
        (server.data, server.odd_image) = (shot.data, false);
    }

    fn put_back_production(&mut self, upgrade: &Upgrade, halfway: bool) {
        let id = upgrade.outcome(Step::BackUpStopped).unwrap().snapshot.unwrap();
        let shot = self.shot(id);
        assert!(!self.truth.production.writers, "nothing is written that would be lost");
        assert!(
            self.saved_production.is_some() || upgrade.may_discard_current(),
            "what is there is saved first, or may be lost"
        );
        let (hop, data) = self.touched.expect("only what was touched is put back");
        assert_eq!(
            (hop, shot.version),
            (upgrade.hop_number(), hop),
            "the version before comes back"
        );
        assert_eq!(shot.data, data, "all that was written to the old version comes back");
        let server = &mut self.truth.production;
        (server.half, server.works, server.version) = (halfway, !halfway, shot.version);
        server.data = shot.data;
    }

    fn instance(&self, environment: Environment, hop: usize) -> InstanceSeen {
        let is_production = environment == Environment::Production;
        let server = if is_production { &self.truth.production } else { &self.truth.staging };
        let shots = self.truth.shots.iter().enumerate().rev();
        let newest = shots.into_iter().find(|(_, shot)| shot.of_production == is_production);
        let snapshot = newest.map(|(number, shot)| SnapshotSeen {
            id: SnapshotId([number as u8; 32]),
            time: Timestamp::from_second(shot.clock).unwrap(),
            is_sealed: shot.flaw != Some(Flaw::NotSealed),
            is_whole: shot.flaw != Some(Flaw::NotWhole),
            is_of_one_moment: shot.flaw != Some(Flaw::OfSeveralMoments),
            key_fit: if shot.keys_fit { KeyFit::Fit } else { KeyFit::Unfit },
        });
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        InstanceSeen {
            running: Some(Running {
                version: VERSIONS[server.version].parse::<Version>().unwrap(),
                edition: None,
                image: Some(digest(server.version, server.odd_image)),
            }),
            snapshot,
            stopped_since: server.stopped_since.filter(|_| !server.writers).map(at),
            images: Some(Images {
                old: Some(digest(hop, false)),
                new: Some(digest(hop + 1, false)),
            }),
        }
    }
}

impl World for &mut Fake {
    type Error = Gone;

    fn now(&mut self) -> Timestamp {
        self.truth.now()
    }

    fn host(&self) -> String {
        "backup1".to_owned()
    }

    fn facts(&mut self, _: &Upgrade) -> Facts {
        let (window_is_open, opens_at) = self.truth.window();
        Facts {
            window_is_open,
            window_opens_at: Some(Timestamp::from_second(opens_at).unwrap()),
            production_is_healthy: self.truth.production.works && !self.truth.ill,
        }
    }

    fn record(&mut self, upgrade: &Upgrade, record: &Record) -> Result<(), Gone> {
        let cut = self.random.per_mille(self.temper.crashes);
        let is_written = !self.gone && (!cut || self.random.per_mille(500));
        let step = Step::UpgradeProduction;
        let hop = upgrade.hop_number();
        // Whoever takes it up goes on with it.
        if is_written
            && record.entry == (Entry::Began { hop, step })
            && self.touched.is_none_or(|(touched, _)| touched != hop)
        {
            self.assert_production_may_be_touched(upgrade);
            (self.touched, self.is_changed) = (Some((hop, self.truth.production.data)), false);
            self.tally.touched += 1;
        }
        // Only once that is known: who takes up what began, and did not end, goes on with it whenever that is.
        if is_written
            && matches!(record.entry, Entry::Failed { step: failed, untouched: true, .. } if failed == step)
        {
            self.touched = None;
        }
        if is_written {
            self.durable.records.push(record.clone());
            assert_eq!(self.durable.records.len(), upgrade.journal().records.len());
        }
        if self.gone || cut { Err(Gone) } else { Ok(()) }
    }

    fn perform(&mut self, upgrade: &Upgrade, step: Step) -> Result<Outcome, Failure> {
        let fate = self.fate();
        if fate == Fate::CutBefore {
            self.gone = true;
            return fail("no");
        }
        if fate == Fate::Fails {
            // Now and then it is not even sure of that.
            let untouched =
                step == Step::UpgradeProduction && !self.is_changed && self.random.per_mille(700);
            return Err(Failure { why: "no".to_owned(), hint: None, untouched });
        }
        let halfway = matches!(fate, Fate::FailsHalfway | Fate::CutHalfway);
        let done = self.act(upgrade, step, halfway);
        match fate {
            Fate::CutHalfway | Fate::CutAfter => {
                self.gone = true;
                done
            }
            Fate::FailsHalfway | Fate::FailsAtTheEnd => fail("no"),
            _ => done,
        }
    }

    fn see(&mut self, upgrade: &Upgrade, gate: Gate) -> Result<Seen, Failure> {
        match self.fate() {
            Fate::Succeeds => {}
            Fate::CutBefore | Fate::CutHalfway | Fate::CutAfter => self.gone = true,
            Fate::Fails | Fate::FailsHalfway | Fate::FailsAtTheEnd => return fail("no"),
        }
        let hop = upgrade.hop_number();
        let (is_open, opens_at) = self.truth.window();
        let room = Room {
            environment: gate.environment(),
            what: "a copy".to_owned(),
            place: "/srv".to_owned(),
            needed_bytes: 5,
            free_bytes: Some(if self.truth.room { 9 } else { 1 }),
        };
        Ok(Seen {
            staging: self.instance(Environment::Staging, hop),
            production: self.instance(Environment::Production, hop),
            checkpoints: Vec::new(),
            room: vec![room],
            way_back: Vec::new(),
            window: Some(Window {
                is_open,
                opens_at: Some(Timestamp::from_second(opens_at).unwrap()),
            }),
            apps: Vec::new(),
            drill: None,
            unread: Vec::new(),
        })
    }

    fn next_command(&mut self) -> Option<Command> {
        if !self.is_just_before_production() {
            self.drift();
        }
        if self.random.per_mille(self.temper.commands) {
            let digest = self.digest;
            self.people.say_anything(&mut self.random, digest);
        }
        self.people.next()
    }

    fn answer(&mut self, command: &Command, answer: Result<(), Refusal>) {
        if let Err(refusal) = &answer {
            assert!(!refusal.hint.is_empty() && !refusal.message.is_empty());
        }
        self.people.answered();
        self.tally.heard(command, answer.is_ok());
    }
}
