//! `belay list`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use super::render::{local_time, table};
use crate::model::manifest::KeyFit;
use crate::model::size::Bytes;
use crate::ops::session::Session;
use crate::ops::sync::{ListedSnapshot, list};

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let snapshots = match environment.bare()? {
        Some((location, password)) => {
            list(&Session::open_bare(&location, &password)?, &environment.context)?
        }
        None if environment.global.repository.is_some() => {
            list(&environment.session()?, &environment.context)?
        }
        None => {
            let config = environment.config()?;
            let mut all = Vec::new();
            for repository in config.repositories.values() {
                all.extend(list(
                    &Session::open(config, repository, &environment.secrets)?,
                    &environment.context,
                )?);
            }
            all.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.details.time, snapshot.id)));
            all
        }
    };
    environment.show(&snapshots, || {
        if snapshots.is_empty() {
            return "No snapshots yet. `belay backup --all` takes the first.".into();
        }
        let rows = snapshots.iter().map(row).collect();
        table(&["ID", "INSTANCE", "PLATFORM", "TIME", "SIZE", "ADDED", "STATE"], &[4, 5], rows)
    })
}

fn row(ListedSnapshot { id, instance, details }: &ListedSnapshot) -> Vec<String> {
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
