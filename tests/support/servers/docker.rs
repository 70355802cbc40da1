//! A Docker engine of the test's own, without networks, and images made of what this machine has.

use super::Server;
use crate::support::{Run, wait_until};
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Docker {
    directory: TempDir,
    server: Server,
}

impl Docker {
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("belay-docker-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new("dockerd")
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("-H")
            .arg(format!("unix://{}", path("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("dockerd is installed");
        let mut docker = Self { directory, server: Server(child) };
        wait_until("dockerd to answer", || {
            let log = fs::read_to_string(docker.directory.path().join("log")).unwrap_or_default();
            docker.server.assert_runs(&log);
            docker.answers()
        });
        docker
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = UnixStream::connect(self.socket()) else { return false };
        let mut answer = String::new();
        let asked = stream.write_all(b"GET /_ping HTTP/1.0\r\n\r\n");
        asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok()
            && answer.lines().next().is_some_and(|line| line.contains(" 200 "))
    }

    /// What makes `docker` talk to this engine.
    pub fn variable(&self) -> (&'static str, String) {
        ("DOCKER_HOST", format!("unix://{}", self.socket().display()))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let (name, value) = self.variable();
        let mut command = Command::new("docker");
        command.args(arguments).env(name, value).stdin(Stdio::null());
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        Run::of(self.command(arguments)).ok().stdout()
    }

    /// Make an image of these programs and directories of this machine, with the libraries that the programs need, and
    /// the programs of busybox.
    pub fn image(&self, name: &str, paths: &[&str]) {
        let root = self.directory.path().join(format!("root-{name}"));
        for directory in ["bin", "tmp", "etc", "proc", "dev", "sys", "usr/bin"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        let script = r#"set -e
root=$1; shift
busybox=$(command -v busybox); cp "$busybox" "$root/bin/busybox"
for a in $("$busybox" --list); do [ -e "$root/bin/$a" ] || ln -s busybox "$root/bin/$a"; done
ln -s /bin/env "$root/usr/bin/env"
for p in "$@"; do
  mkdir -p "$root$(dirname "$p")"; cp -a "$p" "$root$(dirname "$p")/"
done
find "$root" -type f -perm -u+x -size +0 | while read -r f; do ldd "$f" 2>/dev/null | grep -o '/[^ ]*' || true; done | sort -u | while read -r l; do
  [ -e "$root$l" ] || { mkdir -p "$root$(dirname "$l")"; cp -L "$l" "$root$l"; }
done
chmod 1777 "$root/tmp"
cp /etc/passwd /etc/group "$root/etc/"
tar -C "$root" -c . | docker import - "$0" >/dev/null"#;
        let (variable, value) = self.variable();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).arg(name).arg(&root).args(paths).env(variable, value);
        Run::of(command).ok();
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let ids = self.command(&["ps", "-q"]).output();
        let ids = ids.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        for id in ids.unwrap_or_default().split_whitespace() {
            let _ = self.command(&["kill", id]).output();
        }
        self.server.stop(rustix::process::Signal::TERM);
        // What a container's mounts would leave behind in the temporary directory.
        let data = self.directory.path().join("data");
        let _ = Command::new("umount").arg("-q").arg("-R").arg(&data).output();
        // A container in this machine's network leaves this one.
        let network = self.directory.path().join("exec/netns/default");
        let _ = Command::new("umount").arg("-q").arg(&network).output();
    }
}
