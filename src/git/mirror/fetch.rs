//! Bringing a mirror up to date without losing a commit.
//!
//! First everything new is taken, without touching a ref. Then what is about to be done is written down, done, and the note
//! removed: whoever finds the note does it again, which changes nothing where it was done. Within it, an old target is kept
//! before its ref is moved, so that a kill at any moment leaves every commit reachable.

use super::{Mirror, is_theirs, whole};
use crate::git::error::GitError;
use crate::git::journal::{self, KEPT};
use crate::git::remote::{Address, Advertised, Heard};
use crate::model::git::Rewrite;
use git2::{Oid, Reference};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

/// The note of what is about to be done; git does not mind it.
const NOTE: &str = "belay-pending.json";

/// What a fetch has done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Fetched {
    /// Refs that are new.
    pub created: u64,
    /// Refs that moved forwards.
    pub moved: u64,
    /// Refs that moved backwards, vanished or were retargeted, with where their old targets are kept.
    pub rewritten: Vec<Rewrite>,
    /// Refs that could not be taken, each with the reason.
    pub refused: Vec<String>,
    /// Whether an interrupted fetch was finished first.
    pub finished_earlier: bool,
    /// How many refs the git repository has.
    pub refs: u64,
    /// Tells the state of the mirror's refs from others.
    pub digest: String,
}

/// A file system takes names of so many bytes, and `.lock` behind them.
const MOST_NAME: usize = 240;

/// What is about to be done.
#[derive(Serialize, Deserialize)]
struct Note {
    rewritten: Vec<Rewrite>,
    /// Refs with what they are to lead to.
    set: Vec<(String, String)>,
    head: Option<String>,
}

/// Bring a mirror up to date. `is_new_history` says that the git repository may have been emptied or replaced.
pub fn fetch(
    mirror: &Mirror,
    address: &Address,
    is_new_history: bool,
    now: Timestamp,
    heard: Heard<'_>,
) -> Result<Fetched, GitError> {
    let finished_earlier = finish(mirror)?;
    let repository = mirror.repository();
    let advertised = address.list(repository, heard)?;
    let all = mirror.refs()?;
    let theirs = all.iter().filter(|(name, _)| is_theirs(name));
    let before: BTreeMap<String, Oid> = theirs.map(|(name, id)| (name.clone(), *id)).collect();
    let url = || address.url.clone();
    if advertised.refs.is_empty() && !before.is_empty() && !is_new_history {
        return Err(GitError::Emptied { url: url(), refs: before.len() });
    }
    let changed = advertised.refs.iter().any(|(name, id)| before.get(name) != Some(id))
        || advertised.refs.len() != before.len();
    let mut fetched =
        Fetched { finished_earlier, refs: advertised.refs.len() as u64, ..Fetched::default() };
    let own_head = mirror.head();
    if !changed && (advertised.head.is_none() || advertised.head == own_head) {
        fetched.digest = super::digest_of(&all, own_head.as_deref());
        return Ok(fetched);
    }
    let known: Vec<Oid> = all.into_values().collect();
    let is_there = |id: &Oid| repository.odb().is_ok_and(|odb| odb.exists(*id));
    if !advertised.refs.iter().all(|(_, id)| is_there(id)) {
        address.download(repository, heard)?;
    }
    let new: Vec<Oid> = advertised.refs.iter().map(|(_, id)| *id).collect();
    let missing = whole::find_missing(repository, &new, &known, heard)
        .map_err(GitError::unread("what was fetched", mirror.path()))?;
    if let Some((commit, whole::Missing(missing))) = missing {
        return Err(GitError::Incomplete { url: url(), commit: commit.to_string(), missing });
    }
    if !before.is_empty() && !is_new_history && !is_related(mirror, &before, &new)? {
        return Err(GitError::Unrelated { url: url() });
    }
    let note = plan(mirror, &advertised, &before, now, &mut fetched)?;
    write_note(mirror, &note)?;
    carry_out(mirror, &note)?;
    remove_note(mirror)?;
    mirror.pack_refs()?;
    fetched.rewritten = note.rewritten;
    fetched.digest = mirror.digest()?;
    Ok(fetched)
}

