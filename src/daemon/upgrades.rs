//! Goes on with upgrades that nobody has to say anything to: looks what the journals in the catalog say, queues what is due, and tells
//! where one has come to rest.
//!
//! What always holds: as long as nothing is due nothing is written, and no repository or instance is asked, but for the health of a
//! production whose upgrade is provisional; what does not get anywhere is tried again ever more seldom.

mod due;

use self::due::{Due, Past};
use super::executor::SubmitError;
use super::teller::Teller;
use super::{DaemonError, Executor, Settings};
use crate::catalog::{Handled, Outcome};
use crate::config::{Config, Pair};
use crate::host;
use crate::model::event::{Cancel, Events};
use crate::model::name::Name;
use crate::model::upgrade::Journal;
use crate::ops::desk::{Desk, has_words};
use crate::ops::status::schedule_subject;
use crate::ops::{Context, OpsError};
use crate::upgrade::conduct::{self, by_itself};
use crate::upgrade::journals;
use crate::upgrade::machine::{Decision, State, Upgrade};
use crate::upgrade::told::told;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the catalog is looked at, whatever happens: commands write to it, too.
const LOOK: Duration = Duration::from_secs(10);
/// So much later than that.
const MOMENT: Duration = Duration::from_millis(50);
/// When is looked again at what another process works on.
const BUSY: Duration = Duration::from_mins(1);
/// How often is looked how a provisional production does.
const HEALTH: SignedDuration = SignedDuration::from_mins(5);
/// What happened longer ago, and was not told when it did, is no news.
const NEWS: SignedDuration = SignedDuration::from_hours(24);
/// So many jobs are looked through for one that a command runs on production.
const JOBS: u32 = 20;

/// What goes on with upgrades.
pub struct Upgrades {
    settings: Arc<Settings>,
    executor: Arc<Executor>,
    teller: Arc<Teller>,
    past: Mutex<BTreeMap<Name, Past>>,
    quiet: Mutex<Option<Quiet>>,
    wake: Notify,
    /// Ends a look at an instance.
    cancel: Cancel,
}

/// A time in which nothing is due by this configuration and these journals. A clock that is set back leaves it, too.
struct Quiet {
    config: Arc<Config>,
    /// Of the catalog.
    version: i64,
    from: Timestamp,
    until: Timestamp,
}

impl Upgrades {
    pub(super) fn new(
        settings: Arc<Settings>,
        executor: Arc<Executor>,
        teller: Arc<Teller>,
    ) -> Self {
        let (past, quiet) = (Mutex::default(), Mutex::default());
        let (wake, cancel) = (Notify::new(), Cancel::new());
        Self { settings, executor, teller, past, quiet, wake, cancel }
    }

    /// Somebody has said something, or the configuration is another one.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The daemon ends: no instance is looked at any more.
    pub(super) fn stop(&self) {
        self.cancel.cancel();
    }

