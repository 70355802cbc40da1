//! RDB, the format in which Redis writes its databases (`rdb.h` and `rdb.c`): walked to its end, every object of it.
//!
//! Versions 5 to 12 are known, and so are all kinds of objects in them; what is not known is refused, because its end could not
//! be found. Values are not interpreted but for their length: their sum proves them.

pub(super) mod crc;
mod lzf;
mod object;
mod source;
#[cfg(test)]
mod tests;

use self::source::Source;
use std::collections::BTreeMap;
use std::io::{self, Read};

/// Before 5 there was no sum.
const VERSIONS: std::ops::RangeInclusive<u32> = 5..=12;
/// Names of keys are kept in memory, one at a time.
const MOST_NAME: u64 = 64 * 1024 * 1024;
/// The mark behind a file that a server sent without knowing its length, in hex digits: `redis-cli` leaves it where its output
/// is a pipe.
const MARKER_BYTES: usize = 40;

/// A key, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The number of its database.
    pub database: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// The kind of its value, as the file has it.
    pub kind: u8,
    /// When it expires, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
}

/// Who watches a file being walked. Errors end the walk.
pub trait Visitor {
    /// The version of its format.
    fn version(&mut self, _: u32) {}
    /// All its bytes, in order.
    fn bytes(&mut self, part: &[u8]) -> io::Result<()>;
    /// A key: whether its value is wanted, in memory.
    fn wants(&mut self, key: &Key) -> bool;
    /// The value of a key that was wanted, as the file has it, behind its kind.
    fn value(&mut self, key: &Key, value: &[u8]) -> io::Result<()>;
}

/// What may follow a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing.
    None,
    /// Nothing, or what `redis-cli` leaves there.
    Marker,
}

/// A file that was walked to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The version of its format.
    pub version: u32,
    /// Keys by the number of their database.
    pub databases: BTreeMap<u64, u64>,
}

impl Summary {
    /// All its keys.
    pub fn keys(&self) -> u64 {
        self.databases.values().sum()
    }
}

/// Why a file is not whole.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    /// It could not be read on.
    #[error("it could not be read: {0}")]
    Read(io::Error),
    /// It ends too early.
    #[error("it ends after {position} bytes, before its end mark")]
    Ended {
        /// How long it is.
        position: u64,
    },
    /// It is no such file, or damaged.
    #[error("at byte {position}: {reason}")]
    Damaged {
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// Who watched it failed.
    #[error("{0}")]
    Visitor(io::Error),
}

/// Walk a file to its end.
pub fn walk<V: Visitor>(
    input: impl Read,
    tail: Tail,
    visitor: &mut V,
) -> Result<Summary, RdbError> {
    let mut source = Source::new(input, visitor);
    let version = head(&mut source)?;
    source.visitor.version(version);
    let mut databases = BTreeMap::new();
    let mut database = 0;
    let mut expires_ms = None;
    loop {
        match source.byte()? {
            // Of which slots of a cluster there are how many keys.
            0xf4 => (0..3).try_for_each(|_| source.length().map(drop))?,
            // A library of functions.
            0xf5 => source.string()?,
            // What a module writes beside keys.
            0xf7 => {
                source.length()?;
                source.module()?;
            }
            // How long a key was idle, or how often it was used.
            0xf8 => drop(source.length()?),
            0xf9 => drop(source.byte()?),
            // A name and a value about the file.
            0xfa => (0..2).try_for_each(|_| source.string())?,
            // How many keys follow, and how many of them expire.
            0xfb => (0..2).try_for_each(|_| source.length().map(drop))?,
            0xfc => expires_ms = Some(u64::from_le_bytes(source.bytes()?)),
            0xfd => expires_ms = Some(u64::from(u32::from_le_bytes(source.bytes()?)) * 1000),
            0xfe => database = source.length()?,
            0xff => break,
            kind => {
                let name = source.name(MOST_NAME)?;
                let key = Key { database, name, kind, expires_ms: expires_ms.take() };
                if source.visitor.wants(&key) {
                    source.keep();
                }
                source.object(kind)?;
                if let Some(value) = source.kept() {
                    source.visitor.value(&key, &value).map_err(RdbError::Visitor)?;
                }
                *databases.entry(database).or_insert(0) += 1;
            }
        }
    }
    let found = source.sum()?;
    let expected = u64::from_le_bytes(source.bytes()?);
    // A server that is told to makes no sums.
    if expected != 0 && expected != found {
        return Err(source.damaged("its sum is wrong"));
    }
    let rest = source.rest(MARKER_BYTES as u64 + 1)?;
    let is_marker = rest.len() == MARKER_BYTES && rest.iter().all(u8::is_ascii_hexdigit);
    if rest.is_empty() || tail == Tail::Marker && is_marker {
        return Ok(Summary { version, databases });
    }
    Err(source.damaged("something follows its end"))
}

fn head<R: Read, V: Visitor>(source: &mut Source<'_, R, V>) -> Result<u32, RdbError> {
    let head: [u8; 9] = source.bytes()?;
    let digits = head.strip_prefix(b"REDIS").and_then(|digits| std::str::from_utf8(digits).ok());
    let version = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()));
    let version = version.and_then(|version| version.parse().ok());
    match version {
        None => Err(RdbError::Damaged { position: 0, reason: "it is no RDB file".into() }),
        Some(version) if VERSIONS.contains(&version) => Ok(version),
        Some(version) => {
            let reason = format!("the version {version} of its format is not known");
            Err(RdbError::Damaged { position: 5, reason })
        }
    }
}
