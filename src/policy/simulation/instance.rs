//! One instance: its daemon looks, runs, measures and forgets, and each answer is compared with the models'.

use super::host::{Host, Phase, Random};
use super::ledger::{Dues, Fate, Ledger, Look};
use super::shelf::{self, Numbers, Shelved};
use super::{INSTANCES, PATTERNS, SECONDS_OF_DAY, START, ZONES};
use crate::model::id::SnapshotId;
use crate::policy::objectives;
use crate::policy::retention::{self, Candidate, RunEnd, RunOutcome};
use crate::policy::schedule::tests::zone;
use crate::policy::schedule::{Missed, Schedule, Verdict, decide};
use crate::policy::telling::{Tell, Told, tell};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::collections::BTreeSet;
use std::ops::AddAssign;
use std::time::Duration;

/// How often each thing happened.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) on_time: usize,
    pub(super) caught_up: usize,
    pub(super) missed: usize,
    pub(super) overlapped: usize,
    /// Due while the machine was on beyond doubt, and run then (or overlapping).
    pub(super) surely: usize,
    pub(super) clock_went_back: usize,
    pub(super) breaches: usize,
    pub(super) reminders: usize,
    pub(super) recoveries: usize,
    pub(super) forgotten: usize,
    pub(super) frozen: usize,
    pub(super) from_the_future: usize,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.on_time += other.on_time;
        self.caught_up += other.caught_up;
        self.missed += other.missed;
        self.overlapped += other.overlapped;
        self.surely += other.surely;
        self.clock_went_back += other.clock_went_back;
        self.breaches += other.breaches;
        self.reminders += other.reminders;
        self.recoveries += other.recoveries;
        self.forgotten += other.forgotten;
        self.frozen += other.frozen;
        self.from_the_future += other.from_the_future;
    }
}

/// A run: when it began by the clock, and when it ends in truth.
struct Run {
    time: i64,
    ends: i64,
}

/// The naive model of telling: what the users were told, and when by the clock.
#[derive(Default)]
struct Alarm {
    told: Option<i64>,
}

impl Alarm {
    fn tell(&mut self, breached: bool, now: i64) -> Tell {
        let day_over = self.told.is_some_and(|told| now - told >= SECONDS_OF_DAY);
        let (tell, told) = match (self.told, breached) {
            (None, false) => (Tell::Nothing, None),
            (None, true) => (Tell::Begin, Some(now)),
            (Some(_), false) => (Tell::Recovery, None),
            (Some(_), true) if day_over => (Tell::Reminder, Some(now)),
            (Some(told), true) => (Tell::Nothing, Some(told.min(now))),
        };
        self.told = told;
        tell
    }
}

pub(super) struct Instance<'a> {
    number: usize,
    dues: &'a Dues,
    zone: TimeZone,
    schedule: Schedule,
    handled: Timestamp,
    ledger: Ledger<'a>,
    run: Option<Run>,
    /// Whether its runs fail for now.
    ill: bool,
    /// How its runs ended, newest first.
    ends: Vec<RunOutcome>,
    failing: bool,
    shelf: Vec<Shelved>,
    taken: i64,
    numbers: Numbers,
    rpo: i64,
    told: Option<Told>,
    alarm: Alarm,
    pub(super) tally: Tally,
}

const POLICIES: [Numbers; 4] = [
    Numbers { slots: [0, 0, 14, 8, 6, 2], within_hours: 0 },
    Numbers { slots: [3, 0, 7, 0, 0, 0], within_hours: 36 },
    Numbers { slots: [1, 6, 3, 2, 2, 1], within_hours: 0 },
    Numbers { slots: [5, 0, 0, 4, 0, 0], within_hours: 14 * 24 },
];

fn moment(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap()
}

