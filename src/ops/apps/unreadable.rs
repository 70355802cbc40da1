//! Which commits of production's branch a server of an older version cannot read: what was committed while the newer one ran.

use super::production_branch;
use crate::config::{Config, GitRepository, Pair};
use crate::git::history::Commit;
use crate::model::name::Name;
use crate::model::version::Version;
use crate::ops::OpsError;
use crate::ops::git::open_mirror;
use crate::policy::readable::{Readability, readable};
use std::path::Path;

/// So far back it is looked for a commit that can be read.
const MOST_COMMITS: usize = 200;

/// The newest commits of a branch, which a server cannot read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The git repository's name.
    pub git: Name,
    /// The branch that production pulls.
    pub branch: String,
    /// These, newest first. Their texts are as somebody wrote them: escape them before a terminal sees them.
    pub commits: Vec<Commit>,
    /// Why the newest one cannot be read, a sentence.
    pub why: String,
    /// The newest commit of the branch that can be read; none where there is none as far back as was looked.
    pub readable: Option<Commit>,
}

/// What a production of this version cannot read of its branches, as their mirrors have them. Those of which nobody can say are left
/// out; a git repository that cannot be looked at is an error of its own.
pub fn unreadable(
    config: &Config,
    pair: &Pair,
    version: &Version,
) -> Vec<Result<Unreadable, OpsError>> {
    config.gits_of(&pair.name).filter_map(|git| of_git(config, git, version).transpose()).collect()
}

fn of_git(
    config: &Config,
    git: &GitRepository,
    version: &Version,
) -> Result<Option<Unreadable>, OpsError> {
    let failed = |error| OpsError::git(&git.name, &error);
    let mirror = open_mirror(config, &git.name)?;
    let branch = production_branch(git, &mirror);
    let Some((branch, tip)) = branch.and_then(|it| mirror.branch(&it).map(|tip| (it, tip))) else {
        return Ok(None);
    };
    let mut next = Some(tip.to_string());
    let (mut commits, mut why, mut readable_one) = (Vec::new(), None, None);
    while let Some(id) = next.take().filter(|_| commits.len() < MOST_COMMITS) {
        let schema = mirror.inventory(&id).map_err(failed)?.schema;
        let found = mirror.log(std::slice::from_ref(&id), Path::new(""), 1).map_err(failed)?;
        let Some(commit) = found.into_iter().next() else { break };
        match readable(schema.as_ref(), Some(version), None) {
            Readability::NotReadable { reason } => {
                why.get_or_insert(reason);
                // What was merged came with this one, and production pulls no other.
                next = commit.parents.first().cloned();
                commits.push(commit);
            }
            Readability::Readable => {
                readable_one = Some(commit);
                break;
            }
            Readability::Unknown { .. } => break,
        }
    }
    Ok(why.map(|why| Unreadable {
        git: git.name.clone(),
        branch,
        commits,
        why,
        readable: readable_one,
    }))
}
