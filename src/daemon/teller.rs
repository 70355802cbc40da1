//! Tells people and monitors: what is wrong once when it begins, once a day while it lasts, once when it is over; and what
//! else happens. Notices are in the catalog until they have arrived, so no receiver holds anything up, and a restart loses none.

mod rewrites;
mod upgrades;

use super::Settings;
use super::live::Live;
use crate::catalog::{Catalog, CatalogError, Delivery, Entry, Origin, Problem, ProblemChange};
use crate::config::Config;
use crate::config::notify::Channel;
use crate::host;
use crate::model::event::Event;
use crate::model::id::{ChannelId, DeliveryId};
use crate::model::job::{Ended, Work};
use crate::model::name::Name;
use crate::model::notice::{Notice, NoticeKind};
use crate::notify::{self, Reason};
use crate::ops::status::Status;
use crate::policy::telling::{self, Tell, Told};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Between the first two attempts; twice as long each time.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(10);
/// No wait is longer.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// A health check is told of the moment: a later success would be a lie.
const MOMENT: SignedDuration = SignedDuration::from_hours(1);
/// More notices do not wait in memory.
const MOST_UNSTORED: usize = 1_000;
/// How often is tried to put them down.
const STORE: Duration = Duration::from_secs(5);
/// More of a log is not sent, in bytes.
const LOG: usize = 10_000;

pub(super) struct Teller {
    settings: Arc<Settings>,
    /// A connection of its own: what is sent takes time.
    catalog: Mutex<Catalog>,
    telling: Mutex<()>,
    /// What could not be put down yet.
    unstored: Mutex<VecDeque<Unstored>>,
    /// Channels that something goes to just now: the next thing waits for that.
    busy: Mutex<BTreeSet<ChannelId>>,
    wake: Notify,
}

/// A notice that is not in the catalog yet, with what becomes of its problem: that one's key, and itself where it is there.
struct Unstored {
    deliveries: Vec<Delivery>,
    change: Option<(String, Option<Problem>)>,
}

/// When to tell of something that lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    /// Whenever there is something to tell.
    Always,
    /// Where it was told before, and is not over meanwhile.
    Remind,
}

