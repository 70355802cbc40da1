//! The second night: what did not change is not read again, and what is not there any more is not taken for empty.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::json;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};
use support::{Run, Sandbox, Tree, text, wait_until, write_file};

/// A directory whose files were there long before this test began: nobody can set a `ctime`.
fn old_directory() -> PathBuf {
    let mut command = Command::new("rustc");
    command.args(["--print", "sysroot"]);
    let directory = Path::new(Run::of(command).ok().stdout().trim()).join("lib/rustlib/etc");
    assert!(files_in(&directory) > 0, "{} has no files", directory.display());
    directory
}

fn files_in(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_file()).count()
}

/// How often a backup reads from a file below a directory, as the system saw it.
fn reads_below(sandbox: &Sandbox, directory: &Path, arguments: &[&str]) -> usize {
    let trace = sandbox.path("trace");
    let belay = sandbox.belay_command(arguments);
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-e", "trace=pread64,read", "-o", text(&trace)]);
    command.arg(belay.get_program()).args(belay.get_args());
    sandbox.tidy(&mut command);
    Run::of(command).ok();
    let place = format!("<{}/", text(directory));
    fs::read_to_string(trace).unwrap().lines().filter(|line| line.contains(&place)).count()
}

#[test]
fn what_did_not_change_is_not_read_again() {
    let sandbox = Sandbox::new();
    let directory = old_directory();
    let config = fs::read_to_string(sandbox.config()).unwrap();
    let config = config.replace(text(&sandbox.source()), text(&directory));
    fs::write(sandbox.config(), config).unwrap();

    let files = files_in(&directory);
    let backup = ["backup", "data"];
    assert!(reads_below(&sandbox, &directory, &backup) >= files, "the first night reads each file");
    assert_eq!(reads_below(&sandbox, &directory, &backup), 0);
    let reread = reads_below(&sandbox, &directory, &["backup", "data", "--reread"]);
    assert!(reread >= files, "{reread} reads");
    // What was read is told, too.
    let taken = |arguments: &[&str]| sandbox.belay(arguments).ok().json()["snapshots"][0].clone();
    assert_eq!(taken(&["backup", "data", "--json"])["read_bytes"], 0);
    let all = taken(&["backup", "data", "--reread", "--json"]);
    assert_eq!(all["read_bytes"], all["size_bytes"]);
    sandbox.assert_restores("latest:data", &Tree::read(&directory));
}

/// Changes the file that is its argument through a memory map, twice: at once, and when a line comes in.
const MAPPED: &str = "
import mmap, sys
with open(sys.argv[1], 'r+b') as file:
    content = mmap.mmap(file.fileno(), 0)
    for word in (b'two', b'six'):
        content[:3] = word
        print(word, flush=True)
        sys.stdin.readline()
";

#[test]
fn a_change_through_a_memory_map_that_shows_in_no_time_is_found() {
    let sandbox = Sandbox::new();
    let file = sandbox.source().join("mapped");
    write_file(&file, b"one");
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", MAPPED]).arg(&file).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut python = command.spawn().expect("tests/run installs python3");
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("two"));
    // More than the resolution of any clock.
    let changed = fs::metadata(&file).unwrap().modified().unwrap();
    let settled = changed + Duration::from_secs(3);
    wait_until("the change to be some time ago", || SystemTime::now() > settled);
    sandbox.backup();
    writeln!(python.stdin.as_ref().unwrap()).unwrap();
    assert!(said.next().unwrap().unwrap().contains("six"));
    let id = sandbox.backup();
    sandbox.assert_restores(&id, &Tree::read(&sandbox.source()));
    drop(python.stdin.take());
    assert!(python.wait().unwrap().success());
}

