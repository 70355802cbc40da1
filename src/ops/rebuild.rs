//! Making the catalog again from the repository alone.

use super::backup::mirrors_of;
use super::session::{Session, store_at};
use super::{Context, OpsError, sync};
use crate::catalog::{self, Catalog};
use crate::config::{Config, Location, SecretSources};
use crate::host;
use crate::model::exact_path::ExactPath;
use crate::model::id::{InstanceId, RepositoryId};
use crate::model::name::Name;
use crate::repository::Repository;
use crate::repository::keys::RECOVERY_LABEL;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What was made again.
#[derive(Debug, Serialize)]
pub struct Rebuilt {
    /// `catalog`: where it is.
    #[serde(flatten)]
    pub catalog: ExactPath,
    /// `kept`: where the old catalog was put; none where there was none.
    #[serde(flatten)]
    pub kept: Option<ExactPath>,
    /// Snapshots that the catalog knows now.
    pub snapshots: usize,
    /// Pins that it knows now.
    pub pins: usize,
    /// Upgrades that it knows now.
    pub upgrades: usize,
    /// Jobs that were carried over from the old catalog.
    pub jobs: usize,
    /// Instances of this host that it knows now.
    pub instances: usize,
    /// What could not be read in the old catalog, in words.
    pub lost: Vec<String>,
}

/// A repository to read from.
struct Source {
    name: Name,
    url: String,
    repository: Arc<Repository>,
    lock_wait: Duration,
}

/// Rebuild from all repositories of the configuration.
pub fn rebuild(
    config: &Config,
    secrets: &SecretSources,
    context: &Context,
) -> Result<Rebuilt, OpsError> {
    let mut sources = Vec::new();
    for repository in config.repositories.values() {
        // Every repository is opened before the old catalog is put aside.
        let password = repository.password.resolve(secrets)?;
        let opened =
            Repository::open(store_at(&repository.location), password.expose().as_bytes())?;
        sources.push(Source {
            name: repository.name.clone(),
            url: repository.location.to_string(),
            repository: Arc::new(opened),
            lock_wait: repository.lock_wait,
        });
    }
    rebuild_from(&config.state_dir, sources, context)
}

/// Rebuild on a bare machine, from one repository. A catalog of more than that is not replaced by less.
pub fn rebuild_bare(
    session: Session,
    location: &Location,
    state_dir: &Path,
    context: &Context,
) -> Result<Rebuilt, OpsError> {
    let known = known_repositories(state_dir);
    let id = RepositoryId(session.repository.id().0);
    let (own, others): (Vec<_>, Vec<_>) = known.into_iter().partition(|known| known.id == id);
    if !others.is_empty() {
        let others: Vec<String> =
            others.iter().map(|other| format!("{} ({})", other.name, other.url)).collect();
        return Err(OpsError::refused(
            format!(
                "the catalog in {} knows other repositories, too, and would know nothing of their snapshots any more: {}",
                state_dir.display(),
                others.join(", ")
            ),
            "with the configuration and without --repository it is made again from all of them; --state-dir DIR makes it elsewhere",
        ));
    }
    let name = own.into_iter().next().map(|own| own.name);
    let name = name.unwrap_or_else(|| "main".parse().expect("'main' is a name"));
    let source = Source {
        name,
        url: location.to_string(),
        lock_wait: session.lock_wait(),
        repository: session.repository,
    };
    rebuild_from(state_dir, vec![source], context)
}

/// What the catalog knows that is there now, and can be read.
fn known_repositories(state_dir: &Path) -> Vec<catalog::Repository> {
    if state_dir.join(catalog::FILE_NAME).symlink_metadata().is_err() {
        return Vec::new();
    }
    Catalog::open(state_dir).and_then(|catalog| catalog.repositories()).unwrap_or_default()
}

