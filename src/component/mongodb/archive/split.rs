//! Taking an archive apart: each namespace's documents go to a place of its own, and are checked on the way.

use super::error::{ArchiveError, Place, display_namespace};
use super::fields::Fields;
use super::prelude::{Kind, Namespace, Prelude};
use crate::component::mongodb::document::DocumentReader;
use crc64fast::Digest;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::mem;

/// What came of one namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// How many documents.
    pub documents: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// CRC-64/XZ over them.
    pub sum: u64,
}

/// What a whole archive held.
#[derive(Debug)]
pub struct ArchiveSummary {
    /// The versions and namespaces.
    pub prelude: Prelude,
    /// What came of each namespace, in the prelude's order.
    pub contents: Vec<Contents>,
    /// The archive's size.
    pub size_bytes: u64,
}

/// Who takes what an archive holds. What it was given counts only when [`split`] returns a summary.
pub trait Sink {
    /// Takes the documents of one namespace, one after the other, and one write for each.
    type Output: Write;

    /// The prelude was read. Metadata are all here; documents follow.
    fn begin(&mut self, prelude: &Prelude) -> io::Result<()>;

    /// The first block of a namespace that is no view has come. Up to
    /// [`concurrent_collections`](super::Versions::concurrent_collections) are open at once, if the archive was
    /// written by an honest `mongodump`, and all at once otherwise.
    fn open(&mut self, namespace: &Namespace) -> io::Result<Self::Output>;

    /// The namespace has ended, and its documents have the sum that they should. There is an output of all but views.
    fn end(
        &mut self,
        namespace: &Namespace,
        contents: Contents,
        output: Option<Self::Output>,
    ) -> io::Result<()>;
}

/// Read an archive to its end, and give `sink` what it holds.
pub fn split<S: Sink>(archive: impl Read, sink: &mut S) -> Result<ArchiveSummary, ArchiveError> {
    let mut reader = DocumentReader::new(archive);
    let prelude = Prelude::read(&mut reader)?;
    sink.begin(&prelude).map_err(|source| {
        let namespace = "all namespaces".to_owned();
        ArchiveError::Sink { namespace, source }
    })?;

    let mut splitter = Splitter::new(prelude.namespaces(), sink);
    loop {
        let at_end = reader.is_at_end();
        if at_end.map_err(|source| ArchiveError::Documents { place: Place::Header, source })? {
            break;
        }
        if splitter.left == 0 {
            return Err(ArchiveError::Trailing { offset: reader.position() });
        }
        splitter.block(&mut reader)?;
    }
    let size_bytes = reader.position();
    let contents = splitter.finish(size_bytes)?;
    Ok(ArchiveSummary { prelude, contents, size_bytes })
}

/// What a block says of itself.
struct Header {
    database: String,
    collection: String,
    /// Whether the namespace ends here, and with which sum.
    end: Option<u64>,
}

impl Header {
    fn read(reader: &mut DocumentReader<impl Read>) -> Result<Self, ArchiveError> {
        let offset = reader.position();
        let damaged = |reason| ArchiveError::Damaged { place: Place::Header, offset, reason };
        let fields = Fields::next(reader, &Place::Header)?;
        let fields = fields.ok_or_else(|| damaged("a block has no header".to_owned()))?;
        Self::parse(&fields).map_err(damaged)
    }

    fn parse(fields: &Fields<'_>) -> Result<Self, String> {
        let (database, collection) = (fields.text("db")?, fields.text("collection")?);
        let (is_end, sum) = (fields.bool("EOF")?, fields.int64("CRC")?);
        if !is_end && sum != 0 {
            return Err("it has a sum, and is not the end of its namespace".to_owned());
        }
        Ok(Self {
            database: database.to_owned(),
            collection: collection.to_owned(),
            end: is_end.then_some(sum.cast_unsigned()),
        })
    }
}

/// How far a namespace has come.
enum Stream<O> {
    Waiting,
    Open(Open<O>),
    Ended(Contents),
}

struct Open<O> {
    /// There is none of a view.
    output: Option<O>,
    digest: Digest,
    documents: u64,
    size_bytes: u64,
}

