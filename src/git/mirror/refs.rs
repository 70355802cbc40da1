//! Changing refs, however many, in one step: all are in one file, `packed-refs`, which is written anew beside the old one and renamed
//! (format: git's `gitrepository-layout` and `git-pack-refs`). A file for each would have to be read by each fetch, and libgit2
//! writes the whole file for each ref that goes.

use super::alive::still_alive;
use super::durable::sync;
use super::plan::Refs;
use super::{Mirror, whole};
use crate::git::error::GitError;
use git2::{ObjectType, Oid};
use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

const FILE: &str = "packed-refs";
const HEADER: &str = "# pack-refs with: peeled fully-peeled sorted \n";
const ACTION: &str = "change its refs";

/// What the file has.
#[derive(Default)]
struct Packed {
    refs: Refs,
    /// Where tags lead to, by their ids.
    peeled: HashMap<Oid, Oid>,
}

impl Mirror {
    /// Set refs, and remove others. Only for who holds the claim on the mirror: nobody else writes.
    pub(super) fn change_refs(
        &self,
        set: &Refs,
        remove: &BTreeSet<String>,
    ) -> Result<(), GitError> {
        let known = self.refs()?;
        let mut wanted = known.clone();
        wanted.retain(|name, _| !remove.contains(name));
        wanted.extend(set.iter().map(|(name, id)| (name.clone(), *id)));
        let packed = self.read_packed()?;
        if packed.refs != wanted {
            let text = self.packed_text(&wanted, &packed.peeled)?;
            still_alive()?;
            self.write_packed(&text).map_err(GitError::unwritten(ACTION, self.path()))?;
        }
        self.remove_loose(&known, &wanted, remove)
    }

    fn read_packed(&self) -> Result<Packed, GitError> {
        let text = match fs::read_to_string(self.path().join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Packed::default()),
            other => other.map_err(GitError::unread(FILE, self.path()))?,
        };
        let mut packed = Packed::default();
        let mut last = None;
        for line in text.lines() {
            if let Some(peeled) = line.strip_prefix('^') {
                let peeled = last.zip(Oid::from_str(peeled).ok());
                packed.peeled.extend(peeled);
            } else if let Some((id, name)) = line.split_once(' ')
                && let Ok(id) = Oid::from_str(id)
            {
                last = Some(id);
                packed.refs.insert(name.to_owned(), id);
            }
        }
        Ok(packed)
    }

    fn packed_text(&self, refs: &Refs, peeled: &HashMap<Oid, Oid>) -> Result<String, GitError> {
        let repository = self.repository();
        let odb = repository.odb().map_err(GitError::unread("its objects", self.path()))?;
        // Sorted by name, as the header says.
        let mut text = HEADER.to_owned();
        for (name, id) in refs {
            let _ = writeln!(text, "{id} {name}");
            if let Some(peeled) = peeled.get(id) {
                let _ = writeln!(text, "^{peeled}");
                continue;
            }
            let failed = || GitError::unread(format!("what {name} leads to"), self.path());
            let (_, kind) = odb.read_header(*id).map_err(failed())?;
            if kind == ObjectType::Tag
                && let Some(peeled) = whole::end_of(repository, *id)
            {
                let _ = writeln!(text, "^{peeled}");
            }
        }
        Ok(text)
    }

    fn write_packed(&self, text: &str) -> io::Result<()> {
        let unfinished = self.path().join(format!("{FILE}.lock"));
        // Where it is there, somebody runs git in the mirror just now: what a killed one left was removed.
        let mut file = File::create_new(&unfinished)?;
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        let renamed = written.and_then(|()| fs::rename(&unfinished, self.path().join(FILE)));
        if renamed.is_err() {
            // It would be in everybody's way.
            let _ = fs::remove_file(&unfinished);
        }
        renamed.and_then(|()| sync(self.path()))
    }

    /// Refs in files of their own would hide what the one file says.
    fn remove_loose(
        &self,
        known: &Refs,
        wanted: &Refs,
        remove: &BTreeSet<String>,
    ) -> Result<(), GitError> {
        let failed = || GitError::unwritten(ACTION, self.path());
        let top = self.path().join("refs");
        let mut loose = Vec::new();
        files_below(&top, &mut loose).map_err(failed())?;
        let mut emptied = BTreeSet::new();
        for file in loose {
            let name = file.strip_prefix(self.path()).unwrap_or(&file).to_string_lossy();
            let name: &str = &name;
            if !wanted.contains_key(name) && !remove.contains(name) {
                continue;
            }
            // What somebody's git wrote meanwhile stays.
            let text = fs::read_to_string(&file).map_err(failed())?;
            let is_known = Oid::from_str(text.trim())
                .is_ok_and(|id| [known, wanted].iter().any(|refs| refs.get(name) == Some(&id)));
            if is_known {
                still_alive()?;
                fs::remove_file(&file).map_err(failed())?;
                emptied.extend(file.parent().map(Path::to_owned));
            }
        }
        emptied.iter().try_for_each(|directory| tidy(directory, &top)).map_err(failed())
    }
}

/// Remove directories that are empty, up to those that git wants; what was removed does not come back after a power cut.
fn tidy(directory: &Path, top: &Path) -> io::Result<()> {
    let mut directory = directory;
    while directory.parent().is_some_and(|parent| parent != top) && directory != top {
        match fs::remove_dir(directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => break,
        }
        directory = directory.parent().unwrap_or(top);
    }
    sync(directory)
}

fn files_below(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}
