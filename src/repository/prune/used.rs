//! Which blobs the remaining snapshots need: every tree is read, each one once.

use super::inventory::{Inventory, Key};
use super::progress::Progress;
use crate::model::event::{Cancel, Events};
use crate::model::id::BlobId;
use crate::repository::RepositoryError;
use crate::repository::blob_index::{BlobIndex, Location};
use crate::repository::format::pack::BlobKind;
use crate::repository::reader::Reader;
use std::collections::HashSet;

/// The blobs that are needed.
#[derive(Default)]
pub(super) struct Used {
    trees: HashSet<BlobId>,
    data: HashSet<BlobId>,
}

impl Used {
    /// All that is reachable from `roots`. A blob that is not there, or a tree that cannot be read, is an error.
    pub(super) fn walk(
        reader: &Reader,
        inventory: &Inventory,
        roots: impl IntoIterator<Item = BlobId>,
        events: &Events,
        cancel: &Cancel,
    ) -> Result<Self, RepositoryError> {
        let mut used = Self::default();
        let mut progress = Progress::new(events, None);
        let mut waiting = Vec::new();
        for root in roots {
            if used.trees.insert(root) {
                waiting.push(root);
            }
        }
        while let Some(tree) = waiting.pop() {
            cancel.check()?;
            let Some(location) = reader.index().get(BlobKind::Tree, tree) else {
                return Err(inventory.missing((BlobKind::Tree, tree)));
            };
            progress.add(u64::from(location.blob.length));
            for node in reader.tree(tree)? {
                for id in node.content {
                    if used.data.insert(id) && !reader.index().contains(BlobKind::Data, id) {
                        return Err(inventory.missing((BlobKind::Data, id)));
                    }
                }
                waiting.extend(node.subtree.filter(|subtree| used.trees.insert(*subtree)));
            }
        }
        Ok(used)
    }

    pub(super) fn contains(&self, (kind, id): Key) -> bool {
        match kind {
            BlobKind::Data => self.data.contains(&id),
            BlobKind::Tree => self.trees.contains(&id),
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let trees = self.trees.iter().map(|id| (BlobKind::Tree, *id));
        trees.chain(self.data.iter().map(|id| (BlobKind::Data, *id)))
    }
}

/// Where the first copy of a used blob is.
pub(super) fn first_copy(index: &BlobIndex, (kind, id): Key) -> Location {
    index.get(kind, id).expect("the walk ended at the first blob that is not in the index")
}
