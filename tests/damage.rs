//! Damage to each kind of file of a repository: `check` names it and the snapshots that it touches, and those that it
//! does not touch still restore. What is touched is worked out here through restic, not through Belay.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use support::{Running, Sandbox, Tree, make_tree, text, wait_until, write_file, write_secret};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Damage {
    Delete,
    Truncate,
    FlipBit,
}

const ALL: [Damage; 3] = [Damage::Delete, Damage::Truncate, Damage::FlipBit];

impl Damage {
    fn apply(self, path: &Path) {
        let mut content = fs::read(path).unwrap();
        let middle = content.len() / 2;
        assert!(middle > 0, "{} is too short to damage", path.display());
        fs::remove_file(path).unwrap();
        match self {
            Self::Delete => return,
            Self::Truncate => content.truncate(middle),
            Self::FlipBit => content[middle] ^= 0x10,
        }
        fs::write(path, content).unwrap();
    }
}

/// A repository with two snapshots of instances that have nothing in common, and what refers to what in it.
struct Scene {
    sandbox: Sandbox,
    made: &'static Made,
}

/// What all scenes are copies of: made once, and kept in memory, so that nothing is left behind.
struct Made {
    /// What each snapshot was taken of, by its id.
    trees: BTreeMap<String, Tree>,
    /// Snapshots by the blobs that they need.
    blobs: BTreeMap<String, BTreeSet<String>>,
    /// The id of each index, with the packs in it: their ids, types and blobs.
    indexes: BTreeMap<String, Vec<Pack>>,
    recovery_key: String,
    repository: Content,
    state: Content,
}

/// The files below a directory; directories have no bytes.
type Content = BTreeMap<PathBuf, Option<Vec<u8>>>;

fn content_of(directory: &Path) -> Content {
    let (mut content, mut open) = (BTreeMap::new(), vec![PathBuf::new()]);
    while let Some(relative) = open.pop() {
        let path = directory.join(&relative);
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| relative.join(entry.unwrap().file_name())));
            content.insert(relative, None);
        } else {
            content.insert(relative, Some(fs::read(&path).unwrap()));
        }
    }
    content
}

fn put(content: &Content, directory: &Path) {
    for (relative, bytes) in content {
        match bytes {
            None => fs::create_dir_all(directory.join(relative)).unwrap(),
            Some(bytes) => fs::write(directory.join(relative), bytes).unwrap(),
        }
    }
}

static MADE: LazyLock<Made> = LazyLock::new(Made::new);

struct Pack {
    id: String,
    kind: String,
    blobs: Vec<String>,
}

impl Made {
    fn new() -> Self {
        let sandbox = Sandbox::without_repository();
        sandbox.configure(&["one", "two"], "last = 10");
        let made = sandbox.belay(&["init", "--json"]).ok().json();
        let recovery_key = string(&made["recovery_key"]);
        sandbox.make_password_cheap(&recovery_key);
        let mut trees = BTreeMap::new();
        for (seed, name) in [(1, "one"), (2, "two")] {
            make_tree(&sandbox.source_of(name), seed, 8);
            trees.insert(sandbox.backup_of(name), Tree::read(&sandbox.source_of(name)));
        }
        let mut made = Self {
            trees,
            blobs: BTreeMap::new(),
            indexes: BTreeMap::new(),
            recovery_key,
            repository: content_of(&sandbox.repository()),
            state: content_of(&sandbox.state()),
        };
        made.read_references(&sandbox);
        made
    }

    fn cat(sandbox: &Sandbox, what: &str, id: &str) -> Value {
        // To take a lock, restic waits.
        sandbox.restic(&["cat", "--no-lock", what, id]).ok().json()
    }

    fn read_references(&mut self, sandbox: &Sandbox) {
        for id in sandbox.files("index") {
            let index = Self::cat(sandbox, "index", &id);
            let packs = index["packs"].as_array().unwrap().iter().map(|pack| {
                let blobs = pack["blobs"].as_array().unwrap();
                Pack {
                    id: string(&pack["id"]),
                    kind: string(&blobs[0]["type"]),
                    blobs: blobs.iter().map(|blob| string(&blob["id"])).collect(),
                }
            });
            let packs = packs.collect();
            self.indexes.insert(id, packs);
        }
        for snapshot in self.trees.keys() {
            let mut pending = vec![string(&Self::cat(sandbox, "snapshot", snapshot)["tree"])];
            let mut needed = BTreeSet::new();
            while let Some(tree) = pending.pop() {
                for node in Self::cat(sandbox, "blob", &tree)["nodes"].as_array().unwrap() {
                    needed.extend(node["content"].as_array().into_iter().flatten().map(string));
                    pending.extend(node["subtree"].as_str().map(str::to_owned));
                }
                needed.insert(tree);
            }
            self.blobs.insert(snapshot.clone(), needed);
        }
    }
}

