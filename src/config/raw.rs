//! The configuration as it is written: what serde reads, with the place of each value, and what the schema shows.
//!
//! Nothing is checked here beyond names, types and unknown keys; `validate` does the rest. The doc comments are the
//! descriptions in the JSON Schema.

mod git;
mod notify;
mod pair;

pub(super) use git::RawGit;
pub(super) use notify::{RawMail, RawNotify, RawPing, RawWebhook};
pub(super) use pair::{
    RawCommandDriver, RawCompose, RawCounts, RawDriver, RawHttp, RawMaintenance, RawPair, RawTexts,
    RawTrial, RawTrialTable,
};

use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::policy::retention::Keep;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use toml::Spanned;

/// Tables by name; the names with their places.
pub(super) type Tables<T> = BTreeMap<Spanned<Name>, T>;

/// The configuration of Belay.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Belay's configuration")]
pub(super) struct RawConfig {
    /// Where snapshots are stored.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Name, RawRepository>")]
    pub repository: Tables<RawRepository>,
    /// Where Belay keeps its own state.
    #[serde(default)]
    pub state: RawState,
    /// What holds for each instance that does not say otherwise.
    #[serde(default)]
    pub defaults: RawDefaults,
    /// What to back up.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Name, RawInstance>")]
    pub instance: Tables<RawInstance>,
    /// A staging and a production instance that belong together.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Name, RawPair>")]
    pub pair: Tables<RawPair>,
    /// Git repositories that hold apps.
    #[serde(default)]
    #[schemars(with = "BTreeMap<Name, RawGit>")]
    pub git: Tables<RawGit>,
    /// How instances that live elsewhere are reached.
    #[serde(default)]
    pub access: RawAccess,
    /// The daemon.
    #[serde(default)]
    pub daemon: RawDaemon,
    /// Who is told, and of what.
    #[serde(default)]
    #[schemars(with = "Vec<RawNotify>")]
    pub notify: Vec<Spanned<RawNotify>>,
}

/// The daemon.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDaemon {
    /// An absolute path: the socket of its API. The default is /run/belay/belay.sock.
    #[schemars(with = "Option<String>")]
    pub socket: Option<Spanned<String>>,
    /// How many jobs may run at once. The default is 2.
    #[schemars(with = "Option<u32>", range(min = 1, max = 64))]
    pub jobs: Option<Spanned<i64>>,
    /// How many jobs may use a repository at once. The default is 2.
    #[schemars(with = "Option<u32>", range(min = 1, max = 64))]
    pub jobs_per_repository: Option<Spanned<i64>>,
}

/// How instances that live elsewhere are reached.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAccess {
    /// An absolute path: the configuration of ssh that is used in place of the user's own.
    #[schemars(with = "Option<String>")]
    pub ssh_config: Option<Spanned<String>>,
}

/// A place where snapshots are stored.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRepository {
    /// An absolute path of a local directory, also as `file:///path`.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// Where its password is found.
    #[schemars(with = "SecretRef")]
    pub password: Spanned<String>,
    /// The zstd level, 1 (the default) to 19.
    #[schemars(with = "Option<i64>", range(min = 1, max = 19))]
    pub compression: Option<Spanned<i64>>,
    /// How long to wait while another program holds the repository, such as "5m". The default is "1m".
    #[schemars(with = "Option<String>")]
    pub lock_wait: Option<Spanned<String>>,
    /// When the daemon forgets and reclaims: a cron pattern, or "off". The default is "0 5 * * SUN".
    #[schemars(with = "Option<String>")]
    pub prune: Option<Spanned<String>>,
    /// When the daemon checks it: a cron pattern, or "off". The default is "0 6 * * *".
    #[schemars(with = "Option<String>")]
    pub check: Option<Spanned<String>>,
    /// Within which time the daemon's checks read every byte, a part at each. The default is "30d".
    #[schemars(with = "Option<String>")]
    pub check_period: Option<Spanned<String>>,
}

/// Where Belay keeps its own state.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawState {
    /// An absolute path. The default is /var/lib/belay/state.
    #[schemars(with = "Option<String>")]
    pub dir: Option<Spanned<String>>,
}

