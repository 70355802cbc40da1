//! `belay restore`.

mod parts;
mod platform;

use super::arguments::RestoreArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::perform::{Said, succeeded};
use super::prompt;
use super::render::{age, counted, local_time};
use crate::config::{Config, Instance, Platform, SecretSources};
use crate::model::event::{Event, Events};
use crate::model::job::{RestoreWork, Work};
use crate::model::node::display_path;
use crate::model::size::Bytes;
use crate::ops::restore::in_place::Kind;
use crate::ops::restore::into::{IntoOptions, IntoPlan, PresentState, RestoredInto};
use crate::ops::restore::{self, RestoredToDir, Wanted, to_dir};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError, SnapshotRef};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(super) fn run(
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    match (&arguments.to_dir, &arguments.into) {
        (Some(target), _) => into_directory(target, arguments, environment),
        (None, Some(name)) => in_place(name, arguments, environment),
        (None, None) => {
            Err(Failure::usage("the restore has no target", "give --to-dir DIR or --into NAME"))
        }
    }
}

fn into_directory(
    target: &Path,
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let paths = arguments.path.iter().map(|path| path.as_bytes().to_vec()).collect();
    let wanted = Wanted { components: arguments.component.clone(), paths };
    let session = environment.session_of(&arguments.snapshot)?;
    let config = match environment.bare()? {
        Some(_) => None,
        None => Some(environment.config()?),
    };
    let context = &environment.context;
    let target = std::path::absolute(target).map_err(|error| {
        Failure::internal(format!("could not examine {}: {error}", target.display()))
    })?;
    let restored = to_dir(
        (&session, config),
        &arguments.snapshot,
        &wanted,
        &target,
        arguments.dry_run,
        context,
    )?;
    for warning in restored.done.iter().flat_map(|done| &done.warnings) {
        context.events.warn(format!("Not restored as it was: {warning}."));
    }
    environment.show(&restored, || {
        let RestoredToDir { plan, done } = &restored;
        let what = format!(
            "{} ({}) of snapshot {} of {}",
            counted(plan.files, "file", "files"),
            Bytes(plan.bytes),
            plan.snapshot.short(),
            local_time(plan.time)
        );
        match done {
            None => format!("{what} would be restored into {}.", plan.target),
            Some(_) => format!("{what} are in {}.", plan.target),
        }
    })
}

fn in_place(
    name: &str,
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let instance = environment.config()?.instance(name)?.name.clone();
    let repository = match environment.global.repository {
        Some(_) => Some(environment.repository()?.name.clone()),
        None => None,
    };
    // What is no UTF-8 goes as it is shown.
    let path = |path: &OsString| match path.to_str() {
        Some(path) => path.to_owned(),
        None => display_path(path.as_bytes()),
    };
    let work = RestoreWork {
        snapshot: arguments.snapshot.to_string(),
        instance,
        repository,
        components: arguments.component.clone(),
        paths: arguments.path.iter().map(path).collect(),
        as_clone: arguments.as_clone,
        confirm: arguments.confirm.clone(),
        discard_current: arguments.reason.clone().filter(|_| arguments.discard_current),
        dry_run: arguments.dry_run,
        yes: arguments.yes,
    };
    let work = if work.dry_run || work.yes { work } else { confirmed(work, environment)? };
    environment.run_and_show(&Work::Restore(work))
}

/// The same, where a person wants what its plan says: of the very snapshot that was planned with.
fn confirmed(work: RestoreWork, environment: &Environment) -> Result<RestoreWork, Failure> {
    let plan = Work::Restore(RestoreWork { dry_run: true, ..work.clone() });
    let events = environment.context.events.clone();
    // What the plan warns of, the restore warns of again.
    let noted = Events::new(move |event| match event {
        Event::Warning { message } => events.note(message),
        event => events.send(event),
    });
    let planned = environment.perform(&plan, &environment.context.with_events(noted))?;
    let planned = succeeded(planned)?;
    let snapshot = planned.document["plan"]["snapshot"].as_str().map(str::to_owned);
    let snapshot = snapshot.ok_or_else(|| Failure::internal("the plan names no snapshot"))?;
    ask(work.instance.as_str(), &planned.text, environment)?;
    Ok(RestoreWork { snapshot, yes: true, ..work })
}

