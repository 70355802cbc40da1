//! Walking all trees: each is read once, its children before it is done, so that it is known of each whether anything
//! below it is lost. Only those that lose something are remembered with more than their id.
//!
//! The walk keeps its own stack: a path may be thousands of levels deep.

use super::data::BadBlobs;
use super::files::Packs;
use super::ledger::{Ledger, Number, blob_name, fault};
use super::progress::Progress;
use super::report::{FindingKind, MAX_PATHS};
use crate::model::event::{Cancel, Events};
use crate::model::id::{BlobId, FileId};
use crate::model::node::{NodeKind, display_path};
use crate::repository::blob_index::Location;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::{Permit, Reader, ensure_length};
use crate::repository::{RepositoryError, Snapshot};
use crate::store::{FileKind, FileName};
use std::collections::{BTreeSet, HashMap, HashSet};

/// What the walk has shown.
#[derive(Default)]
pub(super) struct Trees {
    /// Trees that were read.
    pub(super) count: u64,
    /// Bytes of trees that were read.
    pub(super) bytes_read: u64,
    /// Bytes of all distinct blobs that snapshots need.
    pub(super) used_bytes: u64,
    /// The trees that lose something, themselves or below.
    pub(super) lossy: HashMap<BlobId, LossyTree>,
    /// Findings of blobs that no pack holds.
    pub(super) missing_blobs: BTreeSet<Number>,
    /// The finding that an index is missing, and the packs that it should list.
    pub(super) lost_index: Option<Number>,
    /// Packs that no readable index lists, and that snapshots need.
    pub(super) needed_unlisted: HashSet<FileId>,
}

/// What is lost of a tree.
#[derive(Default)]
pub(super) struct LossyTree {
    /// Why the directory itself is lost.
    pub(super) own: Vec<Number>,
    /// Files in it that are lost.
    pub(super) files: Vec<LostFiles>,
    /// Directories in it that lose something.
    pub(super) directories: Vec<(Box<[u8]>, BlobId)>,
}

/// Files of one directory that one finding loses.
pub(super) struct LostFiles {
    /// The finding.
    pub(super) number: Number,
    /// Some of their names.
    pub(super) names: Vec<Box<[u8]>>,
    /// How many they are.
    pub(super) count: u64,
}

impl LossyTree {
    fn is_empty(&self) -> bool {
        self.own.is_empty() && self.files.is_empty() && self.directories.is_empty()
    }

    fn lose_file(&mut self, number: Number, name: &[u8]) {
        let position = self.files.iter().position(|lost| lost.number == number);
        let position = position.unwrap_or_else(|| {
            self.files.push(LostFiles { number, names: Vec::new(), count: 0 });
            self.files.len() - 1
        });
        let lost = &mut self.files[position];
        lost.count += 1;
        if lost.names.len() < MAX_PATHS {
            lost.names.push(name.into());
        }
    }
}

/// A tree whose children are being read.
struct Frame {
    id: BlobId,
    subtrees: Vec<(Box<[u8]>, BlobId)>,
    next: usize,
    lost: LossyTree,
    /// Of a deep chain of large directories all are here at one time.
    permit: Option<Permit>,
}

struct Walk<'a> {
    reader: &'a Reader,
    packs: &'a Packs,
    bad: &'a BadBlobs,
    ledger: &'a mut Ledger,
    cancel: &'a Cancel,
    progress: Progress<'a>,
    /// Trees that were read and lose nothing.
    clean: HashSet<BlobId>,
    /// Data blobs that were met and that nothing is known against.
    clean_data: HashSet<BlobId>,
    /// Those that a finding loses.
    lost_data: HashMap<BlobId, Number>,
    result: Trees,
}

/// Read every tree that a snapshot reaches.
pub(super) fn check(
    reader: &Reader,
    packs: &Packs,
    bad: &BadBlobs,
    snapshots: &[Snapshot],
    ledger: &mut Ledger,
    events: &Events,
    cancel: &Cancel,
) -> Result<Trees, RepositoryError> {
    let mut walk = Walk {
        reader,
        packs,
        bad,
        ledger,
        cancel,
        progress: Progress::new(events, None),
        clean: HashSet::new(),
        clean_data: HashSet::new(),
        lost_data: HashMap::new(),
        result: Trees::default(),
    };
    for snapshot in snapshots {
        walk.descend(snapshot.file.tree)?;
    }
    walk.result.bytes_read = walk.progress.finish();
    Ok(walk.result)
}

