//! Owner, mode, attributes and times of what was made, and what of them cannot be brought back here.
//!
//! The order is always: owner, because changing it takes set-user-id bits and capabilities away; mode; attributes; and
//! times last, because everything else changes them.

use super::{CreateError, failed};
use crate::component::files::attributes::{self, Subject};
use crate::component::files::descent::chmod_unfollowed;
use crate::model::node::{ExtendedAttribute, Node, NodeKind};
use jiff::Timestamp;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

const ACL_ACCESS: &str = "system.posix_acl_access";
const ACL_DEFAULT: &str = "system.posix_acl_default";

/// What may be impossible for this user or on this file system without the restore being worthless.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shortfall {
    OwnerNeedsRoot,
    OwnerUnknown,
    SetId,
    Mode,
    Device,
    Attribute,
    AttributeTooLarge,
}

impl Shortfall {
    fn sentence(self) -> &'static str {
        match self {
            Self::OwnerNeedsRoot => "only root can give files to their owners",
            Self::OwnerUnknown => "the file system knows no such owners",
            Self::SetId => {
                "set-user-id and set-group-id bits are left out, for the owner is another"
            }
            Self::Mode => "the file system knows no such permissions",
            Self::Device => "this user cannot make devices",
            Self::Attribute => {
                "the file system or this user does not allow these extended attributes"
            }
            Self::AttributeTooLarge => {
                "the file system has no room for extended attributes of this size"
            }
        }
    }
}

/// What all that makes one tree shares: who makes it, and what could not be brought back.
pub(super) struct Circumstances {
    is_root: bool,
    /// Entries get an access control list from the directory above the tree, which is not theirs.
    inherits_acl: bool,
    shortfalls: Mutex<BTreeMap<Shortfall, (u64, String)>>,
}

impl Circumstances {
    /// For a tree that is made in the directory `target`.
    pub(super) fn in_directory(target: &OwnedFd) -> Self {
        Self {
            is_root: rustix::process::geteuid().is_root(),
            inherits_acl: Subject::Open(target.as_fd()).has(ACL_DEFAULT),
            shortfalls: Mutex::default(),
        }
    }

    pub(super) fn add(&self, shortfall: Shortfall, shown: impl FnOnce() -> String) {
        let mut all = self.shortfalls.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(shortfall).or_insert_with(|| (0, shown())).0 += 1;
    }

    /// A sentence for each sort, with a count and an example.
    pub(super) fn sentences(&self) -> Vec<String> {
        let all = self.shortfalls.lock().unwrap_or_else(PoisonError::into_inner);
        let sentence = |(sort, (count, example)): (&Shortfall, &(u64, String))| {
            let entries = if *count == 1 { "entry" } else { "entries" };
            format!("{}: {count} {entries}, such as {example}", sort.sentence())
        };
        all.iter().map(sentence).collect()
    }
}

/// What of a node is set at the end.
pub(super) struct Metadata {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Timestamp,
    attributes: Vec<ExtendedAttribute>,
}

impl Metadata {
    pub(super) fn of(node: &Node) -> Self {
        let Node { mode, uid, gid, mtime, .. } = *node;
        Self { mode, uid, gid, mtime, attributes: node.extended_attributes.clone() }
    }

    /// Give it to an open file or directory.
    pub(super) fn apply(
        &self,
        fd: impl AsFd,
        circumstances: &Circumstances,
        shown: &dyn Fn() -> String,
    ) -> Result<(), CreateError> {
        let step = Step { metadata: self, circumstances, shown };
        let mode = step.owner(|owner, group| rustix::fs::fchown(&fd, owner, group))?;
        let subject = Subject::Open(fd.as_fd());
        step.clear_acls(subject)?;
        step.mode(rustix::fs::fchmod(&fd, mode))?;
        step.attributes(subject)?;
        rustix::fs::futimens(&fd, &self.times()).map_err(failed("set the times of", shown))
    }

