//! The headers of an archive: a block of each entry, and the records of the format `pax` before it (POSIX.1-2017, pax,
//! "pax Interchange Format"; GNU tar's own keys are in its manual, "Storing Sparse Files" and `--xattrs`).

use super::archive::Fault;
use crate::model::node::{ExtendedAttribute, NodeKind, display_path};
use jiff::Timestamp;
use std::collections::HashMap;
use tar::{EntryType, Header};

/// Everything in an archive comes in blocks of so many bytes.
pub(super) const BLOCK: usize = 512;

/// What an entry's header says, its records counted in.
pub(super) struct Entry {
    /// As it is written there: `./a/b`, and `./a/` for a directory.
    pub(super) path: Vec<u8>,
    /// A file's size is the one that it has when it is whole.
    pub(super) kind: NodeKind,
    /// Bytes of content in the archive.
    pub(super) stored: u64,
    /// Whether these begin with a map of where they belong.
    pub(super) is_sparse: bool,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: Timestamp,
    pub(super) ctime: Timestamp,
    pub(super) attributes: Vec<ExtendedAttribute>,
}

/// The records before an entry.
#[derive(Default)]
pub(super) struct Records {
    values: HashMap<Vec<u8>, Vec<u8>>,
    attributes: Vec<ExtendedAttribute>,
}

/// What GNU tar writes, beside the attributes. What another program would mean by another key is not known.
const KEYS: [&str; 15] = [
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime",
    "atime",
    "ctime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.realsize",
    "comment",
];
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";

fn invalid<E>(reason: impl Into<String>) -> Fault<E> {
    Fault::Invalid(reason.into())
}

/// Whether a block is the header that its sum says it is.
pub(super) fn verify<E>(block: &[u8; BLOCK]) -> Result<&Header, Fault<E>> {
    let header = Header::from_byte_slice(block);
    let is_summed = |byte: &usize| !(148..156).contains(byte);
    let sum: u32 = (0..BLOCK)
        .map(|at| if is_summed(&at) { u32::from(block[at]) } else { u32::from(b' ') })
        .sum();
    if header.as_ustar().is_none() || header.cksum().ok() != Some(sum) {
        return Err(invalid("a block is no header of the format pax, or its sum is wrong"));
    }
    Ok(header)
}

impl Records {
    /// From what stands in an archive: `LENGTH KEY=VALUE\n`, again and again, where the length is that of the whole record.
    pub(super) fn parse<E>(mut text: &[u8]) -> Result<Self, Fault<E>> {
        let mut records = Self::default();
        while !text.is_empty() {
            let broken = || invalid("a record of the format pax is broken");
            let space = text.iter().take(12).position(|byte| *byte == b' ').ok_or_else(broken)?;
            let length = number(&text[..space]).ok_or_else(broken)?;
            let length = usize::try_from(length).map_err(|_| broken())?;
            let record = text.get(space + 1..length).ok_or_else(broken)?;
            let record = record.strip_suffix(b"\n").ok_or_else(broken)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            records.add(key, value)?;
            text = &text[length..];
        }
        records.attributes.sort();
        let is_same = |two: &[ExtendedAttribute]| two[0].name == two[1].name;
        if records.attributes.windows(2).any(is_same) {
            return Err(invalid("an entry has an extended attribute twice"));
        }
        Ok(records)
    }

