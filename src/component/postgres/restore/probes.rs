//! What a server only tells when it is tried: whether it knows a locale, and whether there is room.

use super::obstacles::obstacle;
use super::plan::Obstacle;
use crate::component::postgres::session::{Session, literal};
use crate::component::postgres::{Connection, DatabaseFacts, PostgresError, ServerDisk};
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

/// Whether there is room, where that can be asked.
pub(super) fn of_room(
    connection: &Connection,
    session: &mut Session,
    databases: &[DatabaseFacts],
) -> Result<Option<Obstacle>, PostgresError> {
    let Some(ServerDisk { directory, free_bytes: free, .. }) = connection.disk(session)? else {
        return Ok(None);
    };
    let needed: u64 = databases.iter().map(|facts| facts.size_bytes).sum();
    if free >= needed {
        return Ok(None);
    }
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
