//! The MongoDB database of an instance, put back alone while the instance's container does not run: no version starts on what is in it.

use super::in_place::{PutBack, parts_back};
use super::into::IntoOptions;
use super::{Wanted, parts};
use crate::component::mongodb::wire::restore::aside_of;
use crate::config::{Config, Instance, MongodbWay};
use crate::model::id::{JobId, SnapshotId};
use crate::ops::instance::Living;
use crate::ops::select::SnapshotRef;
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError};

/// A database that is reached without its instance's container.
pub struct DatabaseApart<'a> {
    config: &'a Config,
    session: &'a Session,
    instance: &'a Instance,
    context: &'a Context,
}

impl<'a> DatabaseApart<'a> {
    /// Of an instance in a container; none where its database is reached through that. Nothing is inferred from names: what they mean in
    /// a container may be another server elsewhere.
    pub fn of(
        (config, session, instance): (&'a Config, &'a Session, &'a Instance),
        context: &'a Context,
    ) -> Result<Option<Self>, OpsError> {
        let settings = &instance.mongodb;
        let is_apart = match (&settings.via, &settings.url) {
            (Some(via), _) => *via != instance.via,
            (None, Some(_)) => true,
            // Found by DNS, which Belay asks itself in any case.
            (None, None) if settings.way == MongodbWay::Wire => {
                let living = Living::look(config, instance, context)?;
                living.mongodb_url().is_some_and(|url| url.starts_with("mongodb+srv://"))
            }
            (None, None) => false,
        };
        Ok(is_apart.then_some(Self { config, session, instance, context }))
    }

    /// Finish or undo what an interrupted restore has left in it. What that had stopped stays so: its container does not run.
    pub fn finish_interrupted(&self) -> Result<(), OpsError> {
        let Self { config, session, instance, context } = *self;
        let _busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
        parts::finish_interrupted(config, session, instance, context)
    }

    /// The collections that the restore of this id has set aside.
    pub fn set_aside(&self, job: JobId) -> Result<Vec<String>, OpsError> {
        let living = Living::look(self.config, self.instance, self.context)?;
        let place = living.mongodb(&self.session.secrets)?;
        let server = place.open(self.context)?;
        let database = place.name(&server)?;
        aside_of(&server, &database, &job.to_string()).map_err(|source| OpsError::Mongodb {
            instance: self.instance.name.to_string(),
            source,
        })
    }

    /// Put it back as the restore of this id. What is in it now is set aside: a snapshot of the instance is taken through its container.
    pub fn put_back(&self, snapshot: SnapshotId, job: JobId) -> Result<PutBack, OpsError> {
        let wanted = Wanted { components: vec!["mongodb".into()], paths: Vec::new() };
        let options = IntoOptions {
            wanted,
            sets_aside: true,
            writers_are_stopped: true,
            ..IntoOptions::default()
        };
        let named = SnapshotRef::Prefix(snapshot.to_string());
        let place = (self.config, self.session, self.instance);
        parts_back(place, &named, &options, &self.context.with_id(job))
    }
}
