//! The file: who may read it, which files are refused, and what its errors say.

use super::*;
use crate::catalog::schema::{APPLICATION_ID, MIGRATIONS, migrate};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn pragma(connection: &Connection, name: &str) -> String {
    connection
        .pragma_query_value(None, name, |row| row.get_ref(0).map(|value| format!("{value:?}")))
        .unwrap()
}

#[test]
fn a_catalog_can_be_sent_to_a_thread() {
    fn sendable<T: Send>() {}
    sendable::<Catalog>();
}

#[test]
fn an_empty_directory_gets_a_durable_catalog_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("belay/state");
    let catalog = Catalog::open(&directory).unwrap();
    catalog.adopt(&instance()).unwrap();
    assert_eq!((mode(&directory), mode(&parent.path().join("belay"))), (0o700, 0o700));
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(mode(&beside(catalog.path(), suffix)), 0o600, "{suffix}");
    }
    assert_eq!(pragma(&catalog.connection, "journal_mode"), "Text([119, 97, 108])");
    assert_eq!(pragma(&catalog.connection, "synchronous"), "Integer(2)");
    assert_eq!(pragma(&catalog.connection, "foreign_keys"), "Integer(1)");
    assert_eq!(pragma(&catalog.connection, "application_id"), format!("Integer({APPLICATION_ID})"));
    let lax: i64 = catalog
        .connection
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE type = 'table' AND NOT strict AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(lax, 0, "every table is STRICT");
    catalog.integrity_check().unwrap();
    drop(catalog);
    fs::set_permissions(directory.join(FILE_NAME), fs::Permissions::from_mode(0o644)).unwrap();
    let again = Catalog::open(&directory).unwrap();
    assert_eq!(mode(again.path()), 0o600, "a file that others could read is closed to them");
    assert_eq!(again.instances().unwrap(), [instance()]);
}

#[test]
fn files_belong_to_the_owner_of_the_state_directory() {
    let parent = tempfile::tempdir().unwrap();
    let owner = if rustix::process::geteuid().is_root() {
        4321
    } else {
        rustix::process::geteuid().as_raw()
    };
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(parent.path(), Some(owner), Some(4322)).unwrap();
    }
    let directory = parent.path().join("state");
    let catalog = Catalog::open(&directory).unwrap();
    catalog.adopt(&instance()).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().uid(), owner);
    for suffix in ["", "-wal", "-shm"] {
        assert_eq!(fs::metadata(beside(catalog.path(), suffix)).unwrap().uid(), owner, "{suffix}");
    }
    drop(catalog);
    let kept = Catalog::recreate(&directory, at(0)).unwrap().kept.unwrap();
    assert_eq!(fs::metadata(kept).unwrap().uid(), owner);
    assert_eq!(fs::metadata(directory.join(FILE_NAME)).unwrap().uid(), owner);
}

#[test]
fn what_is_not_surely_ours_is_not_given_away() {
    let directory = tempfile::tempdir().unwrap();
    let (target, second) = (directory.path().join("target"), directory.path().join("second"));
    fs::write(&target, "").unwrap();
    fs::hard_link(&target, &second).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let before = fs::metadata(&target).unwrap().uid();
    let owned = tempfile::tempdir().unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(owned.path(), Some(4321), Some(4321)).unwrap();
    }
    give_to_owner_of(owned.path(), &second).unwrap();
    give_to_owner_of(owned.path(), &link).unwrap();
    assert_eq!(fs::metadata(&target).unwrap().uid(), before);
}

#[test]
fn a_symbolic_link_in_place_of_the_file_is_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("target");
    fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, directory.path().join(FILE_NAME)).unwrap();
    let error = Catalog::open(directory.path()).unwrap_err();
    assert!(matches!(error, CatalogError::NotWritable { .. }), "{error:?}");
    assert_eq!(fs::metadata(&target).unwrap().len(), 0);
}

