//! Bringing an app back: from any commit that the mirror ever saw, or from a snapshot, as a new branch or as files.

use super::outside::{Outside, outside};
use super::{Chosen, production_branch};
use crate::catalog::{Catalog, give_to_owner_of};
use crate::config::{Config, GitRepository, SecretSources};
use crate::git::mirror::Mirror;
use crate::git::restore::{Restored, Restoring, Written, to_directory};
use crate::git::worker::{Line, Work};
use crate::model::exact_path::ExactPath;
use crate::model::name::Name;
use crate::ops::git::{Worker, mirror_path, mirrors_directory, push, unexpected};
use crate::ops::restore::{Wanted, to_dir};
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, SnapshotRef};
use jiff::Timestamp;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is brought back, and where to.
pub struct RestoreOptions {
    /// The app, as [`super::choose`] takes it.
    pub app: String,
    /// Out of what.
    pub source: AppSource,
    /// Where to.
    pub target: AppTarget,
    /// The branch that is to take it, and whose state a snapshot is asked for; none is production's.
    pub onto: Option<String>,
}

/// Out of what an app is brought back.
pub enum AppSource {
    /// A commit, a branch or a tag that the mirror has, also what was pushed away.
    Commit(String),
    /// The mirror as a snapshot has it.
    Snapshot(SnapshotRef),
}

/// Where an app is brought back to.
pub enum AppTarget {
    /// A new branch; and whether it is pushed.
    Branch {
        /// Its name.
        name: String,
        /// Whether it is pushed.
        is_pushed: bool,
    },
    /// Files in a directory that is new or empty.
    Directory(PathBuf),
}

/// What was brought back.
#[derive(Debug, Serialize)]
pub struct RestoredApp {
    /// The git repository's name.
    pub git: Name,
    /// The commit whose state came back.
    pub from_commit: String,
    /// The branch that brings it back.
    #[serde(flatten)]
    pub branch: Option<RestoredBranch>,
    /// What was written into a directory.
    #[serde(flatten)]
    pub directory: Option<RestoredFiles>,
    /// What Git does not hold, for each instance that uses it.
    pub outside: Vec<Outside>,
}

/// A branch that brings an app back.
#[derive(Debug, Serialize)]
pub struct RestoredBranch {
    /// Its name.
    pub branch: String,
    /// Its commit.
    pub commit: String,
    /// The ref of the mirror that has it.
    pub mirror_ref: String,
    /// `mirror`: where the mirror is.
    #[serde(flatten)]
    pub mirror: ExactPath,
    /// Whether it was pushed.
    pub is_pushed: bool,
    /// The branch that it is to be merged into; none where there is none.
    pub onto: Option<String>,
}

/// The files of an app in a directory.
#[derive(Debug, Serialize)]
pub struct RestoredFiles {
    /// `target`: the directory.
    #[serde(flatten)]
    pub target: ExactPath,
    /// What was written.
    #[serde(flatten)]
    pub written: Written,
}

