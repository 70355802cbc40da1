//! What a fetch is about to do with the refs: written down, done, and the note removed. Whoever finds the note does it again, which
//! changes nothing where it was done.

use super::Mirror;
use super::alive::still_alive;
use super::seen;
use crate::git::error::GitError;
use crate::git::journal;
use crate::git::remote::Heard;
use crate::model::git::Rewrite;
use git2::{Oid, Reference};
use serde::{Deserialize, Serialize};

/// In the mirror's directory.
const FILE: &str = "belay-pending.json";
const WHAT: &str = "its note";

/// What is about to be done.
#[derive(Serialize, Deserialize)]
pub(super) struct Note {
    /// Old targets that are to be kept.
    pub(super) rewritten: Vec<Rewrite>,
    /// Refs with what they are to lead to.
    pub(super) set: Vec<(String, String)>,
    /// Refs that are to go.
    #[serde(default)]
    pub(super) remove: Vec<String>,
    /// The branch that a clone begins with.
    pub(super) head: Option<String>,
}

/// Finish what an interrupted fetch was about to do. Whether there was such.
pub(super) fn finish(mirror: &Mirror, heard: Heard<'_>) -> Result<bool, GitError> {
    let Some(note) = mirror.read_note(FILE, WHAT)? else { return Ok(false) };
    carry_out(mirror, &note, heard)?;
    Ok(true)
}

/// Do it, so that a kill at any moment leaves every commit reachable and the rest to the next one.
pub(super) fn perform(mirror: &Mirror, note: &Note, heard: Heard<'_>) -> Result<(), GitError> {
    mirror.write_note(FILE, WHAT, note)?;
    carry_out(mirror, note, heard)
}

fn carry_out(mirror: &Mirror, note: &Note, heard: Heard<'_>) -> Result<(), GitError> {
    still_alive()?;
    let mut set = journal::make_tags(mirror, &note.rewritten, heard)?;
    for (name, id) in &note.set {
        let failed = GitError::unwritten(format!("set {name}"), mirror.path());
        set.insert(name.clone(), Oid::from_str(id).map_err(failed)?);
    }
    still_alive()?;
    // What is kept, what moves and what goes: all in one step.
    mirror.change_refs(&set, &note.remove.iter().cloned().collect())?;
    still_alive()?;
    let branch = note.head.as_ref().filter(|branch| Reference::is_valid_name(branch));
    if let Some(branch) = branch.filter(|branch| mirror.head().as_ref() != Some(branch)) {
        let set = mirror.repository().set_head(branch);
        set.map_err(GitError::unwritten("set HEAD", mirror.path()))?;
    }
    seen::forget(mirror)?;
    mirror.remove_note(FILE, WHAT)
}
