//! Why an archive is not believed, and where in it that was found.

use crate::component::postgres::archive::KNOWN_VERSIONS;
use crate::model::node::display_path;
use std::fmt;
use std::io;

/// A place in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The first bytes, up to the version of `pg_dump`.
    Header,
    /// The table of contents: this entry of so many, counted from 1.
    Contents {
        /// Which entry.
        entry: u64,
        /// How many there are said to be.
        of: u64,
    },
    /// Where a block of data begins.
    Blocks,
    /// The data of a table.
    TableData {
        /// The table's schema.
        schema: String,
        /// Its name.
        table: String,
    },
    /// The large objects.
    LargeObjects,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header => formatter.write_str("the header"),
            Self::Contents { entry, of } => {
                write!(formatter, "the table of contents (entry {entry} of {of})")
            }
            Self::Blocks => formatter.write_str("the beginning of a block of data"),
            Self::TableData { schema, table } => {
                let (schema, table) =
                    (display_path(schema.as_bytes()), display_path(table.as_bytes()));
                write!(formatter, "the data of table {schema}.{table}")
            }
            Self::LargeObjects => formatter.write_str("the large objects"),
        }
    }
}

/// Why an archive is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes could not be had.
    #[error("the dump could not be read any further in {place}")]
    Read {
        /// How far it was read.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// Nothing came.
    #[error("the dump is empty: not one byte came")]
    Empty,
    /// Something else came.
    #[error("this is no archive of pg_dump: it begins with '{beginning}'")]
    NotAnArchive {
        /// The first line, escaped, at most 200 characters.
        beginning: String,
    },
    /// It was written with another `--format`.
    #[error("the archive has the {format} format, not the custom one")]
    WrongFormat {
        /// The format's name.
        format: &'static str,
    },
    /// A version that nobody here has seen.
    #[error("the archive has version {}.{} of the format; known are {}", .0.0, .0.1, known_versions())]
    UnknownVersion((u8, u8)),
    /// Numbers have a width that no known platform writes.
    #[error(
        "the archive has integers of {integer} and offsets of {offset} bytes; known are 4 and 8"
    )]
    UnknownSizes {
        /// Bytes of an integer.
        integer: u8,
        /// Bytes of an offset.
        offset: u8,
    },
    /// Compressed data does not deduplicate between nights.
    #[error("the archive's data is compressed ({method})")]
    Compressed {
        /// With what.
        method: String,
    },
    /// It ended too early.
    #[error("the archive is cut short in {place}")]
    Truncated {
        /// Where it ends.
        place: Place,
    },
    /// It says what cannot be.
    #[error("the archive is damaged in {place}: {reason}")]
    Damaged {
        /// Where.
        place: Place,
        /// What cannot be.
        reason: String,
    },
    /// It ended between two blocks of data, too early.
    #[error("the archive ends without {first}{}", and_others(*.others))]
    DataMissing {
        /// The first data that never came.
        first: Place,
        /// How many entries' data is missing besides.
        others: usize,
    },
    /// Something follows the last data.
    #[error("the archive is whole after {position} bytes, but something follows")]
    Trailing {
        /// Where it should have ended.
        position: u64,
    },
}

fn known_versions() -> String {
    let (oldest, newest) = KNOWN_VERSIONS;
    format!("{}.{} to {}.{}", oldest.0, oldest.1, newest.0, newest.1)
}

fn and_others(others: usize) -> String {
    if others == 0 { String::new() } else { format!(", and {others} more") }
}

impl ArchiveError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Compressed { .. } => Some("dump with --compress=0"),
            Self::WrongFormat { .. } => Some("dump with --format=custom"),
            Self::UnknownVersion(_) => {
                Some("use a newer Belay, or an older pg_dump that still fits the server")
            }
            Self::Empty | Self::NotAnArchive { .. } => {
                Some("look at what pg_dump said on its error output")
            }
            Self::Truncated { .. } | Self::DataMissing { .. } => {
                Some("look whether pg_dump was ended or the connection dropped, and dump again")
            }
            Self::Read { .. }
            | Self::UnknownSizes { .. }
            | Self::Damaged { .. }
            | Self::Trailing { .. } => None,
        }
    }
}
