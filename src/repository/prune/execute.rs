//! Executing a plan, step by step. Each step leaves a sound repository; cancelling and a lost lock are noticed between them.

use super::{Basis, PackToRemove, PruneOutcome, PrunePlan};
use crate::model::event::{Cancel, Event, Events};
use crate::model::id::FileId;
use crate::repository::lock::{Lock, LockMode};
use crate::repository::{Repository, RepositoryError};
use crate::store::{FileKind, FileName};
use std::collections::HashSet;
use std::sync::Arc;

/// Files that are removed before the lock is looked at again.
const BATCH: usize = 100;

/// Do what a plan says. The caller holds the exclusive lock, and has held it since before the plan was made.
///
/// A repository whose snapshots or index files are not those of the plan is refused before anything is removed. A lost
/// lock stops it ([`RepositoryError::LockLost`]), and so does `cancel`: what was done so far is no harm, and another prune
/// does the rest. On a full disk nothing is copied, but what is wholly unused is still reclaimed.
pub fn execute(
    repository: &Arc<Repository>,
    lock: &Lock,
    plan: PrunePlan,
    events: &Events,
    cancel: &Cancel,
) -> Result<PruneOutcome, RepositoryError> {
    Run::new(repository, lock, (events, cancel)).execute(plan)
}

/// A plan on its way.
pub(super) struct Run<'a> {
    pub(super) repository: &'a Arc<Repository>,
    lock: &'a Lock,
    pub(super) events: &'a Events,
    pub(super) cancel: &'a Cancel,
    pub(super) outcome: PruneOutcome,
    pub(super) reserve_released: bool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        repository: &'a Arc<Repository>,
        lock: &'a Lock,
        (events, cancel): (&'a Events, &'a Cancel),
    ) -> Self {
        let outcome = PruneOutcome::default();
        Self { repository, lock, events, cancel, outcome, reserve_released: false }
    }

    pub(super) fn execute(mut self, plan: PrunePlan) -> Result<PruneOutcome, RepositoryError> {
        let result = self.all_steps(plan);
        // The lock of this prune may have used the reserve, too.
        if (result.is_ok() || self.reserve_released)
            && let Err(error) = self.repository.store.keep_reserve()
        {
            self.events.warn(format!(
                "No room could be kept aside for the next prune on a full disk: {error}."
            ));
        }
        result.map(|()| self.outcome)
    }

    fn all_steps(&mut self, mut plan: PrunePlan) -> Result<(), RepositoryError> {
        self.repository.require_config()?;
        if self.lock.mode() != LockMode::Exclusive {
            return Err(RepositoryError::Refused("a prune needs an exclusive lock".into()));
        }
        self.ensure_may_change()?;
        self.ensure_unchanged(&plan.basis)?;
        // Copying reads what it copies: damage stops the prune before anything was removed.
        let copies = self.repack(&mut plan)?;
        self.forget(&plan)?;
        // What no index lists goes first: the index may need its room.
        self.remove_packs(&plan.unindexed_packs)?;
        self.remove_leftovers()?;
        self.reindex(&mut plan, &copies)?;
        let listed = self.repository.store.list(FileKind::Pack)?;
        let repacked: HashSet<FileId> = plan.repack.iter().map(|pack| pack.id).collect();
        let sources = listed
            .iter()
            .filter(|listed| repacked.contains(&listed.id))
            .map(|listed| PackToRemove { id: listed.id, bytes: listed.size });
        self.remove_packs(&plan.remove_packs.iter().copied().chain(sources).collect::<Vec<_>>())
    }

    /// Between steps: an error when somebody asked to stop, or the lock is lost.
    pub(super) fn ensure_may_change(&self) -> Result<(), RepositoryError> {
        self.cancel.check()?;
        self.lock.ensure_held()
    }

    /// Under the exclusive lock nothing can have changed since the plan. Should it have, for whatever reason, the plan may
    /// remove what a new snapshot needs.
    fn ensure_unchanged(&self, basis: &Basis) -> Result<(), RepositoryError> {
        let indexes = self.repository.store.list(FileKind::Index)?;
        let now = Basis {
            snapshots: self.repository.snapshot_ids()?.into_iter().collect(),
            indexes: indexes.into_iter().map(|listed| listed.id).collect(),
        };
        if now == *basis {
            return Ok(());
        }
        let what = if now.snapshots == basis.snapshots { "index files" } else { "snapshots" };
        Err(RepositoryError::Refused(format!(
            "the {what} of {} changed since the prune was planned, so nothing was removed; run it again",
            self.repository.location()
        )))
    }

    fn forget(&mut self, plan: &PrunePlan) -> Result<(), RepositoryError> {
        if plan.forget.is_empty() {
            return Ok(());
        }
        self.events.phase("forgetting", count(plan.forget.len(), "snapshot"));
        let ids: Vec<FileId> = plan.forget.iter().map(|id| FileId::from(*id)).collect();
        self.remove(FileKind::Snapshot, &ids, |outcome, _| outcome.forgotten_snapshots += 1)
    }

    /// Remove files, a batch at a time.
    pub(super) fn remove(
        &mut self,
        kind: FileKind,
        ids: &[FileId],
        mut count: impl FnMut(&mut PruneOutcome, FileId),
    ) -> Result<(), RepositoryError> {
        let name = match kind {
            FileKind::Snapshot => "snapshot",
            FileKind::Index => "index",
            FileKind::Pack => "pack",
            FileKind::Lock => "lock",
            FileKind::Key => "key",
        };
        for batch in ids.chunks(BATCH) {
            self.ensure_may_change()?;
            for &id in batch {
                self.repository.store.remove(FileName::Id(kind, id))?;
                count(&mut self.outcome, id);
                self.events.send(Event::Removed { kind: name.into(), id });
            }
        }
        Ok(())
    }

    /// Remove packs that no index lists.
    fn remove_packs(&mut self, packs: &[PackToRemove]) -> Result<(), RepositoryError> {
        if packs.is_empty() {
            return Ok(());
        }
        self.events.phase("removing", count(packs.len(), "pack"));
        let ids: Vec<FileId> = packs.iter().map(|pack| pack.id).collect();
        let mut bytes = packs.iter().map(|pack| pack.bytes);
        self.remove(FileKind::Pack, &ids, |outcome, _| {
            outcome.removed_packs += 1;
            outcome.removed_bytes += bytes.next().unwrap_or_default();
        })
    }

    fn remove_leftovers(&mut self) -> Result<(), RepositoryError> {
        self.ensure_may_change()?;
        let (files, bytes) = self.repository.store.remove_leftovers()?;
        (self.outcome.leftover_files, self.outcome.leftover_bytes) = (files, bytes);
        Ok(())
    }
}

/// `1 pack`, `2 packs`.
pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
