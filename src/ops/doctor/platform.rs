//! What could keep a platform's instance from being backed up or restored: reach, programs, permissions, keys, clock.

use super::{CLOCK_TOLERANCE, Findings, Verdict};
use crate::component::mongodb::wire::Server;
use crate::component::postgres::Connection;
use crate::config::{Config, Instance, SecretSources};
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::tooljet::MasterKey;
use crate::platform::recipe::ComponentKind;
use jiff::Timestamp;

/// Look at an instance.
pub(super) fn look_at(
    config: &Config,
    instance: &Instance,
    secrets: &SecretSources,
    context: &Context,
    findings: &mut Findings,
) {
    let subject = format!("instance {}", instance.name);
    let living = match Living::look(config, instance, context) {
        Ok(living) => living,
        Err(error) => return findings.error(&subject, &error),
    };
    findings.ok(&subject, format!("can be reached via {}", instance.via));
    look_at_keys(&living, &subject, findings);
    if living.recipe.has(ComponentKind::Mongodb)
        && let Err(error) = look_at_mongodb(&living, secrets, &subject, context, findings)
    {
        findings.error(&subject, &error);
    }
    if living.recipe.has(ComponentKind::Postgres)
        && let Err(error) = look_at_postgres(&living, secrets, &subject, findings)
    {
        findings.error(&subject, &error);
    }
}

fn look_at_keys(living: &Living<'_>, subject: &str, findings: &mut Findings) {
    for name in &living.recipe.environment.required {
        if living.variable(name).is_none() {
            let hint =
                "set it to what the platform was set up with: without it a restore is worth little";
            let message = format!("{name} is not set in the environment");
            findings.add(Verdict::Failure, subject, message, Some(hint));
        }
    }
    let Some(recipe) = &living.recipe.key_fit else { return };
    match living.variable(&recipe.key).map(MasterKey::parse) {
        Some(Ok(_)) => {
            findings
                .ok(subject, format!("{} is a key; each backup proves that it fits", recipe.key));
        }
        Some(Err(problem)) => {
            findings.add(Verdict::Failure, subject, problem.to_string(), Some(problem.hint()));
        }
        // Told as one that is required.
        None => {}
    }
}

fn look_at_mongodb(
    living: &Living<'_>,
    secrets: &SecretSources,
    subject: &str,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), OpsError> {
    let failed = |source| OpsError::Mongodb { instance: living.instance.name.to_string(), source };
    let place = living.mongodb(secrets)?;
    let server = Server::open(&place.url, &context.cancel).map_err(failed)?;
    let database = place.name(&server)?;
    let collections = server.collections(&database).map_err(failed)?;
    findings
        .ok(subject, format!("{}, {} collections in {database}", server.told(), collections.len()));
    if let Err(reason) = server.one_moment {
        let hint = "start it as a replica set of one member, so that all collections are read at one moment";
        let message = format!("its snapshots are not of one moment: {reason}");
        findings.add(Verdict::Warning, subject, message, Some(hint));
    }
    Ok(())
}

fn look_at_postgres(
    living: &Living<'_>,
    secrets: &SecretSources,
    subject: &str,
    findings: &mut Findings,
) -> Result<(), OpsError> {
    let databases = living.databases(secrets)?;
    let first = databases.names.first().map_or("postgres", String::as_str);
    let (access, target) = (databases.access.clone(), databases.target.clone());
    let failed = |source| OpsError::Postgres { instance: living.instance.name.to_string(), source };
    let connection = Connection::open(access, target, first, "belay doctor").map_err(failed)?;
    let (server, tools) = (connection.server(), connection.tools());
    findings.ok(subject, format!("{}, read by pg_dump {}", connection.told(), tools.version));
    for name in databases.names.iter().filter(|name| !server.databases.contains(name)) {
        let hint = "is the name right, and is it the right server?";
        findings.add(Verdict::Failure, subject, format!("there is no database {name}"), Some(hint));
    }
    if !server.is_superuser {
        let hint = "connect as one, with component.postgres = { user = \"…\", password = \"…\" }, so that all can be read and restored";
        let message = format!("{} is no superuser", server.user);
        findings.add(Verdict::Warning, subject, message, Some(hint));
    }
    if !server.reads_passwords {
        let hint = "roles come back without passwords, which have to be set by hand; those of ToolJet's workspaces come from ToolJet's own tables";
        let message = format!("{} may not read the passwords of roles", server.user);
        findings.add(Verdict::Warning, subject, message, Some(hint));
    }
    let apart = (server.clock - Timestamp::now().as_duration().as_secs_f64()).abs();
    if apart > CLOCK_TOLERANCE.as_secs_f64() {
        let message = format!("the server's clock is {apart:.0} s apart from this host's");
        findings.add(Verdict::Warning, "clock", message, Some("set both clocks right"));
    }
    Ok(())
}
