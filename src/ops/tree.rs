//! The tree of a snapshot while it is built: what a component delivers becomes blobs and directories of the repository.

use crate::component::files::walk::TreeSink;
use crate::model::id::{BlobId, Sha256};
use crate::model::node::{Node, NodeKind};
use crate::ops::checksums::{ChecksumWriter, Checksums};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::{MAX_MEMORY, TreeNode};
use crate::repository::reader::{OpenTree, Reader};
use crate::repository::writer::{FileStream, PendingContent, Writer};
use jiff::Timestamp;
use std::iter::Peekable;

/// Builds one directory tree, or one file, of a snapshot.
pub(super) struct TreeBuilder<'a> {
    writer: &'a Writer,
    previous: Option<Previous<'a>>,
    open: Vec<OpenDirectory>,
    checksums: &'a mut ChecksumWriter,
    root: Option<TreeNode>,
    /// Bytes of memory that the entries of all open directories take.
    memory: usize,
    /// How many a reader that is in the innermost of them may need.
    limit: usize,
}

/// What is left of a reader's memory for the directories of the snapshot above its components.
const ABOVE: usize = 16 * 1024 * 1024;

/// The same component in the snapshot before, whose unchanged files need not be read again.
pub(super) struct Previous<'a> {
    pub(super) reader: &'a Reader,
    /// The root of the component.
    pub(super) root: TreeNode,
    /// Files that changed since then are read again, whatever their size and times say.
    pub(super) trusted_until: Timestamp,
    /// The sums of its files.
    pub(super) checksums: Checksums<'a>,
}

struct OpenDirectory {
    node: Node,
    /// Its path within the component, for the sums.
    path: Vec<u8>,
    children: Vec<Child>,
    /// Bytes of memory that a reader needs for it.
    memory: usize,
    /// The most that one needs for what lies in one of its directories.
    below: usize,
    /// What is left of the same directory in the snapshot before: entries come in the order of their names.
    previous: Option<Peekable<OpenTree>>,
}

enum Child {
    Ready(TreeNode),
    /// Its blobs may still be on their way.
    File(TreeNode, PendingContent),
    Reused(TreeNode),
}

impl Child {
    fn memory(&self) -> usize {
        match self {
            Self::Ready(node) | Self::Reused(node) => node.memory(),
            Self::File(node, pending) => node.memory() + pending.blobs() * size_of::<BlobId>(),
        }
    }
}

impl<'a> TreeBuilder<'a> {
    pub(super) fn new(
        writer: &'a Writer,
        previous: Option<Previous<'a>>,
        checksums: &'a mut ChecksumWriter,
    ) -> Self {
        let limit = MAX_MEMORY - ABOVE;
        Self { writer, previous, open: Vec::new(), checksums, root: None, memory: 0, limit }
    }

    /// The root, once everything was delivered.
    pub(super) fn finish(self) -> Result<TreeNode, RepositoryError> {
        self.root.ok_or_else(|| RepositoryError::Internal("a component delivered no root".into()))
    }

    /// A file that was written already, in the directory that is open now.
    pub(super) fn add_file(
        &mut self,
        node: Node,
        pending: PendingContent,
    ) -> Result<(), RepositoryError> {
        self.add(Child::File(TreeNode { node, content: Vec::new(), subtree: None }, pending))
    }

    /// What the snapshot before has under `name` in the directory that is open now.
    fn previous_node(&mut self, name: &[u8]) -> Option<TreeNode> {
        match self.open.last_mut() {
            Some(directory) => {
                let previous = directory.previous.as_mut()?;
                while previous.next_if(|old| old.node.name.as_slice() < name).is_some() {}
                previous.next_if(|old| old.node.name == name)
            }
            None => Some(self.previous.as_ref()?.root.clone()),
        }
    }

    fn add(&mut self, child: Child) -> Result<(), RepositoryError> {
        if !self.open.is_empty() {
            self.account(child.memory())?;
        }
        if let Some(directory) = self.open.last_mut() {
            directory.children.push(child);
            return Ok(());
        }
        self.root = Some(self.complete(child, &[])?);
        Ok(())
    }

    /// The innermost directory needs `bytes` more. What a reader could not hold is not stored: it would be a snapshot that
    /// nobody reads. A reader that is in a directory holds all above it, so what is open counts together.
    fn account(&mut self, bytes: usize) -> Result<(), RepositoryError> {
        self.memory += bytes;
        let Some(directory) = self.open.last_mut() else { return Ok(()) };
        directory.memory += bytes;
        if self.memory + directory.below <= self.limit {
            return Ok(());
        }
        let largest = self.open.iter().max_by_key(|directory| directory.memory + directory.below);
        let path = largest.map_or(&[][..], |largest| &largest.path);
        Err(RepositoryError::large_directory(path, self.limit))
    }

