//! What is recorded comes back as it was.

use super::*;

#[test]
fn a_snapshot_comes_back_with_its_manifest_and_components() {
    let (_directory, catalog) = open();
    let id = SnapshotId([1; 32]);
    catalog.record_snapshot(REPOSITORY, &snapshot(1, 0), Some(&manifest())).unwrap();
    assert_eq!(catalog.snapshots(REPOSITORY).unwrap(), [snapshot(1, 0)]);
    assert_eq!(catalog.manifest(REPOSITORY, id).unwrap(), Some(manifest()));
    assert_eq!(catalog.snapshots(RepositoryId([8; 32])).unwrap(), []);
    assert_eq!(catalog.manifest(RepositoryId([8; 32]), id).unwrap(), None);
    let components = &catalog.dump().unwrap()["components"];
    assert_eq!(components.as_array().unwrap().len(), 2);
    assert_eq!(components[0]["source"], "/srv/up'loads");
    assert_eq!(components[1]["name"], "more");
    assert_eq!(components[1]["counts_json"], r#"{"files":3}"#);
}

#[test]
fn a_snapshot_that_restic_made_has_no_manifest() {
    let (_directory, catalog) = open();
    let bare = SnapshotRecord {
        instance: None,
        platform: None,
        sealed: false,
        key_fit: None,
        size_bytes: u64::MAX,
        tags: Vec::new(),
        ..snapshot(2, 0)
    };
    catalog.record_snapshot(REPOSITORY, &bare, None).unwrap();
    let largest = SnapshotRecord { size_bytes: i64::MAX.cast_unsigned(), ..bare };
    assert_eq!(catalog.snapshots(REPOSITORY).unwrap(), [largest]);
    assert_eq!(catalog.manifest(REPOSITORY, SnapshotId([2; 32])).unwrap(), None);
}

#[test]
fn recording_again_replaces_everything() {
    let (_directory, catalog) = open();
    catalog.record_snapshot(REPOSITORY, &snapshot(1, 0), Some(&manifest())).unwrap();
    let mut fewer = manifest();
    fewer.components.pop();
    let unfit = SnapshotRecord { key_fit: Some(KeyFit::Unfit), ..snapshot(1, 5) };
    catalog.record_snapshot(REPOSITORY, &unfit, Some(&fewer)).unwrap();
    assert!(unfit.sealed && !unfit.is_good());
    assert_eq!(catalog.snapshots(REPOSITORY).unwrap(), [unfit]);
    assert_eq!(catalog.manifest(REPOSITORY, SnapshotId([1; 32])).unwrap(), Some(fewer));
    assert_eq!(catalog.dump().unwrap()["components"].as_array().unwrap().len(), 1);
}

#[test]
fn snapshots_are_listed_newest_first() {
    let (_directory, catalog) = open();
    let nanosecond = SnapshotRecord {
        time: at(20).checked_add(jiff::SignedDuration::from_nanos(1)).unwrap(),
        ..snapshot(4, 0)
    };
    for record in [snapshot(2, 20), snapshot(1, 10), nanosecond, snapshot(3, 20)] {
        catalog.record_snapshot(REPOSITORY, &record, None).unwrap();
    }
    let order: Vec<u8> =
        catalog.snapshots(REPOSITORY).unwrap().iter().map(|record| record.id.0[0]).collect();
    assert_eq!(order, [4, 3, 2, 1]);
}

#[test]
fn the_newest_snapshots_are_listed_of_all_or_of_one_name_and_no_more_than_asked_for() {
    let (_directory, catalog) = open();
    for number in 1..=6 {
        let instance_name = if number % 2 == 0 { "even" } else { "odd" }.to_owned();
        let record = SnapshotRecord { instance_name, ..snapshot(number, number.into()) };
        catalog.record_snapshot(REPOSITORY, &record, None).unwrap();
    }
    let newest = |name, limit| -> Vec<u8> {
        let found = catalog.newest_snapshots(REPOSITORY, name, limit).unwrap();
        found.iter().map(|record| record.id.0[0]).collect()
    };
    assert_eq!(newest(None, 3), [6, 5, 4]);
    assert_eq!(newest(Some("odd"), 2), [5, 3]);
    assert_eq!(newest(Some("none"), 9), [0; 0]);
    assert_eq!(catalog.newest_snapshots(RepositoryId([8; 32]), None, 9).unwrap(), []);
}

#[test]
fn forgetting_takes_manifest_and_components_along() {
    let (_directory, catalog) = open();
    for number in 1..=3 {
        catalog.record_snapshot(REPOSITORY, &snapshot(number, 0), Some(&manifest())).unwrap();
    }
    let other = RepositoryId([8; 32]);
    catalog.record_snapshot(other, &snapshot(1, 0), None).unwrap();
    let gone = [1, 2, 9].map(|number| SnapshotId([number; 32]));
    catalog.forget_snapshots(REPOSITORY, &gone).unwrap();
    assert_eq!(catalog.snapshot_ids(REPOSITORY).unwrap(), [SnapshotId([3; 32])].into());
    assert_eq!(catalog.snapshot_ids(other).unwrap(), [SnapshotId([1; 32])].into());
    let dump = catalog.dump().unwrap();
    assert_eq!(dump["manifests"].as_array().unwrap().len(), 1);
    assert_eq!(dump["components"].as_array().unwrap().len(), 2);
}

#[test]
fn the_newest_state_has_the_pins() {
    let (_directory, catalog) = open();
    assert_eq!(catalog.state_number(REPOSITORY).unwrap(), None);
    let both = [pin(1, "upgrade 'a'"), pin(1, "by hand"), pin(2, "by hand")];
    assert!(catalog.replace_pins(REPOSITORY, 5, &both).unwrap());
    assert!(!catalog.replace_pins(REPOSITORY, 4, &[]).unwrap(), "an older state changes nothing");
    let sorted = [pin(1, "by hand"), pin(1, "upgrade 'a'"), pin(2, "by hand")];
    assert_eq!(catalog.pins(REPOSITORY).unwrap(), sorted);
    assert!(catalog.replace_pins(REPOSITORY, 6, &[pin(2, "by hand")]).unwrap());
    assert_eq!(catalog.pins(REPOSITORY).unwrap(), [pin(2, "by hand")]);
    assert_eq!(catalog.state_number(REPOSITORY).unwrap(), Some(6));
    assert_eq!(catalog.pins(RepositoryId([8; 32])).unwrap(), []);
}

#[test]
fn a_name_has_one_id_and_an_id_one_name() {
    let (_directory, catalog) = open();
    let id = |name_: &str, repository: &str| {
        catalog.instance_id(&name(name_), &name(repository)).unwrap()
    };
    assert_eq!(id("production", "main"), None);
    catalog.adopt(&instance()).unwrap();
    let elsewhere = Instance { id: InstanceId([2; 16]), repository: name("second"), ..instance() };
    catalog.adopt(&elsewhere).unwrap();
    assert_eq!(id("production", "main"), Some(INSTANCE));
    assert_eq!(id("production", "second"), Some(InstanceId([2; 16])));
    assert_eq!(catalog.instance_with_id(INSTANCE).unwrap(), Some(instance()));
    // A renamed instance takes its id along.
    catalog.adopt(&Instance { name: name("live"), ..instance() }).unwrap();
    assert_eq!((id("production", "main"), id("live", "main")), (None, Some(INSTANCE)));
    // A name that adopts another id lets its own go.
    catalog.adopt(&Instance { id: InstanceId([3; 16]), name: name("live"), ..instance() }).unwrap();
    assert_eq!(id("live", "main"), Some(InstanceId([3; 16])));
    assert_eq!(catalog.instance_with_id(INSTANCE).unwrap(), None);
    assert_eq!(catalog.instances().unwrap().len(), 2);
}

#[test]
fn what_was_verified_of_a_repository_outlives_its_moving() {
    let (_directory, catalog) = open();
    let error = catalog.set_recovery_key(REPOSITORY, FileId([1; 32])).unwrap_err();
    assert!(matches!(error, CatalogError::Unknown { what: "repository", .. }), "{error:?}");
    catalog.record_repository(REPOSITORY, &name("main"), "/srv/a").unwrap();
    catalog.set_recovery_key(REPOSITORY, FileId([1; 32])).unwrap();
    catalog.recovery_key_verified(REPOSITORY, FileId([1; 32]), at(5)).unwrap();
    let check = LastCheck { at: at(6), ok: false, read_data: true };
    catalog.record_check(REPOSITORY, check).unwrap();
    catalog.record_repository(REPOSITORY, &name("first"), "/srv/b").unwrap();
    let expected = Repository {
        id: REPOSITORY,
        name: name("first"),
        url: "/srv/b".to_owned(),
        recovery_key: Some(FileId([1; 32])),
        recovery_key_verified_at: Some(at(5)),
        last_check: Some(check),
    };
    assert_eq!(catalog.repository(REPOSITORY).unwrap(), Some(expected.clone()));
    assert_eq!(catalog.repositories().unwrap(), [expected]);
    catalog.set_recovery_key(REPOSITORY, FileId([2; 32])).unwrap();
    let renewed = catalog.repository(REPOSITORY).unwrap().unwrap();
    assert_eq!(renewed.recovery_key_verified_at, None, "a new key has yet to prove itself");
}

#[test]
fn the_dump_depends_on_the_content_and_not_on_its_history() {
    let (_first_directory, first) = open();
    let (_second_directory, second) = open();
    for number in [1, 2, 3] {
        first.record_snapshot(REPOSITORY, &snapshot(number, 0), Some(&manifest())).unwrap();
    }
    for number in [3, 1, 9, 2, 1] {
        second.record_snapshot(REPOSITORY, &snapshot(number, 0), Some(&manifest())).unwrap();
    }
    assert_ne!(first.dump().unwrap(), second.dump().unwrap());
    second.forget_snapshots(REPOSITORY, &[SnapshotId([9; 32])]).unwrap();
    first.record_repository(REPOSITORY, &name("main"), "/srv/a").unwrap();
    second.record_repository(REPOSITORY, &name("main"), "/srv/a").unwrap();
    second.set_recovery_key(REPOSITORY, FileId([1; 32])).unwrap();
    second.begin_job(&job(1, 0)).unwrap();
    assert_eq!(first.dump().unwrap().to_string(), second.dump().unwrap().to_string());
}
