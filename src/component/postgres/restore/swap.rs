//! The swap: everybody out, the names exchanged in one transaction, and back again where that is wanted.

use super::create::drop_fresh;
use super::roles::{RoleWork, RolesBefore};
use super::{PlannedDatabase, Restore, acl};
use crate::component::postgres::PostgresError;
use crate::component::postgres::session::{Session, identifier, literal};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// How long connections may take to end once they were told to.
const LONGEST_ENDING: Duration = Duration::from_secs(20);
const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// How long the swap may wait for somebody else who works on the same databases or roles.
const LONGEST_WAIT: &str = "30s";

/// On which side of the swap a server is, as its own list of databases says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "side")]
pub enum State {
    /// The swap was not made: the old databases have their names.
    Old {
        /// How many of the fresh ones are there, in whatever state.
        fresh: usize,
        /// Whether one of the old ones is closed that was open.
        kept_out: bool,
    },
    /// The swap was made: the restored databases have the names.
    New {
        /// How many of the old ones are still there.
        aside: usize,
    },
}

#[derive(Deserialize)]
struct Seen {
    oid: u64,
    name: String,
    allows_connections: bool,
}

/// A connection to one of the databases.
#[derive(Deserialize)]
struct Holder {
    pid: u32,
    database: String,
    role: Option<String>,
    application: String,
}

