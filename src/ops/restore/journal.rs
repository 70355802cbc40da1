//! The journal of a restore in place: written before each step that the next start must know of.

use crate::component::files::swap::SwapPlan;
use crate::host::Process;
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::ops::OpsError;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A journal's content.
#[derive(Serialize, Deserialize)]
struct Entry {
    instance: Name,
    pid: i32,
    boot_id: String,
    process_start: u64,
    /// The new trees are complete and the present state is saved: the way is forward.
    is_swapping: bool,
    swaps: Vec<SwapPlan>,
}

/// A journal that is being written.
pub(super) struct Journal {
    directory: PathBuf,
    path: PathBuf,
    instance: Name,
}

fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> OpsError + 'a {
    move |source| OpsError::Io { action, path: path.to_owned(), source }
}

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("restores")
}

impl Journal {
    /// Begin a journal for a job.
    pub(super) fn begin(state_dir: &Path, job: JobId, instance: &Name) -> Result<Self, OpsError> {
        let directory = directory(state_dir);
        fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
        crate::catalog::give_to_owner_of(state_dir, &directory)?;
        let path = directory.join(format!("{job}.json"));
        Ok(Self { directory, path, instance: instance.clone() })
    }

    /// Write it durably, in place of what was written before.
    pub(super) fn write<'a>(
        &mut self,
        swaps: impl Iterator<Item = &'a SwapPlan>,
        is_swapping: bool,
    ) -> Result<(), OpsError> {
        let Process { pid, boot_id, start } = Process::current();
        let (instance, swaps) = (self.instance.clone(), swaps.cloned().collect());
        let entry = Entry { instance, pid, boot_id, process_start: start, is_swapping, swaps };
        let write = || {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            file.write_all(&serde_json::to_vec_pretty(&entry)?)?;
            file.as_file().sync_all()?;
            file.persist(&self.path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(failed("write", &self.path))?;
        crate::catalog::give_to_owner_of(&self.directory, &self.path)?;
        Ok(())
    }

    /// The restore is over.
    pub(super) fn finish(self) -> Result<(), OpsError> {
        fs::remove_file(&self.path).map_err(failed("remove", &self.path))
    }
}

/// Finish the restores whose process is gone: a swap that had begun goes to its end, anything earlier is taken back.
pub fn finish_interrupted(state_dir: &Path, events: &Events) -> Result<(), OpsError> {
    let directory = directory(state_dir);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("list", &directory)(error)),
    };
    for entry in entries {
        let path = entry.map_err(failed("list", &directory))?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let json = match fs::read(&path) {
            Ok(json) => json,
            // Another process finished it just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let entry: Entry = serde_json::from_slice(&json).map_err(|error| OpsError::WrongFile {
            object: path.display().to_string(),
            reason: format!("it is no journal of a restore: {error}"),
        })?;
        finish(&path, &entry, state_dir, events)?;
    }
    Ok(())
}

fn finish(path: &Path, entry: &Entry, state_dir: &Path, events: &Events) -> Result<(), OpsError> {
    let Entry { instance, pid, boot_id, process_start, is_swapping, swaps } = entry;
    let process = Process { pid: *pid, boot_id: boot_id.clone(), start: *process_start };
    if !process.is_gone() {
        return Ok(());
    }
    let _busy = crate::ops::session::InstanceLock::acquire(state_dir, instance)?;
    for swap in swaps {
        if *is_swapping { swap.execute()? } else { swap.abandon()? }
    }
    fs::remove_file(path).map_err(failed("remove", path))?;
    if *is_swapping {
        events.warn(format!(
            "A restore into {instance} was interrupted while it swapped; it is finished now."
        ));
        for swap in swaps.iter().filter(|swap| swap.aside.exists()) {
            events.note(format!("The state before is kept in {}.", swap.aside.display()));
        }
    } else {
        events.warn(format!(
            "A restore into {instance} was interrupted before it touched the instance; what it had made was removed."
        ));
    }
    Ok(())
}
