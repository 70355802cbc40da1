//! The API as docs/API.md tells it: each of its examples is run against a daemon, and answers what stands below it. And the alert
//! rules: they use what a daemon serves, and tell what they are for.
#![allow(clippy::unwrap_used)]

mod support;

#[path = "documents/markdown.rs"]
mod markdown;

use markdown::{Block, Mark, blocks};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Run, Running, Sandbox, text, wait_until};

const DOCUMENT: &str = include_str!("../docs/API.md");
/// Where the document says that the socket is.
const SOCKET: &str = "/run/belay/belay.sock";
const RULES: &str = "docs/alerts.yml";

/// A host as the document has it: the instance `uploads` with an objective, and a daemon.
struct Host {
    sandbox: Sandbox,
    daemon: Option<Running>,
}

impl Host {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["uploads"], "last = 10");
        let config = fs::read_to_string(sandbox.config()).unwrap();
        let main = "[repository.main]\nprune = \"off\"\ncheck = \"off\"\n";
        let config = config.replace("[repository.main]\n", main);
        let more = format!(
            "schedule = \"30 2 * * *\"\nobjectives.rpo = \"36h\"\n\n[daemon]\nsocket = \"{}\"\n",
            text(&sandbox.path("belay.sock"))
        );
        // The document calls the component by the instance's name, as it is where a directory has it.
        let (source, named) = (sandbox.source_of("uploads"), sandbox.path("srv/uploads"));
        fs::create_dir_all(&named).unwrap();
        fs::write(named.join("report.txt"), "the report\n").unwrap();
        let config = config.replace(text(&source), text(&named));
        fs::write(sandbox.config(), config + &more).unwrap();
        let mut host = Self { sandbox, daemon: None };
        host.sandbox.belay(&["backup", "uploads"]).ok();
        host.daemon = Some(Running::start(host.sandbox.belay_command(&["daemon"])));
        wait_until("the daemon to answer", || {
            let daemon = host.daemon.as_mut().unwrap();
            assert!(!daemon.has_ended(), "{}", daemon.stderr_so_far());
            host.answers("curl -s --unix-socket /run/belay/belay.sock http://belay/readyz")
                .stdout()
                .starts_with("ready")
        });
        host
    }

    fn answers(&self, script: &str) -> Run {
        let socket = self.sandbox.path("belay.sock");
        let mut command = Command::new("bash");
        command.args(["-uo", "pipefail", "-c", &script.replace(SOCKET, text(&socket))]);
        self.sandbox.tidy(&mut command);
        Run::of(command)
    }

    fn metrics(&self) -> String {
        self.answers("curl -s --unix-socket /run/belay/belay.sock http://belay/metrics")
            .ok()
            .stdout()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            daemon.kill();
        }
    }
}

/// Compares answers with the document: ids and times differ, members, types and words do not.
#[derive(Default)]
struct Comparison {
    /// The document's ids and what stands for them here.
    ids: BTreeMap<String, String>,
    problems: Vec<String>,
}

