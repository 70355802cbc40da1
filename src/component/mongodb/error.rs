//! What can go wrong with a MongoDB server, with what to do about it.

use super::archive::ArchiveError;
use crate::access::AccessError;
use crate::model::event::Cancelled;
use crate::model::size::Bytes;
use std::io;

/// A failure of the component `mongodb`.
#[derive(Debug, thiserror::Error)]
pub enum MongoError {
    /// What the connection string says is no address. It may hold a password, so nothing of it is shown.
    #[error("the connection string of MongoDB cannot be used: {reason}")]
    Address {
        /// What is wrong with it.
        reason: String,
    },
    /// No server answers there.
    #[error("MongoDB at {host} cannot be reached: {reason}")]
    Unreachable {
        /// Where.
        host: String,
        /// Why.
        reason: String,
    },
    /// The way to the server is cut off, or there is none.
    #[error("the way to MongoDB at {host} failed, when trying to {action}: {source}")]
    Way {
        /// The server.
        host: String,
        /// What was tried.
        action: String,
        /// What happened to the way.
        source: Box<AccessError>,
    },
    /// `mongodump` or `mongorestore` could not be run, or ended badly.
    #[error(transparent)]
    Program(Box<AccessError>),
    /// What `mongodump` gave is not believed.
    #[error("what mongodump gave is not whole: {0}")]
    Archive(#[source] Box<ArchiveError>),
    /// What `mongodump` gave does not hold the database.
    #[error("what mongodump gave: {0}")]
    NotDumped(String),
    /// `mongodump` ended well, and said that something failed.
    #[error("mongodump ended well, and complained: {said}")]
    Complained {
        /// What it said.
        said: String,
    },
    /// A restore stops before it fills the server's disk: a server without room ends, and does not start again.
    #[error("only {} are free on the disk of MongoDB: the restore stops before that is full", Bytes(*free))]
    NoRoom {
        /// Bytes that are free there.
        free: u64,
    },
    /// `mongorestore` ended well, and has not put all back.
    #[error("what mongorestore has made is not what the snapshot has: {0}")]
    NotRestored(String),
    /// `mongorestore` is to fill the collections, and the server cannot be spoken to besides.
    #[error("{0}")]
    NoWire(Box<MongoError>),
    /// The login was refused.
    #[error("MongoDB at {host} refused the login")]
    Login {
        /// Where.
        host: String,
    },
    /// The server said no.
    #[error("could not {action}: MongoDB said: {said}")]
    Server {
        /// What was tried, on what.
        action: String,
        /// What was said.
        said: String,
        /// The number of the error, where it has one.
        code: Option<i32>,
    },
    /// The server says nothing any more.
    #[error("could not {action}: MongoDB has not answered for {seconds} seconds")]
    Silent {
        /// What was tried, on what.
        action: String,
        /// For how long.
        seconds: u64,
    },
    /// An answer that no server gives.
    #[error("could not {action}: MongoDB answered with something else than expected: {reason}")]
    Strange {
        /// What was tried, on what.
        action: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such database.
    #[error("there is no database '{database}' on the server")]
    NoDatabase {
        /// Its name.
        database: String,
        /// Those that there are, as far as they may be listed.
        known: Vec<String>,
    },
    /// Something that is not supported yet.
    #[error("{what} is not supported yet")]
    Unsupported {
        /// What.
        what: String,
    },
    /// Collections come and go all the time.
    #[error(
        "the collections of '{database}' changed during each of {tries} attempts to read them: {change}"
    )]
    KeepsChanging {
        /// The database.
        database: String,
        /// How often it was tried.
        tries: u32,
        /// What changed the last time.
        change: String,
    },
    /// Fewer or more documents came than there are.
    #[error("collection '{collection}' gave {read} documents, and has {counted}")]
    Count {
        /// Which.
        collection: String,
        /// How many came.
        read: u64,
        /// How many the server counts at the same moment.
        counted: u64,
    },
    /// What was read could not be stored.
    #[error("what was read of collection '{collection}' could not be stored: {source}")]
    Sink {
        /// Which.
        collection: String,
        /// Why.
        source: io::Error,
    },
    /// What is to be restored cannot be read.
    #[error("what the snapshot has of collection '{collection}' cannot be restored: {reason}")]
    Source {
        /// Which.
        collection: String,
        /// Why.
        reason: String,
    },
    /// Somebody asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl MongoError {
    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Program(error) => matches!(**error, AccessError::Cancelled(_)),
            Self::NoWire(error) => error.is_cancelled(),
            _ => false,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => {
                "it has to be mongodb://USER:PASSWORD@HOST:PORT/DATABASE; in a password, characters such as : / ? # @ % are written as %XX".into()
            }
            Self::Unreachable { .. } => {
                "is the server running, and may this host connect to that address? In a container, name the way to it with `via`".into()
            }
            Self::Way { source, .. } | Self::Program(source) => return source.hint(),
            Self::NoRoom { .. } => {
                "make room there: the new collections are made beside the present ones, which stay until they are exchanged".into()
            }
            Self::Login { .. } => {
                "look at user, password and `authSource` in the connection string".into()
            }
            Self::Server { code: Some(13), .. } => {
                "the user needs the role `backup` to read, and `restore` to put back: db.grantRolesToUser(\"USER\", [\"backup\", \"restore\"])".into()
            }
            Self::Archive(source) => return source.hint().map(Into::into),
            Self::NotDumped(_) => {
                "look at the database's name in the connection string, and at the user's roles".into()
            }
            Self::NoWire(_) => {
                "mongorestore fills new collections, and their names are exchanged over the wire; where nothing can be, restore by hand: `belay restore SNAPSHOT --to-dir DIRECTORY`, then there `mongorestore --drop --nsInclude 'DATABASE.*' DIRECTORY/mongodb`".into()
            }
            Self::Complained { .. } => "see what it says, and run the backup again".into(),
            Self::Silent { .. } => "look at the server and at the network to it".into(),
            Self::NoDatabase { known, .. } if known.is_empty() => {
                "look at the database's name in the connection string".into()
            }
            Self::NoDatabase { known, .. } => format!("there are: {}", known.join(", ")),
            Self::KeepsChanging { .. } => {
                "something makes or drops collections all the time: back up when it does not".into()
            }
            _ => return None,
        })
    }
}
