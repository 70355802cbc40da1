//! Bringing a mirror up to date without losing a commit.
//!
//! What the git repository has is written down first (`seen`). Then everything new is taken, apart from the mirror's own
//! objects (`incoming`) and without touching a ref, and gets among them when it is known to be whole. Then what is
//! about to be done with the refs is written down, done in one step, and both notes removed (`pending`). A kill at any
//! moment leaves every commit that was taken either with a ref or with a note by which the next fetch gives it one, before
//! anything else.

use super::alive::still_alive;
use super::incoming::Incoming;
use super::plan::{Present, Target};
use super::seen::Sighting;
use super::{Mirror, pending, plan, seen, whole};
use crate::git::copy::Wanted;
use crate::git::error::GitError;
use crate::git::remote::{Address, Heard};
use crate::model::git::Rewrite;
use git2::Oid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

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

/// Bring a mirror up to date. `is_new_history` says that the git repository may have been emptied or replaced.
pub fn fetch(
    mirror: &Mirror,
    address: &Address,
    is_new_history: bool,
    now: Timestamp,
    heard: Heard<'_>,
) -> Result<Fetched, GitError> {
    let finished_earlier = pending::finish(mirror, heard)?;
    seen::recover(mirror, heard)?;
    let present = Present::of(mirror)?;
    let earlier = seen::read(mirror)?;
    let url = || address.url.clone();

    let incoming = Incoming::make(mirror)?;
    let taken = address.take(incoming.repository(), heard, |advertised| {
        if advertised.refs.is_empty() && !present.theirs.is_empty() && !is_new_history {
            return Err(GitError::Emptied { url: url(), refs: present.theirs.len() });
        }
        let target = Target::of(advertised);
        if !is_new(mirror, &present, &earlier, &target) {
            return Ok(None);
        }
        seen::note(mirror, &earlier, (&address.url, now), &target.refs)?;
        wanted(mirror, &present, &earlier, &target, &incoming, heard)
    });
    let advertised = match taken {
        Ok(advertised) => advertised,
        Err(error) => {
            // What was not taken to its end is nothing.
            incoming.discard(mirror)?;
            return Err(error);
        }
    };
    let target = Target::of(&advertised);
    let refs = advertised.refs.len() as u64;
    let mut fetched = Fetched { finished_earlier, refs, ..Fetched::default() };
    if !is_new(mirror, &present, &earlier, &target) {
        incoming.discard(mirror)?;
        fetched.refused = target.refused;
        fetched.digest = mirror.digest_of(&present.all);
        return Ok(fetched);
    }
    take_in(mirror, &present, &target, incoming, address, heard)?;
    let new: Vec<Oid> = target.refs.values().copied().collect();
    if !present.theirs.is_empty()
        && !is_new_history
        && !plan::is_related(mirror, &present.theirs, &new, heard)?
    {
        seen::refuse(mirror, now)?;
        return Err(GitError::Unrelated { url: url() });
    }
    let seen = earlier.iter().filter(|seen| seen.counts(&address.url, is_new_history));
    let (note, counts) = plan::plan(mirror, &present, seen, &target, now, heard)?;
    pending::perform(mirror, &note, heard)?;
    fetched.digest = mirror.digest()?;
    (fetched.created, fetched.moved) = (counts.created, counts.moved);
    (fetched.rewritten, fetched.refused) = (note.rewritten, target.refused);
    Ok(fetched)
}

/// Whether there is anything to do.
fn is_new(mirror: &Mirror, present: &Present, earlier: &[Sighting], target: &Target) -> bool {
    let has_other_head = target.head.is_some() && target.head != mirror.head();
    target.refs != present.theirs || has_other_head || !earlier.is_empty()
}

/// What has to be taken; nothing where all is there.
fn wanted(
    mirror: &Mirror,
    present: &Present,
    earlier: &[Sighting],
    target: &Target,
    incoming: &Incoming,
    heard: Heard<'_>,
) -> Result<Option<Wanted>, GitError> {
    let repository = mirror.repository();
    let failed = || GitError::unread::<git2::Error>("its objects", mirror.path());
    let odb = repository.odb().map_err(failed())?;
    let ids: Vec<Oid> = target.refs.values().copied().collect();
    let there: Vec<Oid> = ids.iter().copied().filter(|id| odb.exists(*id)).collect();
    let missing = whole::find_missing(repository, &there, &present.ids(), heard);
    if missing.map_err(failed())?.is_some() {
        // Earlier versions took in what was not whole, and nobody sends again what we say that we have: all is taken anew.
        return Ok(Some(Wanted { ids, known: BTreeSet::new() }));
    }
    if there.len() == ids.len() {
        return Ok(None);
    }
    let seen = earlier.iter().flat_map(Sighting::refs).map(|(_, id)| id);
    let known = whole::commits_of(repository, present.ids().into_iter().chain(seen));
    incoming.borrow(mirror, &known)?;
    Ok(Some(Wanted { ids, known }))
}

/// Have what was taken among the mirror's objects, if it is whole; of what is not, have what is.
fn take_in(
    mirror: &Mirror,
    present: &Present,
    target: &Target,
    incoming: Incoming,
    address: &Address,
    heard: Heard<'_>,
) -> Result<(), GitError> {
    still_alive()?;
    let incoming = incoming.taken(mirror)?;
    let has_packs = incoming.has_packs(mirror)?;
    let repository = if has_packs { incoming.repository() } else { mirror.repository() };
    let new: Vec<Oid> = target.refs.values().copied().collect();
    let missing = whole::find_missing(repository, &new, &present.ids(), heard);
    match missing.map_err(GitError::unread("what was fetched", mirror.path()))? {
        None => incoming.admit(mirror),
        Some((commit, whole::Missing(missing))) => {
            drop(incoming);
            seen::recover(mirror, heard)?;
            let (url, commit) = (address.url.clone(), commit.to_string());
            Err(GitError::Incomplete { url, commit, missing })
        }
    }
}
