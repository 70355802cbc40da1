//! Pinning: a pinned snapshot is kept whatever the retention policy says.

use super::select::{self, SnapshotRef};
use super::session::Session;
use super::state::{self, State};
use super::{Context, OpsError, adopt};
use crate::host;
use crate::model::id::{RepositoryId, SnapshotId};
use crate::model::pin::Pin;
use crate::repository::lock::{Lock, LockMode};
use crate::repository::reader::Reader;
use crate::repository::{RepositoryError, Snapshots};
use crate::store::FileKind;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashSet;

/// So often a change is written again because others changed the pins at the same moment.
const MAX_ROUNDS: u32 = 20;

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

/// Remove the pins of all snapshots for one reason; returns how many there were.
pub fn release(session: &Session, reason: &str, context: &Context) -> Result<u64, OpsError> {
    let state = {
        let _lock = session.lock_for_reading("look for pins", context)?;
        let snapshots = session.repository.snapshots()?;
        state::read(&Reader::new(&session.repository)?, &snapshots, &context.events)?
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
    let mut change = Change::begin(session, snapshot, context, edit)?;
    let mut rounds = 0;
    while !change.is_done() {
        if rounds == MAX_ROUNDS {
            return Err(OpsError::refused(
                "others kept changing the pins at the same moment, and the change may have been lost",
                "run the command again",
            ));
        }
        change.write()?;
        change.look_again()?;
        rounds += 1;
    }
    change.finish(rounds > 0)
}

/// A change on its way. Several hosts may change at once, each writing a whole state: whoever has written looks again,
/// takes in what others wrote meanwhile, and writes once more until the state that counts has all of it. Of a pin and an
/// unpin of the same moment the pin may come back; no pin is lost.
struct Change<'a, E> {
    session: &'a Session,
    context: &'a Context,
    /// Shared: a prune cannot run meanwhile, and it reads the pins again once it does.
    lock: Lock,
    reader: Reader,
    snapshots: Snapshots,
    snapshot: SnapshotId,
    edit: E,
    /// What counts now.
    current: State,
    /// What should count.
    wanted: State,
    /// The newest state cannot be read, or the newest that this host has seen is not there any more.
    is_behind: bool,
}

impl<'a, E: Fn(&mut Vec<Pin>, SnapshotId)> Change<'a, E> {
    fn begin(
        session: &'a Session,
        snapshot: &SnapshotRef,
        context: &'a Context,
        edit: E,
    ) -> Result<Self, OpsError> {
        let lock = session.lock(LockMode::Shared, "pin", context)?;
        let snapshots = session.repository.snapshots()?;
        let reader = Reader::new(&session.repository)?;
        let found = snapshot.resolve(&snapshots, &reader, session)?;
        if let Some(catalog) = &session.catalog
            && let Some(instance) = select::instance_of(&found.file)
            && let Some(known) = catalog.instance_with_id(instance)?
        {
            adopt::ensure_own(&known)?;
        }
        let snapshot = found.id;
        let mut current = state::read(&reader, &snapshots, &context.events)?;
        let lost = lost_but_known_here(session, &current)?;
        // One that cannot be read must be outnumbered, whatever changes.
        let is_behind = lost.is_some() || current.is_incomplete;
        let mut wanted = current.clone();
        if let Some((number, pins)) = lost {
            current.number = number;
            wanted.add(pins);
        }
        edit(&mut wanted.pins, snapshot);
        if wanted != current {
            // A pin of what is gone for good only grows the state. A listing from before the pins were read could miss
            // what was snapshotted and pinned since.
            let listed = session
                .repository
                .store()
                .list(FileKind::Snapshot)
                .map_err(RepositoryError::from)?;
            let present: HashSet<SnapshotId> = listed.iter().map(|file| file.id.into()).collect();
            wanted.pins.retain(|pin| pin.snapshot == snapshot || present.contains(&pin.snapshot));
        }
        Ok(Self {
            session,
            context,
            lock,
            reader,
            snapshots,
            snapshot,
            edit,
            current,
            wanted,
            is_behind,
        })
    }

    fn is_done(&self) -> bool {
        self.wanted.pins == self.current.pins && !self.is_behind
    }

    fn write(&mut self) -> Result<(), OpsError> {
        self.wanted.number = self.current.number + 1;
        self.is_behind = false;
        let told = (&self.context.events, &self.context.cancel);
        let index = self.reader.shared_index();
        let written =
            state::write(self.session, index, &self.lock, &self.snapshots, &self.wanted, told)?;
        // Whoever wrote since and knew it may have dropped a pin of it.
        self.snapshots.readable.push(written);
        Ok(())
    }

    /// Read what counts now, and want besides what others wrote without knowing of this.
    fn look_again(&mut self) -> Result<(), OpsError> {
        let events = &self.context.events;
        let since = self.current.number;
        let before = std::mem::replace(&mut self.snapshots, self.session.repository.snapshots()?);
        self.reader = Reader::new(&self.session.repository)?;
        self.current = state::read(&self.reader, &self.snapshots, events)?;
        self.wanted = self.current.clone();
        state::take_in(&mut self.wanted, &self.reader, &self.snapshots, &before, since)?;
        (self.edit)(&mut self.wanted.pins, self.snapshot);
        Ok(())
    }

    fn finish(self, changed: bool) -> Result<Pinned, OpsError> {
        if changed && let Some(catalog) = &self.session.catalog {
            let repository = RepositoryId(self.session.repository.id().0);
            catalog.replace_pins(repository, self.current.number, &self.current.pins)?;
        }
        let own = self.current.pins.into_iter().filter(|pin| pin.snapshot == self.snapshot);
        Ok(Pinned { snapshot: self.snapshot, pins: own.map(|pin| pin.reason).collect(), changed })
    }
}

/// Number and pins of the newest state that the catalog has seen, where the repository has none that is as new.
fn lost_but_known_here(
    session: &Session,
    current: &State,
) -> Result<Option<(u64, Vec<Pin>)>, OpsError> {
    let Some(catalog) = &session.catalog else { return Ok(None) };
    let repository = RepositoryId(session.repository.id().0);
    let Some(known) = catalog.state_number(repository)? else { return Ok(None) };
    let is_lost = known > current.number || known == current.number && current.is_incomplete;
    Ok(if is_lost { Some((known, catalog.pins(repository)?)) } else { None })
}

#[cfg(test)]
mod tests;
