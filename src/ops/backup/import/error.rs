//! What is wrong with a file that should be imported, and what to do about it.

use crate::component::mongodb::archive::ArchiveError;
use crate::model::event::Cancelled;
use std::io;

/// Why a file was not imported. Nothing was sealed then.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It cannot be read.
    #[error("it could not be read: {0}")]
    Read(#[source] io::Error),
    /// Something else than what was expected.
    #[error("it is no archive that can be imported: {0}")]
    NotAnArchive(&'static str),
    /// It is encrypted, and the password does not open it.
    #[error("the password is wrong, or the beginning of the file is damaged")]
    WrongPassword,
    /// It ends too early.
    #[error("it is cut off: {0}")]
    Cut(&'static str),
    /// Its bytes contradict themselves.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// An entry that no honest program writes there.
    #[error("its entry {entry} is refused: {reason}")]
    Refused {
        /// Its path, as people read it.
        entry: String,
        /// Why.
        reason: &'static str,
    },
    /// Something that has to be in it is not.
    #[error("it holds no {0}")]
    Missing(&'static str),
    /// The dump of the database is not believed.
    #[error("the dump of the database in it, mongodb-data.gz: {0}")]
    Dump(#[source] ArchiveError),
    /// The dump does not hold what it should.
    #[error("the dump of the database in it, mongodb-data.gz: {0}")]
    Database(String),
    /// The file is another one than a moment ago.
    #[error("it changed while it was read")]
    Changed,
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl ImportError {
    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Read(_) | Self::Cancelled(_) => None,
            Self::NotAnArchive(_) | Self::Missing(_) => Some(
                "name a file that `appsmithctl backup` made (.tar.gz or .tar.gz.enc), or one that `belay export` made (.tar.zst)",
            ),
            Self::WrongPassword => Some(
                "it is the password that `appsmithctl backup` asked for when it made this archive",
            ),
            Self::Changed => Some("import it when the program that writes it has ended"),
            Self::Refused { .. } => {
                Some("where does this file come from? Nothing of it was taken over")
            }
            Self::Cut(_) | Self::Damaged(_) | Self::Dump(_) | Self::Database(_) => Some(
                "copy it again from where it came from; if it is so there, too, import an older one",
            ),
        }
    }
}
