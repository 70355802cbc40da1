//! The demonstration: a backup that comes back, a good night and a bad one, and nothing left of it, also when somebody stops it.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{Run, text};

fn demo(directory: &Path) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_belay"));
    demo.arg("demo").env("TMPDIR", directory).env_remove("BELAY_CONFIG").stdin(Stdio::null());
    demo
}

/// Processes that were started with this directory for their temporary files, or name it.
fn processes_of(directory: &Path) -> Vec<String> {
    let needle = text(directory);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let entry = entry.unwrap().path();
        let read = |name: &str| fs::read(entry.join(name)).unwrap_or_default();
        let told =
            [read("environ"), read("cmdline")].map(|it| String::from_utf8_lossy(&it).into_owned());
        if told.iter().any(|it| it.contains(needle)) {
            found.push(told[1].replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn assert_nothing_is_left(directory: &Path) {
    let left: Vec<_> = fs::read_dir(directory).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
    assert_eq!(processes_of(directory), Vec::<String>::new());
}

/// A line without what differs from one run to the next: times, ids, keys, and how large the repository became.
fn steady(line: &str) -> String {
    let mut words = Vec::new();
    for word in line.split_whitespace() {
        let bare = word.trim_matches(|it: char| !it.is_ascii_alphanumeric());
        let is_id = bare.len() == 8 && bare.bytes().all(|it| it.is_ascii_hexdigit());
        let is_number = bare.parse::<f64>().is_ok();
        words.push(if is_id {
            word.replace(bare, "ID")
        } else if is_number && word.contains('.') && bare.contains('.') {
            word.replace(bare, "N")
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}

#[test]
fn a_backup_comes_back_and_both_nights_end_as_they_should() {
    let directory = tempfile::tempdir().unwrap();
    let run = Run::of(demo(directory.path())).ok();
    let shown = run.stdout();
    let lines: Vec<&str> = shown.lines().collect();
    let place = |words: &str| {
        lines
            .iter()
            .position(|line| line.contains(words))
            .unwrap_or_else(|| panic!("'{words}' is not in\n{run}"))
    };
    place("every byte, mode and time as it was");
    place("finds no damage");
    let refused = place("Straight to production?");
    for rule in ["both-backed-up", "staging-first", "staging-tested", "soaked", "approved"] {
        let is_backed_up = rule == "both-backed-up";
        assert_eq!(lines[refused].contains(rule), !is_backed_up, "{rule}: {run}");
    }
    let (good, bad) = (place("A good night"), place("A bad night"));
    let first = &lines[good..bad];
    let in_order = |night: &[&str], wanted: &[&str]| {
        let mut rest = night.iter();
        for words in wanted {
            assert!(
                rest.any(|line| line.contains(words)),
                "'{words}' is not there, or too early, in\n{}",
                night.join("\n")
            );
        }
    };
    in_order(
        first,
        &[
            "staging is backed up: snapshot",
            "production is backed up: snapshot",
            "both snapshots are pinned",
            "the gate to staging is open: both-backed-up, fresh, key-fit",
            "staging gets 2.0.0",
            "staging passes its tests: version, http /health",
            "staging has soaked",
            "alice approves",
            "production's writers are stopped",
            "production's last backup",
            "the gate to production is open: both-backed-up, fresh",
            "production gets 2.0.0",
            "production passes its tests: version, http /health",
            "committed",
            "Production runs 2.0.0, with all its orders",
        ],
    );
    in_order(
        &lines[bad..],
        &[
            "the gate to staging is open",
            "staging passes its tests",
            "alice approves",
            "production's last backup",
            "the gate to production is open",
            "production gets 3.0.0",
            "could not test production: production: 1 of 2 tests failed: http /health failed (/health was answered with 500",
            "production is stopped",
            "what 3.0.0 left is backed up: snapshot",
            "production gets 2.0.0 back",
            "production passes its tests: version, http /health",
            "Production runs 2.0.0 again by itself, the guest's order included: every byte, mode and time as before",
            "its temporary directory is gone again",
        ],
    );
    assert_nothing_is_left(directory.path());

    // The documents show what it says.
    for (document, marks) in [
        ("docs/UPGRADES.md", ["committed", "gets 2.0.0 back"]),
        ("README.md", ["gets 2.0.0 back"; 2]),
    ] {
        let document_text = fs::read_to_string(document).unwrap();
        let shown_there: Vec<&str> = document_text
            .split("```")
            .skip(1)
            .step_by(2)
            .filter(|block| {
                block.starts_with("text") && marks.iter().any(|mark| block.contains(mark))
            })
            .flat_map(|block| block.lines().skip(1))
            .filter(|line| !line.trim().is_empty() && line.trim() != "…")
            .collect();
        assert!(shown_there.len() >= 10, "{document}: {shown_there:#?}");
        let now: Vec<String> = lines.iter().map(|line| steady(line)).collect();
        for line in shown_there {
            assert!(
                now.contains(&steady(line)),
                "{document} shows '{line}', which is not said:\n{run}"
            );
        }
    }
}

#[test]
fn as_json_it_is_one_document() {
    let directory = tempfile::tempdir().unwrap();
    let mut json = demo(directory.path());
    json.arg("--json");
    let shown = Run::of(json).ok().json();
    let story: Vec<&str> =
        shown["story"].as_array().unwrap().iter().filter_map(|it| it.as_str()).collect();
    assert!(
        story.len() > 30 && story.iter().any(|it| it.contains("gets 2.0.0 back")),
        "{story:#?}"
    );
    assert_nothing_is_left(directory.path());
}

#[test]
fn stopped_in_the_midst_it_leaves_nothing() {
    for until in ["staging is backed up", "Production runs 2.0.0, with"] {
        let directory = tempfile::tempdir().unwrap();
        let mut started =
            demo(directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(started.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains(until)), "it ended before '{until}'");
        let pid = Pid::from_raw(i32::try_from(started.id()).unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        let ended = started.wait().unwrap();
        assert_eq!(ended.code(), Some(130), "{rest:#?}");
        assert_nothing_is_left(directory.path());
    }
}
