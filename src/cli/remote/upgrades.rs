//! What is said to the upgrades that a daemon goes on with.

use super::{LONG_ANSWER, Remote, Submitted};
use crate::cli::exit::Failure;
use crate::model::id::{JobId, UpgradeId};
use crate::model::name::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What became of something that was said.
#[derive(Deserialize, Serialize)]
pub(in crate::cli) struct Spoken {
    /// The upgrade.
    upgrade: UpgradeId,
    /// `noted` in its journal, or `left` for the process that works on it.
    heard: String,
    /// The job that goes on with it; none where it waits, or another process works on it.
    pub(in crate::cli) job: Option<JobId>,
}

impl Spoken {
    /// Whether it waits to be read by who works on the upgrade.
    pub(in crate::cli) fn is_left(&self) -> bool {
        self.heard == "left"
    }
}

impl Remote {
    /// The newest upgrade of a pair, with its plan, its journal, and what tests found.
    pub(in crate::cli) fn upgrade(&self, pair: &Name) -> Result<Value, Failure> {
        self.get(&format!("/v1/upgrades/{pair}"), LONG_ANSWER)
    }

    /// Have an upgrade begun; the job that does so.
    pub(in crate::cli) fn start_upgrade(
        &self,
        pair: &Name,
        body: &Value,
    ) -> Result<JobId, Failure> {
        self.ensure_current()?;
        let submitted: Submitted = self.post(&format!("/v1/upgrades/{pair}"), body)?;
        Ok(submitted.id)
    }

    /// Say something to the upgrade of a pair that is on its way.
    pub(in crate::cli) fn say(
        &self,
        pair: &Name,
        word: &str,
        body: &Value,
    ) -> Result<Spoken, Failure> {
        self.post(&format!("/v1/upgrades/{pair}/{word}"), body)
    }

    fn post<T: for<'de> Deserialize<'de>>(&self, path: &str, body: &Value) -> Result<T, Failure> {
        let request = self.client.post(Self::url(path)).timeout(LONG_ANSWER);
        let answered = self.answered(request.body(body.to_string()).send())?;
        answered.json().map_err(|error| self.failed(&error))
    }
}
