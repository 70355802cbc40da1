//! Runs jobs: which may begin says `policy::queue`; what waits or runs is in the catalog, too, so that a restart goes on.
//!
//! A job that is cut off by the daemon's end, by something more urgent, or by a failure that may pass comes back as a new
//! job with an id of its own.

mod counts;
mod ending;
mod entry;
mod ledger;
mod log;
mod state;
mod upgrades;

use self::counts::Counts;
use self::ending::Stop;
use self::entry::{
    again, deadline_of, end_entry, failed, is_of_a_person, new_entry, record_as_failed,
    repository_of, sorted,
};
use self::ledger::Ledger;
use self::log::{log_begin, log_end, log_event};
use self::state::{Held, Running, State};
use super::live::Live;
use super::teller::Teller;
use super::{DaemonError, Perform, Settings};
use crate::catalog::{Catalog, CatalogError, Delivery, Entry, EntryState, Handled, Origin};
use crate::config::{Config, UnknownName};
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::job::{Ended, InvalidWork, RestoreWork, Work};
use crate::model::name::Name;
use crate::ops::{self, Context, OpsError, SnapshotRef};
use crate::policy::queue::{self, Limits};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// More jobs do not wait at once.
const MOST_QUEUED: usize = 1_000;
/// A job whose daemon ended so often while it ran is given up.
const MOST_CUTS: u32 = 3;
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

/// What runs jobs.
pub struct Executor {
    settings: Arc<Settings>,
    /// For questions: they need not wait until something is written.
    catalog: Mutex<Catalog>,
    /// Held by whoever changes what waits or runs; taken before `state`, which is held for a moment only.
    ledger: Mutex<Ledger>,
    perform: Arc<Perform>,
    teller: Arc<Teller>,
    state: Mutex<State>,
    changed: Notify,
    finished: Notify,
    began: Instant,
    /// When it last looked around, in milliseconds after it began.
    beat: AtomicU64,
    /// Since when it looks around; none while it waits.
    looks_since: Mutex<Option<Instant>>,
    counts: Counts,
}

