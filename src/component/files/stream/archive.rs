//! An archive from its first byte to its end mark, into a sink.

use super::Linked;
use super::header::{BLOCK, Entry, Records, verify};
use super::sparse::MapReader;
use crate::component::files::walk::{TreeSink, WalkReport};
use crate::model::event::{Cancel, Cancelled};
use crate::model::node::{Node, NodeKind, display_path, is_valid_name};
use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};

/// Bytes asked for at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// More than this belongs to no entry before its content: Linux gives a file a few attributes of 64 KiB at most.
const MOST_RECORDS: u64 = 16 * 1024 * 1024;
/// No file system has longer names.
const MOST_NAME: usize = 1024;

/// What ended the reading.
#[derive(Debug)]
pub(in crate::component::files) enum Fault<E> {
    /// The archive ends too early, or cannot be read on: why it does, its program knows better.
    Ended(String),
    /// It is not the archive of a tree.
    Invalid(String),
    Sink(E),
    Store(io::Error),
    Cancelled(Cancelled),
}

impl<E> From<Cancelled> for Fault<E> {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

type Taken<T, S> = Result<T, Fault<<S as TreeSink>::Error>>;

/// A directory that was entered.
struct Open {
    /// Length of the path that leads to it.
    path_length: usize,
    /// The name of the entry in it that came last.
    last: Vec<u8>,
}

pub(in crate::component::files) struct Archive<'a, R, S> {
    input: BufReader<R>,
    name: &'a [u8],
    links: &'a HashMap<Vec<u8>, Linked>,
    cancel: &'a Cancel,
    sink: &'a mut S,
    progress: &'a mut dyn FnMut(u64, u64),
    open: Vec<Open>,
    /// The path below the root of the directory that was entered last.
    here: Vec<u8>,
    report: WalkReport,
}

impl<'a, R: Read, S: TreeSink> Archive<'a, R, S> {
    pub(in crate::component::files) fn new(
        input: R,
        name: &'a [u8],
        links: &'a HashMap<Vec<u8>, Linked>,
        cancel: &'a Cancel,
        sink: &'a mut S,
        progress: &'a mut dyn FnMut(u64, u64),
    ) -> Self {
        let input = BufReader::with_capacity(BUFFER_BYTES, input);
        let (open, here, report) = (Vec::new(), Vec::new(), WalkReport::default());
        Self { input, name, links, cancel, sink, progress, open, here, report }
    }

    pub(in crate::component::files) fn read(mut self) -> Taken<WalkReport, S> {
        loop {
            self.cancel.check()?;
            let block = self.block()?;
            if block == [0; BLOCK] {
                break;
            }
            let header = verify(&block)?;
            let is_records = header.entry_type().is_pax_local_extensions();
            if !is_records {
                self.entry(Records::default().entry(header)?)?;
                continue;
            }
            let size = header.entry_size().unwrap_or(u64::MAX);
            if size > MOST_RECORDS {
                return Err(Fault::Invalid(format!(
                    "the records before an entry have {size} bytes, and {MOST_RECORDS} are the most"
                )));
            }
            let mut text = Vec::new();
            let mut content = Content { input: &mut self.input, cancel: self.cancel, left: size };
            content.take(size, |part| {
                text.extend_from_slice(part);
                Ok(())
            })?;
            fill_up(&mut self.input, size)?;
            let records = Records::parse(&text)?;
            let block = self.block()?;
            self.entry(records.entry(verify(&block)?)?)?;
        }
        self.end()?;
        while self.open.pop().is_some() {
            self.sink.leave().map_err(Fault::Sink)?;
        }
        if self.report.directories == 0 {
            return Err(Fault::Invalid("it has no entries".into()));
        }
        Ok(self.report)
    }

