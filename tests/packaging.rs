//! What is installed: what the unit exposes, with and without its drop-ins, and what the package's scripts take away.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Run, text};

const DROP_INS: &[&str] = &["docker", "root-environment", "restore-srv"];

fn in_source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// What `systemd-analyze security` says of the unit with these drop-ins: 0 is nothing, 10 is all.
fn exposure(drop_ins: &[&str]) -> String {
    let root = tempfile::tempdir().unwrap();
    let units = root.path().join("usr/lib/systemd/system");
    fs::create_dir_all(units.join("belay.service.d")).unwrap();
    fs::copy(in_source("systemd/belay.service"), units.join("belay.service")).unwrap();
    for name in drop_ins {
        let name = format!("belay.service.d/{name}.conf");
        fs::copy(in_source("systemd").join(&name), units.join(&name)).unwrap();
    }
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--offline=true", "--no-pager", "--root", text(root.path())]);
    command.arg("belay.service").env("LC_ALL", "C");
    let said = Run::of(command).ok().stdout();
    let (_, overall) = said.split_once("Overall exposure level for belay.service: ").unwrap();
    overall.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn the_unit_exposes_little_and_each_drop_in_says_how_much_it_adds() {
    let operations = fs::read_to_string(in_source("docs/OPERATIONS.md")).unwrap();
    let unit = fs::read_to_string(in_source("systemd/belay.service")).unwrap();
    let alone = exposure(&[]);
    assert!(alone.parse::<f64>().unwrap() <= 2.0, "the unit's exposure is {alone}");
    assert!(unit.contains(&format!("# Exposure: {alone}\n")), "the unit's exposure is {alone}");
    assert!(operations.contains(&format!("| none | {alone} |")), "the unit's exposure is {alone}");
    for name in DROP_INS {
        let file = fs::read_to_string(in_source(&format!("systemd/belay.service.d/{name}.conf")));
        let with = exposure(&[name]);
        let told = format!("# Exposure: {with} with the unit.");
        assert!(file.unwrap().contains(&told), "{name}.conf should say: {told}");
        let row = format!("| `{name}.conf` | {with} |");
        assert!(operations.contains(&row), "docs/OPERATIONS.md should have: {row}");
    }
    let shipped = fs::read_dir(in_source("systemd/belay.service.d")).unwrap().count();
    assert_eq!(shipped, DROP_INS.len(), "each drop-in is looked at");
}

/// A host's file system, as far as the script that purges is concerned, which is pointed at it.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for directory in
            ["var/lib/belay/state/locks", "var/lib/belay/.ssh", "etc/belay/credentials"]
        {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        fs::write(host.path("var/lib/belay/state/catalog.sqlite"), "rows").unwrap();
        fs::write(host.path("var/lib/belay/.ssh/known_hosts"), "hosts").unwrap();
        host
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A repository, as far as it can be told from outside.
    fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        for folder in ["data/00", "index", "keys", "locks", "snapshots"] {
            fs::create_dir_all(path.join(folder)).unwrap();
        }
        for file in ["config", "data/00/pack", "keys/key", "snapshots/snapshot"] {
            fs::write(path.join(file), file).unwrap();
        }
        path
    }

    fn postrm(&self, action: &str) -> Run {
        let script = fs::read_to_string(in_source("packaging/debian/postrm")).unwrap();
        let root = text(self.0.path());
        let script = script
            .replace("/var/lib/belay", &format!("{root}/var/lib/belay"))
            .replace("/etc/belay", &format!("{root}/etc/belay"))
            .replace("/run/systemd/system", "/nowhere")
            .replace("/usr/bin/deb-systemd-helper", "/nowhere");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "postrm", action]);
        Run::of(command).ok()
    }
}

/// All paths below a directory, with what is in the files.
fn contents(path: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

#[test]
fn purging_takes_the_state_away_and_an_empty_configuration() {
    let host = Host::new();
    let before = contents(&host.path("var"));
    host.postrm("remove");
    host.postrm("upgrade");
    assert_eq!(contents(&host.path("var")), before, "only purging takes something away");
    host.postrm("purge");
    assert!(!host.path("var/lib/belay").exists() && !host.path("etc/belay").exists());
    // A second time there is nothing to do.
    host.postrm("purge");
}

#[test]
fn purging_keeps_repositories_wherever_they_are_and_passwords() {
    let host = Host::new();
    let password = host.path("etc/belay/credentials/repository-password");
    fs::write(&password, "secret").unwrap();
    let deep = host.repository("var/lib/belay/backup/of us/main");
    let in_state = host.repository("var/lib/belay/state/repository");
    // Of this one the keys, its configuration and the list of snapshots are lost; restic may bring back what is in its packs.
    let damaged = host.repository("var/lib/belay/damaged");
    for folder in ["keys", "snapshots"] {
        fs::remove_dir_all(damaged.join(folder)).unwrap();
    }
    fs::remove_file(damaged.join("config")).unwrap();
    // Behind a link there is somebody else's.
    let elsewhere = host.repository("srv/elsewhere");
    fs::write(host.path("srv/notes"), "notes").unwrap();
    std::os::unix::fs::symlink(host.path("srv"), host.path("var/lib/belay/link")).unwrap();
    let kept = [&deep, &in_state, &damaged, &elsewhere, &host.path("srv")];
    let before = kept.map(|path| contents(path));

    let run = host.postrm("purge").says(&["of us/main is kept", "state/repository is kept"]);

    assert_eq!(kept.map(|path| contents(path)), before, "{run}");
    assert_eq!(fs::read_to_string(password).unwrap(), "secret");
    let left: Vec<_> = contents(&host.path("var/lib/belay"))
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| ![&deep, &in_state, &damaged].iter().any(|kept| path.starts_with(kept)))
        .collect();
    let parents = ["backup", "backup/of us", "state"];
    assert_eq!(left, parents.map(|name| host.path("var/lib/belay").join(name)), "{run}");
}

#[test]
fn purging_keeps_a_state_directory_that_is_a_repository_itself() {
    let host = Host::new();
    host.repository("var/lib/belay");
    let before = contents(&host.path("var/lib/belay"));
    host.postrm("purge").says(&["is kept"]);
    assert_eq!(contents(&host.path("var/lib/belay")), before);
}

#[test]
fn purging_does_not_enter_what_is_mounted() {
    support::require_root("it mounts a file system");
    let host = Host::new();
    let mount = host.path("var/lib/belay/disk");
    fs::create_dir(&mount).unwrap();
    rustix::mount::mount("none", &mount, "tmpfs", rustix::mount::MountFlags::empty(), None)
        .unwrap();
    fs::write(mount.join("file"), "theirs").unwrap();
    let run = host.postrm("purge");
    let read = fs::read_to_string(mount.join("file"));
    rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(read.unwrap(), "theirs", "{run}");
}
