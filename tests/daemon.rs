//! The daemon: what is due happens, what is asked for is done and shown as without it, a kill loses nothing, and nobody who asks
//! wrongly, slowly or in a crowd holds it up.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;
use support::disk::SmallDisk;
use support::servers::{Mongod, POSTGRES_PASSWORD, Postgres};
use support::{Run, Running, Sandbox, assert_same_text, require_root, text, wait_until};

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
    // Two periods of two seconds at most, and the quarter of an hour that a run is given.
    let allowed = status["instances"][0]["rpo_seconds"].as_u64().unwrap();
    assert!((901..=904).contains(&allowed), "{allowed}");
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
            for member in ["id", "duration_seconds", "read_bytes", "added_bytes"] {
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

/// Without ids, times and numbers, which differ between runs of anything.
fn shape_of(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric();
    let mut shape = String::new();
    let mut word = String::new();
    for character in text.chars().chain(['\n']) {
        if is_part(character) {
            word.push(character);
            continue;
        }
        let is_named = word.chars().all(|character| character.is_ascii_alphabetic());
        shape.push_str(if is_named { &word } else { "#" });
        word.clear();
        shape.push(character);
    }
    shape
}

#[test]
fn a_restore_is_the_daemons_job_too_and_looks_the_same() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    let alone = host.alone();
    host.sandbox.belay(&["backup", "one"]).ok();
    host.start();
    let belay = |with: bool, arguments: &[&str]| {
        let asked = host.sandbox.config();
        let config = if with { &asked } else { &alone };
        Run::of(host.sandbox.belay_with(&["--config", text(config)], arguments))
    };
    let file = host.sandbox.source_of("one").join("file");
    let restores =
        |host: &Host| host.jobs().iter().filter(|job| job["work"]["kind"] == "restore").count();
    let id = host.sandbox.list()[0].id.clone();
    let into = ["restore", id.as_str(), "--into", "one"];
    for (more, code) in [
        (&["--dry-run"][..], 0),
        (&["--dry-run", "--json"], 0),
        (&["--yes"], 0),
        (&["--yes", "--json"], 0),
        (&["--yes", "--path", "/files/source-one/nothing"], 2),
        (&[], 2),
    ] {
        let arguments = [&into[..], more].concat();
        let run = |with| {
            fs::write(&file, "spoilt").unwrap();
            let run = belay(with, &arguments).code(code);
            let is_done = code == 0 && more.contains(&"--yes");
            let expected = if is_done { "one" } else { "spoilt" };
            assert_eq!(fs::read_to_string(&file).unwrap(), expected, "{arguments:?}");
            run
        };
        let without = run(false);
        let before = restores(&host);
        let with = run(true);
        assert_eq!(restores(&host), before + 1, "{arguments:?}: the daemon did it");
        assert_same_text(&shape_of(&without.stdout()), &shape_of(&with.stdout()));
        assert_same_text(&shape_of(&without.stderr()), &shape_of(&with.stderr()));
    }
    // Into another: that one's name is asked for by the daemon, too.
    belay(true, &["restore", &id, "--into", "two", "--yes"]).code(1).says(&["--as-clone"]);
    let clone = ["restore", &id, "--into", "two", "--yes", "--as-clone", "--confirm", "two"];
    belay(true, &clone).code(2).says(&["it has: source-two"]);
    // Nobody overwrites an instance by a slip of the API, and what is no snapshot is none.
    let refused = |work: &Value, words: &str| {
        let body = work.to_string();
        let length = body.len();
        let head = format!("POST /v1/jobs HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        let answer = host.asks(&(head + &body)).unwrap();
        assert!(answer.contains(" 400 ") && answer.contains(words), "{answer}");
    };
    refused(&json!({ "kind": "restore", "snapshot": id, "instance": "one" }), "overwrites");
    let nonsense = json!({ "kind": "restore", "snapshot": "x", "instance": "one", "yes": true });
    refused(&nonsense, "is no snapshot");
    host.sandbox.belay(&["status", "--json"]).code(3);
}

#[test]
fn events_of_the_past_have_the_numbers_that_they_had() {
    let mut host = Host::new(&["one"], NO_UPKEEP, "");
    host.sandbox.belay(&["backup", "one"]).ok();
    host.start();
    let held = host.sandbox.held();
    let restore =
        json!({ "kind": "restore", "snapshot": "latest:one", "instance": "one", "yes": true });
    let id = host.submit(&restore);
    // It waits for the repository before the catalog knows of it.
    let follow = Running::start(host.sandbox.belay_command(&["job", "follow", &id]));
    wait_until("it to wait", || follow.stderr_so_far().contains("is locked"));
    drop(held);
    follow.wait().ok();
    let numbered = |host: &Host| -> Vec<String> {
        let answer = host.asks(&format!("GET /v1/jobs/{id}/events HTTP/1.0\r\n\r\n")).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.split("\n\n").filter(|event| event.starts_with("id: ")).map(str::to_owned).collect()
    };
    let live = numbered(&host);
    assert!(live[0].starts_with("id: 0\nevent: phase") && live[0].contains("locked"), "{live:?}");
    host.stop();
    host.start();
    assert_eq!(numbered(&host), live);
}

#[test]
fn a_restore_is_not_begun_again_by_itself_and_goes_before_backups() {
    let mut host = Host::new(&["one"], NO_UPKEEP, "");
    host.sandbox.belay(&["backup", "one"]).ok();
    host.start();
    let held = host.sandbox.held();
    let restore =
        json!({ "kind": "restore", "snapshot": "latest:one", "instance": "one", "yes": true });
    let state = |host: &Host, id: &str| host.get(&format!("/v1/jobs/{id}"))["state"].clone();
    let first = host.submit(&json!({ "kind": "backup", "instance": "one" }));
    wait_until("the backup to run", || state(&host, &first) == "running");
    let backup = host.submit(&json!({ "kind": "backup", "instance": "one", "reread": true }));
    let jumped = host.submit(&restore);
    drop(held);
    wait_until("all to be done", || host.jobs().iter().all(|job| job["state"] == "ended"));
    let ended = |id: &str| host.get(&format!("/v1/jobs/{id}"))["ended_at"].to_string();
    assert!(ended(&jumped) < ended(&backup), "{:?}", host.jobs());

    // Ctrl-C on its command stops it, and nothing is changed.
    let file = host.sandbox.source_of("one").join("file");
    fs::write(&file, "newer").unwrap();
    let id = host.sandbox.list()[0].id.clone();
    let held = host.sandbox.held();
    let arguments = ["restore", "latest:one", "--into", "one", "--yes"];
    let command = Running::start(host.sandbox.belay_command(&arguments));
    wait_until("the job to run", || host.jobs()[0]["state"] == "running");
    command.signal(Signal::INT);
    command.wait().code(130);
    assert_eq!(host.jobs()[0]["ended"]["exit_code"], 130);
    assert_eq!(fs::read_to_string(&file).unwrap(), "newer");

    // Neither one that ran nor one that waited while the daemon ended overwrites anything hours later.
    let running = host.submit(&restore);
    wait_until("the restore to run", || state(&host, &running) == "running");
    let mut waiting = restore;
    waiting["snapshot"] = json!(id);
    let waiting = host.submit(&waiting);
    host.daemon.take().unwrap().kill();
    drop(held);
    host.start();
    let open = |host: &Host| host.jobs().iter().any(|job| job["state"] != "ended");
    wait_until("nothing to be left", || !open(&host));
    for (id, how_far) in [(&running, "while it ran"), (&waiting, "before it began")] {
        let told = host.get(&format!("/v1/jobs/{id}"))["ended"]["failure"]["error"].clone();
        assert_eq!(told, format!("the daemon ended {how_far}"));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "newer");
}

#[test]
fn a_job_is_cancelled_from_its_command_and_by_another_and_times_out() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let two = "[instance.two]\ndeadline = \"1s\"\n";
    fs::write(host.sandbox.config(), config.replace("[instance.two]\n", two)).unwrap();
    host.sandbox.belay(&["backup", "two"]).ok();
    host.start();
    let _held = host.sandbox.held();
    let waits = |host: &Host, id: &str| host.get(&format!("/v1/jobs/{id}"))["state"] == "running";

    // Ctrl-C stops the job, not only who looks on.
    let command = Running::start(host.sandbox.belay_command(&["backup", "one"]));
    wait_until("the job to run", || host.jobs().iter().any(|job| job["state"] == "running"));
    command.signal(Signal::INT);
    command.wait().code(130);
    assert_eq!(host.jobs()[0]["ended"]["exit_code"], 130);

    // Who asks twice does not wait, and learns how to look.
    let command = Running::start(host.sandbox.belay_command(&["backup", "one"]));
    let runs = |host: &Host| host.jobs()[0]["state"] == "running";
    wait_until("the job to run", || runs(&host));
    let id = host.jobs()[0]["id"].as_str().unwrap().to_owned();
    host.daemon().freeze();
    command.signal(Signal::INT);
    wait_until("it to ask", || command.stderr_so_far().contains("once more to stop at once"));
    command.signal(Signal::INT);
    command.wait().code(130).says(&["is the daemon's, and may go on", &id, "belay job show"]);
    host.daemon().thaw();
    // What was asked for first may have been lost with who asked.
    host.asks(&format!("POST /v1/jobs/{id}/cancel HTTP/1.0\r\n\r\n")).unwrap();
    wait_until("the job to end", || !runs(&host));

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
    let held = host.sandbox.held();
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
    let _held = host.sandbox.held();
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
fn a_daemon_that_is_killed_under_a_command_keeps_no_other_instance_from_its_backup() {
    let mut host = Host::new(&["one", "two"], NO_UPKEEP, "");
    host.start();
    let held = host.sandbox.held();
    let command = Running::start(host.sandbox.belay_command(&["backup", "--all", "--json"]));
    wait_until("the job to run", || host.jobs().iter().any(|job| job["state"] == "running"));
    host.daemon.take().unwrap().kill();
    drop(held);
    let said = command.wait().code(1).json();
    assert_eq!(said["failures"][0]["instance"], "one", "{said}");
    assert!(said["failures"][0]["error"].as_str().unwrap().contains("not heard of any more"));
    assert_eq!(said["snapshots"][0]["instance"], "two", "{said}");
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

#[test]
fn what_was_pushed_away_is_told_once_whoever_fetched_it() {
    let (port, told) = receiver(|_| 204);
    let notify = format!("[[notify]]\nwebhook = {{ url = \"http://127.0.0.1:{port}/hook\" }}\n");
    let mut host = Host::new(&["one"], NO_UPKEEP, &notify);
    let (server, work) = (host.sandbox.path("orders.git"), host.sandbox.path("work"));
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.current_dir(&work).args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]);
        git.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
        Run::of(git).ok();
    };
    fs::create_dir(&work).unwrap();
    git(&["init", "-q", "-b", "master"]);
    git(&["init", "-q", "--bare", "-b", "master", text(&server)]);
    let rewrite = |message: &str| {
        git(&["commit", "-q", "--allow-empty", "--amend", "-m", message]);
        git(&["push", "-q", "--force", text(&server), "master"]);
    };
    git(&["commit", "-q", "--allow-empty", "-m", "base"]);
    git(&["commit", "-q", "--allow-empty", "-m", "first"]);
    git(&["push", "-q", text(&server), "master"]);
    let mut config = fs::read_to_string(host.sandbox.config()).unwrap();
    config.push_str("[git.orders]\nplatform = \"appsmith\"\n");
    config.push_str(&["url = \"", text(&server), "\"\n"].concat());
    fs::write(host.sandbox.config(), config).unwrap();
    host.sandbox.belay(&["apps", "fetch"]).ok();

    // Seen by a command while there is no daemon, and by a job of the daemon.
    let notice = || -> Value {
        serde_json::from_str(&told.recv_timeout(Duration::from_mins(2)).unwrap().1).unwrap()
    };
    rewrite("second");
    host.sandbox.belay(&["apps", "fetch"]).ok();
    host.start();
    let first = notice();
    assert_eq!(first["kind"], "history-rewritten", "{first}");
    assert_eq!(first["instance"], "orders", "{first}");
    rewrite("third");
    host.sandbox.belay(&["backup", "orders"]).ok();
    let second = notice();
    assert_eq!(second["kind"], "history-rewritten", "{second}");
    assert!(
        second["body"].as_str().unwrap().contains("1 commit is not there any more"),
        "{second}"
    );
    host.stop();
    host.start();
    host.sandbox.belay(&["backup", "orders"]).ok();
    host.stop();
    assert!(told.try_recv().is_err(), "nothing is told twice");
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

