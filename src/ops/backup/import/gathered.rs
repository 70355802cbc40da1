//! A tree of files that comes in a stream of entries, in any order: contents are stored as they come, and what is known of the
//! entries is kept until all are there, because a directory is stored in the order of its names.

use super::error::ImportError;
use super::members::{Member, MemberKind};
use crate::component::files::walk::TreeSink as _;
use crate::model::node::{Node, NodeKind};
use crate::ops::OpsError;
use crate::ops::tree::{TreeBuilder, made_node};
use crate::repository::RepositoryError;
use crate::repository::format::tree::MAX_MEMORY;
use crate::repository::writer::{PendingContent, Writer};
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

/// Bytes read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// What an entry takes besides its name: an estimate, on the high side.
const ENTRY_BYTES: usize = 512;

enum Entry {
    Directory(Directory),
    File(Node, PendingContent),
    Other(Node),
}

struct Directory {
    node: Node,
    entries: BTreeMap<Vec<u8>, Entry>,
}

/// A tree while it is gathered.
pub(super) struct Gathered {
    root: Directory,
    memory: usize,
    inodes: u64,
    /// Devices and pipes, too.
    takes_all: bool,
    pub(super) counts: BTreeMap<String, u64>,
    pub(super) size_bytes: u64,
}

/// Why an entry could not be taken.
pub(super) enum Untaken {
    Import(ImportError),
    Repository(RepositoryError),
    /// The stream above said why.
    Stream(std::io::Error),
}

impl Untaken {
    /// As the failure of an import of this file.
    pub(super) fn at(self, file: &Path) -> OpsError {
        let source = match self {
            Self::Repository(error) => return error.into(),
            Self::Import(source) => source,
            Self::Stream(error) => ImportError::Read(error),
        };
        OpsError::Import { file: file.to_owned(), source }
    }
}

impl From<ImportError> for Untaken {
    fn from(error: ImportError) -> Self {
        Self::Import(error)
    }
}

impl From<RepositoryError> for Untaken {
    fn from(error: RepositoryError) -> Self {
        Self::Repository(error)
    }
}

impl Gathered {
    /// Nothing yet. Directories that are not in the stream are of this time.
    pub(super) fn new(name: &str, time: Timestamp, takes_all: bool) -> Self {
        let node = Node { mode: 0o755, ..made_node(name, NodeKind::Directory, time) };
        let root = Directory { node, entries: BTreeMap::new() };
        let counts = BTreeMap::new();
        Self { root, memory: 0, inodes: 0, takes_all, counts, size_bytes: 0 }
    }

    /// Take an entry, and store its content. `path` is its place below the root.
    pub(super) fn add(
        &mut self,
        path: &[u8],
        member: &Member,
        content: &mut dyn Read,
        writer: &Writer,
    ) -> Result<(), Untaken> {
        if path.is_empty() {
            if member.kind != MemberKind::Node(NodeKind::Directory) {
                return Err(member.refused("it should be a directory").into());
            }
            let name = self.root.node.name.clone();
            self.root.node = member.node(&name, NodeKind::Directory);
            return Ok(());
        }
        self.account(path, member)?;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let (what, entry) = match &member.kind {
            MemberKind::Node(kind @ NodeKind::File { size }) => {
                let pending = store(content, writer)?;
                self.size_bytes += size;
                ("files", Entry::File(member.node(name, kind.clone()), pending))
            }
            MemberKind::Node(NodeKind::Directory) => {
                let node = member.node(name, NodeKind::Directory);
                ("directories", Entry::Directory(Directory { node, entries: BTreeMap::new() }))
            }
            MemberKind::Node(kind @ NodeKind::Symlink { .. }) => {
                ("symlinks", Entry::Other(member.node(name, kind.clone())))
            }
            MemberKind::Node(kind) if self.takes_all => {
                ("others", Entry::Other(member.node(name, kind.clone())))
            }
            MemberKind::Node(_) => {
                return Err(member.refused("it is a device or a pipe").into());
            }
            MemberKind::HardLink(_) => {
                return Err(member.refused("it is a link to something that is not there").into());
            }
        };
        self.place(path, member, what, entry)
    }

