//! Doctor: everything that could keep a backup or a restore from working, with what to do about each.

mod platform;

use super::git::{self, Worker};
use super::session::Session;
use super::{Context, OpsError, room, status, sync};
use crate::catalog::Catalog;
use crate::config::{self, Config, GitRepository, Instance, Location, Platform, SecretSources};
use crate::model::size::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Less free room than this on the repository's file system is worth a warning.
const LITTLE_ROOM: u64 = 1024 * 1024 * 1024;
/// A snapshot that is so much newer than the clock shows that one of the two clocks is wrong.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(2);

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could work better.
    Warning,
    /// It does not work.
    Failure,
}

/// Something that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// How it stands.
    pub verdict: Verdict,
    /// What was looked at.
    pub subject: String,
    /// What was found.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// Findings, gathered.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(
        &mut self,
        verdict: Verdict,
        subject: &str,
        message: impl Into<String>,
        hint: Option<&str>,
    ) {
        let (subject, message, hint) = (subject.to_owned(), message.into(), hint.map(Into::into));
        self.0.push(Finding { verdict, subject, message, hint });
    }

    fn ok(&mut self, subject: &str, message: impl Into<String>) {
        self.add(Verdict::Ok, subject, message, None);
    }

    fn error(&mut self, subject: &str, error: &OpsError) {
        self.add(Verdict::Failure, subject, error.told(), error.hint().as_deref());
    }
}

