//! What could not be read closes the rules that look at it, and is not told as something that is missing.

use super::*;

fn unread(rules: &[RuleName], environment: Option<Environment>) -> Unread {
    Unread {
        rules: rules.to_vec(),
        environment,
        why: "production: the repository is locked".to_owned(),
        needed: "wait until it is free".to_owned(),
    }
}

#[test]
fn what_is_not_known_closes_each_rule_that_asks_it() {
    for rule in RuleName::ALL {
        let of_production = unread(&[rule], Some(Environment::Production));
        let results = open(Gate::Production).with(|it| it.seen.unread.push(of_production)).judge();
        let closing: Vec<RuleName> =
            results.iter().filter(|result| result.closes()).map(|result| result.rule).collect();
        assert_eq!(closing, [rule]);
        let found = result(results, rule);
        assert!(found.evidence.iter().any(|line| line.contains("is locked")), "{found:?}");
        assert_eq!(found.needed.as_deref(), Some("wait until it is free"), "{rule}");
    }
}

#[test]
fn a_rule_that_is_not_asked_here_is_not_closed() {
    let rules = [RuleName::StagingFirst, RuleName::Window];
    let results = open(Gate::Staging).with(|it| it.seen.unread.push(unread(&rules, None))).judge();
    assert!(is_open(&results), "{results:#?}");
}

#[test]
fn snapshots_that_could_not_be_looked_for_are_not_called_missing() {
    let rules = [RuleName::BothBackedUp, RuleName::Fresh, RuleName::KeyFit];
    let results = open(Gate::Staging)
        .with(|it| {
            it.seen.production.snapshot = None;
            it.seen.unread.push(unread(&rules, Some(Environment::Production)));
        })
        .judge();
    for rule in rules {
        let found = result(results.clone(), rule);
        assert_eq!(found.verdict, Verdict::Fail);
        assert!(!found.evidence.iter().any(|line| line.contains("no snapshot")), "{found:?}");
        assert_eq!(found.needed.as_deref(), Some("wait until it is free"), "{rule}");
    }
}
