//! This machine and its processes: names, and whether a process that left a mark is still alive.

use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// The machine's name; `localhost` where it has none.
pub fn hostname() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Tells hosts of one name apart, without giving the machine id away: 16 digits of a sum over it and the name.
pub fn host_id() -> String {
    let sum = Sha256::new()
        .chain_update(b"belay host id\0")
        .chain_update(machine_id().unwrap_or_default())
        .chain_update(b"\0")
        .chain_update(hostname())
        .finalize();
    hex::encode(&sum[..8])
}

/// As [`host_id`], but none where the machine has no id, so that only the name would tell.
pub fn certain_host_id() -> Option<String> {
    machine_id().map(|_| host_id())
}

fn machine_id() -> Option<String> {
    let read = |path: &&str| fs::read_to_string(path).ok();
    let id = ["/etc/machine-id", "/var/lib/dbus/machine-id"].iter().find_map(read)?;
    let id = id.trim();
    (!id.is_empty()).then(|| id.to_owned())
}

/// The namespace in which this process's number counts: a container has its own. None where it cannot be told.
pub fn pid_namespace() -> Option<u64> {
    fs::metadata("/proc/self/ns/pid").ok().map(|namespace| namespace.ino())
}

/// The name of the user who runs this process, or its number where it has none.
pub fn username() -> String {
    user_name(rustix::process::geteuid().as_raw())
}

/// The name of a user, or its number where it has none in `/etc/passwd`.
pub fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

/// The home of a user, if `/etc/passwd` has it.
pub fn home_of(uid: u32) -> Option<PathBuf> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2)?.parse() == Ok(uid)).then(|| fields.get(5).map(PathBuf::from))?
    })
}

/// The number of a group, if `/etc/group` has it.
pub fn group_id(name: &str) -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// A process, told apart from later ones with the same number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// The machine's boot.
    pub boot_id: String,
    /// When it started, in clock ticks after boot.
    pub start: u64,
}

impl Process {
    /// This process.
    pub fn current() -> Self {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self { pid, boot_id: boot_id(), start: start_of(pid).unwrap_or(0) }
    }

    /// Whether it is certainly gone: another boot, no such process, or another process under its number.
    pub fn is_gone(&self) -> bool {
        self.boot_id != boot_id()
            || is_gone(self.pid)
            || start_of(self.pid).is_some_and(|start| start != self.start)
    }
}

/// Whether no process has this number. One that may not be signalled is alive.
pub fn is_gone(pid: i32) -> bool {
    // Zero and negative numbers name groups of processes, not one.
    let Some(pid) = Some(pid).filter(|pid| *pid > 0).and_then(rustix::process::Pid::from_raw)
    else {
        return true;
    };
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

/// The machine's boot.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Field 22 of `/proc/PID/stat`, counted behind the command, which may hold spaces and brackets (proc(5)).
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_another_start_or_boot_is_gone() {
        let this = Process::current();
        assert!(this.start > 0 && !this.is_gone());
        assert!(Process { start: this.start + 1, ..this.clone() }.is_gone());
        assert!(Process { boot_id: "earlier".into(), ..this }.is_gone());
        assert!(is_gone(i32::MAX) && is_gone(0) && is_gone(-1));
    }

    #[test]
    fn a_child_that_was_waited_for_is_gone() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(is_gone(i32::try_from(child.id()).unwrap()));
    }
}
