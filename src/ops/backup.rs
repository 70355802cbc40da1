//! Backup: lock, find out whose snapshots these are, read every component to its end, seal, write, record.

mod before;
mod changed;
mod directory;
mod git;
pub mod import;
mod keys;
mod mongodb;
mod mongodump;
mod part;
mod platform;
mod redis;
mod seal;
mod trees;

pub(super) use self::git::mirrors_of;
pub(super) use self::trees::progress_of;

use self::before::{Before, PreviousSnapshot};
use self::seal::{Draft, Sealed};
use self::trees::{Component, FilesRead, Tree, counts_of, tree_component, warnings_of};
use super::checksums::ChecksumWriter;
use super::job::{self, JobResult, JobSubject};
use super::select::{self, TAG, TAG_BEFORE_RESTORE, TAG_INSTANCE, TAG_JOB, TAG_PLATFORM};
use super::session::{InstanceLock, Session};
use super::state::{PROGRAM, snapshot_file};
use super::tree::{TreeBuilder, made_directory, made_file, made_tree};
use super::turn::Turn;
use super::{Context, OpsError, sync};
use crate::catalog::{Catalog, JobKind};
use crate::component::files::swap;
use crate::component::files::walk::{self, WalkOptions};
use crate::config::{Config, FilesRoot, Instance};
use crate::host;
use crate::model::event::Event;
use crate::model::id::{BlobId, InstanceId, JobId, RepositoryId, SnapshotId};
use crate::model::manifest::{InstanceRef, KeyFit, Manifest, SCHEMA_VERSION};
use crate::model::node::display_path;
use crate::model::size::Bytes;
use crate::repository::Snapshot;
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::snapshot::SnapshotFile;
use crate::repository::format::tree::TreeNode;
use crate::repository::lock::LockMode;
use crate::repository::reader::Reader;
use crate::repository::writer::Writer;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

/// A file whose inode changed so shortly before a run may have changed again without a newer time: within the clock's
/// resolution, or, where it is mapped into memory, until the kernel has written the page that was changed first. That is
/// half a minute by default (`vm.dirty_expire_centisecs`).
const UNSETTLED: SignedDuration = SignedDuration::from_mins(2);

/// The folder of a snapshot that has an instance's directories.
const FILES: &str = "files";

/// How the names begin of what restores put into an instance's directory.
const OURS: [&str; 2] = [swap::BEFORE, swap::RESTORE];

/// How to take a snapshot.
#[derive(Clone, Debug, Default)]
pub struct BackupOptions {
    /// Read every file, also those whose size and times are as in the snapshot before.
    pub reread: bool,
    /// A component that had files in the snapshot before may have none now.
    pub allow_empty: bool,
    /// This is what a restore of the given snapshot is about to overwrite.
    pub before_restore_of: Option<SnapshotId>,
    /// Whoever asks has stopped what writes, and starts it again.
    pub writers_are_stopped: bool,
    /// Something goes on beside it that is waited for as well, and goes first: `pg_dump` is nicer than that, and is read when it is its turn.
    pub turn: Option<Turn>,
}

/// A snapshot that was taken.
#[derive(Clone, Debug, Serialize)]
pub struct BackupOutcome {
    /// Its id.
    pub id: SnapshotId,
    /// The instance's name.
    pub instance: String,
    /// True: what is not sealed is an error and no outcome.
    pub sealed: bool,
    /// Whether its keys decrypt what is encrypted in it. An unfit one does not count as good.
    pub key_fit: KeyFit,
    /// Bytes of content.
    pub size_bytes: u64,
    /// Bytes that were read; the rest was found unchanged.
    pub read_bytes: Option<u64>,
    /// Bytes that were new in the repository.
    pub added_bytes: u64,
    /// Files, directories and other entries, by kind.
    pub counts: BTreeMap<String, u64>,
    /// Seconds from the beginning to the end.
    pub duration_seconds: f64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl JobResult for BackupOutcome {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.id)
    }
}

/// Take a snapshot of an instance.
pub fn backup(
    config: &Config,
    session: &Session,
    instance: &Instance,
    options: &BackupOptions,
    context: &Context,
) -> Result<BackupOutcome, OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
    // An instance that is half restored must not be sealed as if it were whole.
    super::restore::finish_interrupted(config, instance, &busy, &context.events)
        .inspect_err(|error| record_failure(config, instance, error, context))?;
    super::restore::finish_platform(config, session, instance, context)
        .inspect_err(|error| record_failure(config, instance, error, context))?;
    backup_locked(config, session, instance, options, context)
}

