//! `belay catalog`.

use super::arguments::{CatalogArguments, CatalogCommand};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::render::counted;
use crate::ops::rebuild::{Rebuilt, rebuild, rebuild_bare};
use crate::ops::session::Session;

pub(super) fn run(
    arguments: &CatalogArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let CatalogCommand::Rebuild { state_dir } = &arguments.command;
    let context = &environment.context;
    let rebuilt = match environment.bare()? {
        Some((location, password)) => {
            rebuild_bare(Session::open_bare(&location, &password)?, &location, state_dir, context)?
        }
        None => rebuild(environment.config()?, &environment.secrets, context)?,
    };
    for lost in &rebuilt.lost {
        context.events.warn(format!("The old catalog could not be read wholly: {lost}."));
    }
    environment.show(&rebuilt, || text(&rebuilt))
}

fn text(rebuilt: &Rebuilt) -> String {
    let text = format!(
        "The catalog {} was made again: {}, {}, {} of this host, {} carried over.",
        rebuilt.catalog,
        counted(rebuilt.snapshots as u64, "snapshot", "snapshots"),
        counted(rebuilt.pins as u64, "pin", "pins"),
        counted(rebuilt.instances as u64, "instance", "instances"),
        counted(rebuilt.jobs as u64, "job", "jobs")
    );
    match &rebuilt.kept {
        Some(kept) => format!("{text}\nThe old one is kept as {kept}."),
        None => text,
    }
}
