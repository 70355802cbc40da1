//! One file on its way into the repository: bytes in, blob ids out.

use super::{Chunk, Shared, lock};
use crate::model::id::{BlobId, Sha256};
use crate::repository::RepositoryError;
use crate::repository::format::chunker::MAX_BYTES;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::sum::FileSum;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A cut is looked for once so many bytes are there: nearly all chunks are shorter, so few are scanned twice.
const SCAN_BYTES: usize = 4 * 1024 * 1024;

/// A file that is being written. Dropping it abandons the file; its chunks stay unreferenced.
pub struct FileStream {
    shared: Arc<Shared>,
    /// Whether it counts as read.
    counts: bool,
    /// Bytes from `start` on have not been cut yet.
    buffer: Vec<u8>,
    start: usize,
    /// How many bytes to gather before a cut is looked for.
    scan_at: usize,
    size: u64,
    sum: FileSum,
    blobs: Vec<BlobId>,
}

/// The id of a file's only blob, once a worker has hashed it.
#[derive(Default)]
struct Promise {
    id: Mutex<Option<BlobId>>,
    changed: Condvar,
}

/// Where a worker puts the id. Dropped unfilled, it tells whoever waits that there is nothing to wait for.
pub(super) struct Slot(Arc<Promise>);

/// A file that was written wholly, whose blobs may still be on their way.
#[derive(Clone)]
pub struct PendingContent(Pending);

#[derive(Clone)]
enum Pending {
    /// The usual small file: one chunk, whose id is the file's sum.
    One { shared: Arc<Shared>, promise: Arc<Promise>, size: u64 },
    /// The chunks were hashed together with the file.
    Known(Content),
}

/// What a file consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its blobs in order.
    pub blobs: Vec<BlobId>,
    /// Its bytes.
    pub size: u64,
    /// The sum of the whole.
    pub sha256: Sha256,
}

impl Slot {
    pub(super) fn fill(self, id: BlobId) {
        *lock(&self.0.id) = Some(id);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.changed.notify_all();
    }
}

impl FileStream {
    pub(super) fn new(shared: Arc<Shared>, counts: bool) -> Self {
        Self {
            shared,
            counts,
            buffer: Vec::new(),
            start: 0,
            scan_at: SCAN_BYTES,
            size: 0,
            sum: FileSum::default(),
            blobs: Vec::new(),
        }
    }

    /// Append bytes; waits while the workers are busy.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), RepositoryError> {
        self.size += bytes.len() as u64;
        if self.counts {
            self.shared.read_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        while !bytes.is_empty() {
            let room = self.scan_at - self.waiting();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.make_room(now.len());
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.waiting() < self.scan_at {
                continue;
            }
            let length = self.shared.chunker.cut(&self.buffer[self.start..]);
            if length == self.waiting() && length < MAX_BYTES {
                // No cut so far: gather as much as a chunk may have.
                self.scan_at = MAX_BYTES;
            } else {
                self.scan_at = SCAN_BYTES.max(self.waiting() - length + 1);
                self.send(length)?;
            }
        }
        Ok(())
    }

    /// Bytes that have not been cut yet.
    fn waiting(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Before the buffer grows beyond what most files need, make it as large as it may get; once it is, move what is left
    /// to its front instead.
    fn make_room(&mut self, more: usize) {
        if self.buffer.len() + more > SCAN_BYTES && self.buffer.capacity() < MAX_BYTES {
            self.buffer.reserve_exact(MAX_BYTES - self.buffer.len());
        }
        if self.buffer.len() + more > self.buffer.capacity() {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }

    /// Hash the next chunk, and hand it over unless it is stored already.
    fn send(&mut self, length: usize) -> Result<(), RepositoryError> {
        let bytes = &self.buffer[self.start..self.start + length];
        let id = BlobId(self.sum.append(bytes).0);
        self.blobs.push(id);
        if self.shared.is_stored(BlobKind::Data, id) {
            self.shared.check()?;
        } else {
            let bytes = bytes.to_vec();
            self.shared.send(Chunk { bytes, kind: BlobKind::Data, id: Some(id), slot: None })?;
        }
        self.start += length;
        Ok(())
    }

    /// The file is complete.
    pub fn finish(mut self) -> Result<PendingContent, RepositoryError> {
        while self.waiting() > 0 {
            let length = self.shared.chunker.cut(&self.buffer[self.start..]);
            if length == self.waiting() && self.blobs.is_empty() {
                return self.finish_small();
            }
            self.send(length)?;
        }
        let Self { blobs, size, sum, .. } = self;
        Ok(PendingContent(Pending::Known(Content { blobs, size, sha256: sum.finish() })))
    }

    /// The buffer itself is the only chunk; a worker hashes it while the next file is read.
    fn finish_small(self) -> Result<PendingContent, RepositoryError> {
        let Self { shared, buffer: bytes, size, .. } = self;
        let promise = Arc::<Promise>::default();
        let slot = Some(Slot(Arc::clone(&promise)));
        shared.send(Chunk { bytes, kind: BlobKind::Data, id: None, slot })?;
        Ok(PendingContent(Pending::One { shared, promise, size }))
    }
}

impl io::Write for FileStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl PendingContent {
    /// How many blobs it has.
    pub fn blobs(&self) -> usize {
        match &self.0 {
            Pending::One { .. } => 1,
            Pending::Known(content) => content.blobs.len(),
        }
    }

    /// Wait until all blobs are known.
    pub fn wait(self) -> Result<Content, RepositoryError> {
        let (shared, promise, size) = match self.0 {
            Pending::Known(content) => return Ok(content),
            Pending::One { shared, promise, size } => (shared, promise, size),
        };
        let mut known = lock(&promise.id);
        loop {
            if let Some(id) = *known {
                return Ok(Content { blobs: vec![id], size, sha256: id.into() });
            }
            // A chunk that was dropped because the run failed fills nothing: the failure ends the wait.
            shared.check()?;
            let pause = std::time::Duration::from_millis(100);
            (known, _) =
                promise.changed.wait_timeout(known, pause).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
