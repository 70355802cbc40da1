//! The driver `command`: a script of the user's own that is given both versions.

use super::{DriverError, refused, script_failed};
use crate::access::Access;
use crate::config::Instance;
use crate::config::pair::{CommandSettings, Script};
use crate::ops::Context;
use crate::ops::quiesce::Switch;
use crate::upgrade::script::ScriptRun;

/// More lines of a script are not told one by one.
const MOST_LINES: usize = 500;

/// A script that upgrades one instance, on the host of that.
pub struct CommandDriver<'a> {
    pub(super) settings: &'a CommandSettings,
    pub(super) instance: &'a Instance,
    pub(super) access: Access,
    pub(super) context: &'a Context,
}

impl CommandDriver<'_> {
    pub(super) fn install(&self, version: &str, previous: Option<&str>) -> Result<(), DriverError> {
        self.context.events.phase("upgrading", format!("{} to {version}", self.instance.name));
        let variables = [
            ("BELAY_VERSION", version.to_owned()),
            ("BELAY_PREVIOUS_VERSION", previous.unwrap_or_default().to_owned()),
        ];
        self.run(&self.settings.install, &variables)
    }

    pub(super) fn switch(&self) -> Option<Switch> {
        let (stop, start) = (self.settings.stop.as_ref()?, self.settings.start.as_ref()?);
        let words = |script: &Script| {
            let mut words =
                vec!["env".to_owned(), format!("BELAY_INSTANCE={}", self.instance.name)];
            words.push(script.program.clone());
            words.extend(script.arguments.iter().cloned());
            words
        };
        let via = self.access.via().to_string();
        let limit_seconds = Some(self.settings.timeout.as_secs().max(1));
        Some(Switch { via, stop: words(stop), start: words(start), limit_seconds })
    }

    pub(super) fn stop(&self) -> Result<(), DriverError> {
        self.context.events.phase("stopping", self.instance.name.to_string());
        self.optional(self.settings.stop.as_ref(), "stop")
    }

    pub(super) fn start(&self) -> Result<(), DriverError> {
        self.context.events.phase("starting", self.instance.name.to_string());
        self.optional(self.settings.start.as_ref(), "start")
    }

    fn optional(&self, script: Option<&Script>, what: &str) -> Result<(), DriverError> {
        let Some(script) = script else {
            return Err(refused(
                self.instance,
                format!("nothing says how to {what} it"),
                "add stop = \"/PATH\" and start = \"/PATH\" to driver = { command = … }",
            ));
        };
        self.run(script, &[])
    }

    fn run(&self, script: &Script, more: &[(&'static str, String)]) -> Result<(), DriverError> {
        let name = self.instance.name.to_string();
        let mut variables = vec![("BELAY_INSTANCE", name.clone())];
        variables.extend_from_slice(more);
        let run = ScriptRun {
            access: &self.access,
            dir: "",
            script,
            variables: &variables,
            limit: self.settings.timeout,
            cancel: &self.context.cancel,
        };
        let mut lines = 0;
        let ran = run.run(&mut |line| {
            lines += 1;
            if lines <= MOST_LINES {
                self.context.events.note(format!("{name}: {line}"));
            }
        });
        if lines > MOST_LINES {
            let left = lines - MOST_LINES;
            self.context
                .events
                .note(format!("{name}: {left} more lines of {script} are not shown."));
        }
        ran.map_err(script_failed(self.instance))
    }
}
