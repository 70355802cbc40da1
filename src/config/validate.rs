//! From the raw configuration to the one in effect: references followed, defaults filled in, values checked.
//!
//! All problems are collected, not only the first. A value with a problem is left out, and what refers to it by name
//! is not blamed for that.

mod git;
mod instance;
mod notify;
mod pair;
mod schedule;

use super::error::{Problem, did_you_mean};
use super::location::{Location, LocationError, absolute_path};
use super::raw::{RawConfig, RawDefaults, RawRepository, Tables};
use super::secret::SecretRef;
use super::syntax::problem;
use super::{Config, DEFAULT_STATE_DIR, Instance, Repository, SourceText};
use crate::model::name::Name;
use crate::policy::retention::Keep;
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};
use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::Spanned;

/// The zstd levels that may be asked for; above 19 they need much more memory to read, too.
const COMPRESSION_LEVELS: RangeInclusive<i64> = 1..=19;
const DEFAULT_COMPRESSION: i64 = 1;
const DEFAULT_LOCK_WAIT: Duration = Duration::from_mins(1);

/// Check everything. The problems are in the order of their places.
pub(super) fn validate(raw: &RawConfig, origin: &str, text: &str) -> Result<Config, Vec<Problem>> {
    let mut checker = Checker { text, problems: Vec::new() };
    let defaults = checker.defaults(&raw.defaults);
    let repositories = checker.repositories(&raw.repository, &defaults.timezone);
    let state_dir = checker.state_dir(raw);
    checker.separate_places(raw, &repositories, &state_dir);
    let mut instances = checker.instances(raw, &repositories, &state_dir, &defaults);
    let gits = checker.gits(raw, &mut instances, &defaults);
    let pairs = checker.pairs(&raw.pair, raw, &instances);
    let ssh_config = raw.access.ssh_config.as_ref();
    let ssh_config = ssh_config.and_then(|path| checker.path("ssh_config", path));
    let daemon = checker.daemon(&raw.daemon);
    let channels = checker.channels(raw);
    if checker.problems.is_empty() {
        return Ok(Config {
            origin: origin.to_owned(),
            text: SourceText(text.to_owned()),
            state_dir,
            repositories,
            instances,
            pairs,
            gits,
            ssh_config,
            daemon,
            timezone: defaults.timezone,
            channels,
        });
    }
    let mut problems = checker.problems;
    problems.sort_by_key(|problem| (problem.line, problem.column));
    Err(problems)
}

/// What holds for instances that do not say otherwise.
struct Defaults {
    keep: Keep,
    timezone: TimeZone,
    timing: schedule::Timing,
}

