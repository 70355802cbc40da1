//! Which part of a snapshot comes back in place: databases, each whole, and the keys in the environment file.

use crate::component::postgres::DatabaseDetails;
use crate::model::manifest::Manifest;
use crate::ops::OpsError;
use crate::ops::restore::Wanted;
use crate::ops::restore::selection::{Part, Selection};
use crate::ops::restore::stored::component;

/// What comes back.
pub(super) struct Chosen {
    pub(super) databases: Vec<DatabaseDetails>,
    pub(super) environment: bool,
    /// Nothing is left out.
    pub(super) is_whole: bool,
    /// What a part may mean.
    pub(super) notes: Vec<String>,
}

/// What is wanted of a snapshot's databases, and of its environment file. An error where that is a part of one of them, or
/// something else.
pub(super) fn choose(
    wanted: &Wanted,
    manifest: &Manifest,
    databases: Vec<DatabaseDetails>,
) -> Result<Chosen, OpsError> {
    let is_whole = wanted.components.is_empty() && wanted.paths.is_empty();
    if is_whole {
        return Ok(Chosen { databases, environment: true, is_whole, notes: Vec::new() });
    }
    let selection = Selection::new(wanted, Some(manifest))?;
    let is_wanted = |path: &str| selection.part(path.as_bytes()) == Part::Whole;
    let file = component(manifest, "environment").and_then(|part| part.files.first());
    let environment = file.is_some_and(|file| is_wanted(&file.path));
    let (databases, others): (Vec<_>, Vec<_>) =
        databases.into_iter().partition(|database| is_wanted(&database.dump));
    selection.ensure_found().map_err(|_| {
        OpsError::usage(
            "only whole databases and the keys in the environment file come back in place",
            "name them with --component postgres, --component environment or --path /postgres/NAME.dump; restore other parts with --to-dir",
        )
    })?;
    let mut notes = Vec::new();
    if !others.is_empty() {
        let names: Vec<&str> = others.iter().map(|other| other.facts.name.as_str()).collect();
        notes.push(format!(
            "{} stay as they are: what belongs together in several databases may not fit",
            names.join(" and ")
        ));
    }
    Ok(Chosen { databases, environment, is_whole, notes })
}
