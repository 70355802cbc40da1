//! What commands print: exact for programs, harmless and complete for people.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use support::{Run, Sandbox, text, wait_until, write_file};

/// Names, each with what `path` and `path_base64` say of `/files/source-data/NAME`.
const ODD: [(&[u8], &str, Option<&str>); 5] = [
    (b"line\nbreak", "/files/source-data/line\nbreak", None),
    (b"say \"hi\"", "/files/source-data/say \"hi\"", None),
    (b"esc\x1b[2J", "/files/source-data/esc\x1b[2J", None),
    (b"back\\n", "/files/source-data/back\\n", None),
    (b"latin-\xff", "/files/source-data/latin-\\xff", Some("L2ZpbGVzL3NvdXJjZS1kYXRhL2xhdGluLf8=")),
];

/// A sandbox whose first snapshot is of nothing, and whose second has a file of each odd name.
fn with_odd_names() -> (Sandbox, String, String) {
    let sandbox = Sandbox::new();
    let empty = sandbox.backup();
    for (name, ..) in ODD {
        write_file(&sandbox.source().join(OsStr::from_bytes(name)), b"content");
    }
    let link = sandbox.source().join("link");
    std::os::unix::fs::symlink(OsStr::from_bytes(b"to-\xfe"), link).unwrap();
    let full = sandbox.backup();
    (sandbox, empty, full)
}

/// The paths in a list of objects, exact.
#[track_caller]
fn assert_odd_paths(listed: &Value) {
    for (_, path, base64) in ODD {
        let fits = |entry: &&Value| {
            entry["path"] == path && entry.get("path_base64").and_then(Value::as_str) == base64
        };
        assert_eq!(
            listed.as_array().unwrap().iter().filter(fits).count(),
            1,
            "{path:?}: {listed:#}"
        );
    }
}

#[test]
fn programs_get_exact_paths() {
    let (sandbox, empty, full) = with_odd_names();
    let ls = sandbox.belay(&["ls", &full, "--json"]).ok().json();
    assert_odd_paths(&ls);
    let link = ls.as_array().unwrap().iter().find(|entry| entry["kind"] == "symlink").unwrap();
    assert_eq!((&link["target"], &link["target_base64"]), (&"to-\\xfe".into(), &"dG8t/g==".into()));
    assert_odd_paths(&sandbox.belay(&["diff", &empty, &full, "--json"]).ok().json());
    // People get one line each, and nothing that plays with the terminal.
    for arguments in [&["ls", &full, "/files/source-data"][..], &["diff", &empty, &full]] {
        let shown = sandbox.belay(arguments).ok().stdout();
        assert!(shown.contains("/files/source-data/esc\\u{1b}[2J"), "{shown}");
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(
            shown.lines().filter(|line| line.contains("line\\nbreak")).count(),
            1,
            "{shown}"
        );
    }
}

#[test]
fn a_list_that_no_terminal_shows_is_whole() {
    let sandbox = Sandbox::new();
    sandbox.backup();
    let reason = "a reason that is longer than what any terminal of eighty columns can show in its last column";
    sandbox.belay(&["pin", "latest:data", "--reason", reason]).ok();
    let list = sandbox.belay(&["list"]).ok().stdout();
    assert!(
        list.contains(reason) && list.contains("PLATFORM") && list.lines().count() == 2,
        "{list}"
    );
    assert!(!list.contains("REPOSITORY"), "{list}");
    sandbox.belay(&["check", "--read-data", "1/3"]).ok();
    sandbox.belay(&["check", "--read-data"]).ok();
}

#[test]
fn an_interrupted_backup_of_several_tells_what_it_sealed_in_one_document() {
    let sandbox = Sandbox::new();
    sandbox.configure(&["data", "web", "zoo"], "last = 10");
    write_file(&sandbox.source_of("data").join("a"), b"content");
    // Long enough to be interrupted, and without blocks on the disk.
    let large = fs::File::create(sandbox.source_of("web").join("large")).unwrap();
    large.set_len(16 << 30).unwrap();
    let running = sandbox.start(&["backup", "data", "web", "zoo", "--json"]);
    wait_until("the second instance", || running.stderr_so_far().contains("of web"));
    running.signal(Signal::INT);
    let run = running.wait().code(130).says(&["belay: web: interrupted"]);
    assert_eq!(run.stdout().lines().count(), 1, "{run}");
    let document = run.json();
    let [sealed] = &document["snapshots"].as_array().unwrap()[..] else { panic!("{document:#}") };
    assert_eq!((&sealed["instance"], &sealed["sealed"]), (&"data".into(), &true.into()), "{run}");
    let [failed] = &document["failures"].as_array().unwrap()[..] else { panic!("{document:#}") };
    assert_eq!((&failed["instance"], &failed["exit_code"]), (&"web".into(), &130.into()), "{run}");
    let listed: Vec<String> = sandbox.list().into_iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(listed, [sealed["id"].as_str().unwrap()], "{run}");
    assert!(sandbox.files("locks").is_empty(), "a lock is left");
}

#[test]
fn a_restore_into_a_directory_that_is_no_text_is_told() {
    let (sandbox, ..) = with_odd_names();
    for (name, base64) in [(&b"plain"[..], false), (b"to-\xff", true)] {
        let target = sandbox.path("targets").join(OsStr::from_bytes(name));
        let mut restore = sandbox.belay_command(&["restore", "latest:data", "--json", "--to-dir"]);
        restore.arg(&target);
        let plan = Run::of(restore).ok().json()["plan"].take();
        assert_eq!(plan.get("target_base64").is_some(), base64, "{plan:#}");
        if !base64 {
            assert_eq!(plan["target"], text(&target), "{plan:#}");
        }
    }
    fs::write(sandbox.source().join("back\\n"), "changed").unwrap();
    let path = "/files/source-data/back\\\\n";
    let into = ["restore", "latest:data", "--into", "data", "--path", path, "--yes", "--json"];
    let replaced = sandbox.belay(&into).ok().json()["plan"]["replaced"][0].take();
    assert_eq!(replaced["from"], "/files/source-data/back\\n", "{replaced:#}");
    assert_eq!(replaced["target"], text(&sandbox.source().join("back\\n")), "{replaced:#}");
}
