//! Putting a finished tree in the place of another, so that a crash leaves the old one or the new one, or what a second
//! call finishes.
//!
//! Usually both are exchanged in one step. Where the target is a mount point, which cannot be renamed, its entries are
//! moved one by one, and a mark says which half has begun.

use rustix::fs::{AtFlags, CWD, Gid, Mode, RenameFlags, StatxAttributes, StatxFlags, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The half of moving entries that takes the old ones away is done.
const MARK: &str = "old-is-aside";

/// A swap failed; calling it again goes on where it stopped.
#[derive(Debug, thiserror::Error)]
#[error("could not {action} {path}: {source}", path = path.display())]
pub struct SwapError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
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
    pub target: PathBuf,
    /// The new tree.
    pub staged: PathBuf,
    /// Where the old one goes.
    pub aside: PathBuf,
    /// How.
    pub method: SwapMethod,
    /// Device and inode of the new tree, once it is complete.
    staged_id: Option<(u64, u64)>,
}

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
        Err(error) if error.kind() == io::ErrorKind::NotFound => target.to_owned(),
        Err(error) => return Err(failed("examine", target)(error)),
    };
    let named = |what: &str| format!(".belay-{what}-{tag}");
    if is_mount_point(&target).map_err(failed("examine", &target))? {
        let work = target.join(named("restore"));
        let (staged, aside) = (work.join("new"), work.join("old"));
        return Ok(SwapPlan {
            target,
            staged,
            aside,
            method: SwapMethod::Entries,
            staged_id: None,
        });
    }
    let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it has no parent directory");
        return Err(SwapError { action: "replace", path: target, source });
    };
    let beside = |what: &str| {
        let mut beside = std::ffi::OsString::from(named(what));
        beside.push("-");
        beside.push(name);
        parent.join(beside)
    };
    let (staged, aside) = (beside("restore"), beside("before"));
    Ok(SwapPlan { staged, aside, target, method: SwapMethod::Rename, staged_id: None })
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Ok(_) => {
            let parent = path.parent().unwrap_or(path);
            Ok(fs::symlink_metadata(path)?.dev() != fs::metadata(parent)?.dev())
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn id_of(path: &Path) -> io::Result<Option<(u64, u64)>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync(directory: &Path) -> Result<(), SwapError> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed("sync", directory))
}

impl SwapPlan {
    /// The directory in which the new tree is made, and its name there.
    pub fn staging_parent(&self) -> &Path {
        self.staged.parent().unwrap_or(&self.staged)
    }

    /// Make that directory.
    pub fn prepare(&self) -> Result<(), SwapError> {
        let parent = self.staging_parent();
        fs::create_dir_all(parent).map_err(failed("create", parent))?;
        if self.method == SwapMethod::Entries {
            fs::set_permissions(parent, fs::Permissions::from_mode(0o700))
                .map_err(failed("close", parent))?;
        }
        Ok(())
    }

    /// The new tree is complete: from now on it can be told from the old one.
    pub fn staged_is_complete(&mut self) -> Result<(), SwapError> {
        self.staged_id = id_of(&self.staged).map_err(failed("examine", &self.staged))?;
        Ok(())
    }

    /// Take the half-made new tree away; the target was not touched.
    pub fn abandon(&self) -> Result<(), SwapError> {
        remove(if self.method == SwapMethod::Entries {
            self.staging_parent()
        } else {
            &self.staged
        })
    }

    /// Remove the old state that was set aside.
    pub fn remove_aside(&self) -> Result<(), SwapError> {
        remove(if self.method == SwapMethod::Entries { self.staging_parent() } else { &self.aside })
    }

    /// Swap, or finish a swap that was interrupted. Done already, it does nothing.
    pub fn execute(&self) -> Result<(), SwapError> {
        match self.method {
            SwapMethod::Rename => self.rename(),
            SwapMethod::Entries => self.move_entries(&mut || Ok(())),
        }
    }

    fn rename(&self) -> Result<(), SwapError> {
        let Self { target, staged, aside, .. } = self;
        let in_place = id_of(target).map_err(failed("examine", target))?;
        if in_place.is_none() || in_place != self.staged_id {
            let exchanged = match in_place {
                None => rustix::fs::renameat_with(CWD, staged, CWD, target, RenameFlags::NOREPLACE),
                Some(_) => {
                    rustix::fs::renameat_with(CWD, staged, CWD, target, RenameFlags::EXCHANGE)
                }
            };
            match exchanged {
                // Some network file systems know neither: two steps, and a crash between them is finished from here.
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    if in_place.is_some() {
                        fs::rename(target, aside).map_err(failed("set aside", target))?;
                    }
                    fs::rename(staged, target).map_err(failed("put in place", staged))?;
                }
                other => other.map_err(failed("exchange", target))?,
            }
        }
        // After an exchange the old tree has the staged one's name.
        if id_of(staged).map_err(failed("examine", staged))?.is_some() {
            fs::rename(staged, aside).map_err(failed("set aside", staged))?;
        }
        sync(self.staging_parent())
    }

    /// `before_move` is called before each rename: tests stop there.
    fn move_entries(
        &self,
        before_move: &mut dyn FnMut() -> io::Result<()>,
    ) -> Result<(), SwapError> {
        let Self { target, staged, aside, .. } = self;
        let work = self.staging_parent();
        let mark = work.join(MARK);
        if !staged.exists() {
            return Ok(());
        }
        let mut relocate = |from: &Path, to: &Path| {
            before_move()
                .and_then(|()| {
                    Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
                })
                .map_err(failed("move", from))
        };
        if !mark.exists() {
            fs::create_dir_all(aside).map_err(failed("create", aside))?;
            for name in names(target)? {
                let from = target.join(&name);
                if from != work {
                    relocate(&from, &aside.join(&name))?;
                }
            }
            sync(aside)?;
            sync(target)?;
            File::create_new(&mark).map_err(failed("create", &mark))?;
            sync(work)?;
        }
        for name in names(staged)? {
            relocate(&staged.join(&name), &target.join(&name))?;
        }
        copy_metadata(staged, target).map_err(failed("set the metadata of", target))?;
        sync(target)?;
        fs::remove_dir(staged).map_err(failed("remove", staged))?;
        fs::remove_file(&mark).map_err(failed("remove", &mark))?;
        sync(work)
    }
}

