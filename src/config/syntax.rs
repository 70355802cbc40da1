//! From text to the raw configuration, and from what the TOML reader says to a problem that helps.
//!
//! The reader's own messages quote values, which may be secrets; the problems made here do not.

use super::error::{Problem, did_you_mean};
use super::excerpt::{excerpt, place};
use super::raw::RawConfig;
use std::ops::Range;

/// Read the text, or say what stops that; the reader stops at the first problem.
pub(super) fn read(text: &str) -> Result<RawConfig, Problem> {
    toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or_default();
        let (message, hint) = explain(error.message());
        problem(text, &span, false, &message, hint.as_deref())
    })
}

/// A problem with its place and its line, safe to print on a terminal.
pub(super) fn problem(
    text: &str,
    span: &Range<usize>,
    in_harmless_value: bool,
    message: &str,
    hint: Option<&str>,
) -> Problem {
    let (line, column) = place(text, span.start);
    Problem {
        line,
        column,
        message: printable(message),
        hint: hint.map(printable),
        excerpt: excerpt(text, span, in_harmless_value),
    }
}

/// Values in TOML may hold escape sequences of terminals.
fn printable(text: &str) -> String {
    let shown = |letter: char| {
        if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
    };
    text.chars().map(shown).collect()
}

/// The reader's message in our words, without values, and what to do.
fn explain(message: &str) -> (String, Option<String>) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field ") {
        let (key, known) = quoted.split_first().map_or(("", &[][..]), |(key, known)| (*key, known));
        let hint = did_you_mean(key, known.iter().copied())
            .or_else(|| (!known.is_empty()).then(|| format!("known here: {}", known.join(", "))));
        return (format!("unknown key '{key}'"), hint);
    }
    if let (true, Some(key)) = (message.starts_with("missing field "), quoted.first()) {
        return (format!("'{key}' is missing"), None);
    }
    for opening in ["invalid type: ", "invalid value: "] {
        if let Some(rest) = message.strip_prefix(opening) {
            let found = rest.split(['"', '`', ',']).next().unwrap_or_default().trim_end();
            let expected = rest.rsplit_once(", expected ").map_or("something else", |(_, end)| end);
            let expected = if expected == "i64" { "a whole number" } else { expected };
            return (format!("this is of the wrong type ({found}): {expected} is expected"), None);
        }
    }
    (message.trim_end().replace('\n', ", "), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_the_reader_are_reworded_without_values() {
        let explained = |message| explain(message).0;
        assert_eq!(
            explained("invalid type: string \"hunter2, expected\", expected i64"),
            "this is of the wrong type (string): a whole number is expected"
        );
        assert_eq!(
            explained("invalid type: integer `12345`, expected a string"),
            "this is of the wrong type (integer): a string is expected"
        );
        assert_eq!(
            explained("invalid type: map, expected a string"),
            "this is of the wrong type (map): a string is expected"
        );
        assert_eq!(explained("missing field `url`"), "'url' is missing");
    }

    #[test]
    fn unknown_keys_come_with_the_nearest_or_all() {
        let message = "unknown field `shedule`, expected one of `schedule`, `keep`";
        assert_eq!(
            explain(message),
            ("unknown key 'shedule'".into(), Some("did you mean 'schedule'?".into()))
        );
        let message = "unknown field `xyz`, expected `keep`";
        assert_eq!(explain(message).1.unwrap(), "known here: keep");
    }

    #[test]
    fn terminals_are_not_commanded() {
        let problem = problem("a\u{7}b", &(0..1), true, "x\u{1b}[2Jy", None);
        assert_eq!(problem.message, "x\\u{1b}[2Jy");
        assert_eq!(problem.excerpt.unwrap().text, "a b");
    }
}
