//! Verifying a repository: what is damaged or missing, and which snapshots and paths are lost by that.
//!
//! Damage of single files, unreadable ones included, never ends a check: it is found, told, and the check goes on with
//! what a restore would go on with. Only a store that cannot even list its files ends it. Every tree is read once,
//! however many snapshots and directories share it, and its memory is given back before the next one.
//!
//! ```text
//! files ─▶ packs: there? of the right size? ─▶ packs: every byte (if asked for) ─▶ trees ─▶ which snapshots, which paths
//! ```

mod data;
mod files;
mod ledger;
mod lost;
mod progress;
mod report;
#[cfg(test)]
mod tests;
mod trees;

pub use report::{
    CheckOptions, CheckReport, Finding, FindingKind, LostPath, MAX_PATHS, MAX_SLICES,
    ParseSliceError, Severity, Slice,
};

use super::reader::Reader;
use super::{Repository, RepositoryError};
use crate::model::event::{Cancel, Events};
use ledger::Ledger;
use std::sync::Arc;

/// Verify a repository. The caller holds a shared lock.
///
/// An error means that the check could not be made; damage is no error, but in the report.
pub fn check(
    repository: &Arc<Repository>,
    options: &CheckOptions,
    events: &Events,
    cancel: &Cancel,
) -> Result<CheckReport, RepositoryError> {
    let mut ledger = Ledger::default();

    events.phase("checking files", repository.location());
    files::check_config(repository, &mut ledger)?;
    files::check_keys(repository, &mut ledger, cancel)?;
    files::check_locks(repository, &mut ledger, cancel)?;
    // In this order: whatever a snapshot that was seen needs was listed and stored before.
    let snapshots = files::check_snapshots(repository, &mut ledger, cancel)?;
    let (index, mut packs) = files::check_indexes(repository, &mut ledger, cancel)?;
    let index = files::check_packs(repository, index, &mut packs, &mut ledger, cancel)?;
    let reader = Reader::with_index(repository, index);

    events.phase("checking packs", repository.location());
    let bad =
        data::check_packs(repository, &reader, &packs, *options, &mut ledger, events, cancel)?;

    events.phase("checking trees", repository.location());
    let trees = trees::check(&reader, &packs, &bad, &snapshots, &mut ledger, events, cancel)?;

    lost::attribute(&snapshots, &trees, &mut ledger, cancel)?;
    files::sum_up_indexes(&packs, &trees, &mut ledger);
    Ok(CheckReport {
        snapshots: snapshots.len() as u64,
        packs: packs.stored,
        blobs: packs.blobs,
        trees: trees.count,
        bytes_read: bad.bytes_read + trees.bytes_read,
        unreferenced_bytes: packs.blob_bytes.saturating_sub(trees.used_bytes),
        findings: ledger.into_findings(),
    })
}
