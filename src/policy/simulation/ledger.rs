//! The naive model of scheduling: a ledger with one line for each due time, found by a walk minute by minute, and what
//! became of it.

use super::host::{Host, WRONG_MOST};
use super::{END, PATTERNS, SECONDS_OF_DAY, START, ZONES};
use crate::policy::schedule::tests::model::{Calendar, Pattern, walk};
use crate::policy::schedule::tests::zone;
use std::collections::HashMap;

/// The due times of each pattern in each zone, and the dates.
pub(super) struct Dues {
    times: HashMap<(&'static str, &'static str), Vec<i64>>,
    pub(super) calendar: Calendar,
}

impl Dues {
    pub(super) fn walk() -> Self {
        let calendar = Calendar::until(2030);
        // The last phase of the machine may go on for its longest.
        let (from, to) = (START - WRONG_MOST, END + 80 * SECONDS_OF_DAY + WRONG_MOST);
        let mut times = HashMap::new();
        for zone_name in ZONES {
            for (pattern, _) in PATTERNS {
                let due = walk(&Pattern::read(pattern), &zone(zone_name), &calendar, from, to);
                times.insert((pattern, zone_name), due);
            }
        }
        Self { times, calendar }
    }

    pub(super) fn of(&self, pattern: &'static str, zone_name: &'static str) -> &[i64] {
        &self.times[&(pattern, zone_name)]
    }
}

/// What became of a due time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It was due before the instance was known, or before the clock was found to be wrong.
    Before,
    OnTime,
    CaughtUp,
    Missed,
    Overlapped,
}

/// What the model says to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Wait { until: i64 },
    Run { due: i64, late: bool, missed: Option<(i64, i64, usize)> },
    Missed((i64, i64, usize)),
    Overlaps { due: i64, missed: Option<(i64, i64, usize)> },
    ClockWentBack,
}

pub(super) struct Ledger<'a> {
    due: &'a [i64],
    fates: Vec<Option<Fate>>,
    /// What became of each at first, before the clock was found to be wrong.
    first_fates: Vec<Option<Fate>>,
    /// How often each was run.
    runs: Vec<u32>,
    /// How often everything later than the clock was struck out.
    resets: u32,
    /// Nothing before this moment is decided any more. In milliseconds, as the jitter is.
    decided_until: i64,
    jitter: i64,
    grace: i64,
}

impl<'a> Ledger<'a> {
    /// For an instance known since `known`, whose jitter and grace window are given in milliseconds.
    pub(super) fn new(due: &'a [i64], known: i64, jitter: i64, grace: i64) -> Self {
        let fates: Vec<_> = due.iter().map(|&due| (due <= known).then_some(Fate::Before)).collect();
        let first_fates = fates.clone();
        let runs = vec![0; due.len()];
        Self {
            due,
            fates,
            first_fates,
            runs,
            resets: 0,
            decided_until: known * 1_000,
            jitter,
            grace,
        }
    }

    /// Look at the ledger when the clock says `now`, in milliseconds.
    pub(super) fn look(&mut self, now: i64, busy: bool) -> Look {
        let ripe = now - self.jitter;
        let ripe_lines = self.due.partition_point(|due| due * 1_000 <= ripe);
        if self.decided_until > now + SECONDS_OF_DAY * 1_000 {
            self.fates[ripe_lines..].fill(None);
            self.resets += 1;
            self.decided_until = ripe;
            return Look::ClockWentBack;
        }
        let open = self.fates[..ripe_lines].iter().rev().take_while(|fate| fate.is_none()).count();
        if open == 0 {
            let decided = self.fates[ripe_lines..].iter().take_while(|fate| fate.is_some()).count();
            return Look::Wait { until: self.due[ripe_lines + decided] * 1_000 + self.jitter };
        }
        let last = ripe_lines - 1;
        let due = self.due[last];
        let range = |from: usize, to: usize| {
            // No more than a thousand are counted.
            (from <= to).then(|| (self.due[from], self.due[to], (to - from + 1).min(1_000)))
        };
        let missed = if open > 1 { range(ripe_lines - open, last - 1) } else { None };
        let all = range(ripe_lines - open, last).unwrap();
        self.decided_until = due * 1_000;
        for line in ripe_lines - open..last {
            self.write(line, Fate::Missed);
        }
        let lateness = ripe - due * 1_000;
        let late = lateness > 60_000;
        let (fate, look) = if lateness > self.grace.max(60_000) {
            (Fate::Missed, Look::Missed(all))
        } else if busy {
            (Fate::Overlapped, Look::Overlaps { due, missed })
        } else {
            self.runs[last] += 1;
            let fate = if late { Fate::CaughtUp } else { Fate::OnTime };
            (fate, Look::Run { due, late, missed })
        };
        self.write(last, fate);
        look
    }

    fn write(&mut self, line: usize, fate: Fate) {
        self.fates[line] = Some(fate);
        self.first_fates[line].get_or_insert(fate);
    }

    pub(super) fn resets(&self) -> u32 {
        self.resets
    }

    pub(super) fn count(&self, fate: Fate) -> usize {
        self.fates.iter().filter(|one| **one == Some(fate)).count()
    }

    /// Compare what happened with the machine's true course: what came while the machine was on, at a time that its
    /// clock showed once only, was run then; nothing was run twice but where the clock went back; nothing was left out.
    pub(super) fn settle(&self, host: &Host) -> usize {
        let mut surely = 0;
        let last_phase = host.phases.last().unwrap();
        let mut highest_before = Vec::new();
        let mut highest = START;
        for phase in &host.phases {
            highest_before.push(highest);
            highest = highest.max(phase.clock().end);
        }
        for (at, &due) in self.due.iter().enumerate() {
            assert!(self.runs[at] <= 1 + self.resets, "{due} was run {} times", self.runs[at]);
            let ripe = due + self.jitter.div_euclid(1_000) + 1;
            let mut shown = host.phases.iter().zip(&highest_before).filter(|(phase, _)| {
                let clock = phase.clock();
                (clock.start - 60..clock.end + 60).contains(&ripe)
            });
            if let (Some((phase, highest)), None) = (shown.next(), shown.next()) {
                let clock = phase.clock();
                let within = clock.start + 60 < ripe && ripe + 60 < clock.end;
                if phase.is_on && within && *highest < ripe && due > START && ripe < END {
                    let fate = self.first_fates[at];
                    let fine = matches!(fate, Some(Fate::OnTime | Fate::Overlapped));
                    assert!(fine, "{due} was due while the machine was on: {fate:?}");
                    surely += 1;
                }
            }
            if due * 1_000 <= self.decided_until && ripe < last_phase.clock().end {
                assert!(self.fates[at].is_some(), "{due} was left out");
            }
        }
        surely
    }
}
