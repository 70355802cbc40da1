//! Reading a tree: metadata and content of every entry, in order, into a sink.
//!
//! What cannot be read makes the walk fail. A file that changes while it is read is read again; one that keeps changing
//! is delivered as it was read last, and told. An entry that vanishes before it is opened is told.

use super::attributes;
use crate::model::event::{Cancel, Cancelled};
use crate::model::node::{Node, NodeKind, display_path};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes of one read.
const READ_BYTES: usize = 1024 * 1024;
/// How often a file that changes is read.
const ATTEMPTS: u32 = 3;
/// Paths kept in a list of the report; more are only counted.
const MAX_LISTED: usize = 100;

/// Where a walk delivers what it reads. Children of a directory come between its `enter` and `leave`, sorted by name.
pub trait TreeSink {
    /// A file's content on its way. Dropped without [`TreeSink::end_file`], it never was.
    type File: Write;
    /// What the sink fails with; a [`TreeSink::File`] wraps it in its I/O errors.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A directory begins.
    fn enter(&mut self, node: &Node) -> Result<(), Self::Error>;
    /// The directory that was entered last ends.
    fn leave(&mut self) -> Result<(), Self::Error>;
    /// An entry without content: a link, a pipe, a device, a socket.
    fn leaf(&mut self, node: &Node) -> Result<(), Self::Error>;
    /// Whether the content of this file is known already, so that it need not be read.
    fn reuse(&mut self, node: &Node) -> Result<bool, Self::Error>;
    /// A file's content begins.
    fn begin_file(&mut self) -> Result<Self::File, Self::Error>;
    /// A file's content is complete, and its size is as the node says.
    fn end_file(&mut self, file: Self::File, node: &Node) -> Result<(), Self::Error>;
}

/// What to leave out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Patterns: with a `/` they fit the path below the root, without one the name at any depth.
    pub exclude: Vec<String>,
}

/// Paths of one sort that a walk met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathList {
    /// The first hundred, escaped for people.
    pub paths: Vec<String>,
    /// How many there were.
    pub count: u64,
}

impl PathList {
    fn add(&mut self, path: &[u8]) {
        self.count += 1;
        if self.paths.len() < MAX_LISTED {
            self.paths.push(display_path(path));
        }
    }
}

/// What a walk met.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WalkReport {
    /// Regular files.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Pipes, devices and sockets.
    pub others: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Entries that a pattern left out.
    pub excluded: u64,
    /// Files that changed each time they were read.
    pub changed: PathList,
    /// Entries that vanished between being listed and being opened.
    pub vanished: PathList,
    /// Anything else that a person should know.
    pub warnings: Vec<String>,
}

/// Why a walk failed.
#[derive(Debug, thiserror::Error)]
pub enum WalkError<E: std::error::Error> {
    /// Something of the tree could not be read.
    #[error("could not {action} {path}: {source}")]
    Source {
        /// What was tried.
        action: &'static str,
        /// On what, escaped for people.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A pattern is wrong; the configuration is checked for that.
    #[error("the pattern to exclude is wrong: {0}")]
    Pattern(#[from] globset::Error),
    /// The sink failed.
    #[error(transparent)]
    Sink(E),
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl<E: std::error::Error> WalkError<E> {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<&'static str> {
        let Self::Source { source, .. } = self else { return None };
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Some("let the user that runs Belay read it, or leave it out with `exclude`")
            }
            io::ErrorKind::NotFound => Some("is the path right, and is its file system mounted?"),
            _ if source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => Some(
                "the tree is deeper than this process may open directories: raise its limit of open files (ulimit -n)",
            ),
            _ => None,
        }
    }
}

/// Read the tree at `root` into `sink`, the root under the given name. `progress` is told bytes and files so far.
///
/// A root that is a symbolic link is followed; nothing else is.
pub fn read_tree<S: TreeSink>(
    root: &Path,
    name: &[u8],
    options: &WalkOptions,
    cancel: &Cancel,
    sink: &mut S,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<WalkReport, WalkError<S::Error>> {
    let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
    for pattern in &options.exclude {
        let glob =
            GlobBuilder::new(pattern.trim_start_matches('/')).literal_separator(true).build()?;
        if pattern.contains('/') { &mut paths } else { &mut names }.add(glob);
    }
    let mut walk = Walk {
        cancel,
        sink,
        progress,
        exclude_names: names.build()?,
        exclude_paths: paths.build()?,
        owners: Owners::read(),
        buffer: vec![0; READ_BYTES],
        report: WalkReport::default(),
    };
    walk.root(root, name)?;
    Ok(walk.report)
}

struct Walk<'a, S> {
    cancel: &'a Cancel,
    sink: &'a mut S,
    progress: &'a mut dyn FnMut(u64, u64),
    exclude_names: GlobSet,
    exclude_paths: GlobSet,
    owners: Owners,
    buffer: Vec<u8>,
    report: WalkReport,
}

