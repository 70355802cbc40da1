//! The sums of a tree's files, in the format of `sha256sum`, so that a restored tree can be verified without Belay:
//! `cd files && sha256sum --check --quiet ../checksums/NAME.sha256`.
//!
//! Lines stand in the order in which directories are finished: those of subdirectories before those of their parent.
//! So the list of the night before can be read along, and neither list is ever in memory.

use crate::model::id::Sha256;
use crate::repository::RepositoryError;
use crate::repository::reader::ContentStream;
use crate::repository::writer::{FileStream, PendingContent};
use std::cmp::Ordering;
use std::io::{BufRead as _, BufReader};

/// A longer line is no line of ours: a path has 4096 bytes at most, and twice as many when each is escaped.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Writes a list into the repository.
pub(super) struct ChecksumWriter {
    stream: FileStream,
    files: u64,
}

impl ChecksumWriter {
    pub(super) fn new(stream: FileStream) -> Self {
        Self { stream, files: 0 }
    }

    /// Add a line.
    pub(super) fn add(&mut self, path: &[u8], sum: Sha256) -> Result<(), RepositoryError> {
        self.files += 1;
        self.stream.append(&line(path, sum))
    }

    /// The whole list.
    pub(super) fn finish(self) -> Result<PendingContent, RepositoryError> {
        self.stream.finish()
    }
}

/// As GNU coreutils writes it: a leading backslash says that the name holds escapes.
pub(super) fn line(path: &[u8], sum: Sha256) -> Vec<u8> {
    let mut line = Vec::with_capacity(path.len() + 70);
    let is_escaped = path.iter().any(|byte| matches!(byte, b'\\' | b'\n'));
    if is_escaped {
        line.push(b'\\');
    }
    line.extend(sum.to_string().bytes());
    line.extend(b"  ");
    for byte in path {
        match byte {
            b'\\' => line.extend(b"\\\\"),
            b'\n' => line.extend(b"\\n"),
            byte => line.push(*byte),
        }
    }
    line.push(b'\n');
    line
}

/// A line's path and sum; `None` when it is no such line.
fn parse(line: &[u8]) -> Option<(Vec<u8>, Sha256)> {
    let line = line.strip_suffix(b"\n")?;
    let (is_escaped, line) = line.strip_prefix(b"\\").map_or((false, line), |line| (true, line));
    let (sum, path) = line.split_at_checked(64)?;
    let sum = std::str::from_utf8(sum).ok()?.parse().ok()?;
    let path = path.strip_prefix(b"  ")?;
    if !is_escaped {
        return Some((path.to_vec(), sum));
    }
    let mut unescaped = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(byte) = bytes.next() {
        unescaped.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => *byte,
        });
    }
    Some((unescaped, sum))
}

/// The list's order: a directory's entries before its parent's, otherwise by name.
fn compare(a: &[u8], b: &[u8]) -> Ordering {
    let (mut a, mut b) = (a.split(|byte| *byte == b'/'), b.split(|byte| *byte == b'/'));
    let (mut first, mut second) = (a.next(), b.next());
    loop {
        let (next_first, next_second) = (a.next(), b.next());
        match (next_first.is_some(), next_second.is_some()) {
            (true, true) if first == second => (first, second) = (next_first, next_second),
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            _ => return first.cmp(&second),
        }
    }
}

/// Reads a list along with a walk in the same order.
pub(super) struct Checksums<'a> {
    lines: BufReader<ContentStream<'a>>,
    current: Option<(Vec<u8>, Sha256)>,
}

impl<'a> Checksums<'a> {
    pub(super) fn new(content: ContentStream<'a>) -> Self {
        Self { lines: BufReader::new(content), current: None }
    }

    /// The sum of `path`, or `None` when the list does not have it. Paths must come in the list's order.
    pub(super) fn find(&mut self, path: &[u8]) -> Result<Option<Sha256>, RepositoryError> {
        loop {
            if let Some((current, sum)) = &self.current {
                match compare(current, path) {
                    Ordering::Less => {}
                    Ordering::Equal => return Ok(Some(*sum)),
                    Ordering::Greater => return Ok(None),
                }
            }
            let mut line = Vec::new();
            let mut limited = std::io::Read::take(&mut self.lines, MAX_LINE_BYTES);
            // A list that cannot be read is worth no failure: the sum is made from the file's blobs.
            if limited.read_until(b'\n', &mut line).is_err() {
                return Ok(None);
            }
            self.current = parse(&line);
            if self.current.is_none() {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_read_back(path in proptest::collection::vec(1_u8.., 1..40), sum in any::<[u8; 32]>()) {
            prop_assert_eq!(parse(&line(&path, Sha256(sum))), Some((path, Sha256(sum))));
        }
    }

    #[test]
    fn subdirectories_come_before_their_parents_files() {
        let sorted: [&[u8]; 8] =
            [b"r/a/b/z", b"r/a/c/a", b"r/a/0", b"r/a/z", b"r/b/x", b"r/0", b"r/a.txt", b"r/z"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(compare(a, b), i.cmp(&j), "{i} {j}");
            }
        }
    }
}
