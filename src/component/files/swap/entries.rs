//! Swapping a tree entry by entry, where the directory itself must stay.
//!
//! First all old entries go aside, then a mark is set, then all new ones come in. Each is moved by one rename, and what
//! was moved is not there any more, so a second call goes on where the first one stopped. An entry that somebody made
//! meanwhile is set aside, too: nothing is replaced.

use super::{BEFORE, RESTORE, Step, SwapError, SwapPlan, exists, failed, rename_new, sync};
use crate::component::files::attributes::Subject;
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

/// The half of moving entries that takes the old ones away is done.
const MARK: &str = "old-is-aside";
/// How often the directory is listed until nothing new is in it.
const MOST_LISTINGS: u32 = 1000;
/// How many entries of one name are set aside before something must be wrong.
const MOST_OF_A_NAME: u32 = 1000;

impl SwapPlan {
    /// `before_move` is called before each rename: tests stop there.
    pub(super) fn move_entries(&self, before_move: Step<'_>) -> Result<(), SwapError> {
        let Self { target, staged, .. } = self;
        self.ensure_mounted()?;
        if !exists(staged)? {
            return Ok(());
        }
        let work = self.staging_parent();
        let mark = work.join(MARK);
        if !exists(&mark)? {
            self.set_old_aside(before_move)?;
            set_mark(staged, &mark).map_err(failed("create", &mark))?;
            sync(work)?;
        }
        for name in names(staged)? {
            self.bring_in(&name, before_move)?;
        }
        copy_metadata(staged, &mark, target).map_err(failed("set the metadata of", target))?;
        sync(target)?;
        fs::remove_dir(staged).map_err(failed("remove", staged))?;
        fs::remove_file(&mark).map_err(failed("remove", &mark))?;
        sync(work)
    }

    pub(super) fn set_old_aside(&self, before_move: Step<'_>) -> Result<(), SwapError> {
        let Self { target, aside, .. } = self;
        match DirBuilder::new().mode(0o700).create(aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(failed("create", aside))?,
        }
        // Again until there is nothing: what comes meanwhile belongs to the old state, too.
        for _ in 0..MOST_LISTINGS {
            let mut names = names(target)?;
            names.retain(|name| !is_ours(name));
            if names.is_empty() {
                sync(aside)?;
                return sync(target);
            }
            for name in names {
                self.set_aside(&name, before_move)?;
            }
        }
        let reason = "something keeps making entries there; stop it, and the swap goes on";
        Err(SwapError::new("set aside what is in", target, reason))
    }

    fn set_aside(&self, name: &OsStr, before_move: Step<'_>) -> Result<(), SwapError> {
        let from = self.target.join(name);
        for number in 0..MOST_OF_A_NAME {
            let mut free = name.to_owned();
            if number > 0 {
                free.push(format!("~{number}"));
            }
            before_move().map_err(failed("move", &from))?;
            match rename_new(&from, &self.aside.join(free)) {
                Err(Errno::EXIST) => {}
                // Whoever owns it removed it meanwhile.
                Err(Errno::NOENT) => return Ok(()),
                other => return other.map_err(failed("set aside", &from)),
            }
        }
        Err(failed("set aside", &from)(Errno::EXIST))
    }

    fn bring_in(&self, name: &OsStr, before_move: Step<'_>) -> Result<(), SwapError> {
        let (from, to) = (self.staged.join(name), self.target.join(name));
        for _ in 0..MOST_OF_A_NAME {
            before_move().map_err(failed("move", &from))?;
            match rename_new(&from, &to) {
                Err(Errno::EXIST) => self.set_aside(name, before_move)?,
                other => return other.map_err(failed("put in place", &to)),
            }
        }
        Err(failed("put in place", &to)(Errno::EXIST))
    }
}

/// Whether a swap made it: its own directory, or what an earlier one has kept, which nobody else has.
pub(super) fn is_ours(name: &OsStr) -> bool {
    let name = name.as_bytes();
    name.starts_with(BEFORE.as_bytes()) || name.starts_with(RESTORE.as_bytes())
}

/// The mark also keeps the time of the restored root, which changes with each entry that is moved out of it.
fn set_mark(staged: &Path, mark: &Path) -> io::Result<()> {
    let unfinished = mark.with_extension("tmp");
    let file = File::create(&unfinished)?;
    file.set_modified(fs::metadata(staged)?.modified()?)?;
    file.sync_all()?;
    fs::rename(&unfinished, mark)
}

pub(super) fn names(directory: &Path) -> Result<Vec<OsString>, SwapError> {
    let list = || {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
    };
    list().map_err(failed("list", directory))
}

/// The directory itself stays, so it takes over owner, mode, attributes and time of the root that was restored. What is
/// impossible here was impossible for that root already, and was told then.
fn copy_metadata(from: &Path, mark: &Path, to: &Path) -> io::Result<()> {
    let modified = fs::metadata(mark)?.modified()?;
    let (from, to) = (File::open(from)?, File::open(to)?);
    let metadata = from.metadata()?;
    let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
    let mode = match rustix::fs::fchown(&to, owner.0, owner.1) {
        Err(Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP) => metadata.mode() & 0o1777,
        other => other.map(|()| metadata.mode() & 0o7777)?,
    };
    rustix::fs::fchmod(&to, Mode::from_raw_mode(mode))?;
    copy_attributes(Subject::Open(from.as_fd()), Subject::Open(to.as_fd()))?;
    to.set_modified(modified)
}

fn copy_attributes(from: Subject<'_>, to: Subject<'_>) -> rustix::io::Result<()> {
    let (wanted, present) = (from.read()?.known, to.read()?.known);
    let bear = |result| match result {
        Err(Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSPC) => Ok(()),
        other => other,
    };
    for attribute in &present {
        // Labels of the system's own are not the instance's.
        let is_ours = !attribute.name.starts_with("security.");
        if is_ours && !wanted.iter().any(|wanted| wanted.name == attribute.name) {
            bear(to.remove(&attribute.name))?;
        }
    }
    wanted.iter().try_for_each(|attribute| bear(to.set(attribute)))
}
