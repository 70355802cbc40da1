//! The queue: which jobs may start now, and which running prune gives way.
//!
//! What always holds:
//! - An instance has one running job at most; a repository and the daemon have no more than their limits.
//! - A prune runs alone on its repository.
//! - What is ready goes in this order: restores, backups and what is none of the others, checks, prunes; then first come,
//!   first served. A prune does not start while a backup of its repository or a restore from it is ready, and gives way to
//!   one that becomes ready.
//! - Nothing starves: a job that has been ready for a day, and a prune that gave way [`GIVES_WAY_MOST`] times, *insists*.
//!   It goes before all that do not and gives way to none; until it starts its instance is kept free for it, and for a
//!   prune its repository, too.

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
            Self::Restore => 0,
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
    /// It is ready from this moment on: since it came, or since its wait for another attempt is over. A job that gave
    /// way keeps its moment. One more than a day in the future comes from a wrong clock, and does not count.
    pub not_before: Timestamp,
    /// Its place among those that came: less is earlier.
    pub order: u64,
    /// How often it gave way so far; 0 for all but prunes.
    pub gave_way: u32,
}

impl Job<'_> {
    fn is_ready(&self, now: Timestamp) -> bool {
        self.not_before <= now || self.not_before > later(now, DAY)
    }

    fn insists(&self, now: Timestamp) -> bool {
        self.gave_way >= GIVES_WAY_MOST || age(self.not_before, now).is_some_and(|age| age >= DAY)
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
        let here: Vec<&&Job> =
            active.iter().filter(|other| other.repository == job.repository).collect();
        let instance_free = job.instance.is_none_or(|instance| {
            !kept_instances.contains(instance)
                && active.iter().all(|other| other.instance != Some(instance))
        });
        let repository_free = !kept_repositories.contains(job.repository)
            && if job.kind == Kind::Prune {
                let is_awaited = waiting.iter().any(|other| goes_before(other, job));
                here.is_empty() && (insists || !is_awaited)
            } else {
                here.len() < limits.per_repository
                    && here.iter().all(|other| other.kind != Kind::Prune)
            };
        if instance_free && repository_free {
            active.push(job);
            starting.push(job.id);
        } else if insists {
            kept_instances.extend(job.instance);
            if job.kind == Kind::Prune {
                kept_repositories.insert(job.repository);
            }
        }
    }
    starting
}

/// The ids of the running prunes to cancel, because a backup or a restore of their repository is ready and could start
/// without them.
/// They are to be queued again as they were, with `gave_way` one higher.
pub fn give_way(queued: &[Job], running: &[Job], now: Timestamp) -> Vec<JobId> {
    let could_start = |job: &&Job| {
        let busy = running.iter().any(|other| other.instance == job.instance);
        job.is_ready(now) && (job.instance.is_none() || !busy)
    };
    let urgent: Vec<&Job> = queued.iter().filter(could_start).collect();
    let prunes = running.iter().filter(|job| job.kind == Kind::Prune && !job.insists(now));
    prunes
        .filter(|prune| urgent.iter().any(|job| goes_before(job, prune)))
        .map(|prune| prune.id)
        .collect()
}

fn goes_before(job: &Job, prune: &Job) -> bool {
    matches!(job.kind, Kind::Backup | Kind::Restore) && job.repository == prune.repository
}

#[cfg(test)]
mod tests;
