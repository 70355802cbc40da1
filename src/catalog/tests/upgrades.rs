//! Upgrades: journals that grow, and what is taken in from a repository.

use super::*;
use crate::model::id::UpgradeId;
use crate::model::upgrade::tests::journal;
use crate::model::upgrade::{Entry, Environment, Journal, Record, Step};
use serde_json::json;

fn journal_of(steps: &[Step]) -> Journal {
    journal(steps.iter().map(|step| Entry::Began { hop: 0, step: *step }).collect())
}

const STEPS: [Step; 3] = [Step::PullStaging, Step::BackUpStaging, Step::BackUpProduction];

fn test(name: &str) -> UpgradeTest {
    UpgradeTest {
        name: name.to_owned(),
        verdict: "passed".to_owned(),
        duration_ms: 12,
        details: vec!["200".to_owned()],
    }
}

#[test]
fn a_journal_grows_record_by_record() {
    let (_directory, catalog) = open();
    let mut expected = journal_of(&[]);
    catalog.add_upgrade(REPOSITORY, &expected).unwrap();
    for record in journal_of(&STEPS).records {
        catalog.add_upgrade_record(expected.id, &record).unwrap();
        expected.records.push(record);
        assert_eq!(catalog.upgrade(expected.id).unwrap().as_ref(), Some(&expected));
    }
    assert_eq!(catalog.upgrades(Some(&name("main"))).unwrap(), [expected.clone()]);
    assert_eq!(catalog.upgrades(Some(&name("other"))).unwrap(), []);
    assert_eq!(catalog.upgrades_in(REPOSITORY).unwrap(), [expected]);
    assert_eq!(catalog.upgrades_in(RepositoryId([8; 32])).unwrap(), []);
    assert_eq!(catalog.upgrade(UpgradeId([9; 8])).unwrap(), None);
}

#[test]
fn a_record_that_is_not_the_next_is_refused() {
    let (_directory, catalog) = open();
    let journal = journal_of(&STEPS);
    let unknown = catalog.add_upgrade_record(journal.id, &journal.records[0]).unwrap_err();
    assert!(matches!(unknown, CatalogError::Unknown { .. }), "{unknown:?}");
    catalog.add_upgrade(REPOSITORY, &journal_of(&STEPS[..1])).unwrap();
    catalog.add_upgrade_record(journal.id, &journal.records[1]).unwrap();
    // Whoever listed the repository meanwhile has taken it in from there.
    catalog.add_upgrade_record(journal.id, &journal.records[1]).unwrap();
    // Another process was faster, or one is missing.
    let mut gap = journal.records[2].clone();
    gap.number = 4;
    let other = Record { number: 2, ..journal.records[2].clone() };
    for record in [&journal.records[0], &other, &gap] {
        let error = catalog.add_upgrade_record(journal.id, record).unwrap_err();
        assert!(matches!(error, CatalogError::Overtaken { found: 3, .. }), "{error:?}");
        assert!(error.hint().unwrap().contains("one process"));
    }
    assert_eq!(catalog.upgrade(journal.id).unwrap(), Some(journal_of(&STEPS[..2])));
}

#[test]
fn what_goes_on_counts_and_what_has_parted_gives_way_to_the_repository() {
    let (_directory, catalog) = open();
    let (short, long) = (journal_of(&STEPS[..1]), journal_of(&STEPS));
    let take_in = |journal: &Journal| {
        catalog.take_in_upgrades(REPOSITORY, std::slice::from_ref(journal)).unwrap()
    };
    assert_eq!(take_in(&short), []);
    assert_eq!(take_in(&long), []);
    assert_eq!(catalog.upgrade(long.id).unwrap().as_ref(), Some(&long));
    assert_eq!(take_in(&short), [], "what is here is newer");
    assert_eq!(catalog.upgrade(long.id).unwrap(), Some(long.clone()));
    let parted = journal_of(&[Step::PullStaging, Step::PinBoth]);
    assert_eq!(take_in(&parted), [long.id]);
    assert_eq!(catalog.upgrade(long.id).unwrap(), Some(parted));
}

#[test]
fn tests_and_baselines_are_found_again() {
    let (directory, catalog) = open();
    let journal = journal_of(&STEPS);
    catalog.add_upgrade(REPOSITORY, &journal).unwrap();
    catalog.record_upgrade_tests(journal.id, 2, &[test("health"), test("old")]).unwrap();
    catalog.record_upgrade_tests(journal.id, 2, &[test("health"), test("keys")]).unwrap();
    catalog.record_upgrade_tests(journal.id, 1, &[test("version")]).unwrap();
    let (one, other) = (json!({"apps": 3}), json!({"apps": 4}));
    for baseline in [&other, &one] {
        catalog.record_upgrade_baseline(journal.id, 0, Environment::Staging, baseline).unwrap();
    }
    catalog.record_upgrade_baseline(journal.id, 0, Environment::Production, &other).unwrap();
    let check = |catalog: &Catalog| {
        let found = catalog.upgrade_tests(journal.id).unwrap();
        let names: Vec<(u64, &str)> =
            found.iter().map(|(record, test)| (*record, test.name.as_str())).collect();
        assert_eq!(names, [(1, "version"), (2, "health"), (2, "keys")]);
        assert_eq!(found[0].1, test("version"));
        let baseline = |hop, of| catalog.upgrade_baseline(journal.id, hop, of).unwrap();
        assert_eq!(baseline(0, Environment::Staging), Some(one.clone()));
        assert_eq!(baseline(0, Environment::Production), Some(other.clone()));
        assert_eq!(baseline(1, Environment::Staging), None);
        assert_eq!(catalog.upgrade(journal.id).unwrap().as_ref(), Some(&journal));
    };
    check(&catalog);
    drop(catalog);
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!(recreated.lost, Vec::<String>::new());
    check(&recreated.catalog);
    recreated.catalog.integrity_check().unwrap();
}

#[test]
fn an_upgrade_that_cannot_be_read_costs_no_other() {
    let (directory, catalog) = open();
    let journal = journal_of(&STEPS);
    catalog.add_upgrade(REPOSITORY, &journal).unwrap();
    let broken = Journal { id: UpgradeId([6; 8]), ..journal.clone() };
    catalog.add_upgrade(REPOSITORY, &broken).unwrap();
    catalog
        .connection
        .execute(
            "DELETE FROM upgrade_records WHERE upgrade_id = ?1 AND number = 2",
            [broken.id.to_string()],
        )
        .unwrap();
    let error = catalog.upgrade(broken.id).unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
    drop(catalog);
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert!(recreated.lost[0].starts_with("1 of the upgrades: record 2 of"), "{recreated:?}");
    assert_eq!(recreated.catalog.upgrades(None).unwrap(), [journal]);
}