fn is_id(text: &str) -> bool {
    [16, 32, 64].contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

/// With `#` in place of numbers and what has numbers in it.
fn without_numbers(line: &str) -> String {
    let words = line.split_inclusive([' ', '"', ':', '{', '}', ',']);
    let shown = words.map(|word| {
        let has_digit = word.bytes().any(|byte| byte.is_ascii_digit());
        if has_digit { "#" } else { word }
    });
    shown.collect()
}

impl Comparison {
    fn document(&mut self, place: &str, expected: &Value, found: &Value) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => {
                let names = |members: &serde_json::Map<String, Value>| {
                    members.keys().cloned().collect::<BTreeSet<_>>()
                };
                for name in names(expected).symmetric_difference(&names(found)) {
                    let whose = if found.contains_key(name) { "answer" } else { "document" };
                    self.problems.push(format!("{place}: only the {whose} has `{name}`"));
                }
                for (name, expected) in expected {
                    if let Some(found) = found.get(name) {
                        self.document(&format!("{place}.{name}"), expected, found);
                    }
                }
            }
            (Value::Array(expected), Value::Array(found)) => {
                if expected.len() != found.len() {
                    self.problems.push(format!("{place}: {found:?}"));
                }
                for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                    self.document(&format!("{place}[{index}]"), expected, found);
                }
            }
            (Value::String(expected), Value::String(found)) => self.text(place, expected, found),
            (Value::Number(_), Value::Number(_)) => {}
            (expected, found) if expected == found => {}
            _ => self.problems.push(format!("{place}: {found}, and not {expected}")),
        }
    }

    fn text(&mut self, place: &str, expected: &str, found: &str) {
        if is_id(expected) && is_id(found) && expected.len() == found.len() {
            let known = self.ids.entry(expected.to_owned()).or_insert_with(|| found.to_owned());
            if known != found {
                self.problems.push(format!("{place}: {expected} stands for another one before"));
            }
            return;
        }
        let is_loose = is_time(expected) == is_time(found)
            && (expected.contains(|c: char| c.is_ascii_digit()) || expected.starts_with('/'));
        if !is_loose && expected != found {
            self.problems.push(format!("{place}: {found:?}, and not {expected:?}"));
        }
    }

    /// Lines, and JSON where a line has `data`.
    fn lines(&mut self, place: &str, expected: &str, found: &str) {
        let (expected, found) = (told(expected), told(found));
        if expected.len() != found.len() {
            self.problems.push(format!("{place}: {found:#?}"));
            return;
        }
        for (expected, found) in expected.iter().zip(&found) {
            match (expected.strip_prefix("data: "), found.strip_prefix("data: ")) {
                (Some(expected), Some(found)) => {
                    let json = |text| serde_json::from_str(text).unwrap();
                    self.document(place, &json(expected), &json(found));
                }
                _ if without_numbers(expected) == without_numbers(found) => {}
                _ => self.problems.push(format!("{place}: {found:?}, and not {expected:?}")),
            }
        }
    }
}

/// The lines but those that depend on how fast the machine is: that a job waits, how far it is.
fn told(text: &str) -> Vec<String> {
    let is_told = |part: &&str| {
        !part.starts_with(": ")
            && !part.starts_with("event: progress")
            && !part.contains("{\"state\":\"queued\"}")
    };
    let parts: Vec<&str> = text.split("\n\n").filter(is_told).collect();
    parts.join("\n\n").lines().map(str::to_owned).collect()
}

fn examples() -> Vec<(Block, Block)> {
    let all = blocks(DOCUMENT);
    let is_run = |block: &Block| block.mark == Mark::Test("api".into());
    assert!(!all.last().is_some_and(is_run), "the last example has no answer");
    let pairs = all.iter().zip(all.iter().skip(1)).filter(|(block, _)| is_run(block));
    pairs.map(|(command, answer)| (command.clone(), answer.clone())).collect()
}

/// Every member of an answer, however deep.
fn members(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                found.insert(name.clone());
                // Its members are what was counted.
                if name != "counts" {
                    members(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| members(value, found)),
        _ => {}
    }
}

#[test]
fn every_example_answers_what_the_document_says() {
    let host = Host::new();
    let mut comparison = Comparison::default();
    let mut named = BTreeSet::new();
    let mut held = None;
    let examples = examples();
    for (command, answer) in &examples {
        let place = format!("docs/API.md:{}", command.line);
        // What is to be cancelled must not end before.
        if command.content.contains("\"kind\":\"check\"") {
            held = Some(host.sandbox.held());
        }
        let mut script = command.content.clone();
        for (documented, here) in &comparison.ids {
            script = script.replace(documented, here);
        }
        let found = host.answers(&script).ok().stdout();
        match answer.language.as_str() {
            "json" => {
                let value: Value = serde_json::from_str(&found)
                    .unwrap_or_else(|error| panic!("{place}: {error}: {found}"));
                let expected = serde_json::from_str(&answer.content).unwrap();
                comparison.document(&place, &expected, &value);
                members(&value, &mut named);
            }
            "text" => comparison.lines(&place, &answer.content, &found),
            other => comparison.problems.push(format!("{place}: an answer in '{other}'")),
        }
        if command.content.contains("/cancel") {
            held = None;
        }
    }
    drop(held);
    for name in named {
        if !DOCUMENT.contains(&format!("`{name}`")) {
            comparison.problems.push(format!("the document does not name `{name}`"));
        }
    }
    assert_eq!(comparison.problems, [""; 0]);
    assert!(examples.len() >= 12, "only {} examples were found", examples.len());
}

