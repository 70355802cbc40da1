//! Reading a repository in slices: which part of its bytes a scheduled check reads, so that each is read again within a
//! period.
//!
//! Slice `n` of `t` (`1 <= n <= t`) is what `check --read-data=n/t` reads. What always holds, as long as the checks run
//! when they are due: two readings of one byte are no further apart than the period; and when the number of slices
//! changes, each byte is read within a period after the change.

use crate::policy::schedule::Schedule;
use crate::policy::time::later;
use jiff::Timestamp;
use std::time::Duration;

/// So far ahead both changes of the clocks and the shortest and longest months have been seen.
const LOOK_AHEAD: Duration = Duration::from_hours(400 * 24);
/// So many checks are looked at most: of schedules that come more often, the slices are as many as there can be.
const CHECKS_MOST: usize = 2_000;

/// Into how many slices to cut a repository that is checked by this schedule and to be read within a period: the most,
/// up to `slices_most`, of which the schedule reads all in any such period from now on. At least 1; that is too few
/// where a schedule comes less often than once in a period.
pub fn how_many(schedule: &Schedule, period: Duration, slices_most: u16, now: Timestamp) -> u16 {
    let end = later(later(now, LOOK_AHEAD), period);
    // From the last one on: its round may not be over.
    let first = schedule.last_until(now).or_else(|| schedule.next_after(now));
    let checks: Vec<Timestamp> = std::iter::successors(first, |&due| schedule.next_after(due))
        .take_while(|&due| due <= end)
        .take(CHECKS_MOST)
        .collect();
    // With t slices a byte is read again t checks later.
    let in_time = |slices: u16| {
        let rounds = checks.windows(usize::from(slices) + 1);
        let mut rounds = rounds.map(|round| (round[0], round[round.len() - 1])).peekable();
        rounds.peek().is_some() && rounds.all(|(first, again)| later(first, period) >= again)
    };
    (1..=slices_most).rev().find(|&slices| in_time(slices)).unwrap_or(1)
}

/// The slice to read next, when `last` is the last that was read (none at first) and there are now so many.
pub fn next(last: Option<(u16, u16)>, slices: u16) -> (u16, u16) {
    match last {
        Some((number, of)) if of == slices && number < slices => (number + 1, slices),
        // Slices of another number are other bytes: only a whole round surely reads those that wait longest.
        _ => (1, slices),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::schedule::tests::{properties::config, zone};
    use proptest::prelude::*;

    const DAY: Duration = Duration::from_hours(24);

    fn schedule(pattern: &str, zone_name: &str) -> Schedule {
        Schedule::parse(pattern, zone(zone_name), Duration::ZERO, Duration::ZERO).unwrap()
    }

    fn slices(pattern: &str, zone_name: &str, days: u32) -> u16 {
        let now = "2026-11-21T12:00Z".parse().unwrap();
        how_many(&schedule(pattern, zone_name), DAY * days, 256, now)
    }

    #[test]
    fn as_many_slices_as_checks_surely_fall_into_a_period() {
        assert_eq!(slices("0 4 * * *", "UTC", 30), 30);
        // Thirty days of the calendar are an hour longer in autumn.
        assert_eq!(slices("0 4 * * *", "Europe/Berlin", 30), 29);
        assert_eq!(slices("0 4 * * 0", "UTC", 30), 4);
        assert_eq!(slices("0 4 1 * *", "UTC", 31), 1);
        // July and August are 62 days.
        assert_eq!(slices("0 4 1 * *", "UTC", 61), 1);
        assert_eq!(slices("0 4 1 * *", "UTC", 62), 2);
        assert_eq!(slices("0 4 * * 1-5", "UTC", 30), 20);
        assert_eq!(slices("0 4 * * 0", "UTC", 1_000), 142);
        // There are no more slices.
        assert_eq!(slices("0 * * * *", "UTC", 30), 256);
        assert_eq!(slices("* * * * * *", "UTC", 30), 256);
        // Less often than once in a period.
        assert_eq!(slices("0 4 1 * *", "UTC", 7), 1);
        assert_eq!(slices("0 0 29 2 *", "UTC", 30), 1);
    }

    #[test]
    fn slices_are_read_in_turn_and_from_the_first_when_their_number_changes() {
        assert_eq!(next(None, 3), (1, 3));
        assert_eq!(next(Some((1, 3)), 3), (2, 3));
        assert_eq!(next(Some((3, 3)), 3), (1, 3));
        assert_eq!(next(Some((9, 3)), 3), (1, 3));
        assert_eq!(next(Some((2, 3)), 4), (1, 4));
        assert_eq!(next(Some((1, 1)), 1), (1, 1));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn each_byte_is_read_within_a_period_and_within_one_after_a_change(
            (first, second) in (patterns(), patterns()),
            days in prop::sample::select(vec![3_u32, 7, 30, 45]),
            (start, change) in (0..4_000_000_i64, 0..300_usize),
            zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
        ) {
            let period = DAY * days;
            let start = Timestamp::from_second(1_790_000_000 + start).unwrap();
            let mut last = None;
            // When each first byte of a pack's name was last read, or began to wait.
            let mut read = [start; 256];
            let mut now = start;
            for (pattern, checks) in [(first, change), (second, 300)] {
                let schedule = schedule(pattern, zone_name);
                let count = how_many(&schedule, period, 256, now);
                let changed = now;
                for _ in 0..checks {
                    now = schedule.next_after(now).unwrap();
                    let (number, of) = next(last, count);
                    prop_assert_eq!(of, count);
                    last = Some((number, of));
                    for (byte, read) in (0..256_u16).zip(&mut read) {
                        if byte % of == number - 1 {
                            prop_assert!(now <= later((*read).max(changed), period), "{byte}: {read}");
                            *read = now;
                        }
                    }
                    let longest = (*read.iter().min().unwrap()).max(changed);
                    prop_assert!(now <= later(longest, period), "{longest} still waits at {now}");
                }
            }
        }
    }

    /// Patterns that come at least once in two days.
    fn patterns() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "0 4 * * *",
            "30 2 */2 * *",
            "0 */5 * * *",
            "0 3,4 * * *",
            "15 2 * * 1,3,5,6",
        ])
    }
}