#[test]
fn an_instance_that_lost_all_its_files_fails_until_somebody_says_that_it_is_right() {
    let sandbox = Sandbox::new();
    // Nothing was lost of what never had files.
    sandbox.backup();
    write_file(&sandbox.source().join("directory/file"), b"content");
    let full = sandbox.backup();
    fs::remove_dir_all(sandbox.source().join("directory")).unwrap();
    let before = sandbox.snapshot_files();
    sandbox.belay(&["backup", "data"]).code(1).says(&[
        "source-data of data has no files now",
        &full[..8],
        "mounted",
        "--allow-empty",
    ]);
    assert_eq!(sandbox.snapshot_files(), before);

    // A restore over it needs no leave, and saves the emptiness.
    sandbox.belay(&["restore", &full, "--into", "data", "--yes"]).ok();
    assert_eq!(fs::read(sandbox.source().join("directory/file")).unwrap(), b"content");
    // Nor is that a sign that backups succeed again.
    let status = sandbox.belay(&["status", "--json"]).code_in(&[0, 3]).json();
    assert_eq!(status["instances"][0]["frozen"], true, "{status:#}");
    sandbox.backup();
    let status = sandbox.belay(&["status", "--json"]).code_in(&[0, 3]).json();
    assert_eq!(status["instances"][0]["frozen"], false, "{status:#}");

    fs::remove_dir_all(sandbox.source().join("directory")).unwrap();
    sandbox.belay(&["backup", "data", "--allow-empty"]).ok();
    sandbox.belay(&["backup", "data"]).ok();
}

#[test]
fn a_restore_over_a_lost_mount_does_not_make_emptiness_the_rule() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("directory/file"), b"content");
    let full = sandbox.backup();
    fs::remove_dir_all(sandbox.source().join("directory")).unwrap();
    // Saved as what the restore overwrote, and then gone again.
    sandbox.belay(&["restore", &full, "--into", "data", "--yes"]).ok();
    fs::remove_dir_all(sandbox.source().join("directory")).unwrap();
    sandbox.belay(&["backup", "data"]).code(1).says(&["no files now"]);
}

/// Flips a bit in each blob of a kind in some packs, as restic reads the indexes.
fn spoil(sandbox: &Sandbox, kind: &str, packs: &BTreeSet<String>) {
    let mut spoilt = 0;
    for index in sandbox.files("index") {
        let index = sandbox.restic(&["cat", "index", &index]).ok().json();
        for pack in index["packs"].as_array().unwrap() {
            let id = pack["id"].as_str().unwrap();
            if !packs.contains(id) {
                continue;
            }
            let path = sandbox.pack_path(id);
            let mut bytes = fs::read(&path).unwrap();
            for blob in pack["blobs"].as_array().unwrap() {
                if blob["type"] == kind {
                    bytes[blob["offset"].as_u64().unwrap() as usize + 20] ^= 1;
                    spoilt += 1;
                }
            }
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
    assert!(spoilt > 0, "there is no {kind} blob to spoil");
}

#[test]
fn a_tree_that_is_damaged_in_the_repository_is_stored_again() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("outer/inner/file"), b"content");
    sandbox.backup();
    spoil(&sandbox, "tree", &sandbox.packs());
    // Nothing changed, so that each tree would be the same, and there already.
    let document = sandbox.belay(&["backup", "data", "--json"]).code(3);
    let id = document.json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    document.says(&["cannot be read", "belay check"]);
    sandbox.assert_restores(&id, &Tree::read(&sandbox.source()));
}

#[test]
fn pins_in_a_damaged_state_are_kept_and_written_again() {
    for is_listed_first in [true, false] {
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1");
        let ids = sandbox.nights(4);
        sandbox.belay(&["pin", &ids[0], "--reason", "first"]).ok();
        let before = sandbox.packs();
        sandbox.belay(&["pin", &ids[1], "--reason", "second"]).ok();
        let new = sandbox.packs().difference(&before).cloned().collect();
        spoil(&sandbox, "data", &new);
        if is_listed_first {
            sandbox.belay(&["list"]).code(3).says(&["pins", "cannot be read"]);
        }
        sandbox.belay(&["prune"]).code(1).says(&["pins cannot be read", "pin again"]);
        sandbox.belay(&["pin", &ids[0], "--reason", "first"]).code(3);
        // Only planned: what is damaged may have to be copied, and stops a prune.
        let planned = sandbox.belay(&["prune", "--dry-run", "--json"]).ok().json();
        assert_eq!(planned["plan"]["forget"], json!([ids[2]]), "listed first: {is_listed_first}");
    }
}
