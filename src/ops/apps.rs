//! Apps that are stored in git repositories: which there are, their history, what differs, and bringing one back.

pub mod outside;
pub mod promote;
pub mod pulled;
pub mod restore;
pub mod status;
pub mod to_come;
pub mod unreadable;

use super::git::open_mirror;
use super::{Context, OpsError};
use crate::catalog::Catalog;
use crate::config::{Config, GitRepository, SecretSources};
use crate::git::history::Commit;
use crate::git::layout::diff::Difference;
use crate::git::layout::{App, Inventory};
use crate::git::mirror::Mirror;
use crate::model::git::Rewrite;
use crate::model::name::Name;
use jiff::Timestamp;
use outside::{Outside, outside};
use serde::Serialize;
use std::path::PathBuf;

/// All apps.
#[derive(Debug, Serialize)]
pub struct AppsList {
    /// Each app, by git repository.
    pub apps: Vec<ListedApp>,
    /// Git repositories of which nothing can be said, each with the reason.
    pub unread: Vec<UnreadGit>,
}

/// An app at a glance.
#[derive(Debug, Serialize)]
pub struct ListedApp {
    /// The git repository's name.
    pub git: Name,
    /// The app's name, or that of the git repository where its files do not say; what `belay apps show` takes is `git/app`.
    pub app: String,
    /// Whose app it is.
    pub platform: String,
    /// The branch that was looked at.
    pub branch: String,
    /// Its newest commit.
    pub commit: String,
    /// Pages.
    pub pages: usize,
    /// Queries.
    pub queries: usize,
    /// When the git repository was fetched last.
    pub fetched_at: Option<Timestamp>,
}

/// A git repository of which nothing can be said.
#[derive(Debug, Serialize)]
pub struct UnreadGit {
    /// Its name.
    pub git: Name,
    /// Why.
    pub reason: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A git repository and, where one was named, an app of it.
pub struct Chosen<'a> {
    /// The git repository.
    pub git: &'a GitRepository,
    /// Its mirror.
    pub mirror: Mirror,
    /// The app; none where all of the git repository is meant.
    app: Option<String>,
}

/// What an app is.
#[derive(Debug, Serialize)]
pub struct ShownApp {
    /// The git repository's name.
    pub git: Name,
    /// Where it is.
    pub url: String,
    /// When it was fetched last.
    pub fetched_at: Option<Timestamp>,
    /// The branch, tag or commit that was looked at.
    pub at: String,
    /// The commit.
    pub commit: String,
    /// What is there.
    #[serde(flatten)]
    pub inventory: Inventory,
    /// How many old targets of refs are kept.
    pub kept: usize,
    /// What Git does not hold, for each instance that uses it.
    pub outside: Vec<Outside>,
}

/// What was done to an app.
#[derive(Debug, Serialize)]
pub struct AppLog {
    /// The git repository's name.
    pub git: Name,
    /// Commits, newest first.
    pub commits: Vec<Commit>,
    /// What was pushed away, oldest first.
    pub kept: Vec<KeptRef>,
}

/// Something that was pushed away.
#[derive(Debug, Serialize)]
pub struct KeptRef {
    /// What happened.
    #[serde(flatten)]
    pub rewrite: Rewrite,
    /// The commits that no ref of the git repository leads to any more, newest first.
    pub commits: Vec<Commit>,
}

/// What differs between two commits of an app.
#[derive(Debug, Serialize)]
pub struct AppDiff {
    /// The git repository's name.
    pub git: Name,
    /// The first commit.
    pub from: String,
    /// The second one.
    pub to: String,
    /// What differs.
    #[serde(flatten)]
    pub difference: Difference,
}

/// The branch that production uses: what is configured, or the git repository's own default branch.
pub(super) fn production_branch(git: &GitRepository, mirror: &Mirror) -> Option<String> {
    git.production_branch.clone().or_else(|| {
        let head = mirror.head()?;
        head.strip_prefix("refs/heads/").map(ToOwned::to_owned)
    })
}

/// When a git repository was fetched last.
fn fetched_at(config: &Config, git: &Name) -> Option<Timestamp> {
    let catalog = Catalog::open(&config.state_dir).ok()?;
    Some(catalog.mirror(git).ok()??.fetched_at)
}

