//! Every call to the store fails once, in every way; the disk is full; the lock goes away under a running prune. What
//! remains reads back each time, and the next prune reclaims all.

use super::EVERYTHING;
use super::support::{Bench, Files, assert_all_is_used, assert_read_back, bytes, copy_files, open};
use crate::model::event::{Cancel, Event, Events};
use crate::model::id::{FileId, SnapshotId};
use crate::repository::format::pack::BlobKind;
use crate::repository::lock::{Lock, LockMode, LockRequest};
use crate::repository::prune::{
    PruneOptions, PruneOutcome, execute, plan, repack_little_by_little,
};
use crate::repository::{Repository, RepositoryError};
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::local::LocalStore;
use crate::store::{FileKind, FileName, Listed, Operation, Store, StoreError};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A repository in which a prune has something of everything to do, and the snapshots to forget.
fn bench() -> (Bench, HashSet<SnapshotId>) {
    let mut bench = Bench::new();
    let blobs: Vec<Vec<u8>> = (0..6).map(|number| bytes(3_000, number)).collect();
    let blob = |number: usize| blobs[number].as_slice();
    bench.data_pack(&[blob(0), blob(1), blob(2)]);
    bench.data_pack(&[blob(1), blob(3)]);
    bench.data_pack(&[blob(4), blob(5)]);
    bench.unindexed_pack(BlobKind::Data, &[b"of a killed run"]);
    bench.snapshot(&[("a", &[blob(0), blob(1)])]);
    bench.snapshot(&[("c", &[blob(1)])]);
    let forget = [
        bench.snapshot(&[("a", &[blob(0), blob(1)]), ("b", &[blob(2)])]),
        bench.snapshot(&[("a", &[blob(4)]), ("b", &[blob(5)])]),
        bench.snapshot(&[("a", &[blob(2), blob(3)])]),
    ];
    let plan = bench.plan(&forget, &EVERYTHING).unwrap();
    assert!(
        plan.repack.len() == 1 && plan.remove_packs.len() == 5 && !plan.unindexed_packs.is_empty()
    );
    (bench, forget.into_iter().collect())
}

/// What must be there in any case.
fn remaining(bench: &Bench, forget: &HashSet<SnapshotId>) -> BTreeMap<SnapshotId, Files> {
    let mut expected = bench.expected.clone();
    expected.retain(|id, _| !forget.contains(id));
    assert!(!expected.is_empty());
    expected
}

fn prune(
    repository: &Arc<Repository>,
    lock: &Lock,
    forget: &HashSet<SnapshotId>,
    events: &Events,
    cancel: &Cancel,
) -> Result<PruneOutcome, RepositoryError> {
    let plan = plan(repository, forget, &EVERYTHING, events, cancel)?;
    execute(repository, lock, plan, events, cancel)
}

/// Every snapshot that is listed reads back, also those that are to be forgotten and are not yet.
fn assert_sound(repository: &Arc<Repository>, bench: &Bench, least: &BTreeMap<SnapshotId, Files>) {
    let listed: HashSet<SnapshotId> = repository.snapshot_ids().unwrap().into_iter().collect();
    let mut expected = bench.expected.clone();
    expected.retain(|id, _| listed.contains(id));
    assert!(least.keys().all(|id| expected.contains_key(id)), "a snapshot is gone");
    assert_read_back(repository, &expected);
}

fn assert_next_prune_reclaims_all(
    repository: &Arc<Repository>,
    lock: &Lock,
    forget: &HashSet<SnapshotId>,
    expected: &BTreeMap<SnapshotId, Files>,
) {
    prune(repository, lock, forget, &Events::ignored(), &Cancel::new()).unwrap();
    assert_eq!(repository.snapshot_ids().unwrap().len(), expected.len());
    assert_read_back(repository, expected);
    assert_all_is_used(repository);
}

#[test]
fn every_failing_call_leaves_a_sound_repository() {
    let (bench, forget) = bench();
    let expected = remaining(&bench, &forget);
    for fault in [Fault::Before, Fault::After, Fault::Forever] {
        for call in 1.. {
            let directory = tempfile::tempdir().unwrap();
            copy_files(&bench.path(), directory.path());
            let inner: Arc<dyn Store> = Arc::new(LocalStore::new(directory.path()));
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner), call, fault));
            let result = open(Arc::clone(&faulty) as Arc<dyn Store>).and_then(|repository| {
                prune(&repository, &bench.lock, &forget, &Events::ignored(), &Cancel::new())
            });
            let sound = open(inner).unwrap();
            assert_sound(&sound, &bench, &expected);
            assert_next_prune_reclaims_all(&sound, &bench.lock, &forget, &expected);
            if faulty.calls() < call {
                assert!(result.is_ok() && call > 20, "{call} calls");
                break;
            }
        }
    }
}