#[test]
fn a_receiver_that_does_not_answer_holds_up_nobody_else() {
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead_port = dead.local_addr().unwrap().port();
    let (port, told) = receiver(|_| 200);
    let notify = format!(
        "[[notify]]\nwebhook = {{ url = \"http://127.0.0.1:{dead_port}/hook\" }}\n\
         [[notify]]\nwebhook = {{ url = \"http://127.0.0.1:{port}/hook\" }}\n"
    );
    let mut host = Host::new(&["one"], NO_UPKEEP, &notify);
    host.start();
    let (source, away) = (host.sandbox.source_of("one"), host.sandbox.path("away"));
    fs::rename(&source, &away).unwrap();
    host.sandbox.belay(&["backup", "one"]).code(1);
    let (_silent, _) = dead.accept().unwrap();
    told.recv_timeout(Duration::from_mins(1)).unwrap();
    fs::rename(&away, &source).unwrap();
    host.sandbox.belay(&["backup", "one"]).ok();
    // A delivery is given up after 30 seconds: this one came while the other was still under way.
    told.recv_timeout(Duration::from_mins(1)).unwrap();
    dead.set_nonblocking(true).unwrap();
    assert!(dead.accept().is_err(), "the dead one was asked again before");
    host.daemon.take().unwrap().kill();
}

