//! Trees to back up: an ordinary one that changes from night to night, and one with everything strange in it.

use super::random::Random;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, mknodat, utimensat,
};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::Path;
use std::process::Command;

/// Files of the ordinary tree that are of one size.
const PARTS: u64 = 8;

/// Writes a file, and the directories above it.
pub fn write_file(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// About `mib` MiB: half of it does not compress, half of it does; and some dozens of small files.
pub fn make_tree(root: &Path, seed: u64, mib: u64) {
    let mut random = Random::new(seed);
    let part = (mib << 20) / PARTS;
    for number in 0..PARTS {
        let content =
            if number % 2 == 0 { random.bytes(part as usize) } else { random.rows(part as usize) };
        write_file(&root.join(format!("large/part-{number}")), &content);
    }
    for number in 0..40 {
        let length = random.below(20_000) as usize;
        write_file(&root.join(format!("small/{}/file-{number}", number % 5)), &random.rows(length));
    }
}

/// What a day does to the ordinary tree: a stretch in one or two large files, some small files new, others gone.
pub fn change_tree(root: &Path, seed: u64) {
    let mut random = Random::new(seed);
    for _ in 0..2 {
        let path = root.join(format!("large/part-{}", random.below(PARTS)));
        let file = File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        let stretch = random.bytes((length / 3) as usize);
        file.write_all_at(&stretch, random.below(length - length / 3)).unwrap();
    }
    let directory = root.join(format!("small/{}", random.below(5)));
    let old = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).min();
    if let Some(path) = old {
        fs::remove_file(path).unwrap();
    }
    let new = directory.join(format!("new-{seed}"));
    let content = random.rows(50_000);
    write_file(&new, &content);
}

fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    lsetxattr(path, name, value, XattrFlags::empty()).unwrap_or_else(|error| {
        let path = path.display();
        panic!("{path} takes no attribute ({error}): set TMPDIR to a file system that does")
    });
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Everything that a backup is known to get wrong.
pub fn make_strange_tree(root: &Path) {
    strange_names(root);
    strange_links(root);
    strange_contents(root);
    strange_owners_and_modes(root);
    strange_attributes(root);
    strange_times(root);
}

fn strange_names(root: &Path) {
    let names: [&[u8]; 12] = [
        b"latin-\xe9-name",
        b"\xff\xfe\x80",
        b"new\nline",
        b"carriage\rreturn and tab\t",
        b"back\\slash",
        b"back\\x41slash",
        b"quote\"s 'and' <tags> & more",
        b" spaces ",
        b"-rf",
        "na\u{ef}ve \u{2602} \u{1f9d7}".as_bytes(),
        "line\u{2028}separator".as_bytes(),
        b"...",
    ];
    for name in names {
        write_file(&root.join("names").join(OsStr::from_bytes(name)), name);
    }
    let long = "n".repeat(255);
    write_file(&root.join("names").join(&long), b"long");
    write_file(&root.join("names").join(OsStr::from_bytes(b"dir-\xe9")).join("inside"), b"inside");
}

fn strange_links(root: &Path) {
    let links = root.join("links");
    write_file(&links.join("first"), b"one file under three names");
    fs::create_dir_all(links.join("below")).unwrap();
    fs::hard_link(links.join("first"), links.join("second")).unwrap();
    fs::hard_link(links.join("first"), links.join("below/third")).unwrap();
    write_file(&links.join("only-equal"), b"one file under three names");
    symlink("first", links.join("relative")).unwrap();
    symlink("/etc/passwd", links.join("absolute")).unwrap();
    symlink("../../nowhere", links.join("dangling")).unwrap();
    symlink("below", links.join("to-directory")).unwrap();
    symlink("loop", links.join("loop")).unwrap();
    symlink("<&> \u{2602}", links.join("special")).unwrap();
}

/// A link whose target is not UTF-8, which restic 0.14 cannot restore. Its path is `links/to-bytes`.
pub fn add_link_to_bytes(root: &Path) {
    symlink(OsStr::from_bytes(b"target-\xe9-\xff"), root.join("links/to-bytes")).unwrap();
}

fn strange_contents(root: &Path) {
    let contents = root.join("contents");
    write_file(&contents.join("empty"), b"");
    fs::create_dir_all(contents.join("empty-directory")).unwrap();
    write_file(&contents.join("one-byte"), b"\0");
    let sparse = File::create(contents.join("sparse")).unwrap();
    sparse.set_len(24 << 20).unwrap();
    sparse.write_all_at(b"an island", 9 << 20).unwrap();
    File::create(contents.join("all-hole")).unwrap().set_len(5 << 20).unwrap();
    write_file(&contents.join("zeros"), &vec![0; 3 << 20]);
    let mut random = Random::new(7);
    write_file(&contents.join("many-chunks"), &random.bytes(12 << 20));
    mknodat(CWD, contents.join("fifo"), FileType::Fifo, Mode::from(0o640), 0).unwrap();
}

fn strange_owners_and_modes(root: &Path) {
    let modes = root.join("modes");
    for mode in [0o000, 0o400, 0o111, 0o777, 0o4755, 0o2755, 0o1644, 0o6711] {
        let path = modes.join(format!("file-{mode:04o}"));
        write_file(&path, b"mode");
        if rustix::process::geteuid().is_root() {
            lchown(&path, Some(1234), Some(60_000)).unwrap();
        }
        // After the owner, whose change takes set-user-id away.
        set_mode(&path, mode);
    }
    for mode in [0o1777, 0o2770, 0o500, 0o711] {
        let path = modes.join(format!("directory-{mode:04o}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("inside"), b"inside").unwrap();
        set_mode(&path, mode);
    }
}

fn strange_attributes(root: &Path) {
    let attributes = root.join("attributes");
    write_file(&attributes.join("file"), b"attributes");
    set_attribute(&attributes.join("file"), "user.comment", "\u{2602} of a file".as_bytes());
    set_attribute(&attributes.join("file"), "user.bytes", &[0, 255, 10, 0]);
    set_attribute(&attributes.join("file"), "user.empty", b"");
    set_attribute(&attributes, "user.directory", b"of a directory");
    write_file(&attributes.join("acl"), b"access control list");
    let status = Command::new("setfacl")
        .args(["-m", "u:65534:r--"])
        .arg(attributes.join("acl"))
        .status()
        .expect("setfacl is missing: tests/run installs what tests need");
    assert!(
        status.success(),
        "setfacl failed: set TMPDIR to a file system that has access control lists"
    );
}

fn strange_times(root: &Path) {
    let times = root.join("times");
    for (name, seconds, nanoseconds) in [
        ("nanoseconds", 946_684_799, 123_456_789),
        ("one-nanosecond", 1_000_000_000, 1),
        ("trailing-zeros", 1_000_000_000, 500_000_000),
        ("epoch", 0, 0),
        ("before-epoch", -315_619_200, 250_000_000),
        ("far-future", 4_102_444_800, 999_999_999),
    ] {
        write_file(&times.join(name), b"time");
        set_mtime(&times.join(name), seconds, nanoseconds);
    }
    symlink("epoch", times.join("link")).unwrap();
    set_mtime(&times.join("link"), 1_111_111_111, 111_111_111);
    fs::create_dir_all(times.join("directory")).unwrap();
    fs::write(times.join("directory/inside"), b"inside").unwrap();
    set_mtime(&times.join("directory"), 1_222_222_222, 222_222_222);
    set_mtime(&times, 1_333_333_333, 333_333_333);
}
