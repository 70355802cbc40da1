//! Archives of `appsmithctl backup` that become snapshots, through the command line; and files that do not.
#![allow(clippy::unwrap_used)]

mod support;

use belay::model::event::{Cancel, Events};
use belay::ops::backup::import::{ImportError, look};
use belay::ops::{Context, OpsError};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::servers::Mongod;
use support::{Random, Run, Sandbox, text};
use tar::{Builder, EntryType, Header};

const TODAY: &str = "appsmith-backup-2026-11-01T02-30-00.000Z.tar.gz";
const ENCRYPTED: &str = "appsmith-backup-2026-11-02T02-30-00.000Z.tar.gz.enc";
const OLD: &str = "appsmith-backup-2022-06-01T00-00-00.000Z.tar.gz";

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/appsmith").join(name)
}

/// A host with the instance `production` of Appsmith, and the archives of another program.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let environment = sandbox.path("docker.env");
        let table = format!(
            "\n[instance.production]\nplatform = \"appsmith\"\nenvironment = \"{}\"\n",
            environment.display()
        );
        config.push_str(&table);
        fs::write(sandbox.config(), config).unwrap();
        fs::copy(fixture("docker.env"), environment).unwrap();
        support::write_secret(&sandbox.path("archive-password"), "fixture-archive-password");
        support::write_secret(&sandbox.path("wrong-password"), "another");
        let host = Self { sandbox };
        make_archives(&host.sandbox.path("archives"));
        host
    }

    fn archive(&self, name: &str) -> String {
        text(&self.sandbox.path("archives").join(name)).to_owned()
    }

    fn path(&self, name: &str) -> String {
        text(&self.sandbox.path(name)).to_owned()
    }

    fn import(&self, file: &str, arguments: &[&str]) -> Run {
        let all = [&["import", file, "--instance", "production"], arguments].concat();
        self.sandbox.belay(&all)
    }

    fn import_with_keys(&self, file: &str) -> Value {
        self.import(file, &["--keys", &self.path("docker.env"), "--json"]).ok().json()
    }

    fn snapshots(&self) -> usize {
        self.sandbox.belay(&["list", "--json"]).ok().json().as_array().unwrap().len()
    }

    /// The manifest and the files of a snapshot.
    fn restored(&self, id: &str) -> (Value, PathBuf) {
        let target = self.sandbox.path(&format!("restored-{id}"));
        self.sandbox.belay(&["restore", id, "--to-dir", text(&target)]).ok();
        let manifest = fs::read(target.join("manifest.json")).unwrap();
        (serde_json::from_slice(&manifest).unwrap(), target)
    }
}

fn make_archives(directory: &Path) {
    let mut command = Command::new(fixture("make-appsmithctl.sh"));
    command.arg(directory);
    Run::of(command).ok();
}

fn sums_hold(list: &Path, directory: &Path) {
    let mut command = Command::new("sha256sum");
    command.args(["--check", "--quiet", "--strict"]).arg(list).current_dir(directory);
    Run::of(command).ok();
}

#[test]
fn each_kind_comes_back_into_a_running_server() {
    let host = Host::new();
    let mongod = Mongod::start();
    let environment = fs::read_to_string(fixture("docker.env")).unwrap();
    let kept = |line: &&str| !line.starts_with("APPSMITH_DB_URL") && !line.contains("REDIS");
    let url = format!("APPSMITH_DB_URL={}", mongod.url("production"));
    let storage = format!("APPSMITH_GIT_ROOT={}", host.path("git-storage"));
    let lines = environment.lines().filter(kept).chain([url.as_str(), &storage, ""]);
    let environment = lines.collect::<Vec<_>>().join("\n");
    fs::write(host.sandbox.path("docker.env"), &environment).unwrap();
    for (file, name) in [(TODAY, "today"), (ENCRYPTED, "encrypted"), (OLD, "old")] {
        let password = ["--archive-password-file", &host.path("archive-password"), "--json"];
        let imported = match file {
            ENCRYPTED => host.import(&host.archive(file), &password).ok().json(),
            _ => host.import_with_keys(&host.archive(file)),
        };
        let id = imported["id"].as_str().unwrap().to_owned();
        mongod.python("client.production.late.insert_one({})");
        host.sandbox.belay(&["restore", &id, "--into", "production", "--yes"]).ok();
        assert!(host.sandbox.path("git-storage/ws1/app1/orders/.git").exists(), "{name}");
        assert_eq!(fs::read_to_string(host.sandbox.path("docker.env")).unwrap(), environment);
        // What the server has now is what mongodump had read.
        let taken = host.sandbox.belay(&["backup", "production", "--json"]).ok().json();
        let (_, directory) = host.restored(taken["snapshots"][0]["id"].as_str().unwrap());
        fs::rename(directory.join("mongodb/production"), directory.join("mongodb/appsmith"))
            .unwrap();
        sums_hold(&fixture("mongodump-dir.sha256"), &directory.join("mongodb"));
    }
}

