//! What the container of an instance tells that does not run: nothing in it can be asked, but its files can be read.

use super::VersionFound;
use crate::access::Access;
use crate::config::{Config, Instance};
use crate::ops::{Context, OpsError};
use crate::platform::recipe::{Recipe, VersionRecipe};

/// A file of more bytes tells no version.
const MOST_BYTES: u64 = 64 * 1024;

/// The version that the files of an instance's container say, which need not run. The last element is what told none.
pub fn version_at_rest(
    config: &Config,
    instance: &Instance,
    context: &Context,
) -> Result<(Option<VersionFound>, Vec<String>), OpsError> {
    let recipe = Recipe::of(instance.platform).version;
    let (Some((_, container)), Some(VersionRecipe { file, member })) =
        (instance.via.container(), recipe)
    else {
        return Ok((None, vec![format!("{} tells no version while it is stopped", instance.name)]));
    };
    let access = Access::new(instance.via.clone(), config.ssh_config.clone(), &context.cancel);
    let said = access.read_file(&file, MOST_BYTES)?;
    let json: serde_json::Value = serde_json::from_slice(&said).unwrap_or_default();
    Ok(match json[&member].as_str().map(str::parse) {
        Some(Ok(version)) => (Some(VersionFound { version, source: file }), Vec::new()),
        Some(Err(error)) => (None, vec![format!("{file}: {error}")]),
        None => {
            (None, vec![format!("{file} of the stopped container {container} tells no version")])
        }
    })
}