    /// Wait for a file's blobs, and note its sum.
    fn complete(&mut self, child: Child, directory: &[u8]) -> Result<TreeNode, RepositoryError> {
        match child {
            Child::Ready(node) => Ok(node),
            Child::File(node, pending) => {
                let content = pending.wait()?;
                self.checksums.add(&join(directory, &node.node.name), content.sha256)?;
                Ok(TreeNode { content: content.blobs, ..node })
            }
            Child::Reused(node) => {
                let path = join(directory, &node.node.name);
                let sum = self.sum_of_reused(&node, &path)?;
                self.checksums.add(&path, sum)?;
                Ok(node)
            }
        }
    }

    fn sum_of_reused(&mut self, node: &TreeNode, path: &[u8]) -> Result<Sha256, RepositoryError> {
        if let [only] = node.content.as_slice() {
            return Ok((*only).into());
        }
        let internal =
            || RepositoryError::Internal("a file was reused without a snapshot before".into());
        let previous = self.previous.as_mut().ok_or_else(internal)?;
        match previous.checksums.find(path)? {
            Some(sum) => Ok(sum),
            None => previous.reader.sum_of(&node.content),
        }
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}

impl TreeSink for TreeBuilder<'_> {
    type File = FileStream;
    type Error = RepositoryError;

    fn enter(&mut self, node: &Node) -> Result<(), RepositoryError> {
        let subtree = self.previous_node(&node.name).and_then(|previous| previous.subtree);
        let path = self
            .open
            .last()
            .map_or_else(|| node.name.clone(), |parent| join(&parent.path, &node.name));
        let mut previous = None;
        if let (Some(id), Some(Previous { reader, .. })) = (subtree, &self.previous) {
            match reader.open_tree(id, path.len()) {
                Ok(nodes) => previous = Some(nodes.peekable()),
                // Its files are read again, and it is stored again if nothing in it changed.
                Err(error) if error.is_damage() => self.writer.distrust_trees(),
                Err(error) => return Err(error),
            }
        }
        // Walks keep the path from the snapshot's root.
        let beside = b"/files/".len() + path.len();
        let (node, children) = (node.clone(), Vec::new());
        self.open.push(OpenDirectory { node, path, children, memory: 0, below: 0, previous });
        self.account(beside)
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        let internal = || {
            RepositoryError::Internal("a component left more directories than it entered".into())
        };
        let directory = self.open.pop().ok_or_else(internal)?;
        let OpenDirectory { node, path, children, memory, below, previous } = directory;
        drop(previous);
        self.memory -= memory;
        if let Some(parent) = self.open.last_mut() {
            parent.below = parent.below.max(memory + below);
        }
        let complete = |child| self.complete(child, &path);
        let nodes = children.into_iter().map(complete).collect::<Result<Vec<_>, _>>()?;
        let subtree = Some(self.writer.tree(&path, &nodes)?);
        drop(nodes);
        self.add(Child::Ready(TreeNode { node, content: Vec::new(), subtree }))
    }

    fn leaf(&mut self, node: &Node) -> Result<(), RepositoryError> {
        self.add(Child::Ready(TreeNode { node: node.clone(), content: Vec::new(), subtree: None }))
    }

    fn reuse(&mut self, node: &Node) -> Result<bool, RepositoryError> {
        let Some(old) = self.previous_node(&node.name) else { return Ok(false) };
        let trusted_until =
            self.previous.as_ref().map_or(Timestamp::MIN, |previous| previous.trusted_until);
        let is_same = matches!(node.kind, NodeKind::File { .. })
            && old.node.kind == node.kind
            && old.node.mtime == node.mtime
            && old.node.ctime == node.ctime
            && old.node.inode == node.inode
            && node.ctime < trusted_until;
        // A blob that is not in the repository any more is stored again by reading the file again.
        let is_there =
            || old.content.iter().all(|id| self.writer.index().contains(BlobKind::Data, *id));
        if !is_same || !is_there() {
            return Ok(false);
        }
        let reused = TreeNode { node: node.clone(), content: old.content, subtree: None };
        self.add(Child::Reused(reused))?;
        Ok(true)
    }

    fn begin_file(&mut self) -> Result<FileStream, RepositoryError> {
        Ok(self.writer.file())
    }

    fn end_file(&mut self, file: FileStream, node: &Node) -> Result<(), RepositoryError> {
        self.add_file(node.clone(), file.finish()?)
    }
}

/// A directory or file of the snapshot that comes from no disk, such as the manifest.
pub(super) fn made_node(name: &str, kind: NodeKind, time: Timestamp) -> Node {
    let mode = if kind == NodeKind::Directory { 0o700 } else { 0o600 };
    Node {
        name: name.as_bytes().to_vec(),
        kind,
        mode,
        mtime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        links: 1,
        extended_attributes: Vec::new(),
    }
}

/// Store a small file with the given content.
pub(super) fn made_file(
    writer: &Writer,
    name: &str,
    content: &[u8],
    time: Timestamp,
) -> Result<(TreeNode, Sha256), RepositoryError> {
    let mut stream = writer.file();
    stream.append(content)?;
    let content = stream.finish()?.wait()?;
    let node = made_node(name, NodeKind::File { size: content.size }, time);
    Ok((TreeNode { node, content: content.blobs, subtree: None }, content.sha256))
}

