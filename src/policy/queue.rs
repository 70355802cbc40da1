//! The queue: which jobs may start now, and which running prune gives way.
//!
//! What always holds:
//! - An instance has one running job at most; a repository and the daemon have no more than their limits.
//! - A prune runs alone on its repository.
//! - What is ready goes in this order: restores and upgrades, backups and what is none of the others, checks, prunes; then first come,
//!   first served. A prune does not start while a backup of its repository, a restore from it or an upgrade that uses it is
//!   ready, and gives way to one that becomes ready.
//! - Nothing starves: an upgrade, a job that has been ready for a day, and a prune that gave way [`GIVES_WAY_MOST`] times, *insists*.
//!   It goes before all that do not and gives way to none; until it starts its instance is kept free for it, and for a
//!   prune, and for what needs two repositories, these, too.

use crate::model::id::JobId;
use crate::policy::time::{DAY, age, later};
use jiff::Timestamp;
use std::collections::HashSet;

/// A prune that gave way so often does so no more.
pub const GIVES_WAY_MOST: u32 = 5;

/// What a job does, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brings a snapshot back: somebody waits for it.
    Restore,
    /// Goes on with the upgrade of a pair, or takes it back: users may be kept out meanwhile.
    Upgrade,
    /// Takes a snapshot.
    Backup,
    /// Reclaims room in a repository.
    Prune,
    /// Verifies a repository.
    Check,
    /// Anything else.
    Other,
}

impl Kind {
    /// Less goes first.
    fn rank(self) -> u8 {
        match self {
            Self::Restore | Self::Upgrade => 0,
            Self::Backup | Self::Other => 1,
            Self::Check => 2,
            Self::Prune => 3,
        }
    }
}

/// A job that is queued or running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job<'a> {
    /// Its id; no two jobs share one.
    pub id: JobId,
    /// What it does.
    pub kind: Kind,
    /// The instance that it is about, if any.
    pub instance: Option<&'a str>,
    /// The repository that it works on.
    pub repository: &'a str,
    /// What else it needs for itself meanwhile: the other instance of the pair that it upgrades.
    pub beside: Option<Beside<'a>>,
    /// It is ready from this moment on: since it came, or since its wait for another attempt is over. A job that gave
    /// way keeps its moment. One more than a day in the future comes from a wrong clock, and does not count.
    pub not_before: Timestamp,
    /// Its place among those that came: less is earlier.
    pub order: u64,
    /// How often it gave way so far; 0 for all but prunes.
    pub gave_way: u32,
}

/// A second instance that a job works on, with the repository of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beside<'a> {
    /// The instance.
    pub instance: &'a str,
    /// Where its snapshots are.
    pub repository: &'a str,
}

impl<'a> Job<'a> {
    fn instances(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.instance.into_iter().chain(self.beside.map(|beside| beside.instance))
    }

    fn repositories(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let other = self.beside.map(|beside| beside.repository);
        let other = other.filter(|other| *other != self.repository);
        std::iter::once(self.repository).chain(other)
    }

    fn shares_instance(&self, other: &Job) -> bool {
        self.instances().any(|instance| other.instances().any(|its| its == instance))
    }

    fn uses(&self, repository: &str) -> bool {
        self.repositories().any(|used| used == repository)
    }

    fn is_ready(&self, now: Timestamp) -> bool {
        self.not_before <= now || self.not_before > later(now, DAY)
    }

    fn insists(&self, now: Timestamp) -> bool {
        let is_upgrade = self.kind == Kind::Upgrade;
        is_upgrade
            || self.gave_way >= GIVES_WAY_MOST
            || age(self.not_before, now).is_some_and(|age| age >= DAY)
    }
}

/// How many jobs may run at once, each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In all.
    pub overall: usize,
    /// On each repository.
    pub per_repository: usize,
}

/// The ids of the queued jobs that may start now, all of them together, in the order in which to start them.
pub fn may_start(queued: &[Job], running: &[Job], limits: Limits, now: Timestamp) -> Vec<JobId> {
    let mut waiting: Vec<&Job> = queued.iter().filter(|job| job.is_ready(now)).collect();
    waiting.sort_by_key(|job| {
        let insists = job.insists(now);
        // Among those that insist the kind does not count, or backups that insist could keep a prune waiting for ever.
        (!insists, if insists { 0 } else { job.kind.rank() }, job.order, job.id)
    });
    let mut active: Vec<&Job> = running.iter().collect();
    let (mut kept_instances, mut kept_repositories) = (HashSet::new(), HashSet::new());
    let mut starting = Vec::new();
    for job in &waiting {
        if active.len() >= limits.overall {
            break;
        }
        let insists = job.insists(now);
        let instance_free = job.instances().all(|instance| !kept_instances.contains(instance))
            && active.iter().all(|other| !other.shares_instance(job));
        let is_awaited =
            job.kind == Kind::Prune && waiting.iter().any(|other| goes_before(other, job));
        let is_free = |repository: &str| {
            let mut here = active.iter().filter(|other| other.uses(repository));
            if kept_repositories.contains(repository) {
                false
            } else if job.kind == Kind::Prune {
                here.next().is_none() && (insists || !is_awaited)
            } else {
                here.clone().count() < limits.per_repository
                    && here.all(|other| other.kind != Kind::Prune)
            }
        };
        let repository_free = job.repositories().all(is_free);
        if instance_free && repository_free {
            active.push(job);
            starting.push(job.id);
        } else if insists {
            kept_instances.extend(job.instances());
            // Of two repositories each could have room while the other has none, for ever.
            if job.kind == Kind::Prune || job.repositories().count() > 1 {
                kept_repositories.extend(job.repositories());
            }
        }
    }
    starting
}

/// The ids of the running prunes to cancel, because a backup, a restore or an upgrade that needs their repository is ready and
/// could start without them.
/// They are to be queued again as they were, with `gave_way` one higher.
pub fn give_way(queued: &[Job], running: &[Job], now: Timestamp) -> Vec<JobId> {
    let could_start =
        |job: &&Job| job.is_ready(now) && !running.iter().any(|other| other.shares_instance(job));
    let urgent: Vec<&Job> = queued.iter().filter(could_start).collect();
    let prunes = running.iter().filter(|job| job.kind == Kind::Prune && !job.insists(now));
    prunes
        .filter(|prune| urgent.iter().any(|job| goes_before(job, prune)))
        .map(|prune| prune.id)
        .collect()
}

fn goes_before(job: &Job, prune: &Job) -> bool {
    let is_urgent = matches!(job.kind, Kind::Backup | Kind::Restore | Kind::Upgrade);
    is_urgent && job.uses(prune.repository)
}

#[cfg(test)]
mod tests;
