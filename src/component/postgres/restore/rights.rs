//! Whether a role has the rights of another.

use crate::component::postgres::session::{Session, literal};
use crate::component::postgres::{Connection, PostgresError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Answer {
    has: bool,
}

/// Whether a role may do what another one may: as a superuser, or as a member of it. One that is not there may not.
pub fn has_rights_of(
    connection: &Connection,
    maintenance: &str,
    role: &str,
    owner: &str,
) -> Result<bool, PostgresError> {
    let (role, owner) = (literal(role), literal(owner));
    let mut session = Session::open(connection, maintenance)?;
    let Answer { has } = session.row(&format!(
        "SELECT coalesce((SELECT r.rolsuper OR pg_has_role(r.oid, o.oid, 'USAGE') FROM pg_roles r
            LEFT JOIN pg_roles o ON o.rolname = {owner} WHERE r.rolname = {role}), false) AS has"
    ))?;
    session.close()?;
    Ok(has)
}
