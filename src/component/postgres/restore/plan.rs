//! The plan of a restore: what becomes of each database and role, and everything that is in the way, told together.

use super::globals::Globals;
use super::obstacles::{self, Found};
use super::roles::{ChangedRole, RoleWork, RolesBefore, Situation, decide};
use super::{ArchiveFacts, Wanted, acl, probes};
use crate::component::postgres::dump::globals_of;
use crate::component::postgres::session::{Session, identifier};
use crate::component::postgres::{Connection, DatabaseFacts, PostgresError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// Names of databases have at most 63 bytes; the rest is ours.
const MOST_OF_JOB: usize = 40;

/// What a restore is to do on one server. It holds no secrets: it may be shown, and has to be written down before the first step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// Each database.
    pub databases: Vec<PlannedDatabase>,
    /// Roles that are missing, and will be made before anything else.
    pub creates_roles: Vec<String>,
    /// Roles that will be changed with the swap.
    pub changes_roles: Vec<ChangedRole>,
    /// The snapshot's tablespaces are not all here: everything goes where its database is.
    pub without_tablespaces: bool,
    /// What has to be out of the way before anything is done.
    pub obstacles: Vec<Obstacle>,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// A database that comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedDatabase {
    /// What it was.
    pub facts: DatabaseFacts,
    /// Under which name it is filled.
    pub fresh: String,
    /// The one that now has its name; none where it is new.
    pub old: Option<OldDatabase>,
}

/// A database that is there, and is swapped out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldDatabase {
    /// The server's number for it, which no renaming changes.
    pub oid: u64,
    /// The name that it is given.
    pub aside: String,
    /// Whether it may be connected to.
    pub allows_connections: bool,
    /// Where it is.
    pub tablespace: String,
}

/// Something that is in the way of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// What it is.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

/// Look at a server, and plan. Nothing is changed. `maintenance` is a database that is not itself put back.
///
/// After a crash, with the same job, it gives the same names and the statements for roles anew.
pub fn look(
    connection: &Connection,
    maintenance: &str,
    wanted: &Wanted<'_>,
    job: &str,
) -> Result<(RestorePlan, RoleWork), PostgresError> {
    let mut session = Session::open(connection, maintenance)?;
    let found = Found::read(&mut session)?;
    found.check_connections(&connection.server)?;
    let current = globals_of(connection, maintenance)?;
    let current = Zeroizing::new(String::from_utf8_lossy(&current).into_owned());
    let (snapshots, current) = (Globals::parse(wanted.globals), Globals::parse(&current));
    let server = &connection.server;
    let mut kept: BTreeSet<&str> = wanted.kept_roles.iter().map(String::as_str).collect();
    kept.insert(&server.user);
    let decision = decide(&Situation {
        wanted: &snapshots,
        current: &current,
        existing: &found.roles.iter().map(|role| role.name.clone()).collect(),
        needed: needed_roles(wanted),
        passwords: wanted.passwords,
        kept,
        is_superuser: server.is_superuser,
        reads_passwords: server.reads_passwords,
    });
    let mut create = decision.create_sql;
    let mut notes = decision.notes;
    let mut obstacles = obstacles::of_roles(&decision.unknown);
    if !server.is_superuser {
        let owners = owners(wanted);
        let joins = found.to_be_joined(&owners, &decision.create);
        for role in &joins {
            let options = if server.major() >= 16 { " WITH INHERIT TRUE, SET TRUE" } else { "" };
            let (group, member) = (identifier(role), identifier(&server.user));
            // Writing to a string does not fail.
            let _ = writeln!(create, "GRANT {group} TO {member}{options};");
            notes.push(format!(
                "{} becomes a member of {role}, to make what that role owns",
                server.user
            ));
        }
        if wanted.archives.iter().any(|archive| archive.owners.len() > 1) {
            notes.push(
                "what belongs to another role than its schema can be put back by superusers only"
                    .into(),
            );
        }
        let makes_roles = !decision.create.is_empty();
        let changed: Vec<&str> = decision.change.iter().map(|role| role.name.as_str()).collect();
        obstacles.extend(found.missing_privileges(&joins, makes_roles, &changed, server.major()));
    }
    let databases = planned(wanted.databases, &found, job);
    let gone: Vec<&String> = snapshots.tablespaces.difference(&found.tablespaces).collect();
    if !gone.is_empty() {
        notes.push(format!("tablespaces of the snapshot are not on this server ({}): what is in them goes where its database is", names(&gone)));
    }
    obstacles.extend(found.obstacles(connection, maintenance, wanted));
    obstacles.extend(probes::of_locales(&mut session, wanted.databases)?);
    obstacles.extend(probes::of_room(connection, &mut session, wanted.databases)?);
    notes.extend(found.notes(wanted));
    session.close()?;
    let plan = RestorePlan {
        databases,
        creates_roles: decision.create,
        changes_roles: decision.change,
        without_tablespaces: !gone.is_empty(),
        obstacles,
        notes,
    };
    let before = RolesBefore { sql: decision.back_sql };
    Ok((plan, RoleWork { create, change: decision.change_sql, before }))
}

fn names(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}

fn planned(databases: &[DatabaseFacts], found: &Found, job: &str) -> Vec<PlannedDatabase> {
    let job: String = job
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || *character == '-')
        .take(MOST_OF_JOB)
        .collect();
    let plan = |(number, facts): (usize, &DatabaseFacts)| PlannedDatabase {
        facts: facts.clone(),
        fresh: format!("belay_new_{job}_{number}"),
        old: found.database(&facts.name).map(|old| OldDatabase {
            oid: old.oid,
            aside: format!("belay_old_{job}_{number}"),
            allows_connections: old.allows_connections,
            tablespace: old.tablespace.clone(),
        }),
    };
    databases.iter().enumerate().map(plan).collect()
}

/// Roles that own databases or what is in them.
fn owners(wanted: &Wanted<'_>) -> BTreeSet<String> {
    let of_archives = wanted.archives.iter().flat_map(|archive: &ArchiveFacts| &archive.owners);
    wanted.databases.iter().map(|facts| &facts.owner).chain(of_archives).cloned().collect()
}

/// Roles without which something cannot be put back.
fn needed_roles(wanted: &Wanted<'_>) -> BTreeSet<String> {
    let mut needed = owners(wanted);
    for facts in wanted.databases {
        needed.extend(facts.roles.iter().cloned());
        needed.extend(facts.acl.iter().flat_map(|acl| acl::roles(acl)));
        needed.extend(facts.settings.iter().filter_map(|setting| setting.role.clone()));
    }
    needed
}
