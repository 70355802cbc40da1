//! What `belay apps` tells people of the instances that apps run on: what they pulled, and what they have that Git has not.

use super::text::short;
use crate::cli::render::{counted, local_time};
use crate::ops::apps::outside::{Outside, OutsideKind};
use crate::ops::apps::pulled::Pulled;
use crate::ops::apps::status::Side;

pub(super) fn pulled_lines(name: &str, side: &Side, lines: &mut Vec<String>) {
    if let Some(reason) = &side.pulled_unknown {
        lines.push(format!("  What {name} really pulled is not known: {reason}."));
        return;
    }
    if side.pulled.is_empty() {
        lines.push(format!("  {name} has pulled no app of this git repository."));
    }
    lines.extend(side.pulled.iter().map(|pulled| pulled_line(name, pulled)));
}

fn pulled_line(name: &str, pulled: &Pulled) -> String {
    let mut parts = Vec::new();
    parts.extend(pulled.branch.as_ref().map(|branch| format!("branch {branch}")));
    if let Some(commit) = &pulled.commit {
        let message = pulled.message.as_deref().and_then(|message| message.lines().next());
        let message = message.map(|message| format!(" ({message})")).unwrap_or_default();
        parts.push(format!("commit {}{message}", short(commit)));
    }
    parts.extend(pulled.at.map(|at| format!("at {}", local_time(at))));
    parts.push(match (pulled.is_in_mirror, pulled.behind) {
        (Some(false), _) => "a commit that the mirror does not have: was it never pushed?".into(),
        (_, Some(0)) => "nothing is missing there".into(),
        (_, Some(behind)) => {
            format!("{} behind its branch", counted(behind, "commit", "commits"))
        }
        _ => "at which commit is not said there".into(),
    });
    parts.extend(pulled.may_edit.map(|may| {
        if may { "may be edited there".to_owned() } else { "may not be edited there".to_owned() }
    }));
    format!("  {name} pulled {}: {}.", pulled.app, parts.join(", "))
}

/// What Git does not hold.
pub(super) fn outside(all: &[Outside]) -> String {
    let mut lines = Vec::new();
    for outside in all {
        let Outside { instance, snapshot, taken_at, kinds, unknown, advice, .. } = outside;
        lines.push(String::new());
        if let (Some(id), Some(at)) = (snapshot, taken_at) {
            lines.push(format!(
                "Not in Git: set by hand, or back with the instance, belay restore {} --into {instance} (as of {}):",
                id.short(),
                local_time(*at)
            ));
        }
        if let Some(reason) = unknown {
            lines.push(format!("What Git does not hold of {instance} is not known: {reason}."));
        }
        lines.extend(kinds.iter().map(kind_line));
        lines.extend(advice.as_ref().map(|advice| format!("  {advice}")));
    }
    lines.join("\n")
}

fn kind_line(kind: &OutsideKind) -> String {
    let OutsideKind { title, count, names, .. } = kind;
    let shown: Vec<&str> = names.iter().take(20).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let colon = if shown.is_empty() { "" } else { ": " };
    format!("  {title} ({count}){colon}{}{more}", shown.join(", "))
}
