//! What two directories have that is not the same in both, whole trees deep; one alone is compared with nothing.

use super::objects::{Entry, Leaf, Objects};
use git2::Oid;
use std::collections::{BTreeMap, VecDeque};

/// What lies at a path, in one directory or in both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub(super) path: Vec<u8>,
    pub(super) before: Option<Leaf>,
    pub(super) after: Option<Leaf>,
}

/// The way through two trees. Directories that are the same in both are passed by, unread.
pub(super) struct Walk {
    open: Vec<(Vec<u8>, Option<Oid>, Option<Oid>)>,
    found: VecDeque<Delta>,
}

impl Walk {
    pub(super) fn new(before: Option<Oid>, after: Option<Oid>) -> Self {
        Self::below(Vec::new(), before, after)
    }

    /// The same where both lie at `path`.
    pub(super) fn below(path: Vec<u8>, before: Option<Oid>, after: Option<Oid>) -> Self {
        let open = if before == after { Vec::new() } else { vec![(path, before, after)] };
        Self { open, found: VecDeque::new() }
    }

    pub(super) fn next(&mut self, objects: &mut Objects<'_>) -> Option<Delta> {
        loop {
            if let Some(delta) = self.found.pop_front() {
                return Some(delta);
            }
            let (path, before, after) = self.open.pop()?;
            let is_over = objects.entries_left == 0;
            self.expand(objects, &path, before, after);
            if is_over {
                // It was told of this directory; each of the others would say the same.
                self.open.clear();
            }
        }
    }

    fn expand(
        &mut self,
        objects: &mut Objects<'_>,
        parent: &[u8],
        before: Option<Oid>,
        after: Option<Oid>,
    ) {
        let mut names: BTreeMap<Vec<u8>, [Option<Entry>; 2]> = BTreeMap::new();
        for (side, directory) in [before, after].into_iter().enumerate() {
            let Some(directory) = directory else { continue };
            for (name, entry) in objects.entries(parent, directory) {
                // Of two entries of one name, which no git writes, the first counts.
                names.entry(name).or_default()[side].get_or_insert(entry);
            }
        }
        let mut directories = Vec::new();
        for (name, [before, after]) in names {
            if before == after {
                continue;
            }
            let path = joined(parent, &name);
            let directory =
                |entry| if let Some(Entry::Directory(id)) = entry { Some(id) } else { None };
            let leaf = |entry| if let Some(Entry::Leaf(leaf)) = entry { Some(leaf) } else { None };
            if directory(before).or(directory(after)).is_some() {
                directories.push((path.clone(), directory(before), directory(after)));
            }
            if leaf(before).or(leaf(after)).is_some() {
                self.found.push_back(Delta { path, before: leaf(before), after: leaf(after) });
            }
        }
        self.open.extend(directories.into_iter().rev());
    }
}

/// A name in a directory; the root has none itself.
pub(super) fn joined(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}