#[test]
fn a_job_that_ends_while_the_disk_is_full_has_ended_and_is_told_when_there_is_room() {
    let (port, told) = receiver(|_| 200);
    let notify = format!("[[notify]]\nwebhook = {{ url = \"http://127.0.0.1:{port}/hook\" }}\n");
    let mut host = Host::new(&["one"], NO_UPKEEP, &notify);
    let disk = SmallDisk::mount(&host.sandbox.state(), 16);
    host.start();
    let held = host.sandbox.held();
    let id = host.submit(&json!({ "kind": "backup", "instance": "one" }));
    wait_until("the job to run", || host.get(&format!("/v1/jobs/{id}"))["state"] == "running");
    fs::remove_dir_all(host.sandbox.source_of("one")).unwrap();
    // What the log of the catalog has room for already would do.
    let catalog = rusqlite::Connection::open(host.sandbox.state().join("catalog.sqlite")).unwrap();
    wait_until("an empty log", || {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        catalog.query_row(checkpoint, [], |row| row.get::<_, i64>(0)).is_ok_and(|busy| busy == 0)
    });
    let filler = disk.fill();
    drop(held);
    wait_until("the trouble to be told", || {
        let log = host.daemon().stderr_so_far();
        log.contains("The queue could not be recorded yet")
            && log.contains("Notices wait in memory")
    });
    fs::remove_file(filler).unwrap();
    let notice = told.recv_timeout(Duration::from_mins(1)).unwrap().1;
    assert!(notice.contains("\"kind\":\"failure\""), "{notice}");
    wait_until("the end to be recorded", || {
        host.get(&format!("/v1/jobs/{id}"))["state"] == "ended"
    });
    host.daemon.take().unwrap().kill();
    host.start();
    assert_eq!(host.jobs().len(), 1, "it did not come back");
    host.stop();
    drop(catalog);
}

