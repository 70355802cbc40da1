//! `belay discover`.

use super::arguments::DiscoverArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use crate::ops::discover::discover;

pub(super) fn run(
    DiscoverArguments { via, ssh_config }: &DiscoverArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let ssh_config = ssh_config.as_ref().map(std::path::absolute).transpose().map_err(|error| {
        Failure::internal(format!("could not examine the configuration of ssh: {error}"))
    })?;
    let found = discover(via, ssh_config.as_deref(), &environment.context)?;
    environment.show(&found, || found.config.trim_end().to_owned())
}
