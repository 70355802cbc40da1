//! The rules about everything around: room, people, time, apps and drills. Each has an override.

use super::{Case, Drill, Finding, Room};
use crate::model::size::Bytes;
use crate::model::upgrade::Gate;
use crate::policy::readable::Readability;
use crate::upgrade::words::{ago, span, time};
use std::time::Duration;

pub(super) fn room(case: &Case<'_>) -> Finding {
    if case.seen.room.is_empty() && case.seen.way_back.is_empty() {
        return Finding::not_applicable("nothing needs room");
    }
    let mut finding = Finding::new();
    case.seen.way_back.iter().for_each(|said| finding.saw(said.clone()));
    for Room { environment, what, place, needed_bytes, free_bytes } in &case.seen.room {
        let needed = Bytes(*needed_bytes);
        if let Some(free) = free_bytes {
            finding.saw(format!(
                "{environment}: {what} needs {needed} in {place}, where {} are free",
                Bytes(*free)
            ));
            if free < needed_bytes {
                let lack = Bytes(needed_bytes - free);
                finding.needs(format!("free {lack} in {place} of {environment}"));
            }
        } else {
            finding.saw(format!(
                    "{environment}: {what} needs {needed} in {place}, and how much is free could not be told"
                ));
            finding.needs(format!("see that {place} of {environment} can be looked at"));
        }
    }
    finding
}

pub(super) fn approved(case: &Case<'_>) -> Finding {
    let approvers = &case.plan.terms.approvers;
    if case.gate == Gate::Staging {
        return Finding::not_applicable("it is asked before production is upgraded");
    }
    if approvers.is_empty() {
        return Finding::not_applicable("the pair has no `approvers`");
    }
    let mut finding = Finding::new();
    let digest = case.plan.digest();
    let counts = case
        .approvals
        .iter()
        .find(|it| it.hop == case.hop && it.plan == digest && approvers.contains(&it.by));
    if let Some(approval) = counts {
        let reason = approval.reason.as_deref().map(|reason| format!(": {reason}"));
        finding.saw(format!("{} approved{}", approval.by, reason.unwrap_or_default()));
        return finding;
    }
    for approval in case.approvals {
        let why = if !approvers.contains(&approval.by) {
            "who is no approver"
        } else if approval.plan != digest {
            "but of another plan"
        } else {
            "but another hop of the plan"
        };
        finding.saw(format!("{} approved, {why}", approval.by));
    }
    if finding.evidence.is_empty() {
        finding.saw("nobody has approved");
    }
    finding.needs(format!(
        "one of {} says `belay upgrade approve {}` once staging has passed",
        approvers.join(", "),
        case.plan.pair
    ));
    finding
}

pub(super) fn window(case: &Case<'_>) -> Finding {
    if case.gate == Gate::Staging {
        return Finding::not_applicable("it is asked before production is upgraded");
    }
    let windows = &case.plan.terms.windows;
    if windows.is_empty() {
        return Finding::not_applicable("the pair has no `window`");
    }
    let mut finding = Finding::new();
    finding.saw(format!("production is upgraded {}", windows.join(" or ")));
    match &case.seen.window {
        Some(window) if window.is_open => {}
        Some(window) => match window.opens_at {
            Some(opens) => {
                finding.needs(format!("wait until {}", time(opens)));
                finding.passes_at = Some(opens);
            }
            None => finding.needs("configure a window that opens some day, and make a new plan"),
        },
        None => finding.needs("see that the pair's `window` can be read"),
    }
    finding
}

pub(super) fn apps_readable(case: &Case<'_>) -> Finding {
    if case.seen.apps.is_empty() {
        return Finding::not_applicable("no apps in git repositories are known of production");
    }
    let mut finding = Finding::new();
    for app in &case.seen.apps {
        match &app.readability {
            Readability::Readable => {}
            Readability::NotReadable { reason } | Readability::Unknown { reason } => {
                finding.saw(format!("{}: {reason}", app.name));
                finding.needs(
                    "see that the new version can read what production pulls (`belay apps status`)",
                );
            }
        }
    }
    let readable =
        case.seen.apps.iter().filter(|app| app.readability == Readability::Readable).count();
    finding.saw(format!(
        "{readable} of {} apps can be read by {}",
        case.seen.apps.len(),
        case.hop().to
    ));
    finding
}

pub(super) fn drilled(case: &Case<'_>) -> Finding {
    let Some(most) = case.plan.terms.drilled else {
        return Finding::not_applicable("the pair asks for no drill");
    };
    let mut finding = Finding::new();
    let drill = "let production's snapshots be drilled";
    match &case.seen.drill {
        None => {
            finding.saw("production's snapshots were never drilled");
            finding.needs(drill);
        }
        Some(Drill { at, passed }) => {
            let word = if *passed { "passed" } else { "failed" };
            finding.saw(format!(
                "the last drill {word}, {}, at most {} ago",
                ago(*at, case.now),
                span(most)
            ));
            let age = Duration::try_from(case.now.duration_since(*at));
            if !passed || age.is_err() || age.is_ok_and(|age| age > most) {
                finding.needs(drill);
            }
        }
    }
    finding
}
