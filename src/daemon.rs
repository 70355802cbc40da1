//! The daemon: what is due is queued, what is queued runs one by one, and whoever asks is told.
//!
//! ```text
//! scheduler ──▶ executor ──▶ perform (the same code that the command line runs) ──▶ ops
//!   (policy::schedule)  │ (policy::queue)
//! API ──────────────────┤
//! upgrades ─────────────┘
//!   (journals)
//! ```
//! What must outlast the process is in the catalog: the queue, and how far each schedule is dealt with.

pub mod executor;
pub mod live;
pub mod overview;
mod scheduler;
mod supervision;
mod teller;
pub mod upgrades;

pub use executor::Executor;
pub use overview::Overview;

use crate::catalog::{Catalog, CatalogError};
use crate::config::{Config, ConfigError, SecretSources};
use crate::model::event::Cancel;
use crate::model::job::{Ended, Work};
use crate::ops::{Context, OpsError, restore};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use teller::Teller;
use tokio::sync::Notify;
use upgrades::Upgrades;

/// Does what a job asks for; the command line hands it in, and uses the same for itself.
pub type Perform = dyn Fn(&Config, &SecretSources, &Work, &Context) -> Ended + Send + Sync;

/// Running jobs may go on for so long when the daemon is to end; then they are asked to stop.
const FINISHING: Duration = Duration::from_secs(20);

/// How often what is long over is dropped from the catalog.
const TIDY: Duration = Duration::from_hours(24);
/// How often objectives are looked after.
const LOOK: Duration = Duration::from_mins(1);

/// What can go wrong with the daemon itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The catalog.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Something that an operation does, too.
    #[error(transparent)]
    Operation(#[from] OpsError),
    /// Another daemon works with the same state.
    #[error("a daemon works with the state directory {} already", path.display())]
    Twice {
        /// Which.
        path: PathBuf,
    },
    /// Signals cannot be listened to.
    #[error("signals cannot be listened to: {0}")]
    Signals(std::io::Error),
    /// The scheduler could not be set up.
    #[error("the scheduler could not be set up: {0}")]
    Scheduler(String),
}

/// The configuration in effect, which may change while the daemon runs.
pub struct Settings {
    path: PathBuf,
    /// What keeps the daemon from its work, by what it concerns.
    troubles: Mutex<BTreeMap<&'static str, String>>,
    config: RwLock<Arc<Config>>,
    /// Where secrets are found.
    pub secrets: SecretSources,
}

impl Settings {
    /// Begin with a configuration that was read from a file.
    pub fn new(path: &Path, config: Config, secrets: SecretSources) -> Self {
        let config = RwLock::new(Arc::new(config));
        Self { path: path.to_owned(), troubles: Mutex::default(), config, secrets }
    }

