//! Old states that are given up because there is no room for the new ones beside them: only where a person said so, and
//! never more than that.

use super::bench::{Bench, Tree, copy_files, temporary};
use super::interrupted::{crash_when, edit};
use super::*;
use crate::ops::prune::prune;
use crate::ops::restore::free_bytes;
use crate::ops::restore::interrupted;
use crate::ops::restore::into::{self, PresentState};
use crate::ops::session::Session;
use crate::repository::prune::PruneOptions;
use rustix::mount::{MountFlags, UnmountFlags};
use std::num::NonZeroU32;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tempfile::TempDir;

const MIB: usize = 1 << 20;
/// Of the file that makes all the difference.
const LARGE: usize = 2 * MIB;

/// A file system in memory; unmounted with this handle. Without a program that does it: one that is being started holds
/// the locks of all threads for a moment.
struct Mounted(PathBuf);

impl Mounted {
    fn at(place: &Path) -> Self {
        rustix::mount::mount("none", place, "tmpfs", MountFlags::empty(), c"size=16m")
            .expect("this is root: tests/run says so");
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, UnmountFlags::DETACH).ok();
    }
}

/// Where the small disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Small {
    /// Below everything, the repository too.
    All,
    /// Below all but the repository.
    ButRepository,
    /// Mounted as the directory `one`.
    One,
}

const ALL: [Small; 3] = [Small::All, Small::ButRepository, Small::One];

/// An instance with a snapshot and a later state, on a disk that has no room for both.
struct Full {
    bench: Bench,
    snapshot: Tree,
    present: Tree,
    filler: PathBuf,
    // In this order: what is in the disk, the disk, where it is mounted.
    _disk: Mounted,
    _place: TempDir,
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(next).collect()
}

impl Full {
    fn new(small: Small) -> Self {
        let place = temporary();
        let (bench, disk) = if small == Small::One {
            let bench = Bench::new();
            let disk = Mounted::at(&bench.path("one"));
            fs::create_dir_all(bench.path("one/d/e")).unwrap();
            fs::write(bench.path("one/a"), "old a").unwrap();
            (bench, disk)
        } else {
            fs::create_dir(place.path().join("disk")).unwrap();
            fs::create_dir(place.path().join("repository")).unwrap();
            let disk = Mounted::at(&place.path().join("disk"));
            let root = TempDir::new_in(place.path().join("disk")).unwrap();
            if small == Small::ButRepository {
                symlink(place.path().join("repository"), root.path().join("repository")).unwrap();
            }
            (Bench::in_directory(root), disk)
        };
        let session = bench.session();
        fs::write(bench.path("one/large"), noise(1, LARGE)).unwrap();
        let snapshot = bench.instance_tree();
        bench.backup(&session);
        fs::write(bench.path("one/large"), noise(2, LARGE)).unwrap();
        let filler = disk.0.join("filler");
        let free = usize::try_from(free_bytes(&disk.0).unwrap()).unwrap();
        let filler =
            if small == Small::One { bench.path("one/.belay-before-filler") } else { filler };
        fs::write(&filler, vec![0; free - LARGE / 2]).unwrap();
        bench.change();
        let present = bench.present();
        Self { bench, snapshot, present, filler, _disk: disk, _place: place }
    }

    fn session(&self) -> Session {
        self.bench.session()
    }
}

impl Bench {
    /// The instance without what fills its disk.
    fn present(&self) -> Tree {
        let mut tree = self.instance_tree();
        tree.retain(|path, _| !path.contains("filler"));
        tree
    }

    /// What restores left, without what fills the disk.
    fn left(&self) -> Vec<String> {
        let mut left = self.leftovers();
        left.retain(|path| !path.contains("filler"));
        left
    }
}

fn discarding() -> IntoOptions {
    IntoOptions { discard_current: Some("the disk is full".into()), ..IntoOptions::default() }
}

