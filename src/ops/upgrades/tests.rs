//! Journals survive the catalog, other writers, and a newer Belay.

use super::*;
use crate::catalog::Catalog;
use crate::model::event::{Cancel, Events};
use crate::model::id::RepositoryId;
use crate::model::upgrade::tests::journal;
use crate::model::upgrade::{Entry, Step};
use crate::ops::sync;
use crate::repository::Repository;
use crate::repository::format::key::ScryptCost;
use crate::store::local::LocalStore;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const STEPS: [Step; 4] =
    [Step::PullStaging, Step::BackUpStaging, Step::BackUpProduction, Step::PinBoth];

fn journal_of(steps: &[Step]) -> Journal {
    journal(steps.iter().map(|step| Entry::Began { hop: 0, step: *step }).collect())
}

/// A repository, and as many hosts as are asked for, each with a catalog of its own.
struct Scene {
    directory: tempfile::TempDir,
    context: Context,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(directory.path().join("repository")));
        Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
        Self { directory, context: Context::new(Events::ignored(), Cancel::new()) }
    }

    fn state_dir(&self, host: &str) -> std::path::PathBuf {
        self.directory.path().join(host)
    }

    fn host(&self, host: &str) -> Session {
        let store = Arc::new(LocalStore::new(self.directory.path().join("repository")));
        let repository = Arc::new(Repository::open(store, b"password").unwrap());
        let catalog = Catalog::open(&self.state_dir(host)).unwrap();
        let name = Some("main".parse().unwrap());
        Session::with_parts(repository, name, Some(catalog), Duration::from_mins(1))
    }

    fn keep(&self, session: &Session, steps: &[Step]) -> Result<(), OpsError> {
        Ok(keep(session, &journal_of(steps), &self.context)?)
    }

    fn known(session: &Session) -> Vec<Journal> {
        session.catalog.as_ref().unwrap().upgrades(None).unwrap()
    }
}

fn id(session: &Session) -> RepositoryId {
    RepositoryId(session.repository.id().0)
}

fn files(directory: &Path) -> usize {
    std::fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_journal_is_kept_as_it_grows_and_another_host_takes_it_over() {
    let scene = Scene::new();
    let first = scene.host("first");
    for length in 1..=STEPS.len() {
        scene.keep(&first, &STEPS[..length]).unwrap();
    }
    let snapshots = scene.directory.path().join("repository/snapshots");
    let before = files(&snapshots);
    scene.keep(&first, &STEPS).unwrap();
    assert_eq!(files(&snapshots), before, "what is there is not written again");
    // The first host burns.
    let second = scene.host("second");
    assert_eq!(Scene::known(&second), []);
    sync::view(&second, &scene.context).unwrap();
    assert_eq!(Scene::known(&second), [journal_of(&STEPS)]);
    assert_eq!(kept(&second, &scene.context).unwrap(), [journal_of(&STEPS)]);
}

#[test]
fn a_host_that_comes_back_must_not_go_on() {
    let scene = Scene::new();
    let (first, second) = (scene.host("first"), scene.host("second"));
    scene.keep(&first, &STEPS[..2]).unwrap();
    scene.keep(&second, &STEPS).unwrap();
    // What it has is the beginning of what the other one wrote, or has parted from it.
    let parted = [STEPS[0], STEPS[1], Step::UpgradeProduction, Step::Verify, Step::Commit];
    for steps in [&STEPS[..2], &STEPS[..3], &parted[..3], &parted] {
        let error = scene.keep(&first, steps).unwrap_err();
        assert!(error.to_string().contains("cannot go on with upgrade"), "{error}");
        assert!(error.hint().unwrap().contains("another host"), "{error}");
    }
    assert_eq!(kept(&second, &scene.context).unwrap(), [journal_of(&STEPS)]);
}

#[test]
fn the_newer_copy_counts_and_a_shorter_one_takes_nothing_away() {
    let scene = Scene::new();
    let session = scene.host("first");
    let catalog = session.catalog.as_ref().unwrap();
    catalog.add_upgrade(id(&session), &journal_of(&STEPS[..2])).unwrap();
    scene.keep(&session, &STEPS[..1]).unwrap();
    // The repository could not be reached when the second record was written.
    sync::view(&session, &scene.context).unwrap();
    assert_eq!(Scene::known(&session), [journal_of(&STEPS[..2])]);
    scene.keep(&scene.host("second"), &STEPS[..3]).unwrap();
    sync::view(&session, &scene.context).unwrap();
    assert_eq!(Scene::known(&session), [journal_of(&STEPS[..3])]);
    // Where both have gone on, the repository's counts.
    let parted = [STEPS[0], STEPS[1], STEPS[2], Step::GateStaging];
    let last = journal_of(&parted).records.pop().unwrap();
    catalog.add_upgrade_record(journal_of(&parted).id, &last).unwrap();
    scene.keep(&scene.host("second"), &STEPS).unwrap();
    sync::view(&session, &scene.context).unwrap();
    assert_eq!(Scene::known(&session), [journal_of(&STEPS)]);
}

#[test]
fn pins_and_journals_do_not_cost_each_other() {
    let scene = Scene::new();
    let session = scene.host("first");
    scene.keep(&session, &STEPS[..1]).unwrap();
    let looked = || Looked::at(&session, "test", &scene.context).unwrap();
    let pin = crate::model::pin::Pin {
        snapshot: crate::model::id::SnapshotId([3; 32]),
        reason: "by hand".to_owned(),
        pinned_by: "ann".to_owned(),
        pinned_at: jiff::Timestamp::now(),
    };
    let about = Some(pin.snapshot);
    // Both began from the same state, and write one after the other.
    let pins = Change::begin(&session, looked(), about, &scene.context, |state: &mut State| {
        state.add(vec![pin.clone()]);
    });
    let own = Stored::of(&journal_of(&STEPS[..2]));
    let journals = Change::begin(&session, looked(), None, &scene.context, |state: &mut State| {
        state.add_upgrades(vec![own.clone()]);
    });
    let (mut pins, mut journals) = (pins.unwrap(), journals.unwrap());
    pins.write().unwrap();
    journals.write().unwrap();
    for change in [pins.look_again(), journals.look_again()] {
        change.unwrap();
    }
    pins.settle().unwrap();
    let (state, _) = journals.settle().unwrap();
    assert_eq!(state.pins, [pin]);
    assert_eq!(readable(&state, &scene.context), [journal_of(&STEPS[..2])]);
}

#[test]
fn a_catalog_made_again_has_the_journals_again() {
    let scene = Scene::new();
    let session = scene.host("first");
    let catalog = session.catalog.as_ref().unwrap();
    catalog.add_upgrade(id(&session), &journal_of(&STEPS)).unwrap();
    scene.keep(&session, &STEPS).unwrap();
    sync::view(&session, &scene.context).unwrap();
    let before = catalog.dump().unwrap();
    drop(session);
    std::fs::remove_dir_all(scene.state_dir("first")).unwrap();
    let session = scene.host("first");
    sync::view(&session, &scene.context).unwrap();
    let after = session.catalog.as_ref().unwrap().dump().unwrap();
    assert_eq!(after["upgrades"], before["upgrades"]);
    assert_eq!(after["upgrade_records"], before["upgrade_records"]);
    assert_eq!(after["upgrade_records"].as_array().unwrap().len(), STEPS.len());
}
