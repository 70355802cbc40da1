//! Reading packs: every byte of those that are asked for, and of those that do not have the size that they should have.

use super::files::Packs;
use super::ledger::{Ledger, Number, blob_name, fault};
use super::progress::Progress;
use super::report::{CheckOptions, FindingKind};
use crate::model::event::{Cancel, Events};
use crate::model::id::{BlobId, FileId};
use crate::repository::format::index::{self, IndexFile};
use crate::repository::format::pack::{self, BlobKind, PackedBlob};
use crate::repository::format::{FormatError, verify_sum};
use crate::repository::reader::{Reader, ensure_length};
use crate::repository::{Repository, RepositoryError};
use crate::store::{FileKind, FileName};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Packs are read at the same time by so many threads.
const THREADS: usize = 2;
/// A larger pack is read blob by blob, so that memory stays bounded.
const MAX_WHOLE_BYTES: u64 = 256 * 1024 * 1024;

/// What reading packs has shown.
#[derive(Default)]
pub(super) struct BadBlobs {
    /// Blobs that cannot be read from where a reader looks for them, with the finding that says so.
    pub(super) blobs: HashMap<(BlobKind, BlobId), Number>,
    /// Bytes that were read.
    pub(super) bytes_read: u64,
}

/// A pack to be read.
struct Job {
    id: FileId,
    size: u64,
    /// What an index says that it holds; none where no index lists it, and its own header is believed.
    listed: Option<Vec<PackedBlob>>,
}

/// Hands out packs together with their blobs, one index file at a time.
struct Source<'a> {
    repository: &'a Repository,
    /// Sizes of the packs that are still to be read.
    wanted: HashMap<FileId, u64>,
    indexes: Vec<FileId>,
    jobs: Vec<Job>,
}

/// What is wrong with a pack.
#[derive(Default)]
struct Verdict {
    /// Of the pack as a whole.
    faults: Vec<String>,
    /// Of single blobs.
    bad: Vec<(PackedBlob, String)>,
    /// How many blobs were tried.
    tried: usize,
}

/// What the threads share.
struct Check<'a> {
    repository: &'a Repository,
    reader: &'a Reader,
    packs: &'a Packs,
    cancel: &'a Cancel,
    progress: Progress<'a>,
    source: Mutex<Source<'a>>,
    results: Mutex<(BadBlobs, &'a mut Ledger)>,
    failed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Read the packs that the options ask for, and those whose size is wrong.
pub(super) fn check_packs(
    repository: &Repository,
    reader: &Reader,
    packs: &Packs,
    options: CheckOptions,
    ledger: &mut Ledger,
    events: &Events,
    cancel: &Cancel,
) -> Result<BadBlobs, RepositoryError> {
    let source = Source::new(repository, packs, options);
    let total_bytes = source.wanted.values().sum();
    let check = Check {
        repository,
        reader,
        packs,
        cancel,
        progress: Progress::new(events, Some(total_bytes)),
        source: Mutex::new(source),
        results: Mutex::new((BadBlobs::default(), ledger)),
        failed: AtomicBool::new(false),
    };
    std::thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| scope.spawn(|| check.run()));
        threads.into_iter().try_for_each(|thread| {
            thread.join().unwrap_or_else(|_| {
                Err(RepositoryError::Internal("a thread of the check panicked".into()))
            })
        })
    })?;
    let (mut bad, _) = check.results.into_inner().unwrap_or_else(PoisonError::into_inner);
    bad.bytes_read = check.progress.finish();
    Ok(bad)
}