impl<O: Write> Open<O> {
    /// Take the documents of one block.
    fn take(
        &mut self,
        reader: &mut DocumentReader<impl Read>,
        namespace: &Namespace,
    ) -> Result<(), ArchiveError> {
        let place = || Place::Documents(namespace.to_string());
        loop {
            let offset = reader.position();
            let document = reader.document_or_terminator();
            let document =
                document.map_err(|source| ArchiveError::Documents { place: place(), source })?;
            let Some(document) = document else { return Ok(()) };
            let Some(output) = &mut self.output else {
                let reason = "it is a view, which has none".to_owned();
                return Err(ArchiveError::Damaged { place: place(), offset, reason });
            };
            self.digest.write(document);
            self.documents += 1;
            self.size_bytes += document.len() as u64;
            output.write_all(document).map_err(|source| not_stored(namespace, source))?;
        }
    }

    fn contents(&self) -> Contents {
        Contents {
            documents: self.documents,
            size_bytes: self.size_bytes,
            sum: self.digest.sum64(),
        }
    }
}

struct Splitter<'a, S: Sink> {
    namespaces: &'a [Namespace],
    index: HashMap<(&'a str, &'a str), usize>,
    streams: Vec<Stream<S::Output>>,
    /// Namespaces that have not ended.
    left: usize,
    sink: &'a mut S,
}

impl<'a, S: Sink> Splitter<'a, S> {
    fn new(namespaces: &'a [Namespace], sink: &'a mut S) -> Self {
        let names =
            namespaces.iter().map(|namespace| (namespace.database(), namespace.collection()));
        let index = names.zip(0..).collect();
        let streams = namespaces.iter().map(|_| Stream::Waiting).collect();
        Self { namespaces, index, streams, left: namespaces.len(), sink }
    }

    fn block(&mut self, reader: &mut DocumentReader<impl Read>) -> Result<(), ArchiveError> {
        let offset = reader.position();
        let header = Header::read(reader)?;
        let name = (header.database.as_str(), header.collection.as_str());
        let Some(&place) = self.index.get(&name) else {
            let namespace = display_namespace(name.0, name.1);
            return Err(ArchiveError::Unknown { namespace, offset });
        };
        let namespace = &self.namespaces[place];
        let mut open = match mem::replace(&mut self.streams[place], Stream::Waiting) {
            Stream::Waiting => self.open(namespace)?,
            Stream::Open(open) => open,
            Stream::Ended(_) => {
                let namespace = namespace.to_string();
                return Err(ArchiveError::AfterEnd { namespace, offset });
            }
        };
        self.streams[place] = match header.end {
            None => {
                open.take(reader, namespace)?;
                Stream::Open(open)
            }
            Some(sum) => Stream::Ended(self.end(reader, namespace, open, sum)?),
        };
        Ok(())
    }

    fn open(&mut self, namespace: &Namespace) -> Result<Open<S::Output>, ArchiveError> {
        let has_documents = namespace.kind() != Kind::View;
        let output = has_documents.then(|| self.sink.open(namespace)).transpose();
        let output = output.map_err(|source| not_stored(namespace, source))?;
        Ok(Open { output, digest: Digest::new(), documents: 0, size_bytes: 0 })
    }

    /// The block that ends a namespace, after its header.
    fn end(
        &mut self,
        reader: &mut DocumentReader<impl Read>,
        namespace: &Namespace,
        open: Open<S::Output>,
        expected: u64,
    ) -> Result<Contents, ArchiveError> {
        let (place, offset) = (Place::Documents(namespace.to_string()), reader.position());
        match reader.document_or_terminator() {
            Ok(None) => {}
            Ok(Some(_)) => {
                let reason = "they go on after their end".to_owned();
                return Err(ArchiveError::Damaged { place, offset, reason });
            }
            Err(source) => return Err(ArchiveError::Documents { place, source }),
        }
        let contents = open.contents();
        if contents.sum != expected {
            let (namespace, found) = (namespace.to_string(), contents.sum);
            return Err(ArchiveError::Sum { namespace, expected, found });
        }
        let ended = self.sink.end(namespace, contents, open.output);
        ended.map_err(|source| not_stored(namespace, source))?;
        self.left -= 1;
        Ok(contents)
    }

    /// What came of each namespace, when all have ended.
    fn finish(self, end: u64) -> Result<Vec<Contents>, ArchiveError> {
        let mut contents = Vec::with_capacity(self.streams.len());
        for (stream, namespace) in self.streams.iter().zip(self.namespaces) {
            let Stream::Ended(found) = stream else {
                let (first, others) = (namespace.to_string(), self.left - 1);
                return Err(ArchiveError::Missing { first, others, end });
            };
            contents.push(*found);
        }
        Ok(contents)
    }
}

fn not_stored(namespace: &Namespace, source: io::Error) -> ArchiveError {
    ArchiveError::Sink { namespace: namespace.to_string(), source }
}
