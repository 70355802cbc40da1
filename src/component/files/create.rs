//! Making a tree: entries with content and metadata, below one directory and never outside it.
//!
//! Files may be finished by other threads while the walk goes on, so directories get their metadata at the very end,
//! deepest first. Until then they are open to their owner only, and files are, too.

use super::attributes;
use crate::model::node::{ExtendedAttribute, Node, NodeKind, display_path, is_valid_name};
use jiff::Timestamp;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// Zeros in blocks of this size become holes: the block size of nearly all file systems.
const HOLE_BYTES: usize = 4096;

/// An entry could not be made.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {source}")]
pub struct CreateError {
    action: &'static str,
    path: String,
    source: io::Error,
}

impl CreateError {
    /// What to do, where there is something to say beyond the reason.
    pub fn hint(&self) -> Option<&'static str> {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Some(
                "make room on the target's file system, or restore elsewhere; what was restored so far is only a part",
            ),
            io::ErrorKind::PermissionDenied => Some("run as a user that may write there"),
            _ => None,
        }
    }
}

/// What could not be brought back as it was.
#[derive(Clone, Debug, Default)]
pub struct CreateReport {
    /// Whole sentences, one for each sort.
    pub warnings: Vec<String>,
}

/// What could not be brought back, counted by sort, with an example.
#[derive(Clone, Default)]
struct Shortfalls(Arc<Mutex<BTreeMap<&'static str, (u64, String)>>>);

impl Shortfalls {
    fn add(&self, sort: &'static str, path: &str) {
        let mut sorts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sorts.entry(sort).or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    fn sentences(&self) -> Vec<String> {
        let sorts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |(sort, (count, example)): (&&str, &(u64, String))| {
            format!("{sort}: {count} entries, such as {example}")
        };
        sorts.iter().map(sentence).collect()
    }
}

/// Makes entries below one directory.
pub struct TreeCreator {
    root: OwnedFd,
    open: Vec<OpenDirectory>,
    /// In the order in which they were made: parents before children.
    made: Vec<(Vec<Vec<u8>>, Node)>,
    shortfalls: Shortfalls,
    is_root: bool,
}

struct OpenDirectory {
    fd: OwnedFd,
    name: Vec<u8>,
}

/// A file whose content may be written by several threads.
pub struct CreatedFile {
    file: File,
    path: String,
    shortfalls: Shortfalls,
    is_root: bool,
}

fn failed<E: Into<io::Error>>(action: &'static str, path: &str) -> impl FnOnce(E) -> CreateError {
    let path = path.to_owned();
    move |error| CreateError { action, path, source: error.into() }
}

impl TreeCreator {
    /// Make everything below the existing directory `target`.
    pub fn open(target: &Path) -> Result<Self, CreateError> {
        let shown = target.display().to_string();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty())
            .map_err(failed("open the directory", &shown))?;
        let is_root = rustix::process::geteuid().is_root();
        Ok(Self {
            root,
            open: Vec::new(),
            made: Vec::new(),
            shortfalls: Shortfalls::default(),
            is_root,
        })
    }

    fn here(&self) -> &OwnedFd {
        self.open.last().map_or(&self.root, |directory| &directory.fd)
    }

    /// The path of an entry of the directory that is open now, for people.
    fn shown(&self, name: &[u8]) -> String {
        let names = self.open.iter().map(|directory| directory.name.as_slice()).chain([name]);
        display_path(&names.collect::<Vec<_>>().join(&b'/'))
    }

    fn check_name(&self, name: &[u8]) -> Result<String, CreateError> {
        let shown = self.shown(name);
        if is_valid_name(name) {
            return Ok(shown);
        }
        let source = io::Error::new(io::ErrorKind::InvalidInput, "this is no name of a file");
        Err(CreateError { action: "create", path: shown, source })
    }

    /// Make a directory and go into it.
    pub fn enter(&mut self, node: &Node) -> Result<(), CreateError> {
        let shown = self.check_name(&node.name)?;
        let name = node.name.as_slice();
        rustix::fs::mkdirat(self.here(), name, Mode::RWXU)
            .map_err(failed("create the directory", &shown))?;
        let fd = open_directory(self.here(), name).map_err(failed("open the directory", &shown))?;
        self.open.push(OpenDirectory { fd, name: node.name.clone() });
        let path = self.open.iter().map(|directory| directory.name.clone()).collect();
        self.made.push((path, node.clone()));
        Ok(())
    }

    /// Go back to the parent.
    pub fn leave(&mut self) {
        self.open.pop();
    }

    /// Make an empty file of the node's size, whose content and metadata follow.
    pub fn create_file(&mut self, node: &Node) -> Result<CreatedFile, CreateError> {
        let path = self.check_name(&node.name)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd =
            rustix::fs::openat(self.here(), node.name.as_slice(), flags, Mode::RUSR | Mode::WUSR)
                .map_err(failed("create", &path))?;
        let file = File::from(fd);
        if let NodeKind::File { size } = node.kind {
            file.set_len(size).map_err(failed("set the length of", &path))?;
        }
        Ok(CreatedFile { file, path, shortfalls: self.shortfalls.clone(), is_root: self.is_root })
    }

    /// Make a symbolic link, a pipe or a device. Sockets belong to a running program and are left out.
    pub fn leaf(&mut self, node: &Node) -> Result<(), CreateError> {
        let shown = self.check_name(&node.name)?;
        let (here, name) = (self.here(), node.name.as_slice());
        let made = match &node.kind {
            NodeKind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), here, name),
            NodeKind::Fifo => {
                rustix::fs::mknodat(here, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            }
            NodeKind::BlockDevice { device } => rustix::fs::mknodat(
                here,
                name,
                FileType::BlockDevice,
                Mode::RUSR | Mode::WUSR,
                *device,
            ),
            NodeKind::CharDevice { device } => rustix::fs::mknodat(
                here,
                name,
                FileType::CharacterDevice,
                Mode::RUSR | Mode::WUSR,
                *device,
            ),
            NodeKind::Socket | NodeKind::File { .. } | NodeKind::Directory => return Ok(()),
        };
        let is_device =
            matches!(node.kind, NodeKind::BlockDevice { .. } | NodeKind::CharDevice { .. });
        match made {
            Err(Errno::PERM) if is_device && !self.is_root => {
                self.shortfalls.add("only root can make devices", &shown);
                return Ok(());
            }
            other => other.map_err(failed("create", &shown))?,
        }
        self.leaf_metadata(node, &shown)
    }

    fn leaf_metadata(&self, node: &Node, shown: &str) -> Result<(), CreateError> {
        let (here, name) = (self.here(), node.name.as_slice());
        let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        let changed = rustix::fs::chownat(here, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW);
        borne(changed, Sort::Owner, (&self.shortfalls, self.is_root, shown))?;
        if !matches!(node.kind, NodeKind::Symlink { .. }) {
            rustix::fs::chmodat(here, name, Mode::from_raw_mode(node.mode), AtFlags::empty())
                .map_err(failed("set the mode of", shown))?;
        }
        if !node.extended_attributes.is_empty() {
            let path =
                attributes::path_of(here, name).map_err(failed("set the attributes of", shown))?;
            for ExtendedAttribute { name, value } in &node.extended_attributes {
                let set = rustix::fs::lsetxattr(
                    path.as_c_str(),
                    name.as_str(),
                    value,
                    XattrFlags::empty(),
                );
                borne(set, Sort::Attribute, (&self.shortfalls, self.is_root, shown))?;
            }
        }
        rustix::fs::utimensat(here, name, &times(node.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of", shown))
    }

    /// Make another name for the file that was made at `existing`, a path below the target.
    pub fn hard_link(&mut self, existing: &[u8], node: &Node) -> Result<(), CreateError> {
        let shown = self.check_name(&node.name)?;
        let mut names: Vec<&[u8]> = existing.split(|byte| *byte == b'/').collect();
        let last = names.pop().unwrap_or_default();
        let mut parent = self.root.try_clone().map_err(failed("open the directory of", &shown))?;
        for name in names {
            parent =
                open_directory(&parent, name).map_err(failed("open the directory of", &shown))?;
        }
        rustix::fs::linkat(&parent, last, self.here(), node.name.as_slice(), AtFlags::empty())
            .map_err(failed("link", &shown))
    }

    /// Give the directories their metadata, deepest first, and make everything durable.
    pub fn finish(self) -> Result<CreateReport, CreateError> {
        let Self { root, open, made, shortfalls, is_root } = self;
        drop(open);
        // Consecutive directories share most of their way: only what differs is opened again.
        let mut way: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        for (path, node) in made.into_iter().rev() {
            let shown = display_path(&path.join(&b'/'));
            let shared = way.iter().zip(&path).take_while(|((name, _), own)| name == *own).count();
            way.truncate(shared);
            for name in &path[shared..] {
                let parent = way.last().map_or(&root, |(_, fd)| fd);
                let fd =
                    open_directory(parent, name).map_err(failed("open the directory", &shown))?;
                way.push((name.clone(), fd));
            }
            if let Some((_, fd)) = way.pop() {
                metadata(&fd, &node, (&shortfalls, is_root, &shown))?;
            }
        }
        rustix::fs::syncfs(&root).map_err(failed("sync", "the restored files"))?;
        Ok(CreateReport { warnings: shortfalls.sentences() })
    }
}

fn open_directory(parent: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

impl CreatedFile {
    /// Write content at an offset. Blocks of zeros are left as holes.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), CreateError> {
        let mut from = 0;
        while from < bytes.len() {
            // Whole blocks of the file, so that a hole is a hole.
            let boundary = HOLE_BYTES - (offset as usize + from) % HOLE_BYTES;
            let first = boundary.min(bytes.len() - from);
            if is_zero(&bytes[from..from + first]) {
                from += first;
                continue;
            }
            let mut to = from + first;
            while to < bytes.len() {
                let next = HOLE_BYTES.min(bytes.len() - to);
                if is_zero(&bytes[to..to + next]) {
                    break;
                }
                to += next;
            }
            self.file
                .write_all_at(&bytes[from..to], offset + from as u64)
                .map_err(failed("write", &self.path))?;
            from = to;
        }
        Ok(())
    }

    /// Give the complete file its metadata.
    pub fn finish(&self, node: &Node) -> Result<(), CreateError> {
        metadata(&self.file, node, (&self.shortfalls, self.is_root, &self.path))
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; HOLE_BYTES] = [0; HOLE_BYTES];
    bytes == &ZEROS[..bytes.len()]
}

/// Owner first: changing it takes set-user-id bits and capabilities away. Times last: everything else changes them.
fn metadata(
    fd: impl AsFd,
    node: &Node,
    told @ (_, _, shown): (&Shortfalls, bool, &str),
) -> Result<(), CreateError> {
    let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
    let is_owner_set = borne(rustix::fs::fchown(&fd, owner.0, owner.1), Sort::Owner, told)?;
    // A set-user-id bit for another owner than it was meant for is a hole.
    let mode = if is_owner_set { node.mode } else { node.mode & 0o1777 };
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode)).map_err(failed("set the mode of", shown))?;
    for ExtendedAttribute { name, value } in &node.extended_attributes {
        let set = rustix::fs::fsetxattr(&fd, name.as_str(), value, XattrFlags::empty());
        borne(set, Sort::Attribute, told)?;
    }
    rustix::fs::futimens(&fd, &times(node.mtime)).map_err(failed("set the times of", shown))
}