/// List all apps.
pub fn list(config: &Config) -> AppsList {
    let mut list = AppsList { apps: Vec::new(), unread: Vec::new() };
    for git in config.gits.values() {
        let listed = open_mirror(config, &git.name).and_then(|mirror| listed(config, git, &mirror));
        match listed {
            Ok(apps) => list.apps.extend(apps),
            Err(error) => {
                let (reason, hint) = (error.told(), error.hint());
                list.unread.push(UnreadGit { git: git.name.clone(), reason, hint });
            }
        }
    }
    list
}

fn listed(
    config: &Config,
    git: &GitRepository,
    mirror: &Mirror,
) -> Result<Vec<ListedApp>, OpsError> {
    let (branch, commit) = looked_at(git, mirror)?;
    let inventory = mirror.inventory(&commit).map_err(|error| OpsError::git(&git.name, &error))?;
    let fetched_at = fetched_at(config, &git.name);
    let listed = |app: &App| ListedApp {
        git: git.name.clone(),
        // Appsmith's files do not say what their app is called.
        app: if app.name.is_empty() { git.name.to_string() } else { app.name.clone() },
        platform: git.platform.to_string(),
        branch: branch.clone(),
        commit: commit.clone(),
        pages: app.pages.len(),
        queries: app.queries.len() + app.pages.iter().map(|page| page.queries.len()).sum::<usize>(),
        fetched_at,
    };
    Ok(inventory.apps.iter().map(listed).collect())
}

/// The branch that tells which apps there are, and its newest commit.
fn looked_at(git: &GitRepository, mirror: &Mirror) -> Result<(String, String), OpsError> {
    let candidates = [production_branch(git, mirror), Some(git.staging_branch.clone())];
    let mut found = candidates.into_iter().flatten();
    found.find_map(|branch| Some((branch.clone(), mirror.branch(&branch)?.to_string()))).ok_or_else(
        || {
            let name = &git.name;
            OpsError::refused(
                format!("the git repository {name} has neither of its branches"),
                format!("name those that it has: [git.{name}] branches = {{ staging = \"…\", production = \"…\" }}"),
            )
        },
    )
}

/// The app, or the git repository, of this name: `orders`, `orders/Order desk`, or an app's own name where only one has it.
pub fn choose<'a>(config: &'a Config, wanted: &str) -> Result<Chosen<'a>, OpsError> {
    if let Some(git) = config.gits.values().find(|git| git.name.as_str() == wanted) {
        return Ok(Chosen { git, mirror: open_mirror(config, &git.name)?, app: None });
    }
    if let Some((git, app)) = wanted.split_once('/')
        && let Some(git) = config.gits.values().find(|known| known.name.as_str() == git)
    {
        let mirror = open_mirror(config, &git.name)?;
        let app = Some(app.to_owned()).filter(|app| *app != git.name.as_str());
        return Ok(Chosen { git, mirror, app });
    }
    let all = list(config).apps;
    let mut found = all.iter().filter(|listed| listed.app == wanted);
    match (found.next(), found.next()) {
        (Some(listed), None) => {
            let git = config.git(listed.git.as_str())?;
            Ok(Chosen {
                git,
                mirror: open_mirror(config, &git.name)?,
                app: Some(wanted.to_owned()),
            })
        }
        (Some(one), Some(other)) => Err(OpsError::usage(
            format!("several apps are called '{wanted}'"),
            format!("say which: {}/{wanted} or {}/{wanted}", one.git, other.git),
        )),
        (None, _) => {
            let mut known: Vec<String> = config.gits.keys().map(ToString::to_string).collect();
            known.extend(all.iter().map(|listed| format!("{}/{}", listed.git, listed.app)));
            known.dedup();
            Err(OpsError::usage(
                format!("no git repository and no app is called '{wanted}'"),
                if known.is_empty() {
                    "add a table [git.NAME] with platform and url to the configuration".to_owned()
                } else {
                    format!("there is {}", known.join(", "))
                },
            ))
        }
    }
}

