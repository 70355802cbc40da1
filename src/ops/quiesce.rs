//! What writes to an instance, stopped for a consistent moment and started again on every way out.
//!
//! Before anything is stopped a note of it is durable in the state directory, so that the next start begins again what a kill
//! has left stopped; and a timer is set where the instance lives, which does so if this host does not come back.

use super::instance::Living;
use super::private::PrivateDirectory;
use super::{Context, OpsError};
use crate::access::{Access, AccessError, Command, quote};
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::platform::recipe::QuiesceRecipe;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

const DIRECTORY: &str = "stopped";

/// After so long the instance's own timer starts what was stopped.
const LONGEST: Duration = Duration::from_hours(4);
/// How long stopping or starting may take without a word.
const PATIENCE: Duration = Duration::from_mins(10);
const MOST_ANSWER: u64 = 1024 * 1024;

/// Sets the timer and stops. The timer runs apart from whoever has set it.
const STOP: &str = r#"set -u
umask 077
token="/tmp/belay-stopped-$1"
(set -C; : > "$token") || exit 1
setsid sh -c 'sleep "$2"; [ -e "$1" ] || exit 0; rm -f "$1"; eval "$3"' belay "$token" "$2" "$4" </dev/null >/dev/null 2>&1 &
echo $! > "$token"
eval "$3" >&2"#;

/// Starts, and ends the timer. Says whether the timer had done it already.
const START: &str = r#"set -u
token="/tmp/belay-stopped-$1"
if [ -e "$token" ]; then
  timer=$(cat "$token")
  eval "$2" >&2 || exit 1
  rm -f "$token"
  [ -z "$timer" ] || kill -- "-$timer" 2>/dev/null || :
else
  eval "$2" >&2 || exit 1
  echo started
fi"#;

/// What was stopped, as the next start has to know it.
#[derive(Serialize, Deserialize)]
struct Note {
    instance: Name,
    token: String,
}

/// Writers that are stopped. Dropping it starts them.
pub(super) struct Quiesced {
    note: Note,
    directory: PrivateDirectory,
    access: Access,
    start: Command,
    events: Events,
    is_over: bool,
}

/// Stop what writes to an instance; none where its platform has nothing that can be stopped.
pub(super) fn stop(
    config: &Config,
    living: &Living<'_>,
    job: JobId,
    context: &Context,
) -> Result<Option<Quiesced>, OpsError> {
    let Some(recipe) = &living.recipe.quiesce else { return Ok(None) };
    let instance = living.instance.name.clone();
    context.events.phase("stopping", format!("what writes to {instance}"));
    let note = Note { instance, token: job.to_string() };
    let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
    directory.write_json(&file_of(&note.instance), &note)?;
    let seconds = LONGEST.as_secs().to_string();
    let command = Command::shell(STOP).arguments([
        note.token.as_str(),
        &seconds,
        &line_of(&recipe.stop),
        &line_of(&recipe.start),
    ]);
    let stopped = Quiesced {
        start: starting(living, recipe, &note),
        note,
        directory,
        access: living.access.clone(),
        events: context.events.clone(),
        is_over: false,
    };
    let command = with_variables(command, living, recipe);
    // On failure what was stopped of it is started again.
    living.access.run(&command, &[], MOST_ANSWER)?;
    Ok(Some(stopped))
}

fn file_of(instance: &Name) -> String {
    format!("{instance}.json")
}

/// A command as a line for `sh`.
fn line_of(command: &[String]) -> String {
    let words: Vec<Vec<u8>> = command.iter().map(|word| word.clone().into_bytes()).collect();
    String::from_utf8_lossy(&quote::join(&words)).into_owned()
}

fn starting(living: &Living<'_>, recipe: &QuiesceRecipe, note: &Note) -> Command {
    let command = Command::shell(START).arguments([note.token.as_str(), &line_of(&recipe.start)]);
    with_variables(command, living, recipe)
}

fn with_variables(command: Command, living: &Living<'_>, recipe: &QuiesceRecipe) -> Command {
    let given = recipe.variables.iter().filter_map(|name| Some((name, living.variable(name)?)));
    given.fold(command.silence(PATIENCE), |command, (name, value)| command.secret(name, value))
}

impl Quiesced {
    /// Start what was stopped. Tells where that had been done already, so that not all that was read meanwhile is of one moment.
    pub(super) fn resume(mut self) -> Result<Option<String>, OpsError> {
        let was_started = self.start()?;
        Ok(was_started.then(|| {
            "what writes was started again before all was read: not all is of one moment".to_owned()
        }))
    }

    /// They stay stopped until the next backup or restore has finished what is half done.
    pub(super) fn leave(mut self) {
        self.is_over = true;
    }

    fn start(&mut self) -> Result<bool, OpsError> {
        self.is_over = true;
        let said = self.access.anew().run(&self.start, &[], MOST_ANSWER)?;
        self.directory.remove(&file_of(&self.note.instance))?;
        Ok(!said.is_empty())
    }
}

impl Drop for Quiesced {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        if let Err(error) = self.start() {
            let name = &self.note.instance;
            self.events.warn(format!("What was stopped of {name} could not be started again: {error}. The next backup or restore of {name} tries again; a container that is started anew starts it by itself."));
        }
    }
}

/// Start what a run that was killed has left stopped.
pub(super) fn resume_left(
    config: &Config,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    let Some(directory) = PrivateDirectory::open(&config.state_dir, DIRECTORY)? else {
        return Ok(());
    };
    let file = file_of(&instance.name);
    let Some(json) = directory.read(&file)? else { return Ok(()) };
    let token = serde_json::from_slice(&json).map(|note: Note| note.token).unwrap_or_default();
    let name = &instance.name;
    let living = Living::look(config, instance, context)?;
    let Some(recipe) = &living.recipe.quiesce else {
        directory.remove(&file)?;
        return Ok(());
    };
    let note = Note { instance: name.clone(), token };
    let start = starting(&living, recipe, &note);
    living.access.run(&start, &[], MOST_ANSWER).map_err(|error| left_stopped(name, &error))?;
    directory.remove(&file)?;
    context.events.note(format!("What an interrupted run had stopped of {name} is started again."));
    Ok(())
}

fn left_stopped(name: &Name, error: &AccessError) -> OpsError {
    OpsError::refused(
        format!(
            "what an interrupted run had stopped of {name} could not be started again: {error}"
        ),
        error.hint().unwrap_or_else(|| {
            "start it where the instance lives, such as by making the container start anew".into()
        }),
    )
}

/// Whether runs that were killed have left something stopped, one sentence each.
pub(super) fn left(state_dir: &Path) -> Vec<String> {
    let names = PrivateDirectory::open(state_dir, DIRECTORY).ok().flatten();
    let names = names.and_then(|directory| directory.names().ok()).unwrap_or_default();
    let instances = names.iter().filter_map(|name| name.strip_suffix(".json"));
    instances
        .map(|name| format!("A run has stopped what writes to {name}, and has not started it again. The next backup or restore of {name} does."))
        .collect()
}
