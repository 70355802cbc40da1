//! The files of a repository one by one: those that are small are read, packs are looked for.

use super::ledger::{Ledger, Number, fault};
use super::report::FindingKind;
use super::trees::Trees;
use crate::model::event::Cancel;
use crate::model::id::{FileId, SnapshotId};
use crate::model::size::Bytes;
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::index::{self, IndexFile};
use crate::repository::format::key::{self, KeyFile};
use crate::repository::format::lock::{self, LockFile};
use crate::repository::format::pack::{PackedBlob, pack_size};
use crate::repository::format::snapshot::{self, SnapshotFile};
use crate::repository::format::{FormatError, verify_sum};
use crate::repository::{Repository, RepositoryError, Snapshot};
use crate::store::{FileKind, FileName};
use serde::de::DeserializeOwned;
use std::collections::{BTreeSet, HashMap, HashSet};

/// So often a listing is made again because a listed file had gone; what is gone then is damage.
const LISTINGS: usize = 3;
/// How an index is repaired.
const REPAIR: &str = "`restic repair index` (before restic 0.16: `restic rebuild-index`) writes it anew from the packs.";

/// What is known of the packs.
#[derive(Default)]
pub(super) struct Packs {
    /// Those that a readable index lists.
    pub(super) listed: HashMap<FileId, ListedPack>,
    /// The sizes of those that are stored.
    pub(super) sizes: HashMap<FileId, u64>,
    /// Those that are stored, and that no readable index lists; true where the header could be read.
    pub(super) unlisted: HashMap<FileId, bool>,
    /// Those that are listed and not stored.
    pub(super) missing: HashMap<FileId, Number>,
    /// How many are stored.
    pub(super) stored: u64,
    /// How many blobs they have.
    pub(super) blobs: u64,
    /// The bytes of these blobs.
    pub(super) blob_bytes: u64,
    /// Index files that could not be read.
    pub(super) damaged_indexes: BTreeSet<Number>,
}

/// What an index says of a pack.
pub(super) struct ListedPack {
    /// The pack's size.
    pub(super) size: u64,
    /// How many blobs it has.
    pub(super) blobs: usize,
    /// The index file that says so.
    pub(super) index: FileId,
}

impl Packs {
    fn count(&mut self, blobs: &[PackedBlob]) {
        self.blobs += blobs.len() as u64;
        self.blob_bytes += blobs.iter().map(|blob| u64::from(blob.length)).sum::<u64>();
    }
}

/// `config` can be used.
pub(super) fn check_config(
    repository: &Repository,
    ledger: &mut Ledger,
) -> Result<(), RepositoryError> {
    if let Err(error) = repository.require_config() {
        let message = format!(
            "The configuration cannot be used: {}. All snapshots still restore; to write again, bring `config` back from a copy of the repository.",
            fault(error)?
        );
        ledger.damage(FindingKind::Config, FileName::Config.to_string(), message);
    }
    Ok(())
}

/// Every key file is what its name says, and can be parsed. Whether its password opens it, only who has the password knows.
pub(super) fn check_keys(
    repository: &Repository,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<(), RepositoryError> {
    for listed in repository.store.list(FileKind::Key)? {
        cancel.check()?;
        let name = FileName::Id(FileKind::Key, listed.id);
        let read = || -> Result<KeyFile, RepositoryError> {
            let json = repository.store.read(name, key::MAX_BYTES as u64)?;
            let damaged = |error| RepositoryError::format(&name, error);
            verify_sum(&json, listed.id.0).map_err(damaged)?;
            serde_json::from_slice(&json).map_err(|error| damaged(FormatError::invalid(error)))
        };
        match read() {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let message = format!(
                    "The key file is damaged: {}. Its password opens the repository no more; another password still does.",
                    fault(error)?
                );
                ledger.damage(FindingKind::Key, name.to_string(), message);
            }
        }
    }
    Ok(())
}

