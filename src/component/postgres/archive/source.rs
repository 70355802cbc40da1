//! The archive's bytes: numbers and strings as `pg_dump` writes them, and chunks of data that are looked at where they
//! lie in the buffer.

use super::error::{ArchiveError, Place};
use std::io::{self, Read};

/// Bytes asked for at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// An integer: its sign, then 4 bytes, the lowest first.
pub(super) const INT_BYTES: usize = 5;
/// No row of PostgreSQL is longer, and no chunk holds more than a row or a part of a large object.
const MAX_CHUNK_BYTES: i64 = 1024 * 1024 * 1024;

/// What went wrong, where the place is not known yet.
#[derive(Debug)]
pub(super) enum Fault {
    Read(io::Error),
    Ended,
    Damaged(String),
}

impl Fault {
    pub(super) fn at(self, place: Place) -> ArchiveError {
        match self {
            Self::Read(source) => ArchiveError::Read { place, source },
            Self::Ended => ArchiveError::Truncated { place },
            Self::Damaged(reason) => ArchiveError::Damaged { place, reason },
        }
    }
}

pub(super) struct Source<R> {
    input: R,
    buffer: Box<[u8]>,
    /// What was read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The position of `buffer[0]` in the archive.
    base: u64,
    /// All that was consumed, where that is wanted.
    kept: Option<Vec<u8>>,
}

impl<R: Read> Source<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, buffer: vec![0; BUFFER_BYTES].into(), start: 0, end: 0, base: 0, kept: None }
    }

    /// One that keeps what is consumed.
    pub(super) fn keeping(input: R) -> Self {
        Self { kept: Some(Vec::new()), ..Self::new(input) }
    }

    /// What was kept.
    pub(super) fn into_kept(self) -> Vec<u8> {
        self.kept.unwrap_or_default()
    }

    fn consume(&mut self, length: usize) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.buffer[self.start..self.start + length]);
        }
        self.start += length;
    }

    /// Bytes consumed so far.
    pub(super) fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    /// At least `least` bytes that were not consumed, or all that there are, when the archive ends before.
    pub(super) fn peek(&mut self, least: usize) -> Result<&[u8], Fault> {
        debug_assert!(least <= BUFFER_BYTES);
        if self.end - self.start < least {
            self.fill(least)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    #[cold]
    fn fill(&mut self, least: usize) -> Result<(), Fault> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < least {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Fault::Read(error)),
            }
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let bytes = *self.peek(N)?.first_chunk().ok_or(Fault::Ended)?;
        self.consume(N);
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Fault> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// The next byte, or `None` at the end.
    pub(super) fn byte_or_end(&mut self) -> Result<Option<u8>, Fault> {
        let byte = self.peek(1)?.first().copied();
        self.consume(usize::from(byte.is_some()));
        Ok(byte)
    }

    pub(super) fn int(&mut self) -> Result<i64, Fault> {
        let [sign, magnitude @ ..] = self.bytes::<INT_BYTES>()?;
        let magnitude = i64::from(u32::from_le_bytes(magnitude));
        match sign {
            0 => Ok(magnitude),
            1 => Ok(-magnitude),
            _ => Err(Fault::Damaged(format!("{sign} is no sign of a number"))),
        }
    }

    /// A string's length; `None` for one that is not there.
    pub(super) fn string_length(&mut self, limit: u64) -> Result<Option<u64>, Fault> {
        let length = self.int()?;
        match u64::try_from(length) {
            Err(_) => Ok(None),
            Ok(length) if length <= limit => Ok(Some(length)),
            Ok(length) => Err(Fault::Damaged(format!("a text of {length} bytes is too long"))),
        }
    }

    /// A string of at most `limit` bytes; one that is not there is empty. Bytes that are not UTF-8 are replaced.
    pub(super) fn string(&mut self, limit: u64) -> Result<String, Fault> {
        Ok(self.optional_string(limit)?.unwrap_or_default())
    }

    /// The same; none where it is not there.
    pub(super) fn optional_string(&mut self, limit: u64) -> Result<Option<String>, Fault> {
        let Some(length) = self.string_length(limit)? else { return Ok(None) };
        let mut text = Vec::new();
        self.take(length, |part| {
            text.extend_from_slice(part);
            Ok(())
        })?;
        let text = String::from_utf8(text);
        Ok(Some(
            text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
        ))
    }

    /// Show `length` bytes to `see` in parts, where they lie.
    pub(super) fn take(
        &mut self,
        mut length: u64,
        mut see: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        while length > 0 {
            let there = self.peek(1)?;
            if there.is_empty() {
                return Err(Fault::Ended);
            }
            let part = &there[..there.len().min(usize::try_from(length).unwrap_or(usize::MAX))];
            see(part)?;
            let passed = part.len();
            length -= passed as u64;
            self.consume(passed);
        }
        Ok(())
    }

    /// Show the bytes of all chunks up to the one of length 0 to `see`, and say how many there were.
    pub(super) fn chunks(
        &mut self,
        mut see: impl FnMut(&[u8]) -> Result<(), Fault>,
    ) -> Result<u64, Fault> {
        let mut total = 0;
        loop {
            let length = self.int()?;
            match u64::try_from(length) {
                Ok(0) => return Ok(total),
                Ok(bytes) if length <= MAX_CHUNK_BYTES => {
                    self.take(bytes, &mut see)?;
                    total += bytes;
                }
                _ => {
                    return Err(Fault::Damaged(format!("a chunk cannot have {length} bytes")));
                }
            }
        }
    }
}
