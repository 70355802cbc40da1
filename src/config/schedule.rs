//! What the configuration says of the daemon: when what is due, and what is promised.

use std::path::PathBuf;
use std::time::Duration;

/// The daemon's own settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The socket of its API.
    pub socket: PathBuf,
    /// How many jobs may run at once; at least one.
    pub jobs: usize,
    /// How many jobs may use a repository at once; at least one.
    pub jobs_per_repository: usize,
}

/// What is promised of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    /// How old its last good snapshot may become.
    pub rpo: Option<Duration>,
    /// How long it may take to bring it back.
    pub rto: Option<Duration>,
}
