//! All index files of a repository in memory: where each blob is.

use super::format::index::{self, IndexFile};
use super::format::pack::{self, BlobKind, PackedBlob};
use super::{Repository, RepositoryError};
use crate::model::id::{BlobId, FileId};
use crate::store::{FileKind, FileName};
use std::collections::hash_map::Entry as MapEntry;
use std::collections::{HashMap, HashSet};

/// Where a blob is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its pack.
    pub pack: FileId,
    /// Its place in the pack.
    pub blob: PackedBlob,
}

/// How often the indexes are listed when one vanishes: then it is damage.
const LISTINGS: u32 = 5;

/// An index file as it was found: readable, or damaged with the reason.
pub type MaybeIndexFile = (FileId, Result<IndexFile, RepositoryError>);

/// 16 bytes for each blob beside its id: a terabyte has a million blobs.
#[derive(Clone, Copy)]
struct Entry {
    pack: u32,
    offset: u32,
    length: u32,
    uncompressed_length: u32,
}

/// The blobs of a repository.
#[derive(Default)]
pub struct BlobIndex {
    packs: Vec<FileId>,
    data: HashMap<BlobId, Entry>,
    trees: HashMap<BlobId, Entry>,
    /// Further copies of blobs that are in several packs: rare, and precious where the first copy is damaged.
    copies: HashMap<(BlobKind, BlobId), Vec<Entry>>,
    /// The index files that were read.
    pub files: HashSet<FileId>,
    /// Index files that could not be read, with the reason.
    pub damaged: Vec<(FileId, RepositoryError)>,
}

impl BlobIndex {
    /// Read all index files. Damaged ones are kept aside in [`BlobIndex::damaged`].
    pub fn load(repository: &Repository) -> Result<Self, RepositoryError> {
        let mut index = Self::default();
        for (id, file) in repository.index_files()? {
            match file {
                Ok(file) => {
                    index.files.insert(id);
                    for pack in &file.packs {
                        index.add(pack.id, pack.blobs());
                    }
                }
                Err(error) => index.damaged.push((id, error)),
            }
        }
        Ok(index)
    }

    /// Add a pack's blobs.
    pub fn add(&mut self, pack: FileId, blobs: impl Iterator<Item = PackedBlob>) {
        let number =
            u32::try_from(self.packs.len()).expect("a repository has fewer than 2^32 packs");
        self.packs.push(pack);
        for blob in blobs {
            let entry = Entry {
                pack: number,
                offset: blob.offset,
                length: blob.length,
                uncompressed_length: blob.uncompressed_length.unwrap_or(0),
            };
            match self.blobs_mut(blob.kind).entry(blob.id) {
                MapEntry::Vacant(vacant) => {
                    vacant.insert(entry);
                }
                MapEntry::Occupied(_) => {
                    self.copies.entry((blob.kind, blob.id)).or_default().push(entry);
                }
            }
        }
    }

    /// Where a blob is.
    pub fn get(&self, kind: BlobKind, id: BlobId) -> Option<Location> {
        self.blobs(kind).get(&id).map(|entry| self.location(kind, id, *entry))
    }