impl<'a> Instance<'a> {
    pub(super) fn new(number: usize, dues: &'a Dues, random: &mut Random) -> Self {
        let zone_name = ZONES[number % ZONES.len()];
        let mut turn = number / ZONES.len();
        let all = INSTANCES / ZONES.len();
        turn = turn * 40 / all;
        let (pattern, _) = PATTERNS
            .into_iter()
            .find(|(_, share)| {
                let mine = turn < *share;
                turn = turn.wrapping_sub(*share);
                mine
            })
            .unwrap();
        let jitter = Duration::from_mins(random.pick(&[0, 10, 90]));
        let grace = Duration::from_hours(random.pick(&[0, 2, 12, 72]));
        let zone = zone(zone_name);
        let schedule = Schedule::parse(pattern, zone.clone(), jitter, grace).unwrap();
        let own = schedule.jitter_of(&number.to_be_bytes());
        assert!(own <= jitter);
        let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap();
        let ledger =
            Ledger::new(dues.of(pattern, zone_name), START, milliseconds(own), milliseconds(grace));
        Self {
            number,
            dues,
            zone,
            schedule,
            handled: moment(START * 1_000),
            ledger,
            run: None,
            ill: false,
            ends: Vec::new(),
            failing: false,
            shelf: Vec::new(),
            taken: 0,
            numbers: random.pick(&POLICIES),
            rpo: 3_600 * random.pick(&[8, 26, 50, 8 * 24]),
            told: None,
            alarm: Alarm::default(),
            tally: Tally::default(),
        }
    }

    /// All phases of the machine, in turn.
    pub(super) fn live(&mut self, host: &Host, random: &mut Random) {
        for phase in &host.phases {
            if phase.is_on {
                self.spend(phase, random);
            } else if self.run.take().is_some() {
                self.ended(RunEnd::Failed, phase.clock().start);
            }
        }
    }

    /// From one thing that happens to the next, in true milliseconds.
    fn spend(&mut self, phase: &Phase, random: &mut Random) {
        let (mut now, end) = (phase.from * 1_000, phase.to * 1_000);
        let wrong_by = phase.wrong_by * 1_000;
        let mut forgets = now + random.below(3 * SECONDS_OF_DAY * 1_000);
        let mut measures = now;
        while now < end {
            let clock = now + wrong_by;
            if self.run.as_ref().is_some_and(|run| run.ends * 1_000 <= now) {
                self.finish(clock.div_euclid(1_000), random);
            }
            let until = self.look(now, clock, random);
            if measures <= now {
                self.measure(clock.div_euclid(1_000));
                measures = now + 1_000 * (3_600 + random.below(6 * 3_600));
            }
            if forgets <= now {
                self.forget(clock.div_euclid(1_000));
                forgets = now + 1_000 * (SECONDS_OF_DAY + random.below(9 * SECONDS_OF_DAY));
            }
            // It may be woken some seconds late.
            let wakes = until - wrong_by + random.pick(&[0, 0, 700, 45_000]);
            let ends = self.run.as_ref().map_or(end, |run| run.ends * 1_000);
            now = wakes.min(ends).min(measures).min(forgets).max(now + 1);
        }
    }

    /// Ask what is due, and do it; gives when to look again by the clock.
    fn look(&mut self, now: i64, clock: i64, random: &mut Random) -> i64 {
        let until = loop {
            let busy = self.run.is_some();
            let subject = self.number.to_be_bytes();
            let decision = decide(&self.schedule, &subject, self.handled, moment(clock), busy);
            self.handled = decision.handled;
            let model = self.ledger.look(clock, busy);
            assert_eq!(said(decision.verdict), model, "instance {} at {clock}", self.number);
            match model {
                Look::Wait { until } => break until,
                Look::Run { .. } => {
                    let hours = if random.per_mille(60) { 10 * 3_600 } else { 2_400 };
                    let ends = now.div_euclid(1_000) + 30 + random.below(hours);
                    self.run = Some(Run { time: clock.div_euclid(1_000), ends });
                }
                Look::Missed(_) | Look::Overlaps { .. } | Look::ClockWentBack => {}
            }
        };
        assert!(until > clock);
        until
    }

    /// The run has come to its end.
    fn finish(&mut self, now: i64, random: &mut Random) {
        let run = self.run.take().unwrap();
        self.ill = if self.ill { !random.per_mille(150) } else { random.per_mille(20) };
        if self.ill {
            return self.ended(RunEnd::Failed, now);
        }
        if random.per_mille(20) {
            return self.ended(random.pick(&[RunEnd::NoRoom, RunEnd::Interrupted]), now);
        }
        self.ended(RunEnd::Sealed, now);
        self.taken += 1;
        let mut id = [u8::try_from(random.below(256)).unwrap(); 32];
        id[1..9].copy_from_slice(&self.taken.to_be_bytes());
        let pinned = if random.per_mille(10) { vec!["a pin".to_owned()] } else { Vec::new() };
        let candidate = Candidate {
            id: SnapshotId(id),
            time: moment(run.time * 1_000),
            good: !random.per_mille(30),
            pinned,
        };
        self.shelf.push(Shelved::new(candidate, self.taken, &self.zone, self.dues));
    }

