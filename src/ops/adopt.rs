//! Which instance a name on this host stands for: a new one, or one that has snapshots already.
//!
//! A catalog that was copied from another host acts for nobody here until a person has said who this host is.

use super::session::Session;
use super::{Context, OpsError, select};
use crate::catalog::{self, Catalog};
use crate::config::Instance;
use crate::host;
use crate::model::id::InstanceId;
use crate::repository::RepositoryError;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What to adopt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// A fresh id: this is another instance of the same name.
    New,
    /// The one id that has snapshots under this name; an error when there are several.
    Only,
    /// The given id.
    Id(InstanceId),
}

/// What was adopted.
#[derive(Debug, Serialize)]
pub struct Adopted {
    /// The instance's name.
    pub instance: String,
    /// What it stands for from now on.
    pub id: InstanceId,
    /// How many snapshots belong to it already.
    pub snapshots: usize,
}

/// Let the instance's name stand for an id from now on.
pub fn adopt(
    session: &Session,
    instance: &Instance,
    adoption: Adoption,
    context: &Context,
) -> Result<Adopted, OpsError> {
    let counts = {
        let _lock = session.lock_for_reading("adopt", context)?;
        let mut counts: BTreeMap<InstanceId, usize> = BTreeMap::new();
        for snapshot in session.repository.snapshots()?.readable {
            if snapshot.file.hostname == instance.name.as_str()
                && let Some(id) = select::instance_of(&snapshot.file)
            {
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    };
    let name = &instance.name;
    let known = session.require_catalog()?.instance_id(name, &instance.repository)?;
    let id = match (adoption, counts.len()) {
        (Adoption::New, _) => adopt_new(session, instance)?,
        (Adoption::Id(id), _) if counts.contains_key(&id) || known == Some(id) => {
            record(session, instance, id)?
        }
        (Adoption::Id(id), _) => {
            return Err(OpsError::usage(
                format!("no snapshot of '{name}' belongs to {id}"),
                "`belay list --json` shows the ids of the instances",
            ));
        }
        (Adoption::Only, 1) => {
            record(session, instance, *counts.keys().next().unwrap_or(&InstanceId([0; 16])))?
        }
        (Adoption::Only, 0) => match known {
            // A copied catalog may know an instance before its first snapshot.
            Some(id) => record(session, instance, id)?,
            None => {
                return Err(OpsError::usage(
                    format!("the repository has no snapshot of an instance called '{name}'"),
                    format!("just run `belay backup {name}`"),
                ));
            }
        },
        (Adoption::Only, _) => {
            let ids: Vec<String> =
                counts.iter().map(|(id, count)| format!("{id} ({count} snapshots)")).collect();
            return Err(OpsError::usage(
                format!("several instances are called '{name}': {}", ids.join(", ")),
                format!("say which one: `belay adopt {name} --id ID`"),
            ));
        }
    };
    let snapshots = counts.get(&id).copied().unwrap_or(0);
    Ok(Adopted { instance: name.to_string(), id, snapshots })
}

/// Give an instance that has no snapshots yet an id of its own.
pub(super) fn adopt_new(session: &Session, instance: &Instance) -> Result<InstanceId, OpsError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    record(session, instance, InstanceId(id))
}

/// This host's id for an instance, if it has one; refused where the catalog came here from another host.
pub(super) fn own_id(
    catalog: &Catalog,
    instance: &Instance,
) -> Result<Option<InstanceId>, OpsError> {
    let known = catalog.instance(&instance.name, &instance.repository)?;
    known.map(|known| ensure_own(&known).map(|()| known.id)).transpose()
}

/// An error where another host made the catalog's entry.
pub(super) fn ensure_own(known: &catalog::Instance) -> Result<(), OpsError> {
    if known.host_id == host::host_id() {
        return Ok(());
    }
    let (name, id, made_by, own) = (&known.name, known.id, &known.host, host::hostname());
    Err(OpsError::refused(
        format!(
            "'{name}' belongs to the host '{made_by}', from which the state directory came to this host, '{own}': \
             both would act as one instance"
        ),
        format!(
            "if this host took the other's place, or was only renamed: `belay adopt {name} --id {id}`; \
             if it is a clone of it: `belay adopt {name} --new`"
        ),
    ))
}

fn record(session: &Session, instance: &Instance, id: InstanceId) -> Result<InstanceId, OpsError> {
    session.require_catalog()?.adopt(&catalog::Instance {
        id,
        name: instance.name.clone(),
        repository: instance.repository.clone(),
        host: host::hostname(),
        host_id: host::host_id(),
        adopted_at: Timestamp::now(),
    })?;
    Ok(id)
}
