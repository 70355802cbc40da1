//! Doing what the machine says, in a world that is given.
//!
//! What always holds: a step is performed only once its beginning is durable, and the next one only once its end is. So
//! wherever the process ends, whoever takes the journal up knows every step that may have been done.

use super::machine::{Command, Decision, Facts, Misfit, Refusal, State, Upgrade, Waiting};
use super::rules::{self, Seen};
use crate::model::upgrade::{Entry, Gate, Outcome, Record, Step};
use jiff::Timestamp;

/// Why a step was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why, with its causes.
    pub why: String,
    /// What a person can do about it.
    pub hint: Option<String>,
    /// Of an upgrade of production: nothing of it was changed, neither now nor by an earlier try, so that nothing has to be put back.
    pub untouched: bool,
}

/// Everything outside the machine.
pub trait World {
    /// Why a journal could not be written.
    type Error;

    /// The clock.
    fn now(&mut self) -> Timestamp;

    /// The name of this host.
    fn host(&self) -> String;

    /// What the machine has to know just now.
    fn facts(&mut self, upgrade: &Upgrade) -> Facts;

    /// Make the last record of the journal, which is `record`, durable. After an error nobody knows whether it is.
    fn record(&mut self, upgrade: &Upgrade, record: &Record) -> Result<(), Self::Error>;

    /// Do a step, which may have been done before, in part or wholly.
    fn perform(&mut self, upgrade: &Upgrade, step: Step) -> Result<Outcome, Failure>;

    /// Read what the rules look at, from the repository and the instances.
    fn see(&mut self, upgrade: &Upgrade, gate: Gate) -> Result<Seen, Failure>;

    /// What a person has said meanwhile; it is asked for between steps.
    fn next_command(&mut self) -> Option<Command>;

    /// What became of it.
    fn answer(&mut self, command: &Command, answer: Result<(), Refusal>);
}

/// Why an upgrade cannot go on in this process.
#[derive(Debug)]
pub enum Stopped<E> {
    /// The journal could not be written.
    Journal(E),
    /// What was to be written does not fit, which is a fault of the program.
    Misfit(Misfit),
    /// It stopped before: the journal has to be read again.
    Before,
}

/// Why nothing is done just now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It waits.
    Waits {
        /// For what.
        waiting: Waiting,
        /// When to look again; none where only a person or the world can change it.
        until: Option<Timestamp>,
    },
    /// It has ended for good.
    Ended(State),
}

/// An upgrade in the hands of this process.
pub struct Runner<W> {
    upgrade: Upgrade,
    world: W,
    has_stopped: bool,
    is_taken_up: bool,
}

impl<W: World> Runner<W> {
    /// Take an upgrade up, for the first time or where another process left it. Who only looks, and finds nothing to do, leaves
    /// no trace in the journal.
    pub fn take_up(upgrade: Upgrade, world: W) -> Result<Self, Stopped<W::Error>> {
        let mut runner = Self { upgrade, world, has_stopped: false, is_taken_up: false };
        if runner.upgrade.is_in_a_step() {
            runner.note_taken_up()?;
        }
        Ok(runner)
    }

    fn note_taken_up(&mut self) -> Result<(), Stopped<W::Error>> {
        self.is_taken_up = true;
        let host = self.world.host();
        self.write(Entry::TakenUp { host })
    }

    /// The upgrade as it is.
    pub fn upgrade(&self) -> &Upgrade {
        &self.upgrade
    }

    /// The upgrade, and the world beside it.
    pub fn parts(&mut self) -> (&Upgrade, &mut W) {
        (&self.upgrade, &mut self.world)
    }

    /// Go on until there is nothing to do. After an error this process is done with it: the journal may have one record more than
    /// it knows of, so it has to be read, and taken up again.
    pub fn run(&mut self) -> Result<Rest, Stopped<W::Error>> {
        loop {
            self.hear_people()?;
            let (now, facts) = (self.world.now(), self.world.facts(&self.upgrade));
            match self.upgrade.next(now, &facts) {
                // What comes first may be another step then.
                Decision::Do(_) if !self.is_taken_up => self.note_taken_up()?,
                Decision::Do(step) => self.carry_out(step)?,
                Decision::Wait { waiting, until } => return Ok(Rest::Waits { waiting, until }),
                Decision::Ended(state) => return Ok(Rest::Ended(state)),
            }
        }
    }

    fn hear_people(&mut self) -> Result<(), Stopped<W::Error>> {
        while let Some(command) = self.world.next_command() {
            if !self.is_taken_up {
                self.note_taken_up()?;
            }
            let answer = match self.upgrade.hear(&command) {
                Ok(entry) => {
                    self.write(entry)?;
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            self.world.answer(&command, answer);
        }
        Ok(())
    }

    fn carry_out(&mut self, step: Step) -> Result<(), Stopped<W::Error>> {
        self.write(Entry::Began { hop: self.upgrade.hop_number(), step })?;
        let end = match step.gate() {
            Some(gate) => self.world.see(&self.upgrade, gate).map(|seen| {
                let now = self.world.now();
                let results = rules::judge(&self.upgrade.case(gate, &seen, now));
                Entry::Judged { gate, results }
            }),
            None => {
                self.world.perform(&self.upgrade, step).map(|outcome| Entry::Done { step, outcome })
            }
        };
        let failed =
            |Failure { why, hint, untouched }| Entry::Failed { step, why, hint, untouched };
        self.write(end.unwrap_or_else(failed))
    }

    fn write(&mut self, entry: Entry) -> Result<(), Stopped<W::Error>> {
        if self.has_stopped {
            return Err(Stopped::Before);
        }
        // Until it is written.
        self.has_stopped = true;
        let number = self.upgrade.journal().records.len() as u64 + 1;
        let record = Record { number, at: self.world.now(), entry };
        self.upgrade.apply(record.clone()).map_err(Stopped::Misfit)?;
        self.world.record(&self.upgrade, &record).map_err(Stopped::Journal)?;
        self.has_stopped = false;
        Ok(())
    }
}
