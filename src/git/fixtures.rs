//! Git repositories for tests: the samples that stock git makes, and whatever objects a test wants.

use git2::{ObjectType, Oid, Repository};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// The four samples of `tests/fixtures/git/make.sh`.
pub(super) struct Samples(TempDir);

impl Samples {
    pub(super) fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/git/make.sh");
        let made = Command::new("bash").arg(script).arg(directory.path()).output().unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "tests need git and bash: {said}");
        Self(directory)
    }

    pub(super) fn open(&self, name: &str) -> Repository {
        Repository::open_bare(self.0.path().join(format!("{name}.git"))).unwrap()
    }
}

/// The commit of a branch.
pub(super) fn branch(repository: &Repository, name: &str) -> Oid {
    repository.refname_to_id(&format!("refs/heads/{name}")).unwrap()
}

/// A git repository made of objects.
pub(super) struct Made {
    pub(super) repository: Repository,
    _directory: TempDir,
}

/// What a directory is to have.
#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Vec<u8>),
    Link(Vec<u8>),
    Submodule(Oid),
    /// An object that need not be there, as a directory or a file.
    Object {
        mode: u32,
        id: Oid,
    },
    Directory(BTreeMap<Vec<u8>, Node>),
}

impl Made {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(directory.path()).unwrap();
        // Objects stay in memory: a test may make thousands.
        repository.odb().unwrap().add_new_mempack_backend(999).unwrap();
        Self { repository, _directory: directory }
    }

    /// A commit of these files, by their paths.
    pub(super) fn commit(&self, files: &[(&str, &str)], parents: &[Oid]) -> Oid {
        let mut root = BTreeMap::new();
        for (path, content) in files {
            put(&mut root, path.as_bytes(), Node::File(content.as_bytes().to_vec()));
        }
        self.commit_of(&Node::Directory(root), parents)
    }

    pub(super) fn commit_of(&self, root: &Node, parents: &[Oid]) -> Oid {
        let (_, tree) = self.write(root);
        self.commit_tree(tree, parents)
    }

    /// A commit of a directory that need not be there.
    pub(super) fn commit_tree(&self, tree: Oid, parents: &[Oid]) -> Oid {
        let mut text = format!("tree {tree}\n");
        for parent in parents {
            text.extend(["parent ", &parent.to_string(), "\n"]);
        }
        text += "author A <a@example.com> 1 +0000\ncommitter C <c@example.com> 2 +0000\n\nm\n";
        self.object(ObjectType::Commit, text.as_bytes())
    }

    pub(super) fn object(&self, kind: ObjectType, content: &[u8]) -> Oid {
        self.repository.odb().unwrap().write(kind, content).unwrap()
    }

    /// Write a directory as it is given: git itself would refuse many of the names.
    pub(super) fn write(&self, node: &Node) -> (u32, Oid) {
        match node {
            Node::File(content) => (0o100_644, self.object(ObjectType::Blob, content)),
            Node::Link(target) => (0o120_000, self.object(ObjectType::Blob, target)),
            Node::Submodule(commit) => (0o160_000, *commit),
            Node::Object { mode, id } => (*mode, *id),
            Node::Directory(entries) => {
                let mut written: Vec<(&Vec<u8>, u32, Oid)> = Vec::new();
                for (name, node) in entries {
                    let (mode, id) = self.write(node);
                    written.push((name, mode, id));
                }
                // In git's order a directory's name ends with a slash.
                written.sort_by_key(|(name, mode, _)| {
                    let slash: &[u8] = if *mode == 0o040_000 { b"/" } else { b"" };
                    [name.as_slice(), slash].concat()
                });
                let mut tree = Vec::new();
                for (name, mode, id) in written {
                    tree.extend(format!("{mode:o} ").bytes());
                    tree.extend(name.iter().chain(&[0]).chain(id.as_bytes()));
                }
                (0o040_000, self.object(ObjectType::Tree, &tree))
            }
        }
    }
}

/// Put a node at a path.
pub(super) fn put(root: &mut BTreeMap<Vec<u8>, Node>, path: &[u8], node: Node) {
    let mut names = path.split(|byte| *byte == b'/').peekable();
    let mut directory = root;
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            directory.insert(name.to_vec(), node);
            return;
        }
        let below =
            directory.entry(name.to_vec()).or_insert_with(|| Node::Directory(BTreeMap::new()));
        if !matches!(below, Node::Directory(_)) {
            *below = Node::Directory(BTreeMap::new());
        }
        let Node::Directory(next) = below else { unreachable!("it was just made one") };
        directory = next;
    }
}
