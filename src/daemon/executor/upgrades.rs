//! Jobs that go on with upgrades: of a pair there is one at a time, whoever wants it.

use super::entry::{new_entry, repository_of};
use super::{Executor, MOST_QUEUED, SubmitError};
use crate::catalog::{Entry, Origin};
use crate::model::id::JobId;
use crate::model::job::{UpgradeWork, Work};
use crate::model::name::Name;
use crate::model::upgrade::Journal;
use tokio::sync::futures::Notified;

fn is_of(entry: &Entry, pair: &Name) -> bool {
    matches!(&entry.work, Work::Upgrade(work) if work.pair == *pair)
}

impl Executor {
    /// The job that goes on with the upgrade of a pair, or is about to.
    pub fn upgrade_job(&self, pair: &Name) -> Option<JobId> {
        let state = self.lock();
        let found = state.held.values().find(|held| is_of(&held.entry, pair));
        found.map(|held| held.entry.id)
    }

    /// Have the upgrade of a pair gone on with, for somebody or by itself: the id of the job that does so, which may be there already.
    pub fn go_on(&self, pair: &Name, by: Option<&str>) -> Result<JobId, SubmitError> {
        let work = Work::Upgrade(UpgradeWork { pair: pair.clone(), start: None });
        repository_of(&self.settings.config(), &work)?;
        let mut ledger = self.ledger();
        if self.lock().is_closed {
            return Err(SubmitError::Closed);
        }
        if let Some(there) = self.upgrade_job(pair) {
            return Ok(there);
        }
        if self.lock().held.len() >= MOST_QUEUED {
            return Err(SubmitError::Full);
        }
        let origin = if by.is_some() { Origin::Person } else { Origin::Schedule };
        let entry = new_entry(work, origin, by.unwrap_or("belay"), None)?;
        let id = entry.id;
        ledger.put(&[&entry])?;
        self.lock().add(entry);
        self.changed.notify_one();
        Ok(id)
    }

    /// Whether a job that runs here works on an instance of the upgrade.
    pub(in crate::daemon) fn works_on(&self, journal: &Journal) -> bool {
        let plan = &journal.plan;
        let state = self.lock();
        let mut running = state.held.values().filter(|held| held.running.is_some());
        running.any(|held| {
            is_of(&held.entry, &plan.pair)
                || held.entry.work.instance() == Some(&plan.production.name)
        })
    }

    /// Returns when a job has ended after this was called.
    pub(in crate::daemon) fn finished(&self) -> Notified<'_> {
        self.finished.notified()
    }
}
