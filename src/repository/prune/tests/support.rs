//! Makes repositories pack by pack, so that a test knows what lies where, and reads back what remains.

use crate::model::event::{Cancel, Events};
use crate::model::id::{BlobId, FileId, SnapshotId};
use crate::model::node::{Node, NodeKind};
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::compress::Compressor;
use crate::repository::format::index::{IndexFile, IndexPack};
use crate::repository::format::key::ScryptCost;
use crate::repository::format::pack::{BlobKind, PackedBlob};
use crate::repository::format::sha256;
use crate::repository::format::snapshot::SnapshotFile;
use crate::repository::format::tree::{self, TreeNode};
use crate::repository::lock::{Lock, LockMode, LockRequest};
use crate::repository::prune::{PruneOptions, PruneOutcome, PrunePlan, execute, plan};
use crate::repository::reader::Reader;
use crate::repository::writer::packer::Packer;
use crate::repository::{Repository, RepositoryError};
use crate::store::local::LocalStore;
use crate::store::{FileKind, FileName, Store};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const CHEAP: ScryptCost = ScryptCost { log_n: 4, r: 8, p: 1 };

/// What a snapshot holds: files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A repository in a temporary directory, exclusively locked.
pub(super) struct Bench {
    pub(super) lock: Lock,
    pub(super) repository: Arc<Repository>,
    /// What the snapshots hold that must read back.
    pub(super) expected: BTreeMap<SnapshotId, Files>,
    directory: TempDir,
}

/// Bytes that do not compress and differ by `seed`.
pub(super) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

pub(super) fn file_node(name: &str, size: u64, content: Vec<BlobId>) -> TreeNode {
    let node = Node {
        name: name.as_bytes().to_vec(),
        kind: NodeKind::File { size },
        mode: 0o644,
        mtime: Timestamp::UNIX_EPOCH,
        ctime: Timestamp::UNIX_EPOCH,
        uid: 0,
        gid: 0,
        user: String::new(),
        group: String::new(),
        inode: 0,
        device_id: 0,
        links: 1,
        extended_attributes: vec![],
    };
    TreeNode { node, content, subtree: None }
}

pub(super) fn directory_node(name: &str, subtree: BlobId) -> TreeNode {
    let mut node = file_node(name, 0, vec![]);
    node.node.kind = NodeKind::Directory;
    node.subtree = Some(subtree);
    node
}

pub(super) fn snapshot_file(tree: BlobId, number: usize) -> SnapshotFile {
    SnapshotFile {
        time: Timestamp::from_second(i64::try_from(number).unwrap()).unwrap(),
        parent: None,
        tree,
        paths: None,
        hostname: "h".into(),
        username: "u".into(),
        uid: 0,
        gid: 0,
        excludes: None,
        tags: None,
        original: None,
        program_version: None,
    }
}

pub(super) fn open(store: Arc<dyn Store>) -> Result<Arc<Repository>, RepositoryError> {
    Repository::open(store, b"password").map(Arc::new)
}

/// The files of a snapshot, in all its directories, read back and verified.
pub(super) fn read_back(reader: &Reader, root: BlobId) -> Result<Files, RepositoryError> {
    let mut files = Files::new();
    let mut waiting = vec![(String::new(), root)];
    while let Some((prefix, tree)) = waiting.pop() {
        for node in reader.tree(tree)? {
            let name = format!("{prefix}{}", String::from_utf8(node.node.name.clone()).unwrap());
            if let Some(subtree) = node.subtree {
                waiting.push((format!("{name}/"), subtree));
            } else {
                files.insert(name, reader.content(&node, usize::MAX)?);
            }
        }
    }
    Ok(files)
}

pub(super) fn assert_read_back(
    repository: &Arc<Repository>,
    expected: &BTreeMap<SnapshotId, Files>,
) {
    let reader = Reader::new(repository).unwrap();
    assert!(reader.index().damaged.is_empty());
    for (id, files) in expected {
        let snapshot = repository.snapshot(*id).unwrap();
        assert!(read_back(&reader, snapshot.file.tree).unwrap() == *files, "snapshot {id}");
    }
}

/// Nothing unused, no second copies, nothing unindexed, and every pack that is listed is there.
pub(super) fn assert_all_is_used(repository: &Arc<Repository>) {
    let options = PruneOptions { max_unused_percent: 0.0, max_repack_bytes: Some(0) };
    let plan =
        plan(repository, &HashSet::new(), &options, &Events::ignored(), &Cancel::new()).unwrap();
    assert_eq!((plan.totals.unused_blobs, plan.totals.unused_bytes), (0, 0));
    assert_eq!(plan.totals.removed_packs, 0, "{plan:?}");
    assert!(plan.missing_packs.is_empty() && plan.is_empty(), "{plan:?}");
}

