//! The configuration in effect, written as a file again: every default filled in, secrets as references.
//!
//! What is written here reads back as the same configuration, but for what is hidden in addresses.

mod notify;
mod pair;

use super::{
    Config, Credentials, GitRepository, Instance, MongodbSettings, MongodbWay, Objectives,
    Platform, PostgresSettings, Repository,
};
use crate::config::location::redact_url;
use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::policy::retention::Keep;
use crate::policy::schedule::Schedule;
use jiff::SignedDuration;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Serialize)]
struct Shown<'a> {
    state: ShownState<'a>,
    daemon: ShownDaemon<'a>,
    defaults: ShownDefaults<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access: Option<ShownAccess<'a>>,
    repository: BTreeMap<&'a Name, ShownRepository<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    instance: BTreeMap<&'a Name, ShownInstance<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pair: BTreeMap<&'a Name, pair::ShownPair<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    git: BTreeMap<&'a Name, ShownGit<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notify: Vec<notify::ShownNotify<'a>>,
}

#[derive(Serialize)]
struct ShownState<'a> {
    dir: Cow<'a, str>,
}

#[derive(Serialize)]
struct ShownDaemon<'a> {
    socket: Cow<'a, str>,
    jobs: usize,
    jobs_per_repository: usize,
}

#[derive(Serialize)]
struct ShownDefaults<'a> {
    timezone: &'a str,
}

#[derive(Serialize)]
struct ShownRepository<'a> {
    url: String,
    password: &'a SecretRef,
    compression: i32,
    lock_wait: String,
    prune: &'a str,
    check: &'a str,
    check_period: String,
}

#[derive(Serialize)]
struct ShownObjectives {
    #[serde(skip_serializing_if = "Option::is_none")]
    rpo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rto: Option<String>,
}

#[derive(Serialize)]
struct ShownInstance<'a> {
    platform: String,
    via: String,
    exclude: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    git: &'a [Name],
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_http: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a SecretRef>,
    #[serde(flatten)]
    looked_after: ShownUpkeep<'a>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    paths: BTreeMap<&'a Name, Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<ShownVersion<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compose: Option<pair::ShownCompose<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<ShownLogin<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<ShownComponents<'a>>,
}

#[derive(Serialize)]
struct ShownVersion<'a> {
    file: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownLogin<'a> {
    user: &'a str,
    password: &'a SecretRef,
}

/// When snapshots are taken, where they go, and how long they are kept.
#[derive(Serialize)]
struct ShownUpkeep<'a> {
    timezone: &'a str,
    repository: &'a Name,
    schedule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    catch_up: Option<String>,
    deadline: String,
    keep: &'a Keep,
    #[serde(skip_serializing_if = "Option::is_none")]
    objectives: Option<ShownObjectives>,
}

#[derive(Serialize)]
struct ShownGit<'a> {
    platform: String,
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pair: Option<&'a Name>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_key: Option<&'a SecretRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ssh_passphrase: Option<&'a SecretRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a SecretRef>,
    user: &'a str,
    #[serde(flatten)]
    looked_after: ShownUpkeep<'a>,
    branches: ShownBranches<'a>,
}

#[derive(Serialize)]
struct ShownBranches<'a> {
    staging: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    production: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownPostgres<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a SecretRef>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    databases: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct ShownComponents<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    mongodb: Option<ShownMongodb<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    postgres: Option<ShownPostgres<'a>>,
}

#[derive(Serialize)]
struct ShownMongodb<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    via: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a SecretRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a str>,
}

#[derive(Serialize)]
struct ShownAccess<'a> {
    ssh_config: Cow<'a, str>,
}

impl Config {
    /// The configuration in effect as TOML, with defaults filled in and secrets as references.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn show(&self) -> String {
        let shown = Shown {
            state: ShownState { dir: self.state_dir.to_string_lossy() },
            daemon: ShownDaemon {
                socket: self.daemon.socket.to_string_lossy(),
                jobs: self.daemon.jobs,
                jobs_per_repository: self.daemon.jobs_per_repository,
            },
            defaults: ShownDefaults { timezone: self.timezone.iana_name().unwrap_or("UTC") },
            access: self
                .ssh_config
                .as_ref()
                .map(|path| ShownAccess { ssh_config: path.to_string_lossy() }),
            repository: self.repositories.values().map(|it| (&it.name, repository(it))).collect(),
            instance: self
                .instances
                .values()
                .filter(|it| it.platform != Platform::Git)
                .map(|it| (&it.name, instance(it)))
                .collect(),
            git: self
                .gits
                .values()
                .filter_map(|it| Some((&it.name, git(it, self.instances.get(&it.name)?))))
                .collect(),
            pair: self.pairs.values().map(|it| (&it.name, pair::pair(it))).collect(),
            notify: self.channels.iter().map(notify::channel).collect(),
        };
        toml::to_string(&shown).expect("names, texts and numbers can all be written as TOML")
    }
}

