//! BSON documents as they follow one another in a dump: taken off a stream, and looked through from end to end.
//!
//! The bytes are only looked at, never changed or made again: what a server stored comes back as it was. Lengths are
//! believed when the bytes are there, nothing is allocated for an element, and nesting costs no stack, so that hostile
//! documents are errors and nothing worse. Texts need not be UTF-8: old drivers stored what they were given.
//!
//! Source of the format: the BSON specification 1.1; of the limits: MongoDB's `BSONObjMaxInternalSize` and
//! `BSONDepth`.

use memchr::memchr;
use std::fmt;
use std::io::{self, Read};

/// The longest document: what users may store, and room for what the server adds to it in its oplog.
pub const MAX_DOCUMENT_BYTES: usize = 16 * 1024 * 1024 + 16 * 1024;
/// Documents and arrays may be nested so deep. Servers can be set to take 250.
pub const MAX_DEPTH: usize = 256;

/// The empty document: its length and the NUL at its end.
const MIN_DOCUMENT_BYTES: usize = 5;
const LENGTH_BYTES: usize = 4;
/// Bytes asked for at once; a longer document makes the buffer grow.
const BUFFER_BYTES: usize = 256 * 1024;

/// Types of elements.
mod kind {
    pub(super) const TEXT: u8 = 2;
    pub(super) const DOCUMENT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const BINARY: u8 = 5;
    pub(super) const BOOL: u8 = 8;
    pub(super) const REGEX: u8 = 11;
    pub(super) const POINTER: u8 = 12;
    pub(super) const CODE: u8 = 13;
    pub(super) const SYMBOL: u8 = 14;
    pub(super) const SCOPED_CODE: u8 = 15;
    pub(super) const INT32: u8 = 16;
    pub(super) const INT64: u8 = 18;
}

/// Why a stream of documents is not believed. Offsets are bytes from the beginning of the stream.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// The bytes could not be had.
    #[error("it could not be read any further from byte {offset} on")]
    Read {
        /// How far it was read.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It ends in the middle of something.
    #[error("it ends at byte {end}, in the middle of what begins at byte {offset}")]
    Truncated {
        /// Where the unfinished document begins.
        offset: u64,
        /// Where the stream ends.
        end: u64,
    },
    /// There should be a document, and no document has such a length.
    #[error("a document should begin at byte {offset}, and {length} is no length of one")]
    Length {
        /// Where.
        offset: u64,
        /// The length that is there.
        length: i32,
    },
    /// A document contradicts itself.
    #[error("the document at byte {offset} is damaged: {fault}")]
    Malformed {
        /// Where the document begins.
        offset: u64,
        /// What is wrong with it.
        fault: Malformed,
    },
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Bytes from the document's beginning.
    pub at: usize,
    /// What is wrong there.
    pub reason: Reason,
}

impl fmt::Display for Malformed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (its byte {})", self.reason, self.at)
    }
}

/// What can be wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A document, or one in it, has not as many bytes as it says, or goes beyond what it lies in.
    #[error("a length does not fit")]
    Length,
    /// A document does not end with NUL where its length says.
    #[error("a document has no NUL at its end")]
    NoEnd,
    /// A name of an element has no end.
    #[error("the name of an element has no end")]
    Name,
    /// No such type of element.
    #[error("{0} is no type of an element")]
    Type(u8),
    /// A value goes beyond the end of its document.
    #[error("a value goes beyond the end of its document")]
    Overrun,
    /// A text does not end with NUL where its length says.
    #[error("a text has no NUL at its end")]
    Text,
    /// A truth value that is neither.
    #[error("{0} is neither false nor true")]
    Bool(u8),
    /// Nested too deep.
    #[error("documents are nested more than {MAX_DEPTH} deep")]
    Depth,
}

impl Reason {
    const fn at(self, at: usize) -> Malformed {
        Malformed { at, reason: self }
    }
}

/// Look through a whole document: every element's type is known and its value inside, nested documents included.
pub fn validate(document: &[u8]) -> Result<(), Malformed> {
    let mut outer = [0_usize; MAX_DEPTH];
    let mut depth = 0;
    let mut end = end_of_document(document, 0, document.len())?;
    if end + 1 != document.len() {
        return Err(Reason::Length.at(0));
    }
    let mut at = LENGTH_BYTES;
    loop {
        while at == end {
            if depth == 0 {
                return Ok(());
            }
            depth -= 1;
            (at, end) = (end + 1, outer[depth]);
        }
        let (kind, name) = (document[at], at + 1);
        let length = memchr(0, &document[name..end]).ok_or(Reason::Name.at(name))?;
        at = name + length + 1;
        let inner = match kind {
            kind::DOCUMENT | kind::ARRAY => Some((at, end)),
            kind::SCOPED_CODE => Some(scope(document, at, end)?),
            _ => None,
        };
        let Some((start, limit)) = inner else {
            at = end_of_value(document, kind, at, end)?;
            continue;
        };
        if depth == MAX_DEPTH - 1 {
            return Err(Reason::Depth.at(start));
        }
        outer[depth] = end;
        depth += 1;
        end = end_of_document(document, start, limit)?;
        // The scope is the last part of its value.
        if kind == kind::SCOPED_CODE && end + 1 != limit {
            return Err(Reason::Length.at(start));
        }
        at = start + LENGTH_BYTES;
    }
}