#[test]
fn another_programs_database_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE notes (text TEXT)").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    for result in [
        Catalog::open(directory.path()).map(drop),
        Catalog::recreate(directory.path(), at(0)).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, CatalogError::Foreign(_)), "{error:?}");
        assert!(error.to_string().contains(path.canonicalize().unwrap().to_str().unwrap()));
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_catalog_is_refused_and_left_as_it_is() {
    let (directory, catalog) = open();
    catalog.connection.pragma_update(None, "user_version", 99).unwrap();
    drop(catalog);
    for result in [
        Catalog::open(directory.path()).map(drop),
        Catalog::recreate(directory.path(), at(0)).map(drop),
    ] {
        let error = result.unwrap_err();
        assert!(matches!(error, CatalogError::Newer { found: 99, .. }), "{error:?}");
        assert!(error.to_string().contains("made by a newer Belay"), "{error}");
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn a_damaged_file_says_so_and_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(FILE_NAME), b"no database at all, but long enough").unwrap();
    let error = Catalog::open(directory.path()).unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
    assert!(error.to_string().contains(FILE_NAME), "{error}");
    assert!(error.hint().unwrap().contains("belay catalog rebuild"));
}

#[test]
fn damage_inside_a_file_is_found_by_the_check() {
    let (directory, catalog) = open();
    for number in 0..100 {
        catalog.record_snapshot(REPOSITORY, &snapshot(number, 0), Some(&manifest())).unwrap();
    }
    let path = catalog.path().to_owned();
    drop(catalog);
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8192].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = Catalog::open(directory.path()).unwrap().integrity_check().unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
}

#[test]
fn a_value_that_cannot_be_read_is_damage() {
    let (_directory, catalog) = open();
    catalog.record_snapshot(REPOSITORY, &snapshot(1, 0), None).unwrap();
    catalog.connection.execute("UPDATE snapshots SET time = 'yesterday'", []).unwrap();
    let error = catalog.snapshots(REPOSITORY).unwrap_err();
    assert!(matches!(error, CatalogError::Damaged { .. }), "{error:?}");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert!(reason.contains("'time' holds 'yesterday'"), "{reason}");
}

#[test]
fn an_older_catalog_is_migrated_and_keeps_its_rows() {
    let (_directory, catalog) = open();
    catalog.adopt(&instance()).unwrap();
    let mut newer = MIGRATIONS.to_vec();
    newer.push(&[
        "ALTER TABLE instances ADD COLUMN note TEXT",
        "CREATE TABLE drills (a TEXT) STRICT",
    ]);
    migrate(&catalog.connection, &catalog.path, &newer).unwrap();
    let version = newer.len();
    assert_eq!(pragma(&catalog.connection, "user_version"), format!("Integer({version})"));
    let note: Option<String> =
        catalog.connection.query_row("SELECT note FROM instances", [], |row| row.get(0)).unwrap();
    assert_eq!(note, None);
    assert_eq!(catalog.instances().unwrap(), [instance()]);
}

#[test]
fn a_migration_that_fails_leaves_the_version_before() {
    let (directory, catalog) = open();
    catalog.adopt(&instance()).unwrap();
    let mut broken = MIGRATIONS.to_vec();
    broken.push(&["CREATE TABLE drills (a TEXT) STRICT", "ALTER TABLE nothing ADD COLUMN a TEXT"]);
    let error = migrate(&catalog.connection, &catalog.path, &broken).unwrap_err();
    assert!(matches!(error, CatalogError::Sqlite { .. }), "{error:?}");
    drop(catalog);
    let again = Catalog::open(directory.path()).unwrap();
    assert_eq!(pragma(&again.connection, "user_version"), format!("Integer({})", MIGRATIONS.len()));
    assert!(!again.connection.table_exists(None, "drills").unwrap());
    assert_eq!(again.instances().unwrap(), [instance()]);
}

