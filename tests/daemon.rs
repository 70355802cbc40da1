//! The daemon: what is due happens, what is asked for is done and shown as without it, a kill loses nothing, and nobody who asks
//! wrongly, slowly or in a crowd holds it up.
#![allow(clippy::unwrap_used)]

mod support;

use belay::model::event::{Cancel, Events};
use belay::repository::Repository;
use belay::repository::lock::{Lock, LockMode, LockRequest};
use belay::store::local::LocalStore;
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use support::servers::{Mongod, POSTGRES_PASSWORD, Postgres};
use support::{PASSWORD, Run, Running, Sandbox, assert_same_text, require_root, text, wait_until};

/// A host with a daemon.
struct Host {
    sandbox: Sandbox,
    daemon: Option<Running>,
}

const NO_UPKEEP: &str = "prune = \"off\"\ncheck = \"off\"\n";

impl Host {
    /// With these instances over sources of their names; `more` goes into the configuration's end, `repository` into the
    /// repository's section.
    fn new(instances: &[&str], repository: &str, more: &str) -> Self {
        let sandbox = Sandbox::new();
        let host = Self { sandbox, daemon: None };
        host.configure(instances, repository, more);
        host
    }

    fn configure(&self, instances: &[&str], repository: &str, more: &str) {
        self.sandbox.configure(instances, "last = 1000");
        let config = fs::read_to_string(self.sandbox.config()).unwrap();
        let config =
            config.replace("[repository.main]\n", &format!("[repository.main]\n{repository}"));
        let socket = format!("\n[daemon]\nsocket = \"{}\"\n", text(&self.socket()));
        fs::write(self.sandbox.config(), config + &socket + more).unwrap();
        for instance in instances {
            fs::write(self.sandbox.source_of(instance).join("file"), instance).unwrap();
        }
    }

    fn socket(&self) -> PathBuf {
        self.sandbox.path("run/belay.sock")
    }

    fn start(&mut self) {
        self.begin();
        wait_until("the daemon to answer", || {
            assert!(!self.daemon().has_ended(), "{}", self.daemon().stderr_so_far());
            self.asks("GET /readyz HTTP/1.0\r\n\r\n")
                .is_some_and(|answer| answer.contains("200 OK"))
        });
    }

    fn begin(&mut self) {
        self.daemon = Some(Running::start(self.sandbox.belay_command(&["daemon"])));
    }

    fn daemon(&mut self) -> &mut Running {
        self.daemon.as_mut().unwrap()
    }

