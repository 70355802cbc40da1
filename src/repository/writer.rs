//! Writing a snapshot: streams are cut into chunks, chunks become blobs, blobs become packs, packs go to the store.
//!
//! ```text
//! FileStream (cut, hash, compare) ──chunks──▶ workers (compress, encrypt, pack, verify) ──packs──▶ uploaders ──▶ store
//! ```
//! Files of one chunk, and so most files, are hashed by the workers.
//! Each stage has its own threads and waits for the next one through a queue that is bounded by bytes. The first failure
//! closes the queues, and every stream ends with an error. Until [`Writer::commit`] has written the snapshot, all that is
//! in the repository is packs and indexes that nothing refers to.

pub(in crate::repository) mod packer;
mod removed;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::{Content, FileStream, PendingContent};

use super::blob_index::BlobIndex;
use super::format::chunker::Chunker;
use super::format::compress::{Compressor, MAX_TREE_BYTES};
use super::format::index::{IndexFile, IndexPack, MAX_BLOBS};
use super::format::pack::{BlobKind, PackedBlob};
use super::format::snapshot::SnapshotFile;
use super::format::{FormatError, sha256, tree};
use super::lock::Lock;
use super::queue::Queue;
use super::{Repository, RepositoryError, Snapshot};
use crate::model::event::{Cancel, Cancelled, Events};
use crate::model::id::{BlobId, FileId};
use crate::store::{FileKind, FileName};
use packer::{FinishedPack, Packer};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use stream::Slot;

/// Plaintext on its way through the workers.
const CHUNK_QUEUE_BYTES: usize = 8 * 1024 * 1024;
/// Packs on their way to the store: one and a bit. Workers that wait hold one each, so that the disk is kept busy.
const PACK_QUEUE_BYTES: usize = 20 * 1024 * 1024;
/// More threads would need more memory than they gain: one worker hashes and encrypts about 500 MB/s.
const MAX_WORKERS: usize = 6;
/// By so much nicer than the rest of the process are workers: a third of the time where all processors are taken.
const WORKERS_NICER: i32 = 5;
/// One keeps a local disk busy: workers fill the next pack while it syncs.
const UPLOADERS: usize = 1;

/// A piece of plaintext on its way to a worker.
struct Chunk {
    bytes: Vec<u8>,
    kind: BlobKind,
    /// Not known yet for files of one chunk.
    id: Option<BlobId>,
    /// Where the id is awaited.
    slot: Option<Slot>,
}

/// What a run has written so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteStatistics {
    /// Bytes of content that came in, whether they were new or not.
    pub read_bytes: u64,
    /// Bytes of new blobs, compressed and sealed.
    pub added_bytes: u64,
    /// Blobs that were new.
    pub new_blobs: u64,
}

/// Writes one snapshot.
pub struct Writer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    uploaders: Vec<JoinHandle<()>>,
}

struct Shared {
    repository: Arc<Repository>,
    index: Arc<BlobIndex>,
    chunker: Chunker,
    cancel: Cancel,
    chunks: Queue<Chunk>,
    packs: Queue<FinishedPack>,
    /// Blobs that this run stores, so that none is stored twice.
    own: Mutex<HashSet<(BlobKind, BlobId)>>,
    /// A tree in the repository could not be read: none there counts.
    trees_distrusted: AtomicBool,
    data: Packer,
    trees: Packer,
    stored: Mutex<Stored>,
    failed: AtomicBool,
    failure: Mutex<Option<RepositoryError>>,
    read_bytes: AtomicU64,
    added_bytes: AtomicU64,
    new_blobs: AtomicU64,
}

