//! Writing to standard output and standard error. A reader that closed its pipe ends the output, not the job.
//!
//! What is shown comes out of repositories, and a repository may be hostile: every text for people goes through
//! [`printable`], so that nothing in it plays with the terminal. JSON is exact.

use super::exit::{Exit, Failure};
use crate::model::node::plays_with_terminal;
use serde::Serialize;
use std::io::{self, Write as _};

/// A text of one or more lines, with everything escaped that a terminal would obey rather than show.
pub(super) fn printable(text: &str) -> String {
    escaped(text, |character| matches!(character, '\n' | '\t'))
}

/// The same for what has to stay on one line: a field of a table, or part of a line.
pub(super) fn field(text: &str) -> String {
    escaped(text, |_| false)
}

/// The same for what is told on standard error: further lines are indented, so that none can pass for a message of its
/// own.
pub(super) fn told(text: &str) -> String {
    printable(text).replace('\n', "\n  ")
}

fn escaped(text: &str, is_allowed: impl Fn(char) -> bool) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if plays_with_terminal(character) && !is_allowed(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// How many columns standard output has, where it is a terminal.
pub(super) fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Write bytes to standard output.
pub(super) fn bytes(bytes: &[u8]) -> Result<Exit, Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::internal(format!("could not write to standard output: {error}")))
        }
        _ => Ok(Exit::Done),
    }
}

/// Write a line of text to standard output.
pub(super) fn line(text: impl AsRef<str>) -> Result<Exit, Failure> {
    bytes(format!("{}\n", printable(text.as_ref())).as_bytes())
}

/// Write a JSON document to standard output, on one line, so that it is the last one whatever came before.
pub(super) fn json(document: &impl Serialize) -> Result<Exit, Failure> {
    let mut text = serde_json::to_vec(document)
        .map_err(|error| Failure::internal(format!("could not write JSON: {error}")))?;
    text.push(b'\n');
    bytes(&text)
}

/// Tell a failure on standard error; as JSON on standard output too, where a program listens.
pub(super) fn failure(failure: &Failure, as_json: bool) {
    let mut text = format!("belay: {}\n", told(&failure.message));
    if let Some(hint) = &failure.hint {
        text.push_str("hint: ");
        text.push_str(&told(hint));
        text.push('\n');
    }
    // There is nowhere left to tell that this failed.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    if as_json {
        failure_document(failure);
    }
}

/// Tell something on standard error.
pub(super) fn note(text: &str) {
    // There is nowhere left to tell that this failed.
    let _ = writeln!(io::stderr().lock(), "belay: {}", told(text));
}

/// A failure as the JSON document of the command.
pub(super) fn failure_document(Failure { exit, message, hint }: &Failure) {
    #[derive(Serialize)]
    struct Document<'a> {
        error: &'a str,
        hint: Option<&'a str>,
        exit_code: u8,
    }
    // There is nowhere left to tell that this failed.
    let _ = json(&Document { error: message, hint: hint.as_deref(), exit_code: *exit as u8 });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_plays_with_the_terminal() {
        let hostile = "a\u{1b}[2J\u{9b}31m\rb\u{7f}\u{202e}c\n\td";
        let shown = "a\\u{1b}[2J\\u{9b}31m\\rb\\u{7f}\\u{202e}c";
        assert_eq!(printable(hostile), format!("{shown}\n\td"));
        assert_eq!(field(hostile), format!("{shown}\\n\\td"));
        assert_eq!(told(hostile), format!("{shown}\n  \td"));
        assert_eq!(
            printable("a path\\\\ that is escaped already ☂"),
            "a path\\\\ that is escaped already ☂"
        );
    }
}