/// The length at `at`, when that many bytes can be there: `i32`, not negative, and no further than `limit`.
fn length_at(bytes: &[u8], at: usize, limit: usize) -> Result<usize, Malformed> {
    let raw = bytes[..limit].get(at..).and_then(<[u8]>::first_chunk);
    let raw = i32::from_le_bytes(*raw.ok_or(Reason::Overrun.at(at))?);
    let length = usize::try_from(raw).map_err(|_| Reason::Length.at(at))?;
    if length > limit - at { Err(Reason::Length.at(at)) } else { Ok(length) }
}

/// Where the NUL is that ends the document at `start`, which lies before `limit`.
fn end_of_document(bytes: &[u8], start: usize, limit: usize) -> Result<usize, Malformed> {
    let length = length_at(bytes, start, limit)?;
    if length < MIN_DOCUMENT_BYTES {
        return Err(Reason::Length.at(start));
    }
    let end = start + length - 1;
    if bytes[end] == 0 { Ok(end) } else { Err(Reason::NoEnd.at(end)) }
}

/// Where the scope of code begins, and where the value ends.
fn scope(bytes: &[u8], at: usize, end: usize) -> Result<(usize, usize), Malformed> {
    let limit = at + length_at(bytes, at, end)?;
    let start = end_of_text(bytes, at + LENGTH_BYTES, limit)?;
    Ok((start, limit))
}

/// What follows the text at `at`: a length that counts the NUL at its end, then the text.
fn end_of_text(bytes: &[u8], at: usize, end: usize) -> Result<usize, Malformed> {
    let length = length_at(bytes, at, end)?;
    let after = at + LENGTH_BYTES + length;
    if length == 0 || after > end {
        return Err(Reason::Length.at(at));
    }
    if bytes[after - 1] == 0 { Ok(after) } else { Err(Reason::Text.at(after - 1)) }
}

/// What follows the value at `at`, which is no document and has none inside, and lies before `end`.
fn end_of_value(bytes: &[u8], kind: u8, at: usize, end: usize) -> Result<usize, Malformed> {
    let after = match kind {
        // undefined, null, the least and the greatest key
        6 | 10 | 127 | 255 => at,
        kind::BOOL => {
            if let Some(value @ 2..) = bytes[at..end].first().copied() {
                return Err(Reason::Bool(value).at(at));
            }
            at + 1
        }
        kind::INT32 => at + 4,
        // double, time, timestamp, and whole numbers
        1 | 9 | 17 | kind::INT64 => at + 8,
        // object id
        7 => at + 12,
        // decimal
        19 => at + 16,
        kind::TEXT | kind::CODE | kind::SYMBOL => end_of_text(bytes, at, end)?,
        kind::POINTER => end_of_text(bytes, at, end)? + 12,
        // A length, a subtype, and the bytes.
        kind::BINARY => at + LENGTH_BYTES + 1 + length_at(bytes, at, end)?,
        // The expression and its options, each ended by NUL.
        kind::REGEX => {
            let mut rest = at;
            for _ in 0..2 {
                rest += memchr(0, &bytes[rest..end]).ok_or(Reason::Overrun.at(at))? + 1;
            }
            rest
        }
        other => return Err(Reason::Type(other).at(at)),
    };
    if after > end { Err(Reason::Overrun.at(at)) } else { Ok(after) }
}

/// The value of an element, where it is of one of the few types that the archive's own documents have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A text that is UTF-8.
    Text(&'a str),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int32(i32),
    /// A whole number.
    Int64(i64),
    /// Anything else: its type.
    Other(u8),
}

/// The elements of a validated document in their order, without what is nested in them. Names that are not UTF-8 are
/// empty. Of a document that was not validated, those before the first fault.
pub fn elements(document: &[u8]) -> impl Iterator<Item = (&str, Value<'_>)> {
    let end = document.len().saturating_sub(1);
    let mut at = LENGTH_BYTES;
    std::iter::from_fn(move || {
        let kind = *document.get(..end)?.get(at)?;
        let name = at + 1;
        let start = name + memchr(0, &document[name..end])? + 1;
        at = match kind {
            kind::DOCUMENT | kind::ARRAY | kind::SCOPED_CODE => {
                start + length_at(document, start, end).ok()?
            }
            _ => end_of_value(document, kind, start, end).ok()?,
        };
        let name = str::from_utf8(&document[name..start - 1]).unwrap_or_default();
        Some((name, value(kind, &document[start..at])))
    })
}