#[test]
fn an_old_state_is_deleted_first_only_when_told_to() {
    for small in ALL {
        let full = Full::new(small);
        let (bench, session) = (&full.bench, full.session());
        let error = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap_err();
        assert!(error.to_string().contains("needs 2."), "{small:?}: {error}");
        assert!(error.hint().unwrap().contains("--discard-current --reason"), "{:?}", error.hint());
        assert_eq!((bench.present(), bench.left().len()), (full.present.clone(), 0), "{small:?}");

        let restored = bench.restore(&session, &discarding(), &bench.context()).unwrap();
        assert_eq!(bench.present(), full.snapshot, "{small:?}");
        let warnings = bench.warnings();
        assert!(warnings.contains("asked for: the disk is full"), "{warnings}");
        let [given_up] = &restored.given_up[..] else { panic!("{:?}", restored.given_up) };
        assert_eq!(
            (given_up.reason.as_str(), given_up.before),
            ("the disk is full", restored.before)
        );
        assert!(bench.left().is_empty() && bench.journals().is_empty(), "{:?}", bench.left());
        let deleted: Vec<bool> =
            restored.plan.replaced.iter().map(|replaced| replaced.deleted_first).collect();
        assert_eq!(deleted, [true, small != Small::One], "only where there is no room");
        if small == Small::All {
            assert_eq!(restored.plan.present_state, PresentState::Deleted);
            assert_eq!(restored.before, None);
            continue;
        }
        assert_eq!(restored.plan.present_state, PresentState::SnapshotThenDeleted);
        let before = SnapshotRef::Prefix(restored.before.unwrap().to_string());
        let (target, context) = (temporary(), bench.context());
        let target = target.path().join("target");
        to_dir((&session, None), &before, &Wanted::default(), &target, false, &context).unwrap();
        assert_eq!(fs::read(target.join("files/one/large")).unwrap(), noise(2, LARGE));
    }
}

#[test]
fn what_does_not_fit_even_then_is_refused_before_anything_is_touched() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    fs::write(bench.path("one/large"), "small now").unwrap();
    let free = usize::try_from(free_bytes(&bench.root).unwrap()).unwrap();
    fs::write(full.filler.with_extension("2"), vec![0; free - LARGE / 2]).unwrap();
    let present = bench.present();
    for options in [IntoOptions::default(), discarding()] {
        let error = bench.restore(&session, &options, &bench.context()).unwrap_err();
        assert!(!error.hint().unwrap().contains("--discard-current"), "{:?}", error.hint());
        assert_eq!((bench.present(), bench.left().len()), (present.clone(), 0));
    }
}

#[test]
fn what_an_earlier_restore_has_kept_in_a_mount_is_not_room_that_is_freed() {
    let full = Full::new(Small::One);
    let (bench, session) = (&full.bench, full.session());
    fs::write(bench.path("one/large"), "small now").unwrap();
    let free = usize::try_from(free_bytes(&bench.path("one")).unwrap()).unwrap();
    fs::write(full.filler.with_extension("2"), vec![0; free - LARGE / 2]).unwrap();
    let present = bench.present();
    let error = bench.restore(&session, &discarding(), &bench.context()).unwrap_err();
    assert!(!error.hint().unwrap().contains("--discard-current"), "{:?}", error.hint());
    assert_eq!((bench.present(), bench.journals().len()), (present, 0));
}

#[test]
fn the_last_bytes_of_a_disk_are_not_counted_upon() {
    let full = Full::new(Small::All);
    let (bench, session) = (&full.bench, full.session());
    let free = usize::try_from(free_bytes(&bench.root).unwrap()).unwrap();
    fs::write(full.filler.with_extension("2"), vec![0; free - MIB / 16]).unwrap();
    let error = bench.restore(&session, &discarding(), &bench.context()).unwrap_err();
    assert!(error.to_string().contains("and the restore needs"), "{error}");
    assert_eq!((bench.present(), bench.left().len()), (full.present, 0));
}

#[test]
fn where_the_repository_is_on_another_disk_a_snapshot_before_is_tried_whatever_is_free() {
    let full = Full::new(Small::ButRepository);
    let (bench, place) = (&full.bench, temporary());
    bench.backup(&full.session());
    let disk = Mounted::at(place.path());
    copy_files(&bench.path("repository"), &disk.0.join("repository"));
    fs::remove_file(bench.path("repository")).unwrap();
    symlink(disk.0.join("repository"), bench.path("repository")).unwrap();
    let free = usize::try_from(free_bytes(&disk.0).unwrap()).unwrap();
    fs::write(disk.0.join("filler"), vec![0; free - LARGE / 2]).unwrap();
    let session = full.session();
    // Nearly all of it is in the repository already.
    fs::write(bench.path("one/a"), "precious").unwrap();
    let restored = bench.restore(&session, &discarding(), &bench.context()).unwrap();
    assert_eq!(restored.plan.present_state, PresentState::SnapshotThenDeleted);
    let before = SnapshotRef::Prefix(restored.before.unwrap().to_string());
    let (target, context) = (temporary(), bench.context());
    let target = target.path().join("target");
    to_dir((&session, None), &before, &Wanted::default(), &target, false, &context).unwrap();
    assert_eq!(fs::read_to_string(target.join("files/one/a")).unwrap(), "precious");
    // What does not fit is deleted without one, as was asked for.
    fs::write(bench.path("one/large"), noise(3, LARGE)).unwrap();
    let restored = bench.restore(&session, &discarding(), &bench.context()).unwrap();
    assert_eq!((restored.before, restored.given_up.len()), (None, 1));
}

