//! What writes to an instance, stopped for a consistent moment and started again on every way out.
//!
//! Before anything is stopped a note of it is durable in the state directory, so that the next start begins again what a kill
//! has left stopped; and a timer is set where the instance lives, which does so when Belay is not heard of any more. Only for the time in
//! which names are exchanged there is no such timer: nothing may write to what is half swapped.

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
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

pub(super) const DIRECTORY: &str = "stopped";

/// For so long after Belay was last heard of, what was stopped stays so: then the instance's own timer starts it.
const LEASE: Duration = Duration::from_mins(15);
/// How often Belay is heard of.
const RENEWED_EVERY: Duration = Duration::from_mins(2);
/// How long stopping or starting may take without a word.
const PATIENCE: Duration = Duration::from_mins(10);
const MOST_ANSWER: u64 = 1024 * 1024;

/// Stops, once a timer runs that starts again when the lease has run out. The lease is a file: the timer ends without a word when
/// that is gone.
const STOP: &str = r#"set -u
umask 077
token="/tmp/belay-stopped-$1"
(set -C; : > "$token") || exit 1
setsid sh -c '
  while [ -e "$1" ]; do
    if [ $(($(date +%s) - $(stat -c %Y "$1" 2>/dev/null || date +%s))) -ge "$2" ]; then
      mv "$1" "$1.over" 2>/dev/null || exit 0
      rm -f "$1.over"
      eval "$3"
      exit 0
    fi
    sleep 5
  done' belay "$token" "$2" "$4" </dev/null >/dev/null 2>&1 &
eval "$3" >&2"#;

/// Goes on with the lease; fails where it has run out.
const RENEW: &str = r#"touch -c "/tmp/belay-stopped-$1" && [ -e "/tmp/belay-stopped-$1" ]"#;

/// Ends the lease, so that only Belay starts what is stopped; fails where it has run out.
const HOLD: &str = r#"rm "/tmp/belay-stopped-$1""#;

/// Starts. Says so where the lease had run out, and what is started ran already.
const START: &str = r#"set -u
token="/tmp/belay-stopped-$1"
held=$3
[ -n "$held" ] || rm "$token" 2>/dev/null || echo started
eval "$2" >&2"#;

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
    /// There is no lease any more.
    is_held: bool,
    /// Ends the thread that renews the lease.
    renewing: Option<(Sender<()>, JoinHandle<()>)>,
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
    let seconds = LEASE.as_secs().to_string();
    let command = Command::shell(STOP).arguments([
        note.token.as_str(),
        &seconds,
        &line_of(&recipe.stop),
        &line_of(&recipe.start),
    ]);
    let mut stopped = Quiesced {
        start: starting(living, recipe, &note),
        note,
        directory,
        access: living.access.clone(),
        events: context.events.clone(),
        is_over: false,
        is_held: false,
        renewing: None,
    };
    let command = with_variables(command, living, recipe);
    // On failure what was stopped of it is started again.
    living.access.run(&command, &[], MOST_ANSWER)?;
    stopped.renew();
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
    /// Go on with the lease, for as long as this is there.
    fn renew(&mut self) {
        let (stop, stopped) = channel();
        let renew = Command::shell(RENEW).argument(&self.note.token).silence(PATIENCE);
        let access = self.access.anew();
        let thread = std::thread::Builder::new().name("lease".into()).spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(RENEWED_EVERY) {
                // One that has run out is told when it counts.
                let _ = access.run(&renew, &[], 0);
            }
        });
        // Without the thread the lease runs out, which is told as well.
        self.renewing = thread.ok().map(|thread| (stop, thread));
    }

    fn end_renewing(&mut self) {
        if let Some((stop, thread)) = self.renewing.take() {
            drop(stop);
            // It only renews.
            let _ = thread.join();
        }
    }

    /// From here on nobody but Belay starts them. An error where the lease had run out, and they run already.
    pub(super) fn hold(&mut self) -> Result<(), OpsError> {
        self.end_renewing();
        let hold = Command::shell(HOLD).argument(&self.note.token);
        self.access.run(&hold, &[], 0).map_err(|error| {
            OpsError::refused(
                format!("what writes to {} was started again before its new state was in place: {error}", self.note.instance),
                "nothing was replaced; see why Belay was not heard of for so long, and run it again",
            )
        })?;
        self.is_held = true;
        Ok(())
    }

    /// Start what was stopped. Tells where that had been done already, so that not all that was read meanwhile is of one moment.
    pub(super) fn resume(mut self) -> Result<Option<String>, OpsError> {
        let was_started = self.start()?;
        Ok(was_started.then(|| {
            "what writes was started again before all was read: not all is of one moment".to_owned()
        }))
    }

    /// They stay stopped until the next backup or restore has finished what is half done.
    pub(super) fn leave(mut self) {
        self.end_renewing();
        self.is_over = true;
    }

    fn start(&mut self) -> Result<bool, OpsError> {
        self.end_renewing();
        self.is_over = true;
        let start = self.start.clone().argument(if self.is_held { "held" } else { "" });
        let said = self.access.anew().run(&start, &[], MOST_ANSWER)?;
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
    let start = starting(&living, recipe, &note).argument("");
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
