//! The tree of a snapshot while it is built: what a component delivers becomes blobs and directories of the repository.

use crate::component::files::walk::TreeSink;
use crate::model::id::{BlobId, Sha256};
use crate::model::node::{Node, NodeKind};
use crate::ops::checksums::{ChecksumWriter, Checksums};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use crate::repository::writer::{FileStream, PendingContent, Writer};
use jiff::Timestamp;
use std::collections::HashMap;

/// Builds one directory tree, or one file, of a snapshot.
pub(super) struct TreeBuilder<'a> {
    writer: &'a Writer,
    previous: Option<Previous<'a>>,
    open: Vec<OpenDirectory>,
    checksums: &'a mut ChecksumWriter,
    root: Option<TreeNode>,
}

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
    /// The same directory in the snapshot before.
    previous: HashMap<Vec<u8>, TreeNode>,
}

enum Child {
    Ready(TreeNode),
    File(Node, PendingContent),
    Reused(TreeNode),
}

impl<'a> TreeBuilder<'a> {
    pub(super) fn new(
        writer: &'a Writer,
        previous: Option<Previous<'a>>,
        checksums: &'a mut ChecksumWriter,
    ) -> Self {
        Self { writer, previous, open: Vec::new(), checksums, root: None }
    }

    /// The root, once everything was delivered.
    pub(super) fn finish(self) -> Result<TreeNode, RepositoryError> {
        self.root.ok_or_else(|| RepositoryError::Internal("a component delivered no root".into()))
    }

    /// What the snapshot before has under `name` in the directory that is open now.
    fn previous_node(&mut self, name: &[u8]) -> Option<TreeNode> {
        match self.open.last_mut() {
            Some(directory) => directory.previous.remove(name),
            None => Some(self.previous.as_ref()?.root.clone()),
        }
    }

    fn add(&mut self, child: Child) -> Result<(), RepositoryError> {
        if let Some(directory) = self.open.last_mut() {
            directory.children.push(child);
            return Ok(());
        }
        self.root = Some(self.complete(child, &[])?);
        Ok(())
    }

    /// Wait for a file's blobs, and note its sum.
    fn complete(&mut self, child: Child, directory: &[u8]) -> Result<TreeNode, RepositoryError> {
        match child {
            Child::Ready(node) => Ok(node),
            Child::File(node, pending) => {
                let content = pending.wait()?;
                self.checksums.add(&join(directory, &node.name), content.sha256)?;
                Ok(TreeNode { node, content: content.blobs, subtree: None })
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
        let mut previous = HashMap::new();
        if let (Some(id), Some(Previous { reader, .. })) = (subtree, &self.previous) {
            match reader.tree(id) {
                Ok(nodes) => {
                    previous =
                        nodes.into_iter().map(|node| (node.node.name.clone(), node)).collect();
                }
                // Its files are read again, and it is stored again if nothing in it changed.
                Err(error) if error.is_damage() => self.writer.distrust_trees(),
                Err(error) => return Err(error),
            }
        }
        let path = self
            .open
            .last()
            .map_or_else(|| node.name.clone(), |parent| join(&parent.path, &node.name));
        self.open.push(OpenDirectory { node: node.clone(), path, children: Vec::new(), previous });
        Ok(())
    }

    fn leave(&mut self) -> Result<(), RepositoryError> {
        let internal = || {
            RepositoryError::Internal("a component left more directories than it entered".into())
        };
        let OpenDirectory { node, path, children, .. } = self.open.pop().ok_or_else(internal)?;
        let mut nodes = Vec::with_capacity(children.len());
        for child in children {
            nodes.push(self.complete(child, &path)?);
        }
        let subtree = Some(self.writer.tree(&nodes)?);
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
        let pending = file.finish()?;
        self.add(Child::File(node.clone(), pending))
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
    writer.tree(nodes)
}
