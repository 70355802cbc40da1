//! Queues what is due. tokio-cron-scheduler fires when the next time has come; `policy::schedule` decides what that means.
//!
//! A timer that goes by the wall clock fires late, or never, when somebody sets that clock: so a slow timer of the monotonic
//! clock looks, too, whatever was fired. Looking too often changes nothing.

use super::{Daemon, DaemonError};
use crate::catalog::{Delivery, Handled};
use crate::config::Config;
use crate::model::job::Work;
use crate::model::name::Name;
use crate::ops::status::schedule_subject;
use crate::policy::schedule::{self, Decision, Missed, Schedule, Verdict};
use crate::policy::slices;
use crate::repository::check::MAX_SLICES;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

/// Whatever was fired, somebody looks so often.
const LOOK: Duration = Duration::from_secs(30);

/// In place of a schedule, for what has none.
const OFF: &str = "off";

/// What a schedule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Backup,
    Check,
    Prune,
}

impl Task {
    fn noun(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Check => "check",
            Self::Prune => "prune",
        }
    }
}

pub(super) struct Scheduler {
    daemon: Arc<Daemon>,
    cron: JobScheduler,
    fired: Arc<Notify>,
    handled: Mutex<BTreeMap<(Task, Name), Handled>>,
    quiet: Mutex<Option<Quiet>>,
}

/// A time in which nothing is due by this configuration. A clock that is set back leaves it, too.
struct Quiet {
    config: Arc<Config>,
    from: Timestamp,
    until: Timestamp,
}

impl Scheduler {
    pub(super) async fn open(daemon: Arc<Daemon>) -> Result<Self, DaemonError> {
        let cron = JobScheduler::new().await.map_err(|error| scheduler(&error))?;
        cron.start().await.map_err(|error| scheduler(&error))?;
        let fired = Arc::clone(&daemon.due);
        Ok(Self { daemon, cron, fired, handled: Mutex::default(), quiet: Mutex::default() })
    }

    /// Queue what is due, for ever.
    pub(super) async fn run(self) {
        let this = Arc::new(self);
        let mut timer = None;
        loop {
            let looking = Arc::clone(&this);
            // It writes to the catalog, which may take a while.
            let looked = tokio::task::spawn_blocking(move || looking.look()).await;
            let until = looked.unwrap_or_else(|error| {
                tracing::error!("the scheduler failed: {error}");
                None
            });
            if let Some(id) = timer.take() {
                // It may have fired, and be gone.
                let _ = this.cron.remove(&id).await;
            }
            if let Some(until) = until {
                let wait = Duration::try_from(until.duration_since(Timestamp::now()));
                let fired = Arc::clone(&this.fired);
                let job = Job::new_one_shot_async(wait.unwrap_or_default(), move |_, _| {
                    let fired = Arc::clone(&fired);
                    Box::pin(async move { fired.notify_one() })
                });
                let added = match job {
                    Ok(job) => this.cron.add(job).await,
                    Err(error) => Err(error),
                };
                let untold = |error: &_| tracing::error!("the timer could not be set: {error}");
                timer = added.inspect_err(untold).ok();
            }
            let _ = tokio::time::timeout(LOOK, this.fired.notified()).await;
        }
    }

    /// Queue what is due now; says when to look again.
    fn look(&self) -> Option<Timestamp> {
        let config = self.daemon.settings.config();
        let now = Timestamp::now();
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let still = quiet.as_ref().filter(|quiet| Arc::ptr_eq(&quiet.config, &config));
        if let Some(quiet) = still.filter(|quiet| (quiet.from..quiet.until).contains(&now)) {
            return Some(quiet.until);
        }
        let (mut next, mut trouble) = (None, None);
        for (task, name, schedule) in tasks(&config) {
            match self.look_at(&config, task, name, schedule, now) {
                Ok(until) => next = [next, until].into_iter().flatten().min(),
                // The next look tries again.
                Err(error) => {
                    let noun = task.noun();
                    trouble = Some(format!(
                        "The schedule of the {noun} of {name} could not be dealt with: {error}"
                    ));
                }
            }
        }
        for name in
            config.instances.iter().filter(|(_, it)| it.schedule.is_none()).map(|(name, _)| name)
        {
            if let Err(error) = self.know(name, now) {
                trouble = Some(format!("{name} could not be recorded: {error}"));
            }
        }
        // What could not be dealt with is tried again.
        let until = next.filter(|_| trouble.is_none());
        *quiet = until.map(|until| Quiet { config: Arc::clone(&config), from: now, until });
        self.daemon.settings.trouble("scheduler", trouble);
        next
    }

    /// What has no schedule is known, too: its objective is measured from then on, and nothing was missed when it gets one.
    fn know(&self, name: &Name, now: Timestamp) -> Result<(), DaemonError> {
        let mut all = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (Task::Backup, name.clone());
        if all.get(&key).is_some_and(|known| known.pattern == OFF) {
            return Ok(());
        }
        let executor = &self.daemon.executor;
        let subject = schedule_subject(Task::Backup.noun(), name);
        let known = executor.catalog().handled(&subject)?;
        let known_since = known.as_ref().map_or(now, |known| known.known_since);
        let handled = Handled { known_since, at: now, pattern: OFF.to_owned(), detail: None };
        if known.is_none_or(|known| known.pattern != OFF) {
            executor.put_schedule(&subject, &handled, &[])?;
        }
        all.insert(key, handled);
        Ok(())
    }

