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

    /// Seal, if what will be stored and what the manifest will name is what was expected, once, and in order.
    pub(super) fn seal(
        self,
        expected: &[&str],
        manifest: impl FnOnce(&[Component]) -> Manifest,
    ) -> Result<Sealed, OpsError> {
        let trees = self.components.iter().map(|component| component.tree.node.name.as_slice());
        let named = self.components.iter().map(|component| component.manifest.name.as_bytes());
        if !is_whole(expected, trees) || !is_whole(expected, named) {
            let read: Vec<&str> =
                self.components.iter().map(|component| component.manifest.name.as_str()).collect();
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

/// Whether these are the expected ones, and there are any.
fn is_whole<'a>(expected: &[&str], read: impl Iterator<Item = &'a [u8]>) -> bool {
    !expected.is_empty() && expected.iter().map(|name| name.as_bytes()).eq(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_expected_and_no_less_is_whole() {
        let is_whole = |expected: &[&str], read: &[&str]| {
            is_whole(expected, read.iter().map(|name| name.as_bytes()))
        };
        assert!(is_whole(&["a", "b"], &["a", "b"]));
        for wrong in [&["a"][..], &["b", "a"], &["a", "b", "b"], &["a", "c"], &[]] {
            assert!(!is_whole(&["a", "b"], wrong), "{wrong:?}");
        }
        assert!(!is_whole(&[], &[]), "an instance of nothing");
    }
}
