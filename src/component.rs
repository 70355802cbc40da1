//! What an instance is made of. A component knows how to read itself to its end, and how to be made again; where its
//! bytes go is not its business.

pub mod environment;
pub mod files;
pub mod mongodb;
pub mod postgres;
pub mod redis;
