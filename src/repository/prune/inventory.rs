//! What is there: the packs of the store, what the index files say of them, and which blobs are there twice.
//!
//! Only blobs in packs that are wholly there count. One index file is in memory at a time beside the blob index.

use crate::model::event::Cancel;
use crate::model::id::{BlobId, FileId};
use crate::repository::blob_index::{BlobIndex, Location};
use crate::repository::format::FormatError;
use crate::repository::format::index::{self, IndexFile, IndexPack};
use crate::repository::format::pack::{BlobKind, PackedBlob, pack_size};
use crate::repository::{Repository, RepositoryError};
use crate::store::{FileKind, FileName};
use std::collections::{BTreeMap, HashMap};

/// Names a blob: the kinds do not share ids.
pub(super) type Key = (BlobKind, BlobId);

/// A pack that an index lists.
pub(super) struct PackState {
    pub(super) id: FileId,
    /// `None` where it is not there.
    pub(super) size: Option<u64>,
    /// The kind of its first blob.
    pub(super) kind: Option<BlobKind>,
    pub(super) blobs: u64,
    pub(super) blob_bytes: u64,
    pub(super) used_blobs: u64,
    pub(super) used_bytes: u64,
}

impl PackState {
    pub(super) fn unused_bytes(&self) -> u64 {
        self.blob_bytes - self.used_bytes
    }

    pub(super) fn unused_blobs(&self) -> u64 {
        self.blobs - self.used_blobs
    }

    pub(super) fn take(&mut self, blob: &PackedBlob) {
        self.used_blobs += 1;
        self.used_bytes += u64::from(blob.length);
    }

    pub(super) fn give_up(&mut self, blob: &PackedBlob) {
        self.used_blobs -= 1;
        self.used_bytes -= u64::from(blob.length);
    }
}

/// An index file and the packs that it lists.
pub(super) struct IndexState {
    pub(super) id: FileId,
    pub(super) blobs: usize,
    pub(super) packs: Vec<FileId>,
}

/// What is there.
#[derive(Default)]
pub(super) struct Inventory {
    /// The packs that index files list.
    pub(super) packs: BTreeMap<FileId, PackState>,
    /// Packs that no index file lists, with their sizes.
    pub(super) unindexed: BTreeMap<FileId, u64>,
    /// The index files.
    pub(super) index_files: Vec<IndexState>,
    /// Where further copies of blobs are, beside the one in the blob index.
    pub(super) copies: BTreeMap<Key, Vec<Location>>,
    /// Blobs in packs that are not wholly there.
    lost: HashMap<Key, FileId>,
}

impl Inventory {
    /// Read all index files; a damaged one is an error.
    pub(super) fn load(
        repository: &Repository,
        cancel: &Cancel,
    ) -> Result<(Self, BlobIndex), RepositoryError> {
        let sizes: BTreeMap<FileId, u64> = repository
            .store
            .list(FileKind::Pack)?
            .into_iter()
            .map(|listed| (listed.id, listed.size))
            .collect();
        let mut inventory = Self::default();
        let mut blob_index = BlobIndex::default();
        let mut files = repository.store.list(FileKind::Index)?;
        files.sort_by_key(|listed| listed.id);
        for listed in files {
            cancel.check()?;
            let file: IndexFile = repository.load(FileKind::Index, listed.id, index::MAX_BYTES)?;
            let mut state = IndexState { id: listed.id, blobs: 0, packs: Vec::new() };
            for pack in &file.packs {
                state.packs.push(pack.id);
                state.blobs += pack.blobs().count();
                inventory.add(pack, sizes.get(&pack.id).copied(), &mut blob_index);
            }
            inventory.index_files.push(state);
        }
        inventory.unindexed = sizes;
        inventory.unindexed.retain(|id, _| !inventory.packs.contains_key(id));
        Ok((inventory, blob_index))
    }

    /// Add a pack as one index file lists it; another may have listed it already.
    fn add(&mut self, pack: &IndexPack, size: Option<u64>, blob_index: &mut BlobIndex) {
        let blobs: Vec<PackedBlob> = pack.blobs().collect();
        let state = self.packs.entry(pack.id).or_insert_with(|| PackState {
            id: pack.id,
            size,
            kind: blobs.first().map(|blob| blob.kind),
            blobs: 0,
            blob_bytes: 0,
            used_blobs: 0,
            used_bytes: 0,
        });
        if size.is_none_or(|size| size < pack_size(&blobs)) {
            self.lost.extend(blobs.iter().map(|blob| ((blob.kind, blob.id), pack.id)));
            return;
        }
        let mut first_copies = Vec::with_capacity(blobs.len());
        for blob in blobs {
            match blob_index.get(blob.kind, blob.id) {
                None => first_copies.push(blob),
                // Another index file listed this pack, too.
                Some(known) if known.pack == pack.id => continue,
                Some(_) => {
                    let copies = self.copies.entry((blob.kind, blob.id)).or_default();
                    if copies.iter().any(|copy| copy.pack == pack.id) {
                        continue;
                    }
                    copies.push(Location { pack: pack.id, blob });
                }
            }
            state.blobs += 1;
            state.blob_bytes += u64::from(blob.length);
        }
        blob_index.add(pack.id, first_copies.into_iter());
    }

    /// Why a needed blob cannot be had.
    pub(super) fn missing(&self, (kind, id): Key) -> RepositoryError {
        let name = match kind {
            BlobKind::Data => "data",
            BlobKind::Tree => "tree",
        };
        let Some(pack) = self.lost.get(&(kind, id)) else {
            return RepositoryError::MissingBlob { kind: name, id };
        };
        let is_there = self.packs.get(pack).is_some_and(|state| state.size.is_some());
        let what = if is_there { "too short" } else { "missing" };
        let reason =
            FormatError::invalid(format!("it is {what}, and the {name} blob {id} in it is needed"));
        RepositoryError::format(&FileName::Id(FileKind::Pack, *pack), reason)
    }
}
