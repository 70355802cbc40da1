//! The command line: what is asked for is parsed here, shown here, and turned into an exit code here. Nothing else in the
//! crate knows a terminal.

mod adopt;
mod apps;
mod arguments;
mod backup;
mod catalog;
mod check;
mod config;
mod daemon;
mod demo;
mod diff;
mod discover;
mod doctor;
mod exit;
mod export;
mod gate;
mod git_worker;
mod import;
mod init;
mod job;
mod key;
mod list;
mod ls;
mod open;
mod output;
mod perform;
mod pin;
mod prompt;
mod prune;
mod remote;
mod render;
mod restore;
mod show;
mod status;
mod upgrade;

pub use exit::Exit;

use crate::model::event::Cancel;
use arguments::{Arguments, Command};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use exit::Failure;
use open::Environment;
use std::ffi::OsString;

/// Parse the arguments, do what they say, and say how it ended. Blocks; `cancel` makes it stop.
pub fn run(arguments: impl IntoIterator<Item = OsString>, cancel: &Cancel) -> Exit {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error, &given),
    };
    let environment = Environment::new(arguments.global, cancel);
    match dispatch(arguments.command, &environment) {
        Ok(exit) => exit,
        Err(failure) => {
            output::failure(&failure, environment.global.json);
            failure.exit
        }
    }
}

/// End the process at once, for whoever asked twice; says what goes on without it.
pub fn leave() -> ! {
    remote::leave()
}

/// What clap has to say: what is wrong with the command line, or the help that was asked for.
fn misused(error: &clap::Error, given: &[OsString]) -> Exit {
    // A closed pipe is nobody's to tell.
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Done;
    }
    if given.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json") {
        let text = error.to_string();
        let message = match error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing",
            _ => text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: "),
        };
        output::failure_document(&Failure::usage(
            message,
            "`belay --help` tells what can be written",
        ));
    }
    Exit::Usage
}

fn dispatch(command: Command, environment: &Environment) -> Result<Exit, Failure> {
    environment.refuse_repository_options(&command)?;
    match command {
        Command::Init => init::run(environment),
        Command::Doctor(arguments) => doctor::run(&arguments, environment),
        Command::Discover(arguments) => discover::run(&arguments, environment),
        Command::Status => status::run(environment),
        Command::Daemon => daemon::run(environment),
        Command::Job(arguments) => job::run(&arguments, environment),
        Command::Backup(arguments) => backup::run(&arguments, environment),
        Command::Gate(arguments) => gate::run(&arguments, environment),
        Command::Upgrade(arguments) => upgrade::run(&arguments, environment),
        Command::Apps(arguments) => apps::run(&arguments, environment),
        Command::List => list::run(environment),
        Command::Show(arguments) => show::run(&arguments, environment),
        Command::Ls(arguments) => ls::run(&arguments, environment),
        Command::Diff(arguments) => diff::run(&arguments, environment),
        Command::Restore(arguments) => restore::run(&arguments, environment),
        Command::Export(arguments) => export::run(&arguments, environment),
        Command::Import(arguments) => import::run(&arguments, environment),
        Command::Check(arguments) => check::run(&arguments, environment),
        Command::Prune(arguments) => prune::run(&arguments, environment),
        Command::Pin(arguments) => pin::pin(&arguments, environment),
        Command::Unpin(arguments) => pin::unpin(&arguments, environment),
        Command::Adopt(arguments) => adopt::run(&arguments, environment),
        Command::Key(arguments) => key::run(&arguments, environment),
        Command::Catalog(arguments) => catalog::run(&arguments, environment),
        Command::Config(arguments) => config::run(&arguments, environment),
        Command::GitWorker => git_worker::run(environment),
        Command::Demo => demo::run(environment),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "belay", &mut script);
            text(&script, environment)
        }
        Command::Man { command } => text(&man(command.as_deref())?, environment),
    }
}

/// The manual page of the program, or of one command.
fn man(name: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut command = Arguments::command();
    command.build();
    let page = match name {
        None => command,
        Some(name) => command.find_subcommand(name).cloned().ok_or_else(|| {
            Failure::usage(format!("there is no command '{name}'"), "`belay --help` lists them")
        })?,
    };
    let mut text = Vec::new();
    let rendered = clap_mangen::Man::new(page).render(&mut text);
    rendered
        .map_err(|error| Failure::internal(format!("could not write the manual page: {error}")))?;
    Ok(text)
}

/// A text that is written as it is; with `--json` a string, on one line as everything then.
fn text(text: &[u8], environment: &Environment) -> Result<Exit, Failure> {
    if environment.global.json {
        return output::json(&String::from_utf8_lossy(text));
    }
    output::bytes(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_manual_page() {
        for command in Arguments::command().get_subcommands() {
            assert!(man(Some(command.get_name())).is_ok(), "{}", command.get_name());
        }
        assert!(man(Some("nonsense")).is_err());
    }
}