/// Every lock file can be read.
pub(super) fn check_locks(
    repository: &Repository,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<(), RepositoryError> {
    for listed in repository.store.list(FileKind::Lock)? {
        cancel.check()?;
        match repository.load::<LockFile>(FileKind::Lock, listed.id, lock::MAX_BYTES) {
            Ok(_) => {}
            // Locks come and go.
            Err(error) if error.is_not_found() => {}
            Err(error) => {
                let name = FileName::Id(FileKind::Lock, listed.id);
                let message = format!(
                    "The lock file is damaged: {}. Nothing is lost; it keeps others from working until it is removed, which Belay does when it is 30 minutes old.",
                    fault(error)?
                );
                ledger.damage(FindingKind::Lock, name.to_string(), message);
            }
        }
    }
    Ok(())
}

/// Hand every document of a kind to `receive`, the damaged ones too. One that another process removes meanwhile is
/// passed over, and what took its place is read.
fn each_document<T: DeserializeOwned>(
    repository: &Repository,
    kind: FileKind,
    limit: usize,
    cancel: &Cancel,
    mut receive: impl FnMut(FileId, Result<T, RepositoryError>) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let mut seen = HashSet::new();
    for listing in 1..=LISTINGS {
        let mut is_complete = true;
        for listed in repository.store.list(kind)? {
            cancel.check()?;
            if seen.contains(&listed.id) {
                continue;
            }
            match repository.load(kind, listed.id, limit) {
                Err(error) if error.is_not_found() && listing < LISTINGS => is_complete = false,
                result => {
                    seen.insert(listed.id);
                    receive(listed.id, result)?;
                }
            }
        }
        if is_complete {
            break;
        }
    }
    Ok(())
}

/// Every snapshot file can be read. Returns those that can, newest first.
pub(super) fn check_snapshots(
    repository: &Repository,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<Vec<Snapshot>, RepositoryError> {
    let mut snapshots = Vec::new();
    let receive = |id, file: Result<SnapshotFile, _>| {
        match file {
            Ok(file) => snapshots.push(Snapshot { id: SnapshotId::from(id), file }),
            Err(error) => {
                let message = format!(
                    "The snapshot's file is damaged: {}. The snapshot is lost; what it refers to stays until a prune.",
                    fault(error)?
                );
                let name = FileName::Id(FileKind::Snapshot, id).to_string();
                let number = ledger.damage(FindingKind::Snapshot, name, message);
                ledger.touch(number, id.into());
            }
        }
        Ok(())
    };
    each_document(repository, FileKind::Snapshot, snapshot::MAX_BYTES, cancel, receive)?;
    snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.file.time, snapshot.id)));
    Ok(snapshots)
}

