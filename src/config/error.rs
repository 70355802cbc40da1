//! What is wrong with a configuration: each problem with its place, its reason and, where useful, what to do.
//!
//! Nothing here shows a secret: lines come from [`excerpt`](super::excerpt), which hides what could be one.

use super::excerpt::Excerpt;
use serde::Serialize;
use std::fmt;
use std::path::PathBuf;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("the configuration {} could not be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read, and is wrong.
    #[error("{}", listed(origin, problems))]
    Invalid {
        /// The file, or whatever else the text came from.
        origin: String,
        /// At least one, in the order of their places.
        problems: Vec<Problem>,
    },
}

impl ConfigError {
    /// What to do about it, where that is not said with each problem.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Some(
                "name the file with --config FILE; config/belay.toml of the source is an example",
            ),
            Self::Read { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Some("run Belay as a user who may read it, or name another file with --config FILE")
            }
            Self::Read { .. } | Self::Invalid { .. } => None,
        }
    }

    /// The problems of a file that could be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Read { .. } => &[],
            Self::Invalid { problems, .. } => problems,
        }
    }
}

/// One thing that is wrong in the text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The character in the line, from 1.
    pub column: usize,
    /// What is wrong, and why.
    pub message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The line itself with what is meant in it, unless it could hold a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.to_string();
            let margin = " ".repeat(number.len());
            let indent = " ".repeat(excerpt.mark_start);
            let mark = "^".repeat(excerpt.mark_length);
            write!(formatter, "\n  {number} | {}\n  {margin} | {indent}{mark}", excerpt.text)?;
        }
        if let Some(hint) = &self.hint {
            write!(formatter, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

fn listed(origin: &str, problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(|problem| format!("{origin}:{problem}")).collect();
    lines.join("\n")
}

/// A name that the configuration does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {what} is called '{name}'")]
pub struct UnknownName {
    /// `instance`, `repository` or `pair`.
    pub what: &'static str,
    /// The name that was asked for.
    pub name: String,
    /// What to do: the nearest name, or all there are.
    pub hint: String,
}

impl UnknownName {
    pub(super) fn new<'a>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let known: Vec<&str> = known.into_iter().collect();
        let hint = match did_you_mean(name, known.iter().copied()) {
            Some(hint) => hint,
            None if known.is_empty() => format!("the configuration has no {what}"),
            None => format!("the configuration has {}", known.join(", ")),
        };
        Self { what, name: name.to_owned(), hint }
    }
}

/// `did you mean 'staging'?`, where one of the known words is near enough to be meant.
pub(super) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let distance = |other: &str| {
        strsim::damerau_levenshtein(&word.to_ascii_lowercase(), &other.to_ascii_lowercase())
    };
    known
        .into_iter()
        .map(|other| (distance(other), other))
        .filter(|&(distance, other)| distance <= (word.len().max(other.len()) / 3).max(1))
        .min()
        .map(|(_, other)| format!("did you mean '{other}'?"))
}
