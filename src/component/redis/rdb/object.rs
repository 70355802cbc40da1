//! Lengths, strings, and the objects that are made of them, each up to its end.

use super::source::Source;
use super::{RdbError, Visitor, lzf};
use std::io::Read;

/// What stands where a length stands.
enum Length {
    Plain(u64),
    /// A string is stored in another way.
    Encoded(u8),
}

/// What a module's values are made of: numbers, strings, and the end.
const MODULE_END: u64 = 0;
/// An id of a stream's entry, or a time in milliseconds with one of them.
const ID_BYTES: u64 = 16;
const TIME_BYTES: u64 = 8;

impl<R: Read, V: Visitor> Source<'_, R, V> {
    fn length_or_encoding(&mut self) -> Result<Length, RdbError> {
        let first = self.byte()?;
        let low = u64::from(first & 0x3f);
        Ok(match first {
            0x80 => Length::Plain(u64::from(u32::from_be_bytes(self.bytes()?))),
            0x81 => Length::Plain(u64::from_be_bytes(self.bytes()?)),
            _ => match first >> 6 {
                0 => Length::Plain(low),
                1 => Length::Plain(low << 8 | u64::from(self.byte()?)),
                3 => Length::Encoded(first & 0x3f),
                _ => return Err(self.damaged("a length is of an unknown kind")),
            },
        })
    }

    pub(super) fn length(&mut self) -> Result<u64, RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(length) => Ok(length),
            Length::Encoded(_) => Err(self.damaged("there is no length where one should be")),
        }
    }

    pub(super) fn string(&mut self) -> Result<(), RdbError> {
        match self.length_or_encoding()? {
            Length::Plain(length) => self.skip(length),
            Length::Encoded(width @ 0..=2) => self.skip(1 << width),
            Length::Encoded(3) => {
                let packed = self.length()?;
                self.length()?;
                self.skip(packed)
            }
            Length::Encoded(_) => Err(self.damaged("a string is stored in an unknown way")),
        }
    }

    /// A string in memory.
    pub(super) fn name(&mut self, limit: u64) -> Result<Vec<u8>, RdbError> {
        let number = match self.length_or_encoding()? {
            Length::Plain(length) => return self.text(length, limit),
            Length::Encoded(0) => i64::from(i8::from_le_bytes(self.bytes()?)),
            Length::Encoded(1) => i64::from(i16::from_le_bytes(self.bytes()?)),
            Length::Encoded(2) => i64::from(i32::from_le_bytes(self.bytes()?)),
            Length::Encoded(3) => {
                let (packed, length) = (self.length()?, self.length()?);
                if length > limit {
                    return Err(self.damaged(format!("a name has {length} bytes")));
                }
                let packed = self.text(packed, limit)?;
                let name = lzf::unpack(&packed, length as usize);
                return name.ok_or_else(|| self.damaged("a name is packed in a broken way"));
            }
            Length::Encoded(_) => return Err(self.damaged("a name is stored in an unknown way")),
        };
        Ok(number.to_string().into_bytes())
    }

    /// So many times.
    fn times(
        &mut self,
        count: u64,
        mut each: impl FnMut(&mut Self) -> Result<(), RdbError>,
    ) -> Result<(), RdbError> {
        (0..count).try_for_each(|_| each(self))
    }

    fn strings(&mut self, for_each: u64) -> Result<(), RdbError> {
        let count = self.length()?;
        self.times(count, |source| source.times(for_each, Self::string))
    }

    /// The value of a key, up to its end.
    pub(super) fn object(&mut self, kind: u8) -> Result<(), RdbError> {
        match kind {
            // A string; or a small object in one: zipmap, ziplist, intset, listpack.
            0 | 9..=13 | 16 | 17 | 20 => self.string(),
            // A list, a set, a list of ziplists.
            1 | 2 | 14 => self.strings(1),
            // A hash.
            4 => self.strings(2),
            // A sorted set, with numbers as texts.
            3 => {
                let count = self.length()?;
                self.times(count, |source| {
                    source.string()?;
                    match source.byte()? {
                        253..=255 => Ok(()),
                        length => source.skip(u64::from(length)),
                    }
                })
            }
            // A sorted set, with binary numbers.
            5 => {
                let count = self.length()?;
                self.times(count, |source| {
                    source.string()?;
                    source.skip(8)
                })
            }
            7 => {
                self.length()?;
                self.module()
            }
            // A list of listpacks, and of strings that are too long for them.
            18 => {
                let count = self.length()?;
                self.times(count, |source| match source.length()? {
                    1 | 2 => source.string(),
                    _ => Err(source.damaged("a part of a list is of an unknown kind")),
                })
            }
            15 => self.stream(1),
            19 => self.stream(2),
            21 => self.stream(3),
            // A hash whose fields expire: the first time, then fields with theirs.
            24 => {
                self.skip(TIME_BYTES)?;
                let count = self.length()?;
                self.times(count, |source| {
                    source.length()?;
                    source.times(2, Self::string)
                })
            }
            25 => {
                self.skip(TIME_BYTES)?;
                self.string()
            }
            _ => Err(self.damaged(format!("a value of the unknown kind {kind}"))),
        }
    }

    /// What a module wrote, behind its id.
    pub(super) fn module(&mut self) -> Result<(), RdbError> {
        loop {
            match self.length()? {
                MODULE_END => return Ok(()),
                1 | 2 => drop(self.length()?),
                3 => self.skip(4)?,
                4 => self.skip(8)?,
                5 => self.string()?,
                _ => return Err(self.damaged("a module's value is of an unknown kind")),
            }
        }
    }

    /// A stream: its entries in listpacks, what it counts, its groups, and what is on its way to their consumers.
    fn stream(&mut self, version: u32) -> Result<(), RdbError> {
        self.strings(2)?;
        let lengths = |source: &mut Self, count| source.times(count, |it| it.length().map(drop));
        // How many entries, and the last id; then the first, the greatest that was deleted, and how many there ever were.
        lengths(self, if version >= 2 { 8 } else { 3 })?;
        let groups = self.length()?;
        self.times(groups, |source| {
            source.string()?;
            lengths(source, if version >= 2 { 3 } else { 2 })?;
            let pending = source.length()?;
            source.times(pending, |source| {
                source.skip(ID_BYTES + TIME_BYTES)?;
                source.length().map(drop)
            })?;
            let consumers = source.length()?;
            source.times(consumers, |source| {
                source.string()?;
                source.skip(if version >= 3 { 2 * TIME_BYTES } else { TIME_BYTES })?;
                let pending = source.length()?;
                source.times(pending, |source| source.skip(ID_BYTES))
            })
        })
    }
}
