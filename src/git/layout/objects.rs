//! Reading objects that strangers wrote, within bounds.
//!
//! What always holds: every object's size is known before it is read, entries and bytes are counted against a budget (a tree of
//! a few kilobytes can unfold to billions of files), and what is too much, broken or missing becomes a [`Trouble`].

use super::{Inventory, Trouble};
use crate::git::error::{GitError, told};
use crate::model::exact_path::ExactPath;
use git2::{ErrorCode, ObjectType, Odb, Oid, Repository, Tree};
use serde::de::DeserializeOwned;
use std::cell::RefCell;

/// A JSON document that is larger is not read.
const MOST_JSON_BYTES: usize = 16 << 20;
/// A directory whose list is larger is not read.
const MOST_TREE_BYTES: usize = 32 << 20;
/// A commit that is larger is not read.
const MOST_COMMIT_BYTES: usize = 16 << 20;
/// A path that is longer, in bytes, is not followed: no checkout could make it.
const MOST_PATH_BYTES: usize = 4_096;
/// What lies in more directories than these is not looked at.
const MOST_DEPTH: usize = 100;
/// Entries that are looked at in all.
const MOST_ENTRIES: u64 = 1_000_000;
/// Bytes of documents that are read in all.
const MOST_BYTES: u64 = 1 << 30;

/// Directories that are kept read, and the bytes of their lists.
const MOST_RECENT: usize = 32;
const MOST_RECENT_BYTES: usize = 64 << 20;

const LINK: i32 = 0o120_000;

/// The objects of a git repository, and what was wrong with them.
pub(super) struct Objects<'r> {
    repository: &'r Repository,
    odb: Odb<'r>,
    pub(super) entries_left: u64,
    bytes_left: u64,
    is_quiet: bool,
    /// The directories that were read last, newest first: those near the root are asked for again and again.
    recent: RefCell<Vec<(Tree<'r>, usize)>>,
    pub(super) troubles: Vec<Trouble>,
    pub(super) troubles_left_out: u64,
}

/// What a directory has under a name, unless that is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) id: Oid,
    mode: i32,
    /// Another git repository's commit.
    pub(super) is_submodule: bool,
}

impl Leaf {
    pub(super) fn is_file(&self) -> bool {
        !self.is_submodule && self.mode != LINK
    }
}

/// What a directory has under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory(Oid),
    Leaf(Leaf),
}

impl<'r> Objects<'r> {
    pub(super) fn new(repository: &'r Repository) -> Result<Self, GitError> {
        let odb =
            repository.odb().map_err(GitError::unread("the object store", repository.path()))?;
        Ok(Self {
            repository,
            odb,
            entries_left: MOST_ENTRIES,
            bytes_left: MOST_BYTES,
            is_quiet: false,
            recent: RefCell::default(),
            troubles: Vec::new(),
            troubles_left_out: 0,
        })
    }

    /// The root directory of a commit. Whether that can be read shows when it is.
    pub(super) fn root(&self, commit: Oid) -> Result<Oid, GitError> {
        let what = || format!("commit {commit}");
        let failed = |error| GitError::unread(what(), self.repository.path())(error);
        let refuse = |reason: String| GitError::refuse(self.repository, what(), reason);
        match self.odb.read_header(commit) {
            Ok((_, ObjectType::Commit)) => {}
            Ok((_, kind)) => return Err(refuse(format!("it is a {kind}"))),
            Err(error) if error.code() == ErrorCode::NotFound => {
                return Err(GitError::no_commit(self.repository, &commit.to_string()));
            }
            Err(error) => return Err(failed(error)),
        }
        self.sized(commit, MOST_COMMIT_BYTES).map_err(refuse)?;
        let found = self.repository.find_commit(commit);
        Ok(found.map_err(failed)?.tree_id())
    }

    pub(super) fn trouble(&mut self, path: &[u8], reason: impl Into<String>) {
        if self.is_quiet {
            return;
        }
        if self.troubles.len() < Inventory::MOST_TROUBLES {
            let path = ExactPath::of_bytes("path", &path[..path.len().min(MOST_PATH_BYTES)]);
            self.troubles.push(Trouble { path, reason: reason.into() });
        } else {
            self.troubles_left_out += 1;
        }
    }

    /// Look at what will be looked at again, and told then.
    pub(super) fn quietly<T>(&mut self, look: impl FnOnce(&mut Self) -> T) -> T {
        self.is_quiet = true;
        let seen = look(self);
        self.is_quiet = false;
        seen
    }

    pub(super) fn is_empty(&self, directory: Oid) -> bool {
        self.tree(directory).is_ok_and(|tree| tree.is_empty())
    }

    /// How large the object is, or why it cannot be read.
    fn sized(&self, id: Oid, most_bytes: usize) -> Result<usize, String> {
        match self.odb.read_header(id) {
            Ok((size, _)) if size <= most_bytes => Ok(size),
            Ok((size, _)) => {
                Err(format!("it has {size} bytes, and no more than {most_bytes} are read"))
            }
            Err(error) => Err(unreadable(id, &error)),
        }
    }

