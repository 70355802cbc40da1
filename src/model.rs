//! The words of the project as types: ids, names, sizes, times, nodes, the manifest, jobs and events.
//!
//! No I/O happens here and nothing is decided here; every other layer may use these types.

pub mod apps;
pub mod event;
pub mod exact_path;
pub mod git;
pub mod id;
pub mod job;
pub mod manifest;
pub mod name;
pub mod node;
pub mod notice;
pub mod pin;
pub mod size;
pub mod snapshot_record;
pub mod trial;
pub mod upgrade;
pub mod version;
pub mod via;
