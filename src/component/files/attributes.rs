//! Extended attributes, and the way to name an entry to calls that only take paths.

use crate::model::node::{ExtendedAttribute, display_path};
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};

/// What has attributes.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// An entry that is not followed, by the path that [`path_of`] gives.
    Entry(&'a CString),
}

/// Attributes, and what of them had to be left out.
#[derive(Default)]
pub(super) struct Attributes {
    /// Sorted by name.
    pub(super) known: Vec<ExtendedAttribute>,
    /// Names that are not UTF-8, which the format cannot hold, escaped for people.
    pub(super) unreadable: Vec<String>,
}

/// A path to the entry `name` of an open directory that follows no symbolic link on the way: `/proc/self/fd/7/name`.
pub(super) fn path_of(directory: impl AsFd, name: &[u8]) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend(name);
    CString::new(path).map_err(io::Error::other)
}

impl Subject<'_> {
    fn list(self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Entry(path) => rustix::fs::llistxattr(path.as_c_str(), buffer),
        }
    }

    fn get(self, name: &str, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer),
            Self::Entry(path) => rustix::fs::lgetxattr(path.as_c_str(), name, buffer),
        }
    }

    /// Give it an attribute.
    pub(super) fn set(self, attribute: &ExtendedAttribute) -> rustix::io::Result<()> {
        let ExtendedAttribute { name, value } = attribute;
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Entry(path) => {
                rustix::fs::lsetxattr(path.as_c_str(), name, value, XattrFlags::empty())
            }
        }
    }

    /// Take an attribute away; it need not be there.
    pub(super) fn remove(self, name: &str) -> rustix::io::Result<()> {
        let removed = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Entry(path) => rustix::fs::lremovexattr(path.as_c_str(), name),
        };
        match removed {
            Err(error) if is_absent(error) => Ok(()),
            other => other,
        }
    }

    /// Whether it has an attribute.
    pub(super) fn has(self, name: &str) -> bool {
        self.get(name, &mut []).is_ok()
    }

    /// All its attributes.
    pub(super) fn read(self) -> rustix::io::Result<Attributes> {
        let mut found = Attributes::default();
        let names = match grow(|buffer| self.list(buffer)) {
            Err(error) if is_absent(error) => return Ok(found),
            other => other?,
        };
        for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let Ok(name) = std::str::from_utf8(name) else {
                found.unreadable.push(display_path(name));
                continue;
            };
            match grow(|buffer| self.get(name, buffer)) {
                Ok(value) => found.known.push(ExtendedAttribute { name: name.to_owned(), value }),
                // It was removed since it was listed.
                Err(error) if is_absent(error) => {}
                Err(error) => return Err(error),
            }
        }
        found.known.sort();
        Ok(found)
    }
}

/// The attribute is not there, or the file system has none at all.
fn is_absent(error: Errno) -> bool {
    matches!(error, Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS)
}

/// Call with a buffer that grows until the answer fits: attributes may change in between.
fn grow(call: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut buffer = vec![0; 256];
    loop {
        match call(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's limits are 64 KiB for a value and for a list of names.
            Err(Errno::RANGE) if buffer.len() < 1 << 20 => buffer.resize(buffer.len() * 4, 0),
            Err(error) => return Err(error),
        }
    }
}
