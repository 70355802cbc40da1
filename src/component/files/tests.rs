//! Trees survive being read and made again; hostile sequences do not leave the target.

use super::create::TreeCreator;
use super::walk::{TreeSink, WalkError, WalkOptions, WalkReport, read_tree};
use crate::model::event::Cancel;
use crate::model::node::{ExtendedAttribute, Node, NodeKind};
use proptest::prelude::*;
use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::rc::Rc;

mod changing;
mod making;
mod streaming;

#[derive(Debug, thiserror::Error)]
#[error("the sink failed")]
struct SinkError;

/// What a walk delivered, in order.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Enter(Node),
    Leave,
    Leaf(Node),
    File(Node, Vec<u8>),
}

type OnExamined = Box<dyn FnMut(&[u8])>;
type OnWrite = Rc<RefCell<dyn FnMut()>>;

#[derive(Default)]
struct Memory {
    steps: Vec<Step>,
    on_write: Option<OnWrite>,
    /// Called with a file's name after it was examined and before it is opened.
    on_examined: Option<OnExamined>,
}

struct MemoryFile {
    bytes: Vec<u8>,
    on_write: Option<OnWrite>,
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(on_write) = &self.on_write {
            on_write.borrow_mut()();
        }
        self.bytes.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TreeSink for Memory {
    type File = MemoryFile;
    type Error = SinkError;

    fn enter(&mut self, node: &Node) -> Result<(), SinkError> {
        self.steps.push(Step::Enter(node.clone()));
        Ok(())
    }
    fn leave(&mut self) -> Result<(), SinkError> {
        self.steps.push(Step::Leave);
        Ok(())
    }
    fn leaf(&mut self, node: &Node) -> Result<(), SinkError> {
        self.steps.push(Step::Leaf(node.clone()));
        Ok(())
    }
    fn reuse(&mut self, node: &Node) -> Result<bool, SinkError> {
        if let Some(on_examined) = &mut self.on_examined {
            on_examined(&node.name);
        }
        Ok(false)
    }
    fn begin_file(&mut self) -> Result<MemoryFile, SinkError> {
        Ok(MemoryFile { bytes: Vec::new(), on_write: self.on_write.clone() })
    }
    fn end_file(&mut self, file: MemoryFile, node: &Node) -> Result<(), SinkError> {
        self.steps.push(Step::File(node.clone(), file.bytes));
        Ok(())
    }
}

fn walk_with(
    root: &Path,
    exclude: &[&str],
    on_write: Option<OnWrite>,
) -> Result<(Vec<Step>, WalkReport), WalkError<SinkError>> {
    walk_into(Memory { on_write, ..Memory::default() }, root, exclude, &Cancel::new())
}

fn walk_into(
    mut sink: Memory,
    root: &Path,
    exclude: &[&str],
    cancel: &Cancel,
) -> Result<(Vec<Step>, WalkReport), WalkError<SinkError>> {
    let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
    let options = WalkOptions { exclude, ..WalkOptions::default() };
    let report = read_tree(root, b"root", &options, cancel, &mut sink, &mut |_, _| {})?;
    Ok((sink.steps, report))
}

fn walk(root: &Path) -> Vec<Step> {
    walk_with(root, &[], None).unwrap().0
}

fn create(target: &Path, steps: &[Step]) {
    let mut creator = TreeCreator::open(target).unwrap();
    for step in steps {
        match step {
            Step::Enter(node) => creator.enter(node).unwrap(),
            Step::Leave => creator.leave().unwrap(),
            Step::Leaf(node) => creator.leaf(node).unwrap(),
            Step::File(node, bytes) => {
                let file = creator.create_file(node).unwrap();
                file.write_at(0, bytes).unwrap();
                file.finish(node).unwrap();
            }
        }
    }
    assert_eq!(creator.finish().unwrap().warnings, Vec::<String>::new());
}

/// What must be the same after a restore: everything but inode numbers, link counts and inode times.
fn comparable(steps: Vec<Step>) -> Vec<Step> {
    let plain = |mut node: Node| {
        (node.inode, node.device_id, node.links) = (0, 0, 0);
        node.ctime = node.mtime;
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

fn strange_tree(root: &Path) {
    fs::create_dir_all(root.join("dir/empty")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"latin-\xff\nname")), "x").unwrap();
    fs::write(root.join("n".repeat(255)), "").unwrap();
    fs::write(root.join("dir/set-user-id"), "#!").unwrap();
    fs::set_permissions(root.join("dir/set-user-id"), fs::Permissions::from_mode(0o4750)).unwrap();
    fs::set_permissions(root.join("dir/empty"), fs::Permissions::from_mode(0o1500)).unwrap();
    std::os::unix::fs::symlink("../nowhere", root.join("dangling")).unwrap();
    std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
    let fifo = root.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .unwrap();
    let old = fs::File::options().write(true).open(root.join("dir/set-user-id")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH - std::time::Duration::new(1000, 5)).unwrap();
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(root.join("dir"), "user.note", b"kept", flags).unwrap();
}

#[test]
fn strange_entries_come_back_as_they_were() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    strange_tree(source.path());
    let steps = walk(source.path());
    create(target.path(), &steps);
    assert_eq!(comparable(walk(&target.path().join("root"))), comparable(steps.clone()));
    let attribute = ExtendedAttribute { name: "user.note".into(), value: b"kept".to_vec() };
    let has_attribute = |step: &Step| matches!(step, Step::Enter(node) if node.extended_attributes == [attribute.clone()]);
    assert!(steps.iter().any(has_attribute));
}

