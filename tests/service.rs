//! The package and the service as a server has them: Debian booted in a container, `dpkg -i`, `systemctl`.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use support::nspawn::Container;
use support::{Run, text, wait_until};

/// The package of the program that is tested, made once.
fn package() -> &'static Path {
    static PACKAGE: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, package) = PACKAGE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let tools =
            Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("tools/cargo/bin");
        let path = format!("{}:{}", text(&tools), std::env::var("PATH").unwrap());
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/deb"));
        command.arg(directory.path()).arg(env!("CARGO_BIN_EXE_belay")).env("PATH", path);
        let made = Run::of(command).ok().stdout();
        let path = PathBuf::from(made.trim());
        assert!(path.is_file(), "{made}");
        (directory, path)
    });
    package
}

/// A server with Belay installed: PostgreSQL, reached by ssh, and a directory are to be backed up.
struct Host(Container);

/// Reached as a person would: keys and known hosts in the home of the service's user.
const SSH: &str = "
install -d -m 700 -o postgres /var/lib/postgresql/.ssh
runuser -u belay -- ssh-keygen -q -t ed25519 -N '' -f /var/lib/belay/.ssh/id_ed25519
install -m 600 -o postgres /var/lib/belay/.ssh/id_ed25519.pub /var/lib/postgresql/.ssh/authorized_keys
echo \"127.0.0.1 $(cat /etc/ssh/ssh_host_ed25519_key.pub)\" | runuser -u belay -- tee /var/lib/belay/.ssh/known_hosts
runuser -u belay -- tee /var/lib/belay/.ssh/config <<END
IdentityFile /var/lib/belay/.ssh/id_ed25519
UserKnownHostsFile /var/lib/belay/.ssh/known_hosts
END
";

const DATABASE: &str = "
runuser -u postgres -- createuser --superuser belay
runuser -u postgres -- psql -qc 'CREATE DATABASE orders TEMPLATE template0 ENCODING UTF8'
runuser -u postgres -- psql -q orders -c 'CREATE TABLE orders (id int, what text)' \\
    -c \"INSERT INTO orders SELECT n, 'order ' || n FROM generate_series(1, 1000) n\"
";

const CONFIG: &str = r#"
[repository.main]
url = "/srv/backup/belay"
password = "credential:repository-password"
prune = "off"
check = "off"

[access]
ssh_config = "/var/lib/belay/.ssh/config"

[instance.orders]
platform = "postgres"
via = "ssh:postgres@127.0.0.1"
component.postgres = { databases = ["orders"] }

[instance.local]
platform = "postgres"
component.postgres = { user = "belay", databases = ["orders"] }

[instance.uploads]
platform = "files"
paths = ["/srv/uploads"]
"#;

impl Host {
    /// Booted, and the package installed; nothing is configured.
    fn installed() -> Self {
        let host = Self(Container::boot());
        std::fs::copy(package(), host.0.path("/root/belay.deb")).unwrap();
        host.sh("dpkg -i /root/belay.deb");
        host
    }

    /// Configured as the documents say, the repository made; the daemon does not run yet.
    fn configured() -> Self {
        let host = Self::installed();
        host.sh(SSH);
        host.sh(DATABASE);
        host.0.write("/srv/uploads/report.txt", "the report\n");
        host.0.write("/etc/belay/belay.toml", CONFIG);
        host.sh(
            "(umask 077; head -c 32 /dev/urandom | base64 >/etc/belay/credentials/repository-password)
             install -d -m 700 -o belay -g belay /srv/backup/belay
             belay init",
        );
        host
    }

    #[track_caller]
    fn sh(&self, script: &str) -> String {
        self.0.sh(script)
    }

    #[track_caller]
    fn json(&self, script: &str) -> Value {
        serde_json::from_str(&self.sh(script)).unwrap()
    }

    /// A property of the service.
    fn property(&self, name: &str) -> String {
        self.sh(&format!("systemctl show --value --property={name} belay.service"))
            .trim()
            .to_owned()
    }

