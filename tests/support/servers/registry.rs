//! A registry of images on this machine (`registry.py`): Docker gives an image a digest only where it comes from one.

use super::Server;
use crate::support::wait_until;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Registry {
    directory: TempDir,
    server: Server,
    images: Map<String, Value>,
    port: String,
}

impl Registry {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("belay-registry-").tempdir().unwrap();
        fs::write(directory.path().join("images.json"), "{}").unwrap();
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/registry.py");
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new("/usr/bin/python3")
            .arg(program)
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut registry =
            Self { directory, server: Server(child), images: Map::new(), port: String::new() };
        wait_until("the registry to listen", || {
            let path = registry.directory.path();
            let log = fs::read_to_string(path.join("log")).unwrap_or_default();
            registry.server.assert_runs(&log);
            registry.port = fs::read_to_string(path.join("port")).unwrap_or_default();
            !registry.port.is_empty()
        });
        registry
    }

    /// Let a tag mean an image that runs this script, and is healthy when that test says so.
    pub fn push(&mut self, tag: &str, script: &str, health: Option<&str>) {
        self.insert(tag, json!({ "script": script, "health": health }));
    }

    /// The same with files of its own, by their paths without a `/` in front.
    pub fn push_with(&mut self, tag: &str, script: &str, files: &[(&str, &str)]) {
        let files: Map<String, Value> =
            files.iter().map(|(path, text)| ((*path).to_owned(), json!(text))).collect();
        self.insert(tag, json!({ "script": script, "files": files }));
    }

    fn insert(&mut self, tag: &str, image: Value) {
        self.images.insert(tag.to_owned(), image);
        let path = self.directory.path().join("images.json");
        fs::write(&path, Value::Object(self.images.clone()).to_string()).unwrap();
    }

    /// The name of its images, without a tag.
    pub fn name(&self) -> String {
        format!("127.0.0.1:{}/shop/app", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.stop(rustix::process::Signal::KILL);
    }
}
