//! Operations: one file for each, readable as a story. Everything that a person can ask for happens here; the command
//! line only says what is wanted and shows what comes back.

pub mod adopt;
pub mod apps;
pub mod backup;
pub mod check;
mod checksums;
pub mod demo;
pub mod desk;
pub mod diff;
pub mod discover;
pub mod doctor;
mod error;
pub mod export;
pub mod git;
pub mod init;
mod instance;
mod job;
pub mod keys;
pub mod newest;
pub mod pins;
mod private;
pub mod probe;
pub mod prune;
pub mod quiesce;
pub mod rebuild;
pub mod recover_config;
pub mod restore;
pub mod room;
mod select;
pub mod session;
pub mod show;
mod state;
pub mod status;
pub mod sync;
mod tree;
mod turn;
pub mod upgrades;
pub mod volumes;

pub use error::{OpsError, what_to_do};
pub use select::SnapshotRef;

use crate::model::event::{Cancel, Events};
use crate::model::id::JobId;
use session::Lease;
use std::sync::{Arc, Mutex, PoisonError};

/// What an operation is given besides its own arguments.
#[derive(Clone)]
pub struct Context {
    /// Where to tell what happens.
    pub events: Events,
    /// How it is asked to stop.
    pub cancel: Cancel,
    /// The id of its job, where it has one already.
    id: Arc<Mutex<Option<JobId>>>,
    /// What happens in the job of this id, also before it begins.
    history: Option<(JobId, Arc<job::History>)>,
    /// The instances that whoever asks for the work keeps from others already.
    lease: Option<Arc<Lease>>,
}

impl Context {
    /// For work that gets its id when it begins.
    pub fn new(events: Events, cancel: Cancel) -> Self {
        Self { events, cancel, id: Arc::default(), history: None, lease: None }
    }

    /// For work whose job is known already by its id.
    pub fn of_job(id: JobId, events: &Events, cancel: Cancel) -> Self {
        let history = Arc::<job::History>::default();
        let events = history.recording(events);
        let known = Arc::new(Mutex::new(Some(id)));
        Self { events, cancel, id: known, history: Some((id, history)), lease: None }
    }

    /// The same, with events that go elsewhere.
    #[must_use]
    pub fn with_events(&self, events: Events) -> Self {
        Self { events, ..self.clone() }
    }

    /// The same for the job of this id.
    #[must_use]
    fn with_id(&self, id: JobId) -> Self {
        Self { id: Arc::new(Mutex::new(Some(id))), ..self.clone() }
    }

    /// The same for work on instances that are kept from others already.
    #[must_use]
    pub fn under(self, lease: &Arc<Lease>) -> Self {
        Self { lease: Some(Arc::clone(lease)), ..self }
    }

    /// The history of a job whose id was known before it began.
    fn history_of(&self, id: JobId) -> Option<Arc<job::History>> {
        let (of, history) = self.history.as_ref()?;
        (*of == id).then(|| Arc::clone(history))
    }

    /// The id of the job that begins: what is done within it, as jobs of their own, gets others.
    fn job_id(&self) -> Result<JobId, OpsError> {
        let known = self.id.lock().unwrap_or_else(PoisonError::into_inner).take();
        known.map_or_else(job::random_job_id, Ok)
    }
}

/// A random id for a job that is not known yet.
pub fn new_job_id() -> Result<JobId, OpsError> {
    job::random_job_id()
}
