//! Packs: blobs one after the other, then a sealed header that lists them, then the header's length.

use super::FormatError;
use super::crypto::{MasterKey, OVERHEAD};
use crate::model::id::BlobId;

/// What a pack is closed at, about.
pub const TARGET_BYTES: usize = 16 * 1024 * 1024;
/// The largest header that is read, as restic has it.
pub const MAX_HEADER_BYTES: usize = 16 * 1024 * 1024;
/// The header's length at a pack's end.
const LENGTH_BYTES: usize = 4;
/// Type, length and sum.
const PLAIN_ENTRY_BYTES: usize = 1 + 4 + 32;
/// The same, with the plaintext's length.
const COMPRESSED_ENTRY_BYTES: usize = PLAIN_ENTRY_BYTES + 4;

/// What a blob is; the two kinds never share a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobKind {
    /// A piece of a file.
    Data,
    /// A directory.
    Tree,
}

/// Where a blob lies in its pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedBlob {
    /// The sum of its plaintext.
    pub id: BlobId,
    /// What it is.
    pub kind: BlobKind,
    /// Where it begins, in bytes from the pack's start.
    pub offset: u32,
    /// Bytes in the pack, encryption included.
    pub length: u32,
    /// Bytes of plaintext, where it was compressed.
    pub uncompressed_length: Option<u32>,
}

impl PackedBlob {
    /// Bytes of plaintext. A blob shorter than the encryption's overhead is caught when it is opened.
    pub fn plaintext_length(&self) -> u64 {
        self.uncompressed_length
            .map_or(u64::from(self.length).saturating_sub(OVERHEAD as u64), u64::from)
    }
}

/// The size of a pack with `blobs`: what a listing must show.
pub fn pack_size(blobs: &[PackedBlob]) -> u64 {
    let entry = |blob: &PackedBlob| {
        let entry = if blob.uncompressed_length.is_some() {
            COMPRESSED_ENTRY_BYTES
        } else {
            PLAIN_ENTRY_BYTES
        };
        u64::from(blob.length) + entry as u64
    };
    blobs.iter().map(entry).sum::<u64>() + (OVERHEAD + LENGTH_BYTES) as u64
}

/// Append the header for `blobs` to a pack's bytes.
pub fn append_header(
    key: &MasterKey,
    blobs: &[PackedBlob],
    pack: &mut Vec<u8>,
) -> Result<(), FormatError> {
    let mut header = Vec::with_capacity(blobs.len() * COMPRESSED_ENTRY_BYTES);
    for blob in blobs {
        let kind = match (blob.kind, blob.uncompressed_length) {
            (BlobKind::Data, None) => 0,
            (BlobKind::Tree, None) => 1,
            (BlobKind::Data, Some(_)) => 2,
            (BlobKind::Tree, Some(_)) => 3,
        };
        header.push(kind);
        header.extend(blob.length.to_le_bytes());
        if let Some(length) = blob.uncompressed_length {
            header.extend(length.to_le_bytes());
        }
        header.extend(blob.id.0);
    }
    let before = pack.len();
    key.seal_into(&header, pack).map_err(FormatError::invalid)?;
    let length = u32::try_from(pack.len() - before).map_err(FormatError::invalid)?;
    pack.extend(length.to_le_bytes());
    Ok(())
}

/// How many bytes at a pack's end are its header with its length, given the pack's last four bytes and its size.
pub fn header_span(last: [u8; LENGTH_BYTES], pack_size: u64) -> Result<usize, FormatError> {
    let length = u32::from_le_bytes(last) as usize;
    if length > MAX_HEADER_BYTES {
        return Err(FormatError::TooLong { length: length as u64, limit: MAX_HEADER_BYTES as u64 });
    }
    if length < OVERHEAD || (length + LENGTH_BYTES) as u64 > pack_size {
        return Err(FormatError::invalid(format!(
            "a header of {length} bytes does not fit a pack of {pack_size} bytes"
        )));
    }
    Ok(length + LENGTH_BYTES)
}

