//! The mirror of a git repository: a bare one with all its refs, from which nothing ever goes away.

mod alive;
pub mod claim;
mod contents;
mod durable;
pub mod fetch;
mod incoming;
mod pending;
mod plan;
mod refs;
mod seen;
#[cfg(test)]
mod tests;
mod verify;
mod whole;

use super::error::GitError;
use super::remote::{OWN, THEIRS};
use git2::{Oid, Repository, RepositoryInitOptions};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What every mirror's configuration says, beside what makes a repository of git: a fetch that ended is on the disk, and
/// nothing that nobody refers to at the moment is thrown away by somebody who runs git in it.
const SETTINGS: [(&str, &str); 5] = [
    ("core.fsyncObjectFiles", "true"),
    ("core.logAllRefUpdates", "false"),
    ("gc.auto", "0"),
    ("gc.pruneExpire", "never"),
    ("receive.denyDeletes", "true"),
];

/// A mirror on this host.
pub struct Mirror {
    repository: Repository,
    path: PathBuf,
}

impl Mirror {
    /// Open it; nothing where it is missing.
    pub fn open(path: &Path) -> Result<Option<Self>, GitError> {
        let refused = |reason: &str| GitError::Read {
            what: "the git repository".to_owned(),
            mirror: path.to_owned(),
            reason: reason.to_owned(),
        };
        match path.symlink_metadata() {
            // Root works in a directory of a user without privileges: what leads elsewhere is not his to name.
            Ok(found) if !found.is_dir() => return Err(refused("it is no directory")),
            Ok(_) if path.join("objects/info/alternates").symlink_metadata().is_ok() => {
                return Err(refused("it borrows objects from elsewhere"));
            }
            Ok(_) if path.join("HEAD").exists() => {}
            _ => return Ok(None),
        }
        // Not `Repository::open`: that looks for working trees, and refuses what belongs to another user, as the mirror does
        // where an administrator looks into it.
        let repository =
            Repository::open_bare(path).map_err(GitError::unread("the git repository", path))?;
        Ok(Some(Self { repository, path: path.to_owned() }))
    }

    /// Open it, made where it is missing.
    pub fn make(path: &Path) -> Result<Self, GitError> {
        if let Some(found) = Self::open(path)? {
            return Ok(found);
        }
        Ok(Self { repository: init(path)?, path: path.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What libgit2 knows of it.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Every ref with what it leads to, our own among them.
    pub fn refs(&self) -> Result<BTreeMap<String, Oid>, GitError> {
        let failed = || GitError::unread("its refs", &self.path);
        let mut found = BTreeMap::new();
        for reference in self.repository.references().map_err(failed())? {
            let reference = reference.map_err(failed())?;
            let name = reference.name().map_err(failed())?.to_owned();
            if let Some(target) = reference.target() {
                found.insert(name, target);
            }
        }
        Ok(found)
    }

    /// Tells this state of the refs from others.
    pub fn digest(&self) -> Result<String, GitError> {
        Ok(self.digest_of(&self.refs()?))
    }

    /// The same, of refs that were read already.
    pub fn digest_of(&self, refs: &BTreeMap<String, Oid>) -> String {
        digest_of(refs, self.head().as_deref())
    }

    /// The branch that a clone begins with.
    pub fn head(&self) -> Option<String> {
        let head = self.repository.find_reference("HEAD").ok()?;
        head.symbolic_target().ok().flatten().map(ToOwned::to_owned)
    }

    /// The commit that a branch, a tag, a ref or the beginning of an id leads to.
    pub fn commit(&self, name: &str) -> Result<Oid, GitError> {
        let missing = || GitError::NoCommit { name: name.to_owned(), mirror: self.path.clone() };
        let object = self.repository.revparse_single(name).map_err(|_| missing())?;
        let commit = object.peel_to_commit().map_err(|_| missing())?;
        Ok(commit.id())
    }

    /// The commit that a branch leads to; nothing where it is not there.
    pub fn branch(&self, name: &str) -> Option<Oid> {
        let reference = self.repository.find_reference(&format!("refs/heads/{name}")).ok()?;
        reference.peel_to_commit().ok().map(|commit| commit.id())
    }
}

/// A bare git repository that begins with nothing.
fn init(path: &Path) -> Result<Repository, GitError> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).no_reinit(false).mkpath(true).external_template(false);
    let repository =
        Repository::init_opts(path, &options).map_err(GitError::unwritten("make", path))?;
    let set = || {
        let mut config = repository.config()?;
        SETTINGS.iter().try_for_each(|(name, value)| config.set_str(name, value))
    };
    set().map_err(GitError::unwritten("configure", path))?;
    Ok(repository)
}

fn digest_of(refs: &BTreeMap<String, Oid>, head: Option<&str>) -> String {
    let mut sum = Sha256::new();
    for (name, id) in refs {
        sum.update(name);
        sum.update([0]);
        sum.update(id.as_bytes());
    }
    sum.update(head.unwrap_or_default());
    hex::encode(&sum.finalize()[..16])
}

/// Whether a ref is the git repository's, as it is now.
pub(super) fn is_theirs(name: &str) -> bool {
    !name.starts_with(OWN) || name.starts_with(THEIRS)
}
