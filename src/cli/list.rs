//! `belay list`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output;
use super::render::{fitting_table, local_time};
use crate::model::manifest::KeyFit;
use crate::model::size::Bytes;
use crate::ops::session::Session;
use crate::ops::sync::{ListedSnapshot, list};
use crate::ops::what_to_do;

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let (snapshots, is_all) = if environment.global.repository.is_some() {
        (list(&mut environment.session_anywhere()?, &environment.context)?, true)
    } else {
        all(environment)?
    };
    let has_several =
        environment.global.repository.is_none() && environment.config()?.repositories.len() > 1;
    environment.show(&snapshots, || {
        if snapshots.is_empty() {
            return if is_all {
                "No snapshots yet. `belay backup --all` takes the first.".into()
            } else {
                "No snapshots in the repositories that could be read.".into()
            };
        }
        let mut header = vec!["ID", "INSTANCE", "PLATFORM", "TIME", "SIZE", "ADDED", "STATE"];
        let mut rows: Vec<Vec<String>> = snapshots.iter().map(row).collect();
        if has_several {
            header.insert(2, "REPOSITORY");
            for (row, ListedSnapshot { repository, .. }) in rows.iter_mut().zip(&snapshots) {
                row.insert(2, repository.as_ref().map(ToString::to_string).unwrap_or_default());
            }
        }
        let (right, expendable) = (["SIZE", "ADDED"], ["PLATFORM", "ADDED", "SIZE"]);
        fitting_table(&header, &right, rows, &expendable, output::width())
    })
}

/// Those of all repositories, and whether each was read. One that cannot be read is told, and hides nothing of the others.
fn all(environment: &Environment) -> Result<(Vec<ListedSnapshot>, bool), Failure> {
    let Environment { secrets, context, .. } = environment;
    let config = environment.config()?;
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    for repository in config.repositories.values() {
        let listed = Session::open_for_reading(config, repository, secrets, context)
            .and_then(|mut session| list(&mut session, context));
        match listed {
            Ok(listed) => all.extend(listed),
            Err(error) if error.is_cancelled() => return Err(error.into()),
            Err(error) => failed.push((&repository.name, Failure::from(error))),
        }
    }
    let first = failed.len() == config.repositories.len() && !failed.is_empty();
    let is_all = failed.is_empty();
    let first = first.then(|| failed.remove(0).1);
    for (name, Failure { message, hint, .. }) in failed {
        let hint = what_to_do(hint.as_deref());
        context.events.warn(format!("Repository {name} cannot be listed: {message}.{hint}"));
    }
    if let Some(failure) = first {
        return Err(failure);
    }
    all.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.details.time, snapshot.id)));
    Ok((all, is_all))
}

fn row(ListedSnapshot { id, instance, details, .. }: &ListedSnapshot) -> Vec<String> {
    let mut state = Vec::new();
    if !details.sealed {
        state.push("not by belay".to_owned());
    }
    if details.key_fit == Some(KeyFit::Unfit) {
        state.push("keys unfit".to_owned());
    }
    if details.pinned {
        state.push(format!("pinned: {}", details.pins.join("; ")));
    }
    vec![
        id.short(),
        instance.clone(),
        details.platform.clone().unwrap_or_default(),
        local_time(details.time),
        if details.sealed { Bytes(details.size_bytes).to_string() } else { String::new() },
        if details.sealed { Bytes(details.added_bytes).to_string() } else { String::new() },
        state.join(", "),
    ]
}