/// What holds for each instance that does not say otherwise.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDefaults {
    /// A time zone by its IANA name, such as "Europe/Berlin". The default is "UTC".
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Spanned<String>>,
    /// Which snapshots to keep. Everything is kept when it is left out.
    pub keep: Option<Keep>,
    /// When the daemon takes a snapshot: a cron pattern, such as "30 2 * * *", or "off", which is the default.
    #[schemars(with = "Option<String>")]
    pub schedule: Option<Spanned<String>>,
    /// By how much a start may be put off, so that not all begin at once, such as "10m". The default is "0s".
    #[schemars(with = "Option<String>")]
    pub jitter: Option<Spanned<String>>,
    /// How late a start that was missed is still made up for, such as "12h". The default is "24h".
    #[schemars(with = "Option<String>")]
    pub catch_up: Option<Spanned<String>>,
    /// How long a backup by the daemon may take, such as "6h". The default is "12h".
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Spanned<String>>,
}

/// An installation to back up.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInstance {
    /// What it is; this version knows "appsmith", "files", "mongodb", "postgres" and "tooljet".
    #[schemars(with = "String")]
    pub platform: Spanned<String>,
    /// Where it lives: "local" (the default), "docker:CONTAINER", "ssh:USER@HOST", or a chain of these with "/" between.
    #[schemars(with = "Option<String>")]
    pub via: Option<Spanned<String>>,
    /// Directories of the platform "files", by absolute path: a list, or a table of names and paths.
    #[schemars(with = "Option<RawPaths>")]
    pub paths: Option<Spanned<RawPaths>>,
    /// The file that says which version runs, for upgrades of the platform "files".
    #[schemars(with = "Option<RawVersion>")]
    pub version: Option<Spanned<RawVersion>>,
    /// The file with its environment, by absolute path where it lives.
    #[schemars(with = "Option<String>")]
    pub environment: Option<Spanned<String>>,
    /// Where its parts are, as far as its environment does not say.
    #[serde(default)]
    pub component: RawComponents,
    /// Where people open it, such as `https://apps.example.com`: for `belay apps import` and `apps pull`, and tests of an upgrade.
    #[schemars(with = "Option<String>")]
    pub url: Option<Spanned<String>>,
    /// Whether `url` may be http:// where it is not on this machine. The default is false.
    #[schemars(with = "Option<bool>")]
    pub plain_http: Option<Spanned<bool>>,
    /// Who logs in there; for the platform "appsmith".
    #[schemars(with = "Option<RawLogin>")]
    pub login: Option<Spanned<RawLogin>>,
    /// The access token of its external API; for the platform "tooljet".
    #[schemars(with = "Option<SecretRef>")]
    pub token: Option<Spanned<String>>,
    /// Where Docker Compose has it: for upgrades with `driver = "compose"`.
    #[schemars(with = "Option<RawCompose>")]
    pub compose: Option<Spanned<RawCompose>>,
    /// Names of git repositories whose mirrors go into its snapshots, too.
    #[serde(default)]
    #[schemars(with = "Vec<Name>")]
    pub git: Vec<Spanned<String>>,
    /// Whether a backup stops what writes, for as long as it reads, so that all parts are of one moment. The default is false.
    #[schemars(with = "Option<bool>")]
    pub quiesce: Option<Spanned<bool>>,
    /// Patterns of what to leave out, such as "*.tmp".
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Vec<Spanned<String>>,
    /// Which snapshots to keep, in place of the defaults.
    pub keep: Option<Keep>,
    /// When the daemon takes a snapshot: a cron pattern, such as "30 2 * * *", or "off".
    #[schemars(with = "Option<String>")]
    pub schedule: Option<Spanned<String>>,
    /// By how much a start may be put off, so that not all begin at once, such as "10m". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub jitter: Option<Spanned<String>>,
    /// How late a start that was missed is still made up for, such as "12h". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub catch_up: Option<Spanned<String>>,
    /// How long a backup by the daemon may take, such as "6h". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Spanned<String>>,
    /// What is promised of it.
    pub objectives: Option<RawObjectives>,
    /// A time zone, in place of the defaults.
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Spanned<String>>,
    /// The repository that its snapshots go to; needed when there are several.
    #[schemars(with = "Option<Name>")]
    pub repository: Option<Spanned<String>>,
}