/// Store a directory with the given entries, in any order.
pub(super) fn made_directory(
    writer: &Writer,
    name: &str,
    mut nodes: Vec<TreeNode>,
    time: Timestamp,
) -> Result<TreeNode, RepositoryError> {
    let subtree = Some(made_tree(writer, &mut nodes)?);
    Ok(TreeNode { node: made_node(name, NodeKind::Directory, time), content: Vec::new(), subtree })
}

/// Store the entries of a directory, in any order.
pub(super) fn made_tree(
    writer: &Writer,
    nodes: &mut [TreeNode],
) -> Result<BlobId, RepositoryError> {
    nodes.sort_by(|a, b| a.node.name.cmp(&b.node.name));
    writer.tree(b"/", nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::{Cancel, Events};
    use crate::ops::Context;
    use crate::ops::session::Session;
    use crate::ops::state::snapshot_file;
    use crate::repository::Repository;
    use crate::repository::blob_index::BlobIndex;
    use crate::repository::format::key::ScryptCost;
    use crate::repository::lock::LockMode;
    use crate::store::local::LocalStore;
    use std::io::Write as _;
    use std::sync::Arc;
    use std::time::Duration;

    /// Files, `depth` directories that lie side by side and are `depth` deep, and again files: the most memory is needed
    /// in the midst of it.
    fn deliver(builder: &mut TreeBuilder<'_>, depth: usize) -> Result<(), RepositoryError> {
        let node = |name: &str, kind| made_node(name, kind, Timestamp::UNIX_EPOCH);
        let files = |builder: &mut TreeBuilder<'_>, letter: char, count: usize| {
            (0..count).try_for_each(|number| {
                let mut file = builder.begin_file()?;
                write!(file, "{letter}{}", number % 2).expect("the writer runs");
                let size = NodeKind::File { size: 2 };
                builder.end_file(file, &node(&format!("{letter}{number:02}"), size))
            })
        };
        files(builder, 'a', 7 - 2 * depth)?;
        for name in ["m", "n"].into_iter().take(depth) {
            builder.enter(&node(name, NodeKind::Directory))?;
            deliver(builder, depth - 1)?;
            builder.leave()?;
        }
        files(builder, 'z', 3 * depth)
    }

    fn build(writer: &Writer, limit: usize) -> Result<TreeNode, RepositoryError> {
        let mut checksums = ChecksumWriter::new(writer.document());
        let mut builder = TreeBuilder::new(writer, None, &mut checksums);
        builder.limit = limit;
        builder.enter(&made_node("data", NodeKind::Directory, Timestamp::UNIX_EPOCH))?;
        deliver(&mut builder, 2)?;
        builder.leave()?;
        builder.finish()
    }

    /// Walk as restores and listings do.
    fn walk(reader: &Reader, root: TreeNode) -> Result<(), RepositoryError> {
        let mut open = vec![(b"/files".to_vec(), OpenTree::from(vec![root]))];
        while let Some((parent, nodes)) = open.last_mut() {
            let Some(node) = nodes.next() else {
                open.pop();
                continue;
            };
            if let Some(subtree) = node.subtree {
                let path = [parent.as_slice(), b"/", &node.node.name].concat();
                let nodes = reader.open_tree(subtree, path.len())?;
                open.push((path, nodes));
            }
        }
        Ok(())
    }

    #[test]
    fn exactly_what_a_reader_can_hold_is_stored() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(directory.path().join("repository")));
        let repository = Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
        let session = Session::with_parts(Arc::new(repository), None, None, Duration::ZERO);
        let context = Context::new(Events::ignored(), Cancel::new());
        let start = || {
            let index = BlobIndex::load(&session.repository).unwrap();
            Writer::start(&session.repository, index, &context.cancel).unwrap()
        };
        let lock = session.lock(LockMode::Shared, "test", &context).unwrap();
        let writer = start();
        let root = build(&writer, MAX_MEMORY).unwrap();
        let file = snapshot_file(root.subtree.unwrap(), Timestamp::UNIX_EPOCH, vec![]);
        writer.commit(file, &lock, &context.events).unwrap();

        let mut reader = Reader::new(&session.repository).unwrap();
        let writer = start();
        let mut stored = 0;
        let limits = (0..15_000).step_by(100);
        for limit in limits.clone() {
            reader.limit_open(limit);
            let built = build(&writer, limit);
            assert_eq!(built.is_ok(), walk(&reader, root.clone()).is_ok(), "{limit}: {built:?}");
            match built {
                Ok(_) => stored += 1,
                Err(RepositoryError::LargeDirectory { directory, .. }) => {
                    assert!(directory.starts_with("data"), "{directory}");
                }
                Err(error) => panic!("{limit}: {error}"),
            }
        }
        assert!(0 < stored && stored < limits.len(), "{stored}");
    }
}