impl Restore<'_> {
    /// On which side of the swap the server is. After a crash, what that run left on the server has to be ended first.
    pub fn state(&self) -> Result<State, PostgresError> {
        let mut session = self.server()?;
        let state = self.read_state(&mut session)?;
        session.close()?;
        Ok(state)
    }

    /// Close the old databases to new connections, and the fresh ones. It takes effect at once, and stays after a crash:
    /// [`Restore::undo_keep_out`] is its other half.
    pub fn keep_out(&self) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        self.expect_old(&mut session)?;
        let mut sql = String::new();
        for planned in &self.plan.databases {
            let old = planned.old.iter().map(|_| planned.facts.name.as_str());
            for name in old.chain([planned.fresh.as_str()]) {
                // Writing to a string does not fail.
                let _ =
                    writeln!(sql, "ALTER DATABASE {} ALLOW_CONNECTIONS false;", identifier(name));
            }
        }
        session.execute(&format!("BEGIN;\n{sql}COMMIT;"))?;
        session.close()
    }

    /// Open the old databases again, as they were, and the fresh ones.
    pub fn undo_keep_out(&self) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        self.expect_old(&mut session)?;
        let seen = Self::seen(&mut session)?;
        for PlannedDatabase { facts, fresh, old } in &self.plan.databases {
            let was_open = old.as_ref().is_some_and(|old| old.allows_connections);
            let to_open = |seen: &&Seen| {
                !seen.allows_connections
                    && (seen.name == *fresh || (was_open && seen.name == facts.name))
            };
            for closed in seen.iter().filter(to_open) {
                let name = identifier(&closed.name);
                session.execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true;"))?;
            }
        }
        session.close()
    }

    /// End all connections to the databases, and exchange them: names, who may connect, and the roles that change, in one
    /// transaction. After a failure the old state is unchanged, and closed until [`Restore::undo_keep_out`].
    pub fn swap(&self, work: &RoleWork) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        self.expect_old(&mut session)?;
        let mut renames = String::new();
        let mut privileges = String::new();
        for PlannedDatabase { facts, fresh, old } in &self.plan.databases {
            let name = identifier(&facts.name);
            if let Some(old) = old {
                renames += &rename(&facts.name, &old.aside);
            }
            renames += &rename(fresh, &facts.name);
            privileges += &acl::statements(&facts.name, facts);
            // Writing to a string does not fail.
            let _ = writeln!(
                privileges,
                "ALTER DATABASE {name} CONNECTION LIMIT {} ALLOW_CONNECTIONS true;",
                facts.connection_limit
            );
        }
        self.end_connections(&mut session)?;
        session.execute(&transaction(&[&renames, work.change.as_str(), &privileges]))?;
        session.close()
    }

    /// Take a swap back: the old databases get their names again, and the changed roles what they had.
    pub fn swap_back(&self, before: &RolesBefore) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        let all_old = self.plan.databases.iter().filter(|planned| planned.old.is_some()).count();
        match self.read_state(&mut session)? {
            State::New { aside } if aside == all_old => {}
            State::New { aside } => {
                let reason = format!("only {aside} of {all_old} old databases are still there");
                return Err(PostgresError::Unclear { reason });
            }
            State::Old { .. } => return session.close(),
        }
        let names = || self.plan.databases.iter();
        let closing = names().map(|planned| {
            format!("ALTER DATABASE {} ALLOW_CONNECTIONS false;\n", identifier(&planned.facts.name))
        });
        session.execute(&transaction(&[&closing.collect::<String>()]))?;
        self.end_connections(&mut session)?;
        let mut renames = String::new();
        for PlannedDatabase { facts, fresh, old } in names() {
            renames += &rename(&facts.name, fresh);
            if let Some(old) = old {
                renames += &rename(&old.aside, &facts.name);
                let (name, allows) = (identifier(&facts.name), old.allows_connections);
                // Writing to a string does not fail.
                let _ = writeln!(renames, "ALTER DATABASE {name} ALLOW_CONNECTIONS {allows};");
            }
        }
        session.execute(&transaction(&[&renames, &before.sql]))?;
        session.close()
    }

    /// Drop the old databases, once the restored ones are good.
    pub fn clear_old(&self) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        if let State::Old { .. } = self.read_state(&mut session)? {
            return Err(PostgresError::Unclear { reason: "the swap was not made".into() });
        }
        for old in self.plan.databases.iter().filter_map(|planned| planned.old.as_ref()) {
            let aside = identifier(&old.aside);
            session.execute(&format!("DROP DATABASE IF EXISTS {aside} WITH (FORCE);"))?;
        }
        session.close()
    }

    /// Drop what was made for a restore that is given up, and name the roles that had to stay because something refers to
    /// them.
    pub fn clear_new(&self) -> Result<Vec<String>, PostgresError> {
        let mut session = self.server()?;
        self.expect_old(&mut session)?;
        for planned in &self.plan.databases {
            drop_fresh(&mut session, planned)?;
        }
        let left = self.drop_roles(&mut session)?;
        session.close()?;
        Ok(left)
    }

    pub(super) fn expect_old(&self, session: &mut Session) -> Result<(), PostgresError> {
        match self.read_state(session)? {
            State::Old { .. } => Ok(()),
            State::New { .. } => {
                Err(PostgresError::Unclear { reason: "the swap was made already".into() })
            }
        }
    }

    fn seen(session: &mut Session) -> Result<Vec<Seen>, PostgresError> {
        session.query(
            "SELECT oid::int8 AS oid, datname AS name, datallowconn AS allows_connections FROM pg_database",
        )
    }

    fn read_state(&self, session: &mut Session) -> Result<State, PostgresError> {
        let seen = Self::seen(session)?;
        let find = |name: &str| seen.iter().find(|seen| seen.name == name);
        let (mut fresh, mut aside, mut kept_out) = (0, 0, false);
        let mut sides = Vec::new();
        for planned in &self.plan.databases {
            let made = find(&planned.fresh);
            fresh += usize::from(made.is_some());
            let named = find(&planned.facts.name);
            let is_new = match &planned.old {
                Some(old) => {
                    aside += usize::from(find(&old.aside).is_some_and(|seen| seen.oid == old.oid));
                    kept_out |= named.is_some_and(|named| {
                        named.oid == old.oid && old.allows_connections && !named.allows_connections
                    });
                    named.map(|named| named.oid != old.oid)
                }
                None => Some(named.is_some()),
            };
            match is_new {
                None => {
                    return Err(unclear(planned, "is not there, and was when the restore began"));
                }
                Some(true) if made.is_some() => {
                    return Err(unclear(planned, "is another one than when the restore began"));
                }
                Some(is_new) => sides.push(is_new),
            }
        }
        match (sides.contains(&true), sides.contains(&false)) {
            (true, false) => Ok(State::New { aside }),
            (true, true) => Err(PostgresError::Unclear {
                reason: "some databases are old, and some are new".into(),
            }),
            _ => Ok(State::Old { fresh, kept_out }),
        }
    }

    /// Tell all that are connected to the databases to end, until none is left.
    fn end_connections(&self, session: &mut Session) -> Result<(), PostgresError> {
        let names =
            self.plan.databases.iter().flat_map(|planned| {
                [planned.facts.name.as_str(), planned.fresh.as_str()].map(literal)
            });
        // The server itself ends its own workers for a renaming, and nobody else may.
        let holders = format!(
            "SELECT pid, datname AS database, usename AS role, application_name AS application, pg_terminate_backend(pid) AS told
            FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname IN ({})
                AND backend_type NOT IN ('autovacuum worker', 'parallel worker')",
            names.collect::<Vec<_>>().join(", ")
        );
        let begun = Instant::now();
        loop {
            let left: Vec<Holder> = session.query(&holders)?;
            if left.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > LONGEST_ENDING {
                let told = |holder: &Holder| {
                    let role = holder.role.as_deref().unwrap_or("the server");
                    format!(
                        "process {} of {role} ({}) in {}",
                        holder.pid, holder.application, holder.database
                    )
                };
                return Err(PostgresError::HeldOn { sessions: left.iter().map(told).collect() });
            }
            std::thread::sleep(LOOKS_EVERY);
        }
    }
}

fn unclear(planned: &PlannedDatabase, what: &str) -> PostgresError {
    PostgresError::Unclear { reason: format!("the database {} {what}", planned.facts.name) }
}

fn rename(from: &str, to: &str) -> String {
    format!("ALTER DATABASE {} RENAME TO {};\n", identifier(from), identifier(to))
}

fn transaction(parts: &[&str]) -> String {
    format!("BEGIN;\nSET LOCAL lock_timeout = '{LONGEST_WAIT}';\n{}COMMIT;", parts.concat())
}
