//! The power goes: what was not synced is gone. What a command called done is still there, and everything works again
//! without help.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{
    Run, Running, Sandbox, Tree, change_tree, make_tree, require_root, text, wait_until, write_file,
};

/// A disk whose power can be cut; unmounted with this handle.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

fn run(program: &str, arguments: &[&str]) -> Run {
    let mut command = Command::new(program);
    command.args(arguments);
    Run::of(command)
}

impl Disk {
    fn mount(image: PathBuf, place: PathBuf) -> Self {
        require_root("to mount a disk");
        // The least that XFS takes; the file is sparse.
        File::create(&image).unwrap().set_len(320 << 20).unwrap();
        run("mkfs.xfs", &["-q", text(&image)]).ok();
        fs::create_dir_all(&place).unwrap();
        let disk = Self { image, place };
        disk.plug_in();
        disk
    }

    fn plug_in(&self) {
        run("mount", &["-o", "loop", text(&self.image), text(&self.place)]).ok();
    }

    /// From now on nothing is written any more, not even what programs wrote before without a sync.
    fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", text(&self.place)]).ok();
    }

    /// Power is back.
    fn restart(&self) {
        run("umount", &[text(&self.place)]).ok();
        self.plug_in();
    }

    /// Cut the power now and bring it back, and see that this does lose what was not synced.
    fn cut_and_restart(&self) {
        let witness = self.place.join("not-synced");
        write_file(&witness, b"written");
        self.cut();
        self.restart();
        assert!(!witness.exists(), "this power cut loses nothing: the test tries nothing");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.place).status().ok();
    }
}

/// A sandbox with repository and state on a disk, and a source of some megabytes.
fn scene() -> (Sandbox, Disk, PathBuf) {
    let sandbox = Sandbox::without_repository();
    let disk = Disk::mount(sandbox.path("image"), sandbox.path("disk"));
    let repository = disk.place.join("repository");
    sandbox.configure_at(&repository, &disk.place.join("state"), &["data"], "last = 2");
    sandbox.belay(&["init"]).ok();
    make_tree(&sandbox.source(), 71, 24);
    (sandbox, disk, repository)
}

fn backup(sandbox: &Sandbox) -> String {
    let done = sandbox.belay(&["backup", "data", "--json"]).ok().json();
    done["snapshots"][0]["id"].as_str().unwrap().to_owned()
}

/// restic finds nothing wrong once the lock of the dead process is gone.
fn restic_finds_nothing(sandbox: &Sandbox, repository: &Path) {
    for arguments in [&["unlock"][..], &["check", "--read-data"]] {
        sandbox.restic_on(repository, &sandbox.password_file(), arguments).ok();
    }
}

/// Starts a command, and cuts the power once `moment` has come.
fn cut_while_running(
    sandbox: &Sandbox,
    disk: &Disk,
    arguments: &[&str],
    moment: impl Fn(&mut Running) -> bool,
) {
    let mut running = sandbox.start(arguments);
    wait_until("the moment of the power cut", || running.has_ended() || moment(&mut running));
    assert!(!running.has_ended(), "it ended before the power was cut: {}", running.wait());
    disk.cut();
    running.kill();
    disk.restart();
}

#[test]
fn what_was_sealed_outlives_a_power_cut() {
    let (sandbox, disk, repository) = scene();
    let expected = Tree::read(&sandbox.source());
    let id = backup(&sandbox);
    disk.cut_and_restart();
    restic_finds_nothing(&sandbox, &repository);
    assert_eq!(sandbox.list().iter().map(|found| &found.id).collect::<Vec<_>>(), [&id]);
    sandbox.assert_restores(&id, &expected);

    sandbox.belay(&["pin", &id, "--reason", "kept"]).ok();
    for round in 0..3 {
        change_tree(&sandbox.source(), round);
        backup(&sandbox);
    }
    sandbox.belay(&["prune"]).ok();
    disk.cut_and_restart();
    restic_finds_nothing(&sandbox, &repository);
    assert_eq!(sandbox.list().len(), 3, "two of the policy, one that is pinned");
    sandbox.assert_restores(&id, &expected);
    sandbox.assert_restores("latest:data", &Tree::read(&sandbox.source()));
}

#[test]
fn a_power_cut_in_the_middle_of_a_backup_or_a_prune_loses_nothing_else() {
    let (sandbox, disk, repository) = scene();
    let packs = || support::packs_in(&repository).len();
    let expected = Tree::read(&sandbox.source());
    let id = backup(&sandbox);
    sandbox.belay(&["pin", &id, "--reason", "kept"]).ok();

    make_tree(&sandbox.source(), 72, 48);
    let before = packs();
    cut_while_running(&sandbox, &disk, &["backup", "data"], |_| packs() > before);
    restic_finds_nothing(&sandbox, &repository);
    sandbox.assert_restores(&id, &expected);

    for round in 0..3 {
        change_tree(&sandbox.source(), round);
        backup(&sandbox);
    }
    let latest = Tree::read(&sandbox.source());
    let files = || ["snapshots", "index"].map(|folder| support::ids_in(&repository.join(folder)));
    let before = files();
    cut_while_running(&sandbox, &disk, &["prune"], |_| files() != before);
    restic_finds_nothing(&sandbox, &repository);
    sandbox.assert_restores(&id, &expected);
    sandbox.assert_restores("latest:data", &latest);

    sandbox.belay(&["prune"]).ok();
    sandbox.assert_restores(&id, &expected);
    sandbox.assert_restores(&backup(&sandbox), &latest);
    restic_finds_nothing(&sandbox, &repository);
}

#[test]
fn what_was_restored_in_place_outlives_a_power_cut() {
    let sandbox = Sandbox::without_repository();
    let disk = Disk::mount(sandbox.path("image"), sandbox.path("disk"));
    sandbox.configure(&["data"], "last = 5");
    let source = disk.place.join("source");
    let config = fs::read_to_string(sandbox.config()).unwrap();
    fs::write(sandbox.config(), config.replace(text(&sandbox.source()), text(&source))).unwrap();
    sandbox.belay(&["init"]).ok();
    make_tree(&source, 73, 8);
    let expected = Tree::read(&source);
    let id = backup(&sandbox);
    change_tree(&source, 74);
    sandbox.belay(&["restore", &id, "--into", "data", "--yes"]).ok();
    disk.cut_and_restart();
    support::assert_same(&expected, &Tree::read(&source), "restored before the power cut");
}
