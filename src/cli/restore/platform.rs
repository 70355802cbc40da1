//! What a restore of a platform's databases says before and after.

use crate::cli::render::{age, counted, local_time};
use crate::component::postgres::identifier;
use crate::ops::restore::databases::{DatabasesPlan, PresentDatabases, RestoredDatabases};

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
        let from = database.from.as_ref().map(|from| format!("{from} → ")).unwrap_or_default();
        lines.push(format!("  database {from}{} ({rows}) {verb}", database.name));
    }
    let named = |what: &str, names: &[String]| {
        (!names.is_empty()).then(|| format!("  {what}: {}", names.join(", ")))
    };
    lines.extend(named("roles that are made", &plan.creates_roles));
    lines.extend(named("roles that become what they were", &plan.changes_roles));
    lines.extend(named("keys that come back into the environment file", &plan.environment));
    let added = "other variables that the environment file lacks and gets";
    lines.extend(named(added, &plan.environment_added));
    lines.extend(plan.notes.iter().map(|note| format!("  note: {note}")));
    lines.extend(plan.warnings.iter().map(|warning| format!("  WARNING: {warning}")));
    lines.push(match plan.present_state {
        PresentDatabases::Nothing => "Nothing is there now that could be lost.".into(),
        PresentDatabases::KeptBeside => {
            "The databases are not there; what changes besides is kept as it was, and named at the end."
                .into()
        }
        PresentDatabases::Snapshot => {
            "The present state goes into a snapshot first, which is pinned.".into()
        }
        PresentDatabases::SetAside => "The present state goes into NO snapshot, as asked for; its databases are kept aside, and its environment file beside the new one."
            .into(),
    });
    if !plan.databases.is_empty() {
        let closed = "Connections to these databases are closed while the names are exchanged.";
        lines.push(closed.into());
    }
    lines.join("\n")
}

pub(super) fn done_text(restored: &RestoredDatabases) -> String {
    let plan = &restored.plan;
    let names = plan.databases.iter().map(|database| format!("database {}", database.name));
    let variables = plan.environment.iter().chain(&plan.environment_added);
    let parts: Vec<String> = names.chain(variables.cloned()).collect();
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
            "Kept on the server, closed: {}. `ALTER DATABASE {} ALLOW_CONNECTIONS true` opens one. Drop them when they are not needed.",
            restored.aside.join(", "),
            identifier(&restored.aside[0])
        ));
    }
    if let Some(path) = &restored.environment_before {
        lines.push(format!(
            "The environment file as it was: {path}. Delete it when it is not needed."
        ));
    }
    if let Some(path) = &restored.roles_before {
        lines.push(format!(
            "Roles become what they were by `psql -d postgres -f {path}`. It holds hashes of passwords: delete it when it is not needed."
        ));
    }
    if !(plan.environment.is_empty() && plan.environment_added.is_empty()) {
        lines.push("Restart the platform, so that it reads its keys again.".into());
    }
    lines.join("\n")
}