    /// What is answered to these bytes, if anything is.
    fn asks(&self, request: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(1))).ok()?;
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        // What came before it was cut counts.
        let _ = stream.read_to_end(&mut answer);
        Some(String::from_utf8_lossy(&answer).into_owned())
    }

    fn get(&self, path: &str) -> Value {
        let answer = self.asks(&format!("GET {path} HTTP/1.0\r\n\r\n")).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200"), "{answer}");
        serde_json::from_str(body).unwrap()
    }

    fn submit(&self, work: &Value) -> String {
        let body = work.to_string();
        let length = body.len();
        let head = format!("POST /v1/jobs HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        let answer = self.asks(&(head + &body)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("202"), "{answer}");
        serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Stop it as systemd does; what it printed.
    fn stop(&mut self) -> String {
        let daemon = self.daemon.take().unwrap();
        daemon.signal(Signal::TERM);
        let run = daemon.wait().ok();
        assert!(!self.socket().exists(), "its socket goes with it");
        run.stderr()
    }

    fn jobs(&self) -> Vec<Value> {
        self.get("/v1/jobs?limit=1000")["jobs"].as_array().unwrap().clone()
    }

    /// Hold the repository as another host's prune does, until this is dropped.
    fn held(&self) -> Lock {
        let store = Arc::new(LocalStore::new(self.sandbox.repository()));
        let repository = Repository::open(store, PASSWORD.as_bytes()).unwrap();
        let purpose = "a test".to_owned();
        let request =
            LockRequest { mode: LockMode::Exclusive, purpose, wait: Duration::from_mins(1) };
        Lock::acquire(&Arc::new(repository), request, &Events::ignored(), &Cancel::new()).unwrap()
    }

    /// The same configuration for who does not ask the daemon.
    fn alone(&self) -> PathBuf {
        let path = self.sandbox.path("alone.toml");
        let config = fs::read_to_string(self.sandbox.config()).unwrap();
        let elsewhere = self.sandbox.path("nobody.sock");
        fs::write(&path, config.replace(text(&self.socket()), text(&elsewhere))).unwrap();
        path
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }
}

fn done(jobs: &[Value], kind: &str, subject: &str) -> usize {
    let is_done = |job: &&Value| {
        let work = &job["work"];
        work["kind"] == kind
            && (work["instance"] == subject || work["repository"] == subject)
            && job["ended"]["exit_code"] == 0
    };
    jobs.iter().filter(is_done).count()
}

const EVERY_2_SECONDS: &str = "[defaults]\nschedule = \"*/2 * * * * *\"\n";

#[test]
fn what_is_due_happens_and_the_repository_is_looked_after() {
    let upkeep = "prune = \"*/3 * * * * *\"\ncheck = \"*/3 * * * * *\"\ncheck_period = \"12s\"\n";
    let mut host = Host::new(&["one", "two"], upkeep, "");
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let config = config.replace("[defaults]\n", EVERY_2_SECONDS);
    fs::write(host.sandbox.config(), config.replace("last = 1000", "last = 2")).unwrap();
    let nobody = host.sandbox.belay(&["status"]).code(3).stdout();
    assert!(nobody.contains("No daemon answers at"), "{nobody}");
    host.start();
    wait_until("backups of both, a prune, and every slice", || {
        let jobs = host.jobs();
        let slices: std::collections::BTreeSet<_> = jobs
            .iter()
            .filter(|job| job["ended"]["exit_code"] == 0)
            .filter_map(|job| Some(job["work"]["read_data"].as_str()?.to_owned()))
            .collect();
        ["one", "two"].iter().all(|name| done(&jobs, "backup", name) >= 3)
            && done(&jobs, "prune", "main") >= 1
            && slices.len() >= 3
    });
    assert_eq!(done(&host.jobs(), "backup", "three"), 0);
    let status = host.sandbox.belay(&["status", "--json"]).code(3).json();
    assert_eq!(status["daemon"], env!("CARGO_PKG_VERSION"));
    assert!(!status["instances"][0]["next_run"].is_null(), "{status}");
    let log = host.stop();
    assert!(!log.contains("ERROR"), "{log}");
    // The policy keeps two of each; the daemon may have added some since its last prune.
    host.sandbox.belay(&["prune"]).ok();
    assert_eq!(host.sandbox.list().len(), 4);
    host.sandbox.restic_finds_nothing();
}

#[test]
fn what_a_user_sees_is_the_same_with_and_without_a_daemon() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    let alone = host.alone();
    host.start();
    let belay = |with: bool, arguments: &[&str]| {
        let asked = host.sandbox.config();
        let config = if with { &asked } else { &alone };
        Run::of(host.sandbox.belay_with(&["--config", text(config)], arguments))
    };
    // Ids, times and durations differ between runs of anything.
    let shape = |value: &Value| {
        let mut value = value.clone();
        for snapshot in value["snapshots"].as_array_mut().unwrap() {
            for member in ["id", "duration_seconds", "added_bytes"] {
                assert!(!snapshot[member].is_null(), "{snapshot}");
                snapshot[member] = Value::Null;
            }
        }
        value
    };
    let with = belay(true, &["backup", "one", "two", "--json"]).ok();
    let without = belay(false, &["backup", "one", "two", "--json"]).ok();
    assert_eq!(shape(&with.json()), shape(&without.json()));
    assert_same_text(&without.stderr(), &with.stderr());
    assert_eq!(host.jobs().len(), 2, "only the first two were the daemon's");

    for arguments in [["prune", "--dry-run"], ["prune", "--json"], ["check", "--read-data"]] {
        let (without, with) = (belay(false, &arguments).ok(), belay(true, &arguments).ok());
        assert_same_text(&without.stdout(), &with.stdout());
    }
    // What fails, fails the same way.
    fs::remove_dir_all(host.sandbox.source_of("two")).unwrap();
    let with = belay(true, &["backup", "two", "--json"]).code(1);
    let without = belay(false, &["backup", "two", "--json"]).code(1);
    assert_same_text(&without.stdout(), &with.stdout());
    assert_same_text(&without.stderr(), &with.stderr());
    let (with, without) = (belay(true, &["backup", "three"]), belay(false, &["backup", "three"]));
    assert_same_text(&without.code(2).stderr(), &with.code(2).stderr());

    let jobs = belay(true, &["job", "list"]).ok().stdout();
    assert!(jobs.contains("backup") && jobs.contains("could not be read"), "{jobs}");
    let id = host.jobs()[0]["id"].as_str().unwrap().to_owned();
    belay(true, &["job", "show", &id]).ok();
    belay(true, &["job", "follow", &id]).code(1).says(&["could not be read"]);
    belay(true, &["job", "cancel", &id]).code(1).says(&["is over"]);
    belay(true, &["job", "show", "0000000000000000"]).code(2).says(&["there is no job"]);
    belay(false, &["job", "list"]).code(1).says(&["no daemon", "hint:"]);
    belay(true, &["daemon"]).code(11).says(&["a daemon works with the state directory"]);
}