/// A backup that could not begin, because its repository is away for example, is a failed run like any other: it shows
/// in the status, and nothing is forgotten until one succeeds.
pub fn record_failure(config: &Config, instance: &Instance, error: &OpsError, context: &Context) {
    let record = || {
        let catalog = Catalog::open(&config.state_dir)?;
        // One that was never backed up has no id yet, and nothing to be forgotten.
        let Some(id) = catalog.instance_id(&instance.name, &instance.repository)? else {
            return Ok(());
        };
        let subject = JobSubject {
            kind: JobKind::Backup,
            instance: Some((&instance.name, id)),
            repository: Some(&instance.repository),
        };
        job::record_failure(&config.state_dir, &subject, error, context)
    };
    if let Err::<(), OpsError>(error) = record() {
        context.events.warn(format!("The failure could not be recorded: {error}."));
    }
}

/// The same for a caller that holds the instance's lock already.
pub(super) fn backup_locked(
    config: &Config,
    session: &Session,
    instance: &Instance,
    options: &BackupOptions,
    context: &Context,
) -> Result<BackupOutcome, OpsError> {
    let is_regular = options.before_restore_of.is_none();
    let identity = identify(session, instance, context).inspect_err(|error| {
        // A restore that could not snapshot what it overwrites fails itself.
        if is_regular {
            record_failure(config, instance, error, context);
        }
    })?;
    let id = if is_regular { context.job_id() } else { job::random_job_id() }?;
    let subject = JobSubject {
        kind: if is_regular { JobKind::Backup } else { JobKind::BeforeRestore },
        instance: Some((&instance.name, identity)),
        repository: session.name.as_ref(),
    };
    let (outcome, _) = job::run(&config.state_dir, id, &subject, context, |context| {
        Run { config, session, instance, options, context, identity, job: id }.take()
    })?;
    Ok(outcome)
}

/// This host's id for the instance. A name that belongs to another id stops the backup until a person has said which
/// of the two it is.
fn identify(
    session: &Session,
    instance: &Instance,
    context: &Context,
) -> Result<InstanceId, OpsError> {
    let catalog = session.require_catalog()?;
    if let Some(id) = super::adopt::own_id(catalog, instance)? {
        return Ok(id);
    }
    let snapshots = {
        let _lock = session.lock_for_reading("backup", context)?;
        session.repository.snapshots()?
    };
    let others = snapshots
        .readable
        .iter()
        .filter(|snapshot| snapshot.file.hostname == instance.name.as_str());
    if let Some((other, snapshot)) = others
        .filter_map(|snapshot| Some((select::instance_of(&snapshot.file)?, snapshot)))
        .next_back()
    {
        let name = &instance.name;
        return Err(OpsError::refused(
            format!(
                "the repository has snapshots of another instance called '{name}' (the newest is {} of {}), \
                 and this host has never backed it up",
                snapshot.id.short(),
                snapshot.file.time.strftime("%Y-%m-%d"),
            ),
            format!(
                "if this is the same instance (a new host, or a lost state directory): `belay adopt {name} --id {other}`; \
                 if it is another one: `belay adopt {name} --new`, or give it another name"
            ),
        ));
    }
    super::adopt::adopt_new(session, instance)
}

struct Run<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    options: &'a BackupOptions,
    context: &'a Context,
    identity: InstanceId,
    job: JobId,
}

