//! Another version for a pair: staging first, production only when every rule says yes, and back when it fails.
//!
//! [`path`] and [`rules`] decide and do nothing: their answers depend on their arguments only, `now` being one.

pub mod path;
pub mod rules;
mod words;
