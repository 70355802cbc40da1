//! Jobs, instances and snapshots.

use super::answer::{Answer, blocking};
use super::server::Peer;
use crate::catalog::{Entry, Job};
use crate::daemon::Daemon;
use crate::model::id::{JobId, RepositoryId};
use crate::model::job::Work;
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
    limit: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfInstance {
    instance: Option<String>,
    limit: Option<u32>,
}

/// Queries that cannot be read are wrong requests.
type Asked<T> = Result<Query<T>, axum::extract::rejection::QueryRejection>;

fn asked<T>(query: Asked<T>) -> Result<T, Answer> {
    query
        .map(|Query(query)| query)
        .map_err(|error| Answer::bad(&error.body_text(), "docs/API.md has what can be asked"))
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

pub(super) async fn submit(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Answer {
    let work: Work = match serde_json::from_slice(&body) {
        Ok(work) => work,
        Err(error) => {
            let hint = "send such as {\"kind\":\"backup\",\"instance\":\"NAME\"}";
            return Answer::bad(&format!("the job cannot be read: {error}"), hint);
        }
    };
    blocking(move || {
        let id = daemon.executor.submit(work, &peer.name)?;
        Ok(Answer::document(StatusCode::ACCEPTED, &json!({ "id": id })))
    })
    .await
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, query: Asked<Limit>) -> Answer {
    blocking(move || {
        let limit = asked(query)?.limit.unwrap_or(DEFAULT).min(MOST);
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
        // One that the command line ran by itself.
        let job = catalog.job(id)?.ok_or_else(|| no_such_job(id))?;
        Ok(Answer::json(&of_job(&job)))
    })
    .await
}

fn of_job(job: &Job) -> Value {
    json!({
        "id": job.start.id,
        "kind": job.start.kind,
        "instance": job.start.instance_name,
        "repository": job.start.repository,
        "started_at": job.start.started_at,
        "finished_at": job.finished_at,
        "outcome": job.outcome,
        "snapshot": job.snapshot,
        "error": job.failure.as_ref().map(|failure| &failure.error),
        "hint": job.failure.as_ref().and_then(|failure| failure.hint.as_ref()),
    })
}

pub(super) async fn cancel(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
) -> Answer {
    blocking(move || {
        let id = id_of(&id)?;
        if daemon.executor.cancel(id, &peer.name)? {
            return Ok(Answer::document(StatusCode::ACCEPTED, &json!({ "id": id })));
        }
        let known = daemon.executor.catalog().entry(id)?;
        let Some(Entry { .. }) = known else { return Err(no_such_job(id)) };
        Err(Answer::problem(StatusCode::CONFLICT, &format!("job {id} is over"), None))
    })
    .await
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
        let config = daemon.settings.config();
        config
            .instance(&name)
            .map_err(|error| Answer::unknown(&error.to_string(), Some(&error.hint)))?;
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
        let limit = limit.unwrap_or(DEFAULT).min(MOST) as usize;
        let catalog = daemon.executor.catalog();
        let mut found = Vec::new();
        for repository in catalog.repositories()? {
            let records = catalog.snapshots(RepositoryId(repository.id.0))?;
            found.extend(records.into_iter().map(|record| (repository.name.clone(), record)));
        }
        drop(catalog);
        found.retain(|(_, record)| {
            instance.as_ref().is_none_or(|instance| record.instance_name == *instance)
        });
        found.sort_by_key(|(_, record)| std::cmp::Reverse(record.time));
        found.truncate(limit);
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
                    "added_bytes": record.added_bytes,
                    "tags": record.tags,
                })
            })
            .collect();
        Ok(Answer::json(&json!({ "snapshots": snapshots })))
    })
    .await
}
