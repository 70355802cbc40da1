//! Pseudo-random numbers and contents: the same for the same seed, for ever.

/// A small generator (splitmix64); good enough for contents that do not compress and for moments to kill at.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and without, `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Lines that compress as a database's dump does.
    pub fn rows(&mut self, length: usize) -> Vec<u8> {
        let mut rows = Vec::with_capacity(length + 128);
        while rows.len() < length {
            let (id, amount) = (self.below(1 << 40), self.below(100_000));
            let line = format!(
                "{id}\tcustomer {}\t2026-03-{:02}\t{amount}.00\tpaid\n",
                id % 9973,
                1 + id % 28
            );
            rows.extend_from_slice(line.as_bytes());
        }
        rows.truncate(length);
        rows
    }
}
