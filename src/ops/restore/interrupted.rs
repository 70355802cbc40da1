//! Restores in place that were interrupted: told, finished or taken back, as their journals say.
//!
//! One that cannot be finished concerns its own instance only. What a journal says is believed as far as this restore's
//! plan could have said it: names that a swap would choose, in the directories of the configured instance.

use super::items::ensure_no_link;
use super::journal::{DIRECTORY, Entry, GivenUp, Phase, Step, tag};
use super::places::resolved;
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::id::{JobId, SnapshotId};
use crate::model::name::Name;
use crate::ops::OpsError;
use crate::ops::private::PrivateDirectory;
use crate::ops::session::InstanceLock;
use std::path::{Path, PathBuf};

/// A restore that had deleted old states and ended before the new ones were in place: another one has to bring them.
pub(super) struct Unfinished {
    pub(super) journal: String,
    pub(super) given_up: GivenUp,
    /// What is missing.
    pub(super) targets: Vec<PathBuf>,
    message: String,
    way_out: String,
}

/// A journal that was found.
struct Found {
    path: PathBuf,
    name: String,
    /// From its name: also where its content cannot be used.
    subject: Option<(Name, JobId)>,
    entry: Result<Entry, String>,
}

/// The instance and the job that a journal of this name is of.
fn subject_of(name: &str) -> Option<(Name, JobId)> {
    let (instance, job) = name.strip_suffix(".json")?.rsplit_once('.')?;
    Some((instance.parse().ok()?, job.parse().ok()?))
}

impl Found {
    /// Nothing when somebody finished it meanwhile.
    fn read(directory: &PrivateDirectory, name: String) -> Option<Self> {
        let path = directory.path_of(&name);
        let subject = subject_of(&name);
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
        if !entry.is_left() {
            return None;
        }
        let what = match entry.phase {
            Phase::Staging => "before it touched the instance; what it has made is still there",
            Phase::TakingAway => {
                "after it had moved the old state out of the way; nothing of that is deleted, and it will be moved back"
            }
            Phase::GivenUp => return Some(format!("{}. {}", entry.missing(), self.way_out())),
            Phase::Swapping => "while it swapped: the instance may be half old, half new",
            Phase::Clearing => "after it had swapped; the old state may still be there",
        };
        Some(format!(
            "A restore into {instance} was interrupted {what} (its journal is {path}). The next restore into it finishes \
             that, or now: belay backup {instance}"
        ))
    }

