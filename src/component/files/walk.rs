//! Reading a tree: metadata and content of every entry, in order, into a sink.
//!
//! What cannot be read makes the walk fail; so does a directory that keeps changing while it is listed, or that another
//! one has replaced when it was read. A file that changes while it is read is read again; one that keeps changing is
//! delivered as it was read last, and told. An entry that vanishes before it is opened is told; one whose place another
//! has taken by then is looked at again.

mod content;
mod error;
mod exclude;
mod listing;
mod owners;

use self::content::READ_BYTES;
pub use self::error::WalkError;
use self::exclude::Excludes;
use self::owners::Owners;
use super::attributes::{self, Subject};
use super::descent::{Descent, Names, identity_of, open_at};
use crate::model::event::Cancel;
use crate::model::node::{Node, NodeKind, display_path};
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

/// How often an entry is looked at again when another has taken its place meanwhile.
const LOOKS: u32 = 5;
/// Paths or sentences kept in a list of the report; more are only counted.
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

/// What to leave out, and how long to wait.
#[derive(Clone, Debug)]
pub struct WalkOptions {
    /// Patterns: with a `/` they fit the path below the root, without one the name at any depth. With one at the end they
    /// fit directories only.
    pub exclude: Vec<String>,
    /// For how long a directory may keep changing each time it is listed before the walk fails.
    pub patience: Duration,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self { exclude: Vec::new(), patience: Duration::from_mins(2) }
    }
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
        self.add_shown(&display_path(path));
    }

    /// The same for one that is escaped already.
    pub(super) fn add_shown(&mut self, path: &str) {
        self.count += 1;
        if self.paths.len() < MAX_LISTED {
            self.paths.push(path.to_owned());
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
    let mut walk = Walk {
        cancel,
        sink,
        progress,
        excludes: Excludes::new(&options.exclude)?,
        patience: options.patience,
        owners: Owners::read(),
        buffer: vec![0; READ_BYTES],
        report: WalkReport::default(),
        warnings: 0,
    };
    walk.root(root, name)?;
    Ok(walk.finish())
}

struct Walk<'a, S> {
    cancel: &'a Cancel,
    sink: &'a mut S,
    progress: &'a mut dyn FnMut(u64, u64),
    excludes: Excludes,
    patience: Duration,
    owners: Owners,
    buffer: Vec<u8>,
    report: WalkReport,
    /// How many there were, of which the report has the first.
    warnings: u64,
}

/// A directory that is being walked.
struct Frame {
    /// Length of the path below the root that leads to it.
    path_length: usize,
    /// In reverse order.
    names: Names,
}

/// What became of one look at an entry.
enum Look {
    Delivered,
    /// It is a directory, which is open now.
    Directory(OwnedFd, Names),
    /// It is not there any more.
    Vanished,
    /// It is something else than it was a moment ago: what was tried, and what that gave.
    Replaced(&'static str, Errno),
}

type Walked<T, S> = Result<T, WalkError<<S as TreeSink>::Error>>;

/// An errno with what was tried on which path.
fn failed<E: std::error::Error>(
    action: &'static str,
    path: &[u8],
) -> impl FnOnce(Errno) -> WalkError<E> {
    move |error| WalkError::Source { action, path: display_path(path), source: error.into() }
}

/// Tell a replaced entry from a failure.
macro_rules! look {
    ($result:expr, $replaced:pat, $action:literal, $path:expr) => {
        match $result {
            Err(error @ $replaced) => return Ok(Look::Replaced($action, error)),
            other => other.map_err(failed($action, $path))?,
        }
    };
}

impl<S: TreeSink> Walk<'_, S> {
    fn root(&mut self, root: &Path, name: &[u8]) -> Walked<(), S> {
        let shown = root.as_os_str().as_bytes();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty()).map_err(failed("open", shown))?;
        let stat = rustix::fs::fstat(&fd).map_err(failed("examine", shown))?;
        let node = self.node_of_open(name, &fd, &stat, shown)?;
        match node.kind {
            NodeKind::Directory => {
                let names = self.list(&fd, shown)?.map_err(failed("list", shown))?;
                self.enter(&node)?;
                self.directories(fd, names)?;
                listing::ensure_same(rustix::fs::stat(root), identity_of(&stat))
                    .map_err(failed("look again at", shown))
            }
            NodeKind::File { .. } => self.file(&fd, node, stat, shown),
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
    fn directories(&mut self, root: OwnedFd, names: Names) -> Walked<(), S> {
        let mut descent = Descent::new(root);
        let mut path = Vec::new();
        let mut open = vec![Frame { path_length: 0, names }];
        while let Some(frame) = open.last_mut() {
            self.cancel.check()?;
            path.truncate(frame.path_length);
            let Some(name) = frame.names.pop() else {
                open.pop();
                self.sink.leave().map_err(WalkError::Sink)?;
                let left = descent.pop().map_err(failed("go back from", &path))?;
                if let Some((name, was)) = left {
                    self.look_back(descent.here(), &name, was, &path)?;
                }
                continue;
            };
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&name);
            if let Some((fd, names)) = self.entry(descent.here(), &name, &path)? {
                descent.push(&name, fd).map_err(failed("examine", &path))?;
                open.push(Frame { path_length: path.len(), names });
            }
        }
        Ok(())
    }