    fn account(&mut self, path: &[u8], member: &Member) -> Result<(), ImportError> {
        self.memory += ENTRY_BYTES + path.len();
        if self.memory > MAX_MEMORY {
            return Err(member.refused("so many entries do not fit into memory"));
        }
        Ok(())
    }

    /// Take a further name of a file that came before, at `first` below the root.
    pub(super) fn add_link(
        &mut self,
        path: &[u8],
        first: &[u8],
        member: &Member,
    ) -> Result<(), Untaken> {
        let missing = || member.refused("it is a link to something that is not there");
        self.account(path, member)?;
        let inodes = &mut self.inodes;
        let Some(Entry::File(node, pending)) = find(&mut self.root, first) else {
            return Err(missing().into());
        };
        if node.inode == 0 {
            *inodes += 1;
            node.inode = *inodes;
        }
        node.links += 1;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path).to_vec();
        if let NodeKind::File { size } = node.kind {
            self.size_bytes += size;
        }
        let entry = Entry::File(Node { name, ..node.clone() }, pending.clone());
        self.place(path, member, "files", entry)
    }

    /// Put an entry where it belongs. A directory may come after what is in it, and more than once.
    fn place(
        &mut self,
        path: &[u8],
        member: &Member,
        what: &str,
        entry: Entry,
    ) -> Result<(), Untaken> {
        let time = self.root.node.mtime;
        let (parents, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (Some(&path[..at]), &path[at + 1..]),
            None => (None, path),
        };
        let mut directory = &mut self.root;
        for part in parents.into_iter().flat_map(|parents| parents.split(|byte| *byte == b'/')) {
            let made = || {
                let node = Node {
                    name: part.to_vec(),
                    mode: 0o755,
                    ..made_node("", NodeKind::Directory, time)
                };
                Entry::Directory(Directory { node, entries: BTreeMap::new() })
            };
            match directory.entries.entry(part.to_vec()).or_insert_with(made) {
                Entry::Directory(inner) => directory = inner,
                _ => {
                    return Err(member
                        .refused("it lies below something that is no directory")
                        .into());
                }
            }
        }
        match (directory.entries.get_mut(name), entry) {
            (None, entry) => {
                directory.entries.insert(name.to_vec(), entry);
            }
            (Some(Entry::Directory(old)), Entry::Directory(new)) => old.node = new.node,
            _ => return Err(member.refused("another entry has the same path").into()),
        }
        *self.counts.entry(what.to_owned()).or_insert(0) += 1;
        Ok(())
    }

    /// Add a file at the root that was written already.
    pub(super) fn put(&mut self, node: Node, pending: PendingContent) {
        self.root.entries.insert(node.name.clone(), Entry::File(node, pending));
    }

    /// Store the directories, each after what is in it.
    pub(super) fn deliver(self, builder: &mut TreeBuilder<'_>) -> Result<(), RepositoryError> {
        deliver(self.root, builder)
    }
}

/// As deep as the longest path has parts.
fn deliver(directory: Directory, builder: &mut TreeBuilder<'_>) -> Result<(), RepositoryError> {
    builder.enter(&directory.node)?;
    for entry in directory.entries.into_values() {
        match entry {
            Entry::Directory(inner) => deliver(inner, builder)?,
            Entry::File(node, pending) => builder.add_file(node, pending)?,
            Entry::Other(node) => builder.leaf(&node)?,
        }
    }
    builder.leave()
}

fn find<'a>(root: &'a mut Directory, path: &[u8]) -> Option<&'a mut Entry> {
    let mut directory = root;
    let mut parts = path.split(|byte| *byte == b'/').peekable();
    while let Some(part) = parts.next() {
        let entry = directory.entries.get_mut(part)?;
        if parts.peek().is_none() {
            return Some(entry);
        }
        match entry {
            Entry::Directory(inner) => directory = inner,
            _ => return None,
        }
    }
    None
}

fn store(content: &mut dyn Read, writer: &Writer) -> Result<PendingContent, Untaken> {
    let mut stream = writer.file();
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        match content.read(&mut buffer).map_err(Untaken::Stream)? {
            0 => return Ok(stream.finish()?),
            length => stream.append(&buffer[..length])?,
        }
    }
}
