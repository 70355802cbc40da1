//! The commits of a git repository of apps: what was done by whom, and how branches stand to each other.
//!
//! What always holds: a commit that cannot be read is told in its place, and does not hide those before it where their ids are known.

use crate::git::error::{GitError, told};
use git2::{ErrorCode, Oid, Repository, Sort};
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// A commit. Texts are as somebody wrote them: escape them before a terminal sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Commit {
    /// In hexadecimal digits.
    pub id: String,
    /// Its parents, in hexadecimal digits.
    pub parents: Vec<String>,
    /// Who wrote it.
    pub author: String,
    /// That person's address.
    pub email: String,
    /// When it was written, by the author's clock.
    pub date: Timestamp,
    /// When it was committed, by the committer's clock.
    pub committed: Timestamp,
    /// The first line of the message.
    pub subject: String,
    /// All of the message; what is over [`Commit::MOST_MESSAGE`] is cut off.
    pub message: String,
    /// Why the commit cannot be read, where it cannot: then there is but its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// How commit `a` stands to commit `b`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Relation {
    /// Commits that only `a` has.
    pub ahead: u64,
    /// Commits that only `b` has.
    pub behind: u64,
    /// Each has some that the other has not.
    pub diverged: bool,
    /// The best common ancestor, in hexadecimal digits; none where the histories have nothing in common.
    pub merge_base: Option<String>,
}

impl Commit {
    /// Bytes of a message that are kept.
    pub const MOST_MESSAGE: usize = 16 << 10;
    const MOST_SUBJECT: usize = 200;

    fn read(repository: &Repository, id: Oid) -> Self {
        match repository.find_commit(id) {
            Ok(commit) => Self::of(&commit),
            Err(error) => Self {
                id: id.to_string(),
                parents: Vec::new(),
                author: String::new(),
                email: String::new(),
                date: Timestamp::UNIX_EPOCH,
                committed: Timestamp::UNIX_EPOCH,
                subject: String::new(),
                message: String::new(),
                trouble: Some(told(&error)),
            },
        }
    }

    fn of(commit: &git2::Commit<'_>) -> Self {
        let (author, committer) = (commit.author(), commit.committer());
        let bytes = commit.message_bytes();
        let message = String::from_utf8_lossy(&bytes[..bytes.len().min(Self::MOST_MESSAGE)]);
        let subject =
            message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        Self {
            id: commit.id().to_string(),
            parents: commit.parent_ids().map(|parent| parent.to_string()).collect(),
            author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
            email: String::from_utf8_lossy(author.email_bytes()).into_owned(),
            date: time(author.when()),
            committed: time(committer.when()),
            subject: subject.chars().take(Self::MOST_SUBJECT).collect(),
            message: message.trim_end().to_owned(),
            trouble: None,
        }
    }
}

/// These commits, in their order.
pub fn commits(repository: &Repository, ids: &[Oid]) -> Vec<Commit> {
    ids.iter().map(|id| Commit::read(repository, *id)).collect()
}

/// The newest `limit` commits that `tips` have, newest first and children before their parents. With a `path` those only that have
/// something else there than each of their parents; an empty one is everywhere.
pub fn log(
    repository: &Repository,
    tips: &[Oid],
    path: &Path,
    limit: usize,
) -> Result<Vec<Commit>, GitError> {
    walk(repository, tips, &[], path, limit)
}

/// The commits that `to` has and `from` has not, newest first, and at most `limit`: those that a branch at `from` gets by pulling `to`.
pub fn commits_between(
    repository: &Repository,
    from: Oid,
    to: Oid,
    limit: usize,
) -> Result<Vec<Commit>, GitError> {
    walk(repository, &[to], &[from], Path::new(""), limit)
}

fn walk(
    repository: &Repository,
    tips: &[Oid],
    hidden: &[Oid],
    path: &Path,
    limit: usize,
) -> Result<Vec<Commit>, GitError> {
    for id in tips.iter().chain(hidden) {
        known(repository, *id)?;
    }
    let failed = |error| GitError::unread("the history", repository.path())(error);
    let mut walk = repository.revwalk().map_err(failed)?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME).map_err(failed)?;
    for tip in tips {
        walk.push(*tip).map_err(failed)?;
    }
    for id in hidden {
        walk.hide(*id).map_err(failed)?;
    }
    let mut commits = Vec::new();
    for id in walk {
        if commits.len() == limit {
            break;
        }
        let id = id.map_err(failed)?;
        if path.as_os_str().is_empty() || changed(repository, id, path) {
            commits.push(Commit::read(repository, id));
        }
    }
    Ok(commits)
}

