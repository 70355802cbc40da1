//! What the integration tests share: a sandbox with a configuration, a repository and a source; running `belay` and
//! `restic` there; trees to back up, and comparing them.
//!
//! Nothing is done outside the sandbox's temporary directory, and only processes started here are ended here.
#![allow(dead_code, unused_imports)] // Each test program uses a part.
#![allow(clippy::unwrap_used)]

pub mod clock;
pub mod disk;
pub mod nspawn;
pub mod pair;
mod postgres;
mod random;
mod run;
pub mod servers;
mod tree;
mod trees;
pub mod upgrades;

pub use postgres::{PROGRAMS, PostgresServer};
pub use random::Random;
pub use run::{Run, Running, wait_until};
pub use tree::{Tree, assert_same};
pub use trees::{add_link_to_bytes, change_tree, make_strange_tree, make_tree, write_file};

use belay::model::event::{Cancel, Events};
use belay::repository::Repository;
use belay::repository::format::key::ScryptCost;
use belay::repository::lock::{Lock, LockMode, LockRequest};
use belay::store::local::LocalStore;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The password of every sandbox's repository.
pub const PASSWORD: &str = "a password for tests";

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("the sandbox's paths are plain")
}

/// A number from the environment that sizes a test, or its short form.
pub fn size(variable: &str, short: u64) -> u64 {
    std::env::var(variable).map_or(short, |value| {
        value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number"))
    })
}

/// Both must be the same; tells the first lines that differ.
#[track_caller]
pub fn assert_same_text(expected: &str, found: &str) {
    let differing = expected.lines().zip(found.lines()).find(|(one, other)| one != other);
    assert!(
        expected == found,
        "first difference: {differing:?}; lengths {} and {}",
        expected.len(),
        found.len()
    );
}

/// Fails the test when it does not run as root, and says what for.
pub fn require_root(reason: &str) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: {reason}");
}

/// A snapshot as `belay list --json` shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub id: String,
    /// Empty for snapshots that are not Belay's.
    pub instance: String,
    pub sealed: bool,
}

/// A temporary directory with everything that one host has: configuration, password, state, sources; and a repository.
pub struct Sandbox {
    directory: TempDir,
    /// What `belay init` printed; empty when it was not called.
    pub recovery_key: String,
}

impl Sandbox {
    /// With an empty repository made by `belay init`, and the instance `data` over an empty source.
    pub fn new() -> Self {
        let mut sandbox = Self::without_repository();
        let made = sandbox.belay(&["init", "--json"]).ok().json();
        let key = made["recovery_key"].as_str().expect("init prints a recovery key");
        key.clone_into(&mut sandbox.recovery_key);
        sandbox.make_password_cheap(key);
        sandbox
    }

    /// Replaces the key of the password by one that a random key would get: what a person's password costs, on purpose,
    /// is most of the time that each command takes here.
    pub fn make_password_cheap(&self, recovery_key: &str) {
        let store = Arc::new(LocalStore::new(self.repository()));
        let repository = Repository::open(store, recovery_key.as_bytes()).unwrap();
        let keys = repository.keys().unwrap().readable;
        repository.add_key(PASSWORD.as_bytes(), ScryptCost::RANDOM_KEY, None).unwrap();
        for key in keys.iter().filter(|key| !key.in_use) {
            repository.remove_key(key.id).unwrap();
        }
    }

    /// As `new`, but no repository is made yet.
    pub fn without_repository() -> Self {
        let directory = tempfile::Builder::new().prefix("belay-test-").tempdir().unwrap();
        // Another user gets through in some tests.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox = Self { directory, recovery_key: String::new() };
        write_secret(&sandbox.password_file(), PASSWORD);
        sandbox.configure(&["data"], "last = 1000");
        sandbox
    }

    /// Writes the configuration: an instance of platform `files` per name over the source of that name (made if missing).
    pub fn configure(&self, instances: &[&str], keep: &str) {
        self.configure_at(&self.repository(), &self.state(), instances, keep);
    }

