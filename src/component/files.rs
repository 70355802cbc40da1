//! The component `files`: a directory tree, or one file, with owners, modes, times, links and extended attributes.
//!
//! Everything below the root is opened relative to a directory that is open already, and never through a symbolic link:
//! neither a live tree that changes meanwhile nor a hostile snapshot leads outside.

mod attributes;
pub mod create;
mod descent;
pub mod remote;
pub mod stream;
pub mod swap;
pub mod walk;

#[cfg(test)]
mod tests;
