//! Putting a finished tree in the place of another, so that a crash leaves the old one or the new one, or what a second
//! call finishes.
//!
//! Usually both are exchanged in one step. Where the target cannot be renamed, because it is a mount point or its parent
//! is read-only, its entries are moved one by one.

mod discard;
mod entries;
mod mounts;
pub(super) mod remove;
mod watch;
mod written;

pub use self::watch::{SizeOnDisk, Watch};

use self::mounts::{is_mount_point, mounted_below};
use rustix::fs::{Access, AtFlags, CWD, RenameFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

/// What the name of an old state that is kept begins with.
pub const BEFORE: &str = ".belay-before-";
/// What the name of a new tree begins with that is being made.
pub const RESTORE: &str = ".belay-restore-";

/// A swap failed; calling it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {source}", path = mounts::shown(path))]
pub struct SwapError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl SwapError {
    fn new(action: &'static str, path: &Path, reason: impl Into<String>) -> Self {
        Self { action, path: path.to_owned(), source: io::Error::other(reason.into()) }
    }
}

/// How the new tree comes to its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapMethod {
    /// The whole, by renaming.
    Rename,
    /// Entry by entry.
    Entries,
}

/// What is put where. All paths are in one file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwapPlan {
    /// What is replaced; it need not exist.
    #[serde(with = "written")]
    pub target: PathBuf,
    /// The new tree.
    #[serde(with = "written")]
    pub staged: PathBuf,
    /// Where the old one goes.
    #[serde(with = "written")]
    pub aside: PathBuf,
    /// How.
    pub method: SwapMethod,
    /// Whether a file system is mounted at the target: one that is missing after a restart is not an empty one.
    is_mount: bool,
    /// Inode of the directory that holds the target; none where there was none.
    #[serde(default)]
    parent_inode: Option<u64>,
    /// Inode of the new tree, once it is complete. Without its device, whose number may be another after a restart; old
    /// and new are in one file system.
    staged_inode: Option<u64>,
}

/// What is called before each rename; its failure stops the swap there, as a crash would.
type Step<'a> = &'a mut dyn FnMut() -> io::Result<()>;

fn failed<'a, E: Into<io::Error>>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(E) -> SwapError + 'a {
    move |error| SwapError { action, path: path.to_owned(), source: error.into() }
}

/// Plan where a new tree for `target` is staged. `tag` makes the names unique.
pub fn plan(target: &Path, tag: &str) -> Result<SwapPlan, SwapError> {
    // A link to a directory was followed when it was backed up, so what it leads to is replaced.
    let target = match fs::canonicalize(target) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Ok(away) = fs::read_link(target) {
                let away = mounts::shown(&away);
                let reason =
                    format!("it is a link to {away}, which is not there: is that mounted?");
                return Err(SwapError::new("replace", target, reason));
            }
            target.to_owned()
        }
        Err(error) => return Err(failed("examine", target)(error)),
    };
    if let Some(point) = mounted_below(&target).map_err(failed("examine", &target))? {
        let point = mounts::shown(&point);
        let reason = format!(
            "another file system is mounted inside it, at {point}; unmount that, or restore into a directory and copy"
        );
        return Err(SwapError::new("replace", &target, reason));
    }
    let is_mount = is_mount_point(&target).map_err(failed("examine", &target))?;
    let method = if is_mount || target.is_dir() && !is_parent_writable(&target)? {
        SwapMethod::Entries
    } else {
        SwapMethod::Rename
    };
    let Some((staged, aside)) = names_for(&target, method, tag) else {
        return Err(SwapError::new("replace", &target, "it has no parent directory"));
    };
    let parent_inode = target.parent().and_then(directory_inode);
    Ok(SwapPlan { staged, aside, target, method, is_mount, parent_inode, staged_inode: None })
}

/// Where the new tree is made and where the old one goes: beside the target, or inside it.
fn names_for(target: &Path, method: SwapMethod, tag: &str) -> Option<(PathBuf, PathBuf)> {
    if method == SwapMethod::Entries {
        let work = target.join(format!("{RESTORE}{tag}"));
        return Some((work.join("new"), work.join("old")));
    }
    let (parent, name) = (target.parent()?, target.file_name()?);
    let beside = |what: &str| {
        let mut beside = std::ffi::OsString::from(format!("{what}{tag}-"));
        beside.push(name);
        parent.join(beside)
    };
    Some((beside(RESTORE), beside(BEFORE)))
}

