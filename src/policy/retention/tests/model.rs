//! The naive model of retention: says of each snapshot by itself whether it is kept, by comparing it with every
//! other one. It has its own calendar in whole numbers; it asks the zone for nothing but the offset at a moment.

use super::*;

/// Seconds from 1970-01-01T00:00 on the local clock, and the offset from UTC in seconds.
fn local(time: Timestamp, zone: &TimeZone) -> (i64, i64) {
    let offset = i64::from(zone.to_offset(time).seconds());
    (seconds(time) + offset, offset)
}

/// Whole seconds since 1970 in UTC, rounded down.
fn seconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond().div_euclid(1_000_000_000)).unwrap()
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// The year, the month and the day, each from 1, of a day counted from 1970-01-01: by going there month by month.
fn date(mut days: i64) -> (i64, i64, i64) {
    let (mut year, mut month) = (1970, 1);
    while days < 0 {
        (year, month) = if month == 1 { (year - 1, 12) } else { (year, month - 1) };
        days += days_of(year, month);
    }
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    (year, month, days + 1)
}

/// The day, counted from 1970-01-01, on which a month begins.
fn first_day(year: i64, month: i64) -> i64 {
    let mut guess = (year - 1970) * 365 + (month - 1) * 28 - 40;
    while date(guess) != (year, month, 1) {
        guess += 1;
    }
    guess
}

/// Two times are of one period of a rule exactly when these are equal.
fn period(rule: Rule, time: Timestamp, zone: &TimeZone) -> (i64, i64) {
    let (clock, offset) = local(time, zone);
    let day = clock.div_euclid(86_400);
    let (year, month, _) = date(day);
    match rule {
        Rule::Last => unreachable!("has no periods"),
        Rule::Hourly => (clock.div_euclid(3_600), offset),
        Rule::Daily => (day, 0),
        // 1970-01-01 was a Thursday.
        Rule::Weekly => ((day + 3).div_euclid(7), 0),
        Rule::Monthly => (year, month),
        Rule::Yearly => (year, 0),
    }
}

/// The units of a [`Within`], taken from its text: years, months, weeks, days, hours.
fn units(within: Within) -> [i64; 5] {
    let text = within.to_string();
    ["y", "mo", "w", "d", "h"].map(|unit| {
        let parts = text.match_indices(unit).map(|(at, _)| {
            let digits = text[..at].chars().rev().take_while(char::is_ascii_digit).count();
            text[at - digits..at].parse::<i64>().unwrap()
        });
        parts.sum()
    })
}

/// The moment so long before `time`: back on the local calendar, then by hours.
fn before(within: Within, time: Timestamp, zone: &TimeZone) -> Timestamp {
    let [years, months, weeks, days, hours] = units(within);
    let moved = if years + months + weeks + days == 0 {
        time
    } else {
        let (clock, _) = local(time, zone);
        let (year, month, day) = date(clock.div_euclid(86_400));
        let month = year * 12 + (month - 1) - years * 12 - months;
        let (year, month) = (month.div_euclid(12), month.rem_euclid(12) + 1);
        let day = first_day(year, month) + day.min(days_of(year, month)) - 1 - weeks * 7 - days;
        let clock = day * 86_400 + clock.rem_euclid(86_400);
        at_local(clock, time.subsec_nanosecond(), zone)
    };
    Timestamp::from_nanosecond(moved.as_nanosecond() - i128::from(hours) * 3_600_000_000_000)
        .unwrap()
}

/// The moment when the local clock shows this: the earlier of two; where the clock skips it, as much later as is
/// skipped.
fn at_local(clock: i64, nanoseconds: i32, zone: &TimeZone) -> Timestamp {
    let moment = |offset: i64| Timestamp::new(clock - offset, nanoseconds).unwrap();
    let offset_near = |hours: i64| {
        i64::from(zone.to_offset(Timestamp::from_second(clock + hours * 3_600).unwrap()).seconds())
    };
    let (earlier, later) = (offset_near(-40), offset_near(40));
    let shown =
        [earlier, later].map(moment).into_iter().filter(|&time| local(time, zone).0 == clock);
    shown.min().unwrap_or_else(|| moment(earlier))
}

/// Whether the policy and the promises keep the snapshot at `place`.
pub(super) fn keeps(
    keep: &Keep,
    all: &[Candidate],
    place: usize,
    frozen: bool,
    zone: &TimeZone,
    now: Timestamp,
) -> bool {
    let this = &all[place];
    if frozen || *keep == Keep::default() || !this.pinned.is_empty() || this.time > now {
        return true;
    }
    let counted: Vec<&Candidate> =
        all.iter().filter(|other| other.good && other.time <= now).collect();
    if !this.good {
        return counted.iter().all(|good| good.time <= this.time);
    }
    let comes_before =
        |a: &Candidate, b: &Candidate| a.time > b.time || (a.time == b.time && a.id < b.id);
    let is_first_of = |rule: Rule, one: &Candidate| {
        let one_period = period(rule, one.time, zone);
        !counted
            .iter()
            .any(|other| comes_before(other, one) && period(rule, other.time, zone) == one_period)
    };
    let newer: Vec<&&Candidate> =
        counted.iter().filter(|other| comes_before(other, this)).collect();
    let Some(newest) = newer.iter().find(|one| !newer.iter().any(|other| comes_before(other, one)))
    else {
        return true; // nothing is newer: it is the last good one
    };
    let by_slot = |rule: Rule, slots: Option<std::num::NonZeroU32>| {
        slots.is_some_and(|slots| {
            is_first_of(rule, this)
                && newer.iter().filter(|other| is_first_of(rule, other)).count()
                    < slots.get() as usize
        })
    };
    keep.within.is_some_and(|within| this.time > before(within, newest.time, zone))
        || keep.last.is_some_and(|slots| newer.len() < slots.get() as usize)
        || by_slot(Rule::Hourly, keep.hourly)
        || by_slot(Rule::Daily, keep.daily)
        || by_slot(Rule::Weekly, keep.weekly)
        || by_slot(Rule::Monthly, keep.monthly)
        || by_slot(Rule::Yearly, keep.yearly)
}

#[test]
fn the_models_calendar_is_right_where_it_is_known() {
    assert_eq!(date(0), (1970, 1, 1));
    assert_eq!(date(-1), (1969, 12, 31));
    assert_eq!(date(11_016), (2000, 2, 29));
    assert_eq!(date(20_776), (2026, 11, 19));
    assert_eq!(first_day(2026, 11), 20_758);
    assert_eq!(units("1y5mo7d2h".parse().unwrap()), [1, 5, 0, 7, 2]);
}
