//! Runs jobs: which may begin says `policy::queue`; what waits or runs is in the catalog, too, so that a restart goes on.
//!
//! A job that is cut off by the daemon's end, by something more urgent, or by a failure that may pass comes back as a new
//! job with an id of its own.

mod counts;
mod entry;
mod log;

use self::counts::Counts;
use self::entry::{
    again, as_job, end_entry, failed, new_entry, record_as_failed, repository_of, sorted,
};
use self::log::{log_begin, log_end, log_event};
use super::live::Live;
use super::teller::Teller;
use super::{DaemonError, Perform, Settings};
use crate::catalog::{Catalog, CatalogError, Entry, EntryState, Handled, Origin};
use crate::config::{Config, UnknownName};
use crate::model::event::{Cancel, Events};
use crate::model::id::JobId;
use crate::model::job::{Ended, Failure, InvalidWork, Work};
use crate::model::name::Name;
use crate::ops::{self, Context, OpsError};
use crate::policy::queue::{self, Limits};
use crate::policy::retries::Retries;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// More jobs do not wait at once.
const MOST_QUEUED: usize = 1_000;
/// So many jobs that have ended can still be followed from memory.
const MOST_ENDED: usize = 50;
/// A job whose daemon ended so often while it ran is given up.
const MOST_CUTS: u32 = 3;
/// How long a job that looks after a repository may take.
const UPKEEP_DEADLINE: Duration = Duration::from_hours(24);
/// A job that was asked to stop and has not stopped for so long hangs.
const HANGING: Duration = Duration::from_mins(10);
/// How often it looks around, whatever happens.
const LOOK: Duration = Duration::from_secs(1);
/// And where nothing waits or runs.
const LOOK_IDLE: Duration = Duration::from_secs(10);
/// It hangs when it has not looked around for so long.
const SILENT: Duration = Duration::from_secs(30);
/// How long what has ended is kept in the catalog.
const HISTORY: jiff::SignedDuration = jiff::SignedDuration::from_hours(90 * 24);
/// The exit code of what found damage, or keys that do not fit.
pub(super) const DAMAGED: u8 = 4;
/// The exit code of what was asked to stop.
pub const INTERRUPTED: u8 = 130;

/// Why a job is not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// It names something that the configuration does not have.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// It asks for something that there is not.
    #[error(transparent)]
    Work(#[from] InvalidWork),
    /// Too many wait.
    #[error("{MOST_QUEUED} jobs wait already")]
    Full,
    /// The daemon is about to end.
    #[error("the daemon is about to end")]
    Closed,
    /// It could not be recorded.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// No id could be made.
    #[error(transparent)]
    Operation(#[from] OpsError),
}

/// Why a running job is asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    /// Somebody wants it so.
    Asked(String),
    /// A backup is due.
    GivesWay,
    /// It took too long.
    Deadline(Duration),
    /// The daemon ends.
    Shutdown,
}

struct Held {
    entry: Entry,
    live: Arc<Live>,
    running: Option<Running>,
}

struct Running {
    cancel: Cancel,
    since: Instant,
    deadline: Duration,
    stop: Option<(Stop, Instant)>,
}

#[derive(Default)]
struct State {
    /// By the order in which they were asked for.
    held: BTreeMap<u64, Held>,
    next: u64,
    ended: Vec<(JobId, Arc<Live>)>,
    is_closed: bool,
}

impl State {
    fn find(&mut self, id: JobId) -> Option<(u64, &mut Held)> {
        let mut held = self.held.iter_mut();
        held.find(|(_, held)| held.entry.id == id).map(|(order, held)| (*order, held))
    }

    fn add(&mut self, entry: Entry) {
        let held = Held { entry, live: Arc::default(), running: None };
        self.held.insert(self.next, held);
        self.next += 1;
    }
}

