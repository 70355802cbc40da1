//! The splitter against what the real `mongodump` wrote and every damage of it, against archives made here, and against
//! the encoder.

use super::*;
use crate::component::mongodb::document::{self, DocumentError, DocumentReader, Value};
use crate::component::mongodb::names::NameError;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::LazyLock;

mod crafted;
mod encoded;

/// See `tests/fixtures/appsmith`.
const GOLDEN: &[u8] = include_bytes!("../../../../tests/fixtures/appsmith/appsmith.archive");
const WITH_OPLOG: &[u8] = include_bytes!("../../../../tests/fixtures/appsmith/with-oplog.archive");
const DIRECTORY: &str = include_str!("../../../../tests/fixtures/appsmith/mongodump-dir.sha256");

/// What a folder would hold: files by path.
#[derive(Default)]
struct Folder {
    files: BTreeMap<String, Vec<u8>>,
    open: usize,
}

impl Sink for Folder {
    type Output = Vec<u8>;

    fn begin(&mut self, prelude: &Prelude) -> io::Result<()> {
        for namespace in prelude.namespaces() {
            if let Some(path) = namespace.metadata_path() {
                self.files.insert(path, namespace.metadata().as_bytes().to_vec());
            }
        }
        Ok(())
    }

    fn open(&mut self, _: &Namespace) -> io::Result<Vec<u8>> {
        self.open += 1;
        Ok(Vec::new())
    }

    fn end(
        &mut self,
        namespace: &Namespace,
        contents: Contents,
        output: Option<Vec<u8>>,
    ) -> io::Result<()> {
        assert_eq!(output.is_some(), namespace.documents_path().is_some());
        assert_eq!(output.as_ref().map_or(0, Vec::len) as u64, contents.size_bytes);
        if let Some((path, documents)) = namespace.documents_path().zip(output) {
            self.open -= 1;
            assert_eq!(self.files.insert(path, documents), None, "{namespace} ended twice");
        }
        Ok(())
    }
}

/// Takes everything, keeps nothing.
struct Nothing;

impl Sink for Nothing {
    type Output = io::Sink;

    fn begin(&mut self, _: &Prelude) -> io::Result<()> {
        Ok(())
    }

    fn open(&mut self, _: &Namespace) -> io::Result<io::Sink> {
        Ok(io::sink())
    }

    fn end(&mut self, _: &Namespace, _: Contents, _: Option<io::Sink>) -> io::Result<()> {
        Ok(())
    }
}

fn read(archive: &[u8]) -> Result<(ArchiveSummary, BTreeMap<String, Vec<u8>>), ArchiveError> {
    let mut folder = Folder::default();
    let summary = split(archive, &mut folder)?;
    assert_eq!(folder.open, 0, "all that was opened has ended");
    Ok((summary, folder.files))
}

fn error(archive: &[u8]) -> ArchiveError {
    split(archive, &mut Nothing).unwrap_err()
}

/// The block of an archive, found without the code that is tested: its bytes, and those of its header.
struct Block {
    whole: Range<usize>,
    header: Range<usize>,
}

impl Block {
    fn is_end(&self, archive: &[u8]) -> bool {
        archive[self.header.clone()].windows(6).any(|window| window == b"\x08EOF\0\x01")
    }
}

/// The blocks, the prelude first.
fn blocks(archive: &[u8]) -> Vec<Block> {
    let word = |at: usize| u32::from_le_bytes(*archive[at..].first_chunk().unwrap());
    let mut at = 4;
    let mut blocks = Vec::new();
    while at < archive.len() {
        let start = at;
        let header = start..start + word(start) as usize;
        at = header.end;
        while word(at) != u32::MAX {
            at += word(at) as usize;
        }
        at += 4;
        blocks.push(Block { whole: start..at, header });
    }
    blocks
}

static GOLDEN_BLOCKS: LazyLock<Vec<Block>> = LazyLock::new(|| blocks(GOLDEN));