/// Packs that are durably in the store.
#[derive(Default)]
struct Stored {
    unindexed: Vec<IndexPack>,
    unindexed_blobs: usize,
    packs: Vec<FileId>,
    indexes: Vec<FileId>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    /// Start the threads of a run. `index` tells what is in the repository already.
    pub fn start(
        repository: &Arc<Repository>,
        index: impl Into<Arc<BlobIndex>>,
        cancel: &Cancel,
    ) -> Result<Self, RepositoryError> {
        repository.require_config()?;
        let workers =
            std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MAX_WORKERS);
        let shared = Arc::new(Shared {
            repository: Arc::clone(repository),
            index: index.into(),
            chunker: Chunker::new(&repository.key),
            cancel: cancel.clone(),
            chunks: Queue::new(CHUNK_QUEUE_BYTES),
            packs: Queue::new(PACK_QUEUE_BYTES),
            own: Mutex::default(),
            trees_distrusted: AtomicBool::new(false),
            // Two open packs, so that which chunk follows which does not show (and two workers seldom meet).
            data: Packer::new(BlobKind::Data, 2),
            trees: Packer::new(BlobKind::Tree, 1),
            stored: Mutex::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::default(),
            read_bytes: AtomicU64::new(0),
            added_bytes: AtomicU64::new(0),
            new_blobs: AtomicU64::new(0),
        });
        let mut writer = Self { shared, threads: Vec::new(), uploaders: Vec::new() };
        for _ in 0..workers {
            let thread = spawn("worker", &writer.shared, Shared::work)?;
            writer.threads.push(thread);
        }
        for _ in 0..UPLOADERS {
            let thread = spawn("uploader", &writer.shared, Shared::upload)?;
            writer.uploaders.push(thread);
        }
        Ok(writer)
    }

    /// Begin a file. Several may be open at once, each in a thread of its own.
    pub fn file(&self) -> FileStream {
        FileStream::new(Arc::clone(&self.shared), true)
    }

    /// The same for one that is about the content, and none of it: nobody has read it anywhere.
    pub fn document(&self) -> FileStream {
        FileStream::new(Arc::clone(&self.shared), false)
    }

    /// Store the directory at `path`, whose nodes must be sorted by name, each of another name.
    pub fn tree(&self, path: &[u8], nodes: &[tree::TreeNode]) -> Result<BlobId, RepositoryError> {
        if !nodes.is_sorted_by(|a, b| a.node.name < b.node.name) {
            let reason = "the entries of a directory are not sorted, or one comes twice";
            return Err(RepositoryError::Internal(reason.into()));
        }
        let bytes = tree::encode_within(nodes, MAX_TREE_BYTES)
            .ok_or_else(|| RepositoryError::large_directory(path, MAX_TREE_BYTES))?;
        let id = BlobId(sha256(&bytes));
        self.shared.send(Chunk { bytes, kind: BlobKind::Tree, id: Some(id), slot: None })?;
        Ok(id)
    }

    /// What is known of the repository, as it was when the run began.
    pub fn index(&self) -> &BlobIndex {
        &self.shared.index
    }

    /// A tree was found damaged: from now on all trees of this run are stored, also those that the repository has. They are
    /// small, and one that did not change would be sealed as it is.
    pub fn distrust_trees(&self) {
        self.shared.trees_distrusted.store(true, Ordering::SeqCst);
    }

    /// Wait until all that was handed over so far is counted in the statistics.
    pub fn settle(&self) -> Result<(), RepositoryError> {
        self.shared.chunks.wait_until_empty();
        self.shared.check()
    }

    /// What was written so far.
    pub fn statistics(&self) -> WriteStatistics {
        WriteStatistics {
            read_bytes: self.shared.read_bytes.load(Ordering::Relaxed),
            added_bytes: self.shared.added_bytes.load(Ordering::Relaxed),
            new_blobs: self.shared.new_blobs.load(Ordering::Relaxed),
        }
    }

    /// Wait until everything that was handed over is durably stored. What no index lists yet is [`Shared::write_index`]'s.
    fn finish(&mut self) -> Result<(), RepositoryError> {
        let shared = &self.shared;
        shared.chunks.close();
        join(self.threads.drain(..))?;
        shared.check()?;
        for packer in [&shared.trees, &shared.data] {
            for pack in packer.take_all() {
                if let Err(error) = shared.close_pack(pack) {
                    shared.fail(error);
                }
            }
        }
        shared.packs.close();
        join(self.uploaders.drain(..))?;
        shared.check()
    }

    /// Make the snapshot real: everything it refers to is made durable first, the lock must be held before, and this run's
    /// packs must be there after; otherwise the snapshot is withdrawn.
    ///
    /// A lock that somebody removed meanwhile is taken again, and then nothing that the snapshot needs may have gone.
    pub fn commit(
        mut self,
        file: SnapshotFile,
        lock: &Lock,
        events: &Events,
    ) -> Result<Snapshot, RepositoryError> {
        self.finish()?;
        let committed = self.shared.commit(file, lock, events);
        if let Err(RepositoryError::RemovedMeanwhile { .. }) = &committed {
            self.shared.mend_own_indexes(lock, events);
        }
        committed
    }
}

