//! Upgrades by the daemon: it goes on by itself, also after a kill in the middle of a step; people speak to it over its socket, and are who
//! the kernel says; and it tells where an upgrade rests.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;
use support::upgrades::Pair;
use support::{Run, Running, assert_same_text, require_root, text, wait_until};

const OLD: &str = "v3.16.11";
const NEW: &str = "v3.17.0";

/// A pair on a host with a daemon, whose notices come here.
struct Host {
    daemon: Option<Running>,
    told: Receiver<Value>,
    pair: Pair,
}

impl Host {
    fn new(terms: &str) -> Self {
        let pair = Pair::new(terms);
        let (port, told) = receiver();
        let config = fs::read_to_string(pair.sandbox.config()).unwrap();
        let config = config
            .replace("[repository.main]\n", "[repository.main]\nprune = 'off'\ncheck = 'off'\n");
        let more = format!(
            "\n[daemon]\nsocket = '{}'\n\n[[notify]]\non = ['upgrade', 'recovery', 'version-changed']\n\
             webhook = {{ url = 'http://127.0.0.1:{port}/hook' }}\n",
            text(&pair.sandbox.path("belay.sock"))
        );
        fs::write(pair.sandbox.config(), config + &more).unwrap();
        let mut host = Self { daemon: None, told, pair };
        host.start();
        host
    }

    fn start(&mut self) {
        self.spawn();
        wait_until("the daemon to answer", || {
            let daemon = self.daemon.as_mut().unwrap();
            assert!(!daemon.has_ended(), "{}", daemon.stderr_so_far());
            self.asks("GET", "/readyz", None).is_some_and(|(status, _)| status == 200)
        });
    }

    /// A daemon that ends at the places of the journal that [`Host::ends_at`] has named.
    fn spawn(&mut self) {
        let mut command = self.pair.command(&["daemon"]);
        command.env("BELAY_ENDS_UPGRADE_AT", self.places());
        self.daemon = Some(Running::start(command));
    }

    fn places(&self) -> PathBuf {
        self.pair.sandbox.path("places")
    }

    fn ends_at(&self, places: &[String]) {
        let lines: Vec<String> = places.iter().map(|place| format!("{place}\n")).collect();
        fs::write(self.places(), lines.concat()).unwrap();
    }

    fn kill(&mut self) {
        self.daemon.take().unwrap().kill();
    }

    fn socket(&self) -> PathBuf {
        self.pair.sandbox.path("belay.sock")
    }

    /// The status and the document that are answered, if anything is.
    fn asks(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        let body = body.map(ToString::to_string).unwrap_or_default();
        let mut stream = UnixStream::connect(self.socket()).ok()?;
        stream.set_read_timeout(Some(Duration::from_mins(2))).ok()?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or_default()))
    }

    fn get(&self, path: &str) -> Value {
        let (status, document) = self.asks("GET", path, None).unwrap();
        assert_eq!(status, 200, "{document}");
        document
    }

    /// What is said to a path, which is refused with this status: the error and the hint.
    #[track_caller]
    fn refused(&self, path: &str, body: &Value, status: u16) -> String {
        let (found, document) = self.asks("POST", path, Some(body)).unwrap();
        assert_eq!(found, status, "{path}: {document}");
        format!("{} ({})", document["error"].as_str().unwrap(), document["hint"])
    }

    fn upgrade(&self) -> Value {
        self.get("/v1/upgrades/main")["upgrade"].clone()
    }

    fn wait_for_state(&self, state: &str) {
        wait_until(state, || {
            let upgrade = self.upgrade();
            let found = upgrade["state"].as_str().unwrap();
            let failed = ["held", "aborted", "gate_closed"].contains(&found);
            assert!(found == state || !failed, "{upgrade:#}");
            found == state
        });
    }

    /// The next notice; its title.
    #[track_caller]
    fn told(&self, kind: &str) -> Value {
        let notice = self.told.recv_timeout(Duration::from_mins(5)).unwrap();
        assert_eq!(notice["kind"], kind, "{notice:#}");
        notice
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }
}

