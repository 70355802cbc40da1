//! Reading cron patterns, with messages that say which field is wrong and how.

use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Year};

/// The fields of a pattern with seconds, in their order.
const FIELDS: [&str; 6] =
    ["second", "minute", "hour", "day of the month", "month", "day of the week"];

/// Why a text is no schedule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' is no schedule: {why}; write such as '30 2 * * *' for every night at 02:30 \
     (minute, hour, day of the month, month, day of the week)"
)]
pub struct ParseScheduleError {
    text: String,
    why: String,
}

/// Read a pattern of five fields, of six with the seconds first, or a name such as `@daily`.
pub(super) fn parse(text: &str) -> Result<Cron, ParseScheduleError> {
    let cron = read(text).and_then(|cron| {
        // Dates come again after 400 years at the latest, and croner looks for thousands.
        let ever = cron.find_next_occurrence(&DateTime::<Utc>::UNIX_EPOCH, true).is_ok();
        if ever { Ok(cron) } else { Err("no date ever matches it".to_owned()) }
    });
    cron.map_err(|why| ParseScheduleError { text: text.to_owned(), why })
}

fn read(text: &str) -> Result<Cron, String> {
    let parser = CronParser::builder().year(Year::Disallowed).build();
    if text.trim_start().starts_with('@') {
        return parser.parse(text).map_err(|_| {
            "the names are @hourly, @daily, @weekly, @monthly and @yearly".to_owned()
        });
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let skipped = match fields.len() {
        5 => 1,
        6 => 0,
        0 => return Err("it is empty".to_owned()),
        count => {
            return Err(format!("it has {count} of the five fields, or six with seconds first"));
        }
    };
    // One field at a time, because croner does not say which it means.
    for (at, (field, name)) in fields.iter().zip(&FIELDS[skipped..]).enumerate() {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = field;
        let empty = field.split(',').any(str::is_empty);
        if empty || field.contains('@') || parser.parse(&alone.join(" ")).is_err() {
            return Err(format!("'{field}' is no {name}"));
        }
    }
    parser.parse(text).map_err(|error| error.to_string())
}