impl<'a> Source<'a> {
    fn new(repository: &'a Repository, packs: &Packs, options: CheckOptions) -> Self {
        let is_asked = |id: FileId| options.read_data.is_some_and(|slice| slice.contains(id));
        let mut wanted = HashMap::new();
        let mut indexes = HashSet::new();
        for (&id, listed) in &packs.listed {
            if let Some(&size) = packs.sizes.get(&id)
                && (size != listed.size || is_asked(id))
            {
                wanted.insert(id, size);
                indexes.insert(listed.index);
            }
        }
        let unlisted = packs.unlisted.iter().filter(|(id, is_known)| **is_known && is_asked(**id));
        let job = |(&id, _): (&FileId, &bool)| Job { id, size: packs.sizes[&id], listed: None };
        let jobs: Vec<Job> = unlisted.map(job).collect();
        wanted.extend(jobs.iter().map(|job| (job.id, job.size)));
        Self { repository, wanted, indexes: indexes.into_iter().collect(), jobs }
    }

    /// The next pack; none when there are no more. An index file that was read before may fail to be read now.
    fn next(&mut self) -> Result<Option<Job>, (FileId, RepositoryError)> {
        loop {
            if let Some(job) = self.jobs.pop() {
                self.wanted.remove(&job.id);
                return Ok(Some(job));
            }
            let Some(id) = self.indexes.pop() else { return Ok(None) };
            let file: Result<IndexFile, _> =
                self.repository.load(FileKind::Index, id, index::MAX_BYTES);
            let file = file.map_err(|error| (id, error))?;
            for pack in &file.packs {
                if let Some(size) = self.wanted.remove(&pack.id) {
                    let listed = Some(pack.blobs().collect());
                    self.jobs.push(Job { id: pack.id, size, listed });
                }
            }
        }
    }
}

