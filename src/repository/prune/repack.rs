//! Copying what is used of packs into new ones. Blobs are verified and then copied sealed as they are.

use super::PrunePlan;
use super::execute::{Run, count};
use super::progress::Progress;
use crate::model::id::FileId;
use crate::repository::RepositoryError;
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::index::{IndexFile, IndexPack, MAX_BLOBS};
use crate::repository::format::pack::{BlobKind, PackedBlob, TARGET_BYTES};
use crate::repository::reader::Reader;
use crate::repository::writer::packer::{OpenPack, Packer};
use crate::store::{FileKind, FileName, StoreError};

/// What the copying wrote, or was about to write.
#[derive(Default)]
pub(super) struct Written {
    packs: Vec<FileId>,
    unindexed: Vec<IndexPack>,
    indexes: Vec<FileId>,
}

impl Run<'_> {
    /// Copy what the plan says into new packs, and index these. Without room for that it is undone, and no longer planned.
    ///
    /// The reserve is not touched for packs: the index will need it.
    pub(super) fn repack(&mut self, plan: &mut PrunePlan) -> Result<Written, RepositoryError> {
        let mut written = Written::default();
        if plan.repack.is_empty() {
            return Ok(written);
        }
        self.events.phase("repacking", count(plan.repack.len(), "pack"));
        match self.copy_and_index(plan, &mut written) {
            Ok(()) => self.outcome.repacked_packs = plan.repack.len() as u64,
            Err(RepositoryError::Store(error)) if error.is_full() => {
                self.withdraw(&written, plan, &error)?;
                written = Written::default();
            }
            Err(error) => return Err(error),
        }
        Ok(written)
    }

    fn copy_and_index(
        &mut self,
        plan: &PrunePlan,
        written: &mut Written,
    ) -> Result<(), RepositoryError> {
        let reader = Reader::with_index(self.repository, BlobIndex::default());
        // As in a backup: which chunk follows which does not show.
        let data = Packer::new(BlobKind::Data, 2);
        let trees = Packer::new(BlobKind::Tree, 1);
        let mut progress = Progress::new(self.events, Some(plan.totals.repacked_bytes));
        for pack in &plan.repack {
            self.ensure_may_change()?;
            let blobs = plan.copies.get(&pack.id).map(Vec::as_slice).unwrap_or_default();
            for run in runs(blobs) {
                for (blob, sealed) in self.read_run(pack.id, run, &reader)? {
                    let packer = if blob.kind == BlobKind::Data { &data } else { &trees };
                    if let Some(full) = packer.append(blob, &sealed) {
                        self.store_pack(full, written)?;
                    }
                }
            }
            progress.add(pack.used_bytes);
        }
        for packer in [&trees, &data] {
            for open in packer.take_all() {
                self.store_pack(open, written)?;
            }
        }
        self.index_packs(written)
    }

    /// Blobs that lie one after the other in a pack, each verified, with their bytes.
    fn read_run(
        &self,
        pack: FileId,
        run: &[PackedBlob],
        reader: &Reader,
    ) -> Result<Vec<(PackedBlob, Vec<u8>)>, RepositoryError> {
        let Some(first) = run.first() else { return Ok(Vec::new()) };
        let length = run.iter().map(|blob| blob.length as usize).sum();
        let name = FileName::Id(FileKind::Pack, pack);
        let bytes = self.repository.store.read_range(name, u64::from(first.offset), length)?;
        let mut rest = bytes.as_slice();
        let mut blobs = Vec::with_capacity(run.len());
        for blob in run {
            let (sealed, behind) = rest.split_at(blob.length as usize);
            reader.open(pack, blob, sealed)?;
            blobs.push((*blob, sealed.to_vec()));
            rest = behind;
        }
        Ok(blobs)
    }

    fn store_pack(&mut self, open: OpenPack, written: &mut Written) -> Result<(), RepositoryError> {
        let pack = open.finish(&self.repository.key)?;
        // Noted before it is written: a failed write may have done its work.
        written.packs.push(pack.id);
        self.repository.store.write(FileName::Id(FileKind::Pack, pack.id), &pack.bytes)?;
        written.unindexed.push(IndexPack::new(pack.id, &pack.blobs));
        self.outcome.written_packs += 1;
        self.outcome.written_bytes += pack.bytes.len() as u64;
        Ok(())
    }

    /// Write index files for the new packs.
    fn index_packs(&mut self, written: &mut Written) -> Result<(), RepositoryError> {
        let mut group = Vec::new();
        let mut blobs = 0;
        for pack in std::mem::take(&mut written.unindexed) {
            let more = pack.blobs().count();
            if blobs > 0 && blobs + more > MAX_BLOBS {
                self.index_group(std::mem::take(&mut group), written)?;
                blobs = 0;
            }
            blobs += more;
            group.push(pack);
        }
        if group.is_empty() { Ok(()) } else { self.index_group(group, written) }
    }

    fn index_group(
        &mut self,
        packs: Vec<IndexPack>,
        written: &mut Written,
    ) -> Result<(), RepositoryError> {
        self.ensure_may_change()?;
        let index = self.seal_index(&IndexFile { supersedes: vec![], packs })?;
        written.indexes.push(index.0);
        self.write_index(&index)
    }

    /// Without room for the copies take them back, as long as all that they were copied from is still listed: the index
    /// files first, so that none ever lists a pack that is not there.
    pub(super) fn withdraw(
        &mut self,
        written: &Written,
        plan: &mut PrunePlan,
        error: &StoreError,
    ) -> Result<(), RepositoryError> {
        self.events.note(format!(
            "There is no room to repack all at once: {error}. What is wholly unused is removed first."
        ));
        self.remove(FileKind::Index, &written.indexes, |_, _| {})?;
        self.remove(FileKind::Pack, &written.packs, |_, _| {})?;
        plan.repack.clear();
        let outcome = &mut self.outcome;
        (outcome.repacked_packs, outcome.written_packs, outcome.written_bytes) = (0, 0, 0);
        (outcome.written_indexes, outcome.repack_skipped) = (0, true);
        Ok(())
    }
}

/// Cut a pack's blobs, sorted by offset, where there are gaps, and where enough is read at once.
fn runs(blobs: &[PackedBlob]) -> impl Iterator<Item = &[PackedBlob]> {
    let mut bytes = 0;
    blobs.chunk_by(move |one, next| {
        bytes += one.length as usize;
        let end = u64::from(one.offset) + u64::from(one.length);
        let goes_on = end == u64::from(next.offset) && bytes + next.length as usize <= TARGET_BYTES;
        if !goes_on {
            bytes = 0;
        }
        goes_on
    })
}
