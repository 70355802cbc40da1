//! What the fuzz targets do with their bytes: one function for each parser of what a repository or a
//! dump holds.
//!
//! Each says whether the bytes were accepted, and panics when the parser broke its word: a panic of its own, a limit
//! that does not hold, or something accepted that does not come back when it is written and read again.
//! `tests/fuzz/run` feeds them from libFuzzer, `tests/fuzz_seeds.rs` with the seeds and mutations of them.

use belay::component::mongodb::archive::{ArchiveSummary, Contents, Encoder};
use belay::component::mongodb::archive::{Namespace, Prelude, Sink, split};
use belay::component::postgres::archive::{Wanted, read_archive};
use belay::component::redis::rdb;
use belay::model::node::is_valid_name;
use belay::ops::show::parse_manifest;
use belay::repository::blob_index::BlobIndex;
use belay::repository::format::config::ConfigFile;
use belay::repository::format::crypto::{MasterKey, OVERHEAD};
use belay::repository::format::index::{self, IndexFile, IndexPack};
use belay::repository::format::key::KeyFile;
use belay::repository::format::lock::LockFile;
use belay::repository::format::pack::{self, PackedBlob};
use belay::repository::format::snapshot::SnapshotFile;
use belay::repository::format::tree::{self, TreeNode};
use belay::repository::format::{compress, document, lock, quote, snapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::io;

/// A target: bytes in, whether they were accepted out.
pub type Target = fn(&[u8]) -> bool;

/// All targets by name. A target's seeds are in `tests/fuzz/seeds/NAME`; those that begin with `bad-` are refused.
pub const TARGETS: &[(&str, Target)] = &[
    ("archive", archive),
    ("compressed", compressed),
    ("config", config),
    ("document", document),
    ("index", index),
    ("key", key),
    ("lock", lock),
    ("manifest", manifest),
    ("mongodump", mongodump),
    ("name", name),
    ("pack", pack),
    ("rdb", redis_dump),
    ("snapshot", snapshot),
    ("tree", tree),
];

/// What a compressed document may unfold to here: enough to tell that a limit holds.
const UNFOLDED_LIMIT: usize = 256 * 1024;
/// The work (N · r · p) that is done for a password here. What costs more and is allowed would only take long.
const CHEAP_WORK: u128 = 1 << 10;
/// The limits of `docs/FORMAT.md` for a key file: bytes, and N · r · p.
const KEY_MEMORY_LIMIT: u128 = 256 * 1024 * 1024;
const KEY_WORK_LIMIT: u128 = 1 << 26;
/// The password of the seed that opens.
pub const PASSWORD: &[u8] = b"a password for tests";

fn master() -> MasterKey {
    MasterKey::from_bytes(&std::array::from_fn(|index| index as u8))
}

fn seal(plaintext: &[u8]) -> Vec<u8> {
    master().seal(plaintext).expect("the system has randomness")
}

/// An archive of `pg_dump`, with a table that is wanted and one that is not there.
pub fn archive(bytes: &[u8]) -> bool {
    let wanted = ["t", "nowhere"].map(|table| Wanted {
        schema: "s".to_owned(),
        table: table.to_owned(),
        columns: vec!["b".to_owned()],
    });
    let mut rows = 0;
    let Ok(summary) = read_archive(bytes, &wanted, &mut |row| {
        assert_eq!((row.wanted, row.values.len()), (0, 1));
        rows += 1;
    }) else {
        return false;
    };
    assert_eq!(summary.size_bytes, bytes.len() as u64, "it was not read to its end");
    assert!(summary.tables.iter().map(|table| table.rows).sum::<u64>() >= rows);
    true
}

/// A compressed document's bytes, or a blob's.
pub fn compressed(bytes: &[u8]) -> bool {
    let mut decompressor = compress::Decompressor::new().expect("there is memory");
    let unfolded = compress::decompress_document(bytes, UNFOLDED_LIMIT);
    let length = match &unfolded {
        Ok(plaintext) => {
            assert!(plaintext.len() <= UNFOLDED_LIMIT, "the limit does not hold");
            let again = compress::compress_document(plaintext).expect("memory suffices");
            let again = compress::decompress_document(&again, UNFOLDED_LIMIT);
            assert_eq!(again.as_ref(), Ok(plaintext));
            plaintext.len()
        }
        // A length that a hostile index might tell.
        Err(_) => bytes.last_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize),
    };
    let blob = decompressor.decompress(bytes, length, UNFOLDED_LIMIT);
    if let Ok(blob) = &blob {
        assert_eq!(blob.len(), length);
        assert!(length <= UNFOLDED_LIMIT, "the limit does not hold");
        // A document's window is limited, a blob's is its buffer; and no frame at all is a blob without bytes.
        if let Ok(plaintext) = &unfolded {
            assert_eq!(plaintext, blob, "both ways to unfold agree");
        }
    }

    let mut compressor = compress::Compressor::new(1).expect("level 1 is one of zstd's");
    let mut folded = Vec::new();
    compressor.compress(bytes, &mut folded).expect("memory suffices");
    let back = decompressor.decompress(&folded, bytes.len(), bytes.len());
    assert_eq!(back.as_deref(), Ok(bytes));
    unfolded.is_ok()
}

