//! What has to be done so that a mirror has what the git repository has, and loses nothing of what it had and what was seen in between.

use super::pending::Note;
use super::seen::{Sighting, is_passing};
use super::{Mirror, whole};
use crate::git::error::GitError;
use crate::git::journal::{self, KEPT};
use crate::git::remote::{Advertised, Heard};
use crate::model::git::Rewrite;
use git2::{Oid, Reference, Repository};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A file system takes names of so many bytes, and `.lock` behind them.
const MOST_NAME: usize = 240;

/// Refs with what they lead to.
pub(super) type Refs = BTreeMap<String, Oid>;

/// What a mirror has.
pub(super) struct Present {
    /// Every ref, our own among them.
    pub(super) all: Refs,
    /// The git repository's.
    pub(super) theirs: Refs,
}

impl Present {
    pub(super) fn of(mirror: &Mirror) -> Result<Self, GitError> {
        let all = mirror.refs()?;
        let theirs = all.iter().filter(|(name, _)| super::is_theirs(name));
        let theirs = theirs.map(|(name, id)| (name.clone(), *id)).collect();
        Ok(Self { all, theirs })
    }

    /// What its refs lead to.
    pub(super) fn ids(&self) -> Vec<Oid> {
        self.all.values().copied().collect()
    }
}

/// What a mirror is to have.
pub(super) struct Target {
    /// The git repository's refs, as far as a mirror can have them.
    pub(super) refs: Refs,
    /// Those that it cannot have, each with the reason.
    pub(super) refused: Vec<String>,
    /// The branch that a clone begins with.
    pub(super) head: Option<String>,
}

impl Target {
    pub(super) fn of(advertised: &Advertised) -> Self {
        let (mut refs, mut refused) = (BTreeMap::new(), Vec::new());
        for (name, id) in &advertised.refs {
            if !Reference::is_valid_name(name) || name.starts_with(KEPT) {
                refused.push(format!("{name}: it is no name of a ref"));
            } else if name.split('/').any(|part| part.len() > MOST_NAME) {
                refused.push(format!("{name}: its name is too long for a file"));
            } else if above(name, &refs).next().is_some() {
                refused.push(format!("{name}: another one has the place of its directory"));
            } else {
                refs.insert(name.clone(), *id);
            }
        }
        Self { refs, refused, head: advertised.head.clone() }
    }
}

/// How many refs a plan changes.
#[derive(Default)]
pub(super) struct Counts {
    /// Refs that are new.
    pub(super) created: u64,
    /// Refs that moved forwards.
    pub(super) moved: u64,
}

/// A ref that no longer leads to what it led to.
struct Move {
    name: String,
    from: Oid,
    to: Option<Oid>,
    at: Timestamp,
}

/// What is to be done. `seen` is what the git repository had since the mirror was up to date last, oldest first.
pub(super) fn plan<'a>(
    mirror: &Mirror,
    present: &Present,
    seen: impl Iterator<Item = &'a Sighting>,
    target: &Target,
    now: Timestamp,
    heard: Heard<'_>,
) -> Result<(Note, Counts), GitError> {
    let (mut moves, mut counts) = (Vec::new(), Counts::default());
    let mut before = present.theirs.clone();
    for sighting in seen {
        for (name, id) in sighting.refs() {
            heard(0, moves.len() as u64);
            let at = sighting.at;
            let others: Vec<String> =
                above(name, &before).chain(below(name, &before)).cloned().collect();
            for other in others {
                let from = before.remove(&other);
                moves.extend(from.map(|from| Move { name: other, from, to: None, at }));
            }
            match before.insert(name.clone(), id) {
                Some(from) if from != id && !is_forwards(mirror, name, from, id)? => {
                    moves.push(Move { name: name.clone(), from, to: Some(id), at });
                }
                _ => {}
            }
        }
    }
    for (name, id) in &target.refs {
        heard(0, moves.len() as u64);
        match before.remove(name) {
            Some(from) if from == *id => {}
            None => counts.created += 1,
            Some(from) if is_forwards(mirror, name, from, *id)? => counts.moved += 1,
            Some(from) => moves.push(Move { name: name.clone(), from, to: Some(*id), at: now }),
        }
    }
    moves.extend(before.into_iter().map(|(name, from)| Move { name, from, to: None, at: now }));
    let rewritten = rewrites(mirror, present, moves, target, heard)?;
    let set = target.refs.iter().filter(|(name, id)| present.theirs.get(*name) != Some(*id));
    let gone = present.theirs.keys().filter(|name| !target.refs.contains_key(*name));
    let passing = present.all.keys().filter(|name| is_passing(name));
    let note = Note {
        rewritten,
        set: set.map(|(name, id)| (name.clone(), id.to_string())).collect(),
        remove: gone.chain(passing).cloned().collect(),
        head: target.head.clone(),
    };
    Ok((note, counts))
}

