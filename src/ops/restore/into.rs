//! Restore in place of an instance's files: plan, make the new trees beside, save the present state, swap.
//!
//! The order is what keeps promises 4 and 5: the new trees are complete and durable, and the present state is in a
//! snapshot or will be set aside, before the first swap; from then on a journal lets the next start finish.

use super::extract::{self, Extracted};
use super::interrupted::{self, Unfinished};
use super::items::{self, Item};
pub use super::journal::GivenUp;
use super::journal::{Journal, Phase, Step};
use super::present::{self, Saved, may_remove_aside};
use super::selection::Selection;
use super::{Source, Wanted, as_job, ensure_room, room, survey};
use crate::access::quote;
use crate::component::files::create::TreeCreator;
use crate::component::files::swap::{SwapMethod, Watch};
use crate::config::{Config, Instance};
use crate::model::exact_path::ExactPath;
use crate::model::id::{JobId, SnapshotId};
use crate::model::name::Name;
use crate::model::node::display_path;
use crate::ops::job::JobResult;
use crate::ops::select::{self, SnapshotRef};
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, adopt};
use jiff::Timestamp;
use serde::Serialize;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// What a restore in place is asked for.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each may be asked for without the others")]
pub struct IntoOptions {
    /// What of the snapshot.
    pub wanted: Wanted,
    /// The snapshot is of another instance, and that is meant.
    pub as_clone: bool,
    /// The name of the instance that is overwritten by another's snapshot.
    pub confirm: Option<String>,
    /// Why the present state may be lost, where it may.
    pub discard_current: Option<String>,
    /// The present state of a database is only set aside: no snapshot of it can be taken.
    pub sets_aside: bool,
    /// Whoever asks has stopped what writes, so that the present state of databases can be saved while the new one is made.
    pub writers_are_stopped: bool,
    /// Only plan: an interrupted restore is told, and not finished.
    pub dry_run: bool,
}

impl IntoOptions {
    /// The command that asks for the same, but for what becomes of the present state.
    pub(super) fn command(&self, snapshot: SnapshotId, instance: &Name) -> String {
        let mut words = vec!["belay".into(), "restore".into(), snapshot.short()];
        words.extend(["--into".into(), instance.to_string()]);
        let Wanted { components, paths } = &self.wanted;
        for component in components {
            words.extend(["--component".into(), component.clone()]);
        }
        for path in paths {
            words.extend(["--path".into(), display_path(path)]);
        }
        if let (true, Some(name)) = (self.as_clone, &self.confirm) {
            words.extend(["--as-clone".into(), "--confirm".into(), name.clone()]);
        }
        let words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
        String::from_utf8_lossy(&quote::join(&words)).into_owned()
    }
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
    /// Whether all of the instance is replaced, and not a part of it.
    pub is_whole: bool,
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
    /// `from`: its place in the snapshot.
    #[serde(flatten)]
    pub from: ExactPath,
    /// `target`: its place on this machine.
    #[serde(flatten)]
    pub target: ExactPath,
    /// Whether something is there now.
    pub exists: bool,
    /// By one rename, or entry by entry.
    pub method: SwapMethod,
    /// What is there now is deleted before the new state is made: there is no room for both.
    pub deleted_first: bool,
}

/// What becomes of the state that is overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PresentState {
    /// Nothing is there.
    Nothing,
    /// A snapshot is taken first, and pinned; where that fails, it is set aside.
    Snapshot,
    /// It is only set aside, as a person asked for.
    SetAside,
    /// A snapshot is taken first where that is possible, and what there is no room for beside the new state is deleted
    /// before that is made, as a person asked for.
    SnapshotThenDeleted,
    /// The same without a snapshot, for which there is no room either.
    Deleted,
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
    /// Where the state before was set aside, where it is in no snapshot, or not all of it.
    pub aside: Vec<ExactPath>,
    /// What was deleted before the new state was there, by this restore and by those that it brought to an end.
    pub given_up: Vec<GivenUp>,
    /// The time between the restored snapshot and now, in seconds: what changed in it is not in the restored state.
    pub loss_window_seconds: i64,
}

impl JobResult for RestoredInto {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.plan.snapshot)
    }
}

