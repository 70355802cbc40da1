//! What talks to strangers runs in a process of its own, which can be ended whatever it waits for, has no more rights than the
//! owner of the state directory, and takes no other job with it when something in libgit2 goes wrong.
//!
//! It reads [`Request`]s as lines of JSON from its standard input, secrets among them, and answers each with lines of JSON, of
//! which the last is no [`Line::Progress`].

use super::error::GitError;
use super::mirror::Mirror;
use super::mirror::claim::Claim;
use super::mirror::fetch::{Fetched, fetch};
use super::remote::{Address, Heard};
use super::restore::{self, Restored, Restoring};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is to be done.
#[derive(Serialize, Deserialize)]
pub struct Request {
    /// The mirror's directory.
    pub mirror: PathBuf,
    /// Whom to talk to.
    pub address: Address,
    /// What to do.
    pub work: Work,
}

/// What to do.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// See whether the git repository can be reached; there need not be a mirror.
    Look,
    /// Bring the mirror up to date.
    Fetch {
        /// The git repository may have been emptied or replaced.
        is_new_history: bool,
        /// When this is.
        now: Timestamp,
    },
    /// Make a branch that brings an old state back, in the mirror.
    Restore {
        /// What.
        restoring: Restoring,
        /// Another mirror, out of a snapshot, that has the commit where this one may not.
        from: Option<PathBuf>,
    },
    /// Push a commit to a branch that is not there yet.
    Push {
        /// The commit's id.
        commit: String,
        /// The branch.
        branch: String,
    },
}

/// What it says.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// How far it is.
    Progress {
        /// Bytes taken so far.
        bytes: u64,
        /// Objects taken or looked at so far.
        objects: u64,
    },
    /// It can be reached.
    Seen {
        /// How many refs it has.
        refs: u64,
    },
    /// The mirror is up to date.
    Fetched(Fetched),
    /// There is a branch that brings it back.
    Restored(Restored),
    /// It was pushed.
    Pushed,
    /// It went wrong.
    Failed {
        /// What was tried, on what, and why it failed.
        message: String,
        /// What to do about it.
        hint: Option<String>,
        /// Whether it may go better later without anybody doing anything.
        may_pass: bool,
    },
}

/// The mirror, and the right to change it for as long as the claim is there.
fn claimed(request: &Request) -> Result<(Claim, Mirror), GitError> {
    let claim = Claim::wait(&request.mirror)?;
    let mirror = Mirror::make(&request.mirror)?;
    claim.clean_up(&mirror)?;
    Ok((claim, mirror))
}

/// Do what is asked.
pub fn answer(request: &Request, heard: Heard<'_>) -> Line {
    let work = || match &request.work {
        Work::Look => {
            let refs = request.address.look(heard)?.refs.len() as u64;
            Ok(Line::Seen { refs })
        }
        Work::Fetch { is_new_history, now } => {
            let (_claim, mirror) = claimed(request)?;
            let fetched = fetch(&mirror, &request.address, *is_new_history, *now, heard)?;
            Ok(Line::Fetched(fetched))
        }
        Work::Restore { restoring, from } => {
            let (_claim, mirror) = claimed(request)?;
            if let Some(from) = from {
                mirror.take_commit(from, &restoring.commit, heard)?;
            }
            Ok(Line::Restored(restore::branch(&mirror, restoring)?))
        }
        Work::Push { commit, branch } => {
            let (_claim, mirror) = claimed(request)?;
            let id = mirror.commit(commit)?;
            request.address.push(mirror.repository(), id, branch, heard)?;
            Ok(Line::Pushed)
        }
    };
    work().unwrap_or_else(|error: GitError| Line::Failed {
        message: error.to_string(),
        hint: error.hint(),
        may_pass: matches!(error, GitError::Unreachable { .. }),
    })
}
