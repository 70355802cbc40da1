//! Mirrors of git repositories whose fetches and snapshots are killed, refused and disturbed: no commit that a fetch took is lost, and
//! no snapshot says what it has not. `BELAY_MIRROR_HISTORIES` sets how many random histories are tried.
#![allow(clippy::unwrap_used)]

mod support;

use git2::{ObjectType, Oid, Repository};
use proptest::prelude::*;
use proptest::test_runner::{TestRng, TestRunner};
use rustix::process::{Pid, Signal, kill_process};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Run, Running, Sandbox, size, text, wait_until};

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.current_dir(directory).args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").args(arguments);
    Run::of(git).ok().stdout().trim().to_owned()
}

/// A host that mirrors a git repository `orders`.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    /// It is at this address.
    fn of(url: impl FnOnce(&Sandbox) -> String) -> Self {
        let sandbox = Sandbox::new();
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let url = url(&sandbox);
        write!(config, "\n[git.orders]\nplatform = 'appsmith'\nurl = '{url}'\n").unwrap();
        fs::write(sandbox.config(), config).unwrap();
        Self { sandbox }
    }

    /// A directory beside it, which is there and empty.
    fn new() -> Self {
        let host = Self::of(|sandbox| text(&sandbox.path("orders.git")).to_owned());
        git(&host.sandbox.path(""), &["init", "-q", "--bare", "-b", "master", "orders.git"]);
        host
    }

    fn server(&self) -> PathBuf {
        self.sandbox.path("orders.git")
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
    }

    fn mirror(&self) -> PathBuf {
        self.sandbox.state().join("mirrors/orders.git")
    }

    /// Run a command, killed at the so-manieth time that anything becomes visible. Whether it was.
    fn killed_at(&self, step: usize, arguments: &[&str]) -> bool {
        // Everything that becomes visible becomes so by one of these.
        let traced = "rename,renameat,renameat2,unlink,unlinkat,link,linkat,mkdir,rmdir";
        let belay = self.sandbox.belay_command(arguments);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={traced}"), "-e"]);
        strace.arg(format!("inject={traced}:signal=KILL:when={step}"));
        strace.arg(belay.get_program()).args(belay.get_args());
        self.sandbox.tidy(&mut strace);
        !strace.output().expect("strace is needed").status.success()
    }

    /// Commits that were taken to the end: in packs of the mirror, or on their way there.
    fn taken(&self) -> BTreeSet<Oid> {
        let both = self.sandbox.fresh_directory();
        let repository = Repository::init_bare(both.path()).unwrap();
        for directory in ["objects/pack", "belay-incoming/objects/pack"] {
            let entries = fs::read_dir(self.mirror().join(directory));
            for path in entries.into_iter().flatten().map(|entry| entry.unwrap().path()) {
                let name = path.file_name().unwrap();
                fs::hard_link(&path, both.path().join("objects/pack").join(name)).unwrap();
            }
        }
        let odb = repository.odb().unwrap();
        let mut found = BTreeSet::new();
        odb.foreach(|id| {
            if odb.read_header(*id).is_ok_and(|(_, kind)| kind == ObjectType::Commit) {
                found.insert(*id);
            }
            true
        })
        .unwrap();
        found
    }
}

/// Every commit that some ref leads to; none where there is no git repository.
fn reachable(path: &Path) -> BTreeSet<Oid> {
    let Ok(repository) = Repository::open_bare(path) else { return BTreeSet::new() };
    let mut walk = repository.revwalk().unwrap();
    walk.push_glob("refs/*").unwrap();
    walk.map(Result::unwrap).collect()
}

