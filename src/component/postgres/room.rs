//! Room on a server's disk: asked for where the server's programs run, and believed where that is the server's own host.

use super::session::Session;
use super::{Connection, PostgresError, literal};
use crate::access::Command;
use crate::model::via::Hop;
use serde::Deserialize;

/// Tells when a directory was changed, on which device it is, and then what `df` says of it.
const LOOK: &str = r#"stat -c "%Y %d" -- "$1" && df -Pk -- "$1""#;

/// The disk that a server keeps its databases on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerDisk {
    /// The server's data directory, as it is called where the server runs.
    pub directory: String,
    /// What is free on its file system.
    pub free_bytes: u64,
    /// The number of the file system's device, where the server runs on this host.
    pub device: Option<u64>,
}

/// Bytes that the databases of these names take on their server: what a restore beside them takes once more.
pub fn size_of<S: AsRef<str>>(
    session: &mut Session,
    databases: &[S],
) -> Result<u64, PostgresError> {
    #[derive(Deserialize)]
    struct Size {
        bytes: u64,
    }
    let names: Vec<String> = databases.iter().map(|name| literal(name.as_ref())).collect();
    let Size { bytes } = session.row(&format!(
        "SELECT coalesce(sum(pg_database_size(oid)), 0)::int8 AS bytes FROM pg_database WHERE datname::text = ANY (ARRAY[{}]::text[])",
        names.join(", ")
    ))?;
    Ok(bytes)
}

impl Connection {
    /// The server's disk; none where it cannot be seen: the programs run elsewhere, or the user may not ask where it is.
    pub fn disk(&self, session: &mut Session) -> Result<Option<ServerDisk>, PostgresError> {
        #[derive(Deserialize)]
        struct Place {
            directory: Option<String>,
            tells_changes: bool,
        }
        #[derive(Deserialize)]
        struct Changed {
            at: i64,
        }
        let host = self.target.host.as_deref().unwrap_or("/");
        if !host.starts_with('/') && !["localhost", "127.0.0.1", "::1"].contains(&host) {
            return Ok(None);
        }
        let Place { directory: Some(directory), tells_changes } = session.row(
            "SELECT CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END AS directory,
                has_function_privilege('pg_stat_file(text)', 'EXECUTE') AS tells_changes",
        )?
        else {
            return Ok(None);
        };
        let changed = if tells_changes {
            let query = "SELECT extract(epoch FROM (pg_stat_file('.')).modification)::bigint AS at";
            Some(session.row::<Changed>(query)?.at)
        } else {
            None
        };
        let looking = Command::shell(LOOK).argument(&directory);
        let Ok(answer) = self.access.run(&looking, &[], 64 * 1024) else { return Ok(None) };
        let Some((changed_here, device, free_bytes)) = parse(&String::from_utf8_lossy(&answer))
        else {
            return Ok(None);
        };
        // Behind a forwarded port the server is elsewhere, and here is another directory of that name.
        if changed.is_some_and(|changed| changed != changed_here) {
            return Ok(None);
        }
        let is_here = !self.access.via().hops().iter().any(|hop| matches!(hop, Hop::Ssh { .. }));
        Ok(Some(ServerDisk { directory, free_bytes, device: is_here.then_some(device) }))
    }
}

/// When the directory was changed, its device, and the free bytes.
fn parse(answer: &str) -> Option<(i64, u64, u64)> {
    let mut lines = answer.lines();
    let (changed, device) = lines.next()?.split_once(' ')?;
    let kib: u64 = lines.nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some((changed.parse().ok()?, device.parse().ok()?, kib.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stat_and_df_say_is_understood_or_nothing() {
        let answer = "1700000000 2049\nFilesystem 1024-blocks Used Available Capacity Mounted on\n/dev/sda1 100 60 40 60% /\n";
        assert_eq!(parse(answer), Some((1_700_000_000, 2049, 40 * 1024)));
        assert_eq!(parse("1700000000 2049\n"), None);
        assert_eq!(parse("stat: no such file\n"), None);
    }
}
