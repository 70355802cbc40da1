//! What is kept from others while steps are done: both instances; and production's repository from those who want it for themselves,
//! such as a prune, so that no step has to wait for it.

use super::Hands;
use crate::model::upgrade::Step;
use crate::ops::OpsError;
use crate::ops::session::Lease;
use crate::repository::lock::{Lock, LockMode};
use crate::upgrade::machine::{self, Upgrade};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait for who works on one of the instances: a night's backup may be large.
const LONGEST_WAIT: Duration = Duration::from_hours(1);

impl Hands<'_> {
    /// Keep from others what a step must not share, from here until these hands are done.
    pub(super) fn keep_others_out(
        &mut self,
        upgrade: &Upgrade,
        step: Step,
    ) -> Result<(), OpsError> {
        if self.lease.is_none() {
            let (state_dir, context) = (&self.scene.config.state_dir, self.scene.context);
            let both = [&self.staging.name, &self.production.name];
            self.lease = Some(Arc::new(Lease::take(state_dir, both, LONGEST_WAIT, context)?));
        }
        let is_held = |lock: &Lock| lock.ensure_held().is_ok();
        if self.lock.as_ref().is_some_and(is_held) {
            return Ok(());
        }
        self.lock = None;
        let journal = upgrade.journal();
        let purpose = format!("upgrade {} of {}", journal.id, journal.plan.pair);
        let context = self.context();
        match self.repository().and_then(|it| it.lock(LockMode::Shared, purpose, &context)) {
            Ok(lock) => self.lock = Some(lock),
            // What is done without it takes a lock of its own.
            Err(error) if machine::frees_production(step) && !error.is_cancelled() => {
                context.events.warn(format!(
                    "The upgrade goes on without a lock on the repository: {error}."
                ));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
