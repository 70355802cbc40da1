//! Questions to an instance that runs, for who wants to know how it does: which version, what it has, whether its keys fit.
//!
//! What always holds: nothing is written there, no secret is told, and each question ends when the job is asked to stop.

mod at_rest;
mod counts;
mod keys;
mod parts;
mod version;

pub use at_rest::version_at_rest;
pub use counts::{Counted, count, counted_in};
pub use keys::{KeysTried, try_keys};
pub use parts::{PartState, parts};
pub use version::{VersionFound, version};

use super::OpsError;
use super::instance::{Databases, Living};
use crate::component::postgres::{Connection, PostgresError};

/// What a server's own list of connections shows.
const APPLICATION: &str = "belay looks";

fn failed(living: &Living<'_>) -> impl Fn(PostgresError) -> OpsError {
    let instance = living.instance.name.to_string();
    move |source| OpsError::Postgres { instance: instance.clone(), source }
}

/// A way to an instance's PostgreSQL server.
fn connection(
    living: &Living<'_>,
    databases: &Databases,
    database: &str,
) -> Result<Connection, OpsError> {
    let (access, target) = (databases.access.clone(), databases.target.clone());
    Connection::open(access, target, database, APPLICATION).map_err(failed(living))
}
