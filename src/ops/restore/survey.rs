//! Walks over what a restore would write, which write nothing: how much it is, and whether it can be had.

use super::Source;
use super::selection::{Part, Selection};
use crate::model::id::{BlobId, FileId};
use crate::model::node::{Node, NodeKind, display_path};
use crate::ops::{Context, OpsError};
use crate::repository::format::FormatError;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::{OpenTree, Reader};
use crate::repository::{Repository, RepositoryError};
use crate::store::FileKind;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};

/// What file systems give out at a time, most of them.
const BLOCK_BYTES: u64 = 4096;

/// A crafted repository can say "this directory, twice" sixty times and mean 2^60 files.
const MAX_ENTRIES: u64 = 200_000_000;

/// Files and bytes that a selection comes to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) files: u64,
    /// Bytes of content, as the files' lengths have them.
    pub(super) bytes: u64,
    /// Those that are written: without holes, and a file of several names once.
    pub(super) written: u64,
    /// What that takes on a disk at most: whole blocks, and one for each directory.
    pub(super) bytes_on_disk: u64,
}

impl Size {
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.written = self.written.saturating_add(other.written);
        self.bytes_on_disk = self.bytes_on_disk.saturating_add(other.bytes_on_disk);
    }
}

/// What two names of one file have in common. The content, too: in a snapshot made of several, or by somebody else, an inode
/// may stand for more than one file.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::ops) struct Linked {
    device_id: u64,
    inode: u64,
    size: u64,
    content: Vec<BlobId>,
}

impl Linked {
    /// None where the file has one name.
    pub(in crate::ops) fn of(TreeNode { node, content, .. }: &TreeNode) -> Option<Self> {
        let Node { device_id, inode, links, .. } = *node;
        let NodeKind::File { size } = node.kind else { return None };
        (links > 1 && inode != 0).then(|| Self { device_id, inode, size, content: content.clone() })
    }
}

/// A directory whose entries are being walked.
pub(in crate::ops) struct Open {
    pub(in crate::ops) path: Vec<u8>,
    pub(in crate::ops) nodes: OpenTree,
}

/// Finds holes by their chunks: of zeros there are two or more in a row, all the same.
#[derive(Default)]
struct Holes {
    zeros: HashMap<u64, BlobId>,
}

impl Holes {
    /// Bytes of a file that a restore does not write. A hole need not begin where a block does, so it may be a block less.
    fn in_file(&mut self, content: &[BlobId], reader: &Reader) -> Result<u64, RepositoryError> {
        let mut bytes = 0;
        let mut of_last = 0;
        for (index, id) in content.iter().enumerate() {
            if index > 0 && content[index - 1] == *id {
                bytes += of_last;
                continue;
            }
            of_last = 0;
            if content.get(index + 1) == Some(id) {
                let length = reader.locate(BlobKind::Data, *id)?.blob.plaintext_length();
                if self.zeros_of(length) == *id {
                    of_last = length.saturating_sub(BLOCK_BYTES);
                    bytes += of_last;
                }
            }
        }
        Ok(bytes)
    }

    /// The name of so many zeros.
    fn zeros_of(&mut self, length: u64) -> BlobId {
        const SOME: [u8; 4096] = [0; 4096];
        *self.zeros.entry(length).or_insert_with(|| {
            let mut sum = Sha256::new();
            let mut left = length;
            while left > 0 {
                let now = left.min(SOME.len() as u64);
                sum.update(&SOME[..now as usize]);
                left -= now;
            }
            BlobId(sum.finalize().into())
        })
    }
}

/// How much there is to restore.
pub(super) fn measure(
    reader: &Reader,
    roots: Vec<TreeNode>,
    selection: &Selection,
    context: &Context,
) -> Result<Size, OpsError> {
    let mut size = Size::default();
    let mut holes = Holes::default();
    let mut seen = HashSet::new();
    visit(reader, roots, selection, context, |file, _| {
        let NodeKind::File { size: bytes } = file.node.kind else {
            size.add(Size { bytes_on_disk: BLOCK_BYTES, ..Size::default() });
            return Ok(());
        };
        let is_another_name = Linked::of(file).is_some_and(|linked| !seen.insert(linked));
        let written = if is_another_name {
            0
        } else {
            bytes.saturating_sub(holes.in_file(&file.content, reader)?)
        };
        let bytes_on_disk = written.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX);
        size.add(Size { files: 1, bytes, written, bytes_on_disk });
        Ok(())
    })?;
    Ok(size)
}