/// The blobs of a pack of `pack_size` bytes, from its last [`header_span`] bytes.
pub fn decode_header(
    key: &MasterKey,
    tail: &[u8],
    pack_size: u64,
) -> Result<Vec<PackedBlob>, FormatError> {
    let too_short = FormatError::TooShort { found: tail.len(), least: LENGTH_BYTES + OVERHEAD };
    let (sealed, last) = tail.split_last_chunk::<LENGTH_BYTES>().ok_or(too_short)?;
    if header_span(*last, pack_size)? != tail.len() {
        return Err(FormatError::invalid("the header's length does not fit"));
    }
    let header = key.open(sealed)?;
    let blobs = decode_entries(&header)?;
    let listed = self::pack_size(&blobs);
    if listed != pack_size {
        return Err(FormatError::invalid(format!(
            "the header lists {listed} bytes, and the pack has {pack_size}"
        )));
    }
    Ok(blobs)
}

/// The entries of a header's plaintext.
pub fn decode_entries(mut header: &[u8]) -> Result<Vec<PackedBlob>, FormatError> {
    let mut blobs = Vec::with_capacity(header.len() / PLAIN_ENTRY_BYTES);
    let mut offset = 0_u32;
    while let Some((&code, rest)) = header.split_first() {
        let (kind, is_compressed) = match code {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            _ => {
                return Err(FormatError::invalid(format!(
                    "unknown blob type {code} in a pack's header"
                )));
            }
        };
        header = rest;
        let length = u32::from_le_bytes(*take(&mut header)?);
        let uncompressed_length =
            if is_compressed { Some(u32::from_le_bytes(*take(&mut header)?)) } else { None };
        let id = BlobId(*take(&mut header)?);
        if (length as usize) < OVERHEAD {
            return Err(FormatError::TooShort { found: length as usize, least: OVERHEAD });
        }
        blobs.push(PackedBlob { id, kind, offset, length, uncompressed_length });
        offset = offset
            .checked_add(length)
            .ok_or_else(|| FormatError::invalid("the blobs of a pack have more than 4 GiB"))?;
    }
    Ok(blobs)
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N], FormatError> {
    let too_short = FormatError::TooShort { found: bytes.len(), least: N };
    let (taken, rest) = bytes.split_first_chunk().ok_or(too_short)?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn blob() -> impl Strategy<Value = PackedBlob> {
        let lengths = (32_u32..100_000, proptest::option::of(0_u32..1_000_000));
        (any::<[u8; 32]>(), any::<bool>(), lengths).prop_map(
            |(id, is_tree, (length, uncompressed_length))| {
                let kind = if is_tree { BlobKind::Tree } else { BlobKind::Data };
                PackedBlob { id: BlobId(id), kind, offset: 0, length, uncompressed_length }
            },
        )
    }

    proptest! {
        #[test]
        fn headers_read_back_as_they_were_written(mut blobs in proptest::collection::vec(blob(), 0..40)) {
            let key = MasterKey::from_bytes(&[9; 64]);
            let mut pack = Vec::new();
            for blob in &mut blobs {
                blob.offset = pack.len() as u32;
                pack.resize(pack.len() + blob.length as usize, 0);
            }
            append_header(&key, &blobs, &mut pack).unwrap();
            prop_assert_eq!(pack.len() as u64, pack_size(&blobs));
            let span = header_span(*pack.last_chunk().unwrap(), pack.len() as u64).unwrap();
            let tail = &pack[pack.len() - span..];
            prop_assert_eq!(decode_header(&key, tail, pack.len() as u64).unwrap(), blobs);
            prop_assert!(decode_header(&key, tail, pack.len() as u64 + 1).is_err());
        }

        #[test]
        fn any_bytes_are_entries_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode_entries(&bytes);
        }
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert!(header_span(u32::MAX.to_le_bytes(), 1 << 40).is_err());
        assert!(header_span(1000_u32.to_le_bytes(), 500).is_err());
        assert!(header_span(0_u32.to_le_bytes(), 500).is_err());
    }
}
