//! Small histories, decided by hand. Zones come from the bundled database, so that the machine's own does not matter.

mod model;
mod properties;

use super::*;

pub(super) fn zone(name: &str) -> TimeZone {
    jiff::tz::TimeZoneDatabase::bundled().get(name).unwrap()
}

/// A history in which each snapshot is named by its place, counted from 0, as its id.
struct History {
    zone: TimeZone,
    candidates: Vec<Candidate>,
}

impl History {
    /// Good snapshots at these times, each such as `2026-10-25T02:30+01:00`.
    fn of(zone_name: &str, times: &[&str]) -> Self {
        let candidate = |(place, time): (usize, &&str)| Candidate {
            id: SnapshotId([place as u8; 32]),
            time: time.parse().unwrap(),
            good: true,
            pinned: Vec::new(),
        };
        let candidates = times.iter().enumerate().map(candidate).collect();
        Self { zone: zone(zone_name), candidates }
    }

    fn not_good(mut self, places: &[usize]) -> Self {
        for &place in places {
            self.candidates[place].good = false;
        }
        self
    }

    fn pinned(mut self, place: usize, why: &str) -> Self {
        self.candidates[place].pinned.push(why.to_owned());
        self
    }

    /// The places of what is kept with the reasons, newest first, when it is 2030.
    fn kept(&self, keep: &str) -> Vec<(u8, String)> {
        self.kept_at(keep, None, "2030-01-01T00:00Z")
    }

    fn kept_at(&self, keep: &str, frozen: Option<&Frozen>, now: &str) -> Vec<(u8, String)> {
        let keep: Keep = toml::from_str(keep).unwrap();
        let decisions = decide(&keep, &self.candidates, frozen, &self.zone, now.parse().unwrap());
        assert_eq!(decisions.len(), self.candidates.len());
        let kept = decisions.iter().filter(|decision| decision.is_kept());
        kept.map(|decision| {
            let reasons: Vec<_> = decision.reasons.iter().map(Reason::to_string).collect();
            (decision.id.0[0], reasons.join("; "))
        })
        .collect()
    }
}

fn check(kept: &[(u8, String)], expected: &[(u8, &str)]) {
    let kept: Vec<_> = kept.iter().map(|(place, reasons)| (*place, reasons.as_str())).collect();
    assert_eq!(kept, expected);
}

#[test]
fn no_snapshots_need_no_decision() {
    check(&History::of("UTC", &[]).kept("last = 1"), &[]);
}

#[test]
fn each_rule_gives_its_reason() {
    let history = History::of(
        "UTC",
        &[
            "2026-11-19T02:30Z", // Thursday
            "2026-11-18T14:00Z",
            "2026-11-18T02:30Z",
            "2026-11-15T02:30Z", // Sunday of the week before
            "2026-10-31T02:30Z",
            "2025-06-01T02:30Z",
        ],
    );
    check(
        &history.kept("last = 2\ndaily = 3\nweekly = 2\nmonthly = 2\nyearly = 2\nwithin = \"1d\""),
        &[
            (
                0,
                "the last good snapshot; within 1d; last, 1st of 2; daily, 1st of 3: 2026-11-19; \
                 weekly, 1st of 2: 2026-W47; monthly, 1st of 2: 2026-11; yearly, 1st of 2: 2026",
            ),
            (1, "within 1d; last, 2nd of 2; daily, 2nd of 3: 2026-11-18"),
            (3, "daily, 3rd of 3: 2026-11-15; weekly, 2nd of 2: 2026-W46"),
            (4, "monthly, 2nd of 2: 2026-10"),
            (5, "yearly, 2nd of 2: 2025"),
        ],
    );
}

