//! `belay prune`.

use super::arguments::PruneArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::perform::Said;
use super::render::{counted, local_time, table};
use crate::config::Config;
use crate::model::job::Work;
use crate::model::size::Bytes;
use crate::ops::prune::{InstanceDecisions, Pruned, prune};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use crate::repository::prune::{PruneOptions, PruneOutcome};

pub(super) fn run(arguments: &PruneArguments, environment: &Environment) -> Result<Exit, Failure> {
    let repository = environment.repository()?.name.clone();
    let &PruneArguments { dry_run, max_unused } = arguments;
    environment.run_and_show(&Work::Prune { repository, dry_run, max_unused: Some(max_unused) })
}

/// What a prune says.
pub(super) fn said(
    config: &Config,
    session: &Session,
    dry_run: bool,
    max_unused: Option<f64>,
    context: &Context,
) -> Result<Said, OpsError> {
    let default = PruneOptions::default();
    let max_unused_percent = max_unused.unwrap_or(default.max_unused_percent);
    let options = PruneOptions { max_unused_percent, ..default };
    let pruned = prune(config, session, &options, dry_run, context)?;
    Ok(Said::new(Exit::Done, text(&pruned), &pruned))
}

fn text(pruned: &Pruned) -> String {
    let mut lines = Vec::new();
    for instance in &pruned.instances {
        lines.push(format!("{}:", instance.instance));
        lines.push(decisions(instance));
        lines.push(String::new());
    }
    let totals = &pruned.plan.totals;
    let is_partial = pruned.outcome.is_some_and(|outcome| outcome.repack_skipped);
    let planned = pruned.plan.repack.len() as u64;
    let copied = pruned.outcome.map_or(planned, |outcome| outcome.repacked_packs);
    let (verb, will) = if pruned.dry_run { ("would be", "would have") } else { ("were", "has") };
    let was = |count: u64| if verb == "were" && count == 1 { "was" } else { verb };
    let forgotten = pruned.plan.forget.len() as u64;
    let removed = (pruned.plan.remove_packs.len() + pruned.plan.unindexed_packs.len()) as u64;
    lines.push(format!(
        "{} {} forgotten; {} in {} {} removed, {} copied to reclaim their unused parts.",
        counted(forgotten, "snapshot", "snapshots"),
        was(forgotten),
        Bytes(totals.removed_bytes),
        counted(removed, "pack", "packs"),
        was(removed),
        counted(copied, "pack", "packs"),
    ));
    // Where not all could be copied, the plan's numbers did not come true, and a warning says so.
    if !is_partial {
        lines.push(format!(
            "The repository {will} {} in packs, {} of them unused.",
            Bytes(totals.remaining_bytes),
            Bytes(totals.remaining_unused_bytes)
        ));
    }
    if let Some(PruneOutcome { leftover_files, leftover_bytes, .. }) = &pruned.outcome
        && *leftover_files > 0
    {
        let files = counted(*leftover_files, "file", "files");
        lines.push(format!(
            "{files} ({}) that interrupted runs had left were removed.",
            Bytes(*leftover_bytes)
        ));
    }
    lines.join("\n")
}

fn decisions(instance: &InstanceDecisions) -> String {
    let rows = instance.decisions.iter().map(|decision| {
        let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
        let verdict = if decision.is_kept() { "keep" } else { "forget" };
        vec![verdict.into(), decision.id.short(), local_time(decision.time), reasons.join("; ")]
    });
    table(&["", "ID", "TIME", "BECAUSE"], &[], rows.collect())
}
