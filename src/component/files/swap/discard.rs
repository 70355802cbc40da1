//! Giving the old tree up before the new one is there, for when there is no room for both.
//!
//! First it is only moved out of the way, which can be taken back; what deletes it is a step of its own, between which a
//! journal can say that there is no way back any more.

use super::entries::names;
use super::{
    SwapError, SwapMethod, SwapPlan, exists, failed, keeping_time, remove, rename_new, sync,
};
use std::fs::File;
use std::path::Path;

impl SwapPlan {
    /// Move the old tree out of the way. Nothing is deleted.
    pub fn take_away(&self) -> Result<(), SwapError> {
        let Self { target, aside, .. } = self;
        if self.method == SwapMethod::Entries {
            self.ensure_mounted()?;
            self.prepare()?;
            return self.set_old_aside(&mut || Ok(()));
        }
        if exists(target)? {
            rename_new(target, aside).map_err(failed("set aside", target))?;
        }
        self.sync_parent()
    }

    /// Move it back. Whatever came in its place meanwhile stays, and is an error.
    pub fn put_back(&self) -> Result<(), SwapError> {
        let Self { target, aside, .. } = self;
        if self.method == SwapMethod::Rename {
            self.ensure_same_parent()?;
            if exists(aside)? {
                rename_new(aside, target).map_err(failed("move back", target))?;
            }
            return self.sync_parent();
        }
        self.ensure_mounted()?;
        if exists(aside)? {
            keeping_time(target, || {
                for name in names(aside)? {
                    let to = target.join(&name);
                    rename_new(&aside.join(&name), &to).map_err(failed("move back", &to))?;
                }
                sync(target)
            })?;
        }
        self.remove_work()
    }

    /// Delete what was moved out of the way, and what there is of the new tree. There is no way back from here.
    pub fn discard(&self) -> Result<(), SwapError> {
        if self.method == SwapMethod::Entries {
            self.ensure_mounted()?;
            self.remove_work()?;
            return sync_file_system(&self.target);
        }
        self.ensure_same_parent()?;
        for path in [&self.staged, &self.aside] {
            remove::remove(path).map_err(failed("remove", path))?;
        }
        let parent = self.staging_parent();
        if exists(parent)? { sync_file_system(parent) } else { Ok(()) }
    }

    /// Where nothing is at the target, the directory that it belongs into may not be there either.
    fn sync_parent(&self) -> Result<(), SwapError> {
        let parent = self.staging_parent();
        if exists(parent)? { sync(parent) } else { Ok(()) }
    }

    /// Whether nothing is at the target that a restore would replace: no tree, or no entry in the directory that stays.
    pub fn is_nothing_there(&self) -> Result<bool, SwapError> {
        if self.method == SwapMethod::Rename {
            return Ok(!exists(&self.target)?);
        }
        Ok(names(&self.target)?.iter().all(|name| super::entries::is_ours(name)))
    }
}

/// Some file systems free what was deleted only when they write out.
fn sync_file_system(directory: &Path) -> Result<(), SwapError> {
    File::open(directory)
        .and_then(|directory| Ok(rustix::fs::syncfs(directory)?))
        .map_err(failed("sync", directory))
}