/// Whether the commit has something else at the path than each of its parents. One that cannot be read counts: it is not hidden.
fn changed(repository: &Repository, id: Oid, path: &Path) -> bool {
    let Ok(commit) = repository.find_commit(id) else { return true };
    let at = |commit: &git2::Commit<'_>| {
        let entry = commit.tree().and_then(|tree| tree.get_path(path)).ok()?;
        Some((entry.id(), entry.filemode_raw()))
    };
    let own = at(&commit);
    if commit.parent_count() == 0 {
        return own.is_some();
    }
    commit.parents().all(|parent| at(&parent) != own)
}

/// How `a` stands to `b`.
pub fn relation(repository: &Repository, a: Oid, b: Oid) -> Result<Relation, GitError> {
    known(repository, a)?;
    known(repository, b)?;
    let failed = |error| GitError::unread("the history", repository.path())(error);
    let (ahead, behind) = repository.graph_ahead_behind(a, b).map_err(failed)?;
    let merge_base = match repository.merge_base(a, b) {
        Ok(base) => Some(base.to_string()),
        Err(error) if error.code() == ErrorCode::NotFound => None,
        Err(error) => return Err(failed(error)),
    };
    let (ahead, behind) = (ahead as u64, behind as u64);
    Ok(Relation { ahead, behind, diverged: ahead > 0 && behind > 0, merge_base })
}

fn known(repository: &Repository, id: Oid) -> Result<(), GitError> {
    match repository.find_commit(id) {
        Ok(_) => Ok(()),
        Err(error) if error.code() == ErrorCode::NotFound => {
            Err(GitError::no_commit(repository, &id.to_string()))
        }
        Err(error) => Err(GitError::unread(format!("commit {id}"), repository.path())(error)),
    }
}

