//! Import: what another program backed up becomes a sealed snapshot, so that history moves over.
//!
//! The file is read twice. First it is looked through to its end, so that a wrong password, a file that is cut off and one that
//! is none of the kind are told before anything is asked or written; then it is read into the repository. Nothing of it is
//! written anywhere else.

mod appsmithctl;
mod error;
mod exported;
mod gathered;
mod input;
mod keys;
mod members;
mod openssl;
mod take;

pub use error::ImportError;
pub use keys::{Keys, variables as key_variables};

use self::input::{Fault, Input, Packing};
use self::take::Importing;
use super::{BackupOptions, Run, identify, mongodump::Taken, progress_of};
use crate::catalog::JobKind;
use crate::config::{Config, Instance, Platform, Secret};
use crate::model::id::{Sha256, SnapshotId};
use crate::model::manifest::{KeyFit, Manifest};
use crate::model::node::display_path;
use crate::ops::job::{self, JobResult, JobSubject};
use crate::ops::session::{InstanceLock, Session};
use crate::ops::{Context, OpsError, select};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The tag of an imported snapshot: `imported=…` with the sum of the file.
const TAG_IMPORTED: &str = "imported";

/// How to import.
#[derive(Debug)]
pub struct ImportOptions {
    /// What opens an encrypted file.
    pub password: Option<Secret>,
    /// The instance's encryption keys.
    pub keys: Keys,
    /// Also when the same file was imported before.
    pub again: bool,
}

/// What a file holds.
#[derive(Serialize)]
pub struct Looked {
    /// The file's name.
    pub file: String,
    /// Its sum.
    pub sha256: Sha256,
    /// Its size.
    pub size_bytes: u64,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// When it was made, by its name or else by its own time.
    pub time: Timestamp,
    /// The version of the platform that it is of, where it says so.
    pub version: Option<String>,
    /// The database's name; none of an export.
    pub database: Option<String>,
    /// How many collections, documents, and entries below `git-storage` it has.
    pub counts: BTreeMap<String, u64>,
    /// Whether it holds the keys that its ciphertext was made with.
    pub has_keys: bool,
    /// What a person should know.
    pub warnings: Vec<String>,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    packing: Packing,
    /// The platform that it is of.
    pub platform: String,
    #[serde(skip)]
    environment: Option<Zeroizing<Vec<u8>>>,
    #[serde(skip)]
    has_git: bool,
    /// What an export's snapshot was.
    #[serde(skip)]
    manifest: Option<Manifest>,
}

