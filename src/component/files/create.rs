//! Making a tree: entries with content and metadata, below one directory and never outside it.
//!
//! Files may be finished by other threads while the walk goes on, so directories get their metadata at the very end,
//! deepest first. Until then they are open to their owner only, and files are, too.

mod file;
mod metadata;

pub use self::file::CreatedFile;

use self::metadata::{Circumstances, Metadata, Shortfall};
use super::descent::{Descent, Identity, identity, open_directory};
use crate::model::node::{Node, NodeKind, display_path, is_valid_name};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

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
            _ if self.source.raw_os_error() == Some(Errno::MFILE.raw_os_error()) => {
                Some("raise this process's limit of open files (ulimit -n)")
            }
            _ => None,
        }
    }
}

/// What could not be brought back as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateReport {
    /// Whole sentences, one for each sort.
    pub warnings: Vec<String>,
    /// Sockets in the snapshot: the programs that own them make them again.
    pub sockets_left_out: u64,
}

/// Makes entries below one directory.
pub struct TreeCreator {
    descent: Descent,
    /// What an entry of the root is called in messages, where it gets another name later.
    final_path: Option<Vec<u8>>,
    /// Which of `made` the directories are that lead to where we are.
    way: Vec<usize>,
    /// In the order in which they were made: parents before children.
    made: Vec<MadeDirectory>,
    circumstances: Arc<Circumstances>,
    sockets_left_out: u64,
}

/// A directory that waits for its metadata; without its path, for there may be millions.
struct MadeDirectory {
    name: Box<[u8]>,
    /// Its parent among those that were made.
    parent: Option<usize>,
    /// 1 directly below the root.
    depth: usize,
    identity: Identity,
    metadata: Metadata,
}

/// An error with what was tried on which path.
fn failed<E: Into<io::Error>>(
    action: &'static str,
    shown: impl FnOnce() -> String,
) -> impl FnOnce(E) -> CreateError {
    move |error| CreateError { action, path: shown(), source: error.into() }
}

