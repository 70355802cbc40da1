//! Belay: snapshots of self-hosted low-code platforms that can be proved to restore.
//!
//! This is the crate's map. Imports run downward only (`tests/house.rs` reads the `use` lines and holds it):
//!
//! | layer | holds | may use |
//! | --- | --- | --- |
//! | [`model`] | ids, names, nodes, the manifest, events: types without I/O | nothing |
//! | [`policy`] | retention, schedules, the queue, objectives, what to tell and when: pure functions; `now` is an argument | model |
//! | [`store`] | bytes under names: a local directory; a faulty one for tests | model |
//! | [`config`] | the file, its validation, secrets | model, policy |
//! | [`access`] | how commands run where an instance lives: here, by ssh, in containers | model |
//! | [`repository`] | restic's format 2: format, locks, writer, reader, check, prune | model, store |
//! | [`component`] | what an instance is made of: files, PostgreSQL, MongoDB, Redis, the environment file | model |
//! | [`platform`] | what is particular to a platform: whether keys fit its ciphertext | model |
//! | [`git`] | Git-stored apps: mirrors, their journal, what is in them; the only layer that knows libgit2 | model, config |
//! | [`catalog`] | the local SQLite database | model |
//! | [`notify`] | webhooks, mail and health-check pings | model, config |
//! | [`ops`] | one file per operation, readable as a story | all above |
//! | [`upgrade`] | whether and how a pair gets another version: the path, the gate's rules and evidence, drivers, tests of an instance, the machine, the plan | all above |
//! | [`daemon`] | schedules, the queue, what runs, who is told | all above |
//! | [`http`] | the daemon's API over a Unix socket, and its metrics | all above |
//! | [`cli`] | the command line; the only layer that knows a terminal | all above |
//!
//! Sizes are `u64` in formats and `usize` in memory; the crate is for 64-bit Linux.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("Belay is for 64-bit Linux");

pub mod access;
pub mod catalog;
pub mod cli;
pub mod component;
pub mod config;
pub mod daemon;
pub mod git;
pub mod host;
pub mod http;
pub mod model;
pub mod notify;
pub mod ops;
pub mod platform;
pub mod policy;
pub mod repository;
pub mod store;
pub mod upgrade;
