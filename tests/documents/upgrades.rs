//! The scripts of docs/UPGRADES.md.

use super::{run_in, script};
use crate::support::pair::Pair;
use std::fs;

fn answer(pair: &Pair) -> serde_json::Value {
    let text = fs::read_to_string(pair.sandbox.path("gate.json")).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

#[test]
fn the_gate_opens_once_both_are_backed_up() {
    let pair = Pair::new("", "");
    let run = run_in(&pair.sandbox, &script("gate-script")).ok();
    assert_eq!(run.stdout().trim(), "closed");
    assert_eq!(answer(&pair)["is_open"], false);
    let run = run_in(&pair.sandbox, &script("gate")).ok();
    assert!(run.stdout().contains("The gate is open: staging of main"), "{run}");
    let run = run_in(&pair.sandbox, &script("gate-script")).ok();
    assert_eq!(run.stdout().trim(), "open");
    assert_eq!(answer(&pair)["is_open"], true);
    // What is no answer of the gate is no "closed".
    fs::remove_file(pair.sandbox.config()).unwrap();
    run_in(&pair.sandbox, &script("gate-script")).code(2);
}

#[test]
fn the_document_names_every_rule_and_who_may_override_it() {
    use belay::model::upgrade::{Overridable, RuleName};
    let document = fs::read_to_string("docs/UPGRADES.md").unwrap();
    for rule in RuleName::ALL {
        let line = document.lines().find(|line| line.starts_with(&format!("| `{rule}` |")));
        let line = line.unwrap_or_else(|| panic!("{rule} is not in the table"));
        let said = if Overridable::try_from(rule).is_ok() { "| yes |" } else { "| none |" };
        assert!(line.ends_with(said), "{line}");
    }
}