fn is_parent_writable(path: &Path) -> Result<bool, SwapError> {
    let Some(parent) = path.parent() else { return Ok(false) };
    let wanted = Access::WRITE_OK | Access::EXEC_OK;
    match rustix::fs::accessat(CWD, parent, wanted, AtFlags::EACCESS) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Ok(false),
        Err(error) => Err(failed("examine", parent)(error)),
    }
}

/// The inode number of what has this name, not followed; none where nothing has.
fn inode(path: &Path) -> Result<Option<u64>, SwapError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("examine", path)(error)),
    }
}

/// The inode number of a directory, links followed; none where there is none.
fn directory_inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_dir).map(|metadata| metadata.ino())
}

fn exists(path: &Path) -> Result<bool, SwapError> {
    inode(path).map(|inode| inode.is_some())
}

fn sync(directory: &Path) -> Result<(), SwapError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

/// Do something in a directory whose time is not to show it.
fn keeping_time(
    directory: &Path,
    work: impl FnOnce() -> Result<(), SwapError>,
) -> Result<(), SwapError> {
    let open = File::open(directory).map_err(failed("open", directory))?;
    let modified = open
        .metadata()
        .and_then(|metadata| metadata.modified())
        .map_err(failed("examine", directory))?;
    work()?;
    open.set_modified(modified).map_err(failed("set the time of", directory))
}

/// Rename, replacing nothing.
fn rename_new(from: &Path, to: &Path) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some network file systems do not know the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::statat(CWD, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::rename(from, to),
                Err(error) => Err(error),
            }
        }
        other => other,
    }
}

impl SwapPlan {
    /// The directory in which the new tree is made, and its name there.
    pub fn staging_parent(&self) -> &Path {
        self.staged.parent().unwrap_or(&self.staged)
    }