/// Look at the configuration's repositories and instances, or at one instance.
pub fn doctor(
    config: &Config,
    only: Option<&str>,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Vec<Finding>, OpsError> {
    let chosen = only.map(|name| config.instance(name)).transpose()?;
    let is_chosen = |instance: &&Instance| chosen.is_none_or(|chosen| chosen.name == instance.name);
    let mut findings = Findings::default();
    findings.ok("configuration", format!("{} is right", config.origin()));
    match catalog(config) {
        Ok(interrupted) => {
            findings.ok("catalog", format!("{} is sound", config.state_dir.display()));
            for message in interrupted {
                findings.add(
                    Verdict::Warning,
                    "jobs",
                    message,
                    Some("look at why; `belay backup` or the restore, run again, sets it right"),
                );
            }
        }
        Err(error) => findings.error("catalog", &error),
    }
    let mut worker = Worker::new(config, secrets, context);
    for repository in config.repositories.values() {
        let instances: Vec<&Instance> = config
            .instances
            .values()
            .filter(|instance| instance.repository == repository.name)
            .filter(is_chosen)
            .collect();
        if chosen.is_some() && instances.is_empty() {
            continue;
        }
        let subject = format!("repository {}", repository.name);
        match look_at_repository(config, repository, secrets, context, &mut findings) {
            Ok(()) => {}
            Err(error) => findings.error(&subject, &error),
        }
        for instance in instances {
            look_at_instance(instance, repository, &mut findings);
            match config.gits.get(&instance.name) {
                Some(git) => look_at_git(&mut worker, git, &mut findings),
                None if instance.platform == Platform::Files => {}
                None => {
                    let with = (secrets, context);
                    platform::look_at(config, instance, repository, with, &mut findings);
                }
            }
            look_at_last_run(config, instance, &mut findings);
        }
    }
    Ok(findings.0)
}

fn catalog(config: &Config) -> Result<Vec<String>, OpsError> {
    let interrupted = status::interrupted(config)?;
    Catalog::open(&config.state_dir)?.integrity_check()?;
    Ok(interrupted)
}

fn look_at_repository(
    config: &Config,
    repository: &config::Repository,
    secrets: &SecretSources,
    context: &Context,
    findings: &mut Findings,
) -> Result<(), OpsError> {
    let subject = format!("repository {}", repository.name);
    if repository.password.resolve(secrets)?.has_outer_whitespace() {
        findings.add(
            Verdict::Warning,
            &subject,
            "the password begins or ends with white space, which restic cuts from a password file",
            Some("add a password without: belay key add"),
        );
    }
    // The catalog has a finding of its own.
    let mut session = Session::open_for_reading(config, repository, secrets, context)?;
    session.repository.require_config()?;
    findings.ok(&subject, format!("{} opens", repository.location));
    let view = sync::view_anyway(&mut session, context)?;
    let limit = Timestamp::now().saturating_add(CLOCK_TOLERANCE).unwrap_or(Timestamp::MAX);
    if let Some(newest) = view.records.iter().find(|record| record.time > limit) {
        findings.add(
            Verdict::Failure,
            "clock",
            format!(
                "snapshot {} is dated {}, which is in the future",
                newest.id.short(),
                newest.time
            ),
            Some("set the clock of this host right, or of the host that took it"),
        );
    } else {
        findings.ok("clock", "no snapshot is from the future");
    }
    if let Some(catalog) = &session.catalog {
        match status::recovery_key_problem(catalog, &session)? {
            Some(problem) => findings.add(Verdict::Warning, "recovery key", problem, None),
            None => findings.ok("recovery key", "it has opened the repository"),
        }
    }
    let free = room::free_in_repository(repository)?;
    let message = format!("{} free on its file system", Bytes(free));
    if free < LITTLE_ROOM {
        findings.add(Verdict::Warning, &subject, message, Some("make room, or run `belay prune`"));
    } else {
        findings.ok(&subject, message);
    }
    Ok(())
}

fn look_at_instance(instance: &Instance, repository: &config::Repository, findings: &mut Findings) {
    let subject = format!("instance {}", instance.name);
    let Location::Local(repository) = &repository.location;
    for root in &instance.paths {
        let path = &root.path;
        if let Err(error) = std::fs::metadata(path).and_then(|metadata| {
            if metadata.is_dir() {
                std::fs::read_dir(path).map(drop)
            } else {
                std::fs::File::open(path).map(drop)
            }
        }) {
            findings.add(
                Verdict::Failure,
                &subject,
                format!("could not read {}: {error}", path.display()),
                Some("is the path right, is its file system mounted, and may this user read it?"),
            );
            continue;
        }
        findings.ok(&subject, format!("{} can be read", path.display()));
        match overlap(path, repository) {
            Some(true) => findings.add(
                Verdict::Failure,
                &subject,
                format!("the repository {} lies inside {}", repository.display(), path.display()),
                Some("exclude it or move it: a backup of itself grows without end"),
            ),
            _ if device(path).is_some() && device(path) == device(repository) => findings.add(
                Verdict::Warning,
                &subject,
                format!("the repository is on the same file system as {}", path.display()),
                Some(
                    "keep it on another disk, better on another host: one failure would take both",
                ),
            ),
            _ => {}
        }
    }
}

/// With the secrets that a fetch would use.
fn look_at_git(worker: &mut Worker<'_>, git: &GitRepository, findings: &mut Findings) {
    let subject = format!("git repository {}", git.name);
    match git::look(worker, git) {
        Ok(0) => {
            let hint = "is `url` right? A fetch takes nothing from it";
            findings.add(Verdict::Warning, &subject, format!("{} is empty", git.url), Some(hint));
        }
        Ok(refs) => {
            let s = if refs == 1 { "" } else { "s" };
            findings.ok(&subject, format!("{} can be read: {refs} ref{s}", git.url));
        }
        Err(error) => findings.error(&subject, &error),
    }
}

/// The catalog has a finding of its own, where it cannot be used.
fn look_at_last_run(config: &Config, instance: &Instance, findings: &mut Findings) {
    let failure = || {
        let catalog = Catalog::open(&config.state_dir)?;
        let id = catalog.instance_id(&instance.name, &instance.repository)?;
        id.map_or(Ok(None), |id| status::last_failure(&catalog, id))
    };
    if let Ok::<_, OpsError>(Some(failure)) = failure() {
        let subject = format!("instance {}", instance.name);
        findings.add(Verdict::Warning, &subject, failure.told(), failure.hint.as_deref());
    }
}

/// Whether the repository lies below the path, links followed.
fn overlap(path: &Path, repository: &Path) -> Option<bool> {
    Some(repository.canonicalize().ok()?.starts_with(path.canonicalize().ok()?))
}

fn device(path: &Path) -> Option<u64> {
    Some(std::fs::metadata(path).ok()?.dev())
}
