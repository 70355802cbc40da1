//! The archive of `mongodump --archive`: taken apart while it streams by, and written for `mongorestore --archive`.
//!
//! An archive is a magic number, a prelude that names the namespaces (collections, views, the oplog) with their
//! metadata, and blocks of documents. Each block belongs to one namespace; blocks of several take turns; a namespace
//! ends with a block that is marked as its end and holds the CRC-64 of its documents.
//!
//! What is accepted is whole: every document is valid, every namespace of the prelude has ended, once, with the sum of
//! what came, nothing came for any other, and nothing follows. `mongodump` writes an end for every namespace, also for
//! views and for collections without documents, so that none can be missing unseen. Only the prelude has no sum: a
//! changed letter in the metadata's JSON, or in a version, can go unseen where it is still of the right form.
//!
//! Memory is bounded whatever the archive says: the prelude, and one document.
//!
//! Source of the format: `common/archive` and `mongodump` of mongo-tools, and the archives in
//! `tests/fixtures/appsmith`.

mod encode;
mod error;
mod fields;
mod prelude;
mod split;

pub use encode::{EncodeError, Encoder};
pub use error::{ArchiveError, Place};
pub use prelude::{Kind, Namespace, NamespaceError, Prelude, Versions};
pub use split::{ArchiveSummary, Contents, Sink, split};

/// The first four bytes.
const MAGIC: [u8; 4] = 0x8199_e26d_u32.to_le_bytes();
/// What stands in place of a document's length where a block ends.
const TERMINATOR: [u8; 4] = [0xff; 4];
/// The only version of the format that there is.
const FORMAT_VERSION: &str = "0.1";

#[cfg(test)]
mod tests;
