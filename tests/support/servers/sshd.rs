//! An ssh server that lets root log in with a key made for the test, and the configuration that reaches it as `far`.

use super::{Server, free_port};
use crate::support::{Run, wait_until};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

pub struct Sshd {
    directory: TempDir,
    server: Server,
    port: u16,
}

impl Sshd {
    /// `variables` are in the environment of what runs there.
    pub fn start(variables: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new().prefix("belay-ssh-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path(key));
            Run::of(keygen).ok();
        }
        fs::copy(path("user.pub"), path("authorized")).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let port = free_port();
        let set =
            variables.iter().map(|(name, value)| format!(" {name}={value}")).collect::<Vec<_>>();
        // `docker-compose` begins in half the time with it.
        let set = format!("SetEnv SETUPTOOLS_USE_DISTUTILS=stdlib{}\n", set.concat());
        let shown = |name: &str| path(name).display().to_string();
        fs::write(
            path("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPermitRootLogin yes\n\
                 UsePAM no\nStrictModes no\nPidFile none\nBanner {}\n{set}",
                shown("host"),
                shown("authorized"),
                shown("banner"),
            ),
        )
        .unwrap();
        fs::write(path("banner"), "ERROR: what a banner says is no error\n").unwrap();
        let host_key = fs::read_to_string(path("host.pub")).unwrap();
        fs::write(path("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        fs::write(
            path("ssh_config"),
            format!(
                "Host far\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n\
                 UserKnownHostsFile {}\n  StrictHostKeyChecking yes\n",
                shown("user"),
                shown("known_hosts"),
            ),
        )
        .unwrap();
        let log = fs::File::create(path("log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(path("sshd_config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd is installed");
        let mut sshd = Self { directory, server: Server(child), port };
        wait_until("sshd to listen", || {
            let log = fs::read_to_string(sshd.directory.path().join("log")).unwrap_or_default();
            sshd.server.assert_runs(&log);
            std::net::TcpStream::connect(("127.0.0.1", sshd.port)).is_ok()
        });
        sshd
    }

    /// The configuration for `ssh`, which knows the server as `far`.
    pub fn config(&self) -> PathBuf {
        self.directory.path().join("ssh_config")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The server, not its connections.
    pub fn id(&self) -> i32 {
        self.server.id()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.server.stop(rustix::process::Signal::TERM);
    }
}
