//! The command line: what is asked for is parsed here, shown here, and turned into an exit code here. Nothing else in the
//! crate knows a terminal.

mod adopt;
mod arguments;
mod backup;
mod catalog;
mod check;
mod config;
mod demo;
mod diff;
mod doctor;
mod exit;
mod init;
mod key;
mod list;
mod ls;
mod open;
mod output;
mod pin;
mod prompt;
mod prune;
mod render;
mod restore;
mod show;
mod status;

pub use exit::Exit;

use crate::model::event::Cancel;
use arguments::{Arguments, Command};
use clap::{CommandFactory as _, Parser as _};
use exit::Failure;
use open::Environment;

/// Parse the arguments, do what they say, and say how it ended. Blocks; `cancel` makes it stop.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>, cancel: &Cancel) -> Exit {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are no errors. A closed pipe is nobody's to tell.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
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

fn dispatch(command: Command, environment: &Environment) -> Result<Exit, Failure> {
    match command {
        Command::Init => init::run(environment),
        Command::Doctor(arguments) => doctor::run(&arguments, environment),
        Command::Status => status::run(environment),
        Command::Backup(arguments) => backup::run(&arguments, environment),
        Command::List => list::run(environment),
        Command::Show(arguments) => show::run(&arguments, environment),
        Command::Ls(arguments) => ls::run(&arguments, environment),
        Command::Diff(arguments) => diff::run(&arguments, environment),
        Command::Restore(arguments) => restore::run(&arguments, environment),
        Command::Check(arguments) => check::run(&arguments, environment),
        Command::Prune(arguments) => prune::run(&arguments, environment),
        Command::Pin(arguments) => pin::pin(&arguments, environment),
        Command::Unpin(arguments) => pin::unpin(&arguments, environment),
        Command::Adopt(arguments) => adopt::run(&arguments, environment),
        Command::Key(arguments) => key::run(&arguments, environment),
        Command::Catalog(arguments) => catalog::run(&arguments, environment),
        Command::Config(arguments) => config::run(&arguments, environment),
        Command::Demo => demo::run(environment),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "belay", &mut script);
            output::bytes(&script)
        }
        Command::Man { command } => man(command.as_deref()),
    }
}

/// The manual page of the program, or of one command.
fn man(name: Option<&str>) -> Result<Exit, Failure> {
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
    output::bytes(&text)
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
