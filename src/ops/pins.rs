//! Pinning: a pinned snapshot is kept whatever the retention policy says.

use super::select::{self, SnapshotRef};
use super::session::Session;
use super::state::change::{Change, Looked};
use super::state::{self, State};
use super::{Context, OpsError, adopt};
use crate::host;
use crate::model::id::SnapshotId;
use crate::model::name::Name;
use crate::model::pin::Pin;
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

/// Pin the snapshot that was taken of an instance right before it is overwritten.
pub fn pin_present(
    session: &Session,
    snapshot: SnapshotId,
    instance: &Name,
    context: &Context,
) -> Result<Pinned, OpsError> {
    let reason = format!("state of {instance} before a restore");
    pin(session, &SnapshotRef::Prefix(snapshot.to_string()), &reason, context)
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

/// Remove the pins of all snapshots for one reason; returns how many there were.
pub fn release(session: &Session, reason: &str, context: &Context) -> Result<u64, OpsError> {
    let state = {
        let looked = Looked::at(session, "pin", context)?;
        state::read(&looked.reader, &looked.snapshots, &context.events)?
    };
    let mut released = 0;
    for pin in state.pins.iter().filter(|pin| pin.reason == reason) {
        let snapshot = SnapshotRef::Prefix(pin.snapshot.to_string());
        released += u64::from(unpin(session, &snapshot, Some(reason), context)?.changed);
    }
    Ok(released)
}

fn change(
    session: &Session,
    snapshot: &SnapshotRef,
    context: &Context,
    edit: impl Fn(&mut Vec<Pin>, SnapshotId),
) -> Result<Pinned, OpsError> {
    let (snapshot, change) = begin(session, snapshot, context, edit)?;
    let (state, changed) = change.settle()?;
    Ok(pinned(snapshot, state, changed))
}

fn begin<'a, E: Fn(&mut Vec<Pin>, SnapshotId)>(
    session: &'a Session,
    snapshot: &SnapshotRef,
    context: &'a Context,
    edit: E,
) -> Result<(SnapshotId, Change<'a, impl Fn(&mut State) + use<E>>), OpsError> {
    let looked = Looked::at(session, "pin", context)?;
    let found = snapshot.resolve(&looked.snapshots, &looked.reader, session)?;
    if let Some(catalog) = &session.catalog
        && let Some(instance) = select::instance_of(&found.file)
        && let Some(known) = catalog.instance_with_id(instance)?
    {
        adopt::ensure_own(&known)?;
    }
    let snapshot = found.id;
    let edit = move |state: &mut State| edit(&mut state.pins, snapshot);
    Ok((snapshot, Change::begin(session, looked, Some(snapshot), context, edit)?))
}

fn pinned(snapshot: SnapshotId, state: State, changed: bool) -> Pinned {
    let own = state.pins.into_iter().filter(|pin| pin.snapshot == snapshot);
    Pinned { snapshot, pins: own.map(|pin| pin.reason).collect(), changed }
}

#[cfg(test)]
mod tests;