#[test]
fn a_job_is_cancelled_from_its_command_and_by_another_and_times_out() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let two = "[instance.two]\ndeadline = \"1s\"\n";
    fs::write(host.sandbox.config(), config.replace("[instance.two]\n", two)).unwrap();
    host.sandbox.belay(&["backup", "two"]).ok();
    host.start();
    let _held = host.held();
    let waits = |host: &Host, id: &str| host.get(&format!("/v1/jobs/{id}"))["state"] == "running";

    // Ctrl-C stops the job, not only who looks on.
    let command = Running::start(host.sandbox.belay_command(&["backup", "one"]));
    wait_until("the job to run", || host.jobs().iter().any(|job| job["state"] == "running"));
    command.signal(Signal::INT);
    command.wait().code(130);
    assert_eq!(host.jobs()[0]["ended"]["exit_code"], 130);

    // By another; what waits behind it is cancelled, too, and who follows learns of it.
    let id = host.submit(&json!({ "kind": "backup", "instance": "one" }));
    wait_until("the job to run", || waits(&host, &id));
    let follow = Running::start(host.sandbox.belay_command(&["job", "follow", &id]));
    let behind = host.submit(&json!({ "kind": "backup", "instance": "one", "reread": true }));
    assert_eq!(host.get(&format!("/v1/jobs/{behind}"))["state"], "queued");
    host.sandbox.belay(&["job", "cancel", &behind]).ok();
    host.sandbox.belay(&["job", "cancel", &id]).ok();
    follow.wait().code(130).says(&["root cancelled it"]);
    let status = host.sandbox.belay(&["status"]).code(3).stdout();
    assert!(status.contains("one has no good snapshot"), "{status}");

    // It takes too long: that is a failure, and no interruption.
    let late = host.sandbox.belay(&["backup", "two"]).code(1);
    late.says(&["it took longer than 1s", "deadline"]);
    let status = host.sandbox.belay(&["status"]).code(3).stdout();
    assert!(status.contains("it took longer than 1s"), "{status}");
}

