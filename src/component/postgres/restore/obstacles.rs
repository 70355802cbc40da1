//! What a server is like as far as it may be in the way of a restore.

use super::plan::Obstacle;
use super::{ArchiveFacts, Wanted};
use crate::component::postgres::session::{Session, identifier, literal};
use crate::component::postgres::{Connection, PostgresError, ServerFacts};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Connections that a restore needs at one time.
const NEEDED_CONNECTIONS: i64 = 2;

/// The limit of a database that was dropped halfway.
const INVALID: i64 = -2;

/// What was found.
#[derive(Deserialize)]
pub(super) struct Found {
    pub(super) roles: Vec<FoundRole>,
    databases: Vec<FoundDatabase>,
    extensions: BTreeSet<String>,
    untrusted: BTreeSet<String>,
    pub(super) tablespaces: BTreeSet<String>,
    may_create_databases: bool,
    may_create_roles: bool,
    connection_limit: i64,
    connections: i64,
}

#[derive(Deserialize)]
pub(super) struct FoundRole {
    pub(super) name: String,
    /// Whether we may act as it.
    is_ours: bool,
    /// Whether we may hand out membership in it.
    is_managed: bool,
    is_superuser: bool,
}

#[derive(Deserialize)]
pub(super) struct FoundDatabase {
    name: String,
    pub(super) oid: u64,
    pub(super) allows_connections: bool,
    pub(super) tablespace: String,
    owner: String,
    is_ours: bool,
    is_template: bool,
    connection_limit: i64,
    prepared: Vec<String>,
    /// Logical replication slots that somebody reads from.
    active_slots: Vec<String>,
    idle_slots: Vec<String>,
    subscriptions: Vec<String>,
    sessions: u64,
}