#[test]
fn a_fetch_or_a_restore_that_is_killed_at_any_step_is_finished_by_the_next() {
    let host = Host::new();
    let (server, work) = (host.server(), host.sandbox.path("work"));
    fs::create_dir(&work).unwrap();
    git(&work, &["init", "-q", "-b", "master"]);
    git(&work, &["remote", "add", "origin", text(&server)]);
    let commit = |name: &str| {
        fs::write(work.join("file"), name).unwrap();
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", name]);
        Oid::from_str(&git(&work, &["rev-parse", "HEAD"])).unwrap()
    };
    let base = commit("base");
    let mut before = BTreeSet::from([base]);
    for name in ["topic1", "topic2"] {
        git(&work, &["checkout", "-q", "-b", name, "master"]);
        before.insert(commit(name));
    }
    git(&work, &["push", "-q", "origin", "--all"]);
    host.belay(&["apps", "fetch"]).ok();
    assert_eq!(reachable(&host.mirror()), before);

    // What the killed one sees, and what the next one sees: another master, and nothing of the first.
    let (seen, later) = (host.sandbox.path("seen.git"), host.sandbox.path("later.git"));
    git(&work, &["push", "-q", "origin", "--delete", "topic1", "topic2"]);
    let copy = |from: &Path, to: &Path| {
        let _ = fs::remove_dir_all(to);
        let mut copy = Command::new("cp");
        copy.args(["-a", text(from), text(to)]);
        Run::of(copy).ok();
    };
    copy(&server, &later);
    git(&work, &["checkout", "-q", "master"]);
    let pushed_away = commit("pushed away");
    git(&work, &["push", "-q", "origin", "master"]);
    fs::rename(&server, &seen).unwrap();
    git(&work, &["reset", "-q", "--hard", "HEAD~1"]);
    let last = commit("last");
    git(&work, &["push", "-q", text(&later), "master"]);
    let (state, kept_state) = (host.sandbox.state(), host.sandbox.path("kept-state"));
    copy(&state, &kept_state);

    let (mut kills, mut without_refs) = (0, 0);
    for step in 1.. {
        copy(&kept_state, &state);
        fs::rename(&seen, &server).unwrap();
        let is_killed = host.killed_at(step, &["apps", "fetch"]);
        fs::rename(&server, &seen).unwrap();
        let (taken, there) = (host.taken(), reachable(&host.mirror()));
        assert!(there.is_superset(&before), "step {step}: {there:?}");
        let is_taken = taken.contains(&pushed_away);
        without_refs += usize::from(is_taken && !there.contains(&pushed_away));

        fs::rename(&later, &server).unwrap();
        host.belay(&["apps", "fetch"]).ok();
        fs::rename(&server, &later).unwrap();
        let there = reachable(&host.mirror());
        assert!(there.is_superset(&before) && there.contains(&last), "step {step}");
        assert!(there.is_superset(&taken), "step {step}: {taken:?} {there:?}");
        let kept = host.belay(&["apps", "log", "orders", "--kept", "--json"]).ok().json();
        let mut names: Vec<&str> = kept["kept"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        names.sort_unstable();
        let mut expected = vec!["refs/heads/topic1", "refs/heads/topic2"];
        if is_taken {
            expected.insert(0, "refs/heads/master");
        }
        assert_eq!(names, expected, "step {step}: {kept}");
        git(&host.mirror(), &["fsck", "--full", "--strict"]);
        if !is_killed {
            break;
        }
        kills += 1;
    }
    assert!(kills > 5 && without_refs > 0, "{kills} steps, {without_refs} without refs");

    // A restore: the branch is made by the next one.
    fs::rename(&later, &server).unwrap();
    for step in 1.. {
        let restore = ["apps", "restore", "orders", "--at", &base.to_string(), "--branch", "back"];
        let is_killed = host.killed_at(step, &restore);
        host.belay(&restore).ok();
        git(&host.mirror(), &["rev-parse", "refs/belay/restored/back"]);
        if !is_killed {
            break;
        }
        assert!(step < 100);
    }
}

/// Whether a process is there and has not ended.
fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// The child of a process that runs this command.
fn child_of(parent: u32, word: &str) -> Option<String> {
    let of = |entry: fs::DirEntry| {
        let pid = entry.file_name().into_string().ok()?;
        let command = fs::read_to_string(entry.path().join("cmdline")).ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let is_child = status.lines().any(|line| line == format!("PPid:\t{parent}"));
        (is_child && command.split('\0').any(|it| it == word)).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().filter_map(Result::ok).find_map(of)
}

#[test]
fn what_talks_to_a_git_server_ends_with_whoever_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let host = Host::of(|_| format!("http://127.0.0.1:{port}/orders.git"));
    let asking = host.sandbox.start(&["apps", "fetch"]);
    let _connection = silent.accept().unwrap();
    let worker = child_of(asking.id(), "git-worker").expect("somebody has connected");
    assert!(is_running(&worker));
    asking.kill();
    wait_until("the end of what talks to the git server", || !is_running(&worker));
}

#[test]
fn a_snapshot_has_what_it_says_and_is_none_where_a_mirror_changes_while_it_is_read() {
    let host = Host::new();
    let work = host.sandbox.path("work");
    git(&host.sandbox.path(""), &["clone", "-q", text(&host.server()), "work"]);
    git(&work, &["commit", "-q", "--allow-empty", "-m", "one"]);
    git(&work, &["push", "-q", "origin", "HEAD:master"]);
    host.belay(&["backup", "orders"]).ok();
    for is_disturbed in [false, true] {
        // Stopped while it reads the mirror: nothing but a snapshot opens this directory.
        let directory = host.mirror().join("info");
        let trace = host.sandbox.path("trace");
        let _ = fs::remove_file(&trace);
        let belay = host.sandbox.belay_command(&["backup", "orders"]);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", text(&trace), "-P", text(&directory)]);
        strace.args(["-e", "trace=getdents64", "-e", "inject=getdents64:signal=STOP:when=1"]);
        strace.arg(belay.get_program()).args(belay.get_args());
        host.sandbox.tidy(&mut strace);
        let mut running = Running::start(strace);
        let said = || fs::read_to_string(&trace).unwrap_or_default();
        wait_until("the reading of the mirror", || {
            running.has_ended() || said().contains("stopped by SIGSTOP")
        });
        assert!(!running.has_ended(), "{}", said());
        let pid = child_of(running.id(), "backup").unwrap().parse().unwrap();

        // Whoever would change it has to wait.
        let lock = fs::File::open(host.mirror().with_extension("lock")).unwrap();
        let locked = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert_eq!(locked, Err(rustix::io::Errno::WOULDBLOCK));
        if is_disturbed {
            git(&host.mirror(), &["update-ref", "refs/heads/by-hand", "refs/heads/master"]);
        }
        kill_process(Pid::from_raw(pid).unwrap(), Signal::CONT).unwrap();
        let run = running.wait();
        if is_disturbed {
            run.code(1).says(&["changed while it was read", "not by Belay"]);
        } else {
            run.ok();
        }
    }
    assert_eq!(host.sandbox.list().len(), 2);
}

/// What happens to a git repository, its mirror, and the repository of snapshots.
#[derive(Clone, Debug)]
enum Step {
    Commit(u8),
    Merge(u8, u8),
    /// A branch is forced to, or made at, any commit.
    Force(u8, u8),
    Rename(u8, u8),
    Delete(u8),
    /// The whole history is replaced by another one.
    Replace,
    Fetch {
        is_new_history: bool,
    },
    /// A fetch that is killed at some step.
    Killed(usize),
    Snapshot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let branch = || 0..4u8;
    let step = prop_oneof![
        4 => branch().prop_map(Step::Commit),
        1 => (branch(), branch()).prop_map(|(one, other)| Step::Merge(one, other)),
        3 => (branch(), any::<u8>()).prop_map(|(branch, to)| Step::Force(branch, to)),
        1 => (branch(), branch()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => branch().prop_map(Step::Delete),
        1 => Just(Step::Replace),
        1 => any::<bool>().prop_map(|is_new_history| Step::Fetch { is_new_history }),
        3 => (1..60usize).prop_map(Step::Killed),
        3 => Just(Step::Snapshot),
    ];
    prop::collection::vec(step, 8..24)
}

/// Branches of which one is in another's way.
fn branch(number: u8) -> &'static str {
    ["refs/heads/master", "refs/heads/a", "refs/heads/a/b", "refs/heads/c"][usize::from(number)]
}

/// A host, the git repository, and what is known of both.
struct History {
    host: Host,
    server: Repository,
    commits: Vec<Oid>,
    /// What a fetch took that was killed, or refused it: reachable when the next one has succeeded.
    taken: BTreeSet<Oid>,
    /// What has to be reachable.
    seen: BTreeSet<Oid>,
}

impl History {
    fn new() -> Self {
        let host = Host::new();
        let server = Repository::open_bare(host.server()).unwrap();
        let (taken, seen) = (BTreeSet::new(), BTreeSet::new());
        let mut history = Self { host, server, commits: Vec::new(), taken, seen };
        let first = history.commit(&[]);
        history.set(0, first);
        history
    }

    fn commit(&mut self, parents: &[Oid]) -> Oid {
        let text = format!("commit {}", self.commits.len());
        let mut tree = self.server.treebuilder(None).unwrap();
        let blob = self.server.blob(text.as_bytes()).unwrap();
        tree.insert("file", blob, 0o100_644).unwrap();
        let tree = self.server.find_tree(tree.write().unwrap()).unwrap();
        let seconds = i64::try_from(self.commits.len()).unwrap();
        let time = git2::Time::new(seconds, 0);
        let who = git2::Signature::new("Dev", "dev@example.com", &time).unwrap();
        let parents: Vec<_> =
            parents.iter().map(|id| self.server.find_commit(*id).unwrap()).collect();
        let parents: Vec<_> = parents.iter().collect();
        let id = self.server.commit(None, &who, &who, &text, &tree, &parents).unwrap();
        self.commits.push(id);
        id
    }

    /// One that is in another's way is refused, as git does.
    fn set(&self, number: u8, id: Oid) {
        let _ = self.server.reference(branch(number), id, true, "");
    }

    fn tip(&self, number: u8) -> Option<Oid> {
        self.server.find_reference(branch(number)).ok()?.target()
    }

    fn remove(&self, number: u8) {
        if let Ok(mut found) = self.server.find_reference(branch(number)) {
            found.delete().unwrap();
        }
    }

    /// A command that fetches has ended so; what it saw was there.
    fn fetched(&mut self, there: BTreeSet<Oid>, is_done: bool) {
        if is_done {
            self.seen.append(&mut self.taken);
            self.seen.extend(there);
        } else if self.host.mirror().exists() {
            let taken = self.host.taken();
            self.taken.extend(taken);
        }
    }

    /// Returns the snapshot, where one was taken.
    fn perform(&mut self, step: &Step) -> Option<String> {
        match *step {
            Step::Commit(number) => {
                if let Some(parent) = self.tip(number) {
                    let new = self.commit(&[parent]);
                    self.set(number, new);
                }
            }
            Step::Merge(one, other) => {
                if let (Some(ours), Some(theirs)) = (self.tip(one), self.tip(other)) {
                    let new = self.commit(&[ours, theirs]);
                    self.set(one, new);
                }
            }
            Step::Force(number, to) => {
                self.set(number, self.commits[usize::from(to) % self.commits.len()]);
            }
            Step::Rename(from, to) => {
                if let Some(target) = self.tip(from).filter(|_| from != to && from != 0) {
                    self.remove(from);
                    self.set(to, target);
                }
            }
            Step::Delete(number) if number != 0 => self.remove(number),
            Step::Delete(_) => {}
            Step::Replace => {
                (1..4).for_each(|number| self.remove(number));
                let new = self.commit(&[]);
                self.set(0, new);
            }
            Step::Fetch { is_new_history } => {
                let there = reachable(self.server.path());
                let arguments = ["apps", "fetch", "orders", "--new-history"];
                let arguments = &arguments[..if is_new_history { 4 } else { 3 }];
                let run = self.host.belay(arguments).code_in(&[0, 1]);
                let is_done = run.exit_code() == Some(0);
                assert!(is_done || !is_new_history, "{run}");
                self.fetched(there, is_done);
            }
            Step::Killed(step) => {
                let there = reachable(self.server.path());
                let is_done = !self.host.killed_at(step, &["apps", "fetch", "orders"]);
                self.fetched(there, is_done);
            }
            Step::Snapshot => {
                let there = reachable(self.server.path());
                let run = self.host.belay(&["backup", "orders", "--json"]).code_in(&[0, 1]);
                let is_done = run.exit_code() == Some(0);
                self.fetched(there, is_done);
                if is_done {
                    return Some(run.json()["snapshots"][0]["id"].as_str().unwrap().to_owned());
                }
            }
        }
        None
    }
}

#[test]
fn a_commit_once_seen_is_in_the_mirror_and_in_every_snapshot_after_it() {
    let cases = size("BELAY_MIRROR_HISTORIES", 6) as u32;
    let config = ProptestConfig { cases, max_shrink_iters: 40, ..ProptestConfig::default() };
    // The same ones each time; more of them where more are asked for.
    let random = TestRng::deterministic_rng(config.rng_algorithm);
    let (snapshots, killed) = (Cell::new(0), Cell::new(0));
    let checked = TestRunner::new_with_rng(config, random).run(&steps(), |steps| {
        let mut history = History::new();
        // The last one shows what came of all.
        for step in steps.iter().chain(&[Step::Fetch { is_new_history: true }, Step::Snapshot]) {
            let snapshot = history.perform(step);
            let there = reachable(&history.host.mirror());
            let lost: Vec<_> = history.seen.difference(&there).collect();
            prop_assert!(lost.is_empty(), "the mirror has lost {:?}", lost);
            killed.update(|it| it + usize::from(!history.taken.is_empty()));
            let Some(snapshot) = snapshot else { continue };
            snapshots.update(|it| it + 1);
            let restored = history.host.sandbox.restore(&snapshot);
            let there = reachable(&restored.root().join("apps/orders.git"));
            let lost: Vec<_> = history.seen.difference(&there).collect();
            prop_assert!(lost.is_empty(), "snapshot {snapshot} has lost {:?}", lost);
        }
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    let (snapshots, killed) = (snapshots.get(), killed.get());
    assert!(snapshots >= 6 && killed > 0, "{snapshots} snapshots, {killed} kills");
}
