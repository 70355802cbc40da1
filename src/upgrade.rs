//! Another version for a pair: staging first, production only when every rule says yes, and back when it fails.
//!
//! [`path`], [`rules`], [`machine`] and [`plan`] decide and do nothing: their answers depend on their arguments only, `now` being
//! one. [`runner`] does what the machine says, in a world that it is given.

pub mod machine;
pub mod path;
pub mod plan;
pub mod rules;
pub mod runner;
#[cfg(test)]
mod simulation;
mod words;