#[test]
fn each_kind_of_archive_becomes_a_snapshot_of_its_own_time() {
    let host = Host::new();
    let password = host.path("archive-password");
    let encrypted =
        host.import(&host.archive(ENCRYPTED), &["--archive-password-file", &password, "--json"]);
    let encrypted = encrypted.ok().json();
    let today = host.import_with_keys(&host.archive(TODAY));
    let old = host.import_with_keys(&host.archive(OLD));
    let listed = host.sandbox.belay(&["list", "--json"]).ok().json();
    let ids: Vec<&Value> = listed.as_array().unwrap().iter().map(|row| &row["id"]).collect();
    // By the time of the archives, and not by that of the import.
    assert_eq!(ids, [&encrypted["id"], &today["id"], &old["id"]]);
    let latest = host.sandbox.belay(&["show", "latest:production", "--json"]).ok().json();
    assert_eq!(latest["id"], encrypted["id"]);

    for (outcome, time, version, file) in [
        (&encrypted, "2026-11-02T02:30:00Z", json!("v1.97"), ENCRYPTED),
        (&today, "2026-11-01T02:30:00Z", json!("v1.97"), TODAY),
        (&old, "2022-06-01T00:00:00Z", Value::Null, OLD),
    ] {
        assert_eq!(outcome["time"], time);
        assert_eq!((&outcome["sealed"], &outcome["key_fit"]), (&json!(true), &json!("fit")));
        let (manifest, directory) = host.restored(outcome["id"].as_str().unwrap());
        assert_eq!((&manifest["started"], &manifest["version"]), (&json!(time), &version));
        assert_eq!(manifest["key_fit"], "fit");
        for component in manifest["components"].as_array().unwrap() {
            assert_eq!((&component["source"], &component["started"]), (&json!(file), &json!(time)));
        }
        let mongodb = &manifest["components"][1];
        assert_eq!(mongodb["counts"], json!({"collections": 15, "documents": 437}));
        let reason = mongodb["details"]["not_one_moment"].as_str().unwrap();
        assert!(reason.contains("does not stop the server"), "{reason}");
        sums_hold(&fixture("mongodump-dir.sha256"), &directory.join("mongodb"));
        sums_hold(&directory.join("checksums/git-storage.sha256"), &directory.join("files"));
        let mut expected = Command::new("tar");
        expected.args(["-xzf", &host.archive(TODAY), "-C"]).arg(&directory);
        Run::of(expected).ok();
        support::assert_same(
            &support::Tree::read(&directory.join("git-storage")),
            &support::Tree::read(&directory.join("files/git-storage")),
            file,
        );
        let environment = fs::read_to_string(directory.join("environment/docker.env")).unwrap();
        for line in [
            "APPSMITH_ENCRYPTION_PASSWORD=fixture-encryption-password",
            "APPSMITH_ENCRYPTION_SALT=fixture-encryption-salt",
            "APPSMITH_MAIL_ENABLED=false",
        ] {
            assert!(environment.lines().any(|it| it == line), "{environment}");
        }
        // Of what --keys names, only the keys.
        assert!(!environment.contains("APPSMITH_DB_URL"), "{environment}");
    }
    let shown = host.sandbox.belay(&["show", "latest:production"]).ok().stdout();
    assert!(shown.contains("platform   appsmith v1.97\n"), "{shown}");
    host.sandbox.restic(&["check", "--read-data"]).ok();
    let tags = host.sandbox.restic(&["snapshots", "--json"]).ok().json();
    for snapshot in tags.as_array().unwrap() {
        let tags = snapshot["tags"].to_string();
        assert!(tags.contains("imported=") && tags.contains("platform=appsmith"), "{tags}");
    }
}

