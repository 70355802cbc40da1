//! What could keep a platform's instance from being backed up or restored: reach, programs, permissions, keys, room, clock,
//! and a repository on the server's own disk.

use super::{CLOCK_TOLERANCE, Findings, Verdict, device};
use crate::component::postgres::{
    Connection, PostgresError, ServerDisk, Session, literal, size_of,
};
use crate::config::{self, Config, Instance, Location, SecretSources};
use crate::model::size::Bytes;
use crate::ops::instance::{AllDatabases, Living};
use crate::ops::{Context, OpsError};
use crate::platform::keyfit::tooljet::{self, MasterKey};
use crate::platform::recipe::{ComponentKind, KeyFitRecipe};
use jiff::Timestamp;
use serde::Deserialize;
use std::collections::HashSet;

/// Look at an instance.
pub(super) fn look_at(
    config: &Config,
    instance: &Instance,
    repository: &config::Repository,
    (secrets, context): (&SecretSources, &Context),
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
    let server = Server { living: &living, subject: &subject };
    if living.recipe.has(ComponentKind::Postgres)
        && let Err(error) = server.look(secrets, repository, findings)
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
    let Some(KeyFitRecipe::Tooljet { key, .. }) = &living.recipe.key_fit else { return };
    match living.variable(key).map(MasterKey::parse) {
        Some(Ok(_)) => {
            findings.ok(subject, format!("{key} is a key; each backup proves that it fits"));
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
    if let Some((tools, _, database)) = place.dumped_by()? {
        let version = tools.dump_version().map_err(failed)?;
        findings.ok(subject, format!("mongodump {version}, for the database {database}"));
        let hint = "leave out way = \"mongodump\" where the server can be reached over the wire";
        let message =
            "its snapshots are not of one moment: mongodump reads one collection after the other";
        findings.add(Verdict::Warning, subject, message, Some(hint));
        if let Err(error) = tools.restore_version() {
            let message = format!("mongorestore, which a restore in place needs: {error}");
            findings.add(Verdict::Warning, subject, message, error.hint().as_deref());
        }
        return Ok(());
    }
    let server = place.open(context)?;
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

/// The server that an instance's databases are on.
struct Server<'a> {
    living: &'a Living<'a>,
    subject: &'a str,
}

impl Server<'_> {
    fn look(
        &self,
        secrets: &SecretSources,
        repository: &config::Repository,
        findings: &mut Findings,
    ) -> Result<(), OpsError> {
        let instance = self.living.instance.name.to_string();
        let databases = self.living.databases(secrets)?;
        let first = databases.names.first().map_or("postgres", String::as_str);
        let (access, target) = (databases.access.clone(), databases.target.clone());
        let failed = |source| OpsError::Postgres { instance: instance.clone(), source };
        let connection = Connection::open(access, target, first, "belay doctor").map_err(failed)?;
        self.tell_of_permissions(&connection, findings);
        let known = &connection.server().databases;
        let wanted = if databases.names.is_empty() { known } else { &databases.names };
        for name in wanted.iter().filter(|name| !known.contains(name)) {
            let hint = "is the name right, and is it the right server?";
            let message = format!("there is no database {name}");
            findings.add(Verdict::Failure, self.subject, message, Some(hint));
        }
        if databases.names.is_empty() {
            self.tell_of_others(&connection, findings);
        }
        let there: Vec<&String> = wanted.iter().filter(|name| known.contains(name)).collect();
        let mut look = || {
            let mut session = Session::open(&connection, first)?;
            self.look_at_room(&connection, &mut session, &there, repository, findings)?;
            self.look_at_clock(&mut session, findings)?;
            session.close()?;
            self.look_at_ciphertext(&connection, &there, findings)
        };
        look().map_err(failed)
    }

    /// Databases that a backup of all of them leaves out.
    fn tell_of_others(&self, connection: &Connection, findings: &mut Findings) {
        let AllDatabases { warning, note, .. } = AllDatabases::of(connection.server());
        if let Some(message) = warning {
            let hint = "open them (ALTER DATABASE … ALLOW_CONNECTIONS true), drop them, or name the others: component.postgres = { databases = [\"…\"] }";
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        }
        if let Some(note) = note {
            findings.ok(self.subject, note);
        }
    }

    fn tell_of_permissions(&self, connection: &Connection, findings: &mut Findings) {
        let (server, tools) = (connection.server(), connection.tools());
        let message = format!("{}, read by pg_dump {}", connection.told(), tools.version);
        findings.ok(self.subject, message);
        if !server.is_superuser {
            let hint = "connect as one, with component.postgres = { user = \"…\", password = \"…\" }, so that all can be read and restored";
            let message = format!("{} is no superuser", server.user);
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        }
        if !server.reads_passwords {
            let hint = "roles come back without passwords, which have to be set by hand; those of ToolJet's workspaces come from ToolJet's own tables";
            let message = format!("{} may not read the passwords of roles", server.user);
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        }
    }

    /// A restore makes the databases anew beside the present ones.
    fn look_at_room(
        &self,
        connection: &Connection,
        session: &mut Session,
        databases: &[&String],
        repository: &config::Repository,
        findings: &mut Findings,
    ) -> Result<(), PostgresError> {
        let bytes = size_of(session, databases)?;
        let size = Bytes(bytes);
        let Some(ServerDisk { directory, free_bytes, device: disk }) = connection.disk(session)?
        else {
            let message = format!(
                "its databases take {size} on the server; how much is free there cannot be seen from {}",
                connection.access().via()
            );
            let hint = format!(
                "see to it that the server has {size} more: a restore makes the databases anew beside the present ones"
            );
            findings.add(Verdict::Ok, self.subject, message, Some(&hint));
            return Ok(());
        };
        let message =
            format!("its databases take {size}, and {directory} has {} free", Bytes(free_bytes));
        if free_bytes < bytes {
            let hint =
                "make room there: a restore makes the databases anew beside the present ones";
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        } else {
            findings.ok(self.subject, message);
        }
        let Location::Local(place) = &repository.location;
        if disk.is_some() && disk == device(place) {
            let message = format!("the repository is on the same file system as {directory}");
            let hint =
                "keep it on another disk, better on another host: one failure would take both";
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        }
        Ok(())
    }

    fn look_at_clock(
        &self,
        session: &mut Session,
        findings: &mut Findings,
    ) -> Result<(), PostgresError> {
        #[derive(Deserialize)]
        struct Clock {
            seconds: f64,
        }
        let query = "SELECT extract(epoch FROM clock_timestamp())::float8 AS seconds";
        let Clock { seconds } = session.row(query)?;
        let apart = (seconds - Timestamp::now().as_duration().as_secs_f64()).abs();
        if apart > CLOCK_TOLERANCE.as_secs_f64() {
            let message = format!("the server's clock is {apart:.0} s apart from this host's");
            findings.add(Verdict::Warning, self.subject, message, Some("set both clocks right"));
        } else {
            findings.ok(self.subject, "the server's clock agrees with this host's");
        }
        Ok(())
    }

    /// Whether a backup will find what is encrypted, to prove that the keys fit.
    fn look_at_ciphertext(
        &self,
        connection: &Connection,
        databases: &[&String],
        findings: &mut Findings,
    ) -> Result<(), PostgresError> {
        #[derive(Deserialize)]
        struct Table {
            name: String,
        }
        let Some(KeyFitRecipe::Tooljet { database: variable, .. }) = &self.living.recipe.key_fit
        else {
            return Ok(());
        };
        let name = self.living.database_name(variable);
        let Some(database) = databases.iter().find(|database| name.as_ref() == Some(*database))
        else {
            let message = match name {
                Some(name) => format!(
                    "what is encrypted is in the database {name} ({variable}), which backups leave out: that the keys fit is not proved"
                ),
                None => format!(
                    "{variable}, which names the database with what is encrypted, is not set: that the keys fit is not proved"
                ),
            };
            let hint = "name that database, too: component.postgres = { databases = [\"…\"] }";
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
            return Ok(());
        };
        let mut session = Session::open(connection, database)?;
        let there: Vec<Table> = session.query(&format!(
            "SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind = 'r' AND n.nspname = {}",
            literal(tooljet::SCHEMA)
        ))?;
        session.close()?;
        let there: HashSet<&str> = there.iter().map(|table| table.name.as_str()).collect();
        let tables = tooljet::FIELDS.iter().map(|field| field.table);
        // A version of the platform may lack some.
        if !tables.clone().any(|table| there.contains(table)) {
            let tables: Vec<&str> = tables.collect();
            let message = format!(
                "the database {database} ({variable}) has none of the tables with what is encrypted ({}): that the keys fit is not proved",
                tables.join(", ")
            );
            let hint = "is the name right, and has the platform been set up?";
            findings.add(Verdict::Warning, self.subject, message, Some(hint));
        }
        Ok(())
    }
}
