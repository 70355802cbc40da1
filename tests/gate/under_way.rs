//! The gate of an upgrade that has begun: judged with its own plan, tests, approvals and overrides.

use super::{NEXT, asked, assert_refused, closing, rule};
use crate::support::pair::{Pair, VERSION};
use belay::catalog::Catalog;
use belay::model::id::{InstanceId, UpgradeId};
use belay::model::upgrade::{
    Approval, Entry, Hop, Journal, OnFailure, Outcome, Overridable, Override, Plan, Record, Side,
    Terms,
};
use belay::upgrade::machine::{Decision, Facts, Upgrade, Waiting};
use jiff::Timestamp;
use std::time::Duration;

fn plan() -> Plan {
    let side = |number, name: &str| Side {
        id: InstanceId([number; 16]),
        name: name.parse().unwrap(),
        version: VERSION.parse().unwrap(),
    };
    Plan {
        pair: "main".parse().unwrap(),
        staging: side(1, "staging"),
        production: side(2, "production"),
        platform: "tooljet".to_owned(),
        edition: None,
        hops: vec![Hop { from: VERSION.parse().unwrap(), to: NEXT.parse().unwrap(), why: None }],
        terms: Terms {
            fresh: Duration::from_hours(2),
            soak: Duration::ZERO,
            windows: Vec::new(),
            approvers: vec!["alice".to_owned()],
            on_failure: OnFailure::Rollback,
            maintenance: false,
            copy_volumes: false,
            drilled: None,
            commit_after: Duration::from_hours(24),
        },
    }
}

fn add(upgrade: &mut Upgrade, entry: Entry) {
    add_at(upgrade, Timestamp::now(), entry);
}

fn add_at(upgrade: &mut Upgrade, at: Timestamp, entry: Entry) {
    let number = upgrade.journal().records.len() as u64 + 1;
    upgrade.apply(Record { number, at, entry }).unwrap();
}

/// An upgrade of which everything went well, at that time, until somebody has to approve.
fn awaiting_approval(at: Timestamp) -> Upgrade {
    let journal = Journal::new(UpgradeId([7; 8]), plan(), at, "carol".to_owned());
    let mut upgrade = Upgrade::new(journal).unwrap();
    loop {
        match upgrade.next(at, &Facts::default()) {
            Decision::Do(step) => {
                add_at(&mut upgrade, at, Entry::Began { hop: 0, step });
                let ended = match step.gate() {
                    Some(gate) => Entry::Judged { gate, results: Vec::new() },
                    None => Entry::Done { step, outcome: Outcome::default() },
                };
                add_at(&mut upgrade, at, ended);
            }
            Decision::Wait { waiting: Waiting::Approval, .. } => return upgrade,
            other => panic!("{other:?}"),
        }
    }
}

/// What the catalog knows from now on.
fn record(pair: &Pair, upgrade: &Upgrade) {
    let catalog = Catalog::open(&pair.sandbox.state()).unwrap();
    let repository = catalog.repositories().unwrap()[0].id;
    let journal = upgrade.journal();
    match catalog.upgrade(journal.id).unwrap() {
        None => catalog.add_upgrade(repository, journal).unwrap(),
        Some(known) => {
            for record in &journal.records[known.records.len()..] {
                catalog.add_upgrade_record(journal.id, record).unwrap();
            }
        }
    }
}

#[test]
fn an_upgrade_on_its_way_is_judged_with_what_became_of_it() {
    let pair = Pair::new("", "");
    pair.back_up();
    pair.set_version("staging", NEXT);
    let mut upgrade = awaiting_approval(Timestamp::now());
    record(&pair, &upgrade);
    let closed = asked(&pair, NEXT, "production");
    // The configuration names no approvers: the plan does.
    assert_eq!(closing(&closed), ["approved"], "{closed:#}");
    for passed in ["staging-first", "staging-tested"] {
        assert_eq!(rule(&closed, passed)["verdict"], "pass");
    }
    let under_way = &closed["upgrade"];
    assert_eq!(under_way["id"], "0707070707070707");
    assert_eq!(under_way["state"], "awaiting_approval");
    assert_eq!((&under_way["hop"], &under_way["hops"]), (&1.into(), &1.into()));
    let told = pair.belay(&["gate", "main", "--to", NEXT]).code(5).stdout();
    assert!(
        told.contains("upgrade 0707070707070707 to 3.16.14-lts, awaiting approval, move 1 of 1"),
        "{told}"
    );
    assert_refused(
        pair.belay(&["gate", "main", "--to", "3.16.15-lts"]),
        &["is on its way to 3.16.14-lts"],
    );

    // Who is no approver, and an approval of another plan, open nothing: the journal does not even take them.
    let digest = plan().digest();
    let approval =
        |by: &str, plan| Entry::Approved(Approval { hop: 0, plan, by: by.into(), reason: None });
    let refused = |entry| {
        let number = upgrade.journal().records.len() as u64 + 1;
        upgrade.clone().apply(Record { number, at: Timestamp::now(), entry }).is_err()
    };
    assert!(refused(approval("mallory", digest)));
    assert!(refused(approval("alice", belay::model::id::Sha256([0; 32]))));

    // Nor does it take another's word that nobody has to approve.
    let word = |by: &str| {
        let reason = "agreed on the phone".to_owned();
        Entry::Overridden(Override {
            hop: 0,
            rule: Overridable::Approved,
            reason,
            by: by.to_owned(),
        })
    };
    assert!(refused(word("bob")));
    let mut overridden = upgrade.clone();
    add(&mut overridden, word("alice"));
    add(&mut upgrade, approval("alice", digest));
    record(&pair, &upgrade);
    let open = asked(&pair, NEXT, "production");
    assert_eq!(open["is_open"], true, "{open:#}");
    assert!(rule(&open, "approved")["evidence"].to_string().contains("alice approved"));

    // Staging does not run any more what was tested there.
    pair.set_version("staging", VERSION);
    assert_eq!(closing(&asked(&pair, NEXT, "production")), ["staging-first"]);

    let pair = Pair::new("", "");
    pair.back_up();
    pair.set_version("staging", NEXT);
    record(&pair, &overridden);
    let open = asked(&pair, NEXT, "production");
    let approved = rule(&open, "approved");
    assert_eq!((&open["is_open"], &approved["verdict"]), (&true.into(), &"overridden".into()));
    assert_eq!(approved["overridden"]["reason"], "agreed on the phone");
}

#[test]
fn what_staging_has_passed_counts_for_two_weeks() {
    let pair = Pair::new("", "");
    pair.back_up();
    pair.set_version("staging", NEXT);
    let days_ago = |days: u64| Timestamp::now() - Duration::from_hours(24 * days);
    let mut upgrade = awaiting_approval(days_ago(15));
    let approval = Approval { hop: 0, plan: plan().digest(), by: "alice".into(), reason: None };
    add_at(&mut upgrade, days_ago(15), Entry::Approved(approval));
    record(&pair, &upgrade);
    assert_eq!(closing(&asked(&pair, NEXT, "production")), ["staging-tested"]);
    let told = pair.belay(&["gate", "main", "--to", NEXT]).code(5).stdout();
    for words in [", 15d", "that counts for 14d", "let staging be upgraded and tested"] {
        assert!(told.contains(words), "{words}: {told}");
    }
}
