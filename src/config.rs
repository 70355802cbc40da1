//! The configuration: one TOML file, checked as a whole before anything else happens.
//!
//! What always holds of a [`Config`]: every reference leads somewhere, every path is absolute, every default is filled
//! in, and no secret is in it, only references to secrets ([`SecretRef`]); but an address in `[[notify]]` may be one, so it
//! is not shown. Unknown keys are refused, so that a
//! mistyped one cannot mean "nothing". `config/belay.toml` is the commented example.

mod error;
mod excerpt;
mod git;
mod location;
pub mod notify;
pub mod pair;
mod raw;
mod schedule;
mod secret;
mod show;
mod syntax;
#[cfg(test)]
mod tests;
mod validate;
mod web;

pub use error::{ConfigError, Problem, UnknownName};
pub use excerpt::Excerpt;
pub use git::{GitRepository, GitUrl, GitUrlError};
pub use location::{Location, LocationError, redact_url};
pub use pair::Pair;
pub use schedule::{Daemon, Objectives};
pub use secret::{
    InvalidSecret, ParseSecretRefError, Secret, SecretError, SecretRef, SecretSources,
};
pub use web::{Credentials, Web};

use crate::model::name::Name;
use crate::model::via::Via;
use crate::policy::retention::Keep;
use crate::policy::schedule::Schedule;
use jiff::tz::TimeZone;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the state is when the file does not say.
const DEFAULT_STATE_DIR: &str = "/var/lib/belay/state";

/// A configuration file with comments, to begin with.
pub const EXAMPLE: &str = include_str!("../config/belay.toml");

/// The configuration in effect.
#[derive(Clone, Debug)]
pub struct Config {
    origin: String,
    text: SourceText,
    /// Where the catalog is.
    pub state_dir: PathBuf,
    /// At least one.
    pub repositories: BTreeMap<Name, Repository>,
    /// What to back up.
    pub instances: BTreeMap<Name, Instance>,
    /// What belongs together.
    pub pairs: BTreeMap<Name, Pair>,
    /// Git repositories that hold apps; each is one of `instances`, too.
    pub gits: BTreeMap<Name, GitRepository>,
    /// The configuration of `ssh` that is used in place of the user's own.
    pub ssh_config: Option<PathBuf>,
    /// The daemon's own settings.
    pub daemon: Daemon,
    /// Whose times are meant where nothing else is said.
    pub timezone: TimeZone,
    /// Who is told of what, in the order of the file.
    pub channels: Vec<notify::Channel>,
}

/// The text as it was written, hidden in `Debug`.
#[derive(Clone)]
struct SourceText(String);

impl fmt::Debug for SourceText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SourceText(…)")
    }
}

/// A place where snapshots are stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Repository {
    /// Its name.
    pub name: Name,
    /// Where it is.
    pub location: Location,
    /// Where its password is found.
    pub password: SecretRef,
    /// The zstd level, 1 to 19.
    pub compression: i32,
    /// How long to wait while another program holds the repository; zero is not to wait.
    pub lock_wait: Duration,
    /// When the daemon forgets and reclaims.
    pub prune: Option<Schedule>,
    /// When the daemon checks it.
    pub check: Option<Schedule>,
    /// Within which time the daemon's checks read every byte.
    pub check_period: Duration,
}

/// An installation to back up.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub platform: Platform,
    /// Where it lives.
    pub via: Via,
    /// Its directories, each name once, in the order of the names; at least one where the platform is `files`, and none
    /// where it is not.
    pub paths: Vec<FilesRoot>,
    /// What says which version runs, where its platform does not.
    pub version: Option<VersionFile>,
    /// The file with its environment, where it lives; absolute.
    pub environment: Option<PathBuf>,
    /// Its `PostgreSQL` server.
    pub postgres: PostgresSettings,
    /// Where its MongoDB database is.
    pub mongodb: MongodbSettings,
    /// How its own HTTP interface is reached.
    pub web: Option<Web>,
    /// Where Docker Compose has it.
    pub compose: Option<pair::Compose>,
    /// The git repositories whose mirrors go into its snapshots, too, which are in [`Config::gits`].
    pub gits: Vec<Name>,
    /// Whether a backup stops what writes while it reads.
    pub quiesce: bool,
    /// Patterns of what to leave out; each is valid in globset's syntax.
    pub exclude: Vec<String>,
    /// Which snapshots to keep; everything when it has no rule.
    pub keep: Keep,
    /// Whose days and weeks `keep` counts.
    pub timezone: TimeZone,
    /// The repository that its snapshots go to, which is in [`Config::repositories`].
    pub repository: Name,
    /// When the daemon takes a snapshot of it.
    pub schedule: Option<Schedule>,
    /// How long a backup by the daemon may take.
    pub deadline: Duration,
    /// What is promised of it.
    pub objectives: Objectives,
}

impl Instance {
    /// The time zone's IANA name.
    pub fn timezone_name(&self) -> &str {
        self.timezone.iana_name().unwrap_or("UTC")
    }
}

/// A file that says which version runs, of a platform that Belay cannot ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionFile {
    /// Where it is; absolute.
    pub file: PathBuf,
    /// The member of the JSON object in it; none where the version is all there is.
    pub member: Option<String>,
}

