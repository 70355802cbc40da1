//! What writes to an instance, stopped for a consistent moment and started again on every way out.
//!
//! Before anything is stopped a note of it is durable in the state directory, so that the next start begins again what a kill
//! has left stopped; and a timer is set where the instance lives, which does so when Belay is not heard of any more. Only for the time in
//! which names are exchanged there is no such timer: nothing may write to what is half swapped.

use super::instance::Living;
use super::private::PrivateDirectory;
use super::volumes::Shelf;
use super::{Context, OpsError};
use crate::access::{Access, AccessError, Command, quote};
use crate::config::{Config, Instance};
use crate::model::event::Events;
use crate::model::id::JobId;
use crate::model::name::Name;
use crate::model::via::ParseViaError;
use crate::platform::recipe::QuiesceRecipe;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use zeroize::Zeroizing;

pub(super) const DIRECTORY: &str = "stopped";

/// For so long after Belay was last heard of, what was stopped stays so: then the instance's own timer starts it.
pub const LEASE: Duration = Duration::from_mins(15);
/// How often Belay is heard of.
const RENEWED_EVERY: Duration = Duration::from_mins(2);
/// How long a stop that nobody waits for may go on before something is started, as `END_STOP` has it.
const STOP_ENDS_WITHIN: Duration = Duration::from_secs(30);
/// How long stopping or starting may take, where nothing says so.
const PATIENCE: Duration = Duration::from_mins(10);
const MOST_ANSWER: u64 = 1024 * 1024;

/// Tells when the first process began: where it is another one a container was started again, and what was stopped in it with it.
const BORN: &str = r#"born() { sed "s/.*) //" /proc/1/stat 2>/dev/null | cut -d " " -f 20; }
"#;

/// Stops, once a timer runs that starts again when the lease has run out. The lease is a file: the timer ends without a word when
/// that is gone. Who stops is written down as long as it lasts, since it may outlive Belay; the timer ends it.
const STOP: &str = r#"set -u
umask 077
token="/tmp/belay-stopped-$1"
(set -C; born > "$token") || exit 1
setsid sh -c '
  while [ -e "$1" ]; do
    if [ $(($(date +%s) - $(stat -c %Y "$1" 2>/dev/null || date +%s))) -ge "$2" ]; then
      mv "$1" "$1.over" 2>/dev/null || exit 0
      rm -f "$1.over"
      start=$3
      set -- "$4"
      END_STOP
      eval "$start"
      exit 0
    fi
    sleep 1
  done' belay "$token" "$2" "$4" "$1" </dev/null >/dev/null 2>&1 &
echo "$$ $(sed "s/.*) //" /proc/$$/stat | cut -d " " -f 3)" > "$token.stopping"
eval "$3" >&2
status=$?
rm -f "$token.stopping"
exit $status"#;

/// A stop that goes on although nobody waits for it any more would undo a start: it gets [`STOP_ENDS_WITHIN`], as one that is killed half way may
/// leave what no start mends, and is killed then. A process of another name has nothing to do with it.
const END_STOP: &str = r#"if { read -r stopping group < "/tmp/belay-stopped-$1.stopping"; } 2>/dev/null; then
  left=30
  while grep -qF "$1" "/proc/$stopping/cmdline" 2>/dev/null; do
    [ "$left" -gt 0 ] || { kill -s KILL -- "-$group"; break; }
    left=$((left - 1))
    sleep 1
  done
fi
rm -f "/tmp/belay-stopped-$1.stopping"
"#;

/// Goes on with the lease; fails where it has run out, or what it was of was started again.
const RENEW: &str = r#"token="/tmp/belay-stopped-$1"
touch -c "$token" && [ -e "$token" ] && [ "$(cat "$token")" = "$(born)" ]"#;

/// Ends the lease, so that only Belay starts what is stopped; fails where it has run out, or what it was of was started again.
const HOLD: &str = r#"token="/tmp/belay-stopped-$1"
[ "$(cat "$token")" = "$(born)" ] && mv "$token" "$token.held""#;

/// Fails where what is held was started again with what it is in.
const IS_HELD: &str = r#"token="/tmp/belay-stopped-$1"
[ -e "$token.held" ] && [ "$(cat "$token.held")" = "$(born)" ]"#;

/// Ends the lease of what was put in place anew.
const FORGET: &str = r#"token="/tmp/belay-stopped-$1"
rm -f "$token" "$token.held""#;

