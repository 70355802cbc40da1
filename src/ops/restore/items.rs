//! What a restore in place puts where: each tree of the snapshot with the path that it replaces.

use super::interrupted::Unfinished;
use super::journal::{Step, tag};
use super::places;
use super::selection::Selection;
use super::survey::Size;
use super::{Source, Wanted};
use crate::component::files::create::TreeCreator;
use crate::component::files::swap::{self, SwapMethod, SwapPlan};
use crate::config::{Config, FilesRoot, Instance};
use crate::model::exact_path::ExactPath;
use crate::model::id::JobId;
use crate::model::manifest::Manifest;
use crate::model::node::{Node, display_path};
use crate::ops::OpsError;
use crate::ops::session::Session;
use crate::ops::show::path_components;
use crate::repository::format::tree::TreeNode;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One path to replace, with the tree that replaces it.
pub(super) struct Item {
    pub(super) node: TreeNode,
    /// Its place in the snapshot.
    pub(super) from: ExactPath,
    pub(super) swap: SwapPlan,
    /// Something is there now.
    pub(super) exists: bool,
    /// The old state is in a snapshot, or may be lost.
    pub(super) removes_aside: bool,
    /// The old state is deleted before the new tree is made, since there is no room for both.
    pub(super) gives_up: bool,
    /// How much the new tree is.
    pub(super) size: Size,
    /// Device and inode of the directory that holds what is replaced, as it was planned; none where there is none yet.
    place: Option<(u64, u64)>,
    /// The directories that lead there from the component's root, with what the snapshot says of each.
    way: Vec<(PathBuf, Node)>,
}

impl Item {
    pub(super) fn step(&self) -> Step {
        Step { swap: self.swap.clone(), removes_aside: self.removes_aside, gives_up: self.gives_up }
    }

    /// An error when the way to what is replaced leads elsewhere than it did: hours may have passed since, and whoever
    /// owns the directories may have put a link there.
    pub(super) fn ensure_same_place(&self) -> Result<(), OpsError> {
        if self.place.is_none() || self.place == place_of(&self.swap.target) {
            return Ok(());
        }
        Err(OpsError::refused(
            format!(
                "the directory of {} was moved or replaced since the restore was planned",
                self.swap.target.display()
            ),
            "find out by whom, and run the restore again",
        ))
    }

    /// Make the directory in which the new tree is made. Directories on the way that are gone come back as they were;
    /// returns in what they do not.
    pub(super) fn prepare(&self) -> Result<Vec<String>, OpsError> {
        let mut warnings = Vec::new();
        let is_missing = |(path, _): &&(PathBuf, Node)| !path.exists();
        let missing: Vec<_> = self.way.iter().filter(is_missing).collect();
        if let (SwapMethod::Rename, Some((outermost, _))) = (self.swap.method, missing.first()) {
            let parent = outermost.parent().unwrap_or(outermost);
            fs::create_dir_all(parent).map_err(|source| OpsError::Io {
                action: "create",
                path: parent.to_owned(),
                source,
            })?;
            let mut creator = TreeCreator::open(parent)?;
            for (_, node) in missing {
                creator.enter(node)?;
            }
            warnings = creator.finish()?.warnings;
        }
        self.swap.prepare()?;
        Ok(warnings)
    }
}

/// The trees that are wanted, each with the path that it replaces. What an earlier restore has given up may be missing.
pub(super) fn find(
    (source, manifest): (&Source, &Manifest),
    (config, session): (&Config, &Session),
    instance: &Instance,
    wanted: &Wanted,
    unfinished: &[Unfinished],
    job: JobId,
) -> Result<Vec<Item>, OpsError> {
    let selection = Selection::new(wanted, Some(manifest))?;
    let mut items: Vec<Item> = Vec::new();
    let roots = selection.roots(manifest);
    // Also those that another one brings along: none is passed over.
    for path in &roots {
        if find_nodes(source, &path_components(path))?.is_none() {
            return Err(not_there(&display_path(path)));
        }
    }
    for path in outermost(roots) {
        let item = find_one(source, instance, &path, unfinished, &tag(job, items.len()))?;
        places::ensure_not_own(&item.swap.target, session, config)?;
        ensure_apart(&items, &item)?;
        items.push(item);
    }
    let is_covered =
        |missing: &PathBuf| items.iter().any(|item| missing.starts_with(&item.swap.target));
    match unfinished.iter().find(|unfinished| !unfinished.targets.iter().all(is_covered)) {
        Some(unfinished) => Err(unfinished.refusal()),
        None => Ok(items),
    }
}

/// Paths in the snapshot without those that lie in another one, which brings them along.
fn outermost(paths: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for path in paths {
        let is_in = |inner: &[u8], outer: &[u8]| {
            path_components(inner).starts_with(path_components(outer).as_slice())
        };
        if !kept.iter().any(|other| is_in(&path, other)) {
            kept.retain(|other| !is_in(other, &path));
            kept.push(path);
        }
    }
    kept
}