#[test]
fn keys_are_in_the_archive_or_given_or_their_loss_has_a_reason() {
    let host = Host::new();
    let file = host.archive(TODAY);
    host.import(&file, &[])
        .code(2)
        .says(&["does not hold the instance's encryption keys", "--keys"]);
    let empty = host.path("empty.env");
    fs::write(&empty, "APPSMITH_ENCRYPTION_SALT=x\nAPPSMITH_ENCRYPTION_PASSWORD=\n").unwrap();
    host.import(&file, &["--keys", &empty]).code(2).says(&["does not set both"]);
    host.import(&file, &["--without-keys"]).code(2).says(&["--reason"]);
    assert_eq!(host.snapshots(), 0);

    let wrong = host.path("wrong.env");
    fs::write(&wrong, "APPSMITH_ENCRYPTION_SALT=x\nAPPSMITH_ENCRYPTION_PASSWORD='$ y'\n").unwrap();
    let unfit = host.import(&file, &["--keys", &wrong, "--json"]).code(4);
    let said = unfit.to_string();
    assert!(said.contains("cannot be decrypted"), "{said}");
    assert!(!said.contains("$ y"), "{said}");
    assert_eq!(unfit.json()["key_fit"], "unfit");
    let (_, directory) = host.restored(unfit.json()["id"].as_str().unwrap());
    let environment = fs::read_to_string(directory.join("environment/docker.env")).unwrap();
    assert!(environment.contains("APPSMITH_ENCRYPTION_PASSWORD='$ y'"), "{environment}");

    let without = ["--without-keys", "--reason", "the old host burnt", "--json"];
    let password = host.path("archive-password");
    let has_keys = [&without[..], &["--archive-password-file", &password]].concat();
    host.import(&host.archive(ENCRYPTED), &has_keys).code(2).says(&["holds the instance's"]);
    let lost = host.import(&host.archive(OLD), &without).code(4).says(&["the old host burnt"]);
    assert_eq!(lost.json()["key_fit"], "unfit");
    host.sandbox.belay(&["show", "latest:production"]).code(2).says(&["no good snapshot"]);
}

#[test]
fn the_same_file_is_imported_once_unless_that_is_asked_for() {
    let host = Host::new();
    let first = host.import_with_keys(&host.archive(TODAY));
    let copy = host.path("renamed.tar.gz");
    fs::copy(host.archive(TODAY), &copy).unwrap();
    let keys = host.path("docker.env");
    let id = &first["id"].as_str().unwrap()[..8];
    host.import(&copy, &["--keys", &keys]).code(1).says(&["imported already", id]);
    let dry = host.import(&copy, &["--dry-run", "--json"]).code(3).json();
    assert_eq!(dry["imported_before"], first["id"]);
    assert_eq!(host.snapshots(), 1);
    let future = host.path("appsmith-backup-2999-01-01T00-00-00.000Z.tar.gz");
    fs::copy(&copy, &future).unwrap();
    host.import(&future, &["--keys", &keys, "--again"]).code(1).says(&["not come yet"]);
    // Its name tells no time.
    host.import(&copy, &["--keys", &keys, "--again"]).code(3).says(&["tells no time"]);
    assert_eq!(host.snapshots(), 2);
}

#[test]
fn retention_goes_by_the_time_of_the_archive() {
    let host = Host::new();
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    fs::write(host.sandbox.config(), config.replace("last = 1000", "last = 1")).unwrap();
    let password = host.path("archive-password");
    let newest =
        host.import(&host.archive(ENCRYPTED), &["--archive-password-file", &password, "--json"]);
    let newest = newest.ok().json();
    host.import_with_keys(&host.archive(OLD));
    host.import_with_keys(&host.archive(TODAY));
    host.sandbox.belay(&["prune"]).ok();
    let left = host.sandbox.list();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0].id, newest["id"].as_str().unwrap());
}

