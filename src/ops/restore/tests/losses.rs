//! Nothing of the state before is lost: it is in a snapshot as it was last, or it is kept and told.

use super::bench::{Bench, tree};
use super::*;
use crate::ops::restore::into::PresentState;

#[test]
fn a_state_that_is_in_the_snapshot_before_is_not_kept_twice() {
    let bench = Bench::new();
    let session = bench.session();
    let (expected, present) = bench.backed_up_and_changed(&session);
    let restored = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap();
    assert_eq!(bench.instance_tree(), expected);
    assert_eq!((restored.aside.len(), bench.leftovers().len()), (0, 0), "{}", bench.warnings());
    let before = SnapshotRef::Prefix(restored.before.unwrap().to_string());
    let (target, context) = (bench.path("target"), bench.context());
    to_dir((&session, None), &before, &Wanted::default(), &target, false, &context).unwrap();
    assert_eq!(
        tree(&target.join("files"))
            .into_iter()
            .filter(|(path, _)| path.contains('/'))
            .collect::<bench::Tree>(),
        present
    );
    assert!(bench.journals().is_empty());
}

#[test]
fn what_is_written_after_the_snapshot_before_was_begun_is_kept_and_told() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backed_up_and_changed(&session);
    let late = bench.path("one/d/e/late");
    let context = bench.context_with(move |phase| {
        if phase == "swapping" {
            fs::write(&late, "precious").unwrap();
        }
    });
    let restored = bench.restore(&session, &IntoOptions::default(), &context).unwrap();
    assert!(restored.before.is_some());
    let [aside] = restored.aside.as_slice() else { panic!("{:?}", restored.aside) };
    assert_eq!(fs::read_to_string(aside.path().join("d/e/late")).unwrap(), "precious");
    let warnings = bench.warnings();
    assert!(warnings.contains(&aside.to_string()) && warnings.contains("changed"), "{warnings}");
    assert!(!bench.path("one/d/e/late").exists() && bench.journals().is_empty());
}

#[test]
fn a_state_that_the_snapshot_before_does_not_have_whole_is_kept_and_told() {
    let bench = Bench::in_directory(tempfile::tempdir().unwrap());
    let session = bench.session();
    bench.backup(&session);
    // An attribute that no snapshot can hold.
    let name = std::ffi::CString::new(b"user.\xff".to_vec()).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(bench.path("two/b"), name.as_c_str(), b"1", flags).unwrap();
    bench.change();
    let restored = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap();
    assert!(restored.before.is_some());
    assert_eq!(restored.aside.len(), 2);
    assert!(bench.warnings().contains("of the state before has warnings"));
}

#[test]
fn what_appears_where_nothing_was_is_kept_and_told() {
    let bench = Bench::new();
    let session = bench.session();
    let (expected, _) = bench.backed_up_and_changed(&session);
    fs::remove_dir_all(bench.path("one")).unwrap();
    let late = bench.path("one");
    let context = bench.context_with(move |phase| {
        if phase == "swapping" {
            fs::create_dir(&late).unwrap();
            fs::write(late.join("late"), "precious").unwrap();
        }
    });
    let restored = bench.restore(&session, &IntoOptions::default(), &context).unwrap();
    assert_eq!(bench.instance_tree(), expected);
    let [aside] = restored.aside.as_slice() else { panic!("{:?}", restored.aside) };
    assert_eq!(fs::read_to_string(aside.path().join("late")).unwrap(), "precious");
    assert!(bench.warnings().contains("was not there when the restore began"));
}

#[test]
fn a_present_state_that_can_be_saved_cannot_be_discarded() {
    let bench = Bench::new();
    let session = bench.session();
    let (_, present) = bench.backed_up_and_changed(&session);
    let discard_current = Some("we know what we do".to_owned());
    let options = IntoOptions { discard_current, ..IntoOptions::default() };
    let error = bench.restore(&session, &options, &bench.context()).unwrap_err();
    assert!(error.to_string().contains("need not be lost"), "{error}");
    assert_eq!(bench.instance_tree(), present);
    // Where nothing is there, nothing can be lost.
    fs::remove_dir_all(bench.path("one")).unwrap();
    fs::remove_dir_all(bench.path("two")).unwrap();
    let restored = bench.restore(&session, &options, &bench.context()).unwrap();
    assert_eq!(restored.plan.present_state, PresentState::Nothing);
}

#[test]
fn backups_leave_out_what_a_restore_has_kept_and_say_so() {
    let bench = Bench::new();
    let session = bench.session();
    fs::create_dir_all(bench.path("one/.belay-before-x")).unwrap();
    fs::create_dir_all(bench.path("one/d/.belay-before-y")).unwrap();
    fs::write(bench.path("one/.belay-before-x/large"), "kept").unwrap();
    let outcome = bench.try_backup(&session, "data").unwrap();
    assert_eq!((outcome.counts["excluded"], outcome.warnings.len()), (1, 0));
    assert!(bench.notes().contains(".belay-before-x"));
    let (target, context) = (bench.path("target"), bench.context());
    let latest = SnapshotRef::Latest("data".into());
    to_dir((&session, None), &latest, &Wanted::default(), &target, false, &context).unwrap();
    assert!(!target.join("files/one/.belay-before-x").exists());
    assert!(
        target.join("files/one/d/.belay-before-y").exists(),
        "deeper down it is the instance's"
    );
    // But before a restore it goes into the snapshot, since the restore takes it away.
    let restored = bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap();
    assert!(!bench.path("one/.belay-before-x").exists());
    let before = SnapshotRef::Prefix(restored.before.unwrap().to_string());
    let target = bench.path("before");
    to_dir((&session, None), &before, &Wanted::default(), &target, false, &context).unwrap();
    assert!(target.join("files/one/.belay-before-x/large").exists());
}

#[test]
fn a_directory_that_was_replaced_since_the_plan_is_not_restored_into() {
    for phase in ["restoring", "swapping"] {
        let bench = Bench::new();
        let session = bench.session();
        bench.backed_up_and_changed(&session);
        let precious = bench.path("elsewhere/e/precious");
        fs::create_dir_all(precious.parent().unwrap()).unwrap();
        fs::write(&precious, "of somebody else").unwrap();
        let (directory, elsewhere) = (bench.path("one/d"), bench.path("elsewhere"));
        let moved = bench.path("moved");
        let context = bench.context_with(move |begun| {
            if begun == phase {
                fs::rename(&directory, &moved).unwrap();
                symlink(&elsewhere, &directory).unwrap();
            }
        });
        let options = IntoOptions { wanted: paths(&["/files/one/d/e"]), ..IntoOptions::default() };
        let error = bench.restore(&session, &options, &context).unwrap_err();
        assert!(error.to_string().contains("was moved or replaced"), "{phase}: {error}");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "of somebody else");
        assert_eq!(fs::read_dir(bench.path("elsewhere")).unwrap().count(), 1, "{phase}");
    }
}
