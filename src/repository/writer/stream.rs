//! One file on its way into the repository: bytes in, blob ids out.

use super::{Chunk, Shared, lock};
use crate::model::id::{BlobId, Sha256};
use crate::repository::RepositoryError;
use crate::repository::format::chunker::MAX_BYTES;
use crate::repository::format::pack::BlobKind;
use sha2::Digest as _;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A cut is looked for once so many bytes are there: nearly all chunks are shorter, so few are scanned twice.
const SCAN_BYTES: usize = 4 * 1024 * 1024;

/// A file that is being written. Dropping it abandons the file; its chunks stay unreferenced.
pub struct FileStream {
    shared: Arc<Shared>,
    /// Bytes from `start` on have not been cut yet.
    buffer: Vec<u8>,
    start: usize,
    /// How many bytes to gather before a cut is looked for.
    scan_at: usize,
    size: u64,
    sum: sha2::Sha256,
    ids: Arc<Ids>,
    chunks: usize,
}

/// The blobs of a file, in order, each known once a worker has hashed it.
#[derive(Default)]
struct Ids {
    known: Mutex<Vec<Option<BlobId>>>,
    changed: Condvar,
}

/// The place of one chunk's id. Dropped unfilled, it tells whoever waits that there is nothing to wait for.
pub(super) struct Slot {
    ids: Arc<Ids>,
    number: usize,
}

/// A file that was written wholly, whose blobs may still be on their way.
pub struct PendingContent {
    shared: Arc<Shared>,
    ids: Arc<Ids>,
    chunks: usize,
    size: u64,
    /// `None` where the file has one chunk, whose id is the same sum.
    sum: Option<Sha256>,
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
        let mut known = lock(&self.ids.known);
        if known.len() <= self.number {
            known.resize(self.number + 1, None);
        }
        known[self.number] = Some(id);
        drop(known);
        self.ids.changed.notify_all();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.ids.changed.notify_all();
    }
}

impl FileStream {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            buffer: Vec::new(),
            start: 0,
            scan_at: SCAN_BYTES,
            size: 0,
            sum: sha2::Sha256::default(),
            ids: Arc::default(),
            chunks: 0,
        }
    }

    /// Append bytes; waits while the workers are busy.
    pub fn append(&mut self, mut bytes: &[u8]) -> Result<(), RepositoryError> {
        self.size += bytes.len() as u64;
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

    fn send(&mut self, length: usize) -> Result<(), RepositoryError> {
        let bytes = self.buffer[self.start..self.start + length].to_vec();
        self.start += length;
        self.sum.update(&bytes);
        self.send_chunk(bytes)
    }

    fn send_chunk(&mut self, bytes: Vec<u8>) -> Result<(), RepositoryError> {
        let slot = Slot { ids: Arc::clone(&self.ids), number: self.chunks };
        self.chunks += 1;
        self.shared.send(Chunk { bytes, kind: BlobKind::Data, id: None, slot: Some(slot) })
    }

    /// The file is complete.
    pub fn finish(mut self) -> Result<PendingContent, RepositoryError> {
        loop {
            let waiting = self.waiting();
            if waiting == 0 {
                break;
            }
            let length = self.shared.chunker.cut(&self.buffer[self.start..]);
            if length == waiting && self.chunks == 0 {
                // The usual small file: the buffer itself is the chunk, and its id is the file's sum.
                let buffer = std::mem::take(&mut self.buffer);
                self.start = 0;
                self.send_chunk(buffer)?;
                return Ok(self.pending(None));
            }
            self.send(length)?;
        }
        let sum = std::mem::take(&mut self.sum).finalize();
        Ok(self.pending(Some(Sha256(sum.into()))))
    }

    fn pending(self, sum: Option<Sha256>) -> PendingContent {
        PendingContent {
            shared: self.shared,
            ids: self.ids,
            chunks: self.chunks,
            size: self.size,
            sum,
        }
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
    /// Wait until all blobs are known.
    pub fn wait(self) -> Result<Content, RepositoryError> {
        let mut known = lock(&self.ids.known);
        while known.len() < self.chunks || known.contains(&None) {
            // Chunks that were dropped because the run failed fill nothing: the failure ends the wait.
            self.shared.check()?;
            let pause = std::time::Duration::from_millis(100);
            (known, _) =
                self.ids.changed.wait_timeout(known, pause).unwrap_or_else(PoisonError::into_inner);
        }
        let blobs: Vec<BlobId> = known.iter().flatten().copied().collect();
        drop(known);
        let sha256 = match (self.sum, blobs.as_slice()) {
            (Some(sum), _) => sum,
            (None, [only]) => Sha256::from(*only),
            (None, _) => {
                return Err(RepositoryError::Internal(
                    "a file of one chunk has not one blob".into(),
                ));
            }
        };
        Ok(Content { blobs, size: self.size, sha256 })
    }
}
