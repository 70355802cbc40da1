//! Fetches that were ended, or refused, between taking things and giving them refs, while others push.

use super::*;
use crate::git::copy;
use crate::git::mirror::incoming::Incoming;
use crate::git::mirror::seen;

#[test]
fn what_was_taken_and_pushed_away_before_refs_could_lead_to_it_is_kept() {
    let (mut without_refs, mut steps) = (0, 0);
    loop {
        let mut pair = Pair::new();
        let first = pair.commit(&[]);
        pair.set("refs/heads/main", first);
        pair.fetch();
        let second = pair.commit(&[first]);
        let topic = pair.commit(&[first]);
        pair.set("refs/heads/main", second);
        pair.set("refs/heads/topic", topic);
        kill_after(Some(steps));
        let is_killed = pair.fetch_as(false).is_err();
        kill_after(None);
        let is_taken = pair.has_taken(second);
        let mirror = pair.mirror();
        without_refs += usize::from(is_taken && !reachable(mirror.repository()).contains(&second));

        let third = pair.commit(&[first]);
        pair.set("refs/heads/main", third);
        pair.remove("refs/heads/topic");
        pair.collect_garbage();
        pair.fetch();
        let there = reachable(mirror.repository());
        assert!(there.is_superset(&[first, third].into()));
        if is_taken {
            assert!(there.is_superset(&[second, topic].into()), "step {steps}");
            // It is told as what it is: what the git repository had, and has no more.
            let kept = journal::kept(&mirror).unwrap();
            let told: Vec<_> = kept
                .iter()
                .map(|it| (it.name.as_str(), it.from.clone(), it.to.clone(), it.commits_dropped))
                .collect();
            let (second, third, topic) = (second.to_string(), third.to_string(), topic.to_string());
            assert_eq!(
                told,
                [("refs/heads/main", second, Some(third), 1), ("refs/heads/topic", topic, None, 1)],
                "step {steps}"
            );
        }
        // Nothing of all that is left over.
        assert!(!mirror.refs().unwrap().keys().any(|name| name.starts_with("refs/belay/seen")));
        for file in ["belay-incoming", "belay-seen.json", "belay-pending.json"] {
            assert!(!mirror.path().join(file).exists(), "{file} at step {steps}");
        }
        if !is_killed {
            break;
        }
        steps += 1;
    }
    assert!(steps > 8 && without_refs > 3, "{steps} steps, {without_refs} without refs");
}

#[test]
fn what_was_taken_has_a_ref_before_the_git_server_is_asked_again() {
    for steps in 0..12 {
        let mut pair = Pair::new();
        let first = pair.commit(&[]);
        pair.set("refs/heads/main", first);
        pair.fetch();
        let second = pair.commit(&[first]);
        pair.set("refs/heads/main", second);
        kill_after(Some(steps));
        let _ = pair.fetch_as(false);
        kill_after(None);
        let is_taken = pair.has_taken(second);
        let away = pair.directory.path().join("away");
        std::fs::rename(pair.server.path(), &away).unwrap();
        assert!(matches!(pair.fetch_as(false), Err(GitError::Unreachable { .. })));
        let mirror = pair.mirror();
        assert_eq!(reachable(mirror.repository()).contains(&second), is_taken, "step {steps}");
        // A git repository that is as it was is told as nothing.
        std::fs::rename(&away, pair.server.path()).unwrap();
        let fetched = pair.fetch();
        assert_eq!(fetched.rewritten.len(), 0, "step {steps}");
        assert_eq!(mirror.branch("main"), Some(second));
    }
}

#[test]
fn what_was_refused_and_pushed_away_is_kept_once_a_person_says_that_it_is_meant() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.fetch();
    let before = pair.mirror().refs().unwrap();
    let stranger = pair.commit(&[]);
    pair.set("refs/heads/main", stranger);
    for _ in 0..2 {
        assert!(matches!(pair.fetch_as(false), Err(GitError::Unrelated { .. })));
        assert_eq!(pair.mirror().refs().unwrap(), before);
    }
    let other = pair.commit(&[]);
    pair.set("refs/heads/main", other);
    pair.collect_garbage();
    assert!(matches!(pair.fetch_as(false), Err(GitError::Unrelated { .. })));
    let fetched = pair.fetch_as(true).unwrap();
    let said: Vec<_> = fetched.rewritten.iter().map(|it| (&*it.from, it.to.as_deref())).collect();
    let [first_text, stranger_text, other_text] = [first, stranger, other].map(|id| id.to_string());
    assert_eq!(
        said,
        [
            (first_text.as_str(), Some(stranger_text.as_str())),
            (stranger_text.as_str(), Some(other_text.as_str()))
        ]
    );
    assert!(reachable(pair.mirror().repository()).is_superset(&[first, stranger, other].into()));
}

#[test]
fn what_was_refused_is_kept_when_the_git_repository_comes_back_and_dropped_when_it_was_elsewhere() {
    for is_elsewhere in [false, true] {
        let mut pair = Pair::new();
        let first = pair.commit(&[]);
        pair.set("refs/heads/main", first);
        pair.fetch();
        let stranger = pair.commit(&[]);
        pair.set("refs/heads/main", stranger);
        assert!(matches!(pair.fetch_as(false), Err(GitError::Unrelated { .. })));
        pair.set("refs/heads/main", first);
        if is_elsewhere {
            // The address was wrong, and is mended.
            let right = pair.directory.path().join("right.git");
            std::fs::rename(pair.server.path(), &right).unwrap();
            pair.server = Repository::open_bare(&right).unwrap();
        }
        let fetched = pair.fetch();
        assert_eq!(fetched.rewritten.len(), if is_elsewhere { 0 } else { 2 });
        let mirror = pair.mirror();
        assert_eq!(reachable(mirror.repository()).contains(&stranger), !is_elsewhere);
        assert_eq!(mirror.branch("main"), Some(first));
        assert_eq!(pair.fetch().rewritten.len(), 0);
    }
}

#[test]
fn of_what_is_not_whole_that_what_is_gets_a_ref() {
    let mut pair = Pair::new();
    let first = pair.commit(&[]);
    pair.set("refs/heads/main", first);
    pair.fetch();
    let good = pair.commit(&[first]);
    let missing = pair.commit(&[first]);
    let bad = pair.commit(&[missing]);
    let mirror = pair.mirror();
    let refs = [("refs/heads/bad", bad), ("refs/heads/good", good), ("refs/heads/main", first)];
    let refs = refs.into_iter().map(|(name, id)| (name.to_owned(), id)).collect();
    let url = pair.server.path().to_str().unwrap();
    seen::note(&mirror, &[], (url, pair.now), &refs).unwrap();
    let incoming = Incoming::make(&mirror).unwrap();
    incoming.borrow(&mirror, &[first].into()).unwrap();
    let tree = |id| pair.server.find_commit(id).unwrap().tree_id();
    let blob = |id| pair.server.find_tree(tree(id)).unwrap().get(0).unwrap().id();
    let sent = [good, tree(good), blob(good), bad, tree(bad), blob(bad)];
    copy::pack(&pair.server, incoming.repository(), sent.into_iter(), &|_, _| {}).unwrap();
    drop(incoming);
    seen::recover(&mirror, &|_, _| {}).unwrap();
    let mirror = pair.mirror();
    assert!(reachable(mirror.repository()).contains(&good));
    assert!(mirror.repository().find_commit(bad).is_err());
    // It is sent as a whole later.
    pair.set("refs/heads/bad", bad);
    pair.fetch();
    assert!(reachable(mirror.repository()).is_superset(&[missing, bad].into()));
}
