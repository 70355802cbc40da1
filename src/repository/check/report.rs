//! What a check is asked, and what it answers.

use crate::model::exact_path::ExactPath;
use crate::model::id::{FileId, SnapshotId};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// So many paths of what a finding loses are named.
pub const MAX_PATHS: usize = 10;
/// A pack is assigned to a slice by the first byte of its id, as restic does it.
pub const MAX_SLICES: u16 = 256;

/// What is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// The packs whose bytes are all read. With none only the structure is checked: what is there, and every tree.
    pub read_data: Option<Slice>,
}

/// A part of all packs: slice `n` of `t`. The `t` slices together are all packs, and share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    n: u16,
    t: u16,
}

impl Slice {
    /// All packs.
    pub const ALL: Self = Self { n: 1, t: 1 };

    /// Whether a pack belongs to it.
    pub fn contains(self, pack: FileId) -> bool {
        u16::from(pack.0[0]) % self.t == self.n - 1
    }
}

impl fmt::Display for Slice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.n, self.t)
    }
}

/// Why a text names no slice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSliceError {
    /// Not two numbers.
    #[error("'{0}' is no slice: N/T is expected, such as 1/7 for the first of seven")]
    Syntax(String),
    /// There are not so many slices.
    #[error("'{0}' is no slice: the number of slices must be between 1 and {MAX_SLICES}")]
    Total(String),
    /// No such slice.
    #[error("'{text}' is no slice: the first number must be between 1 and {total}")]
    Number {
        /// What was given.
        text: String,
        /// How many slices it says there are.
        total: u16,
    },
}

impl FromStr for Slice {
    type Err = ParseSliceError;

    fn from_str(text: &str) -> Result<Self, ParseSliceError> {
        let number = |digits: &str| {
            // `parse` alone would take a sign.
            let is_number =
                !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
            // A number that does not fit is too large in any case.
            is_number.then(|| digits.parse::<u16>().unwrap_or(u16::MAX))
        };
        let parts = text.split_once('/').and_then(|(n, t)| Some((number(n)?, number(t)?)));
        let (n, t) = parts.ok_or_else(|| ParseSliceError::Syntax(text.to_owned()))?;
        if !(1..=MAX_SLICES).contains(&t) {
            return Err(ParseSliceError::Total(text.to_owned()));
        }
        if !(1..=t).contains(&n) {
            return Err(ParseSliceError::Number { text: text.to_owned(), total: t });
        }
        Ok(Self { n, t })
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Something is not what was once written.
    Damage,
    /// Something that may interest a person; nothing is wrong.
    Note,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// `config`.
    Config,
    /// A key file.
    Key,
    /// A lock file.
    Lock,
    /// An index file, or one that is missing.
    Index,
    /// A snapshot file.
    Snapshot,
    /// A pack.
    Pack,
    /// A directory that cannot be read, or says something wrong.
    Tree,
    /// A blob that no pack holds.
    Blob,
}

impl FindingKind {
    /// Its name, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Key => "key",
            Self::Lock => "lock",
            Self::Index => "index",
            Self::Snapshot => "snapshot",
            Self::Pack => "pack",
            Self::Tree => "tree",
            Self::Blob => "blob",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Something that a person should know about the repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: FindingKind,
    /// The file's name in the repository, such as `data/ab/ab12…`; a folder where it is about several files, and
    /// `data blob ID` or `tree blob ID` for a blob that is in no file.
    pub object: String,
    /// What is wrong, in whole sentences.
    pub message: String,
    /// The snapshots that it touches, newest first: these do not restore as they were. Empty where nothing is lost.
    pub snapshots: Vec<SnapshotId>,
    /// Up to [`MAX_PATHS`] of the paths that are lost; of several snapshots that share a directory, the newest is named.
    pub paths: Vec<LostPath>,
    /// How many more there are. A directory that is shared by snapshots, or comes several times in one, counts once.
    pub more_paths: u64,
}

/// A path that does not restore. Shown to people it is `SNAPSHOT:/path` with a short id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostPath {
    /// A snapshot that has it.
    pub snapshot: SnapshotId,
    /// `path`: where it is in the snapshot.
    #[serde(flatten)]
    pub path: ExactPath,
}

impl fmt::Display for LostPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.snapshot.short(), self.path)
    }
}

/// What a check has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// Snapshots that were read.
    pub snapshots: u64,
    /// Packs that are stored.
    pub packs: u64,
    /// Blobs in the packs that are listed by an index, or were read because no index lists them.
    pub blobs: u64,
    /// Distinct directories that were read.
    pub trees: u64,
    /// Bytes of packs that were read.
    pub bytes_read: u64,
    /// Bytes of blobs that no snapshot needs, which a prune may reclaim. Too high where snapshots or trees are damaged,
    /// since what these need is not known.
    pub unreferenced_bytes: u64,
    /// What was found, damage first.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// Whether anything is damaged; notes do not count.
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_read_and_refused_with_a_reason() {
        assert_eq!("1/1".parse(), Ok(Slice::ALL));
        assert_eq!("256/256".parse::<Slice>().unwrap().to_string(), "256/256");
        let refused = |text: &str| text.parse::<Slice>().unwrap_err();
        for text in ["", "1", "1/", "/1", "a/b", "+1/2", "-1/2", "1/2/3", " 1/2", "50%"] {
            assert_eq!(refused(text), ParseSliceError::Syntax(text.into()));
        }
        for text in ["1/0", "0/0", "1/257", "1/99999999999"] {
            assert_eq!(refused(text), ParseSliceError::Total(text.into()));
        }
        for text in ["0/3", "4/3", "99999999999/3"] {
            assert_eq!(refused(text), ParseSliceError::Number { text: text.into(), total: 3 });
        }
    }

    #[test]
    fn each_pack_is_in_one_slice() {
        for total in [1, 2, 7, 256] {
            for first in 0..=255 {
                let pack = FileId([first; 32]);
                let slices = (1..=total).map(|n| Slice { n, t: total });
                assert_eq!(slices.filter(|slice| slice.contains(pack)).count(), 1);
            }
        }
        assert!("3/7".parse::<Slice>().unwrap().contains(FileId([9; 32])), "9 % 7 is 3 - 1");
    }
}