impl TreeCreator {
    /// Make everything below the existing directory `target`.
    pub fn open(target: &Path) -> Result<Self, CreateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(target, flags, Mode::empty())
            .map_err(failed("open the directory", || target.display().to_string()))?;
        let circumstances = Arc::new(Circumstances::in_directory(&root));
        Ok(Self {
            descent: Descent::new(root),
            final_path: None,
            way: Vec::new(),
            made: Vec::new(),
            circumstances,
            sockets_left_out: 0,
        })
    }

    /// Make one entry, which is moved to `path` later: that is what messages call it.
    #[must_use]
    pub fn for_final_path(mut self, path: &Path) -> Self {
        self.final_path = Some(path.as_os_str().as_bytes().to_vec());
        self
    }

    /// The path of an entry of the directory that is open now, for people.
    pub fn shown(&self, name: &[u8]) -> String {
        self.display(self.descent.names().chain([name]).collect())
    }

    /// The path of the directory that is open now, for people.
    fn shown_here(&self) -> String {
        self.display(self.descent.names().collect())
    }

    fn display<'a>(&'a self, mut names: Vec<&'a [u8]>) -> String {
        if let (Some(path), Some(first)) = (&self.final_path, names.first_mut()) {
            *first = path;
        }
        display_path(&names.join(&b'/'))
    }

    fn refuse(&self, node: &Node, reason: &'static str) -> CreateError {
        let source = io::Error::new(io::ErrorKind::InvalidInput, reason);
        CreateError { action: "create", path: self.shown(&node.name), source }
    }

    fn check_name(&self, node: &Node) -> Result<(), CreateError> {
        if is_valid_name(&node.name) {
            return Ok(());
        }
        Err(self.refuse(node, "this is no name of a file"))
    }

    /// Make a directory and go into it.
    pub fn enter(&mut self, node: &Node) -> Result<(), CreateError> {
        self.check_name(node)?;
        let name = node.name.as_slice();
        if node.kind != NodeKind::Directory {
            return Err(self.refuse(node, "it is no directory"));
        }
        rustix::fs::mkdirat(self.descent.here(), name, Mode::RWXU)
            .map_err(failed("create the directory", || self.shown(name)))?;
        let opened = open_directory(self.descent.here(), name)
            .and_then(|fd| Ok((identity(&fd)?, fd)))
            .and_then(|(identity, fd)| self.descent.push(name, fd).map(|()| identity));
        let identity = opened.map_err(failed("open the directory", || self.shown(name)))?;
        self.made.push(MadeDirectory {
            name: name.into(),
            parent: self.way.last().copied(),
            depth: self.descent.depth(),
            identity,
            metadata: Metadata::of(node),
        });
        self.way.push(self.made.len() - 1);
        Ok(())
    }

    /// Go back to the parent.
    pub fn leave(&mut self) -> Result<(), CreateError> {
        self.way.pop();
        let left = self.descent.pop();
        left.map(drop).map_err(failed("go back to the directory", || self.shown_here()))
    }

    /// Make an empty file of the node's size, whose content and metadata follow.
    pub fn create_file(&mut self, node: &Node) -> Result<CreatedFile, CreateError> {
        self.check_name(node)?;
        let NodeKind::File { size } = node.kind else {
            return Err(self.refuse(node, "it is no regular file"));
        };
        let path = self.shown(&node.name);
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let fd = rustix::fs::openat(self.descent.here(), node.name.as_slice(), flags, mode)
            .map_err(failed("create", || path.clone()))?;
        let file = File::from(fd);
        file.set_len(size).map_err(failed("set the length of", || path.clone()))?;
        Ok(CreatedFile { file, path, circumstances: Arc::clone(&self.circumstances) })
    }

    /// Make a symbolic link, a pipe or a device. Sockets belong to a running program and are left out.
    pub fn leaf(&mut self, node: &Node) -> Result<(), CreateError> {
        self.check_name(node)?;
        let (here, name) = (self.descent.here(), node.name.as_slice());
        let special =
            |kind, device| rustix::fs::mknodat(here, name, kind, Mode::RUSR | Mode::WUSR, device);
        let made = match &node.kind {
            NodeKind::Symlink { target } => rustix::fs::symlinkat(target.as_slice(), here, name),
            NodeKind::Fifo => special(FileType::Fifo, 0),
            NodeKind::BlockDevice { device } => special(FileType::BlockDevice, *device),
            NodeKind::CharDevice { device } => special(FileType::CharacterDevice, *device),
            NodeKind::Socket => {
                self.sockets_left_out += 1;
                return Ok(());
            }
            NodeKind::File { .. } | NodeKind::Directory => {
                return Err(self.refuse(node, "a file or directory without its content"));
            }
        };
        let is_device =
            matches!(node.kind, NodeKind::BlockDevice { .. } | NodeKind::CharDevice { .. });
        let shown = || self.shown(name);
        match made {
            // Root in a container may not either.
            Err(Errno::PERM) if is_device => {
                self.circumstances.add(Shortfall::Device, shown);
                return Ok(());
            }
            other => other.map_err(failed("create", shown))?,
        }
        Metadata::of(node).apply_to_leaf(here, node, &self.circumstances, &shown)
    }

    /// Make another name for the file that was made at `existing`, a path below the target.
    pub fn hard_link(&mut self, existing: &[u8], node: &Node) -> Result<(), CreateError> {
        self.check_name(node)?;
        let shown = || self.shown(&node.name);
        let mut names: Vec<&[u8]> = existing.split(|byte| *byte == b'/').collect();
        if !names.iter().all(|name| is_valid_name(name)) {
            return Err(self.refuse(node, "it is a link to something outside"));
        }
        let last = names.pop().unwrap_or_default();
        let mut parent = rustix::io::fcntl_dupfd_cloexec(self.descent.root(), 0)
            .map_err(failed("open the directory of", shown))?;
        for name in names {
            parent =
                open_directory(&parent, name).map_err(failed("open the directory of", shown))?;
        }
        let (here, name) = (self.descent.here(), node.name.as_slice());
        rustix::fs::linkat(&parent, last, here, name, AtFlags::empty())
            .map_err(failed("link", shown))
    }

    /// Give the directories their metadata, deepest first, and make everything durable.
    pub fn finish(mut self) -> Result<CreateReport, CreateError> {
        for index in (0..self.made.len()).rev() {
            self.go_to(index)
                .map_err(failed("go back to the directory", || self.shown_made(index)))?;
            let metadata = &self.made[index].metadata;
            let shown = || self.shown_made(index);
            metadata.apply(self.descent.here(), &self.circumstances, &shown)?;
        }
        rustix::fs::syncfs(self.descent.root())
            .map_err(failed("sync", || "the restored files".to_owned()))?;
        let warnings = self.circumstances.sentences();
        Ok(CreateReport { warnings, sockets_left_out: self.sockets_left_out })
    }

    /// The path of a directory that was made, for people.
    fn shown_made(&self, index: usize) -> String {
        let above = |index: &usize| self.made[*index].parent;
        let way = std::iter::successors(Some(index), above);
        let mut names: Vec<&[u8]> = way.map(|index| &*self.made[index].name).collect();
        names.reverse();
        self.display(names)
    }

    /// Go to a directory that was made: up to where the ways part, and down from there.
    fn go_to(&mut self, index: usize) -> rustix::io::Result<()> {
        let mut missing = Vec::new();
        let mut shared = Some(index);
        while let Some(directory) = shared {
            if self.way.get(self.made[directory].depth - 1) == Some(&directory) {
                break;
            }
            missing.push(directory);
            shared = self.made[directory].parent;
        }
        let shared_depth = shared.map_or(0, |directory| self.made[directory].depth);
        while self.way.len() > shared_depth {
            self.way.pop();
            self.descent.pop()?;
        }
        for directory in missing.into_iter().rev() {
            let made = &self.made[directory];
            let fd = open_directory(self.descent.here(), &made.name)?;
            // Somebody who may write here may not choose what gets an owner and a mode.
            if identity(&fd)? != made.identity {
                return Err(Errno::STALE);
            }
            self.descent.push(&made.name, fd)?;
            self.way.push(directory);
        }
        Ok(())
    }
}
