//! Small files of this host's state beside the catalog, in directories that are closed to other users.
//!
//! The state directory may belong to a user without privileges while root runs the command. So no link in it is
//! followed, nothing is opened by a path through it, and a file that is not plainly this program's own is refused.

use super::OpsError;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// No file here comes near this.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What is being written has this at the end of its name.
const UNFINISHED: &str = ".tmp";

/// A directory below the state directory.
pub(super) struct PrivateDirectory {
    path: PathBuf,
    directory: OwnedFd,
    /// To whom the state directory belongs.
    owner: (u32, u32),
}

fn failed<'a, E: Into<io::Error>>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(E) -> OpsError + 'a {
    move |error| OpsError::Io { action, path: path.to_owned(), source: error.into() }
}

impl PrivateDirectory {
    /// Open it; nothing where it is missing.
    pub(super) fn open(state_dir: &Path, name: &str) -> Result<Option<Self>, OpsError> {
        match Self::open_in(state_dir, name, false) {
            Err(OpsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Open it, made where it is missing.
    pub(super) fn make(state_dir: &Path, name: &str) -> Result<Self, OpsError> {
        Self::open_in(state_dir, name, true)
    }

    fn open_in(state_dir: &Path, name: &str, make: bool) -> Result<Self, OpsError> {
        let state = File::open(state_dir).map_err(failed("open", state_dir))?;
        let metadata = state.metadata().map_err(failed("examine", state_dir))?;
        let owner = (metadata.uid(), metadata.gid());
        let path = state_dir.join(name);
        let is_made = make
            && match rustix::fs::mkdirat(&state, name, Mode::RWXU) {
                Err(Errno::EXIST) => false,
                other => other.map(|()| true).map_err(failed("create", &path))?,
            };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::openat(&state, name, flags, Mode::empty())
            .map_err(failed("open the directory", &path))?;
        let opened = Self { path, directory, owner };
        if is_made {
            opened.give_to_owner(&opened.directory, &opened.path)?;
        }
        let mode = opened.ensure_ours(&opened.directory, &opened.path)?;
        if mode & 0o077 != 0 {
            rustix::fs::fchmod(&opened.directory, Mode::RWXU)
                .map_err(failed("close to other users", &opened.path))?;
        }
        Ok(opened)
    }

    /// To whom the state directory belongs, where that is another user than root and root runs this.
    pub(super) fn other_owner(&self) -> Option<(u32, u32)> {
        let (uid, _) = self.owner;
        (uid != 0 && rustix::process::geteuid().is_root()).then_some(self.owner)
    }

    /// The path of a file, for people.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names of the finished files in it.
    pub(super) fn names(&self) -> Result<Vec<String>, OpsError> {
        let mut names = Vec::new();
        let listed = rustix::fs::Dir::read_from(&self.directory);
        for entry in listed.map_err(failed("list", &self.path))? {
            let entry = entry.map_err(failed("list", &self.path))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !matches!(name.as_str(), "." | "..") && !name.ends_with(UNFINISHED) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Open a file for reading and writing, made where it is missing.
    pub(super) fn open_or_make(&self, name: &str) -> Result<File, OpsError> {
        let path = self.path_of(name);
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::openat(&self.directory, name, flags, mode)
            .map_err(failed("open", &path))?;
        let mode = self.ensure_file(&file, &path)?;
        self.give_to_owner(&file, &path)?;
        if mode & 0o077 != 0 {
            rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR)
                .map_err(failed("close to other users", &path))?;
        }
        Ok(file.into())
    }

    /// A file's content; nothing where there is no such file.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpsError> {
        let path = self.path_of(name);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(failed("open", &path))?,
        };
        self.ensure_file(&file, &path)?;
        let mut bytes = Vec::new();
        let read = File::from(file).take(MAX_BYTES + 1).read_to_end(&mut bytes);
        match read.map_err(failed("read", &path))? as u64 {
            0..=MAX_BYTES => Ok(Some(bytes)),
            _ => Err(refused(&path, "it is too large")),
        }
    }

    /// Write a file durably, in place of what it was.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), OpsError> {
        let path = self.path_of(name);
        let unfinished = format!("{name}{UNFINISHED}");
        let write = || -> Result<(), OpsError> {
            self.unlink(&unfinished)?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let mode = Mode::RUSR | Mode::WUSR;
            let file = rustix::fs::openat(&self.directory, &unfinished, flags, mode)
                .map_err(failed("write", &path))?;
            self.give_to_owner(&file, &path)?;
            let mut file = File::from(file);
            file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed("write", &path))?;
            rustix::fs::renameat(&self.directory, &unfinished, &self.directory, name)
                .and_then(|()| rustix::fs::fsync(&self.directory))
                .map_err(failed("write", &path))
        };
        let written = write();
        if written.is_err() {
            // What is left of it is in nobody's way, and the next attempt removes it.
            let _ = self.unlink(&unfinished);
        }
        written
    }

