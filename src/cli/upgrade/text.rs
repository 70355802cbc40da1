//! What is said of upgrades.

use crate::catalog::UpgradeTest;
use crate::cli::output::{field, printable};
use crate::cli::render::{local_time, table};
use crate::config::Config;
use crate::model::upgrade::{Entry, Request};
use crate::upgrade::machine::{Upgrade, Waiting};
use crate::upgrade::plan::lines;
use crate::upgrade::runner::Rest;
use crate::upgrade::shown::waits;
use jiff::Timestamp;

/// Of what was said to an upgrade that another process works on.
pub(super) fn left() -> String {
    "Whoever works on the upgrade just now hears it when the present step has ended.".to_owned()
}

/// What an upgrade waits for, in words.
pub(super) fn wait(rest: &Rest) -> String {
    match rest {
        Rest::Waits { waiting, until } => waiting_for(*waiting, *until),
        Rest::Ended(state) => format!("it is {state}"),
    }
}

fn waiting_for(waiting: Waiting, until: Option<Timestamp>) -> String {
    let what = match waiting {
        Waiting::Soak => "staging to have run long enough",
        Waiting::Approval => "one of the approvers",
        Waiting::Window => "a window",
        Waiting::Gate => "the rules that said no",
        Waiting::Retry => "the next try of what failed",
        Waiting::Person => "a person",
        Waiting::CommitWindow => "the end of the time in which production is watched",
        Waiting::Health => "production to be healthy",
        Waiting::Release => "the end of the time in which the snapshots stay pinned",
    };
    let until = until.map(|until| format!(", until {}", local_time(until))).unwrap_or_default();
    format!("for {what}{until}")
}

/// What an upgrade is at, in some lines.
fn at_a_glance(upgrade: &Upgrade, config: &Config) -> Vec<String> {
    let (journal, plan) = (upgrade.journal(), upgrade.plan());
    let mut said = vec![format!(
        "Upgrade {} of {} to {}: {}. Production {}.",
        journal.id,
        plan.pair,
        plan.target(),
        upgrade.state(),
        upgrade.production()
    )];
    if plan.hops.len() > 1 {
        let (number, hop) = (upgrade.hop_number() + 1, upgrade.hop());
        said.push(format!("Hop {number} of {}: {} to {}.", plan.hops.len(), hop.from, hop.to));
    }
    let troubles = [
        ("It goes back because it could not", upgrade.cause()),
        ("It could not", upgrade.trouble()),
    ];
    for (what, trouble) in troubles {
        let Some(trouble) = trouble else { continue };
        let hint = trouble.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        said.push(printable(&format!("{what} {}: {}{hint}.", trouble.step.action(), trouble.why)));
    }
    if let Some(blocked) = upgrade.blocked() {
        let rules: Vec<&str> = blocked.rules.iter().map(|rule| rule.as_str()).collect();
        let (pair, to) = (&plan.pair, &upgrade.hop().to);
        said.push(format!(
            "These rules say no: {}. `belay gate {pair} --to {to} --environment {}` tells why.",
            rules.join(", "),
            blocked.gate.environment()
        ));
    }
    let (waiting, until) = waits(upgrade, config);
    if let Some(waiting) = waiting {
        said.push(format!("It waits {}.", waiting_for(waiting, until)));
    }
    let pair = &plan.pair;
    let possible = upgrade.possible().into_iter().filter_map(|request| match request {
        Request::Resume => Some(format!("`belay upgrade resume {pair}` goes on")),
        Request::Abort { .. } => Some(format!("`belay upgrade abort {pair}` gives it up")),
        Request::RollBack { discard_current: false } => {
            Some(format!("`belay upgrade rollback {pair}` brings {} back", upgrade.hop().from))
        }
        Request::AcceptBack => {
            Some(format!("`belay upgrade accept {pair} --reason TEXT` takes production as it is"))
        }
        Request::RollBack { discard_current: true } => None,
    });
    let mut possible: Vec<String> = possible.collect();
    if waiting == Some(Waiting::Approval) {
        possible.insert(0, format!("`belay upgrade approve {pair}` says yes to it"));
    }
    if !possible.is_empty() {
        said.push(format!("{}.", possible.join("; ")));
    }
    said
}