#[test]
fn a_directory_that_is_gone_with_the_one_that_held_it_comes_back_beside_what_is_given_up() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    fs::create_dir(bench.path("one/d/deep")).unwrap();
    fs::write(bench.path("one/d/deep/f"), "deep").unwrap();
    bench.backup(&session);
    let wanted = paths(&["/files/one/large", "/files/one/d/deep/f", "/files/two"]);
    let options = IntoOptions { wanted, ..discarding() };
    for phase in ["setting aside", "deleting"] {
        fs::remove_dir_all(bench.path("one/d")).unwrap();
        crash_when(bench, &session, &options, move |now| now == phase);
        let restored = bench.restore(&session, &options, &bench.context()).unwrap();
        assert_eq!(fs::read_to_string(bench.path("one/d/deep/f")).unwrap(), "deep");
        assert_eq!(restored.given_up.len(), 1, "{phase}");
        assert!(bench.left().is_empty() && bench.journals().is_empty(), "{:?}", bench.left());
    }
}

#[test]
fn what_cannot_be_moved_back_keeps_nothing_else_away() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    crash_when(bench, &session, &discarding(), |phase| phase == "deleting");
    let journal = bench.journals().pop().unwrap();
    edit(&journal, |entry| entry["phase"] = "taking_away".into());
    // Something made anew what is away.
    fs::create_dir(bench.path("one")).unwrap();
    bench.try_backup(&session, "data").unwrap_err();
    assert!(bench.path("two/present").exists());
    fs::remove_dir(bench.path("one")).unwrap();
    bench.try_backup(&session, "data").unwrap();
    assert_eq!(bench.present(), full.present);
}

#[test]
fn what_cannot_be_read_whole_is_known_before_anything_is_deleted() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    let repository = bench.path("repository");
    let context = bench.context_with(move |phase| {
        if phase == "verifying" {
            fs::rename(repository.join("data"), repository.join("elsewhere")).unwrap();
        }
    });
    bench.restore(&session, &discarding(), &context).unwrap_err();
    assert_eq!((bench.present(), bench.left().len()), (full.present, 0));
    assert!(bench.journals().is_empty());
}

#[test]
fn what_somebody_prunes_after_it_was_read_keeps_the_old_state() {
    for lost in ["data", "snapshots"] {
        let full = Full::new(Small::ButRepository);
        let (bench, session) = (&full.bench, full.session());
        let repository = bench.path("repository");
        let context = bench.context_with(move |phase| {
            if phase == "setting aside" {
                fs::rename(repository.join(lost), repository.join("elsewhere")).unwrap();
                fs::create_dir(repository.join(lost)).unwrap();
            }
        });
        let error = bench.restore(&session, &discarding(), &context).unwrap_err();
        let told = if lost == "data" { "repository/data/" } else { "nothing is deleted" };
        assert!(error.to_string().contains(told), "{lost}: {error}");
        assert_eq!((bench.present(), bench.left().len()), (full.present, 0), "{lost}");
        assert!(bench.journals().is_empty());
    }
}

#[test]
fn interrupted_anywhere_it_is_told_and_the_same_restore_finishes_it() {
    // The first half is before anything is deleted, and takes all of it back.
    let moments = [("restoring", 1), ("verifying", 1), ("setting aside", 1), ("deleting", 1)]
        .into_iter()
        .chain([("restoring", 2), ("swapping", 1), ("clearing", 1)]);
    // At the same time: a lock takes its time.
    std::thread::scope(|scope| {
        for (small, (phase, time)) in moments.flat_map(|moment| ALL.map(|small| (small, moment))) {
            scope.spawn(move || finished_after(small, phase, time));
        }
    });
}

