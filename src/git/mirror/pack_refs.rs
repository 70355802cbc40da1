//! Many refs in one file, `packed-refs`, instead of a file each: reading thousands of files takes longer than a fetch with
//! nothing new may take (format: git's `gitrepository-layout` and `git-pack-refs`).

use super::Mirror;
use crate::git::error::GitError;
use git2::ObjectType;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// As many may be in files of their own.
const MOST_LOOSE: usize = 64;
const HEADER: &str = "# pack-refs with: peeled fully-peeled sorted \n";

impl Mirror {
    /// Put refs together where there are many files of them. Only for who holds the claim on the mirror: nobody else writes.
    pub(super) fn pack_refs(&self) -> Result<(), GitError> {
        let refs = self.path().join("refs");
        let mut loose = Vec::new();
        files_below(&refs, &mut loose).map_err(self.not_packed())?;
        if loose.len() <= MOST_LOOSE {
            return Ok(());
        }
        let known = self.refs()?;
        let lost = loose.iter().find(|file| {
            let name =
                file.strip_prefix(self.path()).unwrap_or(file).to_string_lossy().into_owned();
            !known.contains_key(&name)
        });
        if let Some(file) = lost {
            let error = io::Error::other(format!("{} is no ref that can be read", file.display()));
            return Err(self.not_packed()(error));
        }
        // Sorted by name, as the header says.
        let mut text = HEADER.to_owned();
        for (name, id) in known {
            let _ = writeln!(text, "{id} {name}");
            let object = self.repository().find_object(id, None);
            let object =
                object.map_err(GitError::unread(format!("what {name} leads to"), self.path()))?;
            if object.kind() == Some(ObjectType::Tag)
                && let Ok(peeled) = object.peel(ObjectType::Any)
            {
                let _ = writeln!(text, "^{}", peeled.id());
            }
        }
        let write = || {
            let unfinished = self.path().join("packed-refs.lock");
            let mut file = File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path().join("packed-refs"))?;
            File::open(self.path())?.sync_all()?;
            // Whoever is killed here leaves files that say the same.
            loose.iter().try_for_each(fs::remove_file)
        };
        write().map_err(self.not_packed())
    }

    fn not_packed(&self) -> impl FnOnce(io::Error) -> GitError {
        let mirror = self.path().to_owned();
        move |error| GitError::Write {
            action: "put its refs together".to_owned(),
            mirror,
            reason: error.to_string(),
        }
    }
}

fn files_below(directory: &Path, found: &mut Vec<std::path::PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}
