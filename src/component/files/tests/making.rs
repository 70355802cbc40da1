//! What a crafted snapshot, an unusual place or an unusual tree can do to a restore.

use super::super::swap::remove::remove;
use super::*;
use crate::component::files::attributes::Subject;
use std::os::fd::AsFd as _;

/// Deeper than the usual limit of open files, and than a recursion would come.
const DEPTH: usize = 10_000;

#[test]
fn deep_trees_do_not_overflow_the_stack() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut parent = rustix::fs::open(source.path(), rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&parent, "d", 0o700.into()).unwrap();
        parent = rustix::fs::openat(&parent, "d", rustix::fs::OFlags::RDONLY, 0.into()).unwrap();
    }
    let steps = walk(source.path());
    assert_eq!(steps.len(), 2 * (DEPTH + 1));
    create(target.path(), &steps);
    assert_eq!(walk(&target.path().join("root")).len(), 2 * (DEPTH + 1));
    for made in [source.path().join("d"), target.path().join("root")] {
        remove(&made).unwrap();
    }
}

#[test]
fn nothing_is_made_through_a_link_or_under_a_wrong_name() {
    let target = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("f"), "").unwrap();
    let Step::File(file, _) = walk(&outside.path().join("f")).remove(0) else { panic!() };
    let link = Node {
        name: b"a".to_vec(),
        kind: NodeKind::Symlink { target: outside.path().as_os_str().as_bytes().to_vec() },
        ..file.clone()
    };
    let directory = Node { name: b"a".to_vec(), kind: NodeKind::Directory, ..file.clone() };
    let mut creator = TreeCreator::open(target.path()).unwrap();
    creator.leaf(&link).unwrap();
    assert!(creator.enter(&directory).is_err(), "a directory in place of a link");
    assert!(creator.create_file(&Node { name: b"a".to_vec(), ..file.clone() }).is_err());
    for name in [&b".."[..], b".", b"", b"a/x", b"/etc/x"] {
        assert!(creator.create_file(&Node { name: name.to_vec(), ..file.clone() }).is_err());
        assert!(creator.enter(&Node { name: name.to_vec(), ..directory.clone() }).is_err());
        assert!(creator.leaf(&Node { name: name.to_vec(), ..link.clone() }).is_err());
    }
    assert!(
        creator.hard_link(b"a/f", &Node { name: b"b".to_vec(), ..file }).is_err(),
        "through the link"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

/// The node of a file with this content.
fn file_node(name: &str, content: &str) -> Node {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join(name), content).unwrap();
    let Step::File(node, _) = walk(&directory.path().join(name)).remove(0) else { panic!() };
    Node { name: name.as_bytes().to_vec(), ..node }
}

#[test]
fn a_name_is_made_once_and_only_as_what_it_is() {
    let target = tempfile::tempdir().unwrap();
    let file = file_node("f", "12345");
    let directory = Node { kind: NodeKind::Directory, ..file.clone() };
    let mut creator = TreeCreator::open(target.path()).unwrap();
    creator.create_file(&file).unwrap();
    assert!(creator.create_file(&file).is_err(), "twice");
    assert!(creator.enter(&directory).is_err(), "a directory of the same name");
    assert!(creator.leaf(&Node { kind: NodeKind::Fifo, ..file.clone() }).is_err());
    let other = |node: &Node| Node { name: b"other".to_vec(), ..node.clone() };
    assert!(creator.leaf(&other(&file)).is_err(), "a file without content");
    assert!(creator.leaf(&other(&directory)).is_err(), "a directory without entries");
    assert!(creator.enter(&other(&file)).is_err());
    assert!(creator.create_file(&other(&directory)).is_err());
    for outside in [&b"../f"[..], b"/etc/passwd", b"x/../f", b"", b"."] {
        assert!(creator.hard_link(outside, &other(&file)).is_err());
    }
    creator.finish().unwrap();
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 1);
    assert_eq!(fs::metadata(target.path().join("f")).unwrap().len(), 5);
}

#[test]
fn hard_links_are_made_across_directories() {
    let target = tempfile::tempdir().unwrap();
    let file = file_node("f", "shared");
    let directory = Node { name: b"d".to_vec(), kind: NodeKind::Directory, ..file.clone() };
    let mut creator = TreeCreator::open(target.path()).unwrap();
    creator.enter(&directory).unwrap();
    let made = creator.create_file(&file).unwrap();
    creator.leave().unwrap();
    creator.hard_link(b"d/f", &Node { name: b"g".to_vec(), ..file.clone() }).unwrap();
    made.write_at(0, b"shared").unwrap();
    made.finish(&file).unwrap();
    creator.finish().unwrap();
    let inode = |path: &str| fs::metadata(target.path().join(path)).unwrap().ino();
    assert_eq!(inode("g"), inode("d/f"));
    assert_eq!(fs::read(target.path().join("g")).unwrap(), b"shared");
    let modified = fs::metadata(target.path().join("d")).unwrap().modified().unwrap();
    assert_eq!(jiff::Timestamp::try_from(modified).unwrap(), directory.mtime);
}

#[test]
fn directories_that_another_takes_the_place_of_get_no_metadata() {
    let target = tempfile::tempdir().unwrap();
    let directory = Node { kind: NodeKind::Directory, mode: 0o777, ..file_node("d", "") };
    let mut creator = TreeCreator::open(target.path()).unwrap();
    creator.enter(&directory).unwrap();
    creator.leave().unwrap();
    fs::rename(target.path().join("d"), target.path().join("moved")).unwrap();
    fs::create_dir(target.path().join("d")).unwrap();
    fs::set_permissions(target.path().join("d"), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(creator.finish().is_err());
    assert_eq!(fs::metadata(target.path().join("d")).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn sockets_are_counted_and_left_out() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let _listener = std::os::unix::net::UnixListener::bind(source.path().join("s")).unwrap();
    let (steps, report) = walk_with(source.path(), &[], None).unwrap();
    assert_eq!(report.others, 1);
    let Step::Leaf(socket) = &steps[1] else { panic!("{steps:?}") };
    let mut creator = TreeCreator::open(target.path()).unwrap();
    creator.leaf(socket).unwrap();
    assert_eq!(creator.finish().unwrap().sockets_left_out, 1);
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}

/// An access control list as the kernel has it: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn access_control_lists_come_back_and_those_of_the_target_are_not_taken_on() {
    const NO_ID: u32 = u32::MAX;
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let list = acl(&[(1, 6, NO_ID), (2, 4, 12345), (4, 4, NO_ID), (16, 4, NO_ID), (32, 0, NO_ID)]);
    let set = |path: &Path, name: &str| {
        rustix::fs::setxattr(path, name, &list, rustix::fs::XattrFlags::empty()).unwrap();
    };
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("with"), "").unwrap();
    fs::write(source.path().join("without"), "").unwrap();
    set(&source.path().join("with"), "system.posix_acl_access");
    set(target.path(), "system.posix_acl_default");
    assert!(
        Subject::Open(fs::File::open(target.path()).unwrap().as_fd())
            .has("system.posix_acl_default")
    );
    let steps = walk(source.path());
    create(target.path(), &steps);
    let restored = walk(&target.path().join("root"));
    assert_eq!(comparable(restored.clone()), comparable(steps));
    let has_list = |step: &Step| matches!(step, Step::File(node, _) if node.extended_attributes.iter().any(|attribute| attribute.value == list));
    assert_eq!(restored.iter().filter(|step| has_list(step)).count(), 1);
}
