//! Small files in a mirror that outlive a power cut; git does not mind them.

use super::Mirror;
use super::alive::still_alive;
use crate::git::error::GitError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

impl Mirror {
    /// What a file says; nothing where there is no such file. `what` is what it is to people.
    pub(super) fn read_note<T: DeserializeOwned>(
        &self,
        name: &str,
        what: &str,
    ) -> Result<Option<T>, GitError> {
        let read = || match fs::read(self.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // It was renamed into place when it was complete.
            other => Ok(Some(serde_json::from_slice(&other?)?)),
        };
        read().map_err(GitError::unread::<io::Error>(what, self.path()))
    }

    /// Write a file, in place of what it was: all of it or nothing.
    pub(super) fn write_note(
        &self,
        name: &str,
        what: &str,
        note: &impl Serialize,
    ) -> Result<(), GitError> {
        still_alive()?;
        let write = || {
            let unfinished = self.path().join(format!("{name}.tmp"));
            let mut file = File::create(&unfinished)?;
            file.write_all(&serde_json::to_vec(note)?)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path().join(name))?;
            sync(self.path())
        };
        write().map_err(GitError::unwritten::<io::Error>(format!("write {what}"), self.path()))
    }

    /// Remove a file, if it is there.
    pub(super) fn remove_note(&self, name: &str, what: &str) -> Result<(), GitError> {
        still_alive()?;
        let remove = || match fs::remove_file(self.path().join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.and_then(|()| sync(self.path())),
        };
        remove().map_err(GitError::unwritten(format!("remove {what}"), self.path()))
    }
}

/// What a directory lists is on the disk.
pub(super) fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