    /// Where further copies of a blob are.
    pub fn copies(&self, kind: BlobKind, id: BlobId) -> impl Iterator<Item = Location> + '_ {
        let copies = self.copies.get(&(kind, id)).into_iter().flatten();
        copies.map(move |entry| self.location(kind, id, *entry))
    }

    fn location(&self, kind: BlobKind, id: BlobId, entry: Entry) -> Location {
        let uncompressed_length = Some(entry.uncompressed_length).filter(|length| *length != 0);
        let Entry { pack, offset, length, .. } = entry;
        let blob = PackedBlob { id, kind, offset, length, uncompressed_length };
        Location { pack: self.packs[pack as usize], blob }
    }

    /// Whether a blob is there.
    pub fn contains(&self, kind: BlobKind, id: BlobId) -> bool {
        self.blobs(kind).contains_key(&id)
    }

    /// Forget the blobs of packs that are not wholly there, so that they are stored again. Returns these packs.
    pub fn forget_missing_packs(
        &mut self,
        repository: &Repository,
    ) -> Result<Vec<FileId>, RepositoryError> {
        let sizes: HashMap<FileId, u64> = repository
            .store
            .list(FileKind::Pack)?
            .into_iter()
            .map(|listed| (listed.id, listed.size))
            .collect();
        let mut needed = vec![0_u64; self.packs.len()];
        for entry in
            self.data.values().chain(self.trees.values()).chain(self.copies.values().flatten())
        {
            let end = u64::from(entry.offset) + u64::from(entry.length);
            let needed = &mut needed[entry.pack as usize];
            *needed = end.max(*needed);
        }
        let is_missing: Vec<bool> = self
            .packs
            .iter()
            .zip(&needed)
            // A pack with nothing in it that counts is nobody's loss.
            .map(|(pack, needed)| *needed > 0 && sizes.get(pack).is_none_or(|size| size <= needed))
            .collect();
        for blobs in [&mut self.data, &mut self.trees] {
            blobs.retain(|_, entry| !is_missing[entry.pack as usize]);
        }
        for ((kind, id), copies) in std::mem::take(&mut self.copies) {
            let mut there =
                copies.into_iter().filter(|entry| !is_missing[entry.pack as usize]).peekable();
            if let Some(first) = there.peek() {
                self.blobs_mut(kind).entry(id).or_insert(*first);
                self.copies.insert((kind, id), there.collect());
            }
        }
        let missing: HashSet<FileId> = self
            .packs
            .iter()
            .zip(is_missing)
            .filter_map(|(pack, missing)| missing.then_some(*pack))
            .collect();
        Ok(missing.into_iter().collect())
    }

    /// Read the headers of packs that no index lists, as after the loss of an index file. Returns how many there were.
    /// Packs that cannot be read are passed over: whoever needs a blob of them will say so.
    pub fn add_unindexed_packs(
        &mut self,
        repository: &Repository,
    ) -> Result<usize, RepositoryError> {
        let known: HashSet<FileId> = self.packs.iter().copied().collect();
        let mut added = 0;
        for listed in repository.store.list(FileKind::Pack)? {
            if known.contains(&listed.id) {
                continue;
            }
            match repository.pack_header(listed.id, listed.size) {
                Ok(blobs) => self.add(listed.id, blobs.into_iter()),
                Err(error) if error.is_damage() => continue,
                Err(error) => return Err(error),
            }
            added += 1;
        }
        Ok(added)
    }

    fn blobs(&self, kind: BlobKind) -> &HashMap<BlobId, Entry> {
        match kind {
            BlobKind::Data => &self.data,
            BlobKind::Tree => &self.trees,
        }
    }

    fn blobs_mut(&mut self, kind: BlobKind) -> &mut HashMap<BlobId, Entry> {
        match kind {
            BlobKind::Data => &mut self.data,
            BlobKind::Tree => &mut self.trees,
        }
    }
}

impl Repository {
    /// All index files; damaged ones as errors. One that another process replaced meanwhile makes the listing start again.
    #[expect(clippy::type_complexity, reason = "a name for the pair would say no more")]
    pub fn index_files(
        &self,
    ) -> Result<Vec<(FileId, Result<IndexFile, RepositoryError>)>, RepositoryError> {
        let mut attempts = 0;
        'again: loop {
            attempts += 1;
            let mut files = Vec::new();
            for listed in self.store.list(FileKind::Index)? {
                match self.load(FileKind::Index, listed.id, index::MAX_BYTES) {
                    Err(error) if error.is_not_found() && attempts < LISTINGS => continue 'again,
                    Err(error) if !error.is_damage() => return Err(error),
                    file => files.push((listed.id, file)),
                }
            }
            return Ok(files);
        }
    }

    /// The blobs that a pack says it has, read from its end.
    pub fn pack_header(&self, id: FileId, size: u64) -> Result<Vec<PackedBlob>, RepositoryError> {
        let name = FileName::Id(FileKind::Pack, id);
        let damaged = |error| RepositoryError::format(&name, error);
        let last = self.store.read_range(name, size.saturating_sub(4), 4)?;
        let last = last.try_into().expect("four bytes were read");
        let span = pack::header_span(last, size).map_err(damaged)?;
        let tail = self.store.read_range(name, size - span as u64, span)?;
        pack::decode_header(&self.key, &tail, size).map_err(damaged)
    }
}
