//! A MongoDB server that is spoken to directly, with the official driver.
//!
//! What always holds: a server that says nothing for too long is an error, and so is everything that it says no to; a cancelled
//! job waits for nothing; no message has anything of the connection string but its host.

mod dump;
mod having;
mod listing;
mod made;
pub mod restore;

/// A moment of a replica set.
pub use bson::{RawDocument, Timestamp as Moment};
pub use dump::{Dumped, DumpedCollection, Files, Tap, dump, show};
pub use listing::{Collection, Kind};

use super::MongoError;
use crate::access::{Access, Tunnel};
use crate::model::event::Cancel;
use bson::{Bson, Document, doc};
use mongodb::Client;
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{ClientOptions, ServerAddress, Tls};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How long a server may take to be found, and to say anything at all.
const REACH: Duration = Duration::from_secs(10);
/// How long a single command may take. The longest of ours counts a collection, or makes an index.
const SILENCE: Duration = Duration::from_mins(30);
/// Where a server listens of which nobody says otherwise.
const PORT: u16 = 27017;
/// How soon a cancelled job is left.
const LOOK: Duration = Duration::from_millis(100);

/// A way to a server.
#[derive(Clone)]
pub struct Server {
    client: Client,
    runtime: Arc<Runtime>,
    /// The way that its connections take, where they do not go by themselves.
    way: Option<Arc<Way>>,
    cancel: Cancel,
    host: String,
    /// The database that the connection string names.
    pub database: Option<String>,
    /// Its version.
    pub version: String,
    /// Whether collections can be read at one moment; otherwise why not.
    pub one_moment: Result<(), &'static str>,
    /// Whether it is the member of its replica set that takes writes, or the only one.
    takes_writes: bool,
}

/// A way to a server that is reached from elsewhere.
struct Way {
    /// The server, for people.
    host: String,
    tunnel: Tunnel,
}

/// The disk of a server, and what a database takes of it, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// What the disk has.
    pub total: u64,
    /// What of it is free.
    pub free: u64,
    /// The documents of the database.
    pub data: u64,
    /// What they take, compressed, with their indexes.
    pub stored: u64,
}

fn said_by(error: &Error) -> (String, Option<i32>) {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => (command.message.clone(), Some(command.code)),
        other => (other.to_string(), None),
    }
}

