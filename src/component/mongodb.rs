//! The component `mongodb`: databases of one MongoDB server, in the files and folders that `mongodump` writes.

pub mod archive;
pub mod document;
pub mod names;
