//! What a restore of a MongoDB database says before and after.

use crate::cli::render::{age, counted, local_time};
use crate::ops::restore::collections::{CollectionsPlan, RestoredCollections};
use crate::ops::restore::into::PresentState;

pub(super) fn plan_text(plan: &CollectionsPlan) -> String {
    let documents = counted(plan.documents, "document", "documents");
    let collections = counted(plan.collections, "collection", "collections");
    let mut lines = vec![
        format!(
            "Restore snapshot {}, taken {}, into the instance {} on {}:",
            plan.snapshot.short(),
            local_time(plan.time),
            plan.instance,
            plan.server
        ),
        format!("  database {}: {collections} with {documents}", plan.database),
    ];
    if plan.replaced > 0 {
        let replaced = counted(plan.replaced, "collection", "collections");
        lines.push(format!("  in place of {replaced} that it has now"));
    }
    if !plan.extra.is_empty() {
        lines.push(format!("  not in the snapshot, so they go: {}", plan.extra.join(", ")));
    }
    lines.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(match plan.present_state {
        PresentState::Nothing => "Nothing is there now that could be lost.".into(),
        PresentState::Snapshot => {
            "The present state goes into a snapshot first, which is pinned.".into()
        }
        _ => {
            "The present state goes into NO snapshot, as asked for; its collections are kept aside."
                .into()
        }
    });
    lines.push(
        "Stop the programs that write to it: what they write meanwhile is only set aside.".into(),
    );
    lines.join("\n")
}

pub(super) fn done_text(restored: &RestoredCollections) -> String {
    let plan = &restored.plan;
    let mut lines = vec![format!(
        "{} is as it was at {}. What changed in the {} since then is not in it.",
        plan.instance,
        local_time(plan.time),
        age(restored.loss_window_seconds)
    )];
    if let Some(before) = restored.before {
        lines.push(format!("The state before is in snapshot {}, which is pinned.", before.short()));
    }
    if !restored.aside.is_empty() {
        lines.push(format!(
            "Kept in the database {}: {}. Drop them when they are not needed.",
            plan.database,
            restored.aside.join(", ")
        ));
    }
    lines.join("\n")
}
