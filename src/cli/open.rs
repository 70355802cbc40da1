//! What commands are given: the configuration, the repository that is meant, and where events go.

use super::arguments::{Command, Global, Takes};
use super::exit::{Exit, Failure};
use super::output;
use super::perform::{Said, perform, succeeded};
use super::remote::Remote;
use super::render::Renderer;
use crate::config::{self, Config, Location, Secret, SecretSources};
use crate::model::event::Cancel;
use crate::model::job::{Ended, Work};
use crate::ops::session::Session;
use crate::ops::{Context, SnapshotRef};
use serde::Serialize;
use std::cell::OnceCell;
use std::sync::Arc;

const NEEDS_PASSWORD_FILE: &str =
    "a repository that the configuration does not name needs --password-file, too";

/// The process's surroundings.
pub(super) struct Environment {
    /// Options of all commands.
    pub(super) global: Global,
    /// Where secrets are found.
    pub(super) secrets: SecretSources,
    /// Where events go, and how to stop.
    pub(super) context: Context,
    renderer: Arc<Renderer>,
    config: OnceCell<Config>,
}

impl Environment {
    pub(super) fn new(global: Global, cancel: &Cancel) -> Self {
        let renderer = Renderer::new(global.quiet);
        let context = Context::new(renderer.events(), cancel.clone());
        let secrets = SecretSources::of_process();
        Self { global, secrets, context, renderer, config: OnceCell::new() }
    }

    /// The configuration, read once.
    pub(super) fn config(&self) -> Result<&Config, Failure> {
        if let Some(config) = self.config.get() {
            return Ok(config);
        }
        let config = Config::load(&self.global.config).map_err(|error| {
            let failure = Failure::from(error);
            match &self.global.repository {
                Some(name) if name.contains('/') && !self.global.config.exists() => {
                    Failure { hint: Some(NEEDS_PASSWORD_FILE.into()), ..failure }
                }
                _ => failure,
            }
        })?;
        Ok(self.config.get_or_init(|| config))
    }

    /// The repository of the configuration that is meant: the one named, or the only one.
    pub(super) fn repository(&self) -> Result<&config::Repository, Failure> {
        let config = self.config()?;
        if let Some(name) = &self.global.repository {
            return config.repository(name).map_err(|error| {
                let failure = Failure::from(error);
                if name.contains('/') {
                    return Failure { hint: Some(NEEDS_PASSWORD_FILE.into()), ..failure };
                }
                failure
            });
        }
        let mut repositories = config.repositories.values();
        if let (Some(only), None) = (repositories.next(), repositories.next()) {
            Ok(only)
        } else {
            let names: Vec<&str> =
                config.repositories.keys().map(super::super::model::name::Name::as_str).collect();
            Err(Failure::usage(
                "the configuration has several repositories",
                format!("say which one with --repository: {}", names.join(", ")),
            ))
        }
    }

    /// A repository by its URL, on a machine without configuration.
    pub(super) fn bare(&self) -> Result<Option<(Location, Secret)>, Failure> {
        let (Some(url), Some(file)) = (&self.global.repository, &self.global.password_file) else {
            return Ok(None);
        };
        Ok(Some((url.parse::<Location>()?, Secret::read_file(file)?)))
    }

    /// The repository for commands that only read, and also work on a bare machine.
    pub(super) fn session_anywhere(&self) -> Result<Session, Failure> {
        if let Some((location, password)) = self.bare()? {
            return Ok(Session::open_bare(&location, &password)?);
        }
        let (config, repository) = (self.config()?, self.repository()?);
        Ok(Session::open_for_reading(config, repository, &self.secrets, &self.context)?)
    }

    /// The repository that a snapshot is in, where no option names one.
    pub(super) fn session_of(&self, snapshot: &SnapshotRef) -> Result<Session, Failure> {
        if self.global.repository.is_some() {
            return self.session_anywhere();
        }
        Ok(snapshot.find(self.config()?, &self.secrets, &self.context)?)
    }

    /// An error for options that the command would pass over: somebody means something by them.
    pub(super) fn refuse_repository_options(&self, command: &Command) -> Result<(), Failure> {
        let (name, takes) = command.takes();
        if self.global.password_file.is_some() && takes != Takes::Url {
            return Err(Failure::usage(
                format!("`belay {name}` takes no --password-file: it works with the configuration"),
                "--repository URL with --password-file is for list, show, ls, diff, check, export, restore --to-dir, catalog rebuild and config recover",
            ));
        }
        let is_rebuild = matches!(command, Command::Catalog(_));
        let is_refused =
            takes == Takes::Nothing || (is_rebuild && self.global.password_file.is_none());
        if self.global.repository.is_some() && is_refused {
            return Err(Failure::usage(
                format!(
                    "`belay {name}` takes no --repository{}",
                    if is_rebuild {
                        " without --password-file: it reads all of the configuration"
                    } else {
                        ""
                    }
                ),
                "--repository NAME is for init, list, show, ls, diff, export, restore, check, prune, pin, unpin, key and config recover; \
                 where an instance's snapshots go is said with `repository` in its section of the configuration",
            ));
        }
        Ok(())
    }

    /// Have a job done: by the daemon of this configuration where it answers, or else here.
    pub(super) fn perform(&self, work: &Work, context: &Context) -> Result<Ended, Failure> {
        let config = self.config()?;
        // What is restored belongs to whom it did: root may make it so, also where the daemon may not.
        let may_do = |daemon: &Remote| !(matches!(work, Work::Restore(_)) && daemon.may_less());
        if let Some(daemon) = Remote::of(config).filter(may_do) {
            return daemon.perform(work, context);
        }
        Ok(perform(config, &self.secrets, work, context))
    }

    /// Have a job done and show what it says.
    pub(super) fn run_and_show(&self, work: &Work) -> Result<Exit, Failure> {
        self.show_ended(self.perform(work, &self.context)?)
    }

    /// Show what a job says at its end, and end as it does.
    pub(super) fn show_ended(&self, ended: Ended) -> Result<Exit, Failure> {
        let ended = succeeded(ended)?;
        let shown = self.show(&ended.document, || ended.text)?;
        Ok(Exit::from_code(ended.exit_code).or(shown))
    }

    /// Show what something says that was done here.
    pub(super) fn show_said(&self, said: Said) -> Result<Exit, Failure> {
        let shown = self.show(&said.document, || said.text)?;
        Ok(said.exit.or(shown))
    }

    /// Show the result: `document` for programs, `text` for people. Ends with 3 where there were warnings.
    pub(super) fn show(
        &self,
        document: &impl Serialize,
        text: impl FnOnce() -> String,
    ) -> Result<Exit, Failure> {
        let warnings = self.renderer.finish();
        if self.global.json {
            output::json(document)?;
        } else {
            let text = text();
            if !text.is_empty() {
                output::line(text)?;
            }
        }
        Ok(if warnings.is_empty() { Exit::Done } else { Exit::Warned })
    }

    /// Take the progress bar away before something else is written.
    pub(super) fn pause_progress(&self) {
        self.renderer.pause();
    }
}
