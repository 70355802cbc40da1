//! Upgrades: another version in place of one that runs, and the proof that it does well.
//!
//! What always holds of what is here: nothing that a person wrote is changed without the possibility to see by what; what runs for too long is ended
//! with all that it started, also where it lives elsewhere; and a test changes nothing in an instance.

pub mod driver;
pub mod maintenance;
mod script;
pub mod tests;

pub use script::ScriptError;