#[test]
fn a_dry_run_tells_what_is_there_and_makes_nothing() {
    let host = Host::new();
    let dry = host.import(&host.archive(TODAY), &["--dry-run"]).ok().stdout();
    for said in [
        "v1.97",
        "database appsmith: 15 collections, 437 documents, 6 files",
        "6 files",
        "no encryption keys",
    ] {
        assert!(dry.contains(said), "{dry}");
    }
    let document = host.import(&host.archive(TODAY), &["--dry-run", "--json"]).ok().json();
    assert_eq!((&document["has_keys"], &document["encrypted"]), (&json!(false), &json!(false)));
    assert_eq!(host.snapshots(), 0);
    host.sandbox
        .belay(&["import", &host.archive(TODAY), "--instance", "data"])
        .code(2)
        .says(&["of the platform files"]);
}

#[test]
fn a_wrong_password_is_told_from_a_file_that_is_cut_off() {
    let host = Host::new();
    let file = host.archive(ENCRYPTED);
    host.import(&file, &[]).code(2).says(&["is encrypted", "--archive-password-file"]);
    let wrong = host.path("wrong-password");
    host.import(&file, &["--archive-password-file", &wrong]).code(12).says(&["password is wrong"]);
    let cut = host.path("cut.tar.gz.enc");
    let bytes = fs::read(&file).unwrap();
    fs::write(&cut, &bytes[..500_000]).unwrap();
    let right = host.path("archive-password");
    host.import(&cut, &["--archive-password-file", &right]).code(6).says(&["cut off"]);
    fs::write(&cut, &bytes[..10]).unwrap();
    host.import(&cut, &["--archive-password-file", &right]).code(6).says(&["cut off"]);
    for (content, said) in [
        (&b""[..], "it is empty"),
        (b"PK\x03\x04 something else", "begins with other bytes"),
        (&packed(b"no tar archive at all"), "no tar archive"),
    ] {
        fs::write(&cut, content).unwrap();
        host.import(&cut, &[]).code(6).says(&[said]);
    }
    host.import(&host.path("nowhere"), &[]).code(1).says(&["could not be read"]);
    host.import(&host.path("archives"), &[]).code(6).says(&["no regular file"]);
    assert_eq!(host.snapshots(), 0);
}

fn packed(content: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(content).unwrap();
    packer.finish().unwrap()
}

