//! Retention: which snapshots of one instance to keep, and why.
//!
//! What always holds, whatever the policy says (promise 2):
//! - The last good snapshot is kept: the newest good one that is not dated later than the clock.
//! - Pinned snapshots are kept, and so is everything while forgetting is frozen by failed runs.
//! - An empty policy keeps everything.
//! - Keeping is decided by good snapshots only: one that is not good takes no slot and moves no reference,
//!   so it never pushes a good one out.
//! - Deciding again over what was kept forgets nothing more.
//!
//! The rules are those of `restic forget`, with these choices of our own:
//! - `hourly` … `yearly` keep the newest snapshot of each period of the instance's own calendar, and count only
//!   periods that have a snapshot. An hour that the clock repeats is two hours. The oldest snapshot is not kept
//!   besides while a rule has slots left, as newer versions of restic do.
//! - `within` counts back from the last good snapshot, not from the clock, so that an instance that is idle loses
//!   nothing. As with restic, a snapshot of exactly that age is outside: `14d` keeps 14 nights.
//! - A snapshot that is not good is kept until a newer good one exists, so that a person can look at it.
//! - A snapshot dated later than the clock is kept, takes no slot and is no reference: either clock may be wrong.

mod freeze;
mod keep;
mod reason;
#[cfg(test)]
mod tests;

pub use freeze::{Frozen, RunEnd, RunOutcome, freeze};
pub use keep::{Keep, ParseWithinError, Within};
pub use reason::{Reason, Rule};

use crate::model::id::SnapshotId;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::HashSet;

/// What retention has to know of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its id; no two candidates share one.
    pub id: SnapshotId,
    /// The snapshot's own time.
    pub time: Timestamp,
    /// Sealed, and not unfit.
    pub good: bool,
    /// Why it is pinned, one for each pin; empty when it is not.
    pub pinned: Vec<String>,
}

/// What becomes of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Which.
    pub id: SnapshotId,
    /// The snapshot's own time.
    pub time: Timestamp,
    /// Everything that keeps it; empty when it is to be forgotten.
    pub reasons: Vec<Reason>,
}

impl Decision {
    /// Whether it is kept; otherwise it is to be forgotten.
    pub fn is_kept(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// Decide over all snapshots of one instance. The answer has one decision for each candidate, newest first
/// (those of one time by id), and does not depend on the order of the candidates.
pub fn decide(
    keep: &Keep,
    candidates: &[Candidate],
    frozen: Option<&Frozen>,
    zone: &TimeZone,
    now: Timestamp,
) -> Vec<Decision> {
    let mut sorted: Vec<&Candidate> = candidates.iter().collect();
    sorted.sort_by_key(|candidate| (Reverse(candidate.time), candidate.id));
    let mut decisions: Vec<Decision> = sorted
        .iter()
        .map(|candidate| Decision {
            id: candidate.id,
            time: candidate.time,
            reasons: reasons_beside_the_policy(candidate, keep, frozen, now),
        })
        .collect();

    // Places in `sorted` of those that rules may count, newest first.
    let countable: Vec<usize> =
        (0..sorted.len()).filter(|&at| sorted[at].good && sorted[at].time <= now).collect();
    let last_good = countable.first().copied();
    if let Some(at) = last_good {
        decisions[at].reasons.push(Reason::LastGood);
    }
    keep_for_a_look(&sorted, &mut decisions, last_good, now);
    keep_within(keep, &countable, &mut decisions, zone);
    for (rule, slots) in keep.rules() {
        fill_slots(rule, slots, &countable, &mut decisions, zone);
    }
    decisions
}

/// The reasons that need no look at other snapshots.
fn reasons_beside_the_policy(
    candidate: &Candidate,
    keep: &Keep,
    frozen: Option<&Frozen>,
    now: Timestamp,
) -> Vec<Reason> {
    let pins = candidate.pinned.iter().map(|why| Reason::Pinned { why: why.clone() });
    let mut reasons: Vec<Reason> = pins.collect();
    if let Some(&frozen) = frozen {
        reasons.push(Reason::Frozen(frozen));
    }
    if keep.is_empty() {
        reasons.push(Reason::NoPolicy);
    }
    if candidate.time > now {
        reasons.push(Reason::NewerThanClock);
    }
    reasons
}

/// Keep what is not good until a newer good snapshot exists.
fn keep_for_a_look(
    sorted: &[&Candidate],
    decisions: &mut [Decision],
    last_good: Option<usize>,
    now: Timestamp,
) {
    let since = last_good.map(|at| sorted[at].time);
    for (candidate, decision) in sorted.iter().zip(decisions) {
        let superseded = since.is_some_and(|since| candidate.time < since);
        if !candidate.good && candidate.time <= now && !superseded {
            decision.reasons.push(Reason::NotGood);
        }
    }
}

/// Keep what lies within the time that the policy names, counted back from the last good snapshot.
fn keep_within(keep: &Keep, countable: &[usize], decisions: &mut [Decision], zone: &TimeZone) {
    let (Some(within), Some(&last_good)) = (keep.within, countable.first()) else { return };
    let start = within.before(decisions[last_good].time, zone);
    for &at in countable {
        if start.is_none_or(|start| decisions[at].time > start) {
            decisions[at].reasons.push(Reason::Within { within });
        }
    }
}

/// Keep the newest snapshot of each of the newest `slots` periods.
fn fill_slots(
    rule: Rule,
    slots: u32,
    countable: &[usize],
    decisions: &mut [Decision],
    zone: &TimeZone,
) {
    // A set, not just the period before: where clocks go back over midnight, a day comes in two pieces.
    let mut periods = HashSet::new();
    let mut number = 0;
    for &at in countable {
        if number == slots {
            break;
        }
        let period = rule.period(&decisions[at].time.to_zoned(zone.clone()));
        if period.as_ref().is_some_and(|period| !periods.insert(period.clone())) {
            continue;
        }
        number += 1;
        decisions[at].reasons.push(Reason::Slot { rule, number, slots, period });
    }
}