/// Copy a repository's files to another directory.
pub(super) fn copy_files(from: &Path, to: &Path) {
    for kind in FileKind::ALL {
        std::fs::create_dir_all(to.join(kind.folder())).unwrap();
    }
    std::fs::copy(from.join("config"), to.join("config")).unwrap();
    let source = LocalStore::new(from);
    for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Index, FileKind::Pack] {
        for listed in source.list(kind).unwrap() {
            let name = FileName::Id(kind, listed.id).to_string();
            std::fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
            std::fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(LocalStore::new(directory.path().join("repository")));
        let repository = Arc::new(Repository::init(store, b"password", CHEAP).unwrap());
        let request =
            LockRequest { mode: LockMode::Exclusive, purpose: "test".into(), wait: Duration::ZERO };
        let lock = Lock::acquire(&repository, request, &Events::ignored(), &Cancel::new()).unwrap();
        Self { lock, repository, expected: BTreeMap::new(), directory }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("repository")
    }

    /// A pack that no index lists.
    pub(super) fn unindexed_pack(&self, kind: BlobKind, blobs: &[&[u8]]) -> IndexPack {
        let packer = Packer::new(kind, 1);
        for plaintext in blobs {
            let mut compressed = Vec::new();
            let is_tree = kind == BlobKind::Tree;
            Compressor::new(1).unwrap().compress(plaintext, &mut compressed).unwrap();
            let stored = if is_tree { &compressed } else { *plaintext };
            let sealed = self.repository.key.seal(stored).unwrap();
            let blob = PackedBlob {
                id: BlobId(sha256(plaintext)),
                kind,
                offset: 0,
                length: u32::try_from(sealed.len()).unwrap(),
                uncompressed_length: is_tree.then(|| u32::try_from(plaintext.len()).unwrap()),
            };
            assert!(packer.append(blob, &sealed).is_none());
        }
        let pack = packer.take_all().remove(0).finish(&self.repository.key).unwrap();
        self.repository.store.write(FileName::Id(FileKind::Pack, pack.id), &pack.bytes).unwrap();
        IndexPack::new(pack.id, &pack.blobs)
    }

    pub(super) fn index(&self, packs: &[&IndexPack]) -> FileId {
        let packs = packs.iter().map(|pack| (*pack).clone()).collect();
        let file = IndexFile { supersedes: vec![], packs };
        self.repository.save(FileKind::Index, &file).unwrap()
    }

    pub(super) fn data_pack(&self, blobs: &[&[u8]]) -> FileId {
        let pack = self.unindexed_pack(BlobKind::Data, blobs);
        self.index(&[&pack]);
        pack.id
    }

    /// A snapshot of files in one directory below the root, whose blobs must have been stored already.
    pub(super) fn snapshot(&mut self, files: &[(&str, &[&[u8]])]) -> SnapshotId {
        let mut expected = Files::new();
        let mut nodes = Vec::new();
        for (name, content) in files {
            let ids = content.iter().map(|blob| BlobId(sha256(blob))).collect();
            let whole = content.concat();
            nodes.push(file_node(name, whole.len() as u64, ids));
            expected.insert(format!("files/{name}"), whole);
        }
        let inner = tree::encode(&nodes);
        let root = tree::encode(&[directory_node("files", BlobId(sha256(&inner)))]);
        let pack = self.unindexed_pack(BlobKind::Tree, &[&inner, &root]);
        self.index(&[&pack]);
        let file = snapshot_file(BlobId(sha256(&root)), self.expected.len());
        let id = self.repository.save(FileKind::Snapshot, &file).unwrap().into();
        self.expected.insert(id, expected);
        id
    }

    pub(super) fn plan(
        &self,
        forget: &[SnapshotId],
        options: &PruneOptions,
    ) -> Result<PrunePlan, RepositoryError> {
        let forget = forget.iter().copied().collect();
        plan(&self.repository, &forget, options, &Events::ignored(), &Cancel::new())
    }

    pub(super) fn execute(&self, plan: PrunePlan) -> Result<PruneOutcome, RepositoryError> {
        execute(&self.repository, &self.lock, plan, &Events::ignored(), &Cancel::new())
    }

    /// All files of the repository but locks.
    pub(super) fn files(&self) -> BTreeSet<(FileKind, FileId)> {
        let list = |kind| {
            let listed = self.repository.store.list(kind).unwrap();
            listed.into_iter().map(move |listed| (kind, listed.id))
        };
        let kinds = [FileKind::Key, FileKind::Snapshot, FileKind::Index, FileKind::Pack];
        kinds.into_iter().flat_map(list).collect()
    }

    pub(super) fn count(&self, kind: FileKind) -> usize {
        self.files().iter().filter(|(of, _)| *of == kind).count()
    }

    pub(super) fn has(&self, kind: FileKind, id: FileId) -> bool {
        self.files().contains(&(kind, id))
    }

    pub(super) fn assert_remaining_read_back(&self) {
        let ids: BTreeSet<SnapshotId> =
            self.repository.snapshot_ids().unwrap().into_iter().collect();
        assert!(ids.iter().eq(self.expected.keys()), "{ids:?}");
        assert_read_back(&self.repository, &self.expected);
        let missing =
            BlobIndex::load(&self.repository).unwrap().forget_missing_packs(&self.repository);
        assert!(missing.unwrap().is_empty());
    }

    pub(super) fn assert_all_is_used(&self) {
        assert_all_is_used(&self.repository);
    }
}
