//! `belay gate`.

use super::arguments::{EnvironmentArgument, GateArguments};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output::field;
use super::render::{counted, table};
use crate::model::upgrade::{self, RuleResult};
use crate::upgrade::gate::{GateOptions, Gated, UnderWay, gate};

pub(super) fn run(arguments: &GateArguments, environment: &Environment) -> Result<Exit, Failure> {
    let options = GateOptions {
        pair: arguments.pair.clone(),
        to: arguments.to.clone(),
        environment: match arguments.environment {
            EnvironmentArgument::Staging => upgrade::Environment::Staging,
            EnvironmentArgument::Production => upgrade::Environment::Production,
        },
    };
    let config = environment.config()?;
    let gated = gate(config, &environment.secrets, &options, &environment.context)?;
    environment.show(&gated, || text(&gated))?;
    // Who asks wants to know this and nothing else: a warning that was told changes nothing about it.
    Ok(if gated.is_open { Exit::Done } else { Exit::Gated })
}

/// A line for each thing that a rule has seen, and one for what it needs.
fn text(gated: &Gated) -> String {
    let mut rows = Vec::new();
    for result in &gated.rules {
        let mut first = Some((result.rule.as_str(), verdict(result)));
        for line in lines(result) {
            let (rule, verdict) = first.take().unwrap_or(("", ""));
            rows.push(vec![rule.to_owned(), verdict.to_owned(), line]);
        }
    }
    let table = table(&["RULE", "VERDICT", "EVIDENCE"], &[], rows);
    format!("{table}\n\n{}", summary(gated))
}

fn verdict(result: &RuleResult) -> &'static str {
    if result.closes() { "FAIL" } else { result.verdict.as_str() }
}

fn lines(result: &RuleResult) -> Vec<String> {
    let mut lines = result.evidence.clone();
    if let Some(given) = &result.overridden {
        lines.push(format!("overridden by {}: {}", given.by, given.reason));
    }
    if let Some(needed) = &result.needed {
        lines.push(format!("to pass: {needed}"));
    }
    if lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

fn summary(gated: &Gated) -> String {
    let Gated { pair, environment, to, rules, .. } = gated;
    let from =
        gated.from.as_ref().map_or_else(|| "an unknown version".to_owned(), ToString::to_string);
    let way = field(&format!("{environment} of {pair}, where production runs {from}, to {to}"));
    let way = match &gated.upgrade {
        Some(UnderWay { id, state, hop, hops, target }) => {
            format!("{way} (upgrade {id} to {target}, {state}, move {hop} of {hops})")
        }
        None => way,
    };
    let closing = rules.iter().filter(|result| result.closes()).count();
    match closing {
        0 => format!("The gate is open: {way}."),
        count => {
            let rules = counted(count as u64, "rule says", "rules say");
            format!("The gate is closed: {way}. {rules} no.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upgrade::{Overridable, Override, RuleName, Verdict};

    fn result(
        rule: RuleName,
        verdict: Verdict,
        evidence: &[&str],
        needed: Option<&str>,
    ) -> RuleResult {
        RuleResult {
            rule,
            verdict,
            evidence: evidence.iter().map(|line| (*line).to_owned()).collect(),
            needed: needed.map(ToOwned::to_owned),
            passes_at: None,
            overridden: None,
        }
    }

    fn gated(rules: Vec<RuleResult>) -> Gated {
        Gated {
            pair: "main".parse().unwrap(),
            environment: upgrade::Environment::Production,
            from: "v2.4.3".parse().ok(),
            to: "v2.5.1".parse().unwrap(),
            upgrade: None,
            is_open: crate::upgrade::rules::is_open(&rules),
            at: jiff::Timestamp::UNIX_EPOCH,
            rules,
        }
    }

    #[test]
    fn each_rule_says_what_it_saw_and_what_it_needs() {
        let mut room =
            result(RuleName::Room, Verdict::Overridden, &["little room"], Some("free 5 GiB"));
        room.overridden = Some(Override {
            hop: 0,
            rule: Overridable::Room,
            reason: "the disk grows at noon".into(),
            by: "alice".into(),
        });
        let rules = vec![
            result(
                RuleName::Fresh,
                Verdict::Pass,
                &["staging: a snapshot", "production: a snapshot"],
                None,
            ),
            result(RuleName::KeyFit, Verdict::Fail, &["\u{1b}[2Jother keys"], Some("set the keys")),
            room,
        ];
        insta::assert_snapshot!(text(&gated(rules)), @r"
        RULE     VERDICT     EVIDENCE
        fresh    pass        staging: a snapshot
                             production: a snapshot
        key-fit  FAIL        \u{1b}[2Jother keys
                             to pass: set the keys
        room     overridden  little room
                             overridden by alice: the disk grows at noon
                             to pass: free 5 GiB

        The gate is closed: production of main, where production runs v2.4.3, to v2.5.1. 1 rule says no.
        ");
    }

    #[test]
    fn an_open_gate_says_so() {
        let rules = vec![result(
            RuleName::Drilled,
            Verdict::NotApplicable,
            &["no drill is asked for"],
            None,
        )];
        assert!(text(&gated(rules)).ends_with(
            "The gate is open: production of main, where production runs v2.4.3, to v2.5.1."
        ));
    }
}
