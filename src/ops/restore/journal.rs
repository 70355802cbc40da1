//! The journal of a restore in place: written before each step that the next start must know of.
//!
//! A file `INSTANCE.JOB.json` in `restores` below the state directory. One that cannot be finished concerns its own
//! instance only. What it says is believed as far as this restore's plan could have said it: names that a swap would
//! choose, in the directories of the configured instance.

use super::items::ensure_no_link;
use super::places::resolved;
use crate::component::files::swap::SwapPlan;
use crate::config::{Config, Instance};
use crate::host::Process;
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::ops::OpsError;
use crate::ops::private::PrivateDirectory;
use crate::ops::session::InstanceLock;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The directory of the journals.
const DIRECTORY: &str = "restores";

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The new trees are being made; the instance is as it was.
    Staging,
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
#[derive(Serialize, Deserialize)]
struct Entry {
    instance: Name,
    pid: i32,
    boot_id: String,
    process_start: u64,
    phase: Phase,
    steps: Vec<Step>,
}

/// A journal that is being written.
pub(super) struct Journal {
    directory: PrivateDirectory,
    name: String,
    instance: Name,
}

impl Journal {
    /// Begin a journal for a job.
    pub(super) fn begin(state_dir: &Path, job: JobId, instance: &Name) -> Result<Self, OpsError> {
        let directory = PrivateDirectory::make(state_dir, DIRECTORY)?;
        Ok(Self { directory, name: format!("{instance}.{job}.json"), instance: instance.clone() })
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write(&self, steps: Vec<Step>, phase: Phase) -> Result<(), OpsError> {
        let Process { pid, boot_id, start } = Process::current();
        let instance = self.instance.clone();
        let entry = Entry { instance, pid, boot_id, process_start: start, phase, steps };
        let json = serde_json::to_vec_pretty(&entry).map_err(|error| OpsError::Io {
            action: "write",
            path: self.directory.path_of(&self.name),
            source: error.into(),
        })?;
        self.directory.write(&self.name, &json)
    }

    /// The restore is over.
    pub(super) fn finish(self) -> Result<(), OpsError> {
        self.directory.remove(&self.name)
    }
}

/// A journal that was found.
struct Found {
    path: PathBuf,
    name: String,
    /// From its name: also where its content cannot be used.
    subject: Option<(Name, JobId)>,
    entry: Result<Entry, String>,
}

impl Found {
    /// Nothing when somebody finished it meanwhile.
    fn read(directory: &PrivateDirectory, name: String) -> Option<Self> {
        let path = directory.path_of(&name);
        let subject = name
            .strip_suffix(".json")
            .and_then(|stem| stem.rsplit_once('.'))
            .and_then(|(instance, job)| Some((instance.parse().ok()?, job.parse().ok()?)));
        let entry = match directory.read(&name) {
            Ok(None) => return None,
            Ok(Some(json)) => serde_json::from_slice(&json)
                .map_err(|error| format!("{} is no journal of a restore: {error}", path.display())),
            Err(error) => Err(error.to_string()),
        };
        Some(Self { path, name, subject, entry })
    }

    fn is_of(&self, instance: &Name) -> bool {
        self.subject.as_ref().is_some_and(|(subject, _)| subject == instance)
    }

    /// What there is to say, and to do, about a journal that is not finished now.
    fn problem(&self) -> Option<String> {
        let path = self.path.display();
        let Some((instance, _)) = &self.subject else {
            return Some(format!(
                "{path} does not have the name of a journal, so nothing is done with it. See what it is, and move it away."
            ));
        };
        let entry = match &self.entry {
            Ok(entry) => entry,
            Err(reason) => {
                return Some(format!(
                    "A restore into {instance} was interrupted, and cannot be finished: {reason}. Until that is cleared up, \
                     nothing is backed up of {instance} or restored into it. {}",
                    self.way_out()
                ));
            }
        };
        let Entry { pid, boot_id, process_start, phase, .. } = entry;
        let process = Process { pid: *pid, boot_id: boot_id.clone(), start: *process_start };
        if !process.is_gone() {
            return None;
        }
        let what = match phase {
            Phase::Staging => "before it touched the instance; what it has made is still there",
            Phase::Swapping => "while it swapped: the instance may be half old, half new",
            Phase::Clearing => "after it had swapped; the old state may still be there",
        };
        Some(format!(
            "A restore into {instance} was interrupted {what} (its journal is {path}). The next restore into it finishes \
             that, or now: belay backup {instance}"
        ))
    }