    fn enter(&mut self, node: &Node) -> Walked<(), S> {
        self.report.directories += 1;
        self.sink.enter(node).map_err(WalkError::Sink)
    }

    /// One entry of a directory; when it is a directory itself, it was entered and is returned with its names.
    fn entry(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        path: &[u8],
    ) -> Walked<Option<(OwnedFd, Names)>, S> {
        // What cannot even be examined, such as another user's FUSE mount, may be meant by a pattern for directories.
        let is_directory = || {
            rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_or_else(
                |error| error != Errno::NOENT,
                |stat| kind_of(&stat) == FileType::Directory,
            )
        };
        if self.excludes.exclude(name, path, is_directory) {
            self.report.excluded += 1;
            return Ok(None);
        }
        let mut looks = 0;
        loop {
            looks += 1;
            match self.look(parent, name, path)? {
                Look::Delivered => return Ok(None),
                Look::Directory(fd, names) => return Ok(Some((fd, names))),
                Look::Vanished => {
                    self.report.vanished.add(path);
                    return Ok(None);
                }
                Look::Replaced(action, error) if looks == LOOKS => {
                    return Err(failed(action, path)(error));
                }
                Look::Replaced(..) => self.cancel.check()?,
            }
        }
    }

    fn look(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Walked<Look, S> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(Look::Vanished),
            other => other.map_err(failed("examine", path))?,
        };
        match kind_of(&stat) {
            FileType::Directory => self.look_at_directory(parent, name, path),
            FileType::RegularFile => self.look_at_file(parent, name, stat, path),
            kind => {
                let mut target = None;
                if kind == FileType::Symlink {
                    let read = rustix::fs::readlinkat(parent, name, Vec::new());
                    let read = look!(read, (Errno::NOENT | Errno::INVAL), "read the link", path);
                    target = Some(read.into_bytes());
                }
                let read = attributes_of_entry(parent, name);
                let found = look!(read, Errno::NOENT, "read the extended attributes of", path);
                let node = self.node(name, &stat, target, found, path)?;
                let is_link = kind == FileType::Symlink;
                let report = &mut self.report;
                *(if is_link { &mut report.symlinks } else { &mut report.others }) += 1;
                self.sink.leaf(&node).map_err(WalkError::Sink)?;
                Ok(Look::Delivered)
            }
        }
    }

    /// Its metadata is that of what was opened, whatever had the name before.
    fn look_at_directory(&mut self, parent: &OwnedFd, name: &[u8], path: &[u8]) -> Walked<Look, S> {
        let opened = open_at(parent, name, OFlags::DIRECTORY);
        let fd = look!(opened, (Errno::NOENT | Errno::NOTDIR | Errno::LOOP), "open", path);
        let stat = rustix::fs::fstat(&fd).map_err(failed("examine", path))?;
        let names = look!(self.list(&fd, path)?, Errno::NOENT, "list", path);
        let node = self.node_of_open(name, &fd, &stat, path)?;
        self.enter(&node)?;
        Ok(Look::Directory(fd, names))
    }

    fn look_at_file(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        examined: Stat,
        path: &[u8],
    ) -> Walked<Look, S> {
        let read = attributes_of_entry(parent, name);
        let found = look!(read, Errno::NOENT, "read the extended attributes of", path);
        let mut node = self.node(name, &examined, None, found, path)?;
        if self.sink.reuse(&node).map_err(WalkError::Sink)? {
            self.count_file(&node);
            return Ok(Look::Delivered);
        }
        // A pipe in its place would make an ordinary open wait.
        let opened = open_at(parent, name, OFlags::NONBLOCK);
        let fd = look!(opened, (Errno::NOENT | Errno::LOOP | Errno::NXIO), "open", path);
        let stat = rustix::fs::fstat(&fd).map_err(failed("examine", path))?;
        if kind_of(&stat) != FileType::RegularFile {
            return Ok(Look::Replaced("open", Errno::STALE));
        }
        if content::differs(&examined, &stat) {
            node = self.node_of_open(name, &fd, &stat, path)?;
        }
        self.file(&fd, node, stat, path)?;
        Ok(Look::Delivered)
    }

    fn count_file(&mut self, node: &Node) {
        self.report.files += 1;
        if let NodeKind::File { size } = node.kind {
            self.report.bytes += size;
        }
        (self.progress)(self.report.bytes, self.report.files);
    }

    fn node_of_open(
        &mut self,
        name: &[u8],
        fd: &OwnedFd,
        stat: &Stat,
        path: &[u8],
    ) -> Walked<Node, S> {
        let found = Subject::Open(fd.as_fd()).read();
        let found = found.map_err(failed("read the extended attributes of", path))?;
        self.node(name, stat, None, found, path)
    }

    fn node(
        &mut self,
        name: &[u8],
        stat: &Stat,
        target: Option<Vec<u8>>,
        found: attributes::Attributes,
        path: &[u8],
    ) -> Walked<Node, S> {
        let kind = match kind_of(stat) {
            FileType::RegularFile => NodeKind::File { size: content::size_of(stat) },
            FileType::Directory => NodeKind::Directory,
            FileType::Symlink => NodeKind::Symlink { target: target.unwrap_or_default() },
            FileType::BlockDevice => NodeKind::BlockDevice { device: stat.st_rdev },
            FileType::CharacterDevice => NodeKind::CharDevice { device: stat.st_rdev },
            FileType::Fifo => NodeKind::Fifo,
            FileType::Socket => NodeKind::Socket,
            FileType::Unknown => return Err(failed("recognise the kind of", path)(Errno::INVAL)),
        };
        for name in found.unreadable {
            let path = display_path(path);
            self.warn(format!("the attribute {name} of {path} has no UTF-8 name and is left out"));
        }
        Ok(Node {
            name: name.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            mtime: self.time(stat.st_mtime, stat.st_mtime_nsec, path),
            ctime: self.time(stat.st_ctime, stat.st_ctime_nsec, path),
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.owners.user(stat.st_uid),
            group: self.owners.group(stat.st_gid),
            inode: stat.st_ino,
            device_id: stat.st_dev,
            links: stat.st_nlink,
            extended_attributes: found.known,
        })
    }

    /// A file's time, as far as a [`Timestamp`] reaches.
    fn time(&mut self, second: i64, nanosecond: u64, path: &[u8]) -> Timestamp {
        let nanosecond = i32::try_from(nanosecond).unwrap_or(0);
        let time = Timestamp::new(second, nanosecond);
        time.unwrap_or_else(|_| {
            let path = display_path(path);
            self.warn(format!("a time of {path} is outside the years -9999 to 9999 and is cut"));
            if second < 0 { Timestamp::MIN } else { Timestamp::MAX }
        })
    }

    fn warn(&mut self, sentence: String) {
        self.warnings += 1;
        if self.report.warnings.len() < MAX_LISTED {
            self.report.warnings.push(sentence);
        }
    }

    fn finish(mut self) -> WalkReport {
        let more = self.warnings - self.report.warnings.len() as u64;
        if more > 0 {
            self.report.warnings.push(format!("{more} more of the kind"));
        }
        self.report
    }
}

fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn attributes_of_entry(
    parent: &OwnedFd,
    name: &[u8],
) -> rustix::io::Result<attributes::Attributes> {
    // A name from the disk has no NUL.
    let path = attributes::path_of(parent, name).map_err(|_| Errno::INVAL)?;
    Subject::Entry(&path).read()
}