#[test]
fn a_sparse_gigabyte_is_read_and_made_without_being_filled() {
    let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = source.path().join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(300 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"middle", 150 << 20).unwrap();
    let steps = walk(source.path());
    create(target.path(), &steps);
    let restored = target.path().join("root/sparse");
    assert_eq!(fs::metadata(&restored).unwrap().len(), 300 << 20);
    assert!(fs::metadata(&restored).unwrap().blocks() * 512 < 1 << 20);
    assert!(fs::read(&restored).unwrap() == fs::read(&path).unwrap());
}

#[test]
fn what_cannot_be_read_fails_and_names_the_path() {
    // Reading the first page of a process's memory is an I/O error on any Linux.
    let error = walk_with(Path::new("/proc/self/mem"), &[], None).unwrap_err();
    assert!(error.to_string().contains("/proc/self/mem"), "{error}");
    let error = walk_with(Path::new("/nonexistent/place"), &[], None).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/place") && error.hint().is_some(), "{error}");
    let error = walk_with(Path::new("/dev/null"), &[], None).unwrap_err();
    assert!(error.to_string().contains("neither a directory nor a regular file"), "{error}");
}

#[test]
fn patterns_leave_names_and_paths_out() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir_all(source.path().join("cache/deep")).unwrap();
    fs::create_dir_all(source.path().join("a/cache")).unwrap();
    for file in ["x.tmp", "keep.txt", "cache/y", "a/z.tmp", "a/cache/kept"] {
        fs::write(source.path().join(file), "").unwrap();
    }
    let (steps, report) = walk_with(source.path(), &["*.tmp", "/cache"], None).unwrap();
    let names: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::File(node, _) => Some(String::from_utf8_lossy(&node.name).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!((names, report.excluded), (vec!["kept".to_owned(), "keep.txt".to_owned()], 3));
}

#[test]
fn a_root_that_is_a_link_is_followed_and_a_root_that_is_a_file_is_one() {
    let source = tempfile::tempdir().unwrap();
    fs::create_dir(source.path().join("real")).unwrap();
    fs::write(source.path().join("real/f"), "x").unwrap();
    std::os::unix::fs::symlink("real", source.path().join("link")).unwrap();
    assert_eq!(walk(&source.path().join("link")).len(), 3);
    assert!(
        matches!(walk(&source.path().join("real/f")).as_slice(), [Step::File(node, bytes)] if node.name == b"root" && bytes == b"x")
    );
}

/// A random tree as a recipe.
#[derive(Clone, Debug)]
enum Made {
    File(Vec<u8>, u32),
    Link(Vec<u8>),
    Directory(Vec<(Vec<u8>, Made)>, u32),
}

fn made() -> impl Strategy<Value = Made> {
    let bytes = |length| proptest::collection::vec(1_u8.., 1..length);
    let leaf = prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..9000), 0o400_u32..0o1000)
            .prop_map(|(b, m)| Made::File(b, m)),
        bytes(50).prop_map(Made::Link),
    ];
    leaf.prop_recursive(4, 24, 5, move |inner| {
        let name = bytes(12).prop_filter("a name", |name| crate::model::node::is_valid_name(name));
        (proptest::collection::vec((name, inner), 0..5), 0o700_u32..0o1000)
            .prop_map(|(c, m)| Made::Directory(c, m))
    })
}

fn build(path: &Path, made: &Made) {
    match made {
        Made::File(bytes, bits) => {
            fs::write(path, bytes).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(*bits)).unwrap();
        }
        Made::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), path).unwrap(),
        Made::Directory(children, bits) => {
            fs::create_dir(path).unwrap();
            for (name, child) in children {
                let path = path.join(OsStr::from_bytes(name));
                if path.symlink_metadata().is_err() {
                    build(&path, child);
                }
            }
            fs::set_permissions(path, fs::Permissions::from_mode(*bits)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_tree_comes_back(children in proptest::collection::vec(made(), 0..4)) {
        let (source, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for (number, child) in children.iter().enumerate() {
            build(&source.path().join(number.to_string()), child);
        }
        let steps = walk(source.path());
        create(target.path(), &steps);
        prop_assert_eq!(comparable(walk(&target.path().join("root"))), comparable(steps));
    }
}
