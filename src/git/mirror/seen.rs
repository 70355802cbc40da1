//! What the git repository was seen to have, written down before any of it is taken: what a fetch took that did not end is told by
//! that, and is kept, also when the git repository has it no more by the next one.
//!
//! Two things may become of it. Where it belongs to what the mirror has, it gets refs of our own at once, `refs/belay/seen`, until a
//! fetch has ended, which sees in it what the git repository had in between ([`super::plan`]). Where it was refused as another git
//! repository's, it waits without refs for a person to decide: `--new-history` takes it in, and so does the git repository
//! itself when it is again what it was; another address and a fetch that succeeds there drop it.

use super::alive::still_alive;
use super::incoming::Incoming;
use super::{Mirror, is_theirs, plan, whole};
use crate::git::copy::{self, Wanted};
use crate::git::error::GitError;
use crate::git::remote::{Heard, OWN};
use git2::Oid;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// In the mirror's directory.
const FILE: &str = "belay-seen.json";
const WHAT: &str = "what was seen";

/// What the git repository had at one time.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Sighting {
    /// Where it was.
    url: String,
    /// When.
    pub(super) at: Timestamp,
    /// Refs with what they led to; not those that an earlier sighting has with the same.
    refs: BTreeMap<String, String>,
    /// It had nothing in common with the mirror.
    is_refused: bool,
}

impl Sighting {
    /// Refs with what they led to.
    pub(super) fn refs(&self) -> impl Iterator<Item = (&String, Oid)> {
        self.refs.iter().filter_map(|(name, id)| Some((name, Oid::from_str(id).ok()?)))
    }

    /// Whether a fetch from there has to see in it what was there in between.
    pub(super) fn counts(&self, url: &str, is_new_history: bool) -> bool {
        !self.is_refused || is_new_history || self.url == url
    }
}

/// Whether a ref is one that leads to what was seen.
pub(super) fn is_passing(name: &str) -> bool {
    name.strip_prefix(OWN).is_some_and(|rest| rest.starts_with("seen/"))
}

/// All that was seen and has not found its place yet, oldest first.
pub(super) fn read(mirror: &Mirror) -> Result<Vec<Sighting>, GitError> {
    Ok(mirror.read_note(FILE, WHAT)?.unwrap_or_default())
}

fn write(mirror: &Mirror, sightings: &[Sighting]) -> Result<(), GitError> {
    if sightings.is_empty() {
        return forget(mirror);
    }
    mirror.write_note(FILE, WHAT, &sightings)
}

/// All of it has found its place.
pub(super) fn forget(mirror: &Mirror) -> Result<(), GitError> {
    mirror.remove_note(FILE, WHAT)
}

/// Write down what is there now, before any of it is taken.
pub(super) fn note(
    mirror: &Mirror,
    earlier: &[Sighting],
    (url, at): (&str, Timestamp),
    refs: &BTreeMap<String, Oid>,
) -> Result<(), GitError> {
    let is_known = |name: &String, id: &String| {
        let mut same = earlier.iter().filter(|sighting| sighting.url == url);
        same.any(|sighting| sighting.refs.get(name) == Some(id))
    };
    let refs = refs.iter().map(|(name, id)| (name.clone(), id.to_string()));
    let refs: BTreeMap<String, String> = refs.filter(|(name, id)| !is_known(name, id)).collect();
    let mut all = earlier.to_vec();
    if !refs.is_empty() {
        all.push(Sighting { url: url.to_owned(), at, refs, is_refused: false });
    }
    write(mirror, &all)
}

/// What was seen then has nothing in common with the mirror: it waits for a person.
pub(super) fn refuse(mirror: &Mirror, at: Timestamp) -> Result<(), GitError> {
    let mut sightings = read(mirror)?;
    for sighting in sightings.iter_mut().filter(|sighting| sighting.at == at) {
        sighting.is_refused = true;
    }
    write(mirror, &sightings)
}

/// Keep what a fetch saw and took that did not end, before anything else.
pub(super) fn recover(mirror: &Mirror, heard: Heard<'_>) -> Result<(), GitError> {
    let mut sightings = read(mirror)?;
    let left = Incoming::left(mirror)?;
    let open = |sightings: &[Sighting]| -> BTreeSet<Oid> {
        let open = sightings.iter().filter(|sighting| !sighting.is_refused);
        open.flat_map(Sighting::refs).map(|(_, id)| id).collect()
    };
    let seen = open(&sightings);
    if seen.is_empty() {
        return left.map_or(Ok(()), |left| left.discard(mirror));
    }
    let complete = take_in(mirror, left, &seen, heard)?;
    let refs = mirror.refs()?;
    let theirs = refs.iter().filter(|(name, _)| is_theirs(name));
    let theirs: BTreeMap<String, Oid> = theirs.map(|(name, id)| (name.clone(), *id)).collect();
    let ids: Vec<Oid> = complete.iter().copied().collect();
    let is_refused = !theirs.is_empty() && !plan::is_related(mirror, &theirs, &ids, heard)?;
    for sighting in sightings.iter_mut().filter(|sighting| !sighting.is_refused) {
        let is_whole = |id: &str| Oid::from_str(id).is_ok_and(|id| complete.contains(&id));
        sighting.refs.retain(|_, id| is_whole(id));
        sighting.is_refused = is_refused;
    }
    sightings.retain(|sighting| !sighting.refs.is_empty());
    let known: BTreeSet<Oid> = refs.values().copied().collect();
    let passing = open(&sightings).into_iter().filter(|id| !known.contains(id));
    let passing = passing.map(|id| (format!("{OWN}seen/{id}"), id)).collect();
    still_alive()?;
    mirror.change_refs(&passing, &BTreeSet::new())?;
    write(mirror, &sightings)
}

/// What of it is whole gets among the mirror's objects.
fn take_in(
    mirror: &Mirror,
    left: Option<Incoming>,
    seen: &BTreeSet<Oid>,
    heard: Heard<'_>,
) -> Result<BTreeSet<Oid>, GitError> {
    let known: Vec<Oid> = mirror.refs()?.into_values().collect();
    let complete = |repository: &git2::Repository| {
        whole::complete(repository, seen, &known, heard)
            .map_err(GitError::unread("what was fetched", mirror.path()))
    };
    let Some(left) = left else { return complete(mirror.repository()) };
    // It may have been killed before it borrowed anything.
    left.borrow(mirror, &BTreeSet::new())?;
    let left = left.taken(mirror)?;
    let whole = complete(left.repository())?;
    if whole.len() == seen.len() {
        left.admit(mirror)?;
    } else {
        if left.has_packs(mirror)? {
            let known = whole::commits_of(mirror.repository(), known);
            let ids = whole.iter().copied().collect();
            let wanted = Wanted { ids, known };
            copy::copy(left.repository(), mirror.repository(), &wanted, heard)
                .map_err(GitError::unwritten("take in what was fetched", mirror.path()))?;
        }
        left.discard(mirror)?;
    }
    Ok(whole)
}
