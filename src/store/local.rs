//! A repository in a directory of this machine.
//!
//! A file is written to a temporary name in its own folder, synced, renamed, and its folder synced. Files are read-only
//! once they are there. When root writes into a repository that belongs to another user, the files become that user's,
//! so that a service and an administrator can share it.

use super::{FileKind, FileName, Listed, Operation, Store, StoreError};
use crate::model::id::FileId;
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

/// The file that keeps room for a prune on a full disk. Other programs ignore it.
const RESERVE: &str = "belay-reserve";
/// A prune writes one index file at a time, which is smaller than this.
const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// A directory.
pub struct LocalStore {
    root: PathBuf,
}

impl LocalStore {
    /// The repository in `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    fn path(&self, name: FileName) -> PathBuf {
        self.root.join(name.to_string())
    }

    fn folder(&self, kind: FileKind) -> PathBuf {
        self.root.join(kind.folder())
    }

    /// The folders in which files of a kind lie.
    fn folders(&self, kind: FileKind) -> io::Result<Vec<PathBuf>> {
        let folder = self.folder(kind);
        if kind != FileKind::Pack {
            return Ok(vec![folder]);
        }
        let mut folders = Vec::with_capacity(256);
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().len() == 2 && entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
        Ok(folders)
    }

    /// Write `bytes` durably to `path` by way of a temporary file beside it. False when something is there already.
    fn write_new(&self, path: &Path, bytes: &[u8], replace: bool) -> io::Result<bool> {
        let folder = path.parent().expect("a file of a repository lies in a folder");
        let mut temporary_name = path.file_name().expect("a file has a name").to_owned();
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        temporary_name.push(format!("-tmp-{}", hex::encode(random)));
        let temporary = folder.join(temporary_name);

        let written = (|| {
            let open =
                || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary);
            let mut file = match open() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.root => {
                    self.make_folder(folder)?;
                    open()?
                }
                other => other?,
            };
            file.write_all(bytes)?;
            self.hand_over(&file)?;
            file.set_permissions(fs::Permissions::from_mode(self.file_mode()?))?;
            file.sync_all()?;
            drop(file);
            if replace {
                fs::rename(&temporary, path)?;
            } else if !rename_new(&temporary, path)? {
                return Ok(false);
            }
            sync_directory(folder)?;
            Ok(true)
        })();
        if !matches!(written, Ok(true)) {
            // The first error is the one to tell; what stays behind is a leftover that a prune removes.
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    /// Make one folder of the repository, durably, with the owner and the group's rights of the repository.
    fn make_folder(&self, folder: &Path) -> io::Result<()> {
        let mode = match fs::metadata(&self.root) {
            Ok(root) if root.mode() & 0o070 != 0 => 0o700 | (root.mode() & 0o070),
            _ => 0o700,
        };
        match fs::DirBuilder::new().mode(mode).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        // Not followed: who owns the repository could put a link in its place, and have root give away what it leads to.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.hand_over(&rustix::fs::open(folder, flags, Mode::empty())?.into())?;
        sync_directory(folder.parent().unwrap_or(Path::new("/")))
    }

    /// Give what root made to the repository's owner.
    fn hand_over(&self, file: &File) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = fs::metadata(&self.root)?;
        if owner.uid() != 0 || owner.gid() != 0 {
            std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()))?;
        }
        Ok(())
    }

    /// Read-only, and for the group only where the group may enter the repository (as restic does).
    fn file_mode(&self) -> io::Result<u32> {
        let group_enters = fs::metadata(&self.root)?.mode() & 0o050 == 0o050;
        Ok(if group_enters { 0o440 } else { 0o400 })
    }

    fn error(operation: Operation, path: &Path) -> impl FnOnce(io::Error) -> StoreError + '_ {
        move |source| StoreError { operation, object: path.display().to_string(), source }
    }
}