/// Git's seconds may be of any size.
fn time(when: git2::Time) -> Timestamp {
    let seconds = when.seconds();
    let limit = if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX };
    Timestamp::from_second(seconds).unwrap_or(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::fixtures::{Made, Samples, branch};
    use git2::ObjectType;

    fn everywhere() -> &'static Path {
        Path::new("")
    }

    fn subjects(commits: &[Commit]) -> Vec<&str> {
        commits.iter().map(|commit| commit.subject.as_str()).collect()
    }

    #[test]
    fn staging_of_the_sample_is_two_commits_ahead() {
        let samples = Samples::make();
        let repository = samples.open("appsmith-orders");
        let (master, staging) = (branch(&repository, "master"), branch(&repository, "staging"));
        let expected = |ahead, behind| Relation {
            ahead,
            behind,
            diverged: false,
            merge_base: Some(master.to_string()),
        };
        assert_eq!(relation(&repository, staging, master).unwrap(), expected(2, 0));
        assert_eq!(relation(&repository, master, staging).unwrap(), expected(0, 2));
        assert_eq!(relation(&repository, master, master).unwrap(), expected(0, 0));
        let ahead = commits_between(&repository, master, staging, 10).unwrap();
        assert_eq!(
            subjects(&ahead),
            [
                "System generated commit, to support new features in Appsmith v2.5.0",
                "Add a chart to Home"
            ]
        );
        assert_eq!(ahead[0].id, staging.to_string());
        assert_eq!(ahead[0].parents, [ahead[1].id.clone()]);
        assert_eq!(
            (ahead[0].author.as_str(), ahead[0].email.as_str()),
            ("Dev Eloper", "dev@example.com")
        );
        let date: Timestamp = "2026-01-05T13:30:00Z".parse().unwrap();
        assert_eq!((ahead[0].date, ahead[0].committed), (date, date));
        assert_eq!(ahead[0].trouble, None);
        assert_eq!(commits_between(&repository, staging, master, 10).unwrap(), []);
        assert_eq!(commits_between(&repository, master, staging, 1).unwrap(), ahead[..1]);
    }

    #[test]
    fn the_log_is_that_of_a_path() {
        let samples = Samples::make();
        let repository = samples.open("appsmith-orders");
        let tips = [branch(&repository, "staging"), branch(&repository, "master")];
        let of = |path: &str, limit| {
            let commits = log(&repository, &tips, Path::new(path), limit).unwrap();
            commits.into_iter().map(|commit| commit.subject).collect::<Vec<_>>()
        };
        let all = of("", 100);
        assert_eq!(all.len(), 4);
        assert_eq!(of("", 2), all[..2]);
        assert_eq!(of("pages/Home", 100), [all[1].clone(), all[3].clone()]);
        assert_eq!(of("pages/Orders/widgets/Select1.json", 100), [all[2].clone()]);
        assert_eq!(of("metadata.json", 1), [all[0].clone()]);
        assert_eq!(of("gone", 100), [""; 0]);
    }

    #[test]
    fn a_merge_is_in_the_log_of_a_path_where_it_made_it_differ() {
        let made = Made::new();
        let base = made.commit(&[("a", "1"), ("b", "1")], &[]);
        let ours = made.commit(&[("a", "2"), ("b", "1")], &[base]);
        let theirs = made.commit(&[("a", "1"), ("b", "2")], &[base]);
        let merge = made.commit(&[("a", "2"), ("b", "3")], &[ours, theirs]);
        let ids = |path: &str| {
            let commits = log(&made.repository, &[merge], Path::new(path), 10).unwrap();
            commits.into_iter().map(|commit| commit.id.parse().unwrap()).collect::<Vec<Oid>>()
        };
        assert_eq!(ids("a"), [ours, base]);
        assert_eq!(ids("b"), [merge, theirs, base]);
        let diverged = relation(&made.repository, ours, theirs).unwrap();
        assert_eq!((diverged.ahead, diverged.behind, diverged.diverged), (1, 1, true));
        assert_eq!(diverged.merge_base, Some(base.to_string()));
    }

    #[test]
    fn histories_that_have_nothing_in_common_are_told() {
        let made = Made::new();
        let a = made.commit(&[("a", "1")], &[]);
        let b = made.commit(&[("b", "1")], &[]);
        let expected = Relation { ahead: 1, behind: 1, diverged: true, merge_base: None };
        assert_eq!(relation(&made.repository, a, b).unwrap(), expected);
    }

    #[test]
    fn commits_of_any_bytes_are_read() {
        let made = Made::new();
        let tree = made.object(ObjectType::Tree, b"");
        let commit = |author: &[u8], message: &[u8]| {
            let mut text = format!("tree {tree}\nauthor ").into_bytes();
            text.extend([author, b"\ncommitter C <> 2 +0000\n\n", message].concat());
            made.object(ObjectType::Commit, &text)
        };
        let read = |id| log(&made.repository, &[id], everywhere(), 1).unwrap().remove(0);
        let odd =
            read(commit(b"\xff\x1bx <\xfe> 99999999999999 +0000", b"\n\n \xfd first \nsecond\n"));
        assert_eq!((odd.author.as_str(), odd.email.as_str()), ("\u{fffd}\u{1b}x", "\u{fffd}"));
        assert_eq!((odd.date, odd.committed), (Timestamp::MAX, Timestamp::from_second(2).unwrap()));
        assert_eq!(odd.subject, "\u{fffd} first");
        let long = read(commit(b"A <a> 1 +0000", "ä".repeat(20_000).as_bytes()));
        assert_eq!((long.message.len(), long.subject.chars().count()), (Commit::MOST_MESSAGE, 200));
    }

    #[test]
    fn what_is_no_commit_is_an_error_that_says_so() {
        let made = Made::new();
        let missing = Oid::from_str(&"ab".repeat(20)).unwrap();
        let blob = made.object(ObjectType::Blob, b"x");
        let commit = made.commit(&[], &[]);
        for (name, error) in [
            (missing, log(&made.repository, &[commit, missing], everywhere(), 1).unwrap_err()),
            (missing, relation(&made.repository, commit, missing).unwrap_err()),
            (blob, commits_between(&made.repository, blob, commit, 1).unwrap_err()),
        ] {
            let is_named =
                matches!(&error, GitError::NoCommit { name: it, .. } if *it == name.to_string());
            assert!(is_named, "{error}");
        }
        let orphan = made.commit(&[], &[missing]);
        let error = log(&made.repository, &[orphan], everywhere(), 5).unwrap_err();
        assert!(
            matches!(error, GitError::Read { .. }),
            "a history with a hole is not passed off as a whole one: {error}"
        );
    }
}
