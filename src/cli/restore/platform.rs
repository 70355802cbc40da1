//! What a restore of a platform's databases says before and after.

use crate::cli::render::{age, counted, local_time};
use crate::ops::restore::databases::{DatabasesPlan, RestoredDatabases};
use crate::ops::restore::into::PresentState;

pub(super) fn plan_text(plan: &DatabasesPlan) -> String {
    let mut lines = vec![format!(
        "Restore snapshot {}, taken {}, into the instance {} on {}:",
        plan.snapshot.short(),
        local_time(plan.time),
        plan.instance,
        plan.server
    )];
    for database in &plan.databases {
        let verb = if database.exists { "replaces the present one" } else { "is made" };
        let rows = counted(database.rows, "row", "rows");
        lines.push(format!("  database {} ({rows}) {verb}", database.name));
    }
    let named = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("  {what}: {}", names.join(", ")))
    };
    lines.extend(named("roles that are made", &plan.creates_roles));
    lines.extend(named("roles that become what they were", &plan.changes_roles));
    lines.extend(named("keys that come back into the environment file", &plan.environment));
    lines.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    lines.push(present_state_text(plan.present_state, "databases"));
    if !plan.databases.is_empty() {
        let closed = "Connections to these databases are closed while the names are exchanged.";
        lines.push(closed.into());
    }
    lines.join("\n")
}

/// What becomes of the state that is overwritten; `parts` is what it is made of.
pub(super) fn present_state_text(state: PresentState, parts: &str) -> String {
    match state {
        PresentState::Nothing => "Nothing is there now that could be lost.".into(),
        PresentState::Snapshot => {
            "The present state goes into a snapshot first, which is pinned.".into()
        }
        _ => format!(
            "The present state goes into NO snapshot, as asked for; its {parts} are kept aside."
        ),
    }
}

pub(super) fn done_text(restored: &RestoredDatabases) -> String {
    let plan = &restored.plan;
    let names = plan.databases.iter().map(|database| format!("database {}", database.name));
    let parts: Vec<String> = names.chain(plan.environment.iter().cloned()).collect();
    let subject = if plan.is_whole {
        format!("{} is", plan.instance)
    } else {
        format!("Of {}, {}: this is", plan.instance, parts.join(", "))
    };
    let mut lines = vec![format!(
        "{subject} as it was at {}. What changed in the {} since then is not in it.",
        local_time(plan.time),
        age(restored.loss_window_seconds)
    )];
    if let Some(before) = restored.before {
        lines.push(format!("The state before is in snapshot {}, which is pinned.", before.short()));
    }
    if !restored.aside.is_empty() {
        lines.push(format!(
            "Kept on the server: {}. Drop them when they are not needed.",
            restored.aside.join(", ")
        ));
    }
    if !plan.environment.is_empty() {
        lines.push("Restart the platform, so that it reads its keys again.".into());
    }
    lines.join("\n")
}