#[test]
fn weeks_are_those_of_iso_8601_at_a_year_boundary() {
    // 2026 has 53 weeks: the last is Monday 28 December 2026 to Sunday 3 January 2027.
    let history = History::of(
        "Europe/Berlin",
        &[
            "2027-01-04T00:10+01:00", // Monday, still Sunday in UTC
            "2027-01-03T23:50+01:00",
            "2027-01-01T02:30+01:00",
            "2026-12-28T00:00+01:00",
            "2026-12-27T23:59+01:00",
            "2026-12-21T02:30+01:00",
        ],
    );
    check(
        &history.kept("weekly = 3\nyearly = 2"),
        &[
            (0, "the last good snapshot; weekly, 1st of 3: 2027-W01; yearly, 1st of 2: 2027"),
            (1, "weekly, 2nd of 3: 2026-W53"),
            (3, "yearly, 2nd of 2: 2026"),
            (4, "weekly, 3rd of 3: 2026-W52"),
        ],
    );
}

#[test]
fn a_day_with_a_repeated_hour_is_one_day_of_25_hours() {
    // On 25 October 2026 the clock of Berlin goes from 3:00 summer time back to 2:00.
    let history = History::of(
        "Europe/Berlin",
        &[
            "2026-10-25T23:50+01:00",
            "2026-10-25T02:30+01:00",
            "2026-10-25T02:45+02:00",
            "2026-10-25T02:15+02:00",
            "2026-10-25T00:10+02:00", // 24 October in UTC
            "2026-10-24T23:55+02:00",
            "2026-10-24T23:45+02:00",
        ],
    );
    check(
        &history.kept("daily = 2"),
        &[
            (0, "the last good snapshot; daily, 1st of 2: 2026-10-25"),
            (5, "daily, 2nd of 2: 2026-10-24"),
        ],
    );
    check(
        &history.kept("hourly = 4"),
        &[
            (0, "the last good snapshot; hourly, 1st of 4: 2026-10-25 23:00 (+01)"),
            (1, "hourly, 2nd of 4: 2026-10-25 02:00 (+01)"),
            (2, "hourly, 3rd of 4: 2026-10-25 02:00 (+02)"),
            (4, "hourly, 4th of 4: 2026-10-25 00:00 (+02)"),
        ],
    );
    // A day before 23:50 is 23:50 on the day before, which is 25 hours; 24 hours before is 0:50 on the same day.
    let within = |text: &str| {
        let kept = history.kept(&format!("within = \"{text}\""));
        kept.iter().map(|(place, _)| *place).collect::<Vec<_>>()
    };
    assert_eq!(within("1d"), [0, 1, 2, 3, 4, 5]);
    assert_eq!(within("24h"), [0, 1, 2, 3]);
}

#[test]
fn a_day_that_comes_in_two_pieces_is_one_day() {
    // In St. John's in 2006 the clock went from 0:01 on Sunday 29 October back to 23:01 on Saturday.
    let history = History::of(
        "America/St_Johns",
        &[
            "2006-10-28T23:30-03:30",
            "2006-10-29T00:00:30-02:30", // an hour before the above, but the next day
            "2006-10-28T23:45-02:30",
            "2006-10-27T23:00-02:30",
        ],
    );
    check(
        &history.kept("daily = 3"),
        &[
            (0, "the last good snapshot; daily, 1st of 3: 2006-10-28"),
            (1, "daily, 2nd of 3: 2006-10-29"),
            (3, "daily, 3rd of 3: 2006-10-27"),
        ],
    );
}

#[test]
fn within_counts_months_by_the_calendar_and_excludes_exactly_that_age() {
    let history = History::of(
        "UTC",
        &[
            "2027-03-31T02:30Z",
            "2027-02-28T02:30:01Z",
            "2027-02-28T02:30Z", // one month before 31 March is 28 February
            "2027-02-01T02:30Z",
        ],
    );
    check(
        &history.kept("within = \"1mo\""),
        &[(0, "the last good snapshot; within 1mo"), (1, "within 1mo")],
    );
}

#[test]
fn an_idle_instance_loses_nothing_to_within() {
    let history = History::of("UTC", &["2020-01-02T00:00Z", "2020-01-01T12:00Z"]);
    check(
        &history.kept("within = \"1d\""),
        &[(0, "the last good snapshot; within 1d"), (1, "within 1d")],
    );
}

