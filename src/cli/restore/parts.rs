//! What a restore of an instance's parts says before and after.

use crate::cli::render::{age, counted, local_time};
use crate::ops::restore::into::PresentState;
use crate::ops::restore::parts::{DatabasePlan, PartsPlan, RedisPlan, RestoredParts};

pub(super) fn plan_text(plan: &PartsPlan) -> String {
    let on = plan.database.as_ref().map(|it| format!(" on {}", it.server)).unwrap_or_default();
    let mut lines = vec![format!(
        "Restore snapshot {}, taken {}, into the instance {}{on}:",
        plan.snapshot.short(),
        local_time(plan.time),
        plan.instance,
    )];
    if let Some(DatabasePlan { database, collections, documents, replaced, extra, .. }) =
        &plan.database
    {
        let documents = counted(*documents, "document", "documents");
        let collections = counted(*collections, "collection", "collections");
        lines.push(format!("  database {database}: {collections} with {documents}"));
        if *replaced > 0 {
            let replaced = counted(*replaced, "collection", "collections");
            lines.push(format!("  in place of {replaced} that it has now"));
        }
        if !extra.is_empty() {
            lines.push(format!("  not in the snapshot, so they go: {}", extra.join(", ")));
        }
    }
    let directories = plan.directories.iter();
    lines.extend(directories.map(|(name, path)| format!("  directory {name}: {path}")));
    if let Some(RedisPlan { server, scope, loads }) = &plan.redis {
        let loads = if *loads { ", and its keys that are no caches are loaded" } else { "" };
        lines.push(format!("  {server}: {scope} flushed{loads}"));
    }
    if !plan.environment.is_empty() {
        lines.push(format!("  keys of the snapshot: {}", plan.environment.join(", ")));
    }
    if !plan.environment_added.is_empty() {
        let added = plan.environment_added.join(", ");
        lines.push(format!("  added to the environment, which lacks them: {added}"));
    }
    lines.extend(plan.warnings.iter().map(|warning| format!("  WARNING: {warning}")));
    lines.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(match plan.present_state {
        PresentState::Nothing => "Nothing is there now that could be lost.".into(),
        PresentState::Snapshot => {
            "The present state goes into a snapshot first, which is pinned.".into()
        }
        _ => "The present state goes into NO snapshot, as asked for; it is kept aside.".into(),
    });
    lines.push(if plan.stops_writers {
        "What writes to it is stopped for the swap, and started again.".into()
    } else if plan.is_down {
        "Its container does not run: leave it so until this is done.".into()
    } else {
        "Stop the programs that write to it: what they write meanwhile is only set aside.".into()
    });
    lines.join("\n")
}

pub(super) fn done_text(restored: &RestoredParts) -> String {
    let plan = &restored.plan;
    let what = if plan.is_whole { "" } else { "What was asked for of " };
    let mut lines = vec![format!(
        "{what}{} is as it was at {}. What changed in the {} since then is not in it.",
        plan.instance,
        local_time(plan.time),
        age(restored.loss_window_seconds)
    )];
    if let Some(before) = restored.before {
        lines.push(format!("The state before is in snapshot {}, which is pinned.", before.short()));
    }
    if !restored.aside.is_empty() {
        let aside = restored.aside.join(", ");
        lines.push(format!("Kept as it was: {aside}. Remove that when it is not needed."));
    }
    lines.join("\n")
}
