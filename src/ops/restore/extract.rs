//! Writing a snapshot's entries below a directory: directories and links by one thread, files' content by several.

use super::selection::{Part, Selection};
use super::survey::{Linked, Open, at, ensure_length};
use crate::component::files::create::{CreateReport, CreatedFile, TreeCreator};
use crate::model::event::Event;
use crate::model::id::BlobId;
use crate::model::node::{Node, NodeKind};
use crate::ops::{Context, OpsError};
use crate::repository::RepositoryError;
use crate::repository::format::pack::BlobKind;
use crate::repository::format::tree::TreeNode;
use crate::repository::reader::Reader;
use serde::Serialize;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Threads that fetch and write: more than cores, since they wait for the disk half of the time.
const WORKERS: usize = 4;
/// Pieces that wait for a worker; this bounds the open files, too.
const WAITING: usize = 64;
/// Blobs in a piece: a large file is written by several workers at once.
const PIECE_BLOBS: usize = 8;

/// What was written.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Extracted {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Links, pipes and devices.
    pub others: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// What could not be brought back as it was, such as owners when not root.
    pub warnings: Vec<String>,
}

impl Extracted {
    /// Add what another part wrote.
    pub(super) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.directories += other.directories;
        self.others += other.others;
        self.bytes += other.bytes;
        self.warnings.extend(other.warnings);
    }
}

/// A piece of a file: consecutive blobs, and where the first of them goes.
struct Piece {
    file: Arc<OpenFile>,
    blobs: Vec<BlobId>,
    offset: u64,
}

/// A file that is finished by whoever writes its last piece.
struct OpenFile {
    created: CreatedFile,
    node: Node,
    path: String,
    pieces_left: AtomicU64,
}

/// What the threads share.
struct Shared<'a> {
    reader: &'a Reader,
    context: &'a Context,
    failed: AtomicBool,
    failure: Mutex<Option<OpsError>>,
    bytes: AtomicU64,
    files: AtomicU64,
    total_bytes: u64,
    told: Mutex<Instant>,
}

/// Write the selected entries below the creator's directory.
pub(super) fn extract(
    reader: &Reader,
    roots: Vec<TreeNode>,
    selection: &Selection,
    mut creator: TreeCreator,
    total_bytes: u64,
    context: &Context,
) -> Result<Extracted, OpsError> {
    let shared = Shared {
        reader,
        context,
        failed: AtomicBool::new(false),
        failure: Mutex::default(),
        bytes: AtomicU64::new(0),
        files: AtomicU64::new(0),
        total_bytes,
        told: Mutex::new(Instant::now()),
    };
    let (sender, receiver) = sync_channel(WAITING);
    let receiver = Mutex::new(receiver);
    let walked = std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| shared.work(&receiver));
        }
        let walked = walk(&shared, roots, selection, &mut creator, &sender);
        drop(sender);
        walked
    });
    if let Some(error) = shared.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let (directories, others) = walked?;
    context.cancel.check()?;
    let report: CreateReport = creator.finish()?;
    if report.sockets_left_out > 0 {
        context.events.note(format!(
            "Sockets left out: {}. The programs that listen on them make them anew.",
            report.sockets_left_out
        ));
    }
    let (files, bytes) = (shared.files.into_inner(), shared.bytes.into_inner());
    Ok(Extracted { files, directories, others, bytes, warnings: report.warnings })
}

