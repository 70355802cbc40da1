//! The world as it is: each step of an upgrade, done to the instances of a pair.
//!
//! What always holds: a step that is done again finds what an earlier try has left, and does no harm to it; what a step overwrites is in a
//! snapshot or set aside; and a job that was asked to stop leaves the journal as a kill would, so that the step is not taken for one
//! that failed.

mod back;
mod branches;
mod forward;
mod keep;
mod problem;
mod trials;
mod volumes;

use self::problem::Problem;
pub(super) use self::trials::ails;
use super::driver::Driver;
use super::evidence::{self, Copies, Question, Scene};
use super::machine::{Command, Facts, Refusal, State, Upgrade, What};
use super::rules::{Running, Seen};
use super::runner::{Failure, World};
use super::switch::{self, Moment};
use crate::catalog::Catalog;
use crate::config::Instance;
use crate::host;
use crate::model::event::Cancelled;
use crate::model::id::Sha256;
use crate::model::upgrade::{
    Entry, Environment, Gate, Journal, Outcome, Record, Request, RuleName, Step,
};
use crate::ops::desk::{Desk, LeftWord};
use crate::ops::quiesce::{self, Quiesced};
use crate::ops::session::{Lease, Session};
use crate::ops::upgrades::NotKept;
use crate::ops::{Context, OpsError, upgrades};
use crate::repository::lock::Lock;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Steps of one upgrade, done by this process.
pub struct Hands<'a> {
    scene: Scene<'a>,
    staging: &'a Instance,
    production: &'a Instance,
    catalog: Catalog,
    desk: Desk,
    /// What was read there, and is not answered yet.
    heard: Option<LeftWord>,
    /// Production's repository, once it was needed for the journal.
    repository: Option<Session>,
    /// Both instances, kept from others since the first step that this process began.
    lease: Option<Arc<Lease>>,
    /// That repository, kept from those who want it for themselves.
    lock: Option<Lock>,
    /// Production's writers, while this process has them stopped, and since when.
    stopped: Option<(Quiesced, Timestamp)>,
    /// What production ran when the rules were asked right before that.
    ran: Option<Running>,
}

/// What a person says, as it is left for the process that works on the upgrade.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Word {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: Said,
}

/// What can be said.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub enum Said {
    /// Yes to the plan of this digest.
    Approve {
        /// The plan's.
        plan: Sha256,
    },
    /// A rule is no hindrance.
    Override {
        /// Which.
        rule: RuleName,
    },
    /// A change of course.
    Ask {
        /// Which.
        request: Request,
    },
}

impl Word {
    /// The same for the machine.
    pub fn command(&self) -> Command {
        let what = match &self.what {
            Said::Approve { plan } => What::Approve(*plan),
            Said::Override { rule } => What::Override(*rule),
            Said::Ask { request } => What::Ask(*request),
        };
        Command { by: self.by.clone(), reason: self.reason.clone(), what }
    }
}

impl<'a> Hands<'a> {
    /// For who has the right to work on the pair's upgrades.
    pub fn new(scene: Scene<'a>, desk: Desk) -> Result<Self, OpsError> {
        let config = scene.config;
        let [(_, staging), (_, production)] = scene.sides()?;
        Ok(Self {
            scene,
            staging,
            production,
            catalog: Catalog::open(&config.state_dir)?,
            desk,
            heard: None,
            repository: None,
            lease: None,
            lock: None,
            stopped: None,
            ran: None,
        })
    }

