//! Reading blobs and trees. Every blob is authenticated, unfolded within bounds, and compared with the sum that names it.

mod ahead;

pub use ahead::ContentAhead;

use super::blob_index::{BlobIndex, Location};
use super::format::compress::{Decompressor, MAX_DATA_BYTES, MAX_TREE_BYTES};
use super::format::crypto::{MasterKey, OVERHEAD};
use super::format::pack::{BlobKind, PackedBlob};
use super::format::tree::{self, TreeNode};
use super::format::{FormatError, verify_sum};
use super::{Repository, RepositoryError};
use crate::model::id::{BlobId, FileId, Sha256};
use crate::store::{FileKind, FileName};
use sha2::Digest as _;
use std::io::{self, Cursor, Read};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Reads from one state of a repository. Several threads may use it at once.
pub struct Reader {
    repository: Arc<Repository>,
    index: Arc<BlobIndex>,
    idle: Mutex<Vec<Decompressor>>,
    /// Bytes of memory that open trees take.
    open: Arc<AtomicUsize>,
    /// How many they may take.
    max_open: usize,
}

/// Memory of a tree that is open; given back when dropped.
pub struct Permit {
    bytes: usize,
    open: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.open.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The entries of a directory that are still to be visited. Walks keep one for each level, and all that a reader has open
/// take a bounded amount of memory, however deep a crafted repository goes.
pub struct OpenTree {
    nodes: std::vec::IntoIter<TreeNode>,
    _permit: Option<Permit>,
}

impl From<Vec<TreeNode>> for OpenTree {
    /// Entries that somebody accounts for already.
    fn from(nodes: Vec<TreeNode>) -> Self {
        Self { nodes: nodes.into_iter(), _permit: None }
    }
}

impl Iterator for OpenTree {
    type Item = TreeNode;

    fn next(&mut self) -> Option<TreeNode> {
        self.nodes.next()
    }
}

/// An error for a blob that is longer than any writer makes: the memory for it is not asked for.
pub(super) fn ensure_length(blob: &PackedBlob) -> Result<(), FormatError> {
    let limit = match blob.kind {
        BlobKind::Data => MAX_DATA_BYTES,
        BlobKind::Tree => MAX_TREE_BYTES,
    };
    // What is compressed may be a little longer than what is not.
    let limit = (limit + limit / 64 + OVERHEAD) as u64;
    let length = u64::from(blob.length);
    if length > limit { Err(FormatError::TooLong { length, limit }) } else { Ok(()) }
}

/// The plaintext of a blob from its bytes in a pack.
pub(super) fn open_blob(
    key: &MasterKey,
    blob: &PackedBlob,
    sealed: &[u8],
    decompressor: &mut Decompressor,
) -> Result<Vec<u8>, FormatError> {
    let limit = match blob.kind {
        BlobKind::Data => MAX_DATA_BYTES,
        BlobKind::Tree => MAX_TREE_BYTES,
    };
    let mut plaintext = key.open(sealed)?;
    if let Some(length) = blob.uncompressed_length {
        plaintext = decompressor.decompress(&plaintext, length as usize, limit)?;
    }
    verify_sum(&plaintext, blob.id.0)?;
    Ok(plaintext)
}

impl Reader {
    /// Read with all indexes of the repository. Where one is damaged, the packs that it listed are read for what they
    /// hold, so that everything that is there can be restored all the same.
    pub fn new(repository: &Arc<Repository>) -> Result<Self, RepositoryError> {
        let mut index = BlobIndex::load(repository)?;
        if !index.damaged.is_empty() {
            index.add_unindexed_packs(repository)?;
        }
        Ok(Self::with_index(repository, index))
    }

    /// Read with an index that was loaded already.
    pub fn with_index(repository: &Arc<Repository>, index: impl Into<Arc<BlobIndex>>) -> Self {
        Self {
            repository: Arc::clone(repository),
            index: index.into(),
            idle: Mutex::default(),
            open: Arc::default(),
            max_open: tree::MAX_MEMORY,
        }
    }

    /// Let open trees take so many bytes only.
    #[cfg(test)]
    pub(crate) fn limit_open(&mut self, bytes: usize) {
        self.max_open = bytes;
    }

    /// The index in use.
    pub fn index(&self) -> &BlobIndex {
        &self.index
    }

    /// The index in use, shared with whoever writes.
    pub fn shared_index(&self) -> Arc<BlobIndex> {
        Arc::clone(&self.index)
    }

    /// Also read the packs that no index lists: the way when an index file is missing altogether. Returns how many.
    pub fn add_unindexed_packs(&mut self) -> Result<usize, RepositoryError> {
        let index = Arc::get_mut(&mut self.index).ok_or_else(|| {
            RepositoryError::Internal("the index is in use elsewhere and cannot be extended".into())
        })?;
        index.add_unindexed_packs(&self.repository)
    }

    /// Where a blob is.
    pub fn locate(&self, kind: BlobKind, id: BlobId) -> Result<Location, RepositoryError> {
        let name = match kind {
            BlobKind::Data => "data",
            BlobKind::Tree => "tree",
        };
        self.index.get(kind, id).ok_or(RepositoryError::MissingBlob { kind: name, id })
    }

    /// A blob's plaintext.
    pub fn blob(&self, kind: BlobKind, id: BlobId) -> Result<Vec<u8>, RepositoryError> {
        let first = self.locate(kind, id)?;
        let error = match self.blob_at(first) {
            Err(error) if error.is_damage() => error,
            other => return other,
        };
        // Stored again after a loss, or by two programs at once: one sound copy is enough.
        self.index.copies(kind, id).find_map(|copy| self.blob_at(copy).ok()).ok_or(error)
    }

