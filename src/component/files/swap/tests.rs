//! A swap is done or finished, wherever it stops, and nothing is lost.

mod watching;

use super::entries::names;
use super::remove::remove;
use super::*;
use rustix::mount::{MountFlags, UnmountFlags};
use std::os::unix::fs::PermissionsExt as _;

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

/// A plan for `target` whose new tree is complete.
fn staged(target: &Path) -> SwapPlan {
    let mut swap = plan(target, "j").unwrap();
    tree(&swap.staged, &[("a", "new")]);
    swap.staged_is_complete().unwrap();
    swap
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
    let swap = staged(&directory.path().join("t"));
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
    let swap = staged(&target);
    rustix::fs::renameat_with(CWD, &swap.staged, CWD, &target, RenameFlags::EXCHANGE).unwrap();
    swap.execute().unwrap();
    assert_eq!(read(&target), pairs(&[("a", "new")]));
    assert_eq!(read(&swap.aside), pairs(&[("a", "old")]));
}

/// Stops before the rename of this number, counted from 0.
fn stop_before(number: usize) -> impl FnMut() -> io::Result<()> {
    let mut moves = 0;
    move || {
        moves += 1;
        if moves > number { Err(io::Error::other("stopped")) } else { Ok(()) }
    }
}

#[test]
fn a_rename_is_finished_after_a_stop_before_any_step() {
    for (can_exchange, old) in [(true, true), (false, true), (true, false), (false, false)] {
        let steps = if old { 2 } else { 1 };
        for stop in 0..=steps {
            let directory = tempfile::tempdir().unwrap();
            let target = directory.path().join("t");
            if old {
                tree(&target, &[("a", "old")]);
            }
            let swap = staged(&target);
            let stopped = swap.execute_with(can_exchange, &mut stop_before(stop));
            assert_eq!(stopped.is_err(), stop < steps, "{can_exchange} {old} {stop}");
            // As after a restart: from the journal.
            let swap: SwapPlan =
                serde_json::from_str(&serde_json::to_string(&swap).unwrap()).unwrap();
            for _ in 0..2 {
                swap.execute_with(can_exchange, &mut || Ok(())).unwrap();
                assert_eq!(read(&target), pairs(&[("a", "new")]));
                assert_eq!(swap.aside.exists(), old);
            }
            assert!(!old || read(&swap.aside) == pairs(&[("a", "old")]));
        }
    }
}

#[test]
fn what_is_not_finished_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old")]);
    let mut swap = plan(&target, "j").unwrap();
    tree(&swap.staged, &[("a", "new")]);
    assert!(swap.execute().is_err(), "the new tree is not known to be complete");
    swap.staged_is_complete().unwrap();
    swap.execute_with(true, &mut stop_before(1)).unwrap_err();
    assert!(swap.abandon().is_err(), "what is staged is the old tree by now");
    assert!(swap.remove_aside().is_err());
    assert_eq!(read(&swap.staged), pairs(&[("a", "old")]));
    swap.execute().unwrap();
    swap.remove_aside().unwrap();
    assert_eq!(names(directory.path()).unwrap(), ["t"]);
}

#[test]
fn a_new_tree_that_went_missing_is_an_error_and_the_old_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    let mut swap = staged(&target);
    fs::rename(&swap.staged, directory.path().join("elsewhere")).unwrap();
    assert!(swap.execute().is_err());
    // Another tree under the staged one's name is not taken for it.
    tree(&swap.staged, &[("b", "other")]);
    assert!(swap.execute().unwrap_err().to_string().contains("not the tree that was made there"));
    assert!(swap.staged_is_complete().is_ok());
}

#[test]
fn a_new_tree_that_somebody_removed_is_not_taken_for_put_in_place() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old")]);
    let swap = staged(&target);
    fs::rename(&swap.staged, directory.path().join("elsewhere")).unwrap();
    assert!(swap.execute().unwrap_err().to_string().contains("is gone"));
    assert_eq!(read(&target), pairs(&[("a", "old")]));
    // But when it was put in place, whatever its owner does to it later is the owner's.
    fs::rename(directory.path().join("elsewhere"), &swap.staged).unwrap();
    swap.execute().unwrap();
    fs::rename(&target, directory.path().join("elsewhere")).unwrap();
    tree(&target, &[("a", "later")]);
    swap.execute().unwrap();
    assert_eq!(read(&target), pairs(&[("a", "later")]));
}

