//! What can go wrong with a PostgreSQL server, with what to do about it.

use super::restore::Obstacle;
use crate::access::AccessError;
use crate::model::event::Cancelled;
use crate::model::via::Via;
use std::io;

/// A failure of the component `postgres`.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// The way there.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// None of PostgreSQL's programs is there.
    #[error("neither psql nor pg_dump was found via {via}")]
    NoTools {
        /// Where.
        via: Via,
    },
    /// All of PostgreSQL's programs there are older than the server.
    #[error(
        "the PostgreSQL programs found via {via} are of version {tools}, and the server is {server}: an older pg_dump cannot read a newer server"
    )]
    OldTools {
        /// Where.
        via: Via,
        /// The newest that was found.
        tools: String,
        /// The server's.
        server: String,
        /// The major version that is needed.
        needed: u32,
    },
    /// The server, or `psql`, said no.
    #[error("database {database}: {said}")]
    Server {
        /// Which database was asked.
        database: String,
        /// What was said.
        said: String,
    },
    /// An answer that no server gives.
    #[error("database {database}: psql answered with something else than expected: {reason}")]
    Strange {
        /// Which database was asked.
        database: String,
        /// What is wrong with it.
        reason: String,
    },
    /// `pg_dump` ended well, and complained nevertheless.
    #[error("{program} of database {database} ended without an error and said: {said}")]
    Complained {
        /// The program.
        program: &'static str,
        /// Which database.
        database: String,
        /// What it said.
        said: String,
    },
    /// What `pg_dump` gave is not a whole archive.
    #[error("the dump of database {database} is not whole: {reason}")]
    Invalid {
        /// Which database.
        database: String,
        /// What is wrong.
        reason: String,
        /// What `pg_dump` itself said of its end, where it failed.
        said: Option<String>,
    },
    /// The dump lacks a table that the database has.
    #[error("the dump of database {database} lacks {count} of its tables, {first} among them")]
    TablesMissing {
        /// Which database.
        database: String,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// A database that was asked for is not there.
    #[error("there is no database {database} on the server: it has {}", known.join(", "))]
    NoDatabase {
        /// Which one.
        database: String,
        /// Those that are there.
        known: Vec<String>,
    },
    /// What was read could not be stored.
    #[error("could not store the dump of database {database}: {source}")]
    Sink {
        /// Which database.
        database: String,
        /// Why.
        source: io::Error,
    },
    /// A restore cannot begin.
    #[error("{} in the way of the restore: {}", counted(obstacles), listed(obstacles))]
    InTheWay {
        /// All of it.
        obstacles: Vec<Obstacle>,
    },
    /// `pg_restore` failed.
    #[error("could not put back the database {database}: {said}")]
    Refused {
        /// Which database, by the name that it will have.
        database: String,
        /// What `pg_restore` said.
        said: String,
    },
    /// A dump could not be read.
    #[error("could not read the dump of database {database}: {source}")]
    Source {
        /// Which database.
        database: String,
        /// Why.
        source: io::Error,
    },
    /// Connections did not end.
    #[error("connections to the databases did not end: {}", sessions.join("; "))]
    HeldOn {
        /// Who they are.
        sessions: Vec<String>,
    },
    /// The server is not as a restore left it.
    #[error("the databases are not as the restore left them: {reason}")]
    Unclear {
        /// In what.
        reason: String,
    },
    /// The job was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

fn counted(obstacles: &[Obstacle]) -> String {
    match obstacles.len() {
        1 => "one thing is".into(),
        count => format!("{count} things are"),
    }
}

fn listed(obstacles: &[Obstacle]) -> String {
    let told = obstacles.iter().map(|obstacle| format!("{} ({})", obstacle.what, obstacle.hint));
    told.collect::<Vec<_>>().join("; ")
}

impl PostgresError {
    /// A failure of `psql` is the server's word, where it gave one.
    pub(super) fn of_access(error: AccessError, database: &str) -> Self {
        match error {
            AccessError::Cancelled(cancelled) => cancelled.into(),
            AccessError::Failed { ref said, ref program, .. }
                if program.ends_with("psql") && is_of_psql(said) =>
            {
                Self::Server { database: database.to_owned(), said: shortened(said) }
            }
            error => error.into(),
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_) | Self::Access(AccessError::Cancelled(_)))
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Access(error) => {
                let of_server = match error {
                    AccessError::Failed { said, .. } => hint_of_server(said),
                    _ => None,
                };
                return error.hint().or(of_server);
            }
            Self::NoTools { .. } => {
                "install postgresql-client there, or say where it is: component.postgres = { tools = \"/DIRECTORY\" }"
            }
            Self::OldTools { needed, .. } => {
                return Some(format!("install postgresql-client-{needed} or later there"));
            }
            // The server lets others give away only what the new owner could have made there by itself.
            Self::Refused { said, .. } if said.contains("permission denied for schema") => {
                "what belongs to another role than its schema can be put back by superusers only: connect as one"
            }
            Self::Server { said, .. } | Self::Refused { said, .. } => return hint_of_server(said),
            Self::HeldOn { .. } => {
                "stop the programs that they belong to; connections of others only superusers and members of pg_signal_backend may end"
            }
            Self::NoDatabase { .. } => "is the name right, and is it the right server?",
            Self::TablesMissing { .. } | Self::Complained { .. } => {
                "run the backup again; if it stays, look at the server's own log"
            }
            Self::Invalid { .. } => {
                "see what pg_dump and the server's own log say, and run the backup again"
            }
            _ => return None,
        };
        Some(hint.into())
    }
}

fn is_of_psql(said: &str) -> bool {
    ["psql: ", "psql:<stdin>:"].iter().any(|prefix| said.starts_with(prefix))
}

/// Without the places in our own input, and what only repeats.
fn shortened(said: &str) -> String {
    let line = said.lines().find(|line| line.contains("ERROR:") || line.contains("FATAL:"));
    let line = line.or_else(|| said.lines().next()).unwrap_or_default();
    let place = |line: &str| {
        line.starts_with("psql:<stdin>:")
            .then(|| line.splitn(4, ':').nth(3).map(|rest| rest.trim().to_owned()))
            .flatten()
    };
    place(line).unwrap_or_else(|| {
        line.trim_start_matches("psql: ").trim_start_matches("error: ").to_owned()
    })
}

fn hint_of_server(said: &str) -> Option<String> {
    let has = |text: &str| said.contains(text);
    let hint = if has("password authentication failed") || has("no password supplied") {
        "is the password in the environment file, or the configured one, still the server's?"
    } else if has("Connection refused") || has("No such file or directory") {
        "does the server run there, and on this port?"
    } else if has("could not translate host name") {
        "the host's name means nothing where psql runs: set component.postgres.host to what it is called there"
    } else if has("does not exist") && has("database") {
        "is the name right, and is it the right server?"
    } else if has("permission denied") {
        "connect as a user who may read everything: the owner, or a member of pg_read_all_data"
    } else if has("no pg_hba.conf entry") {
        "let this user connect from there, in the server's pg_hba.conf"
    } else if has("too many connections for") {
        "the role or the database that is named has a CONNECTION LIMIT, which only superusers may exceed: raise it, or connect as one"
    } else if has("being accessed by other users") {
        "is a transaction prepared there? See SELECT * FROM pg_prepared_xacts; end it with COMMIT PREPARED or ROLLBACK PREPARED, and run the restore again"
    } else if has("too many") || has("remaining connection slots") {
        "all connections are taken: raise max_connections, or run this at a quieter time"
    } else {
        return None;
    };
    Some(hint.into())
}
