//! Export: one snapshot as one file for a host that has neither the repository nor its password: a `.tar.zst` with all that is in
//! the snapshot, and `SHA256SUMS` of it at its end.
//!
//! `tar --zstd -x` unpacks it, `belay import` makes a snapshot of it again. It is plain text: whoever has the file has the keys.

mod tape;

use self::tape::Tape;
use super::restore::{Linked, Open, Source, at, places};
use super::session::Session;
use super::{Context, OpsError, SnapshotRef};
use crate::config::Config;
use crate::model::event::{Cancel, Event};
use crate::model::id::SnapshotId;
use crate::model::node::{NodeKind, display_path};
use crate::repository::RepositoryError;
use crate::repository::reader::Reader;
use jiff::Timestamp;
use serde::Serialize;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// The list of sums, the last entry.
pub(super) const SUMS: &str = "SHA256SUMS";
/// What the manifest is called, the first entry.
pub(super) const MANIFEST: &str = "manifest.json";
/// zstd's own default: faster than a disk.
const LEVEL: i32 = 3;
/// Progress is told no more often.
const PAUSE: Duration = Duration::from_millis(200);

/// A snapshot that was exported.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// When it was taken.
    pub time: Timestamp,
    /// Files, directories and other entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// What a person should know.
    pub warnings: Vec<String>,
}

/// Export into a file, which is there wholly or not at all, and for its owner alone.
pub fn to_file(
    (session, config): (&Session, Option<&Config>),
    snapshot: &SnapshotRef,
    file: &Path,
    force: bool,
    context: &Context,
) -> Result<Exported, OpsError> {
    let failed = |action| move |source| OpsError::Io { action, path: file.to_owned(), source };
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    places::ensure_free(parent, session, config)?;
    if !force && file.symlink_metadata().is_ok() {
        return Err(OpsError::refused(
            format!("{} exists, and is not overwritten", file.display()),
            "choose another name, or add --force",
        ));
    }
    let builder = tempfile::Builder::new().prefix(".belay-export-").tempfile_in(parent);
    let mut made = builder.map_err(failed("create a file beside"))?;
    let exported = to_writer(session, snapshot, made.as_file_mut(), context)?;
    made.as_file().sync_all().map_err(failed("write"))?;
    let placed = if force { made.persist(file) } else { made.persist_noclobber(file) };
    placed.map_err(|error| failed("write")(error.error))?;
    File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed("write"))?;
    Ok(exported)
}

/// Export into a stream.
pub fn to_writer(
    session: &Session,
    snapshot: &SnapshotRef,
    output: &mut dyn Write,
    context: &Context,
) -> Result<Exported, OpsError> {
    let source = Source::open(session, snapshot, context)?;
    if source.manifest.is_none() {
        return Err(OpsError::usage(
            format!("snapshot {} has no manifest that can be read", source.snapshot.id.short()),
            "one of another program comes out with `restic dump`; `belay check` tells what is damaged",
        ));
    }
    context.events.phase("exporting", source.snapshot.id.short());
    let counted = Counted { output, bytes: 0 };
    let mut packed = zstd::stream::write::Encoder::new(counted, LEVEL).map_err(unwritten)?;
    packed.include_checksum(true).map_err(unwritten)?;
    // Where there is another processor, it packs while this one reads.
    packed.multithread(1).map_err(unwritten)?;
    let mut export = Export {
        reader: &source.reader,
        tape: Tape::new(packed).map_err(unwritten)?,
        links: HashMap::new(),
        context,
        told: Instant::now(),
        entries: 0,
        bytes: 0,
        sockets: 0,
    };
    export.tree(&source)?;
    let Export { tape, entries, bytes, sockets, .. } = export;
    let packed = tape.finish(source.snapshot.file.time).map_err(unwritten)?;
    let mut counted = packed.finish().map_err(unwritten)?;
    counted.flush().map_err(unwritten)?;
    if sockets > 0 {
        let note = format!(
            "Sockets left out: {sockets}. The programs that listen on them make them anew."
        );
        context.events.note(note);
    }
    let Source { snapshot, reader, .. } = &source;
    let damaged = reader.index().damaged.len();
    let warnings =
        (damaged > 0).then(|| format!("{damaged} indexes of the repository cannot be read"));
    Ok(Exported {
        snapshot: snapshot.id,
        time: snapshot.file.time,
        entries,
        bytes,
        file_bytes: counted.bytes,
        warnings: warnings.into_iter().collect(),
    })
}

/// Failures of whoever takes the export; those of the repository come back as what they are.
fn unwritten(error: io::Error) -> OpsError {
    match error.downcast::<RepositoryError>() {
        Ok(error) => error.into(),
        Err(source) => OpsError::Io { action: "write", path: "the export".into(), source },
    }
}

struct Counted<'a> {
    output: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.output.write(bytes)?;
        self.bytes += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// A file's content, until somebody asks to stop.
struct Reading<'a, R> {
    inner: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Reading<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let asked = self.cancel.check();
        asked.map_err(|cancelled| io::Error::other(RepositoryError::from(cancelled)))?;
        self.inner.read(buffer)
    }
}

struct Export<'a, W: Write> {
    reader: &'a Reader,
    tape: Tape<W>,
    /// The first path of each file that has several.
    links: HashMap<Linked, Vec<u8>>,
    context: &'a Context,
    told: Instant,
    entries: u64,
    bytes: u64,
    sockets: u64,
}

impl<W: Write> Export<'_, W> {
    fn tree(&mut self, source: &Source) -> Result<(), OpsError> {
        let mut roots = self.reader.tree(source.snapshot.file.tree)?;
        // First, so that whoever reads the stream knows what comes.
        roots.sort_by_key(|node| node.node.name != MANIFEST.as_bytes());
        let mut open = vec![Open { path: Vec::new(), nodes: roots.into() }];
        while let Some(directory) = open.last_mut() {
            self.context.cancel.check()?;
            let Some(node) = directory.nodes.next() else {
                open.pop();
                continue;
            };
            let mut path = directory.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(&node.node.name);
            self.tell();
            self.entries += 1;
            match (&node.node.kind, node.subtree) {
                (NodeKind::Directory, Some(subtree)) => {
                    self.tape.entry(&path, &node.node).map_err(unwritten)?;
                    let nodes = self.reader.open_tree(subtree, path.len())?;
                    open.push(Open { path, nodes });
                }
                (NodeKind::File { size }, _) => {
                    self.bytes += size;
                    let linked = Linked::of(&node);
                    let first = linked.as_ref().and_then(|linked| self.links.get(linked));
                    if let Some(first) = first {
                        self.tape.link(&path, &node.node, first).map_err(unwritten)?;
                        continue;
                    }
                    let cancel = &self.context.cancel;
                    let content = Reading { inner: self.reader.stream(&node), cancel };
                    let written = self.tape.file(&path, &node.node, *size, content);
                    written.map_err(|error| match unwritten(error) {
                        OpsError::Repository(error) => {
                            at(&format!("/{}", display_path(&path)), error)
                        }
                        other => other,
                    })?;
                    if let Some(linked) = linked {
                        self.links.insert(linked, path);
                    }
                }
                (NodeKind::Socket, _) => self.sockets += 1,
                _ => self.tape.entry(&path, &node.node).map_err(unwritten)?,
            }
        }
        Ok(())
    }

    fn tell(&mut self) {
        if self.told.elapsed() >= PAUSE {
            self.told = Instant::now();
            let (bytes, items) = (self.bytes, self.entries);
            self.context.events.send(Event::Progress { bytes, total_bytes: None, items });
        }
    }
}