/// Starts. Says so where the lease had run out, and what is started ran already.
const START: &str = r#"set -u
token="/tmp/belay-stopped-$1"
held=$3
[ -n "$held" ] || rm "$token" 2>/dev/null || echo started
rm -f "$token.held"
eval "$2" >&2"#;

/// What was stopped, as the next start has to know it.
#[derive(Serialize, Deserialize)]
struct Note {
    instance: Name,
    token: String,
    /// How it is started, where the platform's recipe does not say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switch: Option<Switch>,
    /// An upgrade has stopped it, and no backup or restore starts it again.
    #[serde(default)]
    by_upgrade: bool,
    /// There is no lease any more.
    #[serde(default)]
    is_held: bool,
}

/// What stops those who write to an instance and starts them again, where its platform's recipe has nothing for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switch {
    /// Where both run, as the configuration writes it.
    pub via: String,
    /// Stops them, and ends when they have stopped.
    pub stop: Vec<String>,
    /// Starts them.
    pub start: Vec<String>,
    /// How many seconds each of both may take; ten minutes where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_seconds: Option<u64>,
}

/// Writers that are stopped. Dropping it starts them.
pub struct Quiesced {
    note: Note,
    directory: PrivateDirectory,
    access: Access,
    start: Command,
    events: Events,
    is_over: bool,
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
    if is_stopped_by_upgrade(config, &living.instance.name)? {
        // It stays so: only the upgrade knows which version may start.
        return Ok(None);
    }
    let note = Note {
        instance: living.instance.name.clone(),
        token: job.to_string(),
        switch: None,
        by_upgrade: false,
        is_held: false,
    };
    stop_by(config, &Ways::of_recipe(living, recipe), note, context).map(Some)
}

/// Stop what writes to an instance until an upgrade starts it again: in its container as its platform's recipe says, elsewhere by
/// `switch`. None where there is neither.
pub fn stop_for_upgrade(
    config: &Config,
    instance: &Instance,
    switch: Option<Switch>,
    job: JobId,
    context: &Context,
) -> Result<Option<Quiesced>, OpsError> {
    let living = Living::look(config, instance, context)?;
    let name = &instance.name;
    let token = job.to_string();
    let note =
        |switch| Note { instance: name.clone(), token, switch, by_upgrade: true, is_held: false };
    let in_container = instance.via.container().is_some();
    match (&living.recipe.quiesce, switch) {
        (Some(recipe), switch) if in_container || switch.is_none() => {
            stop_by(config, &Ways::of_recipe(&living, recipe), note(None), context).map(Some)
        }
        (_, Some(switch)) => {
            let ways = Ways::of_switch(&living.access, &switch)?;
            stop_by(config, &ways, note(Some(switch)), context).map(Some)
        }
        (_, None) => Ok(None),
    }
}

/// Stop all of an instance by `switch`, its databases too, until an upgrade starts it again.
pub fn stop_whole_for_upgrade(
    config: &Config,
    instance: &Instance,
    switch: Switch,
    job: JobId,
    context: &Context,
) -> Result<Quiesced, OpsError> {
    let ways = Ways::of_switch(&access_of(config, instance, context), &switch)?;
    let (instance, token) = (instance.name.clone(), job.to_string());
    let note = Note { instance, token, switch: Some(switch), by_upgrade: true, is_held: false };
    stop_by(config, &ways, note, context)
}

fn access_of(config: &Config, instance: &Instance, context: &Context) -> Access {
    Access::new(instance.via.clone(), config.ssh_config.clone(), &context.cancel)
}

/// Start again what an upgrade has stopped, whichever process that was.
pub fn resume_of_upgrade(
    config: &Config,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    resume(config, instance, true, context)
}

/// What an upgrade has stopped was put in place anew, or is to be stopped anew: nothing starts it for that upgrade any more.
pub fn forget_of_upgrade(
    config: &Config,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    let Some(directory) = PrivateDirectory::open(&config.state_dir, DIRECTORY)? else {
        return Ok(());
    };
    let Some(note) = Note::read(&directory, &instance.name)? else { return Ok(()) };
    if !note.by_upgrade {
        return Ok(());
    }
    // What has just been put in place may not be reached yet, and without a lease there is no need to.
    if note.is_held {
        if let Some(switch) = &note.switch {
            let ways = Ways::of_switch(&access_of(config, instance, context), switch)?;
            // What is left there is but a mark that nobody looks at any more.
            let _ = ways.access.run(&forget(&note.token), &[], 0);
        }
        return directory.remove(&file_of(&note.instance));
    }
    // A timer in a container ended with that.
    let is_gone = note.switch.is_none()
        && Shelf::of(config, instance, context).map(|shelf| shelf.runs()).transpose()?
            == Some(false);
    if !is_gone && let Some(ways) = Ways::of_note(config, instance, &note, context)? {
        ways.access.run(&forget(&note.token), &[], 0).map_err(|error| {
            OpsError::refused(
                format!(
                    "the timer that starts what writes to {} could not be ended: {error}",
                    note.instance
                ),
                "see that its host is reached; it is tried again",
            )
        })?;
    }
    directory.remove(&file_of(&note.instance))
}