impl Teller {
    pub(super) fn new(settings: Arc<Settings>, catalog: Catalog) -> Self {
        Self {
            settings,
            catalog: Mutex::new(catalog),
            telling: Mutex::default(),
            unstored: Mutex::default(),
            busy: Mutex::default(),
            wake: Notify::new(),
        }
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<ChannelId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn telling(&self) -> MutexGuard<'_, ()> {
        self.telling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tell something that is over when it is told.
    pub(super) fn once(&self, notice: &Notice) {
        self.put(notice, None);
    }

    fn put(&self, notice: &Notice, problem: Option<ProblemChange<'_>>) {
        let change = problem.map(|problem| match problem {
            ProblemChange::Set(problem) => (problem.key.clone(), Some(problem.clone())),
            ProblemChange::Clear(key) => (key.to_owned(), None),
        });
        self.keep(Unstored { deliveries: self.deliveries(notice), change });
    }

    /// Tell what is made already.
    pub(super) fn tell(&self, deliveries: Vec<Delivery>) {
        self.keep(Unstored { deliveries, change: None });
    }

    fn keep(&self, told: Unstored) {
        if told.deliveries.is_empty() && told.change.is_none() {
            return;
        }
        let mut unstored = self.unstored();
        unstored.push_back(told);
        self.store(&mut unstored);
        // To deliver it, or to put it down later.
        self.wake.notify_one();
        if unstored.len() > MOST_UNSTORED {
            unstored.pop_front();
            tracing::error!("too many notices could not be kept: the oldest is given up");
        }
    }

    /// Put down what could not be before, in its order. What cannot be now either, such as on a full disk, waits.
    fn store(&self, unstored: &mut VecDeque<Unstored>) {
        while let Some(Unstored { deliveries, change }) = unstored.front() {
            let change = change.as_ref().map(|(key, problem)| {
                problem.as_ref().map_or(ProblemChange::Clear(key), ProblemChange::Set)
            });
            let stored = self.catalog().put_notice(deliveries, change);
            let trouble = stored.err().map(|error| format!("Notices wait in memory: {error}"));
            let is_stored = trouble.is_none();
            self.settings.trouble("notices", trouble);
            if !is_stored {
                return;
            }
            unstored.pop_front();
        }
    }

    /// A lasting problem, as it is or will be in the catalog.
    fn problem(&self, key: &str) -> Result<Option<Problem>, CatalogError> {
        let unstored = self.unstored();
        let changes = unstored.iter().rev().filter_map(|told| told.change.as_ref());
        match changes.into_iter().find(|(changed, _)| changed == key) {
            Some((_, problem)) => Ok(problem.clone()),
            None => self.catalog().problem(key),
        }
    }

    fn unstored(&self) -> MutexGuard<'_, VecDeque<Unstored>> {
        self.unstored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A notice on its way to all who want it.
    fn deliveries(&self, notice: &Notice) -> Vec<Delivery> {
        let config = self.settings.config();
        let wanting = config.channels.iter().filter(|channel| channel.wants(notice));
        let channels: Vec<_> = wanting.map(Channel::id).collect();
        Delivery::to_each(notice, &channels, Timestamp::now(), random_id)
    }

    /// Something that lasts is there, as `notice` tells it; or it is not, and `notice` tells that it is over.
    fn lasting(&self, key: &str, is_there: bool, mut notice: Notice, only: Only) {
        // What was told is looked up and changed by one at a time.
        let _telling = self.telling();
        let before = match self.problem(key) {
            Ok(before) => before,
            Err(error) => {
                tracing::error!("what was told of {key} could not be looked up: {error}");
                None
            }
        };
        if only == Only::Remind && before.is_none() {
            return;
        }
        let told = before
            .as_ref()
            .map(|problem| Told { since: problem.since, last_told: problem.last_told });
        let (tell, told) = telling::tell(told, is_there, notice.at);
        notice.reminder = tell == Tell::Reminder;
        notice.since = told.map(|told| told.since).or(before.as_ref().map(|before| before.since));
        let problem = told.map(|Told { since, last_told }| Problem {
            key: key.to_owned(),
            since,
            last_told,
            title: notice.title.clone(),
        });
        let change = problem.as_ref().map_or(ProblemChange::Clear(key), ProblemChange::Set);
        match tell {
            Tell::Begin | Tell::Reminder | Tell::Recovery => self.put(&notice, Some(change)),
            Tell::Nothing if is_there => {
                if let Err(error) = self.catalog().change_problem(change) {
                    tracing::error!("{key} could not be recorded: {error}");
                }
            }
            Tell::Nothing => {}
        }
    }

    /// A job begins: health checks want to know.
    pub(super) fn begins(&self, entry: &Entry) {
        if let Work::Backup { instance, .. } = &entry.work {
            let notice =
                notice(NoticeKind::RunStarted, entry, format!("Backup of {instance} begins"));
            self.once(&notice);
        }
    }

    /// A job ended; `is_last` says that it is not tried again by itself.
    pub(super) fn ended(&self, entry: &Entry, ended: &Ended, live: &Live, is_last: bool) {
        if let Err(error) = self.tell_rewrites() {
            tracing::error!("what was pushed away could not be told, and will be: {error}");
        }
        let subject = entry.work.subject();
        let noun = entry.work.noun();
        let failure = ended.failure.as_ref();
        if failure.is_some() && ended.exit_code == super::executor::INTERRUPTED {
            return;
        }
        let capital = format!("{}{}", noun[..1].to_uppercase(), &noun[1..]);
        let fill = |mut notice: Notice| {
            if let Some(failure) = failure {
                notice.body = format!("{}.", failure.error);
                notice.hint.clone_from(&failure.hint);
                notice.log = log_of(live);
            } else {
                notice.body.clone_from(&ended.text);
            }
            notice
        };
        // What finds damage does not fail.
        let is_damaged = failure.is_none() && ended.exit_code == super::executor::DAMAGED;
        if matches!(entry.work, Work::Backup { .. }) {
            // A snapshot whose keys do not fit is no success.
            let (kind, how) = if failure.is_none() && !is_damaged {
                (NoticeKind::RunSucceeded, "went well")
            } else {
                (NoticeKind::RunFailed, "failed")
            };
            self.once(&fill(notice(kind, entry, format!("{capital} of {subject} {how}"))));
        }
        let is_wrong = failure.is_some() || is_damaged;
        if failure.is_some() && !is_last {
            return;
        }
        let (kind, key) = match entry.work {
            Work::Check { .. } => (NoticeKind::CheckFailed, format!("check-failed/{subject}")),
            Work::Backup { .. } => (NoticeKind::Failure, format!("failure/{subject}")),
            Work::Prune { .. } => (NoticeKind::Failure, format!("failure/prune/{subject}")),
            Work::Recover { .. } => (NoticeKind::Failure, format!("failure/recovery/{subject}")),
            // Who asked for it looks on, and decides what comes next.
            Work::Restore(_) => return,
            Work::Upgrade(_) if is_wrong && entry.origin == Origin::Person => return,
            Work::Upgrade(_) => (NoticeKind::Failure, format!("failure/upgrade/{subject}")),
        };
        let notice = match (is_wrong, &entry.work) {
            (false, _) => notice(
                NoticeKind::Recovery,
                entry,
                format!("{capital} of {subject} goes well again"),
            ),
            (true, Work::Check { .. }) if is_damaged => {
                notice(kind, entry, format!("The check of {subject} found damage"))
            }
            (true, Work::Backup { .. }) if is_damaged => {
                notice(kind, entry, format!("The keys of {subject} do not fit its data"))
            }
            (true, Work::Upgrade(_)) => {
                notice(kind, entry, format!("The upgrade of {subject} could not be gone on with"))
            }
            (true, _) => notice(kind, entry, format!("{capital} of {subject} failed")),
        };
        if let Work::Check { repository, read_data } = &entry.work {
            // A part that is well says nothing of the damage in another.
            let damage = format!("damage/{repository}");
            if is_damaged {
                self.lasting(&damage, true, fill(notice), Only::Always);
                return;
            }
            if !is_wrong && read_data.as_deref() == Some("1/1") {
                self.lasting(&damage, false, fill(notice.clone()), Only::Always);
            }
        }
        self.lasting(&key, is_wrong, fill(notice), Only::Always);
    }

    /// What tells that due times went by. Whoever puts it down by himself says [`Self::wake`].
    #[must_use]
    pub(super) fn missed(
        &self,
        instance: Option<&Name>,
        title: String,
        body: String,
    ) -> Vec<Delivery> {
        let about =
            Notice { instance: instance.cloned(), body, ..of_host(NoticeKind::Missed, title) };
        self.deliveries(&about)
    }

    /// There is something to deliver.
    pub(super) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Tell of objectives that are not met, remind of what lasts, and forget what is not configured any more.
    pub(super) fn look(&self, config: &Config, status: &Status) -> Result<(), CatalogError> {
        self.tell_rewrites()?;
        // Of one whose repository cannot be read nothing is known: neither that it is fresh nor that it is not.
        let known = status.instances.iter().filter(|instance| instance.snapshots.is_some());
        for instance in known.filter(|instance| instance.rpo_seconds.is_some()) {
            let name: Option<Name> = instance.name.parse().ok();
            let rpo = SignedDuration::from_secs(
                i64::try_from(instance.rpo_seconds.unwrap_or_default()).unwrap_or(i64::MAX),
            );
            let key = format!("rpo/{}", instance.name);
            let notice = if instance.rpo_breached {
                let last = instance.last_good_at.map_or_else(
                    || "It has no good snapshot".to_owned(),
                    |at| {
                        format!(
                            "Its last good snapshot is of {}",
                            at.strftime("%Y-%m-%d %H:%M UTC")
                        )
                    },
                );
                let title = format!("{} has no good snapshot of the last {rpo:#}", instance.name);
                let hint = "see what is wrong: `belay status`".to_owned();
                Notice {
                    body: format!("{last}."),
                    hint: Some(hint),
                    ..of_host(NoticeKind::Rpo, title)
                }
            } else {
                of_host(
                    NoticeKind::Recovery,
                    format!("{} has a fresh snapshot again", instance.name),
                )
            };
            let notice = Notice { instance: name, ..notice };
            self.lasting(&key, instance.rpo_breached, notice, Only::Always);
        }
        let problems = self.catalog().problems()?;
        for problem in problems {
            let (kind, subject) = problem.key.split_once('/').unwrap_or((&problem.key, ""));
            let subject = subject.rsplit('/').next().unwrap_or(subject);
            let is_configured = config
                .instances
                .keys()
                .chain(config.repositories.keys())
                .chain(config.pairs.keys())
                .any(|name| name.as_str() == subject);
            if !is_configured {
                self.catalog().change_problem(ProblemChange::Clear(&problem.key))?;
                continue;
            }
            // Those of objectives are told above.
            let kind = match kind {
                "failure" => NoticeKind::Failure,
                "check-failed" | "damage" => NoticeKind::CheckFailed,
                _ => continue,
            };
            let instance = config.instances.keys().find(|name| name.as_str() == subject).cloned();
            let hint = Some("see what is wrong: `belay status`".to_owned());
            let notice = Notice { instance, hint, ..of_host(kind, problem.title.clone()) };
            self.lasting(&problem.key, true, notice, Only::Remind);
        }
        Ok(())
    }

    /// Deliver what waits, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        loop {
            let teller = Arc::clone(&self);
            let delivered = tokio::task::spawn_blocking(move || teller.begin_due()).await;
            let wait = match delivered {
                Ok(Ok(wait)) => wait,
                Ok(Err(error)) => {
                    tracing::error!("notices could not be looked up: {error}");
                    Duration::from_mins(1)
                }
                Err(error) => {
                    tracing::error!("notices could not be delivered: {error}");
                    Duration::from_mins(1)
                }
            };
            // Woken when there is something new, and when something was delivered.
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
        }
    }

    /// Begin to deliver what is due, and say how long nothing else will be. A receiver that does not answer holds up
    /// what goes to it, and nothing else.
    fn begin_due(self: &Arc<Self>) -> Result<Duration, CatalogError> {
        let mut unstored = self.unstored();
        self.store(&mut unstored);
        if !unstored.is_empty() {
            return Ok(STORE);
        }
        drop(unstored);
        let config = self.settings.config();
        let channels: Vec<_> = config.channels.iter().map(Channel::id).collect();
        for delivery in self.catalog().drop_deliveries_of_others(&channels)? {
            tracing::warn!(
                "{}: not told, its channel is not configured any more",
                delivery.notice.title
            );
        }
        let now = Timestamp::now();
        let moment = now.saturating_sub(MOMENT).unwrap_or(Timestamp::MIN);
        for delivery in self.catalog().drop_stale_pings(moment)? {
            tracing::warn!("{}: the health check is not told, that is over", delivery.notice.title);
        }
        let busy = self.busy().clone();
        let due = self.catalog().due_deliveries(now, &busy)?;
        for delivery in due {
            let busy = Busy::begin(self, delivery.channel);
            let config = Arc::clone(&config);
            let deliver = move || {
                busy.teller.deliver(&config, &delivery);
                busy.end();
            };
            let spawned = std::thread::Builder::new().name("notice".into()).spawn(deliver);
            if let Err(error) = spawned {
                tracing::error!("no thread could be started: {error}");
            }
        }
        for delivery in self.catalog().drop_old_deliveries(now)? {
            let why = delivery.last_error.unwrap_or_default();
            tracing::error!(
                "{}: could not be told for three days, and is given up: {why}",
                delivery.notice.title
            );
        }
        let busy = self.busy().clone();
        let next = self.catalog().next_delivery_at(&busy)?;
        let wait =
            next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
        Ok(wait.unwrap_or(Duration::MAX).clamp(Duration::from_secs(1), Duration::from_mins(10)))
    }

    fn deliver(&self, config: &Config, delivery: &Delivery) {
        let Some(channel) = config.channels.iter().find(|channel| channel.id() == delivery.channel)
        else {
            return;
        };
        let delivered =
            notify::deliver(channel, delivery.id, &delivery.notice, &self.settings.secrets);
        let catalog = self.catalog();
        let recorded = match delivered {
            Ok(()) => catalog.remove_delivery(delivery.id),
            Err(error) => {
                let told = format!("{error}: {}", error.reason);
                let hint = crate::ops::what_to_do(error.hint().as_deref());
                tracing::warn!("{}: not told yet: {told}.{hint}", delivery.notice.title);
                if matches!(error.reason, Reason::Unfit(_)) {
                    catalog.remove_delivery(delivery.id)
                } else {
                    // Also one that refuses: an address or a receiver may be put right within the days that it waits.
                    let now = Timestamp::now();
                    let waits = if error.is_passing() { delivery.attempts.min(20) } else { 20 };
                    let doubled = FIRST_WAIT.saturating_mul(1 << waits);
                    let asked =
                        error.retry_after().and_then(|wait| SignedDuration::try_from(wait).ok());
                    let wait = doubled.min(LONGEST_WAIT).max(asked.unwrap_or_default());
                    let next = now.saturating_add(wait).unwrap_or(now);
                    catalog.put_off_delivery(delivery.id, &told, now, next)
                }
            }
        };
        if let Err(error) = recorded {
            tracing::error!("a delivery could not be recorded, and may come twice: {error}");
        }
    }
}

