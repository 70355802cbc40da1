//! Which image there is for a version, without getting it.

use super::super::image::is_precise;
use super::super::{DriverError, Image};
use super::ComposeDriver;
use crate::access::AccessError;

impl ComposeDriver<'_> {
    /// The image that a version's tag means here; none where none was fetched, or its tag means no one release.
    pub(in crate::upgrade::driver) fn fetched(
        &self,
        version: &str,
    ) -> Result<Option<Image>, DriverError> {
        let current = self.configured()?;
        let tag = current.tag_of(version);
        if is_precise(self.instance.platform, &current.name, &tag).is_err() {
            return Ok(None);
        }
        let reference = format!("{}:{tag}", current.name);
        match self.digest_of(&reference, &current) {
            Ok(digest) => Ok(Some(Image { name: current.name, tag, digest })),
            Err(DriverError::Access { source: AccessError::Failed { said, .. }, .. })
                if said.contains("No such image") =>
            {
                Ok(None)
            }
            // Of an image that was made here no registry knows a digest: it is not one that can be installed.
            Err(DriverError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
