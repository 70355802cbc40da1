//! What the staging branch has and production's has not, and whether production could read it.

use super::production_branch;
use super::pulled::{self, Pulled, pulled};
use crate::catalog::Catalog;
use crate::config::{Config, GitRepository, Pair, SecretSources};
use crate::git::history::{Commit, Relation};
use crate::git::layout::diff::{CommitChanges, SchemaChange};
use crate::git::mirror::Mirror;
use crate::model::apps::Schema;
use crate::model::id::RepositoryId;
use crate::model::name::Name;
use crate::model::version::Version;
use crate::ops::git::open_mirror;
use crate::ops::{Context, OpsError};
use crate::policy::readable::{Readability, readable};
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// More commits are counted, not shown.
pub const MOST_COMMITS: usize = 50;

/// What is asked.
#[derive(Clone, Debug, Default)]
pub struct StatusOptions {
    /// The pair; none is all.
    pub pair: Option<String>,
    /// The version that production is taken to run; none is the one that its last snapshot tells.
    pub production_version: Option<Version>,
    /// The same of staging.
    pub staging_version: Option<Version>,
}

/// How the branches of pairs stand to each other.
#[derive(Debug, Serialize)]
pub struct AppsStatus {
    /// Each git repository of each pair.
    pub git: Vec<GitStatus>,
}

/// How the branches of a git repository stand to each other.
#[derive(Debug, Serialize)]
pub struct GitStatus {
    /// The pair.
    pub pair: Name,
    /// The git repository's name.
    pub name: Name,
    /// When it was fetched last.
    pub fetched_at: Option<Timestamp>,
    /// Why nothing more can be said; none where something can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What can be said.
    #[serde(flatten)]
    pub compared: Option<Compared>,
}

impl GitStatus {
    /// Whether each instance said what it pulled.
    pub fn is_pulled_known(&self) -> bool {
        self.compared.as_ref().is_some_and(|compared| {
            [&compared.staging, &compared.production].iter().all(|it| it.pulled_unknown.is_none())
        })
    }
}

/// Two branches, compared.
#[derive(Debug, Serialize)]
pub struct Compared {
    /// The staging instance's side.
    pub staging: Side,
    /// The production instance's side.
    pub production: Side,
    /// How the staging branch stands to production's.
    pub relation: Relation,
    /// The commits that production's branch has not, newest first, at most [`MOST_COMMITS`].
    pub commits: Vec<AheadCommit>,
    /// Whether production can read the staging branch.
    pub readable: Readability,
    /// The commit that raised the version of the files.
    pub raised_by: Option<Commit>,
}

/// One side of a pair.
#[derive(Debug, Serialize)]
pub struct Side {
    /// The instance.
    pub instance: Name,
    /// Its branch.
    pub branch: String,
    /// The branch's newest commit.
    pub commit: String,
    /// The version that the instance runs, where that is known.
    pub version: Option<String>,
    /// The version that the branch's files say.
    pub schema: Option<Schema>,
    /// What the instance really pulled of the git repository, as its own database says.
    pub pulled: Vec<Pulled>,
    /// Why that is not known; none where it is.
    pub pulled_unknown: Option<String>,
}

/// What it takes to ask an instance itself.
pub type Live<'a> = (&'a SecretSources, &'a Context);

/// A commit that production's branch has not.
#[derive(Debug, Serialize)]
pub struct AheadCommit {
    /// The commit.
    #[serde(flatten)]
    pub commit: Commit,
    /// What it changed.
    pub changed: CommitChanges,
}

/// Compare the branches of pairs; with `live` the instances are asked what they pulled.
pub fn status(
    config: &Config,
    options: &StatusOptions,
    live: Option<Live<'_>>,
) -> Result<AppsStatus, OpsError> {
    let pairs: Vec<&Pair> = match &options.pair {
        Some(name) => vec![config.pair(name)?],
        None => config.pairs.values().collect(),
    };
    let catalog = Catalog::open(&config.state_dir)?;
    let mut found = Vec::new();
    for pair in pairs {
        for git in config.gits_of(&pair.name) {
            let mirror = catalog.mirror(&git.name)?;
            let mut status = GitStatus {
                pair: pair.name.clone(),
                name: git.name.clone(),
                fetched_at: mirror.map(|mirror| mirror.fetched_at),
                trouble: None,
                compared: None,
            };
            match compare(config, &catalog, pair, git, options, live) {
                Ok(compared) => status.compared = Some(compared),
                Err(error) => status.trouble = Some(error.told()),
            }
            found.push(status);
        }
    }
    if found.is_empty() {
        let of =
            options.pair.as_ref().map_or("a pair".to_owned(), |pair| format!("the pair {pair}"));
        return Err(OpsError::usage(
            format!("no git repository is of {of}"),
            "add a table [git.NAME] with platform, url and pair to the configuration",
        ));
    }
    Ok(AppsStatus { git: found })
}

