//! Replacing index files, one group at a time, so that a full disk needs room for one index file only.

use super::PrunePlan;
use super::execute::{Run, count};
use super::repack::Written;
use crate::model::id::FileId;
use crate::repository::RepositoryError;
use crate::repository::format::document;
use crate::repository::format::index::{self, IndexFile, IndexPack, MAX_BLOBS};
use crate::repository::format::sha256;
use crate::store::{FileKind, FileName, StoreError};
use std::collections::{HashMap, HashSet};

/// A replacement that grows until it is large enough.
#[derive(Default)]
struct Group {
    packs: Vec<IndexPack>,
    blobs: usize,
    /// Index files of which everything is in this group or in one before.
    covered: Vec<FileId>,
}

impl Run<'_> {
    /// Take the packs that go off the index. Without room for that the copies of them are given up, which leaves less to
    /// take off, and makes room for it.
    pub(super) fn reindex(
        &mut self,
        plan: &mut PrunePlan,
        copies: &Written,
    ) -> Result<(), RepositoryError> {
        let gone = plan.packs_gone();
        match self.rewrite_indexes(&plan.rewrite_indexes, &gone) {
            Err(RepositoryError::Store(error)) if error.is_full() => {
                if gone.is_empty() {
                    // It would only have been tidier.
                    return Ok(());
                }
                if plan.repack.is_empty() || self.outcome.removed_indexes > 0 {
                    return Err(error.into());
                }
                self.withdraw(copies, plan, &error)?;
                self.reindex(plan, &Written::default())
            }
            other => other,
        }
    }

    /// Replace `files` by index files without the packs in `gone`. An old file is removed once all that it lists is
    /// durable in new ones.
    fn rewrite_indexes(
        &mut self,
        files: &[FileId],
        gone: &HashSet<FileId>,
    ) -> Result<(), RepositoryError> {
        if files.is_empty() {
            return Ok(());
        }
        self.events.phase("replacing", count(files.len(), "index file"));
        let mut group = Group::default();
        let mut fresh = Vec::new();
        // Two files may list the same pack; two that list different parts of it are both right.
        let mut seen: HashMap<FileId, HashSet<[u8; 32]>> = HashMap::new();
        for &file in files {
            let old: IndexFile = self.repository.load(FileKind::Index, file, index::MAX_BYTES)?;
            for pack in old.packs {
                if gone.contains(&pack.id) || !seen.entry(pack.id).or_default().insert(sum(&pack)) {
                    continue;
                }
                let more = pack.blobs().count();
                if group.blobs > 0 && group.blobs + more > MAX_BLOBS {
                    self.replace(std::mem::take(&mut group), &mut fresh)?;
                }
                group.blobs += more;
                group.packs.push(pack);
            }
            group.covered.push(file);
        }
        self.replace(group, &mut fresh)
    }

    /// Write a group, and remove what it covers. `fresh` are the groups that cover nothing until more are written; they
    /// are taken back when there is no room for that.
    fn replace(&mut self, group: Group, fresh: &mut Vec<FileId>) -> Result<(), RepositoryError> {
        let Group { packs, covered, .. } = group;
        if !packs.is_empty() {
            self.ensure_may_change()?;
            let index = self.seal_index(&IndexFile { supersedes: vec![], packs })?;
            fresh.push(index.0);
            match self.write_index(&index) {
                Err(RepositoryError::Store(error)) if error.is_full() => {
                    self.remove(FileKind::Index, fresh, |_, _| {})?;
                    return Err(error.into());
                }
                other => other?,
            }
        }
        if !covered.is_empty() {
            fresh.clear();
        }
        self.remove(FileKind::Index, &covered, |outcome, _| outcome.removed_indexes += 1)
    }

    /// An index file as it is stored, and its name.
    pub(super) fn seal_index(
        &self,
        file: &IndexFile,
    ) -> Result<(FileId, Vec<u8>), RepositoryError> {
        document::seal(&self.repository.key, file)
            .map_err(|error| RepositoryError::Internal(format!("an index file: {error}")))
    }

    /// Write a sealed index file; on a full disk with the room that was kept aside for this.
    pub(super) fn write_index(
        &mut self,
        (id, sealed): &(FileId, Vec<u8>),
    ) -> Result<(), RepositoryError> {
        let name = FileName::Id(FileKind::Index, *id);
        let store = &self.repository.store;
        let written = match store.write(name, sealed) {
            Err(error) if StoreError::is_full(&error) && !self.reserve_released => {
                store.release_reserve()?;
                self.reserve_released = true;
                store.write(name, sealed)
            }
            other => other,
        };
        written?;
        self.outcome.written_indexes += 1;
        Ok(())
    }
}

/// What an index file says of a pack, as a number: equal entries have equal sums.
fn sum(pack: &IndexPack) -> [u8; 32] {
    let mut bytes = Vec::new();
    for blob in pack.blobs() {
        bytes.extend(blob.offset.to_le_bytes());
        bytes.extend(blob.length.to_le_bytes());
        bytes.extend(blob.id.0);
    }
    sha256(&bytes)
}