    /// Snapshots of an instance that are sealed.
    fn sealed(&self, instance: &str) -> Vec<String> {
        let list = self.json("belay list --json 2>/dev/null");
        let of_instance =
            |snapshot: &&Value| snapshot["instance"] == instance && snapshot["sealed"] == true;
        let snapshots = list.as_array().unwrap().iter().filter(of_instance);
        snapshots.map(|snapshot| snapshot["id"].as_str().unwrap().to_owned()).collect()
    }

    /// How many snapshots there are, without asking Belay: a password costs time, and this is asked often.
    fn snapshots(&self) -> usize {
        support::ids_in(&self.0.path("/srv/backup/belay/snapshots")).len()
    }

    /// Adds to the configuration of the running unit.
    fn drop_in(&self, settings: &str) {
        self.0.write("/etc/systemd/system/belay.service.d/test.conf", settings);
        self.sh("systemctl daemon-reload");
    }

    /// A command in the sandbox of the service, with its drop-ins, as its user.
    fn as_service(&self, command: &str) -> Run {
        self.0.run(&format!(
            "{{ systemctl cat belay.service; printf '%s\\n' [Service] Type=oneshot Restart=no WatchdogSec=0 RuntimeDirectory= \
             ExecReload= ExecStart= 'ExecStart={command}'; }} >/run/systemd/system/try.service
             systemctl daemon-reload && systemctl start try.service"
        ))
    }

    /// Enables one of the drop-ins that are shipped.
    fn link_drop_in(&self, name: &str) {
        self.sh(&format!(
            "mkdir -p /etc/systemd/system/belay.service.d
             ln -s /usr/share/belay/belay.service.d/{name}.conf /etc/systemd/system/belay.service.d/
             systemctl daemon-reload"
        ));
    }

