//! Extended attributes, and the way to name an entry to calls that only take paths.

use crate::model::node::ExtendedAttribute;
use rustix::io::Errno;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// A path to the entry `name` of an open directory that follows no symbolic link on the way: `/proc/self/fd/7/name`.
pub(super) fn path_of(directory: impl AsFd, name: &[u8]) -> io::Result<CString> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_fd().as_raw_fd()).into_bytes();
    path.extend(name);
    CString::new(path).map_err(io::Error::other)
}

/// The attributes of an entry, sorted by name, and the names that are not UTF-8, which the format cannot hold.
pub(super) fn read(path: &CString) -> io::Result<(Vec<ExtendedAttribute>, Vec<String>)> {
    let names = match grow(|buffer| rustix::fs::llistxattr(path.as_c_str(), buffer)) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP) => return Ok((Vec::new(), Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let (mut attributes, mut unreadable) = (Vec::new(), Vec::new());
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else {
            unreadable.push(crate::model::node::display_path(name));
            continue;
        };
        match grow(|buffer| rustix::fs::lgetxattr(path.as_c_str(), name, buffer)) {
            Ok(value) => attributes.push(ExtendedAttribute { name: name.to_owned(), value }),
            // It was removed since it was listed, or is not there for this user (trusted.*).
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    attributes.sort();
    Ok((attributes, unreadable))
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