#[test]
fn an_empty_policy_keeps_everything() {
    let history = History::of("UTC", &["2020-01-02T00:00Z", "2020-01-01T00:00Z"]);
    check(&history.kept(""), &[(0, "no policy; the last good snapshot"), (1, "no policy")]);
}

#[test]
fn snapshots_that_are_not_good_push_out_no_good_one() {
    let times = [
        "2026-11-19T12:00Z",
        "2026-11-19T02:00Z",
        "2026-11-18T12:00Z",
        "2026-11-18T02:00Z",
        "2026-11-17T02:00Z",
    ];
    let look = "not good, and no good snapshot is newer";
    let history = History::of("UTC", &times).not_good(&[0, 1, 2]);
    check(
        &history.kept("last = 2\nwithin = \"36h\""),
        &[
            (0, look),
            (1, look),
            (2, look),
            (3, "the last good snapshot; within 36h; last, 1st of 2"),
            (4, "within 36h; last, 2nd of 2"),
        ],
    );
    // Once a newer one is good, they have been looked at or never will be.
    let later = History::of("UTC", &times).not_good(&[1, 2]);
    check(
        &later.kept("daily = 2"),
        &[
            (0, "the last good snapshot; daily, 1st of 2: 2026-11-19"),
            (3, "daily, 2nd of 2: 2026-11-18"),
        ],
    );
    let none_good = History::of("UTC", &times[..2]).not_good(&[0, 1]);
    check(&none_good.kept("last = 1"), &[(0, look), (1, look)]);
}

#[test]
fn pins_keep_and_say_why() {
    let history =
        History::of("UTC", &["2026-11-19T02:00Z", "2026-11-18T02:00Z", "2026-11-17T02:00Z"])
            .pinned(2, "upgrade main to v2.0")
            .pinned(2, "audit")
            .not_good(&[2]);
    check(
        &history.kept("last = 1"),
        &[
            (0, "the last good snapshot; last, 1st of 1"),
            (2, "pinned: upgrade main to v2.0; pinned: audit"),
        ],
    );
}

#[test]
fn while_frozen_everything_is_kept() {
    let history = History::of("UTC", &["2026-11-19T02:00Z", "2026-11-18T02:00Z"]).not_good(&[1]);
    let frozen = Frozen { failures: 2, last_failure: "2026-11-20T02:00Z".parse().unwrap() };
    check(
        &history.kept_at("last = 1", Some(&frozen), "2026-11-20T03:00Z"),
        &[
            (
                0,
                "forgetting is frozen: the last 2 runs failed; the last good snapshot; last, 1st of 1",
            ),
            (1, "forgetting is frozen: the last 2 runs failed"),
        ],
    );
}

#[test]
fn snapshots_newer_than_the_clock_are_kept_beside_the_rules() {
    let history = History::of(
        "UTC",
        &[
            "2026-11-19T02:00Z",
            "2026-11-18T02:00:00.000000001Z",
            "2026-11-18T02:00Z",
            "2026-11-17T12:00Z",
            "2026-11-17T02:00Z",
        ],
    )
    .not_good(&[1]);
    check(
        &history.kept_at("last = 1\nwithin = \"1d\"", None, "2026-11-18T02:00Z"),
        &[
            (0, "newer than the clock"),
            (1, "newer than the clock"),
            (2, "the last good snapshot; within 1d; last, 1st of 1"),
            (3, "within 1d"),
        ],
    );
}

#[test]
fn snapshots_of_one_time_are_told_apart_by_id() {
    let mut history = History::of("UTC", &["2026-11-19T02:00Z"; 3]);
    history.candidates.reverse();
    check(&history.kept("last = 1"), &[(0, "the last good snapshot; last, 1st of 1")]);
    let unfit = History::of("UTC", &["2026-11-19T02:00Z"; 2]).not_good(&[0]);
    check(
        &unfit.kept("last = 1"),
        &[
            (0, "not good, and no good snapshot is newer"),
            (1, "the last good snapshot; last, 1st of 1"),
        ],
    );
}
