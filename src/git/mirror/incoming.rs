//! Where a fetch takes things to: a git repository of its own inside the mirror, which borrows the mirror's objects. Only what is
//! known to be whole gets among the mirror's own, so that there whatever is there is there with all that belongs to it.

use super::alive::still_alive;
use super::durable::sync;
use super::{Mirror, init};
use crate::git::error::GitError;
use git2::{Oid, Repository};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// In the mirror's directory.
const DIRECTORY: &str = "belay-incoming";
const PACKS: &str = "objects/pack";

/// What is being taken.
pub(super) struct Incoming {
    repository: Repository,
    path: PathBuf,
}

impl Incoming {
    /// An empty one, in place of what an earlier one left.
    pub(super) fn make(mirror: &Mirror) -> Result<Self, GitError> {
        let path = mirror.path().join(DIRECTORY);
        remove(mirror, &path)?;
        let repository = init(&path)?;
        Ok(Self { repository, path })
    }

    /// What a fetch that did not end left; nothing where that is of no use.
    pub(super) fn left(mirror: &Mirror) -> Result<Option<Self>, GitError> {
        let path = mirror.path().join(DIRECTORY);
        // One that was killed while it was made cannot be opened, and has nothing.
        let Ok(repository) = Repository::open_bare(&path) else {
            remove(mirror, &path)?;
            return Ok(None);
        };
        let left = Self { repository, path };
        left.go_on_admitting(mirror)?;
        Ok(Some(left))
    }

    /// What libgit2 knows of it.
    pub(super) fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Have what the mirror has, and say so to the git server: `known` are commits that are there with all that belongs to them.
    pub(super) fn borrow(&self, mirror: &Mirror, known: &BTreeSet<Oid>) -> Result<(), GitError> {
        let mut haves = String::new();
        for id in known {
            let _ = writeln!(haves, "{id} refs/have/{id}");
        }
        let write = || {
            let info = self.path.join("objects/info");
            // libgit2 makes it only where it takes its directories from a template.
            fs::create_dir_all(&info)?;
            fs::write(info.join("alternates"), "../../objects\n")?;
            fs::write(self.path.join("packed-refs"), haves)
        };
        write().map_err(GitError::unwritten("prepare a fetch", mirror.path()))
    }

    /// Look at what was taken as it is.
    pub(super) fn taken(self, mirror: &Mirror) -> Result<Self, GitError> {
        // A server that has no whole history says so, and libgit2 would not miss the rest any more.
        match fs::remove_file(self.path.join("shallow")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(GitError::unwritten("prepare a fetch", mirror.path())(error));
            }
            _ => {}
        }
        let repository = Repository::open_bare(&self.path)
            .map_err(GitError::unread("what was fetched", mirror.path()))?;
        Ok(Self { repository, ..self })
    }

    /// Whether anything was taken to its end.
    pub(super) fn has_packs(&self, mirror: &Mirror) -> Result<bool, GitError> {
        let found = files(&self.path.join(PACKS), "idx");
        Ok(!found.map_err(GitError::unread("what was fetched", mirror.path()))?.is_empty())
    }

    /// All of it is whole: it gets among the mirror's objects.
    pub(super) fn admit(self, mirror: &Mirror) -> Result<(), GitError> {
        // git looks for indexes: a pack without is nothing yet.
        self.admit_files(mirror, "pack")?;
        self.admit_files(mirror, "idx")?;
        self.discard(mirror)
    }

    /// It is of no use.
    pub(super) fn discard(self, mirror: &Mirror) -> Result<(), GitError> {
        let Self { repository, path } = self;
        drop(repository);
        still_alive()?;
        remove(mirror, &path)
    }

    fn admit_files(&self, mirror: &Mirror, extension: &str) -> Result<(), GitError> {
        let to = mirror.path().join(PACKS);
        let admit = |file: &Path| -> io::Result<()> {
            fs::create_dir_all(&to)?;
            fs::rename(file, to.join(file.file_name().unwrap_or_default()))?;
            sync(&to)
        };
        let failed = || GitError::unwritten("take in what was fetched", mirror.path());
        for file in files(&self.path.join(PACKS), extension).map_err(failed())? {
            still_alive()?;
            admit(&file).map_err(failed())?;
        }
        Ok(())
    }

    /// A pack that is the mirror's, and whose index is not yet: one that was killed between had found it to be whole.
    fn go_on_admitting(&self, mirror: &Mirror) -> Result<(), GitError> {
        let failed = || GitError::unwritten("take in what was fetched", mirror.path());
        for index in files(&self.path.join(PACKS), "idx").map_err(failed())? {
            let name = index.with_extension("pack");
            let admitted = mirror.path().join(PACKS).join(name.file_name().unwrap_or_default());
            if !name.exists() && admitted.exists() {
                return self.admit_files(mirror, "idx");
            }
        }
        Ok(())
    }
}

/// The packs, or their indexes, in a directory; none where it is missing.
fn files(directory: &Path, extension: &str) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("pack-") && path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    Ok(found)
}

fn remove(mirror: &Mirror, path: &Path) -> Result<(), GitError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(GitError::unwritten("remove what was fetched", mirror.path())),
    }
}
