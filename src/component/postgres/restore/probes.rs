//! What a server only tells when it is tried: whether it knows a locale, and whether there is room.

use super::obstacles::obstacle;
use super::plan::Obstacle;
use crate::access::Command;
use crate::component::postgres::session::{Session, literal};
use crate::component::postgres::{Connection, DatabaseFacts, PostgresError};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Whether the server knows the databases' locales: a collation like each is made, and dropped again.
pub(super) fn of_locales(
    session: &mut Session,
    databases: &[DatabaseFacts],
) -> Result<Vec<Obstacle>, PostgresError> {
    #[derive(Deserialize)]
    struct Answer {
        encoding: String,
        problem: String,
    }
    let mut found = Vec::new();
    let mut asked = BTreeSet::new();
    for facts in databases {
        let DatabaseFacts { collate, ctype, provider, locale, .. } = facts;
        let locale = literal(locale.as_deref().unwrap_or_default());
        let mut probes = vec![format!(
            "provider = libc, lc_collate = {}, lc_ctype = {}",
            literal(collate),
            literal(ctype)
        )];
        match provider.as_str() {
            "i" => probes.push(format!("provider = icu, locale = {locale}")),
            "b" => probes.push(format!("provider = builtin, locale = {locale}")),
            _ => {}
        }
        for probe in probes {
            if !asked.insert((facts.encoding.clone(), probe.clone())) {
                continue;
            }
            let create = literal(&format!("CREATE COLLATION pg_temp.belay_probe ({probe})"));
            session.execute(&format!(
                "SELECT set_config('belay.problem', '', false), set_config('belay.probe', {create}, false) \\g /dev/null
                DO $probe$ BEGIN EXECUTE current_setting('belay.probe'); DROP COLLATION pg_temp.belay_probe;
                EXCEPTION WHEN OTHERS THEN PERFORM set_config('belay.problem', SQLERRM, false); END $probe$;"
            ))?;
            let answer: Answer = session.row(
                "SELECT current_setting('belay.problem') AS problem, current_setting('server_encoding') AS encoding",
            )?;
            // A locale fits one encoding only: for another one only the making of the database tells.
            if answer.encoding == facts.encoding && !answer.problem.is_empty() {
                found.push(obstacle(
                    format!("the server does not have the locale of the database {} ({probe}): {}", facts.name, answer.problem),
                    "make it on the server (locale-gen, or the package of locales), and restart the server",
                ));
            }
        }
    }
    Ok(found)
}

/// Whether there is room, where that can be asked: where the programs run on the server's own host.
pub(super) fn of_room(
    connection: &Connection,
    session: &mut Session,
    databases: &[DatabaseFacts],
) -> Result<Option<Obstacle>, PostgresError> {
    #[derive(Deserialize)]
    struct Place {
        directory: Option<String>,
    }
    let host = connection.target.host.as_deref().unwrap_or("/");
    if !host.starts_with('/') && !["localhost", "127.0.0.1", "::1"].contains(&host) {
        return Ok(None);
    }
    let Place { directory } = session.row(
        "SELECT current_setting('data_directory') AS directory WHERE pg_has_role('pg_read_all_settings', 'MEMBER')
        UNION ALL SELECT NULL LIMIT 1",
    )?;
    let needed: u64 = databases.iter().map(|facts| facts.size_bytes).sum();
    let free = directory.as_ref().and_then(|directory| free_bytes(connection, directory));
    let (Some(directory), Some(free)) = (directory, free.filter(|free| *free < needed)) else {
        return Ok(None);
    };
    let mib = |bytes: u64| bytes.div_ceil(1024 * 1024);
    Ok(Some(obstacle(
        format!(
            "the databases take {} MiB beside the present ones, and {directory} has {} MiB left",
            mib(needed),
            mib(free)
        ),
        "make room there",
    )))
}

fn free_bytes(connection: &Connection, directory: &str) -> Option<u64> {
    let asking = Command::new("df").arguments(["-Pk", "--", directory]);
    let output = connection.access.run(&asking, &[], 64 * 1024).ok()?;
    let text = String::from_utf8_lossy(&output).into_owned();
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}
