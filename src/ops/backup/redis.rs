//! A Redis server on its way into a snapshot.

use super::part::Part;
use super::{Component, Run, progress_of};
use crate::component::redis::{RedisDetails, RedisError, dump};
use crate::ops::OpsError;
use crate::ops::instance::Living;
use crate::platform::recipe::ComponentKind;
use crate::repository::RepositoryError;
use crate::repository::writer::Writer;
use std::collections::BTreeMap;

impl Run<'_> {
    /// All databases of its server; none where the instance has none.
    pub(super) fn read_redis(
        &self,
        living: &Living<'_>,
        writer: &Writer,
    ) -> Result<Option<Component>, OpsError> {
        let recipe = living.recipe.redis.as_ref();
        let Some(recipe) = recipe.filter(|_| living.recipe.has(ComponentKind::Redis)) else {
            return Ok(None);
        };
        let Some(server) = living.redis(recipe)? else { return Ok(None) };
        let events = &self.context.events;
        events.phase("reading", format!("redis of {}", self.instance.name));
        let mut part = Part::new(writer, "redis");
        let mut stream = part.stream();
        let mut progress = progress_of(events);
        let mut told = |bytes| progress(bytes, 0);
        let dumped = dump(&server, &recipe.disposable, &mut stream, &mut told);
        let dumped = dumped.map_err(|source| self.failed_redis(source))?;
        part.add_stream("dump.rdb", stream)?;
        let counts = BTreeMap::from([("keys".to_owned(), dumped.summary.keys())]);
        let details = serde_json::to_value(RedisDetails::of(&server, &dumped))
            .expect("names and numbers become JSON");
        Ok(Some(part.finish(server.told(), counts, details)?))
    }

    fn failed_redis(&self, source: RedisError) -> OpsError {
        let instance = self.instance.name.to_string();
        match source {
            // What the repository says is told as such.
            RedisError::Sink(source) => match source.downcast::<RepositoryError>() {
                Ok(error) => error.into(),
                Err(source) => OpsError::Redis { instance, source: RedisError::Sink(source) },
            },
            source => OpsError::Redis { instance, source },
        }
    }
}
