//! Snapshots that leave the repository as one file, and come back from it.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Random, Run, Sandbox, Tree, assert_same, text};

/// A host with a snapshot of the instance `data`, and the instance `other` that has none.
struct Host {
    sandbox: Sandbox,
    snapshot: String,
}

impl Host {
    fn new(make: impl FnOnce(&Path)) -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["data", "other"], "last = 1000");
        make(&sandbox.source());
        let snapshot = sandbox.backup();
        Self { sandbox, snapshot }
    }

    fn file(&self) -> PathBuf {
        self.sandbox.path("out.tar.zst")
    }

    fn export(&self, arguments: &[&str]) -> Run {
        let file = self.file();
        let all = [&["export", &self.snapshot, text(&file)], arguments].concat();
        self.sandbox.belay(&all)
    }

    fn import(&self, arguments: &[&str]) -> Run {
        let file = self.file();
        let all = [&["import", text(&file), "--instance", "other"], arguments].concat();
        self.sandbox.belay(&all)
    }

    /// What is beside the export.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.sandbox.path("")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn small(source: &Path) {
    support::make_tree(source, 3, 3);
}

#[test]
fn everything_about_strange_files_comes_back_by_tar_and_by_import() {
    support::require_root("files of other owners, and devices");
    let host = Host::new(support::make_strange_tree);
    let exported = host.export(&["--json"]).ok().json();
    assert_eq!(exported["snapshot"], host.snapshot.as_str());
    let mode = fs::metadata(host.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let unpacked = host.sandbox.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--zstd", "--xattrs", "--xattrs-include=*", "-xpf"]).arg(host.file());
    tar.arg("-C").arg(&unpacked);
    Run::of(tar).ok();
    let mut sums = Command::new("sha256sum");
    sums.args(["--check", "--quiet", "--strict", "SHA256SUMS"]).current_dir(&unpacked);
    Run::of(sums).ok();
    let restored = host.sandbox.path("restored");
    host.sandbox.belay(&["restore", &host.snapshot, "--to-dir", text(&restored)]).ok();
    let expected = Tree::read(&restored);
    let found = Tree::read(&unpacked).without("SHA256SUMS");
    // What the root directory is like is the target's own.
    assert_same(&expected.clone().without(""), &found.without(""), "what tar unpacks");

    let imported = host.import(&["--json"]).ok().json();
    let back = host.sandbox.path("back");
    host.sandbox
        .belay(&["restore", imported["id"].as_str().unwrap(), "--to-dir", text(&back)])
        .ok();
    let found = Tree::read(&back);
    let of = |tree: Tree| tree.without("").without("manifest.json");
    assert_same(&of(expected), &of(found), "what an import brings back");
    host.sandbox.restic(&["check", "--read-data"]).ok();
    let manifest = |directory: &Path| -> Value {
        serde_json::from_slice(&fs::read(directory.join("manifest.json")).unwrap()).unwrap()
    };
    let (mut before, mut after) = (manifest(&restored), manifest(&back));
    assert_eq!(after["instance"]["name"], "other");
    for own in ["instance", "job", "read_bytes", "added_bytes"] {
        assert_ne!((before[own].take(), 0), (after[own].take(), 1));
    }
    assert_eq!(before, after);
    let shown = host.sandbox.belay(&["show", "latest:other", "--json"]).ok().json();
    assert_eq!(shown["id"], imported["id"]);
    host.import(&[]).code(1).says(&["imported already"]);
    host.import(&["--again", "--keys", text(&host.file())]).code(2);
    host.import(&["--again", "--without-keys", "--reason", "x"]).code(2).says(&["keeps the keys"]);
}

#[test]
fn an_export_is_there_wholly_or_not_at_all_and_overwrites_nothing_unasked() {
    let host = Host::new(small);
    host.export(&[]).ok();
    let first = fs::read(host.file()).unwrap();
    let before = host.entries();
    host.export(&[]).code(1).says(&["exists", "--force"]);
    fs::write(host.file(), "old").unwrap();
    host.export(&["--force"]).ok();
    assert_eq!(fs::read(host.file()).unwrap(), first, "the same snapshot, another file");
    let place = host.sandbox.repository().join("x.tar.zst");
    host.sandbox.belay(&["export", &host.snapshot, text(&place)]).code(1).says(&["lies in"]);
    let bare = host.sandbox.path("bare.tar.zst");
    let nowhere = host.sandbox.path("nowhere/x.tar.zst");
    host.sandbox.belay(&["export", &host.snapshot, text(&nowhere)]).code(1);
    host.sandbox.belay(&["export", "latest:nobody", text(&bare)]).code(2);
    host.sandbox.belay(&["export", &host.snapshot, "-", "--json"]).code(2);
    let streamed = host.sandbox.path("streamed");
    let mut command = host.sandbox.belay_command(&["export", &host.snapshot, "-"]);
    command.stdout(fs::File::create(&streamed).unwrap()).stderr(std::process::Stdio::null());
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read(&streamed).unwrap(), first);
    fs::remove_file(&streamed).unwrap();
    assert_eq!(host.entries(), before);
    // On a bare machine.
    let (repository, password) = (host.sandbox.repository(), host.sandbox.password_file());
    let arguments = ["export", &host.snapshot, text(&bare)];
    host.sandbox.belay_bare(&repository, &password, &arguments).ok();
    assert_eq!(fs::read(&bare).unwrap(), first);
}

