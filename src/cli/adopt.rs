//! `belay adopt`.

use super::arguments::AdoptArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::render::counted;
use crate::ops::adopt::{Adoption, adopt};
use crate::ops::session::Session;

pub(super) fn run(arguments: &AdoptArguments, environment: &Environment) -> Result<Exit, Failure> {
    let config = environment.config()?;
    let instance = config.instance(&arguments.name)?;
    let session = Session::open(config, config.repository_of(instance)?, &environment.secrets)?;
    let adoption = match (arguments.new, arguments.id) {
        (true, _) => Adoption::New,
        (false, Some(id)) => Adoption::Id(id),
        (false, None) => Adoption::Only,
    };
    let adopted = adopt(&session, instance, adoption, &environment.context)?;
    environment.show(&adopted, || {
        format!(
            "On this host '{}' stands for {}, which has {} so far.",
            adopted.instance,
            adopted.id,
            counted(adopted.snapshots as u64, "snapshot", "snapshots")
        )
    })
}