    /// As `configure`, with repository and state elsewhere.
    pub fn configure_at(&self, repository: &Path, state: &Path, instances: &[&str], keep: &str) {
        let config = config(repository, &self.password_file(), state, keep, instances, |name| {
            self.source_of(name)
        });
        for name in instances {
            fs::create_dir_all(self.source_of(name)).unwrap();
        }
        fs::write(self.config(), config).unwrap();
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn repository(&self) -> PathBuf {
        self.path("repository")
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub fn config(&self) -> PathBuf {
        self.path("belay.toml")
    }

    pub fn password_file(&self) -> PathBuf {
        self.path("password")
    }

    /// What the instance `data` is made of.
    pub fn source(&self) -> PathBuf {
        self.source_of("data")
    }

    pub fn source_of(&self, instance: &str) -> PathBuf {
        self.path(&format!("source-{instance}"))
    }

    /// `belay --config … ARGUMENTS`, not started yet.
    pub fn belay_command(&self, arguments: &[&str]) -> Command {
        self.belay_with(&["--config", text(&self.config())], arguments)
    }

    /// With other options in place of the configuration.
    pub fn belay_with(&self, global: &[&str], arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_belay"));
        command.args(global).args(arguments);
        self.tidy(&mut command);
        command
    }

    /// Nothing of the caller's environment may steer a test.
    pub fn tidy(&self, command: &mut Command) {
        for (name, _) in std::env::vars_os() {
            let name_text = name.to_string_lossy();
            if name_text.starts_with("RESTIC_") || name_text.starts_with("BELAY_") {
                command.env_remove(&name);
            }
        }
        command.env("HOME", self.directory.path()).env("LC_ALL", "C").env("NO_COLOR", "1");
        command.env_remove("RUST_LOG");
    }

    pub fn belay(&self, arguments: &[&str]) -> Run {
        Run::of(self.belay_command(arguments))
    }

    /// `belay --repository … --password-file … ARGUMENTS`: what a bare machine has.
    pub fn belay_bare(&self, repository: &Path, password_file: &Path, arguments: &[&str]) -> Run {
        let global = ["--repository", text(repository), "--password-file", text(password_file)];
        Run::of(self.belay_with(&global, arguments))
    }

    /// A backup of `data` for each night, of a file that is another each time; returns the snapshots, oldest first.
    pub fn nights(&self, count: u32) -> Vec<String> {
        let night = |number: u32| {
            write_file(&self.source().join("file"), format!("night {number}").as_bytes());
            self.backup()
        };
        (0..count).map(night).collect()
    }

    /// Hold the repository as another host's prune does, until this is dropped.
    pub fn held(&self) -> Lock {
        let store = Arc::new(LocalStore::new(self.repository()));
        let repository = Repository::open(store, PASSWORD.as_bytes()).unwrap();
        let purpose = "a test".to_owned();
        let request =
            LockRequest { mode: LockMode::Exclusive, purpose, wait: Duration::from_mins(1) };
        Lock::acquire(&Arc::new(repository), request, &Events::ignored(), &Cancel::new()).unwrap()
    }

    /// Starts `belay --config … ARGUMENTS`.
    pub fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.belay_command(arguments))
    }

    /// Starts it, and stops it in its tracks when it is at work under its lock.
    pub fn start_and_freeze(&self, arguments: &[&str]) -> Running {
        let before = self.files("locks");
        let mut running = self.start(arguments);
        // Both backup and prune begin their work by reading; locks for a moment were held before.
        wait_until("work under a lock, or the end", || {
            running.has_ended()
                || (running.stderr_so_far().contains("reading ")
                    && self.files("locks").difference(&before).count() > 0)
        });
        running.freeze();
        // One that writes to the catalog at that moment would hold up every other command for as long as it is frozen.
        wait_until("a moment at which the catalog is free", || {
            let is_free = running.has_ended() || self.is_catalog_free();
            if !is_free {
                running.thaw();
                std::thread::yield_now();
                running.freeze();
            }
            is_free
        });
        running
    }

    /// Whether nobody is in the middle of writing to the catalog.
    fn is_catalog_free(&self) -> bool {
        let catalog = rusqlite::Connection::open(self.state().join("catalog.sqlite")).unwrap();
        catalog.busy_timeout(Duration::ZERO).unwrap();
        catalog.execute_batch("BEGIN IMMEDIATE; ROLLBACK").is_ok()
    }

    /// A `restic` command on the sandbox's repository, not started yet.
    pub fn restic_command(&self, arguments: &[&str]) -> Command {
        self.restic_command_on(&self.repository(), arguments)
    }

    fn restic_command_on(&self, repository: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("restic");
        command.arg("--no-cache").arg("--repo").arg(repository).args(arguments);
        self.tidy(&mut command);
        command.env("RESTIC_PASSWORD_FILE", self.password_file());
        command
    }

    pub fn restic(&self, arguments: &[&str]) -> Run {
        Run::of(self.restic_command(arguments))
    }

    /// restic on another repository, with that password file.
    pub fn restic_on(&self, repository: &Path, password_file: &Path, arguments: &[&str]) -> Run {
        let mut command = self.restic_command_on(repository, arguments);
        command.env("RESTIC_PASSWORD_FILE", password_file);
        Run::of(command)
    }

    /// restic reads every byte and finds nothing wrong.
    pub fn restic_finds_nothing(&self) {
        let run = self.restic(&["check", "--read-data"]).ok();
        assert!(run.stdout().contains("no errors were found"), "{run}");
    }

    /// `belay check --read-data` finds nothing wrong.
    pub fn belay_finds_nothing(&self) {
        let report = self.belay(&["check", "--read-data", "--json"]).ok().json();
        assert_eq!(report["errors"].as_array().map(Vec::len), Some(0), "{report:#}");
    }

    /// Names of the files in a folder of the repository, by whoever written; not those that are still being written.
    pub fn files(&self, folder: &str) -> BTreeSet<String> {
        ids_in(&self.repository().join(folder))
    }

    /// Ids of all snapshots in the repository, whoever made them, without asking Belay.
    pub fn snapshot_files(&self) -> BTreeSet<String> {
        self.files("snapshots")
    }

