//! The file's bytes on their way: summed, handed on, and kept where they are wanted.

use super::{RdbError, Visitor, crc};
use std::io::{self, Read};

/// Bytes asked for at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// No server takes a longer value by default (`proto-max-bulk-len`).
const MOST_KEPT: usize = 512 * 1024 * 1024;

pub(super) struct Source<'a, R, V> {
    input: R,
    pub(super) visitor: &'a mut V,
    buffer: Box<[u8]>,
    /// What was taken and not yet handed on begins here, and ends at `at`.
    begin: usize,
    at: usize,
    end: usize,
    /// Bytes before `begin`.
    before: u64,
    sum: u64,
    kept: Option<Vec<u8>>,
}

impl<'a, R: Read, V: Visitor> Source<'a, R, V> {
    pub(super) fn new(input: R, visitor: &'a mut V) -> Self {
        let buffer = vec![0; BUFFER_BYTES].into();
        Self { input, visitor, buffer, begin: 0, at: 0, end: 0, before: 0, sum: 0, kept: None }
    }

    pub(super) fn position(&self) -> u64 {
        self.before + (self.at - self.begin) as u64
    }

    pub(super) fn damaged(&self, reason: impl Into<String>) -> RdbError {
        RdbError::Damaged { position: self.position(), reason: reason.into() }
    }

    /// Hand on what was taken. The sum is that of all of it.
    pub(super) fn sum(&mut self) -> Result<u64, RdbError> {
        let taken = &self.buffer[self.begin..self.at];
        self.sum = crc::update(self.sum, taken);
        self.visitor.bytes(taken).map_err(RdbError::Visitor)?;
        self.before += taken.len() as u64;
        self.begin = self.at;
        Ok(self.sum)
    }

    /// Bytes that are there, at least one; none at the end.
    fn fill(&mut self) -> Result<&[u8], RdbError> {
        while self.at == self.end {
            self.sum()?;
            (self.begin, self.at, self.end) = (0, 0, 0);
            match self.input.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => self.end = count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(RdbError::Read(error)),
            }
        }
        Ok(&self.buffer[self.at..self.end])
    }

    /// Take so many bytes, and show them where they lie.
    fn take(&mut self, mut length: u64, mut see: impl FnMut(&[u8])) -> Result<(), RdbError> {
        while length > 0 {
            let there = self.fill()?;
            if there.is_empty() {
                return Err(RdbError::Ended { position: self.position() });
            }
            let count = there.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            let part = &self.buffer[self.at..self.at + count];
            see(part);
            if let Some(kept) = &mut self.kept {
                if kept.len() + count > MOST_KEPT {
                    return Err(self.damaged("a value is too long to be loaded back"));
                }
                kept.extend_from_slice(part);
            }
            self.at += count;
            length -= count as u64;
        }
        Ok(())
    }

    pub(super) fn skip(&mut self, length: u64) -> Result<(), RdbError> {
        self.take(length, |_| ())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut bytes = [0; N];
        let mut filled = 0;
        self.take(N as u64, |part| {
            bytes[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        })?;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, RdbError> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// So many bytes in memory.
    pub(super) fn text(&mut self, length: u64, limit: u64) -> Result<Vec<u8>, RdbError> {
        if length > limit {
            return Err(self.damaged(format!("a name has {length} bytes")));
        }
        let mut text = Vec::new();
        self.take(length, |part| text.extend_from_slice(part))?;
        Ok(text)
    }

    /// From here on, keep what is taken.
    pub(super) fn keep(&mut self) {
        self.kept = Some(Vec::new());
    }

    /// What was kept.
    pub(super) fn kept(&mut self) -> Option<Vec<u8>> {
        self.kept.take()
    }

    /// What is behind all that was taken, at most `limit` bytes of it, which are not handed on.
    pub(super) fn rest(&mut self, limit: u64) -> Result<Vec<u8>, RdbError> {
        self.sum()?;
        let mut rest = self.buffer[self.at..self.end].to_vec();
        self.input.by_ref().take(limit).read_to_end(&mut rest).map_err(RdbError::Read)?;
        Ok(rest)
    }
}
