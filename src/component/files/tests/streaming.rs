//! What tar gives is what a walk gives; what tar does not give so is refused.

use super::*;
use crate::access::Access;
use crate::component::files::stream::archive::{Archive, Fault};
use crate::component::files::stream::{RemoteTree, StreamError};
use crate::model::via::Via;
use std::collections::HashMap;
use std::process::Command;
use tar::{EntryType, Header};

fn stream(root: &Path) -> Result<(Vec<Step>, WalkReport), StreamError<SinkError>> {
    let access = Access::new(Via::local(), None, &Cancel::new());
    let tree = RemoteTree::find(&access, root.to_str().unwrap())?.expect("it is there");
    let mut sink = Memory::default();
    let report = tree.read(b"root", &Cancel::new(), &mut sink, &mut |_, _| {})?;
    Ok((sink.steps, report))
}

/// Numbers alone tell whose it is, and the times of inodes are as they were.
fn without_owners_names(steps: Vec<Step>) -> Vec<Step> {
    let plain = |mut node: Node| {
        (node.user, node.group) = (String::new(), String::new());
        if node.links < 2 || node.kind == NodeKind::Directory {
            (node.inode, node.device_id, node.links) = (0, 0, 1);
        }
        node
    };
    let step = |step| match step {
        Step::Enter(node) => Step::Enter(plain(node)),
        Step::Leave => Step::Leave,
        Step::Leaf(node) => Step::Leaf(plain(node)),
        Step::File(node, bytes) => Step::File(plain(node), bytes),
    };
    steps.into_iter().map(step).collect()
}

fn run(program: &str, arguments: &[&str], path: &Path) {
    assert!(Command::new(program).args(arguments).arg(path).status().unwrap().success());
}

#[test]
fn a_tar_stream_gives_what_a_walk_gives() {
    let source = tempfile::tempdir().unwrap();
    let root = source.path();
    strange_tree(root);
    fs::create_dir_all(root.join("d".repeat(200)).join("e".repeat(200))).unwrap();
    // Between `dir` and what is in it, by bytes.
    fs::write(root.join("dir.txt"), "x".repeat(1000)).unwrap();
    fs::hard_link(root.join("dir.txt"), root.join("dir/again")).unwrap();
    std::os::unix::fs::symlink("l".repeat(300), root.join("far")).unwrap();
    let device = rustix::fs::makedev(5, 300);
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, root.join("device"), kind, 0o600.into(), device).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    let value = b"a\nb=\0c\n12 path=/etc\n";
    rustix::fs::setxattr(root.join("dir.txt"), "user.a%b=c%3D", value, flags).unwrap();
    rustix::fs::setxattr(root.join("dir.txt"), "trusted.empty", b"", flags).unwrap();
    run("setfacl", &["-m", "u:1000:rw"], &root.join("dir.txt"));
    run("setfacl", &["-d", "-m", "u:1000:rwx"], &root.join("dir"));
    std::os::unix::fs::lchown(root.join("dangling"), Some(70_000), Some(3_000_000_000)).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(5 << 20).unwrap();
    for at in [100, 1 << 20, (3 << 20) + 7] {
        std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", at).unwrap();
    }
    let hole = fs::File::create(root.join("hole")).unwrap();
    hole.set_len(1 << 20).unwrap();

    let (steps, report) = stream(root).unwrap();
    let (walked, walk_report) = walk_with(root, &[], None).unwrap();
    assert_eq!(steps, without_owners_names(walked));
    assert_eq!(report, walk_report);
}

#[test]
fn what_restores_have_left_and_sockets_are_left_out() {
    let source = tempfile::tempdir().unwrap();
    let ours = format!("{}x", crate::component::files::swap::BEFORE);
    fs::create_dir_all(source.path().join(&ours)).unwrap();
    fs::create_dir_all(source.path().join("deep").join(&ours)).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    let (steps, report) = stream(source.path()).unwrap();
    assert_eq!((report.directories, report.excluded, steps.len()), (3, 1, 6));
}