    /// Ids of all packs.
    pub fn packs(&self) -> BTreeSet<String> {
        packs_in(&self.repository())
    }

    pub fn pack_path(&self, id: &str) -> PathBuf {
        self.repository().join("data").join(&id[..2]).join(id)
    }

    /// Takes a snapshot of the instance `data` and answers its id.
    pub fn backup(&self) -> String {
        self.backup_of("data")
    }

    pub fn backup_of(&self, instance: &str) -> String {
        let result = self.belay(&["backup", instance, "--json"]).ok().json();
        let [snapshot] = result["snapshots"].as_array().map_or(&[][..], Vec::as_slice) else {
            panic!("backup of one instance should tell one snapshot: {result:#}");
        };
        assert_eq!(snapshot["instance"], instance, "{result:#}");
        assert_eq!(snapshot["sealed"], true, "{result:#}");
        let id = snapshot["id"].as_str().expect("a snapshot has an id").to_owned();
        assert!(self.snapshot_files().contains(&id), "{id} is told but not in the repository");
        id
    }

    pub fn list(&self) -> Vec<Listed> {
        listed(&self.belay(&["list", "--json"]).ok().json())
    }

    /// Restores a snapshot with Belay and answers the directory of the component's tree.
    pub fn restore(&self, snapshot: &str) -> Restored {
        let target = self.fresh_directory();
        self.belay(&["restore", snapshot, "--to-dir", text(target.path())]).ok();
        Restored(target)
    }

    /// The same with restic.
    pub fn restic_restore(&self, snapshot: &str) -> Restored {
        let target = self.fresh_directory();
        self.restic(&["restore", snapshot, "--target", text(target.path())]).ok();
        Restored(target)
    }

    /// Restores with Belay and compares with what the source was.
    pub fn assert_restores(&self, snapshot: &str, expected: &Tree) {
        let restored = self.restore(snapshot);
        assert_same(
            expected,
            &Tree::read(&restored.tree()),
            &format!("snapshot {snapshot} restored by belay"),
        );
    }

    /// Restores with restic and compares with what the source was.
    pub fn assert_restic_restores(&self, snapshot: &str, expected: &Tree) {
        let restored = self.restic_restore(snapshot);
        assert_same(
            expected,
            &Tree::read(&restored.tree()),
            &format!("snapshot {snapshot} restored by restic"),
        );
    }

    /// An empty directory in the sandbox that vanishes with its handle.
    pub fn fresh_directory(&self) -> TempDir {
        tempfile::Builder::new().prefix("target-").tempdir_in(self.directory.path()).unwrap()
    }
}

/// A restored snapshot; removed with this handle.
pub struct Restored(TempDir);

impl Restored {
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// The only tree in `files/`.
    pub fn tree(&self) -> PathBuf {
        let directories: Vec<PathBuf> = fs::read_dir(self.0.path().join("files"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        let [tree] = &directories[..] else { panic!("one tree was expected: {directories:?}") };
        tree.clone()
    }
}

/// A configuration file's text.
pub fn config(
    repository: &Path,
    password_file: &Path,
    state: &Path,
    keep: &str,
    instances: &[&str],
    source_of: impl Fn(&str) -> PathBuf,
) -> String {
    let (repository, state) = (text(repository), text(state));
    let mut config = format!(
        "[repository.main]\nurl = \"{repository}\"\npassword = \"file:{}\"\n\n\
         [state]\ndir = \"{state}\"\n\n[defaults]\nkeep = {{ {keep} }}\n",
        text(password_file),
    );
    for name in instances {
        let source = source_of(name);
        let source = text(&source);
        write!(
            config,
            "\n[instance.{name}]\nplatform = \"files\"\nvia = \"local\"\npaths = [\"{source}\"]\n"
        )
        .unwrap();
    }
    config
}

/// The snapshots in what `belay list --json` printed.
pub fn listed(list: &Value) -> Vec<Listed> {
    let snapshots = list.as_array().expect("list --json prints an array");
    snapshots
        .iter()
        .map(|snapshot| Listed {
            id: snapshot["id"].as_str().expect("a snapshot has an id").to_owned(),
            instance: snapshot["instance"].as_str().unwrap_or_default().to_owned(),
            sealed: snapshot["sealed"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// Names of the entries of a directory; none if it is not there.
pub fn files_in(directory: &Path) -> BTreeSet<String> {
    let Ok(entries) = fs::read_dir(directory) else { return BTreeSet::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

/// Ids of all packs in a repository.
pub fn packs_in(repository: &Path) -> BTreeSet<String> {
    let folders = fs::read_dir(repository.join("data")).unwrap();
    folders.flat_map(|folder| ids_in(&folder.unwrap().path())).collect()
}

/// Those that are ids.
pub fn ids_in(directory: &Path) -> BTreeSet<String> {
    files_in(directory).into_iter().filter(|name| name.len() == 64).collect()
}

/// Writes a file with a password, which nobody else may read.
pub fn write_secret(path: &Path, secret: &str) {
    fs::write(path, format!("{secret}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
