//! Index files: which blobs are in which packs, and where.

use super::FormatError;
use super::pack::{BlobKind, PackedBlob};
use crate::model::id::{BlobId, FileId};
use serde::{Deserialize, Serialize};

/// JSON that an index file may unfold to. Writers stay below 8 MiB; restic's were larger once.
pub const MAX_BYTES: usize = 256 * 1024 * 1024;
/// After so many blobs a writer closes an index file, which keeps it below 8 MiB.
pub const MAX_BLOBS: usize = 40_000;

/// An index file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexFile {
    /// Index files that this one took the place of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<FileId>,
    /// The packs that it lists.
    #[serde(default)]
    pub packs: Vec<IndexPack>,
}

/// A pack in an index file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexPack {
    /// The pack.
    pub id: FileId,
    /// Its blobs.
    blobs: Vec<IndexBlob>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct IndexBlob {
    id: BlobId,
    #[serde(rename = "type")]
    kind: IndexBlobKind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IndexBlobKind {
    Data,
    Tree,
}

impl IndexPack {
    /// The entry for a pack with `blobs`.
    pub fn new(id: FileId, blobs: &[PackedBlob]) -> Self {
        let entry = |blob: &PackedBlob| IndexBlob {
            id: blob.id,
            kind: match blob.kind {
                BlobKind::Data => IndexBlobKind::Data,
                BlobKind::Tree => IndexBlobKind::Tree,
            },
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length,
        };
        Self { id, blobs: blobs.iter().map(entry).collect() }
    }

    /// The pack's blobs. A length of 0 for the plaintext means none, as Go writes it.
    pub fn blobs(&self) -> impl Iterator<Item = PackedBlob> + '_ {
        self.blobs.iter().map(|blob| PackedBlob {
            id: blob.id,
            kind: match blob.kind {
                IndexBlobKind::Data => BlobKind::Data,
                IndexBlobKind::Tree => BlobKind::Tree,
            },
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed_length.filter(|length| *length != 0),
        })
    }
}

/// Parse an index file's JSON; for the fuzz target, everything else opens it as a document.
pub fn decode(json: &[u8]) -> Result<IndexFile, FormatError> {
    serde_json::from_slice(json).map_err(FormatError::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_written_as_the_design_document_shows_it() {
        let blob = PackedBlob {
            id: BlobId([1; 32]),
            kind: BlobKind::Tree,
            offset: 5,
            length: 40,
            uncompressed_length: Some(99),
        };
        let plain = PackedBlob { kind: BlobKind::Data, uncompressed_length: None, ..blob };
        let pack = IndexPack::new(FileId([2; 32]), &[blob, plain]);
        let index = IndexFile { supersedes: vec![], packs: vec![pack] };
        let (one, two) = ("01".repeat(32), "02".repeat(32));
        let expected = format!(
            r#"{{"packs":[{{"id":"{two}","blobs":[{{"id":"{one}","type":"tree","offset":5,"length":40,"uncompressed_length":99}},{{"id":"{one}","type":"data","offset":5,"length":40}}]}}]}}"#
        );
        assert_eq!(serde_json::to_string(&index).unwrap(), expected);
        let read = decode(expected.as_bytes()).unwrap();
        assert_eq!(read, index);
        assert_eq!(read.packs[0].blobs().collect::<Vec<_>>(), [blob, plain]);
    }

    #[test]
    fn members_of_other_programs_are_passed_over() {
        let read = decode(br#"{"packs":[],"packs_to_delete":[{"id":"x"}]}"#).unwrap();
        assert_eq!(read, IndexFile::default());
    }
}