#[test]
fn cancelled_at_any_event_it_leaves_a_sound_repository() {
    let (bench, forget) = bench();
    let expected = remaining(&bench, &forget);
    for stop_at in 1.. {
        let directory = tempfile::tempdir().unwrap();
        copy_files(&bench.path(), directory.path());
        let repository = open(Arc::new(LocalStore::new(directory.path()))).unwrap();
        let cancel = Cancel::new();
        let (told, stop) = (AtomicU64::new(0), cancel.clone());
        let events = Events::new(move |_| {
            if told.fetch_add(1, Ordering::SeqCst) + 1 == stop_at {
                stop.cancel();
            }
        });
        let result = prune(&repository, &bench.lock, &forget, &events, &cancel);
        assert_sound(&repository, &bench, &expected);
        assert_next_prune_reclaims_all(&repository, &bench.lock, &forget, &expected);
        if !cancel.is_cancelled() {
            assert!(result.is_ok() && stop_at > 10, "{stop_at} events");
            break;
        }
        if let Err(error) = result {
            assert!(matches!(error, RepositoryError::Cancelled(_)), "{error}");
        }
    }
}

#[test]
fn a_lock_that_goes_away_in_any_phase_stops_it_before_more_is_removed() {
    let phases = ["forgetting", "repacking", "replacing", "removing"];
    for phase in phases {
        let (bench, forget) = bench();
        let expected = remaining(&bench, &forget);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (told, store) = (Arc::clone(&seen), LocalStore::new(bench.path()));
        let events = Events::new(move |event| {
            if matches!(&event, Event::Phase { phase: now, .. } if now == phase) {
                for listed in store.list(FileKind::Lock).unwrap() {
                    store.remove(FileName::Id(FileKind::Lock, listed.id)).unwrap();
                }
            }
            told.lock().unwrap().push(event);
        });
        let result = prune(&bench.repository, &bench.lock, &forget, &events, &Cancel::new());
        assert!(matches!(result, Err(RepositoryError::LockLost { .. })), "{phase}: {result:?}");
        let last = seen.lock().unwrap().pop();
        assert!(
            matches!(&last, Some(Event::Phase { phase: now, .. }) if now == phase),
            "{phase}: {last:?}"
        );
        assert_sound(&bench.repository, &bench, &expected);
        let request =
            LockRequest { mode: LockMode::Exclusive, purpose: "test".into(), wait: Duration::ZERO };
        let lock =
            Lock::acquire(&bench.repository, request, &Events::ignored(), &Cancel::new()).unwrap();
        assert_next_prune_reclaims_all(&bench.repository, &lock, &forget, &expected);
    }
}

/// A disk that holds so many bytes, the reserve included.
struct SmallDisk {
    inner: LocalStore,
    capacity: AtomicU64,
    reserve: AtomicU64,
    wanted_reserve: u64,
}

impl SmallDisk {
    /// One with a copy of a repository, a reserve, and so much that is free.
    fn of(bench: &Bench, free: u64) -> (tempfile::TempDir, Arc<Self>) {
        let directory = tempfile::tempdir().unwrap();
        copy_files(&bench.path(), directory.path());
        let disk = Arc::new(Self {
            inner: LocalStore::new(directory.path()),
            capacity: AtomicU64::new(u64::MAX),
            reserve: AtomicU64::new(4_000),
            wanted_reserve: 4_000,
        });
        disk.capacity.store(disk.used() + free, Ordering::SeqCst);
        (directory, disk)
    }

    fn used(&self) -> u64 {
        let bytes =
            |kind| -> u64 { self.inner.list(kind).unwrap().iter().map(|listed| listed.size).sum() };
        FileKind::ALL.into_iter().map(bytes).sum::<u64>() + self.reserve.load(Ordering::SeqCst)
    }

    fn take(&self, bytes: u64) -> Result<(), StoreError> {
        if self.used() + bytes <= self.capacity.load(Ordering::SeqCst) {
            return Ok(());
        }
        let source = io::Error::from(io::ErrorKind::StorageFull);
        Err(StoreError { operation: Operation::Write, object: "a small disk".into(), source })
    }
}

impl Store for SmallDisk {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn create(&self) -> Result<(), StoreError> {
        self.inner.create()
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StoreError> {
        self.inner.list(kind)
    }

    fn read(&self, name: FileName, limit: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.read(name, limit)
    }

    fn read_range(
        &self,
        name: FileName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        self.inner.read_range(name, offset, length)
    }

    fn write(&self, name: FileName, bytes: &[u8]) -> Result<(), StoreError> {
        self.take(bytes.len() as u64)?;
        self.inner.write(name, bytes)
    }

    fn remove(&self, name: FileName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }

    fn remove_leftovers(&self) -> Result<(u64, u64), StoreError> {
        self.inner.remove_leftovers()
    }

