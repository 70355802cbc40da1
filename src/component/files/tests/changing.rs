//! Trees that change while they are read: what is delivered is what was there, and what is not is told.

use super::*;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

fn named(steps: &[Step], wanted: &[u8]) -> Option<Step> {
    let is_it = |step: &&Step| match step {
        Step::Enter(node) | Step::Leaf(node) | Step::File(node, _) => node.name == wanted,
        Step::Leave => false,
    };
    steps.iter().find(is_it).cloned()
}

/// Call once, at the first write.
fn once(act: impl FnOnce() + 'static) -> OnWrite {
    let mut act = Some(act);
    Rc::new(RefCell::new(move || {
        if let Some(act) = act.take() {
            act();
        }
    }))
}

#[test]
fn a_file_that_grows_each_time_is_delivered_and_told() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("log");
    fs::write(&path, "one\n").unwrap();
    let growing = path.clone();
    let on_write: OnWrite = Rc::new(RefCell::new(move || {
        let mut file = fs::File::options().append(true).open(&growing).unwrap();
        // Not endless: a read that follows the end would never finish.
        if file.metadata().unwrap().len() < 100 {
            file.write_all(b"more\n").unwrap();
        } else {
            file.set_modified(std::time::SystemTime::now()).unwrap();
        }
    }));
    let (steps, report) = walk_with(source.path(), &[], Some(on_write)).unwrap();
    assert_eq!(report.changed.paths, ["log"]);
    let Some(Step::File(node, bytes)) = steps.get(1) else { panic!("{steps:?}") };
    assert_eq!(node.kind, NodeKind::File { size: bytes.len() as u64 });
}

#[test]
fn a_file_that_changes_once_is_read_again_and_not_told() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("f");
    fs::write(&path, "before").unwrap();
    let (changing, mut times) = (path.clone(), 0);
    let on_write: OnWrite = Rc::new(RefCell::new(move || {
        times += 1;
        if times == 1 {
            fs::write(&changing, "after, and longer").unwrap();
        }
    }));
    let (steps, report) = walk_with(source.path(), &[], Some(on_write)).unwrap();
    assert_eq!(report.changed.count, 0);
    assert!(matches!(&steps[1], Step::File(_, bytes) if bytes == b"after, and longer"));
}

#[test]
fn a_file_that_outgrows_the_reader_comes_to_an_end() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("log");
    fs::write(&path, "begin").unwrap();
    let growing = path.clone();
    let more = vec![b'x'; 1 << 20];
    let on_write: OnWrite = Rc::new(RefCell::new(move || {
        fs::File::options().append(true).open(&growing).unwrap().write_all(&more).unwrap();
    }));
    let (steps, report) = walk_with(source.path(), &[], Some(on_write)).unwrap();
    assert_eq!(report.changed.paths, ["log"]);
    let Some(Step::File(node, bytes)) = named(&steps, b"log") else { panic!() };
    assert_eq!(node.kind, NodeKind::File { size: bytes.len() as u64 });
    assert!(bytes.len() as u64 <= fs::metadata(&path).unwrap().len());
}

#[test]
fn a_file_that_another_replaces_while_it_is_read_is_delivered_whole() {
    let source = tempfile::tempdir().unwrap();
    let path = source.path().join("f");
    fs::write(&path, "old content").unwrap();
    let (replaced, new) = (path.clone(), source.path().join("z.tmp"));
    // As programs save: written beside, and renamed over.
    let on_write = once(move || {
        fs::write(&new, "new").unwrap();
        fs::rename(&new, &replaced).unwrap();
    });
    let (steps, report) = walk_with(source.path(), &[], Some(on_write)).unwrap();
    assert!(matches!(named(&steps, b"f"), Some(Step::File(_, bytes)) if bytes == b"old content"));
    assert_eq!((report.changed.count, report.vanished.count), (0, 0));
}

#[test]
fn an_entry_that_vanishes_before_it_is_opened_is_told() {
    let source = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        fs::write(source.path().join(name), name).unwrap();
    }
    fs::create_dir(source.path().join("d")).unwrap();
    let root = source.path().to_owned();
    let on_write = once(move || {
        fs::remove_file(root.join("b")).unwrap();
        fs::remove_dir(root.join("d")).unwrap();
    });
    let (steps, report) = walk_with(source.path(), &[], Some(on_write)).unwrap();
    assert_eq!(report.vanished.paths, ["b", "d"]);
    assert_eq!((report.files, report.directories, steps.len()), (2, 1, 4));
}

#[test]
fn what_takes_the_place_of_a_file_is_delivered_and_never_followed() {
    let (source, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("secret"), "secret").unwrap();
    for name in ["f", "g", "h"] {
        fs::write(source.path().join(name), "mine").unwrap();
    }
    let (root, secret) = (source.path().to_owned(), outside.path().join("secret"));
    let on_examined = move |name: &[u8]| {
        let path = root.join(OsStr::from_bytes(name));
        // A second look finds what is there by now, and is left alone.
        if fs::read(&path).is_ok_and(|bytes| bytes != b"mine") {
            return;
        }
        fs::remove_file(&path).unwrap();
        match name {
            b"f" => std::os::unix::fs::symlink(&secret, &path).unwrap(),
            b"g" => fs::create_dir(&path).unwrap(),
            _ => {
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &path, kind, 0o600.into(), 0).unwrap();
            }
        }
    };
    let sink = Memory { on_examined: Some(Box::new(on_examined)), ..Memory::default() };
    let (steps, report) = walk_into(sink, source.path(), &[], &Cancel::new()).unwrap();
    let is_link =
        |step| matches!(step, Step::Leaf(node) if matches!(node.kind, NodeKind::Symlink { .. }));
    assert!(named(&steps, b"f").is_some_and(is_link), "{steps:?}");
    assert!(matches!(named(&steps, b"g"), Some(Step::Enter(_))), "{steps:?}");
    assert!(matches!(named(&steps, b"h"), Some(Step::Leaf(node)) if node.kind == NodeKind::Fifo));
    assert_eq!((report.files, report.vanished.count), (0, 0));
}