    /// Look after upgrades, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut is_woken = true;
        loop {
            let finished = self.executor.finished();
            tokio::pin!(finished);
            // What ends while this looks is looked at again.
            finished.as_mut().enable();
            let this = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || this.look(is_woken)).await;
            let failed = |error: &dyn std::fmt::Display| {
                (Some(format!("Upgrades could not be looked after: {error}")), None)
            };
            let (trouble, until) = match looked {
                Ok(Ok((troubles, until))) => {
                    ((!troubles.is_empty()).then(|| troubles.join(" ")), until)
                }
                Ok(Err(error)) => failed(&error),
                Err(error) => failed(&error),
            };
            self.settings.trouble("upgrades", trouble);
            is_woken = tokio::select! {
                () = tokio::time::sleep(wait(until, Timestamp::now())) => false,
                () = self.wake.notified() => true,
                () = finished => true,
            };
        }
    }

    /// Queue what is due, and tell what is new; returns what is wrong, and when the next thing is due. Where nothing has changed
    /// nothing is read again, unless somebody has woken this.
    fn look(&self, is_woken: bool) -> Result<(Vec<String>, Option<Timestamp>), DaemonError> {
        let (config, from) = (self.settings.config(), Timestamp::now());
        let version = self.executor.catalog().data_version()?;
        if !is_woken && let Some(until) = self.quiet_until(&config, version, from)? {
            return Ok((Vec::new(), Some(until)));
        }
        let journals = self.executor.catalog().upgrades(None)?;
        let mut of_pairs: BTreeMap<Name, Vec<Journal>> = BTreeMap::new();
        for journal in journals {
            of_pairs.entry(journal.plan.pair.clone()).or_default().push(journal);
        }
        let (mut troubles, mut next) = (Vec::new(), None);
        for (name, journals) in of_pairs {
            match self.look_at(&config, &name, journals) {
                Ok(until) => next = [next, until].into_iter().flatten().min(),
                Err(error) => troubles.push(format!("The upgrade of {name}: {error}.")),
            }
        }
        let until = next.unwrap_or(Timestamp::MAX);
        let is_quiet = troubles.is_empty();
        *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) =
            is_quiet.then_some(Quiet { config, version, from, until });
        Ok((troubles, next))
    }

    /// Until when nothing is due, where nothing has changed and nobody has said anything.
    fn quiet_until(
        &self,
        config: &Arc<Config>,
        version: i64,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DaemonError> {
        let until = {
            let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            let same = quiet.as_ref().filter(|quiet| {
                Arc::ptr_eq(&quiet.config, config)
                    && quiet.version == version
                    && (quiet.from..quiet.until).contains(&now)
            });
            let Some(quiet) = same else { return Ok(None) };
            quiet.until
        };
        for pair in config.pairs.keys() {
            if has_words(&config.state_dir, pair)? {
                return Ok(None);
            }
        }
        Ok(Some(until))
    }

    /// The same of one pair, whose upgrades come newest first; returns when the next thing of it is due.
    fn look_at(
        &self,
        config: &Config,
        name: &Name,
        journals: Vec<Journal>,
    ) -> Result<Option<Timestamp>, DaemonError> {
        let now = Timestamp::now();
        let upgrades: Vec<Upgrade> =
            journals.into_iter().map(journals::replayed).collect::<Result<_, _>>()?;
        let Some(newest) = upgrades.first() else { return Ok(None) };
        let pair = config.pairs.get(name);
        self.tell(newest, now)?;
        let open = upgrades.iter().find(|upgrade| !upgrade.state().is_over());
        let is_healthy = if let (Some(open), Some(pair)) = (open, pair) {
            self.health(config, pair, open, now)?
        } else {
            self.teller.forget_health(name)?;
            false
        };
        let next = |upgrade: &Upgrade| by_itself::comes_next(config, upgrade, is_healthy, now);
        // One that is over may have pins to release.
        let due = upgrades.iter().find(|it| matches!(next(it), Decision::Do(_)));
        let Some(upgrade) = open.or(due) else { return Ok(None) };
        if pair.is_none() {
            let (id, state) = (upgrade.journal().id, upgrade.state());
            return Err(OpsError::refused(
                format!("upgrade {id} is {state} and cannot go on: the configuration has no pair '{name}'"),
                "put the pair back into the configuration",
            )
            .into());
        }
        let next = next(upgrade);
        let again = self.go_on_if_due(config, name, upgrade, &next, now)?;
        let until = match next {
            Decision::Wait { until, .. } => until,
            Decision::Do(_) | Decision::Ended(_) => None,
        };
        let watched =
            (upgrade.state() == State::Provisional).then(|| self.watched_again(name, now));
        Ok([again, until, watched].into_iter().flatten().min())
    }

    /// When production is looked at again.
    fn watched_again(&self, pair: &Name, now: Timestamp) -> Timestamp {
        let all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.get(pair).and_then(|past| past.health);
        let at = known.and_then(|(at, _)| at.checked_add(HEALTH).ok());
        // One that could not be looked at just now is looked at soon.
        at.filter(|at| *at > now).unwrap_or(now + LOOK)
    }

    fn go_on_if_due(
        &self,
        config: &Config,
        name: &Name,
        upgrade: &Upgrade,
        next: &Decision,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, DaemonError> {
        let has_words = has_words(&config.state_dir, name)?;
        let is_queued = self.executor.upgrade_job(name).is_some();
        let said = due::said(upgrade.journal());
        let due = {
            let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            let past = all.entry(name.clone()).or_default();
            if is_queued {
                past.is_tried(now, said);
            }
            let due = due::due(next, has_words, said, past, now);
            if due == Due::Nothing && !is_queued {
                past.has_got_somewhere();
            }
            due
        };
        // What waits or runs is looked at again when it has ended.
        if is_queued {
            return Ok(None);
        }
        match due {
            Due::Nothing => return Ok(None),
            Due::At(at) => return Ok(Some(at)),
            Due::Now => {}
        }
        let own = host::hostname();
        if let Some(other) = due::of_other_host(upgrade.journal(), &own).filter(|_| !has_words) {
            return Err(OpsError::refused(
                format!("the host {other} has taken it up, and this one, {own}, leaves it to that"),
                format!("where {other} is gone, take it over here: belay upgrade resume {name}"),
            )
            .into());
        }
        // Who works on it in another process goes on by himself.
        if Desk::take(&config.state_dir, name)?.is_none() {
            return Ok(Some(now + BUSY));
        }
        match self.executor.go_on(name, None) {
            Ok(_) => {
                let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
                all.entry(name.clone()).or_default().begins(now, said);
                Ok(None)
            }
            // A later look tries again.
            Err(SubmitError::Full | SubmitError::Closed) => Ok(Some(now + LOOK)),
            Err(SubmitError::Catalog(error)) => Err(error.into()),
            Err(error) => Err(OpsError::refused(error.to_string(), "see `belay status`").into()),
        }
    }

    /// Tell where an upgrade has come to rest, once: what is told is noted with it.
    fn tell(&self, upgrade: &Upgrade, now: Timestamp) -> Result<(), DaemonError> {
        let Some(told) = told(upgrade) else { return Ok(()) };
        let plan = upgrade.plan();
        let subject = schedule_subject("upgrade", &plan.pair);
        let known = self.executor.catalog().handled(&subject)?;
        if known.as_ref().is_some_and(|known| known.pattern == told.mark) {
            return Ok(());
        }
        let is_news = known.is_some() || now.duration_since(upgrade.journal().changed_at()) < NEWS;
        let deliveries = if is_news {
            tracing::info!("{}: {}", plan.pair, told.title);
            self.teller.of_upgrade(&plan.production.name, &told)
        } else {
            Vec::new()
        };
        let known_since = known.map_or(now, |known| known.known_since);
        let handled = Handled { known_since, at: now, pattern: told.mark, detail: None };
        self.executor.put_schedule(&subject, &handled, &deliveries)?;
        self.teller.wake();
        Ok(())
    }

    /// Whether production does well, as far as that is watched: from when it is provisional until the upgrade is over.
    fn health(
        &self,
        config: &Config,
        pair: &Pair,
        upgrade: &Upgrade,
        now: Timestamp,
    ) -> Result<bool, DaemonError> {
        if upgrade.state() != State::Provisional {
            self.teller.forget_health(&pair.name)?;
            return Ok(false);
        }
        let known = {
            let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
            all.entry(pair.name.clone()).or_default().health
        };
        let is_known = known.filter(|(at, _)| {
            let age = now.duration_since(*at);
            (SignedDuration::ZERO..HEALTH).contains(&age)
        });
        if let Some((_, is_healthy)) = is_known {
            return Ok(is_healthy);
        }
        if self.is_worked_on(upgrade)? {
            // A backup may have stopped who writes; what was known before has to do.
            return Ok(known.is_some_and(|(_, is_healthy)| is_healthy));
        }
        let context = Context::new(Events::ignored(), self.cancel.clone());
        let scene = conduct::scene(config, &self.settings.secrets, pair.name.as_str(), &context)?;
        let ails = by_itself::ails(&scene, upgrade)?;
        self.teller.health(upgrade, ails.as_deref());
        let mut all = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(pair.name.clone()).or_default().health = Some((Timestamp::now(), ails.is_none()));
        Ok(ails.is_none())
    }

    /// Whether a job of the daemon or of a command works on production just now.
    fn is_worked_on(&self, upgrade: &Upgrade) -> Result<bool, DaemonError> {
        if self.executor.works_on(upgrade.journal()) {
            return Ok(true);
        }
        let production = &upgrade.plan().production.name;
        let jobs = self.executor.catalog().jobs(JOBS)?;
        Ok(jobs.iter().any(|job| {
            job.outcome == Outcome::Running && job.start.instance_name.as_ref() == Some(production)
        }))
    }
}

/// How long nobody looks: until the next thing is due, and not for long.
fn wait(until: Option<Timestamp>, now: Timestamp) -> Duration {
    let left = until.and_then(|until| Duration::try_from(until.duration_since(now)).ok());
    // A moment longer, so that it is over then.
    left.map_or(LOOK, |left| (left + MOMENT).min(LOOK))
}
