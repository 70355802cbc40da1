//! Tells people and monitors: what is wrong once when it begins, once a day while it lasts, once when it is over; and what
//! else happens. Notices are in the catalog until they have arrived, so no receiver holds anything up, and a restart loses none.

use super::Settings;
use super::live::Live;
use crate::catalog::{Catalog, CatalogError, Delivery, Entry, Problem, ProblemChange};
use crate::config::Config;
use crate::config::notify::Channel;
use crate::host;
use crate::model::event::Event;
use crate::model::id::DeliveryId;
use crate::model::job::{Ended, Work};
use crate::model::name::Name;
use crate::model::notice::{Notice, NoticeKind};
use crate::notify::{self, Reason};
use crate::ops::status::Status;
use crate::policy::telling::{self, Tell, Told};
use jiff::{SignedDuration, Timestamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// So many are sent at once.
const AT_ONCE: u32 = 8;
/// Between the first two attempts; twice as long each time.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(10);
/// No wait is longer.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// More of a log is not sent, in bytes.
const LOG: usize = 10_000;

pub(super) struct Teller {
    settings: Arc<Settings>,
    /// A connection of its own: what is sent takes time.
    catalog: Mutex<Catalog>,
    telling: Mutex<()>,
    wake: Notify,
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
            wake: Notify::new(),
        }
    }

    fn catalog(&self) -> MutexGuard<'_, Catalog> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tell something that is over when it is told.
    pub(super) fn once(&self, notice: &Notice) {
        self.put(notice, None);
    }

    fn put(&self, notice: &Notice, problem: Option<ProblemChange<'_>>) {
        let config = self.settings.config();
        let wanting = config.channels.iter().filter(|channel| channel.wants(notice));
        let channels: Vec<_> = wanting.map(Channel::id).collect();
        if channels.is_empty() && problem.is_none() {
            return;
        }
        let now = Timestamp::now();
        let kept = self.catalog().put_notice(notice, &channels, problem, now, random_id);
        match kept {
            Ok(()) => self.wake.notify_one(),
            Err(error) => tracing::error!("a notice could not be kept ({}): {error}", notice.title),
        }
    }

    /// Something that lasts is there, as `notice` tells it; or it is not, and `notice` tells that it is over.
    fn lasting(&self, key: &str, is_there: bool, mut notice: Notice, only: Only) {
        // What was told is looked up and changed by one at a time.
        let _telling = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match self.catalog().problem(key) {
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
        if is_wrong && failure.is_some() && !is_last {
            return;
        }
        let (kind, key) = match entry.work {
            Work::Check { .. } => (NoticeKind::CheckFailed, format!("check-failed/{subject}")),
            Work::Backup { .. } => (NoticeKind::Failure, format!("failure/{subject}")),
            Work::Prune { .. } => (NoticeKind::Failure, format!("failure/prune/{subject}")),
            Work::Recover { .. } => (NoticeKind::Failure, format!("failure/recovery/{subject}")),
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

    /// Due times went by.
    pub(super) fn missed(&self, instance: Option<&Name>, title: String, body: String) {
        let about =
            Notice { instance: instance.cloned(), body, ..of_host(NoticeKind::Missed, title) };
        self.once(&about);
    }

    /// Tell of objectives that are not met, remind of what lasts, and forget what is not configured any more.
    pub(super) fn look(&self, config: &Config, status: &Status) -> Result<(), CatalogError> {
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
            let delivered = tokio::task::spawn_blocking(move || teller.deliver_due()).await;
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
            // Woken when there is something new.
            let _ = tokio::time::timeout(wait, self.wake.notified()).await;
        }
    }

    /// Deliver what is due, and say how long nothing else will be.
    fn deliver_due(&self) -> Result<Duration, CatalogError> {
        let config = self.settings.config();
        let channels: Vec<_> = config.channels.iter().map(Channel::id).collect();
        for delivery in self.catalog().drop_deliveries_of_others(&channels)? {
            tracing::warn!(
                "{}: not told, its channel is not configured any more",
                delivery.notice.title
            );
        }
        loop {
            let due = self.catalog().due_deliveries(Timestamp::now(), AT_ONCE)?;
            if due.is_empty() {
                break;
            }
            std::thread::scope(|scope| {
                for delivery in &due {
                    scope.spawn(|| self.deliver(&config, delivery));
                }
            });
        }
        let now = Timestamp::now();
        for delivery in self.catalog().drop_old_deliveries(now)? {
            let why = delivery.last_error.unwrap_or_default();
            tracing::error!(
                "{}: could not be told for three days, and is given up: {why}",
                delivery.notice.title
            );
        }
        let next = self.catalog().next_delivery_at()?;
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
            Event::Sealed { .. } | Event::Progress { .. } | Event::Removed { .. } => continue,
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