/// What may be impossible for this user or on this file system without the restore being worthless.
#[derive(Clone, Copy)]
enum Sort {
    Owner,
    Attribute,
}

/// Whether it was done; false where it is impossible here, which is told.
fn borne(
    result: rustix::io::Result<()>,
    sort: Sort,
    (shortfalls, is_root, shown): (&Shortfalls, bool, &str),
) -> Result<bool, CreateError> {
    match (result, sort) {
        (Ok(()), _) => Ok(true),
        (Err(Errno::PERM | Errno::ACCESS), Sort::Owner) if !is_root => {
            shortfalls.add("only root can give files to their owners", shown);
            Ok(false)
        }
        (Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL), Sort::Owner) => {
            shortfalls.add("the file system knows no such owners", shown);
            Ok(false)
        }
        (Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP), Sort::Attribute) => {
            shortfalls.add(
                "the file system or this user does not allow these extended attributes",
                shown,
            );
            Ok(false)
        }
        (Err(error), Sort::Owner) => Err(failed("set the owner of", shown)(error)),
        (Err(error), Sort::Attribute) => Err(failed("set the attributes of", shown)(error)),
    }
}

fn times(mtime: Timestamp) -> Timestamps {
    let nanoseconds = mtime.as_nanosecond();
    let (second, nanosecond) =
        (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
    let time = Timespec {
        tv_sec: i64::try_from(second).unwrap_or(0),
        tv_nsec: i64::try_from(nanosecond).unwrap_or(0),
    };
    Timestamps { last_access: time, last_modification: time }
}
