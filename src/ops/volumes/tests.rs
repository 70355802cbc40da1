//! Volumes: what is found of them, and each step on them as it runs on a host.

use super::*;
use crate::model::event::Cancel;
use crate::model::via::Via;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const TOKEN: JobId = JobId([7; 8]);

#[test]
fn databases_are_a_containers_own_where_all_hosts_are_it() {
    for url in [
        "mongodb://localhost:27017/appsmith",
        "mongodb://user:p%40ss@127.0.0.1/appsmith?replicaSet=mr1",
        "mongodb://[::1]:27017,localhost/appsmith",
    ] {
        assert!(is_local(url), "{url}");
    }
    for url in [
        "mongodb://db.example.com/appsmith",
        "mongodb://localhost,db.example.com/appsmith",
        "mongodb+srv://localhost/appsmith",
        "mongodb://localhost@db.example.com/appsmith",
    ] {
        assert!(!is_local(url), "{url}");
    }
}

fn mount(kind: &str, source: &str, destination: &str, is_writable: bool) -> Mount {
    Mount { kind: kind.into(), source: source.into(), destination: destination.into(), is_writable }
}

#[test]
fn what_holds_the_state_is_copied_and_nothing_else() {
    let sources = |mounts: &[Mount]| -> Result<Vec<String>, String> {
        let found = wanted(mounts.iter(), "/stacks")?;
        Ok(found.into_iter().map(|mount| mount.source.clone()).collect())
    };
    let all = [
        mount("volume", "/v/stacks/_data", "/stacks", true),
        mount("bind", "/srv/git", "/stacks/git-storage", true),
        mount("bind", "/v/stacks/_data/ssl", "/stacks/ssl", true),
        mount("bind", "/srv/certificates", "/stacks/ca-certs", false),
        mount("bind", "/var/run/docker.sock", "/var/run/docker.sock", true),
        mount("bind", "/srv/other", "/stacks-of-others", true),
    ];
    assert_eq!(sources(&all).unwrap(), ["/v/stacks/_data", "/srv/git"]);
    for (mounts, words) in [
        (vec![all[1].clone()], "nothing is mounted at /stacks"),
        (vec![mount("tmpfs", "", "/stacks", true)], "no directory of a host"),
        (vec![mount("bind", "/a\nb", "/stacks", true)], "line break"),
    ] {
        let error = sources(&mounts).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn room_is_added_up_by_file_system() {
    let volume = |source: &str, size_bytes, device: &str| Volume {
        source: source.into(),
        size_bytes,
        free_bytes: 3200,
        device: device.into(),
    };
    let volumes = [volume("/a/x", 1600, "1"), volume("/a/y", 1600, "1"), volume("/z", 160, "2")];
    let rooms = room(&volumes);
    let told: Vec<(&str, u64)> =
        rooms.iter().map(|room| (room.place.as_str(), room.needed_bytes)).collect();
    assert_eq!(told, [("/a", 3400), ("/", 170)]);
    assert!(!fits(&volumes) && fits(&volumes[1..]));
    assert_eq!(volumes[2].copy_in(".belay-x", "hop1").copy, "/.belay-x/hop1-z", "beside it");
}

#[test]
fn what_the_host_says_is_read() {
    let volume = looked("yes\n/srv/stacks\n10\n20\n7\n", "/srv/link").unwrap();
    assert_eq!((volume.size_bytes, volume.free_bytes), (10 * 1024, 20 * 1024));
    assert_eq!(looked("no\nwhy\n", "/x").unwrap_err(), "why");
    for strange in ["", "yes\n/x\nmany\n", "perhaps"] {
        assert!(looked(strange, "/x").unwrap_err().contains("no sense"), "{strange}");
    }
}

/// A volume in a directory of the test's own, and the steps on it as they run on a host; no container is asked.
struct Scene {
    directory: TempDir,
    shelf: Shelf,
    copy: VolumeCopy,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let source = root.join("stacks");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("data"), "old").unwrap();
        fs::set_permissions(&source, fs::Permissions::from_mode(0o755)).unwrap();
        let access = Access::new(Via::local(), None, &Cancel::new());
        let shelf = Shelf { access, container: "none".into() };
        let volume = Volume {
            source: source.to_str().unwrap().into(),
            size_bytes: 0,
            free_bytes: 0,
            device: String::new(),
        };
        let copy = volume.copy_in(".belay-upgrade-1", "hop1");
        Self { directory, shelf, copy }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, step: &str, arguments: &[&str]) -> Result<String, String> {
        self.shelf.run(step, &self.copy, arguments).map_err(|error| error.told())
    }

    fn copied(&self, keep: &str) {
        self.run(script::COPY, &[&TOKEN.to_string(), keep]).unwrap();
    }

    fn write(&self, content: &str) {
        fs::write(self.path("stacks/data"), content).unwrap();
    }
}

fn content(path: &Path) -> String {
    fs::read_to_string(path.join("data")).unwrap_or_else(|error| format!("{error}"))
}

