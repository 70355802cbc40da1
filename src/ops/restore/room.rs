//! Whether the new trees of a restore in place fit on their disks beside the old ones, and whether they would fit in
//! their place.

use super::free_bytes;
use super::items::Item;
use super::survey::Size;
use crate::component::files::swap::{SizeOnDisk, SwapMethod, SwapPlan};
use crate::model::size::Bytes;
use crate::ops::OpsError;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What is left free where old trees are deleted first.
const SPARE_BYTES: u64 = 128 * 1024;

/// A file system on which new trees are made.
struct Disk {
    device: u64,
    place: PathBuf,
    free: u64,
    /// Which of the items.
    items: Vec<usize>,
}

impl Disk {
    /// What the new trees take.
    fn needed(&self, items: &[Item]) -> Size {
        let mut needed = Size::default();
        self.items.iter().for_each(|index| needed.add(items[*index].size));
        needed
    }

    /// What is free for the new trees once the old ones are gone. The journal and the catalog may be on the same disk, and
    /// are written to when the new trees are there: something is left for that.
    fn free_without_old(&self, items: &[Item]) -> Result<u64, OpsError> {
        let mut free = self.free;
        for item in self.items.iter().map(|index| &items[*index]).filter(|item| item.exists) {
            free = free.saturating_add(measure(&item.swap)?.freed);
        }
        Ok(free.saturating_sub(SPARE_BYTES))
    }

    fn refusal(&self, needed: u64, would_fit: bool) -> OpsError {
        let hint = "make room there, restore with --to-dir elsewhere, or restore a part with --component or --path";
        let hint = if would_fit {
            format!(
                "{hint}; where none of that is possible, --discard-current --reason TEXT deletes what is there before the \
                 new state is made"
            )
        } else {
            hint.to_owned()
        };
        let (place, free, needed) = (self.place.display(), Bytes(self.free), Bytes(needed));
        let besides = if would_fit { " beside what is there now" } else { "" };
        OpsError::refused(
            format!("{place} has {free} free, and the restore needs {needed}{besides}"),
            hint,
        )
    }
}

fn disks(items: &[Item], is_meant: impl Fn(&Item) -> bool) -> Result<Vec<Disk>, OpsError> {
    let mut disks: Vec<Disk> = Vec::new();
    for (index, item) in items.iter().enumerate().filter(|(_, item)| is_meant(item)) {
        let wanted = match item.swap.target.parent() {
            Some(parent) if item.swap.method == SwapMethod::Rename => parent,
            _ => &item.swap.target,
        };
        let place = wanted.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let device = device(place)?;
        match disks.iter_mut().find(|disk| disk.device == device) {
            Some(disk) => disk.items.push(index),
            None => disks.push(Disk {
                device,
                place: place.to_owned(),
                free: free_bytes(place)?,
                items: vec![index],
            }),
        }
    }
    Ok(disks)
}

/// The file system that a path is on.
pub(super) fn device(path: &Path) -> Result<u64, OpsError> {
    let metadata = fs::metadata(path).map_err(|source| OpsError::Io {
        action: "look for room in",
        path: path.to_owned(),
        source,
    })?;
    Ok(metadata.dev())
}

/// See to it that the new trees have room. Where they have not, and a person allows it, the old trees on that disk are
/// marked to be given up, if that makes room enough; otherwise this is an error.
pub(super) fn plan(items: &mut [Item], may_give_up: bool) -> Result<(), OpsError> {
    for disk in disks(items, |_| true)? {
        let Size { written, bytes_on_disk, .. } = disk.needed(items);
        // Beside the old state a restore that runs out of room has lost nothing, so there the content alone counts.
        let seems_to_fit = written <= disk.free;
        if seems_to_fit && !(may_give_up && bytes_on_disk > disk.free) {
            continue;
        }
        let would_fit = bytes_on_disk <= disk.free_without_old(items)?;
        match (would_fit, may_give_up) {
            (true, true) => disk.items.iter().for_each(|index| items[*index].gives_up = true),
            (false, _) if seems_to_fit => {}
            _ => return Err(disk.refusal(bytes_on_disk, would_fit)),
        }
    }
    Ok(())
}

/// An error when the trees that are given up do not make room enough any more.
pub(super) fn ensure_still_enough(items: &[Item]) -> Result<(), OpsError> {
    for disk in disks(items, |item| item.gives_up)? {
        let needed = disk.needed(items).bytes_on_disk;
        if needed > disk.free_without_old(items)? {
            return Err(disk.refusal(needed, false));
        }
    }
    Ok(())
}

/// What the old tree takes on its disk.
pub(super) fn measure(swap: &SwapPlan) -> Result<SizeOnDisk, OpsError> {
    swap.size_of_old().map_err(|source| OpsError::Io {
        action: "measure",
        path: swap.target.clone(),
        source,
    })
}
