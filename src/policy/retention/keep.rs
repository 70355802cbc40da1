//! The policy as people write it: `keep = { last = 3, daily = 14, within = "36h" }`.
//!
//! A rule that is there keeps something: 0 is refused, so that a typing error cannot mean "keep nothing".

use crate::policy::retention::Rule;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

/// Which snapshots of an instance to keep; a snapshot is kept when any rule keeps it. Without any rule everything
/// is kept. The last good snapshot and pinned ones are kept whatever is written here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keep {
    /// Keep this many of the newest snapshots.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub last: Option<NonZeroU32>,
    /// Keep the newest snapshot of each of this many hours that have one.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub hourly: Option<NonZeroU32>,
    /// Keep the newest snapshot of each of this many days that have one.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub daily: Option<NonZeroU32>,
    /// Keep the newest snapshot of each of this many weeks (Monday to Sunday) that have one.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub weekly: Option<NonZeroU32>,
    /// Keep the newest snapshot of each of this many months that have one.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub monthly: Option<NonZeroU32>,
    /// Keep the newest snapshot of each of this many years that have one.
    #[serde(deserialize_with = "count", skip_serializing_if = "Option::is_none")]
    pub yearly: Option<NonZeroU32>,
    /// Keep every snapshot that is less than this older than the last good one, such as "36h", "14d" or "1y6mo".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<Within>,
}

impl Keep {
    /// Whether there is no rule, so that everything is kept.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The rules that count snapshots, with how many each may keep.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Rule, u32)> {
        [
            (Rule::Last, self.last),
            (Rule::Hourly, self.hourly),
            (Rule::Daily, self.daily),
            (Rule::Weekly, self.weekly),
            (Rule::Monthly, self.monthly),
            (Rule::Yearly, self.yearly),
        ]
        .into_iter()
        .filter_map(|(rule, slots)| Some((rule, slots?.get())))
    }
}

/// Read the number of a rule, with a message that helps where it is 0 or negative.
fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    let Some(number) = Option::<i64>::deserialize(deserializer)? else { return Ok(None) };
    match u32::try_from(number).map(NonZeroU32::new) {
        Ok(Some(number)) => Ok(Some(number)),
        Ok(None) => Err(serde::de::Error::custom(
            "0 is no number of snapshots to keep: leave the rule out to switch it off",
        )),
        Err(_) => Err(serde::de::Error::custom(format!(
            "{number} is no number of snapshots to keep: use 1 to {}",
            u32::MAX
        ))),
    }
}

/// A time to look back, in units of the calendar: `36h`, `14d`, `8w`, `6mo`, `1y6mo`.
///
/// Whole numbers with their units: `y` years, `mo` months, `w` weeks, `d` days, `h` hours; each unit at most once,
/// the greater before the smaller, nothing between them, no number 0. A single `m` is refused, because it is months
/// to some programs and minutes to others. Years to days are counted in the instance's calendar (a day may last 23
/// or 25 hours; a month before 31 March is the last day of February); hours are always 60 minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within {
    /// How many of each of [`UNITS`]; at least one is not 0.
    numbers: [u32; UNITS.len()],
}

/// The units, from the greatest, with the greatest number of each: what a calendar of 19,998 years can hold.
const UNITS: [(&str, u32); 5] =
    [("y", 19_998), ("mo", 239_976), ("w", 1_043_497), ("d", 7_304_484), ("h", 175_307_616)];

/// Why a text is no time to look back.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "'{text}' is no time to keep snapshots within: {why}; write such as 36h, 14d, 8w, 6mo or 1y6mo"
)]
pub struct ParseWithinError {
    text: String,
    why: String,
}

impl Within {
    /// The moment that lies this long before `time`, or none where that is before all times.
    pub(super) fn before(self, time: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let [years, months, weeks, days, hours] = self.numbers.map(i64::from);
        let calendar = Span::new()
            .try_years(years)
            .and_then(|span| span.try_months(months))
            .and_then(|span| span.try_weeks(weeks))
            .and_then(|span| span.try_days(days))
            .and_then(|span| span.try_hours(hours))
            .expect("numbers are within UNITS, which are those of a span");
        time.to_zoned(zone.clone()).checked_sub(calendar).ok().map(|start| start.timestamp())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut numbers = [0; UNITS.len()];
        let mut next_unit = 0;
        let mut rest = text;
        while !rest.is_empty() {
            let (digits, after) = rest.split_at(length_of(rest, |byte| byte.is_ascii_digit()));
            let (unit, after) = after.split_at(length_of(after, |byte| !byte.is_ascii_digit()));
            if digits.is_empty() {
                return Err(format!("a number is missing before '{unit}'"));
            }
            let at = unit_place(digits, unit)?;
            if at < next_unit {
                return Err(format!("'{digits}{unit}' must not follow a smaller or the same unit"));
            }
            let greatest = UNITS[at].1;
            numbers[at] = match digits.parse() {
                Ok(0) => return Err(format!("'{digits}{unit}' is nothing")),
                Ok(number) if number <= greatest => number,
                _ => return Err(format!("'{digits}{unit}' is more than {greatest}{unit}")),
            };
            next_unit = at + 1;
            rest = after;
        }
        if next_unit == 0 { Err("it is empty".to_owned()) } else { Ok(Self { numbers }) }
    }
}