/// What a restore in place says.
pub(super) fn said(
    config: &Config,
    secrets: &SecretSources,
    work: &RestoreWork,
    context: &Context,
) -> Result<Said, OpsError> {
    let instance = config.instance(work.instance.as_str())?;
    let repository = match &work.repository {
        Some(name) => config.repository(name.as_str())?,
        None => config.repository_of(instance)?,
    };
    let snapshot: SnapshotRef = work
        .snapshot
        .parse()
        .map_err(|message: String| OpsError::usage(message, "`belay list` shows them"))?;
    if instance.platform == Platform::Git {
        return Err(OpsError::Usage {
            message: format!(
                "'{}' is a git repository, and its mirror is not put back in place",
                instance.name
            ),
            hint: Some(format!(
                "belay apps restore {} --from {snapshot} brings it back, as a branch or as files",
                instance.name
            )),
        });
    }
    let session = Session::open(config, repository, secrets)?;
    let paths = work.paths.iter().map(|path| path.clone().into_bytes()).collect();
    let options = IntoOptions {
        wanted: Wanted { components: work.components.clone(), paths },
        as_clone: work.as_clone,
        confirm: work.confirm.clone(),
        discard_current: work.discard_current.clone(),
        sets_aside: false,
        writers_are_stopped: false,
        dry_run: work.dry_run,
    };
    let from = (config, &session, instance, &snapshot);
    match Kind::of(instance, &options) {
        Kind::Parts => in_parts(from, &options, context),
        Kind::Files => files(from, &options, context),
        Kind::Databases => databases(from, &options, context),
    }
}

/// What is restored: the configuration, the repository, the instance, and the snapshot.
type From<'a> = (&'a Config, &'a Session, &'a Instance, &'a SnapshotRef);

fn in_parts(
    (config, session, instance, snapshot): From<'_>,
    options: &IntoOptions,
    context: &Context,
) -> Result<Said, OpsError> {
    let prepared = restore::parts::prepare(config, session, instance, snapshot, options, context)?;
    if options.dry_run {
        let restored = prepared.dry_run();
        return Ok(Said::new(Exit::Done, parts::plan_text(&restored.plan), &restored));
    }
    let restored = prepared.execute(context)?;
    Ok(Said::new(Exit::Done, parts::done_text(&restored), &restored))
}

fn databases(
    (config, session, instance, snapshot): From<'_>,
    options: &IntoOptions,
    context: &Context,
) -> Result<Said, OpsError> {
    let prepared =
        restore::databases::prepare(config, session, instance, snapshot, options, context)?;
    if options.dry_run {
        let restored = prepared.dry_run();
        return Ok(Said::new(Exit::Done, platform::plan_text(&restored.plan), &restored));
    }
    let restored = prepared.execute(context)?;
    Ok(Said::new(Exit::Done, platform::done_text(&restored), &restored))
}

fn files(
    (config, session, instance, snapshot): From<'_>,
    options: &IntoOptions,
    context: &Context,
) -> Result<Said, OpsError> {
    let prepared = restore::into::prepare(config, session, instance, snapshot, options, context)?;
    if options.dry_run {
        let restored = prepared.dry_run();
        return Ok(Said::new(Exit::Done, plan_text(&restored.plan), &restored));
    }
    let restored = prepared.execute(context)?;
    Ok(Said::new(Exit::Done, done_text(&restored), &restored))
}

/// Go on only when a person wants what the plan says.
fn ask(name: &str, plan: &str, environment: &Environment) -> Result<(), Failure> {
    environment.pause_progress();
    if !prompt::is_possible() {
        return Err(Failure::usage(
            format!("restoring into '{name}' overwrites it, and there is no terminal to ask"),
            "look at --dry-run, and give --yes",
        ));
    }
    if prompt::confirm(&format!("{plan}\n"), &environment.context.cancel)? {
        return Ok(());
    }
    Err(Failure::usage("nothing was done", "only a whole `yes` goes on"))
}

/// What a person has to know who allowed it.
const DELETED_FIRST: &str = "There is no room for the new state beside the old one: the old one is DELETED, as asked for, \
    before the new one is made. Until the restore has ended there is neither; if it is interrupted, run it again.";

