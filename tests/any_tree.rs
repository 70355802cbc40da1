//! Any tree of files comes back through a backup and a restore exactly as it was: names of any bytes, nested directories,
//! symbolic and hard links, sparse and empty files, modes, times to the nanosecond, extended attributes.
#![allow(clippy::unwrap_used)]

mod support;

use belay::config::{Config, SecretSources};
use belay::model::event::{Cancel, Events};
use belay::ops::backup::{BackupOptions, backup};
use belay::ops::restore::{Wanted, to_dir};
use belay::ops::session::Session;
use belay::ops::{Context, init};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, XattrFlags, lsetxattr, utimensat};
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use support::{Sandbox, Tree};

const CASES: u32 = 22;

#[derive(Clone, Debug)]
enum Kind {
    File(Vec<u8>),
    /// Two bytes with a hole of so many between them.
    Sparse(u64),
    Symlink(Vec<u8>),
    /// Of the regular file that was made before it, in whichever directory.
    HardLink,
    Directory(Vec<Entry>),
}

#[derive(Clone, Debug)]
struct Entry {
    name: Vec<u8>,
    kind: Kind,
    mode: u32,
    mtime: (i64, u32),
    attribute: Option<(String, Vec<u8>)>,
}

/// Any bytes but `/` and NUL; those that quoting and sorting may stumble over come often.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        4 => prop_oneof![Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b' '), Just(b'.'), Just(0xc3), Just(0xa9)],
        3 => any::<u8>(),
        3 => b'a'..=b'd',
    ];
    let byte = byte.prop_filter("no separator", |byte| *byte != b'/' && *byte != 0);
    let bytes = prop_oneof![
        9 => prop::collection::vec(byte.clone(), 1..12),
        1 => prop::collection::vec(byte, 255..=255),
    ];
    bytes.prop_filter("no way up", |name| name != b"." && name != b"..")
}

fn entry(kind: impl Strategy<Value = Kind>) -> impl Strategy<Value = Entry> {
    let mtime = (-2_000_000_000_i64..4_000_000_000, 0_u32..1_000_000_000);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    let attribute = prop::option::weighted(0.3, ("user\\.[a-z]{1,8}", value));
    (name(), kind, 0_u32..0o10000, mtime, attribute).prop_map(
        |(name, kind, mode, mtime, attribute)| Entry { name, kind, mode, mtime, attribute },
    )
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let target = prop::collection::vec(1_u8..=255, 1..60);
    let leaf = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..3000).prop_map(Kind::File),
        1 => Just(Kind::File(Vec::new())),
        1 => (1_u64..3_000_000).prop_map(Kind::Sparse),
        1 => target.prop_map(Kind::Symlink),
        2 => Just(Kind::HardLink),
    ];
    let tree = entry(leaf).prop_recursive(4, 40, 6, |inner| {
        entry(prop::collection::vec(inner, 0..6).prop_map(Kind::Directory))
    });
    prop::collection::vec(tree, 0..8)
}

/// Makes the entries in a directory. Of two with one name the first stays.
fn make(directory: &Path, entries: &[Entry], last_file: &mut Option<PathBuf>) {
    for Entry { name, kind, mode, mtime, attribute } in entries {
        let path = directory.join(OsString::from_vec(name.clone()));
        if path.symlink_metadata().is_ok() {
            continue;
        }
        match kind {
            Kind::File(content) => fs::write(&path, content).unwrap(),
            Kind::Sparse(hole) => {
                let file = File::create(&path).unwrap();
                file.write_all_at(b"a", 0).unwrap();
                file.write_all_at(b"z", hole + 1).unwrap();
            }
            Kind::Symlink(target) => symlink(OsString::from_vec(target.clone()), &path).unwrap(),
            Kind::HardLink => {
                // What it is linked to has its mode and time already.
                if let Some(file) = last_file.as_ref() {
                    fs::hard_link(file, &path).unwrap();
                }
                continue;
            }
            Kind::Directory(inner) => {
                fs::create_dir(&path).unwrap();
                make(&path, inner, last_file);
            }
        }
        if !matches!(kind, Kind::Symlink(_)) {
            if let Some((name, value)) = attribute {
                lsetxattr(&path, name.as_str(), value, XattrFlags::empty()).unwrap();
            }
            fs::set_permissions(&path, Permissions::from_mode(*mode)).unwrap();
        }
        let time = Timespec { tv_sec: mtime.0, tv_nsec: i64::from(mtime.1) };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        if matches!(kind, Kind::File(_) | Kind::Sparse(_)) {
            *last_file = Some(path);
        }
    }
}

#[test]
fn any_tree_comes_back_as_it_was() {
    support::require_root("to read what a mode forbids");
    let sandbox = Sandbox::without_repository();
    let context = Context::new(Events::ignored(), Cancel::new());
    let text = fs::read_to_string(sandbox.config()).unwrap();
    let config = Config::parse(&text, "the test's configuration").unwrap();
    let repository = config.repository("main").unwrap();
    let secrets = SecretSources::new(Vec::new(), |_| None);
    init::init(&config, repository, &secrets, &context).unwrap();
    let session = Session::open(&config, repository, &secrets).unwrap();
    let instance = config.instance("data").unwrap();

    // Each tree is backed up after another one, so that what is reused of the snapshot before is tried, too.
    let config_of_cases =
        ProptestConfig { cases: CASES, max_shrink_iters: 60, ..ProptestConfig::default() };
    let mut runner = TestRunner::new(config_of_cases);
    let checked = runner.run(&entries(), |entries| {
        fs::remove_dir_all(sandbox.source()).unwrap();
        fs::create_dir(sandbox.source()).unwrap();
        make(&sandbox.source(), &entries, &mut None);
        let expected = Tree::read(&sandbox.source());
        let options = BackupOptions { allow_empty: true, ..BackupOptions::default() };
        let taken = backup(&config, &session, instance, &options, &context).unwrap();
        prop_assert_eq!(&taken.warnings, &Vec::<String>::new());
        let target = sandbox.fresh_directory();
        let snapshot = taken.id.to_string().parse().unwrap();
        let wanted = Wanted::default();
        to_dir((&session, None), &snapshot, &wanted, target.path(), false, &context).unwrap();
        let trees = fs::read_dir(target.path().join("files")).unwrap();
        let trees: Vec<PathBuf> = trees.map(|entry| entry.unwrap().path()).collect();
        prop_assert_eq!(trees.len(), 1);
        let differences = expected.differences(&Tree::read(&trees[0]));
        prop_assert!(differences.is_empty(), "{}", differences.join("\n"));
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
}
