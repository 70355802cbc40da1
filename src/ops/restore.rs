//! Restore: into an empty directory, or in place of an instance's files.
//!
//! In place means beside and swapped: the new trees are complete and durable before anything of the old state moves, and
//! the old state is in a snapshot, or set aside under a name that is told. See [`into`].

pub mod apart;
mod by_instance;
pub mod databases;
mod extract;
pub mod in_place;
mod interrupted;
pub mod into;
mod items;
mod journal;
pub mod parts;
pub(super) mod places;
mod present;
mod room;
mod selection;
mod stored;
mod survey;
pub mod tarball;
#[cfg(test)]
mod tests;
mod variables;

pub use extract::Extracted;
pub use interrupted::interrupted;
pub(super) use interrupted::{finish_interrupted, needed};
pub(super) use survey::{Linked, Open, at};

use self::selection::Selection;
use super::job::{self, JobResult, JobSubject};
use super::private::PrivateDirectory;
use super::select::SnapshotRef;
use super::session::{InstanceLock, Session};
use super::show::read_manifest;
use super::{Context, OpsError, quiesce};
use crate::catalog::JobKind;
use crate::component::files::create::TreeCreator;
use crate::config::{Config, Instance, SecretSources};
use crate::model::exact_path::ExactPath;
use crate::model::id::{JobId, SnapshotId};
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::model::size::Bytes;
use crate::repository::Snapshot;
use crate::repository::lock::Lock;
use crate::repository::reader::Reader;
use jiff::Timestamp;
use serde::Serialize;
use std::path::Path;

/// What of a snapshot is restored: the paths, which lie in the components where there are any; the components where there
/// are no paths; everything where both are empty.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Components by name.
    pub components: Vec<String>,
    /// Paths in the snapshot, or where they came from; they may be as they are shown.
    pub paths: Vec<Vec<u8>>,
}

/// What is restored into a directory.
#[derive(Debug, Serialize)]
pub struct ToDirPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// `target`: where to.
    #[serde(flatten)]
    pub target: ExactPath,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What was restored into a directory.
#[derive(Debug, Serialize)]
pub struct RestoredToDir {
    /// What was planned.
    pub plan: ToDirPlan,
    /// What was written; none after a dry run.
    pub done: Option<Extracted>,
}

/// Carry a restore in place out as a job of the catalog.
fn as_job<T: JobResult>(
    (config, session, instance): (&Config, &Session, &Instance),
    id: JobId,
    context: &Context,
    work: impl FnOnce(&Context) -> Result<T, OpsError>,
) -> Result<T, OpsError> {
    let catalog = session.require_catalog()?;
    let identity = catalog.instance_id(&instance.name, &instance.repository)?;
    let subject = JobSubject {
        kind: JobKind::Restore,
        instance: identity.map(|id| (&instance.name, id)),
        repository: session.name.as_ref(),
    };
    let (restored, _) = job::run(&config.state_dir, id, &subject, context, work)?;
    Ok(restored)
}

/// Keep others out of an instance that is no directory of this host, and see to what an interrupted run has left; before a dry
/// run that is only told.
fn begin(
    config: &Config,
    session: &Session,
    instance: &Instance,
    options: &into::IntoOptions,
    context: &Context,
) -> Result<InstanceLock, OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
    if options.dry_run {
        for problem in interrupted_platforms(&config.state_dir) {
            context.events.warn(problem);
        }
    } else {
        finish_platform(config, session, instance, context)?;
    }
    Ok(busy)
}

/// Whether interrupted runs may have left something of an instance: half of a restore, or what writes stopped.
pub fn has_left(state_dir: &Path, instance: &Name) -> bool {
    const HERE: [&str; 2] = [journal::DIRECTORY, quiesce::DIRECTORY];
    left_in(&HERE, state_dir, instance) || left_in(&FROM_REPOSITORY, state_dir, instance)
}

/// Where journals are of what only a repository can finish.
const FROM_REPOSITORY: [&str; 2] = [databases::JOURNALS, parts::JOURNALS];

