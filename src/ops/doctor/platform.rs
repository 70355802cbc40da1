//! What could keep a platform's instance from being backed up or restored: reach, programs, permissions, keys, clock.

use super::{CLOCK_TOLERANCE, Findings, Verdict};
use crate::component::postgres::Connection;
use crate::config::{Config, Instance, SecretSources};
use crate::ops::instance::{AllDatabases, Living};
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::tooljet::MasterKey;
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
    if let Err(error) = look_at_postgres(&living, secrets, &subject, findings) {
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
    if databases.names.is_empty() {
        let AllDatabases { warning, note, .. } = AllDatabases::of(server);
        if let Some(message) = warning {
            let hint = "open them (ALTER DATABASE … ALLOW_CONNECTIONS true), drop them, or name the others: component.postgres = { databases = [\"…\"] }";
            findings.add(Verdict::Warning, subject, message, Some(hint));
        }
        if let Some(note) = note {
            findings.ok(subject, note);
        }
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