fn names(directory: &Path) -> Result<Vec<std::ffi::OsString>, SwapError> {
    let list = || {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
    };
    list().map_err(failed("list", directory))
}

/// The mount point itself stays, so it takes over owner, mode and time of the root that was restored.
fn copy_metadata(from: &Path, to: &Path) -> io::Result<()> {
    let metadata = fs::metadata(from)?;
    let owner = (Some(Uid::from_raw(metadata.uid())), Some(Gid::from_raw(metadata.gid())));
    match rustix::fs::chownat(CWD, to, owner.0, owner.1, AtFlags::empty()) {
        Err(Errno::PERM) if !rustix::process::geteuid().is_root() => {}
        other => other?,
    }
    rustix::fs::chmod(to, Mode::from_raw_mode(metadata.mode() & 0o7777))?;
    File::open(to)?.set_modified(metadata.modified()?)
}

fn remove(path: &Path) -> Result<(), SwapError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(path).unwrap();
        for (name, text) in files {
            fs::write(path.join(name), text).unwrap();
        }
    }

    fn read(path: &Path) -> Vec<(String, String)> {
        let mut files: Vec<_> = names(path)
            .unwrap()
            .into_iter()
            .filter(|name| path.join(name).is_file())
            .map(|name| {
                (name.to_string_lossy().into_owned(), fs::read_to_string(path.join(name)).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    fn pairs(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_tree_takes_the_place_of_another_and_again_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("t");
        tree(&target, &[("a", "old")]);
        let mut swap = plan(&target, "j").unwrap();
        assert_eq!(swap.method, SwapMethod::Rename);
        swap.prepare().unwrap();
        tree(&swap.staged, &[("a", "new"), ("b", "new")]);
        swap.staged_is_complete().unwrap();
        for _ in 0..2 {
            swap.execute().unwrap();
            assert_eq!(read(&target), pairs(&[("a", "new"), ("b", "new")]));
            assert_eq!(read(&swap.aside), pairs(&[("a", "old")]));
        }
        swap.remove_aside().unwrap();
        assert_eq!(names(directory.path()).unwrap(), ["t"]);
    }

    #[test]
    fn a_missing_target_is_made() {
        let directory = tempfile::tempdir().unwrap();
        let mut swap = plan(&directory.path().join("t"), "j").unwrap();
        tree(&swap.staged, &[("a", "new")]);
        swap.staged_is_complete().unwrap();
        swap.execute().unwrap();
        swap.execute().unwrap();
        assert_eq!(read(&directory.path().join("t")), pairs(&[("a", "new")]));
        assert!(!swap.aside.exists());
    }

    #[test]
    fn a_crash_between_exchange_and_setting_aside_is_finished() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("t");
        tree(&target, &[("a", "old")]);
        let mut swap = plan(&target, "j").unwrap();
        tree(&swap.staged, &[("a", "new")]);
        swap.staged_is_complete().unwrap();
        rustix::fs::renameat_with(CWD, &swap.staged, CWD, &target, RenameFlags::EXCHANGE).unwrap();
        swap.execute().unwrap();
        assert_eq!(read(&target), pairs(&[("a", "new")]));
        assert_eq!(read(&swap.aside), pairs(&[("a", "old")]));
    }

    #[test]
    fn moving_entries_is_finished_after_a_stop_before_any_of_them() {
        let old = [("a", "old"), ("b", "old"), ("c", "old")];
        let new = [("b", "new"), ("d", "new")];
        for stop_before in 0..=6 {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("t");
            tree(&target, &old);
            let work = target.join(".belay-restore-j");
            let (staged, aside) = (work.join("new"), work.join("old"));
            tree(&staged, &new);
            let (method, staged_id) = (SwapMethod::Entries, None);
            let swap = SwapPlan { target: target.clone(), staged, aside, method, staged_id };
            let mut moves = 0;
            let stopped = swap.move_entries(&mut || {
                moves += 1;
                if moves > stop_before { Err(io::Error::other("stopped")) } else { Ok(()) }
            });
            assert_eq!(stopped.is_err(), stop_before < 5);
            // After a crash at any point nothing is lost: old and new together have every entry.
            swap.execute().unwrap();
            assert_eq!(read(&target), pairs(&new));
            assert_eq!(read(&swap.aside), pairs(&old));
            swap.remove_aside().unwrap();
            assert_eq!(read(&target), pairs(&new));
            assert_eq!(names(&target).unwrap().len(), 2);
        }
    }
}
