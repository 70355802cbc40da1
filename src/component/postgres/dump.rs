//! Reading databases: of nearly one moment, each to its end, and validated while it streams by.
//!
//! A session in each database exports its snapshot, one right after the other, before the first `pg_dump` begins; the sessions
//! stay until all is read. The skew between the first and the last snapshot is told.

use super::archive::{self, ArchiveSummary, TableData, TapRow, Wanted};
use super::facts::{DatabaseFacts, TableName};
use super::session::Session;
use super::{Connection, PostgresError};
use crate::access::{AccessError, Running};
use serde::Deserialize;
use std::collections::HashMap;
use std::io::{self, Read, Write};

/// More than this is no list of roles.
const MOST_GLOBALS_BYTES: u64 = 64 * 1024 * 1024;
/// The last line of what `pg_dumpall` writes.
const END_OF_GLOBALS: &str = "-- PostgreSQL database cluster dump complete";

/// Databases whose snapshots are held.
pub struct Begun<'a> {
    connection: &'a Connection,
    held: Vec<Held>,
    /// The time between the first snapshot and the last, in milliseconds.
    pub skew_ms: f64,
    is_gentle: bool,
}

/// A database whose snapshot is held.
struct Held {
    session: Session,
    snapshot: String,
    facts: DatabaseFacts,
    tables: Vec<TableName>,
}

/// Who looks at rows as they come by.
pub struct Tap<'a> {
    /// Which.
    pub wanted: &'a [Wanted],
    /// What sees them.
    pub row: &'a mut dyn FnMut(&TapRow<'_>),
}

/// A database that was read to its end.
pub struct DumpedDatabase {
    /// What it is like.
    pub facts: DatabaseFacts,
    /// What its archive holds.
    pub summary: ArchiveSummary,
    /// What `pg_dump` warned of.
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Exported {
    snapshot: String,
    at_ms: f64,
}

impl<'a> Begun<'a> {
    /// Hold a snapshot of each database.
    pub fn begin(connection: &'a Connection, databases: &[String]) -> Result<Self, PostgresError> {
        let known = &connection.server.databases;
        if let Some(missing) = databases.iter().find(|name| !known.contains(name)) {
            let (database, known) = (missing.clone(), known.clone());
            return Err(PostgresError::NoDatabase { database, known });
        }
        let mut sessions = Vec::new();
        for database in databases {
            let mut session = Session::open(connection, database)?;
            session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;")?;
            sessions.push(session);
        }
        for session in &mut sessions {
            session.ask_for_rows(
                "SELECT pg_export_snapshot() AS snapshot, extract(epoch FROM clock_timestamp()) * 1000.0 AS at_ms",
            )?;
        }
        let mut held = Vec::new();
        let mut times = Vec::new();
        for mut session in sessions {
            let Exported { snapshot, at_ms } = session.only_row()?;
            times.push(at_ms);
            let facts = DatabaseFacts::read(&mut session, &connection.server)?;
            let tables = TableName::of_dump(&mut session)?;
            held.push(Held { session, snapshot, facts, tables });
        }
        let first = times.iter().copied().fold(f64::INFINITY, f64::min);
        let last = times.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let skew_ms = if times.is_empty() { 0.0 } else { last - first };
        Ok(Self { connection, held, skew_ms, is_gentle: false })
    }

    /// Let other programs go first where processors are taken. The server's own part goes no faster than what reads it.
    #[must_use]
    pub fn gently(mut self, is_gentle: bool) -> Self {
        self.is_gentle = is_gentle;
        self
    }

