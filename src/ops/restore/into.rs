//! Restore in place of an instance's files: plan, make the new trees beside, save the present state, swap.
//!
//! The order is what keeps promises 4 and 5: the new trees are complete and durable, and the present state is in a
//! snapshot or will be set aside, before the first swap; from then on a journal lets the next start finish.

use super::extract::{self, Extracted};
use super::journal::Journal;
use super::selection::Selection;
use super::{Source, Wanted, ensure_room};
use crate::catalog::JobKind;
use crate::component::files::create::TreeCreator;
use crate::component::files::swap::{self, SwapMethod, SwapPlan};
use crate::config::{Config, Instance};
use crate::model::event::Cancel;
use crate::model::id::{JobId, SnapshotId};
use crate::model::manifest::Manifest;
use crate::model::node::display_path;
use crate::ops::backup::{BackupOptions, backup_locked};
use crate::ops::job::{self, JobResult, JobSubject};
use crate::ops::select::{self, SnapshotRef};
use crate::ops::session::{InstanceLock, Session};
use crate::ops::show::path_components;
use crate::ops::{Context, OpsError, adopt, pins};
use crate::repository::format::tree::TreeNode;
use jiff::Timestamp;
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What a restore in place is asked for.
#[derive(Clone, Debug, Default)]
pub struct IntoOptions {
    /// What of the snapshot.
    pub wanted: Wanted,
    /// The snapshot is of another instance, and that is meant.
    pub as_clone: bool,
    /// The name of the instance that is overwritten by another's snapshot.
    pub confirm: Option<String>,
    /// Why the present state may be lost, where it may.
    pub discard_current: Option<String>,
}

/// What is replaced.
#[derive(Debug, Serialize)]
pub struct IntoPlan {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The instance that is overwritten.
    pub instance: String,
    /// Whether the snapshot is of another instance.
    pub as_clone: bool,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Each path that is replaced.
    pub replaced: Vec<Replaced>,
    /// What becomes of the present state.
    pub present_state: PresentState,
}

/// A path that is replaced.
#[derive(Debug, Serialize)]
pub struct Replaced {
    /// Its place in the snapshot.
    pub from: String,
    /// Its place on this machine.
    pub target: PathBuf,
    /// Whether something is there now.
    pub exists: bool,
    /// By one rename, or entry by entry.
    pub method: SwapMethod,
}

/// What becomes of the state that is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresentState {
    /// Nothing is there.
    Nothing,
    /// A snapshot is taken first, and pinned; where that fails, it is set aside.
    Snapshot,
    /// It is lost, as a person asked for.
    Discarded,
}

/// What a restore in place did.
#[derive(Debug, Serialize)]
pub struct RestoredInto {
    /// What was planned.
    pub plan: IntoPlan,
    /// What was written; none after a dry run.
    pub done: Option<Extracted>,
    /// The snapshot of the state before; none where there was none, or none could be taken.
    pub before: Option<SnapshotId>,
    /// Where the state before was set aside, where it is in no snapshot.
    pub aside: Vec<PathBuf>,
    /// The time between the restored snapshot and now, in seconds: what changed in it is not in the restored state.
    pub loss_window_seconds: i64,
}

impl JobResult for RestoredInto {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.plan.snapshot)
    }
}

/// One path to replace, with the tree that replaces it.
struct Item {
    node: TreeNode,
    from: String,
    swap: SwapPlan,
    exists: bool,
}

/// A restore in place that was planned, and may be carried out.
pub struct Prepared<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    options: &'a IntoOptions,
    job: JobId,
    source: Source,
    items: Vec<Item>,
    _busy: InstanceLock,
    /// What would be done.
    pub plan: IntoPlan,
}

/// Plan a restore in place of `instance`. Nothing is changed by that.
pub fn prepare<'a>(
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    snapshot: &SnapshotRef,
    options: &'a IntoOptions,
    context: &Context,
) -> Result<Prepared<'a>, OpsError> {
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name)?;
    let source = Source::open(session, snapshot, context)?;
    let as_clone = ensure_same_instance(session, instance, &source, options)?;
    let Some(manifest) = &source.manifest else {
        return Err(OpsError::refused(
            format!(
                "snapshot {} has no manifest that says what belongs where",
                source.snapshot.id.short()
            ),
            "restore it into a directory with --to-dir, and put the files in place by hand",
        ));
    };
    let job = job::random_job_id()?;
    let items = find_items(&source, manifest, instance, &options.wanted, job)?;
    let nodes: Vec<TreeNode> = items.iter().map(|item| item.node.clone()).collect();
    let size = extract::measure(&source.reader, nodes, &Selection::everything(), context)?;
    let any_exists = items.iter().any(|item| item.exists);
    let present_state = match (&options.discard_current, any_exists) {
        (_, false) => PresentState::Nothing,
        (Some(_), true) => PresentState::Discarded,
        (None, true) => PresentState::Snapshot,
    };
    let plan = IntoPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        files: size.files,
        bytes: size.bytes,
        replaced: items.iter().map(Item::replaced).collect(),
        present_state,
    };
    Ok(Prepared { config, session, instance, options, job, source, items, _busy: busy, plan })
}

