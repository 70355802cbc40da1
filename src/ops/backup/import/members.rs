//! The entries of a tar stream, in the order in which they come, whoever wrote it: names are checked before anybody sees
//! them, and what stands in the stream takes no more memory than it may.

use super::error::ImportError;
use super::input::Fault;
use crate::model::node::{ExtendedAttribute, Node, NodeKind, display_path, is_valid_name};
use jiff::{SignedDuration, Timestamp};
use std::borrow::Cow;
use std::io::{self, Read};
use tar::{Archive, EntryType, Header};

/// The longest path, as Linux has it.
const MOST_PATH_BYTES: usize = 4096;
/// The most that comes before an entry to say what its header has no room for.
const MOST_EXTENSION_BYTES: u64 = 1024 * 1024;

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum MemberKind {
    /// All but a further name of a file that came before.
    Node(NodeKind),
    /// A further name of the file at this path.
    HardLink(Vec<u8>),
}

/// An entry, without its content.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Below the archive's root, without `.`, `..` and empty parts; empty for the root itself.
    pub(super) path: Vec<u8>,
    pub(super) kind: MemberKind,
    mode: u32,
    uid: u32,
    gid: u32,
    user: String,
    group: String,
    mtime: Timestamp,
    extended_attributes: Vec<ExtendedAttribute>,
}

impl Member {
    /// As a node of this name.
    pub(super) fn node(&self, name: &[u8], kind: NodeKind) -> Node {
        Node {
            name: name.to_vec(),
            kind,
            mode: self.mode,
            mtime: self.mtime,
            ctime: self.mtime,
            uid: self.uid,
            gid: self.gid,
            user: self.user.clone(),
            group: self.group.clone(),
            inode: 0,
            device_id: 0,
            links: 1,
            extended_attributes: self.extended_attributes.clone(),
        }
    }

    /// An error that names it.
    pub(super) fn refused(&self, reason: &'static str) -> ImportError {
        ImportError::Refused { entry: display_path(&self.path), reason }
    }
}

/// What comes before an entry, for it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    mtime: Option<Timestamp>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    attributes: Vec<ExtendedAttribute>,
}

/// Give each entry to `found`, with its content, which need not be read. The stream is read to its end.
pub(super) fn each_member<E: From<ImportError>>(
    content: &mut dyn Read,
    fault: &Fault,
    found: &mut dyn FnMut(&Member, &mut dyn Read) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = Archive::new(content);
    let mut extensions = Extensions::default();
    let entries = archive.entries().map_err(|error| of_tar(&error))?.raw(true);
    let mut is_first = true;
    for entry in entries {
        let mut entry = entry.map_err(|error| match of_tar(&error) {
            ImportError::Damaged(_) if is_first => {
                ImportError::NotAnArchive("what gzip packed in it is no tar archive")
            }
            other => other,
        })?;
        is_first = false;
        let kind = entry.header().entry_type();
        if matches!(
            kind,
            EntryType::GNULongName
                | EntryType::GNULongLink
                | EntryType::XHeader
                | EntryType::XGlobalHeader
        ) {
            extensions.read(kind, &mut entry)?;
            continue;
        }
        let member = member(entry.header(), std::mem::take(&mut extensions))?;
        let left = entry.size();
        let mut content = Whole { inner: &mut entry, left, fault };
        found(&member, &mut content)?;
    }
    Ok(ensure_ended(archive.into_inner())?)
}

fn of_tar(error: &io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => ImportError::Cut("its last entry has no end"),
        _ if error.to_string().contains("EOF") => ImportError::Cut("its last entry has no end"),
        _ => ImportError::Damaged(error.to_string()),
    }
}