impl Drop for Writer {
    /// An abandoned run stops its threads; what is stored stays unreferenced.
    fn drop(&mut self) {
        self.shared.chunks.abandon();
        self.shared.packs.abandon();
        self.shared.failed.store(true, Ordering::SeqCst);
        // A thread that panicked was told when it did, and there is nobody to tell now.
        let _ = join(self.threads.drain(..).chain(self.uploaders.drain(..)));
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<(), RepositoryError> + Send + 'static,
) -> Result<JoinHandle<()>, RepositoryError> {
    let shared = Arc::clone(shared);
    let run = move || {
        // A panic would leave the others waiting: it is a failure like any other, told through `fail`.
        let guard = FailOnPanic(&shared);
        if let Err(error) = work(&shared) {
            shared.fail(error);
        }
        std::mem::forget(guard);
    };
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(|error| RepositoryError::Internal(format!("could not start a thread: {error}")))
}

/// Let other threads and programs run before this thread, where there are fewer processors than work: whatever is read
/// comes first, and so does what the machine is there for. What waits is bounded, and holds the reading up in the end.
fn step_back() {
    // Whoever may not even be nicer goes on as they are.
    let _ = rustix::process::nice(WORKERS_NICER);
}

fn failed_already() -> RepositoryError {
    RepositoryError::Internal("the run failed already".into())
}

struct FailOnPanic<'a>(&'a Shared);

impl Drop for FailOnPanic<'_> {
    fn drop(&mut self) {
        self.0.fail(RepositoryError::Internal("a thread of the writer panicked".into()));
    }
}

fn join(threads: impl Iterator<Item = JoinHandle<()>>) -> Result<(), RepositoryError> {
    let mut result = Ok(());
    for thread in threads {
        if thread.join().is_err() {
            result = Err(RepositoryError::Internal("a thread of the writer panicked".into()));
        }
    }
    result
}

impl Shared {
    fn commit(
        &self,
        file: SnapshotFile,
        lock: &Lock,
        events: &Events,
    ) -> Result<Snapshot, RepositoryError> {
        // An index must not list packs that a prune took for leftovers.
        self.ensure_locked(lock, events)?;
        self.write_index(&mut self::lock(&self.stored))?;
        self.ensure_locked(lock, events)?;
        self.cancel.check()?;
        let id = self.repository.save(FileKind::Snapshot, &file)?;
        let withdraw = |error| {
            if let Err(left) = self.repository.store.remove(FileName::Id(FileKind::Snapshot, id)) {
                events.warn(format!(
                    "Snapshot {} lacks something and could not be withdrawn ({left}). Remove it: restic forget {id}.",
                    id.short()
                ));
            }
            error
        };
        self.ensure_nothing_removed().map_err(withdraw)?;
        Ok(Snapshot { id: id.into(), file })
    }

