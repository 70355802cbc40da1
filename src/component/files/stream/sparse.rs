//! The map of a file with holes, as GNU tar writes it before the content (version 1.0): how many pieces there are, then
//! where each begins and how long it is, each number in a line of its own; then zeros up to the next block.

use super::header::number;

/// Of more pieces there is no map: the memory for it is not asked for.
pub(super) const MOST_PIECES: u64 = 1_000_000;
/// No number has more digits.
const MOST_DIGITS: usize = 20;

/// Takes the map byte by byte.
#[derive(Default)]
pub(super) struct MapReader {
    digits: Vec<u8>,
    count: Option<u64>,
    offset: Option<u64>,
    /// Where pieces begin, and how long they are.
    pub(super) pieces: Vec<(u64, u64)>,
}

impl MapReader {
    /// The next byte; whether the map is complete with it. An error's text says what is wrong.
    pub(super) fn take(&mut self, byte: u8) -> Result<bool, &'static str> {
        if byte != b'\n' {
            self.digits.push(byte);
            return if self.digits.len() > MOST_DIGITS {
                Err("a number is too long")
            } else {
                Ok(false)
            };
        }
        let number = number(&self.digits).ok_or("something is no number")?;
        self.digits.clear();
        match (self.count, self.offset.take()) {
            (None, _) if number > MOST_PIECES => return Err("it has too many pieces"),
            (None, _) => self.count = Some(number),
            (_, None) => self.offset = Some(number),
            (_, Some(offset)) => self.pieces.push((offset, number)),
        }
        Ok(self.count == Some(self.pieces.len() as u64))
    }

    /// Whether the pieces follow each other within a file of this size, and are so many bytes.
    pub(super) fn fits(&self, size: u64, stored: u64) -> bool {
        let mut end = 0_u64;
        let mut sum = 0_u64;
        for (offset, length) in &self.pieces {
            let Some(next) = offset.checked_add(*length) else { return false };
            if *offset < end || next > size {
                return false;
            }
            (end, sum) = (next, sum + length);
        }
        sum == stored
    }
}
