//! Telling of a lasting problem: once when it begins, again a day later as long as it lasts, and once when it ends.
//!
//! What always holds, whatever the clock does: no problem begins or ends unsaid, and while one lasts no 24 hours of
//! the clock go by in silence. A clock that is put back never makes it speak, and never silences it for longer.

use crate::policy::time::{DAY, age};
use jiff::Timestamp;

/// A problem that has been told, as the caller stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it was first told.
    pub since: Timestamp,
    /// When it was last told.
    pub last_told: Timestamp,
}

/// What to tell now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tell {
    /// The problem is new.
    Begin,
    /// It was told a day ago and is still there.
    Reminder,
    /// It is gone.
    Recovery,
    /// Nothing that is not known.
    Nothing,
}

/// Decide what to tell of one problem: `before` is what this gave when it was last called (none at first), `is_there`
/// whether the problem is there now. The second answer is to be stored for the next call, together with queueing the
/// first: it may have changed where there is nothing to tell.
pub fn tell(before: Option<Told>, is_there: bool, now: Timestamp) -> (Tell, Option<Told>) {
    match (before, is_there) {
        (None, false) => (Tell::Nothing, None),
        (Some(_), false) => (Tell::Recovery, None),
        (None, true) => (Tell::Begin, Some(Told { since: now, last_told: now })),
        (Some(told), true) => {
            // What was told in the future was told by a clock that has been put back: the day begins again.
            let since = told.since.min(now);
            let last_told = told.last_told.min(now);
            if age(last_told, now).is_some_and(|age| age >= DAY) {
                (Tell::Reminder, Some(Told { since, last_told: now }))
            } else {
                (Tell::Nothing, Some(Told { since, last_told }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::schedule::tests::properties::config;
    use proptest::prelude::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3_600).unwrap()
    }

    /// What is told when the problem is there or not at these hours.
    fn told(course: &[(i64, bool)]) -> Vec<Tell> {
        let mut before = None;
        let one = |&(hours, is_there): &(i64, bool)| {
            let (tell, after) = tell(before, is_there, at(hours));
            before = after;
            tell
        };
        course.iter().map(one).collect()
    }

    #[test]
    fn a_problem_is_told_when_it_begins_every_day_and_when_it_ends() {
        use Tell::{Begin, Nothing, Recovery, Reminder};
        let course =
            [(0, false), (1, true), (2, true), (24, true), (25, true), (48, true), (49, true)];
        assert_eq!(told(&course), [Nothing, Begin, Nothing, Nothing, Reminder, Nothing, Reminder]);
        let course = [(0, true), (1, false), (2, false), (3, true), (26, true), (27, true)];
        assert_eq!(told(&course), [Begin, Recovery, Nothing, Begin, Nothing, Reminder]);
        // After a week in which nobody looked, one reminder.
        assert_eq!(told(&[(0, true), (168, true), (169, true)]), [Begin, Reminder, Nothing]);
    }

    #[test]
    fn a_clock_that_is_put_back_silences_nothing_for_longer_than_a_day() {
        use Tell::{Begin, Nothing, Recovery, Reminder};
        let course = [(1_000, true), (0, true), (23, true), (24, true)];
        assert_eq!(told(&course), [Begin, Nothing, Nothing, Reminder]);
        assert_eq!(told(&[(1_000, true), (0, false)]), [Begin, Recovery]);
        let (_, stored) = tell(Some(Told { since: at(9), last_told: at(9) }), true, at(3));
        assert_eq!(stored, Some(Told { since: at(3), last_told: at(3) }));
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn nothing_begins_or_ends_unsaid_and_no_day_is_silent(
            steps in prop::collection::vec((prop_oneof![4 => 0..10_i64, 1 => -2_000..2_000_i64], prop::bool::weighted(0.8)), 1..200),
        ) {
            let mut now = 0;
            let course: Vec<(i64, bool)> = steps.iter().map(|&(step, is_there)| { now += step; (now, is_there) }).collect();
            let mut was_there = false;
            // Hours by the clock since something was said.
            let (mut silent, mut last) = (0, 0);
            for (tell, (hours, is_there)) in told(&course).into_iter().zip(course) {
                silent = (silent + hours - last).max(0);
                last = hours;
                let expected = match (was_there, is_there) {
                    (false, true) => Tell::Begin,
                    (true, false) => Tell::Recovery,
                    (true, true) if silent >= 24 => Tell::Reminder,
                    _ => Tell::Nothing,
                };
                prop_assert_eq!(tell, expected, "at {}", hours);
                if tell != Tell::Nothing {
                    silent = 0;
                }
                was_there = is_there;
            }
        }
    }
}
