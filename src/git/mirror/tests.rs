//! Mirrors of git repositories that are written to, rewritten, and fetched with interruptions.

mod ended;
mod taking;

use super::alive::kill_after;
use super::fetch::{self, Fetched};
use super::*;
use crate::git::journal;
use crate::git::remote::Address;
use git2::{Commit, Signature, Time};
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A git repository that somebody writes to, and its mirror.
struct Pair {
    directory: tempfile::TempDir,
    server: Repository,
    clock: i64,
    now: Timestamp,
}

impl Pair {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Repository::init_bare(directory.path().join("server.git")).unwrap();
        let now = "2026-01-05T12:00:00Z".parse().unwrap();
        Self { directory, server, clock: 0, now }
    }

    fn mirror(&self) -> Mirror {
        Mirror::make(&self.directory.path().join("mirror.git")).unwrap()
    }

    fn fetch_as(&mut self, is_new_history: bool) -> Result<Fetched, GitError> {
        self.now += jiff::SignedDuration::from_secs(60);
        let url = self.server.path().to_str().unwrap().to_owned();
        let address =
            Address { url, user: String::new(), token: None, ssh_key: None, ssh_passphrase: None };
        fetch::fetch(&self.mirror(), &address, is_new_history, self.now, &|_, _| {})
    }

    fn fetch(&mut self) -> Fetched {
        self.fetch_as(false).unwrap()
    }

    /// A commit with a file of its own.
    fn commit(&mut self, parents: &[Oid]) -> Oid {
        self.clock += 1;
        let text = format!("commit {}", self.clock);
        let blob = self.server.blob(text.as_bytes()).unwrap();
        let mut tree = self.server.treebuilder(None).unwrap();
        tree.insert(format!("file{}", self.clock % 7), blob, 0o100_644).unwrap();
        let tree = self.server.find_tree(tree.write().unwrap()).unwrap();
        let who = Signature::new("Dev", "dev@example.com", &Time::new(self.clock, 0)).unwrap();
        let parents: Vec<Commit<'_>> =
            parents.iter().map(|id| self.server.find_commit(*id).unwrap()).collect();
        let parents: Vec<&Commit<'_>> = parents.iter().collect();
        self.server.commit(None, &who, &who, &text, &tree, &parents).unwrap()
    }

    /// Whether the mirror has an object, or what is being taken into it, or what is halfway between.
    fn has_taken(&self, id: Oid) -> bool {
        let mirror = self.mirror();
        let path = mirror.path().join("belay-incoming");
        let packs = std::fs::read_dir(path.join("objects/pack"));
        let has_index = packs.is_ok_and(|mut packs| {
            packs.any(|it| it.unwrap().path().extension().is_some_and(|it| it == "idx"))
        });
        has_index || mirror.repository().find_object(id, None).is_ok()
    }

    fn set(&self, name: &str, id: Oid) {
        self.server.reference(name, id, true, "").unwrap();
    }

    fn remove(&self, name: &str) {
        self.server.find_reference(name).unwrap().delete().unwrap();
    }

    /// Drop what no ref leads to, as `git gc --prune=now` does.
    fn collect_garbage(&mut self) {
        let git = std::process::Command::new("git")
            .args(["-c", "gc.reflogExpire=now", "gc", "--quiet", "--prune=now"])
            .current_dir(self.server.path())
            .output()
            .expect("git is needed: apt-get install git");
        assert!(git.status.success(), "{git:?}");
        // libgit2 remembers what it has seen.
        self.server = Repository::open_bare(self.server.path()).unwrap();
    }
}

/// Every commit that some ref leads to.
fn reachable(repository: &Repository) -> BTreeSet<Oid> {
    let mut walk = repository.revwalk().unwrap();
    walk.push_glob("refs/*").unwrap();
    walk.map(Result::unwrap).collect()
}

