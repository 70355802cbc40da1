//! The main job on a small made-up instance, in a temporary directory: nothing else of the machine is touched. The nights of a made-up
//! pair, which come next in the demonstration, are told by `upgrade::demo`.

use super::backup::{BackupOptions, BackupOutcome, backup};
use super::restore::into::{self, IntoOptions};
use super::session::Session;
use super::{Context, OpsError, SnapshotRef, check, init};
use crate::config::{Config, SecretSources};
use crate::model::size::Bytes;
use crate::repository::RepositoryError;
use crate::repository::check::{CheckOptions, Slice};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Files of the made-up instance.
const UPLOADS: usize = 200;

/// A line of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// What is done, or what has become of it.
    Chapter(String),
    /// What happened within it, and when.
    Moment(String),
}

/// Who is told the story.
pub type Tell<'a> = &'a mut dyn FnMut(Line);

/// Back up, lose and restore a made-up instance, telling the story line by line.
pub fn demo(context: &Context, tell: Tell<'_>) -> Result<(), OpsError> {
    let mut tell = |text: String| tell(Line::Chapter(text));
    let directory =
        tempfile::tempdir().map_err(failed("create a directory in", &std::env::temp_dir()))?;
    let root = directory.path();
    let instance_dir = root.join("instance");
    make_instance(&instance_dir).map_err(failed("write", &instance_dir))?;
    let config = configure(root)?;
    let secrets = SecretSources::new(Vec::new(), |_| None);
    let repository = config.repository("main")?;

    tell(format!(
        "An instance of platform files, made up for this: {UPLOADS} uploads and an app's settings."
    ));
    let made = init::init(&config, repository, &secrets, context)?;
    tell(format!(
        "An encrypted repository, made by `belay init`; its recovery key is {}.",
        made.recovery_key
    ));

    let session = Session::open(&config, repository, &secrets)?;
    let instance = config.instance("demo")?;
    let take = || backup(&config, &session, instance, &BackupOptions::default(), context);
    let first = take()?;
    tell(told("The first snapshot", &first));

    let settings = instance_dir.join("settings.json");
    fs::write(&settings, "{\"title\": \"Orders, second edition\"}\n")
        .map_err(failed("write", &settings))?;
    fs::write(instance_dir.join("uploads/new.bin"), noise(300_000, 7))
        .map_err(failed("write", &instance_dir))?;
    let second = take()?;
    tell(told("Some hours later, after a change and a new upload, the second", &second));

    let before = fingerprint(&instance_dir).map_err(failed("read", &instance_dir))?;
    fs::remove_dir_all(&instance_dir).map_err(failed("remove", &instance_dir))?;
    tell("Then somebody deletes the whole instance.".into());

    let options = IntoOptions::default();
    let latest = SnapshotRef::Latest("demo".into());
    let restored =
        into::prepare(&config, &session, instance, &latest, &options, context)?.execute(context)?;
    let after = fingerprint(&instance_dir).map_err(failed("read", &instance_dir))?;
    if before != after {
        let message = "the restored instance differs from what was backed up".into();
        return Err(RepositoryError::Internal(message).into());
    }
    let done = restored.done.unwrap_or_default();
    tell(format!(
        "`belay restore latest:demo --into demo` brings back {} files, {}: every byte, mode and time as it was.",
        done.files,
        Bytes(done.bytes)
    ));

    let report = check::check(&session, CheckOptions { read_data: Some(Slice::ALL) }, context)?;
    if report.is_damaged() {
        return Err(RepositoryError::Internal(
            "the check found damage in a repository made just now".into(),
        )
        .into());
    }
    tell(format!(
        "`belay check --read-data` reads all {} of the repository again, and finds no damage.",
        Bytes(report.bytes_read)
    ));
    Ok(())
}

fn told(which: &str, outcome: &BackupOutcome) -> String {
    let files = outcome.counts.get("files").copied().unwrap_or(0);
    format!(
        "{which} ({}): {files} files, {}, of which {} were new.",
        outcome.id.short(),
        Bytes(outcome.size_bytes),
        Bytes(outcome.added_bytes)
    )
}

/// A failure of something that was tried on a path.
pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(std::io::Error) -> OpsError + 'a {
    move |source| OpsError::Io { action, path: path.to_owned(), source }
}

fn make_instance(directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("uploads"))?;
    fs::write(directory.join("settings.json"), "{\"title\": \"Orders\"}\n")?;
    for number in 0..UPLOADS {
        let content = noise(10_000 + number * 331, number as u64);
        fs::write(directory.join(format!("uploads/invoice-{number:03}.pdf")), content)?;
    }
    fs::write(directory.join("run.sh"), "#!/bin/sh\n")?;
    fs::set_permissions(directory.join("run.sh"), fs::Permissions::from_mode(0o750))
}

fn configure(root: &Path) -> Result<Config, OpsError> {
    let password = write_password(root)?;
    let path = |name: &str| toml::Value::String(root.join(name).display().to_string()).to_string();
    let text = format!(
        "[repository.main]\nurl = {}\npassword = {}\n\n[state]\ndir = {}\n\n[instance.demo]\nplatform = \"files\"\nvia = \"local\"\npaths = [{}]\n",
        path("repository"),
        toml::Value::String(format!("file:{}", password.display())),
        path("state"),
        path("instance"),
    );
    Ok(Config::parse(&text, "the demonstration's configuration")?)
}

/// Make the password of a repository, in a file of the directory.
pub(crate) fn write_password(root: &Path) -> Result<PathBuf, OpsError> {
    let password = root.join("password");
    let random = getrandom::u64().map_err(|error| RepositoryError::Internal(error.to_string()))?;
    fs::write(&password, format!("{random:016x}\n")).map_err(failed("write", &password))?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))
        .map_err(failed("close", &password))?;
    Ok(password)
}

/// An entry's path, mode, time and content.
pub(crate) type Fingerprint = (String, u32, std::time::SystemTime, Vec<u8>);

/// Everything below a directory.
pub(crate) fn fingerprint(directory: &Path) -> std::io::Result<Vec<Fingerprint>> {
    let mut entries = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let metadata = fs::symlink_metadata(&path)?;
        let content = if metadata.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
            Vec::new()
        } else {
            fs::read(&path)?
        };
        let mode = metadata.permissions().mode();
        entries.push((path.display().to_string(), mode, metadata.modified()?, content));
    }
    entries.sort();
    Ok(entries)
}

/// Bytes that do not compress, the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
