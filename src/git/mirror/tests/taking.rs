//! Git repositories of this machine that have not all of their history, or refs to more than commits.

use super::*;
use crate::git::copy;
use std::process::Command;

fn git(directory: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(directory).args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null");
    let done = git.output().expect("git is needed: apt-get install git");
    assert!(done.status.success(), "{arguments:?}: {done:?}");
}

#[test]
fn a_git_repository_without_all_of_its_history_can_be_fetched_once_it_has_it() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    let second = pair.commit(&[first]);
    pair.set("refs/heads/master", second);
    let whole = format!("file://{}", pair.server.path().display());
    let shallow = pair.directory.path().join("shallow.git");
    let clone = ["clone", "-q", "--bare", "--depth=1", "--branch=master", &whole];
    git(pair.directory.path(), &[&clone[..], &[shallow.to_str().unwrap()]].concat());
    pair.server = Repository::open_bare(&shallow).unwrap();
    for _ in 0..2 {
        let error = pair.fetch_as(false).err().unwrap();
        assert!(matches!(error, GitError::Incomplete { .. }), "{error}");
        assert!(error.hint().unwrap().contains("--unshallow"), "{error:?}");
        assert!(!pair.has_taken(second), "what has no history is not among the mirror's objects");
    }
    git(&shallow, &["fetch", "-q", "--unshallow", &whole]);
    pair.fetch();
    assert_eq!(reachable(pair.mirror().repository()), [first, second].into());
}

#[test]
fn tags_of_directories_files_and_tags_are_in_nobodys_way() {
    let mut pair = Pair::new();
    let mut tip = pair.commit(&[]);
    pair.set("refs/heads/main", tip);
    // Nothing but a tag of a tag leads to these.
    let behind = pair.commit(&[]);
    let apart = pair.commit(&[behind]);
    {
        let (server, who) = (&pair.server, Signature::now("Dev", "dev@example.com").unwrap());
        let tree = server.find_commit(tip).unwrap().tree().unwrap().into_object();
        let blob = tree.as_tree().unwrap().get(0).unwrap().to_object(server).unwrap();
        let commit = server.find_object(apart, None).unwrap();
        server.tag("directory", &tree, &who, "a directory", false).unwrap();
        server.tag("file", &blob, &who, "a file", false).unwrap();
        let once = server.tag_annotation_create("once", &commit, &who, "once").unwrap();
        let once = server.find_object(once, None).unwrap();
        server.tag("twice", &once, &who, "twice", false).unwrap();
        server.reference("refs/tags/plain", tree.id(), false, "").unwrap();
    }
    for _ in 0..3 {
        pair.fetch();
        let mirror = pair.mirror();
        assert_eq!(
            mirror.refs().unwrap(),
            Mirror::open(pair.server.path()).unwrap().unwrap().refs().unwrap()
        );
        git(mirror.path(), &["fsck", "--full", "--strict", "--no-dangling"]);
        tip = pair.commit(&[tip]);
        pair.set("refs/heads/main", tip);
    }
}

#[test]
fn a_mirror_that_has_a_commit_without_its_history_takes_it_anew() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.fetch();
    let second = pair.commit(&[first]);
    let third = pair.commit(&[second]);
    copy::pack(&pair.server, pair.mirror().repository(), [third].into_iter(), &|_, _| {}).unwrap();
    pair.set("refs/heads/main", third);
    pair.fetch();
    let mirror = pair.mirror();
    assert_eq!(reachable(mirror.repository()), [first, second, third].into());
    git(mirror.path(), &["fsck", "--full", "--strict"]);
}

#[test]
fn many_refs_go_at_once_and_each_is_kept() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    let mut commits = vec![first];
    for number in 0..300 {
        let commit = pair.commit(&[first]);
        pair.set(&format!("refs/heads/topic/{number}"), commit);
        commits.push(commit);
    }
    pair.set("refs/heads/main", first);
    pair.fetch();
    for number in 0..300 {
        pair.remove(&format!("refs/heads/topic/{number}"));
    }
    let told = std::cell::Cell::new(0);
    let url = pair.server.path().to_str().unwrap().to_owned();
    let address =
        Address { url, user: String::new(), token: None, ssh_key: None, ssh_passphrase: None };
    let fetched =
        fetch::fetch(&pair.mirror(), &address, false, pair.now, &|_, _| told.update(|it| it + 1));
    let fetched = fetched.unwrap();
    assert_eq!((fetched.rewritten.len(), fetched.refs), (300, 1));
    assert!(fetched.rewritten.iter().all(|it| it.commits_dropped == 1));
    assert!(told.get() >= 600, "{} times", told.get());
    let mirror = pair.mirror();
    assert_eq!(journal::kept(&mirror).unwrap().len(), 300);
    assert_eq!(reachable(mirror.repository()), commits.into_iter().collect());
    assert_eq!(std::fs::read_dir(mirror.path().join("refs/heads")).unwrap().count(), 0);
    git(mirror.path(), &["fsck", "--full", "--strict"]);
}
