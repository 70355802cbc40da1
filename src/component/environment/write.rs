//! Writes a value so that dotenv and `docker compose` read the same.
//!
//! Compose replaces `$NAME` everywhere but in single quotes, and knows escapes in double quotes that dotenv leaves as
//! they are; dotenv ends a value without quotes at any `#`. So a value is written in the first of these ways that
//! leaves nothing to interpret: bare, in single quotes, in double quotes.

use zeroize::Zeroizing;

/// No way of writing the value reads the same everywhere, such as one with both a `'` and a `$`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value cannot be written so that dotenv and docker compose read the same")]
pub struct UnwritableValue;

/// What stands behind `KEY=` for this value.
pub fn quote(value: &str) -> Result<Zeroizing<String>, UnwritableValue> {
    // A line break is read as `\n`, whatever it was.
    if value.contains(['\0', '\r']) {
        return Err(UnwritableValue);
    }
    let around = if is_plain(value) {
        ""
    } else if !value.contains('\'') && !value.ends_with('\\') {
        "'"
    } else if !value.contains(['"', '\\', '$']) {
        "\""
    } else if is_bare(value) {
        ""
    } else {
        return Err(UnwritableValue);
    };
    Ok(Zeroizing::new([around, value, around].concat()))
}

/// Means nothing to any reader, not even to a shell.
fn is_plain(value: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_./:@%+,=-".contains(&byte);
    !value.is_empty() && value.bytes().all(is_plain)
}

/// Means the same to both readers without quotes.
fn is_bare(value: &str) -> bool {
    !value.contains(['#', '$', '\n'])
        && !value.starts_with(['\'', '"', '`'])
        && value.trim() == value
}
