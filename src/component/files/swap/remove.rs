//! Removing a tree of any depth, without following links or leaving its file system.
//!
//! Directories in directories are first moved up to the top, so that neither the stack nor open files limit the depth,
//! and what is left after a crash is removed by the next call.

use crate::component::files::descent::{chmod_unfollowed, list_reversed, open_directory};
use rustix::fs::{AtFlags, CWD, Mode, RenameFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Remove a file or a whole tree. Nothing there is as well.
pub(in crate::component::files) fn remove(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let top = open_writable(CWD, path.as_os_str().as_bytes())?;
    let mut moved = 0_u64;
    loop {
        let names = list_reversed(&top)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            remove_flat(&top, &name, &mut moved)?;
        }
    }
    rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR)
}

/// Remove an entry of the top; directories in it come up to the top.
fn remove_flat(top: &OwnedFd, name: &[u8], moved: &mut u64) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(top, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let directory = open_writable(top, name)?;
    for child in list_reversed(&directory)? {
        match rustix::fs::unlinkat(&directory, child.as_slice(), AtFlags::empty()) {
            Err(Errno::ISDIR) => move_up(&directory, &child, top, moved)?,
            other => other?,
        }
    }
    rustix::fs::unlinkat(top, name, AtFlags::REMOVEDIR)
}

fn move_up(
    directory: &OwnedFd,
    child: &[u8],
    top: &OwnedFd,
    moved: &mut u64,
) -> rustix::io::Result<()> {
    // Moving a directory changes its `..`, so it must be writable itself.
    drop(open_writable(directory, child)?);
    loop {
        *moved += 1;
        let name = format!("removed-{moved}");
        match rustix::fs::renameat_with(directory, child, top, &name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // Without that flag a rename still replaces nothing but an empty directory.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                match rustix::fs::renameat(directory, child, top, &name) {
                    Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
                    other => return other,
                }
            }
            other => return other,
        }
    }
}

/// Open a directory that its owner may have closed to itself.
fn open_writable(parent: impl std::os::fd::AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let opened = match open_directory(&parent, name) {
        Err(Errno::ACCESS) => {
            chmod_unfollowed(&parent, name, Mode::RWXU)?;
            open_directory(&parent, name)?
        }
        other => other?,
    };
    if rustix::fs::fstat(&opened)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(&opened, Mode::RWXU)?;
    }
    Ok(opened)
}