/// How many bytes at the start of `text` are such. Digits are ASCII, so the end is one of a character too.
fn length_of(text: &str, is_such: impl Fn(u8) -> bool) -> usize {
    text.bytes().take_while(|&byte| is_such(byte)).count()
}

/// The place in [`UNITS`] of what stands behind `digits`.
fn unit_place(digits: &str, unit: &str) -> Result<usize, String> {
    match unit {
        "" => Err(format!("the unit behind '{digits}' is missing (y, mo, w, d or h)")),
        "m" => Err(format!("'m' may be minutes or months: write {digits}mo for months")),
        _ => UNITS
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or_else(|| format!("'{unit}' is no unit (y, mo, w, d or h)")),
    }
}

impl FromStr for Within {
    type Err = ParseWithinError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).map_err(|why| ParseWithinError { text: text.to_owned(), why })
    }
}

impl fmt::Display for Within {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used = self.numbers.iter().zip(UNITS).filter(|(number, _)| **number != 0);
        let parts: Vec<_> = used.map(|(number, (unit, _))| format!("{number}{unit}")).collect();
        formatter.pad(&parts.concat())
    }
}

impl Serialize for Within {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Within {
    fn schema_name() -> Cow<'static, str> {
        "Within".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A time to look back: years (y), months (mo), weeks (w), days (d) and hours (h), such as \"36h\", \"14d\" or \"1y6mo\".",
            "pattern": "^(0*[1-9][0-9]*y)?(0*[1-9][0-9]*mo)?(0*[1-9][0-9]*w)?(0*[1-9][0-9]*d)?(0*[1-9][0-9]*h)?$",
            "minLength": 2,
            "examples": ["36h", "14d", "8w", "6mo", "1y6mo"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(text: &str) -> Within {
        text.parse().unwrap()
    }

    #[test]
    fn times_to_look_back_read_back_as_they_are_written() {
        for text in ["36h", "14d", "8w", "6mo", "1y", "1y5mo7d2h", "1y2mo3w4d5h", "19998y"] {
            assert_eq!(within(text).to_string(), text);
        }
        assert_eq!(within("007d").to_string(), "7d");
    }

    #[test]
    fn what_is_no_time_to_look_back_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "it is empty"),
            ("14", "the unit behind '14' is missing"),
            ("d", "a number is missing before 'd'"),
            ("-1d", "a number is missing before '-'"),
            ("1.5d", "'.' is no unit"),
            ("14 d", "' d' is no unit"),
            ("14D", "'D' is no unit"),
            ("3ä", "'ä' is no unit"),
            ("2m", "write 2mo for months"),
            ("0d", "'0d' is nothing"),
            ("1y0h", "'0h' is nothing"),
            ("2d1y", "'1y' must not follow a smaller"),
            ("1d1d", "'1d' must not follow a smaller or the same unit"),
            ("19999y", "'19999y' is more than 19998y"),
            ("99999999999999999999h", "is more than 175307616h"),
        ] {
            let message = text.parse::<Within>().unwrap_err().to_string();
            assert!(message.contains(why), "{text:?}: {message}");
            assert!(message.ends_with("; write such as 36h, 14d, 8w, 6mo or 1y6mo"), "{message}");
        }
    }

    #[test]
    fn the_greatest_numbers_reach_before_all_times() {
        let all = within("19998y239976mo1043497w7304484d175307616h");
        assert_eq!(all.before(Timestamp::UNIX_EPOCH, &TimeZone::UTC), None);
    }

    #[test]
    fn a_policy_is_read_from_toml_and_back() {
        let text = "last = 3\ndaily = 14\nweekly = 8\nwithin = \"36h\"\n";
        let keep: Keep = toml::from_str(text).unwrap();
        let expected = Keep {
            last: NonZeroU32::new(3),
            daily: NonZeroU32::new(14),
            weekly: NonZeroU32::new(8),
            within: Some(within("36h")),
            ..Keep::default()
        };
        assert_eq!(keep, expected);
        assert_eq!(toml::to_string(&keep).unwrap(), text);
        assert!(!keep.is_empty());
        assert!(toml::from_str::<Keep>("").unwrap().is_empty());
    }

    #[test]
    fn a_policy_that_cannot_be_meant_is_refused() {
        for (text, why) in [
            ("daily = 0", "leave the rule out to switch it off"),
            ("daily = -1", "-1 is no number of snapshots to keep"),
            ("daily = 4294967296", "use 1 to 4294967295"),
            ("daily = \"14\"", "invalid type"),
            ("dayly = 14", "unknown field `dayly`"),
            ("within = \"2m\"", "write 2mo for months"),
            ("within = 14", "invalid type"),
        ] {
            let message = toml::from_str::<Keep>(text).unwrap_err().to_string();
            assert!(message.contains(why), "{text}: {message}");
        }
    }

    #[test]
    fn the_schema_knows_what_is_refused() {
        let schema = schemars::schema_for!(Keep).to_value();
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["daily"]["minimum"], 1);
        assert_eq!(schema["$defs"]["Within"]["type"], "string");
        assert_eq!(schema.get("required"), None);
    }
}