/// A swap by entries in a directory that can be renamed, which makes no difference.
fn entries_swap(target: &Path, new: &[(&str, &str)]) -> SwapPlan {
    entries_swap_named(target, "j", new)
}

fn entries_swap_named(target: &Path, tag: &str, new: &[(&str, &str)]) -> SwapPlan {
    let (method, is_mount) = (SwapMethod::Entries, false);
    let (parent_inode, staged_inode) = (None, None);
    let (staged, aside) = names_for(target, method, tag).unwrap();
    let target = target.to_owned();
    let swap = SwapPlan { target, staged, aside, method, is_mount, parent_inode, staged_inode };
    swap.prepare().unwrap();
    tree(&swap.staged, new);
    swap
}

#[test]
fn moving_entries_is_finished_after_a_stop_before_any_of_them() {
    let old = [("a", "old"), ("b", "old"), ("c", "old")];
    let new = [("b", "new"), ("d", "new")];
    for stop in 0..=6 {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("t");
        tree(&target, &old);
        let swap = entries_swap(&target, &new);
        let stopped = swap.execute_with(true, &mut stop_before(stop));
        assert_eq!(stopped.is_err(), stop < 5);
        // Nothing is lost at that point: old and new together have every entry.
        let count = |path: &Path| if path.exists() { read(path).len() } else { 0 };
        assert_eq!(count(&target) + count(&swap.aside) + count(&swap.staged), 5);
        assert_eq!(swap.abandon().is_err(), stop > 0, "{stop}: never throws the old state away");
        if stop == 0 {
            assert_eq!(read(&target), pairs(&old));
            continue;
        }
        swap.execute().unwrap();
        swap.execute().unwrap();
        assert_eq!(read(&target), pairs(&new));
        assert_eq!(read(&swap.aside), pairs(&old));
        swap.remove_aside().unwrap();
        swap.execute().unwrap();
        assert_eq!(read(&target), pairs(&new));
        assert_eq!(names(&target).unwrap().len(), 2);
    }
}

#[test]
fn entries_that_somebody_makes_meanwhile_are_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old"), ("b", "old")]);
    let swap = entries_swap(&target, &[("a", "new"), ("b", "new")]);
    // A program that writes its file again as soon as it is gone.
    let file = target.join("a");
    let write_again = || if file.exists() { Ok(()) } else { fs::write(&file, "later") };
    let mut writes = 0;
    swap.execute_with(true, &mut || {
        writes += 1;
        if writes < 5 { write_again() } else { Ok(()) }
    })
    .unwrap();
    assert_eq!(read(&target), pairs(&[("a", "new"), ("b", "new")]));
    let aside = read(&swap.aside);
    assert!(aside.contains(&("a".into(), "old".into())), "{aside:?}");
    assert!(aside.contains(&("a~1".into(), "later".into())), "{aside:?}");
}

#[test]
fn an_entry_that_comes_after_the_listing_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old")]);
    let swap = entries_swap(&target, &[("a", "new")]);
    let late = target.join("late");
    let mut moves = 0;
    swap.execute_with(true, &mut || {
        moves += 1;
        if moves == 1 { fs::write(&late, "old") } else { Ok(()) }
    })
    .unwrap();
    assert_eq!(read(&target), pairs(&[("a", "new")]));
    assert_eq!(read(&swap.aside), pairs(&[("a", "old"), ("late", "old")]));
}

#[test]
fn what_is_kept_stays_where_it_is_when_the_next_is_swapped_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "first")]);
    let swap = entries_swap_named(&target, "1", &[("a", "second")]);
    assert!(swap.keep_aside().is_err(), "the swap is not done");
    swap.execute().unwrap();
    let time = fs::metadata(&target).unwrap().modified().unwrap();
    let kept = target.join(".belay-before-1");
    for _ in 0..2 {
        assert_eq!(swap.keep_aside().unwrap(), Some(kept.clone()));
        assert_eq!(names(&target).unwrap().len(), 2, "our own directory is gone");
    }
    assert_eq!(fs::metadata(&target).unwrap().modified().unwrap(), time);
    let swap = entries_swap_named(&target, "2", &[("a", "third")]);
    swap.execute().unwrap();
    swap.remove_aside().unwrap();
    assert_eq!(read(&target), pairs(&[("a", "third")]));
    assert_eq!(read(&kept), pairs(&[("a", "first")]));
    let empty = directory.path().join("empty");
    tree(&empty, &[]);
    let nothing = entries_swap_named(&empty, "3", &[("a", "new")]);
    nothing.execute().unwrap();
    assert_eq!(nothing.keep_aside().unwrap(), None, "there was nothing to keep");
}

