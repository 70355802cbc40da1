//! The small platform of `platform_server.py`, installed as the driver `command` does: by a script that stops one version of it and starts
//! another.

use super::mongod::python_packages;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Stops the server that runs, and starts the version that it is told; ends once that listens, or does not.
const UPGRADE: &str = r#"#!/bin/sh
set -eu
here=HERE/$BELAY_INSTANCE
stop() {
  [ -e "$here/pid" ] || return 0
  pid=$(cat "$here/pid")
  kill "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
  rm -f "$here/pid"
}
start() {
  rm -f "$here/ready"
  # It notes its own process, so that it can be stopped whenever this script is killed.
  PYTHONPATH=PACKAGES setsid sh -c 'echo $$ > "$1/pid.new"; mv "$1/pid.new" "$1/pid"; exec /usr/bin/python3 SERVER "$1" "$2"' \
    server "$here" "$1" > "$here/log" 2>&1 < /dev/null &
  while [ ! -e "$here/pid" ]; do sleep 0.02; done
  while [ ! -e "$here/ready" ]; do
    kill -0 "$(cat "$here/pid")" 2>/dev/null || { cat "$here/log"; rm -f "$here/pid"; exit 1; }
    sleep 0.02
  done
}
# What is done, and whether users are kept out meanwhile.
note() {
  users=in
  [ ! -e "$here/kept-out" ] || users=out
  echo "$*, users $users" >> "$here/actions"
}
case ${1-install} in
  keep-out) : > "$here/kept-out" ;;
  let-in) rm -f "$here/kept-out" ;;
  stop) note stop; stop ;;
  start) note start; [ -e "$here/pid" ] || start "$(cat "$here/version")" ;;
  install)
    echo "replacing ${BELAY_PREVIOUS_VERSION:-nothing} by $BELAY_VERSION"
    note install "$BELAY_VERSION"
    stop
    [ ! -e "$here/slow" ] || sleep 1000
    start "$BELAY_VERSION"
    echo "$BELAY_VERSION" > "$here/version" ;;
esac
"#;

/// Where one instance's server has its files; the server is stopped when it is dropped.
pub struct Platform {
    here: PathBuf,
    settings: Value,
}

impl Platform {
    /// Nothing runs yet. `settings` are those of `platform_server.py`, without what breaks.
    pub fn new(directory: &Path, instance: &str, settings: Value) -> Self {
        let here = directory.join(instance);
        fs::create_dir_all(&here).unwrap();
        let platform = Self { here, settings };
        platform.breaks(&[]);
        platform
    }

    /// The script for instances of this directory.
    pub fn script(directory: &Path) -> PathBuf {
        let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/platform_server.py");
        let script = UPGRADE
            .replace("HERE", directory.to_str().unwrap())
            .replace("SERVER", server.to_str().unwrap())
            .replace("PACKAGES", python_packages().to_str().unwrap());
        let path = directory.join("upgrade.sh");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Which versions break, and how.
    pub fn breaks(&self, breaks: &[(&str, &[&str])]) {
        let breaks: BTreeMap<&str, &[&str]> = breaks.iter().copied().collect();
        let mut settings = self.settings.clone();
        settings["breaks"] = json!(breaks);
        fs::write(self.here.join("settings.json"), settings.to_string()).unwrap();
    }

    /// Whether the script takes for ever.
    pub fn is_slow(&self, is_slow: bool) {
        let file = self.here.join("slow");
        if is_slow {
            fs::write(file, "").unwrap();
        } else {
            fs::remove_file(file).unwrap();
        }
    }

    /// What the script has done so far, and whether users were kept out by its `keep-out` then: `install v3.17.0, users out`.
    pub fn actions(&self) -> Vec<String> {
        let text = fs::read_to_string(self.here.join("actions")).unwrap();
        text.lines().map(ToOwned::to_owned).collect()
    }

    /// Whether the script's `keep-out` was the last word, and not its `let-in`.
    pub fn keeps_users_out(&self) -> bool {
        self.here.join("kept-out").exists()
    }

    /// All requests so far, each once, without ids.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read_to_string(self.here.join("requests")).unwrap_or_default();
        let mut all: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The process that runs.
    pub fn pid(&self) -> Option<i32> {
        fs::read_to_string(self.here.join("pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
