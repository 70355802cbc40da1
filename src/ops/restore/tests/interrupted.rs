//! A restore that is interrupted at any of its phases is told by whoever only looks, finished by the next run of the
//! instance, and holds up no other one.

use super::bench::{Bench, listing};
use super::*;
use crate::ops::restore::interrupted;
use crate::ops::session::Session;
use crate::ops::status;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// A restore whose process ends when the phase begins.
fn crash_at(bench: &Bench, session: &Session, phase: &'static str) {
    crash_when(bench, session, &IntoOptions::default(), move |now| now == phase);
    assert_eq!(bench.journals().len(), 1, "{phase}");
}

/// A restore whose process ends at the phase that is chosen.
pub(super) fn crash_when(
    bench: &Bench,
    session: &Session,
    options: &IntoOptions,
    is_chosen: impl Fn(&str) -> bool + Send + Sync + 'static,
) {
    let context = bench.context_with(move |now| assert!(!is_chosen(now), "crashed on command"));
    let restore = || bench.restore(session, options, &context).map(drop);
    assert!(catch_unwind(AssertUnwindSafe(restore)).is_err());
    bench.warnings();
    for journal in bench.journals() {
        edit(&journal, |json| json["boot_id"] = "an earlier one".into());
    }
}

pub(super) fn edit(journal: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json = serde_json::from_slice(&fs::read(journal).unwrap()).unwrap();
    change(&mut json);
    fs::write(journal, json.to_string()).unwrap();
}

#[test]
fn at_any_phase_it_is_first_told_and_then_finished() {
    for phase in ["restoring", "reading", "swapping", "clearing"] {
        let bench = Bench::new();
        let session = bench.session();
        let (old, present) = bench.backed_up_and_changed(&session);
        crash_at(&bench, &session, phase);
        let (tree, leftovers) = (bench.instance_tree(), bench.leftovers());
        // Looking changes nothing, and neither does a plan.
        let told = status::interrupted(&bench.config).unwrap().join("\n");
        assert!(told.contains("A restore into data was interrupted"), "{phase}: {told}");
        let latest = SnapshotRef::Latest("data".into());
        let dry = IntoOptions { dry_run: true, ..IntoOptions::default() };
        let context = bench.context();
        crate::ops::restore::into::prepare(
            &bench.config,
            &session,
            bench.instance(),
            &latest,
            &dry,
            &context,
        )
        .unwrap()
        .dry_run();
        assert!(bench.warnings().contains("A restore into data was interrupted"), "{phase}");
        bench.try_backup(&session, "other").unwrap();
        assert!(bench.warnings().contains("A restore into data was interrupted"), "{phase}");
        assert_eq!((bench.instance_tree(), bench.leftovers()), (tree, leftovers), "{phase}");
        assert_eq!(bench.journals().len(), 1);

        bench.backup(&session);
        let warnings = bench.warnings();
        assert!(bench.journals().is_empty() && warnings.contains("was interrupted"), "{phase}");
        let is_forward = phase == "swapping" || phase == "clearing";
        assert_eq!(bench.instance_tree(), if is_forward { old } else { present }, "{phase}");
        let mut kept = bench.leftovers();
        kept.retain(|path| !path.contains('/'));
        for name in &kept {
            assert!(warnings.contains(name.as_str()), "{phase}: {name} is not told: {warnings}");
        }
        assert_eq!(kept.len(), if phase == "swapping" { 2 } else { 0 }, "{phase}: {kept:?}");
        assert!(interrupted(&bench.config.state_dir).is_empty());
    }
}

#[test]
fn a_name_of_any_bytes_is_restored_and_what_was_interrupted_of_it_is_finished() {
    let bench = Bench::new();
    let session = bench.session();
    let file = bench.path("one").join(OsStr::from_bytes(b"n\xffme"));
    fs::write(&file, "old").unwrap();
    bench.backup(&session);
    fs::write(&file, "present").unwrap();
    let wanted = Wanted { paths: vec![b"/files/one/n\xffme".to_vec()], ..Wanted::default() };
    let options = IntoOptions { wanted, ..IntoOptions::default() };
    crash_when(&bench, &session, &options, |phase| phase == "swapping");
    bench.backup(&session);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old");
    assert!(bench.journals().is_empty());
}