/// Whether an upgrade has stopped it.
fn is_stopped_by_upgrade(config: &Config, instance: &Name) -> Result<bool, OpsError> {
    let Some(directory) = PrivateDirectory::open(&config.state_dir, DIRECTORY)? else {
        return Ok(false);
    };
    Ok(Note::read(&directory, instance)?.is_some_and(|note| note.by_upgrade))
}

impl Note {
    /// What is noted of an instance; one that cannot be read says only that something was stopped.
    fn read(directory: &PrivateDirectory, instance: &Name) -> Result<Option<Self>, OpsError> {
        let Some(json) = directory.read(&file_of(instance))? else { return Ok(None) };
        let unreadable = || Self {
            instance: instance.clone(),
            token: String::new(),
            switch: None,
            by_upgrade: false,
            is_held: false,
        };
        Ok(Some(serde_json::from_slice(&json).unwrap_or_else(|_| unreadable())))
    }
}

/// How they are stopped and started.
struct Ways {
    access: Access,
    stop: String,
    start: String,
    variables: Vec<(String, Zeroizing<String>)>,
    patience: Duration,
}

impl Ways {
    /// How what was noted is started; none where nothing says so any more.
    fn of_note(
        config: &Config,
        instance: &Instance,
        note: &Note,
        context: &Context,
    ) -> Result<Option<Self>, OpsError> {
        if let Some(switch) = &note.switch {
            // Nothing of it may run that could be looked at.
            return Self::of_switch(&access_of(config, instance, context), switch).map(Some);
        }
        let living = Living::look(config, instance, context)?;
        Ok(living.recipe.quiesce.as_ref().map(|recipe| Self::of_recipe(&living, recipe)))
    }

    fn of_recipe(living: &Living<'_>, recipe: &QuiesceRecipe) -> Self {
        let given = |name: &String| Some((name.clone(), living.variable(name)?.to_owned().into()));
        Self {
            access: living.access.anew(),
            stop: line_of(&recipe.stop),
            start: line_of(&recipe.start),
            variables: recipe.variables.iter().filter_map(given).collect(),
            patience: PATIENCE,
        }
    }

    fn of_switch(access: &Access, switch: &Switch) -> Result<Self, OpsError> {
        let via = switch.via.parse().map_err(|error: ParseViaError| {
            OpsError::usage(error.to_string(), "is this a note of this version of Belay?")
        })?;
        let (stop, start) = (line_of(&switch.stop), line_of(&switch.start));
        let patience = switch.limit_seconds.map_or(PATIENCE, Duration::from_secs);
        Ok(Self { access: access.to(via), stop, start, variables: Vec::new(), patience })
    }

    fn command(&self, script: &str) -> Command {
        let command = Command::shell(script).silence(self.patience);
        self.variables.iter().fold(command, |command, (name, value)| command.secret(name, value))
    }

    fn start_command(&self, token: &str) -> Command {
        let command = self.command(&[END_STOP, START].concat()).arguments([token, &self.start]);
        command.silence(self.patience + STOP_ENDS_WITHIN)
    }
}

fn stop_by(
    config: &Config,
    ways: &Ways,
    note: Note,
    context: &Context,
) -> Result<Quiesced, OpsError> {
    context.events.phase("stopping", format!("what writes to {}", note.instance));
    let directory = PrivateDirectory::make(&config.state_dir, DIRECTORY)?;
    directory.write_json(&file_of(&note.instance), &note)?;
    let seconds = LEASE.as_secs().to_string();
    let command = ways.command(&stop_script()).arguments([
        note.token.as_str(),
        &seconds,
        &ways.stop,
        &ways.start,
    ]);
    let mut stopped = Quiesced {
        start: ways.start_command(&note.token),
        note,
        directory,
        access: ways.access.anew(),
        events: context.events.clone(),
        is_over: false,
        renewing: None,
    };
    // It may take longer than the lease lasts.
    stopped.renew();
    // On failure what was stopped of it is started again.
    ways.access.run(&command, &[], MOST_ANSWER)?;
    Ok(stopped)
}

