//! What is known at a glance, looked up at most every few seconds however many ask.

use super::{Executor, Settings};
use crate::catalog::EntryState;
use crate::model::event::{Cancel, Event, Events};
use crate::ops::status::{self, Status};
use crate::ops::{Context, OpsError};
use jiff::Timestamp;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What was looked up is good for so long where nothing was recorded meanwhile: other hosts use the repository, too.
const GOOD_FOR: Duration = Duration::from_mins(15);
/// And for so long while jobs record what they do; not when one has ended.
const GOOD_ANYWAY: Duration = Duration::from_secs(5);

/// What is known at a glance.
pub struct Overview {
    settings: Arc<Settings>,
    known: Mutex<Option<Known>>,
}

struct Known {
    at: Instant,
    /// What tells whether something was recorded.
    version: i64,
    /// How many of the daemon's own jobs had ended.
    ends: u64,
    status: Status,
}

impl Overview {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        Self { settings, known: Mutex::default() }
    }

    /// The configuration is another one.
    pub(super) fn forget(&self) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The status as it is now. Blocks, perhaps for seconds; those who ask meanwhile get the same.
    pub fn status(&self, executor: &Executor) -> Result<Status, OpsError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.settings.config();
        let ends = executor.ends();
        let version = executor.catalog().data_version()?;
        let is_good = |known: &&Known| {
            let age = known.at.elapsed();
            known.ends == ends
                && (age < GOOD_ANYWAY || (known.version == version && age < GOOD_FOR))
        };
        let mut status = if let Some(known) = known.as_ref().filter(is_good) {
            known.status.clone()
        } else {
            let warnings = Arc::new(Mutex::new(Vec::new()));
            let events = {
                let warnings = Arc::clone(&warnings);
                Events::new(move |event| {
                    if let Event::Warning { message } = event {
                        warnings.lock().unwrap_or_else(PoisonError::into_inner).push(message);
                    }
                })
            };
            let context = Context::new(events, Cancel::new());
            let mut status = status::status(&config, &self.settings.secrets, &context)?;
            status.problems.append(&mut warnings.lock().unwrap_or_else(PoisonError::into_inner));
            let told = executor.catalog().problems()?;
            // Those of backups and objectives are among them already.
            let others = told.into_iter().filter(|problem| {
                problem.key.matches('/').count() > 1
                    || problem.key.starts_with("check-failed/")
                    || problem.key.starts_with("unhealthy/")
            });
            status.problems.extend(others.map(|problem| {
                format!(
                    "{}, since {}.",
                    problem.title,
                    problem.since.strftime("%Y-%m-%d %H:%M UTC")
                )
            }));
            // To look brings the catalog up to date with the repository, which counts as a change.
            let version = executor.catalog().data_version()?;
            *known = Some(Known { at: Instant::now(), version, ends, status: status.clone() });
            status
        };
        drop(known);
        status.bring_up_to(Timestamp::now(), &config);
        for trouble in self.settings.troubles() {
            status.problems.insert(0, format!("The daemon: {trouble}."));
        }
        for entry in executor.open_jobs() {
            let name = entry.work.subject().as_str();
            let is_of = entry.work.instance().is_some();
            let found = status.instances.iter_mut().find(|instance| is_of && instance.name == name);
            if let Some(instance) = found {
                instance.now = Some(match entry.state {
                    EntryState::Running => "running".to_owned(),
                    _ => entry.not_before.map_or_else(
                        || "queued".to_owned(),
                        |at| format!("again at {}", at.strftime("%H:%M UTC")),
                    ),
                });
            }
        }
        status.daemon = Some(env!("CARGO_PKG_VERSION").to_owned());
        Ok(status)
    }
}