#[test]
fn a_daemon_that_is_stopped_or_killed_goes_on_where_it_was() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    host.start();
    let held = host.held();
    let running = host.submit(&json!({ "kind": "backup", "instance": "one" }));
    let state = |host: &Host, id: &str| host.get(&format!("/v1/jobs/{id}"))["state"].clone();
    wait_until("the job to run", || state(&host, &running) == "running");
    let waiting = host.submit(&json!({ "kind": "backup", "instance": "one", "reread": true }));
    host.daemon.take().unwrap().kill();

    // Killed: what ran is marked and begun again, what waited waits.
    host.start();
    let ended = host.get(&format!("/v1/jobs/{running}"));
    let again = host.jobs().iter().find(|job| job["cut_off"] == 1).unwrap().clone();
    let told = format!(
        "the daemon ended while it ran; it goes on as job {}",
        again["id"].as_str().unwrap()
    );
    assert_eq!(ended["ended"]["failure"]["error"], told);
    assert_ne!(state(&host, &waiting), "ended");
    assert_eq!(again["work"], ended["work"]);
    drop(held);
    wait_until("both to be done", || host.jobs().iter().all(|job| job["state"] == "ended"));
    assert_eq!(done(&host.jobs(), "backup", "one"), 2);
    assert_eq!(host.sandbox.list().len(), 2);

    // Stopped while it works: cleanly, and what it did comes back.
    let _held = host.held();
    let id = host.submit(&json!({ "kind": "backup", "instance": "two" }));
    wait_until("the job to run", || state(&host, &id) == "running");
    let log = host.stop();
    assert!(log.contains("the daemon ends; it goes on when the daemon does as job "), "{log}");
    host.start();
    let jobs = host.jobs();
    assert_ne!(jobs[0]["id"], *id);
    assert_eq!(jobs[0]["work"]["instance"], "two");
    assert_ne!(jobs[0]["state"], "ended");
}

#[test]
fn nobody_holds_it_up_and_strangers_get_nothing() {
    require_root("another user asks");
    let mut host = Host::new(&["one"], NO_UPKEEP, "");
    host.start();
    let answers = |request: &str, status: &str| {
        let answer = host.asks(request).unwrap();
        assert!(answer.lines().next().unwrap_or_default().contains(status), "{status}: {answer}");
    };
    answers("nonsense\r\n\r\n", "400");
    answers("GET /nothing HTTP/1.0\r\n\r\n", "404");
    answers("DELETE /v1/jobs HTTP/1.0\r\n\r\n", "405");
    answers("POST /v1/jobs HTTP/1.0\r\nContent-Length: 4\r\n\r\nnull", "400");
    answers("POST /v1/jobs HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", "400");
    answers("GET /v1/jobs?limit=many HTTP/1.0\r\n\r\n", "400");
    answers("GET /v1/jobs/../../etc/passwd HTTP/1.0\r\n\r\n", "404");
    let much = "x".repeat(100_000);
    answers(&format!("POST /v1/jobs HTTP/1.0\r\nContent-Length: 100000\r\n\r\n{much}"), "413");
    answers(&format!("GET /{much} HTTP/1.0\r\n\r\n"), "4");

    // Half a request, and connections that say nothing: they are ended, and keep nobody else out.
    let mut half = UnixStream::connect(host.socket()).unwrap();
    half.write_all(b"GET /v1/status HT").unwrap();
    half.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let silent: Vec<UnixStream> =
        (0..200).map(|_| UnixStream::connect(host.socket()).unwrap()).collect();
    host.get("/v1/daemon");
    let mut rest = Vec::new();
    half.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{rest:?}");
    drop(silent);

    // A crowd.
    host.sandbox.belay(&["backup", "one"]).ok();
    std::thread::scope(|scope| {
        for index in 0..200 {
            let host = &host;
            scope.spawn(move || {
                let path = ["/v1/status", "/v1/jobs", "/metrics", "/v1/snapshots"][index % 4];
                let answer = host.asks(&format!("GET {path} HTTP/1.0\r\n\r\n")).unwrap();
                assert!(answer.contains("200 OK"), "{answer}");
            });
        }
    });

    // Only root and the group may open the socket.
    let mode = fs::metadata(host.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let script = format!(
        "import socket\ns = socket.socket(socket.AF_UNIX)\ns.connect({:?})",
        text(&host.socket())
    );
    let mut nobody = Command::new("setpriv");
    nobody.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        &script,
    ]);
    let refused = nobody.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("PermissionError"), "{said}");
    host.stop();
}

