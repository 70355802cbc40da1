//! Windows: when production may be touched, such as `Sat 01:00-05:00`.
//!
//! What always holds: a window is open from the moment when the clock of its zone first shows its beginning until the moment when it
//! first shows its end. A time that the clock skips is the moment when it goes on again, so that a window which lies wholly in
//! what is skipped does not open on that day; of a time that it shows twice the first counts. One whose end is not after its
//! beginning ends on the day after.

use jiff::Timestamp;
use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone};
use std::fmt;
use std::str::FromStr;

/// The days of the week as they are written, from Monday on.
const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];
/// A window of one day may be skipped by a clock change, and the one a week later as well; three times in a row is no zone's way.
const LOOK_AHEAD_DAYS: i32 = 22;

/// Days of the week, and a time from a clock's hour to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// As it was written.
    text: String,
    /// Whether it opens on a day, from Monday on.
    days: [bool; 7],
    begin: Time,
    /// None is midnight at the day's end.
    end: Option<Time>,
}

/// Why a text is no window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no window: {why}")]
pub struct ParseWindowError {
    text: String,
    why: String,
}

impl ParseWindowError {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        "write days and hours, such as \"Sat 01:00-05:00\", \"Mon-Fri 22:00-04:00\", \"Sat,Sun 00:00-24:00\" or \"02:00-05:00\""
    }
}

impl FromStr for Window {
    type Err = ParseWindowError;

    fn from_str(text: &str) -> Result<Self, ParseWindowError> {
        let wrong = |why: String| ParseWindowError { text: text.to_owned(), why };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words[..] {
            [hours] => ([true; 7], hours),
            [days, hours] => (days_of(days).map_err(wrong)?, hours),
            _ => return Err(wrong("it has not the form DAYS HH:MM-HH:MM".to_owned())),
        };
        let Some((begin, end)) = hours.split_once('-') else {
            return Err(wrong(format!("'{hours}' has not the form HH:MM-HH:MM")));
        };
        let begin = time_of(begin).map_err(wrong)?;
        let end = if end == "24:00" { None } else { Some(time_of(end).map_err(wrong)?) };
        if end == Some(begin) {
            return Err(wrong("it ends when it begins".to_owned()));
        }
        Ok(Self { text: words.join(" "), days, begin, end })
    }
}

fn days_of(text: &str) -> Result<[bool; 7], String> {
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day_of(first)?, day_of(last)?);
        let mut day = first;
        // A range may go over the week's end.
        while day != last {
            days[day] = true;
            day = (day + 1) % 7;
        }
        days[last] = true;
    }
    Ok(days)
}

fn day_of(text: &str) -> Result<usize, String> {
    let found = DAYS.iter().position(|(name, _)| name.eq_ignore_ascii_case(text));
    found.ok_or_else(|| {
        format!("'{text}' is no day: there are Mon, Tue, Wed, Thu, Fri, Sat and Sun")
    })
}

fn time_of(text: &str) -> Result<Time, String> {
    let wrong = || format!("'{text}' is no time of the day");
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let is_two_digits =
        |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_two_digits(hour) || !is_two_digits(minute) {
        return Err(wrong());
    }
    let number = |part: &str| part.parse::<i8>().map_err(|_| wrong());
    Time::new(number(hour)?, number(minute)?, 0, 0).map_err(|_| wrong())
}

impl fmt::Display for Window {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Window {
    /// When it is open of the days that begin on this date: from the first moment on, and no more at the second.
    fn on(&self, date: Date, zone: &TimeZone) -> Option<(Timestamp, Timestamp)> {
        let position = DAYS.iter().position(|(_, day)| *day == date.weekday())?;
        if !self.days[position] {
            return None;
        }
        let end = match self.end {
            Some(end) if end > self.begin => date.to_datetime(end),
            Some(end) => date.tomorrow().ok()?.to_datetime(end),
            None => date.tomorrow().ok()?.to_datetime(Time::midnight()),
        };
        let begin = moment(date.to_datetime(self.begin), zone)?;
        let end = moment(end, zone)?;
        (begin < end).then_some((begin, end))
    }
}

/// When a clock first shows a time, or goes on beyond it.
fn moment(clock: jiff::civil::DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let shown = zone.to_ambiguous_timestamp(clock);
    match shown.offset() {
        AmbiguousOffset::Gap { after, .. } => {
            let before_it = after.to_timestamp(clock).ok()?;
            let mut changes = zone.following(before_it);
            Some(changes.find(|change| change.offset() == after)?.timestamp())
        }
        AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => shown.earlier().ok(),
    }
}

/// All windows of a pair, on the clock of a zone. Without any it is always open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Windows {
    windows: Vec<Window>,
    zone: TimeZone,
}

/// Whether production may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// There is no window: always.
    Always,
    /// Now, and until this moment.
    Until(Timestamp),
    /// Not now, but from this moment on.
    From(Timestamp),
    /// The calendar ends before a window opens.
    Never,
}

impl Windows {
    /// Of these windows; of none, it is always open.
    pub fn new(windows: Vec<Window>, zone: TimeZone) -> Self {
        Self { windows, zone }
    }

    /// The windows.
    pub fn all(&self) -> &[Window] {
        &self.windows
    }

    /// Whose clock they go by.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Whether it is open at a moment, and until when, or else when it opens. Windows that touch or overlap are one.
    pub fn at(&self, now: Timestamp) -> Opening {
        if self.windows.is_empty() {
            return Opening::Always;
        }
        let mut times = self.around(now);
        times.sort_unstable();
        let mut open_until: Option<Timestamp> = None;
        for (begin, end) in times {
            match open_until {
                // Begins before the one that is open ends: it goes on.
                Some(until) if begin <= until => open_until = Some(until.max(end)),
                Some(_) => break,
                None if end <= now => {}
                None if begin <= now => open_until = Some(end),
                None => return Opening::From(begin),
            }
        }
        open_until.map_or(Opening::Never, Opening::Until)
    }

    /// Whether it is open at a moment.
    pub fn is_open(&self, now: Timestamp) -> bool {
        matches!(self.at(now), Opening::Always | Opening::Until(_))
    }

    /// When each window is open on the days around a moment.
    fn around(&self, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
        // One that is open may have begun the day before, and a zone may have skipped a day.
        let today = self.zone.to_datetime(now).date();
        let days = (-2..=LOOK_AHEAD_DAYS)
            .filter_map(|days| today.checked_add(jiff::Span::new().days(days)).ok());
        days.flat_map(|date| self.windows.iter().filter_map(move |it| it.on(date, &self.zone)))
            .collect()
    }
}

/// Such as `Sat 01:00-05:00 (Europe/Berlin)`.
impl fmt::Display for Windows {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.windows.is_empty() {
            return formatter.write_str("at any time");
        }
        let all: Vec<String> = self.windows.iter().map(ToString::to_string).collect();
        write!(formatter, "{}", all.join(", "))?;
        self.zone.iana_name().map_or(Ok(()), |zone| write!(formatter, " ({zone})"))
    }
}

#[cfg(test)]
mod tests;
