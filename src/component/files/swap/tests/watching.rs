//! Whatever changes in an old tree after a moment is seen once it is set aside, and nothing else is.

use super::*;
use crate::component::files::swap::watch::{self, Watch};

type Change = fn(&Path);

/// Something that a program may do to a tree, and the path that shows it.
const CHANGES: [(&str, Change); 9] = [
    ("d/e/f", |t| fs::write(t.join("d/e/f"), "later").unwrap()),
    ("d/e/new", |t| fs::write(t.join("d/e/new"), "").unwrap()),
    ("d/moved", |t| fs::rename(t.join("a"), t.join("d/moved")).unwrap()),
    ("d/e", |t| fs::remove_file(t.join("d/e/f")).unwrap()),
    ("a", |t| fs::set_permissions(t.join("a"), fs::Permissions::from_mode(0o600)).unwrap()),
    ("a", |t| fs::write(t.join("a"), "longer than before").unwrap()),
    ("top", |t| fs::write(t.join("top"), "").unwrap()),
    ("link", |t| std::os::unix::fs::symlink("a", t.join("link")).unwrap()),
    // Its time is set back, which is a change, too.
    ("d/e/f", |t| {
        let file = File::options().write(true).open(t.join("d/e/f")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    }),
];

/// Old trees of both methods, with the new ones beside.
fn swaps(directory: &Path) -> Vec<SwapPlan> {
    let old = |name: &str| {
        let target = directory.join(name);
        tree(&target, &[("a", "old")]);
        tree(&target.join("d/e"), &[("f", "old")]);
        target
    };
    let mut whole = plan(&old("whole"), "j").unwrap();
    tree(&whole.staged, &[("a", "new")]);
    whole.staged_is_complete().unwrap();
    vec![whole, entries_swap(&old("entries"), &[("a", "new")])]
}

/// Waits until the file system's clock has moved on from everything made so far.
fn wait_for_the_clock(swap: &SwapPlan) {
    let start = Watch::begin(swap).unwrap();
    while start.is_same_moment(&Watch::begin(swap).unwrap()) {}
}

#[test]
fn every_change_after_the_moment_is_seen_and_none_before() {
    let directory = tempfile::tempdir().unwrap();
    for swap in swaps(directory.path()) {
        wait_for_the_clock(&swap);
        let mut watch = Watch::begin(&swap).unwrap();
        watch.look(&swap);
        swap.execute().unwrap();
        assert_eq!(watch.first_change(&swap), None, "{:?}", swap.method);
        swap.remove_aside().unwrap();
        assert_eq!(watch.first_change(&swap), None, "nothing is there");
    }
    for (shown, change) in CHANGES {
        // Before the swap, and between the last look and the swap.
        for is_late in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            for swap in swaps(directory.path()) {
                wait_for_the_clock(&swap);
                let mut watch = Watch::begin(&swap).unwrap();
                if is_late {
                    watch.look(&swap);
                    change(&swap.target);
                } else {
                    change(&swap.target);
                    watch.look(&swap);
                }
                swap.execute().unwrap();
                let found = watch.first_change(&swap);
                // It may show in a directory above first.
                let is_expected =
                    found.as_ref().is_some_and(|found| swap.aside.join(shown).starts_with(found));
                assert!(is_expected, "{shown} {is_late} {:?}: {found:?}", swap.method);
            }
        }
    }
}

#[test]
fn the_size_of_a_tree_is_that_of_all_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let size_on_disk = |path: &Path| watch::size_on_disk(path, |_| false);
    let empty = size_on_disk(directory.path()).unwrap().taken;
    let (inner, file) = (directory.path().join("d"), directory.path().join("d/f"));
    tree(&inner, &[("f", &"x".repeat(100_000))]);
    let size = size_on_disk(directory.path()).unwrap();
    assert!((100_000..200_000).contains(&(size.taken - empty)), "{size:?} {empty}");
    assert_eq!(size.freed, size.taken);
    // A second name takes no room, and one elsewhere keeps it from being freed.
    fs::hard_link(&file, inner.join("g")).unwrap();
    assert_eq!(size_on_disk(directory.path()).unwrap(), size);
    fs::hard_link(&file, directory.path().join("elsewhere")).unwrap();
    let inner = size_on_disk(&inner).unwrap();
    assert!(inner.taken > 100_000 && inner.freed < 100_000, "{inner:?}");
    assert!(size_on_disk(&directory.path().join("none")).is_err());
}
