//! Opening what an operation works with: the configuration's repository and, where there is one, the catalog.

use super::private::PrivateDirectory;
use super::{Context, OpsError, what_to_do};
use crate::catalog::{Catalog, CatalogError};
use crate::config::{self, Config, Location, Secret, SecretSources};
use crate::host;
use crate::model::id::RepositoryId;
use crate::model::name::Name;
use crate::repository::Repository;
use crate::repository::lock::{Lock, LockMode, LockRequest};
use crate::store::Store;
use crate::store::local::LocalStore;
use rustix::fs::FlockOperation;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A process's number is not longer.
const MOST_DIGITS: u64 = 20;
/// How long to wait for another's lock where no configuration says.
const DEFAULT_LOCK_WAIT: Duration = Duration::from_mins(1);

/// An open repository with what belongs to it on this host.
pub struct Session {
    /// The repository.
    pub repository: Arc<Repository>,
    /// What the configuration calls it; none on a bare machine.
    pub name: Option<Name>,
    /// The catalog; none on a bare machine.
    pub catalog: Option<Catalog>,
    /// How long to wait for locks.
    lock_wait: Duration,
    /// Where the secrets of instances are found.
    pub(super) secrets: SecretSources,
}

/// Tell that the catalog cannot be used, and that the repository has to do.
pub(super) fn warn_of_catalog(error: CatalogError, context: &Context) {
    let error = OpsError::from(error);
    let hint = what_to_do(error.hint().as_deref());
    let message = error.told();
    context.events.warn(format!(
        "The catalog cannot be used: {message}. This goes on with the repository alone.{hint}"
    ));
}

/// The store at a location.
pub fn store_at(location: &Location) -> Arc<dyn Store> {
    match location {
        Location::Local(path) => Arc::new(LocalStore::new(path)),
    }
}

impl Session {
    /// Open a repository of the configuration, and the catalog.
    pub fn open(
        config: &Config,
        repository: &config::Repository,
        secrets: &SecretSources,
    ) -> Result<Self, OpsError> {
        let session = Self::without_catalog(repository, secrets)?;
        let catalog = session.open_catalog(config, repository)?;
        Ok(Self { catalog: Some(catalog), ..session })
    }

    /// The same for work that needs the repository only: a catalog that cannot be used is told, and done without.
    pub fn open_for_reading(
        config: &Config,
        repository: &config::Repository,
        secrets: &SecretSources,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let session = Self::without_catalog(repository, secrets)?;
        let catalog = session.open_catalog(config, repository);
        let catalog = catalog.map_err(|error| warn_of_catalog(error, context)).ok();
        Ok(Self { catalog, ..session })
    }

    fn without_catalog(
        repository: &config::Repository,
        secrets: &SecretSources,
    ) -> Result<Self, OpsError> {
        let password = repository.password.resolve(secrets)?;
        let mut opened =
            Repository::open(store_at(&repository.location), password.expose().as_bytes())?;
        opened.set_compression(repository.compression);
        let (name, lock_wait) = (Some(repository.name.clone()), repository.lock_wait);
        let secrets = secrets.clone();
        Ok(Self { repository: Arc::new(opened), name, catalog: None, lock_wait, secrets })
    }

    fn open_catalog(
        &self,
        config: &Config,
        repository: &config::Repository,
    ) -> Result<Catalog, CatalogError> {
        let catalog = Catalog::open(&config.state_dir)?;
        catalog.record_repository(
            RepositoryId(self.repository.id().0),
            &repository.name,
            &repository.location.to_string(),
        )?;
        Ok(catalog)
    }

    /// Open a repository on a machine without configuration.
    pub fn open_bare(location: &Location, password: &Secret) -> Result<Self, OpsError> {
        let repository = Repository::open(store_at(location), password.expose().as_bytes())?;
        Ok(Self {
            repository: Arc::new(repository),
            name: None,
            catalog: None,
            lock_wait: DEFAULT_LOCK_WAIT,
            secrets: SecretSources::of_process(),
        })
    }

    /// A session of parts that are open already.
    pub(super) fn with_parts(
        repository: Arc<Repository>,
        name: Option<Name>,
        catalog: Option<Catalog>,
        lock_wait: Duration,
    ) -> Self {
        Self { repository, name, catalog, lock_wait, secrets: SecretSources::of_process() }
    }

    /// The same for who rather does without than waits for a lock.
    pub(super) fn without_waiting(self) -> Self {
        Self { lock_wait: Duration::ZERO, ..self }
    }

    /// How long this session waits for locks.
    pub(super) fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// Lock the repository.
    pub fn lock(
        &self,
        mode: LockMode,
        purpose: impl Into<String>,
        context: &Context,
    ) -> Result<Lock, OpsError> {
        let request = LockRequest { mode, purpose: purpose.into(), wait: self.lock_wait };
        Ok(Lock::acquire(&self.repository, request, &context.events, &context.cancel)?)
    }

