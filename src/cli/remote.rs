//! The daemon, as the command line asks it: over its socket, where it answers and works with the same state.

mod upgrades;

pub(super) use upgrades::Spoken;

use super::exit::{Exit, Failure};
use super::output;
use crate::config::Config;
use crate::model::event::Event;
use crate::model::id::JobId;
use crate::model::job::{Ended, Work};
use crate::ops::Context;
use crate::ops::status::Status;
use reqwest::blocking::{Client, Response};
use serde::Deserialize;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// A daemon that does not answer this within so long is as good as none.
const ANSWER: Duration = Duration::from_secs(5);
/// For what it has to look up.
const LONG_ANSWER: Duration = Duration::from_mins(2);
/// The job of the daemon that this process follows.
static FOLLOWED: Mutex<Option<JobId>> = Mutex::new(None);
/// How often is looked whether a person wants to stop.
const LOOK: Duration = Duration::from_millis(100);

/// End this process at once. A job of the daemon does not end with it.
pub(super) fn leave() -> ! {
    let followed = *FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = followed {
        output::note(&format!(
            "job {id} is the daemon's, and may go on there: `belay job show {id}` tells"
        ));
    }
    std::process::exit(Exit::Interrupted as i32);
}

/// The daemon.
pub(super) struct Remote {
    client: Client,
    socket: PathBuf,
    /// Whether it works with what the configuration says now.
    is_current: bool,
    /// The user whom its socket belongs to, which is its own.
    user: u32,
}

#[derive(Deserialize)]
struct About {
    state_dir: PathBuf,
    configuration_digest: String,
}

#[derive(Deserialize)]
struct Submitted {
    id: JobId,
}

#[derive(Deserialize)]
struct Problem {
    error: String,
    hint: Option<String>,
}

