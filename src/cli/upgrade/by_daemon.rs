//! Upgrades by the daemon: what a person wants is said over its socket, and what it does is followed.
//!
//! What always holds: the daemon knows who says something by the credentials of the connection; leaving here ends nothing there.

use super::text;
use crate::cli::exit::{Exit, Failure};
use crate::cli::open::Environment;
use crate::cli::perform::succeeded;
use crate::cli::remote::{Remote, Spoken};
use crate::config::{Config, Pair};
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::model::upgrade::{Plan, Request, RuleName};
use crate::upgrade::machine::State;
use serde_json::{Value, json};

/// The daemon, or why there is none and what else there is.
pub(super) fn needed(config: &Config) -> Result<Remote, Failure> {
    Remote::needed(config).map_err(|failure| {
        let or = "with --foreground this process does the steps";
        let hint = failure.hint.map_or_else(|| or.to_owned(), |hint| format!("{hint}; {or}"));
        Failure { hint: Some(hint), ..failure }
    })
}

/// Begin an upgrade by a plan that was looked at.
pub(super) fn start(
    pair: &Name,
    to: &str,
    stops: &[String],
    plan: &Plan,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let daemon = needed(environment.config()?)?;
    let job =
        daemon.start_upgrade(pair, &json!({ "to": to, "stops": stops, "plan": plan.digest() }))?;
    follow(&daemon, job, None, environment)
}

/// Say yes to the plan that is on its way.
pub(super) fn approve(
    daemon: &Remote,
    pair: &Pair,
    reason: Option<String>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let found = daemon.upgrade(&pair.name)?;
    let plan = &found["upgrade"]["plan_digest"];
    let body = with_reason(json!({ "plan": plan }), reason);
    shown(&daemon.say(&pair.name, "approve", &body)?, environment)
}

/// Say that a rule is no hindrance.
pub(super) fn overrule(
    daemon: &Remote,
    pair: &Pair,
    rule: RuleName,
    reason: &str,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let body = json!({ "rule": rule, "reason": reason });
    shown(&daemon.say(&pair.name, "override", &body)?, environment)
}

/// Go on: try again what failed, ask again the rules that said no.
pub(super) fn resume(pair: &Pair, environment: &Environment) -> Result<Exit, Failure> {
    ask(pair, "resume", &json!({}), None, environment)
}

/// Give an upgrade up.
pub(super) fn abort(
    pair: &Pair,
    request: Request,
    reason: Option<String>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let keep = matches!(request, Request::Abort { keep_staging: true });
    let body = with_reason(json!({ "keep_staging": keep }), reason);
    ask(pair, "abort", &body, Some(State::Aborted), environment)
}

/// Bring production's old version back.
pub(super) fn rollback(
    pair: &Pair,
    request: Request,
    reason: Option<String>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let discard = matches!(request, Request::RollBack { discard_current: true });
    let body = with_reason(json!({ "discard_current": discard }), reason);
    ask(pair, "rollback", &body, Some(State::RolledBack), environment)
}

/// Say that production, put back, is right although its tests say no.
pub(super) fn accept(
    pair: &Pair,
    reason: String,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let body = with_reason(json!({}), Some(reason));
    ask(pair, "accept", &body, Some(State::RolledBack), environment)
}

/// Say what changes the course, and follow what comes of it. To end as `wanted` is no failure then.
fn ask(
    pair: &Pair,
    word: &str,
    body: &Value,
    wanted: Option<State>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let daemon = needed(environment.config()?)?;
    let spoken = daemon.say(&pair.name, word, body)?;
    match spoken.job {
        Some(job) => follow(&daemon, job, wanted, environment),
        None => shown(&spoken, environment),
    }
}

fn with_reason(mut body: Value, reason: Option<String>) -> Value {
    if let Some(reason) = reason {
        body["reason"] = reason.into();
    }
    body
}

/// What became of a word that changes no course.
fn shown(spoken: &Spoken, environment: &Environment) -> Result<Exit, Failure> {
    environment.show(spoken, || match (spoken.is_left(), spoken.job) {
        (true, _) => text::left(),
        (false, Some(job)) => {
            format!("Noted. The daemon goes on: `belay job follow {job}` shows it.")
        }
        (false, None) => {
            "Noted. The daemon goes on when the upgrade need not wait any more.".into()
        }
    })
}

/// Show what the daemon does until the upgrade rests. Who stops looking stops nothing: half an upgrade helps nobody.
fn follow(
    daemon: &Remote,
    job: JobId,
    wanted: Option<State>,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let ended = succeeded(daemon.follow(job, &environment.context, false)?)?;
    let shown = environment.show(&ended.document, || ended.text)?;
    let is_wanted = wanted.is_some_and(|wanted| ended.document["state"] == json!(wanted));
    Ok(if is_wanted { shown } else { Exit::from_code(ended.exit_code).or(shown) })
}
