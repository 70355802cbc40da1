//! One process at a time changes a mirror, also when the one that asked for it is gone, and none while a snapshot is taken of it; and
//! what a killed one left is removed.

use super::Mirror;
use crate::git::error::GitError;
use rustix::fs::FlockOperation;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

/// How the names begin of what libgit2 has not finished: objects, and packs.
const UNFINISHED: [&str; 2] = ["tmp_object_git2_", "pack_git2_"];

/// The right to change a mirror; it lasts as long as the process, or until it is dropped.
pub struct Claim(#[expect(dead_code, reason = "the lock lasts as long as the file is open")] File);

impl Claim {
    /// Wait for it.
    pub fn wait(mirror: &Path) -> Result<Self, GitError> {
        let lock = || {
            let path = mirror.with_file_name(Self::lock_name(mirror));
            let file = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
            rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
            Ok(Self(file))
        };
        lock().map_err(GitError::unwritten::<io::Error>("lock it", mirror))
    }

    /// Take a mirror's lock together with others who only read, so that nobody changes it for as long as `lock` is open. Whether
    /// that was possible: not while somebody changes it.
    pub fn is_shared(lock: &File) -> io::Result<bool> {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// The name of the lock of a mirror, beside it.
    pub fn lock_name(mirror: &Path) -> String {
        mirror.with_extension("lock").file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Remove the locks and the unfinished files of whoever was killed: with this claim there is nobody else.
    pub fn clean_up(&self, mirror: &Mirror) -> Result<(), GitError> {
        let clean = || {
            for name in ["HEAD.lock", "config.lock", "packed-refs.lock"] {
                remove(&mirror.path().join(name))?;
            }
            clean(&mirror.path().join("refs"), &is_lock)?;
            clean(&mirror.path().join("objects"), &|name| {
                is_lock(name) || UNFINISHED.iter().any(|prefix| name.starts_with(prefix))
            })
        };
        let action = "remove what an interrupted run left";
        clean().map_err(GitError::unwritten::<io::Error>(action, mirror.path()))
    }
}

fn is_lock(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "lock")
}

/// Remove files by their names, in a directory and those below it.
fn clean(directory: &Path, is_left: &dyn Fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            clean(&entry.path(), is_left)?;
        } else if is_left(&entry.file_name().to_string_lossy()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