    /// The journal's entries of the service.
    fn journal(&self) -> Vec<Value> {
        let said = self.sh("journalctl --sync; journalctl -u belay -o json --no-pager");
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn wait_for_journal(&self, words: &str) {
        let is_said =
            |entry: &Value| entry["MESSAGE"].as_str().is_some_and(|said| said.contains(words));
        wait_until(&format!("'{words}' in the journal"), || self.journal().iter().any(is_said));
    }
}

#[test]
fn a_schedule_backs_up_what_is_behind_ssh_and_it_comes_back() {
    let host = Host::configured();
    let every =
        CONFIG.replace("[instance.orders]\n", "[instance.orders]\nschedule = \"*/2 * * * * *\"\n");
    host.0.write("/etc/belay/belay.toml", &every);
    host.sh("systemctl start belay");
    assert_eq!(host.property("User"), "belay");
    assert!(host.property("StatusText").contains("3 instances"), "{}", host.property("StatusText"));
    wait_until("a scheduled backup", || host.snapshots() > 0);

    // By then the schedule has begun another one, perhaps.
    host.0.write("/etc/belay/belay.toml", CONFIG);
    host.sh("systemctl reload belay");
    wait_until("the daemon to have nothing to do", || {
        host.property("StatusText").contains("nothing runs")
    });
    let snapshots = host.sealed("orders");
    let entries = host.journal();
    let sealed = entries.iter().find(|entry| entry["SNAPSHOT"].is_string()).expect("it is told");
    assert!(snapshots.iter().any(|id| sealed["SNAPSHOT"] == id.as_str()), "{sealed:#}");
    assert_eq!(sealed["INSTANCE"], "orders");
    let job = sealed["JOB"].as_str().unwrap();
    let shown = host.json(&format!("belay job show {job} --json"));
    assert!(shown.to_string().contains("schedule"), "{shown:#}");
    assert_eq!(sealed["_SYSTEMD_UNIT"], "belay.service");
    let secret = host.sh("cat /etc/belay/credentials/repository-password");
    assert!(entries.iter().all(|entry| !entry.to_string().contains(secret.trim())));

    host.sh("runuser -u postgres -- psql -q orders -c 'DELETE FROM orders WHERE id > 10'");
    host.0.run("belay restore latest:orders --into orders --yes").code_in(&[0, 3]);
    let count = host.sh("runuser -u postgres -- psql -Atq orders -c 'SELECT count(*) FROM orders'");
    assert_eq!(count.trim(), "1000");
    // What root did beside the daemon does not keep it from its work.
    host.sh("belay backup --all");
    for instance in ["local", "uploads"] {
        assert_eq!(host.sealed(instance).len(), 1, "{instance}");
        host.wait_for_journal(&format!("backup of {instance}: begins, for root"));
    }
}

#[test]
fn the_socket_is_for_the_group_and_the_doctor_sees_as_the_service() {
    let host = Host::configured();
    host.sh("systemctl start belay
         useradd --groups belay inside; useradd outside");
    let socket = "curl_() { python3 - \"$@\" <<'END'
import socket
s = socket.socket(socket.AF_UNIX)
s.connect('/run/belay/belay.sock')
s.sendall(b'GET /v1/daemon HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n')
print(s.recv(100).decode().splitlines()[0])
END
}; export -f curl_; ";
    let as_user = |name: &str| host.0.run(&format!("{socket} runuser -u {name} -- bash -c curl_"));
    let inside = as_user("inside").ok().stdout();
    assert_eq!(inside.trim(), "HTTP/1.1 200 OK");
    let outside = as_user("outside");
    assert_ne!(outside.exit_code(), Some(0), "{outside}");
    assert!(outside.stderr().contains("Permission denied"), "{outside}");
    assert_eq!(host.sh("stat -c '%a %U %G' /run/belay/belay.sock").trim(), "660 belay belay");
    for path in ["/var/lib/belay/state", "/etc/belay/credentials/repository-password"] {
        let run = host.0.run(&format!("runuser -u inside -- cat {path}"));
        assert!(run.stderr().contains("Permission denied"), "the API gives no files: {run}");
    }

    host.0.run("runuser -u inside -- belay doctor --as-service").code(2).says(&["root"]);
    let all = host.0.run("belay doctor --as-service").code_in(&[0, 3]);
    assert!(all.stdout().contains("/srv/backup/belay opens"), "{all}");
    // What only root may read root's doctor finds in order, and the service's does not.
    host.sh("chmod 700 /srv/uploads");
    host.0.run("belay doctor uploads").code_in(&[0, 3]);
    let one = host.0.run("belay doctor --as-service uploads --json").code(1);
    let findings = one.json();
    let failures: Vec<&Value> = findings
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["verdict"] == "failure")
        .collect();
    assert!(
        failures
            .iter()
            .any(|finding| finding["message"].to_string().contains("could not read /srv/uploads")),
        "{one}"
    );
    host.link_drop_in("root-environment");
    host.0.run("belay doctor --as-service uploads").code_in(&[0, 3]);
    host.0.run("belay doctor --as-service nonsense").code(2).says(&["nonsense"]);
    assert_eq!(host.sh("ls /run/systemd/system | grep doctor || true"), "", "nothing is left");
    assert_eq!(host.sh("ls -d /run/belay-doctor* 2>/dev/null || true"), "", "nothing is left");
    assert_eq!(host.property("ActiveState"), "active", "the daemon has not noticed");
    assert_eq!(host.sh("systemctl list-units --all --plain --no-legend 'belay-doctor*'"), "");

    host.0
        .run("unshare -m sh -c 'mount -t tmpfs none /run && belay doctor --as-service'")
        .code(1)
        .says(&["systemd does not run here"]);
    host.sh("systemctl stop belay; mv /usr/lib/systemd/system/belay.service /root/; rm -r /etc/systemd/system/belay.service.d; systemctl daemon-reload");
    host.0.run("belay doctor --as-service").code(1).says(&["there is no belay.service"]);
}

