//! `belay init`.

use super::exit::{Exit, Failure};
use super::open::Environment;
use crate::ops::init::init;

pub(super) fn run(environment: &Environment) -> Result<Exit, Failure> {
    let repository = environment.repository()?;
    let made = init(environment.config()?, repository, &environment.secrets, &environment.context)?;
    let is_only = environment.config()?.repositories.len() == 1;
    let named = if is_only { String::new() } else { format!(" --repository {}", repository.name) };
    environment.show(&made, || {
        format!(
            "Created the repository {} ({}).\n\n\
             Recovery key:  {}\n\n\
             It is a second password of the repository. Keep it somewhere else than on this host: without the password\n\
             and without this key nobody, you included, can read the backups. It is not shown again.\n\
             Prove that you wrote it down right:  belay key test{named}",
            made.repository,
            made.id.short(),
            made.recovery_key
        )
    })
}