#[test]
fn a_walk_that_is_cancelled_stops_in_the_middle_of_a_file() {
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("f"), vec![1; 3 << 20]).unwrap();
    let cancel = Cancel::new();
    let (asked, mut writes) = (cancel.clone(), Rc::new(RefCell::new(0)));
    let counted = Rc::clone(&writes);
    let on_write: OnWrite = Rc::new(RefCell::new(move || {
        *counted.borrow_mut() += 1;
        asked.cancel();
    }));
    let sink = Memory { on_write: Some(on_write), ..Memory::default() };
    let error = walk_into(sink, source.path(), &[], &cancel).unwrap_err();
    assert!(matches!(error, WalkError::Cancelled(_)), "{error}");
    assert_eq!(*Rc::get_mut(&mut writes).unwrap().get_mut(), 1);
}

/// Walk with this patience for a directory that changes.
fn walk_patiently(
    root: &Path,
    patience: Duration,
    cancel: &Cancel,
) -> Result<WalkReport, WalkError<SinkError>> {
    let options = WalkOptions { patience, ..WalkOptions::default() };
    read_tree(root, b"root", &options, cancel, &mut Memory::default(), &mut |_, _| {})
}

/// Do this while another thread changes a directory all the time.
fn beside_changes_of<T>(directory: &Path, act: impl FnOnce() -> T) -> T {
    let (is_over, path) = (AtomicBool::new(false), directory.join("f"));
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            while !is_over.load(SeqCst) {
                fs::write(&path, "").unwrap();
                fs::remove_file(&path).unwrap();
            }
        });
        let done = act();
        is_over.store(true, SeqCst);
        changes.join().unwrap();
        done
    })
}

#[test]
fn a_directory_that_never_keeps_still_fails_the_walk_and_is_named() {
    let source = tempfile::tempdir().unwrap();
    let busy = source.path().join("busy");
    fs::create_dir(&busy).unwrap();
    let error = beside_changes_of(&busy, || {
        // The other thread may not run for a moment, which the walk then takes.
        let walk = || walk_patiently(source.path(), Duration::from_millis(60), &Cancel::new());
        std::iter::repeat_with(walk).find_map(Result::err).unwrap()
    });
    assert!(
        matches!(&error, WalkError::Unsettled { path, .. } if path == "busy" || path == "."),
        "{error}"
    );
    assert!(error.hint().is_some_and(|hint| hint.contains("exclude")));
}

#[test]
fn a_walk_that_waits_for_a_directory_is_cancelled() {
    let source = tempfile::tempdir().unwrap();
    let cancel = Cancel::new();
    let error = beside_changes_of(source.path(), || {
        std::thread::scope(|scope| {
            scope.spawn(|| cancel.cancel());
            let walk = || walk_patiently(source.path(), Duration::from_hours(1), &cancel);
            std::iter::repeat_with(walk).find_map(Result::err).unwrap()
        })
    });
    assert!(matches!(error, WalkError::Cancelled(_)), "{error}");
}

/// What a walk gives when this happens to the tree while the file `d/f` of it is read.
fn walk_while(
    happens: impl FnOnce(&Path) + 'static,
) -> Result<(Vec<Step>, WalkReport), WalkError<SinkError>> {
    let source = tempfile::tempdir().unwrap();
    let root = source.path().join("root");
    fs::create_dir_all(root.join("d")).unwrap();
    for name in ["d/f", "d/g"] {
        fs::write(root.join(name), name).unwrap();
    }
    let changing = root.clone();
    walk_with(&root, &[], Some(once(move || happens(&changing))))
}

#[test]
fn a_directory_that_is_replaced_while_it_is_read_fails_the_walk() {
    let removed = walk_while(|root| {
        fs::remove_dir_all(root.join("d")).unwrap();
        fs::create_dir(root.join("d")).unwrap();
    });
    let moved = walk_while(|root| {
        fs::rename(root.join("d"), root.join("old")).unwrap();
        fs::write(root.join("d"), "").unwrap();
    });
    let moved_root = walk_while(|root| {
        fs::rename(root, root.with_file_name("old")).unwrap();
        fs::create_dir(root).unwrap();
    });
    for (result, named) in [(removed, " d: "), (moved, " d: "), (moved_root, "/root: ")] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("replaced")), "{error}");
    }
    let gone = walk_while(|root| fs::remove_dir_all(root).unwrap()).unwrap_err();
    assert!(gone.to_string().contains("/root: "), "{gone}");
}

#[test]
fn a_directory_that_is_removed_while_it_is_read_is_told() {
    let (steps, report) = walk_while(|root| fs::remove_dir_all(root.join("d")).unwrap()).unwrap();
    assert!(named(&steps, b"f").is_some() && named(&steps, b"g").is_none());
    assert_eq!(report.vanished.paths, ["d/g"]);
    let [warning] = &report.warnings[..] else { panic!("{report:?}") };
    assert!(warning.starts_with("d was removed or moved away"), "{warning}");
}
