//! A file's content, read ahead by several threads: whoever takes it need not wait while the next blobs are fetched, decrypted,
//! unfolded and compared with their sums.

use super::Reader;
use crate::model::id::BlobId;
use crate::repository::format::pack::BlobKind;
use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// More threads would wait for whoever takes the content.
const MOST_THREADS: usize = 4;
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

impl Reader {
    /// What these blobs hold, one after the other, as a stream that threads of `scope` read ahead. It has to be dropped before that ends.
    pub fn stream_ahead<'scope>(
        &'scope self,
        blobs: &'scope [BlobId],
        scope: &'scope Scope<'scope, '_>,
    ) -> ContentAhead {
        let count = std::thread::available_parallelism().map_or(2, usize::from);
        let count = count.clamp(2, MOST_THREADS);
        let threads = (0..count).map(|first| {
            let (sender, receiver) = sync_channel(WAITING);
            let some = blobs.iter().skip(first).step_by(count);
            scope.spawn(move || self.read_ahead(some, &sender));
            receiver
        });
        let threads = threads.collect();
        ContentAhead { threads, turn: 0, left: blobs.len(), current: Cursor::default() }
    }

    fn read_ahead<'a>(
        &self,
        blobs: impl Iterator<Item = &'a BlobId>,
        sender: &SyncSender<io::Result<Vec<u8>>>,
    ) {
        for id in blobs {
            let blob = self.blob(BlobKind::Data, *id).map_err(io::Error::other);
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