/// A restore in place that was planned, and may be carried out.
pub struct Prepared<'a> {
    pub(super) config: &'a Config,
    pub(super) session: &'a Session,
    pub(super) instance: &'a Instance,
    pub(super) options: &'a IntoOptions,
    pub(super) job: JobId,
    pub(super) source: Source,
    pub(super) items: Vec<Item>,
    unfinished: Vec<Unfinished>,
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
    let busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
    let unfinished = if options.dry_run {
        for problem in interrupted::interrupted(&config.state_dir) {
            context.events.warn(problem);
        }
        interrupted::unfinished(config, instance)
    } else {
        interrupted::finish_before_restore(config, instance, &busy, &context.events)?
    };
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
    let job = context.job_id()?;
    let from = (&source, manifest);
    let places = (config, session);
    let mut items = items::find(from, places, instance, &options.wanted, &unfinished, job)?;
    let mut size = survey::Size::default();
    for item in &mut items {
        let (nodes, everything) = (vec![item.node.clone()], Selection::everything());
        item.size = survey::measure(&source.reader, nodes, &everything, context)?;
        size.add(item.size);
    }
    let may_discard = options.discard_current.is_some();
    room::plan(&mut items, may_discard)?;
    // What came since an earlier restore has given something up is not what that was about.
    let may_discard = may_discard && unfinished.is_empty();
    let present_state = present::plan(session, &items, may_discard)?;
    let plan = IntoPlan {
        snapshot: source.snapshot.id,
        time: source.snapshot.file.time,
        instance: instance.name.to_string(),
        as_clone,
        is_whole: instance.paths.iter().all(|root| {
            items.iter().any(|item| {
                item.from.to_string().trim_matches('/') == format!("files/{}", root.name)
            })
        }),
        files: size.files,
        bytes: size.bytes,
        replaced: items.iter().map(Item::replaced).collect(),
        present_state,
    };
    Ok(Prepared {
        config,
        session,
        instance,
        options,
        job,
        source,
        items,
        unfinished,
        _busy: busy,
        plan,
    })
}

