//! Changes of pins that overlap, step by step: none is lost.

use super::*;
use crate::model::event::{Cancel, Events};
use crate::model::id::BlobId;
use crate::ops::state::{self, snapshot_file};
use crate::repository::Repository;
use crate::repository::format::key::ScryptCost;
use crate::repository::lock::LockMode;
use crate::repository::reader::Reader;
use crate::repository::writer::Writer;
use crate::store::local::LocalStore;
use std::sync::Arc;
use std::time::Duration;

type Edit = Box<dyn Fn(&mut Vec<Pin>, SnapshotId)>;

struct Scene {
    session: Session,
    context: Context,
    _directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(directory.path().join("repository")));
        let repository = Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
        let wait = Duration::from_mins(1);
        let session = Session::with_parts(Arc::new(repository), None, None, wait);
        let context = Context::new(Events::ignored(), Cancel::new());
        Self { session, context, _directory: directory }
    }

    fn snapshot(&self) -> SnapshotRef {
        let lock = self.session.lock(LockMode::Shared, "test", &self.context).unwrap();
        let reader = Reader::new(&self.session.repository).unwrap();
        let cancel = &self.context.cancel;
        let writer =
            Writer::start(&self.session.repository, reader.shared_index(), cancel).unwrap();
        let tree: BlobId = writer.tree(b"/", &[]).unwrap();
        let file = snapshot_file(tree, Timestamp::now(), vec![]);
        let snapshot = writer.commit(file, &lock, &self.context.events).unwrap();
        snapshot.id.to_string().parse().unwrap()
    }

    fn begin(
        &self,
        snapshot: &SnapshotRef,
        reason: &'static str,
    ) -> (SnapshotId, Change<'_, impl Fn(&mut State) + use<>>) {
        let edit: Edit = Box::new(move |pins, snapshot| {
            if !pins.iter().any(|pin| pin.reason == reason) {
                let (pinned_by, pinned_at) = ("ann".into(), Timestamp::now());
                pins.push(Pin { snapshot, reason: reason.into(), pinned_by, pinned_at });
            }
        });
        begin(&self.session, snapshot, &self.context, edit).unwrap()
    }

    fn pins(&self) -> Vec<String> {
        let snapshots = self.session.repository.snapshots().unwrap();
        let reader = Reader::new(&self.session.repository).unwrap();
        let state = state::read(&reader, &snapshots, &self.context.events).unwrap();
        let mut reasons: Vec<String> = state.pins.into_iter().map(|pin| pin.reason).collect();
        reasons.sort();
        reasons
    }
}

/// Write, look again, and so on, until the change is in what counts.
fn settle<E: Fn(&mut State)>((snapshot, change): (SnapshotId, Change<'_, E>)) -> Pinned {
    let (state, changed) = change.settle().unwrap();
    pinned(snapshot, state, changed)
}

#[test]
fn one_that_wrote_a_number_too_late_writes_again() {
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    // `late` and `first` saw the same state; `next` saw that of `first`. `late` writes a number that counts no more.
    let late = scene.begin(&snapshot, "late");
    settle(scene.begin(&snapshot, "first"));
    settle(scene.begin(&snapshot, "next"));
    assert_eq!(settle(late).pins, ["first", "next", "late"]);
    assert_eq!(scene.pins(), ["first", "late", "next"]);
}

#[test]
fn one_that_wrote_over_what_it_did_not_see_takes_it_in() {
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let (pinned, mut slow) = scene.begin(&snapshot, "slow");
    settle(scene.begin(&snapshot, "first"));
    // It saw only the state of `first`, and its number will beat that of `slow`, which finds itself in what counts first.
    let next = scene.begin(&snapshot, "next");
    slow.write().unwrap();
    slow.look_again().unwrap();
    assert!(slow.is_done(), "two states of one number both count");
    assert_eq!(slow.settle().unwrap().0.pins.last().unwrap().snapshot, pinned);
    assert!(settle(next).pins.contains(&"slow".to_owned()));
    assert_eq!(scene.pins(), ["first", "next", "slow"]);
}

#[test]
fn three_at_the_same_number_all_count_and_an_unpin_of_one_stays() {
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    let changes = ["a", "b", "c"].map(|reason| scene.begin(&snapshot, reason));
    for change in changes {
        settle(change);
    }
    assert_eq!(scene.pins(), ["a", "b", "c"]);
    unpin(&scene.session, &snapshot, Some("b"), &scene.context).unwrap();
    assert_eq!(scene.pins(), ["a", "c"]);
}

#[test]
fn a_pin_that_was_dropped_by_one_who_knew_it_does_not_come_back() {
    let scene = Scene::new();
    let snapshot = scene.snapshot();
    settle(scene.begin(&snapshot, "old"));
    let (_, mut change) = scene.begin(&snapshot, "new");
    change.write().unwrap();
    unpin(&scene.session, &snapshot, Some("old"), &scene.context).unwrap();
    change.look_again().unwrap();
    change.settle().unwrap();
    assert_eq!(scene.pins(), ["new"]);
}

#[test]
fn pins_of_what_is_gone_are_dropped_and_of_what_came_since_are_not() {
    let scene = Scene::new();
    let (gone, old) = (scene.snapshot(), scene.snapshot());
    let of_gone = pin(&scene.session, &gone, "gone", &scene.context).unwrap();
    scene.session.repository.remove_snapshot(of_gone.snapshot).unwrap();
    // It listed before the new snapshot and its pin were there.
    let change = scene.begin(&old, "old");
    let new = scene.snapshot();
    pin(&scene.session, &new, "new", &scene.context).unwrap();
    settle(change);
    assert_eq!(scene.pins(), ["new", "old"]);
}
