//! What becomes of the state that a restore in place overwrites: nothing of it is lost but where a person said so, and
//! there was no room for anything else.

use super::into::{Prepared, PresentState};
use super::items::Item;
use super::journal::{GivenUp, Journal, Phase};
use super::{free_bytes, room, survey};
use crate::component::files::swap::{RESTORE, Watch};
use crate::component::files::walk::WalkError;
use crate::model::event::Cancel;
use crate::model::id::SnapshotId;
use crate::model::size::Bytes;
use crate::ops::backup::{BackupOptions, backup_locked};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError, pins};
use std::io;
use std::path::Path;

/// How the present state was saved before the swap.
pub(super) enum Saved {
    /// In no snapshot: nothing was there, it could not be read, or a person said that there is no room.
    Not,
    /// In a snapshot, with what keeps that from being relied upon.
    Snapshot(SnapshotId, Option<&'static str>),
}

impl Saved {
    pub(super) fn snapshot(&self) -> Option<SnapshotId> {
        match self {
            Self::Snapshot(id, _) => Some(*id),
            Self::Not => None,
        }
    }
}

/// What is to become of the present state. An error when a person would discard what could be saved.
pub(super) fn plan(
    session: &Session,
    items: &[Item],
    may_discard: bool,
) -> Result<PresentState, OpsError> {
    let present: Vec<&Item> = items.iter().filter(|item| item.exists).collect();
    if present.is_empty() {
        return Ok(PresentState::Nothing);
    }
    let gives_up = present.iter().any(|item| item.gives_up);
    if !gives_up && !may_discard {
        return Ok(PresentState::Snapshot);
    }
    let mut bytes = 0_u64;
    let mut room_beside = None;
    for swap in present.iter().map(|item| &item.swap) {
        bytes = bytes.saturating_add(room::measure(swap)?.taken);
        let target = &swap.target;
        let free = free_bytes(target)?;
        if room_beside.is_none_or(|(_, least)| free < least) {
            room_beside = Some((target, free));
        }
    }
    let repository = session.repository.location();
    let repository = Path::new(&repository);
    let repository_free = free_bytes(repository)?;
    let (target, target_free) = room_beside.expect("something is there");
    match gives_up {
        // How much of it the repository has already is known only by trying, which on the same disk takes what room there
        // is from the new state.
        true if repository_free >= bytes || is_elsewhere(repository, &present)? => {
            return Ok(PresentState::SnapshotThenDeleted);
        }
        true => return Ok(PresentState::Deleted),
        false if has_no_room(bytes, repository_free, target_free) => {
            return Ok(PresentState::SetAside);
        }
        false => {}
    }
    Err(OpsError::refused(
        format!(
            "the present state ({}) need not be lost: the repository has {} free, and {} has {} free",
            Bytes(bytes),
            Bytes(repository_free),
            target.display(),
            Bytes(target_free)
        ),
        "leave out --discard-current: it is for when there is room neither for a snapshot of the present state nor to set it aside",
    ))
}

/// Whether the repository is on another disk than all that is given up.
fn is_elsewhere(repository: &Path, present: &[&Item]) -> Result<bool, OpsError> {
    let device = room::device(repository)?;
    for item in present.iter().filter(|item| item.gives_up) {
        if room::device(&item.swap.target)? == device {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_no_room(present: u64, repository_free: u64, target_free: u64) -> bool {
    repository_free < present && target_free < present
}

impl Prepared<'_> {
    /// Snapshot what is about to be overwritten, and pin that. A state that cannot be read is set aside instead.
    pub(super) fn save_present_state(&self, context: &Context) -> Result<Saved, OpsError> {
        let name = &self.instance.name;
        match (self.plan.present_state, &self.options.discard_current) {
            (PresentState::Nothing, _) => return Ok(Saved::Not),
            (PresentState::SetAside | PresentState::Deleted, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                context.events.warn(format!(
                    "The present state of {name} is in no snapshot, which was asked for: {reason}."
                ));
                return Ok(Saved::Not);
            }
            (PresentState::Snapshot | PresentState::SnapshotThenDeleted, _) => {}
        }
        // What backups leave out is overwritten, too, so here nothing is left out but what this very job has staged.
        let mut instance = self.instance.clone();
        instance.exclude = vec![format!("{RESTORE}{}-*", self.job)];
        let is_gone = |path: &Path| {
            path.metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
        };
        instance.paths.retain(|root| !is_gone(&root.path));
        let before_restore_of = Some(self.plan.snapshot);
        let options = BackupOptions { before_restore_of, ..BackupOptions::default() };
        match backup_locked(self.config, self.session, &instance, &options, context) {
            Ok(outcome) => {
                let doubt = match pins::pin_present(self.session, outcome.id, name, context) {
                    Ok(_) if outcome.warnings.is_empty() => None,
                    Ok(_) => Some("has warnings"),
                    Err(error) if error.is_cancelled() => return Err(error),
                    Err(error) => {
                        let id = outcome.id.short();
                        context.events.warn(format!(
                            "Snapshot {id} of the present state of {name} could not be pinned: {error}."
                        ));
                        Some("is not pinned")
                    }
                };
                Ok(Saved::Snapshot(outcome.id, doubt))
            }
            Err(error) if error.is_cancelled() => Err(error),
            // What may pass is no reason to delete the only copy.
            Err(error) if !self.plan.present_state.goes_on_after(&error) => Err(error),
            Err(error) => {
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); it is {}.", self.plan.present_state.without_snapshot()));
                Cancel::check(&context.cancel)?;
                Ok(Saved::Not)
            }
        }
    }
}

impl Prepared<'_> {
    /// Delete the old states that there is no room for. Until the journal says that they are given up, an error leaves
    /// all as it was; from then on, run again, the restore goes on from here.
    pub(super) fn give_up(
        &self,
        journal: &mut Journal,
        saved: &Saved,
        context: &Context,
    ) -> Result<(), OpsError> {
        let name = &self.instance.name;
        let given_up: Vec<&Item> = self.items.iter().filter(|item| item.gives_up).collect();
        room::ensure_still_enough(&self.items)?;
        given_up.iter().try_for_each(|item| item.ensure_same_place())?;
        let reason = self.options.discard_current.clone().unwrap_or_default();
        let (snapshot, before) = (self.plan.snapshot, saved.snapshot());
        let again = self.options.command(snapshot, name);
        journal.set_given_up(GivenUp { reason: reason.clone(), snapshot, before, again });
        journal.write(self.steps(), Phase::TakingAway)?;
        context.events.phase("setting aside", name.to_string());
        given_up.iter().try_for_each(|item| item.swap.take_away())?;
        let nodes = given_up.iter().map(|item| item.node.clone()).collect();
        survey::ensure_still_stored(&self.session.repository, &self.source, nodes, context)?;
        journal.write(self.steps(), Phase::GivenUp)?;
        context.events.phase("deleting", name.to_string());
        let targets: Vec<String> =
            given_up.iter().map(|item| item.swap.target.display().to_string()).collect();
        context.events.warn(format!(
            "What was in {} is deleted before its new state is there, which was asked for: {reason}.",
            targets.join(", ")
        ));
        Ok(given_up.iter().try_for_each(|item| item.swap.discard())?)
    }
}

impl PresentState {
    /// Whether the restore goes on although the snapshot before it failed.
    fn goes_on_after(self, error: &OpsError) -> bool {
        let is_unreadable = matches!(
            error,
            OpsError::Component { source, .. } if !matches!(source, WalkError::Sink(_))
        );
        self != Self::SnapshotThenDeleted || is_unreadable || error.is_no_room()
    }