/// A directory that is being walked.
struct Frame {
    fd: OwnedFd,
    /// Below the root, empty for the root itself.
    path: Vec<u8>,
    /// In reverse order.
    names: Vec<Vec<u8>>,
}

type Walked<T, S> = Result<T, WalkError<<S as TreeSink>::Error>>;

fn failed<E: std::error::Error>(
    action: &'static str,
    path: &[u8],
) -> impl FnOnce(Errno) -> WalkError<E> {
    let path = display_path(path);
    move |error| WalkError::Source { action, path, source: error.into() }
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

impl<S: TreeSink> Walk<'_, S> {
    fn root(&mut self, root: &Path, name: &[u8]) -> Walked<(), S> {
        let shown = root.as_os_str().as_bytes();
        let root = rustix::fs::open(
            root,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map_err(failed("open", shown))?;
        let stat = rustix::fs::fstat(&root).map_err(failed("examine", shown))?;
        let link = own_path(&root).map_err(|source| WalkError::Source {
            action: "examine",
            path: display_path(shown),
            source,
        })?;
        let node = self.node(name, &stat, None, &link, shown)?;
        match node.kind {
            NodeKind::Directory => self.directories(root, &node, shown),
            NodeKind::File { .. } => self.file(&root, node, stat, shown),
            _ => Err(WalkError::Source {
                action: "back up",
                path: display_path(shown),
                source: io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is neither a directory nor a regular file",
                ),
            }),
        }
    }

    /// The stack is ours: a tree may be deeper than a thread's.
    fn directories(&mut self, root: OwnedFd, node: &Node, shown: &[u8]) -> Walked<(), S> {
        let mut open = vec![self.enter(root, node, Vec::new(), shown)?];
        while let Some(frame) = open.last_mut() {
            self.cancel.check()?;
            let Some(name) = frame.names.pop() else {
                open.pop();
                self.sink.leave().map_err(WalkError::Sink)?;
                continue;
            };
            let path = join(&frame.path, &name);
            if self.is_excluded(&name, &path) {
                self.report.excluded += 1;
            } else if let Some(child) = self.entry(&frame.fd, &name, &path)? {
                open.push(child);
            }
        }
        Ok(())
    }

    fn is_excluded(&self, name: &[u8], path: &[u8]) -> bool {
        self.exclude_names.is_match(OsStr::from_bytes(name))
            || self.exclude_paths.is_match(OsStr::from_bytes(path))
    }

    fn enter(&mut self, fd: OwnedFd, node: &Node, path: Vec<u8>, shown: &[u8]) -> Walked<Frame, S> {
        self.report.directories += 1;
        self.sink.enter(node).map_err(WalkError::Sink)?;
        let mut names = Vec::new();
        for entry in Dir::read_from(&fd).map_err(failed("list", shown))? {
            let entry = entry.map_err(failed("list", shown))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Frame { fd, path, names })
    }

    /// One entry of a directory; a frame when it is a directory itself.
    fn entry(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Walked<Option<Frame>, S> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(self.vanished(path)),
            other => other.map_err(failed("examine", path))?,
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let link = attributes::path_of(parent, name).map_err(|source| WalkError::Source {
            action: "examine",
            path: display_path(path),
            source,
        })?;
        let target = match kind {
            FileType::Symlink => match rustix::fs::readlinkat(parent, name, Vec::new()) {
                Err(Errno::NOENT) => return Ok(self.vanished(path)),
                other => Some(other.map_err(failed("read the link", path))?.into_bytes()),
            },
            _ => None,
        };
        let node = match self.node(name, &stat, target, &link, path) {
            Err(WalkError::Source { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(self.vanished(path));
            }
            other => other?,
        };
        match kind {
            FileType::Directory => match open_at(parent, name, OFlags::DIRECTORY) {
                Ok(fd) => self.enter(fd, &node, path.to_vec(), path).map(Some),
                Err(Errno::NOENT) => Ok(self.vanished(path)),
                Err(error) => Err(failed("open", path)(error)),
            },
            FileType::RegularFile => {
                if self.sink.reuse(&node).map_err(WalkError::Sink)? {
                    self.count_file(&node);
                    return Ok(None);
                }
                match open_at(parent, name, OFlags::NONBLOCK) {
                    Ok(fd) => self.file(&fd, node, stat, path).map(|()| None),
                    // A link that took the file's place since it was examined: what was listed is gone.
                    Err(Errno::NOENT | Errno::LOOP) => Ok(self.vanished(path)),
                    Err(error) => Err(failed("open", path)(error)),
                }
            }
            _ => {
                *(if kind == FileType::Symlink {
                    &mut self.report.symlinks
                } else {
                    &mut self.report.others
                }) += 1;
                self.sink.leaf(&node).map_err(WalkError::Sink)?;
                Ok(None)
            }
        }
    }

    fn vanished(&mut self, path: &[u8]) -> Option<Frame> {
        self.report.vanished.add(path);
        None
    }

    /// Deliver a file's content, again where it changed meanwhile.
    fn file(&mut self, fd: &OwnedFd, mut node: Node, examined: Stat, path: &[u8]) -> Walked<(), S> {
        let mut before = examined;
        for attempt in 1..=ATTEMPTS {
            let stat = rustix::fs::fstat(fd).map_err(failed("examine", path))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                self.report.vanished.add(path);
                return Ok(());
            }
            if differs(&before, &stat) {
                let link = own_path(fd).map_err(|source| WalkError::Source {
                    action: "examine",
                    path: display_path(path),
                    source,
                })?;
                node = self.node(&node.name, &stat, None, &link, path)?;
            }
            before = stat;
            let mut file = self.sink.begin_file().map_err(WalkError::Sink)?;
            let size = self.content(fd, &before, &mut file, path)?;
            let after = rustix::fs::fstat(fd).map_err(failed("examine", path))?;
            let has_changed = differs(&before, &after) || size != size_of(&before);
            if has_changed && attempt < ATTEMPTS {
                continue;
            }
            if has_changed {
                self.report.changed.add(path);
            }
            node.kind = NodeKind::File { size };
            self.count_file(&node);
            return self.sink.end_file(file, &node).map_err(WalkError::Sink);
        }
        Ok(())
    }

    fn count_file(&mut self, node: &Node) {
        self.report.files += 1;
        if let NodeKind::File { size } = node.kind {
            self.report.bytes += size;
        }
        (self.progress)(self.report.bytes, self.report.files);
    }

    /// Copy a file's content; returns how many bytes there were. Holes are not read.
    fn content(
        &mut self,
        fd: &OwnedFd,
        stat: &Stat,
        file: &mut S::File,
        path: &[u8],
    ) -> Walked<u64, S> {
        let has_holes =
            u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size_of(stat);
        let mut offset = 0_u64;
        let mut data_until = if has_holes { 0 } else { u64::MAX };
        loop {
            self.cancel.check()?;
            if offset >= data_until {
                let (data, hole) =
                    next_data(fd, offset, size_of(stat)).map_err(failed("read", path))?;
                self.zeros(data - offset, file, path)?;
                (offset, data_until) = (data, hole);
            }
            let room = (data_until - offset).min(READ_BYTES as u64) as usize;
            let count = match rustix::io::pread(fd, &mut self.buffer[..room], offset) {
                Err(Errno::INTR) => continue,
                other => other.map_err(failed("read", path))?,
            };
            if count == 0 {
                return Ok(offset);
            }
            deliver(file, &self.buffer[..count], path)?;
            offset += count as u64;
            (self.progress)(self.report.bytes + offset, self.report.files);
        }
    }

    fn zeros(&mut self, mut count: u64, file: &mut S::File, path: &[u8]) -> Walked<(), S> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while count > 0 {
            self.cancel.check()?;
            let now = count.min(ZEROS.len() as u64);
            deliver(file, &ZEROS[..now as usize], path)?;
            count -= now;
        }
        Ok(())
    }

    fn node(
        &mut self,
        name: &[u8],
        stat: &Stat,
        target: Option<Vec<u8>>,
        link: &std::ffi::CString,
        path: &[u8],
    ) -> Walked<Node, S> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => NodeKind::File { size: size_of(stat) },
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink { target: target.unwrap_or_default() },
            FileType::BlockDevice => NodeKind::BlockDevice { device: stat.st_rdev },
            FileType::CharacterDevice => NodeKind::CharDevice { device: stat.st_rdev },
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            FileType::Unknown => return Err(failed("recognise the kind of", path)(Errno::INVAL)),
        };
        let (extended_attributes, unreadable) =
            attributes::read(link).map_err(|source| WalkError::Source {
                action: "read the extended attributes of",
                path: display_path(path),
                source,
            })?;
        for name in unreadable {
            let path = display_path(path);
            self.report
                .warnings
                .push(format!("the attribute {name} of {path} has no UTF-8 name and is left out"));
        }
        Ok(Node {
            name: name.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            mtime: time(stat.st_mtime, stat.st_mtime_nsec),
            ctime: time(stat.st_ctime, stat.st_ctime_nsec),
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.owners.users.get(&stat.st_uid).cloned().unwrap_or_default(),
            group: self.owners.groups.get(&stat.st_gid).cloned().unwrap_or_default(),
            inode: stat.st_ino,
            device_id: stat.st_dev,
            links: stat.st_nlink,
            extended_attributes,
        })
    }
}

