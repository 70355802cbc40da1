//! Why a snapshot is kept: for people as text, for programs as JSON.

use crate::policy::retention::{Frozen, Within};
use jiff::Zoned;
use serde::Serialize;
use std::fmt;

/// A rule that counts snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Each snapshot for itself.
    Last,
    /// The newest of each hour.
    Hourly,
    /// The newest of each day.
    Daily,
    /// The newest of each ISO 8601 week.
    Weekly,
    /// The newest of each month.
    Monthly,
    /// The newest of each year.
    Yearly,
}

impl Rule {
    /// The period of this rule in which a local time lies, as its name: two times are of one period exactly when the
    /// names are equal. None for [`Rule::Last`].
    pub(super) fn period(self, local: &Zoned) -> Option<String> {
        Some(match self {
            Self::Last => return None,
            // With the offset, because one hour of the year comes twice in many zones.
            Self::Hourly => format!("{} {:02}:00 ({})", local.date(), local.hour(), local.offset()),
            Self::Daily => local.date().to_string(),
            Self::Weekly => {
                let week = local.date().iso_week_date();
                format!("{:04}-W{:02}", week.year(), week.week())
            }
            Self::Monthly => format!("{:04}-{:02}", local.year(), local.month()),
            Self::Yearly => format!("{:04}", local.year()),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Last => "last",
            Self::Hourly => "hourly",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
            Self::Yearly => "yearly",
        })
    }
}

/// One thing that keeps a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// It is pinned.
    Pinned {
        /// Why, in the words of the pin.
        why: String,
    },
    /// Runs of the instance failed.
    Frozen(Frozen),
    /// The policy has no rule.
    NoPolicy,
    /// It is dated later than the clock.
    NewerThanClock,
    /// It is the last good snapshot.
    LastGood,
    /// It is not good, and no good snapshot is newer: somebody may want to look at it.
    NotGood,
    /// It is less than this older than the last good snapshot.
    Within {
        /// What the policy says.
        within: Within,
    },
    /// It is the newest of its period.
    Slot {
        /// By which rule.
        rule: Rule,
        /// The place of its period among those with a snapshot, 1 for the newest.
        number: u32,
        /// How many the policy keeps.
        slots: u32,
        /// The period in the instance's time zone, such as `2026-11-19`, `2026-W47` or `2026-11`; none for `last`.
        #[serde(skip_serializing_if = "Option::is_none")]
        period: Option<String>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pinned { why } if why.is_empty() => formatter.write_str("pinned"),
            Self::Pinned { why } => write!(formatter, "pinned: {why}"),
            Self::Frozen(Frozen { failures: 1, .. }) => {
                formatter.write_str("forgetting is frozen: the last run failed")
            }
            Self::Frozen(Frozen { failures, .. }) => {
                write!(formatter, "forgetting is frozen: the last {failures} runs failed")
            }
            Self::NoPolicy => formatter.write_str("no policy"),
            Self::NewerThanClock => formatter.write_str("newer than the clock"),
            Self::LastGood => formatter.write_str("the last good snapshot"),
            Self::NotGood => formatter.write_str("not good, and no good snapshot is newer"),
            Self::Within { within } => write!(formatter, "within {within}"),
            Self::Slot { rule, number, slots, period } => {
                write!(formatter, "{rule}, {number}{} of {slots}", ordinal_ending(*number))?;
                period.as_ref().map_or(Ok(()), |period| write!(formatter, ": {period}"))
            }
        }
    }
}

/// What follows the digits of `number` to say its place.
fn ordinal_ending(number: u32) -> &'static str {
    match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn reasons_read_well() {
        let slot = |rule, number, slots, period: Option<&str>| {
            Reason::Slot { rule, number, slots, period: period.map(str::to_owned) }.to_string()
        };
        assert_eq!(slot(Rule::Last, 1, 3, None), "last, 1st of 3");
        assert_eq!(slot(Rule::Daily, 3, 14, Some("2026-11-19")), "daily, 3rd of 14: 2026-11-19");
        let frozen = |failures| Frozen { failures, last_failure: Timestamp::UNIX_EPOCH };
        assert_eq!(
            Reason::Frozen(frozen(1)).to_string(),
            "forgetting is frozen: the last run failed"
        );
        assert_eq!(
            Reason::Frozen(frozen(12)).to_string(),
            "forgetting is frozen: the last 12 runs failed"
        );
        let pinned = Reason::Pinned { why: "upgrade main to v2.0".to_owned() };
        assert_eq!(pinned.to_string(), "pinned: upgrade main to v2.0");
        assert_eq!(Reason::Within { within: "14d".parse().unwrap() }.to_string(), "within 14d");
    }

    #[test]
    fn places_have_their_endings() {
        let places = [1, 2, 3, 4, 10, 11, 12, 13, 21, 22, 23, 101, 111, 112].map(ordinal_ending);
        let endings = "st nd rd th th th th th st nd rd st th th";
        assert_eq!(places.join(" "), endings);
    }

    #[test]
    fn programs_get_the_parts() {
        let slot = Reason::Slot {
            rule: Rule::Weekly,
            number: 2,
            slots: 8,
            period: Some("2026-W53".to_owned()),
        };
        assert_eq!(
            serde_json::to_value(slot).unwrap(),
            json!({"reason": "slot", "rule": "weekly", "number": 2, "slots": 8, "period": "2026-W53"})
        );
        let frozen = Frozen { failures: 2, last_failure: Timestamp::UNIX_EPOCH };
        assert_eq!(
            serde_json::to_value(Reason::Frozen(frozen)).unwrap(),
            json!({"reason": "frozen", "failures": 2, "last_failure": "1970-01-01T00:00:00Z"})
        );
    }
}