fn rebuild_from(
    state_dir: &Path,
    sources: Vec<Source>,
    context: &Context,
) -> Result<Rebuilt, OpsError> {
    let recreated = Catalog::recreate(state_dir, Timestamp::now())?;
    let mut rebuilt = Rebuilt {
        catalog: ExactPath::new("catalog", recreated.catalog.path()),
        kept: recreated.kept.map(|kept| ExactPath::new("kept", kept)),
        snapshots: 0,
        pins: 0,
        upgrades: 0,
        jobs: recreated.jobs,
        instances: 0,
        lost: recreated.lost,
    };
    drop(recreated.catalog);
    for Source { name, url, repository, lock_wait } in sources {
        context.events.phase("reading", repository.location());
        let catalog = Catalog::open(state_dir)?;
        catalog.record_repository(RepositoryId(repository.id().0), &name, &url)?;
        let session = Session::with_parts(repository, Some(name.clone()), Some(catalog), lock_wait);
        let view = sync::view(&session, context)?;
        rebuilt.snapshots += view.records.len();
        rebuilt.pins += view.pins.len();
        adopt_own(&session, &name, context)?;
        remember_mirrors(&session)?;
        note_recovery_key(&session)?;
    }
    let catalog = Catalog::open(state_dir)?;
    rebuilt.instances = catalog.instances()?.len();
    rebuilt.upgrades = catalog.upgrades(None)?.len();
    Ok(rebuilt)
}

/// What the newest snapshot of each mirror says of it. People were told of what was pushed away when it was seen.
fn remember_mirrors(session: &Session) -> Result<(), OpsError> {
    let catalog = session.require_catalog()?;
    let id = RepositoryId(session.repository.id().0);
    // Newest first: an older one says nothing of a mirror that is known already.
    for record in catalog.snapshots(id)? {
        let Some(manifest) = catalog.manifest(id, record.id)? else { continue };
        for (git, mirror) in mirrors_of(&manifest) {
            let known = catalog.mirror(&git)?;
            if known.is_none_or(|known| known.fetched_at < mirror.fetched_at) {
                catalog.record_mirror(&git, &mirror, Some(Timestamp::now()))?;
            }
        }
    }
    Ok(())
}

/// The key that is called the recovery key is the one, where the old catalog did not say.
fn note_recovery_key(session: &Session) -> Result<(), OpsError> {
    let catalog = session.require_catalog()?;
    let id = RepositoryId(session.repository.id().0);
    if catalog.repository(id)?.is_some_and(|known| known.recovery_key.is_some()) {
        return Ok(());
    }
    let keys = session.repository.keys()?.readable;
    let recovery = keys.iter().filter(|key| key.label.as_deref() == Some(RECOVERY_LABEL));
    if let Some(newest) = recovery.max_by_key(|key| key.created) {
        catalog.set_recovery_key(id, newest.id)?;
    }
    Ok(())
}

/// The instances that this very host backed up last under their names are its own again. Those of another host are not:
/// if this host takes another's place, a person says so with `belay adopt`.
fn adopt_own(session: &Session, repository: &Name, context: &Context) -> Result<(), OpsError> {
    let catalog = session.require_catalog()?;
    let id = RepositoryId(session.repository.id().0);
    let mut newest: BTreeMap<Name, (Timestamp, InstanceId, bool)> = BTreeMap::new();
    let (host, host_id) = (host::hostname(), host::host_id());
    for record in catalog.snapshots(id)? {
        let Some(manifest) = catalog.manifest(id, record.id)? else { continue };
        let is_own = manifest.instance.host == host && manifest.instance.host_id == host_id;
        let entry = newest.entry(manifest.instance.name.clone()).or_insert((
            record.time,
            manifest.instance.id,
            is_own,
        ));
        if record.time > entry.0 {
            *entry = (record.time, manifest.instance.id, is_own);
        }
    }
    for (name, (_, id, is_own)) in newest {
        if catalog.instance_id(&name, repository)?.is_some() {
            continue;
        }
        if !is_own {
            context.events.note(format!(
                "Instance '{name}' was backed up from another host. If this host takes its place: belay adopt {name}"
            ));
            continue;
        }
        let repository = repository.clone();
        let (host, host_id, adopted_at) = (host.clone(), host_id.clone(), Timestamp::now());
        catalog.adopt(&catalog::Instance { id, name, repository, host, host_id, adopted_at })?;
    }
    Ok(())
}