impl Store for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn create(&self) -> Result<(), StoreError> {
        let make = || -> io::Result<()> {
            if !self.root.is_dir() {
                fs::DirBuilder::new().mode(0o700).recursive(true).create(&self.root)?;
                sync_directory(self.root.parent().unwrap_or(Path::new("/")))?;
            }
            for kind in FileKind::ALL {
                self.make_folder(&self.folder(kind))?;
            }
            for first_byte in 0..=255_u8 {
                self.make_folder(&self.folder(FileKind::Pack).join(format!("{first_byte:02x}")))?;
            }
            Ok(())
        };
        make().map_err(Self::error(Operation::Create, &self.root))
    }

    fn list(&self, kind: FileKind) -> Result<Vec<Listed>, StoreError> {
        let list = || -> io::Result<Vec<Listed>> {
            let mut files = Vec::new();
            for folder in self.folders(kind)? {
                for entry in fs::read_dir(folder)? {
                    let entry = entry?;
                    let Some(id) =
                        entry.file_name().to_str().and_then(|name| name.parse::<FileId>().ok())
                    else {
                        continue;
                    };
                    // A file that another process removed meanwhile is not there.
                    match entry.metadata() {
                        Ok(metadata) => files.push(Listed {
                            id,
                            size: metadata.len(),
                            modified: metadata.modified().ok(),
                        }),
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(files)
        };
        list().map_err(Self::error(Operation::List, &self.folder(kind)))
    }

    fn read(&self, name: FileName, limit: u64) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(&path)?;
            let size = file.metadata()?.len();
            if size > limit {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("the file has {size} bytes, and at most {limit} are expected"),
                ));
            }
            let mut bytes = Vec::with_capacity(size as usize);
            file.take(limit).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(Self::error(Operation::Read, &path))
    }

    fn read_range(
        &self,
        name: FileName,
        offset: u64,
        length: usize,
    ) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        let read = || -> io::Result<Vec<u8>> {
            let file = File::open(&path)?;
            // Checked before the memory is asked for: lengths come from files that may be damaged or hostile.
            let available = file.metadata()?.len().saturating_sub(offset);
            if available < length as u64 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    format!(
                        "{length} bytes are expected at offset {offset}, and {available} are there"
                    ),
                ));
            }
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset)?;
            Ok(bytes)
        };
        read().map_err(Self::error(Operation::Read, &path))
    }

    fn write(&self, name: FileName, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(name);
        let write = || -> io::Result<()> {
            if self.write_new(&path, bytes, false)? {
                return Ok(());
            }
            if name == FileName::Config {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    "there is a repository already",
                ));
            }
            // The name is the sum of the content, so the same size is the same file unless it was damaged.
            if fs::metadata(&path)?.len() != bytes.len() as u64 {
                self.write_new(&path, bytes, true)?;
            }
            Ok(())
        };
        write().map_err(Self::error(Operation::Write, &path))
    }

    fn remove(&self, name: FileName) -> Result<(), StoreError> {
        let path = self.path(name);
        let remove = || match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
            // After a power cut a snapshot or an index must not come back whose packs are gone.
            Ok(()) if matches!(name, FileName::Id(FileKind::Snapshot | FileKind::Index, _)) => {
                sync_directory(path.parent().unwrap_or(&self.root))
            }
            Ok(()) => Ok(()),
        };
        remove().map_err(Self::error(Operation::Remove, &path))
    }

    fn remove_leftovers(&self) -> Result<(u64, u64), StoreError> {
        let mut removed = (0, 0);
        for kind in [FileKind::Pack, FileKind::Index, FileKind::Snapshot] {
            let mut sweep = || -> io::Result<()> {
                for folder in self.folders(kind)? {
                    for entry in fs::read_dir(folder)? {
                        let entry = entry?;
                        let name = entry.file_name();
                        let Some((id, _)) = name.to_str().and_then(|name| name.split_once("-tmp-"))
                        else {
                            continue;
                        };
                        if id.parse::<FileId>().is_ok() {
                            let size = entry.metadata()?.len();
                            fs::remove_file(entry.path())?;
                            removed.0 += 1;
                            removed.1 += size;
                        }
                    }
                }
                Ok(())
            };
            sweep().map_err(Self::error(Operation::Remove, &self.folder(kind)))?;
        }
        Ok(removed)
    }

    fn keep_reserve(&self) -> Result<(), StoreError> {
        let path = self.root.join(RESERVE);
        let keep = || -> io::Result<()> {
            let filesystem = rustix::fs::statvfs(&self.root)?;
            let bytes = |blocks: u64| blocks.saturating_mul(filesystem.f_frsize);
            let present = fs::symlink_metadata(&path).map_or(0, |metadata| metadata.len());
            // A small disk is not filled by the reserve alone.
            let wanted = RESERVE_BYTES.min(bytes(filesystem.f_blocks) / 16);
            let wanted = wanted.min(bytes(filesystem.f_bavail) / 2);
            if wanted <= present {
                return Ok(());
            }
            // Random bytes: a file system that compresses would keep no room for zeros.
            let mut bytes = vec![0; wanted as usize];
            getrandom::fill(&mut bytes).map_err(io::Error::other)?;
            self.write_new(&path, &bytes, true).map(|_| ())
        };
        keep().map_err(Self::error(Operation::Write, &path))
    }

    fn release_reserve(&self) -> Result<u64, StoreError> {
        let path = self.root.join(RESERVE);
        let release = || -> io::Result<u64> {
            let released = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
                other => other?.len(),
            };
            fs::remove_file(&path)?;
            sync_directory(&self.root)?;
            Ok(released)
        };
        release().map_err(Self::error(Operation::Remove, &path))
    }
}

/// Rename without replacing; false when `to` exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<bool> {
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        // Some network file systems have no such rename; a hard link does the same in two steps.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