#[test]
fn an_archive_splits_into_what_mongodump_writes_into_a_folder() {
    let (summary, files) = read(GOLDEN).unwrap();
    let sums: Vec<String> = files
        .iter()
        .filter(|(path, _)| !path.ends_with(".metadata.json"))
        .map(|(path, content)| format!("{}  ./{path}", hex::encode(Sha256::digest(content))))
        .collect();
    let mut expected: Vec<&str> = DIRECTORY.lines().collect();
    expected.sort_by_key(|line| line.split_once("  ").unwrap().1);
    assert_eq!(sums, expected);

    assert_eq!(summary.size_bytes, GOLDEN.len() as u64);
    let Versions { server, tool, concurrent_collections } = summary.prelude.versions();
    assert_eq!((server.as_str(), tool.as_str(), *concurrent_collections), ("6.0.5", "100.18.0", 4));
    let json = summary.prelude.versions().to_json();
    assert_eq!(json, r#"{"ServerVersion":"6.0.5","ToolVersion":"100.18.0"}"#);
    let versions = Versions { concurrent_collections: 1, ..summary.prelude.versions().clone() };
    assert_eq!(Versions::from_json(&json).unwrap(), versions);
}

/// As `tests/fixtures/appsmith/README.md` counts them: documents and indexes.
const COUNTS: [(&str, u64, usize); 15] = [
    ("activeApplications", 0, 0),
    ("application", 12, 3),
    ("config", 2, 1),
    ("datasource", 8, 1),
    ("datasourceStorage", 8, 1),
    ("everyType", 1, 1),
    ("large", 1, 1),
    ("mongockChangeLog", 60, 1),
    ("newAction", 216, 2),
    ("newPage", 36, 2),
    ("odd name ☂ %2F", 1, 1),
    ("passwordResetToken", 0, 2),
    ("usagePulse", 50, 1),
    ("user", 40, 3),
    ("workspace", 2, 1),
];

#[test]
fn namespaces_are_counted_and_keep_their_metadata() {
    for archive in [GOLDEN, WITH_OPLOG] {
        let (summary, files) = read(archive).unwrap();
        let mut counts = Vec::new();
        for (namespace, contents) in summary.prelude.namespaces().iter().zip(&summary.contents) {
            let documents = namespace.documents_path().map(|path| &files[&path]);
            assert_eq!(documents.map_or(0, Vec::len) as u64, contents.size_bytes);
            if let Some(path) = namespace.metadata_path() {
                assert_eq!(files[&path], namespace.metadata().as_bytes());
                assert!(
                    namespace.metadata().starts_with('{') && namespace.metadata().ends_with('}')
                );
            }
            let is_view = namespace.collection() == "activeApplications";
            assert_eq!(namespace.kind() == Kind::View, is_view);
            if namespace.database() == "appsmith" {
                assert_eq!(namespace.uuid().is_none(), is_view);
                counts.push((namespace.collection(), contents.documents, namespace.indexes()));
            }
        }
        counts.sort_unstable();
        assert_eq!(counts, COUNTS);
    }
    let (_, files) = read(GOLDEN).unwrap();
    assert!(!files.contains_key("appsmith/activeApplications.bson"));
    let view = str::from_utf8(&files["appsmith/activeApplications.metadata.json"]).unwrap();
    assert!(view.starts_with(r#"{"options":{"viewOn":"application","pipeline":["#), "{view}");
    assert!(files.contains_key("appsmith/odd+name+%E2%98%82+%252F.metadata.json"));
}

#[test]
fn the_oplog_is_at_the_top() {
    let (summary, files) = read(WITH_OPLOG).unwrap();
    let place = summary.prelude.namespaces().iter().position(|one| one.kind() == Kind::Oplog);
    let (oplog, contents) =
        (&summary.prelude.namespaces()[place.unwrap()], summary.contents[place.unwrap()]);
    assert_eq!(oplog.to_string(), "oplog");
    assert_eq!((contents.documents, contents.size_bytes), (1, 103));
    let mut reader = DocumentReader::new(&files["oplog.bson"][..]);
    let operation = reader.next_document().unwrap().unwrap();
    assert!(
        document::elements(operation)
            .any(|(name, value)| (name, value) == ("op", Value::Text("n")))
    );
    assert_eq!(files.keys().filter(|path| path.starts_with("admin/")).count(), 2);
}

#[test]
fn an_archive_that_is_cut_off_is_never_whole() {
    for length in (0..GOLDEN.len()).step_by(997) {
        let error = error(&GOLDEN[..length]);
        let expected = match error {
            ArchiveError::Empty => length == 0,
            ArchiveError::Missing { end, .. }
            | ArchiveError::Documents { source: DocumentError::Truncated { end, .. }, .. } => {
                end == length as u64
            }
            _ => false,
        };
        assert!(expected, "cut off after {length}: {error}");
    }
    // Between any two blocks, and in the terminator before.
    for block in GOLDEN_BLOCKS.iter() {
        for length in [block.whole.end - 1, block.whole.end, block.header.end] {
            if length < GOLDEN.len() {
                assert!(split(&GOLDEN[..length], &mut Nothing).is_err(), "cut off after {length}");
            }
        }
    }
    assert!(matches!(error(&GOLDEN[..3]), ArchiveError::Documents { place: Place::Prelude, .. }));
}

#[test]
fn a_changed_byte_in_a_block_is_always_seen() {
    let mut archive = GOLDEN.to_vec();
    for block in &GOLDEN_BLOCKS[1..] {
        // Its header, its documents (if it has any), and its terminator.
        let documents = block.header.end..block.whole.end - 4;
        let terminator = documents.end..block.whole.end;
        for part in [block.header.clone(), documents, terminator] {
            if part.is_empty() {
                continue;
            }
            let at = part.start + part.len() / 2;
            archive[at] ^= 0x10;
            assert!(split(&archive[..], &mut Nothing).is_err(), "byte {at} was changed");
            archive[at] ^= 0x10;
        }
    }
    assert!(split(&archive[..], &mut Nothing).is_ok());
}

#[test]
fn without_one_end_no_archive_is_whole() {
    for archive in [GOLDEN, WITH_OPLOG] {
        let blocks = blocks(archive);
        let ends: Vec<&Block> = blocks[1..].iter().filter(|block| block.is_end(archive)).collect();
        let (summary, _) = read(archive).unwrap();
        assert_eq!(ends.len(), summary.prelude.namespaces().len());
        for end in ends {
            let shorter = [&archive[..end.whole.start], &archive[end.whole.end..]].concat();
            let error = error(&shorter);
            assert!(matches!(error, ArchiveError::Missing { others: 0, .. }), "{error}");
        }
    }
}

#[test]
fn blocks_that_are_lost_come_twice_or_change_places_are_seen() {
    for block in &GOLDEN_BLOCKS[1..] {
        let bytes = &GOLDEN[block.whole.clone()];
        let is_empty = block.whole.len() == block.header.len() + 4;
        let without = [&GOLDEN[..block.whole.start], &GOLDEN[block.whole.end..]].concat();
        let twice = [&GOLDEN[..block.whole.end], bytes, &GOLDEN[block.whole.end..]].concat();
        let at_end = [&without[..], bytes].concat();
        if block.is_end(GOLDEN) {
            assert!(matches!(
                error(&twice),
                ArchiveError::AfterEnd { .. } | ArchiveError::Trailing { .. }
            ));
            // In which order namespaces end is free.
            assert!(split(&at_end[..], &mut Nothing).is_ok());
        } else if is_empty {
            // It says nothing: a namespace may end without it.
            assert!(split(&without[..], &mut Nothing).is_ok());
        } else {
            assert!(matches!(error(&without), ArchiveError::Sum { .. }));
            assert!(matches!(error(&twice), ArchiveError::Sum { .. }));
            assert!(matches!(error(&at_end), ArchiveError::Sum { .. }));
        }
    }
}

#[test]
fn nothing_may_follow() {
    let tails: [&[u8]; 6] = [
        &[0],
        b"\n",
        &TERMINATOR,
        &[5, 0, 0, 0, 0],
        &GOLDEN[GOLDEN_BLOCKS[30].whole.clone()],
        GOLDEN,
    ];
    for tail in tails {
        let error = error(&[GOLDEN, tail].concat());
        let end = GOLDEN.len() as u64;
        assert!(matches!(error, ArchiveError::Trailing { offset } if offset == end), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The prelude has no sum: there, a change is seen, or is one of a version or within the metadata's JSON.
    #[test]
    fn a_changed_bit_anywhere_is_seen_or_harmless(
        in_prelude: bool,
        place in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        static WHOLE: LazyLock<(ArchiveSummary, BTreeMap<String, Vec<u8>>)> =
            LazyLock::new(|| read(GOLDEN).unwrap());
        let prelude = GOLDEN_BLOCKS[0].whole.end;
        let at = if in_prelude { place.index(prelude) } else { prelude + place.index(GOLDEN.len() - prelude) };
        let mut archive = GOLDEN.to_vec();
        archive[at] ^= 1_u8 << bit;
        let result = read(&archive);
        if !in_prelude {
            prop_assert!(result.is_err(), "bit {} of byte {} was changed", bit, at);
        } else if let Ok((summary, files)) = result {
            let (whole, whole_files) = &*WHOLE;
            prop_assert_eq!(&summary.contents, &whole.contents);
            prop_assert!(files.keys().eq(whole_files.keys()));
            for (path, content) in &files {
                prop_assert!(content == &whole_files[path] || path.ends_with(".metadata.json"), "{}", path);
            }
        }
    }
}