#[test]
fn a_new_configuration_is_taken_and_a_wrong_one_is_not() {
    let mut host = Host::new(&["one"], NO_UPKEEP, "");
    host.start();
    let right = fs::read_to_string(host.sandbox.config()).unwrap();
    fs::write(host.sandbox.config(), right.replace("[daemon]", "[deamon]")).unwrap();
    host.daemon().signal(Signal::HUP);
    wait_until("the refusal", || {
        host.daemon().stderr_so_far().contains("is not taken, the old one stays: ")
    });
    host.submit(&json!({ "kind": "backup", "instance": "one" }));
    let status = |host: &Host| host.get("/v1/status")["problems"].to_string();
    assert!(status(&host).contains("is not taken, the old one stays"), "{}", status(&host));

    // What the file says now is not what the daemon would do: a policy that is gone must not forget anything.
    host.configure(&["one", "two"], NO_UPKEEP, "");
    host.sandbox.belay(&["prune"]).code(2).says(&["older configuration", "reload"]);
    let told = host.sandbox.belay(&["status"]).code(3).stdout();
    assert!(told.contains("works with an older configuration"), "{told}");
    host.daemon().signal(Signal::HUP);
    wait_until("the new configuration", || {
        host.get("/v1/status")["instances"].as_array().unwrap().len() == 2
    });
    assert!(!status(&host).contains("is not taken"), "{}", status(&host));
    host.sandbox.belay(&["backup", "two"]).ok();
    let moved = fs::read_to_string(host.sandbox.config()).unwrap();
    fs::write(host.sandbox.config(), moved.replace("run/belay.sock", "run/other.sock")).unwrap();
    host.daemon().signal(Signal::HUP);
    wait_until("the refusal", || {
        host.daemon().stderr_so_far().contains("daemon.socket is another one: that needs a restart")
    });
    host.stop();
}