    fn keep_reserve(&self) -> Result<(), StoreError> {
        if self.reserve.load(Ordering::SeqCst) == 0 {
            self.take(self.wanted_reserve)?;
            self.reserve.store(self.wanted_reserve, Ordering::SeqCst);
        }
        Ok(())
    }

    fn release_reserve(&self) -> Result<u64, StoreError> {
        Ok(self.reserve.swap(0, Ordering::SeqCst))
    }
}

#[test]
fn on_a_full_disk_the_reserve_is_enough_for_what_is_wholly_unused() {
    let (bench, forget) = bench();
    let expected = remaining(&bench, &forget);
    let mut skipped = 0;
    // From nothing free to room for all: the disk is full at each of the writes once.
    for free in (0..14_000).step_by(400) {
        let (_directory, disk) = SmallDisk::of(&bench, free);
        let repository = open(Arc::clone(&disk) as Arc<dyn Store>).unwrap();
        let before = disk.used();
        let (events, cancel) = (Events::ignored(), Cancel::new());
        let mut outcome = prune(&repository, &bench.lock, &forget, &events, &cancel).unwrap();
        assert!(outcome.removed_packs >= 3 && disk.used() < before, "{free}: {outcome:?}");
        assert_eq!(disk.reserve.load(Ordering::SeqCst), 4_000, "kept again");
        if outcome.repack_skipped {
            skipped += 1;
            assert_sound(&repository, &bench, &expected);
            repack_little_by_little(
                (&repository, &bench.lock),
                &PruneOptions { max_unused_percent: 0.0, ..PruneOptions::default() },
                &mut outcome,
                (&events, &cancel),
            )
            .unwrap();
            assert!(!outcome.repack_skipped, "{free}: {outcome:?}");
            assert_eq!(disk.reserve.load(Ordering::SeqCst), 4_000, "kept again");
            assert_all_is_used(&repository);
        }
        assert_sound(&repository, &bench, &expected);
        assert_next_prune_reclaims_all(&repository, &bench.lock, &forget, &expected);
    }
    assert!((1..35).contains(&skipped), "{skipped} times there was no room to copy");
}

#[test]
fn without_room_for_a_large_index_nothing_is_lost_or_left_twice() {
    let mut bench = Bench::new();
    let blobs: Vec<Vec<u8>> = (0..900).map(|number| bytes(30, number)).collect();
    let blobs: Vec<&[u8]> = blobs.iter().map(Vec::as_slice).collect();
    // Half of the first pack stays, all of the second, and nothing of the third.
    let parts = [&blobs[..400], &blobs[400..800], &blobs[800..]];
    let packs = parts.map(|part| bench.unindexed_pack(BlobKind::Data, part));
    bench.index(&packs.each_ref());
    bench.snapshot(&[("all", parts[1]), ("half", &blobs[..200])]);
    let forget = HashSet::from([bench.snapshot(&[("none", parts[2]), ("rest", &blobs[200..400])])]);
    let expected = remaining(&bench, &forget);
    let names = |disk: &SmallDisk| -> HashSet<FileId> {
        let list = |kind| disk.list(kind).unwrap().into_iter().map(|listed| listed.id);
        list(FileKind::Pack).chain(list(FileKind::Index)).collect()
    };
    let (mut failed, mut skipped, mut done) = (0, 0, 0);
    for free in (0..80_000).step_by(4_000) {
        let (_directory, disk) = SmallDisk::of(&bench, free);
        let repository = open(Arc::clone(&disk) as Arc<dyn Store>).unwrap();
        let before = names(&disk);
        let (events, cancel) = (Events::ignored(), Cancel::new());
        match prune(&repository, &bench.lock, &forget, &events, &cancel) {
            Err(RepositoryError::Store(error)) if error.is_full() => {
                failed += 1;
                assert_eq!(names(&disk), before, "{free}");
            }
            Err(error) => panic!("{free}: {error}"),
            Ok(outcome) if !outcome.repack_skipped => done += 1,
            Ok(mut outcome) => {
                skipped += 1;
                let new = names(&disk).difference(&before).count() as u64;
                assert_eq!(new, outcome.written_indexes, "{free}: copies are left");
                assert_sound(&repository, &bench, &expected);
                repack_little_by_little(
                    (&repository, &bench.lock),
                    &EVERYTHING,
                    &mut outcome,
                    (&events, &cancel),
                )
                .unwrap();
            }
        }
        assert_sound(&repository, &bench, &expected);
        disk.capacity.store(u64::MAX, Ordering::SeqCst);
        assert_next_prune_reclaims_all(&repository, &bench.lock, &forget, &expected);
    }
    assert!(failed > 0 && skipped > 0 && done > 0, "{failed} {skipped} {done}");
}