    fn instance(&self, environment: Environment) -> &'a Instance {
        match environment {
            Environment::Staging => self.staging,
            Environment::Production => self.production,
        }
    }

    fn driver(&self, environment: Environment) -> Result<Driver<'a>, Problem> {
        let Scene { config, upgrades, context, .. } = self.scene;
        Ok(Driver::of(config, upgrades, self.instance(environment), context)?)
    }

    fn session(&self, environment: Environment) -> Result<Session, OpsError> {
        let Scene { config, secrets, .. } = self.scene;
        Session::open(config, config.repository_of(self.instance(environment))?, secrets)
    }

    /// For an operation that is a job of its own.
    fn context(&self) -> Context {
        let Context { events, cancel, .. } = self.scene.context;
        let context = Context::new(events.clone(), cancel.clone());
        match &self.lease {
            Some(lease) => context.under(lease),
            None => context,
        }
    }

    /// Have the journal in production's repository, too.
    fn keep(&mut self, journal: &Journal) -> Result<(), NotKept> {
        let context = self.context();
        upgrades::keep(self.repository()?, journal, &context)
    }

    /// Production's repository.
    fn repository(&mut self) -> Result<&Session, OpsError> {
        if self.repository.is_none() {
            self.repository = Some(self.session(Environment::Production)?);
        }
        Ok(self.repository.as_ref().expect("it was opened above"))
    }

    /// Why the snapshots of an upgrade are pinned.
    fn pin_reason(upgrade: &Upgrade) -> String {
        let Journal { id, plan, .. } = upgrade.journal();
        format!("upgrade {id} of {} to {}", plan.pair, plan.target())
    }

    fn stopped_since(&self) -> Option<Timestamp> {
        let (stopped, since) = self.stopped.as_ref()?;
        stopped.is_unbroken().then_some(*since)
    }

    /// What is stopped stays so, also where this process ends: which version may start is for the journal to say.
    fn leave_writers(&mut self) {
        if let Some((stopped, _)) = self.stopped.take() {
            stopped.leave();
        }
    }

    /// Let go of what was stopped, by this process or one before: it has been put in place anew, and started.
    fn writers_were_replaced(&self, environment: Environment) -> Result<(), OpsError> {
        let (config, instance) = (self.scene.config, self.instance(environment));
        quiesce::forget_of_upgrade(config, instance, &self.context())
    }

    fn perform(&mut self, upgrade: &Upgrade, step: Step) -> Result<Outcome, Problem> {
        self.scene.context.cancel.check()?;
        match step {
            Step::PullStaging => self.pull(upgrade, Environment::Staging),
            Step::PullProduction => self.pull(upgrade, Environment::Production),
            Step::BackUpStaging | Step::BackUpStagingAgain => self.back_up(Environment::Staging),
            Step::BackUpProduction => self.back_up(Environment::Production),
            Step::PinBoth => self.pin(upgrade, Step::BackUpStaging, Step::BackUpProduction),
            Step::PinLast => self.pin(upgrade, Step::BackUpStagingAgain, Step::BackUpStopped),
            Step::BaselineStaging => self.baseline(upgrade, Environment::Staging),
            Step::BaselineProduction => self.baseline(upgrade, Environment::Production),
            Step::UpgradeStaging => self.install(upgrade, Environment::Staging),
            Step::UpgradeProduction => self.install(upgrade, Environment::Production),
            Step::TestStaging | Step::TestStagingAgain => {
                self.test(upgrade, Environment::Staging, &upgrade.hop().to.to_string())
            }
            Step::Verify => {
                self.test(upgrade, Environment::Production, &upgrade.hop().to.to_string())
            }
            Step::MaintenanceOn | Step::KeepUsersOut => self.keep_users_out(),
            Step::MaintenanceOff | Step::EndMaintenance | Step::LetUsersIn => self.let_users_in(),
            Step::StopWriters => self.stop_writers(),
            Step::BackUpStopped => self.back_up_stopped(),
            Step::HoldWriters => self.hold_writers(),
            Step::ResumeWriters => self.resume_writers(upgrade),
            Step::SaveProduction if !self.copies_of_production(upgrade)?.is_empty() => {
                self.save_before_swap(upgrade)
            }
            Step::SaveStaging | Step::SaveProduction => Ok(Outcome {
                notes: vec!["what it is now is saved right before it is replaced".into()],
                ..Outcome::default()
            }),
            Step::PutBackStaging => self.put_back_staging(upgrade),
            Step::StopProduction => self.stop_production(),
            Step::PutBackProduction => self.put_back_production(upgrade),
            Step::StartBack => self.start_back(upgrade),
            Step::TestStagingBack => {
                let version = staging_version_before(upgrade);
                self.test(upgrade, Environment::Staging, &version)
            }
            Step::VerifyBack => {
                let before = upgrade.hop().from.to_string();
                let mut outcome = self.test(upgrade, Environment::Production, &before)?;
                outcome.notes.extend(self.told_of_branches(upgrade));
                Ok(outcome)
            }
            Step::Commit => {
                let notes = self.drop_copies_of_staging(upgrade);
                Ok(Outcome { notes, ..Outcome::default() })
            }
            Step::ReleasePins => self.release_pins(upgrade),
            Step::CopyVolumes => self.copy_volumes(upgrade),
            // The runner asks the rules.
            Step::GateStaging | Step::GateBeforeStop | Step::GateProduction => {
                Err(Problem::internal(step))
            }
        }
    }

    /// Whether an upgrade of production may have been tried in this hop already.
    fn was_tried(upgrade: &Upgrade) -> bool {
        let hop_now = upgrade.hop_number();
        let began = upgrade.journal().records.iter().filter(|record| {
            matches!(record.entry, Entry::Began { hop, step: Step::UpgradeProduction } if hop == hop_now)
        });
        // The beginning of this very try is in the journal.
        began.count() > 1
    }
}

