//! The catalog's behaviours, on real files.

use super::*;
use crate::model::event::Event;
use crate::model::id::{FileId, InstanceId, JobId, RepositoryId, Sha256, SnapshotId};
use crate::model::manifest::{
    ComponentManifest, FileManifest, InstanceRef, KeyFit, Manifest, SCHEMA_VERSION,
};
use crate::model::name::Name;
use crate::model::pin::Pin;
use crate::model::snapshot_record::SnapshotRecord;
use jiff::Timestamp;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use tempfile::TempDir;

mod file;
mod history;
mod outbox;
mod queue;
mod recreating;
mod rows;
mod upgrades;

const REPOSITORY: RepositoryId = RepositoryId([7; 32]);
const INSTANCE: InstanceId = InstanceId([1; 16]);

fn open() -> (TempDir, Catalog) {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    (directory, catalog)
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

fn snapshot(number: u8, second: i64) -> SnapshotRecord {
    SnapshotRecord {
        id: SnapshotId([number; 32]),
        instance: Some(INSTANCE),
        instance_name: "production".to_owned(),
        host: "prod1".to_owned(),
        platform: Some("files".to_owned()),
        time: at(second),
        sealed: true,
        key_fit: Some(KeyFit::Unproven),
        size_bytes: 1000,
        read_bytes: Some(50),
        added_bytes: 10,
        tags: vec!["belay".to_owned(), "platform=files".to_owned()],
    }
}

fn manifest() -> Manifest {
    let component = ComponentManifest {
        name: "uploads".to_owned(),
        kind: "files".to_owned(),
        path: "/files/uploads".to_owned(),
        source: "/srv/up'loads".to_owned(),
        started: at(0),
        finished: at(1),
        size_bytes: 1000,
        counts: [("files".to_owned(), 3)].into(),
        files: Vec::new(),
        checksums: Some(FileManifest {
            path: "/sums".to_owned(),
            size_bytes: 5,
            sha256: Sha256([4; 32]),
        }),
        details: serde_json::Value::Null,
    };
    Manifest {
        schema: SCHEMA_VERSION,
        program: "belay 0.1.0".to_owned(),
        instance: InstanceRef {
            id: INSTANCE,
            name: name("production"),
            host: "prod1".to_owned(),
            host_id: "abc".to_owned(),
        },
        job: JobId([3; 8]),
        platform: "files".to_owned(),
        version: None,
        edition: None,
        started: at(0),
        finished: at(1),
        sealed: true,
        key_fit: KeyFit::Unproven,
        writers: None,
        components: vec![
            component.clone(),
            ComponentManifest { name: "more".to_owned(), ..component },
        ],
        size_bytes: 2000,
        read_bytes: Some(50),
        added_bytes: 10,
        warnings: vec!["one".to_owned()],
    }
}

fn job(number: u8, second: i64) -> JobStart {
    JobStart {
        id: JobId([number; 8]),
        kind: JobKind::Backup,
        instance: Some(INSTANCE),
        instance_name: Some(name("production")),
        repository: Some(name("main")),
        started_at: at(second),
        process: Process { pid: u32::from(number), boot_id: "boot".to_owned(), start: 5 },
    }
}

fn instance() -> Instance {
    Instance {
        id: INSTANCE,
        name: name("production"),
        repository: name("main"),
        host: "prod1".to_owned(),
        host_id: "abc".to_owned(),
        adopted_at: at(0),
    }
}

fn pin(number: u8, reason: &str) -> Pin {
    Pin {
        snapshot: SnapshotId([number; 32]),
        reason: reason.to_owned(),
        pinned_by: "alice".to_owned(),
        pinned_at: at(i64::from(number)),
    }
}