/// The plaintext of `config`.
pub fn config(bytes: &[u8]) -> bool {
    let Ok(config) = ConfigFile::open(&master(), &seal(bytes)) else { return false };
    let sealed = config.seal(&master()).expect("what was read can be written");
    assert_eq!(ConfigFile::open(&master(), &sealed), Ok(config));
    true
}

/// The plaintext of a document, whatever it is; and the same bytes where a sealed document should be.
pub fn document(bytes: &[u8]) -> bool {
    assert!(master().open(bytes).is_err(), "bytes that nobody sealed");
    let (name, sealed) = (name_of(&seal(bytes)), seal(bytes));
    assert!(document::open::<LockFile>(&master(), name, &sealed, lock::MAX_BYTES).is_err());
    let name = name_of(&sealed);
    let is_lock = document::open::<LockFile>(&master(), name, &sealed, lock::MAX_BYTES).is_ok();
    let snapshot = document::open::<SnapshotFile>(&master(), name, &sealed, UNFOLDED_LIMIT);
    let index = document::open::<IndexFile>(&master(), name, &sealed, UNFOLDED_LIMIT);
    is_lock || snapshot.is_ok() || index.is_ok()
}

fn name_of(sealed: &[u8]) -> belay::model::id::FileId {
    belay::model::id::FileId(belay::repository::format::sha256(sealed))
}

/// An index file's JSON.
pub fn index(bytes: &[u8]) -> bool {
    let Ok(file) = index::decode(bytes) else { return false };
    comes_back(&file, index::MAX_BYTES);
    let mut blobs = BlobIndex::default();
    for pack in &file.packs {
        let listed: Vec<PackedBlob> = pack.blobs().collect();
        assert_eq!(IndexPack::new(pack.id, &listed).blobs().collect::<Vec<_>>(), listed);
        blobs.add(pack.id, listed.iter().copied());
        for blob in &listed {
            assert!(blobs.contains(blob.kind, blob.id));
            assert!(u32::try_from(blob.plaintext_length()).is_ok());
        }
    }
    true
}

/// A key file, opened with a password where that is cheap. What is dear must be refused before it is paid.
pub fn key(bytes: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<KeyFile>(bytes) else { return false };
    let json = serde_json::to_vec(&file).expect("what was read can be written");
    let again: KeyFile = serde_json::from_slice(&json).expect("what was written can be read");
    assert_eq!(serde_json::to_vec(&again).expect("what was read can be written"), json);
    let Ok(cost) = file.cost() else {
        assert!(file.open(PASSWORD).is_err(), "a cost beyond the limits");
        return false;
    };
    // As the algorithm has it: N blocks of 128 · r bytes for the steps, and p of them for the repetitions.
    let (n, r, p) = (1_u128 << cost.log_n, u128::from(cost.r), u128::from(cost.p));
    assert!((n + p) * r * 128 <= KEY_MEMORY_LIMIT, "memory for N {n}, r {r}, p {p}");
    let work = n * r * p;
    assert!(work <= KEY_WORK_LIMIT, "work for N {n}, r {r}, p {p}");
    work > CHEAP_WORK || file.open(PASSWORD).is_ok()
}

/// A lock file's JSON.
pub fn lock(bytes: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<LockFile>(bytes) else { return false };
    comes_back(&file, lock::MAX_BYTES.max(8 * bytes.len()));
    true
}

/// A manifest.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = parse_manifest(bytes) else { return false };
    let json = serde_json::to_vec(&manifest).expect("what was read can be written");
    assert_eq!(parse_manifest(&json), Ok(manifest));
    true
}

/// An archive of `mongodump`.
pub fn mongodump(bytes: &[u8]) -> bool {
    let Some((summary, folder)) = split_archive(bytes) else { return false };
    assert_eq!(summary.size_bytes, bytes.len() as u64, "it was not read to its end");
    let mut encoder = Encoder::new(Vec::new(), &summary.prelude).expect("a Vec takes everything");
    let mut contents = summary.contents.iter();
    while let Some(namespace) = encoder.next_namespace() {
        let documents = namespace.documents_path().map(|path| &folder[&path][..]);
        let written = encoder.write(documents.unwrap_or_default());
        assert_eq!(written.ok().as_ref(), contents.next());
    }
    let again = encoder.finish().expect("a Vec takes everything");
    let (summary_again, folder_again) =
        split_archive(&again).expect("what was written can be read");
    assert_eq!(folder_again, folder);
    assert_eq!(summary_again.prelude, summary.prelude);
    assert_eq!(summary_again.contents, summary.contents);
    true
}

/// Documents by path.
type Folder = BTreeMap<String, Vec<u8>>;

fn split_archive(bytes: &[u8]) -> Option<(ArchiveSummary, Folder)> {
    let mut folder = Documents(Folder::new());
    split(bytes, &mut folder).ok().map(|summary| (summary, folder.0))
}

struct Documents(Folder);

impl Sink for Documents {
    type Output = Vec<u8>;