impl Remote {
    /// The daemon of a configuration, if it answers.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let socket = &config.daemon.socket;
        // Most hosts without a daemon have no socket: nothing else is set up for them.
        let user = std::fs::symlink_metadata(socket).ok()?.uid();
        let remote = Self::at(socket, user)?;
        let about: About = remote.get("/v1/daemon", ANSWER).ok()?;
        let is_current = about.configuration_digest == config.digest();
        (about.state_dir == config.state_dir).then_some(Self { is_current, ..remote })
    }

    fn at(socket: &Path, user: u32) -> Option<Self> {
        crate::notify::install_crypto();
        let client = Client::builder().unix_socket(socket).timeout(None).no_proxy().build().ok()?;
        Some(Self { client, socket: socket.to_owned(), is_current: true, user })
    }

    /// The same, or why there is none.
    pub(super) fn needed(config: &Config) -> Result<Self, Failure> {
        Self::of(config).ok_or_else(|| {
            let (message, hint) = Self::missing(&config.daemon.socket);
            Failure { exit: Exit::Failed, message, hint: Some(hint.into()) }
        })
    }

    /// Why no daemon answers at a socket, and what to do.
    pub(super) fn missing(socket: &Path) -> (String, &'static str) {
        let at = socket.display();
        match UnixStream::connect(socket) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => (
                format!("you may not open the daemon's socket {at}"),
                "ask as root, or as a member of the group belay",
            ),
            Err(_) => (
                format!("no daemon answers at {at}"),
                "start it: `systemctl start belay`, or `belay daemon`",
            ),
            Ok(_) => (
                format!(
                    "the daemon at {at} does not answer, or works with another state directory"
                ),
                "see what it does: `systemctl status belay`",
            ),
        }
    }

    /// Whether this process may do what the daemon may not.
    pub(super) fn may_less(&self) -> bool {
        rustix::process::geteuid().is_root() && self.user != 0
    }

    /// What a person should know of it besides what it says.
    pub(super) fn warning(&self) -> Option<String> {
        let warning = "The daemon works with an older configuration than the file has now. Let it read that: systemctl reload belay";
        (!self.is_current).then(|| warning.to_owned())
    }

    fn url(path: &str) -> String {
        format!("http://belay{path}")
    }

    fn failed(&self, error: &reqwest::Error) -> Failure {
        let mut message =
            format!("the daemon at {} did not answer: {error}", self.socket.display());
        let mut source = std::error::Error::source(error);
        while let Some(reason) = source {
            message = format!("{message}: {reason}");
            source = reason.source();
        }
        let hint = "see what it does: `systemctl status belay`, `journalctl -u belay`";
        Failure { exit: Exit::Failed, message, hint: Some(hint.into()) }
    }

    /// The answer, or what the daemon says is wrong.
    fn answered(&self, response: reqwest::Result<Response>) -> Result<Response, Failure> {
        let response = response.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let problem = response.json::<Problem>().ok();
        let exit = match status.as_u16() {
            400 | 404 => Exit::Usage,
            412 => Exit::Gated,
            _ => Exit::Failed,
        };
        Err(match problem {
            Some(Problem { error, hint }) => Failure { exit, message: error, hint },
            None => Failure { exit, message: format!("the daemon answered {status}"), hint: None },
        })
    }

    fn get<T: for<'de> Deserialize<'de>>(&self, path: &str, limit: Duration) -> Result<T, Failure> {
        let response = self.client.get(Self::url(path)).timeout(limit).send();
        self.answered(response)?.json().map_err(|error| self.failed(&error))
    }

    /// What is known at a glance.
    pub(super) fn status(&self) -> Result<Status, Failure> {
        self.get("/v1/status", LONG_ANSWER)
    }

    /// The newest jobs.
    pub(super) fn jobs(&self, limit: u32) -> Result<Value, Failure> {
        self.get(&format!("/v1/jobs?limit={limit}"), LONG_ANSWER)
    }

    /// A job.
    pub(super) fn job(&self, id: JobId) -> Result<Value, Failure> {
        self.get(&format!("/v1/jobs/{id}"), LONG_ANSWER)
    }

    /// Ask a job to stop.
    pub(super) fn cancel(&self, id: JobId) -> Result<(), Failure> {
        let url = Self::url(&format!("/v1/jobs/{id}/cancel"));
        self.answered(self.client.post(url).timeout(LONG_ANSWER).send()).map(drop)
    }

    /// By an old policy it could forget what the new one keeps, and upgrade by other terms.
    fn ensure_current(&self) -> Result<(), Failure> {
        if self.is_current {
            return Ok(());
        }
        Err(Failure {
            exit: Exit::Usage,
            message: "the daemon works with an older configuration than the file has now".into(),
            hint: Some("let it read that: `systemctl reload belay`, or send it SIGHUP; `belay status` shows why it refuses".into()),
        })
    }

    /// Have something done, and show what happens meanwhile. A person who stops this stops the job.
    pub(super) fn perform(&self, work: &Work, context: &Context) -> Result<Ended, Failure> {
        self.ensure_current()?;
        let body = serde_json::to_vec(work)
            .map_err(|error| Failure::internal(format!("could not write the job: {error}")))?;
        let request = self.client.post(Self::url("/v1/jobs")).timeout(LONG_ANSWER).body(body);
        let submitted: Submitted =
            self.answered(request.send())?.json().map_err(|error| self.failed(&error))?;
        self.follow(submitted.id, context, true)
    }

    /// Show what happens in a job until it ends.
    pub(super) fn follow(
        &self,
        id: JobId,
        context: &Context,
        stops_it: bool,
    ) -> Result<Ended, Failure> {
        let is_over = AtomicBool::new(false);
        let followed = |id| *FOLLOWED.lock().unwrap_or_else(PoisonError::into_inner) = id;
        followed(Some(id));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    if context.cancel.is_cancelled() {
                        if !stops_it || self.cancel(id).is_err() {
                            // Nothing is left to wait for.
                            leave();
                        }
                        return;
                    }
                    std::thread::sleep(LOOK);
                }
            });
            let ended = self.listen(id, context);
            is_over.store(true, Ordering::SeqCst);
            followed(None);
            ended
        })
    }

    fn listen(&self, id: JobId, context: &Context) -> Result<Ended, Failure> {
        let lost = |reason: String| Failure {
            exit: Exit::Failed,
            message: format!(
                "the daemon is not heard of any more, and job {id} may go on or not: {reason}"
            ),
            hint: Some(format!("see how it ended: `belay job show {id}`")),
        };
        let url = Self::url(&format!("/v1/jobs/{id}/events"));
        let sent = self.client.get(url).send().map_err(|error| lost(error.to_string()))?;
        let response = self.answered(Ok(sent))?;
        let mut name = String::new();
        for line in BufReader::new(response).lines() {
            let line = line.map_err(|error| lost(error.to_string()))?;
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
                continue;
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            match name.as_str() {
                "ended" => {
                    return serde_json::from_str(data).map_err(|error| lost(error.to_string()));
                }
                "state" if data.contains("\"queued\"") => {
                    context.events.phase("waiting", "in the daemon's queue");
                }
                // One of a later version is not for this one.
                _ => {
                    if let Ok(event) = serde_json::from_str::<Event>(data) {
                        context.events.send(event);
                    }
                }
            }
        }
        Err(lost("it ended the answer".into()))
    }
}