/// What looking at a file says; none where nothing is wrong.
fn fault(path: &Path) -> Option<ImportError> {
    let context = Context::new(Events::ignored(), Cancel::new());
    match look(path, None, &context) {
        Ok(_) => None,
        Err(OpsError::Import { source, .. }) => Some(source),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn an_archive_that_is_cut_off_or_changed_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    make_archives(directory.path());
    let bytes = fs::read(directory.path().join(TODAY)).unwrap();
    let file = directory.path().join("changed.tar.gz");
    let mut random = Random::new(7);
    let places = [1, 9, 20, 511, bytes.len() - 8, bytes.len() - 1].into_iter();
    let places = places.chain((0..30).map(|_| random.below(bytes.len() as u64) as usize));
    for place in places {
        fs::write(&file, &bytes[..place]).unwrap();
        assert!(fault(&file).is_some(), "cut at {place}");
        // The first bytes of gzip's own header say nothing of the content.
        if place >= 10 {
            let mut changed = bytes.clone();
            changed[place] ^= 0x10;
            fs::write(&file, &changed).unwrap();
            assert!(fault(&file).is_some(), "changed at {place}");
        }
    }
    fs::write(&file, &bytes).unwrap();
    assert!(fault(&file).is_none());
}

/// An archive of these entries: name, type, content, target.
fn archive(entries: &[(&str, EntryType, &[u8], &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (name, kind, content, target) in entries {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn entries_that_lead_astray_are_refused() {
    let host = Host::new();
    let dump = packed(&fs::read(fixture("appsmith.archive")).unwrap());
    let dump = ("mongodb-data.gz", EntryType::Regular, &dump[..], "");
    let file = host.path("hostile.tar.gz");
    let long = "x".repeat(2 << 20);
    let keys = host.path("docker.env");
    let refused = |entries: &[(&str, EntryType, &[u8], &str)], said: &str| {
        fs::write(&file, packed(&archive(entries))).unwrap();
        let run = host.import(&file, &["--keys", &keys]);
        assert!(run.stderr().contains(said), "{said}: {run}");
        run.code(6);
    };
    let empty = &b""[..];
    for (name, kind, target, said) in [
        ("../escape", EntryType::Regular, "", "leads out of the archive"),
        ("/etc/passwd", EntryType::Regular, "", "absolute"),
        ("git-storage/../../x", EntryType::Regular, "", "leads out of the archive"),
        ("git-storage/null", EntryType::Char, "", "a device or a pipe"),
        ("git-storage/pipe", EntryType::Fifo, "", "a device or a pipe"),
        ("git-storage", EntryType::Symlink, "/etc", "should be a directory"),
        ("git-storage/x", EntryType::Link, "/etc/passwd", "outside the archive"),
        ("git-storage/x", EntryType::Link, "git-storage/none", "something that is not there"),
        ("git-storage/x", EntryType::Link, "mongodb-data.gz", "outside its folder"),
        ("git-storage/x", EntryType::GNUSparse, "", "a kind that is not known"),
        ("docker.env", EntryType::Symlink, "/etc/passwd", "it is no file"),
        ("manifest.json", EntryType::Link, "mongodb-data.gz", "it is no file"),
        ("appsmith-backup-2/docker.env", EntryType::Regular, "", "in another folder"),
        ("mongodb-data.gz", EntryType::Regular, "", "comes twice"),
    ] {
        refused(&[dump, (name, kind, empty, target)], said);
    }
    let link = ("git-storage/out", EntryType::Symlink, empty, "/etc");
    refused(
        &[dump, link, ("git-storage/out/passwd", EntryType::Regular, empty, "")],
        "below something that is no directory",
    );
    let same = ("git-storage/x", EntryType::Regular, empty, "");
    refused(&[dump, same, same], "another entry has the same path");
    refused(&[dump, ("x", EntryType::GNULongName, long.as_bytes(), "")], "longer than a megabyte");
    refused(&[("docker.env", EntryType::Regular, empty, "")], "it holds no mongodb-data.gz");
    refused(&[("docker.env", EntryType::Regular, long.as_bytes(), "")], "longer than any");
    refused(&[dump, ("manifest.json", EntryType::Regular, b"{", "")], "manifest.json");
    let other = br#"{"dbName":"other"}"#;
    let manifest = ("manifest.json", EntryType::Regular, &other[..], "");
    refused(&[dump, manifest], "manifest.json says 'other'");
    refused(&[manifest, dump], "no collection of the database 'other'");
    let broken = packed(b"no dump");
    refused(&[("mongodb-data.gz", EntryType::Regular, &broken, "")], "no archive of mongodump");

    // A size that nothing can have, and an archive without its end.
    let mut huge = archive(&[dump, ("git-storage/x", EntryType::Regular, empty, "")]);
    let at = huge.len() - 3 * 512;
    let mut header = Header::new_gnu();
    header.as_mut_bytes().copy_from_slice(&huge[at..at + 512]);
    header.set_size(1 << 62);
    header.set_cksum();
    huge[at..at + 512].copy_from_slice(header.as_bytes());
    fs::write(&file, packed(&huge)).unwrap();
    host.import(&file, &["--keys", &keys]).code(6).says(&["cut off"]);
    let whole = archive(&[dump]);
    for end in [whole.len() - 1024, whole.len() - 512] {
        fs::write(&file, packed(&whole[..end])).unwrap();
        host.import(&file, &["--keys", &keys]).code(6).says(&["cut off"]);
    }
    assert_eq!(host.snapshots(), 0);

    // The dump may come first, and what nobody knows is told and left out.
    let env = fs::read(fixture("docker.env")).unwrap();
    let entries = [
        dump,
        ("surprise", EntryType::Regular, b"x", ""),
        ("docker.env", EntryType::Regular, &env, ""),
        ("manifest.json", EntryType::Regular, br#"{"appsmithVersion":"v9"}"#, ""),
    ];
    fs::write(&file, packed(&archive(&entries))).unwrap();
    host.import(&file, &[]).code(3).says(&["surprise"]);
}

#[test]
fn an_import_that_is_killed_leaves_no_snapshot_and_is_done_again() {
    let host = Host::new();
    let (file, keys) = (host.archive(TODAY), host.path("docker.env"));
    let arguments = ["import", &file, "--instance", "production", "--keys", &keys];
    let mut running = host.sandbox.start(&arguments);
    support::wait_until("the second reading", || {
        running.has_ended() || running.stderr_so_far().contains("reading ")
    });
    running.kill();
    let before = host.snapshots();
    host.import(&file, &["--keys", &keys]).code(i32::from(before > 0));
    assert_eq!(host.snapshots(), 1);
}