impl Walk<'_> {
    fn is_known(&self, id: BlobId) -> bool {
        self.clean.contains(&id) || self.result.lossy.contains_key(&id)
    }

    /// Read a tree and all below it that are not known yet.
    fn descend(&mut self, root: BlobId) -> Result<(), RepositoryError> {
        let mut stack = Vec::new();
        if !self.is_known(root) {
            stack.push(self.enter(root)?);
        }
        while let Some(frame) = stack.last_mut() {
            let Some((name, id)) = frame.subtrees.get_mut(frame.next) else {
                let Frame { id, lost, .. } = stack.pop().expect("the frame was there just now");
                if lost.is_empty() {
                    self.clean.insert(id);
                } else {
                    self.result.lossy.insert(id, lost);
                }
                continue;
            };
            let id = *id;
            if self.is_known(id) {
                if self.result.lossy.contains_key(&id) {
                    frame.lost.directories.push((std::mem::take(name), id));
                }
                frame.next += 1;
            } else {
                // The frame meets the child again, and knows it then. A tree cannot lie below itself: its name is the
                // sum of what it says.
                stack.push(self.enter(id)?);
            }
        }
        Ok(())
    }

    /// Read a tree and judge its files.
    fn enter(&mut self, id: BlobId) -> Result<Frame, RepositoryError> {
        self.cancel.check()?;
        let mut frame =
            Frame { id, subtrees: Vec::new(), next: 0, lost: LossyTree::default(), permit: None };
        let (location, finding) = self.locate(BlobKind::Tree, id);
        frame.lost.own.extend(finding);
        // What is known to be bad is not tried again; only an index that is missing keeps nothing from being read.
        let is_readable = finding.is_none() || finding == self.result.lost_index;
        let Some(location) = location.filter(|_| is_readable) else { return Ok(frame) };
        let length = u64::from(location.blob.length);
        let pack = FileName::Id(FileKind::Pack, location.pack);
        let nodes = ensure_length(&location.blob)
            .map_err(|error| RepositoryError::format(&pack, error))
            .and_then(|()| self.reader.tree(id))
            .and_then(|nodes| {
                let kept = nodes.iter().filter(|node| node.subtree.is_some());
                let bytes = kept.map(TreeNode::memory).sum();
                Ok((nodes, self.reader.reserve(id, bytes)?))
            });
        match nodes {
            Ok((nodes, permit)) => {
                frame.permit = Some(permit);
                self.result.count += 1;
                self.progress.add(length);
                self.judge(nodes, &pack, &mut frame);
            }
            Err(error) => {
                let message = format!("The directory {id} cannot be read: {}.", fault(error)?);
                frame.lost.own.push(self.ledger.damage(
                    FindingKind::Tree,
                    pack.to_string(),
                    message,
                ));
            }
        }
        Ok(frame)
    }

    /// Where a blob is that is met for the first time, and the finding that loses it.
    fn locate(&mut self, kind: BlobKind, id: BlobId) -> (Option<Location>, Option<Number>) {
        let Some(location) = self.reader.index().get(kind, id) else {
            let message = "No pack holds the blob, and snapshots need it.".into();
            let number = self.ledger.damage(FindingKind::Blob, blob_name(kind, id), message);
            self.result.missing_blobs.insert(number);
            return (None, Some(number));
        };
        self.result.used_bytes += u64::from(location.blob.length);
        let bad = self.packs.missing.get(&location.pack);
        let mut finding = bad.or_else(|| self.bad.blobs.get(&(kind, id))).copied();
        if self.packs.unlisted.contains_key(&location.pack) {
            self.result.needed_unlisted.insert(location.pack);
            if self.packs.damaged_indexes.is_empty() {
                let number = *self.result.lost_index.get_or_insert_with(|| {
                    let folder = FileKind::Index.folder();
                    self.ledger.damage(FindingKind::Index, folder, String::new())
                });
                finding = finding.or(Some(number));
            }
        }
        (Some(location), finding)
    }

    fn judge(&mut self, nodes: Vec<TreeNode>, pack: &FileName, frame: &mut Frame) {
        // Of all files of the tree whose size is wrong, one finding is enough.
        let mut wrong_sizes = None;
        for node in nodes {
            if let Some(subtree) = node.subtree {
                frame.subtrees.push((node.node.name.into(), subtree));
                continue;
            }
            let NodeKind::File { size } = node.node.kind else { continue };
            let name = node.node.name.as_slice();
            let mut findings = HashSet::new();
            let mut sum = Some(0_u64);
            for id in &node.content {
                findings.extend(self.data_blob(*id));
                let length = self.reader.index().get(BlobKind::Data, *id);
                sum = sum.zip(length).map(|(sum, found)| sum + found.blob.plaintext_length());
            }
            if let Some(sum) = sum.filter(|sum| *sum != size) {
                let number = *wrong_sizes.get_or_insert_with(|| {
                    let message = format!(
                        "The directory {} says that its file {} has {size} bytes, and its content has {sum}.",
                        frame.id,
                        display_path(name)
                    );
                    self.ledger.damage(FindingKind::Tree, pack.to_string(), message)
                });
                findings.insert(number);
            }
            for number in findings {
                frame.lost.lose_file(number, name);
            }
        }
    }

    /// The finding that loses a data blob.
    fn data_blob(&mut self, id: BlobId) -> Option<Number> {
        if self.clean_data.contains(&id) {
            return None;
        }
        if let Some(number) = self.lost_data.get(&id) {
            return Some(*number);
        }
        let (_, finding) = self.locate(BlobKind::Data, id);
        match finding {
            Some(number) => {
                self.lost_data.insert(id, number);
            }
            None => {
                self.clean_data.insert(id);
            }
        }
        finding
    }
}