    fn blob_at(&self, Location { pack, blob }: Location) -> Result<Vec<u8>, RepositoryError> {
        let name = FileName::Id(FileKind::Pack, pack);
        let sealed =
            self.repository.store.read_range(name, u64::from(blob.offset), blob.length as usize)?;
        self.open(pack, &blob, &sealed)
    }

    /// The blobs of a whole pack that was read into `bytes`, each with its plaintext or what is wrong with it.
    pub fn open(
        &self,
        pack: FileId,
        blob: &PackedBlob,
        sealed: &[u8],
    ) -> Result<Vec<u8>, RepositoryError> {
        let damaged = |error| {
            let at = format!("the blob {} in {}", blob.id, FileName::Id(FileKind::Pack, pack));
            RepositoryError::format(&at, error)
        };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut decompressor = idle.map_or_else(Decompressor::new, Ok).map_err(damaged)?;
        let plaintext =
            open_blob(&self.repository.key, blob, sealed, &mut decompressor).map_err(damaged);
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(decompressor);
        plaintext
    }

    /// The entries of a directory.
    pub fn tree(&self, id: BlobId) -> Result<Vec<TreeNode>, RepositoryError> {
        let bytes = self.blob(BlobKind::Tree, id)?;
        let left = self.max_open.saturating_sub(self.open.load(Ordering::Relaxed));
        tree::decode_within(&bytes, left)
            .map_err(|error| RepositoryError::format(&format_args!("the tree {id}"), error))
    }

    /// The entries of a directory for a walk, which keeps `beside` more bytes as long as it is there, such as its path.
    pub fn open_tree(&self, id: BlobId, beside: usize) -> Result<OpenTree, RepositoryError> {
        let nodes = self.tree(id)?;
        let bytes = nodes.iter().map(TreeNode::memory).sum::<usize>() + beside;
        let permit = self.reserve(id, bytes)?;
        Ok(OpenTree { nodes: nodes.into_iter(), _permit: Some(permit) })
    }

    /// Account for memory that a walk keeps of a tree.
    pub(super) fn reserve(&self, id: BlobId, bytes: usize) -> Result<Permit, RepositoryError> {
        let before = self.open.fetch_add(bytes, Ordering::Relaxed);
        let permit = Permit { bytes, open: Arc::clone(&self.open) };
        let (length, limit) = (before.saturating_add(bytes), self.max_open);
        if length <= limit {
            return Ok(permit);
        }
        let error = FormatError::TooLong { length: length as u64, limit: limit as u64 };
        let at = format!("the tree {id}, with all that it lies in");
        Err(RepositoryError::format(&at, error))
    }

    /// A small file's content, such as a manifest's; an error when it has more than `limit` bytes.
    pub fn content(&self, node: &TreeNode, limit: usize) -> Result<Vec<u8>, RepositoryError> {
        let mut content = Vec::new();
        for id in &node.content {
            content.extend(self.blob(BlobKind::Data, *id)?);
            if content.len() > limit {
                let error =
                    FormatError::TooLong { length: content.len() as u64, limit: limit as u64 };
                return Err(RepositoryError::format(
                    &crate::model::node::display_path(&node.node.name),
                    error,
                ));
            }
        }
        Ok(content)
    }

    /// A file's content as a stream.
    pub fn stream(&self, node: &TreeNode) -> ContentStream<'_> {
        ContentStream {
            reader: self,
            blobs: node.content.clone().into_iter(),
            current: Cursor::default(),
        }
    }

    /// The SHA-256 sum of the blobs' plaintext, one after the other.
    pub fn sum_of(&self, blobs: &[BlobId]) -> Result<Sha256, RepositoryError> {
        let mut sum = sha2::Sha256::new();
        for id in blobs {
            sum.update(self.blob(BlobKind::Data, *id)?);
        }
        Ok(Sha256(sum.finalize().into()))
    }
}

/// A file's content, one blob in memory at a time.
pub struct ContentStream<'a> {
    reader: &'a Reader,
    blobs: std::vec::IntoIter<BlobId>,
    current: Cursor<Vec<u8>>,
}

impl Read for ContentStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(out)?;
            if count > 0 || out.is_empty() {
                return Ok(count);
            }
            let Some(id) = self.blobs.next() else { return Ok(0) };
            self.current =
                Cursor::new(self.reader.blob(BlobKind::Data, id).map_err(io::Error::other)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::format::key::ScryptCost;
    use crate::store::local::LocalStore;

    #[test]
    fn what_is_open_at_one_time_is_bounded_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(LocalStore::new(directory.path().join("repository")));
        let repository = Repository::init(store, b"password", ScryptCost::RANDOM_KEY).unwrap();
        let reader = Reader::with_index(&Arc::new(repository), BlobIndex::default());
        let id = BlobId([1; 32]);
        let half = tree::MAX_MEMORY / 2;
        let first = reader.reserve(id, half).unwrap();
        let second = reader.reserve(id, half).unwrap();
        let error = reader.reserve(id, 1).err().unwrap();
        assert!(error.is_damage(), "{error}");
        drop(second);
        assert!(reader.reserve(id, 1).is_ok());
        drop(first);
        assert_eq!(reader.open.load(Ordering::Relaxed), 0);
    }
}
