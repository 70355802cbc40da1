//! What can go wrong with the catalog, told with its path and with what to do next.

use rusqlite::ffi::{self, ErrorCode};
use std::io;
use std::path::{Path, PathBuf};

/// What SQLite said. Its own chain of sources repeats itself, so it ends here.
#[derive(Debug)]
pub struct SqliteReason(pub(super) rusqlite::Error);

impl std::fmt::Display for SqliteReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            rusqlite::Error::FromSqlConversionFailure(_, _, reason) => reason.fmt(formatter),
            other => other.fmt(formatter),
        }
    }
}

impl std::error::Error for SqliteReason {}

/// Why the catalog could not do something. `action` completes the sentence "cannot …".
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The operating system refused something about the directory or its files.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is an SQLite database of something else.
    #[error("{} is a database, but no catalog of Belay", .0.display())]
    Foreign(PathBuf),
    /// The file was made by a program that knows more than this one.
    #[error("the catalog {} was made by a newer Belay: its version is {found}, the newest known is {known}", path.display())]
    Newer {
        /// The catalog.
        path: PathBuf,
        /// Its schema's version.
        found: i64,
        /// The newest version that this program knows.
        known: usize,
    },
    /// The file, or a value in it, cannot be read.
    #[error("cannot {action}: the catalog {} is damaged", path.display())]
    Damaged {
        /// What was tried.
        action: &'static str,
        /// The catalog.
        path: PathBuf,
        /// What is wrong with it.
        source: SqliteReason,
    },
    /// Another process kept its lock longer than the busy timeout.
    #[error("cannot {action}: the catalog {} is locked by another process", path.display())]
    Locked {
        /// What was tried.
        action: &'static str,
        /// The catalog.
        path: PathBuf,
    },
    /// The file system has no room.
    #[error("cannot {action}: there is no room for the catalog {}", path.display())]
    Full {
        /// What was tried.
        action: &'static str,
        /// The catalog.
        path: PathBuf,
        /// What SQLite said.
        source: SqliteReason,
    },
    /// The file or its directory may not be written.
    #[error("cannot {action}: the catalog {} cannot be opened for writing", path.display())]
    NotWritable {
        /// What was tried.
        action: &'static str,
        /// The catalog.
        path: PathBuf,
        /// What SQLite said.
        source: SqliteReason,
    },
    /// Anything else that SQLite refuses.
    #[error("cannot {action} in the catalog {}", path.display())]
    Sqlite {
        /// What was tried.
        action: &'static str,
        /// The catalog.
        path: PathBuf,
        /// What SQLite said.
        source: SqliteReason,
    },
    /// The catalog cannot be replaced while somebody has it open.
    #[error("cannot replace the catalog {}: another job or process uses it", .0.display())]
    InUse(PathBuf),
    /// Another process has written what the caller was about to write.
    #[error(
        "the catalog {} has record {found} of {what} {id} next, not {expected}: another process has written to it", path.display()
    )]
    Overtaken {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
        /// The number that the caller had.
        expected: u64,
        /// The number that comes next.
        found: u64,
        /// The catalog.
        path: PathBuf,
    },
    /// A row that the caller speaks of is not there.
    #[error("the catalog {} knows no {what} {id}", path.display())]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Which.
        id: String,
        /// The catalog.
        path: PathBuf,
    },
}

const NOT_WRITABLE: &str =
    "run as the owner of that directory, and see that its file system is not mounted read-only";

impl CatalogError {
    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Foreign(_) => Some("is `state.dir` right? If it is, move that file away"),
            Self::Newer { .. } => Some("use the newer Belay that made it"),
            Self::Damaged { .. } => Some(
                "`belay catalog rebuild` keeps the damaged file aside and makes a new one from the repository",
            ),
            Self::Locked { .. } => Some("let the other process end, then try again"),
            Self::Full { .. } => Some("make room on that file system, then try again"),
            Self::NotWritable { .. } => Some(NOT_WRITABLE),
            Self::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Some(NOT_WRITABLE)
            }
            Self::InUse(_) => Some("wait for running jobs, or stop the daemon, then try again"),
            Self::Overtaken { .. } => {
                Some("let one process alone work on it: the daemon, or a command with --foreground")
            }
            Self::Io { .. } | Self::Sqlite { .. } | Self::Unknown { .. } => None,
        }
    }

    /// For `map_err`: the operating system's error with what was tried on what.
    pub(super) fn io<E: Into<io::Error>>(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(E) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source: source.into() }
    }

    /// For `map_err`: SQLite's error, sorted by what a person can do about it.
    pub(super) fn sqlite(
        action: &'static str,
        path: &Path,
    ) -> impl FnOnce(rusqlite::Error) -> Self {
        move |error| {
            let path = path.to_owned();
            let extended = error.sqlite_error().map_or(0, |inner| inner.extended_code);
            let is_value = matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
            );
            let code = error.sqlite_error_code();
            let source = SqliteReason(error);
            match code {
                _ if is_value => Self::Damaged { action, path, source },
                Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                    Self::Damaged { action, path, source }
                }
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    Self::Locked { action, path }
                }
                // The shared memory file is the first to find no room when a catalog is opened.
                Some(ErrorCode::DiskFull) => Self::Full { action, path, source },
                _ if extended == ffi::SQLITE_IOERR_SHMSIZE => Self::Full { action, path, source },
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                    Self::NotWritable { action, path, source }
                }
                _ => Self::Sqlite { action, path, source },
            }
        }
    }
}
