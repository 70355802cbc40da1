//! Where a file is cut into chunks: FastCDC (Xia and others, 2020) with a gear table that only this repository has.
//!
//! The same bytes give the same chunks wherever they stand in a file, so that they are stored once. The table is derived
//! from the master key, so that the sizes of chunks do not tell an onlooker which file is stored. Readers need none of this.

use super::crypto::MasterKey;
use fastcdc::v2020::{MASKS, cut_gear};
use sha2::{Digest as _, Sha256};

/// No chunk but a file's last is smaller.
pub const MIN_BYTES: usize = 512 * 1024;
/// What chunks have on average, about.
pub const AVERAGE_BYTES: usize = 1024 * 1024;
/// No chunk is larger.
pub const MAX_BYTES: usize = 8 * 1024 * 1024;

/// log2 of [`AVERAGE_BYTES`]: how many bits of the hash must be zero at a cut.
const AVERAGE_BITS: usize = AVERAGE_BYTES.ilog2() as usize;
/// FastCDC's normalization: cuts are harder by this many bits before the average size, and easier after it.
const NORMALIZATION_BITS: usize = 1;

/// Finds the cuts of one repository.
#[derive(Clone)]
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
}

impl Chunker {
    /// The chunker of the repository with this key.
    pub fn new(key: &MasterKey) -> Self {
        let seed = key.derive(b"belay gear table");
        let mut gear = Box::new([0; 256]);
        for (byte, value) in gear.iter_mut().enumerate() {
            let sum: [u8; 32] =
                Sha256::new().chain_update(seed).chain_update([byte as u8]).finalize().into();
            *value = u64::from_le_bytes(std::array::from_fn(|index| sum[index]));
        }
        let gear_shifted = Box::new(gear.map(|value| value << 1));
        Self { gear, gear_shifted }
    }

    /// The length of the first chunk of `bytes`. It is final when `bytes` has at least [`MAX_BYTES`] or ends the file,
    /// or when the length is smaller than that of `bytes`.
    pub fn cut(&self, bytes: &[u8]) -> usize {
        let hard = MASKS[AVERAGE_BITS + NORMALIZATION_BITS];
        let easy = MASKS[AVERAGE_BITS - NORMALIZATION_BITS];
        let (_, length) = cut_gear(
            bytes,
            MIN_BYTES,
            AVERAGE_BYTES,
            MAX_BYTES,
            hard,
            easy,
            hard << 1,
            easy << 1,
            self.gear.as_slice(),
            self.gear_shifted.as_slice(),
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed;
        std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(length)
        .collect()
    }

    fn chunks(chunker: &Chunker, mut bytes: &[u8]) -> Vec<[u8; 32]> {
        let mut sums = Vec::new();
        while !bytes.is_empty() {
            let (chunk, rest) = bytes.split_at(chunker.cut(bytes));
            assert!(chunk.len() <= MAX_BYTES && (chunk.len() >= MIN_BYTES || rest.is_empty()));
            sums.push(super::super::sha256(chunk));
            bytes = rest;
        }
        sums
    }

    #[test]
    fn an_insertion_changes_only_the_chunks_around_it() {
        let chunker = Chunker::new(&MasterKey::from_bytes(&[1; 64]));
        let before = noise(24 * 1024 * 1024, 1);
        let mut after = before.clone();
        after.splice(12_345_678..12_345_678, noise(100, 2));
        let (before, after) = (chunks(&chunker, &before), chunks(&chunker, &after));
        let shared = before.iter().filter(|sum| after.contains(sum)).count();
        assert!(before.len() >= 12, "{} chunks", before.len());
        assert!(shared + 3 >= before.len(), "{shared} of {}", before.len());
    }

    #[test]
    fn another_key_cuts_elsewhere() {
        let bytes = noise(16 * 1024 * 1024, 3);
        let one = chunks(&Chunker::new(&MasterKey::from_bytes(&[1; 64])), &bytes);
        let two = chunks(&Chunker::new(&MasterKey::from_bytes(&[2; 64])), &bytes);
        assert!(one.iter().all(|sum| !two.contains(sum) || *sum == *one.last().unwrap()));
    }

    #[test]
    fn zeros_are_cut_at_the_largest_size() {
        let chunker = Chunker::new(&MasterKey::from_bytes(&[1; 64]));
        assert_eq!(chunker.cut(&vec![0; 2 * MAX_BYTES]), MAX_BYTES);
        assert_eq!(chunker.cut(&[]), 0);
        assert_eq!(chunker.cut(&[1, 2, 3]), 3);
    }
}