/// A channel that something goes to.
struct Busy {
    teller: Arc<Teller>,
    channel: ChannelId,
}

impl Busy {
    fn begin(teller: &Arc<Teller>, channel: ChannelId) -> Self {
        teller.busy().insert(channel);
        Self { teller: Arc::clone(teller), channel }
    }

    /// Whether it came or not: the next one may go.
    fn end(self) {
        let teller = Arc::clone(&self.teller);
        drop(self);
        teller.wake.notify_one();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.teller.busy().remove(&self.channel);
    }
}

fn random_id() -> DeliveryId {
    let mut id = [0; 16];
    // Without randomness the time has to do: repeats are only told less well.
    if getrandom::fill(&mut id).is_err() {
        id = Timestamp::now().as_nanosecond().to_be_bytes();
    }
    DeliveryId(id)
}

fn of_host(kind: NoticeKind, title: String) -> Notice {
    Notice {
        kind,
        instance: None,
        job: None,
        at: Timestamp::now(),
        since: None,
        reminder: false,
        title,
        body: String::new(),
        hint: None,
        host: host::hostname(),
        log: String::new(),
    }
}

fn notice(kind: NoticeKind, entry: &Entry, title: String) -> Notice {
    let instance = entry.work.instance().cloned();
    Notice { instance, job: Some(entry.id), ..of_host(kind, title) }
}

/// The end of what happened in a job, in lines.
fn log_of(live: &Live) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut length = 0;
    for (_, event) in live.news(&mut 0.into()).events.iter().rev() {
        let text = match event {
            Event::Phase { phase, subject } => format!("{phase} {subject}"),
            Event::Warning { message } => format!("warning: {message}"),
            Event::Note { message } => message.clone(),
            Event::HistoryRewritten { git, rewrite } => rewrite.told(git),
            Event::Sealed { .. }
            | Event::Progress { .. }
            | Event::Removed { .. }
            | Event::VersionChanged { .. } => continue,
        };
        length += text.len() + 1;
        if length > LOG {
            break;
        }
        lines.push(text);
    }
    lines.reverse();
    lines.join("\n")
}