/// Collects problems while values are checked. A method that answers with nothing has told a problem.
struct Checker<'a> {
    text: &'a str,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    /// Tell a problem of a value or of a table's name, and what to do about it.
    fn refuse(&mut self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.refuse_perhaps_with(span, &message.into(), Some(&hint.into()));
    }

    /// Tell a problem that may explain itself.
    fn refuse_perhaps_with(&mut self, span: &Range<usize>, message: &str, hint: Option<&str>) {
        self.problems.push(problem(self.text, span, true, message, hint));
    }

    fn refuse_location(&mut self, key: &str, span: &Range<usize>, error: &LocationError) {
        self.refuse_perhaps_with(span, &format!("{key}: {error}"), error.hint());
    }

    fn path(&mut self, key: &str, value: &Spanned<String>) -> Option<PathBuf> {
        absolute_path(value.get_ref())
            .inspect_err(|error| self.refuse_location(key, &value.span(), error))
            .ok()
    }

    fn state_dir(&mut self, raw: &RawConfig) -> PathBuf {
        let given = raw.state.dir.as_ref().and_then(|dir| self.path("dir", dir));
        given.unwrap_or_else(|| DEFAULT_STATE_DIR.into())
    }

    fn repositories(
        &mut self,
        raw: &Tables<RawRepository>,
        timezone: &TimeZone,
    ) -> BTreeMap<Name, Repository> {
        if raw.is_empty() {
            self.refuse(
                &(0..0),
                "no repository is configured",
                "add a table [repository.main] with url and password",
            );
        }
        let mut repositories = BTreeMap::new();
        for (name, raw) in raw {
            if let Some(repository) = self.repository(name.get_ref(), raw, timezone) {
                repositories.insert(name.get_ref().clone(), repository);
            }
        }
        repositories
    }

    fn repository(
        &mut self,
        name: &Name,
        raw: &RawRepository,
        timezone: &TimeZone,
    ) -> Option<Repository> {
        let location = raw.url.get_ref().parse::<Location>();
        let location =
            location.inspect_err(|error| self.refuse_location("url", &raw.url.span(), error)).ok();
        let password = self.secret("password", &raw.password);
        let compression = raw.compression.as_ref();
        let level = compression.map_or(DEFAULT_COMPRESSION, |level| *level.get_ref());
        if let (Some(given), false) = (compression, COMPRESSION_LEVELS.contains(&level)) {
            let hint = "zstd levels are 1 (fast) to 19 (small)";
            self.refuse(&given.span(), format!("compression: there is no level {level}"), hint);
        }
        let lock_wait = raw
            .lock_wait
            .as_ref()
            .map_or(Some(DEFAULT_LOCK_WAIT), |wait| self.duration("lock_wait", wait));
        let upkeep = self.upkeep(raw, timezone);
        Some(Repository {
            name: name.clone(),
            location: location?,
            password: password?,
            compression: i32::try_from(level).ok()?,
            lock_wait: lock_wait?,
            prune: upkeep.prune,
            check: upkeep.check,
            check_period: upkeep.check_period,
        })
    }

    fn secret(&mut self, key: &str, text: &Spanned<String>) -> Option<SecretRef> {
        text.get_ref()
            .parse::<SecretRef>()
            .inspect_err(|error| self.refuse(&text.span(), format!("{key}: {error}"), error.hint()))
            .ok()
    }

    fn duration(&mut self, key: &str, value: &Spanned<String>) -> Option<Duration> {
        let parsed = value.get_ref().parse::<Span>().ok();
        // A day is 24 hours here, whatever a clock change makes of it.
        let days = SpanRelativeTo::days_are_24_hours();
        let duration = parsed.and_then(|span| span.to_duration(days).ok());
        let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
        if duration.is_none() {
            let message = format!("{key}: '{}' is no length of time", value.get_ref());
            self.refuse(
                &value.span(),
                message,
                "write such as \"30s\", \"5m\", \"1h 30m\" or \"7d\"",
            );
        }
        duration
    }

    /// Repositories and the state must not hold each other: what one cleans up would belong to another.
    fn separate_places(
        &mut self,
        raw: &RawConfig,
        repositories: &BTreeMap<Name, Repository>,
        state_dir: &Path,
    ) {
        let mut seen: Vec<&Repository> = Vec::new();
        for (name, raw_repository) in &raw.repository {
            let Some(repository) = repositories.get(name.get_ref()) else { continue };
            let Location::Local(path) = &repository.location;
            let span = raw_repository.url.span();
            if overlap(path, state_dir) {
                let message = format!(
                    "url: the repository and the state directory {} overlap",
                    state_dir.display()
                );
                self.refuse(&span, message, "give each a directory of its own");
            }
            for other in &seen {
                let Location::Local(other_path) = &other.location;
                if overlap(path, other_path) {
                    let message = format!(
                        "url: the repositories '{}' and '{}' overlap",
                        other.name,
                        name.get_ref()
                    );
                    self.refuse(&span, message, "give each a directory of its own");
                }
            }
            seen.push(repository);
        }
    }

    fn defaults(&mut self, raw: &RawDefaults) -> Defaults {
        let timezone = raw.timezone.as_ref().and_then(|name| self.timezone(name));
        let timezone = timezone.unwrap_or(TimeZone::UTC);
        let timing = self.timing(raw, &timezone);
        Defaults { keep: raw.keep.clone().unwrap_or_default(), timezone, timing }
    }

    fn timezone(&mut self, name: &Spanned<String>) -> Option<TimeZone> {
        if let Ok(zone) = TimeZone::get(name.get_ref()) {
            return Some(zone);
        }
        let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let hint = did_you_mean(name.get_ref(), known.iter().map(String::as_str))
            .unwrap_or_else(|| "use an IANA name, such as Europe/Berlin or UTC".to_owned());
        self.refuse(&name.span(), format!("timezone: '{}' is not known", name.get_ref()), hint);
        None
    }

    fn instances(
        &mut self,
        raw: &RawConfig,
        repositories: &BTreeMap<Name, Repository>,
        state_dir: &Path,
        defaults: &Defaults,
    ) -> BTreeMap<Name, Instance> {
        let mut instances = BTreeMap::new();
        for (name, raw_instance) in &raw.instance {
            let repository = self.repository_of(name, raw_instance, raw);
            let place = repository.as_ref().and_then(|name| repositories.get(name));
            self.no_backup_of_itself(raw_instance, place, state_dir);
            let gits = self.git_of(&raw_instance.git, &raw.git);
            let platform = self.platform(&raw_instance.platform);
            let instance = self.instance(name, repository, raw_instance, platform, defaults);
            if let Some(instance) = instance {
                let instance = Instance { gits, ..instance };
                instances.insert(name.get_ref().clone(), instance);
            }
        }
        instances
    }

    /// A reference by name to one of the tables.
    fn known_name<T>(
        &mut self,
        what: &str,
        key: &str,
        name: &Spanned<String>,
        tables: &Tables<T>,
    ) -> Option<Name> {
        let known = tables.keys().map(Spanned::get_ref);
        if let Some(found) = known.clone().find(|known| known.as_str() == name.get_ref()) {
            return Some(found.clone());
        }
        let known: Vec<&str> = known.map(Name::as_str).collect();
        let hint = did_you_mean(name.get_ref(), known.iter().copied()).unwrap_or_else(
            || match known[..] {
                [] => format!("add a table [{what}.NAME]"),
                _ => format!("there is {}", known.join(", ")),
            },
        );
        self.refuse(&name.span(), format!("{key}: no {what} is called '{}'", name.get_ref()), hint);
        None
    }
}

/// Whether one path is the other, or lies in it. By their names: links are not followed.
fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}