    /// Something keeps the daemon from a part of its work, or does not any more: the status shows it as long as it is so.
    fn trouble(&self, part: &'static str, trouble: Option<String>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble {
            Some(trouble) => {
                let before = troubles.insert(part, trouble.clone());
                if before.as_ref() != Some(&trouble) {
                    tracing::error!("{trouble}");
                }
            }
            None => drop(troubles.remove(part)),
        }
    }

    /// What keeps the daemon from its work.
    pub fn troubles(&self) -> Vec<String> {
        let troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        troubles.values().cloned().collect()
    }

    /// The configuration as it is now.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where it is read from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Read the file again. A wrong one changes nothing, nor does one that moves the state or the socket: these need a
    /// restart.
    pub fn reload(&self) -> Result<(), ReloadError> {
        let new = Config::load(&self.path)?;
        let old = self.config();
        for (key, moved) in [
            ("state.dir", new.state_dir != old.state_dir),
            ("daemon.socket", new.daemon.socket != old.daemon.socket),
        ] {
            if moved {
                return Err(ReloadError::Moved(key));
            }
        }
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        Ok(())
    }
}

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// It is wrong.
    #[error("{}", OpsError::told_of(.0))]
    Config(#[from] ConfigError),
    /// It changes what a running daemon cannot change.
    #[error("{0} is another one: that needs a restart")]
    Moved(&'static str),
}

/// A daemon.
pub struct Daemon {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// What runs jobs.
    pub executor: Arc<Executor>,
    /// What is known at a glance.
    pub overview: Overview,
    /// What goes on with upgrades.
    pub upgrades: Arc<Upgrades>,
    teller: Arc<teller::Teller>,
    /// Wakes the scheduler.
    due: Arc<Notify>,
    _only: OnlyOne,
}

impl Daemon {
    /// Open what a daemon works with, and see to what the one before has left.
    pub fn open(settings: Settings, perform: Arc<Perform>) -> Result<Self, DaemonError> {
        let settings = Arc::new(settings);
        let config = settings.config();
        let catalogs = (Catalog::open(&config.state_dir)?, Catalog::open(&config.state_dir)?);
        let only = OnlyOne::claim(&config.state_dir)?;
        for problem in crate::ops::status::interrupted(&config)? {
            tracing::warn!("{problem}");
        }
        let teller = Teller::new(Arc::clone(&settings), Catalog::open(&config.state_dir)?);
        let teller = Arc::new(teller);
        let executor =
            Executor::open(Arc::clone(&settings), catalogs, perform, Arc::clone(&teller))?;
        for name in config.instances.keys() {
            if restore::has_left(&config.state_dir, name) {
                executor.submit_recovery(name)?;
            }
        }
        let overview = Overview::new(Arc::clone(&settings));
        let executor = Arc::new(executor);
        let upgrades =
            Upgrades::new(Arc::clone(&settings), Arc::clone(&executor), Arc::clone(&teller));
        Ok(Self {
            settings,
            executor,
            overview,
            upgrades: Arc::new(upgrades),
            teller,
            due: Arc::default(),
            _only: only,
        })
    }

    /// Work until the process is asked to end, which `cancel` says where it was before this began: fire what is due, run
    /// what is queued, and keep the service manager informed. Ends when what ran has finished or was stopped cleanly.
    pub async fn run(self: &Arc<Self>, cancel: &Cancel) -> Result<(), DaemonError> {
        let end = supervision::End::listen().map_err(DaemonError::Signals)?;
        if cancel.is_cancelled() {
            return Ok(());
        }
        let scheduler = scheduler::Scheduler::open(Arc::clone(self)).await?;
        supervision::ready(self);
        let tasks = [
            tokio::spawn(Arc::clone(&self.executor).run()),
            tokio::spawn(scheduler.run()),
            tokio::spawn(supervision::watch(Arc::clone(self))),
            tokio::spawn(supervision::reload_on_hangup(Arc::clone(self))),
            tokio::spawn(Arc::clone(&self.teller).run()),
            tokio::spawn(Arc::clone(&self.upgrades).run()),
            tokio::spawn(Arc::clone(self).look_after_objectives()),
        ];
        end.asked().await;
        supervision::stopping();
        self.executor.close();
        self.upgrades.stop();
        self.executor.finished_within(FINISHING).await;
        self.executor.stop_all();
        self.executor.finished_within(Duration::MAX).await;
        self.executor.settle();
        for task in tasks {
            task.abort();
        }
        Ok(())
    }

    /// Tell of what becomes wrong by itself, as time goes by.
    async fn look_after_objectives(self: Arc<Self>) {
        let mut every = tokio::time::interval(LOOK);
        let mut tidied = None;
        loop {
            every.tick().await;
            let daemon = Arc::clone(&self);
            let looked = tokio::task::spawn_blocking(move || {
                let status = daemon.overview.status(&daemon.executor)?;
                daemon.teller.look(&daemon.settings.config(), &status)?;
                Ok::<_, DaemonError>(())
            });
            if let Ok(Err(error)) = looked.await {
                tracing::error!("objectives could not be looked after: {error}");
            }
            if tidied.is_none_or(|tidied: Instant| tidied.elapsed() > TIDY) {
                tidied = Some(Instant::now());
                let daemon = Arc::clone(&self);
                let tidying = tokio::task::spawn_blocking(move || daemon.executor.tidy());
                if let Ok(Err(error)) = tidying.await {
                    tracing::error!("what is long over could not be dropped: {error}");
                }
            }
        }
    }
}

/// No two daemons share a state directory; the lock ends with the process.
struct OnlyOne(
    #[expect(dead_code, reason = "the lock lasts as long as the file is open")] std::fs::File,
);

impl OnlyOne {
    fn claim(state_dir: &Path) -> Result<Self, DaemonError> {
        crate::ops::session::daemon_lock(state_dir)?
            .map(Self)
            .ok_or_else(|| DaemonError::Twice { path: state_dir.to_owned() })
    }
}
