//! The variables that come back: what was in effect when the snapshot was taken, for that is what its keys were proven with. A
//! container's own variables override those of the file, then and now.

use super::Source;
use super::stored::{component, read_small};
use crate::component::environment::{EnvironmentFile, MergeError, Merged, merge};
use crate::model::manifest::Manifest;
use crate::ops::OpsError;
use crate::ops::instance::Living;
use zeroize::Zeroizing;

/// What a snapshot has of an instance's variables.
pub(super) struct SnapshotVariables {
    file: EnvironmentFile,
    /// The container's own, a line each.
    own: Zeroizing<Vec<u8>>,
}

impl SnapshotVariables {
    /// Read them; a snapshot may have none.
    pub(super) fn read(source: &Source, manifest: &Manifest) -> Result<Self, OpsError> {
        let read = |kind: &str, end: &str| {
            let files = component(manifest, kind).map(|part| part.files.as_slice());
            let file = files.unwrap_or_default().iter().find(|file| file.path.ends_with(end));
            file.map_or(Ok(Zeroizing::default()), |file| read_small(source, &file.path))
        };
        let own = read("deployment", "/environment")?;
        Ok(Self { file: parsed(&read("environment", "")?)?, own })
    }

    /// The value that was in effect; one that is empty was not set.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let lines = self.own.split(|byte| *byte == b'\n');
        let lines = lines.filter_map(|line| std::str::from_utf8(line).ok());
        let own = lines.filter_map(|line| line.split_once('=')).find(|(key, _)| *key == name);
        own.map(|(_, value)| value)
            .or_else(|| self.file.get(name))
            .filter(|value| !value.is_empty())
    }

    /// Those of these whose value in effect is another than the target's.
    fn others<'a>(&self, names: &'a [String], living: &Living<'_>) -> Vec<&'a str> {
        let is_other =
            |name: &&str| self.get(name).is_some_and(|then| living.variable(name) != Some(then));
        names.iter().map(String::as_str).filter(is_other).collect()
    }
}

fn parsed(bytes: &[u8]) -> Result<EnvironmentFile, OpsError> {
    EnvironmentFile::parse(bytes)
        .map_err(|error| OpsError::refused(error.to_string(), "look at the environment file"))
}

/// What a person should know before, and what afterwards, too.
#[derive(Default)]
pub(super) struct Words {
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
}

/// The target's environment file with the keys of the snapshot, and its path; none where nothing changes. A clone gets nothing
/// but keys: what else the source has, such as the way to its mail server, is not the clone's.
pub(super) fn merged(
    living: &Living<'_>,
    snapshot: &SnapshotVariables,
    as_clone: bool,
    words: &mut Words,
) -> Result<Option<(String, Merged)>, OpsError> {
    tell_missing(living, snapshot, words);
    let recipe = &living.recipe.environment;
    let keys = recipe.keys.iter().map(String::as_str);
    let keys: Vec<&str> = keys.filter(|key| snapshot.get(key).is_some()).collect();
    let (Some(target), Some(path)) = (&living.file, &living.file_path) else {
        let others = snapshot.others(&recipe.keys, living);
        if !others.is_empty() {
            words.warnings.push(format!(
                "no environment file is configured: set {} in the instance's environment by hand, from /deployment/environment or /environment of the snapshot",
                others.join(", ")
            ));
        }
        return Ok(None);
    };
    let target = parsed(target)?;
    overridden(living, &target, (snapshot, &keys), words);
    let failed = |error: MergeError| OpsError::refused(error.to_string(), error.hint());
    let mut effective = snapshot.file.clone();
    for key in &keys {
        let value = snapshot.get(key).unwrap_or_default();
        if effective.get(key) != Some(value) {
            effective = effective.with(key, value).map_err(failed)?;
        }
    }
    let mut stay: Vec<&str> = recipe.connection.iter().map(String::as_str).collect();
    if as_clone {
        stay.extend(snapshot.file.keys());
    }
    let merged = merge(&target, &effective, &keys, &stay).map_err(failed)?;
    let changes = merged.changed().next().is_some();
    Ok(changes.then(|| (path.clone(), merged)))
}

/// Tell which keys the snapshot should have.
fn tell_missing(living: &Living<'_>, snapshot: &SnapshotVariables, words: &mut Words) {
    let recipe = &living.recipe.environment;
    let missing = recipe.keys.iter().map(String::as_str).filter(|key| snapshot.get(key).is_none());
    let is_missed = |key: &&str| {
        living.variable(key).is_some() || recipe.required.iter().any(|name| name == key)
    };
    let missing: Vec<&str> = missing.filter(is_missed).collect();
    if !missing.is_empty() {
        words.warnings.push(format!(
            "the snapshot has no {}: what the instance has of that stays, and may not fit what is encrypted",
            missing.join(", ")
        ));
    }
}

/// Tell which keys would be others, where none come back.
pub(super) fn tell_others(living: &Living<'_>, snapshot: &SnapshotVariables, words: &mut Words) {
    let others = snapshot.others(&living.recipe.environment.keys, living);
    if !others.is_empty() {
        words.notes.push(format!(
            "the environment stays as it is, with other values than the snapshot of {}: what is encrypted may not be readable",
            others.join(", ")
        ));
    }
}

/// Tell which keys the container has from elsewhere than the file that they come back into.
fn overridden(
    living: &Living<'_>,
    target: &EnvironmentFile,
    (snapshot, keys): (&SnapshotVariables, &[&str]),
    words: &mut Words,
) {
    let is_other = |key: &&str| living.own(key).is_some_and(|own| snapshot.get(key) != Some(own));
    let others = keys.iter().copied().filter(is_other);
    let (of_file, own): (Vec<&str>, Vec<&str>) =
        others.partition(|key| living.own(key) == target.get(key));
    if !own.is_empty() {
        words.warnings.push(format!(
            "{} of the snapshot will not be in effect: the container itself has other values, which override those of the file; set them where it is made, from /deployment/environment or /environment of the snapshot, and make it anew",
            own.join(", ")
        ));
    }
    if !of_file.is_empty() {
        words.notes.push(format!(
            "the container has {} out of the file as that was when it was made: make it anew, such as by `docker compose up -d --force-recreate`; a restart is not enough",
            of_file.join(", ")
        ));
    }
}
