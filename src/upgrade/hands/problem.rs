//! Why a step was not done, whoever says so.

use crate::model::event::Cancelled;
use crate::model::upgrade::Step;
use crate::ops::OpsError;
use crate::upgrade::ScriptError;
use crate::upgrade::driver::DriverError;
use crate::upgrade::runner::Failure;

/// Why a step was not done.
pub(super) struct Problem {
    why: String,
    hint: Option<String>,
    /// Nothing of the instance was changed by this try.
    untouched: bool,
}

impl Problem {
    pub(super) fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { why: why.into(), hint: Some(hint.into()), untouched: false }
    }

    pub(super) fn why(&self) -> &str {
        &self.why
    }

    pub(super) fn internal(step: Step) -> Self {
        Self::new(
            format!("nothing does the step {step}"),
            "this is a fault of Belay: tell its developers",
        )
    }

    /// The same where nothing was changed yet.
    pub(super) fn before_anything(self) -> Self {
        Self { untouched: true, ..self }
    }

    /// As the journal has it. What an earlier try may have done cannot be said to be nothing.
    pub(super) fn failure(self, is_first_try: bool) -> Failure {
        let Self { why, hint, untouched } = self;
        Failure { why, hint, untouched: untouched && is_first_try }
    }
}

impl From<OpsError> for Problem {
    fn from(error: OpsError) -> Self {
        Self { why: error.told(), hint: error.hint(), untouched: false }
    }
}

impl From<DriverError> for Problem {
    fn from(error: DriverError) -> Self {
        Self { why: error.to_string(), hint: error.hint(), untouched: false }
    }
}

impl From<ScriptError> for Problem {
    fn from(error: ScriptError) -> Self {
        Self { why: error.to_string(), hint: error.hint(), untouched: false }
    }
}

impl From<Cancelled> for Problem {
    fn from(cancelled: Cancelled) -> Self {
        OpsError::from(cancelled).into()
    }
}