    /// Read a database to its end, into `sink`. `tap` sees the rows that it wants as they come by.
    pub fn dump(
        &self,
        position: usize,
        sink: &mut dyn Write,
        tap: &mut Tap<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<DumpedDatabase, PostgresError> {
        let Held { snapshot, facts, tables, .. } = &self.held[position];
        let database = facts.name.as_str();
        // What no character of UTF-8 stands for could not be read otherwise.
        let command = self
            .connection
            .client(&self.connection.tools.path("pg_dump"), database, &facts.encoding)
            .gently(self.is_gentle)
            .arguments(["-Fc", "-Z0", "-w"])
            .argument(format!("--snapshot={snapshot}"));
        let mut running = self.connection.access.start(&command, false)?;
        let mut tee =
            Tee { pipe: running.stdout().buffered(), sink, bytes: 0, progress, failure: None };
        let read = archive::read_archive(&mut tee, tap.wanted, tap.row);
        let failure = tee.failure.take();
        drop(tee);
        if let Some(source) = failure {
            // Its own failure comes from the pipe that closed on it.
            drop(running);
            return Err(PostgresError::Sink { database: database.into(), source });
        }
        let (mut summary, said) = judge(running, read, database)?;
        let warnings = warnings_of("pg_dump", database, &said)?;
        let mut dumped: HashMap<u32, &mut TableData> =
            summary.tables.iter_mut().map(|data| (data.oid, data)).collect();
        let mut missing = Vec::new();
        for table in tables {
            match dumped.remove(&table.oid) {
                // Names, too, are in the database's own encoding there.
                Some(data) => {
                    data.schema = table.schema.as_str().into();
                    data.table = table.name.as_str().into();
                }
                None => missing.push(table),
            }
        }
        if let Some(first) = missing.first() {
            return Err(PostgresError::TablesMissing {
                database: database.to_owned(),
                count: missing.len(),
                first: format!("{}.{}", first.schema, first.name),
            });
        }
        Ok(DumpedDatabase { facts: facts.clone(), summary, warnings })
    }

    /// Roles, memberships, and what is set on roles in all databases, as `pg_dumpall` writes them.
    pub fn globals(&mut self) -> Result<Vec<u8>, PostgresError> {
        if let Some(held) = self.held.first_mut() {
            return globals_of(self.connection, &mut held.session);
        }
        let mut session = Session::open(self.connection, "postgres")?;
        let globals = globals_of(self.connection, &mut session)?;
        session.close()?;
        Ok(globals)
    }

    /// All is read: let the snapshots go.
    pub fn end(self) -> Result<(), PostgresError> {
        for held in self.held {
            held.session.close()?;
        }
        Ok(())
    }
}

/// What is common to all databases of a server, as `pg_dumpall` writes it through the database of a session.
pub(super) fn globals_of(
    connection: &Connection,
    session: &mut Session,
) -> Result<Vec<u8>, PostgresError> {
    #[derive(Deserialize)]
    struct Server {
        encoding: String,
    }
    let Server { encoding } =
        session.row("SELECT current_setting('server_encoding') AS encoding")?;
    // Any text is right there, and may be none of UTF-8.
    let encoding = if encoding == "SQL_ASCII" { "SQL_ASCII" } else { "UTF8" };
    let database = session.database();
    let program = connection.tools.path("pg_dumpall");
    let mut command = connection
        .client(&program, database, encoding)
        .arguments(["--globals-only", "-w", "-l"])
        .argument(connection_string(database));
    if !connection.server.reads_passwords {
        command = command.argument("--no-role-passwords");
    }
    let mut running = connection.access.start(&command, false)?;
    let mut globals = Vec::new();
    let read = running.stdout().take(MOST_GLOBALS_BYTES).read_to_end(&mut globals);
    let finished = running.finish()?;
    let invalid = |reason: &str| PostgresError::Invalid {
        database: "globals".into(),
        reason: reason.to_owned(),
        said: None,
    };
    read.map_err(|error| invalid(&error.to_string()))?;
    warnings_of("pg_dumpall", "globals", &finished.said)?;
    let is_whole = String::from_utf8_lossy(&globals).lines().any(|line| line == END_OF_GLOBALS);
    if is_whole { Ok(globals) } else { Err(invalid("its last line is missing")) }
}

/// A name as the argument of a program that takes a connection string, too: one with `=` in it could name another server.
fn connection_string(database: &str) -> String {
    format!("dbname='{}'", database.replace('\\', r"\\").replace('\'', r"\'"))
}

/// Both the program's end and what it gave have to be right; the program knows better why they are not.
fn judge(
    running: Running,
    read: Result<ArchiveSummary, archive::ArchiveError>,
    database: &str,
) -> Result<(ArchiveSummary, String), PostgresError> {
    let database = database.to_owned();
    let finished = running.finish();
    match (read, finished) {
        (Ok(summary), Ok(finished)) => Ok((summary, finished.said)),
        (Err(error), Ok(finished)) => {
            let said = (!finished.said.is_empty()).then_some(finished.said);
            Err(PostgresError::Invalid { database, reason: error.to_string(), said })
        }
        (_, Err(AccessError::Failed { said, ending, via, program })) => {
            let said = format!("database {database}: {said}");
            Err(AccessError::Failed { said, ending, via, program }.into())
        }
        (_, Err(error)) => Err(error.into()),
    }
}

/// Hands on what is read.
struct Tee<'a, R> {
    pipe: R,
    sink: &'a mut dyn Write,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64),
    failure: Option<io::Error>,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.pipe.read(buffer)?;
        if let Err(error) = self.sink.write_all(&buffer[..count]) {
            self.failure = Some(error);
            return Err(io::Error::other("what was read could not be stored"));
        }
        self.bytes += count as u64;
        (self.progress)(self.bytes);
        Ok(count)
    }
}

/// What may stand on the standard error of a program that ended well. Anything else is a failure that it kept quiet.
pub(super) fn warnings_of(
    program: &'static str,
    database: &str,
    said: &str,
) -> Result<Vec<String>, PostgresError> {
    let own = format!("{program}: ");
    let is_harmless = |line: &str| {
        let line = line.strip_prefix(&own).unwrap_or(line);
        [
            "warning:",
            "detail:",
            "hint:",
            "info:",
            "WARNING:",
            "NOTICE:",
            "DETAIL:",
            "HINT:",
            "last built-in OID",
        ]
        .iter()
        .any(|word| line.trim_start().starts_with(word))
    };
    let lines = || said.lines().filter(|line| !line.trim().is_empty());
    // What a warning says may go on over lines that are set in.
    let first_bad =
        lines().find(|line| !is_harmless(line) && !line.starts_with(char::is_whitespace));
    if let Some(bad) = first_bad {
        let (database, said) = (database.to_owned(), bad.to_owned());
        return Err(PostgresError::Complained { program, database, said });
    }
    let warnings = lines().filter(|line| line.contains("arning:") || line.contains("WARNING:"));
    Ok(warnings.map(ToOwned::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_on_the_way_to_a_good_end_is_no_warning() {
        let warned = "pg_dump: warning: there are circular foreign-key constraints on this table:\npg_dump: detail: a\npg_dump: hint: b\n";
        assert_eq!(warnings_of("pg_dump", "d", warned).unwrap().len(), 1);
        assert!(warnings_of("pg_dump", "d", "").unwrap().is_empty());
        for bad in ["pg_dump: error: no", "ERROR:  no", "FATAL:  no", "Killed", "warnings: 0"] {
            let said = format!("{warned}{bad}\n");
            let error = warnings_of("pg_dump", "d", &said).unwrap_err();
            assert!(error.to_string().ends_with(bad), "{error}");
        }
    }
}