/// Bring an app back.
pub fn restore(
    config: &Config,
    secrets: &SecretSources,
    options: &RestoreOptions,
    context: &Context,
) -> Result<RestoredApp, OpsError> {
    let (git, app) = named(config, &options.app)?;
    // It makes the state directory where there is none yet.
    drop(Catalog::open(&config.state_dir)?);
    let _busy = InstanceLock::acquire(&config.state_dir, &git.name, context)?;
    let unpacked = match &options.source {
        AppSource::Commit(_) => None,
        AppSource::Snapshot(snapshot) => {
            let session: Session = snapshot.find(config, secrets, context)?;
            let snapshot = snapshot.to_string();
            Some(Unpacked::new(&config.state_dir, &session, git, &snapshot, context)?)
        }
    };
    let opened = |path: &Path| {
        Mirror::open(path).map_err(|error| OpsError::git(&git.name, &error))?.ok_or_else(|| {
            OpsError::refused(
                format!("the git repository {} was never fetched", git.name),
                "bring it back out of a snapshot with --from latest:NAME, or fetch it: belay apps fetch",
            )
        })
    };
    let path = unpacked.as_ref().map(|unpacked| unpacked.mirror.clone());
    let mirror = opened(&path.unwrap_or_else(|| mirror_path(&config.state_dir, &git.name)))?;
    let onto = match &options.onto {
        Some(onto) if mirror.branch(onto).is_none() => {
            return Err(OpsError::usage(
                format!("the git repository {} has no branch '{onto}'", git.name),
                "--onto names the branch that is to take what comes back",
            ));
        }
        Some(onto) => Some(onto.clone()),
        None => production_branch(git, &mirror).filter(|onto| mirror.branch(onto).is_some()),
    };
    let chosen = Chosen { git, mirror, app };
    let at = match &options.source {
        AppSource::Commit(commit) => Some(commit.clone()),
        AppSource::Snapshot(_) => onto.clone(),
    };
    let (_, commit) = chosen.commit(at.as_deref())?;
    let path = chosen.path(&commit)?;
    let mut restored = RestoredApp {
        git: git.name.clone(),
        from_commit: commit.clone(),
        branch: None,
        directory: None,
        outside: Vec::new(),
    };
    match &options.target {
        AppTarget::Directory(target) => {
            let written = to_directory(&chosen.mirror, &commit, &path, target)
                .map_err(|error| OpsError::git(&git.name, &error))?;
            let target = ExactPath::new("target", target);
            restored.directory = Some(RestoredFiles { target, written });
        }
        AppTarget::Branch { name, is_pushed } => {
            let now = Timestamp::now();
            let restoring =
                Restoring { commit, path, onto: onto.clone(), branch: name.clone(), now };
            let from = unpacked.as_ref().map(|unpacked| unpacked.mirror.clone());
            let work = Work::Restore { restoring, from };
            let mut worker = Worker::new(config, secrets, context);
            let Line::Restored(Restored { commit, kept }) = worker.ask(git, work)? else {
                return Err(unexpected(git));
            };
            if *is_pushed {
                push(&mut worker, git, commit.clone(), name)?;
            }
            restored.branch = Some(RestoredBranch {
                branch: name.clone(),
                commit,
                mirror_ref: kept,
                mirror: ExactPath::new("mirror", mirror_path(&config.state_dir, &git.name)),
                is_pushed: *is_pushed,
                onto,
            });
        }
    }
    restored.outside = outside(config, secrets, git, context)?;
    Ok(restored)
}

/// The git repository and the app that a name means, also where there is no mirror yet.
fn named<'a>(
    config: &'a Config,
    wanted: &str,
) -> Result<(&'a GitRepository, Option<String>), OpsError> {
    let (git, app) = match wanted.split_once('/') {
        Some((git, app)) => (git, Some(app.to_owned())),
        None => (wanted, None),
    };
    if let Some(git) = config.gits.values().find(|known| known.name.as_str() == git) {
        return Ok((git, app));
    }
    let Chosen { git, app, .. } = super::choose(config, wanted)?;
    Ok((git, app))
}

/// A mirror out of a snapshot, for as long as it is needed.
pub(in crate::ops) struct Unpacked {
    mirror: PathBuf,
    _directory: tempfile::TempDir,
}

impl Unpacked {
    /// `snapshot` is the beginning of an id, or latest:NAME.
    pub(in crate::ops) fn new(
        state_dir: &Path,
        session: &Session,
        git: &GitRepository,
        snapshot: &str,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let place = mirrors_directory(state_dir)?;
        let directory = tempfile::Builder::new().prefix(".restored-").tempdir_in(&place);
        let directory = directory.map_err(|source| OpsError::Io {
            action: "make a directory in",
            path: place.clone(),
            source,
        })?;
        let inside = format!("/apps/{}.git", git.name);
        let wanted = Wanted { components: Vec::new(), paths: vec![inside.clone().into_bytes()] };
        let found: SnapshotRef = snapshot
            .parse()
            .map_err(|message: String| OpsError::usage(message, "`belay list` shows them"))?;
        to_dir((session, None), &found, &wanted, directory.path(), false, context)?;
        // Until here it was root's alone; what talks to git repositories has the rights of the owner.
        give_all_to_owner(state_dir, directory.path())?;
        let mirror = directory.path().join(inside.trim_start_matches('/'));
        Ok(Self { mirror, _directory: directory })
    }

    /// Put it where the mirror of this host is to be.
    pub(in crate::ops) fn become_mirror(self, place: &Path) -> Result<(), OpsError> {
        std::fs::rename(&self.mirror, place).map_err(|source| OpsError::Io {
            action: "put the mirror in place",
            path: place.to_owned(),
            source,
        })
    }
}

/// What is below first: a directory is its owner's only when nothing in it changes any more.
fn give_all_to_owner(state_dir: &Path, path: &Path) -> Result<(), OpsError> {
    let failed = |source| OpsError::Io { action: "list", path: path.to_owned(), source };
    if path.symlink_metadata().map_err(failed)?.is_dir() {
        for entry in std::fs::read_dir(path).map_err(failed)? {
            give_all_to_owner(state_dir, &entry.map_err(failed)?.path())?;
        }
    }
    Ok(give_to_owner_of(state_dir, path)?)
}
