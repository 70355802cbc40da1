//! What is written comes back, whatever its size; a failing store or a cancelled run leaves no snapshot.

use super::*;
use crate::model::node::NodeKind;
use crate::repository::format::key::ScryptCost;
use crate::repository::lock::{LockMode, LockRequest};
use crate::repository::reader::Reader;
use crate::store::Store;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::local::LocalStore;
use jiff::Timestamp;
use proptest::prelude::*;
use std::io::Read as _;
use std::time::Duration;

const CHEAP: ScryptCost = ScryptCost { log_n: 4, r: 8, p: 1 };

fn repository(directory: &tempfile::TempDir) -> Arc<Repository> {
    let store: Arc<dyn Store> = Arc::new(LocalStore::new(directory.path().join("repository")));
    Arc::new(Repository::init(store, b"password", CHEAP).unwrap())
}

fn shared_lock(repository: &Arc<Repository>) -> Lock {
    let request = LockRequest {
        mode: LockMode::Shared,
        purpose: "test".into(),
        wait: Duration::from_secs(5),
    };
    Lock::acquire(repository, request, &Events::ignored(), &Cancel::new()).unwrap()
}

fn snapshot_file(tree: BlobId) -> SnapshotFile {
    SnapshotFile {
        time: Timestamp::UNIX_EPOCH,
        parent: None,
        tree,
        paths: None,
        hostname: "h".into(),
        username: "u".into(),
        uid: 0,
        gid: 0,
        excludes: None,
        tags: None,
        original: None,
        program_version: None,
    }
}

fn write(
    repository: &Arc<Repository>,
    files: &[Vec<u8>],
) -> Result<(Snapshot, Vec<Content>), RepositoryError> {
    let lock = shared_lock(repository);
    let writer = Writer::start(repository, BlobIndex::load(repository)?, &Cancel::new())?;
    let mut pending = Vec::new();
    for file in files {
        let mut stream = writer.file();
        // Odd steps, so that pieces and chunks never coincide.
        for piece in file.chunks(99_991) {
            stream.append(piece)?;
        }
        pending.push(stream.finish()?);
    }
    let contents = pending.into_iter().map(PendingContent::wait).collect::<Result<Vec<_>, _>>()?;
    let tree = writer.tree(b"/", &[])?;
    let snapshot = writer.commit(snapshot_file(tree), &lock, &Events::ignored())?;
    Ok((snapshot, contents))
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn read_back(repository: &Arc<Repository>, content: &Content) -> Vec<u8> {
    let reader = Reader::new(repository).unwrap();
    content.blobs.iter().flat_map(|id| reader.blob(BlobKind::Data, *id).unwrap()).collect()
}

#[test]
fn what_is_read_ahead_comes_in_order_and_whole_or_not_at_all() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let files = [noise(30_000_000, 5), vec![], vec![1]];
    let (_, contents) = write(&repository, &files).unwrap();
    let reader = Reader::new(&repository).unwrap();
    let read = |blobs: &[BlobId], limit: u64| {
        std::thread::scope(|scope| {
            let mut all = Vec::new();
            let mut stream = reader.stream_ahead(blobs, scope);
            let first = stream.by_ref().take(limit).read_to_end(&mut all).map(|_| all);
            (first, stream.read(&mut [0]))
        })
    };
    for (file, content) in files.iter().zip(&contents) {
        let (all, after) = read(&content.blobs, u64::MAX);
        assert!(all.unwrap() == *file, "a file of {} bytes", file.len());
        assert_eq!(after.unwrap(), 0);
    }
    // Whoever has enough leaves the rest.
    let blobs = &contents[0].blobs;
    assert_eq!(read(blobs, 1000).0.unwrap(), files[0][..1000]);
    // A blob that is missing is no end, also for whoever asks again.
    let mut missing = blobs.clone();
    missing[1] = BlobId([9; 32]);
    let (all, after) = read(&missing, u64::MAX);
    assert!(all.unwrap_err().to_string().contains("0909"));
    after.unwrap_err();
}

