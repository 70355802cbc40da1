//! A conversation with a PostgreSQL server through `psql`, wherever that runs.
//!
//! Statements go in through its standard input and never through an argument; answers come back as JSON. The first error
//! ends the conversation. `psql` is what a container or a far host has: nothing needs to be reachable from here.

use super::{Connection, PostgresError};
use crate::access::{Command, Output, Running};
use serde::de::DeserializeOwned;
use std::io::{BufRead as _, BufReader, Read as _, Write};

/// The longest answer to one question; a list of every table of a database is far below.
const MOST_BYTES: u64 = 256 * 1024 * 1024;

/// What stands behind the answer to each question.
const END: &str = "\u{1}belay: end of the answer";

/// How a session begins: no limit of the server's may end it, and names resolve to nothing but the catalog.
const BEGINNING: &str = "\\set VERBOSITY terse
SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0;
SET standard_conforming_strings = on; SET client_min_messages = warning;
SELECT pg_catalog.set_config('search_path', 'pg_catalog', false) \\g /dev/null
SELECT pg_catalog.set_config('idle_session_timeout', '0', false) WHERE pg_catalog.current_setting('server_version_num')::int >= 140000 \\g /dev/null
";

/// An open conversation with one database.
pub struct Session {
    running: Option<Running>,
    input: Box<dyn Write + Send>,
    output: BufReader<Output>,
    database: String,
}

impl Session {
    /// Connect to a database.
    pub fn open(connection: &Connection, database: &str) -> Result<Self, PostgresError> {
        let command = connection.client(&connection.tools.psql, database, "UTF8").arguments([
            "-X",
            "-q",
            "-A",
            "-t",
            "-w",
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        Self::start(connection, &command, database)
    }

    fn start(
        connection: &Connection,
        command: &Command,
        database: &str,
    ) -> Result<Self, PostgresError> {
        let mut running = connection.access.start(command, true)?;
        let input = Box::new(running.stdin());
        let output = BufReader::new(running.stdout());
        let database = database.to_owned();
        let mut session = Self { running: Some(running), input, output, database };
        session.execute(BEGINNING)?;
        Ok(session)
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Run statements that answer with nothing.
    pub fn execute(&mut self, statements: &str) -> Result<(), PostgresError> {
        self.ask(statements)?;
        self.answer().map(drop)
    }

    /// Rows of a query, by the names of its columns.
    pub fn query<T: DeserializeOwned>(&mut self, query: &str) -> Result<Vec<T>, PostgresError> {
        self.ask_for_rows(query)?;
        self.rows()
    }

    /// The only row of a query.
    pub fn row<T: DeserializeOwned>(&mut self, query: &str) -> Result<T, PostgresError> {
        self.ask_for_rows(query)?;
        self.only_row()
    }

    /// Ask without waiting for the answer, which [`Session::only_row`] brings.
    pub fn ask_for_rows(&mut self, query: &str) -> Result<(), PostgresError> {
        self.ask(&format!("SELECT coalesce(json_agg(to_json(q)), '[]') FROM (\n{query}\n) q;"))
    }

    /// The only row of what was asked for.
    pub fn only_row<T: DeserializeOwned>(&mut self) -> Result<T, PostgresError> {
        let mut rows = self.rows()?;
        match rows.pop() {
            Some(row) if rows.is_empty() => Ok(row),
            _ => Err(self.strange("one row was expected")),
        }
    }

    /// End the conversation.
    pub fn close(mut self) -> Result<(), PostgresError> {
        // The end of its input ends `psql`.
        self.input = Box::new(std::io::sink());
        let running = self.running.take().expect("it is only taken here and after a failure");
        running.finish()?;
        Ok(())
    }

    fn ask(&mut self, statements: &str) -> Result<(), PostgresError> {
        let text = format!("{statements}\n\\echo '{END}'\n");
        match self.input.write_all(text.as_bytes()).and_then(|()| self.input.flush()) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.broken(&error.to_string())),
        }
    }

    fn rows<T: DeserializeOwned>(&mut self) -> Result<Vec<T>, PostgresError> {
        let answer = self.answer()?;
        // The error itself could quote the answer.
        serde_json::from_slice(&answer)
            .map_err(|error| self.strange(&format!("no rows (line {})", error.line())))
    }

    fn answer(&mut self) -> Result<Vec<u8>, PostgresError> {
        let mut answer = Vec::new();
        loop {
            let left = MOST_BYTES - answer.len() as u64;
            let begin = answer.len();
            match (&mut self.output).take(left).read_until(b'\n', &mut answer) {
                Ok(0) => {
                    let why = if left == 0 { "the answer is too long" } else { "it ended" };
                    return Err(self.broken(why));
                }
                Ok(_) if answer[begin..] == [END.as_bytes(), b"\n"].concat() => {
                    answer.truncate(begin);
                    return Ok(answer);
                }
                Ok(_) => {}
                Err(error) => return Err(self.broken(&error.to_string())),
            }
        }
    }

    /// Why it broke off: what `psql` said, where it ended by itself.
    fn broken(&mut self, why: &str) -> PostgresError {
        self.input = Box::new(std::io::sink());
        match self.running.take().map(Running::finish) {
            Some(Err(error)) => PostgresError::of_access(error, &self.database),
            _ => self.strange(why),
        }
    }

    fn strange(&self, reason: &str) -> PostgresError {
        PostgresError::Strange { database: self.database.clone(), reason: reason.to_owned() }
    }
}

/// A text as a literal of SQL.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A name as an identifier of SQL.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
