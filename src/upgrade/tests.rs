//! Tests of an instance: what it is like before an upgrade, and whether it does as well afterwards.
//!
//! What always holds: nothing is changed in the instance; each test has a limit of time, and one that does not end in it has failed; a
//! test that cannot look has failed as well, and says why; what was broken before does not count.

mod apps_open;
mod command;
mod counts;
mod health;
mod http;
mod keys;
mod version;

use crate::config::pair::{TrialKind, TrialSettings, Upgrades};
use crate::config::{Config, Instance, SecretSources};
use crate::model::event::{Cancel, Cancelled};
use crate::model::manifest::Manifest;
use crate::model::trial::{Baseline, TrialResult, TrialVerdict};
use crate::ops::{Context, OpsError};
use crate::platform::http::Limits;
use jiff::Timestamp;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How soon the end of the time is noticed.
const LOOK: Duration = Duration::from_millis(50);
/// How long one request may take.
const REQUEST: Duration = Duration::from_mins(1);
const CONNECT: Duration = Duration::from_secs(10);
/// How long to wait until an instance is looked at again that is not healthy yet.
const AGAIN: Duration = Duration::from_secs(2);

/// The tests of one instance of a pair.
pub struct Trials<'a> {
    config: &'a Config,
    secrets: &'a SecretSources,
    instance: &'a Instance,
    tests: &'a [TrialSettings],
    context: &'a Context,
}

/// What the instance should be.
pub struct Target<'a> {
    /// The version that should run.
    pub version: &'a str,
    /// The one before, where it is known.
    pub previous: Option<&'a str>,
    /// What the snapshot has that was taken right before the hop.
    pub snapshot: Option<&'a Manifest>,
    /// Whether the state before has come back, which nothing keeps from serving but what is known to be wrong.
    pub is_back: bool,
}

/// What is asked, by whom and until when.
struct Asked<'a> {
    config: &'a Config,
    secrets: &'a SecretSources,
    instance: &'a Instance,
    /// Cancelled when the time is over.
    context: Context,
    limit: Duration,
    until: Instant,
}

impl Asked<'_> {
    /// For one request.
    fn limits(&self) -> Limits {
        let left = self.until.saturating_duration_since(Instant::now());
        // None would be no limit.
        Limits { connect: CONNECT, all: REQUEST.min(left).max(Duration::from_millis(1)) }
    }

    /// An error once the time is over or the job is asked to stop.
    fn check(&self) -> Result<(), OpsError> {
        Ok(self.context.cancel.check()?)
    }
}

/// What a test found.
struct Found {
    verdict: TrialVerdict,
    details: Vec<String>,
}

impl Found {
    fn passed(detail: impl Into<String>) -> Self {
        Self { verdict: TrialVerdict::Passed, details: vec![detail.into()] }
    }

    fn failed(detail: impl Into<String>) -> Self {
        Self { verdict: TrialVerdict::Failed, details: vec![detail.into()] }
    }

    fn not_applicable(detail: impl Into<String>) -> Self {
        Self { verdict: TrialVerdict::NotApplicable, details: vec![detail.into()] }
    }

    /// Failed where there are troubles; the summary comes first.
    fn of(summary: String, troubles: Vec<String>) -> Self {
        let verdict = if troubles.is_empty() { TrialVerdict::Passed } else { TrialVerdict::Failed };
        let mut details = vec![summary];
        details.extend(troubles);
        Self { verdict, details }
    }
}

impl<'a> Trials<'a> {
    /// The tests that a pair with these upgrades has, for one of its instances.
    pub fn new(
        config: &'a Config,
        secrets: &'a SecretSources,
        upgrades: &'a Upgrades,
        instance: &'a Instance,
        context: &'a Context,
    ) -> Self {
        Self { config, secrets, instance, tests: &upgrades.tests, context }
    }

    /// Look at the instance before it is upgraded. What cannot be looked at is in [`Baseline::unknown`].
    pub fn baseline(&self, snapshot: Option<&Manifest>) -> Result<Baseline, Cancelled> {
        self.context
            .events
            .phase("looking at", format!("{} before it is upgraded", self.instance.name));
        let mut baseline = Baseline { taken_at: Some(Timestamp::now()), ..Baseline::default() };
        for test in self.tests {
            let looked = match &test.kind {
                TrialKind::AppsOpen => self.within(test.timeout, |asked| {
                    apps_open::list(asked).map(|apps| baseline.apps = Some(apps))
                }),
                TrialKind::Counts(_) => self.within(test.timeout, |asked| {
                    counts::before(asked, snapshot).map(|counts| baseline.counts = counts)
                }),
                TrialKind::Keys => self.within(test.timeout, |asked| {
                    keys::before(asked).map(|keys| baseline.keys = keys)
                }),
                TrialKind::Version => self.within(test.timeout, |asked| {
                    version::found(asked).map(|(version, _)| baseline.version = version)
                }),
                TrialKind::Health => self.within(test.timeout, |asked| {
                    health::before(asked).map(|parts| baseline.parts = parts)
                }),
                TrialKind::Command(_) | TrialKind::Http(_) => continue,
            };
            if let Err(reason) = looked? {
                self.context.events.warn(format!(
                    "{}: {} could not look before the upgrade: {reason}.",
                    self.instance.name, test.kind
                ));
                baseline.unknown.insert(test.kind.to_string(), reason);
            }
        }
        Ok(baseline)
    }

