//! SHA-256 of a file together with that of each of its chunks.
//!
//! A core hashes one stream as fast as the steps of the sum, each of which waits for the one before, let it. Two sums
//! taken block by block in turns share the core: that costs about two thirds of one after the other. The compression is
//! sha2's; padding is as FIPS 180-4, section 5.1.1, has it.

use crate::model::id::Sha256;
use sha2::block_api::compress256;
use std::slice::from_ref;

const BLOCK_BYTES: usize = 64;
/// The last eight bytes of the last block tell the length in bits.
const LENGTH_BYTES: usize = 8;
/// FIPS 180-4, section 5.3.3.
const INITIAL: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The sum of a file, chunk by chunk.
pub struct FileSum {
    state: [u32; 8],
    /// The beginning of a block that is not complete.
    pending: [u8; BLOCK_BYTES],
    length: u64,
}

impl Default for FileSum {
    fn default() -> Self {
        Self { state: INITIAL, pending: [0; BLOCK_BYTES], length: 0 }
    }
}

impl FileSum {
    /// Take the file's next chunk in; returns the chunk's own sum.
    pub fn append(&mut self, chunk: &[u8]) -> Sha256 {
        let (blocks, tail) = chunk.as_chunks::<BLOCK_BYTES>();
        let missing = (BLOCK_BYTES - self.filled()) % BLOCK_BYTES;
        let (head, shifted) = chunk.split_at(missing.min(chunk.len()));
        self.fill(head);
        let (own_blocks, own_tail) = shifted.as_chunks::<BLOCK_BYTES>();

        let mut state = INITIAL;
        for (block, own_block) in blocks.iter().zip(own_blocks) {
            compress256(&mut state, from_ref(block));
            compress256(&mut self.state, from_ref(own_block));
        }
        compress256(&mut state, &blocks[own_blocks.len()..]);
        self.length += (own_blocks.len() * BLOCK_BYTES) as u64;
        self.fill(own_tail);
        finish(state, tail, chunk.len() as u64)
    }

    /// The sum of all chunks.
    pub fn finish(self) -> Sha256 {
        finish(self.state, &self.pending[..self.filled()], self.length)
    }

    fn filled(&self) -> usize {
        (self.length % BLOCK_BYTES as u64) as usize
    }

    /// Add bytes that fit into the pending block.
    fn fill(&mut self, bytes: &[u8]) {
        let filled = self.filled();
        let end = filled + bytes.len();
        self.pending[filled..end].copy_from_slice(bytes);
        self.length += bytes.len() as u64;
        if end == BLOCK_BYTES {
            compress256(&mut self.state, from_ref(&self.pending));
        }
    }
}

/// The sum of `length` bytes, of which all but `tail`, less than a block, are in `state`.
fn finish(mut state: [u32; 8], tail: &[u8], length: u64) -> Sha256 {
    let mut last = [[0; BLOCK_BYTES]; 2];
    last[0][..tail.len()].copy_from_slice(tail);
    last[0][tail.len()] = 0x80;
    let blocks = if tail.len() + 1 + LENGTH_BYTES <= BLOCK_BYTES { 1 } else { 2 };
    last[blocks - 1][BLOCK_BYTES - LENGTH_BYTES..].copy_from_slice(&(length * 8).to_be_bytes());
    compress256(&mut state, &last[..blocks]);
    let mut sum = [0; 32];
    for (bytes, word) in sum.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Sha256(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_right(chunks: &[&[u8]]) {
        let mut sum = FileSum::default();
        for chunk in chunks {
            assert_eq!(sum.append(chunk).0, super::super::sha256(chunk), "{} bytes", chunk.len());
        }
        assert_eq!(sum.finish().0, super::super::sha256(&chunks.concat()));
    }

    #[test]
    fn every_length_around_the_blocks_is_padded_right() {
        let bytes: Vec<u8> = (0..=255).chain(0..=255).collect();
        assert_right(&[]);
        for first in 0..=130 {
            for second in [0, 1, 55, 56, 63, 64, 65, 119, 120, 128] {
                assert_right(&[&bytes[..first], &bytes[first..first + second], &bytes[..7]]);
            }
        }
    }

    proptest! {
        #[test]
        fn sums_of_chunks_and_file_are_those_of_sha2(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..8)
        ) {
            assert_right(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
    }
}