/// Crash when a phase begins for the nth time, and run the same again.
fn finished_after(small: Small, phase: &'static str, time: usize) {
    let full = Full::new(small);
    let (bench, session) = (&full.bench, full.session());
    let times = AtomicUsize::new(0);
    crash_when(bench, &session, &discarding(), move |now| {
        now == phase && times.fetch_add(1, SeqCst) + 1 == time
    });
    let case = format!("{small:?} {phase} {time}");
    let told = interrupted(&bench.config.state_dir).join("\n");
    let is_missing = phase == "deleting" || time == 2;
    assert_eq!(
        told.contains("is deleted, as asked for (the disk is full)"),
        is_missing,
        "{case}: {told}"
    );
    if is_missing {
        for _ in 0..2 {
            let error = bench.try_backup(&session, "data").unwrap_err();
            assert!(error.to_string().contains("(the disk is full)"), "{case}: {error}");
            assert!(error.hint().unwrap().contains("belay restore"), "{case}");
        }
        // Not by a part of what is missing.
        let wanted = paths(&["/files/two"]);
        let options = IntoOptions { wanted, ..IntoOptions::default() };
        let error = bench.restore(&session, &options, &bench.context()).unwrap_err();
        assert!(error.to_string().contains("is deleted"), "{case}: {error}");
    } else {
        bench.try_backup(&session, "other").unwrap();
    }
    let (latest, options) = (SnapshotRef::Latest("data".into()), discarding());
    let again = into::prepare(
        &bench.config,
        &session,
        bench.instance(),
        &latest,
        &options,
        &bench.context(),
    );
    let is_done = phase == "swapping" || phase == "clearing";
    if is_done {
        assert_eq!(bench.present(), full.snapshot, "{case}");
        return;
    }
    let again = again.unwrap();
    if !is_missing {
        assert_eq!(bench.present(), full.present, "{case}");
    }
    let restored = again.execute(&bench.context()).unwrap();
    assert_eq!(bench.present(), full.snapshot, "{case}");
    assert_eq!(restored.given_up.len(), 1, "{case}: it is told, also after the second run");
    assert!(bench.left().is_empty() && bench.journals().is_empty(), "{case}: {:?}", bench.left());
    bench.backup(&session);
}

#[test]
fn a_prune_keeps_what_a_restore_that_ended_early_has_still_to_bring() {
    let mut full = Full::new(Small::ButRepository);
    let session = full.session();
    full.bench.config.instances.get_mut("data").unwrap().keep.last = NonZeroU32::new(1);
    let bench = &full.bench;
    let first = session.repository.snapshots().unwrap().readable[0].id;
    bench.backup(&session);
    let context = bench.context_with(|now| assert!(now != "deleting", "crashed on command"));
    let (snapshot, options) = (SnapshotRef::Prefix(first.to_string()), discarding());
    let restore = || {
        let (config, instance) = (&bench.config, bench.instance());
        let again = into::prepare(config, &session, instance, &snapshot, &options, &context);
        again.unwrap().execute(&context).map(drop)
    };
    assert!(catch_unwind(AssertUnwindSafe(restore)).is_err());
    let prune =
        || prune(&bench.config, &session, &PruneOptions::default(), false, &bench.context());
    let is_there =
        || session.repository.snapshots().unwrap().readable.iter().any(|it| it.id == first);
    prune().unwrap();
    assert!(is_there());
    let journal = bench.journals().pop().unwrap();
    let text = fs::read(&journal).unwrap();
    fs::write(&journal, "{}").unwrap();
    prune().unwrap();
    let warnings = bench.warnings();
    assert!(warnings.contains("its journal cannot be used") && is_there(), "{warnings}");
    fs::write(&journal, text).unwrap();
    let context = bench.context();
    let again =
        into::prepare(&bench.config, &session, bench.instance(), &snapshot, &options, &context);
    again.unwrap().execute(&context).unwrap();
    assert_eq!(bench.present(), full.snapshot);
    prune().unwrap();
    assert!(!is_there());
}

