//! Putting databases back beside what is there, and swapping them in.
//!
//! The steps, in their order: [`look`], [`Restore::create`], [`Restore::fill`], [`Restore::verify`], [`Restore::settle`],
//! [`Restore::swap`], [`Restore::clear_old`]. Whoever calls them writes down the plan before the first
//! and each step before it begins; [`Restore::state`] tells from the server itself on which side of the swap it is. What
//! always holds: until the swap's one transaction is committed the old databases and roles are as they were, but for new
//! roles, and serve. Each step may be run again after a crash.

mod acl;
mod create;
mod fill;
mod globals;
mod obstacles;
mod password;
mod plan;
mod probes;
mod rights;
mod roles;
mod shares;
mod swap;
mod verify;
mod written;

pub use fill::StoredArchive;
pub use plan::{Obstacle, OldDatabase, PlannedDatabase, RestorePlan, is_of_restore, look};
pub use rights::has_rights_of;
pub use roles::{ChangedRole, RoleWork, RolesBefore};
pub use swap::State;
pub use verify::Expected;
pub use written::Written;

use super::archive::{ArchiveSummary, Block};
use super::{Connection, DatabaseFacts, PostgresError, Session};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// What an archive needs of the server that it is put into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFacts {
    /// The version of the format.
    pub archive_version: (u8, u8),
    /// That of the server that was dumped.
    pub server_version: String,
    /// That of the `pg_dump` that wrote it.
    pub pg_dump_version: String,
    /// Roles that own what is in it.
    pub owners: BTreeSet<String>,
    /// Extensions.
    pub extensions: BTreeSet<String>,
    /// Its blocks of data, in their order; they end it. None where a snapshot does not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
}

impl ArchiveFacts {
    /// Of an archive that was read to its end.
    pub fn of(summary: &ArchiveSummary) -> Self {
        let entries = || summary.entries.iter();
        let owners = entries().filter(|entry| !entry.owner.is_empty());
        let extensions = entries().filter(|entry| &*entry.kind == "EXTENSION");
        Self {
            archive_version: summary.archive_version,
            server_version: summary.server_version.clone(),
            pg_dump_version: summary.pg_dump_version.clone(),
            owners: owners.map(|entry| entry.owner.to_string()).collect(),
            extensions: extensions.map(|entry| entry.name.to_string()).collect(),
            blocks: summary.blocks.clone(),
        }
    }
}

/// What a snapshot has, for [`look`].
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The databases.
    pub databases: &'a [DatabaseFacts],
    /// Their archives.
    pub archives: &'a [ArchiveFacts],
    /// What `pg_dumpall --globals-only` wrote.
    pub globals: &'a str,
    /// Roles whose password is known, which counts more than the globals' hash.
    pub passwords: &'a [(String, Zeroizing<String>)],
    /// Roles that stay as they are where they exist: those with which the instance connects.
    pub kept_roles: &'a [String],
}

/// A restore that is under way on a server.
pub struct Restore<'a> {
    connection: &'a Connection,
    /// The database to which the steps connect that concern the whole server.
    maintenance: &'a str,
    plan: &'a RestorePlan,
}

impl<'a> Restore<'a> {
    /// Go by a plan. `maintenance` is a database that is not itself put back.
    pub fn new(
        connection: &'a Connection,
        maintenance: &'a str,
        plan: &'a RestorePlan,
    ) -> Result<Self, PostgresError> {
        if plan.obstacles.is_empty() {
            Ok(Self { connection, maintenance, plan })
        } else {
            Err(PostgresError::InTheWay { obstacles: plan.obstacles.clone() })
        }
    }

    fn server(&self) -> Result<Session, PostgresError> {
        Session::open(self.connection, self.maintenance)
    }
}
