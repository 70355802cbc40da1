//! What becomes of the state that a restore in place overwrites: nothing of it is lost but where a person said so, and
//! there was no room for anything else.

use super::free_bytes;
use super::into::{Prepared, PresentState};
use super::items::Item;
use crate::component::files::swap::{RESTORE, Watch, size_on_disk};
use crate::model::event::Cancel;
use crate::model::id::SnapshotId;
use crate::model::size::Bytes;
use crate::ops::backup::{BackupOptions, backup_locked};
use crate::ops::select::SnapshotRef;
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

/// An error when the present state could be saved, and so need not be lost.
pub(super) fn ensure_no_room(session: &Session, items: &[Item]) -> Result<(), OpsError> {
    let repository = session.repository.location();
    let repository_free = free_bytes(Path::new(&repository))?;
    let mut present = 0_u64;
    let mut room_beside = None;
    for item in items.iter().filter(|item| item.exists) {
        let target = &item.swap.target;
        let size = size_on_disk(target).map_err(|source| OpsError::Io {
            action: "measure",
            path: target.clone(),
            source,
        })?;
        present = present.saturating_add(size);
        let free = free_bytes(target)?;
        if room_beside.is_none_or(|(_, least)| free < least) {
            room_beside = Some((target, free));
        }
    }
    let Some((target, target_free)) = room_beside else { return Ok(()) };
    if has_no_room(present, repository_free, target_free) {
        return Ok(());
    }
    Err(OpsError::refused(
        format!(
            "the present state ({}) need not be lost: the repository has {} free, and {} has {} free",
            Bytes(present),
            Bytes(repository_free),
            target.display(),
            Bytes(target_free)
        ),
        "leave out --discard-current: it is for when there is room neither for a snapshot of the present state nor to set it aside",
    ))
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
            (PresentState::SetAside, reason) => {
                let reason = reason.as_deref().unwrap_or_default();
                context.events.warn(format!(
                    "The present state of {name} is in no snapshot, which was asked for: {reason}."
                ));
                return Ok(Saved::Not);
            }
            (PresentState::Snapshot, _) => {}
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
                let reason = format!("state of {name} before a restore");
                let snapshot = SnapshotRef::Prefix(outcome.id.to_string());
                let doubt = match pins::pin(self.session, &snapshot, &reason, context) {
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
            Err(error) => {
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); it is set aside."));
                Cancel::check(&context.cancel)?;
                Ok(Saved::Not)
            }
        }
    }
}

/// Whether the old state of an item, which is aside by now, may go; otherwise why not.
pub(super) fn may_remove_aside(item: &Item, saved: &Saved, watch: &Watch) -> Result<(), String> {
    let target = item.swap.target.display();
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
