//! Schedules: when something is due, and what to do about it now.
//!
//! What always holds:
//! - A schedule is a cron pattern on the clock of its zone. A time that the clock skips is due when the clock goes on
//!   again; a time that it shows twice is due the first time only. So what is due once a day is due once on each day,
//!   and due times that fall together are one.
//! - Every due time is decided once: run, told as missed, or told as overlapping ([`decide`]). What is decided is kept
//!   in one moment, `handled`, which the caller stores.
//! - However long nobody looked, a decision takes milliseconds.
//!
//! A due time is *nominal*, as the pattern has it. Looking at it is put off by the jitter, which spreads subjects of
//! one schedule over a while and is always the same for a subject.

mod decide;
mod pattern;
#[cfg(test)]
pub(super) mod tests;

pub use decide::{COUNTED_MOST, Decision, Missed, ON_TIME, Verdict, decide};
pub use pattern::ParseScheduleError;

use crate::policy::spread::spread;
use crate::policy::time::later;
use chrono::{DateTime, Datelike, NaiveDate, Timelike, Utc};
use croner::Cron;
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use std::fmt;
use std::time::Duration;

/// When something is due, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    text: String,
    cron: Cron,
    zone: TimeZone,
    jitter: Duration,
    catch_up: Duration,
}

impl Schedule {
    /// Read a cron pattern: minute, hour, day of the month, month, day of the week, as croner has them; a sixth field
    /// for the seconds may come first. Also `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. A pattern that no
    /// date ever matches is refused.
    ///
    /// `jitter` is the longest that a subject waits after its due time, and `catch_up` how late a run that was missed
    /// is still worth running.
    pub fn parse(
        text: &str,
        zone: TimeZone,
        jitter: Duration,
        catch_up: Duration,
    ) -> Result<Self, ParseScheduleError> {
        let cron = pattern::parse(text)?;
        Ok(Self { text: text.trim().to_owned(), cron, zone, jitter, catch_up })
    }

    /// The pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The longest that a subject waits after its due time.
    pub fn jitter(&self) -> Duration {
        self.jitter
    }

    /// How late a run that was missed is still worth running.
    pub fn catch_up(&self) -> Duration {
        self.catch_up
    }

    /// The first due time after a moment; none where the calendar ends.
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        let mut clock = self.shown(after)?;
        loop {
            clock = from_chrono(self.cron.find_next_occurrence(&to_chrono(clock)?, false).ok()?)?;
            let due = self.due(clock)?;
            // It always is; were it not, the same run would come for ever.
            if due > after {
                return Some(due);
            }
        }
    }

    /// The last due time that is not after a moment; none where the calendar begins.
    pub(super) fn last_until(&self, until: Timestamp) -> Option<Timestamp> {
        let clock = to_chrono(self.shown(until)?)?;
        let last = self.cron.find_previous_occurrence(&clock, true).ok()?;
        self.due(from_chrono(last)?)
    }

    /// How long this subject waits after each due time: from none to the jitter, the same every time.
    pub fn jitter_of(&self, subject: &[u8]) -> Duration {
        spread(subject, self.jitter)
    }

    /// The moment when the clock of the zone first shows this, or goes on beyond it.
    fn due(&self, clock: civil::DateTime) -> Option<Timestamp> {
        let shown = self.zone.to_ambiguous_timestamp(clock);
        match shown.offset() {
            AmbiguousOffset::Gap { after, .. } => {
                let before_it = after.to_timestamp(clock).ok()?;
                let mut changes = self.zone.following(before_it);
                Some(changes.find(|change| change.offset() == after)?.timestamp())
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                shown.earlier().ok()
            }
        }
    }

    /// The latest whole second that the clock of the zone has shown up to a moment. Where clocks were put back it has
    /// shown more than it shows now.
    fn shown(&self, moment: Timestamp) -> Option<civil::DateTime> {
        let offset = self.zone.to_offset(moment);
        let clock = offset.to_datetime(moment);
        let shown = match self.zone.to_ambiguous_timestamp(clock).offset() {
            AmbiguousOffset::Fold { before, after } if offset == after => {
                let second = Duration::from_secs(1);
                let mut changes = self.zone.preceding(later(moment, second));
                let change = changes.find(|change| change.offset() == after)?.timestamp();
                before.to_datetime(change).checked_sub(second).ok()?
            }
            _ => clock,
        };
        shown.with().subsec_nanosecond(0).build().ok()
    }
}

/// The pattern and its zone, such as `30 2 * * * (Europe/Berlin)`.
impl fmt::Display for Schedule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.zone.iana_name() {
            Some(zone) => write!(formatter, "{} ({zone})", self.text),
            None => formatter.write_str(&self.text),
        }
    }
}

/// What a clock shows, dressed as a time in UTC, which skips and repeats nothing.
fn to_chrono(clock: civil::DateTime) -> Option<DateTime<Utc>> {
    let number = |number: i8| u32::try_from(number).ok();
    let date =
        NaiveDate::from_ymd_opt(clock.year().into(), number(clock.month())?, number(clock.day())?)?;
    let time =
        date.and_hms_opt(number(clock.hour())?, number(clock.minute())?, number(clock.second())?)?;
    Some(time.and_utc())
}

/// The reverse of [`to_chrono`].
fn from_chrono(clock: DateTime<Utc>) -> Option<civil::DateTime> {
    let number = |number: u32| i8::try_from(number).ok();
    let year = i16::try_from(clock.year()).ok()?;
    let (month, day) = (number(clock.month())?, number(clock.day())?);
    let (hour, minute) = (number(clock.hour())?, number(clock.minute())?);
    civil::DateTime::new(year, month, day, hour, minute, number(clock.second())?, 0).ok()
}