#[test]
fn a_locked_catalog_says_so() {
    let (directory, catalog) = open();
    let other = Catalog::open(directory.path()).unwrap();
    other.connection.busy_timeout(Duration::from_millis(1)).unwrap();
    let holding =
        Transaction::new_unchecked(&catalog.connection, TransactionBehavior::Immediate).unwrap();
    let error = other.adopt(&instance()).unwrap_err();
    assert!(matches!(error, CatalogError::Locked { .. }), "{error:?}");
    assert!(error.to_string().contains("is locked by another process"), "{error}");
    assert_eq!(other.instances().unwrap(), [], "readers do not wait for a writer");
    drop(holding);
    other.adopt(&instance()).unwrap();
}

#[test]
fn a_full_disk_says_so_and_loses_nothing() {
    let (_directory, catalog) = open();
    catalog.adopt(&instance()).unwrap();
    let pages: i64 =
        catalog.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    catalog.connection.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
    let big = SnapshotRecord { tags: vec!["x".repeat(100_000)], ..snapshot(1, 0) };
    let error = catalog.record_snapshot(REPOSITORY, &big, None).unwrap_err();
    assert!(matches!(error, CatalogError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("there is no room for the catalog"), "{error}");
    assert_eq!(catalog.instances().unwrap(), [instance()]);
    assert_eq!(catalog.snapshots(REPOSITORY).unwrap(), []);
    catalog
        .connection
        .pragma_update_and_check(None, "max_page_count", pages + 100, |_| Ok(()))
        .unwrap();
    catalog.record_snapshot(REPOSITORY, &big, None).unwrap();
}

#[test]
fn a_catalog_that_may_not_be_written_says_so() {
    let (_directory, catalog) = open();
    catalog.connection.pragma_update(None, "query_only", true).unwrap();
    let error = catalog.adopt(&instance()).unwrap_err();
    assert!(matches!(error, CatalogError::NotWritable { .. }), "{error:?}");
    // Where nobody may make files, whoever runs it.
    let error = Catalog::open(Path::new("/proc/self/state")).unwrap_err();
    assert!(error.to_string().contains("/proc/self/state"), "{error}");
    assert!(matches!(error, CatalogError::Io { .. }), "{error:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Catalog::open(file.path()).unwrap_err();
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

#[test]
fn writers_wait_for_each_other_and_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let path = directory.path();
            scope.spawn(move || {
                // Opened at once on nothing, too.
                let catalog = Catalog::open(path).unwrap();
                for number in 0..10 {
                    let record = snapshot(thread * 10 + number, 0);
                    catalog.record_snapshot(REPOSITORY, &record, Some(&manifest())).unwrap();
                }
            });
        }
    });
    let catalog = Catalog::open(directory.path()).unwrap();
    let expected = (0..40).map(|number| SnapshotId([number; 32])).collect();
    assert_eq!(catalog.snapshot_ids(REPOSITORY).unwrap(), expected);
}

#[test]
fn what_was_not_committed_never_was() {
    let (directory, catalog) = open();
    catalog.record_snapshot(REPOSITORY, &snapshot(1, 0), Some(&manifest())).unwrap();
    let before = catalog.dump().unwrap();
    let failed = catalog.write("fail", |transaction| {
        transaction.execute("DELETE FROM snapshots", [])?;
        Err::<(), _>(rusqlite::Error::InvalidQuery)
    });
    assert!(matches!(failed, Err(CatalogError::Sqlite { .. })));
    assert_eq!(catalog.dump().unwrap(), before);
    // As a kill leaves it: files in the middle of a transaction, opened by somebody else.
    let transaction =
        Transaction::new_unchecked(&catalog.connection, TransactionBehavior::Immediate).unwrap();
    transaction.execute("DELETE FROM snapshots", []).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let to = beside(&copy.path().join(FILE_NAME), suffix);
        fs::copy(beside(&directory.path().join(FILE_NAME), suffix), to).unwrap();
    }
    let survivor = Catalog::open(copy.path()).unwrap();
    survivor.integrity_check().unwrap();
    assert_eq!(survivor.dump().unwrap(), before);
}
