//! Pinning: a pinned snapshot is kept whatever the retention policy says.

use super::select::SnapshotRef;
use super::session::Session;
use super::{Context, OpsError, state};
use crate::host;
use crate::model::id::{RepositoryId, SnapshotId};
use crate::model::pin::Pin;
use crate::repository::lock::LockMode;
use crate::repository::reader::Reader;
use jiff::Timestamp;
use serde::Serialize;

/// What pinning or unpinning did.
#[derive(Debug, Serialize)]
pub struct Pinned {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The reasons that pin it now.
    pub pins: Vec<String>,
    /// Whether anything changed.
    pub changed: bool,
}

/// Pin a snapshot for a reason.
pub fn pin(
    session: &Session,
    snapshot: &SnapshotRef,
    reason: &str,
    context: &Context,
) -> Result<Pinned, OpsError> {
    change(session, snapshot, context, |pins, snapshot| {
        if !pins.iter().any(|pin| pin.snapshot == snapshot && pin.reason == reason) {
            let (pinned_by, pinned_at) = (host::username(), Timestamp::now());
            pins.push(Pin { snapshot, reason: reason.to_owned(), pinned_by, pinned_at });
        }
    })
}

/// Remove the pins of a snapshot: those for one reason, or all.
pub fn unpin(
    session: &Session,
    snapshot: &SnapshotRef,
    reason: Option<&str>,
    context: &Context,
) -> Result<Pinned, OpsError> {
    change(session, snapshot, context, |pins, snapshot| {
        pins.retain(|pin| {
            pin.snapshot != snapshot || reason.is_some_and(|reason| pin.reason != reason)
        });
    })
}

fn change(
    session: &Session,
    snapshot: &SnapshotRef,
    context: &Context,
    edit: impl FnOnce(&mut Vec<Pin>, SnapshotId),
) -> Result<Pinned, OpsError> {
    // Shared: a prune cannot run meanwhile, and it reads the pins again once it does.
    let lock = session.lock(LockMode::Shared, "pin", context)?;
    let snapshots = session.repository.snapshots()?;
    let reader = Reader::new(&session.repository)?;
    let snapshot = snapshot.resolve(&snapshots, &reader, session)?.id;
    let mut next = state::read(&reader, &snapshots, &context.events)?;
    let before = next.pins.clone();
    edit(&mut next.pins, snapshot);
    let changed = next.pins != before;
    if changed {
        // A pin of what is gone for good only grows the state.
        next.pins.retain(|pin| {
            snapshots.readable.iter().any(|snapshot| snapshot.id == pin.snapshot)
                || snapshots.damaged.iter().any(|(id, _)| *id == pin.snapshot)
        });
        next.number += 1;
        let told = (&context.events, &context.cancel);
        state::write(session, reader.shared_index(), &lock, &snapshots, &next, told)?;
        if let Some(catalog) = &session.catalog {
            catalog.replace_pins(
                RepositoryId(session.repository.id().0),
                next.number,
                &next.pins,
            )?;
        }
    }
    let pins = next
        .pins
        .into_iter()
        .filter(|pin| pin.snapshot == snapshot)
        .map(|pin| pin.reason)
        .collect();
    Ok(Pinned { snapshot, pins, changed })
}