    fn ended(&mut self, end: RunEnd, now: i64) {
        self.ends.insert(0, RunOutcome { time: moment(now * 1_000), end });
        match end {
            RunEnd::Sealed => self.failing = false,
            RunEnd::Failed => self.failing = true,
            RunEnd::Interrupted | RunEnd::NoRoom => {}
        }
        self.ends.truncate(20);
    }

    /// Measure it against its objective, and tell.
    fn measure(&mut self, now: i64) {
        let last_good = shelf::last_good(&self.shelf, now);
        let objective = Duration::from_secs(self.rpo.unsigned_abs());
        let at = moment(now * 1_000);
        let standing = objectives::rpo(last_good, moment(START * 1_000), objective, at);
        let age = shelf::age(&self.shelf, now);
        let lost = age.unwrap_or_else(|| (now - START).abs());
        assert_eq!(standing.age.map(|age| i64::try_from(age.as_secs()).unwrap()), age);
        assert_eq!(standing.breached, lost > self.rpo, "instance {} at {now}", self.number);
        self.tally.from_the_future += usize::from(self.shelf.iter().any(|one| one.time > now));

        let (said, told) = tell(self.told, standing.breached, at);
        self.told = told;
        assert_eq!(said, self.alarm.tell(lost > self.rpo, now));
        match said {
            Tell::Begin => self.tally.breaches += 1,
            Tell::Reminder => self.tally.reminders += 1,
            Tell::Recovery => self.tally.recoveries += 1,
            Tell::Nothing => {}
        }
    }

    /// Forget what the policy does not keep.
    fn forget(&mut self, now: i64) {
        let candidates: Vec<Candidate> =
            self.shelf.iter().map(|one| one.candidate.clone()).collect();
        let frozen = retention::freeze(&self.ends);
        let keep = self.numbers.keep();
        let at = moment(now * 1_000);
        let decisions = retention::decide(&keep, &candidates, frozen.as_ref(), &self.zone, at);
        let kept: BTreeSet<SnapshotId> =
            decisions.iter().filter(|one| one.is_kept()).map(|one| one.id).collect();
        let expected: BTreeSet<SnapshotId> = (0..self.shelf.len())
            .filter(|&place| shelf::keeps(self.numbers, &self.shelf, place, self.failing, now))
            .map(|place| self.shelf[place].candidate.id)
            .collect();
        assert_eq!(kept, expected, "instance {} at {now}", self.number);

        let before = (shelf::age(&self.shelf, now), shelf::last_good(&self.shelf, i64::MAX));
        self.tally.forgotten += self.shelf.len() - kept.len();
        self.tally.frozen += usize::from(frozen.is_some());
        self.shelf.retain(|one| kept.contains(&one.candidate.id));
        let after = (shelf::age(&self.shelf, now), shelf::last_good(&self.shelf, i64::MAX));
        assert_eq!(after, before, "the last good snapshot of instance {} is gone", self.number);
    }

    /// Compare with what was due.
    pub(super) fn settle(&mut self, host: &Host) {
        self.tally.surely = self.ledger.settle(host);
        self.tally.on_time = self.ledger.count(Fate::OnTime);
        self.tally.caught_up = self.ledger.count(Fate::CaughtUp);
        self.tally.missed = self.ledger.count(Fate::Missed);
        self.tally.overlapped = self.ledger.count(Fate::Overlapped);
        self.tally.clock_went_back = self.ledger.resets() as usize;
    }
}

/// A verdict in the words of the model.
fn said(verdict: Verdict) -> Look {
    let range =
        |missed: Missed| (missed.first.as_second(), missed.last.as_second(), missed.count as usize);
    match verdict {
        Verdict::Wait { until } => Look::Wait { until: until.unwrap().as_millisecond() },
        Verdict::Run { due, late, missed } => {
            Look::Run { due: due.as_second(), late, missed: missed.map(range) }
        }
        Verdict::Missed(missed) => Look::Missed(range(missed)),
        Verdict::Overlaps { due, missed } => {
            Look::Overlaps { due: due.as_second(), missed: missed.map(range) }
        }
        Verdict::ClockWentBack { .. } => Look::ClockWentBack,
    }
}