#[test]
fn what_is_not_there_is_told_from_what_cannot_be_read() {
    let access = Access::new(Via::local(), None, &Cancel::new());
    let find =
        |path: &str| RemoteTree::find::<SinkError>(&access, path).map(|found| found.is_some());
    assert!(!find("/nonexistent/place").unwrap());
    assert!(find("/").unwrap());
    let error = find("/etc/passwd").unwrap_err().to_string();
    assert!(error.contains("/etc/passwd is no directory"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_tree_comes_through_tar(children in proptest::collection::vec(made(), 0..4)) {
        let source = tempfile::tempdir().unwrap();
        for (number, child) in children.iter().enumerate() {
            build(&source.path().join(number.to_string()), child);
        }
        let (steps, _) = stream(source.path()).unwrap();
        prop_assert_eq!(steps, without_owners_names(walk(source.path())));
    }
}

/// An entry of a hostile archive.
fn entry(path: &str, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn root() -> Vec<u8> {
    entry("./", b'5', b"")
}

fn with_end(parts: &[Vec<u8>]) -> Vec<u8> {
    [parts.concat(), vec![0; 1024]].concat()
}

fn read(archive: &[u8]) -> Result<Vec<Step>, String> {
    let (links, cancel) = (HashMap::new(), Cancel::new());
    let mut sink = Memory::default();
    let mut progress = |_, _| {};
    let archive = Archive::new(archive, b"root", &links, &cancel, &mut sink, &mut progress);
    match archive.read() {
        Ok(_) => Ok(sink.steps),
        Err(Fault::Ended(reason) | Fault::Invalid(reason)) => Err(reason),
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn hostile_archives_are_refused() {
    let file = |path: &str| entry(path, b'0', b"x");
    let records = |text: &[u8]| entry("./PaxHeaders/x", b'x', text);
    let sparse = |map: &str, realsize: &str| {
        let record = format!("GNU.sparse.realsize={realsize}\n");
        let text = format!(
            "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n23 GNU.sparse.name=./f\n{} {record}",
            record.len() + 3
        );
        let mut content = map.as_bytes().to_vec();
        content.resize(content.len().next_multiple_of(512), 0);
        content.extend(b"data");
        with_end(&[root(), records(text.as_bytes()), entry("./f", b'0', &content)])
    };
    assert_eq!(read(&sparse("1\n2\n4\n", "20")).unwrap().len(), 3);
    let with = |parts: &[Vec<u8>]| with_end(&[&[root()], parts].concat());
    let mut wrong_sum = with(&[file("./a")]);
    wrong_sum[512 + 120] ^= 1;
    let mut unfinished = with(&[file("./a")]);
    unfinished.truncate(unfinished.len() - 512);
    let followed = [with(&[]), vec![0; 512], file("./a")].concat();
    let huge = {
        let mut header = entry("./PaxHeaders/x", b'x', b"");
        let mut block = Header::from_byte_slice(&header).clone();
        block.set_size(1 << 40);
        block.set_cksum();
        header[..512].copy_from_slice(block.as_bytes());
        with(&[header])
    };
    let long_name = format!("{} path=./{}\n", 2048 + 12, "n".repeat(2047));
    let outside = "has no path below the root";
    let order = "is not in the order of names, or comes twice";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "it ends too early"),
        (vec![0; 1024], "it has no entries"),
        (with_end(&[file("./a")]), "the first, and not the root"),
        (with(&[file("./../a")]), outside),
        (with(&[file("/etc/passwd")]), outside),
        (with(&[file("a")]), outside),
        (with(&[file("./a//b")]), outside),
        (with(&[file("./.")]), outside),
        (with(&[file("./")]), outside),
        (with(&[root()]), outside),
        (with(&[entry("./d", b'5', b"")]), outside),
        (with(&[file("./b"), file("./a")]), order),
        (with(&[file("./a"), file("./a")]), order),
        (with(&[entry("./d/", b'5', b""), file("./d")]), order),
        (
            with(&[entry("./d/", b'5', b""), file("./e"), file("./d/a")]),
            "comes before its directory, or after its end",
        ),
        (with(&[entry("./d/", b'5', b""), file("./e"), entry("./d/", b'5', b"")]), order),
        (with(&[file("./d"), file("./d/a")]), "comes before its directory, or after its end"),
        (with(&[entry("./d/", b'5', b"x")]), "has content, and is no file"),
        (with(&[entry("./l", b'2', b"")]), "leads nowhere"),
        (with(&[entry("./l", b'1', b"")]), "is an entry of the kind '1'"),
        (with(&[entry("./l", b'L', b"")]), "is an entry of the kind 'L'"),
        (with(&[entry("./l", b'g', b"")]), "is an entry of the kind 'g'"),
        (with(&[records(long_name.as_bytes()), file("./x")]), "a name has 2047 bytes"),
        (with(&[records(b"12 mtime=1x\n"), file("./x")]), "the mtime of an entry is no time"),
        (with(&[records(b"11 size=-1\n"), file("./x")]), "the size of an entry is no number"),
        (with(&[records(b"18 uid=4294967296\n"), file("./x")]), "the owner of ./x is none"),
        (with(&[records(b"99 path=./x\n"), file("./x")]), "a record of the format pax is broken"),
        (with(&[records(b"3 p\n"), file("./x")]), "a record of the format pax is broken"),
        (with(&[records(b"13 path=./\0x\n"), file("./x")]), outside),
        (with(&[records(b"22 GNU.sparse.map=0,1\n"), file("./x")]), "the key GNU.sparse.map"),
        (
            with(&[records(b"25 SCHILY.xattr.user.a=1\n25 SCHILY.xattr.user.a=2\n"), file("./x")]),
            "an extended attribute twice",
        ),
        (with(&[records(b"12 mtime=12\n")]), "a block is no header"),
        (huge, "the records before an entry have 1099511627776 bytes"),
        (sparse("1\n2\n4\n", "5"), "the map of the file f is wrong"),
        (sparse("2\n2\n2\n3\n2\n", "20"), "the map of the file f is wrong"),
        (sparse("1\n2\n5\n", "20"), "the map of the file f is wrong"),
        (sparse("x\n", "20"), "the map of the file f is wrong"),
        (sparse("99999999999\n", "20"), "it has too many pieces"),
        (sparse(&"1".repeat(600), "20"), "a number is too long"),
        (sparse("1\n18446744073709551615\n4\n", "20"), "the map of the file f is wrong"),
        (wrong_sum, "a block is no header"),
        (unfinished, "it ends too early"),
        (followed, "something follows its end mark"),
        ([root(), vec![0; 512], root()].concat(), "its end mark is broken"),
    ];
    for (archive, expected) in cases {
        let error = read(&archive).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

/// An archive that GNU tar made.
fn made_by_tar() -> Vec<u8> {
    let source = tempfile::tempdir().unwrap();
    strange_tree(source.path());
    let mut tar = Command::new("tar");
    tar.args(["--create", "--format=pax", "--sort=name", "--xattrs", "-C"]);
    let output = tar.arg(source.path()).arg(".").env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn an_archive_that_is_cut_anywhere_is_refused() {
    let archive = made_by_tar();
    let whole = read(&archive).unwrap();
    let end = archive.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512) + 1024;
    for length in (0..end).step_by(37).chain([end - 512, end - 1]) {
        assert!(read(&archive[..length]).is_err(), "{length} of {end}");
    }
    assert_eq!(read(&archive[..end]).unwrap(), whole);
}

#[test]
fn a_header_in_which_a_bit_is_wrong_is_refused() {
    let archive = made_by_tar();
    let headers =
        (0..archive.len()).step_by(512).filter(|at| archive[at + 257..].starts_with(b"ustar"));
    for start in headers {
        // Not what ends the sum itself.
        for byte in (0..512).filter(|byte| !(154..156).contains(byte)) {
            let mut damaged = archive.clone();
            damaged[start + byte] ^= 1;
            assert!(read(&damaged).is_err(), "byte {byte} of the header at {start}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_arrives_names_stay_in_their_directory(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let text = b"30 mtime=1795288901.049877127\n20 path=./d/a longer\n";
        let records = entry("./PaxHeaders/a", b'x', text);
        let mut archive = with_end(&[root(), entry("./d/", b'5', b""), records, entry("./d/a", b'0', b"x")]);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        // Sums prove nothing against somebody who wants harm.
        for start in (0..archive.len()).step_by(512) {
            let block = &mut archive[start..start + 512];
            if block[257..].starts_with(b"ustar") {
                let mut header = Header::from_byte_slice(block).clone();
                header.set_cksum();
                block.copy_from_slice(header.as_bytes());
            }
        }
        let Ok(steps) = read(&archive) else { return Ok(()) };
        let mut depth = 0;
        for step in steps {
            match step {
                Step::Leave => depth -= 1,
                Step::Enter(node) => {
                    prop_assert!(crate::model::node::is_valid_name(&node.name));
                    depth += 1;
                }
                Step::Leaf(node) | Step::File(node, _) => {
                    prop_assert!(crate::model::node::is_valid_name(&node.name) && depth > 0);
                }
            }
        }
        prop_assert_eq!(depth, 0);
    }
}
