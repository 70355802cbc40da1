//! The swap: everybody out, the names exchanged in one transaction, and back again where that is wanted.
//!
//! No database is closed before the exchange is committed, for a run that is killed could not open it again. The server itself
//! makes new connections wait for a database that is being renamed, and gives those that are there 5 seconds to end.

use super::create::drop_fresh;
use super::roles::{RoleWork, RolesBefore};
use super::{PlannedDatabase, Restore, acl};
use crate::component::postgres::PostgresError;
use crate::component::postgres::holders::{Holders, LONGEST_ENDING, LOOKS_EVERY};
use crate::component::postgres::session::{Session, identifier, literal};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::Instant;

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
    },
    /// The swap was made: the restored databases have the names.
    New {
        /// How many of the old ones are still there.
        aside: usize,
    },
}

#[derive(Deserialize)]
pub(super) struct Seen {
    pub(super) oid: u64,
    pub(super) name: String,
}

impl Restore<'_> {
    /// On which side of the swap the server is. After a crash, what that run left on the server has to be ended first.
    pub fn state(&self) -> Result<State, PostgresError> {
        let mut session = self.server()?;
        let state = self.read_state(&mut session)?;
        session.close()?;
        Ok(state)
    }

    /// End all connections to the databases, and exchange them: names, who may connect, and the roles that change, in one
    /// transaction. After a failure the old state is unchanged.
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
        session.close()?;
        self.exchange(&transaction(&[&renames, work.change.as_str(), &privileges]))
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
        session.close()?;
        let mut renames = String::new();
        for PlannedDatabase { facts, fresh, old } in &self.plan.databases {
            renames += &rename(&facts.name, fresh);
            if let Some(old) = old {
                renames += &rename(&old.aside, &facts.name);
                let (name, allows) = (identifier(&facts.name), old.allows_connections);
                // Writing to a string does not fail.
                let _ = writeln!(renames, "ALTER DATABASE {name} ALLOW_CONNECTIONS {allows};");
            }
        }
        self.exchange(&transaction(&[&renames, &before.sql]))
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

    /// Keep the old databases, closed so that nobody works in them by mistake, and tell the names that they have.
    pub fn keep_old(&self) -> Result<Vec<String>, PostgresError> {
        let mut session = self.server()?;
        let there = Self::seen(&mut session)?;
        let mut kept = Vec::new();
        for old in self.plan.databases.iter().filter_map(|planned| planned.old.as_ref()) {
            // After a crash somebody may have dropped it.
            if there.iter().any(|seen| seen.name == old.aside) {
                let aside = identifier(&old.aside);
                session.execute(&format!("ALTER DATABASE {aside} ALLOW_CONNECTIONS false;"))?;
                kept.push(old.aside.clone());
            }
        }
        session.close()?;
        Ok(kept)
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

    pub(super) fn seen(session: &mut Session) -> Result<Vec<Seen>, PostgresError> {
        session.query("SELECT oid::int8 AS oid, datname AS name FROM pg_database")
    }

    fn read_state(&self, session: &mut Session) -> Result<State, PostgresError> {
        let seen = Self::seen(session)?;
        let find = |name: &str| seen.iter().find(|seen| seen.name == name);
        let (mut fresh, mut aside) = (0, 0);
        let mut sides = Vec::new();
        for planned in &self.plan.databases {
            let made = find(&planned.fresh);
            fresh += usize::from(made.is_some());
            let named = find(&planned.facts.name);
            let is_new = match &planned.old {
                Some(old) => {
                    aside += usize::from(find(&old.aside).is_some_and(|seen| seen.oid == old.oid));
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
            _ => Ok(State::Old { fresh }),
        }
    }

    /// Run the transaction that renames the databases, and tell all that are connected to them to end until it is through.
    fn exchange(&self, transaction: &str) -> Result<(), PostgresError> {
        let names =
            self.plan.databases.iter().flat_map(|planned| {
                [planned.facts.name.as_str(), planned.fresh.as_str()].map(literal)
            });
        let others = format!("a.datname IN ({})", names.collect::<Vec<_>>().join(", "));
        let begun = Instant::now();
        let mut watching = self.server()?;
        let mut holders = Holders::default();
        loop {
            let mut session = self.server()?;
            let exchanged = std::thread::scope(|scope| {
                let exchange = scope.spawn(|| session.execute(transaction));
                let mut watched = Ok(());
                while !exchange.is_finished() && watched.is_ok() {
                    watched = holders.end(&mut watching, &others);
                    std::thread::sleep(LOOKS_EVERY);
                }
                let exchanged = exchange.join().expect("it returns its errors");
                exchanged.or_else(|error| watched.and(Err(error)))
            });
            match exchanged {
                Ok(()) => return session.close(),
                Err(error) if error.is_cancelled() || !holders.do_hold_on() => return Err(error),
                Err(_) if begun.elapsed() > LONGEST_ENDING => return Err(holders.error()),
                // The server gave them too little time.
                Err(_) => {}
            }
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