/// Read all that would be restored: an error where a byte of it cannot be had.
pub(super) fn read_all(
    reader: &Reader,
    roots: Vec<TreeNode>,
    context: &Context,
) -> Result<(), OpsError> {
    visit(reader, roots, &Selection::everything(), context, |node, path| {
        let shown = || display_path(path);
        let mut length = 0_u64;
        for id in &node.content {
            context.cancel.check()?;
            let blob = reader.blob(BlobKind::Data, *id).map_err(|error| at(&shown(), error))?;
            length += blob.len() as u64;
        }
        ensure_length(&node.node, length, shown)
    })
}

/// An error when anything that would be read is gone from the repository by now. Reading without a lock, somebody else may
/// have pruned it.
pub(super) fn ensure_still_stored(
    repository: &Repository,
    source: &Source,
    roots: Vec<TreeNode>,
    context: &Context,
) -> Result<(), OpsError> {
    let reader = &source.reader;
    let mut needed: HashSet<FileId> = HashSet::new();
    visit(reader, roots, &Selection::everything(), context, |node, _| {
        let data = node.content.iter().map(|id| (BlobKind::Data, *id));
        for (kind, id) in data.chain(node.subtree.map(|id| (BlobKind::Tree, id))) {
            needed.insert(reader.locate(kind, id)?.pack);
        }
        Ok(())
    })?;
    let packs = repository.store().list(FileKind::Pack).map_err(RepositoryError::from)?;
    for pack in packs {
        needed.remove(&pack.id);
    }
    let short = source.snapshot.id.short();
    let gone = if !repository.snapshot_ids()?.contains(&source.snapshot.id) {
        format!("snapshot {short} has been removed from the repository")
    } else if !needed.is_empty() {
        format!("{} packs of snapshot {short} have gone from the repository", needed.len())
    } else {
        return Ok(());
    };
    Err(OpsError::refused(
        format!("{gone} since the restore began: nothing is deleted for it"),
        "see who prunes the repository meanwhile, and choose a snapshot that `belay check` finds whole",
    ))
}

/// Walk what is selected whole; directories on the way to it are passed over.
fn visit(
    reader: &Reader,
    roots: Vec<TreeNode>,
    selection: &Selection,
    context: &Context,
    mut look: impl FnMut(&TreeNode, &[u8]) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let mut entries = 0_u64;
    let mut open = vec![Open { path: Vec::new(), nodes: roots.into() }];
    while let Some(directory) = open.last_mut() {
        context.cancel.check()?;
        let Some(node) = directory.nodes.next() else {
            open.pop();
            continue;
        };
        let path = [directory.path.as_slice(), b"/", &node.node.name].concat();
        let part = selection.part(&path);
        if part == Part::Whole {
            look(&node, &path)?;
        }
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(OpsError::WrongFile {
                object: "the snapshot".into(),
                reason: format!("it has more than {MAX_ENTRIES} entries"),
            });
        }
        if let Some(subtree) = node.subtree.filter(|_| part != Part::None) {
            let nodes = reader.open_tree(subtree, path.len())?;
            open.push(Open { path, nodes });
        }
    }
    Ok(())
}

/// An error when a file's blobs do not have as many bytes as it should.
pub(super) fn ensure_length(
    node: &Node,
    length: u64,
    shown: impl FnOnce() -> String,
) -> Result<(), OpsError> {
    let NodeKind::File { size } = node.kind else { return Ok(()) };
    if length == size {
        return Ok(());
    }
    let error =
        FormatError::Invalid(format!("its blobs have {length} bytes, and it should have {size}"));
    Err(RepositoryError::Damaged { file: shown(), source: error }.into())
}

/// A damaged blob, with the file that needs it.
pub(in crate::ops) fn at(path: &str, error: RepositoryError) -> OpsError {
    if error.is_damage() {
        return OpsError::WrongFile { object: path.to_owned(), reason: error.to_string() };
    }
    error.into()
}
