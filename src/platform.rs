//! What is known of each platform: its recipe, and how its encryption keys are proved to fit.

pub mod edition;
pub mod http;
pub mod keyfit;
pub mod recipe;
