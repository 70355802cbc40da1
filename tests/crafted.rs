//! Repositories that somebody crafted who knows the password: no command writes outside its target, needs memory without
//! bounds, or lets a text of the repository play with the terminal; each says what is wrong.
#![allow(clippy::unwrap_used)]

mod support;

use belay::model::id::{BlobId, FileId};
use belay::model::node::{Node, NodeKind};
use belay::repository::format::compress::{Compressor, compress_document};
use belay::repository::format::crypto::MasterKey;
use belay::repository::format::index::{IndexFile, IndexPack};
use belay::repository::format::key::KeyFile;
use belay::repository::format::lock::LockFile;
use belay::repository::format::pack::{BlobKind, PackedBlob, append_header};
use belay::repository::format::snapshot::SnapshotFile;
use belay::repository::format::tree::{TreeNode, encode};
use belay::repository::format::{document, sha256};
use belay::repository::reader::Reader;
use belay::repository::{Repository, Snapshot};
use belay::store::local::LocalStore;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use support::{PASSWORD, Run, Sandbox, Tree, assert_same, text, write_file};

/// What the name of the instance's component is.
const COMPONENT: &str = "source-data";
/// Bytes that a command may ask for, the stacks of its threads included. Bombs here unfold to more.
const MEMORY: u64 = 512 << 20;
const BOMB: usize = 640 << 20;

/// A sandbox whose repository somebody tampers with who has the key.
struct Crafted {
    sandbox: Sandbox,
    repository: Arc<Repository>,
    key: MasterKey,
    /// The snapshot that everything crafted is made after.
    original: Snapshot,
}

/// A blob as it goes into a pack.
struct Blob {
    kind: BlobKind,
    id: BlobId,
    sealed: Vec<u8>,
    uncompressed_length: Option<u32>,
}

