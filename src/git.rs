//! Git-stored apps: mirrors that lose no commit that they have seen, and what is in them.
//!
//! The only layer that knows libgit2. It reads objects and never makes a working tree of what a stranger wrote.

mod copy;
pub mod error;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod journal;
pub mod layout;
pub mod mirror;
pub mod remote;
pub mod restore;
pub mod worker;
