//! Opening what is in a directory, and the way from a directory down to one below it, with a bounded number of
//! directories open however deep it is.
//!
//! Only the innermost directories are kept open. One further up is opened again on the way back, and only counts when it
//! is the very directory that it was: whoever moves directories about meanwhile leads nobody outside.

use rustix::fs::{FileType, Mode, OFlags, RawDir, SeekFrom, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many directories below the root are kept open.
const KEPT_OPEN: usize = 64;
/// Bytes of names that are asked for at a time.
const LIST_BYTES: usize = 32 * 1024;
/// Within this time after a change another one may leave no newer time: more than a tick of the kernel's clock.
pub(super) const TICK: Duration = Duration::from_millis(20);

/// Device and inode number: what tells one directory from all others that exist at the same time.
pub(super) type Identity = (u64, u64);

/// What an open directory is.
pub(super) fn identity(fd: impl AsFd) -> rustix::io::Result<Identity> {
    rustix::fs::fstat(fd).map(|stat| identity_of(&stat))
}

/// What something that was examined is.
pub(super) fn identity_of(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// Open the entry `name` of a directory, which must be a directory itself and no symbolic link to one.
pub(super) fn open_directory(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    open_at(parent, name, OFlags::DIRECTORY)
}

/// Open an entry for reading without following it, and without leaving a trace where that is allowed.
pub(super) fn open_at(
    parent: impl AsFd,
    name: &[u8],
    flags: OFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// Names of entries of a directory, in reverse order, each once, without `.` and `..`.
pub(super) type Names = Vec<Vec<u8>>;

/// List a directory as it is at one moment; none where something came, went or was renamed meanwhile, or so shortly before
/// that its times may not tell. A file system may then give a name twice, or leave one out that was there all the time.
pub(super) fn list_settled(fd: &OwnedFd) -> rustix::io::Result<Option<Names>> {
    let before = rustix::fs::fstat(fd)?;
    let is_recent = changed_within(&before, TICK);
    let names = list_reversed(fd)?;
    let is_settled = !is_recent && times(&before) == times(&rustix::fs::fstat(fd)?);
    Ok(is_settled.then_some(names))
}

fn times(stat: &Stat) -> (i64, u64, i64, u64) {
    (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec)
}

/// Whether the last change was so short a time ago. A clock of another machine that runs ahead does not count.
fn changed_within(stat: &Stat, time: Duration) -> bool {
    let seconds = u64::try_from(stat.st_ctime).unwrap_or(0);
    let changed =
        UNIX_EPOCH + Duration::new(seconds, u32::try_from(stat.st_ctime_nsec).unwrap_or(0));
    SystemTime::now().duration_since(changed).is_ok_and(|age| age < time)
}

/// The names in a directory at about this time.
pub(super) fn list_reversed(fd: &OwnedFd) -> rustix::io::Result<Names> {
    // It may have been listed before.
    rustix::fs::seek(fd, SeekFrom::Start(0))?;
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(LIST_BYTES);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.dedup();
    Ok(names)
}

/// Set the mode of an entry only if it is no symbolic link.
pub(super) fn chmod_unfollowed(
    parent: impl AsFd,
    name: &[u8],
    mode: Mode,
) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let entry = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&entry)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    rustix::fs::chmod(format!("/proc/self/fd/{}", entry.as_raw_fd()), mode)
}

/// A root, and the directories that lead down from it.
pub(super) struct Descent {
    root: OwnedFd,
    levels: Vec<Level>,
}

struct Level {
    name: Vec<u8>,
    identity: Identity,
    /// Always there for the innermost level.
    fd: Option<OwnedFd>,
}

impl Descent {
    /// At the root.
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root, levels: Vec::new() }
    }

    /// How many directories below the root.
    pub(super) fn depth(&self) -> usize {
        self.levels.len()
    }

    /// The root itself.
    pub(super) fn root(&self) -> &OwnedFd {
        &self.root
    }

    /// The innermost directory.
    pub(super) fn here(&self) -> &OwnedFd {
        self.levels.last().and_then(|level| level.fd.as_ref()).unwrap_or(&self.root)
    }

    /// The names that lead from the root to here.
    pub(super) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.levels.iter().map(|level| level.name.as_slice())
    }

    /// Go into the directory `name` of the innermost one, which is open as `fd`.
    pub(super) fn push(&mut self, name: &[u8], fd: OwnedFd) -> rustix::io::Result<()> {
        let identity = identity(&fd)?;
        self.levels.push(Level { name: name.to_vec(), identity, fd: Some(fd) });
        if let Some(outer) = self.levels.len().checked_sub(KEPT_OPEN + 1) {
            self.levels[outer].fd = None;
        }
        Ok(())
    }

    /// Go back to the parent; returns the name and identity of what was left, none at the root. [`Errno::STALE`] when the
    /// parent is not where it was.
    pub(super) fn pop(&mut self) -> rustix::io::Result<Option<(Vec<u8>, Identity)>> {
        let Some(Level { name, identity: left, fd }) = self.levels.pop() else { return Ok(None) };
        let was = Some((name, left));
        let Some(parent) = self.levels.last_mut().filter(|parent| parent.fd.is_none()) else {
            return Ok(was);
        };
        // The short way; it is wrong when the child was moved, and closed to some when it is not searchable.
        if let Some(Ok(fd)) = fd.map(|child| open_directory(child, b".."))
            && identity(&fd)? == parent.identity
        {
            parent.fd = Some(fd);
            return Ok(was);
        }
        let fd = self.open_from_root()?;
        if let Some(level) = self.levels.last_mut() {
            level.fd = Some(fd);
        }
        Ok(was)
    }

    /// Open the innermost directory again, by all names that lead there.
    fn open_from_root(&self) -> rustix::io::Result<OwnedFd> {
        let mut fd = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        for level in &self.levels {
            fd = match open_directory(&fd, &level.name) {
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(Errno::STALE),
                other => other?,
            };
            if identity(&fd)? != level.identity {
                return Err(Errno::STALE);
            }
        }
        Ok(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A descent of `depth` levels, made in `root`.
    fn deep(root: &std::path::Path, depth: usize) -> Descent {
        let mut descent = Descent::new(open_directory(rustix::fs::CWD, path(root)).unwrap());
        for _ in 0..depth {
            rustix::fs::mkdirat(descent.here(), "d", 0o700.into()).unwrap();
            let fd = open_directory(descent.here(), b"d").unwrap();
            descent.push(b"d", fd).unwrap();
        }
        descent
    }

    fn path(path: &std::path::Path) -> &[u8] {
        std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str())
    }

    #[test]
    fn few_directories_are_open_and_the_way_back_meets_each_again() {
        let root = tempfile::tempdir().unwrap();
        let mut descent = deep(root.path(), 3 * KEPT_OPEN);
        let open = descent.levels.iter().filter(|level| level.fd.is_some()).count();
        assert_eq!(open, KEPT_OPEN);
        while descent.depth() > 0 {
            let expected = descent.levels.last().unwrap().identity;
            assert_eq!(identity(descent.here()).unwrap(), expected);
            descent.pop().unwrap();
        }
        assert_eq!(identity(descent.here()).unwrap(), identity(descent.root()).unwrap());
    }

    #[test]
    fn what_is_always_there_is_listed_once_however_much_comes_and_goes_beside_it() {
        // In memory, where a listing beside renames leaves names out, and gives others twice.
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let file = |number: usize| root.path().join(format!("file-{number:04}"));
        let count = 2000;
        for number in 0..count {
            fs::write(file(number), b"").unwrap();
        }
        let fd = open_directory(rustix::fs::CWD, path(root.path())).unwrap();
        let (begin, rounds) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            let (new, file) = (root.path().join("new"), &file);
            scope.spawn(move || {
                while rounds.recv().is_ok() {
                    for number in 0..count {
                        fs::write(&new, b"").unwrap();
                        fs::rename(&new, file(number)).unwrap();
                    }
                }
            });
            for _ in 0..3 {
                begin.send(()).unwrap();
                let names = std::iter::from_fn(|| Some(list_settled(&fd).unwrap()));
                let mut names = names.flatten().next().unwrap();
                names.retain(|name| name.starts_with(b"file-"));
                assert_eq!(names.len(), count);
                assert!(names.is_sorted_by(|a, b| a > b));
            }
            drop(begin);
        });
    }

    #[test]
    fn a_directory_that_was_moved_away_is_not_gone_back_to() {
        let (root, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut descent = deep(root.path(), KEPT_OPEN + 2);
        // The second level is closed by now; another one takes its place.
        fs::rename(root.path().join("d/d/d"), elsewhere.path().join("d")).unwrap();
        fs::rename(root.path().join("d/d"), elsewhere.path().join("e")).unwrap();
        fs::create_dir(root.path().join("d/d")).unwrap();
        let result = (0..=KEPT_OPEN).try_for_each(|_| descent.pop().map(drop));
        assert_eq!(result, Err(Errno::STALE));
    }
}
