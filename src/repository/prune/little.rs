//! Repacking on a disk that is full: little by little, beginning in the room that is kept aside. Each step makes room for
//! a larger one.

use super::execute::Run;
use super::{PruneOptions, PruneOutcome, PrunePlan, plan};
use crate::model::event::{Cancel, Events};
use crate::repository::lock::Lock;
use crate::repository::{Repository, RepositoryError};
use crate::store::FileKind;
use std::collections::HashSet;
use std::sync::Arc;

/// After a prune that skipped its copies ([`PruneOutcome::repack_skipped`]), under the same exclusive lock: copy what
/// there is room for, remove what it was copied from, and go on in the room that this made. What is done is added to
/// `outcome`, in which `repack_skipped` then says whether something is left for which there is no room even so.
pub fn repack_little_by_little(
    (repository, lock): (&Arc<Repository>, &Lock),
    options: &PruneOptions,
    outcome: &mut PruneOutcome,
    (events, cancel): (&Events, &Cancel),
) -> Result<(), RepositoryError> {
    events.phase("repacking", "little by little");
    let quiet = Events::ignored();
    let plan = |max_repack_bytes| {
        let options = PruneOptions { max_repack_bytes, ..*options };
        plan(repository, &HashSet::new(), &options, &quiet, cancel)
    };
    // The prune before has made room since it had none.
    let mut made = outcome.removed_bytes;
    loop {
        let reserve = repository.store.release_reserve()?;
        let aside = reserve.saturating_sub(room_for_indexes(repository)?);
        let mut run = Run::new(repository, lock, (&quiet, cancel));
        let step: PrunePlan = if aside > made {
            run.reserve_released = true;
            plan(Some(aside))?
        } else {
            repository.store.keep_reserve()?;
            plan(Some(made))?
        };
        let is_last = step.repack.is_empty();
        let done = run.execute(step)?;
        outcome.add(&done);
        made += done.removed_bytes.saturating_sub(done.written_bytes);
        if is_last || done.repack_skipped {
            break;
        }
    }
    outcome.repack_skipped = !plan(None)?.repack.is_empty();
    Ok(())
}

/// One index file for the copies, and one that takes the place of another: at most as large as the largest that is there.
fn room_for_indexes(repository: &Repository) -> Result<u64, RepositoryError> {
    let files = repository.store.list(FileKind::Index)?;
    Ok(2 * files.iter().map(|listed| listed.size).max().unwrap_or(0))
}