#[test]
fn the_sandbox_lets_the_service_write_where_the_drop_ins_say() {
    let host = Host::installed();
    host.0.write("/etc/belay/belay.toml", CONFIG);
    host.sh("install -d -o belay /srv/backup /srv/data; groupadd docker; install -g docker -m 660 /dev/null /srv/data/docker");
    host.as_service("/usr/bin/touch /srv/backup/file /var/lib/belay/state/file").ok();
    let restore = "/usr/bin/install -m 4755 -o postgres /bin/true /srv/data/restored";
    host.as_service(restore).code(1);
    host.as_service("/usr/bin/touch /srv/data/file").code(1);
    host.as_service("/bin/cat /srv/data/docker").code(1);
    host.link_drop_in("docker");
    host.as_service("/bin/cat /srv/data/docker").ok();
    host.link_drop_in("restore-srv");
    host.as_service(restore).ok();
    assert_eq!(host.sh("stat -c '%a %U' /srv/data/restored").trim(), "4755 postgres");
    host.as_service("/usr/bin/touch /etc/file").code(1);
}

#[test]
fn a_daemon_that_hangs_is_killed_by_the_watchdog_and_comes_back() {
    let host = Host::configured();
    let every =
        CONFIG.replace("[instance.uploads]\n", "[instance.uploads]\nschedule = \"* * * * * *\"\n");
    host.0.write("/etc/belay/belay.toml", &every);
    // In place of two minutes; what a stopped process does with SIGABRT, which is nothing, is not waited for as long, either.
    host.drop_in("[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\nRestartSec=100ms\n");
    host.sh("systemctl start belay");
    let first = host.property("MainPID");
    let comes_back = |before: &str| {
        wait_until("the daemon to come back", || {
            let pid = host.property("MainPID");
            pid != before && pid != "0" && host.property("ActiveState") == "active"
        });
        let snapshots = host.snapshots();
        wait_until("another scheduled backup", || host.snapshots() > snapshots);
    };
    host.sh(&format!("kill -STOP {first}"));
    comes_back(&first);

    // The executor: what it has to write waits for somebody who holds the catalog for longer than the watchdog allows.
    let second = host.property("MainPID");
    let holding = support::Running::start(host.0.command(
        "exec python3 -c \"
import sqlite3, threading
catalog = sqlite3.connect('/var/lib/belay/state/catalog.sqlite', isolation_level=None, timeout=60)
catalog.execute('BEGIN IMMEDIATE')
threading.Event().wait()\"",
    ));
    wait_until("the watchdog to act", || host.property("MainPID") != second);
    holding.kill();
    host.0.run("pkill -KILL python3");
    comes_back(&second);
    let killed = host.journal();
    let by_watchdog = |entry: &&Value| entry["MESSAGE"].to_string().contains("Watchdog timeout");
    assert!(killed.iter().filter(by_watchdog).count() >= 2, "{killed:#?}");
    host.sh("systemctl stop belay; belay check --read-data");
}

#[test]
fn it_stops_in_the_middle_of_a_backup_and_goes_on_and_keeps_its_configuration() {
    let host = Host::configured();
    host.sh("systemctl start belay");
    let locked = support::Running::start(host.0.command(
        "runuser -u postgres -- psql -q orders -c 'BEGIN; LOCK TABLE orders' -c 'SELECT pg_sleep(600)'",
    ));
    let backup = support::Running::start(host.0.command("belay backup orders"));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
    wait_until("the backup to wait", || {
        let run = host.sh(&format!("runuser -u postgres -- psql -Atq -c \"{waits}\""));
        run.trim() != "0"
    });

    // A wrong configuration: told, and the old one stays, also where nobody looked at it before.
    host.0.write("/etc/belay/belay.toml", &CONFIG.replace("paths =", "pathes ="));
    host.0.run("systemctl reload belay").code(1);
    host.sh("systemctl kill --kill-whom=main --signal=HUP belay");
    host.wait_for_journal("is not taken, the old one stays");
    assert_eq!(host.property("ActiveState"), "active");
    host.0.write("/etc/belay/belay.toml", CONFIG);

    host.sh("systemctl stop belay");
    assert_eq!(host.property("Result"), "success");
    assert_eq!(host.property("ExecMainStatus"), "0");
    backup.wait().code_in(&[1, 130]);
    assert_eq!(
        host.sh("ls /srv/backup/belay/locks /srv/backup/belay/snapshots | grep -v : || true")
            .trim(),
        ""
    );
    assert_eq!(host.sh("pgrep -u belay || true"), "", "nobody is left");
    wait_until("the other side to notice", || {
        let waiting = host.sh(&format!("runuser -u postgres -- psql -Atq -c \"{waits}\""));
        waiting.trim() == "0"
    });

    locked.kill();
    host.sh("runuser -u postgres -- psql -Atq -c \"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()\"");
    host.sh("systemctl start belay");
    wait_until("what was cut off to be done", || host.snapshots() == 1);
    assert_eq!(host.sealed("orders").len(), 1);
}