/// What an instance is. Each but `files` has a recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Appsmith.
    Appsmith,
    /// Directories.
    Files,
    /// A git repository that holds apps. It is no platform that the configuration names.
    Git,
    /// A database of a MongoDB server.
    Mongodb,
    /// Databases of a PostgreSQL server.
    Postgres,
    /// `ToolJet`.
    Tooljet,
}

impl Platform {
    /// All that the configuration may name.
    pub const ALL: [Self; 5] =
        [Self::Appsmith, Self::Files, Self::Mongodb, Self::Postgres, Self::Tooljet];

    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Appsmith => "appsmith",
            Self::Files => "files",
            Self::Git => "git",
            Self::Mongodb => "mongodb",
            Self::Postgres => "postgres",
            Self::Tooljet => "tooljet",
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// How the `MongoDB` database of an instance is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MongodbSettings {
    /// From where it is reached; none is where the instance lives, and this host where there is a connection string.
    pub via: Option<Via>,
    /// The connection string.
    pub url: Option<SecretRef>,
    /// The database's name; none is the one that the connection string names.
    pub database: Option<String>,
    /// How it is read.
    pub way: MongodbWay,
    /// A directory with MongoDB's own programs.
    pub tools: Option<PathBuf>,
}

/// How a `MongoDB` database is read and filled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MongodbWay {
    /// Over the wire, all collections at one moment.
    #[default]
    Wire,
    /// By `mongodump` and `mongorestore`, where it lives.
    Mongodump,
}

impl MongodbWay {
    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wire => "wire",
            Self::Mongodump => "mongodump",
        }
    }
}

/// How the `PostgreSQL` server of an instance is reached. What is not said here, the instance's environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostgresSettings {
    /// Where its programs run; none is where the instance lives.
    pub via: Option<Via>,
    /// A name, an address, or the directory of the server's socket, as seen from there.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Who connects.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<SecretRef>,
    /// Which databases; where there are none, those of the environment, or all that the server has.
    pub databases: Vec<String>,
    /// A directory with `PostgreSQL`'s programs.
    pub tools: Option<PathBuf>,
}

/// A directory of an instance, and the name of the component that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesRoot {
    /// The component's name.
    pub name: Name,
    /// The directory; absolute, without `.` and `..`.
    pub path: PathBuf,
}

impl Config {
    /// Read and check a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = std::fs::read(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let origin = path.display().to_string();
        match str::from_utf8(&bytes) {
            Ok(text) => Self::parse(text, &origin),
            Err(error) => {
                let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let (line, column) = excerpt::place(&before, before.len());
                let message = "this is not UTF-8 text, which TOML has to be".to_owned();
                let problem = Problem { line, column, message, hint: None, excerpt: None };
                Err(ConfigError::Invalid { origin, problems: vec![problem] })
            }
        }
    }

    /// Check a text. `origin` is what messages call it: the file, where it came from one.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ConfigError> {
        let invalid = |problems| ConfigError::Invalid { origin: origin.to_owned(), problems };
        let raw = syntax::read(text).map_err(|problem| invalid(vec![problem]))?;
        validate::validate(&raw, origin, text).map_err(invalid)
    }

    /// The git repositories of a pair, in the order of their names.
    pub fn gits_of(&self, pair: &Name) -> impl Iterator<Item = &GitRepository> {
        self.gits.values().filter(move |git| git.pair.as_ref() == Some(pair))
    }

    /// Where the text came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The text as it was written. It holds no secrets but for addresses in `[[notify]]`, so snapshots, which are
    /// encrypted, have it as `/belay.toml`. Do not show it.
    pub fn source_text(&self) -> &str {
        &self.text.0
    }

    /// Tells this text from others.
    pub fn digest(&self) -> String {
        hex::encode(&Sha256::digest(self.source_text())[..8])
    }

    /// The instance of this name.
    pub fn instance(&self, name: &str) -> Result<&Instance, UnknownName> {
        find("instance", &self.instances, name)
    }

    /// The repository of this name.
    pub fn repository(&self, name: &str) -> Result<&Repository, UnknownName> {
        find("repository", &self.repositories, name)
    }

    /// The pair of this name.
    pub fn pair(&self, name: &str) -> Result<&Pair, UnknownName> {
        find("pair", &self.pairs, name)
    }

    /// The git repository of this name.
    pub fn git(&self, name: &str) -> Result<&GitRepository, UnknownName> {
        find("git repository", &self.gits, name)
    }

    /// The repository that an instance of this configuration has its snapshots in.
    pub fn repository_of(&self, instance: &Instance) -> Result<&Repository, UnknownName> {
        self.repository(instance.repository.as_str())
    }

    /// The JSON Schema of the file, for editors.
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(raw::RawConfig).to_value()
    }
}

fn find<'a, T>(
    what: &'static str,
    all: &'a BTreeMap<Name, T>,
    name: &str,
) -> Result<&'a T, UnknownName> {
    all.get(name).ok_or_else(|| UnknownName::new(what, name, all.keys().map(Name::as_str)))
}