/// What staging ran before this hop.
fn staging_version_before(upgrade: &Upgrade) -> String {
    match upgrade.hop_number() {
        0 => upgrade.plan().staging.version.to_string(),
        _ => upgrade.hop().from.to_string(),
    }
}

fn cancelled() -> OpsError {
    Cancelled.into()
}

impl World for Hands<'_> {
    type Error = OpsError;

    fn now(&mut self) -> Timestamp {
        Timestamp::now()
    }

    fn host(&self) -> String {
        host::hostname()
    }

    fn facts(&mut self, upgrade: &Upgrade) -> Facts {
        let window =
            evidence::window(self.production, &upgrade.plan().terms.windows, Timestamp::now());
        let is_watched = upgrade.state() == State::Provisional;
        Facts {
            window_is_open: window.as_ref().is_some_and(|window| window.is_open),
            window_opens_at: window.and_then(|window| window.opens_at),
            production_is_healthy: is_watched && self.production_is_healthy(upgrade),
        }
    }

    fn record(&mut self, upgrade: &Upgrade, record: &Record) -> Result<(), OpsError> {
        // A step that was asked to stop has not failed: the next process does it again.
        if matches!(record.entry, Entry::Failed { .. }) && self.scene.context.cancel.is_cancelled()
        {
            return Err(cancelled());
        }
        if let Entry::Began { step, .. } = &record.entry {
            self.keep_others_out(upgrade, *step)?;
        }
        let upgrades_production =
            matches!(record.entry, Entry::Began { step: Step::UpgradeProduction, .. });
        if upgrades_production {
            self.scene.context.cancel.check().map_err(OpsError::from)?;
            self.ensure_still_stopped(upgrade)?;
            // Once the beginning may be durable, whoever takes it up relies on the last backup: nothing may write from here on.
            self.leave_writers();
        }
        let journal = upgrade.journal();
        switch::pass(Moment::Before, &record.entry);
        // In the repository first: a catalog that is behind takes that in, and one that is ahead would know what no other host could.
        if let Err(error) = self.keep(journal) {
            let error = match error {
                // Two that go on by themselves would each undo what the other does.
                NotKept::TakenOver(error) => return Err(error),
                NotKept::Failed(error) => error,
            };
            let reaches_out = matches!(
                record.entry,
                Entry::Began { step: Step::UpgradeStaging | Step::UpgradeProduction, .. }
            );
            if upgrades_production {
                let name = &self.production.name;
                self.scene.context.events.warn(format!(
                    "What writes to {name} stays stopped: `belay upgrade resume {}` goes on, or starts it again.",
                    journal.plan.pair
                ));
            }
            if reaches_out {
                return Err(error);
            }
            self.scene.context.events.warn(format!(
                "The journal of upgrade {} could not be written to the repository: {error}.",
                journal.id
            ));
        }
        switch::pass(Moment::Kept, &record.entry);
        self.catalog.add_upgrade_record(journal.id, record)?;
        switch::pass(Moment::Noted, &record.entry);
        self.tell(upgrade, record);
        Ok(())
    }

    fn perform(&mut self, upgrade: &Upgrade, step: Step) -> Result<Outcome, Failure> {
        let first_try = step != Step::UpgradeProduction || !Self::was_tried(upgrade);
        self.perform(upgrade, step).map_err(|problem| problem.failure(first_try))
    }

    fn see(&mut self, upgrade: &Upgrade, gate: Gate) -> Result<Seen, Failure> {
        let image =
            |step| upgrade.outcome(step).and_then(|outcome: &Outcome| outcome.image.as_deref());
        let question = Question {
            gate,
            to: &upgrade.hop().to,
            windows: &upgrade.plan().terms.windows,
            fetched: [image(Step::PullStaging), image(Step::PullProduction)],
            copies: match upgrade.outcome(Step::CopyVolumes) {
                Some(made) if gate == Gate::Production => Copies::Made(&made.volumes),
                _ => Copies::Planned(upgrade.plan().terms.copy_volumes),
            },
            stopped_since: self.stopped_since(),
            now: Timestamp::now(),
        };
        let seen = evidence::read(&self.scene, &question);
        let seen = seen.map_err(|error| Problem::from(error).failure(true))?;
        Ok(self.with_what_ran(gate, seen))
    }

    fn next_command(&mut self) -> Option<Command> {
        loop {
            // What cannot be cleared away would be heard again and again.
            if !self.clear_away() {
                return None;
            }
            let word = match self.desk.oldest_word() {
                Ok(word) => word?,
                Err(error) => {
                    let text = format!("What people have said could not be read: {error}.");
                    self.scene.context.events.warn(text);
                    return None;
                }
            };
            let said = serde_json::from_slice::<Word>(&word.text);
            self.heard = Some(word);
            match said {
                Ok(word) => return Some(word.command()),
                Err(error) => {
                    let text = format!("Something that was said could not be read: {error}.");
                    self.scene.context.events.warn(text);
                }
            }
        }
    }

    fn answer(&mut self, command: &Command, answer: Result<(), Refusal>) {
        if let Err(Refusal { message, hint }) = answer {
            let by = &command.by;
            let text = format!("What {by} said was not heard: {message} ({hint}).");
            self.scene.context.events.warn(text);
        }
        self.clear_away();
    }
}

