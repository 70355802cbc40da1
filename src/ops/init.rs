//! Making a repository, with its recovery key.

use super::session::store_at;
use super::{Context, OpsError};
use crate::catalog::Catalog;
use crate::config::{self, Config, SecretSources};
use crate::model::id::{FileId, RepositoryId};
use crate::repository::Repository;
use crate::repository::format::key::ScryptCost;
use crate::repository::keys::{RECOVERY_LABEL, random_recovery_key};
use serde::Serialize;

/// A repository that was made.
#[derive(Serialize)]
pub struct Initialized {
    /// Where it is.
    pub repository: String,
    /// Its id.
    pub id: FileId,
    /// A second password of it, to be kept elsewhere. It is stored nowhere and cannot be shown again.
    pub recovery_key: String,
}

/// Make a repository, and a recovery key for it.
pub fn init(
    config: &Config,
    repository: &config::Repository,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Initialized, OpsError> {
    let password = repository.password.resolve(secrets)?;
    super::keys::refuse_outer_whitespace(
        &password,
        &format!("the password of {}", repository.name),
    )?;
    // The catalog first: whatever is wrong with the state directory is told before anything is made.
    let catalog = Catalog::open(&config.state_dir)?;
    context.events.phase("creating", repository.location.to_string());
    let made = Repository::init(
        store_at(&repository.location),
        password.expose().as_bytes(),
        ScryptCost::default(),
    )?;
    let recovery_key = random_recovery_key()?;
    let key =
        made.add_key(recovery_key.as_bytes(), ScryptCost::RANDOM_KEY, Some(RECOVERY_LABEL.into()))?;
    let id = RepositoryId(made.id().0);
    catalog.record_repository(id, &repository.name, &repository.location.to_string())?;
    catalog.set_recovery_key(id, key)?;
    Ok(Initialized { repository: made.location(), id: made.id(), recovery_key })
}
