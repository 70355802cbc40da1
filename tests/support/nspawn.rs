//! A Debian system that is booted in a container by `systemd-nspawn`: its own systemd, journal, users and network.
//!
//! What changes in it lies in a layer over the tree that `tests/run` makes once, and is gone with it. It has no network but its
//! own loopback.

use super::{Run, require_root, text, wait_until};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::CString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

pub struct Container {
    directory: TempDir,
    nspawn: Child,
    groups: Vec<PathBuf>,
    /// Its first process, as this machine counts.
    first: i32,
}

/// The tree that all containers begin with.
fn tree() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let tree = target.join("tools/nspawn/tree");
    assert!(
        tree.join("usr/lib/systemd/systemd").exists(),
        "{} is missing: tests/run makes it, with debootstrap and a Debian mirror",
        tree.display()
    );
    tree
}

/// Control groups of this name below this process's own, in each hierarchy that systemd keeps processes in: one, or the
/// unified one and the older one for compatibility.
fn control_groups(name: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .or_else(|| groups.lines().find_map(|line| Some(line.split_once(":name=systemd:/")?.1)))
        .expect("there are control groups");
    let is_there = |place: &&str| Path::new(place).join("cgroup.procs").exists();
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];
    places.into_iter().filter(is_there).map(|place| Path::new(place).join(own).join(name)).collect()
}

/// Control groups without processes go by being removed, the inner ones first.
fn remove_groups(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

impl Container {
    /// Returns when it is up.
    pub fn boot() -> Self {
        require_root("it boots a container");
        let directory = tempfile::Builder::new().prefix("belay-nspawn-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["upper", "work", "root"] {
            fs::create_dir(path(name)).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            text(&tree()),
            text(&path("upper")),
            text(&path("work"))
        );
        let options = CString::new(options).unwrap();
        mount("overlay", path("root"), "overlay", MountFlags::empty(), Some(options.as_c_str()))
            .expect("this kernel has overlayfs, and lets root mount it");
        let log = fs::File::create(path("log")).unwrap();
        let name = format!("belay-{}", text(directory.path()).rsplit('-').next().unwrap());
        // Control groups of its own: containers in one would take each other's processes for theirs.
        let groups = control_groups(&name);
        for group in &groups {
            fs::create_dir_all(group).expect("root may make control groups");
        }
        let enter = groups.iter().map(|group| format!("echo $$ >{}/cgroup.procs && ", text(group)));
        let nspawn = Command::new("sh")
            .args(["-c", &(enter.collect::<String>() + "exec systemd-nspawn \"$@\""), "sh"])
            .arg("-D")
            .arg(path("root"))
            .args(["-M", &name, "--boot", "--register=no", "--keep-unit", "--private-network"])
            .args(["--link-journal=no", "--console=pipe"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut container = Self { directory, nspawn, groups, first: 0 };
        wait_until("the container to boot", || container.is_up());
        container
    }

    fn is_up(&mut self) -> bool {
        let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        if let Some(status) = self.nspawn.try_wait().unwrap() {
            panic!(
                "systemd-nspawn ended ({status}); is it installed (Debian: systemd-container), and can this machine boot a container? {}",
                log()
            );
        }
        let id = self.nspawn.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        // Before there is one that counts as the first of its own, its children are still on this machine.
        let is_first = |id: &&str| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
        };
        let children = children.unwrap_or_default();
        let Some(first) = children.split_whitespace().find(is_first) else { return false };
        self.first = first.parse().unwrap();
        let state = self.command("systemctl is-system-running").output().unwrap();
        let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
        assert_ne!(
            state,
            "degraded",
            "{}",
            self.sh("systemctl --failed; journalctl -b | tail -n 50")
        );
        state == "running"
    }

    /// A script in it, as root, not started yet.
    pub fn command(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.first.to_string(),
                "-m",
                "-u",
                "-i",
                "-n",
                "-p",
                "-C",
                "-r",
                "-w",
                "--",
            ])
            .args(["/bin/bash", "-c", script])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("LC_ALL", "C.UTF-8")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, script: &str) -> Run {
        Run::of(self.command(script))
    }

    /// What a script prints, which has to end well.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&format!("set -euo pipefail\n{script}")).ok().stdout()
    }

    /// Where a path of the container is on this machine. Its `/run` and `/tmp` are nowhere.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path.trim_start_matches('/'))
    }

    pub fn write(&self, path: &str, content: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // With its first process all others of it end.
        if let Some(first) = Pid::from_raw(self.first) {
            let _ = kill_process(first, Signal::KILL);
        } else {
            let _ = self.nspawn.kill();
        }
        let _ = self.nspawn.wait();
        self.groups.iter().for_each(|group| remove_groups(group));
        let _ = unmount(self.directory.path().join("root"), UnmountFlags::DETACH);
    }
}
