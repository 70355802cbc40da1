//! Places in the text, and lines of it that are safe to show.
//!
//! A line is shown only as far as it is certain to hold no secret: up to the first value whose key is not on a list
//! of harmless ones (which also covers a mistyped `password`), and never its comment. A line without a key is shown
//! only where it is known to belong to a harmless value, or is the header of a table.

use serde::Serialize;
use std::ops::Range;

/// Keys whose values are no secrets.
const HARMLESS_KEYS: [&str; 32] = [
    "compression",
    "lock_wait",
    "dir",
    "timezone",
    "keep",
    "last",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "yearly",
    "platform",
    "via",
    "paths",
    "exclude",
    "repository",
    "staging",
    "production",
    "on",
    "instances",
    "style",
    "port",
    "tls",
    "driver",
    "window",
    "fresh",
    "soak",
    "approvers",
    "on_failure",
    "drilled",
    "commit_after",
    "tolerance",
];

/// What stands for hidden text.
const HIDDEN: char = '…';

/// A line, or its beginning, with what is meant in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Excerpt {
    /// The line as far as it may be shown.
    pub text: String,
    /// Where the marked part begins in `text`, in characters from 0.
    pub mark_start: usize,
    /// How many characters are marked, at least 1.
    pub mark_length: usize,
}

/// Line and column of a byte in the text, both from 1; columns count characters.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let start = line_start(text, offset);
    let line = text[..start].matches('\n').count() + 1;
    (line, text[start..floor(text, offset)].chars().count() + 1)
}

/// The line in which `span` begins, as far as it may be shown. `in_harmless_value` says that the span lies in the
/// value of a harmless key, so that even a line without a key may be shown.
pub(super) fn excerpt(text: &str, span: &Range<usize>, in_harmless_value: bool) -> Option<Excerpt> {
    let start = line_start(text, span.start);
    let line = text[start..].lines().next().unwrap_or_default();
    // Where a value spans lines, a line of it may look like anything.
    if !in_harmless_value && (text.contains("\"\"\"") || text.contains("'''")) {
        return None;
    }
    let shown = &line[..safe_length(line, in_harmless_value || may_be_header(line))?];
    let hidden = shown.len() < line.trim_end().len();

    let mark_start = floor(text, span.start) - start;
    let mark_end = (floor(text, span.end) - start).min(shown.len());
    let (mark_start, mark_length) = if mark_start < shown.len() {
        let marked = shown[mark_start..mark_end.max(mark_start)].chars().count();
        (shown[..mark_start].chars().count(), marked.max(1))
    } else {
        (shown.chars().count(), 1)
    };
    let printable = |letter: char| if letter.is_control() { ' ' } else { letter };
    let text = shown.chars().map(printable).chain(hidden.then_some(HIDDEN)).collect();
    Some(Excerpt { text, mark_start, mark_length })
}

fn floor(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset.min(text.len()))
}

fn line_start(text: &str, offset: usize) -> usize {
    text[..floor(text, offset)].rfind('\n').map_or(0, |newline| newline + 1)
}

/// Whether a line is a table's header, even a broken one.
fn may_be_header(line: &str) -> bool {
    let in_header = |byte: u8| byte.is_ascii_alphanumeric() || b"[]._- \t".contains(&byte);
    line.trim_start().starts_with('[') && line.bytes().all(in_header)
}

/// How many bytes of a line may be shown; none where nothing of it may.
fn safe_length(line: &str, safe_without_key: bool) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    let mut has_key = false;
    let mut end = line.len();
    for (at, letter) in line.char_indices() {
        match (quote, letter) {
            _ if escaped => escaped = false,
            (Some('"'), '\\') => escaped = true,
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, '#') => {
                end = at;
                break;
            }
            // Two words are no key: an `=` is missing after the first.
            (None, '=') if !has_key && line[..at].split_whitespace().nth(1).is_some() => {
                return None;
            }
            (None, '=') => {
                has_key = true;
                if !is_harmless(&line[..at], &line[at + 1..]) {
                    // With the space that follows, so that what stands for the value stands where it stood.
                    let space = usize::from(line[at + 1..].starts_with(' '));
                    end = at + 1 + space;
                    return Some(end);
                }
            }
            _ => {}
        }
    }
    (has_key || safe_without_key).then(|| line[..end].trim_end().len())
}

/// Whether the value after a key may be looked at: its key is a harmless one, or it is a table, whose own keys follow.
fn is_harmless(before: &str, value: &str) -> bool {
    let separators = [' ', '\t', '{', '[', ',', '.'];
    let key = before.trim_end().rsplit(separators).next().unwrap_or_default();
    HARMLESS_KEYS.contains(&key) || (key != "password" && value.trim_start().starts_with('{'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, marked: &str) -> Option<String> {
        let start = text.find(marked).unwrap();
        let excerpt = excerpt(text, &(start..start + marked.len()), false)?;
        Some(format!("{}@{}+{}", excerpt.text, excerpt.mark_start, excerpt.mark_length))
    }

    #[test]
    fn what_could_be_a_secret_is_hidden() {
        for text in [
            "password = \"hunter2\"",
            "passwrod = \"hunter2\"",
            "repository.main.password = 'hunter2'",
            "main = { url = \"/x\", password = \"hunter2\" }",
            "main = { compression = 3, pw = \"hunter2\" }",
            "password = { platform = \"hunter2\" }",
            "platform = \"files\" # hunter2",
            "password = \"hunter2",
            "password \"hunter2\"",
            "hunter2",
            "password \"hunter2\" platform = 1",
            "x = \"\"\"\nlast = hunter2\"\"\" y",
            "url = \"s3:https://me:hunter2@host\"",
            "x = \"\"\"\n[hunter2]\n\"\"\"",
            "\"platform\" = \"hunter2\"",
        ] {
            for at in 0..text.len() {
                let excerpt = excerpt(text, &(at..text.len()), false);
                let visible = excerpt.is_some_and(|excerpt| excerpt.text.contains("hunter"));
                assert!(!visible, "{text} at {at}");
            }
        }
    }

    #[test]
    fn harmless_lines_are_shown_with_a_mark() {
        assert_eq!(shown("a = 1\n  via = \"ssh\"", "\"ssh\"").unwrap(), "  via = \"ssh\"@8+5");
        assert_eq!(shown("[instance.x", "x").unwrap(), "[instance.x@10+1");
        assert_eq!(
            shown("keep = { last = 3, dayly = 4 }", "dayly").unwrap(),
            "keep = { last = 3, dayly = …@19+5"
        );
        assert_eq!(shown("exclude = ['a=b'] # c", "a=b").unwrap(), "exclude = ['a=b']…@12+3");
        assert_eq!(shown("password = 'hunter2'", "'hunter2'").unwrap(), "password = …@11+1");
    }

    #[test]
    fn places_count_lines_and_characters() {
        let text = "ä = 1\nb = 'ö' x";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, text.find('1').unwrap()), (1, 5));
        assert_eq!(place(text, text.find('x').unwrap()), (2, 9));
        assert_eq!(place(text, text.len() + 9), (2, 10));
        assert_eq!(place("", 0), (1, 1));
    }
}
