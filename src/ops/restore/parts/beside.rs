//! What comes back beside the collections of an instance: the keys in its environment file.
//!
//! As with the collections, all is made beside what is there first, and each step may be run again.

use crate::access::Access;
use crate::component::environment::Merged;
use crate::ops::OpsError;
use crate::ops::instance::Living;
use serde::{Deserialize, Serialize};

/// What is changed where the instance lives, as the journal has it: it holds no secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Beside {
    /// Makes names unique.
    job: String,
    /// The environment file.
    environment: Option<String>,
}

/// What was made anew, with what goes into it.
pub(super) struct Making {
    pub(super) beside: Beside,
    environment: Option<(String, Merged)>,
    access: Access,
}

impl Making {
    pub(super) fn new(
        job: String,
        living: &Living<'_>,
        environment: Option<(String, Merged)>,
    ) -> Self {
        let path = environment.as_ref().map(|(path, _)| path.clone());
        let beside = Beside { job, environment: path };
        Self { beside, environment, access: living.access.clone() }
    }

    /// Variables that get another value, by whether the file has them already.
    pub(super) fn changed(&self) -> impl Iterator<Item = &String> {
        self.environment.iter().flat_map(|(_, merged)| merged.changed())
    }

    /// Make all of it beside what is there.
    pub(super) fn make(&self) -> Result<(), OpsError> {
        if let Some((path, merged)) = &self.environment {
            self.access.stage_file(path, &merged.content)?;
        }
        Ok(())
    }
}

impl Beside {
    pub(super) fn is_empty(&self) -> bool {
        self.environment.is_none()
    }

    /// Put what was made in its place, or finish that. `keeps` leaves beside what was there. Returns where.
    pub(super) fn swap(&self, access: &Access, keeps: bool) -> Result<Vec<String>, OpsError> {
        let mut kept = Vec::new();
        if let Some(path) = &self.environment {
            let keep = keeps.then(|| format!("belay-before-{}", self.job));
            kept.extend(access.commit_staged(path, keep.as_deref())?);
        }
        Ok(kept)
    }

    /// The new state serves: remove what is old, where a snapshot has it.
    pub(super) fn clear(&self, _access: &Access, _is_saved: bool) -> Result<(), OpsError> {
        Ok(())
    }

    /// Remove what was made and is not in its place.
    pub(super) fn abandon(&self, access: &Access) -> Result<(), OpsError> {
        if let Some(path) = &self.environment {
            access.drop_staged(path)?;
        }
        Ok(())
    }
}