/// `SET` of PostgreSQL 16 and `MEMBER` before: whether objects may be given to a role.
const LOOK: &str = "SELECT
    (SELECT json_agg(json_build_object('name', r.rolname,
        'is_ours', pg_has_role(r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END),
        'is_superuser', r.rolsuper, 'is_managed', pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'))) FROM pg_roles r) AS roles,
    (SELECT json_agg(json_build_object('name', d.datname, 'oid', d.oid::int8, 'owner', pg_get_userbyid(d.datdba),
        'allows_connections', d.datallowconn, 'tablespace', t.spcname, 'is_ours', pg_has_role(d.datdba, 'MEMBER'),
        'is_template', d.datistemplate, 'connection_limit', d.datconnlimit,
        'prepared', ARRAY(SELECT p.gid FROM pg_prepared_xacts p WHERE p.database = d.datname),
        'active_slots', ARRAY(SELECT s.slot_name FROM pg_replication_slots s WHERE s.database = d.datname AND s.active),
        'idle_slots', ARRAY(SELECT s.slot_name FROM pg_replication_slots s WHERE s.database = d.datname AND NOT s.active),
        'subscriptions', ARRAY(SELECT s.subname FROM pg_subscription s WHERE s.subdbid = d.oid),
        'sessions', (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid AND coalesce(a.backend_type, 'client backend') = 'client backend')))
        FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace) AS databases,
    ARRAY(SELECT name FROM pg_available_extensions) AS extensions,
    ARRAY(SELECT DISTINCT name FROM pg_available_extension_versions WHERE superuser AND NOT trusted) AS untrusted,
    ARRAY(SELECT spcname FROM pg_tablespace) AS tablespaces,
    m.rolcreatedb AS may_create_databases, m.rolcreaterole AS may_create_roles, m.rolconnlimit AS connection_limit,
    (SELECT count(*) FROM pg_stat_activity a WHERE a.usename = session_user AND a.backend_type = 'client backend'
        AND a.pid <> pg_backend_pid()) AS connections
    FROM pg_roles m WHERE m.rolname = current_user";

pub(super) fn obstacle(what: String, hint: impl Into<String>) -> Obstacle {
    Obstacle { what, hint: hint.into() }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

impl Found {
    pub(super) fn read(session: &mut Session) -> Result<Self, PostgresError> {
        session.row(LOOK)
    }

    /// Whether there is room for our own connections, without which nothing more can be asked.
    pub(super) fn check_connections(&self, server: &ServerFacts) -> Result<(), PostgresError> {
        // A superuser's limit is not enforced.
        let is_limited = !server.is_superuser && self.connection_limit >= 0;
        if !is_limited || self.connection_limit - self.connections >= NEEDED_CONNECTIONS {
            return Ok(());
        }
        let ServerFacts { user, .. } = server;
        let (limit, others) = (self.connection_limit, self.connections);
        let obstacle = obstacle(
            format!("the role {user} may have {limit} connections, and has {others} others"),
            format!("ALTER ROLE {} CONNECTION LIMIT -1, or end some of them", identifier(user)),
        );
        Err(PostgresError::InTheWay { obstacles: vec![obstacle] })
    }

    pub(super) fn database(&self, name: &str) -> Option<&FoundDatabase> {
        self.databases.iter().find(|database| database.name == name)
    }

    fn role(&self, name: &str) -> Option<&FoundRole> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// Of the owners, those that one who is no superuser has to become a member of; the server's own cannot be joined.
    pub(super) fn to_be_joined(&self, owners: &BTreeSet<String>, new: &[String]) -> Vec<String> {
        let is_strange = |name: &&String| {
            !name.starts_with("pg_")
                && self.role(name).map_or(new.contains(name), |role| !role.is_ours)
        };
        owners.iter().filter(is_strange).cloned().collect()
    }

    /// What one who is no superuser may not do.
    pub(super) fn missing_privileges(
        &self,
        joins: &[String],
        makes_roles: bool,
        changes: &[&str],
        major: u32,
    ) -> Vec<Obstacle> {
        let mut found = Vec::new();
        if !self.may_create_databases {
            found.push(obstacle(
                "the user that connects may not create databases".into(),
                "as an administrator of the server: ALTER ROLE … CREATEDB; or connect as another user",
            ));
        }
        if !self.may_create_roles && (makes_roles || !changes.is_empty()) {
            found.push(obstacle(
                "the user that connects may not create or change roles".into(),
                "as an administrator of the server: ALTER ROLE … CREATEROLE; or make the missing roles by hand first",
            ));
        }
        // Until 15, CREATEROLE was enough for all roles but superusers.
        let is_enough = |role: &FoundRole| {
            role.is_managed || (major < 16 && self.may_create_roles && !role.is_superuser)
        };
        let may_manage = |name: &str| self.role(name).is_none_or(is_enough);
        let others = joins.iter().map(String::as_str).chain(changes.iter().copied());
        let closed: BTreeSet<&str> = others.filter(|name| !may_manage(name)).collect();
        for role in closed {
            let hint = if self.role(role).is_some_and(|role| role.is_superuser) {
                "connect as a superuser: what is a superuser's only superusers can make".to_owned()
            } else {
                format!(
                    "as an administrator of the server: GRANT {} TO … WITH ADMIN OPTION",
                    identifier(role)
                )
            };
            let what = format!("the user that connects has no say over the role {role}");
            found.push(obstacle(what, hint));
        }
        found
    }

    pub(super) fn obstacles(
        &self,
        connection: &Connection,
        maintenance: &str,
        wanted: &Wanted<'_>,
    ) -> Vec<Obstacle> {
        let server = &connection.server;
        let mut found = Vec::new();
        if server.is_standby {
            found.push(obstacle(
                "the server only follows another one".into(),
                "restore into the primary server",
            ));
        }
        for archive in wanted.archives {
            found.extend(of_versions(archive, connection));
        }
        let needed: BTreeSet<&String> =
            wanted.archives.iter().flat_map(|archive| &archive.extensions).collect();
        for extension in needed {
            if !self.extensions.contains(extension) {
                found.push(obstacle(
                    format!("the server does not have the extension {extension}"),
                    "install its package on the server",
                ));
            }
        }
        for facts in wanted.databases {
            if facts.name == maintenance {
                found.push(obstacle(
                    format!("the database {} is to be swapped, and is the one that the restore connects to", facts.name),
                    "connect to another one, such as template1",
                ));
            }
            if let Some(old) = self.database(&facts.name) {
                found.extend(old.obstacles(server.is_superuser));
            }
        }
        found
    }

    pub(super) fn notes(&self, wanted: &Wanted<'_>) -> Vec<String> {
        let mut notes = Vec::new();
        for old in wanted.databases.iter().filter_map(|facts| self.database(&facts.name)) {
            if old.sessions > 0 {
                notes.push(format!(
                    "{} connections to the database {} will be closed",
                    old.sessions, old.name
                ));
            }
            if !old.idle_slots.is_empty() {
                notes.push(format!(
                    "the replication slots {} belong to the old database {}, and go with it",
                    quoted(&old.idle_slots),
                    old.name
                ));
            }
        }
        let extensions = wanted.archives.iter().flat_map(|archive| &archive.extensions);
        let restricted: BTreeSet<&String> =
            extensions.filter(|name| self.untrusted.contains(*name)).collect();
        for extension in restricted {
            notes.push(format!("the extension {extension} is usually for superusers to install"));
        }
        notes
    }
}

impl FoundDatabase {
    fn obstacles(&self, is_superuser: bool) -> Vec<Obstacle> {
        let name = &self.name;
        let mut found = Vec::new();
        if !self.prepared.is_empty() {
            let first = literal(&self.prepared[0]);
            found.push(obstacle(
                format!("the database {name} has prepared transactions: {}", quoted(&self.prepared)),
                format!("end each in that database: COMMIT PREPARED {first} or ROLLBACK PREPARED {first}"),
            ));
        }
        if !self.active_slots.is_empty() {
            found.push(obstacle(
                format!(
                    "changes of the database {name} are followed through the replication slots {}",
                    quoted(&self.active_slots)
                ),
                "stop what reads from them, and drop them: pg_drop_replication_slot",
            ));
        }
        if !self.subscriptions.is_empty() {
            found.push(obstacle(
                format!(
                    "the database {name} subscribes to others: {}",
                    quoted(&self.subscriptions)
                ),
                "drop the subscriptions in it; they come back with the restored one, disabled",
            ));
        }
        if self.is_template {
            found.push(obstacle(
                format!("the database {name} is a template"),
                format!("ALTER DATABASE {} IS_TEMPLATE false", identifier(name)),
            ));
        }
        if self.connection_limit == INVALID {
            found.push(obstacle(
                format!("the database {name} is what a DROP DATABASE that broke off has left"),
                format!("DROP DATABASE {}", identifier(name)),
            ));
        }
        if !is_superuser && !self.is_ours {
            found.push(obstacle(
                format!("the database {name} belongs to {}, and the user that connects is not a member of that role", self.owner),
                "connect as its owner, or as a member of that role",
            ));
        }
        found
    }
}

/// The newest archive that `pg_restore` of a version reads.
fn newest_archive(major: u32) -> (u8, u8) {
    match major {
        ..16 => (1, 14),
        16 => (1, 15),
        _ => (1, 16),
    }
}

fn of_versions(archive: &ArchiveFacts, connection: &Connection) -> Vec<Obstacle> {
    let (server, tools) = (&connection.server, &connection.tools);
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let major: u32 = digits(&archive.server_version).parse().unwrap_or(0);
    let mut found = Vec::new();
    if major > server.major() {
        found.push(obstacle(
            format!(
                "the snapshot is of PostgreSQL {}, and the server is the older {}",
                archive.server_version, server.version
            ),
            format!("restore into a server of version {major} or later"),
        ));
    }
    if archive.archive_version > newest_archive(tools.major) {
        let needed = if archive.archive_version.1 > 15 { 17 } else { 16 };
        found.push(obstacle(
            format!(
                "pg_restore {} does not read what pg_dump {} wrote",
                tools.version, archive.pg_dump_version
            ),
            format!("install postgresql-client-{needed} or later there"),
        ));
    }
    found
}

pub(super) fn of_roles(unknown: &[String]) -> Vec<Obstacle> {
    let what = |role: &String| {
        obstacle(
            format!(
                "the databases refer to the role {role}, which neither the snapshot nor the server has"
            ),
            format!("make it first: CREATE ROLE {}", identifier(role)),
        )
    };
    unknown.iter().map(what).collect()
}
