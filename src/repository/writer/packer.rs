//! Open packs: blobs are appended until a pack is full; a full one is closed, read back, and named.

use crate::model::id::FileId;
use crate::repository::RepositoryError;
use crate::repository::format::compress::Decompressor;
use crate::repository::format::crypto::MasterKey;
use crate::repository::format::pack::{self, BlobKind, PackedBlob, TARGET_BYTES};
use crate::repository::format::{FormatError, sha256};
use crate::repository::reader::open_blob;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The open packs of one kind.
pub(in crate::repository) struct Packer {
    kind: BlobKind,
    open: Vec<Mutex<OpenPack>>,
    /// Buffers of packs that are stored, for packs to come: fresh ones of that size would have to be zeroed each time,
    /// and scattered over the heap.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// A pack that is being filled.
#[derive(Default)]
pub(in crate::repository) struct OpenPack {
    bytes: Vec<u8>,
    blobs: Vec<PackedBlob>,
}

/// A pack that is complete and was read back.
pub(in crate::repository) struct FinishedPack {
    pub(in crate::repository) id: FileId,
    pub(in crate::repository) bytes: Vec<u8>,
    pub(in crate::repository) blobs: Vec<PackedBlob>,
}

impl Packer {
    pub(in crate::repository) fn new(kind: BlobKind, open: usize) -> Self {
        let open = (0..open).map(|_| Mutex::default()).collect();
        Self { kind, open, spare: Mutex::default() }
    }

    /// Append a blob to one of the open packs, by chance; returns the pack when that filled it.
    pub(in crate::repository) fn append(
        &self,
        blob: PackedBlob,
        sealed: &[u8],
    ) -> Option<OpenPack> {
        debug_assert_eq!(blob.kind, self.kind, "data and trees never share a pack");
        let mut pack = self.choose();
        if pack.bytes.capacity() == 0 {
            let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
            pack.bytes = spare.unwrap_or_default();
            // Room for all but the largest last blob: growing would copy, and hold both copies for a moment.
            pack.bytes.reserve_exact(TARGET_BYTES + TARGET_BYTES / 8);
        }
        let offset = u32::try_from(pack.bytes.len()).expect("a pack is closed long before 4 GiB");
        pack.bytes.extend_from_slice(sealed);
        pack.blobs.push(PackedBlob { offset, ..blob });
        (pack.bytes.len() >= TARGET_BYTES).then(|| std::mem::take(&mut *pack))
    }

    fn choose(&self) -> MutexGuard<'_, OpenPack> {
        let first = getrandom::u32().map_or(0, |random| random as usize) % self.open.len();
        let free = (0..self.open.len())
            .find_map(|step| self.open[(first + step) % self.open.len()].try_lock().ok());
        free.unwrap_or_else(|| self.open[first].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Take back the buffer of a pack that is stored.
    pub(in crate::repository) fn recycle(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
    }

    /// The packs that are not empty, full or not.
    pub(in crate::repository) fn take_all(&self) -> Vec<OpenPack> {
        let packs = self
            .open
            .iter()
            .map(|pack| std::mem::take(&mut *pack.lock().unwrap_or_else(PoisonError::into_inner)));
        packs.filter(|pack| !pack.blobs.is_empty()).collect()
    }
}

impl OpenPack {
    /// Append the header, read everything back from memory, and name the pack.
    pub(in crate::repository) fn finish(
        mut self,
        key: &MasterKey,
    ) -> Result<FinishedPack, RepositoryError> {
        pack::append_header(key, &self.blobs, &mut self.bytes)
            .map_err(|error| RepositoryError::Internal(error.to_string()))?;
        verify(key, &self.bytes, &self.blobs)
            .map_err(|source| RepositoryError::Unverified { source })?;
        let id = FileId(sha256(&self.bytes));
        Ok(FinishedPack { id, bytes: self.bytes, blobs: self.blobs })
    }
}

fn verify(key: &MasterKey, bytes: &[u8], blobs: &[PackedBlob]) -> Result<(), FormatError> {
    let size = bytes.len() as u64;
    let too_short = FormatError::TooShort { found: bytes.len(), least: 4 };
    let span = pack::header_span(*bytes.last_chunk().ok_or(too_short)?, size)?;
    if pack::decode_header(key, &bytes[bytes.len() - span..], size)? != blobs {
        return Err(FormatError::invalid("the header lists other blobs"));
    }
    let mut decompressor = Decompressor::new()?;
    for blob in blobs {
        let start = blob.offset as usize;
        open_blob(key, blob, &bytes[start..start + blob.length as usize], &mut decompressor)?;
    }
    Ok(())
}