#[test]
fn what_is_pushed_moves_forwards_and_what_is_pushed_away_is_kept() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    let second = pair.commit(&[first]);
    pair.set("refs/heads/main", second);
    pair.set("refs/heads/topic", first);
    pair.set("refs/tags/v1", first);
    let fetched = pair.fetch();
    assert_eq!((fetched.created, fetched.moved, fetched.rewritten.len()), (3, 0, 0));

    let third = pair.commit(&[second]);
    pair.set("refs/heads/main", third);
    let fetched = pair.fetch();
    assert_eq!((fetched.created, fetched.moved, fetched.rewritten.len()), (0, 1, 0));

    // Forced back and on, a tag moved, a branch removed: one entry each, and the old commits stay.
    let other = pair.commit(&[first]);
    pair.set("refs/heads/main", other);
    pair.set("refs/tags/v1", other);
    pair.remove("refs/heads/topic");
    pair.collect_garbage();
    assert!(pair.server.find_commit(third).is_err());
    let fetched = pair.fetch();
    let said: Vec<_> = fetched
        .rewritten
        .iter()
        .map(|it| (it.name.as_str(), it.to.is_some(), it.commits_dropped))
        .collect();
    assert_eq!(
        said,
        [("refs/heads/main", true, 2), ("refs/tags/v1", true, 0), ("refs/heads/topic", false, 0)]
    );
    let mirror = pair.mirror();
    assert_eq!(journal::kept(&mirror).unwrap().len(), 3);
    assert!(reachable(mirror.repository()).is_superset(&[first, second, third, other].into()));
    let kept = &fetched.rewritten[0].kept;
    assert_eq!(mirror.commit(kept).unwrap(), third, "{kept}");

    // Nothing new is nothing.
    let fetched = pair.fetch();
    assert_eq!((fetched.created, fetched.moved, fetched.rewritten.len()), (0, 0, 0));
    assert_eq!(journal::kept(&mirror).unwrap().len(), 3);
}

#[test]
fn a_branch_may_take_the_place_of_a_directory_of_branches() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.set("refs/heads/a/b", first);
    pair.fetch();
    pair.remove("refs/heads/a/b");
    pair.set("refs/heads/a", first);
    pair.fetch();
    pair.remove("refs/heads/a");
    pair.set("refs/heads/a/c", first);
    pair.fetch();
    assert_eq!(pair.mirror().branch("a/c"), Some(first));
    assert_eq!(pair.mirror().branch("a"), None);
}

#[test]
fn emptied_replaced_and_missing_git_repositories_touch_nothing() {
    let mut pair = Pair::new();
    assert_eq!(pair.fetch().refs, 0, "it may be empty to begin with");
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.fetch();
    let before = pair.mirror().refs().unwrap();

    pair.remove("refs/heads/main");
    assert!(matches!(pair.fetch_as(false), Err(GitError::Emptied { refs: 1, .. })));
    let stranger = pair.commit(&[]);
    pair.set("refs/heads/main", stranger);
    assert!(matches!(pair.fetch_as(false), Err(GitError::Unrelated { .. })));
    assert_eq!(pair.mirror().refs().unwrap(), before);

    std::fs::rename(pair.server.path(), pair.directory.path().join("away")).unwrap();
    assert!(matches!(pair.fetch_as(false), Err(GitError::Unreachable { .. })));
    assert_eq!(pair.mirror().refs().unwrap(), before);
    std::fs::rename(pair.directory.path().join("away"), pair.server.path()).unwrap();

    // A person says that it is meant: the old history is kept.
    let fetched = pair.fetch_as(true).unwrap();
    assert_eq!(fetched.rewritten.len(), 1);
    assert!(reachable(pair.mirror().repository()).is_superset(&[first, stranger].into()));
}

#[test]
fn what_arrives_without_all_that_belongs_to_it_is_refused() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.fetch();
    let before = pair.mirror().refs().unwrap();
    let second = pair.commit(&[first]);
    pair.set("refs/heads/main", second);
    // The server has lost a file.
    let id = {
        let tree = pair.server.find_commit(second).unwrap().tree().unwrap();
        tree.get(0).unwrap().id().to_string()
    };
    std::fs::remove_file(pair.server.path().join("objects").join(&id[..2]).join(&id[2..])).unwrap();
    assert!(pair.fetch_as(false).is_err());
    assert_eq!(pair.mirror().refs().unwrap(), before);
}