impl Scene {
    fn new() -> Self {
        let sandbox = Sandbox::without_repository();
        sandbox.configure(&["one", "two"], "last = 10");
        let made = &*MADE;
        write_secret(&sandbox.path("recovery"), &made.recovery_key);
        put(&made.state, &sandbox.state());
        let scene = Self { sandbox, made };
        scene.begin_again();
        scene
    }

    /// Tries each damage in a scene of its own, all at once: most of the time is spent waiting for locks to settle.
    fn for_each(damages: &[Damage], attempt: impl Fn(&Self, Damage) + Sync) {
        std::thread::scope(|threads| {
            for &damage in damages {
                let attempt = &attempt;
                threads.spawn(move || attempt(&Self::new(), damage));
            }
        });
    }

    /// An undamaged repository again.
    fn begin_again(&self) {
        fs::remove_dir_all(self.sandbox.repository()).ok();
        put(&self.made.repository, &self.sandbox.repository());
    }

    /// The snapshots that need one of these blobs.
    fn touched<'a>(&self, blobs: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
        let blobs: BTreeSet<&String> = blobs.into_iter().collect();
        let needs = |needed: &BTreeSet<String>| needed.iter().any(|blob| blobs.contains(blob));
        self.made
            .blobs
            .iter()
            .filter(|(_, needed)| needs(needed))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// A pack of that kind that exactly one snapshot needs, and that snapshot.
    fn pack(&self, kind: &str) -> (String, String) {
        let packs = self.made.indexes.values().flatten().filter(|pack| pack.kind == kind);
        for pack in packs {
            if let [victim] = &Vec::from_iter(self.touched(&pack.blobs))[..] {
                return (pack.id.clone(), victim.clone());
            }
        }
        panic!("no {kind} pack belongs to one snapshot only");
    }

    /// An index whose loss touches exactly one snapshot, and that snapshot.
    fn index(&self) -> (String, String) {
        for (id, packs) in &self.made.indexes {
            let touched = self.touched(packs.iter().flat_map(|pack| &pack.blobs));
            if let [victim] = &Vec::from_iter(touched)[..] {
                return (id.clone(), victim.clone());
            }
        }
        panic!("no index belongs to one snapshot only");
    }

    fn check(&self, arguments: &[&str], code: i32) -> Report {
        let arguments = [&["check", "--json"], arguments].concat();
        let run = self.sandbox.belay(&arguments).code(code);
        Report(run.json()["errors"].as_array().expect("check --json has errors").clone())
    }

    fn survivors(&self, victim: &str) -> Vec<&String> {
        self.made.trees.keys().filter(|id| *id != victim).collect()
    }

    /// A restore may tell of damage elsewhere, but has to bring everything back.
    fn assert_still_restores(&self, snapshot: &str, password_file: &Path) {
        let target = self.sandbox.fresh_directory();
        let arguments = ["restore", snapshot, "--to-dir", text(target.path())];
        self.sandbox
            .belay_bare(&self.sandbox.repository(), password_file, &arguments)
            .code_in(&[0, 3]);
        let directory = fs::read_dir(target.path().join("files"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.is_dir())
            .expect("a tree was restored");
        support::assert_same(
            &self.made.trees[snapshot],
            &Tree::read(&directory),
            "an undamaged snapshot",
        );
    }

    /// A restore of what is damaged fails as such, rather than to give less.
    fn assert_restore_fails(&self, snapshot: &str) {
        let target = self.sandbox.fresh_directory();
        self.sandbox.belay(&["restore", snapshot, "--to-dir", text(target.path())]).code(4);
    }
}

/// What `check` found.
struct Report(Vec<Value>);

impl Report {
    fn names(&self, object: &str) -> bool {
        self.0.iter().any(|error| {
            string(&error["object"]).contains(object) || string(&error["message"]).contains(object)
        })
    }

    fn snapshots(&self) -> BTreeSet<String> {
        let all =
            self.0.iter().flat_map(|error| error["snapshots"].as_array().into_iter().flatten());
        all.map(string).collect()
    }

