//! `belay restore`.

mod parts;
mod platform;

use super::arguments::RestoreArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::prompt;
use super::render::{age, counted, local_time};
use crate::config::Platform;
use crate::model::size::Bytes;
use crate::ops::restore::databases;
use crate::ops::restore::into::{self, IntoOptions, IntoPlan, PresentState, RestoredInto};
use crate::ops::restore::parts as in_parts;
use crate::ops::restore::{Extracted, RestoredToDir, Wanted, to_dir};
use crate::ops::session::Session;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

pub(super) fn run(
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let paths = arguments.path.iter().map(|path| path.as_bytes().to_vec()).collect();
    let wanted = Wanted { components: arguments.component.clone(), paths };
    match (&arguments.to_dir, &arguments.into) {
        (Some(target), _) => into_directory(target, &wanted, arguments, environment),
        (None, Some(name)) => in_place(name, wanted, arguments, environment),
        (None, None) => {
            Err(Failure::usage("the restore has no target", "give --to-dir DIR or --into NAME"))
        }
    }
}

fn into_directory(
    target: &Path,
    wanted: &Wanted,
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
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
        wanted,
        &target,
        arguments.dry_run,
        context,
    )?;
    warn(restored.done.as_ref(), environment);
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
    wanted: Wanted,
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let instance = config.instance(name)?;
    let session = match &environment.global.repository {
        Some(_) => environment.session()?,
        None => Session::open(config, config.repository_of(instance)?, &environment.secrets)?,
    };
    let context = &environment.context;
    let options = IntoOptions {
        wanted,
        as_clone: arguments.as_clone,
        confirm: arguments.confirm.clone(),
        discard_current: arguments.reason.clone().filter(|_| arguments.discard_current),
        dry_run: arguments.dry_run,
    };
    // The databases of Appsmith's own PostgreSQL come back as those of any other.
    let is_postgres = options.wanted.components == ["postgres"];
    if matches!(instance.platform, Platform::Appsmith | Platform::Mongodb) && !is_postgres {
        let prepared =
            in_parts::prepare(config, &session, instance, &arguments.snapshot, &options, context)?;
        if arguments.dry_run {
            let restored = prepared.dry_run();
            return environment.show(&restored, || parts::plan_text(&restored.plan));
        }
        ask(name, &parts::plan_text(&prepared.plan), arguments, environment)?;
        let restored = prepared.execute(context)?;
        return environment.show(&restored, || parts::done_text(&restored));
    }
    if instance.platform != Platform::Files {
        let prepared =
            databases::prepare(config, &session, instance, &arguments.snapshot, &options, context)?;
        if arguments.dry_run {
            let restored = prepared.dry_run();
            return environment.show(&restored, || platform::plan_text(&restored.plan));
        }
        ask(name, &platform::plan_text(&prepared.plan), arguments, environment)?;
        let restored = prepared.execute(context)?;
        return environment.show(&restored, || platform::done_text(&restored));
    }
    let prepared =
        into::prepare(config, &session, instance, &arguments.snapshot, &options, context)?;
    if arguments.dry_run {
        let restored = prepared.dry_run();
        return environment.show(&restored, || plan_text(&restored.plan));
    }
    ask(name, &plan_text(&prepared.plan), arguments, environment)?;
    let restored = prepared.execute(context)?;
    warn(restored.done.as_ref(), environment);
    environment.show(&restored, || done_text(&restored))
}

/// Go on only when a person wants what the plan says, or said so before.
fn ask(
    name: &str,
    plan: &str,
    arguments: &RestoreArguments,
    environment: &Environment,
) -> Result<(), Failure> {
    if arguments.yes {
        return Ok(());
    }
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

fn warn(done: Option<&Extracted>, environment: &Environment) {
    for warning in done.map(|done| done.warnings.as_slice()).unwrap_or_default() {
        environment.context.events.warn(format!("Not restored as it was: {warning}."));
    }
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
