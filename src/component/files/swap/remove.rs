//! Removing a tree of any depth, without following links or going into what is mounted in it.
//!
//! Directories in directories are first moved up to the top, so that neither the stack nor open files limit the depth,
//! and what is left after a crash is removed by the next call.

use crate::component::files::descent::{chmod_unfollowed, list_reversed, open_directory};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Remove a file or a whole tree. Nothing there is as well.
pub(in crate::component::files) fn remove(path: &Path) -> rustix::io::Result<()> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        other => return other,
    }
    let top = open_directory(CWD, path.as_os_str().as_bytes()).or_else(|error| match error {
        Errno::ACCESS => chmod_and_open(CWD, path.as_os_str().as_bytes(), open_directory),
        error => Err(error),
    })?;
    make_writable(&top)?;
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

/// Open a directory that its owner may have closed to itself. [`Errno::XDEV`] when something is mounted there: whose files
/// these are is not known, and they were not meant.
fn open_writable(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let opened = match open_within(parent, name) {
        Err(Errno::ACCESS) => chmod_and_open(parent, name, open_within)?,
        other => other?,
    };
    make_writable(&opened)?;
    Ok(opened)
}

/// Open a directory in the same mount.
fn open_within(parent: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), ResolveFlags::NO_XDEV) {
        // Before Linux 5.6, and in some sandboxes: what is mounted has another device, but for bind mounts.
        Err(Errno::NOSYS | Errno::PERM) => {
            let opened = open_directory(parent, name)?;
            let device = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
            if device(&opened)? == device(parent)? { Ok(opened) } else { Err(Errno::XDEV) }
        }
        other => other,
    }
}

fn chmod_and_open<P: AsFd + Copy>(
    parent: P,
    name: &[u8],
    open: impl Fn(P, &[u8]) -> rustix::io::Result<OwnedFd>,
) -> rustix::io::Result<OwnedFd> {
    chmod_unfollowed(parent, name, Mode::RWXU)?;
    open(parent, name)
}

fn make_writable(directory: &OwnedFd) -> rustix::io::Result<()> {
    if rustix::fs::fstat(directory)?.st_mode & 0o700 != 0o700 {
        rustix::fs::fchmod(directory, Mode::RWXU)?;
    }
    Ok(())
}
