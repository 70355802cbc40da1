//! `belay apps import` and `belay apps pull`.

use super::arguments::{ImportArguments, IntoArguments, PullArguments};
use crate::cli::exit::{Exit, Failure};
use crate::cli::open::Environment;
use crate::cli::prompt;
use crate::ops::apps::promote::{Promoted, Promotion, Way, prepare};
use crate::policy::readable::Readability;

pub(super) fn import(
    arguments: &ImportArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    promote(&arguments.into, Way::Import { is_editable: arguments.editable }, environment)
}

pub(super) fn pull(arguments: &PullArguments, environment: &Environment) -> Result<Exit, Failure> {
    promote(&arguments.into, Way::Pull, environment)
}

fn promote(
    arguments: &IntoArguments,
    way: Way,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let promotion = Promotion {
        app: arguments.app.clone(),
        into: arguments.into.clone(),
        name: arguments.name.clone(),
        workspace: arguments.workspace.clone(),
        version: arguments.instance_version.clone(),
        way,
    };
    let (secrets, context) = (&environment.secrets, &environment.context);
    let prepared = prepare(environment.config()?, secrets, &promotion, context)?;
    if let Readability::Unknown { reason } = &prepared.planned.readable {
        let instance = &prepared.planned.instance;
        context.events.warn(format!("Whether {instance} can read it is not known: {reason}."));
    }
    if arguments.dry_run {
        return environment.show(&prepared.planned, || text(&prepared.planned, way));
    }
    if !arguments.yes {
        ask(&prepared.planned, way, environment)?;
    }
    let done = prepared.go(secrets, context)?;
    environment.show(&done, || text(&done, way))
}

/// Go on only when a person wants what the plan says.
fn ask(planned: &Promoted, way: Way, environment: &Environment) -> Result<(), Failure> {
    environment.pause_progress();
    if !prompt::is_possible() {
        return Err(Failure::usage(
            format!("this changes {}, and there is no terminal to ask", planned.instance),
            "look at --dry-run, and give --yes",
        ));
    }
    if prompt::confirm(&format!("{}\n", text(planned, way)), &environment.context.cancel)? {
        return Ok(());
    }
    Err(Failure::usage("nothing was done", "only a whole `yes` goes on"))
}

fn text(promoted: &Promoted, way: Way) -> String {
    let Promoted { git, instance, app, branch, calls, is_done, snapshot, .. } = promoted;
    let from = format!("{app} ({git}, branch {branch})");
    if *is_done {
        return match (way, snapshot) {
            (Way::Pull, Some(id)) => format!(
                "{instance} has pulled {from}. To undo it: belay restore {} --into {instance}",
                id.short()
            ),
            _ => format!(
                "{instance} has imported {from}. What Git does not hold: belay apps show {git}"
            ),
        };
    }
    let what = match way {
        Way::Pull => format!("{instance} would pull {from}, after a snapshot of {instance}."),
        Way::Import { .. } => format!("{instance} would import {from}."),
    };
    let mut lines = vec![what];
    lines.extend(calls.iter().map(|call| {
        format!("  {} {call}", if call.changes { "would be sent:" } else { "was sent:     " })
    }));
    lines.join("\n")
}