    /// Keep the first failure and wake everybody who waits.
    fn fail(&self, error: RepositoryError) {
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::SeqCst);
        self.chunks.abandon();
        self.packs.abandon();
    }

    /// An error once the run failed or was cancelled: the failure itself for who asks first. Threads of the writer ask
    /// [`Shared::ensure_running`] instead, and leave it to the caller.
    fn check(&self) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        let failure = lock(&self.failure).take();
        Err(failure.unwrap_or_else(failed_already))
    }

    fn ensure_running(&self) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        if self.failed.load(Ordering::SeqCst) { Err(failed_already()) } else { Ok(()) }
    }

    /// Whether a blob is in the repository, or this run is about to store it.
    fn is_stored(&self, kind: BlobKind, id: BlobId) -> bool {
        self.is_in_repository(kind, id) || lock(&self.own).contains(&(kind, id))
    }

    fn is_in_repository(&self, kind: BlobKind, id: BlobId) -> bool {
        let is_trusted = kind == BlobKind::Data || !self.trees_distrusted.load(Ordering::SeqCst);
        is_trusted && self.index.contains(kind, id)
    }

    fn send(&self, chunk: Chunk) -> Result<(), RepositoryError> {
        self.check()?;
        let weight = chunk.bytes.len();
        if self.chunks.push(chunk, weight) {
            return Ok(());
        }
        self.check()?;
        Err(RepositoryError::Cancelled(Cancelled))
    }

    fn work(&self) -> Result<(), RepositoryError> {
        step_back();
        let internal = |error: FormatError| RepositoryError::Internal(error.to_string());
        let mut worker = Worker {
            compressor: Compressor::new(self.repository.compression).map_err(internal)?,
            compressed: Vec::new(),
            sealed: Vec::new(),
        };
        let mut result = Ok(());
        while result.is_ok()
            && self.chunks.pop(|chunk| result = self.store_chunk(chunk, &mut worker))
        {}
        result
    }

    fn store_chunk(&self, chunk: Chunk, worker: &mut Worker) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        let Chunk { bytes, kind, id, slot } = chunk;
        let id = id.unwrap_or_else(|| BlobId(sha256(&bytes)));
        if let Some(slot) = slot {
            slot.fill(id);
        }
        if self.is_in_repository(kind, id) || !lock(&self.own).insert((kind, id)) {
            return Ok(());
        }
        let blob = worker.seal(&self.repository, kind, id, &bytes)?;
        drop(bytes);
        self.new_blobs.fetch_add(1, Ordering::Relaxed);
        self.added_bytes.fetch_add(u64::from(blob.length), Ordering::Relaxed);
        let packer = match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        };
        match packer.append(blob, &worker.sealed) {
            Some(full) => self.close_pack(full),
            None => Ok(()),
        }
    }

    /// Finish a pack, read it back from memory, and send it on.
    fn close_pack(&self, pack: packer::OpenPack) -> Result<(), RepositoryError> {
        let finished = pack.finish(&self.repository.key)?;
        let weight = finished.bytes.len();
        if self.packs.push(finished, weight) { Ok(()) } else { self.ensure_running() }
    }

    fn upload(&self) -> Result<(), RepositoryError> {
        let mut result = Ok(());
        while result.is_ok() && self.packs.pop(|pack| result = self.store_pack(pack)) {}
        result
    }

    fn store_pack(&self, pack: FinishedPack) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        self.repository.store.write(FileName::Id(FileKind::Pack, pack.id), &pack.bytes)?;
        self.data.recycle(pack.bytes);
        let mut stored = lock(&self.stored);
        stored.packs.push(pack.id);
        stored.unindexed_blobs += pack.blobs.len();
        stored.unindexed.push(IndexPack::new(pack.id, &pack.blobs));
        if stored.unindexed_blobs >= MAX_BLOBS { self.write_index(&mut stored) } else { Ok(()) }
    }

    /// Write an index file for the packs that have none yet.
    fn write_index(&self, stored: &mut Stored) -> Result<(), RepositoryError> {
        if stored.unindexed.is_empty() {
            return Ok(());
        }
        let packs = std::mem::take(&mut stored.unindexed);
        stored.unindexed_blobs = 0;
        let id = self.repository.save(FileKind::Index, &IndexFile { supersedes: vec![], packs })?;
        stored.indexes.push(id);
        Ok(())
    }
}

/// What a worker keeps from one chunk to the next.
struct Worker {
    compressor: Compressor,
    compressed: Vec<u8>,
    sealed: Vec<u8>,
}

impl Worker {
    /// Compress and encrypt a blob into `self.sealed`.
    fn seal(
        &mut self,
        repository: &Repository,
        kind: BlobKind,
        id: BlobId,
        plaintext: &[u8],
    ) -> Result<PackedBlob, RepositoryError> {
        let internal = |error: FormatError| RepositoryError::Internal(error.to_string());
        let is_smaller =
            self.compressor.compress(plaintext, &mut self.compressed).map_err(internal)?;
        // restic takes trees that are not compressed for leftovers of version 1 and rewrites them.
        let is_compressed = is_smaller || kind == BlobKind::Tree;
        let stored = if is_compressed { &self.compressed } else { plaintext };
        self.sealed.clear();
        repository
            .key
            .seal_into(stored, &mut self.sealed)
            .map_err(|error| RepositoryError::Internal(error.to_string()))?;
        let length = |length: usize| {
            u32::try_from(length).map_err(|_| {
                RepositoryError::Internal(format!("a blob of {length} bytes is too large"))
            })
        };
        let uncompressed_length = if is_compressed { Some(length(plaintext.len())?) } else { None };
        Ok(PackedBlob {
            id,
            kind,
            offset: 0,
            length: length(self.sealed.len())?,
            uncompressed_length,
        })
    }
}