fn value(kind: u8, bytes: &[u8]) -> Value<'_> {
    let value = match kind {
        kind::TEXT => {
            let text = str::from_utf8(&bytes[LENGTH_BYTES..bytes.len() - 1]);
            text.ok().map(Value::Text)
        }
        kind::BOOL => Some(Value::Bool(bytes == [1])),
        kind::INT32 => bytes.first_chunk().map(|raw| Value::Int32(i32::from_le_bytes(*raw))),
        kind::INT64 => bytes.first_chunk().map(|raw| Value::Int64(i64::from_le_bytes(*raw))),
        _ => None,
    };
    value.unwrap_or(Value::Other(kind))
}

/// Make a document of these elements.
///
/// # Panics
/// When a name holds NUL, a text is longer than a document can be, or there is a [`Value::Other`].
pub fn build(elements: &[(&str, Value<'_>)]) -> Vec<u8> {
    let length =
        |length: usize| i32::try_from(length).expect("shorter than a document").to_le_bytes();
    let mut document = vec![0; LENGTH_BYTES];
    for (name, value) in elements {
        assert!(!name.contains('\0'), "a name ends with NUL");
        let kind_at = document.len();
        document.push(0);
        document.extend_from_slice(name.as_bytes());
        document.push(0);
        document[kind_at] = match value {
            Value::Text(text) => {
                document.extend_from_slice(&length(text.len() + 1));
                document.extend_from_slice(text.as_bytes());
                document.push(0);
                kind::TEXT
            }
            Value::Bool(value) => {
                document.push(u8::from(*value));
                kind::BOOL
            }
            Value::Int32(value) => {
                document.extend_from_slice(&value.to_le_bytes());
                kind::INT32
            }
            Value::Int64(value) => {
                document.extend_from_slice(&value.to_le_bytes());
                kind::INT64
            }
            Value::Other(kind) => panic!("no value of type {kind} can be written"),
        };
    }
    document.push(0);
    let whole = length(document.len());
    document[..LENGTH_BYTES].copy_from_slice(&whole);
    document
}

/// Takes documents off a stream. At most one document is in memory, and what came with it.
pub struct DocumentReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// What was read and not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// The position of `buffer[0]` in the stream.
    base: u64,
}

impl<R: Read> DocumentReader<R> {
    /// Read from `input`, which needs no buffer of its own.
    pub fn new(input: R) -> Self {
        Self { input, buffer: vec![0; BUFFER_BYTES], start: 0, end: 0, base: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    /// The next document, validated; `None` where the stream ends after a whole one.
    pub fn next_document(&mut self) -> Result<Option<&[u8]>, DocumentError> {
        if self.is_at_end()? {
            return Ok(None);
        }
        let offset = self.position();
        let document = self.document_or_terminator()?;
        document.map(Some).ok_or(DocumentError::Length { offset, length: -1 })
    }

    /// Whether the stream ends here.
    pub(super) fn is_at_end(&mut self) -> Result<bool, DocumentError> {
        self.peek(1).map(<[u8]>::is_empty)
    }

    /// At least `least` bytes that were not consumed, or all that there are, when the stream ends before.
    pub(super) fn peek(&mut self, least: usize) -> Result<&[u8], DocumentError> {
        if self.end - self.start < least {
            self.fill(least)?;
        }
        Ok(&self.buffer[self.start..self.end])
    }

    /// Pass over `count` bytes that [`Self::peek`] has shown.
    pub(super) fn consume(&mut self, count: usize) {
        debug_assert!(count <= self.end - self.start);
        self.start += count;
    }

    /// The next document, validated, or `None` for the terminator that an archive puts in place of a document's
    /// length.
    pub(super) fn document_or_terminator(&mut self) -> Result<Option<&[u8]>, DocumentError> {
        let offset = self.position();
        let length = i32::from_le_bytes(*self.whole(LENGTH_BYTES)?.first_chunk().expect("4 bytes"));
        if length == -1 {
            self.consume(LENGTH_BYTES);
            return Ok(None);
        }
        let bytes = usize::try_from(length).unwrap_or(0);
        if !(MIN_DOCUMENT_BYTES..=MAX_DOCUMENT_BYTES).contains(&bytes) {
            return Err(DocumentError::Length { offset, length });
        }
        self.whole(bytes)?;
        let start = self.start;
        self.consume(bytes);
        let document = &self.buffer[start..start + bytes];
        validate(document).map_err(|fault| DocumentError::Malformed { offset, fault })?;
        Ok(Some(document))
    }

    /// The next `count` bytes.
    fn whole(&mut self, count: usize) -> Result<&[u8], DocumentError> {
        let offset = self.position();
        let found = self.peek(count)?.len();
        if found < count {
            return Err(DocumentError::Truncated { offset, end: offset + found as u64 });
        }
        Ok(&self.buffer[self.start..self.start + count])
    }

    #[cold]
    fn fill(&mut self, least: usize) -> Result<(), DocumentError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.base += self.start as u64;
        (self.start, self.end) = (0, self.end - self.start);
        while self.end < least {
            // Grown as bytes come, so that a length alone takes no memory.
            if self.end == self.buffer.len() {
                self.buffer.resize((2 * self.end).min(MAX_DOCUMENT_BYTES), 0);
            }
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(length) => self.end += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.base + self.end as u64;
                    return Err(DocumentError::Read { offset, source });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