#[test]
fn only_the_names_that_a_plan_would_choose_are_believed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old")]);
    for swap in [plan(&target, "j").unwrap(), entries_swap(&target, &[])] {
        assert!(swap.is_named_for("j") && !swap.is_named_for("k"));
        let elsewhere = PathBuf::from("/etc");
        assert!(!SwapPlan { staged: elsewhere.clone(), ..swap.clone() }.is_named_for("j"));
        assert!(!SwapPlan { aside: elsewhere.clone(), ..swap.clone() }.is_named_for("j"));
        assert!(!SwapPlan { target: elsewhere, ..swap.clone() }.is_named_for("j"));
        let mut up = plan(&target.join("x/../y"), "j").unwrap();
        up.method = swap.method;
        assert!(!up.is_named_for("j"), "a way up may lead anywhere");
    }
}

#[test]
fn the_directory_that_stays_takes_over_the_metadata_of_the_restored_root() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("t");
    tree(&target, &[("a", "old")]);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&target, "user.old", b"1", flags).unwrap();
    let swap = entries_swap(&target, &[("a", "new")]);
    rustix::fs::setxattr(&swap.staged, "user.new", b"2", flags).unwrap();
    fs::set_permissions(&swap.staged, fs::Permissions::from_mode(0o2751)).unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000, 7);
    File::open(&swap.staged).unwrap().set_modified(time).unwrap();
    swap.execute().unwrap();
    swap.remove_aside().unwrap();
    let metadata = fs::metadata(&target).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o2751);
    assert_eq!(metadata.modified().unwrap(), time, "also after our directory in it is gone");
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(&target, "user.new", &mut value), Ok(1));
    assert_eq!(rustix::fs::getxattr(&target, "user.old", &mut value), Err(Errno::NODATA));
}

#[test]
fn a_mount_point_without_its_file_system_is_not_taken_for_done() {
    let directory = tempfile::tempdir().unwrap();
    let mut swap = entries_swap(directory.path(), &[]);
    swap.is_mount = true;
    let results =
        [swap.execute(), swap.abandon(), swap.remove_aside(), swap.keep_aside().map(drop)];
    for result in results {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("not mounted"), "{error}");
    }
}

#[test]
fn mount_points_are_swapped_by_entries_and_what_holds_one_not_at_all() {
    assert_eq!(
        plan(Path::new("/proc/sys/fs/binfmt_misc"), "j").is_ok_and(|plan| plan.is_mount),
        is_mount_point(Path::new("/proc/sys/fs/binfmt_misc")).unwrap()
    );
    let error = plan(Path::new("/"), "j").unwrap_err();
    assert!(error.to_string().contains("mounted inside it"), "{error}");
}

#[test]
fn deep_and_closed_trees_are_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (root, outside) = (directory.path().join("t"), directory.path().join("outside"));
    tree(&root, &[("removed-1", "in the way")]);
    tree(&outside, &[("kept", "")]);
    std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
    let mut parent = File::open(&root).unwrap();
    let mut parents = Vec::new();
    for _ in 0..2000 {
        rustix::fs::mkdirat(&parent, "d", 0o700.into()).unwrap();
        let flags = rustix::fs::OFlags::RDONLY;
        let child = File::from(rustix::fs::openat(&parent, "d", flags, 0.into()).unwrap());
        rustix::fs::symlinkat("/", &child, "root").unwrap();
        parents.push(std::mem::replace(&mut parent, child));
        // Only so many open here, too.
        if parents.len() > 10 {
            let closed = parents.remove(0);
            closed.set_permissions(fs::Permissions::from_mode(0o500)).unwrap();
        }
    }
    remove(&root).unwrap();
    remove(&root).unwrap();
    assert_eq!(names(directory.path()).unwrap(), ["outside"]);
    assert_eq!(names(&outside).unwrap(), ["kept"]);
}