/// The first of the two empty blocks at the end was read, if there is one. Only zeros follow it.
fn ensure_ended(rest: &mut dyn Read) -> Result<(), ImportError> {
    let failed = |error: io::Error| ImportError::Damaged(error.to_string());
    let mut block = [0; 512];
    let mut length = 0;
    loop {
        let more = rest.read(&mut block).map_err(failed)?;
        if block[..more].iter().any(|byte| *byte != 0) {
            return Err(ImportError::Damaged("something follows its end".into()));
        }
        if more == 0 && length == 0 {
            return Err(ImportError::Cut("the mark at its end is not there"));
        }
        if more == 0 {
            return Ok(());
        }
        length += more;
    }
}

/// The content of an entry, which has all its bytes or fails.
struct Whole<'a, R> {
    inner: R,
    left: u64,
    fault: &'a Fault,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.saturating_sub(length as u64);
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(self.fault.keep(ImportError::Cut("its last entry has no end")));
        }
        Ok(length)
    }
}

impl Extensions {
    fn read(&mut self, kind: EntryType, content: &mut impl Read) -> Result<(), ImportError> {
        let mut bytes = Vec::new();
        let mut limited = content.take(MOST_EXTENSION_BYTES + 1);
        limited.read_to_end(&mut bytes).map_err(|error| of_tar(&error))?;
        if bytes.len() as u64 > MOST_EXTENSION_BYTES {
            let reason = "what its header has no room for is longer than a megabyte";
            return Err(ImportError::Damaged(reason.into()));
        }
        let without_end = || bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            EntryType::GNULongName => self.path = Some(without_end()),
            EntryType::GNULongLink => self.target = Some(without_end()),
            EntryType::XHeader => self.read_records(&bytes)?,
            // What is said for all entries is a comment as a rule, and nothing that is needed here.
            _ => {}
        }
        Ok(())
    }

    fn read_records(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let damaged =
                || ImportError::Damaged("what stands before an entry is no record".into());
            let (key, value, after) = record(rest).ok_or_else(damaged)?;
            rest = after;
            let number = || str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.target = Some(value.to_vec()),
                b"mtime" => self.mtime = str::from_utf8(value).ok().and_then(time_of),
                b"size" => self.size = number(),
                b"uid" => self.uid = number().and_then(|id| u32::try_from(id).ok()),
                b"gid" => self.gid = number().and_then(|id| u32::try_from(id).ok()),
                key => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        let name = String::from_utf8_lossy(name).replace("%3D", "=");
                        let value = value.to_vec();
                        self.attributes.push(ExtendedAttribute { name, value });
                    }
                }
            }
        }
        Ok(())
    }
}

/// `LENGTH KEY=VALUE\n` at the beginning: key, value, and what follows. A value may hold anything.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().position(|byte| *byte == b' ')?;
    let length: usize = str::from_utf8(&bytes[..space]).ok()?.parse().ok()?;
    let (record, after) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], after))
}

/// Seconds since 1970, with a fraction.
fn time_of(text: &str) -> Option<Timestamp> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole = Timestamp::from_second(seconds.parse().ok()?).ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds = SignedDuration::from_nanos(digits.parse().ok()?);
    let is_before = seconds.starts_with('-');
    whole.checked_add(if is_before { -nanoseconds } else { nanoseconds }).ok()
}

