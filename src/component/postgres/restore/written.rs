//! Whether somebody wrote to the old databases after they were saved.

use super::Restore;
use crate::component::postgres::PostgresError;
use crate::component::postgres::session::Session;
use serde::{Deserialize, Serialize};

/// What the server counted of each table. Shared tables, which this restore writes itself, and statistics, which the server
/// gathers by itself, are left out; DDL shows in the catalog's own tables.
const COUNTS: &str = "SELECT CASE WHEN current_setting('track_counts')::bool THEN md5(string_agg(concat_ws(' ', c.oid,
        pg_stat_get_tuples_inserted(c.oid), pg_stat_get_tuples_updated(c.oid), pg_stat_get_tuples_deleted(c.oid)), ',' ORDER BY c.oid)) END AS sum
    FROM pg_class c WHERE c.relkind IN ('r', 't', 'm') AND NOT c.relisshared AND NOT EXISTS (
        SELECT FROM pg_class s WHERE s.oid IN ('pg_statistic'::regclass, 'pg_statistic_ext_data'::regclass)
            AND c.oid IN (s.oid, s.reltoastrelid))";

/// What was written to each of the old databases until some moment, as a sum over the counts; none of one that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written(Vec<Option<String>>);

impl Written {
    /// Whether nobody wrote since then to those that are still there.
    pub fn is_all(&self, now: &Self) -> bool {
        self.0.len() == now.0.len()
            && self.0.iter().zip(&now.0).all(|(then, now)| now.is_none() || then == now)
    }
}

#[derive(Deserialize)]
struct Counted {
    sum: Option<String>,
}

impl Restore<'_> {
    /// What was written to the old databases so far, on either side of the swap; none where the server does not tell.
    pub fn written(&self) -> Result<Option<Written>, PostgresError> {
        // Before 15 the counts follow what happened only after a while.
        if self.connection.server.major() < 15 {
            return Ok(None);
        }
        let mut session = self.server()?;
        let seen = Self::seen(&mut session)?;
        session.close()?;
        let mut sums = Vec::new();
        for old in self.plan.databases.iter().filter_map(|planned| planned.old.as_ref()) {
            let Some(now) = seen.iter().find(|seen| seen.oid == old.oid) else {
                sums.push(None);
                continue;
            };
            let mut session = Session::open(self.connection, &now.name)?;
            let Counted { sum } = session.row(COUNTS)?;
            session.close()?;
            if sum.is_none() {
                return Ok(None);
            }
            sums.push(sum);
        }
        Ok(Some(Written(sums)))
    }
}
