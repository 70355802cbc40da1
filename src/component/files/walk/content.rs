//! The content of one regular file on its way into the sink.

use super::{TreeSink, Walk, WalkError, Walked, failed};
use crate::model::node::{Node, NodeKind, display_path};
use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;
use std::io::Write;
use std::os::fd::OwnedFd;

/// Bytes of one read: few enough to be in the processor's cache still when they are taken from there.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// How often a file that changes is read.
const ATTEMPTS: u32 = 3;
/// How far a file is followed that grows while it is read: the end may run ahead for ever.
const FOLLOWED_BYTES: u64 = 16 * 1024 * 1024;

impl<S: TreeSink> Walk<'_, S> {
    /// Deliver the content of an open file, which `node` describes as it was at `before`; again where it changed
    /// meanwhile.
    pub(super) fn file(
        &mut self,
        fd: &OwnedFd,
        mut node: Node,
        mut before: Stat,
        path: &[u8],
    ) -> Walked<(), S> {
        let mut attempt = 1;
        loop {
            let mut file = self.sink.begin_file().map_err(WalkError::Sink)?;
            let size = self.content(fd, &before, &mut file, path)?;
            let after = rustix::fs::fstat(fd).map_err(failed("examine", path))?;
            let has_changed = differs(&before, &after) || size != size_of(&before);
            if has_changed && attempt < ATTEMPTS {
                attempt += 1;
                before = after;
                node = self.node_of_open(&node.name, fd, &before, path)?;
                continue;
            }
            if has_changed {
                self.report.changed.add(path);
            }
            node.kind = NodeKind::File { size };
            self.count_file(&node);
            return self.sink.end_file(file, &node).map_err(WalkError::Sink);
        }
    }

    /// Copy a file's content; returns how many bytes there were. Holes are not read.
    fn content(
        &mut self,
        fd: &OwnedFd,
        stat: &Stat,
        file: &mut S::File,
        path: &[u8],
    ) -> Walked<u64, S> {
        let size = size_of(stat);
        let limit = size.saturating_add(FOLLOWED_BYTES);
        let has_holes = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512) < size;
        let mut offset = 0_u64;
        let mut data_until = if has_holes { 0 } else { limit };
        loop {
            self.cancel.check()?;
            if offset >= limit {
                return Ok(offset);
            }
            if offset >= data_until {
                let (data, hole) = next_data(fd, offset, size).map_err(failed("read", path))?;
                let data = data.min(limit);
                self.zeros(data - offset, file, path)?;
                (offset, data_until) = (data, hole.min(limit));
                continue;
            }
            let room = (data_until - offset).min(READ_BYTES as u64) as usize;
            let count = match rustix::io::pread(fd, &mut self.buffer[..room], offset) {
                Err(Errno::INTR) => continue,
                other => other.map_err(failed("read", path))?,
            };
            if count == 0 {
                return Ok(offset);
            }
            deliver(file, &self.buffer[..count], path)?;
            offset += count as u64;
            (self.progress)(self.report.bytes + offset, self.report.files);
        }
    }

    fn zeros(&mut self, mut count: u64, file: &mut S::File, path: &[u8]) -> Walked<(), S> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while count > 0 {
            self.cancel.check()?;
            let now = count.min(ZEROS.len() as u64);
            deliver(file, &ZEROS[..now as usize], path)?;
            count -= now;
        }
        Ok(())
    }
}

/// Where the next data begins at or after `offset`, and where it ends; `size` and no end behind the last of it. A file
/// system that knows no holes has only data.
fn next_data(fd: &OwnedFd, offset: u64, size: u64) -> rustix::io::Result<(u64, u64)> {
    let data = match rustix::fs::seek(fd, SeekFrom::Data(offset)) {
        Ok(data) => data.max(offset),
        // Behind the last data there is nothing but a hole, if the file is no longer than it was.
        Err(Errno::NXIO) => return Ok((size.max(offset), u64::MAX)),
        Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok((offset, u64::MAX)),
        Err(error) => return Err(error),
    };
    match rustix::fs::seek(fd, SeekFrom::Hole(data)) {
        Ok(hole) if hole > data => Ok((data, hole)),
        // It was cut off since: reading says where it ends.
        Ok(_) | Err(Errno::NXIO) => Ok((data, u64::MAX)),
        Err(error) => Err(error),
    }
}

/// A file's size, which the kernel never gives as negative.
pub(super) fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Whether it is another file, or its content or metadata may have changed between two looks.
pub(super) fn differs(a: &Stat, b: &Stat) -> bool {
    let key = |stat: &Stat| {
        let modified = (stat.st_mtime, stat.st_mtime_nsec);
        let changed = (stat.st_ctime, stat.st_ctime_nsec);
        (stat.st_dev, stat.st_ino, stat.st_size, modified, changed)
    };
    key(a) != key(b)
}

fn deliver<E: std::error::Error + Send + Sync + 'static>(
    file: &mut impl Write,
    bytes: &[u8],
    path: &[u8],
) -> Result<(), WalkError<E>> {
    file.write_all(bytes).map_err(|error| match error.downcast::<E>() {
        Ok(error) => WalkError::Sink(error),
        Err(source) => WalkError::Source { action: "store", path: display_path(path), source },
    })
}
