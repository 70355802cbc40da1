//! The naive model of retention and of the objective: the snapshots of one instance, each with its place on the local
//! calendar written down when it was taken.

use super::ledger::Dues;
use crate::policy::retention::{Candidate, Keep, Within};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::num::NonZeroU32;

/// A rule's period, whatever it is: two are the same exactly when these are equal.
type Period = (i64, i64);

pub(super) struct Shelved {
    pub(super) candidate: Candidate,
    pub(super) time: i64,
    /// Itself, and its hour, day, week, month and year.
    periods: [Period; 6],
}

impl Shelved {
    pub(super) fn new(candidate: Candidate, serial: i64, zone: &TimeZone, dues: &Dues) -> Self {
        let time = candidate.time.as_second();
        let offset = i64::from(zone.to_offset(candidate.time).seconds());
        let clock = time + offset;
        let day = clock.div_euclid(86_400);
        let date = dues.calendar.date(day);
        let periods = [
            (serial, 0),
            (clock.div_euclid(3_600), offset),
            (day, 0),
            // The Monday of its week.
            (day - (date.weekday + 6) % 7, 0),
            (date.year, date.month),
            (date.year, 0),
        ];
        Self { candidate, time, periods }
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        (self.time, std::cmp::Reverse(self.candidate.id))
            > (other.time, std::cmp::Reverse(other.candidate.id))
    }
}

/// A policy as numbers: how many of each period, and of how many hours all.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) slots: [u32; 6],
    pub(super) within_hours: i64,
}

impl Numbers {
    pub(super) fn keep(self) -> Keep {
        let [last, hourly, daily, weekly, monthly, yearly] = self.slots.map(NonZeroU32::new);
        let text = format!("{}h", self.within_hours);
        let within: Option<Within> = text.parse().ok();
        Keep { last, hourly, daily, weekly, monthly, yearly, within }
    }
}

/// Whether the snapshot at `place` is to be kept.
pub(super) fn keeps(
    numbers: Numbers,
    shelf: &[Shelved],
    place: usize,
    failing: bool,
    now: i64,
) -> bool {
    let this = &shelf[place];
    if failing || this.time > now || !this.candidate.pinned.is_empty() {
        return true;
    }
    let counted = || shelf.iter().filter(|one| one.candidate.good && one.time <= now);
    if !this.candidate.good {
        return counted().all(|good| good.time <= this.time);
    }
    let newer: Vec<&Shelved> = counted().filter(|one| one.is_newer_than(this)).collect();
    let Some(last_good) = newer.iter().map(|one| one.time).max() else { return true };
    if last_good - this.time < numbers.within_hours * 3_600 {
        return true;
    }
    (0..6).any(|rule| {
        let mut taken: Vec<Period> = newer.iter().map(|one| one.periods[rule]).collect();
        let is_newest_of_its = !taken.contains(&this.periods[rule]);
        taken.sort_unstable();
        taken.dedup();
        is_newest_of_its && taken.len() < numbers.slots[rule] as usize
    })
}

/// The seconds since the newest good snapshot that is not from the future.
pub(super) fn age(shelf: &[Shelved], now: i64) -> Option<i64> {
    let good = shelf.iter().filter(|one| one.candidate.good);
    good.map(|one| now - one.time).filter(|age| *age >= 0).min()
}

/// The time of the newest good snapshot that is not from the future, or of the newest of all.
pub(super) fn last_good(shelf: &[Shelved], now: i64) -> Option<Timestamp> {
    let good = || shelf.iter().filter(|one| one.candidate.good).map(|one| one.time);
    let last = good().filter(|time| *time <= now).max().or_else(|| good().max())?;
    Some(Timestamp::from_second(last).unwrap())
}
