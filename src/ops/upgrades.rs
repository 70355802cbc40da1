//! Journals of upgrades in the repository, so that another host can go on where a burnt one ended.

use super::session::Session;
use super::state::change::{Change, Looked};
use super::state::journals::Stored;
use super::state::{self, State};
use super::{Context, OpsError};
use crate::model::upgrade::{Journal, Relation};

/// Make a journal as it is durable in the repository. Refused where the repository has one of the same upgrade that is not the
/// beginning of it: another host has gone on with that upgrade, and this one must not.
pub fn keep(session: &Session, journal: &Journal, context: &Context) -> Result<(), NotKept> {
    let own = Stored::of(journal);
    let looked = Looked::at(session, "upgrade", context)?;
    // What others wrote stays, unless this goes on where it ends.
    let change = Change::begin(session, looked, None, context, |state: &mut State| {
        let goes_on = |stored: &Stored| own.relation(stored) == Relation::Newer;
        if state.upgrades.iter().all(|stored| stored.id() != own.id() || goes_on(stored)) {
            state.add_upgrades(vec![own.clone()]);
        }
    })?;
    refuse_other(change.wanted(), &own, journal).map_err(NotKept::TakenOver)?;
    let (state, _) = change.settle()?;
    refuse_other(&state, &own, journal).map_err(NotKept::TakenOver)
}

/// Why a journal is not in the repository.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Another host has gone on with that upgrade.
    #[error("{0}")]
    TakenOver(OpsError),
    /// It could not be written.
    #[error("{0}")]
    Failed(#[from] OpsError),
}

impl From<NotKept> for OpsError {
    fn from(error: NotKept) -> Self {
        let (NotKept::TakenOver(error) | NotKept::Failed(error)) = error;
        error
    }
}

fn refuse_other(state: &State, own: &Stored, journal: &Journal) -> Result<(), OpsError> {
    let stored = state.upgrades.iter().find(|stored| stored.id() == Some(journal.id));
    if stored.is_some_and(|stored| stored.relation(own) == Relation::Same) {
        return Ok(());
    }
    Err(OpsError::refused(
        format!(
            "cannot go on with upgrade {} of pair '{}': the repository has records of it that are not known here",
            journal.id, journal.plan.pair
        ),
        "another host has taken it up: let only one of them have the pair in its configuration; `belay catalog rebuild` takes its \
         records over",
    ))
}

/// The journals that a repository has, oldest first; those that a newer Belay wrote are told, and left out.
pub fn kept(session: &Session, context: &Context) -> Result<Vec<Journal>, OpsError> {
    let looked = Looked::at(session, "upgrade", context)?;
    let state = state::read(&looked.reader, &looked.snapshots, &context.events)?;
    let mut journals = readable(&state, context);
    journals.sort_by_key(|journal| (journal.planned_at, journal.id));
    Ok(journals)
}

/// The journals of a state that are understood here.
pub(super) fn readable(state: &State, context: &Context) -> Vec<Journal> {
    understood(state, |message| context.events.warn(message))
}

/// The same, telling of the others by `warn`.
pub(super) fn understood(state: &State, warn: impl Fn(String)) -> Vec<Journal> {
    let journals = state.upgrades.iter().filter_map(|stored| match stored.journal() {
        Ok(journal) => Some(journal),
        Err(error) => {
            let id = stored.id().map_or_else(|| "without id".to_owned(), |id| id.to_string());
            warn(format!("The journal of upgrade {id} cannot be read here: {error}."));
            None
        }
    });
    journals.collect()
}

#[cfg(test)]
mod tests;