    fn way_out(&self) -> String {
        let steps = self.entry.iter().flat_map(|entry| &entry.steps);
        let way = steps.map(|Step { swap, .. }| {
            format!(
                "What belongs in {} is in {} (new), {} (old), or in place already. ",
                swap.target.display(),
                swap.staged.display(),
                swap.aside.display()
            )
        });
        let way: String = way.collect();
        format!(
            "{way}Mend the reason and run it again; or see to the instance's directories by hand (names that begin with \
             .belay-restore- and .belay-before- are of restores), and then remove {}",
            self.path.display()
        )
    }
}

/// What there is to say about restores that were interrupted, also those whose journal is of no use. Nothing is changed.
pub fn interrupted(state_dir: &Path) -> Vec<String> {
    problems(state_dir, |_| true)
}

fn problems(state_dir: &Path, is_wanted: impl Fn(&Found) -> bool) -> Vec<String> {
    match find(state_dir) {
        Ok(found) => {
            found.iter().filter(|found| is_wanted(found)).filter_map(Found::problem).collect()
        }
        Err(error) => vec![format!("Whether restores were interrupted is not known: {error}.")],
    }
}

fn find(state_dir: &Path) -> Result<Vec<Found>, OpsError> {
    let Some(directory) = PrivateDirectory::open(state_dir, DIRECTORY)? else {
        return Ok(Vec::new());
    };
    let names = directory.names()?;
    Ok(names.into_iter().filter_map(|name| Found::read(&directory, name)).collect())
}

/// Finish the interrupted restores into an instance: a swap that had begun goes to its end, anything earlier is taken
/// back. Those into other instances are only told. The lock says that no restore into this one is running.
pub(in crate::ops) fn finish_interrupted(
    config: &Config,
    instance: &Instance,
    _lock: &InstanceLock,
    events: &Events,
) -> Result<(), OpsError> {
    let own = |found: &Found| found.is_of(&instance.name);
    let found = find(&config.state_dir).map_err(|error| {
        OpsError::refused(
            format!("whether a restore into '{}' was interrupted is not known: {error}", instance.name),
            "the directory of the journals has to be a directory of the state's owner: put that right",
        )
    })?;
    for found in found.into_iter().filter(own) {
        found.finish(config, instance, events).map_err(|reason| {
            OpsError::refused(
                format!(
                    "the restore into '{}' that was interrupted cannot be finished: {reason} (its journal is {})",
                    instance.name,
                    found.path.display()
                ),
                found.way_out(),
            )
        })?;
    }
    for problem in problems(&config.state_dir, |found| !own(found)) {
        events.warn(problem);
    }
    Ok(())
}

impl Found {
    fn finish(&self, config: &Config, instance: &Instance, events: &Events) -> Result<(), String> {
        let entry = self.entry.as_ref().map_err(Clone::clone)?;
        self.ensure_believable(entry, instance)?;
        let kept = entry.finish(events).map_err(|error| error.to_string())?;
        let removed = PrivateDirectory::make(&config.state_dir, DIRECTORY)
            .and_then(|directory| directory.remove(&self.name));
        removed.map_err(|error| error.to_string())?;
        let name = &instance.name;
        let kept: Vec<String> = kept.iter().map(|path| path.display().to_string()).collect();
        let kept = match kept.as_slice() {
            [] => String::new(),
            _ => format!(
                " The state before is kept in {}; remove it when you no longer need it.",
                kept.join(", ")
            ),
        };
        events.warn(match entry.phase {
            Phase::Staging => format!(
                "A restore into {name} was interrupted before it touched the instance; what it had made was removed."
            ),
            Phase::Swapping => format!(
                "A restore into {name} was interrupted while it swapped; it is finished now.{kept}"
            ),
            Phase::Clearing => {
                format!("A restore into {name} was interrupted after it had swapped.{kept}")
            }
        });
        Ok(())
    }

    /// Whoever may write into the state directory must not decide what is moved and removed elsewhere.
    fn ensure_believable(&self, entry: &Entry, instance: &Instance) -> Result<(), String> {
        let job = self.subject.as_ref().map(|(_, job)| job.to_string()).unwrap_or_default();
        if entry.instance != instance.name {
            return Err(format!("it says that it is of the instance '{}'", entry.instance));
        }
        let roots: Vec<PathBuf> = instance
            .paths
            .iter()
            .flat_map(|root| [root.path.clone(), resolved(&root.path)])
            .collect();
        for (index, Step { swap, .. }) in entry.steps.iter().enumerate() {
            let target = swap.target.display();
            if !swap.is_named_for(&tag(job.as_str(), index)) {
                return Err(format!("what it says of {target} is not what a restore writes"));
            }
            let Some(root) = roots.iter().find(|root| swap.target.starts_with(root)) else {
                let reason = "is in no directory of the instance as it is configured";
                return Err(format!("{target} {reason}"));
            };
            if swap.target != *root {
                ensure_no_link(root, &swap.target).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }
}

impl Entry {
    /// Returns where old states are kept.
    fn finish(&self, events: &Events) -> Result<Vec<PathBuf>, OpsError> {
        if self.phase == Phase::Staging {
            for Step { swap, .. } in &self.steps {
                swap.abandon()?;
            }
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