#[test]
fn a_pack_that_was_damaged_is_found() {
    let mut pair = Pair::new();
    let mut tip = pair.commit(&[]);
    for _ in 0..20 {
        tip = pair.commit(&[tip]);
    }
    pair.set("refs/heads/main", tip);
    pair.collect_garbage();
    pair.fetch();
    let mirror = pair.mirror();
    let packs = mirror.verify(&BTreeSet::new()).unwrap();
    assert_eq!(packs.len(), 1);
    let pack = mirror.path().join("objects/pack").join(packs.first().unwrap());
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let error = pair.mirror().verify(&BTreeSet::new()).err().unwrap().to_string();
    assert!(error.contains("pack-") || error.contains("leads to"), "{error}");
}

/// What happens to a git repository and its mirror.
#[derive(Clone, Debug)]
enum Step {
    Commit(u8),
    Merge(u8, u8),
    Force(u8, u8),
    Branch(u8, u8),
    Rename(u8, u8),
    Delete(u8),
    Tag(u8, u8),
    Collect,
    Fetch,
    /// A fetch that is killed after so many changes of the mirror.
    Killed(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let branch = || 0..5u8;
    let step = prop_oneof![
        4 => branch().prop_map(Step::Commit),
        1 => (branch(), branch()).prop_map(|(one, other)| Step::Merge(one, other)),
        2 => (branch(), any::<u8>()).prop_map(|(branch, to)| Step::Force(branch, to)),
        2 => (branch(), any::<u8>()).prop_map(|(branch, at)| Step::Branch(branch, at)),
        1 => (branch(), branch()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => branch().prop_map(Step::Delete),
        1 => (0..3u8, any::<u8>()).prop_map(|(tag, at)| Step::Tag(tag, at)),
        1 => Just(Step::Collect),
        4 => Just(Step::Fetch),
        3 => (0..20usize).prop_map(Step::Killed),
    ];
    prop::collection::vec(step, 1..40)
}

/// Branches of which some are in each other's way.
fn branch(number: u8) -> &'static str {
    ["refs/heads/main", "refs/heads/a", "refs/heads/a/b", "refs/heads/c", "refs/heads/c/d/e"]
        [usize::from(number)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn a_commit_once_seen_is_never_lost(steps in steps()) {
        let mut pair = Pair::new();
        let mut commits = vec![pair.commit(&[])];
        pair.set("refs/heads/main", commits[0]);
        let (mut seen, mut taken) = (BTreeSet::new(), BTreeSet::new());
        let (mut rewrites, mut before) = (0, pair.mirror().refs().unwrap());
        for step in steps {
            let at = |number: u8| branch(number);
            let tip = |pair: &Pair, number: u8| {
                pair.server.find_reference(at(number)).ok().and_then(|it| it.target())
            };
            let any = |commits: &[Oid], pair: &Pair, number: u8| {
                let alive: Vec<Oid> = commits.iter().copied().filter(|id| pair.server.find_commit(*id).is_ok()).collect();
                alive.get(usize::from(number) % alive.len().max(1)).copied()
            };
            match step {
                Step::Commit(number) => if let Some(parent) = tip(&pair, number) {
                    let new = pair.commit(&[parent]);
                    commits.push(new);
                    pair.set(at(number), new);
                },
                Step::Merge(one, other) => if let (Some(ours), Some(theirs)) = (tip(&pair, one), tip(&pair, other)) {
                    let new = pair.commit(&[ours, theirs]);
                    commits.push(new);
                    pair.set(at(one), new);
                },
                Step::Force(number, to) | Step::Branch(number, to) => if let Some(to) = any(&commits, &pair, to) {
                    // One that is in another's way is refused, as git does.
                    let _ = pair.server.reference(at(number), to, true, "");
                },
                Step::Rename(from, to) => if let Some(target) = tip(&pair, from).filter(|_| from != to && from != 0) {
                    pair.remove(at(from));
                    let _ = pair.server.reference(at(to), target, true, "");
                },
                Step::Delete(number) => if number != 0 && tip(&pair, number).is_some() {
                    pair.remove(at(number));
                },
                Step::Tag(tag, to) => if let Some(to) = any(&commits, &pair, to) {
                    pair.set(&format!("refs/tags/v{tag}"), to);
                },
                Step::Collect => pair.collect_garbage(),
                Step::Fetch | Step::Killed(_) => {
                    if let Step::Killed(steps) = step {
                        kill_after(Some(steps));
                    }
                    let there = reachable(&pair.server);
                    // What an earlier one took that did not end gets its refs now.
                    let earlier = std::mem::take(&mut taken);
                    let is_done = pair.fetch_as(false).is_ok();
                    kill_after(None);
                    if is_done {
                        seen.extend(there.into_iter().chain(earlier));
                        let server: BTreeMap<String, Oid> = Mirror::open(pair.server.path()).unwrap().unwrap().refs().unwrap();
                        let mirror = pair.mirror();
                        let theirs: BTreeMap<String, Oid> = mirror.refs().unwrap().into_iter().filter(|(name, _)| is_theirs(name)).collect();
                        prop_assert_eq!(&theirs, &server);
                        // As many entries as refs that did not just move forwards since the fetch before; those of one
                        // that was killed are finished, and told once.
                        let kept = journal::kept(&mirror).unwrap();
                        let names: BTreeSet<_> = kept.iter().map(|it| (&it.seen_at, &it.name)).collect();
                        prop_assert_eq!(names.len(), kept.len());
                        prop_assert!(kept.len() >= rewrites);
                        rewrites = kept.len();
                        before = theirs;
                    } else {
                        taken.extend(earlier);
                        taken.extend(there.into_iter().filter(|id| pair.has_taken(*id)));
                    }
                    let there = reachable(pair.mirror().repository());
                    prop_assert!(there.is_superset(&seen), "lost: {:?}", seen.difference(&there).collect::<Vec<_>>());
                }
            }
        }
        prop_assert!(before.len() < 20);
    }
}

#[test]
fn many_refs_lie_in_one_file_and_move_as_before() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    let second = pair.commit(&[first]);
    for number in 0..100 {
        pair.set(&format!("refs/heads/b{number}"), first);
    }
    let object = pair.server.find_object(first, None).unwrap();
    let who = Signature::new("Dev", "dev@example.com", &Time::new(0, 0)).unwrap();
    pair.server.tag("v1", &object, &who, "a tag", false).unwrap();
    drop(object);
    pair.fetch();
    let path = pair.mirror().path().to_owned();
    let packed = std::fs::read_to_string(path.join("packed-refs")).unwrap();
    assert_eq!(packed.lines().filter(|line| line.contains("refs/heads/b")).count(), 100);
    assert!(packed.contains(&format!("\n^{first}\n")), "{packed}");
    assert!(!path.join("refs/heads/b7").exists());

    pair.set("refs/heads/b7", second);
    pair.remove("refs/heads/b8");
    let fetched = pair.fetch();
    assert_eq!((fetched.moved, fetched.rewritten.len(), fetched.refs), (1, 1, 100));
    assert_eq!(pair.mirror().branch("b7"), Some(second));
    assert_eq!(pair.mirror().branch("b8"), None);
    let said = std::process::Command::new("git")
        .args(["for-each-ref", "--format=%(objectname) %(refname)"])
        .current_dir(&path)
        .output()
        .unwrap();
    let refs = pair.mirror().refs().unwrap();
    let ours: Vec<String> = refs.iter().map(|(name, id)| format!("{id} {name}")).collect();
    assert_eq!(String::from_utf8(said.stdout).unwrap().lines().collect::<Vec<_>>(), ours);
}