    fn begin(&mut self, prelude: &Prelude) -> io::Result<()> {
        for namespace in prelude.namespaces() {
            for path in
                [namespace.documents_path(), namespace.metadata_path()].into_iter().flatten()
            {
                assert!(path.split('/').all(|name| is_valid_name(name.as_bytes())), "{path}");
                assert!(path.split('/').count() <= 2, "{path}");
            }
        }
        Ok(())
    }

    fn open(&mut self, _: &Namespace) -> io::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn end(
        &mut self,
        namespace: &Namespace,
        contents: Contents,
        output: Option<Vec<u8>>,
    ) -> io::Result<()> {
        assert_eq!(output.as_ref().map_or(0, Vec::len) as u64, contents.size_bytes);
        if let Some(documents) = output {
            let path = namespace.documents_path().expect("what has documents has a file");
            assert!(self.0.insert(path, documents).is_none(), "it ended twice");
        }
        Ok(())
    }
}

/// A dump of Redis.
pub fn redis_dump(bytes: &[u8]) -> bool {
    let mut values = Values::default();
    let Ok(summary) = rdb::walk(bytes, rdb::Tail::None, &mut values) else { return false };
    assert_eq!(values.bytes, bytes, "it was not handed on as it was");
    assert_eq!(values.keys, summary.keys());
    true
}

/// Everything of a dump.
#[derive(Default)]
struct Values {
    bytes: Vec<u8>,
    keys: u64,
}

impl rdb::Visitor for Values {
    fn bytes(&mut self, part: &[u8]) -> io::Result<()> {
        self.bytes.extend(part);
        Ok(())
    }

    fn wants(&mut self, _: &rdb::Key) -> bool {
        true
    }

    fn value(&mut self, _: &rdb::Key, value: &[u8]) -> io::Result<()> {
        assert!(!value.is_empty(), "each value has a length at least");
        self.keys += 1;
        Ok(())
    }
}

/// A name as a tree has it, quoted; and the same bytes as a name to quote.
pub fn name(bytes: &[u8]) -> bool {
    let quoted = quote::quote(bytes);
    assert_eq!(quote::unquote(&quoted).as_deref(), Ok(bytes));
    let mut json = Vec::new();
    quote::push_json_string(&quoted, &mut json);
    assert_eq!(serde_json::from_slice::<String>(&json).ok(), Some(quoted));

    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(name) = quote::unquote(text) else { return false };
    assert_eq!(quote::unquote(&quote::quote(&name)).as_ref(), Ok(&name));
    true
}

/// A pack header's plaintext; and the same bytes as the end of a pack.
pub fn pack(bytes: &[u8]) -> bool {
    let size = bytes.first_chunk().map_or(0, |size| u64::from_le_bytes(*size));
    if let Some(last) = bytes.last_chunk()
        && let Ok(span) = pack::header_span(*last, size)
    {
        assert!(span as u64 <= size && span <= pack::MAX_HEADER_BYTES + last.len());
    }
    assert!(pack::decode_header(&master(), bytes, bytes.len() as u64).is_err(), "nobody sealed it");

    let Ok(blobs) = pack::decode_entries(bytes) else { return false };
    let mut tail = Vec::new();
    pack::append_header(&master(), &blobs, &mut tail).expect("what was read can be written");
    let (sealed, last) = tail.split_last_chunk().expect("a header ends with its length");
    assert_eq!(master().open(sealed).as_deref(), Ok(bytes));
    let size = pack::pack_size(&blobs);
    assert_eq!(pack::header_span(*last, size), Ok(bytes.len() + OVERHEAD + last.len()));
    assert_eq!(pack::decode_header(&master(), &tail, size).as_ref(), Ok(&blobs));
    assert!(pack::decode_header(&master(), &tail, size + 1).is_err(), "of another size");
    true
}

/// A snapshot file's JSON.
pub fn snapshot(bytes: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<SnapshotFile>(bytes) else { return false };
    comes_back(&file, snapshot::MAX_BYTES);
    true
}

/// A tree's JSON.
pub fn tree(bytes: &[u8]) -> bool {
    let Ok(nodes) = tree::decode(bytes) else { return false };
    assert!(nodes.iter().all(|node| is_valid_name(&node.node.name)), "a name leaves its directory");
    assert!(nodes.is_sorted_by(|a, b| a.node.name < b.node.name), "names come twice");
    let encoded = tree::encode(&nodes);
    let again = tree::decode(&encoded).expect("what was written can be read");
    // Times before the year 0 are clamped, once.
    assert_eq!(without_times(again.clone()), without_times(nodes));
    assert_eq!(tree::encode(&again), encoded);
    true
}

fn without_times(mut nodes: Vec<TreeNode>) -> Vec<TreeNode> {
    for TreeNode { node, .. } in &mut nodes {
        (node.mtime, node.ctime) = Default::default();
    }
    nodes
}

/// A document reads back as it was written.
fn comes_back<T>(content: &T, limit: usize)
where
    T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let (name, sealed) = document::seal(&master(), content).expect("what was read can be written");
    assert_eq!(document::open::<T>(&master(), name, &sealed, limit).as_ref(), Ok(content));
}
