//! `belay config`.

use super::arguments::{ConfigArguments, ConfigCommand};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output::{self, field};
use super::render::{counted, local_time};
use crate::config::Config;
use crate::ops::OpsError;
use crate::ops::recover_config::recover_config;
use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

#[derive(Serialize)]
struct Checked {
    file: String,
    repositories: usize,
    instances: usize,
    pairs: usize,
}

pub(super) fn run(arguments: &ConfigArguments, environment: &Environment) -> Result<Exit, Failure> {
    match &arguments.command {
        ConfigCommand::Check => {
            let config = environment.config()?;
            let checked = Checked {
                file: config.origin().to_owned(),
                repositories: config.repositories.len(),
                instances: config.instances.len(),
                pairs: config.pairs.len(),
            };
            environment.show(&checked, || {
                format!(
                    "{} is right: {}, {}, {}.",
                    checked.file,
                    counted(checked.repositories as u64, "repository", "repositories"),
                    counted(checked.instances as u64, "instance", "instances"),
                    counted(checked.pairs as u64, "pair", "pairs")
                )
            })
        }
        ConfigCommand::Schema => {
            let schema = Config::schema();
            environment.show(&schema, || format!("{schema:#}"))
        }
        ConfigCommand::Show => {
            let config = environment.config()?;
            let shown = config.show();
            let document: serde_json::Value = toml::from_str(&shown).map_err(|error| {
                Failure::internal(format!("could not show the configuration: {error}"))
            })?;
            environment.show(&document, || shown.trim_end().to_owned())
        }
        ConfigCommand::Recover { host, output } => {
            let session = environment.session_anywhere()?;
            let found = recover_config(&session, host.as_deref(), &environment.context)?;
            let from = format!(
                "from snapshot {} of {} ({})",
                found.snapshot.short(),
                field(&found.instance),
                local_time(found.time)
            );
            if let Some(file) = output {
                write_new(file, &found.text)?;
                return environment.show(&found, || format!("Wrote {} {from}.", file.display()));
            }
            if environment.global.json {
                return environment.show(&found, String::new);
            }
            environment.context.events.note(format!("The configuration {from}:"));
            environment.pause_progress();
            if io::stdout().is_terminal() {
                return output::line(found.text.trim_end());
            }
            output::bytes(found.text.as_bytes())
        }
    }
}

fn write_new(path: &Path, text: &str) -> Result<(), OpsError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| OpsError::Io { action: "write", path: path.to_owned(), source })
}
