//! Jobs, instances and snapshots.

use super::answer::{Answer, blocking};
use super::server::Peer;
use crate::catalog::{Catalog, EntryState, Job, Outcome};
use crate::daemon::Daemon;
use crate::daemon::executor::INTERRUPTED;
use crate::model::id::JobId;
use crate::model::job::{Ended, Failure, Work};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// More of a list are not given at once.
const MOST: u32 = 1_000;
const DEFAULT: u32 = 50;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub(super) limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfInstance {
    instance: Option<String>,
    limit: Option<u32>,
}

/// Queries that cannot be read are wrong requests.
pub(super) type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

pub(super) fn asked<T>(query: Asked<T>) -> Result<T, Answer> {
    query
        .map(|Query(query)| query)
        .map_err(|error| Answer::bad(&error.body_text(), "docs/API.md has what can be asked"))
}

pub(super) fn limit_of(limit: Option<u32>) -> Result<u32, Answer> {
    match limit {
        Some(0) => Err(Answer::bad("the limit is 0", &format!("ask for 1 to {MOST}"))),
        limit => Ok(limit.unwrap_or(DEFAULT).min(MOST)),
    }
}

/// An id, or what is wrong with it.
pub(super) fn id_of(text: &str) -> Result<JobId, Answer> {
    text.parse().map_err(|error: crate::model::id::ParseIdError| {
        Answer::bad(&error.to_string(), "GET /v1/jobs lists the jobs with their ids")
    })
}

fn no_such_job(id: JobId) -> Answer {
    Answer::unknown(&format!("there is no job {id}"), Some("GET /v1/jobs lists the jobs"))
}

/// What is asked for, or what is wrong with it.
fn work_of(body: &[u8]) -> Result<Work, Answer> {
    serde_json::from_slice(body).map_err(|error| {
        let hint = "send such as {\"kind\":\"backup\",\"instance\":\"NAME\"}";
        Answer::bad(&format!("the job cannot be read: {error}"), hint)
    })
}

pub(super) async fn submit(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer {
    blocking(move || {
        let work = work_of(&body)?;
        if let Work::Upgrade(work) = &work {
            let hint = format!("POST /v1/upgrades/{} begins one", work.pair);
            return Err(Answer::bad("an upgrade is no job that is asked for here", &hint));
        }
        let id = daemon.executor.submit(work, &peer.name)?;
        Ok(Answer::document(StatusCode::ACCEPTED, &json!({ "id": id })))
    })
    .await
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, query: Asked<Limit>) -> Answer {
    blocking(move || {
        let limit = limit_of(asked(query)?.limit)?;
        let entries = daemon.executor.catalog().entries(limit)?;
        Ok(Answer::json(&json!({ "jobs": entries })))
    })
    .await
}

pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(id): Path<String>) -> Answer {
    blocking(move || {
        let id = id_of(&id)?;
        let catalog = daemon.executor.catalog();
        if let Some(entry) = catalog.entry(id)? {
            return Ok(Answer::json(&entry));
        }
        let job = catalog.job(id)?.ok_or_else(|| no_such_job(id))?;
        Ok(Answer::json(&of_command(&job)))
    })
    .await
}

/// A job that a command ran by itself, in the shape of the daemon's own.
fn of_command(job: &Job) -> Value {
    let start = &job.start;
    let ended = end_of_command(job);
    json!({
        "id": start.id,
        "work": {
            "kind": start.kind,
            "instance": start.instance_name,
            "repository": start.repository,
        },
        "state": if ended.is_some() { EntryState::Ended } else { EntryState::Running },
        "origin": "command",
        "submitted_by": null,
        "submitted_at": start.started_at,
        "due": null,
        "not_before": null,
        "attempt": 1,
        "gave_way": 0,
        "cut_off": 0,
        "ended_at": job.finished_at,
        "ended": ended,
    })
}

/// How a job that a command ran by itself ended. The catalog has no exit code of it: it has the one that is usual.
fn end_of_command(job: &Job) -> Option<Ended> {
    let exit_code = match job.outcome {
        Outcome::Running => return None,
        Outcome::Done => 0,
        Outcome::Warned => 3,
        Outcome::Failed | Outcome::NoRoom => 1,
        Outcome::Interrupted => INTERRUPTED,
    };
    let failure = match &job.failure {
        Some(failure) => Some(Failure { error: failure.error.clone(), hint: failure.hint.clone() }),
        None if exit_code == INTERRUPTED => {
            Some(Failure { error: "interrupted".into(), hint: None })
        }
        None => None,
    };
    let document = job.snapshot.map_or(Value::Null, |id| json!({ "id": id }));
    Some(Ended { exit_code, text: String::new(), document, failure, may_pass: false })
}