#[test]
fn a_damaged_repository_gives_no_export() {
    let host = Host::new(small);
    let before = host.entries();
    let mut random = Random::new(5);
    for id in host.sandbox.packs() {
        let pack = host.sandbox.repository().join("data").join(&id[..2]).join(&id);
        let mut bytes = fs::read(&pack).unwrap();
        let at = random.below(bytes.len() as u64 / 2) as usize;
        bytes[at] ^= 1;
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    host.export(&[]).code(4);
    assert_eq!(host.entries(), before);
}

#[test]
fn an_export_that_is_cut_off_or_changed_is_not_imported() {
    let host = Host::new(small);
    host.export(&[]).ok();
    let packed = fs::read(host.file()).unwrap();
    let plain = zstd::decode_all(&packed[..]).unwrap();
    let write = |bytes: &[u8]| fs::write(host.file(), bytes).unwrap();
    let mut random = Random::new(11);
    for _ in 0..8 {
        let place = random.below(packed.len() as u64) as usize;
        write(&packed[..place.max(1)]);
        host.import(&[]).code(6);
        let place = place.max(6);
        let mut changed = packed.clone();
        changed[place] ^= 4;
        write(&changed);
        host.import(&[]).code(6);
    }
    // Changed before it was packed again: its own sums tell.
    for place in (0..12).map(|part| plain.len() * part / 12 + 600) {
        let mut changed = plain.clone();
        let Some(byte) = changed[place..].iter_mut().find(|byte| byte.is_ascii_lowercase()) else {
            continue;
        };
        *byte ^= 1;
        write(&zstd::encode_all(&changed[..], 1).unwrap());
        host.import(&[]).code(6);
    }
    let listed = host.sandbox.list().len();
    let content = plain.windows(8).position(|window| window == b"\"schema\"").unwrap();
    let mut changed = plain.clone();
    changed[content + 1] = b'S';
    write(&zstd::encode_all(&changed[..], 1).unwrap());
    host.import(&[]).code(6).says(&["manifest"]);
    let sealed = plain.windows(14).position(|window| window == b"\"sealed\": true").unwrap();
    let mut changed = plain.clone();
    changed[sealed..sealed + 14].copy_from_slice(b"\"sealed\":false");
    write(&zstd::encode_all(&changed[..], 1).unwrap());
    host.import(&[]).code(6).says(&["never sealed"]);
    let mut changed = plain.clone();
    let toml = plain.windows(11).position(|window| window == b"[repository").unwrap();
    changed[toml + 1] = b'R';
    write(&zstd::encode_all(&changed[..], 1).unwrap());
    host.import(&[]).code(6).says(&["sums"]);
    let cut = plain.len() - 1024;
    write(&zstd::encode_all(&plain[..cut], 1).unwrap());
    host.import(&[]).code(6).says(&["cut off"]);
    write(&zstd::encode_all(&b"something else"[..], 1).unwrap());
    host.import(&[]).code(6);
    assert_eq!(host.sandbox.list().len(), listed);
}
