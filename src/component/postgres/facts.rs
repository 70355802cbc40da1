//! What a server and its databases are like, as the server's catalogs say.

use super::PostgresError;
use super::session::{Session, identifier, literal};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// A server.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct ServerFacts {
    /// As a number: 150018.
    pub version_number: u32,
    /// As text: `15.18`.
    pub version: String,
    /// Who is connected.
    pub user: String,
    /// Whether that user may do everything.
    pub is_superuser: bool,
    /// Whether the passwords of roles may be read.
    pub reads_passwords: bool,
    /// Whether it only follows another one.
    pub is_standby: bool,
    /// All databases that may be connected to.
    pub databases: Vec<String>,
}

impl ServerFacts {
    /// 15, 16, …
    pub fn major(&self) -> u32 {
        self.version_number / 10_000
    }

    pub(super) fn read(session: &mut Session) -> Result<Self, PostgresError> {
        session.row(
            "SELECT current_setting('server_version_num')::int AS version_number,
                split_part(current_setting('server_version'), ' ', 1) AS version,
                current_user AS user,
                (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS is_superuser,
                has_table_privilege('pg_catalog.pg_authid', 'SELECT') AS reads_passwords,
                pg_is_in_recovery() AS is_standby,
                ARRAY(SELECT datname::text FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY 1) AS databases",
        )
    }
}

/// A database, as far as its dump does not say: what it is made with, and what is set on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Such as `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// `c` (libc), `i` (ICU) or `b` (builtin).
    pub provider: String,
    /// The locale of ICU or of the builtin provider.
    pub locale: Option<String>,
    /// ICU's rules beyond the locale.
    pub icu_rules: Option<String>,
    /// Most connections; -1 is no limit.
    pub connection_limit: i64,
    /// Its comment.
    pub comment: Option<String>,
    /// Who may do what with it, as `aclitem` texts; none is the default.
    pub acl: Option<Vec<String>>,
    /// What is set on it, and on roles in it.
    pub settings: Vec<Setting>,
    /// The roles that own something in it, or that a privilege or a policy in it names; but never the server's first superuser.
    pub roles: Vec<String>,
    /// Its size on the server's disk, in bytes.
    pub size_bytes: u64,
}

/// A setting of a database, or of a role in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The role; none where it is for all.
    pub role: Option<String>,
    /// Each as `name=value`.
    pub values: Vec<String>,
}

impl DatabaseFacts {
    /// What is known of the database that the session is connected to.
    pub(super) fn read(session: &mut Session, server: &ServerFacts) -> Result<Self, PostgresError> {
        // The columns came one after the other.
        let (provider, locale) = match server.major() {
            ..15 => ("'c'", "NULL"),
            15 | 16 => ("d.datlocprovider", "d.daticulocale"),
            _ => ("d.datlocprovider", "d.datlocale"),
        };
        let rules = if server.major() >= 16 { "d.daticurules" } else { "NULL" };
        session.row(&format!(
            "SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner,
                pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate, d.datctype AS ctype,
                {provider}::text AS provider, {locale}::text AS locale, {rules}::text AS icu_rules,
                d.datconnlimit AS connection_limit,
                shobj_description(d.oid, 'pg_database') AS comment, d.datacl::text[] AS acl,
                pg_database_size(d.oid) AS size_bytes,
                ARRAY(SELECT DISTINCT r.rolname::text FROM pg_shdepend p JOIN pg_roles r ON r.oid = p.refobjid
                    WHERE p.refclassid = 'pg_authid'::regclass
                        AND (p.dbid = d.oid OR p.classid = 'pg_database'::regclass AND p.objid = d.oid) ORDER BY 1) AS roles,
                (SELECT coalesce(json_agg(json_build_object('role', r.rolname, 'values', s.setconfig) ORDER BY r.rolname NULLS FIRST), '[]')
                    FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
                    WHERE s.setdatabase = d.oid AND (s.setrole = 0 OR r.oid IS NOT NULL)) AS settings
            FROM pg_database d WHERE d.datname = current_database()"
        ))
    }

    /// What is set on the database and on roles in it, as statements for the database of this name.
    pub fn settings_sql(&self, database: &str) -> String {
        let database = identifier(database);
        let mut sql = String::new();
        for setting in &self.settings {
            for value in &setting.values {
                let Some((name, value)) = value.split_once('=') else { continue };
                let subject = match &setting.role {
                    None => format!("DATABASE {database}"),
                    Some(role) => format!("ROLE {} IN DATABASE {database}", identifier(role)),
                };
                let value = if TAKE_LISTS.contains(&name) { list(value) } else { literal(value) };
                let name = identifier(name).replace('.', "\".\"");
                // Writing to a string does not fail.
                let _ = writeln!(sql, "ALTER {subject} SET {name} TO {value};");
            }
        }
        sql
    }
}

/// Settings whose value is a list of names, each quoted where it has to be.
const TAKE_LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// A list as the catalog has it, as literals: an empty name can only be written so.
fn list(text: &str) -> String {
    let mut names = Vec::new();
    let mut name = String::new();
    let mut is_quoted = false;
    let mut was_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                name.push('"');
            }
            '"' => {
                is_quoted = !is_quoted;
                was_quoted = true;
            }
            ',' if !is_quoted => names.push(std::mem::take(&mut name)),
            ' ' if !is_quoted => {}
            character => name.push(character),
        }
    }
    if was_quoted || !name.is_empty() {
        names.push(name);
    }
    if names.is_empty() {
        return literal("");
    }
    names.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ")
}

/// The tables whose rows a dump has to have: all that are not an extension's own.
pub(super) const TABLES: &str = "SELECT n.nspname AS schema, c.relname AS name
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND c.relpersistence <> 't'
        AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')";

/// A table by its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub(super) struct TableName {
    pub(super) schema: String,
    pub(super) name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_catalog_are_written_as_literals() {
        assert_eq!(
            list(r#"workspace_1, "$user", "a""b, c""#),
            r#"'workspace_1', '$user', 'a"b, c'"#
        );
        assert_eq!(list(r#""""#), "''");
        assert_eq!(list(""), "''");
    }
}