#[test]
fn a_failure_after_the_deletion_says_what_is_missing_and_how_it_comes_back() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    let (data, elsewhere) = (bench.path("repository/data"), bench.path("repository/elsewhere"));
    let (from, to) = (data.clone(), elsewhere.clone());
    let context = bench.context_with(move |phase| {
        if phase == "deleting" {
            fs::rename(&from, &to).unwrap();
        }
    });
    bench.restore(&session, &discarding(), &context).unwrap_err();
    let warnings = bench.warnings();
    assert!(warnings.contains("is deleted, as asked for (the disk is full)"), "{warnings}");
    let snapshot = session.repository.snapshots().unwrap().readable[0].id.short();
    let again = format!("Run the restore again: belay restore {snapshot} --into data. Or,");
    assert!(warnings.contains(&again), "{warnings}");
    assert!(bench.left().is_empty() && bench.journals().len() == 1);
    fs::rename(&elsewhere, &data).unwrap();
    // Something came meanwhile: it is no part of what was given up.
    fs::create_dir(bench.path("one")).unwrap();
    fs::write(bench.path("one/late"), "precious").unwrap();
    let restored = bench.restore(&session, &discarding(), &bench.context()).unwrap();
    assert_eq!(bench.present(), full.snapshot);
    assert_eq!(restored.given_up.len(), 1);
    let before = SnapshotRef::Prefix(restored.before.unwrap().to_string());
    let (target, context) = (temporary(), bench.context());
    let target = target.path().join("target");
    to_dir((&session, None), &before, &Wanted::default(), &target, false, &context).unwrap();
    assert_eq!(fs::read_to_string(target.join("files/one/late")).unwrap(), "precious");
    assert!(bench.journals().is_empty());
}

#[test]
fn what_a_link_led_to_comes_back_after_it_was_given_up() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    fs::rename(bench.path("one"), bench.path("real")).unwrap();
    symlink(bench.path("real"), bench.path("one")).unwrap();
    let times = AtomicUsize::new(0);
    crash_when(bench, &session, &discarding(), move |phase| {
        phase == "restoring" && times.fetch_add(1, SeqCst) == 1
    });
    let (latest, context) = (SnapshotRef::Latest("data".into()), bench.context());
    let dry = IntoOptions { dry_run: true, ..discarding() };
    let plan = into::prepare(&bench.config, &session, bench.instance(), &latest, &dry, &context);
    assert_eq!(plan.unwrap().plan.present_state, PresentState::Nothing);
    bench.restore(&session, &discarding(), &bench.context()).unwrap();
    assert_eq!(fs::read(bench.path("real/large")).unwrap(), noise(1, LARGE));
    assert!(bench.path("one").is_symlink() && bench.journals().is_empty());
}

#[test]
fn what_only_seemed_to_fit_fails_with_the_path_that_it_was_for_and_is_deleted_first_when_told_to() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    fs::remove_file(bench.path("one/large")).unwrap();
    // Of a byte each, which take a block.
    for number in 0..300 {
        fs::write(bench.path(&format!("two/{number}")), "x").unwrap();
    }
    bench.backup(&session);
    let free = usize::try_from(free_bytes(&bench.root).unwrap()).unwrap();
    fs::write(full.filler.with_extension("2"), vec![0; free - MIB / 2]).unwrap();
    let present = bench.present();
    let error = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap_err();
    let place = bench.path("two").display().to_string();
    assert!(error.to_string().contains(&place), "{error}");
    assert!(!error.to_string().contains(".belay-"), "{error}");
    assert_eq!((bench.present(), bench.left().len()), (present.clone(), 0));
    let restored = bench.restore(&session, &discarding(), &bench.context()).unwrap();
    assert_eq!((bench.present(), restored.given_up.len()), (present, 1));
}

#[test]
fn holes_and_further_names_of_a_file_take_no_room() {
    let full = Full::new(Small::ButRepository);
    let (bench, session) = (&full.bench, full.session());
    fs::remove_file(bench.path("one/large")).unwrap();
    let sparse = fs::File::create(bench.path("one/sparse")).unwrap();
    sparse.set_len(64 * MIB as u64).unwrap();
    sparse.write_all_at(b"end", 40 * MIB as u64).unwrap();
    fs::write(bench.path("one/named"), noise(3, LARGE / 4)).unwrap();
    for number in 0..9 {
        fs::hard_link(bench.path("one/named"), bench.path(&format!("one/{number}"))).unwrap();
    }
    bench.backup(&session);
    // The rest of the 64 MiB, but for the chunks around what is no hole.
    fs::remove_file(&full.filler).unwrap();
    fs::write(bench.path("one/a"), "later").unwrap();
    let restored = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap();
    assert!(restored.plan.bytes > 64 * MIB as u64, "{:?}", restored.plan);
    assert!(free_bytes(&bench.root).unwrap() < 16 * MIB as u64);
    assert_eq!(fs::metadata(bench.path("one/named")).unwrap().nlink(), 10);
    assert_eq!(fs::metadata(bench.path("one/sparse")).unwrap().len(), 64 * MIB as u64);
}
