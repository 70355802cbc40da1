//! Whether anything of an old tree changed after a moment before it was set aside, so that no copy made at that moment
//! has it.
//!
//! A change shows in the time of an inode's change (ctime), which nobody can set. The file system's own clock is used,
//! which may differ from this machine's. Moving an entry changes its ctime, too, so what is moved is looked at before
//! that. What cannot be examined counts as changed.

use super::entries::is_ours;
use super::{SwapError, SwapMethod, SwapPlan, exists, failed};
use crate::component::files::descent::{Descent, list_reversed, open_directory};
use rustix::fs::{AtFlags, CWD, FileType, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Seconds and nanoseconds of a file system's clock.
type Time = (i64, u64);

/// What is moved, right before it is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Before {
    changed: Time,
    modified: Time,
    size: i64,
    /// Mode, owner and group.
    access: (u32, u32, u32),
}

/// Watches an old tree from a moment until it is set aside.
pub struct Watch {
    since: Time,
    moved: BTreeMap<Vec<u8>, Before>,
}

impl Before {
    fn of(stat: &Stat) -> Self {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        let access = (stat.st_mode, stat.st_uid, stat.st_gid);
        Self { changed: changed(stat), modified, size: stat.st_size, access }
    }
}

fn changed(stat: &Stat) -> Time {
    (stat.st_ctime, stat.st_ctime_nsec)
}

fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn examine(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<Stat> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

impl Watch {
    /// Begin. The new tree is complete.
    pub fn begin(swap: &SwapPlan) -> Result<Self, SwapError> {
        let staged = &swap.staged;
        let now = || {
            let stat = rustix::fs::statat(CWD, staged, AtFlags::SYMLINK_NOFOLLOW)?;
            // Setting the time that it has already makes the file system look at its clock.
            let modified = Timespec {
                tv_sec: stat.st_mtime,
                tv_nsec: i64::try_from(stat.st_mtime_nsec).map_err(|_| Errno::INVAL)?,
            };
            let times = Timestamps {
                last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
                last_modification: modified,
            };
            rustix::fs::utimensat(CWD, staged, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::statat(CWD, staged, AtFlags::SYMLINK_NOFOLLOW)
        };
        let stat = now().map_err(failed("examine", staged))?;
        Ok(Self { since: changed(&stat), moved: BTreeMap::new() })
    }

    #[cfg(test)]
    pub(super) fn is_same_moment(&self, other: &Self) -> bool {
        self.since == other.since
    }

    /// Look at what will be moved; right before it is.
    pub fn look(&mut self, swap: &SwapPlan) {
        let target = &swap.target;
        let mut look = || -> rustix::io::Result<()> {
            if swap.method == SwapMethod::Rename {
                match rustix::fs::statat(CWD, target, AtFlags::SYMLINK_NOFOLLOW) {
                    Err(Errno::NOENT) => {}
                    other => {
                        self.moved.insert(Vec::new(), Before::of(&other?));
                    }
                }
                return Ok(());
            }
            let directory = open_directory(CWD, target.as_os_str().as_bytes())?;
            for name in list_reversed(&directory)? {
                match examine(&directory, &name) {
                    Err(Errno::NOENT) => {}
                    other => {
                        self.moved.insert(name, Before::of(&other?));
                    }
                }
            }
            Ok(())
        };
        // What was not examined is not known afterwards, and counts as changed.
        let _ = look();
    }

    /// The first entry found below what was set aside that changed since the watch began. For all that is named so
    /// nothing changes any more but by a program that has it open still.
    pub fn first_change(&self, swap: &SwapPlan) -> Option<PathBuf> {
        let aside = &swap.aside;
        if matches!(exists(aside), Ok(false)) {
            return None;
        }
        let looked = match swap.method {
            SwapMethod::Rename => self.change_in(CWD, aside.as_os_str().as_bytes(), b"", aside),
            SwapMethod::Entries => self.change_in_entries(aside),
        };
        looked.unwrap_or_else(|_| Some(aside.clone()))
    }

    fn change_in_entries(&self, aside: &Path) -> rustix::io::Result<Option<PathBuf>> {
        let directory = open_directory(CWD, aside.as_os_str().as_bytes())?;
        for name in list_reversed(&directory)? {
            let path = aside.join(OsStr::from_bytes(&name));
            if let Some(change) = self.change_in(&directory, &name, &name, &path)? {
                return Ok(Some(change));
            }
        }
        Ok(None)
    }

    /// Look at something that was moved, and at what is below it.
    fn change_in(
        &self,
        parent: impl std::os::fd::AsFd,
        name: &[u8],
        known_as: &[u8],
        path: &Path,
    ) -> rustix::io::Result<Option<PathBuf>> {
        let stat = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let now = Before::of(&stat);
        let is_same = self.moved.get(known_as).is_some_and(|before| {
            before.changed < self.since && *before == Before { changed: before.changed, ..now }
        });
        if !is_same {
            return Ok(Some(path.to_owned()));
        }
        if !is_directory(&stat) {
            return Ok(None);
        }
        let directory = open_directory(&parent, name)?;
        let names = list_reversed(&directory)?;
        let found = find_below(directory, names, |stat| changed(stat) >= self.since)?;
        Ok(found.map(|below| path.join(below)))
    }
}

/// The bytes that a tree takes on its disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeOnDisk {
    /// All of them.
    pub taken: u64,
    /// Those that are free once the tree is removed: of files that have a name elsewhere, none.
    pub freed: u64,
}

impl SwapPlan {
    /// Measure the old tree: what is deleted where it is given up.
    pub fn size_of_old(&self) -> io::Result<SizeOnDisk> {
        // Where the directory stays, so does what earlier restores have kept in it.
        let stays = self.method == SwapMethod::Entries;
        size_on_disk(&self.target, |name| stays && is_ours(OsStr::from_bytes(name)))
    }
}

/// Measure a tree but for the entries of its root that are left out. A file of several names counts once.
pub(super) fn size_on_disk(
    path: &Path,
    is_left_out: impl Fn(&[u8]) -> bool,
) -> io::Result<SizeOnDisk> {
    let mut size = SizeOnDisk::default();
    let mut names_seen: HashMap<(u64, u64), u64> = HashMap::new();
    let mut add = |stat: &Stat| {
        let bytes = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512);
        let names = if is_directory(stat) { 1 } else { stat.st_nlink };
        let seen = match names {
            ..=1 => 1,
            _ => *names_seen
                .entry((stat.st_dev, stat.st_ino))
                .and_modify(|seen| *seen += 1)
                .or_insert(1),
        };
        if seen == 1 {
            size.taken = size.taken.saturating_add(bytes);
        }
        if seen >= names {
            size.freed = size.freed.saturating_add(bytes);
        }
    };
    let stat = rustix::fs::stat(path)?;
    add(&stat);
    if is_directory(&stat) {
        let directory = File::open(path)?.into();
        let mut names = list_reversed(&directory)?;
        names.retain(|name| !is_left_out(name));
        find_below(directory, names, |stat| {
            add(stat);
            false
        })?;
    }
    Ok(size)
}

/// The path of the first entry among `names` in a directory, and below them, of which `is_it` says so.
fn find_below(
    directory: OwnedFd,
    names: Vec<Vec<u8>>,
    mut is_it: impl FnMut(&Stat) -> bool,
) -> rustix::io::Result<Option<PathBuf>> {
    let mut open = vec![names];
    let mut descent = Descent::new(directory);
    while let Some(names) = open.last_mut() {
        let Some(name) = names.pop() else {
            open.pop();
            descent.pop()?;
            continue;
        };
        let stat = match examine(descent.here(), &name) {
            Err(Errno::NOENT) => continue,
            other => other?,
        };
        if is_it(&stat) {
            let way = descent.names().chain([name.as_slice()]);
            return Ok(Some(way.map(OsStr::from_bytes).collect()));
        }
        if is_directory(&stat) {
            let below = open_directory(descent.here(), &name)?;
            open.push(list_reversed(&below)?);
            descent.push(&name, below)?;
        }
    }
    Ok(None)
}
