//! How values are written in columns: times as RFC 3339 in UTC with nine decimal places, so that the order of the
//! texts is the order of the times; ids as lower-case hexadecimal digits; enumerations as words; the rest as JSON.

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::Type;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::error::Error;
use std::str::FromStr;

/// A stored value that cannot be what it should be.
#[derive(Debug, thiserror::Error)]
#[error("the column '{column}' holds '{text}', which cannot be read: {reason}")]
struct BadValue {
    column: &'static str,
    text: String,
    reason: Box<dyn Error + Send + Sync>,
}

/// A time as it is stored.
pub(super) fn time(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// A time that may be missing, as it is stored.
pub(super) fn maybe_time(value: Option<Timestamp>) -> Option<String> {
    value.map(time)
}

/// An id or a name that may be missing, as it is stored.
pub(super) fn maybe_text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// A size or a number as it is stored. SQLite's integers are signed: nothing real is above 8 EiB, and an absurd size in
/// somebody's manifest must not stop a rebuild.
pub(super) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads a size or a number.
pub(super) fn unsigned(row: &Row<'_>, column: &'static str) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, number))
}

/// A value as JSON.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// An enumeration as its word, which is what its JSON is without the quotes.
pub(super) fn word<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    Ok(json(value)?.trim_matches('"').to_owned())
}

fn read<T>(
    column: &'static str,
    text: String,
    parse: impl FnOnce(&str) -> Result<T, Box<dyn Error + Send + Sync>>,
) -> rusqlite::Result<T> {
    parse(&text).map_err(|reason| {
        let bad = BadValue { column, text, reason };
        rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(bad))
    })
}

/// Reads an id, a name or a time.
pub(super) fn parsed<T>(row: &Row<'_>, column: &'static str) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    read(column, row.get(column)?, |text| text.parse().map_err(Into::into))
}

/// Reads an id, a name or a time that may be missing.
pub(super) fn maybe_parsed<T>(row: &Row<'_>, column: &'static str) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    maybe(row, column, parsed)
}

/// Reads JSON.
pub(super) fn from_json<T: DeserializeOwned>(
    row: &Row<'_>,
    column: &'static str,
) -> rusqlite::Result<T> {
    read(column, row.get(column)?, |text| serde_json::from_str(text).map_err(Into::into))
}

/// Reads an enumeration's word.
pub(super) fn from_word<T: DeserializeOwned>(
    row: &Row<'_>,
    column: &'static str,
) -> rusqlite::Result<T> {
    read(column, row.get(column)?, |text| {
        serde_json::from_value(serde_json::Value::from(text)).map_err(Into::into)
    })
}

/// Reads what may be missing.
pub(super) fn maybe<T>(
    row: &Row<'_>,
    column: &'static str,
    read: impl FnOnce(&Row<'_>, &'static str) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    if row.get_ref(column)?.data_type() == Type::Null {
        Ok(None)
    } else {
        read(row, column).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_texts_is_the_order_of_times() {
        let times: Vec<Timestamp> = [
            "1969-12-31T23:59:59.999999999Z",
            "1970-01-01T00:00:00Z",
            "2025-01-01T00:00:00.1Z",
            "2025-01-01T00:00:00.100000001Z",
            "2025-01-01T00:00:01Z",
        ]
        .map(|text| text.parse().unwrap())
        .into();
        let texts: Vec<String> = times.iter().copied().map(time).collect();
        assert!(texts.is_sorted() && texts.iter().all(|text| text.len() == 30), "{texts:?}");
        assert_eq!(texts[1], "1970-01-01T00:00:00.000000000Z");
        assert_eq!(texts[2].parse::<Timestamp>().unwrap(), times[2]);
    }

    #[test]
    fn absurd_sizes_are_stored_as_the_largest() {
        assert_eq!(integer(5), 5);
        assert_eq!(integer(u64::MAX), i64::MAX);
    }
}
