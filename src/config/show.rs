//! The configuration in effect, written as a file again: every default filled in, secrets as references.
//!
//! What is written here reads back as the same configuration.

use super::{Config, Instance, Pair, Repository};
use crate::config::location::redact_url;
use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::policy::retention::Keep;
use jiff::SignedDuration;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Shown<'a> {
    state: ShownState<'a>,
    repository: BTreeMap<&'a Name, ShownRepository<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    instance: BTreeMap<&'a Name, ShownInstance<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pair: BTreeMap<&'a Name, ShownPair<'a>>,
}

#[derive(Serialize)]
struct ShownState<'a> {
    dir: Cow<'a, str>,
}

#[derive(Serialize)]
struct ShownRepository<'a> {
    url: String,
    password: &'a SecretRef,
    compression: i32,
    lock_wait: String,
}

#[derive(Serialize)]
struct ShownInstance<'a> {
    platform: String,
    via: String,
    exclude: &'a [String],
    timezone: &'a str,
    repository: &'a Name,
    paths: BTreeMap<&'a Name, Cow<'a, str>>,
    keep: &'a Keep,
}

#[derive(Serialize)]
struct ShownPair<'a> {
    staging: &'a Name,
    production: &'a Name,
}

impl Config {
    /// The configuration in effect as TOML, with defaults filled in and secrets as references.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn show(&self) -> String {
        let shown = Shown {
            state: ShownState { dir: self.state_dir.to_string_lossy() },
            repository: self.repositories.values().map(|it| (&it.name, repository(it))).collect(),
            instance: self.instances.values().map(|it| (&it.name, instance(it))).collect(),
            pair: self.pairs.values().map(|it| (&it.name, pair(it))).collect(),
        };
        toml::to_string(&shown).expect("names, texts and numbers can all be written as TOML")
    }
}

fn repository(repository: &Repository) -> ShownRepository<'_> {
    let wait = SignedDuration::try_from(repository.lock_wait).unwrap_or(SignedDuration::MAX);
    ShownRepository {
        url: redact_url(&repository.location.to_string()),
        password: &repository.password,
        compression: repository.compression,
        lock_wait: format!("{wait:#}"),
    }
}

fn instance(instance: &Instance) -> ShownInstance<'_> {
    ShownInstance {
        platform: instance.platform.to_string(),
        via: instance.via.to_string(),
        exclude: &instance.exclude,
        timezone: instance.timezone_name(),
        repository: &instance.repository,
        paths: instance
            .paths
            .iter()
            .map(|root| (&root.name, root.path.to_string_lossy()))
            .collect(),
        keep: &instance.keep,
    }
}

fn pair(pair: &Pair) -> ShownPair<'_> {
    ShownPair { staging: &pair.staging, production: &pair.production }
}
