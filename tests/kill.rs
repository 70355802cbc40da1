//! Killed at random moments, Belay loses nothing: no repair is called, the next run simply succeeds.
//!
//! The long form is in `tests/soak`; `BELAY_KILL_SEED` gives the moments of an earlier run again.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::Signal;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use support::{Random, Sandbox, Tree, change_tree, make_tree, size, wait_until};

/// What the source was when each snapshot was taken, by id.
type Taken = BTreeMap<String, Tree>;

/// Runs `work` and tells how long it took.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = work();
    (start.elapsed(), result)
}

/// Starts Belay and kills it at a random moment of `usual`, or lets it end when it is faster. Answers whether it was killed.
fn kill_at_random(
    sandbox: &Sandbox,
    arguments: &[&str],
    usual: Duration,
    random: &mut Random,
) -> bool {
    let moment = Duration::from_micros(random.below(usual.as_micros() as u64 + 1));
    let start = Instant::now();
    let mut running = sandbox.start(arguments);
    wait_until("the moment", || running.has_ended() || start.elapsed() >= moment);
    let killed = !running.has_ended();
    if killed {
        running.kill();
    } else {
        running.wait().ok();
    }
    killed
}

/// Snapshots that came into the repository are of the source as it is now.
fn remember_new(sandbox: &Sandbox, taken: &mut Taken, source: &Tree) {
    for id in sandbox.snapshot_files() {
        taken.entry(id).or_insert_with(|| source.clone());
    }
}

/// The repository is clean for both programs, and every snapshot in it is listed, sealed and restores as it was taken.
fn assert_nothing_was_lost(sandbox: &Sandbox, taken: &Taken) {
    sandbox.restic_finds_nothing();
    sandbox.belay_finds_nothing();
    let files = sandbox.snapshot_files();
    let list = sandbox.list();
    for snapshot in &list {
        assert!(snapshot.sealed && files.contains(&snapshot.id), "{snapshot:?}");
        sandbox.assert_restores(&snapshot.id, &taken[&snapshot.id]);
    }
    assert_eq!(list.len(), files.len(), "{list:#?}\n{files:#?}");
    let newest = sandbox.restic_restore("latest");
    let is_known =
        taken.values().any(|tree| tree.differences(&Tree::read(&newest.tree())).is_empty());
    assert!(is_known, "restic restores the newest snapshot to something that never was");
}

#[test]
fn killed_backups_lose_nothing() {
    let count = size("BELAY_KILL_BACKUPS", 6);
    let mib = size("BELAY_KILL_MIB", 24);
    let seed = size("BELAY_KILL_SEED", 1);
    let mut random = Random::new(seed);
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), seed, mib);
    let mut taken = Taken::new();
    // The first one stores everything; how long a later one takes is what counts.
    sandbox.backup();
    remember_new(&sandbox, &mut taken, &Tree::read(&sandbox.source()));
    change_tree(&sandbox.source(), seed);
    let (mut usual, _) = timed(|| sandbox.backup());
    remember_new(&sandbox, &mut taken, &Tree::read(&sandbox.source()));

    let mut killed = 0;
    let mut round = 0;
    while killed < count {
        round += 1;
        assert!(
            round <= 10 * count + 10,
            "backups end before they can be killed ({killed} of {count})"
        );
        change_tree(&sandbox.source(), seed + round);
        let source = Tree::read(&sandbox.source());
        if kill_at_random(&sandbox, &["backup", "data"], usual, &mut random) {
            killed += 1;
        } else {
            usual = usual.mul_f32(0.9);
        }
        remember_new(&sandbox, &mut taken, &source);
    }

    change_tree(&sandbox.source(), seed + round + 1);
    let source = Tree::read(&sandbox.source());
    let last = sandbox.backup();
    remember_new(&sandbox, &mut taken, &source);
    sandbox.assert_restores(&last, &source);
    assert_nothing_was_lost(&sandbox, &taken);

    // What the killed ones left behind goes, and only that.
    let before = sandbox.snapshot_files();
    sandbox.belay(&["prune"]).ok();
    assert_eq!(sandbox.snapshot_files(), before);
    assert_eq!(sandbox.files("locks").len(), 0, "locks of dead processes are left");
    assert_nothing_was_lost(&sandbox, &taken);
}