/// What runs jobs.
pub struct Executor {
    settings: Arc<Settings>,
    catalog: Mutex<Catalog>,
    perform: Arc<Perform>,
    teller: Arc<Teller>,
    state: Mutex<State>,
    changed: Notify,
    finished: Notify,
    began: Instant,
    /// When it last looked around, in milliseconds after it began.
    beat: AtomicU64,
    counts: Counts,
}

impl Executor {
    pub(super) fn open(
        settings: Arc<Settings>,
        catalog: Catalog,
        perform: Arc<Perform>,
        teller: Arc<Teller>,
    ) -> Result<Self, DaemonError> {
        let mut state = State::default();
        for mut entry in catalog.open_entries()? {
            if entry.state == EntryState::Running {
                let again = Entry { cut_off: entry.cut_off + 1, ..again(&entry, 0)? };
                if again.cut_off >= MOST_CUTS {
                    let failure = format!("the daemon ended {MOST_CUTS} times while it ran");
                    let hint =
                        "see why: `journalctl -u belay`; it may need more memory than there is";
                    let ended = failed(&failure, Some(hint), 1);
                    record_as_failed(&catalog, entry.id, &ended);
                    teller.ended(&entry, &ended, &Live::default(), true);
                    end_entry(&mut entry, ended);
                    catalog.put_entry(&entry)?;
                    continue;
                }
                let failure =
                    format!("the daemon ended while it ran; it goes on as job {}", again.id);
                end_entry(&mut entry, failed(&failure, None, INTERRUPTED));
                catalog.put_entries(&[&entry, &again])?;
                entry = again;
            }
            state.add(entry);
        }
        Ok(Self {
            settings,
            catalog: Mutex::new(catalog),
            perform,
            teller,
            state: Mutex::new(state),
            changed: Notify::new(),
            finished: Notify::new(),
            began: Instant::now(),
            beat: AtomicU64::new(0),
            counts: Counts::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The catalog, for short questions.
    pub fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Take a job for somebody. What waits already for the same is answered with its id.
    pub fn submit(&self, work: Work, by: &str) -> Result<JobId, SubmitError> {
        let config = self.settings.config();
        repository_of(&config, &work)?;
        work.check()?;
        let mut state = self.lock();
        if state.is_closed {
            return Err(SubmitError::Closed);
        }
        let is_same = |held: &&Held| held.running.is_none() && held.entry.work == work;
        // What a schedule wants is not given away: who cancels what he asked for cancels no night.
        if let Some(same) = state.held.values().find(is_same)
            && same.entry.origin == Origin::Person
        {
            return Ok(same.entry.id);
        }
        if state.held.len() >= MOST_QUEUED {
            return Err(SubmitError::Full);
        }
        let entry = new_entry(work, Origin::Person, by, None)?;
        let id = entry.id;
        self.catalog().put_entry(&entry)?;
        state.add(entry);
        drop(state);
        self.changed.notify_one();
        Ok(id)
    }

    /// Take what a schedule wants, with how far it is dealt with then.
    pub(super) fn submit_scheduled(
        &self,
        subject: &str,
        handled: &Handled,
        work: Work,
        due: Timestamp,
    ) -> Result<(), DaemonError> {
        let entry = new_entry(work, Origin::Schedule, "belay", Some(due))?;
        let mut state = self.lock();
        if state.is_closed {
            return Ok(());
        }
        self.catalog().put_scheduled(subject, handled, Some(&entry))?;
        state.add(entry);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Take what has to be done before anything else of an instance.
    pub(super) fn submit_recovery(&self, instance: &Name) -> Result<(), DaemonError> {
        if self.is_busy("recovery", instance) {
            return Ok(());
        }
        let work = Work::Recover { instance: instance.clone() };
        let entry = new_entry(work, Origin::Schedule, "belay", None)?;
        self.catalog().put_entry(&entry)?;
        self.lock().add(entry);
        Ok(())
    }

    /// Whether a schedule's work of this kind is queued or running for the subject. What a person asked for may be
    /// cancelled, or do less: it stands in for nothing.
    pub(super) fn is_busy(&self, noun: &str, subject: &Name) -> bool {
        let state = self.lock();
        state.held.values().any(|Held { entry, .. }| {
            let is_same = entry.work.noun() == noun && entry.work.subject() == subject;
            is_same && entry.origin == Origin::Schedule
        })
    }

    /// Ask a job to stop. Says whether there was one.
    pub fn cancel(&self, id: JobId, by: &str) -> Result<bool, CatalogError> {
        let mut state = self.lock();
        let Some((order, held)) = state.find(id) else { return Ok(false) };
        if let Some(running) = &mut held.running {
            running.ask(Stop::Asked(by.to_owned()));
            return Ok(true);
        }
        let ended = failed(&format!("{by} cancelled it"), None, INTERRUPTED);
        let mut over = held.entry.clone();
        end_entry(&mut over, ended.clone());
        self.catalog().put_entry(&over)?;
        let held = state.held.remove(&order).expect("it was found");
        held.live.end(ended);
        state.remember(&held);
        drop(state);
        self.tell_cancelled(&over, by);
        Ok(true)
    }

    /// What waits or runs, in the order in which it was asked for.
    pub fn open_jobs(&self) -> Vec<Entry> {
        self.lock().held.values().map(|held| held.entry.clone()).collect()
    }

    /// What happens in a job, if that is in memory.
    pub fn live(&self, id: JobId) -> Option<Arc<Live>> {
        let mut state = self.lock();
        if let Some((_, held)) = state.find(id) {
            return Some(Arc::clone(&held.live));
        }
        state.ended.iter().find(|(ended, _)| *ended == id).map(|(_, live)| Arc::clone(live))
    }

    /// How many jobs ended how since the daemon began: (kind, end) and their number.
    pub fn counts(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        self.counts.all()
    }

    /// Drop what is long over.
    pub(super) fn tidy(&self) -> Result<(), CatalogError> {
        let before = Timestamp::now().saturating_sub(HISTORY).unwrap_or(Timestamp::MIN);
        let catalog = self.catalog();
        catalog.prune_queue(before)?;
        catalog.prune_history(before)?;
        Ok(())
    }

    /// Another one after any job has ended.
    pub(super) fn ends(&self) -> u64 {
        self.counts().values().sum()
    }

    /// How many wait, and how many run.
    pub fn lengths(&self) -> (usize, usize) {
        let state = self.lock();
        let running = state.held.values().filter(|held| held.running.is_some()).count();
        (state.held.len() - running, running)
    }

    /// Begin what may begin, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let executor = Arc::clone(&self);
            // It writes to the catalog, which may take a while.
            let looked = tokio::task::spawn_blocking(move || executor.look_around());
            if let Err(error) = looked.await {
                tracing::error!("the executor failed: {error}");
            }
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.beat.store(now, Ordering::SeqCst);
            // Deadlines and times not to begin before pass by themselves.
            let is_idle = self.lock().held.is_empty();
            let look = if is_idle { LOOK_IDLE } else { LOOK };
            let _ = tokio::time::timeout(look, self.changed.notified()).await;
        }
    }

    /// Why it does not do its work, if it does not: it has not looked around for long, or a job does not end.
    pub fn hangs(&self) -> Option<String> {
        let beat = Duration::from_millis(self.beat.load(Ordering::SeqCst));
        let silent = self.began.elapsed().saturating_sub(beat);
        if silent > SILENT {
            return Some(format!("it has not looked around for {} s", silent.as_secs()));
        }
        let state = self.lock();
        state.held.values().find_map(|held| {
            let (_, asked) = held.running.as_ref()?.stop.as_ref()?;
            let entry = &held.entry;
            (asked.elapsed() > HANGING).then(|| {
                format!(
                    "the {} of {} was asked to stop and goes on",
                    entry.work.noun(),
                    entry.work.subject()
                )
            })
        })
    }

    fn look_around(self: &Arc<Self>) {
        let config = self.settings.config();
        let mut state = self.lock();
        for held in state.held.values_mut() {
            if let Some(running) = &mut held.running
                && running.since.elapsed() > running.deadline
            {
                running.ask(Stop::Deadline(running.deadline));
            }
        }
        if state.is_closed {
            return;
        }
        let now = Timestamp::now();
        let (giving_way, starting) = {
            let (waiting, running) = sorted(&state, &config);
            let limits = Limits {
                overall: config.daemon.jobs,
                per_repository: config.daemon.jobs_per_repository,
            };
            (
                queue::give_way(&waiting, &running, now),
                queue::may_start(&waiting, &running, limits, now),
            )
        };
        for id in giving_way {
            if let Some(running) = state.find(id).and_then(|(_, held)| held.running.as_mut()) {
                running.ask(Stop::GivesWay);
            }
        }
        for id in starting {
            if let Some((_, held)) = state.find(id) {
                self.begin(held, &config);
            }
        }
    }

    fn begin(self: &Arc<Self>, held: &mut Held, config: &Arc<Config>) {
        let entry = &mut held.entry;
        entry.state = EntryState::Running;
        if let Err(error) = self.catalog().put_entry(entry) {
            entry.state = EntryState::Queued;
            tracing::error!(JOB = %entry.id, "the {} of {} cannot begin: {error}", entry.work.noun(), entry.work.subject());
            return;
        }
        let cancel = Cancel::new();
        let deadline = entry.work.instance().and_then(|name| config.instances.get(name));
        let deadline = deadline.map_or(UPKEEP_DEADLINE, |instance| instance.deadline);
        held.running =
            Some(Running { cancel: cancel.clone(), since: Instant::now(), deadline, stop: None });
        held.live.begin();
        let (id, work, live) = (entry.id, entry.work.clone(), Arc::clone(&held.live));
        let (executor, config) = (Arc::clone(self), Arc::clone(config));
        log_begin(entry);
        self.teller.begins(entry);
        let job = move || {
            let events = {
                let (work, live) = (work.clone(), Arc::clone(&live));
                Events::new(move |event| {
                    log_event(id, &work, &event);
                    live.push(event);
                })
            };
            let context = Context::of_job(id, events, cancel);
            let perform =
                || (executor.perform)(&config, &executor.settings.secrets, &work, &context);
            let ended = std::panic::catch_unwind(AssertUnwindSafe(perform)).unwrap_or_else(|_| {
                failed(
                    "Belay has a fault: it panicked",
                    Some("the log has more; please report it"),
                    1,
                )
            });
            executor.finish(id, ended);
        };
        let spawned = std::thread::Builder::new().name("job".into()).spawn(job);
        if let Err(error) = spawned {
            held.running = None;
            held.entry.state = EntryState::Queued;
            tracing::error!(JOB = %id, "no thread could be started: {error}");
        }
    }

    fn finish(&self, id: JobId, mut ended: Ended) {
        let mut state = self.lock();
        let Some((order, _)) = state.find(id) else { return };
        let mut held = state.held.remove(&order).expect("it was found");
        let stop = held.running.take().and_then(|running| running.stop).map(|(stop, _)| stop);
        let is_cut_off = ended.exit_code == INTERRUPTED;
        let mut next = None;
        match stop {
            Some(Stop::Asked(by)) if is_cut_off => {
                ended.failure = Some(Failure { error: format!("{by} cancelled it"), hint: None });
                self.tell_cancelled(&held.entry, &by);
            }
            Some(Stop::Deadline(deadline)) if is_cut_off => {
                let deadline = jiff::SignedDuration::try_from(deadline).unwrap_or_default();
                let error = format!("it took longer than {deadline:#}, and was stopped");
                let hint = "find out why it takes so long, or set `deadline` higher";
                ended = failed(&error, Some(hint), 1);
                record_as_failed(&self.catalog(), id, &ended);
            }
            Some(Stop::GivesWay) if is_cut_off => {
                next = again(&held.entry, 0).ok();
                if let Some(next) = &mut next {
                    next.gave_way += 1;
                }
                let told = format!("it gave way to a backup, and goes on{}", as_job(next.as_ref()));
                ended = failed(&told, None, INTERRUPTED);
            }
            Some(Stop::Shutdown) if is_cut_off => {
                next = again(&held.entry, 0).ok();
                let told = format!(
                    "the daemon ends; it goes on when the daemon does{}",
                    as_job(next.as_ref())
                );
                ended = failed(&told, None, INTERRUPTED);
            }
            _ => {
                if ended.failure.is_some()
                    && ended.may_pass
                    && held.entry.origin == Origin::Schedule
                {
                    let seed = held.entry.work.subject().as_str().as_bytes();
                    let at =
                        Retries::default().next_attempt(held.entry.attempt, Timestamp::now(), seed);
                    next = at.and_then(|at| {
                        let again = again(&held.entry, 1).ok()?;
                        Some(Entry { not_before: Some(at), ..again })
                    });
                }
            }
        }
        log_end(&held.entry, &ended, next.as_ref());
        self.counts.add(&held.entry.work, &ended);
        self.teller.ended(&held.entry, &ended, &held.live, next.is_none());
        end_entry(&mut held.entry, ended.clone());
        {
            let catalog = self.catalog();
            if let (Work::Check { repository, read_data: Some(slice) }, None, Origin::Schedule) =
                (&held.entry.work, &ended.failure, held.entry.origin)
            {
                let subject = ops::status::schedule_subject("check", repository);
                if let Err(error) = catalog.set_schedule_detail(&subject, slice) {
                    tracing::error!(JOB = %id, "what the check has read could not be recorded: {error}");
                }
            }
            let entries: Vec<&Entry> =
                [Some(&held.entry), next.as_ref()].into_iter().flatten().collect();
            if let Err(error) = catalog.put_entries(&entries) {
                tracing::error!(JOB = %id, "the queue could not be recorded: {error}");
            }
        }
        if let Some(next) = next {
            state.add(next);
        }
        state.remember(&held);
        drop(state);
        held.live.end(ended);
        self.changed.notify_one();
        self.finished.notify_waiters();
    }

    /// A run that a schedule wanted does not happen.
    fn tell_cancelled(&self, entry: &Entry, by: &str) {
        if entry.origin == Origin::Schedule {
            let (noun, subject) = (entry.work.noun(), entry.work.subject());
            let title = format!("The {noun} of {subject} was cancelled");
            let body = format!("A schedule wanted it, and {by} cancelled it.");
            self.teller.missed(entry.work.instance(), title, body);
        }
    }

    /// Begin nothing more, and take nothing more.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
    }

    /// Ask everything that runs to stop.
    pub(super) fn stop_all(&self) {
        for held in self.lock().held.values_mut() {
            if let Some(running) = &mut held.running {
                running.ask(Stop::Shutdown);
            }
        }
    }

    /// Wait until nothing runs, at most for so long.
    pub(super) async fn finished_within(&self, limit: Duration) {
        let finished = async {
            loop {
                let finished = self.finished.notified();
                tokio::pin!(finished);
                finished.as_mut().enable();
                if self.lengths().1 == 0 {
                    return;
                }
                finished.await;
            }
        };
        // What still runs then is asked to stop.
        let _ = tokio::time::timeout(limit, finished).await;
    }
}

impl State {
    fn remember(&mut self, held: &Held) {
        self.ended.push((held.entry.id, Arc::clone(&held.live)));
        if self.ended.len() > MOST_ENDED {
            self.ended.remove(0);
        }
    }
}

impl Running {
    /// The first reason counts, but for a person's or the daemon's end, which does not begin it again.
    fn ask(&mut self, stop: Stop) {
        match &mut self.stop {
            // Since when it does not stop is measured from the first time.
            Some((before, _)) if matches!(stop, Stop::Asked(_)) => *before = stop,
            Some(_) => {}
            none => *none = Some((stop, Instant::now())),
        }
        self.cancel.cancel();
    }
}
