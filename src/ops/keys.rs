//! The passwords of a repository.

use super::session::{Session, store_at};
use super::{Context, OpsError};
use crate::config::{self, Secret};
use crate::model::id::{FileId, RepositoryId};
use crate::repository::Repository;
use crate::repository::format::key::ScryptCost;
use crate::repository::keys::{KeyInfo, RECOVERY_LABEL, random_recovery_key};
use crate::repository::lock::LockMode;
use jiff::Timestamp;
use serde::Serialize;

/// A password that was added.
#[derive(Serialize)]
pub struct AddedKey {
    /// Its key file.
    pub id: FileId,
    /// A new recovery key, where one was asked for. It is stored nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovery_key: Option<String>,
}

/// Add a password.
pub fn add(
    session: &Session,
    password: &Secret,
    label: Option<String>,
    context: &Context,
) -> Result<AddedKey, OpsError> {
    refuse_outer_whitespace(password, "the new password")?;
    let _lock = session.lock(LockMode::Shared, "key add", context)?;
    let id =
        session.repository.add_key(password.expose().as_bytes(), ScryptCost::default(), label)?;
    Ok(AddedKey { id, recovery_key: None })
}

/// An error for a password that restic would not read as it is.
pub(super) fn refuse_outer_whitespace(password: &Secret, what: &str) -> Result<(), OpsError> {
    if !password.has_outer_whitespace() {
        return Ok(());
    }
    Err(OpsError::usage(
        format!("{what} begins or ends with white space, which restic cuts from a password file"),
        "choose one without, so that restic opens the repository, too",
    ))
}

/// Make another recovery key.
pub fn add_recovery(session: &Session, context: &Context) -> Result<AddedKey, OpsError> {
    let _lock = session.lock(LockMode::Shared, "key add", context)?;
    let recovery_key = random_recovery_key()?;
    let label = Some(RECOVERY_LABEL.to_owned());
    let id = session.repository.add_key(recovery_key.as_bytes(), ScryptCost::RANDOM_KEY, label)?;
    if let Some(catalog) = &session.catalog {
        catalog.set_recovery_key(RepositoryId(session.repository.id().0), id)?;
    }
    Ok(AddedKey { id, recovery_key: Some(recovery_key) })
}

/// The passwords that there are.
pub fn list(session: &Session, context: &Context) -> Result<Vec<KeyInfo>, OpsError> {
    let keys = session.repository.keys()?;
    for (id, error) in keys.damaged {
        context.events.warn(format!("The key {} is damaged: {error}.", id.short()));
    }
    Ok(keys.readable)
}

/// Remove the password whose key file's id begins with `prefix`.
pub fn remove(session: &Session, prefix: &str, context: &Context) -> Result<FileId, OpsError> {
    // Alone: two that removed each other's key at once would leave none.
    let _lock = session.lock(LockMode::Exclusive, "key remove", context)?;
    let keys = session.repository.keys()?;
    let ids = keys.readable.iter().map(|key| key.id).chain(keys.damaged.iter().map(|(id, _)| *id));
    let found: Vec<FileId> =
        ids.filter(|id| !prefix.is_empty() && id.to_string().starts_with(prefix)).collect();
    let [id] = found.as_slice() else {
        let problem = if found.is_empty() { "no key" } else { "more than one key" };
        return Err(OpsError::usage(
            format!("the id of {problem} begins with '{prefix}'"),
            "`belay key list` shows the keys",
        ));
    };
    session.repository.remove_key(*id)?;
    Ok(*id)
}

/// Try a password; a recovery key that opens the repository is noted as proven.
pub fn test(
    session: &Session,
    repository: &config::Repository,
    password: &Secret,
) -> Result<KeyInfo, OpsError> {
    let opened = Repository::open(store_at(&repository.location), password.expose().as_bytes())?;
    let key = opened.keys()?.readable.into_iter().find(|key| key.in_use).ok_or_else(|| {
        crate::repository::RepositoryError::Internal(
            "the key that opened the repository is gone".into(),
        )
    })?;
    if key.label.as_deref() == Some(RECOVERY_LABEL)
        && let Some(catalog) = &session.catalog
    {
        catalog.recovery_key_verified(RepositoryId(opened.id().0), key.id, Timestamp::now())?;
    }
    Ok(key)
}