impl Check<'_> {
    fn run(&self) -> Result<(), RepositoryError> {
        let result = self.read_packs();
        if result.is_err() {
            self.failed.store(true, Ordering::SeqCst);
        }
        result
    }

    fn read_packs(&self) -> Result<(), RepositoryError> {
        while !self.failed.load(Ordering::SeqCst) {
            let next = lock(&self.source).next();
            let job = match next {
                Ok(Some(job)) => job,
                Ok(None) => break,
                Err((index, error)) => {
                    let message = format!(
                        "The index file could be read before, and not again: {}. Packs that only it lists were not read.",
                        fault(error)?
                    );
                    let name = FileName::Id(FileKind::Index, index).to_string();
                    lock(&self.results).1.damage(FindingKind::Index, name, message);
                    continue;
                }
            };
            let verdict = self.verify(&job)?;
            self.progress.add(job.size);
            self.tell(&job, &verdict);
        }
        Ok(())
    }

    fn verify(&self, job: &Job) -> Result<Verdict, RepositoryError> {
        self.cancel.check()?;
        let name = FileName::Id(FileKind::Pack, job.id);
        let mut verdict = Verdict::default();
        if let Some(listed) = self.packs.listed.get(&job.id)
            && listed.size != job.size
        {
            verdict
                .faults
                .push(format!("it has {} bytes, and the index says {}", job.size, listed.size));
        }
        let mut bytes = None;
        if job.size <= MAX_WHOLE_BYTES {
            match self.repository.store.read(name, MAX_WHOLE_BYTES) {
                Ok(read) => bytes = Some(read),
                Err(error) => verdict.faults.push(fault(error.into())?),
            }
        }
        if let Some(bytes) = &bytes
            && let Err(error) = verify_sum(bytes, job.id.0)
        {
            verdict.faults.push(error.to_string());
        }
        let header = match &bytes {
            Some(bytes) => {
                self.header(bytes).map_err(|error| RepositoryError::format(&name, error))
            }
            None => self.repository.pack_header(job.id, job.size),
        };
        let header = match header {
            Ok(header) => Some(header),
            Err(error) => {
                verdict.faults.push(format!("its header cannot be used: {}", fault(error)?));
                None
            }
        };
        if let (Some(header), Some(listed)) = (&header, &job.listed)
            && !are_equal(header, listed)
        {
            verdict.faults.push("its header lists other blobs than the index".into());
        }
        let blobs = job.listed.as_ref().or(header.as_ref());
        for blob in blobs.into_iter().flatten() {
            self.cancel.check()?;
            verdict.tried += 1;
            if let Err(error) = self.verify_blob(job.id, blob, bytes.as_deref()) {
                verdict.bad.push((*blob, fault(error)?));
            }
        }
        Ok(verdict)
    }

    fn header(&self, bytes: &[u8]) -> Result<Vec<PackedBlob>, FormatError> {
        let size = bytes.len() as u64;
        let too_short = FormatError::TooShort { found: bytes.len(), least: 4 };
        let span = pack::header_span(*bytes.last_chunk().ok_or(too_short)?, size)?;
        pack::decode_header(&self.repository.key, &bytes[bytes.len() - span..], size)
    }

    /// Open a blob out of a pack's bytes, or out of the store where these were not read as a whole.
    fn verify_blob(
        &self,
        pack: FileId,
        blob: &PackedBlob,
        bytes: Option<&[u8]>,
    ) -> Result<(), RepositoryError> {
        let name = FileName::Id(FileKind::Pack, pack);
        let damaged = |error| RepositoryError::format(&name, error);
        ensure_length(blob).map_err(damaged)?;
        let (start, length) = (blob.offset as usize, blob.length as usize);
        if let Some(bytes) = bytes {
            let sealed = bytes
                .get(start..start + length)
                .ok_or_else(|| damaged(FormatError::invalid("it lies beyond the pack's end")))?;
            self.reader.open(pack, blob, sealed)?;
        } else {
            let sealed = self.repository.store.read_range(name, start as u64, length)?;
            self.reader.open(pack, blob, &sealed)?;
        }
        Ok(())
    }

    /// Tell what is wrong with a pack, and remember its bad blobs.
    fn tell(&self, job: &Job, verdict: &Verdict) {
        if verdict.faults.is_empty() && verdict.bad.is_empty() {
            return;
        }
        let name = FileName::Id(FileKind::Pack, job.id).to_string();
        let mut results = lock(&self.results);
        let (bad, ledger) = &mut *results;
        let number = ledger.damage(FindingKind::Pack, name, verdict.to_string());
        for (blob, _) in &verdict.bad {
            // Another pack's copy, where that is the one that is read, is another matter.
            let location = self.reader.index().get(blob.kind, blob.id);
            if location.is_some_and(|location| location.pack == job.id) {
                bad.blobs.insert((blob.kind, blob.id), number);
            }
        }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// So many bad blobs are named.
        const MAX_NAMED: usize = 5;
        write!(formatter, "The pack is damaged")?;
        if !self.faults.is_empty() {
            write!(formatter, ": {}", self.faults.join("; "))?;
        }
        if self.bad.is_empty() {
            return write!(
                formatter,
                ". All of its {} blobs are intact: nothing is lost.",
                self.tried
            );
        }
        write!(formatter, ". Of its {} blobs, {} are damaged: ", self.tried, self.bad.len())?;
        for (number, (blob, reason)) in self.bad.iter().take(MAX_NAMED).enumerate() {
            let separator = if number == 0 { "" } else { "; " };
            write!(formatter, "{separator}{} ({reason})", blob_name(blob.kind, blob.id))?;
        }
        match self.bad.len().saturating_sub(MAX_NAMED) {
            0 => formatter.write_str("."),
            more => write!(formatter, "; and {more} more."),
        }
    }
}

/// Whether two listings of a pack say the same, in whatever order and however they say that a blob is not compressed.
fn are_equal(one: &[PackedBlob], other: &[PackedBlob]) -> bool {
    let sorted = |blobs: &[PackedBlob]| {
        let mut blobs = blobs.to_vec();
        for blob in &mut blobs {
            blob.uncompressed_length = blob.uncompressed_length.filter(|length| *length != 0);
        }
        blobs.sort_by_key(|blob| (blob.offset, blob.length, blob.id));
        blobs
    };
    one.len() == other.len() && sorted(one) == sorted(other)
}