impl Crafted {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        write_file(&sandbox.source().join("report.txt"), b"as it was");
        let original = sandbox.backup().parse().unwrap();
        let store = Arc::new(LocalStore::new(sandbox.repository()));
        let repository = Arc::new(Repository::open(store, PASSWORD.as_bytes()).unwrap());
        let key_file = sandbox.repository().join("keys").join(repository.key_id().to_string());
        let key: KeyFile = serde_json::from_slice(&fs::read(key_file).unwrap()).unwrap();
        let key = key.open(PASSWORD.as_bytes()).unwrap().unwrap();
        let original = repository.snapshot(original).unwrap();
        Self { sandbox, repository, key, original }
    }

    /// Puts a file into a folder of the repository, under the name that its bytes have.
    fn put(&self, folder: &str, bytes: &[u8]) -> FileId {
        let id = FileId(sha256(bytes));
        let mut path = self.sandbox.repository().join(folder);
        if folder == "data" {
            path = path.join(&id.to_string()[..2]);
        }
        write_file(&path.join(id.to_string()), bytes);
        id
    }

    fn put_document<T: serde::Serialize>(&self, folder: &str, content: &T) -> FileId {
        self.put(folder, &document::seal(&self.key, content).unwrap().1)
    }

    /// A pack with its index, `change` done to what is listed and to the pack's bytes.
    fn put_pack(&self, blobs: &[Blob], change: impl FnOnce(&mut Vec<PackedBlob>, &mut Vec<u8>)) {
        let mut bytes = Vec::new();
        let mut listed = Vec::new();
        for Blob { kind, id, sealed, uncompressed_length } in blobs {
            listed.push(PackedBlob {
                id: *id,
                kind: *kind,
                offset: u32::try_from(bytes.len()).unwrap(),
                length: u32::try_from(sealed.len()).unwrap(),
                uncompressed_length: *uncompressed_length,
            });
            bytes.extend(sealed);
        }
        append_header(&self.key, &listed, &mut bytes).unwrap();
        change(&mut listed, &mut bytes);
        let pack = self.put("data", &bytes);
        let packs = vec![IndexPack::new(pack, &listed)];
        self.put_document("index", &IndexFile { supersedes: vec![], packs });
    }

    fn blob(&self, kind: BlobKind, plaintext: &[u8]) -> Blob {
        let sealed = self.key.seal(plaintext).unwrap();
        Blob { kind, id: BlobId(sha256(plaintext)), sealed, uncompressed_length: None }
    }

    /// A blob that unfolds to more than any command may need, and claims `length`.
    fn bomb(&self, kind: BlobKind, length: u32) -> Blob {
        let mut bytes = Vec::new();
        Compressor::new(1).unwrap().compress(&vec![0; BOMB], &mut bytes).unwrap();
        let sealed = self.key.seal(&bytes).unwrap();
        Blob { kind, id: BlobId([7; 32]), sealed, uncompressed_length: Some(length) }
    }

    fn tree(&self, nodes: &[TreeNode]) -> BlobId {
        let blob = self.blob(BlobKind::Tree, &encode(nodes));
        let id = blob.id;
        self.put_pack(&[blob], |_, _| {});
        id
    }

    /// The original snapshot with another tree for its component.
    fn snapshot_of(&self, component: BlobId) -> String {
        let reader = Reader::new(&self.repository).unwrap();
        let mut root = reader.tree(self.original.file.tree).unwrap();
        let files = root.iter_mut().find(|node| node.node.name == b"files").unwrap();
        files.subtree = Some(self.tree(&[directory(COMPONENT.as_bytes(), component)]));
        let file = SnapshotFile { tree: self.tree(&root), ..self.original.file.clone() };
        self.put_document("snapshots", &file).to_string()
    }

    /// Runs a command with bounded memory; nothing that it prints plays with the terminal.
    fn belay(&self, arguments: &[&str]) -> Run {
        let belay = self.sandbox.belay_command(arguments);
        let mut command = Command::new("prlimit");
        command.arg(format!("--data={MEMORY}")).arg("--").arg(belay.get_program());
        command.args(belay.get_args());
        self.sandbox.tidy(&mut command);
        let run = Run::of(command);
        for output in [run.stdout(), run.stderr()] {
            let is_wild = |character: char| character.is_control() && !"\n\t".contains(character);
            assert!(!output.contains(is_wild), "{output:?}");
        }
        run
    }

    /// All paths of the sandbox beside what Belay is asked to write to.
    fn outside(&self) -> BTreeSet<PathBuf> {
        let mut found = BTreeSet::new();
        let mut open = vec![self.sandbox.path("")];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let is_own = [self.sandbox.repository(), self.sandbox.state(), self.target()];
                if is_own.contains(&path) {
                    continue;
                }
                if path.is_dir() && !path.is_symlink() {
                    open.push(path.clone());
                }
                found.insert(path);
            }
        }
        found
    }

    fn target(&self) -> PathBuf {
        self.sandbox.path("target")
    }

    /// Each command that reads the component's files says `words` and exits with 4; nothing is written outside.
    fn assert_refused(&self, snapshot: &str, words: &[&str]) {
        let (outside, before) = (self.outside(), Tree::read(&self.sandbox.source()));
        let target = self.target();
        self.belay(&["restore", snapshot, "--to-dir", text(&target)]).code(4).says(words);
        self.belay(&["restore", snapshot, "--into", "data", "--yes"]).code(4).says(words);
        assert_eq!(self.outside(), outside);
        assert_same(&before, &Tree::read(&self.sandbox.source()), "the instance");
        let check = self.belay(&["check", "--read-data"]).code(4).stdout().to_lowercase();
        assert!(check.contains("damage:") && check.contains(&snapshot[..8]), "{check}");
        assert!(self.belay(&["list"]).ok().stdout().contains(&snapshot[..8]));
        self.sandbox.assert_restores(&self.original.id.to_string(), &before);
        fs::remove_dir_all(&target).ok();
    }
}

fn node(name: &[u8], kind: NodeKind) -> TreeNode {
    let time = Timestamp::UNIX_EPOCH;
    let node = Node {
        name: name.to_vec(),
        mode: if kind == NodeKind::Directory { 0o755 } else { 0o644 },
        kind,
        mtime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        links: 1,
        extended_attributes: Vec::new(),
    };
    TreeNode { node, content: Vec::new(), subtree: None }
}

fn directory(name: &[u8], tree: BlobId) -> TreeNode {
    TreeNode { subtree: Some(tree), ..node(name, NodeKind::Directory) }
}

fn link(name: &[u8], target: &Path) -> TreeNode {
    node(name, NodeKind::Symlink { target: text(target).into() })
}