/// Finish what an interrupted fetch was about to do. Whether there was such.
pub fn finish(mirror: &Mirror) -> Result<bool, GitError> {
    let path = mirror.path().join(NOTE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(io("read its note", mirror.path())(error)),
    };
    // It was renamed into place when it was complete.
    let note: Note = serde_json::from_slice(&text)
        .map_err(|error| io("read its note", mirror.path())(error.into()))?;
    carry_out(mirror, &note)?;
    remove_note(mirror)?;
    Ok(true)
}

/// Whether any of the new targets has history in common with what the mirror knows.
fn is_related(
    mirror: &Mirror,
    before: &BTreeMap<String, Oid>,
    new: &[Oid],
) -> Result<bool, GitError> {
    if new.is_empty() || new.iter().any(|id| before.values().any(|known| known == id)) {
        return Ok(true);
    }
    let repository = mirror.repository();
    let commit = |id: &Oid| {
        let object = repository.find_object(*id, None).ok()?;
        object.peel_to_commit().ok().map(|commit| commit.id())
    };
    // Each commit of the old history is looked at once.
    let failed = || GitError::unread("its history", mirror.path());
    let mut walk = repository.revwalk().map_err(failed())?;
    for id in mirror.refs()?.values().filter_map(commit) {
        walk.push(id).map_err(failed())?;
    }
    let old = walk.collect::<Result<BTreeSet<Oid>, _>>().map_err(failed())?;
    let mut walk = repository.revwalk().map_err(failed())?;
    for id in new.iter().filter_map(commit) {
        walk.push(id).map_err(failed())?;
    }
    for id in walk {
        if old.contains(&id.map_err(failed())?) {
            return Ok(true);
        }
    }
    // Tags of files, and nothing else, have no history to have in common.
    Ok(old.is_empty())
}

/// What has to be done so that the mirror has what the git repository has.
fn plan(
    mirror: &Mirror,
    advertised: &Advertised,
    before: &BTreeMap<String, Oid>,
    now: Timestamp,
    fetched: &mut Fetched,
) -> Result<Note, GitError> {
    let mut after = BTreeMap::new();
    for (name, id) in &advertised.refs {
        if !Reference::is_valid_name(name) || name.starts_with(KEPT) {
            fetched.refused.push(format!("{name}: it is no name of a ref"));
        } else if name.split('/').any(|part| part.len() > MOST_NAME) {
            fetched.refused.push(format!("{name}: its name is too long for a file"));
        } else if is_in_the_way(name, &after) {
            fetched.refused.push(format!("{name}: another one has the place of its directory"));
        } else {
            after.insert(name.clone(), *id);
        }
    }
    let mut note = Note { rewritten: Vec::new(), set: Vec::new(), head: advertised.head.clone() };
    let tips: Vec<Oid> = after.values().copied().collect();
    for (name, id) in &after {
        match before.get(name) {
            Some(old) if old == id => continue,
            None => fetched.created += 1,
            Some(old) => {
                if is_forwards(mirror, name, *old, *id)? {
                    fetched.moved += 1;
                } else {
                    note.rewritten.push(rewrite(mirror, name, *old, Some(*id), &tips, now)?);
                }
            }
        }
        note.set.push((name.clone(), id.to_string()));
    }
    for (name, old) in before.iter().filter(|(name, _)| !after.contains_key(*name)) {
        note.rewritten.push(rewrite(mirror, name, *old, None, &tips, now)?);
    }
    Ok(note)
}

/// Whether one of these is a directory of the ref. They are sorted: `a` comes before `a/b`.
fn is_in_the_way(name: &str, others: &BTreeMap<String, Oid>) -> bool {
    name.match_indices('/').any(|(at, _)| others.contains_key(&name[..at]))
}

/// A branch moves forwards where its old commit is behind the new one. A tag does not move at all.
fn is_forwards(mirror: &Mirror, name: &str, old: Oid, new: Oid) -> Result<bool, GitError> {
    if name.starts_with("refs/tags/") {
        return Ok(false);
    }
    let repository = mirror.repository();
    if repository.find_commit(old).is_err() || repository.find_commit(new).is_err() {
        return Ok(false);
    }
    repository
        .graph_descendant_of(new, old)
        .map_err(GitError::unread(format!("the history of {name}"), mirror.path()))
}

