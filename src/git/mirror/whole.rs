//! Whether everything is there that belongs to a commit.

use crate::git::error::told;
use crate::git::remote::Heard;
use git2::{ObjectType, Odb, Oid, Repository};
use std::collections::HashSet;

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
    let mut seen = Seen { odb: &odb, trees: HashSet::new() };
    let mut walk = repository.revwalk()?;
    for id in known {
        if let Some(commit) = commit_of(repository, *id) {
            walk.hide(commit)?;
            // Its files need not be looked at again.
            let tree = repository.find_commit(commit)?.tree_id();
            seen.trees.insert(tree);
        }
    }
    for id in new {
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
        heard(0, seen.trees.len() as u64);
        if let Some(missing) = seen.tree(repository, tree)? {
            return Ok(Some((id, missing)));
        }
    }
    Ok(None)
}

/// The commit that an object is, or that a tag leads to.
fn commit_of(repository: &Repository, id: Oid) -> Option<Oid> {
    let object = repository.find_object(id, None).ok()?;
    Some(object.peel_to_commit().ok()?.id())
}

struct Seen<'a> {
    odb: &'a Odb<'a>,
    trees: HashSet<Oid>,
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