fn plan_text(plan: &IntoPlan) -> String {
    let mut lines = vec![format!(
        "Restore {} ({}) of snapshot {}, taken {}, into the instance {}:",
        counted(plan.files, "file", "files"),
        Bytes(plan.bytes),
        plan.snapshot.short(),
        local_time(plan.time),
        plan.instance
    )];
    for replaced in &plan.replaced {
        let verb = if replaced.exists { "replaces" } else { "makes" };
        let first = if replaced.deleted_first { ", which is DELETED first" } else { "" };
        lines.push(format!("  {} {verb} {}{first}", replaced.from, replaced.target));
    }
    lines.push(match plan.present_state {
        PresentState::Nothing => "Nothing is there now that could be lost.".into(),
        PresentState::Snapshot => "What is there now goes into a snapshot first; where it cannot be read, it is set aside.".into(),
        PresentState::SetAside => "What is there now goes into NO snapshot, as asked for; it is only set aside.".into(),
        PresentState::SnapshotThenDeleted => format!("What is there now goes into a snapshot first; where it cannot be read, or the repository has no room, it goes into none. {DELETED_FIRST}"),
        PresentState::Deleted => format!("What is there now goes into NO snapshot: there is no room for one. {DELETED_FIRST}"),
    });
    lines.join("\n")
}

fn done_text(restored: &RestoredInto) -> String {
    let plan = &restored.plan;
    let replaced: Vec<String> =
        plan.replaced.iter().map(|replaced| replaced.from.to_string()).collect();
    let subject = match replaced.as_slice() {
        _ if plan.is_whole => format!("{} is as it was", plan.instance),
        [one] => format!("Of {}, {one} is as it was", plan.instance),
        several => format!("Of {}, {} are as they were", plan.instance, several.join(", ")),
    };
    let mut lines = vec![format!(
        "{subject} at {} (snapshot {}): {}, {}.",
        local_time(plan.time),
        plan.snapshot.short(),
        counted(plan.files, "file", "files"),
        Bytes(plan.bytes)
    )];
    let is_lost = restored.given_up.iter().any(|given_up| given_up.before.is_none());
    lines.push(format!(
        "Loss window: what changed in the last {} {}.",
        age(restored.loss_window_seconds),
        if is_lost { "is lost" } else { "is not in it" }
    ));
    for given_up in &restored.given_up {
        let before = given_up.before.map_or("in no snapshot".to_owned(), |before| {
            format!("in snapshot {}, but for what changed after that", before.short())
        });
        lines.push(format!(
            "The state before was deleted, as asked for: {}. It is {before}.",
            given_up.reason
        ));
    }
    if let Some(before) = restored.before {
        lines.push(format!(
            "The state before is in snapshot {} and pinned; `belay unpin {}` lets it go.",
            before.short(),
            before.short()
        ));
    }
    for aside in &restored.aside {
        lines.push(format!(
            "The state before is set aside in {aside}; remove it when you no longer need it."
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::files::swap::SwapMethod;
    use crate::model::exact_path::ExactPath;
    use crate::model::id::SnapshotId;
    use crate::ops::restore::into::Replaced;
    use jiff::Timestamp;

    fn text_of(is_whole: bool, from: &[&str]) -> String {
        let replaced = from.iter().map(|from| Replaced {
            from: ExactPath::new("from", from),
            target: ExactPath::new("target", "/srv/up"),
            exists: true,
            method: SwapMethod::Rename,
            deleted_first: false,
        });
        let plan = IntoPlan {
            snapshot: SnapshotId([7; 32]),
            time: Timestamp::UNIX_EPOCH,
            instance: "up".into(),
            as_clone: false,
            is_whole,
            files: 1,
            bytes: 1,
            replaced: replaced.collect(),
            present_state: PresentState::Snapshot,
        };
        done_text(&RestoredInto {
            plan,
            done: None,
            before: None,
            aside: vec![],
            given_up: vec![],
            loss_window_seconds: 60,
        })
    }

    #[test]
    fn a_part_that_is_restored_is_not_called_the_instance() {
        assert!(text_of(true, &["/files/up"]).starts_with("up is as it was at "));
        let one = text_of(false, &["/files/up/a"]);
        assert!(one.starts_with("Of up, /files/up/a is as it was at "), "{one}");
        let two = text_of(false, &["/files/up/a", "/files/up/b"]);
        assert!(two.starts_with("Of up, /files/up/a, /files/up/b are as they were at "), "{two}");
    }
}
