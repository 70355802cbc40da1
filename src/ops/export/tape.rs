//! Entries of a tar stream, as every tar of today reads them: what a header has no room for (long paths, parts of a second,
//! extended attributes) stands in records before it, in the form of POSIX.

use super::SUMS;
use crate::model::node::{Node, NodeKind};
use crate::ops::checksums;
use crate::ops::tree::made_node;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, Write};
use tar::{EntryType, Header};

const BLOCK_BYTES: usize = 512;
/// So much of a path or a link's target fits into a header.
const MOST_NAME_BYTES: usize = 100;
/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Writes entries.
pub(super) struct Tape<W> {
    output: W,
    /// The sums of the files so far: memory would not do for millions.
    sums: BufWriter<File>,
    buffer: Vec<u8>,
}

impl<W: Write> Tape<W> {
    pub(super) fn new(output: W) -> io::Result<Self> {
        let sums = BufWriter::new(tempfile::tempfile()?);
        Ok(Self { output, sums, buffer: vec![0; PIECE_BYTES] })
    }

    /// Anything without content.
    pub(super) fn entry(&mut self, path: &[u8], node: &Node) -> io::Result<()> {
        let (kind, target) = match &node.kind {
            NodeKind::Directory => (EntryType::Directory, &b""[..]),
            NodeKind::Symlink { target } => (EntryType::Symlink, target.as_slice()),
            NodeKind::BlockDevice { .. } => (EntryType::Block, &b""[..]),
            NodeKind::CharDevice { .. } => (EntryType::Char, &b""[..]),
            NodeKind::Fifo | NodeKind::Socket | NodeKind::File { .. } => {
                (EntryType::Fifo, &b""[..])
            }
        };
        self.header(path, node, kind, target, 0)
    }

    /// A further name of the file at `first`.
    pub(super) fn link(&mut self, path: &[u8], node: &Node, first: &[u8]) -> io::Result<()> {
        self.header(path, node, EntryType::Link, first, 0)
    }

    /// A file with its content, which has to have `size` bytes.
    pub(super) fn file(
        &mut self,
        path: &[u8],
        node: &Node,
        size: u64,
        content: impl Read,
    ) -> io::Result<()> {
        let sum = self.content(path, node, size, content)?;
        self.sums.write_all(&checksums::line(path, sum))
    }

    fn content(
        &mut self,
        path: &[u8],
        node: &Node,
        size: u64,
        mut content: impl Read,
    ) -> io::Result<crate::model::id::Sha256> {
        self.header(path, node, EntryType::Regular, b"", size)?;
        let (mut sum, mut left) = (Sha256::new(), size);
        loop {
            let length = content.read(&mut self.buffer)?;
            if length == 0 {
                break;
            }
            let fits = left.checked_sub(length as u64);
            left = fits.ok_or_else(|| io::Error::other("a file is longer than it should be"))?;
            sum.update(&self.buffer[..length]);
            self.output.write_all(&self.buffer[..length])?;
        }
        if left > 0 {
            return Err(io::Error::other("a file is shorter than it should be"));
        }
        self.pad(size)?;
        Ok(crate::model::id::Sha256(sum.finalize().into()))
    }

    /// The list of sums, and the end.
    pub(super) fn finish(mut self, time: Timestamp) -> io::Result<W> {
        let placeholder = BufWriter::new(tempfile::tempfile()?);
        let sums = std::mem::replace(&mut self.sums, placeholder);
        let mut sums = sums.into_inner().map_err(io::IntoInnerError::into_error)?;
        let size = sums.stream_position()?;
        sums.rewind()?;
        let node = made_node(SUMS, NodeKind::File { size }, time);
        self.content(SUMS.as_bytes(), &node, size, sums)?;
        self.output.write_all(&[0; 2 * BLOCK_BYTES])?;
        Ok(self.output)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let over = (size % BLOCK_BYTES as u64) as usize;
        let padding = if over == 0 { 0 } else { BLOCK_BYTES - over };
        self.output.write_all(&[0; BLOCK_BYTES][..padding])
    }

    fn header(
        &mut self,
        path: &[u8],
        node: &Node,
        kind: EntryType,
        target: &[u8],
        size: u64,
    ) -> io::Result<()> {
        let records = records(path, node, target);
        if !records.is_empty() {
            let mut header = plain(EntryType::XHeader, records.len() as u64);
            put(&mut header, b"records", b"");
            header.set_mode(0o600);
            header.set_cksum();
            self.output.write_all(header.as_bytes())?;
            self.output.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut header = plain(kind, size);
        put(&mut header, path, target);
        header.set_mode(node.mode);
        header.set_uid(node.uid.into());
        header.set_gid(node.gid.into());
        header.set_mtime(u64::try_from(node.mtime.as_second()).unwrap_or(0));
        // Names that do not fit are left out: the numbers are there.
        let _ = header.set_username(&node.user);
        let _ = header.set_groupname(&node.group);
        if let NodeKind::BlockDevice { device } | NodeKind::CharDevice { device } = node.kind {
            header.set_device_major(rustix::fs::major(device))?;
            header.set_device_minor(rustix::fs::minor(device))?;
        }
        header.set_cksum();
        self.output.write_all(header.as_bytes())
    }
}

fn plain(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// As much of the names as fits: the records have those that do not.
fn put(header: &mut Header, path: &[u8], target: &[u8]) {
    let old = header.as_old_mut();
    for (field, name) in [(&mut old.name, path), (&mut old.linkname, target)] {
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name[..length]);
    }
}

/// What the header has no room for.
fn records(path: &[u8], node: &Node, target: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > MOST_NAME_BYTES {
        record(&mut records, b"path", path);
    }
    if target.len() > MOST_NAME_BYTES {
        record(&mut records, b"linkpath", target);
    }
    let nanoseconds = node.mtime.as_nanosecond();
    if nanoseconds < 0 || nanoseconds % 1_000_000_000 != 0 {
        let sign = if nanoseconds < 0 { "-" } else { "" };
        let whole = nanoseconds.unsigned_abs();
        let (seconds, rest) = (whole / 1_000_000_000, whole % 1_000_000_000);
        record(&mut records, b"mtime", format!("{sign}{seconds}.{rest:09}").as_bytes());
    }
    for attribute in &node.extended_attributes {
        let key = format!("SCHILY.xattr.{}", attribute.name.replace('=', "%3D"));
        record(&mut records, key.as_bytes(), &attribute.value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + " =\n".len();
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(length.to_string().bytes());
    for part in [&b" "[..], key, b"=", value, b"\n"] {
        records.extend(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in [1, 5, 90, 91, 92, 93, 94, 95, 990, 991, 992, 993, 994, 995] {
            let mut records = Vec::new();
            record(&mut records, b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records).unwrap();
            let (told, _) = text.split_once(' ').unwrap();
            assert_eq!(told.parse::<usize>().unwrap(), text.len());
        }
    }
}
