//! What should be, decided from evidence: pure functions without clock and I/O.
//!
//! `now` is always an argument, and the same evidence always gives the same verdict, with its reasons.

pub mod objectives;
pub mod queue;
pub mod readable;
pub mod retention;
pub mod retries;
pub mod schedule;
#[cfg(test)]
mod simulation;
pub mod slices;
mod spread;
pub mod telling;
mod time;
pub mod window;
