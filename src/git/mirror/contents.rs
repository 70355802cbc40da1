//! What is in a mirror, by commits that are named as text: everything above libgit2 asks here.

use super::{Mirror, whole};
use crate::git::copy::{self, Wanted};
use crate::git::error::GitError;
use crate::git::history::{self, Commit, Relation};
use crate::git::journal;
use crate::git::layout::diff::{self, CommitChanges, Difference};
use crate::git::layout::{self, Inventory};
use crate::git::remote::Heard;
use crate::model::git::Rewrite;
use git2::{Oid, Repository};
use std::path::Path;

impl Mirror {
    /// What a commit holds.
    pub fn inventory(&self, commit: &str) -> Result<Inventory, GitError> {
        layout::inventory(&self.repository, self.commit(commit)?)
    }

    /// The newest commits that these lead to and that changed something at a path.
    pub fn log(
        &self,
        commits: &[String],
        path: &Path,
        limit: usize,
    ) -> Result<Vec<Commit>, GitError> {
        history::log(&self.repository, &self.all(commits)?, path, limit)
    }

    /// The commits of all branches.
    pub fn branch_tips(&self) -> Result<Vec<String>, GitError> {
        let branches = self.refs()?;
        let branches = branches.into_iter().filter(|(name, _)| name.starts_with("refs/heads/"));
        Ok(branches.map(|(_, id)| id.to_string()).collect())
    }

    /// How a commit stands to another.
    pub fn relation(&self, one: &str, other: &str) -> Result<Relation, GitError> {
        history::relation(&self.repository, self.commit(one)?, self.commit(other)?)
    }

    /// The commits that the second has and the first has not, newest first, with what each changed at a path.
    pub fn between(
        &self,
        from: &str,
        to: &str,
        path: &Path,
        limit: usize,
    ) -> Result<Vec<(Commit, CommitChanges)>, GitError> {
        let commits = history::commits_between(
            &self.repository,
            self.commit(from)?,
            self.commit(to)?,
            limit,
        )?;
        let ids: Vec<String> = commits.iter().map(|commit| commit.id.clone()).collect();
        let changes = diff::of_commits(&self.repository, &self.all(&ids)?, path)?;
        Ok(commits.into_iter().zip(changes).collect())
    }

    /// What differs between two commits at a path.
    pub fn diff(&self, from: &str, to: &str, path: &Path) -> Result<Difference, GitError> {
        diff::diff(&self.repository, (self.commit(from)?, self.commit(to)?), path)
    }

    /// What was pushed away, oldest first.
    pub fn kept(&self) -> Result<Vec<Rewrite>, GitError> {
        journal::kept(self)
    }

    /// The commits that only a kept ref leads to, newest first.
    pub fn dropped(&self, rewrite: &Rewrite, limit: usize) -> Result<Vec<Commit>, GitError> {
        let unread = || GitError::unread(format!("what {} leads to", rewrite.kept), self.path());
        // A tag of something else than a commit has no commits to lose.
        let Ok(from) = self.commit(&rewrite.from) else { return Ok(Vec::new()) };
        let mut walk = self.repository.revwalk().map_err(unread())?;
        walk.set_sorting(git2::Sort::TOPOLOGICAL | git2::Sort::TIME).map_err(unread())?;
        walk.push(from).map_err(unread())?;
        for (name, id) in self.refs()? {
            if super::is_theirs(&name)
                && let Ok(object) = self.repository.find_object(id, None)
                && let Ok(commit) = object.peel_to_commit()
            {
                walk.hide(commit.id()).map_err(unread())?;
            }
        }
        let ids: Result<Vec<Oid>, _> = walk.take(limit).collect();
        Ok(history::commits(&self.repository, &ids.map_err(unread())?))
    }

    /// Have a commit, with all that belongs to it, out of another mirror.
    pub fn take_commit(
        &self,
        other: &Path,
        commit: &str,
        heard: Heard<'_>,
    ) -> Result<(), GitError> {
        let known = whole::commits_of(&self.repository, self.refs()?.into_values());
        let take = || {
            let ids = vec![Oid::from_str(commit)?];
            let other = Repository::open_bare(other)?;
            copy::copy(&other, &self.repository, &Wanted { ids, known }, heard)
        };
        take().map_err(GitError::unwritten(format!("take {commit} into it"), self.path()))
    }

    fn all(&self, commits: &[String]) -> Result<Vec<Oid>, GitError> {
        commits.iter().map(|commit| self.commit(commit)).collect()
    }
}