#[test]
fn ranges_are_read_ahead_wherever_they_begin_and_end() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let file = noise(20_000_000, 6);
    let (_, contents) = write(&repository, std::slice::from_ref(&file)).unwrap();
    let (blobs, reader) = (&contents[0].blobs, Reader::new(&repository).unwrap());
    let first = reader.locate(BlobKind::Data, blobs[0]).unwrap().blob.plaintext_length();
    let all = file.len() as u64;
    let wanted: [&[(u64, u64)]; 8] = [
        &[],
        &[(0, 0), (5, 5)],
        &[(0, 1)],
        &[(0, all)],
        &[(all - 1, all)],
        // Within a blob, from its end, over several, and behind the end.
        &[
            (0, 10),
            (10, 11),
            (100, 200),
            (first - 1, first),
            (first, first + 1),
            (first + 5, all - 7),
        ],
        &[(first, all + 1000)],
        &[(all, all + 1)],
    ];
    for wanted in wanted {
        let ranges: Vec<_> = wanted.iter().map(|(start, end)| *start..*end).collect();
        let mut read = Vec::new();
        std::thread::scope(|scope| {
            let stream = reader.ranges_ahead(blobs, &ranges, scope);
            stream.unwrap().read_to_end(&mut read).unwrap();
        });
        let of_range = |range: &std::ops::Range<u64>| {
            let place = |at: u64| at.min(all) as usize;
            &file[place(range.start)..place(range.end)]
        };
        let expected: Vec<u8> = ranges.iter().flat_map(of_range).copied().collect();
        assert!(read == expected, "{ranges:?}");
    }
    std::thread::scope(|scope| {
        let missing = [BlobId([9; 32])];
        let error =
            reader.ranges_ahead(&missing, std::slice::from_ref(&(0..1)), scope).err().unwrap();
        assert!(error.to_string().contains("0909"), "{error}");
    });
}

#[test]
fn files_of_all_sizes_come_back_and_are_stored_once() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let mut files =
        vec![vec![], vec![1], noise(600_000, 1), noise(5_000_000, 2), noise(40_000_000, 3)];
    files.push(vec![0; 20_000_000]);
    files.push([noise(3_000_000, 4), vec![7; 9_000_000]].concat());
    let (_, contents) = write(&repository, &files).unwrap();
    for (file, content) in files.iter().zip(&contents) {
        assert_eq!(content.size, file.len() as u64);
        assert_eq!(content.sha256.0, sha256(file));
        assert!(read_back(&repository, content) == *file, "a file of {} bytes", file.len());
    }
    let packs = |repository: &Repository| repository.store().list(FileKind::Pack).unwrap().len();
    let before = packs(&repository);
    let (_, again) = write(&repository, &files).unwrap();
    assert_eq!(again, contents);
    assert_eq!(packs(&repository), before, "nothing was new");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_file_comes_back(pieces in proptest::collection::vec((0_usize..3_000_000, any::<u8>(), any::<bool>()), 0..6)) {
        let piece = |&(length, byte, is_noise): &(usize, u8, bool)| {
            if is_noise { noise(length, u64::from(byte)) } else { vec![byte; length] }
        };
        let file: Vec<u8> = pieces.iter().flat_map(piece).collect();
        let directory = tempfile::tempdir().unwrap();
        let repository = repository(&directory);
        let (_, contents) = write(&repository, std::slice::from_ref(&file)).unwrap();
        prop_assert!(read_back(&repository, &contents[0]) == file);
    }
}

#[test]
fn an_index_of_a_run_without_its_lock_lists_no_pack_that_was_removed_meanwhile() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let lock = shared_lock(&repository);
    let mut writer = Writer::start(&repository, BlobIndex::default(), &Cancel::new()).unwrap();
    let mut stream = writer.file();
    stream.append(&noise(9_000_000, 1)).unwrap();
    stream.finish().unwrap().wait().unwrap();
    let tree = writer.tree(b"/", &[]).unwrap();
    writer.finish().unwrap();
    // As after so many blobs that an index is written before the end.
    writer.shared.write_index(&mut self::lock(&writer.shared.stored)).unwrap();
    let store = repository.store();
    for held in store.list(FileKind::Lock).unwrap() {
        store.remove(FileName::Id(FileKind::Lock, held.id)).unwrap();
    }
    let packs = store.list(FileKind::Pack).unwrap();
    assert!(packs.len() > 1);
    store.remove(FileName::Id(FileKind::Pack, packs[0].id)).unwrap();

    let error = writer.commit(snapshot_file(tree), &lock, &Events::ignored()).unwrap_err();
    assert!(matches!(error, RepositoryError::RemovedMeanwhile { .. }), "{error}");
    assert!(repository.snapshots().unwrap().readable.is_empty());
    let mut index = BlobIndex::load(&repository).unwrap();
    assert!(index.forget_missing_packs(&repository).unwrap().is_empty());
    assert_eq!(index.files.len(), 1, "what is there stays listed");
}

#[test]
fn a_cancelled_run_ends_and_leaves_no_snapshot() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let cancel = Cancel::new();
    let writer = Writer::start(&repository, BlobIndex::default(), &cancel).unwrap();
    let mut stream = writer.file();
    stream.append(&noise(2_000_000, 1)).unwrap();
    cancel.cancel();
    let error = stream.append(&noise(9_000_000, 1)).unwrap_err();
    assert!(matches!(error, RepositoryError::Cancelled(_)), "{error}");
    drop(stream);
    drop(writer);
    assert!(repository.snapshots().unwrap().readable.is_empty());
}

