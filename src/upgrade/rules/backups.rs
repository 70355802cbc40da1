//! The rules about snapshots: that both instances have one, young enough, whose keys fit. None of them has an override.

use super::{Case, Finding, SnapshotSeen};
use crate::model::manifest::KeyFit;
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Gate, RuleName};
use crate::upgrade::words::{ago, span, time};
use jiff::Timestamp;
use std::time::Duration;

fn said(environment: Environment, snapshot: &SnapshotSeen, now: Timestamp) -> String {
    let SnapshotSeen { id, time: taken, .. } = snapshot;
    format!("{environment}: snapshot {} of {} ({})", id.short(), time(*taken), ago(*taken, now))
}

/// There is no snapshot, as far as is known.
fn missing(rule: RuleName, case: &Case<'_>, finding: &mut Finding, environment: Environment) {
    // Why it is not known is told for all rules alike.
    if !case.seen.is_unread(rule, environment) {
        finding.saw(format!("{environment}: no snapshot"));
        finding.needs(back_up(case, environment));
    }
}

fn name<'a>(case: &Case<'a>, environment: Environment) -> &'a Name {
    match environment {
        Environment::Staging => &case.plan.staging.name,
        Environment::Production => &case.plan.production.name,
    }
}

/// What to do where there is no snapshot that would do.
fn back_up(case: &Case<'_>, environment: Environment) -> String {
    format!("back up {environment} (`belay backup {}`)", name(case, environment))
}

/// What to do where what writes has to stand still for it.
fn back_up_stopped(case: &Case<'_>, environment: Environment) -> String {
    let name = name(case, environment);
    format!(
        "back up {environment} with its writers stopped (`quiesce = true` in [instance.{name}], then `belay backup {name}`)"
    )
}

pub(super) fn both_backed_up(case: &Case<'_>) -> Finding {
    let mut finding = Finding::new();
    for (environment, instance) in case.sides() {
        let Some(snapshot) = &instance.snapshot else {
            missing(RuleName::BothBackedUp, case, &mut finding, environment);
            continue;
        };
        let SnapshotSeen { is_sealed, is_whole, is_of_one_moment, .. } = snapshot;
        let faults = [
            (!is_sealed, "is not sealed"),
            (!is_whole, "refers to what the repository has not"),
            (!is_of_one_moment, "is not of one moment"),
        ];
        let faults: Vec<&str> =
            faults.iter().filter(|(there, _)| *there).map(|(_, fault)| *fault).collect();
        let line = said(environment, snapshot, case.now);
        if faults.is_empty() {
            finding.saw(format!("{line}, sealed"));
        } else {
            finding.saw(format!("{line}, which {}", faults.join(" and ")));
            finding.needs(if *is_of_one_moment {
                back_up(case, environment)
            } else {
                back_up_stopped(case, environment)
            });
        }
    }
    finding
}

pub(super) fn fresh(case: &Case<'_>) -> Finding {
    let mut finding = Finding::new();
    for (environment, instance) in case.sides() {
        if case.gate == Gate::BeforeStop && environment == Environment::Production {
            finding.saw("production: backed up again once its writers have stopped");
            continue;
        }
        let Some(snapshot) = &instance.snapshot else {
            missing(RuleName::Fresh, case, &mut finding, environment);
            continue;
        };
        if case.gate == Gate::Production && environment == Environment::Production {
            stopped(case, snapshot, &mut finding);
        } else {
            young(case, environment, snapshot, &mut finding);
        }
    }
    finding
}

/// Nothing was written since it was taken.
fn stopped(case: &Case<'_>, snapshot: &SnapshotSeen, finding: &mut Finding) {
    let line = said(Environment::Production, snapshot, case.now);
    let since = case.seen.production.stopped_since;
    let is_last = since.is_some_and(|since| since <= snapshot.time) && snapshot.time <= case.now;
    match since {
        Some(since) => finding.saw(format!("{line}; its writers stopped at {}", time(since))),
        None => finding.saw(format!("{line}; its writers are not known to have stayed stopped")),
    }
    if !is_last {
        finding.needs("back up production while its writers are stopped");
    }
}

/// It is not older than the configuration allows. Before production is upgraded, staging's is measured when production's last was
/// begun, as nothing may come between that one and the upgrade.
fn young(
    case: &Case<'_>,
    environment: Environment,
    snapshot: &SnapshotSeen,
    finding: &mut Finding,
) {
    let last = case.seen.production.snapshot.as_ref().map(|last| last.time);
    let measured = match (case.gate, last) {
        (Gate::Production, Some(last)) => last.min(case.now),
        _ => case.now,
    };
    let most = case.plan.terms.fresh;
    let is_from_the_future = snapshot.time > case.now;
    let age = Duration::try_from(measured.duration_since(snapshot.time)).unwrap_or(Duration::ZERO);
    let line = said(environment, snapshot, case.now);
    finding.saw(format!("{line}, at most {} old", span(most)));
    if is_from_the_future {
        finding.needs(format!(
            "set the clock right, then {}: a snapshot from the future has no age",
            back_up(case, environment)
        ));
    } else if age > most {
        finding.needs(format!(
            "{}; where that takes longer than {}, the pair's `fresh` has to be longer",
            back_up(case, environment),
            span(most)
        ));
    }
}

pub(super) fn key_fit(case: &Case<'_>) -> Finding {
    let mut finding = Finding::new();
    for (environment, instance) in case.sides() {
        let Some(snapshot) = &instance.snapshot else {
            missing(RuleName::KeyFit, case, &mut finding, environment);
            continue;
        };
        let (verdict, fits) = match snapshot.key_fit {
            KeyFit::Fit => ("its keys decrypt what is encrypted in it", true),
            KeyFit::Unproven => ("nothing is encrypted in it", true),
            KeyFit::Unfit => ("its keys do not decrypt what is encrypted in it", false),
        };
        finding.saw(format!("{environment}: snapshot {}: {verdict}", snapshot.id.short()));
        if !fits {
            finding.needs(format!(
                "set {environment}'s own keys in its environment, then {}",
                back_up(case, environment)
            ));
        }
    }
    finding
}