fn file(name: &[u8], content: BlobId, size: u64) -> TreeNode {
    TreeNode { content: vec![content], ..node(name, NodeKind::File { size }) }
}

#[test]
fn names_that_lead_out_of_the_target_are_refused() {
    let crafted = Crafted::new();
    let content = crafted.blob(BlobKind::Data, b"written outside");
    let id = content.id;
    crafted.put_pack(&[content], |_, _| {});
    let absolute = crafted.sandbox.path("escaped");
    for name in [
        &b"../escaped"[..],
        b"../../../../escaped",
        b"a/b",
        text(&absolute).as_bytes(),
        b"",
        b".",
        b"..",
        b"a\0b",
        b"\x1b[2J/x",
    ] {
        let snapshot = crafted.snapshot_of(crafted.tree(&[file(name, id, 15)]));
        crafted.assert_refused(&snapshot, &["is no name of a file", "belay check"]);
        crafted.belay(&["ls", &snapshot]).code(4).says(&["is no name of a file"]);
        fs::remove_file(crafted.sandbox.repository().join("snapshots").join(snapshot)).unwrap();
    }
    let inner = crafted.tree(&[file(b"escaped", id, 15)]);
    let snapshot = crafted.snapshot_of(crafted.tree(&[directory(b"..", inner)]));
    crafted.assert_refused(&snapshot, &["is no name of a file"]);
}

#[test]
fn no_restore_goes_through_a_link_of_the_snapshot() {
    let crafted = Crafted::new();
    let content = crafted.blob(BlobKind::Data, b"written outside");
    let id = content.id;
    crafted.put_pack(&[content], |_, _| {});
    let outside = crafted.sandbox.path("outside");
    fs::create_dir(&outside).unwrap();
    let inner = crafted.tree(&[file(b"owned", id, 15)]);
    let tricks = [
        vec![link(b"d", &outside), directory(b"d", inner)],
        vec![directory(b"d", inner), link(b"d", &outside)],
        vec![link(b"f", &outside.join("owned")), file(b"f", id, 15)],
        vec![file(b"b", id, 15), file(b"a", id, 15)],
    ];
    for trick in tricks {
        let snapshot = crafted.snapshot_of(crafted.tree(&trick));
        crafted.assert_refused(&snapshot, &["not sorted, or one comes twice"]);
        fs::remove_file(crafted.sandbox.repository().join("snapshots").join(snapshot)).unwrap();
    }

    // A link is no trick by itself: it comes back as one, and what it leads to stays as it is.
    let snapshot = crafted.snapshot_of(crafted.tree(&[link(b"d", &outside)]));
    let before = crafted.outside();
    let path = format!("/files/{COMPONENT}/d/owned");
    let target = crafted.target();
    crafted.belay(&["restore", &snapshot, "--to-dir", text(&target), "--path", &path]).code(2);
    crafted.belay(&["restore", &snapshot, "--to-dir", text(&target)]).ok();
    assert_eq!(fs::read_link(target.join("files").join(COMPONENT).join("d")).unwrap(), outside);
    assert_eq!(crafted.outside(), before);
}

#[test]
fn absurd_lengths_are_refused_before_they_are_believed() {
    let crafted = Crafted::new();
    for (offset, length) in [(0, u32::MAX), (u32::MAX - 100, 90), (0, 15 << 20), (1 << 20, 47)] {
        let content = [u64::from(offset).to_le_bytes(), u64::from(length).to_le_bytes()].concat();
        let blob = crafted.blob(BlobKind::Data, &content);
        let id = blob.id;
        crafted.put_pack(&[blob], |listed, _| {
            (listed[0].offset, listed[0].length) = (offset, length);
        });
        let snapshot = crafted.snapshot_of(crafted.tree(&[file(b"f", id, 16)]));
        crafted.assert_refused(&snapshot, &["data/"]);
        fs::remove_file(crafted.sandbox.repository().join("snapshots").join(snapshot)).unwrap();
    }

    let blob = crafted.blob(BlobKind::Data, b"behind a header of four gigabytes");
    crafted.put_pack(&[blob], |_, bytes| {
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&u32::MAX.to_le_bytes());
    });
    let check = crafted.belay(&["check", "--read-data"]).code(4).stdout();
    assert!(check.contains("beyond the limit"), "{check}");
}