#[test]
fn every_failing_call_fails_the_run_or_leaves_a_snapshot_that_reads_back() {
    let directory = tempfile::tempdir().unwrap();
    drop(repository(&directory));
    let inner: Arc<dyn Store> = Arc::new(LocalStore::new(directory.path().join("repository")));
    let files = [noise(3_000_000, 9), noise(200_000, 8)];
    for fault in [Fault::Before, Fault::After, Fault::Forever] {
        for call in 1.. {
            let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner), call, fault));
            let attempt = Repository::open(Arc::clone(&faulty) as Arc<dyn Store>, b"password")
                .and_then(|repository| {
                    let repository = Arc::new(repository);
                    let request = LockRequest {
                        mode: LockMode::Shared,
                        purpose: "test".into(),
                        wait: Duration::ZERO,
                    };
                    let lock =
                        Lock::acquire(&repository, request, &Events::ignored(), &Cancel::new())?;
                    let writer =
                        Writer::start(&repository, BlobIndex::load(&repository)?, &Cancel::new())?;
                    let mut contents = Vec::new();
                    for file in &files {
                        let mut stream = writer.file();
                        stream.append(file)?;
                        contents.push(stream.finish()?.wait()?);
                    }
                    let tree = writer.tree(b"/", &[])?;
                    writer.commit(snapshot_file(tree), &lock, &Events::ignored())?;
                    Ok(contents)
                });
            let sound = Arc::new(Repository::open(Arc::clone(&inner), b"password").unwrap());
            if let Ok(contents) = attempt {
                for (file, content) in files.iter().zip(&contents) {
                    assert!(read_back(&sound, content) == *file);
                }
            }
            // What a lost answer left behind must be readable, too.
            for snapshot in sound.snapshots().unwrap().readable {
                assert_eq!(Reader::new(&sound).unwrap().tree(snapshot.file.tree).unwrap(), vec![]);
                sound.remove_snapshot(snapshot.id).unwrap();
            }
            for kind in [FileKind::Pack, FileKind::Index, FileKind::Lock] {
                for listed in inner.list(kind).unwrap() {
                    inner.remove(FileName::Id(kind, listed.id)).unwrap();
                }
            }
            if faulty.calls() < call {
                assert!(call > 10, "{call} calls");
                break;
            }
        }
    }
}

#[test]
fn who_feeds_the_writer_is_told_what_the_store_said() {
    let directory = tempfile::tempdir().unwrap();
    drop(repository(&directory));
    let inner: Arc<dyn Store> = Arc::new(LocalStore::new(directory.path().join("repository")));
    let open = |failing_call| {
        let faulty = Arc::new(FaultyStore::new(Arc::clone(&inner), failing_call, Fault::Forever));
        let store = Arc::clone(&faulty) as Arc<dyn Store>;
        (Arc::new(Repository::open(store, b"password").unwrap()), faulty)
    };
    let calls = open(0).1.calls();
    let bytes = noise(80_000_000, 5);
    for _ in 0..8 {
        let (repository, _) = open(calls + 1);
        let writer = Writer::start(&repository, BlobIndex::default(), &Cancel::new()).unwrap();
        let mut stream = writer.file();
        let error = bytes.chunks(1 << 20).try_for_each(|piece| stream.append(piece)).unwrap_err();
        assert!(matches!(error, RepositoryError::Store(_)), "{error}");
    }
}

#[test]
fn a_directory_with_a_name_twice_is_not_stored() {
    let directory = tempfile::tempdir().unwrap();
    let repository = repository(&directory);
    let writer = Writer::start(&repository, BlobIndex::default(), &Cancel::new()).unwrap();
    let stored = writer.tree(b"/", &[]).unwrap();
    let nodes = ["a", "b", "b"].map(|name| {
        let node = tree::tests::node(name.as_bytes(), NodeKind::Directory);
        tree::TreeNode { node, content: Vec::new(), subtree: Some(stored) }
    });
    assert!(writer.tree(b"/", &nodes[..2]).is_ok());
    assert!(writer.tree(b"/", &nodes).is_err());
}

#[test]
fn workers_let_others_run_first() {
    let own = || rustix::process::getpriority_process(None).unwrap();
    let before = own();
    let stepped_back = std::thread::spawn(move || {
        step_back();
        own()
    });
    assert_eq!(stepped_back.join().unwrap(), (before + WORKERS_NICER).min(19));
    assert_eq!(own(), before, "it is the thread's own matter");
}
