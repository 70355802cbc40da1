//! The missing roles, and the databases that will be filled.

use super::roles::RoleWork;
use super::{PlannedDatabase, Restore};
use crate::component::postgres::session::{Session, identifier, literal};
use crate::component::postgres::{DatabaseFacts, PostgresError};
use serde::Deserialize;
use std::fmt::Write as _;

#[derive(Deserialize)]
struct Named {
    name: String,
}

impl Restore<'_> {
    /// Make the missing roles, all or none, and an empty database for each that comes back; one that was begun before is
    /// dropped first. Nobody but owners and superusers may connect to them.
    pub fn create(&self, work: &RoleWork) -> Result<(), PostgresError> {
        let mut session = self.server()?;
        self.expect_old(&mut session)?;
        if !work.create.is_empty() {
            session.execute(&format!("BEGIN;\n{}COMMIT;", work.create.as_str()))?;
        }
        for planned in &self.plan.databases {
            self.make_fresh(&mut session, planned)?;
        }
        session.close()
    }

    /// Make a fresh database, in place of one that was made already.
    pub(super) fn make_fresh(
        &self,
        session: &mut Session,
        planned: &PlannedDatabase,
    ) -> Result<(), PostgresError> {
        drop_fresh(session, planned)?;
        let fresh = identifier(&planned.fresh);
        session.execute(&format!(
            "{};\nREVOKE CONNECT, TEMPORARY ON DATABASE {fresh} FROM PUBLIC;",
            creation(planned, self.connection.server.major())
        ))
    }

    /// Drop the roles that this restore made, and name those that cannot be dropped because something refers to them.
    pub(super) fn drop_roles(&self, session: &mut Session) -> Result<Vec<String>, PostgresError> {
        let mut left = Vec::new();
        for role in &self.plan.creates_roles {
            let statement = literal(&format!("DROP ROLE IF EXISTS {}", identifier(role)));
            session.execute(&format!(
                "SELECT set_config('belay.statement', {statement}, false) \\g /dev/null
                DO $do$ BEGIN EXECUTE current_setting('belay.statement'); EXCEPTION WHEN OTHERS THEN NULL; END $do$;"
            ))?;
            let query =
                format!("SELECT rolname AS name FROM pg_roles WHERE rolname = {}", literal(role));
            left.extend(session.query::<Named>(&query)?.into_iter().map(|role| role.name));
        }
        Ok(left)
    }
}

/// Drop one that was made for this restore. Its name is the job's own, so it is no other's.
pub(super) fn drop_fresh(
    session: &mut Session,
    planned: &PlannedDatabase,
) -> Result<(), PostgresError> {
    let fresh = identifier(&planned.fresh);
    session.execute(&format!("DROP DATABASE IF EXISTS {fresh} WITH (FORCE);"))
}

/// The statement that makes a database like the recorded one, in the dialect of the server.
fn creation(planned: &PlannedDatabase, major: u32) -> String {
    let DatabaseFacts { owner, encoding, collate, ctype, provider, locale, icu_rules, .. } =
        &planned.facts;
    let mut sql = format!(
        "CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}",
        identifier(&planned.fresh),
        identifier(owner),
        literal(encoding),
        literal(collate),
        literal(ctype)
    );
    if major >= 15 {
        let name = match provider.as_str() {
            "i" => "icu",
            "b" => "builtin",
            _ => "libc",
        };
        // Writing to a string does not fail.
        let _ = write!(sql, " LOCALE_PROVIDER {name}");
        let locale_of = match provider.as_str() {
            "i" => Some("ICU_LOCALE"),
            "b" => Some("BUILTIN_LOCALE"),
            _ => None,
        };
        if let (Some(option), Some(locale)) = (locale_of, locale) {
            let _ = write!(sql, " {option} {}", literal(locale));
        }
        if let Some(rules) = icu_rules {
            let _ = write!(sql, " ICU_RULES {}", literal(rules));
        }
    }
    if let Some(old) = planned.old.as_ref().filter(|old| old.tablespace != "pg_default") {
        let _ = write!(sql, " TABLESPACE {}", identifier(&old.tablespace));
    }
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_version_of_the_server_is_told_the_locale_in_its_dialect() {
        let of = |provider: &str, rules: Option<&str>, major| {
            let facts = DatabaseFacts {
                owner: "o\"".into(),
                encoding: "UTF8".into(),
                collate: "C".into(),
                ctype: "C".into(),
                provider: provider.into(),
                locale: (provider != "c").then(|| "x'".into()),
                icu_rules: rules.map(ToOwned::to_owned),
                ..DatabaseFacts::default()
            };
            let planned = PlannedDatabase { facts, fresh: "f".into(), old: None };
            let sql = creation(&planned, major);
            sql.split_once(" LC_CTYPE 'C'").unwrap().1.to_owned()
        };
        assert_eq!(of("c", None, 14), "");
        assert_eq!(of("c", None, 15), " LOCALE_PROVIDER libc");
        assert_eq!(of("i", None, 15), " LOCALE_PROVIDER icu ICU_LOCALE 'x'''");
        assert_eq!(of("i", Some("&a"), 16), " LOCALE_PROVIDER icu ICU_LOCALE 'x''' ICU_RULES '&a'");
        assert_eq!(of("b", None, 17), " LOCALE_PROVIDER builtin BUILTIN_LOCALE 'x'''");
    }
}