#[test]
fn a_huge_snapshot_document_hides_none_of_the_others() {
    let crafted = Crafted::new();
    let mut plaintext = vec![2];
    plaintext.extend(compress_document(&vec![0; BOMB]).unwrap());
    let snapshot = crafted.put("snapshots", &crafted.key.seal(&plaintext).unwrap()).to_string();
    let short = &snapshot[..8];
    let listed = crafted.belay(&["list"]).code(3).says(&[short, "cannot be read"]);
    assert!(listed.stdout().contains(&crafted.original.id.short()), "{listed}");
    crafted.belay(&["show", &snapshot]).code(4).says(&[short, "beyond the limit"]);
    let target = crafted.target();
    crafted.belay(&["restore", &snapshot, "--to-dir", text(&target)]).code(4).says(&[short]);
    assert!(!target.exists());
    let check = crafted.belay(&["check"]).code(4).stdout();
    assert!(check.contains(&snapshot), "{check}");
    crafted.belay(&["restore", "latest:data", "--to-dir", text(&target)]).code_in(&[0, 3]);
}

#[test]
fn what_unfolds_to_more_than_it_says_is_refused_in_bounded_memory() {
    let crafted = Crafted::new();
    // Less and more than the memory that it has; what is said must be free on the disk, too.
    for length in [4096, 768 << 20] {
        let data = crafted.bomb(BlobKind::Data, length);
        let id = data.id;
        crafted.put_pack(&[data], |_, _| {});
        let snapshot = crafted.snapshot_of(crafted.tree(&[file(b"f", id, u64::from(length))]));
        crafted.assert_refused(&snapshot, &["damaged"]);

        let tree = crafted.bomb(BlobKind::Tree, length);
        crafted.put_pack(&[tree], |_, _| {});
        let snapshot = crafted.snapshot_of(BlobId([7; 32]));
        crafted.assert_refused(&snapshot, &["damaged"]);
        crafted.belay(&["ls", &snapshot]).code(4).says(&["damaged"]);
    }
}

#[test]
fn texts_of_a_repository_do_not_play_with_the_terminal() {
    let crafted = Crafted::new();
    let wild = "\u{1b}]0;owned\u{7}\u{9b}2J\r\nbelay: all is well";
    let mut file = crafted.original.file.clone();
    file.hostname = wild.into();
    file.tags = Some(vec!["wild".into(), wild.into()]);
    let foreign = crafted.put_document("snapshots", &file).to_string();
    for arguments in [&["list"][..], &["show", &foreign], &["status"], &["check"]] {
        let run = crafted.belay(arguments);
        assert!(!run.stdout().contains("\nbelay: all is well"), "{run}");
    }
    assert!(
        crafted
            .belay(&["list"])
            .ok()
            .stdout()
            .contains("\\u{1b}]0;owned\\u{7}\\u{9b}2J\\r\\nbelay")
    );
    let exact = crafted.sandbox.belay(&["list", "--json"]).ok().json();
    let exact = exact.as_array().unwrap();
    assert!(exact.iter().any(|snapshot| snapshot["instance"] == wild), "{exact:#?}");

    crafted.belay(&["pin", "latest:data", "--reason", wild]).ok();
    crafted.belay(&["list"]).ok();
    let add = ["key", "add", "--label", wild, "--new-password-file"];
    let password = crafted.sandbox.password_file();
    crafted.belay(&[&add[..], &[text(&password)]].concat()).ok();
    crafted.belay(&["key", "list"]).ok();

    let lock = LockFile {
        time: Timestamp::now(),
        exclusive: true,
        hostname: wild.into(),
        username: wild.into(),
        pid: 1,
        uid: 0,
        gid: 0,
        boot_id: None,
        process_start: None,
        host_id: None,
        pid_namespace: None,
        purpose: Some(wild.into()),
    };
    crafted.put_document("locks", &lock);
    let config = fs::read_to_string(crafted.sandbox.config()).unwrap();
    let config = config.replace("[repository.main]", "[repository.main]\nlock_wait = \"0s\"");
    fs::write(crafted.sandbox.config(), config).unwrap();
    let locked = crafted.belay(&["list"]).code(11).says(&["locked"]);
    assert!(!locked.stderr().contains("\nbelay: all is well"), "{locked}");
}