#[test]
fn who_asks_does_not_wait_while_something_waits_to_be_written() {
    let mut host = Host::new(&["one"], NO_UPKEEP, "");
    host.start();
    let held = host.sandbox.held();
    let id = host.submit(&json!({ "kind": "backup", "instance": "one" }));
    wait_until("the job to run", || host.get(&format!("/v1/jobs/{id}"))["state"] == "running");
    let catalog = rusqlite::Connection::open(host.sandbox.state().join("catalog.sqlite")).unwrap();
    catalog.execute_batch("BEGIN IMMEDIATE").unwrap();
    let cancelled = host.asks(&format!("POST /v1/jobs/{id}/cancel HTTP/1.0\r\n\r\n")).unwrap();
    assert!(cancelled.contains(" 202 "), "{cancelled}");
    wait_until("the end of the job", || {
        host.daemon().stderr_so_far().contains("root cancelled it")
    });
    // Ten seconds are waited for a lock.
    let began = std::time::Instant::now();
    for path in ["/v1/daemon", "/v1/jobs", "/v1/snapshots"] {
        host.get(path);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(host.get(&format!("/v1/jobs/{id}"))["state"], "running", "as far as is recorded");
    catalog.execute_batch("ROLLBACK").unwrap();
    wait_until("the end to be recorded", || {
        host.get(&format!("/v1/jobs/{id}"))["state"] == "ended"
    });
    drop(held);
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
