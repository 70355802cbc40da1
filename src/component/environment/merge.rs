//! The environment file of a restore: the target's own lines, with the encryption keys that fit the data that came
//! back. What is particular to the target, above all how it reaches its database, stays.

use super::{Assignment, EnvironmentFile};
use std::fmt;
use zeroize::Zeroizing;

/// The file to write, and by name what it changes.
pub struct Merged {
    /// The whole file.
    pub content: Zeroizing<Vec<u8>>,
    /// Variables that got the snapshot's value in place of the target's.
    pub replaced: Vec<String>,
    /// Variables that the target did not have.
    pub added: Vec<String>,
    /// Variables whose value differs from the snapshot's and stays.
    pub kept: Vec<String>,
    /// Variables that should come back, and that the snapshot does not have.
    pub absent: Vec<String>,
}

impl Merged {
    /// Variables whose value is another than the target's.
    pub fn changed(&self) -> impl Iterator<Item = &String> {
        self.replaced.iter().chain(&self.added)
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content: _, replaced, added, kept, absent } = self;
        formatter
            .debug_struct("Merged")
            .field("replaced", replaced)
            .field("added", added)
            .field("kept", kept)
            .field("absent", absent)
            .finish_non_exhaustive()
    }
}

/// The files could not be merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The merged file would not say what it should; an unclosed quote in one of the files does that.
    #[error("the merged environment file would not read back with the right value of {key}")]
    DoesNotReadBack {
        /// The variable.
        key: String,
    },
}

impl MergeError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        "look for a quote that is not closed, in the file of the target or of the snapshot, and restore the file by hand"
    }
}

/// Merge a snapshot's file into a target's.
///
/// Variables of `come_back` get the snapshot's value, as it was written there. Those of `stay` keep the target's, and
/// are not added. Of all others, the target's value stays, and those that it does not have are added at its end.
/// A name that is in both lists comes back.
pub fn merge(
    target: &EnvironmentFile,
    snapshot: &EnvironmentFile,
    come_back: &[&str],
    stay: &[&str],
) -> Result<Merged, MergeError> {
    let mut merged = Merged {
        content: Zeroizing::default(),
        replaced: Vec::new(),
        added: Vec::new(),
        kept: Vec::new(),
        absent: Vec::new(),
    };
    let mut replacing: Vec<(&Assignment, &Assignment)> = Vec::new();
    let mut adding: Vec<&Assignment> = Vec::new();
    for new in snapshot.effective() {
        let key = new.key.as_str();
        match target.assignment(key) {
            Some(old) if *old.value == *new.value => {}
            Some(old) if come_back.contains(&key) => {
                replacing.push((old, new));
                merged.replaced.push(key.to_owned());
            }
            Some(_) => merged.kept.push(key.to_owned()),
            None if stay.contains(&key) && !come_back.contains(&key) => {}
            None => {
                adding.push(new);
                merged.added.push(key.to_owned());
            }
        }
    }
    let is_absent = |key: &&&str| snapshot.get(key).is_none();
    merged.absent = come_back.iter().filter(is_absent).map(|key| (*key).to_owned()).collect();
    replacing.sort_by_key(|(old, _)| old.raw.start);
    let text = compose(target, snapshot, &replacing, &adding);
    check(&text, target, snapshot, &merged)?;
    merged.content = Zeroizing::new(text.as_bytes().to_vec());
    Ok(merged)
}

/// The target's text with the replaced values, and what is added at its end.
fn compose(
    target: &EnvironmentFile,
    snapshot: &EnvironmentFile,
    replacing: &[(&Assignment, &Assignment)],
    adding: &[&Assignment],
) -> Zeroizing<String> {
    let line_break = if target.text.contains("\r\n") { "\r\n" } else { "\n" };
    // Room for all, so that no copy is left behind when it would grow.
    let added: usize = adding.iter().map(|new| new.key.len() + new.raw.len() + 3).sum();
    let replaced: usize = replacing.iter().map(|(_, new)| new.raw.len()).sum();
    let room = target.text.len() + replaced + added + line_break.len();
    let mut text = Zeroizing::new(String::with_capacity(room));
    let mut copied = 0;
    for (old, new) in replacing {
        text.push_str(&target.text[copied..old.raw.start]);
        text.push_str(&snapshot.text[new.raw.clone()]);
        copied = old.raw.end;
    }
    text.push_str(&target.text[copied..]);
    if !adding.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push_str(line_break);
    }
    for new in adding {
        text.push_str(&new.key);
        text.push('=');
        text.push_str(&snapshot.text[new.raw.clone()]);
        text.push_str(line_break);
    }
    text
}

/// What was written says what it should: the new values where they belong, the old ones everywhere else.
fn check(
    text: &str,
    target: &EnvironmentFile,
    snapshot: &EnvironmentFile,
    merged: &Merged,
) -> Result<(), MergeError> {
    let written = EnvironmentFile {
        text: Zeroizing::default(),
        assignments: super::parse::assignments(text),
    };
    let changed: Vec<&String> = merged.replaced.iter().chain(&merged.added).collect();
    let new = changed.iter().map(|key| (key.as_str(), snapshot.get(key)));
    let old = target.keys().filter(|key| !changed.iter().any(|changed| changed == key));
    for (key, value) in new.chain(old.map(|key| (key, target.get(key)))) {
        if written.get(key) != value {
            return Err(MergeError::DoesNotReadBack { key: key.to_owned() });
        }
    }
    Ok(())
}