    /// Make that directory.
    pub fn prepare(&self) -> Result<(), SwapError> {
        let parent = self.staging_parent();
        if self.method == SwapMethod::Rename {
            return fs::create_dir_all(parent).map_err(failed("create", parent));
        }
        match DirBuilder::new().mode(0o700).create(parent) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map_err(failed("create", parent)),
        }
    }

    /// The new tree is complete: from now on it can be told from the old one.
    pub fn staged_is_complete(&mut self) -> Result<(), SwapError> {
        self.staged_inode = inode(&self.staged)?;
        if self.staged_inode.is_none() {
            return Err(failed("examine", &self.staged)(Errno::NOENT));
        }
        Ok(())
    }

    /// Whether [`plan`] would have chosen these names for this target and tag. What a file says is believed only then.
    pub fn is_named_for(&self, tag: &str) -> bool {
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let Self { target, staged, aside, method, .. } = self;
        target.is_absolute()
            && target.components().all(is_plain)
            && names_for(target, *method, tag).as_ref() == Some(&(staged.clone(), aside.clone()))
    }

    /// Take the half-made new tree away; the target was not touched. Refused when it was.
    pub fn abandon(&self) -> Result<(), SwapError> {
        let Self { staged, aside, .. } = self;
        let is_old = "the old state is there: the swap has begun, and must be finished";
        if self.method == SwapMethod::Rename {
            self.ensure_same_parent()?;
            let at_staged = inode(staged)?;
            let is_known = at_staged.is_some() && self.staged_inode.is_some();
            if is_known && at_staged != self.staged_inode {
                return Err(SwapError::new("remove", staged, is_old));
            }
            return remove::remove(staged).map_err(failed("remove", staged));
        }
        self.ensure_mounted()?;
        if exists(aside)? && !entries::names(aside)?.is_empty() {
            return Err(SwapError::new("remove", aside, is_old));
        }
        self.remove_work()
    }

    /// Remove the old state that was set aside. Refused while the swap is not done.
    pub fn remove_aside(&self) -> Result<(), SwapError> {
        self.ensure_done("remove")?;
        match self.method {
            SwapMethod::Rename => {
                remove::remove(&self.aside).map_err(failed("remove", &self.aside))
            }
            SwapMethod::Entries => self.remove_work(),
        }
    }

    /// Keep the old state that was set aside, under a name that later swaps leave alone; returns where it is, or nothing
    /// where there was none. Refused while the swap is not done.
    pub fn keep_aside(&self) -> Result<Option<PathBuf>, SwapError> {
        let Self { target, aside, .. } = self;
        self.ensure_done("keep")?;
        let kept = self.kept_aside();
        if self.method == SwapMethod::Entries {
            if exists(aside)? && !entries::names(aside)?.is_empty() {
                keeping_time(target, || {
                    rename_new(aside, &kept).map_err(failed("keep", aside))?;
                    sync(target)
                })?;
            }
            self.remove_work()?;
        }
        Ok(exists(&kept)?.then_some(kept))
    }

    /// Where [`SwapPlan::keep_aside`] keeps the old state.
    fn kept_aside(&self) -> PathBuf {
        let Self { target, aside, .. } = self;
        let work = self.staging_parent().file_name().and_then(std::ffi::OsStr::to_str);
        match work.and_then(|name| name.strip_prefix(RESTORE)) {
            Some(tag) if self.method == SwapMethod::Entries => {
                target.join(format!("{BEFORE}{tag}"))
            }
            _ => aside.clone(),
        }
    }

    fn ensure_done(&self, action: &'static str) -> Result<(), SwapError> {
        self.ensure_mounted()?;
        if exists(&self.staged)? {
            return Err(SwapError::new(action, &self.aside, "the swap is not finished"));
        }
        if !exists(&self.target)? {
            let reason = "what was restored is not there: is the file system mounted?";
            return Err(SwapError::new(action, &self.aside, reason));
        }
        Ok(())
    }

    fn ensure_mounted(&self) -> Result<(), SwapError> {
        let target = &self.target;
        if self.is_mount && !is_mount_point(target).map_err(failed("examine", target))? {
            let reason = "its file system is not mounted: mount it, and the swap goes on";
            return Err(SwapError::new("swap the entries of", target, reason));
        }
        Ok(())
    }

    /// What was made beside the target can only be looked for where it was made.
    fn ensure_same_parent(&self) -> Result<(), SwapError> {
        let parent = self.staging_parent();
        if self.parent_inode.is_none() || self.parent_inode == directory_inode(parent) {
            return Ok(());
        }
        let reason =
            "it is not the directory in which the restore began: is its file system mounted?";
        Err(SwapError::new("look for what a restore has left in", parent, reason))
    }

    /// Remove our directory inside the target.
    fn remove_work(&self) -> Result<(), SwapError> {
        let work = self.staging_parent();
        if !exists(work)? {
            return Ok(());
        }
        keeping_time(&self.target, || remove::remove(work).map_err(failed("remove", work)))
    }

    /// Swap, or finish a swap that was interrupted. Done already, it does nothing.
    pub fn execute(&self) -> Result<(), SwapError> {
        self.execute_with(true, &mut || Ok(()))
    }

    fn execute_with(&self, can_exchange: bool, before_move: Step<'_>) -> Result<(), SwapError> {
        match self.method {
            SwapMethod::Rename => self.rename(can_exchange, before_move),
            SwapMethod::Entries => self.move_entries(before_move),
        }
    }

    fn rename(&self, can_exchange: bool, before_move: Step<'_>) -> Result<(), SwapError> {
        let Self { target, staged, aside, staged_inode: new, .. } = self;
        if new.is_none() {
            return Err(SwapError::new("put in place", staged, "the new tree is not complete"));
        }
        let mut step = |path: &Path| before_move().map_err(failed("move", path));
        match (inode(target)?, inode(staged)?) {
            // Done already, also where somebody has replaced the new tree since: the old one was set aside.
            (Some(in_place), None) if Some(in_place) == *new || exists(aside)? => {
                return sync(self.staging_parent());
            }
            (_, None) => {
                let reason = "the new tree that was made there is gone";
                return Err(SwapError::new("put in place", staged, reason));
            }
            // Exchanged already.
            (in_place, Some(_)) if in_place == *new => {}
            (_, at_staged) if at_staged != *new => {
                let reason = "it is not the tree that was made there";
                return Err(SwapError::new("put in place", staged, reason));
            }
            (None, Some(_)) => {
                step(staged)?;
                rename_new(staged, target).map_err(failed("put in place", target))?;
                return sync(self.staging_parent());
            }
            (Some(_), Some(_)) => {
                step(target)?;
                let exchanged = if can_exchange {
                    rustix::fs::renameat_with(CWD, staged, CWD, target, RenameFlags::EXCHANGE)
                } else {
                    Err(Errno::INVAL)
                };
                match exchanged {
                    // Some file systems cannot: two steps, and a crash between them is finished from here.
                    Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                        rename_new(target, aside).map_err(failed("set aside", target))?;
                        step(staged)?;
                        rename_new(staged, target).map_err(failed("put in place", target))?;
                        return sync(self.staging_parent());
                    }
                    other => other.map_err(failed("exchange", target))?,
                }
                sync(self.staging_parent())?;
            }
        }
        // The old tree has the staged one's name now.
        step(staged)?;
        rename_new(staged, aside).map_err(failed("set aside", target))?;
        sync(self.staging_parent())
    }
}

#[cfg(test)]
mod tests;
