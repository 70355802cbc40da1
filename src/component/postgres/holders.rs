//! Connections of others, which are told to end.

use super::PostgresError;
use super::session::Session;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long connections may take to end once they were told to.
pub(super) const LONGEST_ENDING: Duration = Duration::from_secs(20);
pub(super) const LOOKS_EVERY: Duration = Duration::from_millis(50);
/// Who was told to end so long ago and did not holds on; others came since.
const HOLDS_ON: Duration = Duration::from_secs(1);

/// The server itself ends its own workers where it renames a database, and nobody else may. What kind of process another's
/// is shows only to those who may see all; and to try to end one that we may not end would be an error.
const LOOK: &str = "SELECT a.pid, a.datname AS database, a.usename AS role, a.application_name AS application,
    (m.rolsuper OR NOT coalesce(r.rolsuper, false) AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))
        IS TRUE AND pg_terminate_backend(a.pid) AS told
    FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid JOIN pg_roles m ON m.rolname = current_user
    WHERE a.pid <> pg_backend_pid() AND coalesce(a.backend_type, '') NOT IN ('autovacuum worker', 'parallel worker') AND ";

#[derive(Deserialize)]
pub(super) struct Holder {
    pid: u32,
    database: Option<String>,
    role: Option<String>,
    application: Option<String>,
}

/// Those of one kind, as they were when last looked for: each with when it was seen first.
#[derive(Default)]
pub(super) struct Holders(BTreeMap<u32, (Instant, Holder)>);

impl Holders {
    /// Tell those to end of whom this condition on `pg_stat_activity a` holds.
    pub(super) fn end(
        &mut self,
        session: &mut Session,
        condition: &str,
    ) -> Result<(), PostgresError> {
        let found: Vec<Holder> = session.query(&format!("{LOOK}{condition}"))?;
        let now = Instant::now();
        let seen = |holder: Holder| {
            (holder.pid, (self.0.get(&holder.pid).map_or(now, |known| known.0), holder))
        };
        self.0 = found.into_iter().map(seen).collect();
        Ok(())
    }

    /// The same, until none is left.
    pub(super) fn end_all(session: &mut Session, condition: &str) -> Result<(), PostgresError> {
        let begun = Instant::now();
        let mut holders = Self::default();
        loop {
            holders.end(session, condition)?;
            if holders.0.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > LONGEST_ENDING {
                return Err(holders.error());
            }
            std::thread::sleep(LOOKS_EVERY);
        }
    }

    /// Those who do not end though they were told to.
    fn that_hold_on(&self) -> impl Iterator<Item = &Holder> {
        let holds_on = |(seen, _): &&(Instant, Holder)| seen.elapsed() >= HOLDS_ON;
        self.0.values().filter(holds_on).map(|(_, holder)| holder)
    }

    pub(super) fn do_hold_on(&self) -> bool {
        self.that_hold_on().next().is_some()
    }

    pub(super) fn error(&self) -> PostgresError {
        let told = |holder: &Holder| {
            let named =
                |name: &Option<String>, other: &str| name.as_deref().unwrap_or(other).to_owned();
            format!(
                "process {} of {} ({}) in {}",
                holder.pid,
                named(&holder.role, "the server"),
                named(&holder.application, "unknown"),
                named(&holder.database, "no database")
            )
        };
        PostgresError::HeldOn { sessions: self.that_hold_on().map(told).collect() }
    }
}