    /// The second half of the end mark, and nothing behind it but zeros that fill up.
    fn end(&mut self) -> Taken<(), S> {
        if self.block()? != [0; BLOCK] {
            return Err(Fault::Invalid("its end mark is broken".into()));
        }
        loop {
            self.cancel.check()?;
            let part = self.input.fill_buf().map_err(|error| Fault::Ended(error.to_string()))?;
            if part.is_empty() {
                return Ok(());
            }
            if part.iter().any(|byte| *byte != 0) {
                return Err(Fault::Invalid("something follows its end mark".into()));
            }
            let length = part.len();
            self.input.consume(length);
        }
    }

    fn block(&mut self) -> Taken<[u8; BLOCK], S> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(|error| ended(&error))?;
        Ok(block)
    }

    fn entry(&mut self, entry: Entry) -> Taken<(), S> {
        let is_directory = entry.kind == NodeKind::Directory;
        let (path, name) = self.place(&entry.path, is_directory)?;
        let linked = self.links.get(&path).filter(|_| matches!(entry.kind, NodeKind::File { .. }));
        let node = Node {
            name,
            kind: entry.kind,
            mode: entry.mode,
            mtime: entry.mtime,
            ctime: entry.ctime,
            uid: entry.uid,
            gid: entry.gid,
            user: String::new(),
            group: String::new(),
            inode: linked.map_or(0, |linked| linked.inode),
            device_id: linked.map_or(0, |linked| linked.device),
            links: linked.map_or(1, |linked| linked.names),
            extended_attributes: entry.attributes,
        };
        match &node.kind {
            NodeKind::Directory => {
                self.report.directories += 1;
                self.sink.enter(&node).map_err(Fault::Sink)?;
                self.open.push(Open { path_length: path.len(), last: Vec::new() });
                self.here = path;
                Ok(())
            }
            NodeKind::File { size } => self.file(&node, *size, entry.stored, entry.is_sparse),
            kind => {
                let is_link = matches!(kind, NodeKind::Symlink { .. });
                let report = &mut self.report;
                *(if is_link { &mut report.symlinks } else { &mut report.others }) += 1;
                self.sink.leaf(&node).map_err(Fault::Sink)
            }
        }
    }

    /// Leave what has ended before an entry; returns its path below the root, and its name. It has to come behind the entry
    /// before it, in a directory that came before.
    fn place(&mut self, written: &[u8], is_directory: bool) -> Taken<(Vec<u8>, Vec<u8>), S> {
        let wrong =
            |what: &str| Fault::Invalid(format!("the entry {} {what}", display_path(written)));
        if self.open.is_empty() {
            let is_root = written == b"./" && is_directory;
            let root = (Vec::new(), self.name.to_vec());
            return if is_root { Ok(root) } else { Err(wrong("is the first, and not the root")) };
        }
        let outside = || wrong("has no path below the root");
        let path = written.strip_prefix(b"./").ok_or_else(outside)?;
        let path = if is_directory { path.strip_suffix(b"/").ok_or_else(outside)? } else { path };
        if !path.split(|byte| *byte == b'/').all(is_valid_name) {
            return Err(outside());
        }
        let (parent, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&path[..0], path),
        };
        if name.len() > MOST_NAME {
            return Err(Fault::Invalid(format!("a name has {} bytes", name.len())));
        }
        while !is_at_or_in(parent, &self.here) {
            self.sink.leave().map_err(Fault::Sink)?;
            self.open.pop();
            let length = self.open.last().map_or(0, |open| open.path_length);
            self.here.truncate(length);
        }
        if self.here != parent {
            return Err(wrong("comes before its directory, or after its end"));
        }
        let Some(open) = self.open.last_mut() else { return Err(outside()) };
        if open.last.as_slice() >= name {
            return Err(wrong("is not in the order of names, or comes twice"));
        }
        name.clone_into(&mut open.last);
        Ok((path.to_vec(), name.to_vec()))
    }

    fn file(&mut self, node: &Node, size: u64, stored: u64, is_sparse: bool) -> Taken<(), S> {
        let mut file = self.sink.begin_file().map_err(Fault::Sink)?;
        let (before, files) = (self.report.bytes, self.report.files);
        let mut content = Content { input: &mut self.input, cancel: self.cancel, left: stored };
        let mut done = 0;
        let mut take = |part: &[u8]| {
            deliver(&mut file, part)?;
            done += part.len() as u64;
            (self.progress)(before + done, files);
            Ok(())
        };
        if is_sparse {
            content.pieces(size, stored, &mut take).map_err(|fault| match fault {
                Fault::Invalid(reason) => {
                    let name = display_path(&node.name);
                    Fault::Invalid(format!("the map of the file {name} is wrong: {reason}"))
                }
                other => other,
            })?;
        } else {
            content.take(stored, &mut take)?;
        }
        fill_up(&mut self.input, stored)?;
        self.report.files += 1;
        self.report.bytes += size;
        (self.progress)(self.report.bytes, self.report.files);
        self.sink.end_file(file, node).map_err(Fault::Sink)
    }
}

