//! Upgrades: what they are at, and what people say to them. Who says it is who the kernel says that is connected, and nobody else.

use super::answer::{Answer, blocking};
use super::jobs::{Asked, Limit, asked, limit_of};
use super::server::Peer;
use crate::config::Pair;
use crate::daemon::Daemon;
use crate::model::event::{Cancel, Events};
use crate::model::id::{JobId, Sha256};
use crate::model::job::{UpgradeStart, UpgradeWork, Work};
use crate::model::upgrade::{Request, RuleName};
use crate::ops::{Context, OpsError};
use crate::upgrade::conduct::{self, Heard};
use crate::upgrade::hands::{Said, Word};
use crate::upgrade::journals;
use crate::upgrade::machine::Upgrade;
use crate::upgrade::path;
use crate::upgrade::shown::{Glance, with_tests};
use axum::Extension;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{MethodRouter, post};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::sync::Arc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    to: String,
    #[serde(default)]
    stops: Vec<String>,
    plan: Sha256,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    plan: Sha256,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Override {
    rule: RuleName,
    reason: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resume {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Abort {
    reason: Option<String>,
    #[serde(default)]
    keep_staging: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RollBack {
    reason: Option<String>,
    #[serde(default)]
    discard_current: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    reason: String,
}

/// A document that was sent; none is an empty one.
fn read<T: DeserializeOwned>(body: &[u8], such_as: &str) -> Result<T, Answer> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        Answer::bad(
            &format!("what is said cannot be read: {error}"),
            &format!("send such as {such_as}"),
        )
    })
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, query: Asked<Limit>) -> Answer {
    blocking(move || {
        let limit = limit_of(asked(query)?.limit)?;
        let config = daemon.settings.config();
        let all = journals::upgrades(&config, None)?;
        let some = all.iter().take(limit as usize);
        let upgrades: Vec<Glance> = some.map(|upgrade| Glance::of(upgrade, &config)).collect();
        Ok(Answer::json(&json!({ "upgrades": upgrades })))
    })
    .await
}

/// The newest upgrade of a pair, or the one of that id.
pub(super) async fn show(State(daemon): State<Arc<Daemon>>, Path(name): Path<String>) -> Answer {
    blocking(move || {
        let config = daemon.settings.config();
        let all = journals::upgrades(&config, None)?;
        let is_meant = |upgrade: &&Upgrade| {
            let journal = upgrade.journal();
            journal.plan.pair.as_str() == name || journal.id.to_string() == name
        };
        let Some(upgrade) = all.iter().find(is_meant) else {
            let told = match config.pair(&name) {
                Ok(pair) => format!("there was no upgrade of {} yet", pair.name),
                Err(_) => format!("there is no pair and no upgrade '{name}'"),
            };
            return Err(Answer::unknown(&told, Some("GET /v1/upgrades lists them")));
        };
        let tests = daemon.executor.catalog().upgrade_tests(upgrade.journal().id)?;
        Ok(Answer::json(&with_tests(upgrade, &config, &tests)))
    })
    .await
}

/// Begin an upgrade: a job makes the plan anew, and goes by it where it is the one that was looked at.
pub(super) async fn start(
    State(daemon): State<Arc<Daemon>>,
    Extension(peer): Extension<Peer>,
    Path(pair): Path<String>,
    body: Bytes,
) -> Answer {
    blocking(move || {
        let such_as =
            "{\"to\":\"VERSION\",\"plan\":\"DIGEST\"}, with what `belay upgrade plan --json` says";
        let Start { to, stops, plan } = read(&body, such_as)?;
        let config = daemon.settings.config();
        let pair = config.pair(&pair)?;
        conduct::may_start(&config, pair)?;
        path::target(&to).map_err(|no| {
            let hint = Some(no.hint());
            OpsError::Gate { message: no.to_string(), hint }
        })?;
        let start = Some(UpgradeStart { to, stops, plan, by: peer.name.clone() });
        let work = Work::Upgrade(UpgradeWork { pair: pair.name.clone(), start });
        let id = daemon.executor.submit(work, &peer.name)?;
        Ok(Answer::document(StatusCode::ACCEPTED, &json!({ "id": id })))
    })
    .await
}

