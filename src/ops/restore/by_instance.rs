//! Journals of which an instance has one at most: `INSTANCE.json`, in a directory of their kind below the state directory.

use crate::model::name::Name;
use crate::ops::OpsError;
use crate::ops::private::PrivateDirectory;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A journal that was found.
pub(super) struct Found<T> {
    pub(super) directory: PrivateDirectory,
    pub(super) name: String,
    pub(super) entry: T,
}

/// The journal of an instance, where an interrupted restore has left one. `hint` says what to do with one that cannot be read.
pub(super) fn find<T: DeserializeOwned>(
    state_dir: &Path,
    directory: &'static str,
    instance: &Name,
    hint: &str,
) -> Result<Option<Found<T>>, OpsError> {
    let Some(directory) = PrivateDirectory::open(state_dir, directory)? else { return Ok(None) };
    let name = format!("{instance}.json");
    let Some(json) = directory.read(&name)? else { return Ok(None) };
    let path = directory.path_of(&name);
    let entry = serde_json::from_slice(&json).map_err(|error| {
        OpsError::refused(
            format!(
                "the journal of an interrupted restore, {}, cannot be read: {error}",
                path.display()
            ),
            hint,
        )
    })?;
    Ok(Some(Found { directory, name, entry }))
}

/// What interrupted restores of `what` have left, one sentence each.
pub(super) fn interrupted(state_dir: &Path, directory: &'static str, what: &str) -> Vec<String> {
    let names = PrivateDirectory::open(state_dir, directory)
        .ok()
        .flatten()
        .and_then(|directory| directory.names().ok())
        .unwrap_or_default();
    let instances = names.iter().filter_map(|name| name.strip_suffix(".json"));
    instances
        .map(|name| format!("A restore of the {what} of {name} was interrupted. The next restore, or a backup of {name}, undoes or finishes it first."))
        .collect()
}