fn rewrite(
    mirror: &Mirror,
    name: &str,
    old: Oid,
    new: Option<Oid>,
    tips: &[Oid],
    now: Timestamp,
) -> Result<Rewrite, GitError> {
    let repository = mirror.repository();
    let failed = || GitError::unread(format!("the history of {name}"), mirror.path());
    let commit = |id: Oid| {
        let object = repository.find_object(id, None).ok()?;
        object.peel_to_commit().ok()
    };
    let mut commits_dropped = 0;
    if let Some(old) = commit(old) {
        let mut walk = repository.revwalk().map_err(failed())?;
        walk.push(old.id()).map_err(failed())?;
        for tip in tips.iter().filter_map(|id| commit(*id)) {
            walk.hide(tip.id()).map_err(failed())?;
        }
        commits_dropped = walk.count() as u64;
    }
    let by = new.and_then(commit).map(|commit| {
        let committer = commit.committer();
        let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        format!("{} <{}>", of(committer.name_bytes()), of(committer.email_bytes()))
    });
    Ok(Rewrite {
        kept: journal::kept_name(name, now),
        name: name.to_owned(),
        from: old.to_string(),
        to: new.map(|id| id.to_string()),
        seen_at: now,
        commits_dropped,
        by,
    })
}

fn carry_out(mirror: &Mirror, note: &Note) -> Result<(), GitError> {
    let repository = mirror.repository();
    for rewrite in &note.rewritten {
        still_alive()?;
        journal::keep(mirror, rewrite)?;
    }
    // What vanished goes first: it may be in the way, as `a` is in the way of `a/b`.
    for rewrite in note.rewritten.iter().filter(|rewrite| rewrite.to.is_none()) {
        still_alive()?;
        let failed = GitError::unwritten(format!("remove {}", rewrite.name), mirror.path());
        match repository.find_reference(&rewrite.name).and_then(|mut found| found.delete()) {
            Err(error) if error.code() != git2::ErrorCode::NotFound => return Err(failed(error)),
            _ => {}
        }
    }
    for (name, id) in &note.set {
        still_alive()?;
        let failed = || GitError::unwritten(format!("set {name}"), mirror.path());
        let id = Oid::from_str(id).map_err(failed())?;
        repository.reference(name, id, true, "belay: fetched").map_err(failed())?;
    }
    if let Some(head) = note.head.as_ref().filter(|head| Reference::is_valid_name(head)) {
        repository.set_head(head).map_err(GitError::unwritten("set HEAD", mirror.path()))?;
    }
    Ok(())
}

#[cfg(test)]
thread_local! {
    static STEPS_LEFT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// End the next fetch of this thread after so many changes of the mirror, as a kill would.
#[cfg(test)]
pub(super) fn kill_after(steps: Option<usize>) {
    STEPS_LEFT.set(steps);
}

#[cfg(test)]
fn still_alive() -> Result<(), GitError> {
    match STEPS_LEFT.get() {
        Some(0) => Err(GitError::NoCommit { name: "killed".into(), mirror: "killed".into() }),
        left => {
            STEPS_LEFT.set(left.map(|left| left - 1));
            Ok(())
        }
    }
}

#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it may be dead")]
fn still_alive() -> Result<(), GitError> {
    Ok(())
}

fn write_note(mirror: &Mirror, note: &Note) -> Result<(), GitError> {
    let failed = || io("write its note", mirror.path());
    let text = serde_json::to_vec(note).map_err(|error| failed()(error.into()))?;
    let unfinished = mirror.path().join(format!("{NOTE}.tmp"));
    let mut file = File::create(&unfinished).map_err(failed())?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed())?;
    std::fs::rename(&unfinished, mirror.path().join(NOTE)).map_err(failed())?;
    sync_directory(mirror)
}

/// The refs are on the disk before the note goes: `core.fsyncObjectFiles` is set.
fn remove_note(mirror: &Mirror) -> Result<(), GitError> {
    std::fs::remove_file(mirror.path().join(NOTE)).map_err(io("remove its note", mirror.path()))?;
    sync_directory(mirror)
}

fn sync_directory(mirror: &Mirror) -> Result<(), GitError> {
    File::open(mirror.path())
        .and_then(|directory| directory.sync_all())
        .map_err(io("write to the disk", mirror.path()))
}

fn io(action: &str, mirror: &Path) -> impl FnOnce(std::io::Error) -> GitError {
    let (action, mirror) = (action.to_owned(), mirror.to_owned());
    move |error| GitError::Write { action, mirror, reason: error.to_string() }
}