/// What says `word` to the upgrade of a pair that is on its way.
pub(super) fn word(word: &'static str) -> MethodRouter<Arc<Daemon>> {
    let say = move |State(daemon): State<Arc<Daemon>>,
                    Extension(peer): Extension<Peer>,
                    Path(pair): Path<String>,
                    body: Bytes| say(word, daemon, peer, pair, body);
    post(say)
}

async fn say(
    word: &'static str,
    daemon: Arc<Daemon>,
    peer: Peer,
    pair: String,
    body: Bytes,
) -> Answer {
    blocking(move || {
        let config = daemon.settings.config();
        let pair = config.pair(&pair)?;
        let (what, reason) = said(word, &body)?;
        let context = Context::new(Events::ignored(), Cancel::new());
        let secrets = &daemon.settings.secrets;
        let scene = conduct::scene(&config, secrets, pair.name.as_str(), &context)?;
        let changes_course = matches!(what, Said::Ask { .. });
        let (upgrade, heard) = if matches!(what, Said::Ask { request: Request::Resume }) {
            // What merely waits, or was interrupted, goes on without being asked to.
            let upgrade = conduct::on_its_way(&config, pair)?;
            if upgrade.possible().contains(&Request::Resume) {
                conduct::say(&scene, &Word { by: peer.name.clone(), reason, what })?
            } else {
                (upgrade, Heard::Noted)
            }
        } else {
            conduct::say(&scene, &Word { by: peer.name.clone(), reason, what })?
        };
        let by = changes_course.then_some(peer.name.as_str());
        let job = going_on(&daemon, pair, heard, by)?;
        let id = upgrade.journal().id;
        tracing::info!("{}: {} says {word} to upgrade {id}", pair.name, peer.name);
        let document = json!({ "upgrade": id, "heard": heard, "job": job });
        Ok(Answer::document(StatusCode::ACCEPTED, &document))
    })
    .await
}

/// The job that goes on with the upgrade, and hears what was said: the one that is there, or for a change of course a new one.
fn going_on(
    daemon: &Daemon,
    pair: &Pair,
    heard: Heard,
    by: Option<&str>,
) -> Result<Option<JobId>, Answer> {
    let job = match (heard, by) {
        (Heard::Noted, Some(by)) => Some(daemon.executor.go_on(&pair.name, Some(by))?),
        _ => daemon.executor.upgrade_job(&pair.name),
    };
    daemon.upgrades.wake();
    Ok(job)
}

/// What is said, and why.
fn said(word: &str, body: &[u8]) -> Result<(Said, Option<String>), Answer> {
    let ask = |request| Said::Ask { request };
    Ok(match word {
        "approve" => {
            let Approve { plan, reason } = read(body, "{\"plan\":\"DIGEST\"}")?;
            (Said::Approve { plan }, reason)
        }
        "override" => {
            let Override { rule, reason } = read(body, "{\"rule\":\"NAME\",\"reason\":\"TEXT\"}")?;
            (Said::Override { rule }, Some(reason))
        }
        "resume" => {
            let Resume {} = read(body, "{}")?;
            (ask(Request::Resume), None)
        }
        "abort" => {
            let Abort { reason, keep_staging } = read(body, "{\"reason\":\"TEXT\"}")?;
            (ask(Request::Abort { keep_staging }), reason)
        }
        "rollback" => {
            let RollBack { reason, discard_current } = read(body, "{\"reason\":\"TEXT\"}")?;
            (ask(Request::RollBack { discard_current }), reason)
        }
        "accept" => {
            let Accept { reason } = read(body, "{\"reason\":\"TEXT\"}")?;
            (ask(Request::AcceptBack), Some(reason))
        }
        word => {
            return Err(Answer::unknown(
                &format!("nobody can say '{word}' to an upgrade"),
                Some("say approve, override, resume, abort, rollback or accept"),
            ));
        }
    })
}
