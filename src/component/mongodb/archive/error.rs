//! Why an archive is not believed, and where in it that was found.

use super::prelude::NamespaceError;
use crate::component::mongodb::document::DocumentError;
use crate::model::node::display_path;
use std::fmt;
use std::io;

/// A place in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The prelude, from the magic number to the last namespace's metadata.
    Prelude,
    /// Between the documents of two blocks: where a block says to which namespace it belongs.
    Header,
    /// The documents of this namespace.
    Documents(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prelude => formatter.write_str("the prelude"),
            Self::Header => formatter.write_str("the header of a block"),
            Self::Documents(namespace) => write!(formatter, "the documents of {namespace}"),
        }
    }
}

/// Why an archive is not believed. Namespaces are given as people read them, offsets are bytes from its beginning.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Nothing came.
    #[error("the dump is empty: not one byte came")]
    Empty,
    /// Something else came.
    #[error("this is no archive of mongodump: it begins with '{beginning}'")]
    NotAnArchive {
        /// The first line, escaped, at most 200 characters.
        beginning: String,
    },
    /// A version that nobody here has seen.
    #[error("the archive has version '{0}' of the format; known is {version}", version = super::FORMAT_VERSION)]
    UnknownVersion(String),
    /// The bytes could not be had, end too early, or are no documents.
    #[error("the archive is damaged or cut off in {place}")]
    Documents {
        /// How far it was read.
        place: Place,
        /// What is wrong.
        source: DocumentError,
    },
    /// Something contradicts the format, or the rest of the archive.
    #[error("the archive is damaged in {place}, at byte {offset}: {reason}")]
    Damaged {
        /// Where.
        place: Place,
        /// Where the block, or the document of the prelude, begins.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The prelude is longer than any that a server makes.
    #[error("the archive's prelude is longer than {limit} bytes")]
    LongPrelude {
        /// How long it may be.
        limit: u64,
    },
    /// The prelude names a namespace that cannot be, or cannot be dumped.
    #[error("the archive names {namespace} in its prelude, at byte {offset}")]
    Namespace {
        /// Which.
        namespace: String,
        /// Where.
        offset: u64,
        /// Why it cannot be.
        source: NamespaceError,
    },
    /// The prelude names a namespace twice, or two whose files would have one name.
    #[error("the archive names {namespace} twice in its prelude")]
    Twice {
        /// Which.
        namespace: String,
    },
    /// A block belongs to a namespace that the prelude does not name.
    #[error("the block at byte {offset} belongs to {namespace}, which the prelude does not name")]
    Unknown {
        /// Which.
        namespace: String,
        /// Where.
        offset: u64,
    },
    /// A block belongs to a namespace that has ended.
    #[error("the block at byte {offset} belongs to {namespace}, which had ended before")]
    AfterEnd {
        /// Which.
        namespace: String,
        /// Where.
        offset: u64,
    },
    /// The documents are not those that were dumped.
    #[error(
        "the documents of {namespace} do not have the sum that was written at their end: {found:016x}, not {expected:016x}"
    )]
    Sum {
        /// Whose.
        namespace: String,
        /// The sum in the archive.
        expected: u64,
        /// The sum of what came.
        found: u64,
    },
    /// The archive ends before all that it should hold.
    #[error("the archive ends at byte {end} without the end of {first}{}", and_of(*others))]
    Missing {
        /// The first namespace without an end, in the prelude's order.
        first: String,
        /// How many more there are.
        others: usize,
        /// Where the archive ends.
        end: u64,
    },
    /// Something follows what should be the last.
    #[error("something follows the end of the archive, from byte {offset} on")]
    Trailing {
        /// Where it begins.
        offset: u64,
    },
    /// Who was given the documents could not take them.
    #[error("what the archive holds of {namespace} could not be stored")]
    Sink {
        /// Which namespace; the prelude's are all.
        namespace: String,
        /// Why.
        source: io::Error,
    },
}

impl ArchiveError {
    /// Whether it ends before its end: how whoever wrote it ended says why then.
    pub fn is_early_end(&self) -> bool {
        match self {
            Self::Empty | Self::Missing { .. } => true,
            Self::Documents { source, .. } => {
                matches!(source, DocumentError::Truncated { .. } | DocumentError::Read { .. })
            }
            _ => false,
        }
    }

    /// What to do next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Empty | Self::Documents { .. } | Self::Missing { .. } => {
                Some("did mongodump end well? see what it said, and run it again")
            }
            Self::NotAnArchive { .. } => {
                Some("it is written by mongodump --archive, without --gzip")
            }
            Self::UnknownVersion(_) => Some("a newer mongodump wrote it: is there a newer Belay?"),
            Self::Namespace { source: NamespaceError::TimeSeries, .. } => {
                Some("move it to a database of its own, which is not backed up here")
            }
            Self::Namespace { source: NamespaceError::Gone, .. } => {
                Some("run it again, when no collections are made or dropped")
            }
            Self::Sink { .. } => None,
            _ => Some(
                "something on the way changed it: run it again; if it stays, look at the server's own log",
            ),
        }
    }
}

fn and_of(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " and of one more".to_owned(),
        count => format!(" and of {count} more"),
    }
}

/// A namespace for people: what it is named cannot play with the terminal.
pub(super) fn display_namespace(database: &str, collection: &str) -> String {
    let collection = display_path(collection.as_bytes());
    if database.is_empty() {
        return collection;
    }
    format!("{}.{collection}", display_path(database.as_bytes()))
}