    /// Run all tests, in the order of the configuration, also after one has failed: a person wants to know all.
    pub fn run(
        &self,
        target: &Target<'_>,
        baseline: &Baseline,
    ) -> Result<Vec<TrialResult>, Cancelled> {
        let mut results = Vec::new();
        for test in self.tests {
            self.context
                .events
                .phase("testing", format!("{} of {}", test.kind, self.instance.name));
            let begun = Instant::now();
            let looked =
                self.within(test.timeout, |asked| one(asked, &test.kind, target, baseline))?;
            let found = looked.unwrap_or_else(Found::failed);
            results.push(result_of(&test.kind, found, begun.elapsed()));
        }
        Ok(results)
    }

    /// Wait until the instance is healthy, for at most this long: a platform takes a while to start. Where there is no such
    /// test there is nothing to wait for.
    pub fn wait_until_healthy(
        &self,
        limit: Duration,
        baseline: &Baseline,
    ) -> Result<TrialResult, Cancelled> {
        let kind = TrialKind::Health;
        let begun = Instant::now();
        if !self.tests.iter().any(|test| test.kind == kind) {
            let found = Found::not_applicable("the pair has no test of health");
            return Ok(result_of(&kind, found, begun.elapsed()));
        }
        self.context.events.phase("waiting", format!("for {} to be healthy", self.instance.name));
        let (stop, stopped) = channel::<()>();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let found = self
                .within(left, |asked| health::run(asked, baseline))?
                .unwrap_or_else(Found::failed);
            if found.verdict.is_fine() || begun.elapsed() + AGAIN >= limit {
                drop(stop);
                return Ok(result_of(&kind, found, begun.elapsed()));
            }
            // Nobody sends: it is a sleep that could be woken.
            let _ = stopped.recv_timeout(AGAIN);
        }
    }

    /// Do work that ends in time: the inner error is the reason why it did not do well.
    fn within<T>(
        &self,
        limit: Duration,
        work: impl FnOnce(&Asked<'_>) -> Result<T, OpsError>,
    ) -> Result<Result<T, String>, Cancelled> {
        self.context.cancel.check()?;
        let own = Context::new(self.context.events.clone(), Cancel::new());
        let begun = Instant::now();
        let asked = Asked {
            config: self.config,
            secrets: self.secrets,
            instance: self.instance,
            context: own.clone(),
            limit,
            until: begun + limit,
        };
        let (done, wait) = channel::<()>();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                let wait = wait;
                while wait.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if self.context.cancel.is_cancelled() || begun.elapsed() >= limit {
                        own.cancel.cancel();
                        return;
                    }
                }
            });
            let result = work(&asked);
            drop(done);
            result
        });
        self.context.cancel.check()?;
        Ok(result.map_err(|error| {
            if begun.elapsed() >= limit {
                return format!("it did not end within {} seconds: {error}", limit.as_secs());
            }
            error.to_string()
        }))
    }
}

fn one(
    asked: &Asked<'_>,
    kind: &TrialKind,
    target: &Target<'_>,
    baseline: &Baseline,
) -> Result<Found, OpsError> {
    match kind {
        TrialKind::Health => health::run(asked, baseline),
        TrialKind::Version => version::run(asked, target),
        TrialKind::AppsOpen => apps_open::run(asked, target, baseline),
        TrialKind::Counts(settings) => counts::run(asked, settings, target, baseline),
        TrialKind::Keys => keys::run(asked, baseline),
        TrialKind::Command(script) => command::run(asked, script, target),
        TrialKind::Http(settings) => http::run(asked, settings),
    }
}

fn result_of(kind: &TrialKind, found: Found, took: Duration) -> TrialResult {
    let Found { verdict, mut details } = found;
    let over = details.len().saturating_sub(TrialResult::MOST_DETAILS);
    if over > 0 {
        details.truncate(TrialResult::MOST_DETAILS - 1);
        details.push(format!("and {} more", over + 1));
    }
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    TrialResult { name: kind.to_string(), verdict, details, duration_ms }
}