    /// What becomes of it then.
    fn without_snapshot(self) -> &'static str {
        match self {
            Self::SnapshotThenDeleted => "deleted without one, as asked for",
            _ => "set aside",
        }
    }
}

/// Whether the old state of an item, which is aside by now, may go; otherwise why not.
pub(super) fn may_remove_aside(
    item: &Item,
    saved: &Saved,
    watch: Option<&Watch>,
) -> Result<(), String> {
    let target = item.swap.target.display();
    let Some(watch) = watch else {
        return Err(format!("Something came to {target} while the restore made its new state"));
    };
    if !item.exists {
        return Err(format!("{target} was not there when the restore began"));
    }
    match saved {
        Saved::Not => Err(format!("The state before of {target} is in no snapshot")),
        Saved::Snapshot(id, Some(doubt)) => {
            Err(format!("Snapshot {} of the state before {doubt}", id.short()))
        }
        Saved::Snapshot(id, None) => match watch.first_change(&item.swap) {
            None => Ok(()),
            Some(changed) => {
                let below = changed.strip_prefix(&item.swap.aside).unwrap_or(&changed);
                let shown = item.swap.target.join(below);
                let shown = if below.as_os_str().is_empty() { &item.swap.target } else { &shown };
                Err(format!(
                    "{} changed after snapshot {} of the state before was begun",
                    shown.display(),
                    id.short()
                ))
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_present_state_may_be_lost_only_without_room_on_either_side() {
        for (repository_free, target_free, expected) in
            [(9, 9, true), (10, 9, false), (9, 10, false), (10, 10, false)]
        {
            assert_eq!(has_no_room(10, repository_free, target_free), expected);
        }
    }
}