    fn look_at(
        &self,
        config: &Config,
        task: Task,
        name: &Name,
        schedule: &Schedule,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DaemonError> {
        let executor = &self.daemon.executor;
        let mut all = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        let subject = schedule_subject(task.noun(), name);
        let key = (task, name.clone());
        let mut handled = match all.get(&key) {
            Some(handled) => handled.clone(),
            None => executor.catalog().handled(&subject)?.unwrap_or(Handled {
                known_since: now,
                at: now,
                pattern: schedule.to_string(),
                detail: None,
            }),
        };
        let is_new = !all.contains_key(&key);
        let pattern = schedule.to_string();
        if handled.pattern != pattern {
            // What the new schedule would have wanted before it was there was not missed, but what waits for its jitter is due.
            let ripe = now.checked_sub(schedule.jitter_of(subject.as_bytes())).unwrap_or(now);
            handled.at = handled.at.max(ripe);
            handled.pattern = pattern;
        }
        let busy = executor.is_busy(task.noun(), name);
        let Decision { handled: at, verdict } =
            schedule::decide(schedule, subject.as_bytes(), handled.at, now, busy);
        let is_changed = at != handled.at;
        handled.at = at;
        match verdict {
            Verdict::Wait { until } => {
                if is_new || is_changed {
                    executor.put_schedule(&subject, &handled, &[])?;
                }
                all.insert(key, handled);
                return Ok(until);
            }
            Verdict::Run { due, late, missed } => {
                let told = self.told_missed(task, name, missed.as_ref());
                // Which part was read last is recorded when it was read.
                let known = executor.catalog().handled(&subject)?.and_then(|known| known.detail);
                let work = work(config, task, name, known.as_deref(), schedule, due);
                executor.submit_scheduled(&subject, &handled, work, due, &told)?;
                if late {
                    tracing::warn!(
                        "the {} of {name} that was due at {due} is caught up",
                        task.noun()
                    );
                }
            }
            Verdict::Missed(missed) => {
                let told = self.told_missed(task, name, Some(&missed));
                executor.put_schedule(&subject, &handled, &told)?;
            }
            Verdict::Overlaps { due, missed } => {
                let told = self.told_missed(task, name, missed.as_ref());
                executor.put_schedule(&subject, &handled, &told)?;
                tracing::warn!(
                    "the {} of {name} that is due at {due} is left out: the one before is not over",
                    task.noun()
                );
            }
            Verdict::ClockWentBack { handled_before } => {
                executor.put_schedule(&subject, &handled, &[])?;
                tracing::warn!(
                    "the clock shows {now}, and the {} of {name} was dealt with up to {handled_before}: its schedule begins anew",
                    task.noun()
                );
            }
        }
        all.insert(key, handled);
        self.daemon.teller.wake();
        // There may be more to decide.
        Ok(Some(now))
    }

    /// What tells of due times that went by.
    fn told_missed(&self, task: Task, name: &Name, missed: Option<&Missed>) -> Vec<Delivery> {
        let Some(Missed { first, last, count }) = missed else { return Vec::new() };
        let noun = task.noun();
        let zoned = |at: &Timestamp| at.strftime("%Y-%m-%d %H:%M UTC").to_string();
        let (title, body) = if *count == 1 {
            (format!("The {noun} of {name} was missed"), format!("It was due at {}.", zoned(first)))
        } else {
            let body =
                format!("It was due {count} times, from {} to {}.", zoned(first), zoned(last));
            (format!("The {noun} of {name} was missed {count} times"), body)
        };
        tracing::warn!("{title}. {body}");
        let instance = (task == Task::Backup).then_some(name);
        self.daemon.teller.missed(instance, title, body)
    }
}

fn scheduler(error: &tokio_cron_scheduler::JobSchedulerError) -> DaemonError {
    DaemonError::Scheduler(error.to_string())
}

/// All that has a schedule.
fn tasks(config: &Config) -> Vec<(Task, &Name, &Schedule)> {
    let mut tasks = Vec::new();
    for (name, instance) in &config.instances {
        tasks.extend(instance.schedule.as_ref().map(|schedule| (Task::Backup, name, schedule)));
    }
    for (name, repository) in &config.repositories {
        tasks.extend(repository.check.as_ref().map(|schedule| (Task::Check, name, schedule)));
        tasks.extend(repository.prune.as_ref().map(|schedule| (Task::Prune, name, schedule)));
    }
    tasks
}

fn work(
    config: &Config,
    task: Task,
    name: &Name,
    last_slice: Option<&str>,
    schedule: &Schedule,
    due: Timestamp,
) -> Work {
    match task {
        Task::Backup => Work::Backup { instance: name.clone(), reread: false, allow_empty: false },
        Task::Prune => Work::Prune { repository: name.clone(), dry_run: false, max_unused: None },
        Task::Check => {
            let period = config.repositories.get(name).map(|repository| repository.check_period);
            let slices = slices::how_many(schedule, period.unwrap_or_default(), MAX_SLICES, due);
            let last = last_slice.and_then(|last| last.split_once('/'));
            let last = last.and_then(|(n, t)| Some((n.parse().ok()?, t.parse().ok()?)));
            let (n, t) = slices::next(last, slices);
            let read_data = Some(format!("{n}/{t}"));
            Work::Check { repository: name.clone(), read_data }
        }
    }
}