#[test]
fn the_package_installs_quietly_and_takes_away_no_repository() {
    let host = Host::installed();
    assert_eq!(host.property("ActiveState"), "inactive", "nothing is configured");
    assert_eq!(host.property("UnitFileState"), "enabled");
    host.sh("systemctl --quiet is-failed belay && exit 1; systemctl start belay");
    assert_eq!(host.property("NRestarts"), "0");
    let of_unit =
        host.sh("journalctl -b --no-pager | grep 'belay.*\\.\\(service\\|conf\\):[0-9]' || true");
    assert_eq!(of_unit, "", "systemd understands each line");
    for file in [
        "/usr/share/man/man1/belay-backup.1",
        "/usr/share/bash-completion/completions/belay",
        "/usr/share/zsh/vendor-completions/_belay",
        "/usr/share/fish/vendor_completions.d/belay.fish",
    ] {
        assert!(host.0.path(file).metadata().unwrap().len() > 100, "{file}");
    }
    host.sh("belay --config /usr/share/doc/belay/examples/belay.toml config check");
    host.sh("bash -n /usr/share/bash-completion/completions/belay");
    let mode = host.0.path("/etc/belay/credentials").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);

    // A wrong configuration is told once, not every ten seconds.
    host.0.write("/etc/belay/belay.toml", "nonsense = 1\n");
    host.0.run("systemctl start belay").code(1);
    assert_eq!(host.property("ActiveState"), "failed");
    assert_eq!(
        (host.property("NRestarts"), host.property("ExecMainStatus")),
        ("0".into(), "2".into())
    );

    // A repository below the state, where nobody should put it. Without a directory of credentials it starts, too.
    let config = CONFIG
        .replace("/srv/backup/belay", "/var/lib/belay/backup")
        .replace("credential:repository-password", "file:/srv/password");
    host.0.write("/etc/belay/belay.toml", &config);
    host.0.write("/srv/uploads/report.txt", "the report\n");
    host.sh("(umask 077; echo password >/srv/password; chown belay: /srv/password)
         rmdir /etc/belay/credentials
         install -d -m 700 -o belay -g belay /var/lib/belay/backup
         belay init
         systemctl start belay
         belay backup uploads");
    let before = host.property("MainPID");
    host.sh("dpkg -i /root/belay.deb");
    assert_ne!(host.property("MainPID"), before, "the new version runs");
    assert_eq!(host.property("ActiveState"), "active");
    let snapshots = host.sealed("uploads");
    host.sh("cp /usr/bin/belay /root/belay; dpkg --remove belay");
    assert_eq!(host.sh("systemctl show --value --property=ActiveState belay").trim(), "inactive");
    assert_eq!(host.sh("pgrep -u belay || true"), "");
    assert!(host.0.path("/var/lib/belay/state/catalog.sqlite").exists());
    let purged = host.sh("dpkg --purge belay 2>&1 </dev/null");
    assert!(purged.contains("/var/lib/belay/backup is kept"), "{purged}");
    assert!(!host.0.path("/var/lib/belay/state").exists());
    let left = host.sh(
        "/root/belay --repository /var/lib/belay/backup --password-file /srv/password list --json",
    );
    assert!(snapshots.len() == 1 && left.contains(&snapshots[0]), "{left}");
    host.sh("dpkg -i /root/belay.deb");
}