/// A number of a document, of whatever type; zero where there is none.
fn number(document: &Document, key: &str) -> u64 {
    match document.get(key) {
        Some(Bson::Double(number)) if *number > 0.0 => {
            #[expect(clippy::cast_sign_loss, reason = "it is positive")]
            let number = *number as u64;
            number
        }
        Some(Bson::Int32(number)) => u64::try_from(*number).unwrap_or_default(),
        Some(Bson::Int64(number)) => u64::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}

/// The size of the disk, and what of it is used, where that is told.
fn disk_of(statistics: &Document) -> Option<(u64, u64)> {
    let total = number(statistics, "fsTotalSize");
    (total > 0).then(|| (total, number(statistics, "fsUsedSize")))
}

/// Whether a text of a document is this.
fn says(document: &Document, key: &str, value: &str) -> bool {
    document.get_str(key).is_ok_and(|text| text == value)
}

impl Server {
    /// Reach the server that a connection string names, as its hosts are called where `access` leads to. What is encrypted on
    /// the way, or found by DNS, is reached from this host.
    pub fn open(url: &str, access: &Access, cancel: &Cancel) -> Result<Self, MongoError> {
        let address = |reason: &str| MongoError::Address { reason: reason.to_owned() };
        let is_found_by_dns = url.starts_with("mongodb+srv://");
        if !url.starts_with("mongodb://") && !is_found_by_dns {
            return Err(address("it does not begin with mongodb:// or mongodb+srv://"));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| address(&format!("no threads could be started: {error}")))?;
        let parsed = runtime.block_on(async {
            tokio::time::timeout(REACH, ClientOptions::parse(url).into_future()).await
        });
        let mut options = match parsed {
            Ok(Ok(options)) => options,
            // The driver's own words could quote the password.
            Ok(Err(_)) => return Err(address("the driver does not understand it")),
            Err(_) => return Err(address("its name was not resolved in time")),
        };
        // A single server is meant as it is: what a replica set calls its members may be known only to themselves.
        if options.hosts.len() == 1
            && options.repl_set_name.is_none()
            && options.direct_connection.is_none()
        {
            options.direct_connection = Some(true);
        }
        options.app_name = Some("belay".into());
        options.connect_timeout = Some(REACH);
        options.server_selection_timeout = Some(REACH);
        let runtime = Arc::new(runtime);
        let is_encrypted = matches!(options.tls, Some(Tls::Enabled(_)));
        if access.via().is_local() || is_found_by_dns || is_encrypted {
            return Self::connect(&runtime, options, None, cancel);
        }
        Self::open_through(access, &runtime, &options, cancel)
    }

    /// Of the hosts that are reached from where `access` leads to, the one that takes writes.
    fn open_through(
        access: &Access,
        runtime: &Arc<Runtime>,
        options: &ClientOptions,
        cancel: &Cancel,
    ) -> Result<Self, MongoError> {
        let mut first_failure = None;
        for host in &options.hosts {
            let ServerAddress::Tcp { host: name, port } = host else {
                return Self::connect(runtime, options.clone(), None, cancel);
            };
            let tunnel = access.tunnel(name, port.unwrap_or(PORT)).map_err(|error| {
                MongoError::Unreachable { host: host.to_string(), reason: error.to_string() }
            })?;
            let mut options = options.clone();
            options.hosts = vec![ServerAddress::Unix { path: tunnel.socket().to_owned() }];
            options.direct_connection = Some(true);
            let way = Way { host: format!("{host} ({})", access.via()), tunnel };
            match Self::connect(runtime, options, Some(way), cancel) {
                Ok(server) if server.takes_writes => return Ok(server),
                Ok(_) => {
                    let reason = "it is not the primary of its replica set".to_owned();
                    let error = MongoError::Unreachable { host: host.to_string(), reason };
                    first_failure.get_or_insert(error);
                }
                Err(error) => {
                    first_failure.get_or_insert(error);
                }
            }
        }
        Err(first_failure.expect("the driver takes no connection string without a host"))
    }

    fn connect(
        runtime: &Arc<Runtime>,
        options: ClientOptions,
        way: Option<Way>,
        cancel: &Cancel,
    ) -> Result<Self, MongoError> {
        let hosts = options.hosts.iter().map(ToString::to_string);
        let host = match &way {
            Some(way) => way.host.clone(),
            None => hosts.collect::<Vec<_>>().join(","),
        };
        let database = options.default_database.clone();
        let client = {
            // The driver's own tasks run there.
            let _inside = runtime.enter();
            Client::with_options(options).map_err(|_| MongoError::Address {
                reason: "the driver does not take it".to_owned(),
            })?
        };
        let mut server = Self {
            runtime: Arc::clone(runtime),
            client,
            way: way.map(Arc::new),
            cancel: cancel.clone(),
            host,
            database,
            version: String::new(),
            one_moment: Ok(()),
            takes_writes: false,
        };
        server.look()?;
        Ok(server)
    }

    /// What kind of server it is.
    fn look(&mut self) -> Result<(), MongoError> {
        let hello = self.admin(doc! { "hello": 1 }, "ask what it is")?;
        if says(&hello, "msg", "isdbgrid") {
            return Err(MongoError::Unsupported { what: "a sharded cluster (mongos)".into() });
        }
        self.takes_writes = hello.get_bool("isWritablePrimary").unwrap_or_default();
        let build = self.admin(doc! { "buildInfo": 1 }, "ask for its version")?;
        build.get_str("version").unwrap_or("of unknown version").clone_into(&mut self.version);
        let major = self.version.split('.').next().and_then(|part| part.parse::<u32>().ok());
        self.one_moment = match (hello.get_str("setName"), major) {
            (Err(_), _) => Err("the server is no member of a replica set"),
            (Ok(_), Some(major)) if major >= 5 => Ok(()),
            (Ok(_), _) => Err("the server is older than MongoDB 5.0"),
        };
        Ok(())
    }

    /// The same for cleaning up, which a cancelled job does, too.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { cancel: Cancel::new(), ..self.clone() }
    }

    /// What a database takes, and what room its disk has; none where the server does not tell.
    pub fn room(&self, database: &str) -> Result<Option<Room>, MongoError> {
        let action = format!("ask for the room that '{database}' takes");
        let ask = |database| self.command(database, doc! { "dbStats": 1 }, &action);
        let own = ask(database)?;
        // Of a database that is not there it tells nothing; who may not ask for another gets no answer.
        let other = || ask("admin").ok().as_ref().and_then(disk_of);
        let Some((total, used)) = disk_of(&own).or_else(other) else { return Ok(None) };
        Ok(Some(Room {
            total,
            free: total.saturating_sub(used),
            data: number(&own, "dataSize"),
            stored: number(&own, "totalSize"),
        }))
    }

    /// The server, for people.
    pub fn told(&self) -> String {
        format!("MongoDB {} at {}", self.version, self.host)
    }

    fn admin(&self, command: Document, action: &str) -> Result<Document, MongoError> {
        self.command("admin", command, action)
    }

    /// Run a command on a database. `action` says what for, after "could not".
    fn command(
        &self,
        database: &str,
        command: Document,
        action: &str,
    ) -> Result<Document, MongoError> {
        let database = self.client.database(database);
        self.wait(action, async move { database.run_command(command).await })
    }

    /// Wait for the server.
    fn wait<T>(
        &self,
        action: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, MongoError> {
        self.cancel.check()?;
        let begun = Instant::now();
        let result = self.runtime.block_on(async {
            tokio::pin!(work);
            loop {
                match tokio::time::timeout(LOOK, &mut work).await {
                    Ok(done) => return Some(done),
                    Err(_) if self.cancel.is_cancelled() || begun.elapsed() > SILENCE => {
                        return None;
                    }
                    Err(_) => {}
                }
            }
        });
        match result {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(self.failed(action, &error)),
            None => {
                self.cancel.check()?;
                Err(MongoError::Silent { action: action.to_owned(), seconds: SILENCE.as_secs() })
            }
        }
    }

    fn failed(&self, action: &str, error: &Error) -> MongoError {
        let host = self.host.clone();
        let is_connection = matches!(
            error.kind.as_ref(),
            ErrorKind::ServerSelection { .. }
                | ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
        );
        if let (Some(way), true) = (&self.way, is_connection)
            && let Some(source) = way.tunnel.failure()
        {
            let source = Box::new(source);
            return MongoError::Way { host, action: action.to_owned(), source };
        }
        match error.kind.as_ref() {
            ErrorKind::Authentication { .. } => MongoError::Login { host },
            ErrorKind::ServerSelection { .. } | ErrorKind::DnsResolve { .. } => {
                MongoError::Unreachable { host, reason: error.kind.to_string() }
            }
            ErrorKind::Io(source) => MongoError::Unreachable {
                host,
                reason: format!("{source}, when trying to {action}"),
            },
            _ => {
                let (said, code) = said_by(error);
                MongoError::Server { action: action.to_owned(), said, code }
            }
        }
    }
}
