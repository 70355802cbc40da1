//! The journal of a restore in place: written before each step that the next start must know of.
//!
//! A file `INSTANCE.JOB.json` in `restores` below the state directory.

use crate::component::files::swap::{SwapError, SwapPlan};
use crate::host::Process;
use crate::model::event::Events;
use crate::model::id::{JobId, SnapshotId};
use crate::model::name::Name;
use crate::ops::OpsError;
use crate::ops::private::PrivateDirectory;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The directory of the journals.
pub(super) const DIRECTORY: &str = "restores";

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The new trees are being made; the instance is as it was.
    Staging,
    /// Old states that there is no room for are moved out of the way, to be deleted; nothing of them is deleted yet.
    TakingAway,
    /// They are being deleted, or are, and new trees are made in their place.
    GivenUp,
    /// The new trees are complete and the present state is saved: the way is forward.
    Swapping,
    /// All is swapped; old states are being removed or kept.
    Clearing,
}

/// A swap, and what becomes of the old state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) swap: SwapPlan,
    /// It is in a snapshot, or may be lost.
    pub(super) removes_aside: bool,
    /// It is deleted before the new tree is made.
    #[serde(default)]
    pub(super) gives_up: bool,
}

/// What a restore says of the old states that it deletes before the new ones are complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenUp {
    /// Why a person has allowed that.
    pub reason: String,
    /// The snapshot that was to be restored.
    pub snapshot: SnapshotId,
    /// The snapshot of the old state; none where there was no room for one, or it could not be read.
    pub before: Option<SnapshotId>,
    /// The command that brings it back, or what comes in its place.
    pub again: String,
}

impl GivenUp {
    fn told(&self) -> String {
        let Self { reason, before, .. } = self;
        let before = before.map_or("it is in no snapshot".to_owned(), |before| {
            format!("it is in snapshot {}", before.short())
        });
        format!(", as asked for ({reason}); {before}")
    }
}

impl Step {
    /// Remove the old state or keep it; returns where it is kept.
    pub(super) fn clear(&self, events: &Events) -> Result<Option<PathBuf>, OpsError> {
        if self.removes_aside {
            match self.swap.remove_aside() {
                Ok(()) => return Ok(None),
                Err(error) => {
                    events.warn(format!("The state before is not all gone: {error}."));
                }
            }
        }
        Ok(self.swap.keep_aside()?)
    }
}

/// A journal's content.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) instance: Name,
    pid: i32,
    boot_id: String,
    process_start: u64,
    pub(super) phase: Phase,
    pub(super) steps: Vec<Step>,
    #[serde(default)]
    pub(super) given_up: Option<GivenUp>,
    /// Journals of restores that this one brings to an end, once all is swapped.
    #[serde(default)]
    pub(super) ends: Vec<String>,
}

/// A journal that is being written.
pub(super) struct Journal {
    directory: PrivateDirectory,
    name: String,
    entry: Entry,
}

impl Journal {
    /// Begin a journal for a job that brings those of others to an end.
    pub(super) fn begin(
        state_dir: &Path,
        job: JobId,
        instance: &Name,
        ends: Vec<String>,
    ) -> Result<Self, OpsError> {
        let Process { pid, boot_id, start } = Process::current();
        let entry = Entry {
            instance: instance.clone(),
            pid,
            boot_id,
            process_start: start,
            phase: Phase::Staging,
            steps: Vec::new(),
            given_up: None,
            ends,
        };
        let directory = PrivateDirectory::make(state_dir, DIRECTORY)?;
        Ok(Self { directory, name: format!("{instance}.{job}.json"), entry })
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&mut self, steps: Vec<Step>, phase: Phase) -> Result<(), OpsError> {
        let entry = Entry { phase, steps, ..self.entry.clone() };
        self.directory.write_json(&self.name, &entry)?;
        self.entry = entry;
        Ok(())
    }

    /// Say from the next writing on what is given up, and why.
    pub(super) fn set_given_up(&mut self, given_up: GivenUp) {
        self.entry.given_up = Some(given_up);
    }

    /// What was given up.
    pub(super) fn given_up(&self) -> Option<&GivenUp> {
        self.entry.given_up.as_ref()
    }

    /// The restore is over, and with it those that it brought to an end.
    pub(super) fn finish(self) -> Result<(), OpsError> {
        self.entry.ends.iter().chain([&self.name]).try_for_each(|name| self.directory.remove(name))
    }

    /// The restore is over before it swapped anything: what it made goes, and so does the journal, unless old states
    /// were given up. Then returns what there is to say of that.
    pub(super) fn abandon(self) -> Result<Option<String>, OpsError> {
        self.entry.take_back()?;
        if let Some(way_back) = self.entry.way_back(&self.directory.path_of(&self.name)) {
            return Ok(Some(format!("{}. {way_back}.", self.entry.missing())));
        }
        self.directory.remove(&self.name)?;
        Ok(None)
    }
}

impl Entry {
    /// Whether the process that wrote it is gone.
    pub(super) fn is_left(&self) -> bool {
        let Self { pid, boot_id, process_start, .. } = self;
        Process { pid: *pid, boot_id: boot_id.clone(), start: *process_start }.is_gone()
    }

    /// What is deleted before its new state is there.
    pub(super) fn targets_given_up(&self) -> impl Iterator<Item = &PathBuf> {
        self.steps.iter().filter(|step| step.gives_up).map(|step| &step.swap.target)
    }

    /// What is said where the old state is gone, and the new one is not there.
    pub(super) fn missing(&self) -> String {
        let targets: Vec<String> =
            self.targets_given_up().map(|target| target.display().to_string()).collect();
        let why = self.given_up.as_ref().map(GivenUp::told).unwrap_or_default();
        format!(
            "'{}' is not whole: a restore ended before the new state of {} was in place, and the one before is deleted{why}",
            self.instance,
            targets.join(", ")
        )
    }

    /// What is to be done about that.
    pub(super) fn way_back(&self, journal: &Path) -> Option<String> {
        let given_up = self.given_up.as_ref().filter(|_| self.phase == Phase::GivenUp)?;
        Some(format!(
            "Run the restore again: {}. Or, once the files are in place by your own hand, remove {}",
            given_up.again,
            journal.display()
        ))
    }

    /// Undo what was done before the swaps began, as far as that can be undone; of one that cannot be, all others are
    /// taken back nevertheless.
    fn take_back(&self) -> Result<(), SwapError> {
        let undo = |Step { swap, gives_up, .. }: &Step| match (self.phase, gives_up) {
            (Phase::TakingAway, true) => swap.put_back(),
            (Phase::GivenUp, true) => swap.discard(),
            _ => swap.abandon(),
        };
        let undone: Vec<_> = self.steps.iter().map(undo).collect();
        undone.into_iter().collect()
    }

    /// Returns where old states are kept.
    pub(super) fn finish(&self, events: &Events) -> Result<Vec<PathBuf>, OpsError> {
        if matches!(self.phase, Phase::Staging | Phase::TakingAway | Phase::GivenUp) {
            self.take_back()?;
            return Ok(Vec::new());
        }
        if self.phase == Phase::Swapping {
            for Step { swap, .. } in &self.steps {
                swap.execute()?;
            }
        }
        let mut kept = Vec::new();
        for step in &self.steps {
            kept.extend(step.clear(events)?);
        }
        Ok(kept)
    }
}

/// What makes the names of a restore's swaps unique.
pub(super) fn tag(job: impl std::fmt::Display, index: usize) -> String {
    format!("{job}-{index}")
}
