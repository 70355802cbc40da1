//! What differs between two snapshots.

use super::select::SnapshotRef;
use super::session::Session;
use super::{Context, OpsError};
use crate::model::exact_path::ExactPath;
use crate::model::id::BlobId;
use crate::model::node::{Node, NodeKind};
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use serde::Serialize;
use std::cmp::Ordering;

/// How an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only in the second snapshot.
    Added,
    /// Only in the first.
    Removed,
    /// Another content, target or kind.
    Modified,
    /// The same content with another owner, mode, time or attribute.
    Metadata,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How.
    pub change: Change,
    /// `path`: where it is in the snapshots; a directory ends with `/`.
    #[serde(flatten)]
    pub path: ExactPath,
    /// Bytes in the first snapshot.
    pub size_before: u64,
    /// Bytes in the second.
    pub size_after: u64,
}

/// Compare snapshot `a` with snapshot `b`; each difference is handed to `each` as it is found.
pub fn diff(
    session: &Session,
    (a, b): (&SnapshotRef, &SnapshotRef),
    context: &Context,
    each: &mut dyn FnMut(Difference),
) -> Result<(), OpsError> {
    let _lock = session.lock_for_reading("diff", context)?;
    let reader = Reader::new(&session.repository)?;
    let snapshots = session.repository.snapshots()?;
    let tree = |reference: &SnapshotRef| {
        Ok::<_, OpsError>(reference.resolve(&snapshots, &reader, session)?.file.tree)
    };
    let mut open = vec![(Vec::new(), Some(tree(a)?), Some(tree(b)?))];
    while let Some((parent, before, after)) = open.pop() {
        context.cancel.check()?;
        let nodes = |id: Option<BlobId>| id.map_or_else(|| Ok(Vec::new()), |id| reader.tree(id));
        for (before, after) in pair(nodes(before)?, nodes(after)?) {
            compare(&parent, before.as_ref(), after.as_ref(), each, &mut open);
        }
    }
    Ok(())
}

type OpenPair = (Vec<u8>, Option<BlobId>, Option<BlobId>);

fn compare(
    parent: &[u8],
    before: Option<&TreeNode>,
    after: Option<&TreeNode>,
    each: &mut dyn FnMut(Difference),
    open: &mut Vec<OpenPair>,
) {
    let Some(node) = after.or(before) else { return };
    let path = [parent, b"/", &node.node.name].concat();
    let (tree_before, tree_after) =
        (before.and_then(|node| node.subtree), after.and_then(|node| node.subtree));
    let change = match (before, after) {
        (None, _) => Some(Change::Added),
        (_, None) => Some(Change::Removed),
        (Some(before), Some(after))
            if before.content != after.content || !same_kind(&before.node, &after.node) =>
        {
            Some(Change::Modified)
        }
        (Some(before), Some(after)) if !same_metadata(&before.node, &after.node) => {
            Some(Change::Metadata)
        }
        _ => None,
    };
    if let Some(change) = change {
        let size = |node: Option<&TreeNode>| match node.map(|node| &node.node.kind) {
            Some(NodeKind::File { size }) => *size,
            _ => 0,
        };
        let slash: &[u8] = if node.node.kind == NodeKind::Directory { b"/" } else { b"" };
        let path = ExactPath::of_bytes("path", &[&path, slash].concat());
        each(Difference { change, path, size_before: size(before), size_after: size(after) });
    }
    if tree_before != tree_after {
        open.push((path, tree_before, tree_after));
    }
}

fn same_kind(a: &Node, b: &Node) -> bool {
    a.kind == b.kind
}

/// Everything that a restore brings back; inode numbers and the like differ after each restore.
fn same_metadata(a: &Node, b: &Node) -> bool {
    (a.mode, a.mtime, a.uid, a.gid) == (b.mode, b.mtime, b.uid, b.gid)
        && a.extended_attributes == b.extended_attributes
}

/// Join two sorted lists by name.
fn pair(before: Vec<TreeNode>, after: Vec<TreeNode>) -> Vec<(Option<TreeNode>, Option<TreeNode>)> {
    let (mut before, mut after) = (before.into_iter().peekable(), after.into_iter().peekable());
    let mut pairs = Vec::new();
    loop {
        let order = match (before.peek(), after.peek()) {
            (None, None) => return pairs,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(a), Some(b)) => a.node.name.cmp(&b.node.name),
        };
        let first = if order.is_le() { before.next() } else { None };
        let second = if order.is_ge() { after.next() } else { None };
        pairs.push((first, second));
    }
}
