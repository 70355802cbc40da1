//! The component `mongodb`: one database of a MongoDB server, in the directory layout of `mongodump`.
//!
//! Read over the wire where there is a connection string: all collections at one moment, each by its UUID, every document byte
//! for byte.

mod details;
mod error;
pub mod document;
pub mod names;
pub mod wire;

pub use details::{CollectionDetails, MongodbDetails};
pub use error::MongoError;