    /// It names the damaged file, and exactly that snapshot as touched.
    #[track_caller]
    fn blames(&self, object: &str, victim: &str) {
        assert!(self.names(object), "{object} is not named: {:#?}", self.0);
        assert_eq!(self.snapshots(), BTreeSet::from([victim.to_owned()]), "{:#?}", self.0);
    }
}

fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_damaged_pack_is_named_with_the_snapshot_that_needs_it() {
    Scene::for_each(&ALL, |scene, damage| {
        for kind in ["data", "tree"] {
            let (pack, victim) = scene.pack(kind);
            scene.begin_again();
            damage.apply(&scene.sandbox.pack_path(&pack));
            scene.check(&["--read-data"], 4).blames(&pack, &victim);
            // What is missing or too short is seen without reading, and so are trees, which are read always.
            if damage != Damage::FlipBit || kind == "tree" {
                scene.check(&[], 4).blames(&pack, &victim);
            }
            scene.assert_restore_fails(&victim);
            for survivor in scene.survivors(&victim) {
                scene.assert_still_restores(survivor, &scene.sandbox.password_file());
            }
        }
    });
}

#[test]
fn every_part_of_the_packs_is_read_once_in_n_partial_checks() {
    let scene = Scene::new();
    let (pack, victim) = scene.pack("data");
    Damage::FlipBit.apply(&scene.sandbox.pack_path(&pack));
    let mut found = 0;
    for part in 1..=3 {
        let run = scene
            .sandbox
            .belay(&["check", "--json", &format!("--read-data={part}/3")])
            .code_in(&[0, 4]);
        if run.exit_code() == Some(4) {
            found += 1;
            Report(run.json()["errors"].as_array().unwrap().clone()).blames(&pack, &victim);
        }
    }
    assert_eq!(found, 1, "each pack belongs to exactly one part");
}

#[test]
fn a_damaged_index_is_named_and_loses_nothing() {
    Scene::for_each(&ALL, |scene, damage| {
        let (index, victim) = scene.index();
        damage.apply(&scene.sandbox.repository().join("index").join(&index));
        let report = scene.check(&[], 4);
        // Nothing refers to an index: one that is gone shows in what needs the packs that it listed.
        if damage == Damage::Delete {
            report.blames("index", &victim);
        } else {
            assert!(report.names(&index) && report.snapshots().is_empty(), "{:#?}", report.0);
        }
        // The packs are all there: a restore finds in them what no index tells.
        for snapshot in scene.made.trees.keys() {
            scene.assert_still_restores(snapshot, &scene.sandbox.password_file());
        }
    });
}

#[test]
fn a_damaged_snapshot_file_is_named() {
    Scene::for_each(&[Damage::Truncate, Damage::FlipBit], |scene, damage| {
        let victim = scene.made.trees.keys().next().unwrap();
        damage.apply(&scene.sandbox.repository().join("snapshots").join(victim));
        scene.check(&[], 4).blames(victim, victim);
        scene.assert_restore_fails(victim);
        for survivor in scene.survivors(victim) {
            scene.assert_still_restores(survivor, &scene.sandbox.password_file());
        }
    });
}

#[test]
fn a_deleted_snapshot_is_gone_and_nothing_else_is() {
    let scene = Scene::new();
    let victim = scene.made.trees.keys().next().unwrap();
    Damage::Delete.apply(&scene.sandbox.repository().join("snapshots").join(victim));
    // To the repository this is what forgetting does; only the catalog may know better.
    let run = scene.sandbox.belay(&["check", "--read-data", "--json"]).code_in(&[0, 4]);
    let report = Report(run.json()["errors"].as_array().unwrap().clone());
    assert_eq!(run.exit_code() == Some(4), report.names(victim), "{run}");
    let target = scene.sandbox.fresh_directory();
    let restore = scene.sandbox.belay(&["restore", victim, "--to-dir", text(target.path())]);
    assert_ne!(restore.exit_code(), Some(0), "{restore}");
    restore.says(&[&victim[..8]]);
    for survivor in scene.survivors(victim) {
        scene.assert_still_restores(survivor, &scene.sandbox.password_file());
    }
}

#[test]
fn a_damaged_config_is_named() {
    let scene = Scene::new();
    for damage in [Damage::Truncate, Damage::FlipBit] {
        scene.begin_again();
        damage.apply(&scene.sandbox.repository().join("config"));
        assert!(scene.check(&[], 4).names("config"));
        scene.sandbox.belay(&["backup", "one"]).code(4).says(&["config"]);
        assert_eq!(
            scene.sandbox.snapshot_files().len(),
            2,
            "a backup went on without its configuration"
        );
    }
    scene.begin_again();
    Damage::Delete.apply(&scene.sandbox.repository().join("config"));
    assert!(scene.check(&[], 4).names("config"));
    // No second repository may grow over the first.
    let init = scene.sandbox.belay(&["init"]);
    assert_ne!(init.exit_code(), Some(0), "{init}");
    assert_eq!(scene.sandbox.files("keys").len(), 2);
}

#[test]
fn a_damaged_key_is_named_and_the_other_one_still_opens() {
    Scene::for_each(&ALL, |scene, damage| {
        let password_file = scene.sandbox.password_file();
        let recovery_file = scene.sandbox.path("recovery");
        // Which of the two keys is whose is not told by their files: each is damaged once.
        for key in scene.sandbox.files("keys") {
            scene.begin_again();
            damage.apply(&scene.sandbox.repository().join("keys").join(&key));
            let repository = scene.sandbox.repository();
            let opens = |file: &Path| {
                let run = scene
                    .sandbox
                    .belay_bare(&repository, file, &["list", "--json"])
                    .code_in(&[0, 3, 4, 12]);
                matches!(run.exit_code(), Some(0 | 3))
            };
            let opening: Vec<&Path> =
                [&*password_file, &*recovery_file].into_iter().filter(|file| opens(file)).collect();
            let [opening] = opening[..] else { panic!("{damage:?} of one key: {opening:?} open") };
            let check = scene.sandbox.belay_bare(&repository, opening, &["check", "--json"]);
            if damage == Damage::Delete {
                // Nothing refers to a key: one less is no damage.
                check.ok();
            } else {
                let check = check.code(4);
                assert!(check.stdout().contains(&key), "{key} is not named: {check}");
            }
            for snapshot in scene.made.trees.keys() {
                scene.assert_still_restores(snapshot, opening);
            }
        }
    });
}

#[test]
fn a_damaged_lock_is_named_and_holds_up_no_restore() {
    let scene = Scene::new();
    let sandbox = &scene.sandbox;
    let mut backup =
        Running::start(sandbox.restic_command(&["backup", text(&sandbox.source_of("one"))]));
    wait_until("restic's lock", || backup.has_ended() || !sandbox.files("locks").is_empty());
    backup.freeze();
    let lock = sandbox.files("locks").into_iter().next().unwrap();
    backup.kill();
    let path = sandbox.repository().join("locks").join(&lock);
    let whole = fs::read(&path).unwrap();
    for damage in [Damage::Truncate, Damage::FlipBit] {
        fs::write(&path, &whole).unwrap();
        damage.apply(&path);
        let report = scene.check(&[], 4);
        assert!(report.names(&lock), "{lock} is not named: {:#?}", report.0);
        assert!(report.snapshots().is_empty(), "a lock touches no snapshot: {:#?}", report.0);
        for snapshot in scene.made.trees.keys() {
            scene.assert_still_restores(snapshot, &sandbox.password_file());
        }
        // Whoever holds it may be at work: nothing is deleted beside it.
        let prune = sandbox.belay(&["prune"]);
        assert_ne!(prune.exit_code(), Some(0), "{prune}");
        prune.says(&[&lock[..8]]);
    }
    Damage::Delete.apply(&path);
    assert!(scene.check(&["--read-data"], 0).0.is_empty());
}

#[test]
fn leftovers_and_foreign_files_are_no_damage() {
    let scene = Scene::new();
    let repository = scene.sandbox.repository();
    let pack = scene.sandbox.packs().into_iter().next().unwrap();
    write_file(&repository.join("data/00").join(format!("{pack}-tmp-123")), b"half of a pack");
    write_file(&repository.join("snapshots/.DS_Store"), b"foreign");
    write_file(&repository.join("lost+found/file"), b"foreign");
    assert!(scene.check(&["--read-data"], 0).0.is_empty());
    let list = scene.sandbox.list();
    assert_eq!(list.len(), 2, "{list:?}");
    scene.sandbox.belay(&["prune"]).ok();
    for snapshot in scene.made.trees.keys() {
        scene.assert_still_restores(snapshot, &scene.sandbox.password_file());
    }
}