#[test]
fn a_copy_is_made_whole_and_private_and_made_anew_unless_it_is_to_be_kept() {
    let scene = Scene::new();
    assert_eq!(scene.shelf.state(&scene.copy).unwrap(), CopyState::Missing);
    scene.copied("");
    let copy = scene.path(".belay-upgrade-1/hop1-stacks");
    assert_eq!(
        (content(&copy).as_str(), scene.copy.copy.as_str()),
        ("old", copy.to_str().unwrap())
    );
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, 0o755, "as it was");
    let area = fs::metadata(scene.path(".belay-upgrade-1")).unwrap();
    assert_eq!(area.mode() & 0o777, 0o700, "nobody else looks into it");
    assert_eq!(scene.shelf.state(&scene.copy).unwrap(), CopyState::Copied);
    scene.write("newer");
    scene.copied("keep");
    assert_eq!(content(&copy), "old");
    // What a try left that was killed is no copy.
    fs::create_dir(scene.path(".belay-upgrade-1/hop1-stacks.part-0")).unwrap();
    scene.copied("");
    assert_eq!(content(&copy), "newer");
    assert_eq!(fs::read_dir(scene.path(".belay-upgrade-1")).unwrap().count(), 1);
    assert!(scene.shelf.remove(&scene.copy).unwrap());
    assert!(!scene.path(".belay-upgrade-1").exists() && !scene.shelf.remove(&scene.copy).unwrap());
}

#[test]
fn a_swap_is_finished_wherever_it_was_killed_and_loses_nothing() {
    for killed_after in [0, 1, 2] {
        let scene = Scene::new();
        scene.copied("");
        scene.write("broken");
        let (volume, copy) = (scene.path("stacks"), scene.path(".belay-upgrade-1/hop1-stacks"));
        let failed = scene.path(".belay-upgrade-1/failed-hop1-stacks");
        if killed_after > 0 {
            fs::rename(&volume, &failed).unwrap();
        }
        if killed_after > 1 {
            fs::rename(&copy, &volume).unwrap();
        }
        for _ in 0..2 {
            let kept = scene.run(script::SWAP, &[]).unwrap();
            assert_eq!(kept, failed.to_str().unwrap(), "killed after {killed_after}");
            assert_eq!((content(&volume), content(&failed)), ("old".into(), "broken".into()));
        }
        assert_eq!(scene.shelf.state(&scene.copy).unwrap(), CopyState::Swapped);
        // What failed is not removed with the copies.
        assert!(!scene.shelf.remove(&scene.copy).unwrap());
        assert_eq!(content(&failed), "broken");
    }
}

#[test]
fn what_docker_makes_in_the_place_of_a_volume_meanwhile_goes_aside_too() {
    let scene = Scene::new();
    scene.copied("");
    fs::rename(scene.path("stacks"), scene.path(".belay-upgrade-1/failed-hop1-stacks")).unwrap();
    fs::create_dir(scene.path("stacks")).unwrap();
    scene.write("made by a start");
    scene.run(script::SWAP, &[]).unwrap();
    assert_eq!(content(&scene.path("stacks")), "old");
    assert_eq!(content(&scene.path(".belay-upgrade-1/failed-hop1-stacks~1")), "made by a start");
}

#[test]
fn somebody_elses_directory_and_a_lost_copy_are_refused() {
    let scene = Scene::new();
    fs::create_dir(scene.path(".belay-upgrade-1")).unwrap();
    fs::set_permissions(scene.path(".belay-upgrade-1"), fs::Permissions::from_mode(0o777)).unwrap();
    for step in [script::COPY, script::SWAP, script::REMOVE, script::STATE] {
        let error = scene.run(step, &["token", ""]).unwrap_err();
        assert!(error.contains("is no directory of Belay's"), "{error}");
    }
    fs::remove_dir(scene.path(".belay-upgrade-1")).unwrap();
    std::os::unix::fs::symlink("/tmp", scene.path(".belay-upgrade-1")).unwrap();
    assert!(scene.run(script::COPY, &["token", ""]).is_err());
    fs::remove_file(scene.path(".belay-upgrade-1")).unwrap();
    scene.copied("");
    fs::remove_dir_all(scene.path("stacks")).unwrap();
    fs::remove_dir_all(scene.path(".belay-upgrade-1/hop1-stacks")).unwrap();
    let error = scene.run(script::SWAP, &[]).unwrap_err();
    assert!(error.contains("neither") && error.contains("is there"), "{error}");
}

#[test]
fn a_host_says_what_can_be_copied() {
    let scene = Scene::new();
    let look = |path: &Path, inode: &str| {
        let ask = Command::shell(script::LOOK).arguments([path.to_str().unwrap(), inode]);
        let answer = scene.shelf.access.run(&ask, &[], MOST_ANSWER).unwrap();
        looked(&String::from_utf8_lossy(&answer), path.to_str().unwrap())
    };
    let inode = |path: &Path| {
        let facts = fs::metadata(path).unwrap();
        format!("{}:{}", facts.dev(), facts.ino())
    };
    let source = PathBuf::from(&scene.copy.source);
    if !rustix::process::geteuid().is_root() {
        assert!(look(&source, &inode(&source)).unwrap_err().contains("only root"));
        return;
    }
    fs::write(source.join("more"), vec![1; 300_000]).unwrap();
    let link = scene.path("link");
    std::os::unix::fs::symlink(&source, &link).unwrap();
    let volume = look(&link, &inode(&source)).unwrap();
    assert_eq!(volume.source, scene.copy.source);
    assert!(volume.size_bytes >= 300_000 && volume.free_bytes > 0, "{volume:?}");
    for (path, inode, words) in [
        (source.clone(), "1:2".to_owned(), "is not what its container has"),
        (source.join("data"), inode(&source), "is no directory"),
        (PathBuf::from("/proc"), inode(Path::new("/proc")), "a file system is mounted"),
    ] {
        let error = look(&path, &inode).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}