/// How a job ended, whoever ran it; none where it has not.
pub(super) fn end_of(catalog: &Catalog, id: JobId) -> Result<Option<Ended>, Answer> {
    if let Some(entry) = catalog.entry(id)? {
        return Ok(entry.ended);
    }
    let job = catalog.job(id)?.ok_or_else(|| no_such_job(id))?;
    Ok(end_of_command(&job))
}

pub(super) async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Answer {
    blocking(move || {
        let id = id_of(&id)?;
        refuse_upgrade(&daemon, id)?;
        if daemon.executor.cancel(id, &peer.name)? {
            return Ok(Answer::document(StatusCode::ACCEPTED, &json!({ "id": id })));
        }
        if end_of(&daemon.executor.catalog(), id)?.is_some() {
            return Err(Answer::problem(
                StatusCode::CONFLICT,
                &format!("job {id} is over"),
                Some("a job that waits or runs can be cancelled"),
            ));
        }
        Err(Answer::problem(
            StatusCode::CONFLICT,
            &format!("the daemon does not run job {id}: a command does"),
            Some("stop the command itself"),
        ))
    })
    .await
}

/// Half an upgrade helps nobody, and would be gone on with by itself.
fn refuse_upgrade(daemon: &Daemon, id: JobId) -> Result<(), Answer> {
    let open = daemon.executor.open_jobs();
    let found = open.iter().find(|entry| entry.id == id).map(|entry| &entry.work);
    let Some(Work::Upgrade(work)) = found else { return Ok(()) };
    let pair = &work.pair;
    let hint = format!(
        "belay upgrade abort {pair} gives it up before production is touched, belay upgrade rollback {pair} brings the old version back"
    );
    let error = format!("job {id} is an upgrade, which is not left half done");
    Err(Answer::problem(StatusCode::CONFLICT, &error, Some(&hint)))
}

pub(super) async fn instances(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || {
        let status = daemon.overview.status(&daemon.executor)?;
        Ok(Answer::json(&json!({ "instances": status.instances })))
    })
    .await
}

pub(super) async fn instance(
    State(daemon): State<Arc<Daemon>>,
    Path(name): Path<String>,
) -> Answer {
    blocking(move || {
        daemon.settings.config().instance(&name)?;
        let status = daemon.overview.status(&daemon.executor)?;
        let found = status.instances.into_iter().find(|instance| instance.name == name);
        found
            .map(|instance| Answer::json(&instance))
            .ok_or_else(|| Answer::unavailable(&format!("nothing is known of {name} just now")))
    })
    .await
}

/// What the catalog knows; the repositories themselves are not asked.
pub(super) async fn snapshots(
    State(daemon): State<Arc<Daemon>>,
    query: Asked<OfInstance>,
) -> Answer {
    blocking(move || {
        let OfInstance { instance, limit } = asked(query)?;
        let limit = limit_of(limit)?;
        let catalog = daemon.executor.catalog();
        let mut found = Vec::new();
        for repository in catalog.repositories()? {
            let records = catalog.newest_snapshots(repository.id, instance.as_deref(), limit)?;
            found.extend(records.into_iter().map(|record| (repository.name.clone(), record)));
        }
        drop(catalog);
        // One that is configured no longer may have snapshots.
        if let Some(name) = instance.filter(|_| found.is_empty()) {
            daemon.settings.config().instance(&name)?;
        }
        found.sort_by_key(|(_, record)| std::cmp::Reverse((record.time, record.id)));
        found.truncate(limit as usize);
        let snapshots: Vec<Value> = found
            .iter()
            .map(|(repository, record)| {
                json!({
                    "id": record.id,
                    "instance": record.instance_name,
                    "platform": record.platform,
                    "host": record.host,
                    "time": record.time,
                    "repository": repository,
                    "sealed": record.sealed,
                    "key_fit": record.key_fit,
                    "size_bytes": record.size_bytes,
                    "read_bytes": record.read_bytes,
                    "added_bytes": record.added_bytes,
                    "tags": record.tags,
                })
            })
            .collect();
        Ok(Answer::json(&json!({ "snapshots": snapshots })))
    })
    .await
}
