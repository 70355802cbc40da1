//! The component `postgres`: databases of one PostgreSQL server, with the roles and settings that belong to them.
//!
//! Read by PostgreSQL's own `pg_dump`, from snapshots of nearly one moment, and validated while it streams by; put back
//! beside what is there, and swapped in. Everything runs through an access, where the server's programs are.

pub mod archive;
mod details;
mod dump;
mod error;
mod facts;
mod holders;
pub mod restore;
mod room;
mod session;
mod tools;
mod url;

pub use details::{DatabaseDetails, PostgresDetails};
pub use dump::{Begun, DumpedDatabase, Tap};
pub use error::PostgresError;
pub use facts::{DatabaseFacts, ServerFacts, Setting};
pub use room::{ServerDisk, size_of};
pub use session::{Session, identifier, literal};
pub use tools::Tools;
pub use url::{ServerUrl, UrlProblem};

use crate::access::{Access, Command};
use holders::Holders;
use zeroize::Zeroizing;

/// Where a server listens, as seen from where its programs run, and who asks.
#[derive(Clone, Default)]
pub struct Target {
    /// A name, an address, or the directory of its socket; none is the programs' own default, a socket.
    pub host: Option<String>,
    /// None is the programs' own default.
    pub port: Option<u16>,
    /// None is the user that the programs run as.
    pub user: Option<String>,
    /// None where none is asked for.
    pub password: Option<Zeroizing<String>>,
    /// libpq's word for how the connection is encrypted; none is its default.
    pub ssl_mode: Option<String>,
    /// A directory with PostgreSQL's programs that is to be looked in first.
    pub tools: Option<String>,
}

/// A way to a server.
#[derive(Clone)]
pub struct Connection {
    access: Access,
    target: Target,
    tools: Tools,
    server: ServerFacts,
    /// What the server's own list of connections shows.
    application: String,
}

impl Connection {
    /// Reach a server, and find the programs that fit it. `database` is one that may be connected to.
    pub fn open(
        access: Access,
        target: Target,
        database: &str,
        application: &str,
    ) -> Result<Self, PostgresError> {
        let found = Tools::list(&access, target.tools.as_deref())?;
        let Some(any) = found.iter().max_by_key(|tools| tools.major) else {
            return Err(PostgresError::NoTools { via: access.via().clone() });
        };
        let server = ServerFacts::default();
        let application = application.to_owned();
        let mut connection = Self { access, target, tools: any.clone(), server, application };
        let mut session = Session::open(&connection, database)?;
        connection.server = ServerFacts::read(&mut session)?;
        session.close()?;
        let server = &connection.server;
        connection.tools = Tools::choose(&found, server.major())
            .ok_or_else(|| PostgresError::OldTools {
                via: connection.access.via().clone(),
                tools: any.version.clone(),
                server: server.version.clone(),
                needed: server.major(),
            })?
            .clone();
        Ok(connection)
    }

    /// What was found of the server.
    pub fn server(&self) -> &ServerFacts {
        &self.server
    }

    /// The programs that are used.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// Where the programs run.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// The server, for people.
    pub fn told(&self) -> String {
        let host = self.target.host.as_deref().unwrap_or("its socket");
        format!("PostgreSQL {} at {host} (via {})", self.server.version, self.access.via())
    }

    /// The same for cleaning up, which a cancelled job does, too.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { access: self.access.anew(), ..self.clone() }
    }

    /// End what this run may have left on the server, and wait until it has ended: a `pg_dump` in a container outlives the
    /// `docker exec` that began it, and a statement the run that was killed. `database` is one that this run does not rename:
    /// to connect to such a one waits for what is to be ended.
    pub fn end_own(&self, database: &str) -> Result<(), PostgresError> {
        let connection = Self { application: format!("{} ends", self.application), ..self.anew() };
        let mut session = Session::open(&connection, database)?;
        let own = format!("a.application_name = {}", literal(&self.application));
        Holders::end_all(&mut session, &own)?;
        session.close()
    }

    /// One of PostgreSQL's programs, with all that it needs to connect to a database. The database's name goes by
    /// environment: as an argument it could be taken for a connection string. `encoding` is that of what it reads and writes.
    fn client(&self, program: &str, database: &str, encoding: &str) -> Command {
        let mut command = Command::new(program)
            .variable("LC_ALL", "C")
            .variable("PGDATABASE", database)
            .variable("PGAPPNAME", &self.application)
            .variable("PGCLIENTENCODING", encoding)
            .variable("PGCONNECT_TIMEOUT", "20");
        if let Some(host) = &self.target.host {
            command = command.variable("PGHOST", host);
        }
        if let Some(port) = self.target.port {
            command = command.variable("PGPORT", &port.to_string());
        }
        if let Some(user) = &self.target.user {
            command = command.variable("PGUSER", user);
        }
        if let Some(mode) = &self.target.ssl_mode {
            command = command.variable("PGSSLMODE", mode);
        }
        if let Some(password) = &self.target.password {
            command = command.secret("PGPASSWORD", password);
        }
        command
    }
}
