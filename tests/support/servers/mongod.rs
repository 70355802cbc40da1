//! A MongoDB server: a replica set of one, or a server of its own.

use super::{Server, free_port};
use crate::support::{Run, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Mongod {
    directory: TempDir,
    server: Server,
    pub port: u16,
}

/// Starting Python takes longer than the server takes to become primary: one process waits for it.
const INITIATE: &str = "
import time
try: client.admin.command('replSetInitiate')
except pymongo.errors.OperationFailure as e: assert e.code == 23, e
while not client.admin.command('hello')['isWritablePrimary']: time.sleep(0.005)
";
/// Debian's. Another one in the path may be a script that looks for it.
const PYTHON: &str = "/usr/bin/python3";

/// Where `tests/run` puts what comes from Python's package index.
pub fn python_packages() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    target.join("tools/python")
}

impl Mongod {
    /// A replica set of one.
    pub fn start() -> Self {
        Self::start_with(&["--replSet", "mr1"]).initiated()
    }

    /// The same on a directory that outlives it, which a server elsewhere then takes over with this port.
    pub fn start_on(data: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("belay-mongo-").tempdir().unwrap();
        Self::start_in(directory, data, &["--replSet", "mr1"]).initiated()
    }

    fn initiated(self) -> Self {
        let mongod = self;
        mongod.python(INITIATE);
        mongod
    }

    pub fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("belay-mongo-").tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        Self::start_in(directory, &data, arguments)
    }

    fn start_in(directory: TempDir, data: &Path, arguments: &[&str]) -> Self {
        let port = free_port();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let program = python_packages().join("fiftyone/db/bin/mongod");
        let child = Command::new(&program)
            .arg("--dbpath")
            .arg(data)
            .args(["--port", &port.to_string(), "--bind_ip", "127.0.0.1"])
            .args(["--wiredTigerCacheSizeGB", "0.25"])
            .arg("--unixSocketPrefix")
            .arg(directory.path())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{}: {error}: tests/run installs it", program.display())
            });
        let mut mongod = Self { directory, server: Server(child), port };
        wait_until("MongoDB to answer", || {
            let log = fs::read_to_string(mongod.directory.path().join("log")).unwrap_or_default();
            mongod.server.assert_runs(&log);
            std::net::TcpStream::connect(("127.0.0.1", mongod.port)).is_ok()
        });
        mongod
    }

    pub fn url(&self, database: &str) -> String {
        format!("mongodb://127.0.0.1:{}/{database}", self.port)
    }

    /// End it in order, so that another server can go on with its directory.
    pub fn shut_down(mut self) {
        self.server.stop(rustix::process::Signal::TERM);
    }

    /// End it at once.
    pub fn kill(&self) {
        let pid = rustix::process::Pid::from_raw(self.server.id()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// What a script prints that has `client`, and `pymongo` and `bson`.
    #[track_caller]
    pub fn python(&self, script: &str) -> String {
        Run::of(self.python_command(script)).ok().stdout().trim().to_owned()
    }

    pub fn python_command(&self, script: &str) -> Command {
        python_at(&self.url(""), script)
    }

    /// Fill a database with the fixture.
    pub fn seed(&self, database: &str, scale: u32) {
        let url = format!("{}?directConnection=true", self.url(""));
        let mut command = Command::new(PYTHON);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/appsmith/seed.py"))
            .args([&url, database, &scale.to_string()])
            .env("PYTHONPATH", python_packages())
            .stdin(Stdio::null());
        Run::of(command).ok();
    }

    /// All that a database has, as the server itself sums it up: documents by its hash, options, indexes, views.
    pub fn picture(&self, database: &str) -> String {
        self.python(&picture_of(database))
    }
}

/// A script with `client`, the server at a connection string, and `pymongo` and `bson`.
pub fn python_at(url: &str, script: &str) -> Command {
    let head = format!(
        "import bson, json, pymongo\nclient = pymongo.MongoClient({url:?}, directConnection=True)\n"
    );
    let mut command = Command::new(PYTHON);
    command.arg("-c").arg(head + script).env("PYTHONPATH", python_packages());
    command.stdin(Stdio::null());
    command
}

/// The script that prints all that a database has.
pub fn picture_of(database: &str) -> String {
    format!(
        "
db = client[{database:?}]
hashes = db.command('dbHash')['collections']
for each in sorted(db.command('listCollections')['cursor']['firstBatch'], key=lambda each: each['name']):
    name = each['name']
    indexes = [] if each['type'] == 'view' or name == 'system.views' else [list(i.items()) for i in db[name].list_indexes()]
    # The server's own list of views has the database's name in it, and few may read it.
    content = '-' if name == 'system.views' else (hashes.get(name), db[name].count_documents({{}}))
    print(name, each['type'], each['options'], content, indexes)
"
    )
}

impl Drop for Mongod {
    fn drop(&mut self) {
        self.server.stop(rustix::process::Signal::KILL);
    }
}
