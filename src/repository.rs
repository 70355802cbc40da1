//! A repository in restic's format, version 2.
pub mod format;
