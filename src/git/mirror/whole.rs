//! Whether everything is there that belongs to a commit.

use crate::git::error::told;
use crate::git::remote::Heard;
use git2::{ObjectType, Odb, Oid, Repository};
use std::collections::{BTreeSet, HashSet};

/// What is missing, in words.
pub(super) struct Missing(pub(super) String);

/// Look at all that the new targets lead to and the known ones do not. What was whole stays whole: nothing goes away.
pub(super) fn find_missing(
    repository: &Repository,
    new: &[Oid],
    known: &[Oid],
    heard: Heard<'_>,
) -> Result<Option<(Oid, Missing)>, git2::Error> {
    let odb = repository.odb()?;
    let mut seen = Seen { odb: &odb, trees: HashSet::new(), heard };
    let mut walk = repository.revwalk()?;
    for id in known {
        if let Some(commit) = commit_of(repository, *id) {
            walk.hide(commit)?;
            // Its files need not be looked at again.
            let tree = repository.find_commit(commit)?.tree_id();
            seen.trees.insert(tree);
        }
    }
    let known: HashSet<&Oid> = known.iter().collect();
    for id in new.iter().filter(|id| !known.contains(id)) {
        if !odb.exists(*id) {
            return Ok(Some((*id, Missing(id.to_string()))));
        }
        let (_, kind) = odb.read_header(*id)?;
        match kind {
            ObjectType::Commit | ObjectType::Tag => match commit_of(repository, *id) {
                Some(commit) => walk.push(commit)?,
                None => {
                    if let Some(missing) = seen.pointed_at(repository, *id)? {
                        return Ok(Some((*id, missing)));
                    }
                }
            },
            ObjectType::Tree => {
                if let Some(missing) = seen.tree(repository, *id)? {
                    return Ok(Some((*id, missing)));
                }
            }
            _ => {}
        }
    }
    for commit in walk {
        // A parent that is missing ends the walk with an error that names it.
        let id = match commit {
            Ok(id) => id,
            Err(error) => {
                let missing = Missing(told(&error));
                return Ok(Some((new.first().copied().unwrap_or(Oid::ZERO_SHA1), missing)));
            }
        };
        let tree = repository.find_commit(id)?.tree_id();
        if let Some(missing) = seen.tree(repository, tree)? {
            return Ok(Some((id, missing)));
        }
    }
    Ok(None)
}

/// Those of which nothing is missing.
pub(super) fn complete(
    repository: &Repository,
    ids: &BTreeSet<Oid>,
    known: &[Oid],
    heard: Heard<'_>,
) -> Result<BTreeSet<Oid>, git2::Error> {
    let all: Vec<Oid> = ids.iter().copied().collect();
    if find_missing(repository, &all, known, heard)?.is_none() {
        return Ok(ids.clone());
    }
    let mut known = known.to_vec();
    let mut complete = BTreeSet::new();
    for id in all {
        if find_missing(repository, &[id], &known, heard)?.is_none() {
            complete.insert(id);
            known.push(id);
        }
    }
    Ok(complete)
}

/// The commits that these are, or that tags lead to.
pub(super) fn commits_of(
    repository: &Repository,
    ids: impl IntoIterator<Item = Oid>,
) -> BTreeSet<Oid> {
    ids.into_iter().filter_map(|id| commit_of(repository, id)).collect()
}

/// The commit that an object is, or that a tag leads to.
fn commit_of(repository: &Repository, id: Oid) -> Option<Oid> {
    let object = repository.find_object(id, None).ok()?;
    Some(object.peel_to_commit().ok()?.id())
}

/// What a tag leads to, also one of a tag.
pub(super) fn end_of(repository: &Repository, tag: Oid) -> Option<Oid> {
    let tag = repository.find_object(tag, None).ok()?;
    Some(tag.peel(ObjectType::Any).ok()?.id())
}

struct Seen<'a> {
    odb: &'a Odb<'a>,
    trees: HashSet<Oid>,
    heard: Heard<'a>,
}

impl Seen<'_> {
    /// A tag of something that is no commit.
    fn pointed_at(
        &mut self,
        repository: &Repository,
        id: Oid,
    ) -> Result<Option<Missing>, git2::Error> {
        let Ok(target) = repository.find_object(id, None).and_then(|tag| tag.peel(ObjectType::Any))
        else {
            return Ok(Some(Missing(format!("what the tag {id} leads to"))));
        };
        if target.kind() == Some(ObjectType::Tree) {
            return self.tree(repository, target.id());
        }
        Ok(None)
    }

    /// A tree and all below it, each once. Without recursion: a stranger says how deep it is.
    fn tree(&mut self, repository: &Repository, root: Oid) -> Result<Option<Missing>, git2::Error> {
        let mut waiting = vec![root];
        while let Some(id) = waiting.pop() {
            if !self.trees.insert(id) {
                continue;
            }
            (self.heard)(0, self.trees.len() as u64);
            if !self.odb.exists(id) {
                return Ok(Some(Missing(format!("the tree {id}"))));
            }
            let tree = repository.find_tree(id)?;
            for entry in &tree {
                match entry.kind() {
                    Some(ObjectType::Tree) => waiting.push(entry.id()),
                    Some(ObjectType::Blob) if !self.odb.exists(entry.id()) => {
                        return Ok(Some(Missing(format!("the file {}", entry.id()))));
                    }
                    // The commit of a submodule is elsewhere.
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}
