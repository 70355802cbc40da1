//! What can go wrong with a git repository.

use git2::Repository;
use std::path::{Path, PathBuf};

/// An operation on a git repository or on its mirror failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The mirror, or something in it, cannot be read.
    #[error("{what} in the mirror {} cannot be read: {reason}", mirror.display())]
    Read {
        /// What was looked at, such as "the tree of 1a2b3c4d".
        what: String,
        /// The mirror's directory.
        mirror: PathBuf,
        /// What libgit2 says.
        reason: String,
    },
    /// No commit has this name.
    #[error("there is no commit '{name}' in {}", mirror.display())]
    NoCommit {
        /// As it was asked for.
        name: String,
        /// The mirror's directory.
        mirror: PathBuf,
    },
    /// The mirror cannot be written.
    #[error("could not {action} in the mirror {}: {reason}", mirror.display())]
    Write {
        /// What was tried.
        action: String,
        /// The mirror's directory.
        mirror: PathBuf,
        /// What libgit2 or the system says.
        reason: String,
    },
    /// The git repository did not answer, or did not let us in.
    #[error("{url} cannot be reached: {reason}")]
    Unreachable {
        /// Where it is.
        url: String,
        /// What libgit2 says.
        reason: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// It has nothing, and the mirror has something.
    #[error("{url} has no branches and no tags any more, and its mirror has {refs}")]
    Emptied {
        /// Where it is.
        url: String,
        /// How many refs the mirror has.
        refs: usize,
    },
    /// It has commits, and none that the mirror knows.
    #[error(
        "{url} has nothing in common with what its mirror has: it is another git repository, or its whole history was replaced"
    )]
    Unrelated {
        /// Where it is.
        url: String,
    },
    /// What it sent is not complete.
    #[error("{url} sent {commit} without everything that belongs to it: {missing} is missing")]
    Incomplete {
        /// Where it is.
        url: String,
        /// The commit or tag.
        commit: String,
        /// What is missing.
        missing: String,
    },
    /// It would not take what was pushed.
    #[error("{url} refused {branch}: {reason}")]
    Refused {
        /// Where it is.
        url: String,
        /// The branch.
        branch: String,
        /// What it says.
        reason: String,
    },
    /// A branch of this name is there already.
    #[error("{url} has a branch '{branch}' already")]
    BranchExists {
        /// Where it is.
        url: String,
        /// The branch.
        branch: String,
    },
}

impl GitError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { hint, .. } => hint.clone(),
            Self::Emptied { .. } => Some(
                "nothing in the mirror was touched; if it was emptied on purpose: belay apps fetch NAME --new-history keeps the old refs and goes on"
                    .into(),
            ),
            Self::Unrelated { .. } => Some(
                "nothing in the mirror was touched; is `url` right? If the history was replaced on purpose: belay apps fetch NAME --new-history keeps the old refs and goes on"
                    .into(),
            ),
            Self::Incomplete { .. } => Some(
                "the git repository itself is shallow (`git fetch --unshallow` there makes it whole) or damaged (`git fsck --full` there shows what); no ref of its mirror was moved".into(),
            ),
            Self::Read { mirror, .. } => Some(format!(
                "if {} is damaged: move it aside, and the next `belay backup NAME` brings it back out of the newest snapshot",
                mirror.display()
            )),
            Self::NoCommit { .. } => Some("belay apps log NAME shows commits, with --kept also those that were pushed away".into()),
            Self::BranchExists { .. } => Some("name another one: nothing is forced".into()),
            Self::Write { .. } | Self::Refused { .. } => None,
        }
    }

    /// An error of libgit2 or the system while reading.
    pub(super) fn unread<E: Said>(
        what: impl Into<String>,
        mirror: &Path,
    ) -> impl FnOnce(E) -> Self {
        let (what, mirror) = (what.into(), mirror.to_owned());
        move |error| Self::Read { what, mirror, reason: error.said() }
    }

    /// An error of libgit2 or the system while writing.
    pub(super) fn unwritten<E: Said>(
        action: impl Into<String>,
        mirror: &Path,
    ) -> impl FnOnce(E) -> Self {
        let (action, mirror) = (action.into(), mirror.to_owned());
        move |error| Self::Write { action, mirror, reason: error.said() }
    }

    pub(super) fn refuse(repository: &Repository, what: impl Into<String>, reason: String) -> Self {
        Self::Read { what: what.into(), mirror: repository.path().to_owned(), reason }
    }

    pub(super) fn no_commit(repository: &Repository, name: &str) -> Self {
        Self::NoCommit { name: name.to_owned(), mirror: repository.path().to_owned() }
    }
}

/// An error that says what went wrong.
pub(super) trait Said {
    /// What it says, on one line.
    fn said(&self) -> String;
}

impl Said for git2::Error {
    fn said(&self) -> String {
        told(self)
    }
}

impl Said for std::io::Error {
    fn said(&self) -> String {
        self.to_string()
    }
}

/// What libgit2 says, on one line.
pub(super) fn told(error: &git2::Error) -> String {
    error.message().split_whitespace().collect::<Vec<_>>().join(" ")
}