    /// The same with a document, as JSON.
    pub(super) fn write_json(&self, name: &str, document: &impl Serialize) -> Result<(), OpsError> {
        let json = serde_json::to_vec_pretty(document).map_err(|error| OpsError::Io {
            action: "write",
            path: self.path_of(name),
            source: error.into(),
        })?;
        self.write(name, &json)
    }

    /// Remove a file durably, with what a run that was killed left of a newer one.
    pub(super) fn remove(&self, name: &str) -> Result<(), OpsError> {
        self.unlink(&format!("{name}{UNFINISHED}"))?;
        self.unlink(name)?;
        rustix::fs::fsync(&self.directory).map_err(failed("sync", &self.path))
    }

    fn unlink(&self, name: &str) -> Result<(), OpsError> {
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            other => other.map_err(failed("remove", &self.path_of(name))),
        }
    }

    /// What root makes belongs to the owner of the state directory, who could not use it otherwise.
    fn give_to_owner(&self, made: &OwnedFd, path: &Path) -> Result<(), OpsError> {
        let (uid, gid) = self.owner;
        if uid == 0 || !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        rustix::fs::fchown(made, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
            .map_err(failed("give to the owner of its directory", path))
    }

    /// A regular file under this name alone, and of nobody else; returns its mode.
    fn ensure_file(&self, file: &OwnedFd, path: &Path) -> Result<u32, OpsError> {
        let stat = rustix::fs::fstat(file).map_err(failed("examine", path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refused(path, "it is no regular file"));
        }
        if stat.st_nlink > 1 {
            return Err(refused(path, "it has another name elsewhere"));
        }
        self.ensure_ours(file, path)
    }

    fn ensure_ours(&self, open: &OwnedFd, path: &Path) -> Result<u32, OpsError> {
        let stat = rustix::fs::fstat(open).map_err(failed("examine", path))?;
        let ours = [0, rustix::process::geteuid().as_raw(), self.owner.0];
        if !ours.contains(&stat.st_uid) {
            let reason = format!(
                "it belongs to neither root nor the state's owner, but to user {}",
                stat.st_uid
            );
            return Err(refused(path, reason));
        }
        Ok(stat.st_mode & 0o7777)
    }
}

fn refused(path: &Path, reason: impl Into<String>) -> OpsError {
    let source = io::Error::other(reason.into());
    OpsError::Io { action: "use", path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_are_written_read_listed_and_removed_and_closed_to_others() {
        let state = tempfile::tempdir().unwrap();
        assert!(PrivateDirectory::open(state.path(), "d").unwrap().is_none());
        fs::create_dir(state.path().join("d")).unwrap();
        fs::set_permissions(state.path().join("d"), fs::Permissions::from_mode(0o755)).unwrap();
        let directory = PrivateDirectory::make(state.path(), "d").unwrap();
        assert_eq!(mode(&state.path().join("d")), 0o700);
        assert_eq!(directory.read("f").unwrap(), None);
        // A run that was killed left this behind.
        fs::write(state.path().join("d/f.tmp"), "half").unwrap();
        for text in [b"one", b"two"] {
            directory.write("f", text).unwrap();
            assert_eq!(directory.read("f").unwrap().unwrap(), text);
        }
        let mut file = directory.open_or_make("g").unwrap();
        file.write_all(b"locked").unwrap();
        assert_eq!(directory.names().unwrap(), ["f", "g"]);
        assert_eq!(
            (mode(&state.path().join("d/f")), mode(&state.path().join("d/g"))),
            (0o600, 0o600)
        );
        fs::write(state.path().join("d/f.tmp"), "half").unwrap();
        directory.remove("f").unwrap();
        directory.remove("f").unwrap();
        assert_eq!(directory.names().unwrap(), ["g"]);
        assert!(!state.path().join("d/f.tmp").exists());
    }

    #[test]
    fn nothing_outside_is_read_or_written_through_links_pipes_and_second_names() {
        let (state, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let victim = outside.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(outside.path(), state.path().join("linked")).unwrap();
        assert!(PrivateDirectory::make(state.path(), "linked").is_err());
        let directory = PrivateDirectory::make(state.path(), "d").unwrap();
        symlink(&victim, state.path().join("d/link")).unwrap();
        fs::hard_link(&victim, state.path().join("d/second")).unwrap();
        rustix::fs::mknodat(&directory.directory, "pipe", FileType::Fifo, 0o600.into(), 0).unwrap();
        fs::create_dir(state.path().join("d/directory")).unwrap();
        for name in ["link", "second", "pipe", "directory"] {
            assert!(directory.open_or_make(name).is_err(), "{name}");
            assert!(directory.read(name).is_err(), "{name}");
        }
        // Written in place of the link, not through it.
        symlink(&victim, state.path().join("d/new.tmp")).unwrap();
        directory.write("new", b"mine").unwrap();
        directory.write("link", b"mine").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        let large = File::create(state.path().join("d/large")).unwrap();
        large.set_len(MAX_BYTES + 1).unwrap();
        assert!(directory.read("large").is_err());
    }
}
