//! PostgreSQL's own programs, where the server's instance lives: which are there, and which of them fit the server.

use super::PostgresError;
use crate::access::{Access, Command};

/// Tells each directory that has PostgreSQL's programs, with the version of each; the configured one first, and then the path's
/// own.
const LIST: &str = r#"for d in "$1" "$(dirname -- "$(command -v pg_dump || echo /nowhere/x)")" /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /usr/local/pgsql/bin /opt/bitnami/postgresql/bin; do
  [ -x "$d/pg_dump" ] && [ -x "$d/psql" ] && v=$("$d/pg_dump" --version) && echo "$d $v"
done; true"#;

/// Where the programs are, and of which major version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The directory.
    pub directory: String,
    /// Their major version.
    pub major: u32,
    /// Their version, such as `15.18`.
    pub version: String,
    /// The path of `psql`.
    pub psql: String,
}

impl Tools {
    fn parse(line: &str) -> Option<Self> {
        // `/usr/bin pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`; before a release: `18beta1`.
        let (directory, rest) = line.split_once(" pg_dump (PostgreSQL) ")?;
        let version = rest.split_whitespace().next()?;
        let major: String = version.chars().take_while(char::is_ascii_digit).collect();
        Some(Self {
            directory: directory.to_owned(),
            major: major.parse().ok()?,
            version: version.to_owned(),
            psql: format!("{directory}/psql"),
        })
    }

    /// The path of one of the programs.
    pub fn path(&self, program: &str) -> String {
        format!("{}/{program}", self.directory)
    }

    /// All that are there, the preferred directory first and then those in the path.
    pub fn list(access: &Access, preferred: Option<&str>) -> Result<Vec<Self>, PostgresError> {
        let script = Command::shell(LIST).argument(preferred.unwrap_or("/nowhere"));
        let output = access.run(&script, &[], 64 * 1024)?;
        let text = String::from_utf8_lossy(&output);
        let mut found: Vec<Self> = Vec::new();
        for tools in text.lines().filter_map(Self::parse) {
            if !found.iter().any(|other| other.directory == tools.directory) {
                found.push(tools);
            }
        }
        Ok(found)
    }

    /// Those that fit a server: of its own major version, or else of the next later one. An older `pg_dump` would leave out
    /// what it does not know, and refuses by itself.
    pub fn choose(found: &[Self], server_major: u32) -> Option<&Self> {
        found.iter().filter(|tools| tools.major >= server_major).min_by_key(|tools| tools.major)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(line: &str) -> Tools {
        Tools::parse(line).unwrap()
    }

    #[test]
    fn the_servers_own_version_is_preferred_and_an_older_one_refused() {
        let found = [
            tools("/usr/bin pg_dump (PostgreSQL) 17.2"),
            tools("/usr/lib/postgresql/15/bin pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            tools("/opt/pg/18 pg_dump (PostgreSQL) 18beta1"),
        ];
        let chosen = |major| Tools::choose(&found, major).map(|tools| tools.major);
        assert_eq!(
            [chosen(13), chosen(15), chosen(16), chosen(18), chosen(19)],
            [Some(15), Some(15), Some(17), Some(18), None]
        );
        assert_eq!(found[1].version, "15.18");
        assert_eq!(Tools::parse("sh: pg_dump: not found"), None);
    }
}