impl Run<'_> {
    fn take(&self) -> Result<BackupOutcome, OpsError> {
        let started = Timestamp::now();
        let purpose = format!("backup {}", self.instance.name);
        let lock = self.session.lock(LockMode::Shared, purpose, self.context)?;
        let index = Arc::new(self.load_index()?);
        let reader = Reader::with_index(&self.session.repository, Arc::clone(&index));
        let writer = Writer::start(&self.session.repository, index, &self.context.cancel)?;
        let before = self.find_previous(&reader, &writer)?;

        let mut draft = Draft::new(started);
        for root in &self.instance.paths {
            let component = self.read_component(root, &writer, &reader, &before)?;
            draft.add(component);
        }
        let mirrors = self.read_mirrors(&writer, &reader, &before, &mut draft)?;
        let platform = self.read_platform(&writer, &before, &mut draft)?;
        let expected: Vec<&str> = self
            .instance
            .paths
            .iter()
            .map(|root| root.name.as_str())
            .chain(mirrors.iter().map(String::as_str))
            .chain(platform.parts.iter().map(String::as_str))
            .collect();
        writer.settle()?;
        let changed = self.changed_version(platform.version.as_deref())?;
        let sealed = draft.seal(&expected, |components| {
            let mut manifest = self.manifest(started, components, &writer);
            manifest.key_fit = platform.key_fit;
            manifest.version = platform.version;
            manifest.edition = platform.edition;
            manifest.writers = platform.writers;
            manifest.warnings.extend(platform.warnings);
            manifest.warnings.extend(changed);
            manifest
        })?;

        let manifest = sealed.manifest.clone();
        let file = self.store(sealed, &writer, before.newest())?;
        let snapshot = writer.commit(file, &lock, &self.context.events)?;
        self.record(&snapshot, &manifest);
        Ok(self.outcome(snapshot.id, manifest))
    }

    /// What is in the repository already. Packs that are gone or cut short do not count: their blobs are stored again.
    fn load_index(&self) -> Result<BlobIndex, OpsError> {
        let mut index = BlobIndex::load(&self.session.repository)?;
        let events = &self.context.events;
        for (id, error) in &index.damaged {
            events.warn(format!(
                "The index {} cannot be read ({error}); what it lists is stored again. Run `belay check`.",
                id.short()
            ));
        }
        let missing = index.forget_missing_packs(&self.session.repository)?;
        if !missing.is_empty() {
            let count = missing.len();
            events.warn(format!(
                "{count} packs are missing or cut short; what this snapshot needs of them is stored again. Run `belay check`."
            ));
        }
        Ok(index)
    }

    fn read_component(
        &self,
        root: &FilesRoot,
        writer: &Writer,
        reader: &Reader,
        before: &Before,
    ) -> Result<Component, OpsError> {
        let name = root.name.as_str();
        let started = Timestamp::now();
        let events = &self.context.events;
        events.phase("reading", format!("{} of {}", name, self.instance.name));
        let previous = match before.newest() {
            Some(previous) if !self.options.reread => {
                previous.component(reader, FILES, name, writer)?
            }
            _ => None,
        };
        let mut checksums = ChecksumWriter::new(writer.document());
        let mut builder = TreeBuilder::new(writer, previous, &mut checksums);
        let options = WalkOptions { exclude: self.exclude(root), ..WalkOptions::default() };
        let mut progress = progress_of(events);
        let read = walk::read_tree(
            &root.path,
            name.as_bytes(),
            &options,
            &self.context.cancel,
            &mut builder,
            &mut progress,
        );
        let report = read.map_err(|source| OpsError::Component {
            instance: self.instance.name.to_string(),
            component: name.to_owned(),
            source,
        })?;
        let tree = builder.finish()?;
        let read = Tree { root: tree, checksums, report };
        let source = display_path(root.path.as_os_str().as_bytes());
        self.files_component(name, source, started, read, before)
    }

    /// A tree of files that was read to its end, with what the manifest says of it.
    fn files_component(
        &self,
        name: &str,
        source: String,
        started: Timestamp,
        Tree { root: tree, checksums, report }: Tree,
        before: &Before,
    ) -> Result<Component, OpsError> {
        let events = &self.context.events;
        self.ensure_not_emptied(name, &report, before)?;
        let sums = checksums.finish()?.wait()?;
        let warnings = warnings_of(name, &report);
        for warning in &warnings {
            events.warn(warning);
        }
        for path in &report.vanished.paths {
            events.note(format!(
                "{name}: {path} vanished before it could be read, and is not in the snapshot."
            ));
        }
        Ok(tree_component(FilesRead {
            kind: "files",
            folder: FILES,
            name,
            source,
            started,
            tree,
            sums,
            size_bytes: report.bytes,
            counts: counts_of(&report),
            details: serde_json::Value::Null,
            warnings,
        }))
    }

    /// What the configuration leaves out, and what restores have put directly into the directory. Before a restore the
    /// caller has said what.
    fn exclude(&self, root: &FilesRoot) -> Vec<String> {
        let mut exclude = self.instance.exclude.clone();
        if self.options.before_restore_of.is_some() {
            return exclude;
        }
        // One that cannot be listed fails the walk.
        for entry in std::fs::read_dir(&root.path).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if OURS.iter().any(|ours| name.as_bytes().starts_with(ours.as_bytes())) {
                self.context.events.note(format!(
                    "{}: {} was set aside by a restore, and is not in the snapshot.",
                    root.name,
                    display_path(name.as_bytes())
                ));
            }
        }
        exclude.extend(OURS.map(|ours| format!("/{ours}*")));
        exclude
    }

    fn manifest(&self, started: Timestamp, components: &[Component], writer: &Writer) -> Manifest {
        Manifest {
            schema: SCHEMA_VERSION,
            program: PROGRAM.into(),
            instance: InstanceRef {
                id: self.identity,
                name: self.instance.name.clone(),
                host: host::hostname(),
                host_id: host::host_id(),
            },
            job: self.job,
            platform: self.instance.platform.to_string(),
            version: None,
            edition: None,
            started,
            finished: Timestamp::now(),
            sealed: true,
            key_fit: KeyFit::Unproven,
            writers: None,
            components: components.iter().map(|component| component.manifest.clone()).collect(),
            size_bytes: components.iter().map(|component| component.manifest.size_bytes).sum(),
            read_bytes: Some(writer.statistics().read_bytes),
            added_bytes: writer.statistics().added_bytes,
            warnings: components.iter().flat_map(|component| component.warnings.clone()).collect(),
        }
    }

    /// Store what a sealed snapshot consists of beside its blobs; returns its document.
    fn store(
        &self,
        sealed: Sealed,
        writer: &Writer,
        previous: Option<&PreviousSnapshot>,
    ) -> Result<SnapshotFile, OpsError> {
        let Sealed { manifest, components } = sealed;
        let time = manifest.started;
        let json = serde_json::to_vec_pretty(&manifest)
            .map_err(|error| crate::repository::RepositoryError::Internal(error.to_string()))?;
        let mut root = vec![
            made_file(writer, "manifest.json", &json, time)?.0,
            made_file(writer, "belay.toml", self.config.source_text().as_bytes(), time)?.0,
        ];
        let (mut folders, mut sums) = (BTreeMap::<&str, Vec<TreeNode>>::new(), Vec::new());
        for component in components {
            match component.among {
                // A tree among others, and the list of its sums.
                Some((folder, list)) => {
                    folders.entry(folder).or_default().push(component.tree);
                    sums.push(list);
                }
                None => root.push(component.tree),
            }
        }
        for (folder, trees) in folders {
            root.push(made_directory(writer, folder, trees, time)?);
        }
        if !sums.is_empty() {
            root.push(made_directory(writer, "checksums", sums, time)?);
        }
        let tree = made_tree(writer, &mut root)?;
        let parent = previous.map(|previous| previous.id);
        Ok(SnapshotFile { parent, ..self.snapshot_file(tree, time) })
    }

    /// The document of a snapshot of this tree.
    fn snapshot_file(&self, tree: BlobId, time: Timestamp) -> SnapshotFile {
        let mut tags = vec![
            TAG.to_owned(),
            format!("{TAG_INSTANCE}={}", self.identity),
            format!("{TAG_PLATFORM}={}", self.instance.platform),
            format!("{TAG_JOB}={}", self.job),
        ];
        if let Some(restored) = self.options.before_restore_of {
            tags.push(format!("{TAG_BEFORE_RESTORE}={restored}"));
        }
        let base = snapshot_file(tree, time, tags);
        SnapshotFile { hostname: self.instance.name.to_string(), ..base }
    }

    /// The snapshot is in the repository whatever happens here, and the catalog follows with the next command.
    fn record(&self, snapshot: &Snapshot, manifest: &Manifest) {
        let Some(catalog) = &self.session.catalog else { return };
        let record = sync::record_of(snapshot, Some(manifest));
        let repository = RepositoryId(self.session.repository.id().0);
        if let Err(error) = catalog.record_snapshot(repository, &record, Some(manifest)) {
            self.context
                .events
                .warn(format!("The snapshot could not be recorded in the catalog: {error}."));
        }
    }

    fn outcome(&self, id: SnapshotId, manifest: Manifest) -> BackupOutcome {
        let mut counts = BTreeMap::new();
        for component in &manifest.components {
            for (kind, count) in &component.counts {
                *counts.entry(kind.clone()).or_insert(0) += count;
            }
        }
        let instance = self.instance.name.to_string();
        let (size_bytes, added_bytes) = (manifest.size_bytes, manifest.added_bytes);
        let (size, added) = (Bytes(size_bytes), Bytes(added_bytes));
        self.context.events.send(Event::Sealed {
            snapshot: id,
            instance: instance.clone(),
            size,
            added,
        });
        let key_fit = manifest.key_fit;
        let duration_seconds = Timestamp::now().duration_since(manifest.started).as_secs_f64();
        let warnings = manifest.warnings;
        BackupOutcome {
            id,
            instance,
            sealed: true,
            key_fit,
            size_bytes,
            read_bytes: manifest.read_bytes,
            added_bytes,
            counts,
            duration_seconds,
            warnings,
        }
    }
}