/// Through links two directories may be one, or one in the other.
fn ensure_apart(items: &[Item], item: &Item) -> Result<(), OpsError> {
    let target = &item.swap.target;
    let overlaps = |other: &&Item| {
        other.swap.target.starts_with(target) || target.starts_with(&other.swap.target)
    };
    let Some(other) = items.iter().find(overlaps) else { return Ok(()) };
    Err(OpsError::refused(
        format!(
            "{} and {} overlap: both cannot be replaced in one restore",
            other.swap.target.display(),
            target.display()
        ),
        "restore one after the other, with --path or --component",
    ))
}

fn find_one(
    source: &Source,
    instance: &Instance,
    path: &[u8],
    unfinished: &[Unfinished],
    tag: &str,
) -> Result<Item, OpsError> {
    let parts = path_components(path);
    let shown = display_path(path);
    let [b"files", name, rest @ ..] = parts.as_slice() else {
        return Err(OpsError::usage(
            format!("'{shown}' does not belong to a component of the instance"),
            "restore it into a directory with --to-dir",
        ));
    };
    let root = find_root(instance, name)?;
    let mut nodes = find_nodes(source, &parts)?.ok_or_else(|| not_there(&shown))?;
    let mut target =
        rest.iter().fold(root.path.clone(), |path, part| path.join(OsStr::from_bytes(part)));
    if !rest.is_empty() {
        ensure_no_link(&root.path, &target)?;
    }
    // A link that leads to what was given up is not one to a file system that is not mounted.
    let leads_to = places::resolved(&target);
    if unfinished.iter().any(|unfinished| unfinished.targets.contains(&leads_to)) {
        target = leads_to;
    }
    let swap = swap::plan(&target, tag)?;
    let exists = !swap.is_nothing_there()?;
    let Some(node) = nodes.pop() else {
        return Err(OpsError::usage(
            format!("'{shown}' is not in the snapshot"),
            "name a component",
        ));
    };
    // Without `/files`, which is no directory of the instance's.
    let way = nodes.into_iter().skip(1).enumerate().map(|(depth, TreeNode { mut node, .. })| {
        let names = &rest[..depth];
        let path =
            names.iter().fold(root.path.clone(), |path, name| path.join(OsStr::from_bytes(name)));
        node.name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        (path, node)
    });
    let way = way.collect();
    let place = place_of(&swap.target);
    let from = ExactPath::of_bytes("from", path);
    let (size, removes_aside, gives_up) = (Size::default(), false, false);
    Ok(Item { node, from, swap, exists, removes_aside, gives_up, size, place, way })
}

fn not_there(path: &str) -> OpsError {
    OpsError::usage(format!("'{path}' is not in the snapshot"), "`belay ls SNAPSHOT` shows what is")
}

fn place_of(target: &Path) -> Option<(u64, u64)> {
    let directory = fs::metadata(target.parent()?).ok()?;
    Some((directory.dev(), directory.ino()))
}

fn find_root<'a>(instance: &'a Instance, name: &[u8]) -> Result<&'a FilesRoot, OpsError> {
    let found = instance.paths.iter().find(|root| root.name.as_str().as_bytes() == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = instance.paths.iter().map(|root| root.name.as_str()).collect();
        OpsError::usage(
            format!(
                "the instance '{}' has no component '{}' to restore into",
                instance.name,
                display_path(name)
            ),
            format!(
                "it has: {}; choose with --component, or restore with --to-dir",
                known.join(", ")
            ),
        )
    })
}

/// An error when the way from a component's root to a path below it goes through a symbolic link: what it leads to may
/// be anywhere, and is no part of the instance.
pub(super) fn ensure_no_link(root: &Path, target: &Path) -> Result<(), OpsError> {
    let below = target.strip_prefix(root).unwrap_or(target);
    let mut way = root.to_owned();
    for part in below.components() {
        way.push(part);
        if way.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink()) {
            return Err(OpsError::refused(
                format!(
                    "{} is a symbolic link now, and a restore does not follow it",
                    way.display()
                ),
                "restore the whole component, or restore into a directory with --to-dir",
            ));
        }
    }
    Ok(())
}

/// The entry at a path, and before it those that lead there.
pub(super) fn find_nodes(
    source: &Source,
    parts: &[&[u8]],
) -> Result<Option<Vec<TreeNode>>, OpsError> {
    let mut tree = Some(source.snapshot.file.tree);
    let mut nodes = Vec::new();
    for part in parts {
        let Some(id) = tree else { return Ok(None) };
        let found = source.reader.tree(id)?.into_iter().find(|node| node.node.name == *part);
        let Some(node) = found else { return Ok(None) };
        tree = node.subtree;
        nodes.push(node);
    }
    Ok(Some(nodes))
}

#[cfg(test)]
mod tests {
    #[test]
    fn of_paths_that_lie_in_each_other_the_outer_ones_remain() {
        let outermost = |paths: &[&str]| {
            let kept =
                super::outermost(paths.iter().map(|path| path.as_bytes().to_vec()).collect());
            kept.into_iter().map(|path| String::from_utf8(path).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(outermost(&["/files/a/b", "/files/a", "/files/ab"]), ["/files/a", "/files/ab"]);
        assert_eq!(outermost(&["/files/a", "files/a/", "/files/a/b"]), ["/files/a"]);
        assert_eq!(outermost(&["/files/a/x", "/files/a/y"]), ["/files/a/x", "/files/a/y"]);
    }
}