/// Create everything but the files' content; returns how many directories and other entries there were.
fn walk(
    shared: &Shared<'_>,
    roots: Vec<TreeNode>,
    selection: &Selection,
    creator: &mut TreeCreator,
    pieces: &SyncSender<Piece>,
) -> Result<(u64, u64), OpsError> {
    let (mut directories, mut others) = (0, 0);
    let mut links: HashMap<Linked, Vec<u8>> = HashMap::new();
    let mut open = vec![Open { path: Vec::new(), nodes: roots.into() }];
    while let Some(directory) = open.last_mut() {
        shared.check()?;
        let Some(node) = directory.nodes.next() else {
            open.pop();
            if !open.is_empty() {
                creator.leave()?;
            }
            continue;
        };
        let path = [directory.path.as_slice(), b"/", &node.node.name].concat();
        let part = selection.part(&path);
        if part == Part::None {
            continue;
        }
        match (&node.node.kind, node.subtree) {
            (NodeKind::Directory, Some(subtree)) => {
                creator.enter(&node.node)?;
                directories += 1;
                let nodes = shared.reader.open_tree(subtree, path.len())?;
                open.push(Open { path, nodes });
            }
            (NodeKind::File { size }, _) if part == Part::Whole => {
                if let Some(linked) = Linked::of(&node) {
                    match links.entry(linked) {
                        Entry::Occupied(first) => {
                            creator.hard_link(first.get(), &node.node)?;
                            shared.files.fetch_add(1, Ordering::Relaxed);
                            shared.bytes.fetch_add(*size, Ordering::Relaxed);
                            continue;
                        }
                        Entry::Vacant(place) => {
                            place.insert(path[1..].to_vec());
                        }
                    }
                }
                begin_file(shared, creator, &node, pieces)?;
            }
            _ if part == Part::Whole => {
                creator.leaf(&node.node)?;
                others += 1;
            }
            _ => {}
        }
    }
    Ok((directories, others))
}

fn begin_file(
    shared: &Shared<'_>,
    creator: &mut TreeCreator,
    node: &TreeNode,
    pieces: &SyncSender<Piece>,
) -> Result<(), OpsError> {
    let mut offset = 0_u64;
    let mut offsets = Vec::with_capacity(node.content.len() / PIECE_BLOBS + 1);
    for (index, id) in node.content.iter().enumerate() {
        if index % PIECE_BLOBS == 0 {
            offsets.push(offset);
        }
        offset = offset
            .saturating_add(shared.reader.locate(BlobKind::Data, *id)?.blob.plaintext_length());
    }
    let path = creator.shown(&node.node.name);
    // Its place in the snapshot, where it is not one on this machine.
    let path = if path.starts_with('/') { path } else { format!("/{path}") };
    ensure_length(&node.node, offset, || path.clone())?;
    let created = creator.create_file(&node.node)?;
    let pieces_left = AtomicU64::new(offsets.len() as u64);
    let file = Arc::new(OpenFile { created, node: node.node.clone(), path, pieces_left });
    if offsets.is_empty() {
        return shared.finish(&file);
    }
    for (blobs, offset) in node.content.chunks(PIECE_BLOBS).zip(offsets) {
        let piece = Piece { file: Arc::clone(&file), blobs: blobs.to_vec(), offset };
        if pieces.send(piece).is_err() {
            return shared.check();
        }
    }
    Ok(())
}

impl Shared<'_> {
    /// An error once the restore was cancelled or failed; the failure itself is kept aside.
    fn check(&self) -> Result<(), OpsError> {
        self.context.cancel.check()?;
        if self.failed.load(Ordering::SeqCst) {
            return Err(RepositoryError::Internal("the restore failed already".into()).into());
        }
        Ok(())
    }

    fn work(&self, pieces: &Mutex<Receiver<Piece>>) {
        loop {
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(piece) = next else { return };
            // After a failure pieces are only taken away, so that the walk is not left waiting.
            if self.check().is_ok()
                && let Err(error) = self.write(&piece)
            {
                self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                self.failed.store(true, Ordering::SeqCst);
            }
        }
    }

    fn write(&self, Piece { file, blobs, offset }: &Piece) -> Result<(), OpsError> {
        let mut offset = *offset;
        for id in blobs {
            self.context.cancel.check()?;
            let bytes =
                self.reader.blob(BlobKind::Data, *id).map_err(|error| at(&file.path, error))?;
            file.created.write_at(offset, &bytes)?;
            offset += bytes.len() as u64;
            self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            self.tell();
        }
        if file.pieces_left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.finish(file)
        } else {
            Ok(())
        }
    }

    fn finish(&self, file: &OpenFile) -> Result<(), OpsError> {
        file.created.finish(&file.node)?;
        self.files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn tell(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() < Duration::from_millis(200) {
            return;
        }
        *told = Instant::now();
        self.context.events.send(Event::Progress {
            bytes: self.bytes.load(Ordering::Relaxed),
            total_bytes: Some(self.total_bytes),
            items: self.files.load(Ordering::Relaxed),
        });
    }
}
