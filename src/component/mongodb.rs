//! The component `mongodb`: one database of a MongoDB server, in the files and folders that `mongodump` writes.
//!
//! Read over the wire where there is a connection string: all collections at one moment, each by its UUID, every document byte
//! for byte.

pub mod archive;
mod details;
pub mod document;
mod error;
pub mod names;
pub mod texts;
pub mod tools;
pub mod wire;

pub use details::{CollectionDetails, MongodbDetails};
pub use error::MongoError;