    fn tree(&self, id: Oid) -> Result<Tree<'r>, String> {
        let mut recent = self.recent.borrow_mut();
        if let Some(at) = recent.iter().position(|(tree, _)| tree.id() == id) {
            recent[..=at].rotate_right(1);
            return Ok(recent[0].0.clone());
        }
        let size = self.sized(id, MOST_TREE_BYTES)?;
        let tree = self.repository.find_tree(id).map_err(|error| unreadable(id, &error))?;
        recent.insert(0, (tree.clone(), size));
        let mut bytes = 0;
        recent.retain(|(_, size)| {
            bytes += size;
            bytes <= MOST_RECENT_BYTES
        });
        recent.truncate(MOST_RECENT);
        Ok(tree)
    }

    /// What directory `id` at `path` has, in the order of git. What cannot be looked at is left out, and told.
    pub(super) fn entries(&mut self, path: &[u8], id: Oid) -> Vec<(Vec<u8>, Entry)> {
        if path.split(|byte| *byte == b'/').count() > MOST_DEPTH {
            self.trouble(
                path,
                format!("it lies below {MOST_DEPTH} directories: what is in it was not looked at"),
            );
            return Vec::new();
        }
        let tree = match self.tree(id) {
            Ok(tree) => tree,
            Err(reason) => {
                self.trouble(path, reason);
                return Vec::new();
            }
        };
        let mut entries = Vec::new();
        for entry in &tree {
            let name = entry.name_bytes();
            if self.entries_left == 0 {
                self.trouble(
                    path,
                    format!(
                        "there are more than {MOST_ENTRIES} entries: the others were not looked at"
                    ),
                );
                break;
            }
            self.entries_left -= 1;
            if path.len() + name.len() > MOST_PATH_BYTES {
                self.trouble(
                    path,
                    format!(
                        "a path in it has more than {MOST_PATH_BYTES} bytes: it was not looked at"
                    ),
                );
                continue;
            }
            let (id, mode) = (entry.id(), entry.filemode_raw());
            let entry = match entry.kind() {
                Some(ObjectType::Tree) => Entry::Directory(id),
                kind => {
                    Entry::Leaf(Leaf { id, mode, is_submodule: kind == Some(ObjectType::Commit) })
                }
            };
            entries.push((name.to_vec(), entry));
        }
        entries
    }

    /// What lies at `path` below directory `root`; none also where that cannot be read, which the walk tells.
    pub(super) fn find(&self, root: Oid, path: &[u8]) -> Option<Entry> {
        let mut found = Entry::Directory(root);
        for name in path.split(|byte| *byte == b'/').filter(|_| !path.is_empty()) {
            let Entry::Directory(directory) = found else { return None };
            let tree = self.tree(directory).ok().filter(|_| !name.contains(&0))?;
            let entry = tree.get_name_bytes(name)?;
            let (id, mode) = (entry.id(), entry.filemode_raw());
            found = match entry.kind() {
                Some(ObjectType::Tree) => Entry::Directory(id),
                kind => {
                    Entry::Leaf(Leaf { id, mode, is_submodule: kind == Some(ObjectType::Commit) })
                }
            };
        }
        Some(found)
    }

    /// The file at `path` below directory `root`.
    pub(super) fn find_file(&self, root: Oid, path: &[u8]) -> Option<Leaf> {
        match self.find(root, path) {
            Some(Entry::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    /// The file's content where it has at most `most_bytes`; what cannot be read is told.
    pub(super) fn small(&mut self, path: &[u8], leaf: &Leaf, most_bytes: usize) -> Option<Vec<u8>> {
        let read = match self.odb.read_header(leaf.id) {
            Ok((size, ObjectType::Blob)) if size > most_bytes => return None,
            Ok((_, ObjectType::Blob)) => {
                self.odb.read(leaf.id).map_err(|error| unreadable(leaf.id, &error))
            }
            Ok((_, kind)) => Err(format!("it is to be a file, and is a {kind}")),
            Err(error) => Err(unreadable(leaf.id, &error)),
        };
        let content = read.map(|object| object.data().to_vec());
        content.map_err(|reason| self.trouble(path, reason)).ok()
    }

    /// The JSON object in a file, of which `T` takes what it knows; what cannot be read is told.
    pub(super) fn json<T: DeserializeOwned>(&mut self, path: &[u8], leaf: &Leaf) -> Option<T> {
        let read = self.read_json(leaf);
        read.map_err(|reason| self.trouble(path, reason)).ok()
    }

    fn read_json<T: DeserializeOwned>(&mut self, leaf: &Leaf) -> Result<T, String> {
        if !leaf.is_file() {
            return Err("it is to be a file: links are not followed".to_owned());
        }
        let size = self.sized(leaf.id, MOST_JSON_BYTES)? as u64;
        let left = self.bytes_left.checked_sub(size);
        self.bytes_left = left.ok_or_else(|| {
            format!("with it more than {MOST_BYTES} bytes of documents were to be read: it was not")
        })?;
        let object = self.odb.read(leaf.id).map_err(|error| unreadable(leaf.id, &error))?;
        if object.kind() != ObjectType::Blob {
            return Err(format!("it is to be a file, and is a {}", object.kind()));
        }
        // A list would do for a struct as well.
        if object.data().iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
            return Err("it is no JSON object".to_owned());
        }
        serde_json::from_slice(object.data())
            .map_err(|error| format!("it is not the JSON that it is to be: {error}"))
    }
}

fn unreadable(id: Oid, error: &git2::Error) -> String {
    if error.code() == ErrorCode::NotFound {
        format!("object {id} is missing")
    } else {
        format!("object {id} cannot be read: {}", told(error))
    }
}
