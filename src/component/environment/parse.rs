//! Reads the lines of an environment file.
//!
//! Where dotenv and `docker compose` differ, compose is followed: `#` begins a comment only behind a blank, and in
//! double quotes all of `\n \r \t \\ \" \$` are escapes. A quote that is never closed stands for itself, as in dotenv.

use super::Assignment;
use std::ops::Range;
use zeroize::Zeroizing;

const BYTE_ORDER_MARK: &str = "\u{feff}";
const BLANKS: [char; 2] = [' ', '\t'];

pub(super) fn assignments(text: &str) -> Vec<Assignment> {
    let mut assignments = Vec::new();
    let mut at = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
    while at < text.len() {
        if let Some((key, value_at)) = key(text, at) {
            let (value, raw) = value(text, value_at);
            at = raw.end;
            assignments.push(Assignment { key: key.to_owned(), value, raw });
        }
        at = line_end(text, at) + 1;
    }
    assignments
}

/// The place of the line break behind `at`, or of the end.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length)
}

/// The key of the line that begins at `at`, and where its value may begin; `None` when the line assigns nothing.
fn key(text: &str, at: usize) -> Option<(&str, usize)> {
    let line = &text[at..line_end(text, at)];
    let mut rest = line.trim_start_matches(BLANKS);
    if let Some(after) = rest.strip_prefix("export")
        && after.starts_with(BLANKS)
    {
        rest = after.trim_start_matches(BLANKS);
    }
    let is_part =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '.' | '-');
    let (key, after) = rest.split_at(rest.find(|letter| !is_part(letter))?);
    let after = after.trim_start_matches(BLANKS);
    // `KEY: value` is known to both readers, too.
    let value = after
        .strip_prefix('=')
        .or_else(|| after.strip_prefix(": ").or_else(|| after.strip_prefix(":\t")))?;
    (!key.is_empty()).then(|| (key, at + line.len() - value.len()))
}

/// The value that begins behind the separator at `start`, and where it stands.
fn value(text: &str, start: usize) -> (Zeroizing<String>, Range<usize>) {
    let line = &text[start..line_end(text, start)];
    let begin = start + line.len() - line.trim_start_matches(BLANKS).len();
    let quoted = &text[begin..];
    if let Some(quote @ ('\'' | '"')) = quoted.chars().next()
        && let Some(length) = closing(&quoted[1..], quote)
    {
        let inside = &quoted[1..=length];
        let value = if quote == '"' { unescape(inside) } else { unescape_single(inside) };
        return (value, begin..begin + length + 2);
    }
    let line = &text[begin..start + line.len()];
    let is_comment = |at: usize| at == 0 || line[..at].ends_with(BLANKS);
    let end = line.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
    let value = line[..end.unwrap_or(line.len())].trim_end();
    if value.is_empty() {
        // Right behind the separator, so that a comment stays apart from what is written there.
        return (Zeroizing::default(), start..start);
    }
    (Zeroizing::new(value.to_owned()), begin..begin + value.len())
}

/// How long the text before the closing quote is. A quote behind a backslash does not close.
fn closing(text: &str, quote: char) -> Option<usize> {
    text.match_indices(quote).map(|(at, _)| at).find(|at| !text[..*at].ends_with('\\'))
}

fn unescape_single(text: &str) -> Zeroizing<String> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let text = Zeroizing::new(text.replace("\r\n", "\n"));
    for part in text.split_inclusive("\\'") {
        value.push_str(part.strip_suffix("\\'").unwrap_or(part));
        if part.ends_with("\\'") {
            value.push('\'');
        }
    }
    value
}

fn unescape(text: &str) -> Zeroizing<String> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let escaped = match (letter, letters.peek()) {
            // Line breaks within quotes are the file's.
            ('\\', Some('n')) | ('\r', Some('\n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('t')) => '\t',
            ('\\', Some(other @ ('\\' | '"' | '$'))) => *other,
            _ => {
                value.push(letter);
                continue;
            }
        };
        value.push(escaped);
        letters.next();
    }
    value
}
