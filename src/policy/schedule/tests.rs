//! Due times and decisions written down by hand. Zones come from the bundled database, so that the machine's own does
//! not matter.

pub(in crate::policy) mod model;
pub(in crate::policy) mod properties;

use super::*;

pub(in crate::policy) fn zone(name: &str) -> TimeZone {
    jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
}

fn schedule(pattern: &str, zone_name: &str) -> Schedule {
    Schedule::parse(pattern, zone(zone_name), Duration::ZERO, Duration::from_hours(6)).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The due times after a moment, as the zone's clock shows them.
fn due_after(pattern: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let schedule = schedule(pattern, zone_name);
    let all =
        std::iter::successors(schedule.next_after(at(after)), |&due| schedule.next_after(due));
    let shown =
        |due: Timestamp| due.to_zoned(zone(zone_name)).strftime("%d. %H:%M:%S %:z").to_string();
    all.take(count).map(shown).collect()
}

#[test]
fn a_time_that_does_not_exist_is_due_at_the_next_that_does() {
    assert_eq!(
        due_after("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00Z", 3),
        ["28. 02:30:00 +01:00", "29. 03:00:00 +02:00", "30. 02:30:00 +02:00"],
    );
    // Several that are skipped are due once, together with what is due then anyway.
    assert_eq!(
        due_after("*/15 * * * *", "Europe/Berlin", "2026-03-29T00:40Z", 3),
        ["29. 01:45:00 +01:00", "29. 03:00:00 +02:00", "29. 03:15:00 +02:00"],
    );
    assert_eq!(
        due_after("59 59 2 * * *", "Europe/Berlin", "2026-03-29T00:40Z", 2),
        ["29. 03:00:00 +02:00", "30. 02:59:59 +02:00"],
    );
}

#[test]
fn a_time_that_comes_twice_is_due_the_first_time() {
    assert_eq!(
        due_after("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", 2),
        ["25. 02:30:00 +02:00", "26. 02:30:00 +01:00"],
    );
    assert_eq!(
        due_after("*/15 * * * *", "Europe/Berlin", "2026-10-25T00:20Z", 4),
        [
            "25. 02:30:00 +02:00",
            "25. 02:45:00 +02:00",
            "25. 03:00:00 +01:00",
            "25. 03:15:00 +01:00"
        ],
    );
    // From within the hour that comes again.
    assert_eq!(
        due_after("*/15 * * * *", "Europe/Berlin", "2026-10-25T01:20Z", 1),
        ["25. 03:00:00 +01:00"],
    );
    assert_eq!(
        due_after("* * * * * *", "Europe/Berlin", "2026-10-25T01:00Z", 1),
        ["25. 03:00:00 +01:00"],
    );
}

#[test]
fn clocks_that_change_by_half_an_hour() {
    assert_eq!(
        due_after("*/15 * * * *", "Australia/Lord_Howe", "2026-10-03T15:10Z", 3),
        ["04. 01:45:00 +10:30", "04. 02:30:00 +11:00", "04. 02:45:00 +11:00"],
    );
    assert_eq!(
        due_after("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:40Z", 3),
        ["05. 01:45:00 +11:00", "05. 02:00:00 +10:30", "05. 02:15:00 +10:30"],
    );
    assert_eq!(
        due_after("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", 2),
        ["04. 02:30:00 +11:00", "05. 02:15:00 +11:00"],
    );
}

#[test]
fn a_day_that_does_not_exist_is_due_when_the_next_begins() {
    assert_eq!(
        due_after("30 2 * * *", "Pacific/Apia", "2011-12-29T00:00Z", 4),
        [
            "29. 02:30:00 -10:00",
            "31. 00:00:00 +14:00",
            "31. 02:30:00 +14:00",
            "01. 02:30:00 +14:00"
        ],
    );
    assert_eq!(
        due_after("0 12 30 12 *", "Pacific/Apia", "2011-06-01T00:00Z", 2),
        ["31. 00:00:00 +14:00", "30. 12:00:00 +14:00"],
    );
}

#[test]
fn clocks_that_change_at_midnight() {
    assert_eq!(
        due_after("0 0 * * *", "America/Sao_Paulo", "2017-10-14T12:00Z", 2),
        ["15. 01:00:00 -02:00", "16. 00:00:00 -02:00"],
    );
    assert_eq!(
        due_after("30 23 * * *", "America/Sao_Paulo", "2018-02-17T12:00Z", 2),
        ["17. 23:30:00 -02:00", "18. 23:30:00 -03:00"],
    );
}

#[test]
fn what_is_no_schedule_is_refused_with_the_reason() {
    let parse = |text: &str| Schedule::parse(text, TimeZone::UTC, Duration::ZERO, Duration::ZERO);
    for (text, why) in [
        ("", "it is empty"),
        ("  ", "it is empty"),
        ("30 2 * *", "it has 4 of the five fields, or six with seconds first"),
        ("0 30 2 * * * 2027", "it has 7 of the five fields, or six with seconds first"),
        ("60 2 * * *", "'60' is no minute"),
        ("30 24 * * *", "'24' is no hour"),
        ("60 30 2 * * *", "'60' is no second"),
        ("30 2 0 * *", "'0' is no day of the month"),
        ("30 2 * 13 *", "'13' is no month"),
        ("30 2 * * MONDAY", "'MONDAY' is no day of the week"),
        ("30 2-1 * * *", "'2-1' is no hour"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("1,,2 * * * *", "'1,,2' is no minute"),
        ("* * * * @daily", "'@daily' is no day of the week"),
        ("02:30", "it has 1 of the five fields"),
        ("@reboot", "the names are @hourly, @daily, @weekly, @monthly and @yearly"),
        ("0 0 30 2 *", "no date ever matches it"),
        ("0 0 31 4,6,9,11 *", "no date ever matches it"),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.starts_with(&format!("'{text}' is no schedule: {why}")), "{message}");
        assert!(message.contains("; write such as '30 2 * * *'"), "{message}");
    }
    for text in
        ["0 0 29 2 *", "@daily", " 30  2 * * * ", "0 3 * * MON-FRI", "0 3 L * *", "0 0 29 2 +MON"]
    {
        parse(text).unwrap();
    }
}

#[test]
fn a_schedule_says_what_it_is() {
    assert_eq!(schedule(" 30 2 * * *", "Europe/Berlin").to_string(), "30 2 * * * (Europe/Berlin)");
    assert_eq!(schedule("@daily", "UTC").to_string(), "@daily (UTC)");
}

#[test]
fn where_the_calendar_ends_nothing_is_due() {
    let daily = schedule("30 2 * * *", "Europe/Berlin");
    assert_eq!(daily.next_after(Timestamp::MAX), None);
    assert_eq!(daily.last_until(Timestamp::MIN), None);
    let decision = decide(&daily, b"one", Timestamp::MAX, Timestamp::MAX, false);
    assert_eq!(decision.verdict, Verdict::Wait { until: None });
}

#[test]
fn subjects_of_one_schedule_wait_differently_and_always_the_same() {
    let hour = Duration::from_hours(1);
    let nightly = Schedule::parse("30 2 * * *", TimeZone::UTC, hour, hour).unwrap();
    let waits: Vec<Duration> = (0..200_u8).map(|id| nightly.jitter_of(&[id])).collect();
    assert!(waits.iter().all(|wait| *wait <= hour));
    let in_quarter = |quarter| waits.iter().filter(|wait| wait.as_secs() / 900 == quarter).count();
    assert!((0..4).all(|quarter| in_quarter(quarter) > 30), "{waits:?}");
    assert_eq!(nightly.jitter_of(&[7]), waits[7]);

    let due = at("2026-11-22T02:30Z");
    let before = due + waits[7] - Duration::from_millis(1);
    let handled = at("2026-11-21T02:30Z");
    let decision = decide(&nightly, &[7], handled, before, false);
    assert_eq!(
        decision,
        Decision { handled, verdict: Verdict::Wait { until: Some(due + waits[7]) } }
    );
    let decision = decide(&nightly, &[7], handled, due + waits[7], false);
    assert_eq!(
        decision,
        Decision { handled: due, verdict: Verdict::Run { due, late: false, missed: None } }
    );
}

#[test]
fn what_was_missed_is_caught_up_once_within_the_grace_window_and_told_beyond_it() {
    // It catches up for six hours.
    let nightly = schedule("30 2 * * *", "Europe/Berlin");
    let handled = at("2026-11-18T01:30Z");
    let due = at("2026-11-21T01:30Z");
    let missed = |last, count| Missed { first: at("2026-11-19T01:30Z"), last: at(last), count };
    let run = |late| Verdict::Run { due, late, missed: Some(missed("2026-11-20T01:30Z", 2)) };
    for (now, verdict) in [
        ("2026-11-21T01:31Z", run(false)),
        ("2026-11-21T01:31:01Z", run(true)),
        ("2026-11-21T07:30Z", run(true)),
        ("2026-11-21T07:30:01Z", Verdict::Missed(missed("2026-11-21T01:30Z", 3))),
    ] {
        let decision = decide(&nightly, b"one", handled, at(now), false);
        assert_eq!(decision, Decision { handled: due, verdict }, "{now}");
    }
    let decision = decide(&nightly, b"one", handled, at("2026-11-21T01:30Z"), true);
    let missed = Some(missed("2026-11-20T01:30Z", 2));
    assert_eq!(decision.verdict, Verdict::Overlaps { due, missed });
}

#[test]
fn a_decision_after_years_of_every_second_does_not_count_them_all() {
    let busy_one = schedule("* * * * * *", "Europe/Berlin");
    let (handled, now) = (at("2016-01-01T00:00Z"), at("2026-10-25T01:30Z"));
    let decision = decide(&busy_one, b"one", handled, now, false);
    // Half past two comes the second time: the last new second was the one before three.
    let due = at("2026-10-25T00:59:59Z");
    let missed = Missed {
        first: handled + Duration::from_secs(1),
        last: due - Duration::from_secs(1),
        count: COUNTED_MOST,
    };
    assert_eq!(
        decision,
        Decision { handled: due, verdict: Verdict::Run { due, late: true, missed: Some(missed) } }
    );
}

#[test]
fn a_clock_that_was_put_back_by_more_than_a_day_starts_afresh() {
    let nightly = schedule("30 2 * * *", "UTC");
    let now = at("2026-11-21T12:00Z");
    for (handled, waits) in [("2026-11-22T12:00Z", true), ("2026-11-22T12:00:01Z", false)] {
        let decision = decide(&nightly, b"one", at(handled), now, false);
        let expected = if waits {
            let until = Some(at("2026-11-23T02:30Z"));
            Decision { handled: at(handled), verdict: Verdict::Wait { until } }
        } else {
            let verdict = Verdict::ClockWentBack { handled_before: at(handled) };
            Decision { handled: now, verdict }
        };
        assert_eq!(decision, expected);
    }
}

#[test]
fn in_every_zone_due_times_go_on_over_every_change() {
    // Years in which islands changed sides, and countries their minds.
    let (from, to) = (at("2010-01-01T00:00Z"), at("2017-01-01T00:00Z"));
    let mut changes = 0;
    for name in jiff::tz::TimeZoneDatabase::bundled().available() {
        let zone = zone(name.as_str());
        let schedules = ["* * * * *", "0 0 * * *"].map(|pattern| {
            Schedule::parse(pattern, zone.clone(), Duration::ZERO, Duration::ZERO).unwrap()
        });
        for change in zone.following(from).take_while(|change| change.timestamp() < to) {
            changes += 1;
            for minutes in [-181, -60, -1, 0, 29, 60, 1_439] {
                let moment = change.timestamp() + jiff::SignedDuration::from_mins(minutes);
                for schedule in &schedules {
                    let next = schedule.next_after(moment).unwrap();
                    let last = schedule.last_until(moment).unwrap();
                    assert!(last <= moment && moment < next, "{schedule} {moment}: {last} {next}");
                    assert_eq!(schedule.last_until(next), Some(next), "{schedule} {moment}");
                    assert_eq!(schedule.next_after(last), Some(next), "{schedule} {moment}");
                }
            }
        }
    }
    assert!(changes > 2_000, "{changes}");
}