impl Hands<'_> {
    /// The word that was heard last need not lie there any more. Returns whether it does not.
    fn clear_away(&mut self) -> bool {
        let Some(word) = self.heard.take() else { return true };
        let Err(error) = self.desk.clear_away(&word) else { return true };
        let text = format!("What was said could not be cleared away: {error}.");
        self.scene.context.events.warn(text);
        self.heard = Some(word);
        false
    }

    /// Tell who follows.
    fn tell(&self, upgrade: &Upgrade, record: &Record) {
        let events = &self.scene.context.events;
        match &record.entry {
            Entry::Began { step, .. } => events.phase("step", step.action()),
            Entry::Failed { step, why, hint, .. } => {
                let hint = hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
                events.warn(format!("Could not {}: {why}{hint}.", step.action()));
            }
            Entry::Judged { results, .. } => {
                for result in results.iter().filter(|result| result.closes()) {
                    let needed = result.needed.as_deref().unwrap_or_default();
                    events.warn(format!("The rule {} says no: {needed}.", result.rule));
                }
            }
            Entry::Done { outcome, .. } => {
                for note in &outcome.notes {
                    events.note(format!("{}: {note}", upgrade.plan().pair));
                }
            }
            Entry::TakenUp { .. }
            | Entry::Approved(_)
            | Entry::Overridden(_)
            | Entry::Asked { .. } => {}
        }
    }
}
