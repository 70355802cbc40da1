//! What to do now about the due times of one subject.

use crate::policy::schedule::Schedule;
use crate::policy::time::{DAY, age, earlier, later};
use jiff::Timestamp;
use std::time::Duration;

/// A run that begins within this of its due time (and its jitter) is on time, whatever the grace window.
pub const ON_TIME: Duration = Duration::from_mins(1);

/// Missed times are counted up to here.
pub const COUNTED_MOST: u32 = 1_000;

/// What [`decide`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The due time up to which everything is now decided: to be stored before the verdict is acted on (a run is queued
    /// in the same transaction), and given to the next call.
    pub handled: Timestamp,
    /// What to do.
    pub verdict: Verdict,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is due.
    Wait {
        /// When to look again at the latest: the next due time and the jitter. None where no more comes.
        until: Option<Timestamp>,
    },
    /// Run it, once.
    Run {
        /// The due time that it runs for.
        due: Timestamp,
        /// Whether it is caught up, more than [`ON_TIME`] after its time.
        late: bool,
        /// Earlier due times that are not run.
        missed: Option<Missed>,
    },
    /// What was due is too long ago to be caught up: tell it, and run nothing.
    Missed(Missed),
    /// It is due while a job of the subject is queued or running: tell it, and run nothing.
    Overlaps {
        /// The due time.
        due: Timestamp,
        /// Earlier due times that are not run either.
        missed: Option<Missed>,
    },
    /// What was handled lies more than a day in the future: one of the two was told by a wrong clock. Tell it; due
    /// times are decided afresh from now on.
    ClockWentBack {
        /// The due time that had been handled.
        handled_before: Timestamp,
    },
}

/// Due times that were not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// How many, both included; [`COUNTED_MOST`] stands for that many or more.
    pub count: u32,
}

/// Decide what to do now for one subject (an id that never changes, as bytes) whose due times are decided up to
/// `handled`: for one that is new, the moment when it became known. `busy` says whether a job of it is queued or
/// running.
///
/// Due times of a schedule that was changed are not those of the one before: from then on give the moment of the change,
/// if that is later.
///
/// One call decides everything that is due. To be called at the start, when the time it says has come, and whenever a
/// clock may have been set; calling it more often changes nothing.
pub fn decide(
    schedule: &Schedule,
    subject: &[u8],
    handled: Timestamp,
    now: Timestamp,
    busy: bool,
) -> Decision {
    let jitter = schedule.jitter_of(subject);
    // Due times up to here are ripe; later ones wait for their jitter, and are not lost when the clock is set back.
    let ripe = earlier(now, jitter);
    if handled > later(now, DAY) {
        let verdict = Verdict::ClockWentBack { handled_before: handled };
        return Decision { handled: ripe, verdict };
    }
    let Some(first) = schedule.next_after(handled) else {
        return Decision { handled, verdict: Verdict::Wait { until: None } };
    };
    if first > ripe {
        let until = Some(later(first, jitter));
        return Decision { handled, verdict: Verdict::Wait { until } };
    }
    let due = schedule.last_until(ripe).filter(|&last| last > first).unwrap_or(first);
    let lateness = age(due, ripe).unwrap_or_default();
    let verdict = if lateness > schedule.catch_up.max(ON_TIME) {
        Verdict::Missed(schedule.count(first, due))
    } else {
        let before = schedule.last_until(earlier(due, Duration::from_nanos(1)));
        let missed = before.filter(|&last| last >= first).map(|last| schedule.count(first, last));
        if busy {
            Verdict::Overlaps { due, missed }
        } else {
            Verdict::Run { due, late: lateness > ON_TIME, missed }
        }
    };
    Decision { handled: due, verdict }
}

impl Schedule {
    /// The due times from the first to the last of them.
    fn count(&self, first: Timestamp, last: Timestamp) -> Missed {
        let all = std::iter::successors(Some(first), |&due| self.next_after(due));
        let counted = all.take(COUNTED_MOST as usize).take_while(|&due| due <= last).count();
        Missed { first, last, count: counted as u32 }
    }
}
