//! How commands run where an instance lives: here, on another host by `ssh`, in a container by `docker exec`, and
//! through chains of these.
//!
//! The system's own programs are used, so that users' configurations, agents and contexts count. What always holds:
//! every byte of an argument but NUL arrives as it was; secrets travel by environment or standard input and never by
//! an argument list; a command that ended badly, was cut off, or said nothing for too long is an error, with the end of
//! what it said.

mod command;
mod docker;
mod error;
mod files;
mod process;
pub mod quote;
#[cfg(test)]
mod tests;
mod tunnel;

pub use command::Command;
pub use docker::{ContainerFacts, Mount};
pub use error::{AccessError, Ending};
pub use process::{Finished, Input, Output, Running, Stopper};
pub use tunnel::Tunnel;

use crate::model::event::Cancel;
use crate::model::via::Via;
use std::path::PathBuf;

/// A way to where something lives.
#[derive(Clone)]
pub struct Access {
    via: Via,
    ssh_config: Option<PathBuf>,
    cancel: Cancel,
}

impl Access {
    /// `ssh_config` replaces the user's own for the first host; `cancel` ends whatever runs.
    pub fn new(via: Via, ssh_config: Option<PathBuf>, cancel: &Cancel) -> Self {
        Self { via, ssh_config, cancel: cancel.clone() }
    }

    /// Where it leads to.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// The same for cleaning up, which a cancelled job does, too.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { cancel: Cancel::new(), ..self.clone() }
    }

    /// The same, but to another place.
    #[must_use]
    pub fn to(&self, via: Via) -> Self {
        Self { via, ..self.clone() }
    }
}
