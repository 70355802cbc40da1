//! Changing the state, while other hosts may change it, too.

use super::{State, journals};
use crate::model::id::{RepositoryId, SnapshotId};
use crate::ops::session::Session;
use crate::ops::state::journals::Stored;
use crate::ops::{Context, OpsError, state};
use crate::repository::lock::{Lock, LockMode};
use crate::repository::reader::Reader;
use crate::repository::{RepositoryError, Snapshots};
use crate::store::FileKind;
use std::collections::HashSet;

/// So often a change is written again because others changed the state at the same moment.
pub(in crate::ops) const MAX_ROUNDS: u32 = 20;

/// A repository that was looked at under a shared lock: a prune cannot run meanwhile, and it reads the pins again once it does.
pub(in crate::ops) struct Looked {
    lock: Lock,
    pub(in crate::ops) reader: Reader,
    pub(in crate::ops) snapshots: Snapshots,
}

impl Looked {
    /// Look at it for a purpose, which others are told who wait for it.
    pub(in crate::ops) fn at(
        session: &Session,
        purpose: &str,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let lock = session.lock(LockMode::Shared, purpose, context)?;
        let snapshots = session.repository.snapshots()?;
        let reader = Reader::new(&session.repository)?;
        Ok(Self { lock, reader, snapshots })
    }
}

/// A change on its way. Several hosts may change at once, each writing a whole state: whoever has written looks again,
/// takes in what others wrote meanwhile, and writes once more until the state that counts has all of it. Of a pin and an
/// unpin of the same moment the pin may come back; no pin is lost, and no record of a journal.
pub(in crate::ops) struct Change<'a, E> {
    session: &'a Session,
    context: &'a Context,
    looked: Looked,
    edit: E,
    /// What counts now.
    current: State,
    /// What should count.
    wanted: State,
    /// The newest state cannot be read, or the newest that this host has seen is not there any more.
    is_behind: bool,
}

impl<'a, E: Fn(&mut State)> Change<'a, E> {
    /// Plan a change. `about` is a snapshot whose pins stay, even where a listing does not show it.
    pub(in crate::ops) fn begin(
        session: &'a Session,
        looked: Looked,
        about: Option<SnapshotId>,
        context: &'a Context,
        edit: E,
    ) -> Result<Self, OpsError> {
        let mut current = state::read(&looked.reader, &looked.snapshots, &context.events)?;
        let lost = lost_but_known_here(session, &current)?;
        // One that cannot be read must be outnumbered, whatever changes.
        let is_behind = lost.is_some() || current.is_incomplete;
        let mut wanted = current.clone();
        if let Some(lost) = lost {
            current.number = lost.number;
            wanted.add(lost.pins);
            journals::add(&mut wanted.upgrades, lost.upgrades);
        }
        edit(&mut wanted);
        if !wanted.has_content_of(&current) {
            // A pin of what is gone for good only grows the state. A listing from before the pins were read could miss
            // what was snapshotted and pinned since.
            let listed = session
                .repository
                .store()
                .list(FileKind::Snapshot)
                .map_err(RepositoryError::from)?;
            let present: HashSet<SnapshotId> = listed.iter().map(|file| file.id.into()).collect();
            wanted
                .pins
                .retain(|pin| Some(pin.snapshot) == about || present.contains(&pin.snapshot));
        }
        Ok(Self { session, context, looked, edit, current, wanted, is_behind })
    }

    /// What should count.
    pub(in crate::ops) fn wanted(&self) -> &State {
        &self.wanted
    }

    pub(in crate::ops) fn is_done(&self) -> bool {
        self.wanted.has_content_of(&self.current) && !self.is_behind
    }

    pub(in crate::ops) fn write(&mut self) -> Result<(), OpsError> {
        self.wanted.number = self.current.number + 1;
        self.is_behind = false;
        let told = (&self.context.events, &self.context.cancel);
        let Looked { lock, reader, snapshots } = &mut self.looked;
        let index = reader.shared_index();
        let written = state::write(self.session, index, lock, snapshots, &self.wanted, told)?;
        // Whoever wrote since and knew it may have dropped a pin of it.
        snapshots.readable.push(written);
        Ok(())
    }

    /// Read what counts now, and want besides what others wrote without knowing of this.
    pub(in crate::ops) fn look_again(&mut self) -> Result<(), OpsError> {
        let events = &self.context.events;
        let since = self.current.number;
        let Looked { reader, snapshots, .. } = &mut self.looked;
        let before = std::mem::replace(snapshots, self.session.repository.snapshots()?);
        *reader = Reader::new(&self.session.repository)?;
        self.current = state::read(reader, snapshots, events)?;
        self.wanted = self.current.clone();
        state::take_in(&mut self.wanted, reader, snapshots, &before, since)?;
        (self.edit)(&mut self.wanted);
        Ok(())
    }

    /// Write and look again until it counts. Returns the state that counts, and whether anything had to be written.
    pub(in crate::ops) fn settle(mut self) -> Result<(State, bool), OpsError> {
        let mut rounds = 0;
        while !self.is_done() {
            if rounds == MAX_ROUNDS {
                return Err(OpsError::refused(
                    "others kept changing pins or upgrades at the same moment, and the change may have been lost",
                    "run the command again",
                ));
            }
            self.write()?;
            self.look_again()?;
            rounds += 1;
        }
        self.finish(rounds > 0)
    }

    /// The state that counts, with the catalog brought up to date.
    pub(in crate::ops) fn finish(self, changed: bool) -> Result<(State, bool), OpsError> {
        if changed && let Some(catalog) = &self.session.catalog {
            let repository = RepositoryId(self.session.repository.id().0);
            catalog.replace_pins(repository, self.current.number, &self.current.pins)?;
        }
        Ok((self.current, changed))
    }
}

/// The newest state that the catalog has seen, where the repository has none that is as new.
fn lost_but_known_here(session: &Session, current: &State) -> Result<Option<State>, OpsError> {
    let Some(catalog) = &session.catalog else { return Ok(None) };
    let repository = RepositoryId(session.repository.id().0);
    let Some(known) = catalog.state_number(repository)? else { return Ok(None) };
    let is_lost = known > current.number || known == current.number && current.is_incomplete;
    if !is_lost {
        return Ok(None);
    }
    let upgrades = catalog.upgrades_in(repository)?.iter().map(Stored::of).collect();
    let pins = catalog.pins(repository)?;
    Ok(Some(State { number: known, pins, upgrades, ..State::default() }))
}