fn compare(
    config: &Config,
    catalog: &Catalog,
    pair: &Pair,
    git: &GitRepository,
    options: &StatusOptions,
    live: Option<Live<'_>>,
) -> Result<Compared, OpsError> {
    let mirror = open_mirror(config, &git.name)?;
    let failed = |error| OpsError::git(&git.name, &error);
    let production_branch = production_branch(git, &mirror).ok_or_else(|| {
        OpsError::usage(
            format!("which branch of {} production uses is not known", git.name),
            format!("[git.{}] branches = {{ production = \"…\" }}", git.name),
        )
    })?;
    let side = |instance: &Name, branch: String, version: Option<&Version>| {
        let commit = mirror.branch(&branch).ok_or_else(|| no_branch(git, &branch))?.to_string();
        let version = match version {
            Some(version) => Some(version.to_string()),
            None => version_of(config, catalog, instance)?,
        };
        let schema = mirror.inventory(&commit).map_err(failed)?.schema;
        let (pulled, pulled_unknown) = match pulled_of(config, instance, git, live) {
            Ok(mut found) => {
                if pair.staging.is_none() {
                    // One instance has both branches, each in a workspace. Any other one is production's affair.
                    let of_staging = branch == git.staging_branch;
                    let is_of = |of: &String| (*of == git.staging_branch) == of_staging;
                    found.retain(|it| it.branch.as_ref().is_none_or(is_of));
                }
                pulled::compare(&mut found, &mirror, &commit);
                (found, None)
            }
            // What only informs keeps nobody from the rest.
            Err(error) if !error.is_cancelled() => (Vec::new(), Some(error.told())),
            Err(error) => return Err(error),
        };
        let instance = instance.clone();
        Ok::<_, OpsError>(Side {
            instance,
            branch,
            commit,
            version,
            schema,
            pulled,
            pulled_unknown,
        })
    };
    let staging =
        side(pair.workshop(), git.staging_branch.clone(), options.staging_version.as_ref())?;
    let production =
        side(&pair.production, production_branch, options.production_version.as_ref())?;
    let relation = mirror.relation(&staging.commit, &production.commit).map_err(failed)?;
    let commits = between(&mirror, &production.commit, &staging.commit).map_err(failed)?;
    let parsed = |side: &Side| side.version.as_ref().and_then(|text| text.parse::<Version>().ok());
    let verdict =
        readable(staging.schema.as_ref(), parsed(&production).as_ref(), parsed(&staging).as_ref());
    let raised_by = commits
        .iter()
        .rev()
        .find(|ahead| ahead.changed.difference.schemas.iter().any(SchemaChange::is_raised))
        .map(|ahead| ahead.commit.clone());
    Ok(Compared { staging, production, relation, commits, readable: verdict, raised_by })
}

fn pulled_of(
    config: &Config,
    instance: &Name,
    git: &GitRepository,
    live: Option<Live<'_>>,
) -> Result<Vec<Pulled>, OpsError> {
    let Some((secrets, context)) = live else {
        return Err(OpsError::refused("the instance was not asked: belay apps status --live", ""));
    };
    pulled(config, secrets, config.instance(instance.as_str())?, git, context)
}

fn between(
    mirror: &Mirror,
    from: &str,
    to: &str,
) -> Result<Vec<AheadCommit>, crate::git::error::GitError> {
    let found = mirror.between(from, to, Path::new(""), MOST_COMMITS)?;
    Ok(found.into_iter().map(|(commit, changed)| AheadCommit { commit, changed }).collect())
}

fn no_branch(git: &GitRepository, branch: &str) -> OpsError {
    OpsError::refused(
        format!("the git repository {} has no branch '{branch}'", git.name),
        format!(
            "[git.{}] branches = {{ staging = \"…\", production = \"…\" }} names the right ones",
            git.name
        ),
    )
}

/// The version that an instance ran when its last good snapshot was taken.
pub(super) fn version_of(
    config: &Config,
    catalog: &Catalog,
    instance: &Name,
) -> Result<Option<String>, OpsError> {
    let Ok(configured) = config.instance(instance.as_str()) else { return Ok(None) };
    let Some(id) = catalog.instance_id(instance, &configured.repository)? else { return Ok(None) };
    for repository in catalog.repositories()? {
        if repository.name != configured.repository {
            continue;
        }
        let repository: RepositoryId = repository.id;
        for record in catalog.snapshots(repository)? {
            if record.instance == Some(id)
                && let Some(manifest) = catalog.manifest(repository, record.id)?
                && manifest.version.is_some()
            {
                return Ok(manifest.version);
            }
        }
    }
    Ok(None)
}
