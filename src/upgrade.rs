//! Another version for a pair: staging first, production only when every rule says yes, and back when it fails.
//!
//! [`path`], [`rules`], [`machine`] and [`plan`] decide and do nothing: their answers depend on their arguments only, `now` being
//! one. [`evidence`] reads what the rules look at, and [`gate`] asks them. [`runner`] does what the machine says, in a world that it is
//! given: [`hands`] are the real one. [`conduct`] is what people have to do with, [`shown`] and [`told`] are what they get to see.
//!
//! [`driver`] puts a version in place, and [`tests`] look at what an instance is like before and after, which changes nothing in it;
//! what runs for too long is ended with all that it started, also where it lives elsewhere.

pub mod conduct;
pub mod demo;
mod draft;
pub mod driver;
pub mod evidence;
pub mod gate;
pub mod hands;
pub mod journals;
pub mod machine;
pub mod maintenance;
pub mod path;
pub mod plan;
pub mod rules;
pub mod runner;
mod script;
pub mod shown;
#[cfg(test)]
mod simulation;
mod switch;
pub mod tests;
pub mod told;
mod words;

pub use script::ScriptError;
