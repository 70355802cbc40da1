//! The naive model of schedules: walks through time minute by minute, looks at the clock on the wall, and compares what
//! it shows with every field. It has its own calendar and its own reading of patterns; it asks the zone for nothing but
//! the offset at a moment.

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub(in crate::policy) const MINUTE: i64 = 60;
pub(in crate::policy) const DAY: i64 = 24 * 60 * MINUTE;

/// A day on the calendar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) struct Date {
    pub(in crate::policy) year: i64,
    pub(in crate::policy) month: i64,
    pub(in crate::policy) day: i64,
    /// 0 is Sunday.
    pub(in crate::policy) weekday: i64,
}

fn days_of(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Date {
    /// 2000-01-01 was a Saturday, and 10,957 days after 1970-01-01.
    const START: (i64, Self) = (10_957, Self { year: 2000, month: 1, day: 1, weekday: 6 });

    fn next(self) -> Self {
        let weekday = (self.weekday + 1) % 7;
        if self.day < days_of(self.year, self.month) {
            Self { day: self.day + 1, weekday, ..self }
        } else if self.month < 12 {
            Self { month: self.month + 1, day: 1, weekday, ..self }
        } else {
            Self { year: self.year + 1, month: 1, day: 1, weekday }
        }
    }
}

/// The dates of the days from 2000 on, each found by the day before.
pub(in crate::policy) struct Calendar(Vec<Date>);

impl Calendar {
    /// Up to a year, which it does not hold.
    pub(in crate::policy) fn until(year: i64) -> Self {
        let days = std::iter::successors(Some(Date::START.1), |date| Some(date.next()));
        Self(days.take_while(|date| date.year < year).collect())
    }

    /// The date of a day counted from 1970-01-01.
    pub(in crate::policy) fn date(&self, day: i64) -> Date {
        self.0[usize::try_from(day - Date::START.0).unwrap()]
    }
}

/// A pattern of five fields of numbers, lists, ranges and steps.
pub(in crate::policy) struct Pattern {
    fields: [Vec<bool>; 5],
    any_day: bool,
    any_weekday: bool,
}

impl Pattern {
    pub(in crate::policy) fn read(text: &str) -> Self {
        let fields: Vec<&str> = text.split(' ').collect();
        let set = |at: usize| (0..60).map(|number| holds(fields[at], number, at)).collect();
        Self {
            fields: [set(0), set(1), set(2), set(3), set(4)],
            any_day: fields[2] == "*",
            any_weekday: fields[4] == "*",
        }
    }

    /// Whether it matches what the clock shows.
    pub(in crate::policy) fn matches(&self, date: Date, minute_of_day: i64) -> bool {
        let is = |field: usize, number: i64| self.fields[field][usize::try_from(number).unwrap()];
        let (day, weekday) = (is(2, date.day), is(4, date.weekday));
        let either = match (self.any_day, self.any_weekday) {
            (false, false) => day || weekday,
            _ => day && weekday,
        };
        is(0, minute_of_day % 60) && is(1, minute_of_day / 60) && is(3, date.month) && either
    }
}

/// Whether a field holds a number: any part of its list does.
fn holds(field: &str, number: i64, at: usize) -> bool {
    let (least, most) = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)][at];
    // Sunday has two numbers.
    let numbers = if at == 4 && number == 0 { vec![0, 7] } else { vec![number] };
    field.split(',').any(|part| {
        let (range, step) = part.split_once('/').unwrap_or((part, "1"));
        let step: i64 = step.parse().unwrap();
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((from, to)) => (from.parse().unwrap(), to.parse().unwrap()),
            None if part.contains('/') => (range.parse().unwrap(), most),
            None => (range.parse().unwrap(), range.parse().unwrap()),
        };
        numbers.iter().any(|number| (from..=to).contains(number) && (number - from) % step == 0)
    })
}

/// The moments (in seconds) from one to another, without the last, at which something is due: whenever the clock
/// shows a minute that it has never shown before, that one and all it has skipped are compared.
pub(in crate::policy) fn walk(
    pattern: &Pattern,
    zone: &TimeZone,
    calendar: &Calendar,
    from: i64,
    to: i64,
) -> Vec<i64> {
    let minute_at = |moment: i64| {
        let offset = zone.to_offset(Timestamp::from_second(moment).unwrap());
        (moment + i64::from(offset.seconds())).div_euclid(MINUTE)
    };
    // Clocks have gone back by a day at most.
    let mut moment = (from - 3 * DAY).div_euclid(MINUTE) * MINUTE;
    let mut highest = minute_at(moment);
    let mut found = Vec::new();
    while moment < to {
        let shown = minute_at(moment);
        let new = highest + 1..=shown;
        let is_due = new.clone().any(|minute| {
            pattern.matches(calendar.date(minute.div_euclid(1_440)), minute.rem_euclid(1_440))
        });
        if is_due && moment >= from {
            found.push(moment);
        }
        highest = highest.max(shown);
        moment += MINUTE;
    }
    found
}

#[test]
fn the_models_calendar_and_patterns_are_right_where_they_are_known() {
    let calendar = Calendar::until(2030);
    let date = |year, month, day, weekday| Date { year, month, day, weekday };
    assert_eq!(calendar.date(11_016), date(2000, 2, 29, 2));
    assert_eq!(calendar.date(20_776), date(2026, 11, 19, 4));
    let odd = Pattern::read("*/20,7 2-3 13 * 5");
    let friday = date(2026, 11, 20, 5);
    for (minutes, due) in [(120, true), (127, true), (128, false), (220, true), (240, false)] {
        assert_eq!(odd.matches(friday, minutes), due, "{minutes}");
    }
    assert!(odd.matches(date(2026, 12, 13, 0), 120) && !odd.matches(date(2026, 12, 14, 1), 120));
    assert!(Pattern::read("0 0 * * 5-7").matches(date(2026, 12, 13, 0), 0));
}
