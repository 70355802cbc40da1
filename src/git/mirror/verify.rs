//! Whether a mirror is what was fetched: every ref leads to something, and no byte of a pack has changed.

use super::Mirror;
use crate::git::error::GitError;
use sha1::{Digest as _, Sha1};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// At the end of a pack, and of its index: the SHA-1 sum of all before (`gitformat-pack`).
const SUM_BYTES: u64 = 20;
const BUFFER_BYTES: usize = 128 * 1024;

impl Mirror {
    /// Look at every ref, and read every pack and its index; none of the `known` ones may be gone, since nothing here removes any.
    /// Returns the names of all packs.
    pub fn verify(&self, known: &BTreeSet<String>) -> Result<BTreeSet<String>, GitError> {
        for (name, id) in self.refs()? {
            let found = self.repository().find_object(id, None);
            found.map_err(GitError::unread(format!("what {name} leads to"), self.path()))?;
        }
        let directory = self.path().join("objects/pack");
        let mut packs = BTreeSet::new();
        let entries = match std::fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(packs),
            other => other.map_err(GitError::unread("objects/pack", self.path()))?,
        };
        for entry in entries {
            let entry = entry.map_err(GitError::unread("objects/pack", self.path()))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("pack-")
                || Path::new(&name).extension().is_none_or(|it| it != "pack")
            {
                continue;
            }
            for path in [entry.path(), entry.path().with_extension("idx")] {
                if !is_whole(&path).map_err(GitError::unread(&name, self.path()))? {
                    return Err(self.damaged(name, "its sum is not the one at its end"));
                }
            }
            packs.insert(name);
        }
        match known.difference(&packs).next() {
            Some(gone) => Err(self.damaged(gone.clone(), "it is not there any more")),
            None => Ok(packs),
        }
    }

    fn damaged(&self, what: String, reason: &str) -> GitError {
        GitError::Read { what, mirror: self.path().to_owned(), reason: reason.into() }
    }
}

fn is_whole(pack: &Path) -> io::Result<bool> {
    let mut file = File::open(pack)?;
    let Some(content) = file.metadata()?.len().checked_sub(SUM_BYTES) else { return Ok(false) };
    let mut sum = Sha1::new();
    let mut left = content;
    let mut buffer = vec![0; BUFFER_BYTES];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(BUFFER_BYTES).min(BUFFER_BYTES);
        let read = file.read(&mut buffer[..most])?;
        if read == 0 {
            return Ok(false);
        }
        sum.update(&buffer[..read]);
        left -= read as u64;
    }
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    Ok(sum.finalize()[..] == end[..])
}