fn shown_duration(duration: Duration) -> String {
    format!("{:#}", SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX))
}

fn shown_schedule(schedule: Option<&Schedule>) -> &str {
    schedule.map_or("off", Schedule::text)
}

fn repository(repository: &Repository) -> ShownRepository<'_> {
    ShownRepository {
        url: redact_url(&repository.location.to_string()),
        password: &repository.password,
        compression: repository.compression,
        lock_wait: shown_duration(repository.lock_wait),
        prune: shown_schedule(repository.prune.as_ref()),
        check: shown_schedule(repository.check.as_ref()),
        check_period: shown_duration(repository.check_period),
    }
}

fn instance(instance: &Instance) -> ShownInstance<'_> {
    let web = instance.web.as_ref();
    let credentials = web.and_then(|web| web.credentials.as_ref());
    ShownInstance {
        platform: instance.platform.to_string(),
        via: instance.via.to_string(),
        exclude: &instance.exclude,
        git: &instance.gits,
        looked_after: upkeep(instance),
        environment: instance.environment.as_ref().map(|path| path.to_string_lossy()),
        url: web.map(|web| web.url.as_str()),
        plain_http: web.and_then(|web| web.plain_http.then_some(true)),
        token: match credentials {
            Some(Credentials::Token(token)) => Some(token),
            _ => None,
        },
        login: match credentials {
            Some(Credentials::Login { user, password }) => Some(ShownLogin { user, password }),
            _ => None,
        },
        paths: instance
            .paths
            .iter()
            .map(|root| (&root.name, root.path.to_string_lossy()))
            .collect(),
        version: instance.version.as_ref().map(|version| ShownVersion {
            file: version.file.to_string_lossy(),
            member: version.member.as_deref(),
        }),
        compose: instance.compose.as_ref().map(pair::compose),
        component: components(instance),
    }
}

fn upkeep(instance: &Instance) -> ShownUpkeep<'_> {
    ShownUpkeep {
        timezone: instance.timezone_name(),
        repository: &instance.repository,
        schedule: shown_schedule(instance.schedule.as_ref()),
        jitter: instance.schedule.as_ref().map(|schedule| shown_duration(schedule.jitter())),
        catch_up: instance.schedule.as_ref().map(|schedule| shown_duration(schedule.catch_up())),
        deadline: shown_duration(instance.deadline),
        keep: &instance.keep,
        objectives: (instance.objectives != Objectives::default()).then(|| ShownObjectives {
            rpo: instance.objectives.rpo.map(shown_duration),
            rto: instance.objectives.rto.map(shown_duration),
        }),
    }
}

fn git<'a>(git: &'a GitRepository, instance: &'a Instance) -> ShownGit<'a> {
    ShownGit {
        platform: git.platform.to_string(),
        url: git.url.to_string(),
        pair: git.pair.as_ref(),
        ssh_key: git.ssh_key.as_ref(),
        ssh_passphrase: git.ssh_passphrase.as_ref(),
        token: git.token.as_ref(),
        user: &git.user,
        looked_after: upkeep(instance),
        branches: ShownBranches {
            staging: &git.staging_branch,
            production: git.production_branch.as_deref(),
        },
    }
}

fn components(instance: &Instance) -> Option<ShownComponents<'_>> {
    let Instance { mongodb, postgres, .. } = instance;
    let mongodb = (*mongodb != MongodbSettings::default()).then(|| shown_mongodb(mongodb));
    let postgres = (*postgres != PostgresSettings::default()).then(|| shown_postgres(postgres));
    (mongodb.is_some() || postgres.is_some()).then_some(ShownComponents { mongodb, postgres })
}

fn shown_mongodb(settings: &MongodbSettings) -> ShownMongodb<'_> {
    ShownMongodb {
        via: settings.via.as_ref().map(ToString::to_string),
        way: (settings.way != MongodbWay::default()).then(|| settings.way.as_str()),
        tools: settings.tools.as_ref().map(|path| path.to_string_lossy()),
        url: settings.url.as_ref(),
        database: settings.database.as_deref(),
    }
}

fn shown_postgres(settings: &PostgresSettings) -> ShownPostgres<'_> {
    ShownPostgres {
        via: settings.via.as_ref().map(ToString::to_string),
        host: settings.host.as_deref(),
        port: settings.port,
        user: settings.user.as_deref(),
        password: settings.password.as_ref(),
        databases: &settings.databases,
        tools: settings.tools.as_ref().map(|path| path.to_string_lossy()),
    }
}
