//! The manifest: the JSON document in each snapshot that says what it holds (`/manifest.json`),
//! and the row in the catalog that is made from it.
//!
//! `docs/FORMAT.md` describes it for others. Readers ignore members that they do not know.

use crate::model::id::{InstanceId, JobId, Sha256};
use crate::model::name::Name;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The version of the manifest's own schema that this program writes, and the newest that it reads.
pub const SCHEMA_VERSION: u32 = 1;

/// Whether the encryption keys in a snapshot decrypt the ciphertext in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFit {
    /// Every tried ciphertext was decrypted.
    Fit,
    /// At least one was not: the snapshot is kept and marked, and is not good.
    Unfit,
    /// Nothing is encrypted: it passes.
    #[default]
    Unproven,
}

/// What became of who writes to the instance, where a backup stopped them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Writers {
    /// They stood still from before the first database was read until after the last one was.
    Stopped,
    /// They went on before all was read.
    StartedEarly,
}

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA_VERSION`] of the program that wrote it.
    pub schema: u32,
    /// The program that wrote it, such as `belay 0.1.0`.
    pub program: String,
    /// The instance, by its id for good and by its name at that time.
    pub instance: InstanceRef,
    /// The job that made the snapshot.
    pub job: JobId,
    /// The platform, such as `files`.
    pub platform: String,
    /// The platform's version, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The platform's edition, where it has several: `community` or `enterprise`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edition: Option<String>,
    /// When the run began, which is the snapshot's own time, too: nothing later is certain to be in it.
    pub started: Timestamp,
    /// When everything had been read.
    pub finished: Timestamp,
    /// True in every manifest that was written: the claim of promise 1.
    pub sealed: bool,
    /// The verdict on the keys.
    pub key_fit: KeyFit,
    /// Whether who writes stood still meanwhile; none where nobody was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writers: Option<Writers>,
    /// One for each part of the instance, in the order in which they were read.
    pub components: Vec<ComponentManifest>,
    /// Bytes of content in all components, before deduplication.
    pub size_bytes: u64,
    /// Bytes that were read of it; the rest was found unchanged. None where an older version did not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_bytes: Option<u64>,
    /// Bytes that the run added to the repository, up to the manifest itself.
    pub added_bytes: u64,
    /// What a person should know, such as a file that changed each time it was read.
    pub warnings: Vec<String>,
}

/// Which instance, and on which host it was configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRef {
    /// For good.
    pub id: InstanceId,
    /// At that time.
    pub name: Name,
    /// The name of the host that Belay ran on.
    pub host: String,
    /// A digest that tells hosts of one name apart; no secret, and not the machine id itself.
    pub host_id: String,
}

/// What a snapshot holds of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentManifest {
    /// Its name within the instance, which `restore --component` takes: `uploads`.
    pub name: String,
    /// Its kind: `files`.
    pub kind: String,
    /// Where it lies in the snapshot: `/files/uploads`.
    pub path: String,
    /// Where it came from: `/srv/uploads`. Bytes that are not UTF-8 are written as `\xNN`.
    pub source: String,
    /// When reading it began.
    pub started: Timestamp,
    /// When it had been read to its end.
    pub finished: Timestamp,
    /// Bytes of content.
    pub size_bytes: u64,
    /// Counts that a restore can be compared with: `files`, `directories`, `symlinks`, `others`; later rows per table.
    pub counts: std::collections::BTreeMap<String, u64>,
    /// The files of a component that consists of few: each with size and sum.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileManifest>,
    /// Where the sums of a tree's files are, which may be millions (see `docs/adr/0004`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksums: Option<FileManifest>,
    /// What only this kind of component has, as the component itself writes and reads it; null where there is nothing.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub details: serde_json::Value,
}

/// A file in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileManifest {
    /// Its path in the snapshot.
    pub path: String,
    /// Its size.
    pub size_bytes: u64,
    /// The SHA-256 sum of its content.
    pub sha256: Sha256,
}

impl Manifest {
    /// Good: sealed, and not unfit. Only good snapshots count as the last good one.
    pub fn is_good(&self) -> bool {
        self.sealed && self.key_fit != KeyFit::Unfit
    }
}