fn left_in(directories: &[&str], state_dir: &Path, instance: &Name) -> bool {
    directories.iter().any(|directory| {
        let names = PrivateDirectory::open(state_dir, directory).ok().flatten();
        let names = names.and_then(|directory| directory.names().ok()).unwrap_or_default();
        // After the name comes the job or the end of the name.
        names.iter().any(|name| {
            name.strip_prefix(instance.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    })
}

/// Finish or undo what interrupted runs have left of an instance, and start again what they had stopped.
pub fn recover(
    config: &Config,
    instance: &Instance,
    secrets: &SecretSources,
    context: &Context,
) -> Result<(), OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
    finish_interrupted(config, instance, &busy, &context.events)?;
    // What was only stopped is started again also while the repository is away.
    if !left_in(&FROM_REPOSITORY, &config.state_dir, &instance.name) {
        return quiesce::resume_left(config, instance, context);
    }
    let session = Session::open(config, config.repository_of(instance)?, secrets)?;
    finish_platform(config, &session, instance, context)
}

/// Undo or finish what an interrupted run has left of an instance that is no directory of this host.
pub(super) fn finish_platform(
    config: &Config,
    session: &Session,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    databases::finish_interrupted(config, session, instance, context)?;
    parts::finish_interrupted(config, session, instance, context)?;
    // Last: what writes must not see a state that is half swapped.
    quiesce::resume_left(config, instance, context)
}

/// What such runs have left, one sentence each.
pub(super) fn interrupted_platforms(state_dir: &Path) -> Vec<String> {
    let mut told = databases::interrupted(state_dir);
    told.extend(parts::interrupted(state_dir));
    told.extend(quiesce::left(state_dir));
    told
}

/// A snapshot opened for a restore.
pub(super) struct Source {
    _lock: Option<Lock>,
    pub(super) reader: Reader,
    pub(super) snapshot: Snapshot,
    pub(super) manifest: Option<Manifest>,
}

impl Source {
    pub(super) fn open(
        session: &Session,
        snapshot: &SnapshotRef,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let lock = session.lock_for_reading("restore", context)?;
        let mut reader = Reader::new(&session.repository)?;
        for (id, error) in &reader.index().damaged {
            context.events.warn(format!(
                "The index {} cannot be read ({error}); the packs themselves are read.",
                id.short()
            ));
        }
        let snapshot = snapshot.resolve(&session.repository.snapshots()?, &reader, session)?;
        let manifest = match read_manifest(&reader, &snapshot) {
            Ok(manifest) => manifest,
            // An index file that is gone altogether leaves no trace: only packs that nothing lists.
            Err(error) if error.is_damage() && reader.add_unindexed_packs()? > 0 => {
                context.events.warn(format!("{error}. Packs that no index lists are read, too."));
                read_manifest(&reader, &snapshot).unwrap_or(None)
            }
            Err(error) if error.is_damage() => {
                context.events.warn(format!("The manifest cannot be read: {error}. The rest is restored as far as it is there."));
                None
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { _lock: lock, reader, snapshot, manifest })
    }
}

/// Restore into a directory that is empty or does not exist, in the snapshot's own layout. With a configuration, its
/// instances, repositories and state are kept out of.
pub fn to_dir(
    (session, config): (&Session, Option<&Config>),
    snapshot: &SnapshotRef,
    wanted: &Wanted,
    target: &Path,
    dry_run: bool,
    context: &Context,
) -> Result<RestoredToDir, OpsError> {
    ensure_empty(target)?;
    places::ensure_free(target, session, config)?;
    let source = Source::open(session, snapshot, context)?;
    let selection = Selection::new(wanted, source.manifest.as_ref())?;
    context.events.phase("planning", target.display().to_string());
    let roots = source.reader.tree(source.snapshot.file.tree)?;
    let size = survey::measure(&source.reader, roots.clone(), &selection, context)?;
    selection.ensure_found()?;
    let plan = ToDirPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        target: ExactPath::new("target", target),
        files: size.files,
        bytes: size.bytes,
    };
    // Before anything is made there, and for a dry run, too.
    let place = target.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    ensure_room(place, size.written)?;
    if dry_run {
        return Ok(RestoredToDir { plan, done: None });
    }
    std::fs::create_dir_all(target).map_err(|source| OpsError::Io {
        action: "create",
        path: target.to_owned(),
        source,
    })?;
    context.events.phase("restoring", target.display().to_string());
    let creator = TreeCreator::open(target)?;
    let done = extract::extract(&source.reader, roots, &selection, creator, size.bytes, context)
        .inspect_err(|_| {
            context.events.warn(format!(
                "{} holds only a part of what was to be restored, and can be removed.",
                target.display()
            ));
        })?;
    Ok(RestoredToDir { plan, done: Some(done) })
}

fn ensure_empty(target: &Path) -> Result<(), OpsError> {
    let failed =
        |source| OpsError::Io { action: "read the directory", path: target.to_owned(), source };
    match std::fs::read_dir(target) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(Err(error)) => Err(failed(error)),
            Some(Ok(_)) => Err(OpsError::refused(
                format!(
                    "{} is not empty: nothing there would be overwritten unseen",
                    target.display()
                ),
                "choose an empty or a new directory",
            )),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// An error before the first byte when the target has too little room for `bytes`.
fn ensure_room(target: &Path, bytes: u64) -> Result<(), OpsError> {
    let free = free_bytes(target)?;
    if free >= bytes {
        return Ok(());
    }
    Err(OpsError::refused(
        format!(
            "{} has {} free, and the restore needs {}",
            target.display(),
            Bytes(free),
            Bytes(bytes)
        ),
        "make room there, restore elsewhere, or restore a part with --component or --path",
    ))
}

/// What is free on the file system of a path.
fn free_bytes(path: &Path) -> Result<u64, OpsError> {
    let filesystem = rustix::fs::statvfs(path).map_err(|error| OpsError::Io {
        action: "look for room in",
        path: path.to_owned(),
        source: error.into(),
    })?;
    Ok(filesystem.f_bavail.saturating_mul(filesystem.f_frsize))
}
