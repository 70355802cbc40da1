//! What upgrades keep beside the catalog: who works on one, and what people have said to it meanwhile.
//!
//! What always holds: one process at a time works on the upgrades of a pair; a word that was left is read by whoever works on it, in the
//! order in which words were left, and lies there until it is cleared away, so that a kill loses none.

use super::OpsError;
use super::private::PrivateDirectory;
use crate::model::name::Name;
use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::path::Path;

const DIRECTORY: &str = "upgrades";
/// More words are not waited with.
const MOST_WORDS: usize = 1_000;

/// The right to work on the upgrades of a pair, for as long as this is there.
pub struct Desk {
    directory: PrivateDirectory,
    pair: Name,
    _lock: File,
}

impl Desk {
    /// Sit down; none where another process works there.
    pub fn take(state_dir: &Path, pair: &Name) -> Result<Option<Self>, OpsError> {
        let directory = PrivateDirectory::make(state_dir, DIRECTORY)?;
        let lock = directory.open_or_make(&format!("{pair}.lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { directory, pair: pair.clone(), _lock: lock })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(OpsError::Io {
                action: "lock",
                path: directory.path_of(&format!("{pair}.lock")),
                source: error.into(),
            }),
        }
    }

    /// The oldest word that lies there.
    pub fn oldest_word(&self) -> Result<Option<LeftWord>, OpsError> {
        let Some(name) = words(&self.directory, &self.pair)?.into_iter().next() else {
            return Ok(None);
        };
        let text = self.directory.read(&name)?.unwrap_or_default();
        Ok(Some(LeftWord { name, text }))
    }

    /// It has been heard.
    pub fn clear_away(&self, word: &LeftWord) -> Result<(), OpsError> {
        self.directory.remove(&word.name)
    }
}

/// A word that was left.
pub struct LeftWord {
    name: String,
    /// As it was left.
    pub text: Vec<u8>,
}

/// Leave a word for whoever works on the upgrades of a pair.
pub fn leave_word(state_dir: &Path, pair: &Name, word: &[u8]) -> Result<(), OpsError> {
    let directory = PrivateDirectory::make(state_dir, DIRECTORY)?;
    let left = words(&directory, pair)?;
    if left.len() >= MOST_WORDS {
        return Err(OpsError::refused(
            format!(
                "{MOST_WORDS} words wait to be read already by who works on the upgrade of {pair}"
            ),
            "see why it does not go on: `belay upgrade status`",
        ));
    }
    let at = jiff::Timestamp::now().as_nanosecond();
    directory.write(&format!("{pair}.word.{at:020}.{}", std::process::id()), word)
}

/// Whether a word waits to be read. Nothing is made or changed.
pub fn has_words(state_dir: &Path, pair: &Name) -> Result<bool, OpsError> {
    let Some(directory) = PrivateDirectory::open(state_dir, DIRECTORY)? else { return Ok(false) };
    Ok(!words(&directory, pair)?.is_empty())
}

fn words(directory: &PrivateDirectory, pair: &Name) -> Result<Vec<String>, OpsError> {
    let mut names = directory.names()?;
    names.retain(|name| {
        name.strip_prefix(pair.as_str()).is_some_and(|rest| rest.starts_with(".word."))
    });
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_works_and_others_leave_words_that_lie_there_in_order_until_they_are_cleared_away() {
        let state = tempfile::tempdir().unwrap();
        let (pair, other): (Name, Name) = ("main".parse().unwrap(), "main2".parse().unwrap());
        assert!(!has_words(state.path(), &pair).unwrap());
        let desk = Desk::take(state.path(), &pair).unwrap().unwrap();
        assert!(Desk::take(state.path(), &pair).unwrap().is_none());
        let of_other = Desk::take(state.path(), &other).unwrap().unwrap();
        for word in ["one", "two"] {
            leave_word(state.path(), &pair, word.as_bytes()).unwrap();
        }
        assert!(of_other.oldest_word().unwrap().is_none());
        assert!(has_words(state.path(), &pair).unwrap());
        assert!(!has_words(state.path(), &other).unwrap());
        // Who was killed before he had done with it has it again.
        assert_eq!(desk.oldest_word().unwrap().unwrap().text, b"one");
        drop(desk);
        let desk = Desk::take(state.path(), &pair).unwrap().unwrap();
        for expected in [&b"one"[..], b"two"] {
            let word = desk.oldest_word().unwrap().unwrap();
            assert_eq!(word.text, expected);
            desk.clear_away(&word).unwrap();
        }
        assert!(desk.oldest_word().unwrap().is_none());
    }
}