pub(super) fn status(upgrades: &[Upgrade], config: &Config) -> String {
    if upgrades.is_empty() {
        return "There was no upgrade yet.".into();
    }
    let each: Vec<String> =
        upgrades.iter().map(|upgrade| at_a_glance(upgrade, config).join("\n")).collect();
    each.join("\n\n")
}

/// What is said when nothing more is done for now.
pub(super) fn rested(upgrade: &Upgrade, rest: &Rest, config: &Config) -> String {
    let mut said = at_a_glance(upgrade, config);
    // What the last steps have left, such as where the failed state is.
    let records = &upgrade.journal().records;
    let last = &records[records.len().saturating_sub(20)..];
    let notes = last.iter().filter_map(|record| match &record.entry {
        Entry::Done { outcome, .. } => Some(&outcome.notes),
        _ => None,
    });
    let mut notes: Vec<String> = notes.flatten().map(|note| printable(note)).collect();
    notes.dedup();
    if matches!(upgrade.state().as_str(), "rolled back" | "aborted") {
        said.extend(notes);
    }
    if let Rest::Ended(state) = rest {
        said.push(format!("Nothing is left to be done: it is {state}."));
    }
    said.join("\n")
}

pub(super) fn list(upgrades: &[Upgrade]) -> String {
    if upgrades.is_empty() {
        return "There was no upgrade yet.".into();
    }
    let rows = upgrades.iter().map(|upgrade| {
        let (journal, plan) = (upgrade.journal(), upgrade.plan());
        vec![
            journal.id.to_string(),
            plan.pair.to_string(),
            plan.hops[0].from.to_string(),
            plan.target().to_string(),
            upgrade.state().to_string(),
            local_time(journal.planned_at),
            field(&journal.planned_by),
        ]
    });
    table(&["UPGRADE", "PAIR", "FROM", "TO", "STATE", "PLANNED", "BY"], &[], rows.collect())
}

pub(super) fn show(upgrade: &Upgrade, config: &Config, tests: &[(u64, UpgradeTest)]) -> String {
    let mut said = at_a_glance(upgrade, config);
    said.push(String::new());
    said.extend(lines(upgrade.plan()));
    said.push(String::new());
    said.push("Journal:".into());
    for record in &upgrade.journal().records {
        said.push(printable(&format!(
            "{:>4}  {}  {}",
            record.number,
            local_time(record.at),
            told(&record.entry)
        )));
        let found = tests.iter().filter(|(number, _)| *number == record.number);
        said.extend(found.map(|(_, test)| {
            let details = test.details.join("; ");
            printable(&format!(
                "        {} {} in {} ms: {details}",
                test.name, test.verdict, test.duration_ms
            ))
        }));
    }
    said.join("\n")
}

fn told(entry: &Entry) -> String {
    let why = |reason: &Option<String>| {
        reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default()
    };
    match entry {
        Entry::TakenUp { host } => format!("taken up on {host}"),
        Entry::Began { step, .. } => format!("begins to {}", step.action()),
        Entry::Done { step, outcome } => {
            let notes = outcome.notes.join("; ");
            let snapshot = outcome.snapshot.map(|id| format!(" (snapshot {})", id.short()));
            let notes = if notes.is_empty() { notes } else { format!(": {notes}") };
            format!("did {}{}{notes}", step, snapshot.unwrap_or_default())
        }
        Entry::Failed { step, why, .. } => format!("could not {}: {why}", step.action()),
        Entry::Judged { gate, results } => {
            let closing: Vec<&str> =
                results.iter().filter(|it| it.closes()).map(|it| it.rule.as_str()).collect();
            let environment = gate.environment();
            match closing.as_slice() {
                [] => format!("the gate to {environment} is open"),
                rules => format!("the gate to {environment} is closed by {}", rules.join(", ")),
            }
        }
        Entry::Approved(approval) => {
            format!("approved by {}{}", approval.by, why(&approval.reason))
        }
        Entry::Overridden(it) => {
            let rule = crate::model::upgrade::RuleName::from(it.rule);
            format!("{rule} overridden by {}: {}", it.by, it.reason)
        }
        Entry::Asked { request, by, reason } => {
            let what = match request {
                Request::Resume => "to go on",
                Request::Abort { .. } => "to give it up",
                Request::RollBack { .. } => "to bring the old version back",
                Request::AcceptBack => "to take production as it is",
            };
            format!("{by} asked {what}{}", why(reason))
        }
    }
}
