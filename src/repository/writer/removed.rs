//! What another program removed while a run went on without its lock: found before a snapshot relies on it, and no index
//! of the run goes on listing it.

use super::{Shared, lock};
use crate::model::event::Events;
use crate::model::id::FileId;
use crate::repository::RepositoryError;
use crate::repository::format::index::{IndexFile, MAX_BYTES};
use crate::repository::lock::Lock;
use crate::store::{FileKind, FileName};
use std::collections::HashSet;

impl Shared {
    /// Take the lock again if it was lost, and be sure then that nothing was removed meanwhile.
    pub(super) fn ensure_locked(
        &self,
        lock: &Lock,
        events: &Events,
    ) -> Result<(), RepositoryError> {
        match lock.ensure_held() {
            Err(RepositoryError::LockLost { reason, .. }) => {
                events.warn(format!(
                    "The lock on the repository was lost ({reason}). It is taken again, and what the snapshot needs is looked at."
                ));
                lock.take_again(events, &self.cancel)?;
                self.ensure_nothing_removed()
            }
            other => other,
        }
    }

    /// An error when an index that was read, or an index or a pack that this run wrote, is gone: a prune that removes a
    /// pack of others always replaces an index, and one that removes a pack of ours is seen by the pack itself.
    pub(super) fn ensure_nothing_removed(&self) -> Result<(), RepositoryError> {
        let stored = lock(&self.stored);
        let indexes = self.ids(FileKind::Index)?;
        if let Some(id) =
            self.index.files.iter().chain(&stored.indexes).find(|id| !indexes.contains(id))
        {
            return Err(RepositoryError::RemovedMeanwhile { kind: "index", id: *id });
        }
        let packs = self.ids(FileKind::Pack)?;
        if let Some(id) = stored.packs.iter().find(|id| !packs.contains(id)) {
            return Err(RepositoryError::RemovedMeanwhile { kind: "pack", id: *id });
        }
        Ok(())
    }

    fn ids(&self, kind: FileKind) -> Result<HashSet<FileId>, RepositoryError> {
        Ok(self.repository.store.list(kind)?.into_iter().map(|listed| listed.id).collect())
    }

    /// An index that this run wrote on its way may list packs that a prune took for leftovers. It is replaced by one
    /// that lists those that are there: other backups may have found them already.
    pub(super) fn mend_own_indexes(&self, lock: &Lock, events: &Events) {
        let mended = match lock.ensure_held() {
            Ok(()) => self.replace_own_indexes(),
            Err(RepositoryError::LockLost { .. }) => {
                lock.take_again(events, &self.cancel).and_then(|()| self.replace_own_indexes())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = mended {
            events.warn(format!(
                "An index of this run may list packs that are gone, and could not be replaced ({error}). Run `belay check`."
            ));
        }
    }

    fn replace_own_indexes(&self) -> Result<(), RepositoryError> {
        let packs = self.ids(FileKind::Pack)?;
        let own = std::mem::take(&mut lock(&self.stored).indexes);
        for id in own {
            let mut file: IndexFile = match self.repository.load(FileKind::Index, id, MAX_BYTES) {
                Err(error) if error.is_not_found() => continue,
                other => other?,
            };
            let listed = file.packs.len();
            file.packs.retain(|pack| packs.contains(&pack.id));
            if file.packs.len() == listed {
                continue;
            }
            if !file.packs.is_empty() {
                file.supersedes = vec![id];
                self.repository.save(FileKind::Index, &file)?;
            }
            self.repository.store.remove(FileName::Id(FileKind::Index, id))?;
        }
        Ok(())
    }
}
