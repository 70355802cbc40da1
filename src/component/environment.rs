//! The component `environment`: the file of variables that an instance is started with (`.env`), as the dotenv
//! libraries and `docker compose` read it.
//!
//! Values are secrets: wiped from memory when dropped, hidden in `Debug`, never in a message.

mod merge;
mod parse;
mod write;

pub use merge::{MergeError, Merged, merge};
pub use write::{UnwritableValue, quote};

use std::fmt;
use std::ops::Range;
use zeroize::Zeroizing;

/// A file of variables, as it stands and as it reads.
#[derive(Clone)]
pub struct EnvironmentFile {
    text: Zeroizing<String>,
    assignments: Vec<Assignment>,
}

/// One `KEY=value` of a file.
#[derive(Clone)]
struct Assignment {
    key: String,
    value: Zeroizing<String>,
    /// Where the value stands in the text, quotes included.
    raw: Range<usize>,
}

/// The file is not text, so no reader of such files would take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the environment file is no UTF-8 text")]
pub struct NotText;

impl EnvironmentFile {
    /// Read a file. Lines that assign nothing are passed over, as dotenv does; they stay in the file.
    ///
    /// Variables in values are not replaced: `docker compose` does that (but in single quotes), dotenv does not.
    pub fn parse(bytes: &[u8]) -> Result<Self, NotText> {
        let text =
            std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0')).ok_or(NotText)?;
        let text = Zeroizing::new(text.to_owned());
        let assignments = parse::assignments(&text);
        Ok(Self { text, assignments })
    }

    /// A variable's value: of its last assignment, where there are several.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.assignment(key).map(|assignment| assignment.value.as_str())
    }

    /// The names of all variables, in the order of their effective assignments.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.effective().map(|assignment| assignment.key.as_str())
    }

    fn assignment(&self, key: &str) -> Option<&Assignment> {
        self.assignments.iter().rfind(|assignment| assignment.key == key)
    }

    /// The last assignment of each variable.
    fn effective(&self) -> impl Iterator<Item = &Assignment> {
        self.assignments.iter().enumerate().filter_map(|(index, assignment)| {
            let later = &self.assignments[index + 1..];
            (!later.iter().any(|other| other.key == assignment.key)).then_some(assignment)
        })
    }
}

impl fmt::Debug for EnvironmentFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.keys()).finish()
    }
}

#[cfg(test)]
mod tests;
