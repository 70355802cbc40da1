//! Looking into snapshots: their manifests and their files.

use super::select::SnapshotRef;
use super::session::Session;
use super::{Context, OpsError};
use crate::model::exact_path::ExactPath;
use crate::model::id::SnapshotId;
use crate::model::manifest::{Manifest, SCHEMA_VERSION};
use crate::model::node::{NodeKind, display_path, parse_path};
use crate::repository::format::FormatError;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use crate::repository::{RepositoryError, Snapshot};
use jiff::Timestamp;
use serde::Serialize;

/// The bytes that a manifest may have: a component is a few hundred.
const MAX_MANIFEST_BYTES: usize = 64 * 1024 * 1024;
/// The manifest's place in a snapshot.
pub(super) const MANIFEST: &[u8] = b"manifest.json";

/// The manifest of a snapshot; none where another program made it.
pub(super) fn read_manifest(
    reader: &Reader,
    snapshot: &Snapshot,
) -> Result<Option<Manifest>, RepositoryError> {
    if !snapshot.file.has_tag(super::select::TAG) {
        return Ok(None);
    }
    let root = reader.tree(snapshot.file.tree)?;
    let invalid = |error: FormatError| {
        RepositoryError::format(&format_args!("the manifest of snapshot {}", snapshot.id), error)
    };
    let Some(node) = root.iter().find(|node| node.node.name == MANIFEST) else {
        return Err(invalid(FormatError::invalid("it is not there")));
    };
    let bytes = reader.content(node, MAX_MANIFEST_BYTES)?;
    let manifest = parse_manifest(&bytes).map_err(invalid)?;
    Ok(Some(manifest))
}

/// A manifest from its JSON.
pub fn parse_manifest(json: &[u8]) -> Result<Manifest, FormatError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let invalid = |error: serde_json::Error| FormatError::Invalid(error.to_string());
    // The version first: a newer manifest may have what this program cannot read.
    let Version { schema } = serde_json::from_slice(json).map_err(invalid)?;
    if schema > SCHEMA_VERSION {
        return Err(FormatError::Invalid(format!(
            "it has schema version {schema}, and this program reads up to {SCHEMA_VERSION}: use a newer Belay"
        )));
    }
    serde_json::from_slice(json).map_err(invalid)
}

/// What `show` tells of a snapshot.
#[derive(Debug, Serialize)]
pub struct Shown {
    /// Its id.
    pub id: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// The instance's name, or the machine's for snapshots of other programs.
    pub host: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its manifest; none where another program made it.
    pub manifest: Option<Manifest>,
}

/// Tell what a snapshot holds.
pub fn show(
    session: &Session,
    snapshot: &SnapshotRef,
    context: &Context,
) -> Result<Shown, OpsError> {
    let _lock = session.lock_for_reading("show", context)?;
    let reader = Reader::new(&session.repository)?;
    let snapshot = snapshot.resolve(&session.repository.snapshots()?, &reader, session)?;
    let manifest = read_manifest(&reader, &snapshot)?;
    let Snapshot { id, file } = snapshot;
    Ok(Shown {
        id,
        time: file.time,
        host: file.hostname.clone(),
        tags: file.tags().to_vec(),
        manifest,
    })
}

/// An entry of a snapshot, as `ls` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `path`: where it is in the snapshot.
    #[serde(flatten)]
    pub path: ExactPath,
    /// `file`, `dir`, `symlink`, `dev`, `chardev`, `fifo` or `socket`.
    pub kind: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of content; 0 for anything but files.
    pub size: u64,
    /// Last change.
    pub mtime: Timestamp,
    /// `target`: a symbolic link's.
    #[serde(flatten)]
    pub target: Option<ExactPath>,
}

impl Entry {
    fn new(path: &[u8], TreeNode { node, .. }: &TreeNode) -> Self {
        let (kind, size, target) = match &node.kind {
            NodeKind::File { size } => ("file", *size, None),
            NodeKind::Directory => ("dir", 0, None),
            NodeKind::Symlink { target } => {
                ("symlink", 0, Some(ExactPath::of_bytes("target", target)))
            }
            NodeKind::BlockDevice { .. } => ("dev", 0, None),
            NodeKind::CharDevice { .. } => ("chardev", 0, None),
            NodeKind::Fifo => ("fifo", 0, None),
            NodeKind::Socket => ("socket", 0, None),
        };
        let (mode, uid, gid, mtime) = (node.mode, node.uid, node.gid, node.mtime);
        let path = ExactPath::of_bytes("path", path);
        Self { path, kind, mode, uid, gid, size, mtime, target }
    }
}

/// List the entries of a snapshot below `path`, which may be as they are shown (all below `/` where it is empty), each
/// handed to `each` as it is read.
pub fn list_entries(
    session: &Session,
    snapshot: &SnapshotRef,
    path: &[u8],
    context: &Context,
    each: &mut dyn FnMut(Entry),
) -> Result<(), OpsError> {
    let _lock = session.lock_for_reading("ls", context)?;
    let reader = Reader::new(&session.repository)?;
    let snapshot = snapshot.resolve(&session.repository.snapshots()?, &reader, session)?;
    let path = parse_path(path);
    let wanted = path_components(&path);
    let mut found = wanted.is_empty();
    walk(&reader, &snapshot, &mut |path, node| {
        context.cancel.check()?;
        let own = path.split(|byte| *byte == b'/').skip(1);
        let shared = own.clone().zip(&wanted).take_while(|(own, wanted)| *own == **wanted).count();
        let depth = own.count();
        if shared == wanted.len() {
            found = true;
            each(Entry::new(path, node));
        }
        // Below what is wanted everything is walked, above it only the way there.
        Ok(shared == wanted.len() || shared == depth)
    })?;
    if found {
        return Ok(());
    }
    Err(OpsError::usage(
        format!("'{}' is not in snapshot {}", display_path(&path), snapshot.id.short()),
        "`belay ls SNAPSHOT` shows what is",
    ))
}

/// A path as a person gives it, in parts.
pub(super) fn path_components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect()
}

/// Called with an entry's path and the entry; says whether to go into a directory.
type Visit<'a> = dyn FnMut(&[u8], &TreeNode) -> Result<bool, OpsError> + 'a;

/// Visit all entries of a snapshot, parents first.
pub(super) fn walk(
    reader: &Reader,
    snapshot: &Snapshot,
    visit: &mut Visit<'_>,
) -> Result<(), OpsError> {
    // Paths are as deep as a hostile repository likes: the stack is ours, not the thread's.
    let mut open = vec![(Vec::new(), reader.open_tree(snapshot.file.tree, 0)?)];
    while let Some((parent, nodes)) = open.last_mut() {
        let Some(node) = nodes.next() else {
            open.pop();
            continue;
        };
        let path = [parent.as_slice(), b"/", &node.node.name].concat();
        if visit(&path, &node)?
            && let Some(subtree) = node.subtree
        {
            let nodes = reader.open_tree(subtree, path.len())?;
            open.push((path, nodes));
        }
    }
    Ok(())
}
