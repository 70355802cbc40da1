//! Windows written down by hand, and compared with a clock that is read minute by minute.

use super::*;
use crate::policy::schedule::tests::zone;
use jiff::ToSpan as _;
use proptest::prelude::*;

fn windows(texts: &[&str], zone_name: &str) -> Windows {
    let all = texts.iter().map(|text| text.parse().unwrap()).collect();
    Windows::new(all, zone(zone_name))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// What holds at a moment, as the zone's clock shows it.
fn told(windows: &Windows, now: &str) -> String {
    let shown = |moment: Timestamp| {
        moment.to_zoned(windows.zone().clone()).strftime("%a %d. %H:%M %:z").to_string()
    };
    match windows.at(at(now)) {
        Opening::Always => "always".to_owned(),
        Opening::Until(end) => format!("until {}", shown(end)),
        Opening::From(begin) => format!("from {}", shown(begin)),
        Opening::Never => "never".to_owned(),
    }
}

#[test]
fn it_is_open_from_its_beginning_until_its_end() {
    let berlin = windows(&["Sat 01:00-05:00"], "Europe/Berlin");
    for (now, expected) in [
        ("2026-11-20T12:00Z", "from Sat 21. 01:00 +01:00"),
        ("2026-11-20T23:59:59Z", "from Sat 21. 01:00 +01:00"),
        ("2026-11-21T00:00Z", "until Sat 21. 05:00 +01:00"),
        ("2026-11-21T03:59:59Z", "until Sat 21. 05:00 +01:00"),
        ("2026-11-21T04:00Z", "from Sat 28. 01:00 +01:00"),
    ] {
        assert_eq!(told(&berlin, now), expected, "{now}");
        assert_eq!(berlin.is_open(at(now)), expected.starts_with("until"), "{now}");
    }
    assert_eq!(berlin.to_string(), "Sat 01:00-05:00 (Europe/Berlin)");
}

#[test]
fn it_may_go_over_midnight_and_the_end_of_the_week() {
    let over = windows(&["Fri-Mon 22:00-04:00"], "UTC");
    // Monday's goes into Tuesday.
    assert_eq!(told(&over, "2026-11-24T03:00Z"), "until Tue 24. 04:00 +00:00");
    assert_eq!(told(&over, "2026-11-25T03:00Z"), "from Fri 27. 22:00 +00:00");
    assert_eq!(told(&over, "2026-11-22T02:00Z"), "until Sun 22. 04:00 +00:00");
}

#[test]
fn windows_that_touch_are_one_and_none_is_always() {
    let touching = windows(&["Sat 22:00-24:00", "Sun 00:00-02:00", "Sun 01:00-06:00"], "UTC");
    assert_eq!(told(&touching, "2026-11-21T23:00Z"), "until Sun 22. 06:00 +00:00");
    let all_week = windows(&["Sat,Sun 00:00-24:00"], "UTC");
    assert_eq!(told(&all_week, "2026-11-21T10:00Z"), "until Mon 23. 00:00 +00:00");
    let none = windows(&[], "UTC");
    assert_eq!(
        (told(&none, "2026-11-21T10:00Z").as_str(), none.is_open(at("2026-11-21T10:00Z"))),
        ("always", true)
    );
    assert_eq!(none.to_string(), "at any time");
}

#[test]
fn what_the_clock_skips_begins_when_it_goes_on_and_what_it_repeats_counts_once() {
    // On 29 March 2026 the clock goes from 02:00 to 03:00.
    let skipped = windows(&["Sun 02:15-02:45"], "Europe/Berlin");
    assert_eq!(told(&skipped, "2026-03-29T00:59Z"), "from Sun 05. 02:15 +02:00");
    let begins_in_it = windows(&["Sun 02:30-05:00"], "Europe/Berlin");
    assert_eq!(told(&begins_in_it, "2026-03-29T00:59Z"), "from Sun 29. 03:00 +02:00");
    let ends_in_it = windows(&["Sun 01:00-02:30"], "Europe/Berlin");
    assert_eq!(told(&ends_in_it, "2026-03-29T00:30Z"), "until Sun 29. 03:00 +02:00");
    // On 25 October 2026 it goes from 03:00 to 02:00.
    let twice = windows(&["Sun 02:15-02:45"], "Europe/Berlin");
    assert_eq!(told(&twice, "2026-10-25T00:20Z"), "until Sun 25. 02:45 +02:00");
    assert_eq!(told(&twice, "2026-10-25T01:20Z"), "from Sun 01. 02:15 +01:00");
    let longer = windows(&["Sun 01:00-05:00"], "Europe/Berlin");
    assert_eq!(told(&longer, "2026-10-25T01:20Z"), "until Sun 25. 05:00 +01:00");
    // Samoa skipped a whole day.
    let gone = windows(&["Fri 01:00-05:00"], "Pacific/Apia");
    assert_eq!(told(&gone, "2011-12-30T09:00Z"), "from Fri 06. 01:00 +14:00");
}

#[test]
fn what_is_no_window_is_refused_with_the_reason() {
    for (text, why) in [
        ("", "it has not the form"),
        ("Sat", "'Sat' has not the form"),
        ("Sat 1:00-5:00", "'1:00' is no time of the day"),
        ("Sat 01:00-25:00", "'25:00' is no time of the day"),
        ("Sat 24:00-05:00", "'24:00' is no time of the day"),
        ("Sat 01:00-01:00", "it ends when it begins"),
        ("Someday 01:00-05:00", "'Someday' is no day"),
        ("Sat, 01:00-05:00", "'' is no day"),
        ("Sat 01:00-05:00 Sun", "it has not the form"),
        ("Sat 01:60-05:00", "'01:60' is no time of the day"),
        ("Sat +1:00-05:00", "'+1:00' is no time of the day"),
    ] {
        let error = text.parse::<Window>().unwrap_err();
        assert!(error.to_string().contains(why), "{text}: {error}");
        assert!(error.hint().contains("Sat 01:00-05:00"));
    }
    assert_eq!("  sat   01:00-05:00 ".parse::<Window>().unwrap().to_string(), "sat 01:00-05:00");
}

/// Whether the clock shows a time within one of the windows: what a person would say who looks at it.
fn shows(windows: &Windows, now: Timestamp) -> bool {
    let clock = windows.zone().to_datetime(now);
    let minute = |time: Time| i32::from(time.hour()) * 60 + i32::from(time.minute());
    windows.all().iter().any(|window| {
        let is_day = |date: Date| {
            DAYS.iter()
                .position(|(_, day)| *day == date.weekday())
                .is_some_and(|at| window.days[at])
        };
        let (begin, shown) = (minute(window.begin), minute(clock.time()));
        let end = window.end.map_or(24 * 60, minute);
        let yesterday = clock.date().yesterday().unwrap();
        if end > begin {
            is_day(clock.date()) && (begin..end).contains(&shown)
        } else {
            is_day(clock.date()) && shown >= begin || is_day(yesterday) && shown < end
        }
    })
}

/// Whether the zone's clock is changed within a day of a moment.
fn is_near_a_change(windows: &Windows, now: Timestamp) -> bool {
    let before = now - 26.hours();
    windows
        .zone()
        .following(before)
        .next()
        .is_some_and(|change| change.timestamp() < now + 26.hours())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn it_says_what_the_clock_shows_and_opens_when_it_says(
        days in proptest::collection::vec(0_usize..7, 1..4),
        hours in (0_i8..24, 0_i8..60, 0_i8..24, 0_i8..60),
        start in 1_767_225_600_i64..1_798_761_600,
        zone_name in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"]),
    ) {
        let (h1, m1, h2, m2) = hours;
        prop_assume!((h1, m1) != (h2, m2));
        let days: Vec<&str> = days.iter().map(|day| DAYS[*day].0).collect();
        let text = format!("{} {h1:02}:{m1:02}-{h2:02}:{m2:02}", days.join(","));
        let windows = windows(&[&text], zone_name);
        let mut now = Timestamp::from_second(start - start % 60).unwrap();
        for _ in 0..600 {
            let is_open = windows.is_open(now);
            if !is_near_a_change(&windows, now) {
                prop_assert_eq!(is_open, shows(&windows, now), "{} at {}", text, now);
            }
            match windows.at(now) {
                Opening::Until(end) => {
                    prop_assert!(end > now && !windows.is_open(end));
                    prop_assert!(windows.is_open(end - 1.seconds()));
                }
                Opening::From(begin) => {
                    prop_assert!(begin > now && windows.is_open(begin));
                    prop_assert!(!windows.is_open(begin - 1.seconds()));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            now += 17.minutes();
        }
    }
}