/// A file that was imported.
#[derive(Debug, Serialize)]
pub struct ImportOutcome {
    /// The snapshot.
    pub id: SnapshotId,
    /// The instance's name.
    pub instance: String,
    /// The file's name.
    pub file: String,
    /// The snapshot's time: when the file was made.
    pub time: Timestamp,
    /// Always true: what is not sealed is an error.
    pub sealed: bool,
    /// Whether its keys decrypt what is encrypted in it.
    pub key_fit: KeyFit,
    /// Bytes of content.
    pub size_bytes: u64,
    /// Bytes that were new in the repository.
    pub added_bytes: u64,
    /// Counts by kind.
    pub counts: BTreeMap<String, u64>,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl JobResult for ImportOutcome {
    fn snapshot(&self) -> Option<SnapshotId> {
        Some(self.id)
    }
}

/// Whether a password is needed to look at a file.
pub fn is_encrypted(file: &Path) -> Result<bool, OpsError> {
    let packing = input::packing(file).map_err(|source| failed(file, source))?;
    Ok(packing == Packing::Encrypted)
}

/// Look through a file to its end.
pub fn look(file: &Path, password: Option<&Secret>, context: &Context) -> Result<Looked, OpsError> {
    let failed = |source| failed(file, source);
    let name = file.file_name().unwrap_or(file.as_os_str());
    let name = display_path(name.as_bytes());
    context.events.phase("looking at", name.clone());
    let packing = input::packing(file).map_err(failed)?;
    let metadata = file.metadata().map_err(|error| failed(ImportError::Read(error)))?;
    let mut input = open(file, packing, password, context).map_err(failed)?;
    if packing == Packing::Zstd {
        let manifest = exported::look(&mut input).map_err(failed)?;
        ensure_past(&name, manifest.started)?;
        let mut counts = BTreeMap::new();
        for (kind, count) in manifest.components.iter().flat_map(|component| &component.counts) {
            *counts.entry(kind.clone()).or_insert(0) += count;
        }
        return Ok(Looked {
            sha256: input.sum(),
            size_bytes: metadata.len(),
            encrypted: false,
            time: manifest.started,
            version: manifest.version.clone(),
            database: None,
            counts,
            has_keys: true,
            warnings: Vec::new(),
            path: file.to_owned(),
            packing,
            platform: manifest.platform.clone(),
            environment: None,
            has_git: false,
            manifest: Some(manifest),
            file: name,
        });
    }
    let contents = appsmithctl::look(&mut input).map_err(failed)?;
    let mut warnings = Vec::new();
    let time = if let Some(time) = time_in(&name) {
        time
    } else {
        let modified = metadata.modified().map_err(|error| failed(ImportError::Read(error)))?;
        let time = Timestamp::try_from(modified).unwrap_or(Timestamp::UNIX_EPOCH);
        warnings.push(format!(
            "The name of {name} tells no time: the snapshot is of the time at which the file was last changed, {time:.0}."
        ));
        time
    };
    ensure_past(&name, time)?;
    if !contents.unknown.is_empty() {
        let unknown = contents.unknown.join(", ");
        warnings.push(format!(
            "{name} holds more than appsmithctl puts there, which is not imported: {unknown}."
        ));
    }
    if !contents.dump.left_out.is_empty() {
        let left_out = contents.dump.left_out.join(", ");
        warnings.push(format!(
            "The dump in {name} holds more than its database, which is not imported: {left_out}."
        ));
    }
    let Taken { database, mut counts, .. } = contents.dump;
    let has_git = contents.git.is_some();
    counts.extend(contents.git.unwrap_or_default());
    let has_keys = contents.environment.as_deref().is_some_and(|text| keys::are_in(text));
    Ok(Looked {
        sha256: input.sum(),
        size_bytes: metadata.len(),
        encrypted: packing == Packing::Encrypted,
        time,
        version: contents.version,
        database: Some(database),
        platform: Platform::Appsmith.to_string(),
        manifest: None,
        counts,
        has_keys,
        warnings,
        path: file.to_owned(),
        packing,
        environment: contents.environment,
        has_git,
        file: name,
    })
}

/// A snapshot from the future would be the latest for a long time.
fn ensure_past(name: &str, time: Timestamp) -> Result<(), OpsError> {
    if time > Timestamp::now() {
        return Err(OpsError::refused(
            format!("{name} is of a time that has not come yet, {time}"),
            "is this host's clock right? The time of an appsmithctl archive is in its name",
        ));
    }
    Ok(())
}

fn failed(file: &Path, source: ImportError) -> OpsError {
    OpsError::Import { file: file.to_owned(), source }
}

fn open(
    file: &Path,
    packing: Packing,
    password: Option<&Secret>,
    context: &Context,
) -> Result<Input, ImportError> {
    let mut progress = progress_of(&context.events);
    Input::open(file, packing, password, &context.cancel, move |bytes| progress(bytes, 0))
}

/// What a layer below says that was no doubt; what read above it knows only that something went wrong.
fn or_fault<T, E: From<ImportError>>(result: Result<T, E>, fault: &Fault) -> Result<T, E> {
    result.map_err(|error| fault.take().map_or(error, E::from))
}

/// The time in a name such as `appsmith-backup-2026-11-01T02-30-00.000Z.tar.gz`.
fn time_in(name: &str) -> Option<Timestamp> {
    let mut clocks = name.match_indices('T').filter_map(|(at, _)| {
        let text = name.get(at.checked_sub("2026-11-01".len())?..)?;
        let (day, clock) = text[..=text.find('Z')?].split_once('T')?;
        format!("{day}T{}", clock.replace('-', ":")).parse().ok()
    });
    clocks.next()
}

/// The snapshot that was made of the same file before.
pub fn imported_before(
    session: &Session,
    instance: &Instance,
    looked: &Looked,
) -> Result<Option<SnapshotId>, OpsError> {
    let own = match &session.catalog {
        Some(catalog) => catalog.instance_id(&instance.name, &instance.repository)?,
        None => None,
    };
    let sum = looked.sha256.to_string();
    let snapshots = session.repository.snapshots()?.readable;
    let same = snapshots.into_iter().find(|snapshot| {
        let is_ours = own.is_some() && select::instance_of(&snapshot.file) == own;
        is_ours && snapshot.file.tag(TAG_IMPORTED) == Some(&sum)
    });
    Ok(same.map(|snapshot| snapshot.id))
}

/// Import a file that was looked at.
pub fn import(
    config: &Config,
    session: &Session,
    instance: &Instance,
    looked: &Looked,
    options: &ImportOptions,
    context: &Context,
) -> Result<ImportOutcome, OpsError> {
    ensure_platform(instance, looked)?;
    let keys = options.keys.resolve(looked)?;
    let _busy = InstanceLock::acquire(&config.state_dir, &instance.name, context)?;
    if let (Some(before), false) = (imported_before(session, instance, looked)?, options.again) {
        return Err(OpsError::refused(
            format!("{} was imported already: snapshot {}", looked.file, before.short()),
            "nothing has to be done; to import it once more: --again",
        ));
    }
    let identity = identify(session, instance, context)?;
    let id = job::random_job_id()?;
    let subject = JobSubject {
        kind: JobKind::Import,
        instance: Some((&instance.name, identity)),
        repository: session.name.as_ref(),
    };
    let (outcome, _) = job::run(&config.state_dir, id, &subject, context, |context| {
        let backup = BackupOptions::default();
        let run = Run { config, session, instance, options: &backup, context, identity, job: id };
        Importing { run, looked, options, keys }.take()
    })?;
    Ok(outcome)
}

/// An error where the file is not of the instance's platform.
pub fn ensure_platform(instance: &Instance, looked: &Looked) -> Result<(), OpsError> {
    if instance.platform.as_str() == looked.platform {
        return Ok(());
    }
    Err(OpsError::usage(
        format!(
            "{} is of the platform {}, and {} of {}",
            instance.name, instance.platform, looked.file, looked.platform
        ),
        format!("name an instance of the platform {} with --instance", looked.platform),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_in_the_name() {
        let time = |name: &str| time_in(name).map(|time| time.to_string());
        let expected = Some("2026-11-01T02:30:00Z".to_owned());
        assert_eq!(time("appsmith-backup-2026-11-01T02-30-00.000Z.tar.gz"), expected);
        assert_eq!(time("Tuesday-appsmith-backup-2026-11-01T02-30-00.000Z.tar.gz.enc"), expected);
        for name in ["backup.tar.gz", "2026-13-01T02-30-00.000Z", "2026-11-01T02-30", "ÄT-Z", "T"]
        {
            assert_eq!(time(name), None, "{name}");
        }
    }
}
