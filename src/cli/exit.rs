//! Exit codes, which stay as they are, and the one type that every failure becomes at the edge.

use crate::model::event::Cancelled;
use crate::ops::OpsError;
use crate::ops::backup::import::ImportError;
use crate::repository::RepositoryError;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Done with warnings, or partly.
    Warned = 3,
    /// Damage was found, or a key does not fit.
    Damaged = 4,
    /// The gate said no.
    Gated = 5,
    /// Not a file of the kind that was expected, or cut short.
    WrongFile = 6,
    /// There is no such repository.
    NoRepository = 10,
    /// Somebody else holds a lock.
    Locked = 11,
    /// The password is wrong.
    WrongPassword = 12,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// All of them.
    const ALL: [Self; 11] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Warned,
        Self::Damaged,
        Self::Gated,
        Self::WrongFile,
        Self::NoRepository,
        Self::Locked,
        Self::WrongPassword,
        Self::Interrupted,
    ];

    /// Of a job that somebody else ran. A code that this version does not know is a failure.
    pub(super) fn from_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Self::Failed)
    }

    /// This, unless all is well, and then the other.
    pub(super) fn or(self, other: Self) -> Self {
        if self == Self::Done { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure as a person is told it.
#[derive(Debug)]
pub(super) struct Failure {
    /// The code that the process ends with.
    pub(super) exit: Exit,
    /// What was tried, on what, and why it failed.
    pub(super) message: String,
    /// What to do.
    pub(super) hint: Option<String>,
}

impl Failure {
    /// A mistake on the command line.
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into(), hint: Some(hint.into()) }
    }

    /// Something that should not happen.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self { exit: Exit::Failed, message: message.into(), hint: None }
    }
}

impl<E: Into<OpsError>> From<E> for Failure {
    fn from(error: E) -> Self {
        let error = error.into();
        Self { exit: exit_of(&error), message: error.told(), hint: error.hint() }
    }
}

fn exit_of(error: &OpsError) -> Exit {
    if error.is_cancelled() {
        return Exit::Interrupted;
    }
    match error {
        OpsError::Config(_)
        | OpsError::Secret(_)
        | OpsError::Unknown(_)
        | OpsError::Location(_)
        | OpsError::Usage { .. } => Exit::Usage,
        OpsError::Repository(error) => exit_of_repository(error),
        OpsError::Gate { .. } => Exit::Gated,
        OpsError::Busy { .. } => Exit::Locked,
        OpsError::WrongFile { .. } => Exit::Damaged,
        OpsError::Import { source, .. } => match source {
            ImportError::WrongPassword => Exit::WrongPassword,
            ImportError::Read(_) => Exit::Failed,
            _ => Exit::WrongFile,
        },
        _ => Exit::Failed,
    }
}

fn exit_of_repository(error: &RepositoryError) -> Exit {
    match error {
        RepositoryError::NotFound { .. } => Exit::NoRepository,
        RepositoryError::Locked { .. } => Exit::Locked,
        RepositoryError::WrongPassword { .. } => Exit::WrongPassword,
        RepositoryError::Cancelled(Cancelled) => Exit::Interrupted,
        error if error.is_damage() => Exit::Damaged,
        _ => Exit::Failed,
    }
}
