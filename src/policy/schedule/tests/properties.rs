//! What holds for every pattern, zone and moment, near the moments at which clocks change.
//!
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` look further than the fixed seed does.

use super::model::{Calendar, DAY, MINUTE, Pattern, walk};
use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// Zones with a moment at which clocks change, or days do.
const PLACES: [(&str, &str); 14] = [
    ("UTC", "2024-02-29T12:00Z"),
    ("Europe/Berlin", "2026-03-29T01:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("America/New_York", "2026-11-01T06:00Z"),
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("Asia/Kolkata", "2026-12-31T18:30Z"),
    // 30 December 2011 does not exist.
    ("Pacific/Apia", "2011-12-30T10:00Z"),
    // Over midnight, forth and back.
    ("America/Sao_Paulo", "2017-10-15T03:00Z"),
    ("America/Sao_Paulo", "2018-02-18T02:00Z"),
    ("America/Santiago", "2026-09-06T04:00Z"),
    // Over midnight by a minute, so that a day comes in two pieces.
    ("America/St_Johns", "2006-10-29T02:31Z"),
    // Twice in one spring, and once by three hours.
    ("Africa/Cairo", "2014-06-26T22:00Z"),
    ("Antarctica/Casey", "2010-03-04T15:00Z"),
];

fn field(least: i64, most: i64) -> impl Strategy<Value = String> {
    let number = least..=most;
    prop_oneof![
        6 => Just("*".to_owned()),
        4 => number.clone().prop_map(|one| one.to_string()),
        2 => (number.clone(), number.clone())
            .prop_map(|(a, b)| format!("{}-{}", a.min(b), a.max(b))),
        2 => (1..=most).prop_map(|step| format!("*/{step}")),
        1 => (number.clone(), 1..=most).prop_map(|(from, step)| format!("{from}/{step}")),
        1 => (number.clone(), number.clone(), number).prop_map(|(a, b, c)| format!("{a},{b},{c}")),
    ]
}

prop_compose! {
    /// A pattern that comes within a few days, and one that may not, a zone, and a moment near its special one.
    fn cases()(
        (minute, hour) in (field(0, 59), field(0, 23)),
        (day, month, weekday) in (field(1, 31), field(1, 12), field(0, 7)),
        any_date in prop::bool::weighted(0.7),
        (zone_name, moment) in prop::sample::select(&PLACES[..]),
        distance in prop_oneof![-3 * 60 * MINUTE..3 * 60 * MINUTE, -3 * DAY..3 * DAY],
    ) -> (String, TimeZone, Timestamp) {
        let date = if any_date { "* * *".to_owned() } else { format!("{day} {month} {weekday}") };
        let moment: Timestamp = moment.parse().unwrap();
        let after = Timestamp::from_second(moment.as_second() + distance).unwrap();
        (format!("{minute} {hour} {date}"), zone(zone_name), after)
    }
}

pub(in crate::policy) fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(5);
    }
    config
}

/// A schedule, or none where the pattern never comes, such as on 31 June.
fn parsed(
    pattern: &str,
    zone: &TimeZone,
    jitter: Duration,
    catch_up: Duration,
) -> Option<Schedule> {
    Schedule::parse(pattern, zone.clone(), jitter, catch_up).ok()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn due_times_are_those_of_a_walk_minute_by_minute((text, zone, after) in cases()) {
        let calendar = Calendar::until(2030);
        let end = after.as_second() + 5 * DAY;
        let expected = walk(&Pattern::read(&text), &zone, &calendar, after.as_second() + 1, end);
        let Some(schedule) = parsed(&text, &zone, Duration::ZERO, Duration::ZERO) else {
            prop_assert_eq!(expected, Vec::<i64>::new());
            return Ok(());
        };
        let all = std::iter::successors(schedule.next_after(after), |&due| schedule.next_after(due));
        let found: Vec<i64> =
            all.map(Timestamp::as_second).take_while(|&due| due < end).collect();
        prop_assert_eq!(&found, &expected);
        // Looking back finds the same ones.
        let mut until = Timestamp::from_second(end - 1).unwrap();
        for due in expected.iter().rev() {
            let last = schedule.last_until(until).unwrap();
            prop_assert_eq!(last.as_second(), *due);
            until = last - Duration::from_nanos(1);
        }
        prop_assert!(schedule.last_until(until).is_none_or(|last| last <= after));
    }

    #[test]
    fn a_moment_between_two_seconds_is_no_later_than_the_next((text, zone, after) in cases(), part in 1..1_000_000_000_u64) {
        let Some(schedule) = parsed(&text, &zone, Duration::ZERO, Duration::ZERO) else { return Ok(()) };
        let between = after + Duration::from_nanos(part);
        prop_assert_eq!(schedule.next_after(between), schedule.next_after(after));
        prop_assert_eq!(schedule.last_until(between), schedule.last_until(after));
    }

    #[test]
    fn one_decision_settles_all_that_is_due(
        (text, zone, handled) in cases(),
        off in prop_oneof![-2 * DAY..0, 0..60 * MINUTE, 0..4 * DAY],
        jitter in prop_oneof![Just(0_u64), 0..7_200_u64],
        catch_up in prop_oneof![Just(0_u64), 0..200_000_u64],
        busy in any::<bool>(),
        subject in any::<[u8; 16]>(),
    ) {
        let (jitter, catch_up) = (Duration::from_secs(jitter), Duration::from_secs(catch_up));
        let Some(schedule) = parsed(&text, &zone, jitter, catch_up) else { return Ok(()) };
        let now = Timestamp::from_second(handled.as_second() + off).unwrap();
        let waits = schedule.jitter_of(&subject);
        prop_assert!(waits <= jitter);
        let decision = decide(&schedule, &subject, handled, now, busy);
        let pending: Vec<Timestamp> = {
            let all = std::iter::successors(schedule.next_after(handled), |&due| schedule.next_after(due));
            all.take_while(|&due| due + waits <= now).collect()
        };
        let (missed_but_last, last) = match pending.split_last() {
            Some((last, before)) => (missed(before), Some(*last)),
            None => (None, None),
        };
        let expected = match last {
            _ if handled > now + Duration::from_hours(24) => Verdict::ClockWentBack { handled_before: handled },
            None => Verdict::Wait { until: schedule.next_after(handled).map(|due| due + waits) },
            Some(last) => {
                let late = Duration::try_from(now.duration_since(last + waits)).unwrap();
                if late > catch_up.max(ON_TIME) {
                    Verdict::Missed(missed(&pending).unwrap())
                } else if busy {
                    Verdict::Overlaps { due: last, missed: missed_but_last }
                } else {
                    Verdict::Run { due: last, late: late > ON_TIME, missed: missed_but_last }
                }
            }
        };
        prop_assert_eq!(decision.verdict, expected);
        // Again, and nothing more is due now.
        let again = decide(&schedule, &subject, decision.handled, now, busy);
        prop_assert_eq!(again.handled, decision.handled);
        let Verdict::Wait { until } = again.verdict else { panic!("{again:?}") };
        prop_assert!(until.is_none_or(|until| until > now));
    }

    #[test]
    fn no_text_makes_the_reader_fall_over(text in "[-0-9*/,#LW+?@A-Za-zäß ]{0,20}") {
        if let Some(schedule) = parsed(&text, &TimeZone::UTC, Duration::ZERO, Duration::ZERO) {
            prop_assert!(schedule.next_after(Timestamp::UNIX_EPOCH).is_some());
        }
    }

    #[test]
    fn no_pattern_makes_the_reader_fall_over(fields in prop::collection::vec("[-0-9*/,#LW+?]{1,4}|MON|DEC", 4..8)) {
        let text = fields.join(" ");
        if let Some(schedule) = parsed(&text, &TimeZone::UTC, Duration::ZERO, Duration::ZERO) {
            let due = schedule.next_after(Timestamp::UNIX_EPOCH).unwrap();
            prop_assert_eq!(schedule.last_until(due), Some(due));
        }
    }
}

fn missed(all: &[Timestamp]) -> Option<Missed> {
    let count = u32::try_from(all.len()).unwrap().min(COUNTED_MOST);
    Some(Missed { first: *all.first()?, last: *all.last()?, count })
}