#[test]
fn every_path_has_an_example_or_a_row() {
    let router = include_str!("../src/http.rs");
    let paths: Vec<&str> =
        router.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(paths.len() >= 10, "{paths:?}");
    let run: String = examples().into_iter().map(|(command, _)| command.content).collect();
    for path in paths {
        let told = path.replace("{id}", "ID").replace("{name}", "NAME");
        assert!(DOCUMENT.contains(&format!("{told}`")), "the document does not name {told}");
        let beginning = format!("http://belay{}", path.split('{').next().unwrap());
        assert!(run.contains(&beginning), "no example asks for {path}");
    }
}

#[test]
fn what_commands_ran_and_what_is_wrong_is_told_in_the_same_shape() {
    let host = Host::new();
    let ask = |arguments: &str| -> Value {
        let script = format!("curl -s --unix-socket {SOCKET} {arguments}");
        serde_json::from_str(&host.answers(&script).ok().stdout()).unwrap()
    };
    let snapshots = ask("http://belay/v1/snapshots");
    let tags = snapshots["snapshots"][0]["tags"].as_array().unwrap();
    let of_command =
        tags.iter().find_map(|tag| tag.as_str().unwrap().strip_prefix("job=")).unwrap();
    let submitted = ask(r#"http://belay/v1/jobs -d '{"kind":"backup","instance":"uploads"}'"#);
    let of_daemon = submitted["id"].as_str().unwrap();
    let follow = |id: &str| {
        let script = format!("curl -s --unix-socket {SOCKET} http://belay/v1/jobs/{id}/events");
        host.answers(&script).ok().stdout()
    };
    for id in [of_daemon, of_command] {
        let events = follow(id);
        assert!(events.contains("id: 0\n") && events.contains("event: ended\n"), "{id}: {events}");
    }
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let [daemon, command] =
        [of_daemon, of_command].map(|id| ask(&format!("http://belay/v1/jobs/{id}")));
    assert_eq!(names(&daemon), names(&command));
    assert_eq!(names(&daemon["ended"]), names(&command["ended"]));
    assert_eq!(
        (&command["origin"], &command["ended"]["exit_code"]),
        (&"command".into(), &0.into())
    );
    host.sandbox.belay(&["job", "follow", of_command]).ok();
    let shown = host.sandbox.belay(&["job", "show", of_command]).ok().stdout();
    assert!(shown.starts_with("backup of uploads: done\nrun by a command at "), "{shown}");

    // From after what was seen; a number that is none of an event is the end.
    let last = format!(
        "curl -s --unix-socket {SOCKET} -H 'Last-Event-ID: {}' http://belay/v1/jobs/{of_daemon}/events",
        u64::MAX
    );
    let rest = host.answers(&last).ok().stdout();
    assert!(!rest.contains("id: ") && rest.contains("event: ended\n"), "{rest}");

    for (arguments, status) in [
        ("http://belay/v1/nothing", 404),
        ("-X DELETE http://belay/v1/jobs", 405),
        ("http://belay/v1/jobs/%ff", 400),
        ("http://belay/v1/jobs/zz", 400),
        ("http://belay/v1/jobs?limit=0", 400),
        ("http://belay/v1/jobs?limit=-1", 400),
        ("http://belay/v1/jobs?offset=1", 400),
        ("http://belay/v1/snapshots?instance=nobody", 404),
        ("http://belay/v1/instances/nobody", 404),
        ("-d '{}' http://belay/v1/jobs", 400),
        ("-d '{\"kind\":\"backup\",\"instance\":\"nobody\"}' http://belay/v1/jobs", 404),
        (
            "-d '{\"kind\":\"check\",\"repository\":\"main\",\"read_data\":\"8/7\"}' http://belay/v1/jobs",
            400,
        ),
        (
            "-d '{\"kind\":\"prune\",\"repository\":\"main\",\"max_unused\":101}' http://belay/v1/jobs",
            400,
        ),
        ("-d \"$(head -c 70000 /dev/zero | tr '\\0' x)\" http://belay/v1/jobs", 413),
    ] {
        let script = format!("curl -s -w '%{{http_code}}' --unix-socket {SOCKET} {arguments}");
        let said = host.answers(&script).ok().stdout();
        let (body, code) = said.split_at(said.len() - 3);
        assert_eq!(code, status.to_string(), "{arguments}: {said}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(names(&body), ["error", "hint"].map(String::from).into(), "{arguments}");
    }
    let head = format!("curl -sI --unix-socket {SOCKET} http://belay/v1/status");
    assert!(host.answers(&head).ok().stdout().starts_with("HTTP/1.1 200"));
}

/// Prometheus' own checker, as tests/run puts it there.
fn promtool(arguments: &[&str]) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let program = target.join("tools/promtool/usr/bin/promtool");
    assert!(program.exists(), "{}: tests/run installs it", program.display());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

#[test]
fn prometheus_reads_the_metrics_and_finds_nothing_to_say_of_them() {
    let host = Host::new();
    let file = host.sandbox.path("metrics");
    let submit = r#"curl -s --unix-socket /run/belay/belay.sock -d '{"kind":"check","repository":"main"}' http://belay/v1/jobs"#;
    host.answers(submit).ok();
    wait_until("the check to be counted", || host.metrics().contains("kind=\"check\""));
    fs::write(&file, host.metrics()).unwrap();
    let script = format!("{} check metrics < {}", text(&program_of(&promtool(&[]))), text(&file));
    let said = host.answers(&script).ok();
    assert_eq!((said.stdout(), said.stderr()), (String::new(), String::new()));
}

fn program_of(command: &Command) -> PathBuf {
    PathBuf::from(command.get_program())
}

/// The metrics of the rules with the labels that stand behind them in braces.
fn used(rules: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (start, _) in rules.match_indices("belay_") {
        let rest = &rules[start..];
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let labels = found.entry(rest[..end].to_owned()).or_default();
        if let Some(inside) = rest[end..].strip_prefix('{') {
            let inside = inside.split('}').next().unwrap();
            labels.extend(inside.split(',').map(|label| label.split('=').next().unwrap().into()));
        }
    }
    found
}

#[test]
fn the_alert_rules_use_what_a_daemon_serves_and_tell_what_they_are_for() {
    Run::of(promtool(&["check", "rules", RULES])).ok();
    Run::of(promtool(&["test", "rules", "tests/fixtures/alerts.test.yml"])).ok();

    let host = Host::new();
    // Each metric is there: also that of a job that waits, of one that ended, and of a check.
    let submit = r#"curl -s --unix-socket /run/belay/belay.sock -d '{"kind":"check","repository":"main"}' http://belay/v1/jobs"#;
    host.answers(submit).ok();
    wait_until("the check to be known", || {
        host.metrics().contains("belay_repository_last_check_ok")
    });
    let held = host.sandbox.held();
    let backup = r#"for reread in true false; do curl -s --unix-socket /run/belay/belay.sock -d '{"kind":"backup","instance":"uploads","reread":'$reread'}' http://belay/v1/jobs; done"#;
    host.answers(backup).ok();
    wait_until("a job to wait", || host.metrics().contains("\nbelay_queue_oldest"));
    let served = used(&host.metrics());
    drop(held);
    let rules = fs::read_to_string(RULES).unwrap();
    let tests = fs::read_to_string("tests/fixtures/alerts.test.yml").unwrap();
    let used = used(&rules);
    assert!(used.len() >= 8, "{used:?}");
    for (metric, labels) in &used {
        let known = served.get(metric).unwrap_or_else(|| panic!("nobody serves {metric}"));
        assert!(labels.is_subset(known), "{metric} has {known:?}, and not {labels:?}");
        assert!(DOCUMENT.contains(&format!("`{metric}`")), "docs/API.md does not name {metric}");
    }
    for metric in served.keys() {
        assert!(DOCUMENT.contains(&format!("`{metric}`")), "docs/API.md does not name {metric}");
    }
    let alerts: Vec<&str> = rules.split("- alert: ").skip(1).collect();
    for alert in &alerts {
        let name = alert.lines().next().unwrap();
        for part in ["expr:", "for:", "severity:", "summary:", "description:", "`belay "] {
            let has = alert.contains(part) || (part == "`belay " && alert.contains("`systemctl "));
            assert!(has, "{name} has no {part}");
        }
        let is_tested = [format!("alertname: {name}\n"), format!("alertname=\"{name}\"")];
        assert!(is_tested.iter().any(|part| tests.contains(part)), "{name} is not tested");
    }
    assert!(alerts.len() >= 8);
}