#[test]
fn a_journal_that_cannot_be_finished_stops_its_own_instance_only() {
    let bench = Bench::new();
    let session = bench.session();
    let (old, _) = bench.backed_up_and_changed(&session);
    crash_at(&bench, &session, "swapping");
    let [journal] = &bench.journals()[..] else { panic!() };
    let staged = bench.leftovers().into_iter().find(|name| name.ends_with("-two")).unwrap();
    fs::rename(bench.path(&staged), bench.path("elsewhere")).unwrap();
    let is_refused = |reason: &str| {
        let options = IntoOptions::default();
        let results = [
            bench.try_backup(&session, "data").map(drop),
            bench.restore(&session, &options, &bench.context()).map(drop),
        ];
        for result in results {
            let error = result.unwrap_err();
            assert!(matches!(error, OpsError::Refused { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(journal.to_str().unwrap()), "{message}");
            assert!(message.contains(reason), "{message}");
            assert!(error.hint().unwrap().contains("remove"), "{:?}", error.hint());
        }
        bench.warnings();
        bench.try_backup(&session, "other").unwrap();
        let warnings = bench.warnings();
        assert!(warnings.contains(journal.to_str().unwrap()), "{warnings}");
        assert!(!interrupted(&bench.config.state_dir).is_empty());
    };
    is_refused("the new tree that was made there is gone");
    let sound = fs::read(journal).unwrap();
    fs::write(journal, "not JSON").unwrap();
    is_refused("is no journal of a restore");
    fs::write(journal, &sound).unwrap();
    fs::rename(bench.path("elsewhere"), bench.path(&staged)).unwrap();
    bench.backup(&session);
    assert_eq!(bench.instance_tree(), old);
}

#[test]
fn a_journal_is_kept_until_what_the_restore_has_made_can_be_looked_for() {
    let bench = Bench::new();
    let session = bench.session();
    let (_, present) = bench.backed_up_and_changed(&session);
    crash_at(&bench, &session, "reading");
    let (away, there) = (bench.root.with_extension("away"), bench.root.clone());
    // As if the disk of the instance were not mounted, and the state's were.
    fs::rename(&there, &away).unwrap();
    for name in ["one", "two"] {
        fs::create_dir_all(there.join(name)).unwrap();
    }
    for name in ["state", "repository"] {
        fs::rename(away.join(name), there.join(name)).unwrap();
    }
    let error = bench.try_backup(&session, "data").unwrap_err();
    assert!(error.to_string().contains("is its file system mounted?"), "{error}");
    assert_eq!(bench.journals().len(), 1);
    for name in ["state", "repository"] {
        fs::rename(there.join(name), away.join(name)).unwrap();
    }
    fs::remove_dir_all(&there).unwrap();
    fs::rename(&away, &there).unwrap();
    assert!(!bench.leftovers().is_empty());
    bench.backup(&session);
    assert_eq!(bench.instance_tree(), present);
    assert!(bench.leftovers().is_empty() && bench.journals().is_empty());
}

#[test]
fn a_file_that_is_no_journal_is_told_and_stops_nothing() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backup(&session);
    fs::create_dir_all(bench.path("state/restores")).unwrap();
    fs::write(bench.path("state/restores/notes.json"), "remember the milk").unwrap();
    bench.backup(&session);
    assert!(bench.warnings().contains("state/restores/notes.json"));
    bench.restore(&session, &IntoOptions::default(), &bench.context()).unwrap();
    assert!(bench.path("state/restores/notes.json").exists());
}

#[test]
fn a_journal_moves_nothing_that_a_restore_of_the_instance_would_not() {
    type Change = fn(&mut serde_json::Value, &Path);
    let changes: [(&str, Change); 5] = [
        ("is not what a restore writes", |swap, root| {
            swap["staged"] = root.join("elsewhere").to_str().into();
        }),
        ("is not what a restore writes", |swap, root| {
            swap["aside"] = root.join("elsewhere").to_str().into();
        }),
        ("is in no directory of the instance", |swap, root| {
            let text = swap.to_string().replace("/one\"", "/other\"").replace("-one\"", "-other\"");
            assert!(text.contains(root.to_str().unwrap()));
            *swap = serde_json::from_str(&text).unwrap();
        }),
        ("is a symbolic link", |swap, _| {
            let text = swap.to_string().replace("/one\"", "/one/link/x\"");
            let text = text.replace("/.belay", "/one/link/.belay").replace("-one\"", "-x\"");
            *swap = serde_json::from_str(&text).unwrap();
        }),
        ("is not what a restore writes", |swap, _| swap["method"] = "entries".into()),
    ];
    for (reason, change) in changes {
        let bench = Bench::new();
        let session = bench.session();
        bench.backed_up_and_changed(&session);
        crash_at(&bench, &session, "reading");
        fs::create_dir_all(bench.path("elsewhere/x")).unwrap();
        symlink(bench.path("elsewhere"), bench.path("one/link")).unwrap();
        let [journal] = &bench.journals()[..] else { panic!() };
        edit(journal, |json| change(&mut json["steps"][0]["swap"], &bench.root));
        let outside = || (listing(&bench.path("elsewhere")), listing(&bench.path("other")));
        let before = outside();
        let error = bench.try_backup(&session, "data").unwrap_err();
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert_eq!(outside(), before);
    }
}

#[test]
fn a_journal_through_a_link_is_not_read() {
    let bench = Bench::new();
    let session = bench.session();
    bench.backed_up_and_changed(&session);
    crash_at(&bench, &session, "swapping");
    let [journal] = &bench.journals()[..] else { panic!() };
    fs::rename(journal, bench.path("elsewhere")).unwrap();
    symlink(bench.path("elsewhere"), journal).unwrap();
    let error = bench.try_backup(&session, "data").unwrap_err();
    assert!(error.to_string().contains("cannot be finished"), "{error}");
}

#[test]
fn a_directory_of_journals_that_is_not_the_states_own_is_named() {
    let bench = Bench::new();
    let session = bench.session();
    symlink(bench.path("other"), bench.path("state/restores")).unwrap();
    let error = bench.try_backup(&session, "data").unwrap_err();
    assert!(matches!(error, OpsError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("state/restores"), "{error}");
    assert!(interrupted(&bench.config.state_dir)[0].contains("state/restores"));
}