/// The path of an open file itself; only for files that are no symbolic links.
fn own_path(fd: &OwnedFd) -> io::Result<std::ffi::CString> {
    // The entry `.` of a directory, and for a file its link in /proc, have the attributes of what is open.
    let stat = rustix::fs::fstat(fd)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return attributes::path_of(fd, b".");
    }
    let target =
        std::fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd)))?;
    std::ffi::CString::new(target.into_os_string().into_encoded_bytes()).map_err(io::Error::other)
}

/// Open an entry for reading without following it, and without leaving a trace where that is allowed.
fn open_at(parent: impl AsFd, name: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(&parent, name, flags, Mode::empty()),
        other => other,
    }
}

/// Where the next data begins at or after `offset`, and where it ends; `size` twice behind the last of it. A file system
/// that knows no holes has only data.
fn next_data(fd: &OwnedFd, offset: u64, size: u64) -> rustix::io::Result<(u64, u64)> {
    let data = match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(data) => data,
        // Behind the last data there is nothing but a hole, if the file is no longer than it was.
        Err(Errno::NXIO) => return Ok((size.max(offset), u64::MAX)),
        Err(Errno::INVAL) => return Ok((offset, u64::MAX)),
        Err(error) => return Err(error),
    };
    let hole = rustix::fs::seek(fd, SeekFrom::Hole(data))?;
    Ok((data.max(offset), if hole > data { hole } else { u64::MAX }))
}