impl Executor {
    pub(super) fn open(
        settings: Arc<Settings>,
        (catalog, questions): (Catalog, Catalog),
        perform: Arc<Perform>,
        teller: Arc<Teller>,
    ) -> Result<Self, DaemonError> {
        let mut state = State::default();
        for mut entry in catalog.open_entries()? {
            if is_of_a_person(&entry.work) {
                let how_far = if entry.state == EntryState::Running {
                    "while it ran"
                } else {
                    "before it began"
                };
                let failure = format!("the daemon ended {how_far}");
                let hint = "see that all is well with `belay status`, and ask for it again";
                end_entry(&mut entry, failed(&failure, Some(hint), INTERRUPTED));
                catalog.put_entry(&entry)?;
                continue;
            }
            if entry.state == EntryState::Running {
                let again = Entry { cut_off: entry.cut_off + 1, ..again(&entry, 0)? };
                if again.cut_off >= MOST_CUTS {
                    let failure = format!("the daemon ended {MOST_CUTS} times while it ran");
                    let hint =
                        "see why: `journalctl -u belay`; it may need more memory than there is";
                    let ended = failed(&failure, Some(hint), 1);
                    // Of an upgrade each step is a job of its own, or none.
                    if !matches!(entry.work, Work::Upgrade(_)) {
                        record_as_failed(&catalog, entry.id, &ended);
                    }
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
            catalog: Mutex::new(questions),
            ledger: Mutex::new(Ledger::new(catalog)),
            perform,
            teller,
            state: Mutex::new(state),
            changed: Notify::new(),
            finished: Notify::new(),
            began: Instant::now(),
            beat: AtomicU64::new(0),
            looks_since: Mutex::default(),
            counts: Counts::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
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
        if let Work::Restore(RestoreWork { snapshot, .. }) = &work {
            let parsed = snapshot.parse::<SnapshotRef>();
            parsed.map_err(|error| OpsError::usage(error, "GET /v1/snapshots lists them"))?;
        }
        let mut ledger = self.ledger();
        {
            let state = self.lock();
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
        }
        let entry = new_entry(work, Origin::Person, by, None)?;
        let id = entry.id;
        ledger.put(&[&entry])?;
        self.lock().add(entry);
        self.changed.notify_one();
        Ok(id)
    }

    /// A schedule is dealt with up to a time, and nothing is to be done but to tell this.
    pub(super) fn put_schedule(
        &self,
        subject: &str,
        handled: &Handled,
        told: &[Delivery],
    ) -> Result<(), CatalogError> {
        self.ledger().put_scheduled(subject, handled, None, told)
    }

    /// Take what a schedule wants, with how far it is dealt with then and what tells of what was missed.
    pub(super) fn submit_scheduled(
        &self,
        subject: &str,
        handled: &Handled,
        work: Work,
        due: Timestamp,
        told: &[Delivery],
    ) -> Result<(), DaemonError> {
        let entry = new_entry(work, Origin::Schedule, "belay", Some(due))?;
        let mut ledger = self.ledger();
        if self.lock().is_closed {
            return Ok(());
        }
        ledger.put_scheduled(subject, handled, Some(&entry), told)?;
        self.lock().add(entry);
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
        let mut ledger = self.ledger();
        ledger.put(&[&entry])?;
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
        if let Some(found) = self.ask_to_stop(id, by) {
            return Ok(found);
        }
        let mut ledger = self.ledger();
        // It may have begun, or ended, meanwhile.
        if let Some(found) = self.ask_to_stop(id, by) {
            return Ok(found);
        }
        let Some(mut over) = self.lock().find(id).map(|(_, held)| held.entry.clone()) else {
            return Ok(false);
        };
        let ended = failed(&format!("{by} cancelled it"), None, INTERRUPTED);
        end_entry(&mut over, ended.clone());
        ledger.put(&[&over])?;
        self.lock().remove(id, ended);
        drop(ledger);
        self.tell_cancelled(&over, by);
        Ok(true)
    }

    /// Ask a job to stop that runs. Says whether there is one, and nothing of one that waits.
    fn ask_to_stop(&self, id: JobId, by: &str) -> Option<bool> {
        let mut state = self.lock();
        let Some((_, held)) = state.find(id) else { return Some(false) };
        let running = held.running.as_mut()?;
        running.ask(Stop::Asked(by.to_owned()));
        Some(true)
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
        let ledger = self.ledger();
        ledger.catalog.prune_queue(before)?;
        ledger.catalog.prune_history(before)?;
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
            *self.looks_since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            // It writes to the catalog, which may take a while.
            let looked = tokio::task::spawn_blocking(move || executor.look_around());
            if let Err(error) = looked.await {
                tracing::error!("the executor failed: {error}");
            }
            let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.beat.store(now, Ordering::SeqCst);
            *self.looks_since.lock().unwrap_or_else(PoisonError::into_inner) = None;
            // Deadlines and times not to begin before pass by themselves.
            let is_idle = self.lock().held.is_empty();
            let look = if is_idle { LOOK_IDLE } else { LOOK };
            let _ = tokio::time::timeout(look, self.changed.notified()).await;
        }
    }

    /// Why it does not do its work, if it does not: it has not looked around for long, does not come to an end of it, or a job does
    /// not end. A service manager may have less patience with one look.
    pub fn hangs(&self, patience: Option<Duration>) -> Option<String> {
        let since = *self.looks_since.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(since), Some(patience)) = (since, patience)
            && since.elapsed() > patience
        {
            return Some(format!("it looks around for {} s already", since.elapsed().as_secs()));
        }
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
        for held in self.lock().held.values_mut() {
            if let Some(running) = &mut held.running
                && running.since.elapsed() > running.deadline
            {
                running.ask(Stop::Deadline(running.deadline));
            }
        }
        let mut ledger = self.ledger();
        self.written(ledger.put(&[]));
        let starting = {
            let mut state = self.lock();
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
            // From here on they count as running: the daemon's end waits for them.
            for id in &starting {
                if let Some((_, held)) = state.find(*id) {
                    held.running = Some(Running::new(deadline_of(&config, &held.entry.work)));
                }
            }
            starting
        };
        for (index, id) in starting.iter().enumerate() {
            // What cannot be recorded now cannot be a moment later: the next look tries again.
            if let Err(error) = self.begin(&mut ledger, *id, &config) {
                tracing::error!(JOB = %id, "the job cannot begin: {error}");
                starting[index..].iter().for_each(|id| self.begins_later(*id));
                return;
            }
        }
    }

    /// Whether the queue could be written, for the status.
    fn written(&self, written: Result<(), CatalogError>) {
        let trouble =
            written.err().map(|error| format!("The queue could not be recorded yet: {error}"));
        self.settings.trouble("queue", trouble);
    }

    /// Write what could not be written before, once more.
    pub(super) fn settle(&self) {
        self.written(self.ledger().put(&[]));
    }

    fn begin(
        self: &Arc<Self>,
        ledger: &mut Ledger,
        id: JobId,
        config: &Arc<Config>,
    ) -> Result<(), CatalogError> {
        let found = self.lock().find(id).and_then(|(_, held)| {
            let cancel = held.running.as_ref()?.cancel.clone();
            Some((held.entry.clone(), Arc::clone(&held.live), cancel))
        });
        let Some((mut entry, live, cancel)) = found else { return Ok(()) };
        entry.state = EntryState::Running;
        ledger.put(&[&entry])?;
        if let Some((_, held)) = self.lock().find(id) {
            held.entry.state = EntryState::Running;
        }
        live.begin();
        log_begin(&entry);
        self.teller.begins(&entry);
        let (executor, config, work) = (Arc::clone(self), Arc::clone(config), entry.work);
        let job = move || {
            let events = {
                let (work, live) = (work.clone(), Arc::clone(&live));
                let teller = Arc::clone(&executor.teller);
                Events::new(move |event| {
                    teller.version_changed(id, &event);
                    log_event(id, &work, &event);
                    live.push(event);
                })
            };
            let context = Context::of_job(id, &events, cancel);
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
            self.begins_later(id);
            tracing::error!(JOB = %id, "no thread could be started: {error}");
        }
        Ok(())
    }

    /// It could not begin, and waits again.
    fn begins_later(&self, id: JobId) {
        if let Some((_, held)) = self.lock().find(id) {
            held.entry.state = EntryState::Queued;
            held.running = None;
        }
    }

    fn finish(&self, id: JobId, ended: Ended) {
        let found = self.lock().find(id).map(|(_, held)| {
            let stop = held.running.as_ref().and_then(|running| running.stop.clone());
            (held.entry.clone(), Arc::clone(&held.live), stop.map(|(stop, _)| stop))
        });
        let Some((mut entry, live, stop)) = found else { return };
        let is_cut_off = ended.exit_code == INTERRUPTED;
        let (ended, next) = ending::seen(&entry, stop.as_ref(), ended);
        if let Some(Stop::Asked(by)) = stop.as_ref().filter(|_| is_cut_off) {
            self.tell_cancelled(&entry, by);
        }
        log_end(&entry, &ended, next.as_ref());
        self.counts.add(&entry.work, &ended);
        self.teller.ended(&entry, &ended, &live, next.is_none());
        end_entry(&mut entry, ended.clone());
        let mut ledger = self.ledger();
        if is_cut_off && matches!(stop, Some(Stop::Deadline(_))) {
            record_as_failed(&ledger.catalog, id, &ended);
        }
        if let (Work::Check { repository, read_data: Some(slice) }, None, Origin::Schedule) =
            (&entry.work, &ended.failure, entry.origin)
        {
            let subject = ops::status::schedule_subject("check", repository);
            if let Err(error) = ledger.catalog.set_schedule_detail(&subject, slice) {
                tracing::error!(JOB = %id, "what the check has read could not be recorded: {error}");
            }
        }
        let entries: Vec<&Entry> = [Some(&entry), next.as_ref()].into_iter().flatten().collect();
        self.written(ledger.keep(&entries));
        {
            let mut state = self.lock();
            state.remove(id, ended);
            if let Some(next) = next {
                state.add(next);
            }
        }
        drop(ledger);
        self.changed.notify_one();
        self.finished.notify_waiters();
    }

    /// A run that a schedule wanted does not happen.
    fn tell_cancelled(&self, entry: &Entry, by: &str) {
        if entry.origin == Origin::Schedule {
            let (noun, subject) = (entry.work.noun(), entry.work.subject());
            let title = format!("The {noun} of {subject} was cancelled");
            let body = format!("A schedule wanted it, and {by} cancelled it.");
            let told = self.teller.missed(entry.work.instance(), title, body);
            self.teller.tell(told);
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