/// A snapshot of another instance is restored only when a person says, by name, what is overwritten.
fn ensure_same_instance(
    session: &Session,
    instance: &Instance,
    source: &Source,
    options: &IntoOptions,
) -> Result<bool, OpsError> {
    let own = adopt::own_id(session.require_catalog()?, instance)?;
    let theirs = select::instance_of(&source.snapshot.file);
    if own.is_some() && own == theirs {
        return Ok(false);
    }
    let name = &instance.name;
    let is_confirmed = options.as_clone && options.confirm.as_deref() == Some(name.as_str());
    if is_confirmed {
        return Ok(true);
    }
    let of = &source.snapshot.file.hostname;
    let short = source.snapshot.id.short();
    if own.is_none() && of == name.as_str() {
        return Err(OpsError::refused(
            format!(
                "this host has never backed '{name}' up, and does not know whether snapshot {short} is of the same instance"
            ),
            format!("if it is: `belay adopt {name}`; otherwise: --as-clone --confirm {name}"),
        ));
    }
    Err(OpsError::refused(
        format!(
            "snapshot {short} is of the instance '{of}', and would overwrite the instance '{name}'"
        ),
        format!("if that is meant: --as-clone --confirm {name}"),
    ))
}

/// The trees that are wanted, each with the path that it replaces.
fn find_items(
    source: &Source,
    manifest: &Manifest,
    instance: &Instance,
    wanted: &Wanted,
    job: JobId,
) -> Result<Vec<Item>, OpsError> {
    let selection = Selection::new(wanted, Some(manifest))?;
    let mut items = Vec::new();
    for path in selection.roots(manifest) {
        let parts = path_components(&path);
        let [b"files", name, rest @ ..] = parts.as_slice() else {
            return Err(OpsError::usage(
                format!("'{}' does not belong to a component of the instance", display_path(&path)),
                "restore it into a directory with --to-dir",
            ));
        };
        let Some(root) = instance.paths.iter().find(|root| root.name.as_str().as_bytes() == *name)
        else {
            let known: Vec<&str> = instance.paths.iter().map(|root| root.name.as_str()).collect();
            return Err(OpsError::usage(
                format!(
                    "the instance '{}' has no component '{}' to restore into",
                    instance.name,
                    display_path(name)
                ),
                format!(
                    "it has: {}; choose with --component, or restore with --to-dir",
                    known.join(", ")
                ),
            ));
        };
        let node = find_node(source, &parts)?.ok_or_else(|| {
            OpsError::usage(
                format!("'{}' is not in the snapshot", display_path(&path)),
                "`belay ls SNAPSHOT` shows what is",
            )
        })?;
        let target =
            rest.iter().fold(root.path.clone(), |path, part| path.join(OsStr::from_bytes(part)));
        if !rest.is_empty() {
            ensure_no_link(&root.path, &target)?;
        }
        let swap = swap::plan(&target, &format!("{job}-{}", items.len()))?;
        let exists = swap.target.symlink_metadata().is_ok();
        items.push(Item { node, from: display_path(&path), swap, exists });
    }
    Ok(items)
}

/// An error when the way from a component's root to a path below it goes through a symbolic link: what it leads to may
/// be anywhere, and is no part of the instance.
fn ensure_no_link(root: &Path, target: &Path) -> Result<(), OpsError> {
    let below = target.strip_prefix(root).unwrap_or(target);
    let mut way = root.to_owned();
    for part in below.components() {
        way.push(part);
        if way.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(OpsError::refused(
                format!(
                    "{} is a symbolic link now, and a restore does not follow it",
                    way.display()
                ),
                "restore the whole component, or restore into a directory with --to-dir",
            ));
        }
    }
    Ok(())
}

fn find_node(source: &Source, parts: &[&[u8]]) -> Result<Option<TreeNode>, OpsError> {
    let mut tree = Some(source.snapshot.file.tree);
    let mut found = None;
    for part in parts {
        let Some(id) = tree else { return Ok(None) };
        found = source.reader.tree(id)?.into_iter().find(|node| node.node.name == *part);
        tree = found.as_ref().and_then(|node| node.subtree);
        if found.is_none() {
            return Ok(None);
        }
    }
    Ok(found)
}

impl Item {
    fn replaced(&self) -> Replaced {
        let Self { from, swap, exists, .. } = self;
        Replaced {
            from: from.clone(),
            target: swap.target.clone(),
            exists: *exists,
            method: swap.method,
        }
    }
}

