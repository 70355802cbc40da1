//! Drivers: what puts another version of an instance in place, and knows which images there are for it.
//!
//! What always holds: each step is safe to run again, and tells what it does; nothing is installed by a name that may mean
//! something else tomorrow.

mod command;
mod compose;
mod image;

pub use image::{Image, ImageName, TagProblem};

use super::ScriptError;
use crate::access::{Access, AccessError};
use crate::config::pair::{DriverSettings, Upgrades};
use crate::config::{Config, Instance};
use crate::model::event::Cancelled;
use crate::model::name::Name;
use crate::ops::Context;
use crate::ops::quiesce::Switch;
use command::CommandDriver;
use compose::ComposeDriver;

/// What puts another version of one instance in place.
pub enum Driver<'a> {
    /// A script of the user's own.
    Command(CommandDriver<'a>),
    /// Docker Compose.
    Compose(ComposeDriver<'a>),
}

/// Why a driver did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A script, or a program of Docker's.
    #[error("{instance}: {source}")]
    Script {
        /// The instance.
        instance: Name,
        /// What went wrong.
        source: ScriptError,
    },
    /// The way to where the instance lives, or what is asked there.
    #[error("{instance}: {source}")]
    Access {
        /// The instance.
        instance: Name,
        /// What went wrong.
        source: AccessError,
    },
    /// What is there does not allow it.
    #[error("{instance}: {message}")]
    Refused {
        /// The instance.
        instance: Name,
        /// Why not.
        message: String,
        /// What to do.
        hint: String,
    },
    /// It was made, and does not stay up.
    #[error("{instance}: {message}")]
    NotRunning {
        /// The instance.
        instance: Name,
        /// What became of it, and what it said last.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The job was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl DriverError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Script { source, .. } => source.hint(),
            Self::Access { source, .. } => source.hint(),
            Self::Refused { hint, .. } | Self::NotRunning { hint, .. } => Some(hint.clone()),
            Self::Cancelled(_) => None,
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Script { source, .. } => source.is_cancelled(),
            Self::Access { source, .. } => matches!(source, AccessError::Cancelled(_)),
            Self::Refused { .. } | Self::NotRunning { .. } => false,
            Self::Cancelled(_) => true,
        }
    }
}

/// The same errors for one instance.
fn script_failed(instance: &Instance) -> impl Fn(ScriptError) -> DriverError + '_ {
    |source| match source {
        ScriptError::Cancelled(cancelled) => cancelled.into(),
        source => DriverError::Script { instance: instance.name.clone(), source },
    }
}

fn access_failed(instance: &Instance) -> impl Fn(AccessError) -> DriverError + '_ {
    |source| match source {
        AccessError::Cancelled(cancelled) => cancelled.into(),
        source => DriverError::Access { instance: instance.name.clone(), source },
    }
}

fn refused(
    instance: &Instance,
    message: impl Into<String>,
    hint: impl Into<String>,
) -> DriverError {
    let (message, hint) = (message.into(), hint.into());
    DriverError::Refused { instance: instance.name.clone(), message, hint }
}

impl<'a> Driver<'a> {
    /// The driver of an instance of a pair with these upgrades. Nothing is asked yet.
    pub fn of(
        config: &Config,
        upgrades: &'a Upgrades,
        instance: &'a Instance,
        context: &'a Context,
    ) -> Result<Self, DriverError> {
        // A container cannot replace itself: what is done is done on its host.
        let host = instance.via.host();
        let access = Access::new(host, config.ssh_config.clone(), &context.cancel);
        match &upgrades.driver {
            DriverSettings::Command(settings) => {
                Ok(Self::Command(CommandDriver { settings, instance, access, context }))
            }
            DriverSettings::Compose => {
                let compose = instance.compose.as_ref().ok_or_else(|| {
                    let message = "nothing says where Docker Compose has it";
                    refused(
                        instance,
                        message,
                        "add compose = { dir = \"/DIRECTORY\", service = \"NAME\" }",
                    )
                })?;
                Ok(Self::Compose(ComposeDriver::new(compose, instance, access, context)))
            }
        }
    }