    /// Give it to an entry that has no content: a link, a pipe or a device.
    pub(super) fn apply_to_leaf(
        &self,
        parent: &OwnedFd,
        node: &Node,
        circumstances: &Circumstances,
        shown: &dyn Fn() -> String,
    ) -> Result<(), CreateError> {
        let step = Step { metadata: self, circumstances, shown };
        let name = node.name.as_slice();
        let mode = step.owner(|owner, group| {
            rustix::fs::chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
        })?;
        let path =
            attributes::path_of(parent, name).map_err(failed("set the attributes of", shown))?;
        let subject = Subject::Entry(&path);
        // A symbolic link has neither mode nor access control list.
        if !matches!(node.kind, NodeKind::Symlink { .. }) {
            step.clear_acls(subject)?;
            step.mode(chmod_unfollowed(parent, name, mode))?;
        }
        step.attributes(subject)?;
        rustix::fs::utimensat(parent, name, &self.times(), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of", shown))
    }

    fn times(&self) -> Timestamps {
        let nanoseconds = self.mtime.as_nanosecond();
        let (second, nanosecond) =
            (nanoseconds.div_euclid(1_000_000_000), nanoseconds.rem_euclid(1_000_000_000));
        let time = Timespec {
            tv_sec: i64::try_from(second).unwrap_or(0),
            tv_nsec: i64::try_from(nanosecond).unwrap_or(0),
        };
        Timestamps { last_access: time, last_modification: time }
    }
}

/// The steps that may fail in ways that are borne.
struct Step<'a> {
    metadata: &'a Metadata,
    circumstances: &'a Circumstances,
    shown: &'a dyn Fn() -> String,
}

impl Step<'_> {
    /// Set owner and group; returns the mode that is safe with the owner that it has now.
    fn owner(
        &self,
        set: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
    ) -> Result<Mode, CreateError> {
        let Self { metadata, circumstances, shown } = self;
        let group = Some(Gid::from_raw(metadata.gid));
        let shortfall = match set(Some(Uid::from_raw(metadata.uid)), group) {
            Ok(()) => return Ok(Mode::from_raw_mode(metadata.mode)),
            Err(Errno::PERM | Errno::ACCESS) if !circumstances.is_root => Shortfall::OwnerNeedsRoot,
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => Shortfall::OwnerUnknown,
            Err(error) => return Err(failed("set the owner of", shown)(error)),
        };
        circumstances.add(shortfall, shown);
        // The group alone may be one that this user is in; that it is not is told already.
        let _ = set(None, group);
        // These bits for another owner than they were meant for are a hole.
        if metadata.mode & 0o6000 != 0 {
            circumstances.add(Shortfall::SetId, shown);
        }
        Ok(Mode::from_raw_mode(metadata.mode & 0o1777))
    }

    fn mode(&self, set: rustix::io::Result<()>) -> Result<(), CreateError> {
        match set {
            Err(Errno::PERM | Errno::OPNOTSUPP) => {
                self.circumstances.add(Shortfall::Mode, self.shown);
                Ok(())
            }
            other => other.map_err(failed("set the mode of", self.shown)),
        }
    }

    fn clear_acls(&self, subject: Subject<'_>) -> Result<(), CreateError> {
        if !self.circumstances.inherits_acl {
            return Ok(());
        }
        for name in [ACL_ACCESS, ACL_DEFAULT] {
            match subject.remove(name) {
                // Only directories have a default one.
                Err(Errno::ACCESS | Errno::INVAL) if name == ACL_DEFAULT => {}
                other => other.map_err(failed("set the access control list of", self.shown))?,
            }
        }
        Ok(())
    }

    fn attributes(&self, subject: Subject<'_>) -> Result<(), CreateError> {
        for attribute in &self.metadata.attributes {
            let shortfall = match subject.set(attribute) {
                Ok(()) => continue,
                Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP) => Shortfall::Attribute,
                // That is how ext4 says that they do not fit beside the inode, with any room on the disk.
                Err(Errno::NOSPC | Errno::TOOBIG | Errno::RANGE) => Shortfall::AttributeTooLarge,
                Err(error) => {
                    return Err(failed("set the extended attributes of", self.shown)(error));
                }
            };
            let name = &attribute.name;
            self.circumstances.add(shortfall, || format!("{name} of {}", (self.shown)()));
        }
        Ok(())
    }
}