    fn way_out(&self) -> String {
        if let Some(way_back) =
            self.entry.as_ref().ok().and_then(|entry| entry.way_back(&self.path))
        {
            return way_back;
        }
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

/// Snapshots that must stay, each with the reason: what restores are to bring that have deleted what was there before, and
/// what was there. An error where a journal does not say.
pub(in crate::ops) fn needed(state_dir: &Path) -> Result<Vec<(SnapshotId, String)>, OpsError> {
    let mut needed = Vec::new();
    for Found { path, subject, entry, .. } in find(state_dir)? {
        let Some((instance, _)) = subject else { continue };
        let entry = entry.map_err(|reason| {
            OpsError::refused(
                format!("a restore into '{instance}' may need one of them, and its journal cannot be used: {reason}"),
                format!("see to it as `belay status` says, and then remove {}", path.display()),
            )
        })?;
        let Some(GivenUp { snapshot, before, .. }) = entry.given_up else { continue };
        let reason =
            format!("a restore into {instance} has deleted what was there, and is not done");
        needed.extend(before.into_iter().chain([snapshot]).map(|id| (id, reason.clone())));
    }
    Ok(needed)
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
/// back. Those into other instances are only told. The lock says that no restore into this one is running. An error also
/// where only another restore can bring back what was given up.
pub(in crate::ops) fn finish_interrupted(
    config: &Config,
    instance: &Instance,
    lock: &InstanceLock,
    events: &Events,
) -> Result<(), OpsError> {
    match finish_before_restore(config, instance, lock, events)?.first() {
        None => Ok(()),
        Some(unfinished) => Err(unfinished.refusal()),
    }
}

/// The same before a restore; returns those that it has to bring to an end.
pub(super) fn finish_before_restore(
    config: &Config,
    instance: &Instance,
    _lock: &InstanceLock,
    events: &Events,
) -> Result<Vec<Unfinished>, OpsError> {
    let own = |found: &Found| found.is_of(&instance.name);
    let mut unfinished = Vec::new();
    // Those that gave something up come last: another one may bring them to an end.
    for gave_up in [false, true] {
        let found = find(&config.state_dir).map_err(|error| {
            OpsError::refused(
                format!("whether a restore into '{}' was interrupted is not known: {error}", instance.name),
                "the directory of the journals has to be a directory of the state's owner: put that right",
            )
        })?;
        for found in found.into_iter().filter(|found| own(found) && found.gave_up() == gave_up) {
            let finished = found.finish(config, instance, events).map_err(|reason| {
                OpsError::refused(
                    format!(
                        "the restore into '{}' that was interrupted cannot be finished: {reason} (its journal is {})",
                        instance.name,
                        found.path.display()
                    ),
                    found.way_out(),
                )
            })?;
            unfinished.extend(finished);
        }
    }
    for problem in problems(&config.state_dir, |found| !own(found)) {
        events.warn(problem);
    }
    Ok(unfinished)
}

/// What a restore into an instance would have to bring to an end, for a plan of one. What cannot be read is told elsewhere.
pub(super) fn unfinished(config: &Config, instance: &Instance) -> Vec<Unfinished> {
    let found = find(&config.state_dir).unwrap_or_default();
    found.iter().filter(|found| found.is_of(&instance.name)).filter_map(Found::unfinished).collect()
}

impl Unfinished {
    /// An error that nothing but a restore that brings all of it back is possible.
    pub(super) fn refusal(&self) -> OpsError {
        OpsError::refused(self.message.clone(), self.way_out.clone())
    }
}

impl Found {
    fn gave_up(&self) -> bool {
        self.entry.as_ref().is_ok_and(|entry| entry.phase == Phase::GivenUp)
    }

    /// What another restore has to bring to an end.
    fn unfinished(&self) -> Option<Unfinished> {
        let entry = self.entry.as_ref().ok().filter(|_| self.gave_up())?;
        Some(Unfinished {
            journal: self.name.clone(),
            given_up: entry.given_up.clone()?,
            targets: entry.targets_given_up().cloned().collect(),
            message: entry.missing(),
            way_out: self.way_out(),
        })
    }

    /// Returns what another restore has to bring to an end.
    fn finish(
        &self,
        config: &Config,
        instance: &Instance,
        events: &Events,
    ) -> Result<Option<Unfinished>, String> {
        let entry = self.entry.as_ref().map_err(Clone::clone)?;
        self.ensure_believable(entry, instance)?;
        let kept = entry.finish(events).map_err(|error| error.to_string())?;
        if let Some(unfinished) = self.unfinished() {
            return Ok(Some(unfinished));
        }
        let over: &[String] = match entry.phase {
            Phase::Swapping | Phase::Clearing => &entry.ends,
            _ => &[],
        };
        PrivateDirectory::make(&config.state_dir, DIRECTORY)
            .and_then(|directory| {
                over.iter().chain([&self.name]).try_for_each(|name| directory.remove(name))
            })
            .map_err(|error| error.to_string())?;
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
            Phase::TakingAway | Phase::GivenUp => format!(
                "A restore into {name} was interrupted before it deleted anything; what it had moved is moved back."
            ),
            Phase::Swapping => format!(
                "A restore into {name} was interrupted while it swapped; it is finished now.{kept}"
            ),
            Phase::Clearing => {
                format!("A restore into {name} was interrupted after it had swapped.{kept}")
            }
        });
        Ok(None)
    }

    /// Whoever may write into the state directory must not decide what is moved and removed elsewhere.
    fn ensure_believable(&self, entry: &Entry, instance: &Instance) -> Result<(), String> {
        let job = self.subject.as_ref().map(|(_, job)| job.to_string()).unwrap_or_default();
        if entry.instance != instance.name {
            return Err(format!("it says that it is of the instance '{}'", entry.instance));
        }
        if entry.phase == Phase::GivenUp && entry.given_up.is_none() {
            return Err("it does not say why the old state was given up".into());
        }
        let is_own = |name: &String| subject_of(name).is_some_and(|(of, _)| of == instance.name);
        if let Some(name) = entry.ends.iter().find(|name| !is_own(name)) {
            return Err(format!("it says that it ends the restore of {name}"));
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
