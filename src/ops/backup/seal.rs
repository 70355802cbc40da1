//! Sealing: the only way from components that were read to a snapshot that may be written.
//!
//! [`Sealed`] has no other constructor than [`Draft::seal`], and only what is sealed is stored as an instance's snapshot.

use super::Component;
use crate::model::manifest::Manifest;
use crate::ops::OpsError;
use crate::repository::RepositoryError;
use jiff::Timestamp;

/// Components read so far. An error on the way drops it, and with it the run.
pub(super) struct Draft {
    started: Timestamp,
    components: Vec<Component>,
}

/// Every component was read to its end, and validated.
pub(super) struct Sealed {
    pub(super) manifest: Manifest,
    pub(super) components: Vec<Component>,
}

impl Draft {
    pub(super) fn new(started: Timestamp) -> Self {
        Self { started, components: Vec::new() }
    }

    /// A component was read to its end.
    pub(super) fn add(&mut self, component: Component) {
        self.components.push(component);
    }

    /// Seal, if every expected component is there, once, and in order.
    pub(super) fn seal(
        self,
        expected: &[&str],
        manifest: impl FnOnce(&[Component]) -> Manifest,
    ) -> Result<Sealed, OpsError> {
        let read: Vec<&str> =
            self.components.iter().map(|component| component.manifest.name.as_str()).collect();
        if read.is_empty() || read != expected {
            let message = format!(
                "components {expected:?} were expected, and {read:?} were read since {}",
                self.started
            );
            return Err(RepositoryError::Internal(message).into());
        }
        let manifest = manifest(&self.components);
        Ok(Sealed { manifest, components: self.components })
    }
}