/// What is left of an entry's content.
struct Content<'a, R> {
    input: &'a mut BufReader<R>,
    cancel: &'a Cancel,
    left: u64,
}

impl<R: Read> Content<'_, R> {
    /// Hand on so many bytes of it.
    fn take<E>(
        &mut self,
        mut length: u64,
        mut see: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
    ) -> Result<(), Fault<E>> {
        if length > self.left {
            return Err(Fault::Invalid("it is shorter than it says".into()));
        }
        self.left -= length;
        while length > 0 {
            self.cancel.check()?;
            let part = self.input.fill_buf().map_err(|error| ended(&error))?;
            if part.is_empty() {
                return Err(ended(&io::ErrorKind::UnexpectedEof.into()));
            }
            let now = part.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            see(&part[..now])?;
            self.input.consume(now);
            length -= now as u64;
        }
        Ok(())
    }

    /// Hand on a file of this size that has holes, zeros and all.
    fn pieces<E>(
        &mut self,
        size: u64,
        stored: u64,
        mut see: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
    ) -> Result<(), Fault<E>> {
        let mut map = MapReader::default();
        let mut is_complete = false;
        while !is_complete {
            self.take(1, |byte| {
                is_complete = map.take(byte[0]).map_err(|what| Fault::Invalid(what.into()))?;
                Ok(())
            })?;
        }
        self.take(filling(stored - self.left), |_| Ok(()))?;
        if !map.fits(size, self.left) {
            return Err(Fault::Invalid("its pieces are not those of such a file".into()));
        }
        let mut at = 0;
        for (offset, length) in map.pieces {
            self.zeros(offset - at, &mut see)?;
            self.take(length, &mut see)?;
            at = offset + length;
        }
        self.zeros(size - at, &mut see)
    }

    fn zeros<E>(
        &self,
        mut length: u64,
        mut see: impl FnMut(&[u8]) -> Result<(), Fault<E>>,
    ) -> Result<(), Fault<E>> {
        static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
        while length > 0 {
            self.cancel.check()?;
            let now = length.min(ZEROS.len() as u64);
            see(&ZEROS[..now as usize])?;
            length -= now;
        }
        Ok(())
    }
}

/// How many bytes fill up the last block of so many.
fn filling(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn fill_up<E>(input: &mut impl Read, size: u64) -> Result<(), Fault<E>> {
    let fill = filling(size) as usize;
    input.read_exact(&mut [0; BLOCK][..fill]).map_err(|error| ended(&error))
}

fn ended<E>(error: &io::Error) -> Fault<E> {
    Fault::Ended(match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends too early".into(),
        _ => error.to_string(),
    })
}

/// Whether a path is that of a directory, or of something below it. The root's is empty.
fn is_at_or_in(path: &[u8], directory: &[u8]) -> bool {
    let rest = path.strip_prefix(directory);
    directory.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

fn deliver<E: std::error::Error + Send + Sync + 'static>(
    file: &mut impl Write,
    bytes: &[u8],
) -> Result<(), Fault<E>> {
    file.write_all(bytes).map_err(|error| match error.downcast::<E>() {
        Ok(error) => Fault::Sink(error),
        Err(source) => Fault::Store(source),
    })
}