/// Every index file can be read, and no two say different things of a pack.
pub(super) fn check_indexes(
    repository: &Repository,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<(BlobIndex, Packs), RepositoryError> {
    let (mut index, mut packs) = (BlobIndex::default(), Packs::default());
    let receive = |id, file: Result<IndexFile, _>| {
        let name = FileName::Id(FileKind::Index, id).to_string();
        match file {
            Ok(file) => {
                index.files.insert(id);
                add_index(&mut index, &mut packs, id, &file, ledger);
            }
            Err(error) => {
                let message = format!("The index file is damaged: {}.", fault(error)?);
                packs.damaged_indexes.insert(ledger.damage(FindingKind::Index, name, message));
            }
        }
        Ok(())
    };
    each_document(repository, FileKind::Index, index::MAX_BYTES, cancel, receive)?;
    Ok((index, packs))
}

fn add_index(
    index: &mut BlobIndex,
    packs: &mut Packs,
    id: FileId,
    file: &IndexFile,
    ledger: &mut Ledger,
) {
    let name = FileName::Id(FileKind::Index, id).to_string();
    let mut repeated = 0_u64;
    for pack in &file.packs {
        let blobs: Vec<_> = pack.blobs().collect();
        index.add(pack.id, blobs.iter().copied());
        let listed = ListedPack { size: pack_size(&blobs), blobs: blobs.len(), index: id };
        match packs.listed.get(&pack.id) {
            None => {
                packs.count(&blobs);
                packs.listed.insert(pack.id, listed);
            }
            Some(other) if other.size == listed.size && other.blobs == listed.blobs => {
                repeated += 1;
            }
            Some(other) => {
                let message = format!(
                    "The index file says something else of the pack {} than {}. {REPAIR}",
                    FileName::Id(FileKind::Pack, pack.id),
                    FileName::Id(FileKind::Index, other.index),
                );
                ledger.damage(FindingKind::Index, name.clone(), message);
            }
        }
    }
    if repeated > 0 {
        let message = format!(
            "The index file lists {repeated} packs that another one lists, too, or that it lists twice. Nothing is lost by that."
        );
        ledger.note(FindingKind::Index, name, message);
    }
}

/// Every pack that an index lists is stored. Of those that none lists the headers are read, so that their blobs are
/// known, behind those that are listed.
pub(super) fn check_packs(
    repository: &Repository,
    mut index: BlobIndex,
    packs: &mut Packs,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<BlobIndex, RepositoryError> {
    for listed in repository.store.list(FileKind::Pack)? {
        packs.stored += 1;
        packs.sizes.insert(listed.id, listed.size);
    }
    let mut missing: Vec<_> =
        packs.listed.iter().filter(|(id, _)| !packs.sizes.contains_key(id)).collect();
    missing.sort_by_key(|(id, _)| **id);
    for (id, listed) in missing {
        let name = FileName::Id(FileKind::Pack, *id).to_string();
        let message = format!("The pack is missing, and with it {} blobs.", listed.blobs);
        packs.missing.insert(*id, ledger.damage(FindingKind::Pack, name, message));
    }
    let mut unlisted: Vec<_> = packs
        .sizes
        .iter()
        .filter(|(id, _)| !packs.listed.contains_key(id))
        .map(|(id, size)| (*id, *size))
        .collect();
    unlisted.sort_unstable();
    for (id, size) in unlisted {
        cancel.check()?;
        let header = repository.pack_header(id, size);
        packs.unlisted.insert(id, header.is_ok());
        match header {
            Ok(blobs) => {
                packs.count(&blobs);
                index.add(id, blobs.into_iter());
            }
            Err(error) => {
                let reason = fault(error)?;
                // Without a damaged index it is a leftover that nobody needs, and is told as one.
                if !packs.damaged_indexes.is_empty() {
                    let message = format!(
                        "No readable index lists the pack, and its header does not say either what it holds: {reason}."
                    );
                    let name = FileName::Id(FileKind::Pack, id).to_string();
                    ledger.damage(FindingKind::Pack, name, message);
                }
            }
        }
    }
    Ok(index)
}

/// Now that it is known what snapshots need: what the loss of indexes means, and which packs nobody needs.
pub(super) fn sum_up_indexes(packs: &Packs, trees: &Trees, ledger: &mut Ledger) {
    let lost: Vec<SnapshotId> = {
        let mut seen = HashSet::new();
        let all = trees.missing_blobs.iter().flat_map(|number| ledger.snapshots(*number));
        all.filter(|id| seen.insert(**id)).copied().collect()
    };
    for &number in &packs.damaged_indexes {
        if lost.is_empty() {
            ledger.append(
                number,
                &format!("Nothing is lost by that: the packs that it listed say themselves what they hold. {REPAIR}"),
            );
        } else {
            ledger.append(
                number,
                &format!("The packs that it listed were asked for what they hold, and not all that snapshots need was found. {REPAIR}"),
            );
        }
        for &id in &lost {
            ledger.touch(number, id);
        }
    }
    if let Some(number) = trees.lost_index {
        let bytes: u64 = trees.needed_unlisted.iter().map(|id| packs.sizes[id]).sum();
        let message = format!(
            "{} packs ({}) hold what snapshots need, and no index lists them: an index file is missing. The packs are there, so that nothing of theirs is lost. {REPAIR}",
            trees.needed_unlisted.len(),
            Bytes(bytes),
        );
        ledger.append(number, &message);
    }
    let mut leftovers: Vec<FileId> =
        packs.unlisted.keys().filter(|id| !trees.needed_unlisted.contains(id)).copied().collect();
    leftovers.sort_unstable();
    if let [first, more @ ..] = leftovers.as_slice() {
        let bytes: u64 = leftovers.iter().map(|id| packs.sizes[id]).sum();
        let object = if more.is_empty() {
            FileName::Id(FileKind::Pack, *first).to_string()
        } else {
            FileKind::Pack.folder().to_owned()
        };
        let message = format!(
            "{} packs ({}, {bytes} bytes) are listed by no index, and no snapshot needs them. An interrupted run left them, or a backup that runs now will list them; a prune reclaims them.",
            leftovers.len(),
            Bytes(bytes),
        );
        ledger.note(FindingKind::Pack, object, message);
    }
}
