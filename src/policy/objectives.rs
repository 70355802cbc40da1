//! The recovery point objective: how old an instance's last good snapshot may become.
//!
//! What always holds: silence is no comfort. A snapshot dated later than the clock has no age and is not fresh, and an
//! instance that never had a good one breaches its objective, too, when it has been known for so long. One that has a
//! schedule and no objective is measured by that ([`of_schedule`]).

use crate::policy::schedule::Schedule;
use crate::policy::time::{age, earlier, later};
use jiff::Timestamp;
use std::time::Duration;

/// A run is given so long at least before it counts as missed, however soon the next is due.
const GRACE: Duration = Duration::from_mins(15);

/// How an instance stands against its objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How long ago the last good snapshot was taken; none where there is none, or only one from the future.
    pub age: Option<Duration>,
    /// Whether more could be lost than the objective allows.
    pub breached: bool,
    /// The last moment at which the objective is kept unless a good snapshot comes: in the past where it is breached,
    /// but for a clock that went back.
    pub kept_until: Timestamp,
}

/// Measure an instance against its objective `rpo`.
///
/// `last_good` is the time of its newest good snapshot that is not dated later than `now`, or of the newest of all
/// where each is. Without one that counts the measure is taken from `known_since`, when the instance was first
/// configured. Where that lies further in the future than the objective, nothing can be said, which is a breach.
pub fn rpo(
    last_good: Option<Timestamp>,
    known_since: Timestamp,
    rpo: Duration,
    now: Timestamp,
) -> Standing {
    let (age, since) = measured(last_good, known_since, now);
    let kept_until = later(since, rpo);
    Standing { age, breached: now > kept_until || now < earlier(since, rpo), kept_until }
}

/// What an instance without an objective is measured against, in the place of `rpo` in [`rpo()`]: until the second run
/// after its last good snapshot is due, and half of the time to the third is over. None where the calendar ends.
pub fn of_schedule(
    schedule: &Schedule,
    last_good: Option<Timestamp>,
    known_since: Timestamp,
    now: Timestamp,
) -> Option<Duration> {
    let (_, since) = measured(last_good, known_since, now);
    let second = schedule.next_after(schedule.next_after(since)?)?;
    let period = schedule.next_after(second)?.duration_since(second).unsigned_abs();
    let due = second.duration_since(since).unsigned_abs();
    Some(due + (period / 2).max(GRACE) + schedule.jitter())
}

/// The age of what counts, and from when on is measured.
fn measured(
    last_good: Option<Timestamp>,
    known_since: Timestamp,
    now: Timestamp,
) -> (Option<Duration>, Timestamp) {
    let age = last_good.and_then(|last_good| age(last_good, now));
    let since = if age.is_some() { last_good.unwrap_or(known_since) } else { known_since };
    (age, since)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RPO: Duration = Duration::from_hours(26);
    const NOTHING_AT_ALL: Duration = Duration::ZERO;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_objective_is_breached_when_the_last_good_snapshot_is_older() {
        let last_good = at("2026-11-20T02:30Z");
        let kept_until = at("2026-11-21T04:30Z");
        for (now, age_s, breached) in [
            ("2026-11-20T02:30:00Z", 0, false),
            ("2026-11-21T04:30:00Z", 26 * 3_600, false),
            ("2026-11-21T04:30:01Z", 26 * 3_600 + 1, true),
        ] {
            let age = Some(Duration::from_secs(age_s));
            let standing = rpo(Some(last_good), at("2020-01-01T00:00Z"), RPO, at(now));
            assert_eq!(standing, Standing { age, breached, kept_until }, "{now}");
        }
    }

    #[test]
    fn without_a_good_snapshot_it_is_measured_from_when_the_instance_was_known() {
        let known = at("2026-11-20T12:00Z");
        for (now, breached) in [("2026-11-21T14:00Z", false), ("2026-11-21T14:00:01Z", true)] {
            let standing = rpo(None, known, RPO, at(now));
            let kept_until = at("2026-11-21T14:00Z");
            assert_eq!(standing, Standing { age: None, breached, kept_until });
        }
    }

    #[test]
    fn a_snapshot_from_the_future_is_not_fresh() {
        let (now, future) = (at("2026-11-21T12:00Z"), at("2026-11-21T12:00:01Z"));
        let standing = rpo(Some(future), at("2026-11-01T00:00Z"), RPO, now);
        assert_eq!((standing.age, standing.breached), (None, true));
        let standing = rpo(Some(future), at("2026-11-21T00:00Z"), RPO, now);
        assert_eq!((standing.age, standing.breached), (None, false));
        assert_eq!(standing.kept_until, at("2026-11-22T02:00Z"));
    }

    #[test]
    fn where_everything_lies_far_in_the_future_the_objective_is_not_known_to_be_kept() {
        let now = at("2026-11-21T12:00Z");
        for (known, breached) in [
            ("2026-11-22T14:00Z", false),
            ("2026-11-22T14:00:01Z", true),
            ("2036-11-22T14:00:00Z", true),
        ] {
            assert_eq!(rpo(None, at(known), RPO, now).breached, breached, "{known}");
            assert_eq!(rpo(Some(at("2037-01-01T00:00Z")), at(known), RPO, now).breached, breached);
        }
    }

    #[test]
    fn without_an_objective_the_second_missed_run_is_a_breach() {
        use crate::policy::schedule::tests::zone;
        let jitter = Duration::from_mins(10);
        let minutes = |pattern: &str, last_good: Option<&str>, now: &str| {
            let schedule =
                Schedule::parse(pattern, zone("Europe/Berlin"), jitter, Duration::ZERO).unwrap();
            let known_since = at("2026-11-16T01:30Z");
            let found = of_schedule(&schedule, last_good.map(at), known_since, at(now)).unwrap();
            found.checked_sub(jitter).unwrap().as_secs() / 60
        };
        let now = "2026-11-20T01:30Z";
        let nightly = "30 2 * * *";
        assert_eq!(minutes(nightly, Some("2026-11-20T01:30Z"), now), 60 * 60);
        assert_eq!(minutes(nightly, Some("2026-11-19T21:30Z"), now), 40 * 60, "one by hand");
        assert_eq!(minutes(nightly, None, now), 60 * 60);
        assert_eq!(
            minutes(nightly, Some("2030-01-01T00:00Z"), now),
            60 * 60,
            "one from the future"
        );
        // Of working days, on a Friday: until Tuesday noon.
        let working = "30 2 * * MON-FRI";
        assert_eq!(minutes(working, Some("2026-11-20T01:30Z"), now), 108 * 60);
        // Clocks are put back in that night.
        assert_eq!(minutes(nightly, Some("2026-10-24T00:30Z"), now), 61 * 60);
        assert_eq!(minutes("*/5 * * * *", Some("2026-11-20T01:30Z"), now), 10 + 15);
        let february = Schedule::parse("0 0 29 2 *", zone("UTC"), jitter, jitter).unwrap();
        assert_eq!(of_schedule(&february, None, at("9996-03-01T00:00Z"), at(now)), None);
    }

    #[test]
    fn the_shortest_and_the_longest_objectives_can_be_measured() {
        let now = at("2026-11-21T12:00Z");
        assert!(!rpo(Some(now), now, NOTHING_AT_ALL, now).breached);
        let standing = rpo(Some(Timestamp::MIN), now, Duration::MAX, now);
        assert_eq!((standing.breached, standing.kept_until), (false, Timestamp::MAX));
    }
}
