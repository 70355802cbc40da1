//! An instance `data` of two directories, another one, and a repository, in a temporary directory.

use crate::catalog::Catalog;
use crate::config::{Config, Instance};
use crate::model::event::{Cancel, Event, Events};
use crate::model::id::{RepositoryId, SnapshotId};
use crate::ops::backup::{BackupOptions, BackupOutcome, backup};
use crate::ops::restore::into::{IntoOptions, RestoredInto, prepare};
use crate::ops::select::SnapshotRef;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use crate::repository::Repository;
use crate::repository::format::key::ScryptCost;
use crate::store::Store;
use crate::store::local::LocalStore;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

const CHEAP: ScryptCost = ScryptCost { log_n: 4, r: 8, p: 1 };
const PASSWORD: &[u8] = b"password";

/// What is at each path: mode, and content of files.
pub(super) type Tree = BTreeMap<String, (u32, Option<Vec<u8>>)>;

pub(super) struct Bench {
    pub(super) config: Config,
    pub(super) cancel: Cancel,
    pub(super) root: PathBuf,
    told: Arc<Mutex<Vec<Event>>>,
    _directory: TempDir,
}

/// In memory where possible: these tests write durably, again and again.
pub(super) fn temporary() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::in_directory(temporary())
    }

    pub(super) fn in_directory(directory: TempDir) -> Self {
        let root = directory.path().canonicalize().unwrap();
        let at = |name: &str| root.join(name).display().to_string();
        let text = format!(
            "[repository.main]\nurl = '{}'\npassword = 'file:{}'\n[state]\ndir = '{}'\n\
             [instance.data]\nplatform = 'files'\npaths = {{ one = '{}', two = '{}' }}\n\
             [instance.other]\nplatform = 'files'\npaths = ['{}']\n",
            at("repository"),
            at("password"),
            at("state"),
            at("one"),
            at("two"),
            at("other")
        );
        for name in ["one/d/e", "two", "other"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for (name, text) in
            [("one/a", "old a"), ("one/d/e/f", "old f"), ("two/b", "old b"), ("other/c", "old c")]
        {
            fs::write(root.join(name), text).unwrap();
        }
        let store = Arc::new(LocalStore::new(root.join("repository")));
        let repository = Repository::init(store, PASSWORD, CHEAP).unwrap();
        let config = Config::parse(&text, "test").unwrap();
        let catalog = Catalog::open(&config.state_dir).unwrap();
        let id = RepositoryId(repository.id().0);
        catalog.record_repository(id, &"main".parse().unwrap(), &at("repository")).unwrap();
        let (cancel, told) = (Cancel::new(), Arc::default());
        Self { config, cancel, root, told, _directory: directory }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn session(&self) -> Session {
        self.session_of(Arc::new(LocalStore::new(self.path("repository")))).unwrap()
    }

    pub(super) fn session_of(&self, store: Arc<dyn Store>) -> Result<Session, OpsError> {
        let repository = Arc::new(Repository::open(store, PASSWORD)?);
        let catalog = Catalog::open(&self.config.state_dir)?;
        let name = Some("main".parse().unwrap());
        Ok(Session::with_parts(repository, name, Some(catalog), Duration::ZERO))
    }

    pub(super) fn instance(&self) -> &Instance {
        self.config.instance("data").unwrap()
    }

    pub(super) fn try_backup(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<BackupOutcome, OpsError> {
        let instance = self.config.instance(name).unwrap();
        backup(&self.config, session, instance, &BackupOptions::default(), &self.context())
    }

    pub(super) fn backup(&self, session: &Session) -> SnapshotId {
        self.try_backup(session, "data").unwrap().id
    }

    /// Take a snapshot, and change the instance after it; as long ago as any clock can tell.
    pub(super) fn backed_up_and_changed(&self, session: &Session) -> (Tree, Tree) {
        let snapshot = self.instance_tree();
        self.backup(session);
        self.change();
        (snapshot, self.instance_tree())
    }

    /// The instance after its last snapshot.
    pub(super) fn change(&self) {
        fs::write(self.path("one/a"), "present a").unwrap();
        fs::write(self.path("two/present"), "present").unwrap();
        let changed = fs::metadata(self.path("two")).unwrap();
        let changed = (changed.ctime(), changed.ctime_nsec());
        // The file system's clock goes in steps.
        loop {
            fs::write(self.path("clock"), "").unwrap();
            let now = fs::metadata(self.path("clock")).unwrap();
            if (now.ctime(), now.ctime_nsec()) > changed {
                break;
            }
        }
        fs::remove_file(self.path("clock")).unwrap();
    }

    /// Both directories of the instance.
    pub(super) fn instance_tree(&self) -> Tree {
        let mut both = Tree::new();
        for name in ["one", "two"] {
            for (path, entry) in tree(&self.path(name)) {
                both.insert(format!("{name}/{path}"), entry);
            }
        }
        both
    }

    /// What restores have left beside the instance and in it.
    pub(super) fn leftovers(&self) -> Vec<String> {
        let mut all = listing(&self.root);
        all.retain(|path| path.rsplit('/').next().is_some_and(|name| name.starts_with(".belay-")));
        all
    }

    pub(super) fn journals(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("state/restores")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    pub(super) fn restore(
        &self,
        session: &Session,
        options: &IntoOptions,
        context: &Context,
    ) -> Result<RestoredInto, OpsError> {
        let latest = SnapshotRef::Latest("data".into());
        let prepared = prepare(&self.config, session, self.instance(), &latest, options, context)?;
        prepared.execute(context)
    }

    pub(super) fn context(&self) -> Context {
        self.context_with(|_| {})
    }

    /// A context that does something when a phase begins, before the phase does anything.
    pub(super) fn context_with(&self, at_phase: impl Fn(&str) + Send + Sync + 'static) -> Context {
        let told = Arc::clone(&self.told);
        let events = Events::new(move |event| {
            if let Event::Phase { phase, .. } = &event {
                at_phase(phase);
            }
            told.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(event);
        });
        Context::new(events, self.cancel.clone())
    }

    /// The warnings since this was asked last.
    pub(super) fn warnings(&self) -> String {
        self.take(|event| match event {
            Event::Warning { message } => Some(message),
            _ => None,
        })
    }

    /// The same for notes.
    pub(super) fn notes(&self) -> String {
        self.take(|event| match event {
            Event::Note { message } => Some(message),
            _ => None,
        })
    }

    fn take(&self, wanted: impl Fn(Event) -> Option<String>) -> String {
        let mut told = self.told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let told = std::mem::take(&mut *told);
        told.into_iter().filter_map(wanted).collect::<Vec<_>>().join("\n")
    }
}

/// The paths below a directory, sorted.
pub(super) fn listing(directory: &Path) -> Vec<String> {
    tree(directory).into_keys().collect()
}

pub(super) fn tree(directory: &Path) -> Tree {
    let mut found = Tree::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let content = metadata.is_file().then(|| fs::read(&path).unwrap());
            let name = path.strip_prefix(directory).unwrap().to_str().unwrap().to_owned();
            found.insert(name, (metadata.mode(), content));
            if metadata.is_dir() {
                open.push(path);
            }
        }
    }
    found
}

/// Copy the files of a repository.
pub(super) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy_files(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
