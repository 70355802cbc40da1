//! Which snapshots and paths the damage touches, from the trees that lose something. Nothing is read for it.

use super::ledger::Ledger;
use super::trees::Trees;
use crate::model::event::Cancel;
use crate::model::id::BlobId;
use crate::repository::{RepositoryError, Snapshot};
use std::collections::HashSet;

/// A directory on the way down: its tree, how much of its parent's path stays, and its name.
type Step<'a> = (BlobId, usize, Option<&'a [u8]>);

/// Tell each finding which snapshots it touches, and of each tree, in the newest snapshot that has it, which paths it
/// loses. `snapshots` are the newest first.
pub(super) fn attribute(
    snapshots: &[Snapshot],
    trees: &Trees,
    ledger: &mut Ledger,
    cancel: &Cancel,
) -> Result<(), RepositoryError> {
    let mut told = HashSet::new();
    for snapshot in snapshots {
        // A tree is entered once for each snapshot: as a part of a crafted one it may have more paths than can be walked.
        let mut entered = HashSet::new();
        let mut path = Vec::new();
        let mut stack: Vec<Step<'_>> = vec![(snapshot.file.tree, 0, None)];
        while let Some((id, parent, name)) = stack.pop() {
            cancel.check()?;
            let Some(tree) = trees.lossy.get(&id) else { continue };
            if !entered.insert(id) {
                continue;
            }
            path.truncate(parent);
            if let Some(name) = name {
                path.push(b'/');
                path.extend_from_slice(name);
            }
            let is_new = told.insert(id);
            for &number in &tree.own {
                ledger.touch(number, snapshot.id);
                if is_new {
                    let above = path.get(..parent).unwrap_or_default();
                    ledger.lose(number, snapshot.id, above, &[name.unwrap_or_default().into()], 1);
                }
            }
            for lost in &tree.files {
                ledger.touch(lost.number, snapshot.id);
                if is_new {
                    ledger.lose(lost.number, snapshot.id, &path, &lost.names, lost.count);
                }
            }
            let below = tree.directories.iter();
            stack.extend(below.map(|(name, id)| (*id, path.len(), Some(&**name))));
        }
    }
    Ok(())
}
