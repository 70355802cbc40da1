//! `belay export`.

use super::arguments::ExportArguments;
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::render::{counted, local_time};
use crate::model::size::Bytes;
use crate::ops::export::{Exported, to_file, to_writer};
use std::io::{self, IsTerminal as _};

pub(super) fn run(arguments: &ExportArguments, environment: &Environment) -> Result<Exit, Failure> {
    let ExportArguments { snapshot, file, force } = arguments;
    let is_stream = file.as_os_str() == "-";
    if is_stream && io::stdout().is_terminal() {
        return Err(Failure::usage(
            "an export is nothing that a terminal can show",
            "name a file, or write standard output into one",
        ));
    }
    if is_stream && environment.global.json {
        return Err(Failure::usage(
            "the export and what --json prints would both go to standard output",
            "leave one of them out",
        ));
    }
    let session = environment.session_of(snapshot)?;
    let context = &environment.context;
    if is_stream {
        let exported = to_writer(&session, snapshot, &mut io::stdout().lock(), context)?;
        context.events.note(text(&exported, "standard output"));
        return environment.show(&(), String::new);
    }
    // A bare machine has no configuration, and none of its places to keep out of.
    let config = environment.bare()?.is_none().then(|| environment.config()).transpose()?;
    let exported = to_file((&session, config), snapshot, file, *force, context)?;
    environment.show(&exported, || text(&exported, &file.display().to_string()))
}

fn text(exported: &Exported, place: &str) -> String {
    format!(
        "Snapshot {} of {} is in {place}: {} with {}, {} packed.\n\
         It is not encrypted: whoever can read it has all that the snapshot has, passwords and keys included.",
        exported.snapshot.short(),
        local_time(exported.time),
        counted(exported.entries, "entry", "entries"),
        Bytes(exported.bytes),
        Bytes(exported.file_bytes),
    )
}
