//! Every call to the store fails once, in every way: a restore fails, or restores exactly.

use super::bench::{Bench, Tree, copy_files, temporary, tree};
use super::*;
use crate::model::exact_path::ExactPath;
use crate::store::Store;
use crate::store::faulty::{Fault, FaultyStore};
use crate::store::local::LocalStore;
use std::path::Path;
use std::sync::Arc;

const FAULTS: [Fault; 3] = [Fault::Before, Fault::After, Fault::Forever];

fn faulty(directory: &Path, call: u64, fault: Fault) -> Arc<FaultyStore> {
    let inner: Arc<dyn Store> = Arc::new(LocalStore::new(directory));
    Arc::new(FaultyStore::new(inner, call, fault))
}

/// How many calls of each fault are tried at the same time: a lock takes its time, and nothing else does.
const AT_ONCE: u64 = 12;

/// Try every call with every fault, until there is no such call; `attempt` answers whether there was one.
fn for_every_call(attempt: impl Fn(&Bench, u64, Fault) -> bool + Sync) {
    std::thread::scope(|scope| {
        for (fault, first) in
            FAULTS.iter().flat_map(|fault| (1..=AT_ONCE).map(move |first| (*fault, first)))
        {
            let attempt = &attempt;
            scope.spawn(move || {
                let bench = Bench::new();
                bench.backed_up_and_changed(&bench.session());
                let mut call = first;
                while attempt(&bench, call, fault) {
                    call += AT_ONCE;
                }
            });
        }
    });
}

/// The instance as a snapshot has it that is restored into a directory.
fn restored_tree(target: &Path) -> Tree {
    let mut found = tree(&target.join("files"));
    found.retain(|path, _| path.contains('/'));
    found
}

#[test]
fn into_a_directory_it_fails_or_restores_exactly() {
    let latest = SnapshotRef::Latest("data".into());
    for_every_call(|bench, call, fault| {
        let copy = temporary();
        let repository = copy.path().join("repository");
        copy_files(&bench.path("repository"), &repository);
        let store = faulty(&repository, call, fault);
        let target = copy.path().join("target");
        let result = bench.session_of(Arc::clone(&store) as Arc<dyn Store>).and_then(|session| {
            let context = bench.context();
            to_dir((&session, None), &latest, &Wanted::default(), &target, false, &context)
        });
        let was_called = store.calls() >= call;
        assert!(was_called || result.is_ok() && call > 5, "{call} {fault:?}: {:?}", result.err());
        if result.is_ok() {
            let found = restored_tree(&target);
            assert_eq!(found["one/a"].1.as_deref(), Some(&b"old a"[..]), "{call} {fault:?}");
            assert_eq!(found.len(), bench.instance_tree().len() - 1, "{call} {fault:?}");
        }
        was_called
    });
}

#[test]
fn in_place_it_leaves_the_old_state_or_the_new_one_and_loses_nothing() {
    for_every_call(|bench, call, fault| {
        let present = bench.instance_tree();
        let copy = temporary();
        let repository = copy.path().join("repository");
        copy_files(&bench.path("repository"), &repository);
        let store = faulty(&repository, call, fault);
        let result = bench
            .session_of(Arc::clone(&store) as Arc<dyn Store>)
            .and_then(|session| bench.restore(&session, &IntoOptions::default(), &bench.context()));
        let was_called = store.calls() >= call;
        assert!(was_called || result.is_ok() && call > 20, "{call} {fault:?}: {:?}", result.err());
        assert!(bench.journals().is_empty());
        if let Ok(restored) = result {
            assert_eq!(fs::read_to_string(bench.path("one/a")).unwrap(), "old a");
            assert_eq!(bench.instance_tree().len(), present.len() - 1, "{call} {fault:?}");
            assert!(restored.before.is_some() || restored.aside.len() == 2);
            for aside in restored.aside.iter().map(ExactPath::path) {
                let name = aside.to_str().unwrap().rsplit('-').next().unwrap();
                let kept =
                    tree(aside).into_iter().map(|(path, entry)| (format!("{name}/{path}"), entry));
                let mut expected = present.clone();
                expected.retain(|path, _| path.starts_with(&format!("{name}/")));
                assert_eq!(kept.collect::<Tree>(), expected, "{call} {fault:?}");
                fs::remove_dir_all(aside).unwrap();
            }
            if let Some(before) = restored.before {
                let sound = bench.session_of(faulty(&repository, 0, fault)).unwrap();
                let before = SnapshotRef::Prefix(before.to_string());
                let (target, context) = (copy.path().join("before"), bench.context());
                to_dir((&sound, None), &before, &Wanted::default(), &target, false, &context)
                    .unwrap();
                assert_eq!(restored_tree(&target), present, "{call} {fault:?}");
            }
            bench.change();
        } else {
            assert_eq!(bench.instance_tree(), present, "{call} {fault:?}");
        }
        assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
        was_called
    });
}