    fn add<E>(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault<E>> {
        if let Some(name) = key.strip_prefix(ATTRIBUTE) {
            let name = String::from_utf8(decoded(name))
                .map_err(|_| invalid("an extended attribute's name is not UTF-8"))?;
            self.attributes.push(ExtendedAttribute { name, value: value.to_vec() });
            return Ok(());
        }
        if !KEYS.iter().any(|known| known.as_bytes() == key) {
            let key = display_path(key);
            return Err(invalid(format!(
                "a record has the key {key}, which GNU tar does not write"
            )));
        }
        self.values.insert(key.to_vec(), value.to_vec());
        Ok(())
    }

    fn get(&self, key: &str) -> Option<&[u8]> {
        self.values.get(key.as_bytes()).map(Vec::as_slice)
    }

    /// A number of the records, or else that of the header.
    fn number<E>(&self, key: &str, header: std::io::Result<u64>) -> Result<u64, Fault<E>> {
        let found = match self.get(key) {
            Some(text) => number(text),
            None => header.ok(),
        };
        found.ok_or_else(|| invalid(format!("the {key} of an entry is no number")))
    }

    fn time<E>(&self, key: &str, otherwise: Timestamp) -> Result<Timestamp, Fault<E>> {
        let Some(text) = self.get(key) else { return Ok(otherwise) };
        time(text).ok_or_else(|| invalid(format!("the {key} of an entry is no time")))
    }

    /// The entry whose header follows.
    pub(super) fn entry<E>(self, header: &Header) -> Result<Entry, Fault<E>> {
        let path = match self.get("GNU.sparse.name").or(self.get("path")) {
            Some(path) => path.to_vec(),
            None => header.path_bytes().into_owned(),
        };
        let shown = || display_path(&path);
        let stored = self.number("size", header.entry_size())?;
        let is_sparse = self.get("GNU.sparse.major").is_some();
        let device = || {
            let number = |part: std::io::Result<Option<u32>>| part.ok().flatten();
            let (major, minor) = (number(header.device_major()), number(header.device_minor()));
            let (Some(major), Some(minor)) = (major, minor) else {
                return Err(invalid(format!("the device {} has no number", shown())));
            };
            Ok(rustix::fs::makedev(major, minor))
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if is_sparse => {
                let version = (self.get("GNU.sparse.major"), self.get("GNU.sparse.minor"));
                if version != (Some(b"1"), Some(b"0")) {
                    return Err(invalid(format!(
                        "the holes of {} are of another version",
                        shown()
                    )));
                }
                let none = Err(std::io::ErrorKind::NotFound.into());
                NodeKind::File { size: self.number("GNU.sparse.realsize", none)? }
            }
            EntryType::Regular | EntryType::Continuous => NodeKind::File { size: stored },
            EntryType::Directory => NodeKind::Directory,
            EntryType::Symlink => {
                let in_header = || header.link_name_bytes().map(std::borrow::Cow::into_owned);
                let target = self.get("linkpath").map(<[u8]>::to_vec).or_else(in_header);
                let target = target.filter(|target| !target.is_empty() && !target.contains(&0));
                let target =
                    target.ok_or_else(|| invalid(format!("the link {} leads nowhere", shown())))?;
                NodeKind::Symlink { target }
            }
            EntryType::Block => NodeKind::BlockDevice { device: device()? },
            EntryType::Char => NodeKind::CharDevice { device: device()? },
            EntryType::Fifo => NodeKind::Fifo,
            other => {
                let byte = char::from(other.as_byte()).escape_default();
                return Err(invalid(format!("{} is an entry of the kind '{byte}'", shown())));
            }
        };
        if stored > 0 && !matches!(kind, NodeKind::File { .. }) {
            return Err(invalid(format!("{} has content, and is no file", shown())));
        }
        let narrow = |number: u64| {
            u32::try_from(number).map_err(|_| invalid(format!("the owner of {} is none", shown())))
        };
        let in_header = header.mtime().ok().and_then(|time| i64::try_from(time).ok());
        let in_header = in_header.and_then(|second| Timestamp::from_second(second).ok());
        let mtime = self.time("mtime", in_header.unwrap_or(Timestamp::UNIX_EPOCH))?;
        let mode =
            header.mode().map_err(|_| invalid(format!("the mode of {} is none", shown())))?;
        Ok(Entry {
            kind,
            stored,
            is_sparse,
            mode: mode & 0o7777,
            uid: narrow(self.number("uid", header.uid())?)?,
            gid: narrow(self.number("gid", header.gid())?)?,
            mtime,
            ctime: self.time("ctime", mtime)?,
            attributes: self.attributes,
            path,
        })
    }
}

/// A number in decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

/// Seconds, which may be negative and have a fraction, cut behind nanoseconds.
fn time(text: &[u8]) -> Option<Timestamp> {
    let (is_negative, text) = match text.strip_prefix(b"-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let second = i64::try_from(number(parts.next()?)?).ok()?;
    let mut nanosecond = 0;
    if let Some(fraction) = parts.next() {
        number(fraction.get(..1)?)?;
        for place in 0..9 {
            let digit = fraction.get(place).copied().unwrap_or(b'0');
            nanosecond = nanosecond * 10 + i32::try_from(number(&[digit])?).ok()?;
        }
    }
    let sign = if is_negative { -1 } else { 1 };
    Timestamp::new(sign * second, i32::try_from(sign).ok()? * nanosecond).ok()
}

/// The name of an attribute: GNU tar writes `%` and `=` in it as `%25` and `%3D`.
fn decoded(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = match after {
            [b'2', b'5', after @ ..] if *first == b'%' => (b'%', after),
            [b'3', b'D', after @ ..] if *first == b'%' => (b'=', after),
            _ => (*first, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_names_are_read_as_tar_writes_them() {
        let nanoseconds = |text: &str| time(text.as_bytes()).map(Timestamp::as_nanosecond);
        assert_eq!(nanoseconds("1.5"), Some(1_500_000_000));
        assert_eq!(nanoseconds("-31535999.5"), Some(-31_535_999_500_000_000));
        assert_eq!(nanoseconds("-0.000000001"), Some(-1));
        assert_eq!(nanoseconds("7.1234567891"), Some(7_123_456_789));
        for wrong in ["", "-", "1.", ".5", "1.x", "+1", "1e3", "99999999999999", "1.5.5"] {
            assert_eq!(nanoseconds(wrong), None, "{wrong}");
        }
        assert_eq!(decoded(b"user.a%25b%3Dc%2"), b"user.a%b=c%2");
    }
}