/// Those that have the place of a directory in which the ref is.
fn above<'a>(name: &str, refs: &'a Refs) -> impl Iterator<Item = &'a String> {
    let directories = name.match_indices('/').map(|(at, _)| &name[..at]);
    let found = directories.filter_map(|directory| refs.get_key_value(directory));
    found.map(|(name, _)| name).collect::<Vec<_>>().into_iter()
}

/// Those for which the ref has the place of their directory.
fn below<'a>(name: &str, refs: &'a Refs) -> impl Iterator<Item = &'a String> {
    let directory = format!("{name}/");
    let from = refs.range(directory.clone()..).map(|(name, _)| name);
    from.take_while(move |name| name.starts_with(&directory))
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

/// What is to be kept, and where.
fn rewrites(
    mirror: &Mirror,
    present: &Present,
    moves: Vec<Move>,
    target: &Target,
    heard: Heard<'_>,
) -> Result<Vec<Rewrite>, GitError> {
    let repository = mirror.repository();
    let commit = |id: Oid| repository.find_object(id, None).ok()?.peel_to_commit().ok();
    let old: HashMap<Oid, Oid> =
        moves.iter().filter_map(|it| Some((it.from, commit(it.from)?.id()))).collect();
    let tips = whole::commits_of(repository, target.refs.values().copied());
    let dropped = count_dropped(repository, old.values().copied().collect(), &tips, heard)
        .map_err(GitError::unread("its history", mirror.path()))?;
    let mut taken = BTreeSet::new();
    let mut rewritten = Vec::new();
    for Move { name, from, to, at } in moves {
        heard(0, rewritten.len() as u64);
        // What is kept already stays where it is.
        let mut time = at;
        let mut kept = journal::kept_name(&name, time);
        while present.all.contains_key(&kept) || !taken.insert(kept.clone()) {
            time += SignedDuration::from_micros(1);
            kept = journal::kept_name(&name, time);
        }
        let by = to.and_then(commit).map(|commit| {
            let committer = commit.committer();
            let of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            format!("{} <{}>", of(committer.name_bytes()), of(committer.email_bytes()))
        });
        let commits_dropped = old.get(&from).and_then(|id| dropped.get(id)).copied();
        rewritten.push(Rewrite {
            kept,
            name,
            from: from.to_string(),
            to: to.map(|id| id.to_string()),
            seen_at: at,
            commits_dropped: commits_dropped.unwrap_or_default(),
            by,
        });
    }
    Ok(rewritten)
}

/// How many commits each of these leads to that none of the tips leads to. What the tips lead to is looked for once for all of them.
fn count_dropped(
    repository: &Repository,
    old: BTreeSet<Oid>,
    tips: &BTreeSet<Oid>,
    heard: Heard<'_>,
) -> Result<HashMap<Oid, u64>, git2::Error> {
    let mut walk = repository.revwalk()?;
    for id in &old {
        walk.push(*id)?;
    }
    for id in tips {
        walk.hide(*id)?;
    }
    let mut parents: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for id in walk {
        let id = id?;
        heard(0, parents.len() as u64);
        parents.insert(id, repository.find_commit(id)?.parent_ids().collect());
    }
    let mut counts = HashMap::new();
    for id in old {
        heard(0, parents.len() as u64);
        let (mut seen, mut waiting) = (BTreeSet::new(), vec![id]);
        while let Some(id) = waiting.pop() {
            if let Some(parents) = parents.get(&id)
                && seen.insert(id)
            {
                waiting.extend(parents);
            }
        }
        counts.insert(id, seen.len() as u64);
    }
    Ok(counts)
}

/// Whether any of the new targets has history in common with what the mirror knows.
pub(super) fn is_related(
    mirror: &Mirror,
    before: &Refs,
    new: &[Oid],
    heard: Heard<'_>,
) -> Result<bool, GitError> {
    let known: BTreeSet<&Oid> = before.values().collect();
    if new.is_empty() || new.iter().any(|id| known.contains(id)) {
        return Ok(true);
    }
    let repository = mirror.repository();
    let refs = mirror.refs()?;
    let refs = refs.into_iter().filter(|(name, _)| !is_passing(name));
    let known = whole::commits_of(repository, refs.map(|(_, id)| id));
    let new = whole::commits_of(repository, new.iter().copied());
    let look = || {
        // Each commit of the old history is looked at once.
        let mut old = BTreeSet::new();
        let mut walk = repository.revwalk()?;
        known.into_iter().try_for_each(|id| walk.push(id))?;
        for id in walk {
            heard(0, old.len() as u64);
            old.insert(id?);
        }
        let mut walk = repository.revwalk()?;
        new.into_iter().try_for_each(|id| walk.push(id))?;
        for id in walk {
            heard(0, old.len() as u64);
            if old.contains(&id?) {
                return Ok(true);
            }
        }
        // Tags of files, and nothing else, have no history to have in common.
        Ok(old.is_empty())
    };
    look().map_err(GitError::unread::<git2::Error>("its history", mirror.path()))
}