/// A file's size, which the kernel never gives as negative.
fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether the content may have changed between two looks.
fn differs(a: &Stat, b: &Stat) -> bool {
    (a.st_size, a.st_mtime, a.st_mtime_nsec, a.st_ctime, a.st_ctime_nsec)
        != (b.st_size, b.st_mtime, b.st_mtime_nsec, b.st_ctime, b.st_ctime_nsec)
}

fn deliver<E: std::error::Error + Send + Sync + 'static>(
    file: &mut impl Write,
    bytes: &[u8],
    path: &[u8],
) -> Result<(), WalkError<E>> {
    file.write_all(bytes).map_err(|error| match error.downcast::<E>() {
        Ok(error) => WalkError::Sink(error),
        Err(source) => WalkError::Source { action: "store", path: display_path(path), source },
    })
}

/// A file's time, as far as a [`Timestamp`] reaches.
fn time(second: i64, nanosecond: u64) -> Timestamp {
    let nanosecond = i32::try_from(nanosecond).unwrap_or(0);
    Timestamp::new(second, nanosecond).unwrap_or(if second < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// The names of users and groups, as this machine has them.
struct Owners {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Owners {
    fn read() -> Self {
        // Names are a help for people; numbers are what is restored.
        let names = |file| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let entry = |line: &str| {
                let mut fields = line.split(':');
                let name = fields.next()?.to_owned();
                Some((fields.nth(1)?.parse().ok()?, name))
            };
            // Of two names for one number the first counts, as for the C library.
            text.lines().rev().filter_map(entry).collect()
        };
        Self { users: names("/etc/passwd"), groups: names("/etc/group") }
    }
}
