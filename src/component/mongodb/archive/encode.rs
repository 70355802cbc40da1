//! Writing an archive, one namespace after the other.

use super::TERMINATOR;
use super::prelude::{Kind, Namespace, Prelude};
use super::split::Contents;
use crate::component::mongodb::document::{self, DocumentError, DocumentReader, Value};
use crc64fast::Digest;
use std::io::{self, BufWriter, Read, Write};
use std::vec;

/// Bytes written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// Why an archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Whoever reads the archive takes no more.
    #[error("the archive could not be written any further")]
    Write(#[source] io::Error),
    /// What should be written is no sequence of documents.
    #[error("the documents of {namespace} cannot be written into an archive")]
    Documents {
        /// Whose.
        namespace: String,
        /// What is wrong with them.
        source: DocumentError,
    },
    /// A view has documents.
    #[error("{0} is a view, and has documents")]
    View(String),
}

/// Writes an archive that `mongorestore --archive` and [`split`](super::split) take. It is whole only after
/// [`Self::finish`].
pub struct Encoder<W: Write> {
    output: BufWriter<W>,
    left: vec::IntoIter<Namespace>,
}

impl<W: Write> Encoder<W> {
    /// Begin an archive. `mongorestore` refuses a server's version that is none.
    pub fn new(output: W, prelude: &Prelude) -> Result<Self, EncodeError> {
        let mut output = BufWriter::with_capacity(BUFFER_BYTES, output);
        output.write_all(&prelude.encode()).map_err(EncodeError::Write)?;
        Ok(Self { output, left: prelude.namespaces().to_vec().into_iter() })
    }

    /// The namespace whose documents come next; `None` after the last.
    pub fn next_namespace(&self) -> Option<&Namespace> {
        self.left.as_slice().first()
    }

    /// Write all documents of the next namespace, in the prelude's order. A view's are none.
    ///
    /// # Panics
    /// When there is no next one.
    pub fn write(&mut self, documents: impl Read) -> Result<Contents, EncodeError> {
        let namespace = self.left.next().expect("there is a next namespace");
        self.header(&namespace, None)?;
        let (mut digest, mut count) = (Digest::new(), 0);
        let mut reader = DocumentReader::new(documents);
        let unfit = |source| EncodeError::Documents { namespace: namespace.to_string(), source };
        while let Some(document) = reader.next_document().map_err(unfit)? {
            if namespace.kind() == Kind::View {
                return Err(EncodeError::View(namespace.to_string()));
            }
            digest.write(document);
            count += 1;
            self.output.write_all(document).map_err(EncodeError::Write)?;
        }
        let contents =
            Contents { documents: count, size_bytes: reader.position(), sum: digest.sum64() };
        self.terminator()?;
        self.header(&namespace, Some(contents.sum))?;
        self.terminator()?;
        Ok(contents)
    }

    /// End the archive, and give back what it was written to.
    ///
    /// # Panics
    /// When there are namespaces that were not written.
    pub fn finish(self) -> Result<W, EncodeError> {
        assert_eq!(self.left.len(), 0, "every namespace of the prelude was written");
        self.output.into_inner().map_err(|error| EncodeError::Write(error.into_error()))
    }

    fn header(&mut self, namespace: &Namespace, end: Option<u64>) -> Result<(), EncodeError> {
        let header = document::build(&[
            ("db", Value::Text(namespace.database())),
            ("collection", Value::Text(namespace.collection())),
            ("EOF", Value::Bool(end.is_some())),
            ("CRC", Value::Int64(end.unwrap_or_default().cast_signed())),
        ]);
        self.output.write_all(&header).map_err(EncodeError::Write)
    }

    fn terminator(&mut self) -> Result<(), EncodeError> {
        self.output.write_all(&TERMINATOR).map_err(EncodeError::Write)
    }
}
