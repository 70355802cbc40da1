//! The daemon's API: HTTP over a Unix socket. Who asks is known by the kernel; whoever may open the socket may ask.
//!
//! Always so: a request is bounded in size, in time and in number, and a wrong one is answered with what is wrong. What is
//! asked of the daemon is done by the daemon; nothing here works on an instance or a repository. docs/API.md has the paths.

mod answer;
mod events;
mod jobs;
mod metrics;
mod server;
mod upgrades;

pub use server::{ServeError, Socket};

use crate::daemon::Daemon;
use answer::{Answer, blocking};
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use serde_json::json;
use std::sync::Arc;

/// The largest body that is read.
const MOST_BODY: usize = 64 * 1024;

/// All paths.
fn router(daemon: Arc<Daemon>) -> Router {
    Router::new()
        .route("/v1/daemon", get(about))
        .route("/v1/status", get(status))
        .route("/v1/instances", get(jobs::instances))
        .route("/v1/instances/{name}", get(jobs::instance))
        .route("/v1/snapshots", get(jobs::snapshots))
        .route("/v1/jobs", get(jobs::list).post(jobs::submit))
        .route("/v1/jobs/{id}", get(jobs::show))
        .route("/v1/jobs/{id}/cancel", post(jobs::cancel))
        .route("/v1/jobs/{id}/events", get(events::follow))
        .route("/v1/upgrades", get(upgrades::list))
        .route("/v1/upgrades/{name}", get(upgrades::show).post(upgrades::start))
        .route("/v1/upgrades/{name}/approve", upgrades::word("approve"))
        .route("/v1/upgrades/{name}/override", upgrades::word("override"))
        .route("/v1/upgrades/{name}/resume", upgrades::word("resume"))
        .route("/v1/upgrades/{name}/abort", upgrades::word("abort"))
        .route("/v1/upgrades/{name}/rollback", upgrades::word("rollback"))
        .route("/v1/upgrades/{name}/accept", upgrades::word("accept"))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .layer(DefaultBodyLimit::max(MOST_BODY))
        .layer(axum::middleware::map_response(answer::as_document))
        .with_state(daemon)
}

/// Which daemon this is.
async fn about(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || Ok(document(&daemon))).await
}

fn document(daemon: &Daemon) -> Answer {
    let config = daemon.settings.config();
    let (queued, running) = daemon.executor.lengths();
    Answer::json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "process": std::process::id(),
        "configuration": config.origin(),
        "configuration_digest": config.digest(),
        "state_dir": config.state_dir,
        "queued": queued,
        "running": running,
    }))
}

async fn status(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || Ok(Answer::json(&daemon.overview.status(&daemon.executor)?))).await
}

/// Whether the process lives and its executor does its work.
async fn healthz(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || match daemon.executor.hangs(None) {
        None => Ok(Answer::text("ok\n")),
        Some(why) => Err(Answer::unavailable(&format!("the executor hangs: {why}"))),
    })
    .await
}

/// Whether jobs can be taken: the catalog answers.
async fn readyz(State(daemon): State<Arc<Daemon>>) -> Answer {
    blocking(move || {
        let asked = daemon.executor.catalog().repositories();
        asked.map_err(|error| Answer::unavailable(&error.to_string()))?;
        if let Some(trouble) = daemon.settings.troubles().first() {
            return Err(Answer::unavailable(trouble));
        }
        Ok(Answer::text("ready\n"))
    })
    .await
}
