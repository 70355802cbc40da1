//! The evidence: everything that the gate's rules look at, read from the repository and the instances right now.
//!
//! What always holds: nothing is taken from the catalog that the repository or an instance can say; what cannot be read is told with the reason,
//! closes the rules that ask for it, and keeps nothing else from being read; nothing is changed anywhere.

mod running;
mod snapshots;
mod surroundings;
mod way_back;

use super::rules::{Drill, InstanceSeen, Seen, Unread};
use crate::config::pair::Upgrades;
use crate::config::{Config, Instance, Pair, SecretSources};
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Gate, RuleName, VolumeCopy};
use crate::model::version::Version;
use crate::ops::newest::Newest;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError, sync};
use crate::platform::recipe::Recipe;
use jiff::Timestamp;

/// Where to look.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Where its secrets are.
    pub secrets: &'a SecretSources,
    /// The pair.
    pub pair: &'a Pair,
    /// Its staging instance.
    pub staging: &'a Name,
    /// How it is upgraded.
    pub upgrades: &'a Upgrades,
    /// Where to tell what happens, and how to stop.
    pub context: &'a Context,
}

/// What the evidence is for.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// Which gate.
    pub gate: Gate,
    /// The version to come.
    pub to: &'a Version,
    /// The windows that count, as the plan has them.
    pub windows: &'a [String],
    /// The digests of the images that were fetched for staging and for production, where the upgrade knows them.
    pub fetched: [Option<&'a str>; 2],
    /// What of copies of production's volumes is planned, or made.
    pub copies: Copies<'a>,
    /// Since when production's writers have been stopped without a pause, where that is certain.
    pub stopped_since: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// What of copies of production's volumes is planned, or made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies<'a> {
    /// Nothing is planned yet: whether they can be made is looked at.
    Open,
    /// Whether the plan has them.
    Planned(bool),
    /// They were made, and nothing of production runs any more.
    Made(&'a [VolumeCopy]),
}

/// What was read, and what it was read from.
pub(super) struct Evidence {
    /// For the rules.
    pub(super) seen: Seen,
    /// The newest snapshots, staging's first.
    pub(super) newest: [Option<Newest>; 2],
    /// Whether production's volumes can be copied aside.
    pub(super) copies_volumes: bool,
}

/// What could not be read so far.
#[derive(Default)]
struct Gathering {
    unread: Vec<Unread>,
}

impl Gathering {
    /// Something could not be read. Only that somebody asked to stop ends the looking.
    fn missed(
        &mut self,
        environment: Option<Environment>,
        rules: &[RuleName],
        what: &str,
        error: &OpsError,
    ) {
        let whose = environment.map(|it| format!("{it}: ")).unwrap_or_default();
        let needed = match (error.hint(), environment) {
            (Some(hint), _) if !hint.is_empty() => hint,
            (_, Some(environment)) => {
                format!("see that {environment} can be asked (`belay doctor`)")
            }
            (_, None) => "see that it can be read (`belay doctor`)".to_owned(),
        };
        self.unread.push(Unread {
            rules: rules.to_vec(),
            environment,
            why: format!("{whose}{what} could not be read: {}", error.told()),
            needed,
        });
    }

    /// The same of a result.
    fn tried<T>(
        &mut self,
        environment: Option<Environment>,
        rules: &[RuleName],
        what: &str,
        result: Result<T, OpsError>,
    ) -> Result<Option<T>, OpsError> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_cancelled() => Err(error),
            Err(error) => {
                self.missed(environment, rules, what, &error);
                Ok(None)
            }
        }
    }
}

impl<'a> Scene<'a> {
    /// Both instances, staging first.
    pub(super) fn sides(&self) -> Result<[(Environment, &'a Instance); 2], OpsError> {
        Ok([
            (Environment::Staging, self.config.instance(self.staging.as_str())?),
            (Environment::Production, self.config.instance(self.pair.production.as_str())?),
        ])
    }

    /// The repository that production is backed up to, which has the journals of its upgrades.
    pub(super) fn production_session(&self) -> Result<Session, OpsError> {
        let production = self.config.instance(self.pair.production.as_str())?;
        Session::open(self.config, self.config.repository_of(production)?, self.secrets)
    }

    /// Take into the catalog what the repository knows of upgrades, and the catalog does not: of another host, or of a process that was
    /// killed between the two.
    pub(super) fn catch_up(&self) -> Result<(), OpsError> {
        sync::view_anyway(&mut self.production_session()?, self.context).map(drop)
    }

    /// What came of that, for one who `may_do_without`: he is told where it could not be done.
    pub(super) fn caught_up(
        &self,
        caught_up: Result<(), OpsError>,
        may_do_without: bool,
    ) -> Result<(), OpsError> {
        match caught_up {
            Err(error) if may_do_without && !error.is_cancelled() => {
                self.context.events.warn(format!(
                    "Whether the repository knows more of upgrades of {} could not be told: {}.",
                    self.pair.name,
                    error.told()
                ));
                Ok(())
            }
            caught_up => caught_up,
        }
    }
}

pub(super) use surroundings::window;
pub(super) use way_back::{Can, can_be_copied};

/// Read everything that a gate's rules look at. An error is only that somebody asked to stop, or that the pair's instances are not configured.
pub fn read(scene: &Scene<'_>, question: &Question<'_>) -> Result<Seen, OpsError> {
    read_all(scene, question).map(|evidence| evidence.seen)
}

/// The same, with the snapshots themselves.
pub(super) fn read_all(scene: &Scene<'_>, question: &Question<'_>) -> Result<Evidence, OpsError> {
    let mut gathering = Gathering::default();
    let sides = scene.sides()?;
    let newest = snapshots::newest(scene, sides, &mut gathering)?;
    let mut seen = Seen {
        checkpoints: Recipe::of(sides[1].1.platform).checkpoints,
        window: window(sides[1].1, question.windows, question.now),
        drill: last_drill(),
        ..Seen::default()
    };
    for (number, side) in sides.into_iter().enumerate() {
        let found = running::look(scene, side, newest[number].as_ref(), question, &mut gathering)?;
        let instance = InstanceSeen {
            running: found.running,
            snapshot: newest[number].as_ref().map(|it| snapshots::seen(it, side.0, &mut gathering)),
            images: found.images,
            stopped_since: None,
        };
        match side.0 {
            Environment::Staging => seen.staging = instance,
            Environment::Production => seen.production = instance,
        }
    }
    seen.production.stopped_since = question.stopped_since;
    let way_back = way_back::look(scene, sides, &newest, question, &mut gathering)?;
    seen.room = way_back.room;
    seen.room.extend(surroundings::repositories(scene, sides, &newest, &mut gathering)?);
    seen.way_back = way_back.said;
    let writer = seen.staging.running.as_ref().map(|running| &running.version);
    seen.apps = surroundings::apps(scene, question, writer);
    seen.unread = gathering.unread;
    Ok(Evidence { seen, newest, copies_volumes: way_back.copies_volumes })
}

/// There are no drills yet, so that one that is asked for is missing.
fn last_drill() -> Option<Drill> {
    None
}