impl Chosen<'_> {
    fn failed(&self) -> impl Fn(crate::git::error::GitError) -> OpsError + '_ {
        |error| OpsError::git(&self.git.name, &error)
    }

    /// The commit that is meant; without a name that of the branch which production uses.
    pub fn commit(&self, at: Option<&str>) -> Result<(String, String), OpsError> {
        let Some(at) = at else { return looked_at(self.git, &self.mirror) };
        let commit = self.mirror.commit(at).map_err(self.failed())?;
        Ok((at.to_owned(), commit.to_string()))
    }

    /// What is there at a commit: of the app alone, where one was named.
    pub fn inventory(&self, commit: &str) -> Result<Inventory, OpsError> {
        let mut inventory = self.mirror.inventory(commit).map_err(self.failed())?;
        if let Some(wanted) = &self.app {
            let app = inventory.app(wanted).cloned().ok_or_else(|| {
                OpsError::usage(
                    format!("{} has no app '{wanted}' at {commit}", self.git.name),
                    format!("belay apps show {} tells which it has", self.git.name),
                )
            })?;
            inventory.apps = vec![app];
        }
        Ok(inventory)
    }

    /// The directory of the app that was named; empty for all.
    pub fn path(&self, commit: &str) -> Result<PathBuf, OpsError> {
        if self.app.is_none() {
            return Ok(PathBuf::new());
        }
        let inventory = self.inventory(commit)?;
        Ok(inventory.apps.first().map(|app| app.path.path().to_owned()).unwrap_or_default())
    }
}

/// Tell what an app is.
pub fn show(
    config: &Config,
    secrets: &SecretSources,
    chosen: &Chosen<'_>,
    at: Option<&str>,
    context: &Context,
) -> Result<ShownApp, OpsError> {
    let (at, commit) = chosen.commit(at)?;
    let inventory = chosen.inventory(&commit)?;
    Ok(ShownApp {
        git: chosen.git.name.clone(),
        url: chosen.git.url.to_string(),
        fetched_at: fetched_at(config, &chosen.git.name),
        at,
        commit,
        inventory,
        kept: chosen.mirror.kept().map_err(chosen.failed())?.len(),
        outside: outside(config, secrets, chosen.git, context)?,
    })
}

/// Tell what was done to an app: on all branches, or at the one that is named; with `is_kept` what was pushed away.
pub fn log(
    chosen: &Chosen<'_>,
    at: Option<&str>,
    is_kept: bool,
    limit: usize,
) -> Result<AppLog, OpsError> {
    let git = chosen.git.name.clone();
    let failed = chosen.failed();
    if is_kept {
        let mut kept = Vec::new();
        for rewrite in chosen.mirror.kept().map_err(&failed)? {
            let commits = chosen.mirror.dropped(&rewrite, limit).map_err(&failed)?;
            kept.push(KeptRef { rewrite, commits });
        }
        return Ok(AppLog { git, commits: Vec::new(), kept });
    }
    let path = chosen.path(&chosen.commit(at)?.1)?;
    let tips = match at {
        Some(_) => vec![chosen.commit(at)?.1],
        None => chosen.mirror.branch_tips().map_err(&failed)?,
    };
    let commits = chosen.mirror.log(&tips, &path, limit);
    Ok(AppLog { git, commits: commits.map_err(&failed)?, kept: Vec::new() })
}

/// Tell what differs between two commits, written `A..B`.
pub fn diff(chosen: &Chosen<'_>, range: &str) -> Result<AppDiff, OpsError> {
    let (from, to) = range.split_once("..").ok_or_else(|| {
        OpsError::usage(
            format!("'{range}' is no range"),
            "write A..B, each a branch, a tag or a commit, such as master..staging",
        )
    })?;
    let from = chosen.commit(Some(from).filter(|it| !it.is_empty()))?.1;
    let to = chosen.commit(Some(to).filter(|it| !it.is_empty()))?.1;
    let path = chosen.path(&to).or_else(|_| chosen.path(&from))?;
    let difference = chosen.mirror.diff(&from, &to, &path).map_err(chosen.failed())?;
    Ok(AppDiff { git: chosen.git.name.clone(), from, to, difference })
}
