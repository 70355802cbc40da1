//! Operations: one file for each, readable as a story. Everything that a person can ask for happens here; the command
//! line only says what is wanted and shows what comes back.

pub mod adopt;
pub mod backup;
pub mod check;
mod checksums;
pub mod demo;
pub mod diff;
pub mod discover;
pub mod doctor;
mod error;
pub mod export;
pub mod init;
mod instance;
mod job;
pub mod keys;
pub mod pins;
mod private;
pub mod prune;
mod quiesce;
pub mod rebuild;
pub mod recover_config;
pub mod restore;
mod select;
pub mod session;
pub mod show;
mod state;
pub mod status;
pub mod sync;
mod tree;

pub use error::{OpsError, what_to_do};
pub use select::SnapshotRef;

use crate::model::event::{Cancel, Events};

/// What an operation is given besides its own arguments.
#[derive(Clone)]
pub struct Context {
    /// Where to tell what happens.
    pub events: Events,
    /// How it is asked to stop.
    pub cancel: Cancel,
}
