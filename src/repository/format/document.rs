//! Documents: the sealed JSON files of a repository (snapshots, indexes, locks; `config` without compression).

use super::compress::{compress_document, decompress_document};
use super::crypto::MasterKey;
use super::{FormatError, sha256, verify_sum};
use crate::model::id::FileId;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// In front of a compressed document; an uncompressed one begins with `{` or `[`.
const COMPRESSED: u8 = 2;

/// A document as it is stored, and its name.
pub fn seal<T: Serialize>(key: &MasterKey, document: &T) -> Result<(FileId, Vec<u8>), FormatError> {
    let json = serde_json::to_vec(document).map_err(FormatError::invalid)?;
    let mut plaintext = vec![COMPRESSED];
    plaintext.extend(compress_document(&json)?);
    let sealed = key.seal(&plaintext).map_err(FormatError::invalid)?;
    Ok((FileId(sha256(&sealed)), sealed))
}

/// The document in the file called `id`, which may unfold to at most `limit` bytes of JSON.
pub fn open<T: DeserializeOwned>(
    key: &MasterKey,
    id: FileId,
    sealed: &[u8],
    limit: usize,
) -> Result<T, FormatError> {
    verify_sum(sealed, id.0)?;
    let plaintext = key.open(sealed)?;
    let json = match plaintext.first() {
        Some(&COMPRESSED) => decompress_document(&plaintext[1..], limit)?,
        Some(b'{' | b'[') => plaintext,
        _ => return Err(FormatError::invalid("neither JSON nor compressed JSON")),
    };
    serde_json::from_slice(&json).map_err(FormatError::invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_compressed_and_uncompressed() {
        let key = MasterKey::from_bytes(&[3; 64]);
        let (id, sealed) = seal(&key, &vec!["a", "b"]).unwrap();
        assert_eq!(open::<Vec<String>>(&key, id, &sealed, 100).unwrap(), ["a", "b"]);
        let plain = key.seal(br#"["c"]"#).unwrap();
        assert_eq!(open::<Vec<String>>(&key, FileId(sha256(&plain)), &plain, 100).unwrap(), ["c"]);
        assert!(open::<Vec<String>>(&key, id, &plain, 100).is_err(), "a file under another's name");
        assert!(open::<Vec<String>>(&key, id, &sealed, 5).is_err(), "larger than allowed");
    }
}