fn stop_script() -> String {
    with_born(&STOP.replace("END_STOP", END_STOP))
}

fn forget(token: &str) -> Command {
    Command::shell(&[END_STOP, FORGET].concat()).argument(token)
}

fn with_born(script: &str) -> String {
    [BORN, script].concat()
}

fn file_of(instance: &Name) -> String {
    format!("{instance}.json")
}

/// A command as a line for `sh`.
fn line_of(command: &[String]) -> String {
    let words: Vec<Vec<u8>> = command.iter().map(|word| word.clone().into_bytes()).collect();
    String::from_utf8_lossy(&quote::join(&words)).into_owned()
}

impl Quiesced {
    /// Go on with the lease, for as long as this is there.
    fn renew(&mut self) {
        let (stop, stopped) = channel();
        let renew = Command::shell(&with_born(RENEW)).argument(&self.note.token).silence(PATIENCE);
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
    pub fn hold(&mut self) -> Result<(), OpsError> {
        if self.note.is_held {
            return Ok(());
        }
        self.end_renewing();
        let hold = Command::shell(&with_born(HOLD)).argument(&self.note.token);
        self.access.run(&hold, &[], 0).map_err(|error| {
            OpsError::refused(
                format!("what writes to {} was started again before its new state was in place: {error}", self.note.instance),
                "nothing was replaced; see why Belay was not heard of for so long, and run it again",
            )
        })?;
        self.note.is_held = true;
        self.directory.write_json(&file_of(&self.note.instance), &self.note)
    }

    /// Start what was stopped. Tells where that had been done already, so that not all that was read meanwhile is of one moment.
    pub fn resume(mut self) -> Result<Option<String>, OpsError> {
        let was_started = self.start()?;
        Ok(was_started.then(|| {
            "what writes was started again before all was read: not all is of one moment".to_owned()
        }))
    }

    /// They stay stopped until the next backup or restore has finished what is half done, or the upgrade goes on.
    pub fn leave(mut self) {
        self.end_renewing();
        self.is_over = true;
    }

    /// Whether they have been stopped since, without a pause.
    pub fn is_unbroken(&self) -> bool {
        let ask = if self.note.is_held { IS_HELD } else { RENEW };
        let ask = Command::shell(&with_born(ask)).argument(&self.note.token).silence(PATIENCE);
        self.access.anew().run(&ask, &[], 0).is_ok()
    }

    fn start(&mut self) -> Result<bool, OpsError> {
        self.end_renewing();
        self.is_over = true;
        let start = self.start.clone().argument(if self.note.is_held { "held" } else { "" });
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

/// Start what a run that was killed has left stopped, but for what an upgrade has.
pub(super) fn resume_left(
    config: &Config,
    instance: &Instance,
    context: &Context,
) -> Result<(), OpsError> {
    resume(config, instance, false, context)
}

fn resume(
    config: &Config,
    instance: &Instance,
    is_upgrade: bool,
    context: &Context,
) -> Result<(), OpsError> {
    let Some(directory) = PrivateDirectory::open(&config.state_dir, DIRECTORY)? else {
        return Ok(());
    };
    let (name, file) = (&instance.name, file_of(&instance.name));
    let Some(note) = Note::read(&directory, name)? else { return Ok(()) };
    if note.by_upgrade && !is_upgrade {
        return Ok(());
    }
    let Some(ways) = Ways::of_note(config, instance, &note, context)? else {
        return directory.remove(&file);
    };
    let start = ways.start_command(&note.token).argument("");
    ways.access.run(&start, &[], MOST_ANSWER).map_err(|error| left_stopped(name, &error))?;
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
    let Some(directory) = PrivateDirectory::open(state_dir, DIRECTORY).ok().flatten() else {
        return Vec::new();
    };
    let names = directory.names().unwrap_or_default();
    let instances = names.iter().filter_map(|name| Some((name, name.strip_suffix(".json")?)));
    let told = instances.map(|(file, name)| {
        let json = directory.read(file).ok().flatten();
        let note = json.and_then(|json| serde_json::from_slice::<Note>(&json).ok());
        if note.is_some_and(|note| note.by_upgrade) {
            return format!("An upgrade has stopped what writes to {name}, and has not started it again: `belay upgrade status` tells what it waits for.");
        }
        format!("A run has stopped what writes to {name}, and has not started it again. The next backup or restore of {name} does.")
    });
    told.collect()
}

#[cfg(test)]
mod tests;