#[test]
fn where_a_tree_was_begun_is_told_from_a_place_that_is_not_mounted() {
    let directory = tempfile::tempdir().unwrap();
    let disk = directory.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Mounted::at(&disk);
    tree(&disk.join("t"), &[("a", "old")]);
    let swap = plan(&disk.join("t"), "j").unwrap();
    tree(&swap.staged, &[("a", "half")]);
    drop(mounted);
    for result in [swap.abandon(), swap.put_back(), swap.discard()] {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("is its file system mounted?"), "{error}");
    }
    fs::remove_dir(&disk).unwrap();
    assert!(swap.abandon().is_err());
}

#[test]
fn what_is_taken_away_comes_back_or_is_deleted_and_again_changes_nothing() {
    for entries in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("t");
        let make = |tag: &str| {
            let method = if entries { SwapMethod::Entries } else { SwapMethod::Rename };
            let (staged, aside) = names_for(&target, method, tag).unwrap();
            let target = target.clone();
            SwapPlan {
                target,
                staged,
                aside,
                method,
                is_mount: false,
                parent_inode: None,
                staged_inode: None,
            }
        };
        tree(&target, &[("a", "old"), ("b", "old")]);
        let swap = make("1");
        swap.put_back().unwrap();
        swap.take_away().unwrap();
        assert!(swap.is_nothing_there().unwrap(), "{entries}");
        assert_eq!(read(&swap.aside), pairs(&[("a", "old"), ("b", "old")]));
        for _ in 0..2 {
            swap.put_back().unwrap();
            assert_eq!(read(&target), pairs(&[("a", "old"), ("b", "old")]), "{entries}");
        }
        swap.take_away().unwrap();
        // What takes its place meanwhile is not replaced.
        tree(&target, &[("a", "late")]);
        assert!(swap.put_back().is_err());
        assert_eq!(fs::read_to_string(target.join("a")).unwrap(), "late");
        assert_eq!(fs::read_to_string(swap.aside.join("a")).unwrap(), "old");
        remove(&target.join("a")).unwrap();
        for _ in 0..2 {
            swap.discard().unwrap();
            assert!(!swap.aside.exists(), "{entries}");
        }
        let mut swap = make("2");
        swap.prepare().unwrap();
        tree(&swap.staged, &[("a", "new")]);
        swap.staged_is_complete().unwrap();
        swap.execute().unwrap();
        assert_eq!(read(&target), pairs(&[("a", "new")]), "{entries}");
    }
}

/// A file system in memory; unmounted with this handle. Without a program that does it: one that is being started holds
/// the locks of all threads for a moment.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: &Path) -> Self {
        rustix::mount::mount("none", place, "tmpfs", MountFlags::empty(), None)
            .expect("this is root: tests/run says so");
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

#[test]
fn what_was_mounted_in_a_tree_meanwhile_is_not_removed_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("a/mounted")).unwrap();
    for place in [tree.join("a/mounted"), tree.join("a")] {
        let _mounted = Mounted::at(&place);
        fs::write(place.join("precious"), b"precious").unwrap();
        assert!(remove(&tree).is_err());
        assert_eq!(fs::read(place.join("precious")).unwrap(), b"precious");
    }
    remove(&tree).unwrap();
    assert!(!tree.exists());
}

#[test]
fn a_plan_is_written_exactly_and_text_stays_text() {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = tempfile::tempdir().unwrap();
    for name in [&b"a\n\"b"[..], b"a\xff\xc3"] {
        let target = directory.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(&target, "old").unwrap();
        let plan = plan(&target, "j").unwrap();
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["target"].as_str(), target.to_str());
        assert_eq!(serde_json::from_value::<SwapPlan>(json).unwrap(), plan);
    }
}

#[test]
fn a_link_to_what_is_not_there_is_not_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    std::os::unix::fs::symlink(directory.path().join("away"), &target).unwrap();
    let error = plan(&target, "j").unwrap_err();
    assert!(error.to_string().contains("is that mounted?"), "{error}");
}
