//! Where file systems are mounted: what is a mount point cannot be renamed, and what has one below it cannot be swapped.

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Whether a file system is mounted at `path`, which need not exist.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    match rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(found) if found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT) => {
            Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
        }
        Ok(_) => {
            let parent = path.parent().unwrap_or(path);
            Ok(path.symlink_metadata()?.dev() != parent.metadata()?.dev())
        }
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Something that is mounted below `path`, if there is anything. `path` is canonical.
pub(super) fn mounted_below(path: &Path) -> io::Result<Option<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(mount_points(&table).find(|point| point != path && point.starts_with(path)))
}

/// The fifth field of each line of `/proc/self/mountinfo`, in which four characters are written in octal (proc(5)).
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|byte| *byte == b'\n').filter_map(|line| {
        let field = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

fn unescape(mut field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((first, rest)) = field.split_first() {
        let code = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                field = &rest[3..];
            }
            _ => {
                bytes.push(*first);
                field = rest;
            }
        }
    }
    bytes
}

/// For messages: a path's bytes as they are.
pub(super) fn shown(path: &Path) -> String {
    crate::model::node::display_path(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_found_below_a_path() {
        let table = b"22 1 0:20 / / rw - ext4 /dev/a rw\n23 22 0:21 / /a\\040b/\\134c rw shared:1 - tmpfs t rw\n\n";
        let points: Vec<PathBuf> = mount_points(table).collect();
        assert_eq!(points, [Path::new("/"), Path::new("/a b/\\c")]);
        assert!(mounted_below(Path::new("/")).unwrap().is_some(), "at least /proc is");
        assert_eq!(mounted_below(Path::new("/proc/self/fd")).unwrap(), None);
        assert!(is_mount_point(Path::new("/proc")).unwrap());
        assert!(!is_mount_point(Path::new("/proc/self")).unwrap());
        assert!(!is_mount_point(Path::new("/nonexistent")).unwrap());
    }
}
