//! What people are told when an upgrade has come to rest: a pure function of its journal.
//!
//! What always holds: as long as nothing has changed, the mark stays the same, so that whoever remembers the last one tells nothing twice.

use super::machine::{State, Trouble, Upgrade};
use super::words;
use crate::model::upgrade::{Entry, Environment, RuleResult};

/// Where the end of a way back is looked for: in so many of the newest records.
const NEWEST: usize = 20;

/// What is told of an upgrade that rests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The same as long as there is nothing new to tell.
    pub mark: String,
    /// All in one line.
    pub title: String,
    /// Whole sentences.
    pub body: String,
    /// What to do.
    pub hint: Option<String>,
}

/// What is to be told of an upgrade as it is; none where it is at work, or waits for nothing but time.
pub fn told(upgrade: &Upgrade) -> Option<Told> {
    let (plan, state) = (upgrade.plan(), upgrade.state());
    let (pair, hop) = (&plan.pair, upgrade.hop());
    let upgrading = format!("the upgrade of {pair} to {}", plan.target());
    let (title, body, hint) = match state {
        State::AwaitingApproval => (
            format!("Approval is needed for {upgrading}"),
            vec![
                format!("Staging runs {} and has passed its tests.", hop.to),
                format!("One of these has to say yes: {}.", plan.terms.approvers.join(", ")),
            ],
            format!("look at staging, then: belay upgrade approve {pair}"),
        ),
        State::GateClosed => (
            format!("The gate has stopped {upgrading}"),
            closing(upgrade),
            format!(
                "belay gate {pair} --to {} --environment {} tells more; then: belay upgrade resume {pair}",
                hop.to,
                upgrade.blocked().map_or(Environment::Production, |it| it.gate.environment())
            ),
        ),
        State::Held => (
            format!("A person has to decide about {upgrading}"),
            [causes(upgrade), vec![format!("Production {}.", upgrade.production())]].concat(),
            format!("belay upgrade status {pair} tells what is possible"),
        ),
        State::Aborted => (
            capital(&format!("{upgrading} was given up")),
            [causes(upgrade), vec![untouched(upgrade)], notes(upgrade)].concat(),
            format!("belay upgrade show {pair} tells all that happened"),
        ),
        State::RolledBack => (
            format!("Production of {pair} is back at {}", hop.from),
            [causes(upgrade), notes(upgrade)].concat(),
            format!("belay upgrade show {pair} tells all that happened"),
        ),
        State::Provisional => (
            format!("Production of {pair} runs {}", hop.to),
            vec![format!(
                "It passed its tests, and is watched for {} before the upgrade is for good.",
                words::span(plan.terms.commit_after)
            )],
            format!("belay upgrade rollback {pair} brings {} back with its data", hop.from),
        ),
        State::Committed => (
            capital(&format!("{upgrading} is committed")),
            vec!["Belay does not go back by itself any more.".to_owned()],
            "belay restore brings a snapshot back, and says what is lost by that".to_owned(),
        ),
        _ => return None,
    };
    let mark = mark(upgrade, state);
    Some(Told { mark, title, body: body.join("\n"), hint: Some(hint) })
}

/// What production is where an upgrade was given up.
fn untouched(upgrade: &Upgrade) -> String {
    match upgrade.hop_number() {
        0 => "Production was not touched.".to_owned(),
        hop => format!("Production runs {} since hop {hop}, and stays there.", upgrade.hop().from),
    }
}

