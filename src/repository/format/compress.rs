//! zstd, with every decompression bounded by a length that is known or allowed beforehand.

use super::FormatError;
use std::io::Read as _;

/// No data blob is longer, whoever wrote it: restic and Belay cut at 8 MiB.
pub const MAX_DATA_BYTES: usize = 16 * 1024 * 1024;
/// No tree blob is longer: a directory of about a million entries.
pub const MAX_TREE_BYTES: usize = 512 * 1024 * 1024;

/// Compresses blobs, with the memory for it kept from one to the next.
pub struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    /// A compressor of zstd's level `level`.
    pub fn new(level: i32) -> Result<Self, FormatError> {
        zstd::bulk::Compressor::new(level).map(Self).map_err(FormatError::invalid)
    }

    /// Replace `out` by `plaintext`, compressed. False when that would not be smaller by at least one byte in 64:
    /// such a blob is stored as it is, and costs nothing to read.
    pub fn compress(&mut self, plaintext: &[u8], out: &mut Vec<u8>) -> Result<bool, FormatError> {
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        self.0.compress_to_buffer(plaintext, out).map_err(FormatError::invalid)?;
        Ok(out.len() < plaintext.len() - plaintext.len() / 64)
    }
}

/// Decompresses blobs, with the memory for it kept from one to the next.
pub struct Decompressor(zstd::bulk::Decompressor<'static>);

impl Decompressor {
    /// A decompressor.
    pub fn new() -> Result<Self, FormatError> {
        zstd::bulk::Decompressor::new().map(Self).map_err(FormatError::invalid)
    }

    /// The plaintext of `compressed`, which must have exactly `length` bytes, and `length` at most `limit`.
    pub fn decompress(
        &mut self,
        compressed: &[u8],
        length: usize,
        limit: usize,
    ) -> Result<Vec<u8>, FormatError> {
        if length > limit {
            return Err(FormatError::TooLong { length: length as u64, limit: limit as u64 });
        }
        // A frame says how long its content is; one that lies costs no memory, since the capacity is what counts.
        let plaintext = self.0.decompress(compressed, length).map_err(FormatError::invalid)?;
        if plaintext.len() != length {
            let found = plaintext.len();
            return Err(FormatError::invalid(format!(
                "{found} bytes after decompression, {length} were announced"
            )));
        }
        Ok(plaintext)
    }
}

/// `plaintext`, compressed as a document is: small, once, at zstd's default level.
pub fn compress_document(plaintext: &[u8]) -> Result<Vec<u8>, FormatError> {
    zstd::bulk::compress(plaintext, zstd::DEFAULT_COMPRESSION_LEVEL).map_err(FormatError::invalid)
}

/// A document's plaintext, which does not say its length beforehand but must stay within `limit`.
pub fn decompress_document(compressed: &[u8], limit: usize) -> Result<Vec<u8>, FormatError> {
    // The window is memory too: 2^27 is the largest that zstd itself accepts without being told to.
    let mut decoder = zstd::Decoder::new(compressed).map_err(FormatError::invalid)?;
    decoder.window_log_max(27).map_err(FormatError::invalid)?;
    let mut plaintext = Vec::new();
    decoder.take(limit as u64 + 1).read_to_end(&mut plaintext).map_err(FormatError::invalid)?;
    if plaintext.len() > limit {
        return Err(FormatError::TooLong { length: plaintext.len() as u64, limit: limit as u64 });
    }
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_refused_before_it_fills_the_memory() {
        let bomb = compress_document(&vec![0; 64 * 1024 * 1024]).unwrap();
        assert!(bomb.len() < 64 * 1024);
        let document = decompress_document(&bomb, 1024 * 1024);
        assert!(matches!(document, Err(FormatError::TooLong { limit: 1_048_576, .. })));
        let mut decompressor = Decompressor::new().unwrap();
        assert!(decompressor.decompress(&bomb, 1000, MAX_DATA_BYTES).is_err());
        assert!(decompressor.decompress(&bomb, 64 * 1024 * 1024, MAX_DATA_BYTES).is_err());
    }

    #[test]
    fn what_does_not_shrink_is_told() {
        let mut compressor = Compressor::new(1).unwrap();
        let mut out = Vec::new();
        assert!(compressor.compress(&[7; 10_000], &mut out).unwrap());
        assert_eq!(
            Decompressor::new().unwrap().decompress(&out, 10_000, MAX_DATA_BYTES).unwrap(),
            vec![7; 10_000]
        );
        assert!(!compressor.compress(b"abc", &mut out).unwrap());
        assert!(!compressor.compress(b"", &mut out).unwrap());
    }
}