    /// Get what a version needs, ahead of the window; returns the image, where there are images. With `tested` it is the one
    /// of that digest, and no other: what staging has proved.
    pub fn prepare(
        &self,
        version: &str,
        tested: Option<&Image>,
    ) -> Result<Option<Image>, DriverError> {
        match self {
            // Whatever a script needs it gets itself.
            Self::Command(_) => Ok(None),
            Self::Compose(compose) => compose.prepare(version, tested).map(Some),
        }
    }

    /// Put a version in place of another one, and wait until it runs: `image` as [`Driver::prepare`] or [`Driver::running_image`]
    /// gave it. Whether it does well is for the tests to say. `previous` is the version that is replaced, where it is known.
    pub fn install(
        &self,
        version: &str,
        previous: Option<&str>,
        image: Option<&Image>,
    ) -> Result<(), DriverError> {
        match (self, image) {
            (Self::Command(command), _) => command.install(version, previous),
            (Self::Compose(compose), Some(image)) => compose.install(image),
            (Self::Compose(compose), None) => {
                let image = compose.prepare(version, None)?;
                compose.install(&image)
            }
        }
    }

    /// Whether it can stop and start an instance without another version.
    pub fn can_stop(&self) -> bool {
        match self {
            Self::Command(command) => command.settings.stop.is_some(),
            Self::Compose(_) => true,
        }
    }

    /// What stops and starts it, for who stops it with a timer beside it; none where nothing says how.
    pub fn switch(&self) -> Result<Option<Switch>, DriverError> {
        match self {
            Self::Command(command) => Ok(command.switch()),
            Self::Compose(compose) => compose.switch().map(Some),
        }
    }

    /// Stop the instance; done where it is stopped already.
    pub fn stop(&self) -> Result<(), DriverError> {
        match self {
            Self::Command(command) => command.stop(),
            Self::Compose(compose) => compose.stop(),
        }
    }

    /// Start it as it was, and wait until it runs; done where it runs already.
    pub fn start(&self) -> Result<(), DriverError> {
        match self {
            Self::Command(command) => command.start(),
            Self::Compose(compose) => compose.start(),
        }
    }

    /// Whether the instance runs; none where the driver cannot tell.
    pub fn is_running(&self) -> Result<Option<bool>, DriverError> {
        match self {
            Self::Command(_) => Ok(None),
            Self::Compose(compose) => compose.is_running().map(Some),
        }
    }

    /// The image that the instance's container was made from; none where there are no images, and where there is no container.
    pub fn running_image(&self) -> Result<Option<Image>, DriverError> {
        match self {
            Self::Command(_) => Ok(None),
            Self::Compose(compose) => compose.running_image(),
        }
    }

    /// The image of this digest, which a version had; none where the driver has no images.
    pub fn image(&self, version: &str, digest: String) -> Result<Option<Image>, DriverError> {
        match self {
            Self::Command(_) => Ok(None),
            Self::Compose(compose) => compose.image(version, digest).map(Some),
        }
    }

    /// The image that a version's tag means where the instance lives, without getting it; none where there is none.
    pub fn fetched_image(&self, version: &str) -> Result<Option<Image>, DriverError> {
        match self {
            Self::Command(_) => Ok(None),
            Self::Compose(compose) => compose.fetched(version),
        }
    }

    /// Whether an image is there, by its digest, without getting it.
    pub fn has(&self, image: &Image) -> Result<bool, DriverError> {
        match self {
            Self::Command(_) => Ok(false),
            Self::Compose(compose) => compose.has(image),
        }
    }

    /// Pin what runs today, so that nothing but an upgrade changes it; `version` is what it says that it is. Returns the image.
    pub fn adopt(&self, version: Option<&str>) -> Result<Image, DriverError> {
        match self {
            Self::Command(command) => Err(refused(
                command.instance,
                "a driver that is a script has no image to pin",
                "let the script install versions by names that do not change",
            )),
            Self::Compose(compose) => compose.adopt(version),
        }
    }
}
