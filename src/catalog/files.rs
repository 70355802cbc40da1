//! The state directory: made for its owner alone, and locked while a catalog in it is open.
//!
//! The lock (`flock` on the directory) is shared by everybody who has the catalog open, and exclusive for who makes or
//! replaces the file: SQLite removes its `-wal` by name when it closes, which must never hit another file's.
//! The database's own file is never opened here: closing it would drop the locks that SQLite holds in this process.

use crate::catalog::CatalogError;
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::fs::{self, DirBuilder, File, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long another process may take to make or replace the catalog.
const OTHERS_MAY_TAKE: Duration = Duration::from_mins(1);
/// How often it is looked at again.
const POLL: Duration = Duration::from_millis(50);

/// A lock on the state directory, held as long as it lives.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    directory: File,
    exclusive: bool,
}

/// Makes the state directory (0700) where it is missing, and gives its path without symbolic links.
pub(super) fn prepare_directory(state_dir: &Path) -> Result<PathBuf, CatalogError> {
    if !state_dir.exists() {
        let made: Vec<&Path> = state_dir
            .ancestors()
            .take_while(|path| !path.as_os_str().is_empty() && !path.exists())
            .collect();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(CatalogError::io("create the state directory", state_dir))?;
        // From the top, so that each belongs to the owner of what it was made in.
        for path in made.iter().rev() {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            give_to_owner_of(parent.unwrap_or(Path::new(".")), path)?;
        }
    }
    let directory = state_dir
        .canonicalize()
        .map_err(CatalogError::io("find the state directory", state_dir))?;
    if !directory.is_dir() {
        let source = std::io::Error::from(Errno::NOTDIR);
        return Err(CatalogError::Io { action: "use as state directory", path: directory, source });
    }
    Ok(directory)
}

/// Makes an empty file (0600) for the database where there is none, and closes an existing one to others.
pub(super) fn prepare_file(directory: &Path, path: &Path) -> Result<(), CatalogError> {
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::mknodat(CWD, path, FileType::RegularFile, mode, 0) {
        Ok(()) => give_to_owner_of(directory, path),
        Err(Errno::EXIST) => {
            let metadata = path.symlink_metadata().map_err(CatalogError::io("examine", path))?;
            if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
                fs::set_permissions(path, Permissions::from_mode(0o600))
                    .map_err(CatalogError::io("close to other users the file", path))?;
            }
            Ok(())
        }
        Err(error) => Err(CatalogError::io("create", path)(error)),
    }
}

/// Gives a file or directory that root made to the owner of the directory it belongs to; for others it does nothing.
/// A daemon without privileges could otherwise not use what an administrator's command made. Symbolic links are not
/// followed, and a file with a second name is left alone: it may be anybody's.
pub fn give_to_owner_of(directory: &Path, path: &Path) -> Result<(), CatalogError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner =
        fs::metadata(directory).map_err(CatalogError::io("examine the directory", directory))?;
    let failed = "give to the owner of its directory";
    // Opened as a path only: neither waits for a pipe nor disturbs locks.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file: File = rustix::fs::open(path, flags, Mode::empty())
        .map_err(CatalogError::io(failed, path))?
        .into();
    let metadata = file.metadata().map_err(CatalogError::io(failed, path))?;
    let is_ours = metadata.is_dir() || metadata.is_file() && metadata.nlink() == 1;
    if metadata.uid() == owner.uid() && metadata.gid() == owner.gid()
        || owner.uid() == 0
        || !is_ours
    {
        return Ok(());
    }
    let uid = rustix::fs::Uid::from_raw(owner.uid());
    let gid = rustix::fs::Gid::from_raw(owner.gid());
    rustix::fs::chownat(&file, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
        .map_err(CatalogError::io(failed, path))
}

/// The path of one of SQLite's files beside the database: `-wal` or `-shm`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CatalogError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(CatalogError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

impl DirectoryLock {
    fn open(directory: &Path) -> Result<File, CatalogError> {
        File::open(directory).map_err(CatalogError::io("open the state directory", directory))
    }

    fn lock(file: &File, operation: FlockOperation) -> Result<(), Errno> {
        retry_on_intr(|| rustix::fs::flock(file, operation))
    }

    /// Exclusive when nobody else has the catalog open, which is when it may have to be made; shared otherwise,
    /// once whoever makes or replaces it is done.
    pub(super) fn for_opening(directory: &Path) -> Result<Self, CatalogError> {
        if let Some(lock) = Self::exclusive(directory)? {
            return Ok(lock);
        }
        let file = Self::open(directory)?;
        let start = Instant::now();
        loop {
            match Self::lock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Ok(Self { directory: file, exclusive: false }),
                // Whoever may read the directory can hold it: nobody waits for ever.
                Err(Errno::WOULDBLOCK) if start.elapsed() < OTHERS_MAY_TAKE => {
                    std::thread::sleep(POLL);
                }
                Err(error) => {
                    return Err(CatalogError::io("lock the state directory", directory)(error));
                }
            }
        }
    }

    /// Exclusive, or nothing when somebody has the catalog open.
    pub(super) fn exclusive(directory: &Path) -> Result<Option<Self>, CatalogError> {
        let file = Self::open(directory)?;
        match Self::lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { directory: file, exclusive: true })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(CatalogError::io("lock the state directory", directory)(error)),
        }
    }

    /// Lets others open the catalog, too.
    pub(super) fn share(self, directory: &Path) -> Result<Self, CatalogError> {
        if self.exclusive {
            Self::lock(&self.directory, FlockOperation::LockShared)
                .map_err(CatalogError::io("lock the state directory", directory))?;
        }
        Ok(Self { exclusive: false, ..self })
    }

    /// Makes renames in the directory durable.
    pub(super) fn sync(&self, directory: &Path) -> Result<(), CatalogError> {
        self.directory.sync_all().map_err(CatalogError::io("sync the state directory", directory))
    }
}