#[test]
fn killed_prunes_lose_nothing() {
    let count = size("BELAY_KILL_PRUNES", 4);
    let mib = size("BELAY_KILL_MIB", 24);
    let seed = size("BELAY_KILL_SEED", 1).wrapping_add(1_000_000);
    let mut random = Random::new(seed);
    let sandbox = Sandbox::new();
    sandbox.configure(&["data"], "last = 2");
    make_tree(&sandbox.source(), seed, mib);
    let mut taken = Taken::new();
    let mut night = 0;
    let mut take = |taken: &mut Taken| {
        night += 1;
        change_tree(&sandbox.source(), seed + night);
        let source = Tree::read(&sandbox.source());
        // No help between a killed prune and this.
        sandbox.backup();
        remember_new(&sandbox, taken, &source);
    };
    for _ in 0..4 {
        take(&mut taken);
    }
    let (mut usual, _) = timed(|| sandbox.belay(&["prune"]).ok());
    assert_eq!(sandbox.snapshot_files().len(), 2);

    let mut killed = 0;
    let mut round = 0;
    while killed < count {
        round += 1;
        assert!(
            round <= 10 * count + 10,
            "prunes end before they can be killed ({killed} of {count})"
        );
        take(&mut taken);
        take(&mut taken);
        if kill_at_random(&sandbox, &["prune"], usual, &mut random) {
            killed += 1;
        } else {
            usual = usual.mul_f32(0.9);
        }
        assert!(sandbox.snapshot_files().len() >= 2, "more was forgotten than the policy says");
    }

    // restic waits for no lock, but tells one of a dead process.
    sandbox.restic(&["unlock"]).ok();
    sandbox.restic_finds_nothing();
    take(&mut taken);
    assert_nothing_was_lost(&sandbox, &taken);
    sandbox.belay(&["prune"]).ok();
    assert_eq!(sandbox.snapshot_files().len(), 2);
    assert_eq!(sandbox.files("locks").len(), 0, "locks of dead processes are left");
    assert_nothing_was_lost(&sandbox, &taken);
}

#[test]
fn a_lock_of_a_killed_process_holds_nobody_up() {
    let sandbox = Sandbox::new();
    make_tree(&sandbox.source(), 31, 24);
    for command in [&["backup", "data"][..], &["prune"]] {
        sandbox.start_and_freeze(command).kill();
        assert_eq!(sandbox.files("locks").len(), 1, "{command:?} should have left its lock");
        sandbox.belay(command).ok();
        assert_eq!(sandbox.files("locks").len(), 0, "the dead process's lock is still there");
    }
    sandbox.restic_finds_nothing();
}

#[test]
fn an_interrupted_backup_ends_soon_and_cleanly() {
    for signal in [Signal::INT, Signal::TERM] {
        let sandbox = Sandbox::new();
        make_tree(&sandbox.source(), 41, 48);
        let mut running = sandbox.start_and_freeze(&["backup", "data"]);
        running.signal(signal);
        running.thaw();
        let (time, run) = timed(|| running.wait());
        run.code(130);
        assert!(time < Duration::from_secs(10), "it took {time:?} to stop");
        assert_eq!(sandbox.snapshot_files().len(), 0, "an interrupted backup left a snapshot");
        assert_eq!(sandbox.files("locks").len(), 0, "an interrupted backup left its lock");
        let id = sandbox.backup();
        sandbox.assert_restores(&id, &Tree::read(&sandbox.source()));
        sandbox.restic_finds_nothing();
    }
}
