//! Whether a version that production is to run can read the apps that it pulls: asked before it runs.

use super::production_branch;
use crate::config::{Config, GitRepository, Pair};
use crate::model::name::Name;
use crate::model::version::Version;
use crate::ops::OpsError;
use crate::ops::git::open_mirror;
use crate::policy::readable::{Readability, readable};

/// An app on the branch that production pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppToCome {
    /// The git repository's name.
    pub git: Name,
    /// The app's name as the files have it: escape it before a terminal sees it. None of a git repository of which nothing is known.
    pub app: Option<String>,
    /// Whether the version reads it.
    pub readability: Readability,
}

/// Judge every app on production's branches by the version that is to come. `writer` is the version of who commits, where it is known.
/// A git repository that cannot be read is one of which nobody can say.
pub fn to_come(
    config: &Config,
    pair: &Pair,
    version: &Version,
    writer: Option<&Version>,
) -> Vec<AppToCome> {
    let judged = |git: &GitRepository| {
        judge(config, git, version, writer).unwrap_or_else(|error| {
            let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let reason = format!("{}{hint}", error.told());
            let readability = Readability::Unknown { reason };
            vec![AppToCome { git: git.name.clone(), app: None, readability }]
        })
    };
    config.gits_of(&pair.name).flat_map(judged).collect()
}

fn judge(
    config: &Config,
    git: &GitRepository,
    version: &Version,
    writer: Option<&Version>,
) -> Result<Vec<AppToCome>, OpsError> {
    let mirror = open_mirror(config, &git.name)?;
    let name = &git.name;
    let branch = production_branch(git, &mirror).ok_or_else(|| {
        OpsError::usage(
            format!("which branch of {name} production uses is not known"),
            format!("[git.{name}] branches = {{ production = \"…\" }}"),
        )
    })?;
    let commit = mirror.branch(&branch).ok_or_else(|| {
        OpsError::refused(
            format!("the git repository {name} has no branch '{branch}'"),
            format!("[git.{name}] branches = {{ staging = \"…\", production = \"…\" }} names the right ones"),
        )
    })?;
    let inventory = mirror.inventory(&commit.to_string());
    let inventory = inventory.map_err(|error| OpsError::git(name, &error))?;
    let readability = readable(inventory.schema.as_ref(), Some(version), writer);
    let of = |app: &crate::git::layout::App| AppToCome {
        git: name.clone(),
        app: Some(if app.name.is_empty() { name.to_string() } else { app.name.clone() }),
        readability: readability.clone(),
    };
    Ok(inventory.apps.iter().map(of).collect())
}