    /// Lock the repository for reading. One that cannot be written to is read without a lock: a restore must work from
    /// a read-only copy.
    pub fn lock_for_reading(
        &self,
        purpose: impl Into<String>,
        context: &Context,
    ) -> Result<Option<Lock>, OpsError> {
        use crate::repository::RepositoryError;
        match self.lock(LockMode::Shared, purpose, context) {
            Err(OpsError::Repository(RepositoryError::Store(error)))
                if error.is_full()
                    || matches!(
                        error.source.kind(),
                        std::io::ErrorKind::ReadOnlyFilesystem
                            | std::io::ErrorKind::PermissionDenied
                    ) =>
            {
                context.events.note(format!("The repository is read without a lock: {error}."));
                Ok(None)
            }
            // Somebody's lock is damaged. Writing waits until it is old; reading harms nobody.
            Err(OpsError::Repository(error)) if error.is_damage() => {
                context.events.warn(format!("The repository is read without a lock: {error}."));
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// The catalog, for operations that need a configuration anyway.
    pub(super) fn require_catalog(&self) -> Result<&Catalog, OpsError> {
        self.catalog.as_ref().ok_or_else(|| {
            OpsError::usage(
                "this needs a configuration",
                "give one with --config instead of --repository",
            )
        })
    }
}

/// One daemon at a time works with a state directory: nothing where another one does. The lock lasts as long as the file is
/// open.
pub fn daemon_lock(state_dir: &Path) -> Result<Option<File>, OpsError> {
    let directory = PrivateDirectory::make(state_dir, "locks")?;
    // No instance's lock is called so: a name does not begin with a dot.
    let name = ".daemon.lock";
    let file = directory.open_or_make(name)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => {
            let path = directory.path_of(name);
            Err(OpsError::Io { action: "lock", path, source: error.into() })
        }
    }
}

/// One job at a time works on an instance of this host; the lock ends with the process, however it ends.
#[derive(Clone)]
pub struct InstanceLock(
    #[expect(dead_code, reason = "the lock lasts as long as the file is open")] Arc<File>,
);

/// Instances that one work of many jobs keeps from all others of this host: only what is done under it
/// ([`Context::under`]) gets their locks.
pub struct Lease(BTreeMap<Name, InstanceLock>);

impl Lease {
    /// Keep these instances, once the jobs that work on them have ended; who waits longer than that is told who holds one.
    pub fn take<'a>(
        state_dir: &Path,
        instances: impl IntoIterator<Item = &'a Name>,
        longest: Duration,
        context: &Context,
    ) -> Result<Self, OpsError> {
        // In one order, so that of two who want the same none waits for the other for ever.
        let instances: BTreeSet<&Name> = instances.into_iter().collect();
        let lock = |name: &Name| {
            Ok((name.clone(), InstanceLock::wait(state_dir, name, longest, context)?))
        };
        Ok(Self(instances.into_iter().map(lock).collect::<Result<_, OpsError>>()?))
    }
}

/// How often who waits for an instance looks.
const LOOKS_EVERY: Duration = Duration::from_millis(200);

impl InstanceLock {
    /// Lock the instance, and wait so long for who holds it.
    pub(super) fn wait(
        state_dir: &Path,
        instance: &Name,
        longest: Duration,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let begun = Instant::now();
        loop {
            match Self::acquire(state_dir, instance, context) {
                Err(OpsError::Busy { .. }) if begun.elapsed() < longest => {
                    context.cancel.check()?;
                    context.events.phase("waiting", format!("for another job on {instance}"));
                    std::thread::sleep(LOOKS_EVERY);
                }
                other => return other,
            }
        }
    }

    /// Lock the instance, or say who holds it. Who works under a [`Lease`] of it has it already.
    pub fn acquire(state_dir: &Path, instance: &Name, context: &Context) -> Result<Self, OpsError> {
        let leased = context.lease.as_ref().and_then(|lease| lease.0.get(instance));
        if let Some(lock) = leased {
            return Ok(lock.clone());
        }
        let directory = PrivateDirectory::make(state_dir, "locks")?;
        let name = format!("{instance}.lock");
        let path = directory.path_of(&name);
        let mut file = directory.open_or_make(&name)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Who holds it is a help, not a need.
                let _ = file.take(MOST_DIGITS).read_to_string(&mut pid);
                return Err(OpsError::Busy {
                    instance: instance.to_string(),
                    pid: pid.trim().to_owned(),
                });
            }
            Err(error) => {
                return Err(OpsError::Io { action: "lock", path, source: error.into() });
            }
        }
        // On a full disk the lock holds without saying whose it is.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", host::Process::current().pid));
        Ok(Self(Arc::new(file)))
    }
}
