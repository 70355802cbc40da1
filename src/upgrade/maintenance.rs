//! Keeping users out of production while it is upgraded, by commands of the user's own on production's host.

use super::ScriptError;
use super::script::ScriptRun;
use crate::access::Access;
use crate::config::pair::{Maintenance, Script};
use crate::config::{Config, Instance};
use crate::ops::Context;

/// Keep users out; done where they are kept out already.
pub fn begin(
    config: &Config,
    maintenance: &Maintenance,
    instance: &Instance,
    context: &Context,
) -> Result<(), ScriptError> {
    context.events.phase("keeping users out of", instance.name.to_string());
    run(config, maintenance, &maintenance.on, instance, context)
}

/// Let them in again; done where they are in.
pub fn end(
    config: &Config,
    maintenance: &Maintenance,
    instance: &Instance,
    context: &Context,
) -> Result<(), ScriptError> {
    context.events.phase("letting users in to", instance.name.to_string());
    run(config, maintenance, &maintenance.off, instance, context)
}

fn run(
    config: &Config,
    maintenance: &Maintenance,
    script: &Script,
    instance: &Instance,
    context: &Context,
) -> Result<(), ScriptError> {
    let access = Access::new(instance.via.host(), config.ssh_config.clone(), &context.cancel);
    let variables = [("BELAY_INSTANCE", instance.name.to_string())];
    let run = ScriptRun {
        access: &access,
        dir: "",
        script,
        variables: &variables,
        limit: maintenance.timeout,
        cancel: &context.cancel,
    };
    run.run(&mut |line| context.events.note(format!("{}: {line}", instance.name)))
}
