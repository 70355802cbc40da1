//! A directory tree as it is on disk, kept in memory by sums, to compare with what a restore makes of it.
#![allow(clippy::unnecessary_debug_formatting)] // Names that are not UTF-8 must be told apart.

use rustix::fs::{lgetxattr, llistxattr};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Everything about one entry that has to come back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    kind: &'static str,
    /// Size and sum of a file, target of a link, number of a device.
    content: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// The first path of the same file, for hard links.
    same_file_as: Option<String>,
    extended_attributes: BTreeMap<String, Vec<u8>>,
}

/// All entries by their path, the root's own under the empty path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

impl Tree {
    pub fn read(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut linked = HashMap::new();
        visit(root, Path::new(""), &mut entries, &mut linked);
        Self(entries)
    }

    /// How many entries there are, the root included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Without the entry at `path`: for what another program is known to lose. It must be there.
    pub fn without(mut self, path: &str) -> Self {
        assert!(self.0.remove(Path::new(path)).is_some(), "{path} is not in the tree");
        self
    }

    /// What is other in `other`, for people.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (path, entry) in &self.0 {
            match other.0.get(path) {
                None => differences.push(format!("{path:?}: missing")),
                Some(found) if entry != found => {
                    differences.push(format!("{path:?}: {}", entry.difference(found)));
                }
                Some(_) => {}
            }
        }
        let unexpected = other.0.keys().filter(|path| !self.0.contains_key(*path));
        differences.extend(unexpected.map(|path| format!("{path:?}: unexpected")));
        differences
    }
}

impl Entry {
    fn difference(&self, found: &Self) -> String {
        let mut parts = Vec::new();
        let mut compare = |what: &str, expected: String, found: String| {
            if expected != found {
                parts.push(format!("{what} {expected} became {found}"));
            }
        };
        compare("kind", self.kind.to_owned(), found.kind.to_owned());
        compare("content", self.content.clone(), found.content.clone());
        compare("mode", format!("{:o}", self.mode), format!("{:o}", found.mode));
        compare("owner", format!("{:?}", self.owner), format!("{:?}", found.owner));
        compare("mtime", format!("{:?}", self.mtime), format!("{:?}", found.mtime));
        compare(
            "hard link of",
            format!("{:?}", self.same_file_as),
            format!("{:?}", found.same_file_as),
        );
        let attributes = |entry: &Self| format!("{:?}", entry.extended_attributes);
        compare("attributes", attributes(self), attributes(found));
        parts.join("; ")
    }
}

/// Fails with the first differences when `found` is not as `expected`.
#[track_caller]
pub fn assert_same(expected: &Tree, found: &Tree, what: &str) {
    let differences = expected.differences(found);
    let shown: Vec<&str> = differences.iter().take(20).map(String::as_str).collect();
    assert!(
        differences.is_empty(),
        "{what}: {} differences\n{}",
        differences.len(),
        shown.join("\n")
    );
}

fn visit(
    root: &Path,
    relative: &Path,
    entries: &mut BTreeMap<PathBuf, Entry>,
    linked: &mut HashMap<(u64, u64), String>,
) {
    // Joining an empty path would end in a slash.
    let path = if relative.as_os_str().is_empty() { root.to_owned() } else { root.join(relative) };
    let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let same_file_as = (!metadata.is_dir() && metadata.nlink() > 1).then(|| {
        let first = || format!("{relative:?}");
        linked.entry((metadata.dev(), metadata.ino())).or_insert_with(first).clone()
    });
    let (kind, content) = kind_and_content(&path, &metadata);
    let entry = Entry {
        kind,
        content,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        same_file_as,
        extended_attributes: extended_attributes(&path),
    };
    entries.insert(relative.to_owned(), entry);
    if metadata.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            visit(root, &relative.join(name), entries, linked);
        }
    }
}

fn kind_and_content(path: &Path, metadata: &Metadata) -> (&'static str, String) {
    let kind = metadata.file_type();
    if kind.is_dir() {
        ("directory", String::new())
    } else if kind.is_symlink() {
        let target = fs::read_link(path).unwrap().into_os_string().into_vec();
        ("symlink", target.escape_ascii().to_string())
    } else if kind.is_fifo() {
        ("fifo", String::new())
    } else if kind.is_socket() {
        ("socket", String::new())
    } else if kind.is_block_device() {
        ("block device", metadata.rdev().to_string())
    } else if kind.is_char_device() {
        ("character device", metadata.rdev().to_string())
    } else {
        ("file", format!("{} bytes, {}", metadata.len(), sum(path)))
    }
}

/// The SHA-256 sum of a file's content, in hexadecimal digits.
pub fn sum(path: &Path) -> String {
    let mut file = File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let length = std::io::Read::read(&mut file, &mut buffer).unwrap();
        if length == 0 {
            return hex::encode(hasher.finalize());
        }
        hasher.update(&buffer[..length]);
    }
}

fn extended_attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0_u8; 1 << 16];
    // Not every file system has them.
    let Ok(length) = llistxattr(path, &mut names[..]) else { return BTreeMap::new() };
    names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let name = std::ffi::OsStr::from_bytes(name);
            let mut value = vec![0_u8; 1 << 16];
            let length = lgetxattr(path, name, &mut value[..]).unwrap();
            value.truncate(length);
            (name.to_string_lossy().into_owned(), value)
        })
        .collect()
}