impl Prepared<'_> {
    /// Nothing but the plan.
    pub fn dry_run(self) -> RestoredInto {
        let loss_window_seconds = window(&self.plan);
        RestoredInto {
            plan: self.plan,
            done: None,
            before: None,
            aside: Vec::new(),
            loss_window_seconds,
        }
    }

    /// Do what was planned.
    pub fn execute(self, context: &Context) -> Result<RestoredInto, OpsError> {
        let catalog = self.session.require_catalog()?;
        let identity = catalog.instance_id(&self.instance.name, &self.instance.repository)?;
        let subject = JobSubject {
            kind: JobKind::Restore,
            instance: identity.map(|id| (&self.instance.name, id)),
            repository: self.session.name.as_ref(),
        };
        let (state_dir, job) = (self.config.state_dir.clone(), self.job);
        let (restored, _) =
            job::run(&state_dir, job, &subject, context, |context| self.run(context))?;
        Ok(restored)
    }

    fn run(mut self, context: &Context) -> Result<RestoredInto, OpsError> {
        let mut journal = Journal::begin(&self.config.state_dir, self.job, &self.instance.name)?;
        journal.write(self.items.iter().map(|item| &item.swap), false)?;
        let staged = self.stage(context);
        let saved = staged.and_then(|done| Ok((done, self.save_present_state(context)?)));
        let (done, before) = match saved {
            Ok(saved) => saved,
            Err(error) => {
                // Nothing of the instance was touched; what was made beside it goes.
                for item in &self.items {
                    item.swap.abandon()?;
                }
                journal.finish()?;
                return Err(error);
            }
        };
        // From here on the only way is forward, also after a crash: the journal says so.
        journal.write(self.items.iter().map(|item| &item.swap), true)?;
        context.events.phase("swapping", self.instance.name.to_string());
        for item in &self.items {
            item.swap.execute()?;
        }
        let mut aside = Vec::new();
        for item in self.items.iter().filter(|item| item.exists) {
            if before.is_some() || self.plan.present_state == PresentState::Discarded {
                item.swap.remove_aside()?;
            } else {
                aside.push(item.swap.aside.clone());
            }
        }
        journal.finish()?;
        let loss_window_seconds = window(&self.plan);
        Ok(RestoredInto { plan: self.plan, done: Some(done), before, aside, loss_window_seconds })
    }

    /// Make the new trees beside the old ones.
    fn stage(&mut self, context: &Context) -> Result<Extracted, OpsError> {
        context.events.phase("restoring", self.instance.name.to_string());
        let mut all = Extracted::default();
        for item in &mut self.items {
            item.swap.prepare()?;
            let parent = item.swap.staging_parent().to_owned();
            let mut node = item.node.clone();
            node.node.name = file_name(&item.swap.staged);
            let roots = vec![node];
            let everything = Selection::everything();
            let reader = &self.source.reader;
            let size = extract::measure(reader, roots.clone(), &everything, context)?;
            ensure_room(&parent, size.bytes)?;
            let creator = TreeCreator::open(&parent)?;
            let done =
                extract::extract(reader, roots, &everything, creator, self.plan.bytes, context)?;
            item.swap.staged_is_complete()?;
            all.add(done);
        }
        Ok(all)
    }

    /// Snapshot what is about to be overwritten, and pin that. A state that cannot be read is set aside instead.
    fn save_present_state(&self, context: &Context) -> Result<Option<SnapshotId>, OpsError> {
        match (self.plan.present_state, &self.options.discard_current) {
            (PresentState::Nothing, _) => return Ok(None),
            (_, Some(reason)) => {
                context.events.warn(format!(
                    "The present state of {} is discarded: {reason}.",
                    self.instance.name
                ));
                return Ok(None);
            }
            _ => {}
        }
        // What backups leave out is overwritten, too, so here nothing is left out but what this very job has staged.
        let mut instance = self.instance.clone();
        instance.exclude = vec![format!(".belay-restore-{}-*", self.job)];
        instance.paths.retain(|root| root.path.exists());
        let options = BackupOptions {
            before_restore_of: Some(self.plan.snapshot),
            ..BackupOptions::default()
        };
        let taken = backup_locked(self.config, self.session, &instance, &options, context);
        match taken {
            Ok(outcome) => {
                let reason = format!("state of {} before a restore", self.instance.name);
                let snapshot = SnapshotRef::Prefix(outcome.id.to_string());
                pins::pin(self.session, &snapshot, &reason, context)?;
                Ok(Some(outcome.id))
            }
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                let name = &self.instance.name;
                context.events.warn(format!("No snapshot of the present state of {name} could be taken ({error}); it is set aside."));
                Cancel::check(&context.cancel)?;
                Ok(None)
            }
        }
    }
}

fn file_name(path: &Path) -> Vec<u8> {
    path.file_name().unwrap_or_default().as_bytes().to_vec()
}

fn window(plan: &IntoPlan) -> i64 {
    Timestamp::now().duration_since(plan.time).as_secs()
}