/// What says which version an instance runs.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVersion {
    /// A file, by absolute path: the version and nothing else, or with `member` a JSON object.
    #[schemars(with = "String")]
    pub file: Spanned<String>,
    /// The member of that object, such as "version".
    #[schemars(with = "Option<String>")]
    pub member: Option<Spanned<String>>,
}

/// Who logs in at an instance.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLogin {
    /// The user, such as "belay@example.com".
    pub user: String,
    /// That user's password.
    #[schemars(with = "SecretRef")]
    pub password: Spanned<String>,
}

/// What is promised of an instance.
#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawObjectives {
    /// How old its last good snapshot may become, such as "24h".
    #[schemars(with = "Option<String>")]
    pub rpo: Option<Spanned<String>>,
    /// How long it may take to bring it back, such as "30m".
    #[schemars(with = "Option<String>")]
    pub rto: Option<Spanned<String>>,
}

/// Where the parts of an instance are.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawComponents {
    /// Its PostgreSQL server.
    #[schemars(with = "Option<RawPostgres>")]
    pub postgres: Option<Spanned<RawPostgres>>,
    /// Its MongoDB server.
    #[schemars(with = "Option<RawMongodb>")]
    pub mongodb: Option<Spanned<RawMongodb>>,
}

/// How a MongoDB server is reached.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMongodb {
    /// From where it is reached. The default is where the instance lives, and this host where `url` is given.
    #[schemars(with = "Option<String>")]
    pub via: Option<Spanned<String>>,
    /// Its connection string, as seen from there. The default is what the environment says.
    #[schemars(with = "Option<SecretRef>")]
    pub url: Option<Spanned<String>>,
    /// Which database. The default is the one that the connection string names.
    pub database: Option<String>,
    /// How it is read: "wire" (the default), all collections at one moment; "mongodump", by MongoDB's own programs where it lives.
    #[schemars(with = "Option<String>")]
    pub way: Option<Spanned<String>>,
    /// A directory with mongodump and mongorestore, by absolute path; for way = "mongodump".
    #[schemars(with = "Option<String>")]
    pub tools: Option<Spanned<String>>,
}

/// How a PostgreSQL server is reached.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPostgres {
    /// Where the server's own programs run; the default is where the instance lives.
    #[schemars(with = "Option<String>")]
    pub via: Option<Spanned<String>>,
    /// A name, an address, or the directory of the server's socket, as seen from there.
    pub host: Option<String>,
    /// Its port.
    pub port: Option<u16>,
    /// Who connects; best a superuser.
    pub user: Option<String>,
    /// That user's password.
    #[schemars(with = "Option<SecretRef>")]
    pub password: Option<Spanned<String>>,
    /// Which databases. The default is those that the environment names, or all.
    #[serde(default)]
    pub databases: Vec<String>,
    /// A directory with the server's own programs, by absolute path.
    #[schemars(with = "Option<String>")]
    pub tools: Option<Spanned<String>>,
}

/// Directories: a list, or a table of names.
pub(super) enum RawPaths {
    /// Each is named after its last part.
    List(Vec<Spanned<String>>),
    /// Named.
    Table(BTreeMap<Spanned<Name>, Spanned<String>>),
}

impl<'de> Deserialize<'de> for RawPaths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not an untagged enum of serde's: that would lose the places.
        struct PathsVisitor;

        impl<'de> Visitor<'de> for PathsVisitor {
            type Value = RawPaths;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list of paths, or a table of names and paths")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawPaths, A::Error> {
                let mut paths = Vec::new();
                while let Some(path) = list.next_element()? {
                    paths.push(path);
                }
                Ok(RawPaths::List(paths))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<RawPaths, A::Error> {
                let mut paths = BTreeMap::new();
                while let Some((name, path)) = table.next_entry()? {
                    paths.insert(name, path);
                }
                Ok(RawPaths::Table(paths))
            }
        }

        deserializer.deserialize_any(PathsVisitor)
    }
}

impl JsonSchema for RawPaths {
    fn schema_name() -> Cow<'static, str> {
        "Paths".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                generator.subschema_for::<Vec<String>>(),
                generator.subschema_for::<BTreeMap<Name, String>>(),
            ]
        })
    }
}