/// Takes notices, and hands on the documents.
fn receiver() -> (u16, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, received) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
            let document = loop {
                let Ok(read @ 1..) = stream.read(&mut piece) else { break None };
                bytes.extend_from_slice(&piece[..read]);
                let Some(end) = bytes.windows(4).position(|it| it == b"\r\n\r\n") else { continue };
                if let Ok(document) = serde_json::from_slice::<Value>(&bytes[end + 4..]) {
                    break Some(document);
                }
            };
            let Some(document) = document else { continue };
            let _ = stream
                .write_all(b"HTTP/1.1 200 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if sender.send(document).is_err() {
                return;
            }
        }
    });
    (port, received)
}

fn who() -> String {
    let run = Run::of({
        let mut command = Command::new("id");
        command.arg("-un");
        command
    });
    run.ok().stdout().trim().to_owned()
}

#[test]
fn it_waits_for_an_approval_and_goes_on_by_itself_after_a_kill() {
    require_root("to be somebody else at the socket");
    let mut host = Host::new(&format!("approvers = ['{}']\nsoak = '1s'", who()));
    // The one who asks sees what happens until it rests, which is where it soaks.
    let run = host.pair.belay(&["upgrade", "start", "main", "--to", NEW, "--yes"]);
    let run = run.code_in(&[0, 3]);
    assert!(run.stdout().contains("Upgrade "), "{run}");
    host.wait_for_state("awaiting_approval");
    assert_eq!((host.pair.version(0).as_str(), host.pair.version(1).as_str()), (NEW, OLD));
    let notice = host.told("upgrade");
    assert_eq!(notice["title"], format!("Approval is needed for the upgrade of main to {NEW}"));
    assert_eq!(notice["instance"], "production");
    assert_eq!(host.upgrade()["planned_by"], who());

    // Somebody else, who may open the socket, is no approver, whatever he says who he is.
    let plan = host.upgrade()["plan_digest"].clone();
    for path in [host.pair.sandbox.path(""), host.socket()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=65534", "--clear-groups", "curl", "-s", "--unix-socket"]);
    stranger.arg(host.socket()).args(["-w", "\n%{http_code}", "-d"]);
    stranger.arg(json!({ "plan": plan }).to_string()).env("SUDO_USER", who());
    stranger.arg("http://belay/v1/upgrades/main/approve");
    let said = Run::of(stranger).ok().stdout();
    assert!(said.contains("nobody is none of the approvers") && said.ends_with("412"), "{said}");
    let other = json!({ "plan": "00".repeat(32) });
    let why = host.refused("/v1/upgrades/main/approve", &other, 412);
    assert!(why.contains("another plan than the one on its way"), "{why}");

    // The step hangs, and the daemon is killed meanwhile.
    host.pair.platforms[1].is_slow(true);
    let run = host.pair.belay(&["upgrade", "approve", "main", "--reason", "looked at it"]).ok();
    assert!(run.stdout().contains("Noted"), "{run}");
    wait_until("production's upgrade to begin", || {
        let upgrade = host.upgrade();
        let last = upgrade["records"].as_array().unwrap().last().unwrap().clone();
        last["kind"] == "began" && last["step"] == "upgrade_production"
    });
    host.kill();
    host.pair.platforms[1].is_slow(false);
    host.start();
    host.wait_for_state("provisional");
    assert_eq!(host.pair.version(1), NEW);
    let notice = host.told("upgrade");
    assert_eq!(notice["title"], format!("Production of main runs {NEW}"));
    let listed = host.get("/v1/upgrades");
    assert_eq!(listed["upgrades"][0]["waits"], "commit_window", "{listed:#}");

    let mut last = notice;
    // It is watched: that it does not answer is told, and that it does again. A daemon that starts looks at once.
    for (word, kind, title) in [
        ("stop", "upgrade", format!("Production of main is not well with {NEW}")),
        ("start", "recovery", format!("Production of main is well again with {NEW}")),
    ] {
        host.kill();
        let mut script = Command::new(host.pair.sandbox.path("platforms/upgrade.sh"));
        script.arg(word).env("BELAY_INSTANCE", "production");
        Run::of(script).ok();
        host.start();
        // What was on its way while the daemon was killed is sent once more.
        let next = || host.told.recv_timeout(Duration::from_mins(5)).unwrap();
        let mut told = std::iter::repeat_with(next);
        last = told.find(|told| told["title"] != last["title"]).unwrap();
        assert_eq!((&last["kind"], &last["title"]), (&json!(kind), &json!(title)));
    }
    assert_eq!(host.upgrade()["state"], "provisional");

    // By hand it goes back, with one command, and the end is told with what is lost by it.
    let run = host.pair.belay(&["upgrade", "rollback", "main", "--reason", "users complain"]);
    let run = run.code_in(&[0, 3]);
    assert!(run.stdout().contains("rolled back"), "{run}");
    assert_eq!(host.pair.version(1), OLD);
    let notice = host.told("upgrade");
    assert_eq!(notice["title"], format!("Production of main is back at {OLD}"));
    assert!(notice["body"].as_str().unwrap().contains("is not in it"), "{notice:#}");
    // Once for each, and none of these versions was somebody else's.
    assert!(host.told.try_recv().is_err());
}

#[test]
fn what_makes_no_sense_is_refused_and_a_version_of_somebody_else_is_told() {
    let host = Host::new("");
    assert_eq!(host.get("/v1/upgrades"), json!({ "upgrades": [] }));
    let planned = host.pair.belay(&["upgrade", "plan", "main", "--to", NEW, "--json"]).ok().json();
    let plan = planned["digest"].clone();
    let wanted = json!({ "to": NEW, "plan": plan });
    let why = host.refused("/v1/upgrades/nobody", &wanted, 404);
    assert!(why.contains("nobody"), "{why}");
    let slip = json!({ "to": NEW, "plan": plan, "yes": true });
    assert!(host.refused("/v1/upgrades/main", &slip, 400).contains("yes"));
    let floating = json!({ "to": "latest", "plan": plan });
    host.refused("/v1/upgrades/main", &floating, 412);
    let why = host.refused("/v1/upgrades/main/resume", &json!({}), 409);
    assert!(why.contains("no upgrade of main is on its way"), "{why}");
    host.refused("/v1/upgrades/main/hurry", &json!({}), 404);
    // None is held for its tests; and why has to be said.
    let because = json!({ "reason": "the test is wrong" });
    let why = host.refused("/v1/upgrades/main/accept", &because, 409);
    assert!(why.contains("no upgrade of main is on its way"), "{why}");
    assert!(host.refused("/v1/upgrades/main/accept", &json!({}), 400).contains("reason"));
    let accept = ["upgrade", "accept", "main", "--reason", "the test is wrong"];
    host.pair.belay(&accept).code(1).says(&["no upgrade of main is on its way"]);
    host.pair.belay(&accept[..3]).code(2).says(&["--reason"]);
    let work = json!({ "kind": "upgrade", "pair": "main" });
    assert!(host.refused("/v1/jobs", &work, 400).contains("POST /v1/upgrades/main"));

    // A plan that nobody has seen is not carried out.
    let other = json!({ "to": NEW, "plan": "11".repeat(32) });
    let (status, job) = host.asks("POST", "/v1/upgrades/main", Some(&other)).unwrap();
    assert_eq!(status, 202, "{job}");
    let id = job["id"].as_str().unwrap();
    let ended = || host.get(&format!("/v1/jobs/{id}"))["ended"].clone();
    wait_until("the job to end", || !ended().is_null());
    assert_eq!(ended()["exit_code"], 5, "{:#}", ended());
    assert!(ended()["failure"]["error"].as_str().unwrap().contains("another plan"));
    assert_eq!(host.get("/v1/upgrades"), json!({ "upgrades": [] }), "none has begun");

    // Somebody installs a version by hand. The last snapshot before that is the good one.
    let taken = host.pair.belay(&["backup", "production", "--json"]).code_in(&[0, 3]).json();
    let last_good = &taken["snapshots"][0]["id"];
    let mut install = Command::new(host.pair.sandbox.path("platforms/upgrade.sh"));
    install.env("BELAY_INSTANCE", "production").env("BELAY_VERSION", NEW);
    Run::of(install).ok();
    let run = host.pair.belay(&["backup", "production"]).code(3);
    assert!(run.stderr().contains("which Belay did not install"), "{run}");
    let notice = host.told("version-changed");
    assert_eq!(notice["instance"], "production");
    assert!(notice["title"].as_str().unwrap().contains(NEW), "{notice:#}");
    let listed = host.pair.belay(&["list", "--json"]).ok().json();
    let pinned: Vec<&Value> =
        listed.as_array().unwrap().iter().filter(|it| it["pinned"] == true).collect();
    assert_eq!(pinned.len(), 1, "{listed:#}");
    assert_eq!(&pinned[0]["id"], last_good, "{listed:#}");
    // Once is enough.
    let run = host.pair.belay(&["backup", "production"]).code_in(&[0, 3]);
    assert!(!run.stderr().contains("did not install"), "{run}");
    assert!(host.told.try_recv().is_err());
}

#[test]
fn without_a_daemon_both_ways_are_named() {
    let mut host = Host::new("");
    host.kill();
    let run = host.pair.belay(&["upgrade", "start", "main", "--to", NEW, "--yes"]).code(1);
    run.says(&["no daemon answers", "systemctl start belay", "--foreground"]);
}

/// Each step of an upgrade that ends with production taken back, but for those of users who are kept out.
const STEPS: [&str; 25] = [
    "pull_staging",
    "back_up_staging",
    "back_up_production",
    "pin_both",
    "gate_staging",
    "baseline_staging",
    "upgrade_staging",
    "test_staging",
    "test_staging_again",
    "pull_production",
    "back_up_staging_again",
    "baseline_production",
    "gate_before_stop",
    "stop_writers",
    "back_up_stopped",
    "pin_last",
    "hold_writers",
    "gate_production",
    "upgrade_production",
    "verify",
    "stop_production",
    "save_production",
    "put_back_production",
    "start_back",
    "verify_back",
];

#[test]
fn whose_daemon_is_killed_in_each_step_goes_on_and_back_by_itself() {
    let mut host = Host::new("soak = '1s'");
    host.pair.platforms[1].breaks(&[(NEW, &["loses-rows"])]);
    let before = host.pair.dump(1);
    let places: Vec<String> = STEPS.iter().map(|step| format!("noted began {step}")).collect();
    host.ends_at(&places);
    let plan = host.pair.belay(&["upgrade", "plan", "main", "--to", NEW, "--json"]).ok().json();
    let wanted = json!({ "to": NEW, "plan": plan["digest"] });
    // The daemon may end before it answers.
    let _ = host.asks("POST", "/v1/upgrades/main", Some(&wanted));
    let mut kills = 0;
    let mut state = String::new();
    while state != "rolled_back" {
        wait_until("the daemon to be killed, or the upgrade to rest", || {
            let has_ended = host.daemon.as_mut().unwrap().has_ended();
            let found = host.asks("GET", "/v1/upgrades/main", None);
            if let Some((200, found)) = found {
                found["upgrade"]["state"].as_str().unwrap_or_default().clone_into(&mut state);
            }
            has_ended || ["rolled_back", "held", "aborted"].contains(&state.as_str())
        });
        if host.daemon.as_mut().unwrap().has_ended() {
            let run = host.daemon.take().unwrap().wait();
            assert_eq!(run.signal(), Some(9), "{run}");
            kills += 1;
            host.spawn();
        } else {
            assert_eq!(state, "rolled_back", "{:#}", host.upgrade());
        }
    }
    assert_eq!(fs::read_to_string(host.places()).unwrap(), "", "these were not reached");
    assert_eq!(kills, STEPS.len());
    let begun = host.pair.records();
    let begun = begun.iter().filter(|record| record["kind"] == "began");
    let others: Vec<&str> = begun
        .map(|record| record["step"].as_str().unwrap())
        .filter(|step| !STEPS.contains(step) && *step != "resume_writers")
        .collect();
    assert!(others.is_empty(), "steps in which no daemon was killed: {others:?}");
    assert_eq!((host.pair.version(0).as_str(), host.pair.version(1).as_str()), (NEW, OLD));
    assert_same_text(&before, &host.pair.dump(1));
    assert!(host.pair.platforms[1].pid().is_some(), "it runs");
}
