//! Making the catalog anew.

use super::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

fn filled() -> (TempDir, Catalog) {
    let (directory, catalog) = open();
    catalog.record_repository(REPOSITORY, &name("main"), "/srv/a").unwrap();
    catalog.recovery_key_verified(REPOSITORY, FileId([1; 32]), at(5)).unwrap();
    catalog.adopt(&instance()).unwrap();
    for number in 1..=3 {
        catalog.begin_job(&job(number, 10 - i64::from(number))).unwrap();
        let event = Event::Note { message: format!("event of {number}") };
        catalog.add_event(JobId([number; 8]), 0, at(0), &event).unwrap();
    }
    let why = JobFailure { error: "why".into(), hint: None };
    catalog.finish_job(JobId([1; 8]), at(20), Outcome::Failed, None, Some(&why)).unwrap();
    record_repositorys_rows(&catalog);
    (directory, catalog)
}

/// What a rebuild reads from the repository.
fn record_repositorys_rows(catalog: &Catalog) {
    catalog.record_snapshot(REPOSITORY, &snapshot(1, 0), Some(&manifest())).unwrap();
    catalog.record_snapshot(REPOSITORY, &snapshot(2, 0), None).unwrap();
    catalog.replace_pins(REPOSITORY, 3, &[pin(1, "by hand")]).unwrap();
}

#[test]
fn the_history_is_carried_over_and_the_old_file_kept() {
    let (directory, catalog) = filled();
    let before = catalog.dump().unwrap();
    let jobs = catalog.jobs(9).unwrap();
    let events = catalog.events(JobId([2; 8])).unwrap();
    let repositories = catalog.repositories().unwrap();
    let instances = catalog.instances().unwrap();
    drop(catalog);
    let Recreated { catalog, kept, jobs: carried, lost } =
        Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!((carried, lost.as_slice()), (3, &[][..]));
    assert_eq!(catalog.jobs(9).unwrap(), jobs);
    assert_eq!(catalog.events(JobId([2; 8])).unwrap(), events);
    assert_eq!(catalog.repositories().unwrap(), repositories);
    assert_eq!(catalog.instances().unwrap(), instances);
    assert_eq!(catalog.snapshots(REPOSITORY).unwrap(), []);
    assert_eq!(catalog.state_number(REPOSITORY).unwrap(), None);
    record_repositorys_rows(&catalog);
    assert_eq!(catalog.dump().unwrap(), before);
    catalog.integrity_check().unwrap();
    let kept = kept.unwrap();
    assert!(kept.to_str().unwrap().ends_with("catalog.sqlite.old-20231114T221320Z"), "{kept:?}");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::copy(&kept, elsewhere.path().join(FILE_NAME)).unwrap();
    assert_eq!(Catalog::open(elsewhere.path()).unwrap().dump().unwrap(), before);
}

#[test]
fn every_old_file_is_kept() {
    let (directory, catalog) = filled();
    drop(catalog);
    let names: std::collections::BTreeSet<_> =
        (0..3).map(|_| Catalog::recreate(directory.path(), at(0)).unwrap().kept.unwrap()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.is_file()), "{names:?}");
}

#[test]
fn without_an_old_file_there_is_nothing_to_keep() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(".catalog.sqlite.new-of-a-killed-process"), "").unwrap();
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!((recreated.kept, recreated.jobs, recreated.lost), (None, 0, Vec::new()));
    drop(recreated.catalog);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "only the catalog is there");
}

#[test]
fn a_file_that_cannot_be_read_is_kept_and_its_loss_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    fs::write(&path, b"no database at all, but long enough").unwrap();
    fs::write(beside(&path, "-wal"), b"nor this").unwrap();
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!(recreated.lost, ["the whole history: file is not a database"]);
    recreated.catalog.integrity_check().unwrap();
    let kept = recreated.kept.unwrap();
    assert_eq!(fs::read(&kept).unwrap(), b"no database at all, but long enough");
    assert_eq!(fs::read(beside(&kept, "-wal")).unwrap(), b"nor this");
}

#[test]
fn rows_that_cannot_be_read_are_counted_and_the_others_carried_over() {
    let (directory, catalog) = filled();
    catalog
        .connection
        .execute("UPDATE jobs SET started_at = 'once' WHERE job_id = ?1", ["02".repeat(8)])
        .unwrap();
    drop(catalog);
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!(recreated.jobs, 2);
    assert_eq!(recreated.lost.len(), 1);
    assert!(
        recreated.lost[0].starts_with("1 of the jobs: the column 'started_at'"),
        "{recreated:?}"
    );
    assert_eq!(recreated.catalog.events(JobId([3; 8])).unwrap().len(), 1);
    recreated.catalog.integrity_check().unwrap();
}

#[test]
fn damaged_pages_of_rebuildable_tables_cost_no_history() {
    let (directory, catalog) = filled();
    let root: u64 = catalog
        .connection
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'snapshots'", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .cast_unsigned();
    let path = catalog.path().to_owned();
    drop(catalog);
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0xa5; 4096], (root - 1) * 4096).unwrap();
    drop(file);
    let damaged = Catalog::open(directory.path()).unwrap();
    let error = damaged.snapshots(REPOSITORY).unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
    drop(damaged);
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!((recreated.jobs, recreated.lost.len()), (3, 0));
    record_repositorys_rows(&recreated.catalog);
    assert_eq!(recreated.catalog.snapshots(REPOSITORY).unwrap().len(), 2);
}

#[test]
fn an_open_catalog_is_not_replaced() {
    let (directory, catalog) = filled();
    let error = Catalog::recreate(directory.path(), at(0)).unwrap_err();
    assert!(matches!(error, CatalogError::InUse(_)), "{error:?}");
    assert_eq!(catalog.jobs(9).unwrap().len(), 3);
    drop(catalog);
    let recreated = Catalog::recreate(directory.path(), at(0)).unwrap();
    // The new one is shared as any other.
    let second = Catalog::open(directory.path()).unwrap();
    second.adopt(&instance()).unwrap();
    assert_eq!(recreated.catalog.instances().unwrap(), [instance()]);
}

#[test]
fn what_a_killed_process_wrote_last_is_carried_over_and_kept() {
    let (directory, catalog) = filled();
    let copy = tempfile::tempdir().unwrap();
    let path = copy.path().join(FILE_NAME);
    for suffix in ["", "-wal"] {
        let from = beside(&directory.path().join(FILE_NAME), suffix);
        fs::copy(from, beside(&path, suffix)).unwrap();
    }
    let recreated = Catalog::recreate(copy.path(), at(0)).unwrap();
    assert_eq!(recreated.catalog.jobs(9).unwrap(), catalog.jobs(9).unwrap());
    let kept = recreated.kept.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let to = beside(&elsewhere.path().join(FILE_NAME), suffix);
        fs::copy(beside(&kept, suffix), to).unwrap();
    }
    let old = Catalog::open(elsewhere.path()).unwrap();
    old.integrity_check().unwrap();
    assert_eq!(old.dump().unwrap(), catalog.dump().unwrap());
}