/// A receiver of notices: each request's first line and body, answered with the status that is asked for.
fn receiver(
    answers: impl Fn(usize) -> u16 + Send + 'static,
) -> (u16, mpsc::Receiver<(String, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let Some(request) = read_request(&mut stream) else { continue };
            let status = answers(index);
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    (port, received)
}

fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        bytes.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let length = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("content-length: ")
            .and_then(|length| length.parse().ok())
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    Some((head.lines().next()?.to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

#[test]
fn people_and_health_checks_are_told_once_and_also_after_a_kill() {
    // The first attempts find a server that cannot.
    let (port, told) = receiver(|index| if index < 2 { 503 } else { 204 });
    let (ping_port, pings) = receiver(|_| 200);
    let notify = format!(
        "[[notify]]\nwebhook = {{ url = \"http://127.0.0.1:{port}/hook\" }}\n\
         [[notify]]\nping = {{ url = \"http://127.0.0.1:{ping_port}/ping\" }}\n"
    );
    let mut host = Host::new(&["one"], NO_UPKEEP, &notify);
    host.start();
    let wait = Duration::from_mins(2);
    host.sandbox.belay(&["backup", "one"]).ok();
    let ping = || pings.recv_timeout(wait).unwrap().0;
    assert!(ping().starts_with("POST /ping/start"));
    assert!(ping().starts_with("POST /ping "));

    let source = host.sandbox.source_of("one");
    let away = host.sandbox.path("away");
    fs::rename(&source, &away).unwrap();
    for _ in 0..2 {
        host.sandbox.belay(&["backup", "one"]).code(1);
        assert!(ping().starts_with("POST /ping/start"));
        let (line, body) = pings.recv_timeout(wait).unwrap();
        assert!(
            line.starts_with("POST /ping/fail") && body.contains("could not be read"),
            "{line}: {body}"
        );
    }
    // Told once, however often it failed, and told although it was refused and the daemon killed meanwhile.
    let notice = |told: &mpsc::Receiver<(String, String)>| -> Value {
        serde_json::from_str(&told.recv_timeout(wait).unwrap().1).unwrap()
    };
    let first = notice(&told);
    assert_eq!((&first["kind"], &first["instance"]), (&json!("failure"), &json!("one")), "{first}");
    host.daemon.take().unwrap().kill();
    host.start();
    assert_eq!(notice(&told)["kind"], "failure", "again, as it was refused");
    assert_eq!(notice(&told)["kind"], "failure", "and now it is taken");
    fs::rename(&away, &source).unwrap();
    host.sandbox.belay(&["backup", "one"]).ok();
    assert_eq!(notice(&told)["kind"], "recovery");
    host.stop();
}

/// Kill the daemon again and again while it works: five instances, three kinds. `BELAY_DAEMON_KILLS` says how often, and
/// `BELAY_DAEMON_SECONDS` how long it works each time at least.
#[test]
fn a_daemon_that_is_killed_again_and_again_loses_nothing() {
    let (postgres, mongod) = (Postgres::start(), Mongod::start());
    postgres.sql("postgres", "CREATE DATABASE shop");
    postgres.sql(
        "shop",
        "CREATE TABLE orders (id int); INSERT INTO orders SELECT generate_series(1, 20000)",
    );
    mongod.seed("appsmith", 1);
    let upkeep = "prune = \"*/2 * * * * *\"\ncheck = \"*/2 * * * * *\"\n";
    let mut host = Host::new(&["one", "two", "three"], upkeep, "");
    let (password, url) = (host.sandbox.path("postgres-password"), host.sandbox.path("url"));
    support::write_secret(&password, POSTGRES_PASSWORD);
    support::write_secret(&url, &mongod.url("appsmith"));
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let every_second = "[defaults]\nschedule = \"* * * * * *\"\n";
    let databases = format!(
        "\n[instance.shop]\nplatform = \"postgres\"\ncomponent.postgres = {{ host = \"127.0.0.1\", port = {}, user = \"postgres\", password = \"file:{}\", databases = [\"shop\"] }}\n\
         [instance.db]\nplatform = \"mongodb\"\ncomponent.mongodb = {{ url = \"file:{}\" }}\n",
        postgres.port,
        text(&password),
        text(&url)
    );
    let config = config.replace("[defaults]\n", every_second) + &databases;
    fs::write(host.sandbox.config(), config).unwrap();
    let instances = ["one", "two", "three", "shop", "db"];
    let period = Duration::from_secs(support::size("BELAY_DAEMON_SECONDS", 0));
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..support::size("BELAY_DAEMON_KILLS", 6) {
        host.start();
        let (before, began) = (host.jobs().len(), std::time::Instant::now());
        let enough = 2 + (round % 3) as usize;
        wait_until("some jobs", || {
            host.jobs().len() > before + enough && began.elapsed() >= period
        });
        for name in ["one", "two", "three"] {
            let file = host.sandbox.source_of(name).join(format!("file {round}"));
            fs::write(file, format!("{name} {round}")).unwrap();
        }
        postgres.sql("shop", &format!("INSERT INTO orders VALUES ({round})"));
        host.daemon.take().unwrap().kill();
        let listed = host.sandbox.list();
        let ids: std::collections::BTreeSet<String> =
            listed.iter().map(|snapshot| snapshot.id.clone()).collect();
        assert!(listed.iter().all(|snapshot| snapshot.sealed));
        assert!(seen.is_subset(&ids), "a sealed snapshot is gone");
        seen = ids;
    }
    host.start();
    wait_until("a backup of each", || {
        let jobs = host.jobs();
        instances.iter().all(|name| done(&jobs, "backup", name) > 0)
    });
    host.stop();
    let catalog = belay::catalog::Catalog::open(&host.sandbox.state()).unwrap();
    catalog.integrity_check().unwrap();
    let running = catalog.jobs(10_000).unwrap();
    let is_running = |job: &&belay::catalog::Job| job.outcome == belay::catalog::Outcome::Running;
    assert_eq!(running.iter().filter(is_running).count(), 0);
    drop(catalog);
    host.sandbox.belay(&["check", "--read-data"]).ok();
    host.sandbox.restic(&["unlock"]).ok();
    host.sandbox.restic_finds_nothing();
    println!("{} sealed snapshots of {instances:?}", host.sandbox.list().len());
}
