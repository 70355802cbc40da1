//! A file's content, read ahead by several threads: whoever takes it need not wait while the next blobs are fetched, decrypted,
//! unfolded and compared with their sums.

use super::Reader;
use crate::model::id::BlobId;
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// More threads would wait for whoever takes the content.
const MOST_THREADS: usize = 4;
/// One fetches while the other unfolds.
const FEW_THREADS: usize = 2;
/// Blobs that wait for each thread's turn. With the one that it works on this bounds the memory.
const WAITING: usize = 1;

/// A file's content as a stream that is read ahead. Dropping it ends its threads.
pub struct ContentAhead {
    /// Each thread reads every so many-th blob, and has a channel of its own, so that the order stays.
    threads: Vec<Receiver<io::Result<Vec<u8>>>>,
    turn: usize,
    /// Blobs that have not come yet: without them the content has not ended.
    left: usize,
    current: Cursor<Vec<u8>>,
}

/// Some of a blob's bytes.
#[derive(Clone)]
struct Slice {
    id: BlobId,
    bytes: Range<u64>,
}

impl Reader {
    /// What these blobs hold, one after the other, as a stream that threads of `scope` read ahead. It has to be dropped before that ends.
    pub fn stream_ahead<'scope>(
        &'scope self,
        blobs: &[BlobId],
        scope: &'scope Scope<'scope, '_>,
    ) -> ContentAhead {
        let whole = blobs.iter().map(|id| Slice { id: *id, bytes: 0..u64::MAX });
        let count = std::thread::available_parallelism().map_or(FEW_THREADS, usize::from);
        self.spawn(&whole.collect::<Vec<_>>(), count.clamp(FEW_THREADS, MOST_THREADS), scope)
    }

    /// The same of these ranges only, which rise: one of several streams that are read at once.
    pub fn ranges_ahead<'scope>(
        &'scope self,
        blobs: &[BlobId],
        ranges: &[Range<u64>],
        scope: &'scope Scope<'scope, '_>,
    ) -> Result<ContentAhead, RepositoryError> {
        let mut slices = Vec::new();
        let (mut start, mut left) = (0, ranges);
        for id in blobs {
            let end = start + self.locate(BlobKind::Data, *id)?.blob.plaintext_length();
            let passed = left.iter().take_while(|range| range.end <= start).count();
            left = &left[passed..];
            for range in left.iter().take_while(|range| range.start < end) {
                let bytes = range.start.max(start) - start..range.end.min(end) - start;
                slices.push(Slice { id: *id, bytes });
            }
            start = end;
        }
        Ok(self.spawn(&slices, FEW_THREADS, scope))
    }

    fn spawn<'scope>(
        &'scope self,
        slices: &[Slice],
        count: usize,
        scope: &'scope Scope<'scope, '_>,
    ) -> ContentAhead {
        let threads = (0..count).map(|first| {
            let (sender, receiver) = sync_channel(WAITING);
            let some: Vec<Slice> = slices.iter().skip(first).step_by(count).cloned().collect();
            scope.spawn(move || self.read_ahead(&some, &sender));
            receiver
        });
        let threads = threads.collect();
        ContentAhead { threads, turn: 0, left: slices.len(), current: Cursor::default() }
    }

    fn read_ahead(&self, slices: &[Slice], sender: &SyncSender<io::Result<Vec<u8>>>) {
        for Slice { id, bytes } in slices {
            let blob = self.blob(BlobKind::Data, *id).map_err(io::Error::other).map(|mut blob| {
                blob.truncate(usize::try_from(bytes.end).unwrap_or(usize::MAX));
                blob.drain(..(bytes.start as usize).min(blob.len()));
                blob
            });
            // Nobody takes it any more.
            if sender.send(blob).is_err() {
                return;
            }
        }
    }
}

impl Read for ContentAhead {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() || self.left == 0 {
                return Ok(count);
            }
            let next = self.threads[self.turn].recv();
            let blob = next.map_err(|_| io::Error::other("a thread that reads ahead has ended"))?;
            // Whoever tries again after an error does not get what comes behind it.
            if blob.is_err() {
                self.threads[self.turn] = sync_channel(0).1;
            }
            self.current = Cursor::new(blob?);
            self.turn = (self.turn + 1) % self.threads.len();
            self.left -= 1;
        }
    }
}