/// A rule that says no, or a failure, is told again where a person has had it tried again.
fn mark(upgrade: &Upgrade, state: State) -> String {
    let (journal, hop) = (upgrade.journal(), upgrade.hop_number());
    let said = match state {
        State::GateClosed | State::Held => {
            let by_people = journal.records.iter().filter(|record| record.entry.by().is_some());
            by_people.map(|record| record.number).max().unwrap_or_default()
        }
        _ => 0,
    };
    let at = upgrade.blocked().map(|blocked| format!("{:?}", blocked.rules)).unwrap_or_default();
    format!("{} {hop} {state} {said} {at}", journal.id)
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The failures that led here.
fn causes(upgrade: &Upgrade) -> Vec<String> {
    let both = [upgrade.cause(), upgrade.trouble()];
    let mut causes: Vec<&Trouble> = both.into_iter().flatten().collect();
    causes.dedup();
    let said = causes.into_iter().map(|Trouble { step, why, hint, .. }| {
        let hint = hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("It could not {}: {why}{hint}.", step.action())
    });
    said.collect()
}

/// What the rules need that said no.
fn closing(upgrade: &Upgrade) -> Vec<String> {
    let judged = upgrade.journal().records.iter().rev().find_map(|record| match &record.entry {
        Entry::Judged { results, .. } => Some(results),
        _ => None,
    });
    let closing = judged.into_iter().flatten().filter(|result| result.closes());
    let said = closing.map(|RuleResult { rule, needed, .. }| match needed {
        Some(needed) => format!("The rule {rule} says no: {needed}."),
        None => format!("The rule {rule} says no."),
    });
    said.collect()
}

/// What the last steps have left, such as where the failed state is, and what time is not in what came back.
fn notes(upgrade: &Upgrade) -> Vec<String> {
    let newest = upgrade.journal().records.iter().rev().take(NEWEST);
    let mut notes: Vec<&String> = newest
        .filter_map(|record| match &record.entry {
            Entry::Done { outcome, .. } => Some(outcome.notes.iter().rev()),
            _ => None,
        })
        .flatten()
        .collect();
    notes.reverse();
    notes.dedup();
    notes.into_iter().map(|note| format!("{}.", capital(note.trim_end_matches('.')))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upgrade::tests::journal;
    use crate::model::upgrade::{Gate, Outcome, Request, RuleName, Step, Verdict};

    fn upgrade(entries: Vec<Entry>) -> Upgrade {
        Upgrade::replay(journal(entries)).unwrap()
    }

    fn begun(step: Step) -> Entry {
        Entry::Began { hop: 0, step }
    }

    fn done(step: Step) -> Entry {
        Entry::Done { step, outcome: Outcome::default() }
    }

    /// Up to where the gate to staging says no because of the age of a snapshot.
    fn closed(times: usize) -> Vec<Entry> {
        let mut entries = vec![Entry::TakenUp { host: "here".into() }];
        let steps = [Step::PullStaging, Step::BackUpStaging, Step::BackUpProduction, Step::PinBoth];
        let no = RuleResult {
            rule: RuleName::Fresh,
            verdict: Verdict::Fail,
            evidence: vec!["staging: 3h ago".into()],
            needed: Some("back up staging".into()),
            passes_at: None,
            overridden: None,
        };
        for time in 0..times {
            if time > 0 {
                let (by, reason) = ("bob".to_owned(), None);
                entries.push(Entry::Asked { request: Request::Resume, by, reason });
            }
            let again = upgrade(entries.clone());
            let rest: Vec<Step> = match again
                .next(again.journal().changed_at(), &crate::upgrade::machine::Facts::default())
            {
                crate::upgrade::machine::Decision::Do(step) => {
                    steps.into_iter().skip_while(|it| *it != step).collect()
                }
                other => panic!("{other:?}"),
            };
            entries.extend(rest.into_iter().flat_map(|step| [begun(step), done(step)]));
            entries.push(begun(Step::GateStaging));
            entries.push(Entry::Judged { gate: Gate::Staging, results: vec![no.clone()] });
        }
        entries
    }

    #[test]
    fn what_is_at_work_is_not_told() {
        assert_eq!(told(&upgrade(vec![])), None);
        assert_eq!(told(&upgrade(vec![begun(Step::PullStaging)])), None);
    }

    #[test]
    fn a_closed_gate_is_told_with_what_it_needs_and_again_where_a_person_had_it_asked_again() {
        let first = upgrade(closed(1));
        let said = told(&first).unwrap();
        assert_eq!(said.title, "The gate has stopped the upgrade of main to v2.5.1");
        assert_eq!(said.body, "The rule fresh says no: back up staging.");
        assert!(said.hint.as_ref().unwrap().contains("belay gate main --to v1.99"), "{said:?}");
        // A process that takes it up changes nothing about that.
        let mut entries = closed(1);
        entries.push(Entry::TakenUp { host: "there".into() });
        assert_eq!(told(&upgrade(entries)).unwrap(), said);
        let second = told(&upgrade(closed(2))).unwrap();
        assert_eq!(second.title, said.title);
        assert_ne!(second.mark, said.mark);
    }

    #[test]
    fn what_is_held_says_why_and_where_to_look() {
        let (step, why) = (Step::PullStaging, "the disk is full".to_owned());
        let hint = Some("free some room".to_owned());
        let failed = Entry::Failed { step, why, hint, untouched: false };
        let held = upgrade(vec![begun(step), failed]);
        assert_eq!(held.state(), State::Held);
        let said = told(&held).unwrap();
        assert_eq!(said.title, "A person has to decide about the upgrade of main to v2.5.1");
        assert!(said.body.contains("the disk is full (free some room)."), "{said:?}");
        assert!(said.body.contains("\nProduction "), "{said:?}");
        assert!(said.hint.as_ref().unwrap().contains("belay upgrade status main"), "{said:?}");
    }

    #[test]
    fn what_was_given_up_says_why_and_what_of_it_is_left() {
        let mut entries = closed(1);
        entries.push(Entry::Asked {
            request: Request::Abort { keep_staging: false },
            by: "bob".into(),
            reason: None,
        });
        let given_up = upgrade(entries);
        assert_eq!(given_up.state(), State::Aborted, "nothing has to be put back");
        let said = told(&given_up).unwrap();
        assert_eq!(said.title, "The upgrade of main to v2.5.1 was given up");
        assert!(said.body.contains("Production was not touched."), "{said:?}");
        assert!(said.mark.contains("aborted"), "{said:?}");
    }
}