fn member(header: &Header, extensions: Extensions) -> Result<Member, ImportError> {
    let Extensions { path, target, mtime, size, uid, gid, mut attributes } = extensions;
    attributes.sort();
    let raw = path.unwrap_or_else(|| header.path_bytes().into_owned());
    let refused = |reason| {
        Err(ImportError::Refused { entry: display_path(&raw[..raw.len().min(200)]), reason })
    };
    let Some(path) = normal(&raw) else {
        return refused("its path is absolute, leads out of the archive, or is too long");
    };
    let damaged = |error: io::Error| ImportError::Damaged(error.to_string());
    let in_header = header.entry_size().map_err(damaged)?;
    if size.is_some_and(|size| size != in_header) {
        return refused("its size is not in its header, which is not supported");
    }
    let target = target.or_else(|| header.link_name_bytes().map(Cow::into_owned));
    let target = target.unwrap_or_default();
    let device = || {
        let of = |number: io::Result<Option<u32>>| number.ok().flatten().unwrap_or(0);
        rustix::fs::makedev(of(header.device_major()), of(header.device_minor()))
    };
    let kind = match header.entry_type() {
        // The oldest form has no other sign of a directory.
        EntryType::Regular if raw.ends_with(b"/") => MemberKind::Node(NodeKind::Directory),
        EntryType::Regular | EntryType::Continuous => {
            MemberKind::Node(NodeKind::File { size: in_header })
        }
        EntryType::Directory => MemberKind::Node(NodeKind::Directory),
        EntryType::Symlink => MemberKind::Node(NodeKind::Symlink { target }),
        EntryType::Link => match normal(&target) {
            Some(to) => MemberKind::HardLink(to),
            None => return refused("it is a link to something outside the archive"),
        },
        EntryType::Char => MemberKind::Node(NodeKind::CharDevice { device: device() }),
        EntryType::Block => MemberKind::Node(NodeKind::BlockDevice { device: device() }),
        EntryType::Fifo => MemberKind::Node(NodeKind::Fifo),
        _ => return refused("it is of a kind that is not known here"),
    };
    let id = |number: io::Result<u64>| number.ok().and_then(|id| u32::try_from(id).ok());
    let name = |bytes: Option<&[u8]>| {
        let text = bytes.and_then(|bytes| str::from_utf8(bytes).ok());
        text.unwrap_or_default().to_owned()
    };
    let seconds = || header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
    Ok(Member {
        path,
        kind,
        mode: header.mode().map_err(damaged)? & 0o7777,
        uid: uid.or_else(|| id(header.uid())).unwrap_or(0),
        gid: gid.or_else(|| id(header.gid())).unwrap_or(0),
        user: name(header.username_bytes()),
        group: name(header.groupname_bytes()),
        mtime: mtime
            .or_else(|| Timestamp::from_second(seconds()?).ok())
            .unwrap_or(Timestamp::UNIX_EPOCH),
        extended_attributes: attributes,
    })
}

/// A path without its parts that say nothing; none where it leads out of the archive.
fn normal(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.starts_with(b"/") || raw.len() > MOST_PATH_BYTES {
        return None;
    }
    let parts = raw.split(|byte| *byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
    parts.iter().all(|part| is_valid_name(part)).then(|| parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_archive() {
        for (raw, path) in
            [("./", ""), (".", ""), ("./a//b/", "a/b"), ("a/./b", "a/b"), ("...", "...")]
        {
            assert_eq!(normal(raw.as_bytes()).as_deref(), Some(path.as_bytes()), "{raw}");
        }
        let long = "a/".repeat(3000);
        for raw in ["/a", "..", "a/../b", "a/..", "a\0b", &long] {
            assert_eq!(normal(raw.as_bytes()), None, "{raw}");
        }
    }

    #[test]
    fn records_are_as_long_as_they_say() {
        let (key, value, after) = record(b"13 path=a\n=b\n9 x=\n").unwrap();
        assert_eq!((key, value, after), (&b"path"[..], &b"a\n=b"[..], &b"9 x=\n"[..]));
        for wrong in ["", "x", "9 x=\n", "5 x=y", "1 x=\n", "3 \n", "4 x\n", "-6 x=y\n", "6\nx=y"] {
            assert_eq!(record(wrong.as_bytes()), None, "{wrong:?}");
        }
    }

    #[test]
    fn times_have_fractions_on_both_sides_of_1970() {
        for (text, nanoseconds) in [
            ("0", 0),
            ("1.5", 1_500_000_000),
            ("-1.25", -1_250_000_000),
            ("7.0000000019", 7_000_000_001),
        ] {
            assert_eq!(time_of(text).unwrap().as_nanosecond(), nanoseconds, "{text}");
        }
        assert_eq!(time_of("x"), None);
        assert_eq!(time_of("1.x"), None);
        assert_eq!(time_of("99999999999999999"), None);
    }
}