/// A snapshot of another instance is restored only when a person says, by name, what is overwritten.
pub(super) fn ensure_same_instance(
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

impl Item {
    fn replaced(&self) -> Replaced {
        let Self { from, swap, exists, gives_up, .. } = self;
        Replaced {
            from: from.clone(),
            target: ExactPath::new("target", &swap.target),
            exists: *exists,
            method: swap.method,
            deleted_first: *exists && *gives_up,
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
            given_up: Vec::new(),
            loss_window_seconds,
        }
    }

    /// Do what was planned.
    pub fn execute(self, context: &Context) -> Result<RestoredInto, OpsError> {
        let place = (self.config, self.session, self.instance);
        as_job(place, self.job, context, |context| {
            let restored = self.run(context)?;
            for warning in restored.done.iter().flat_map(|done| &done.warnings) {
                context.events.warn(format!("Not restored as it was: {warning}."));
            }
            Ok(restored)
        })
    }

    fn run(mut self, context: &Context) -> Result<RestoredInto, OpsError> {
        let (state_dir, name) = (&self.config.state_dir, &self.instance.name);
        for unfinished in &self.unfinished {
            context.events.warn(format!(
                "What was there before was deleted by a restore that was interrupted, which was asked for: {}.",
                unfinished.given_up.reason
            ));
        }
        let ends = self.unfinished.iter().map(|unfinished| unfinished.journal.clone()).collect();
        let mut journal = Journal::begin(state_dir, self.job, name, ends)?;
        journal.write(self.steps(), Phase::Staging)?;
        let ready = self.make_ready(&mut journal, context).and_then(|ready| {
            // From here on the only way is forward, also after a crash: the journal says so.
            journal.write(self.steps(), Phase::Swapping)?;
            Ok(ready)
        });
        let (done, saved, mut watches) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                self.abandon(journal, context);
                return Err(error);
            }
        };
        context.events.phase("swapping", self.instance.name.to_string());
        for (item, watch) in self.items.iter().zip(&mut watches) {
            if let Some(watch) = watch {
                watch.look(&item.swap);
            }
            let swapped = item.ensure_same_place().and_then(|()| Ok(item.swap.execute()?));
            swapped.inspect_err(|_| {
                let name = &self.instance.name;
                context.events.warn(format!("The restore into {name} stopped while it swapped; the next one, or a backup of {name}, finishes it first."));
            })?;
        }
        // The new state is in place: what fails from here on does not make that untrue.
        let cleared = self.clear(&mut journal, &saved, &watches, context);
        let given_up = self.unfinished.iter().map(|unfinished| &unfinished.given_up);
        let given_up = given_up.chain(journal.given_up()).cloned().collect();
        let aside = cleared.and_then(|aside| journal.finish().map(|()| aside));
        let aside = aside.unwrap_or_else(|error| {
            let name = &self.instance.name;
            context.events.warn(format!("{name} is restored, but what was there before is not cleared away yet: {error}. The next restore, or a backup of {name}, does that first."));
            Vec::new()
        });
        let loss_window_seconds = window(&self.plan);
        let before = saved.snapshot();
        let (plan, done) = (self.plan, Some(done));
        Ok(RestoredInto { plan, done, before, aside, given_up, loss_window_seconds })
    }

    /// What was made goes, and what was moved comes back. Where that fails, or something is deleted already, the journal
    /// stays.
    fn abandon(&self, journal: Journal, context: &Context) {
        let name = &self.instance.name;
        match journal.abandon() {
            Ok(None) => {}
            Ok(Some(missing)) => context.events.warn(missing),
            Err(error) => context.events.warn(format!(
                "What the restore into {name} has made and moved is not taken back yet: {error}. The next restore or backup of it does that first."
            )),
        }
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        self.items.iter().map(Item::step).collect()
    }

    /// Everything that comes before the swaps: nothing of the instance is changed by that but what is given up.
    fn make_ready(
        &mut self,
        journal: &mut Journal,
        context: &Context,
    ) -> Result<(Extracted, Saved, Vec<Option<Watch>>), OpsError> {
        let mut done = self.stage(false, context)?;
        let begin = |item: &Item| (!item.gives_up).then(|| Watch::begin(&item.swap)).transpose();
        let watches = self.items.iter().map(begin).collect::<Result<Vec<_>, _>>()?;
        let gives_up = self.items.iter().any(|item| item.gives_up);
        if gives_up {
            self.ensure_readable(context)?;
        }
        let saved = self.save_present_state(context)?;
        if gives_up {
            self.give_up(journal, &saved, context)?;
            done.add(self.stage(true, context)?);
        }
        Ok((done, saved, watches))
    }

    /// The only copy of something is deleted when all that takes its place is known to be there.
    fn ensure_readable(&self, context: &Context) -> Result<(), OpsError> {
        context.events.phase("verifying", self.plan.snapshot.short());
        let given_up = self.items.iter().filter(|item| item.gives_up);
        let nodes = given_up.map(|item| item.node.clone()).collect();
        survey::read_all(&self.source.reader, nodes, context)
    }

    /// Remove the old states that are saved; keep the others, and say why. Returns where they are.
    fn clear(
        &mut self,
        journal: &mut Journal,
        saved: &Saved,
        watches: &[Option<Watch>],
        context: &Context,
    ) -> Result<Vec<ExactPath>, OpsError> {
        let mut reasons = Vec::new();
        for (item, watch) in self.items.iter_mut().zip(watches) {
            let may_remove = may_remove_aside(item, saved, watch.as_ref());
            item.removes_aside = may_remove.is_ok();
            reasons.push(may_remove.err());
        }
        journal.write(self.steps(), Phase::Clearing)?;
        context.events.phase("clearing", self.instance.name.to_string());
        let mut aside = Vec::new();
        for (item, reason) in self.items.iter().zip(reasons) {
            let Some(kept) = item.step().clear(&context.events)? else { continue };
            if let Some(reason) = reason {
                context.events.warn(format!(
                    "{reason}: what was there is kept in {}. See whether you need it, and remove it then.",
                    kept.display()
                ));
            }
            aside.push(ExactPath::new("path", kept));
        }
        Ok(aside)
    }

    /// Make the new trees: those beside the old ones, or those in the place of what was given up.
    fn stage(&mut self, gave_up: bool, context: &Context) -> Result<Extracted, OpsError> {
        context.events.phase("restoring", self.instance.name.to_string());
        let mut all = Extracted::default();
        for item in self.items.iter_mut().filter(|item| item.gives_up == gave_up) {
            item.ensure_same_place()?;
            all.warnings.extend(item.prepare()?);
            let parent = item.swap.staging_parent().to_owned();
            let mut node = item.node.clone();
            node.node.name = file_name(&item.swap.staged);
            let roots = vec![node];
            let everything = Selection::everything();
            let reader = &self.source.reader;
            ensure_room(&parent, item.size.written)?;
            let creator = TreeCreator::open(&parent)?.for_final_path(&item.swap.target);
            let done =
                extract::extract(reader, roots, &everything, creator, self.plan.bytes, context)?;
            item.swap.staged_is_complete()?;
            all.add(done);
        }
        Ok(all)
    }
}

fn file_name(path: &Path) -> Vec<u8> {
    path.file_name().unwrap_or_default().as_bytes().to_vec()
}

fn window(plan: &IntoPlan) -> i64 {
    Timestamp::now().duration_since(plan.time).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_asks_for_the_same_is_for_a_shell() {
        let wanted =
            Wanted { components: vec!["files".into()], paths: vec![b"/files/a b\xff".into()] };
        let confirm = Some("data".to_owned());
        let options = IntoOptions { wanted, as_clone: true, confirm, ..IntoOptions::default() };
        let command = options.command(SnapshotId([0xab; 32]), &"data".parse().unwrap());
        assert_eq!(
            command,
            "belay restore abababab --into data --component files --path '/files/a b'\\\\'xff' --as-clone --confirm data"
        );
    }
}
