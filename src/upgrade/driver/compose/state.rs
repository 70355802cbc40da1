//! What Docker says of the service's container: whether it runs and is healthy, and which image it is of.

use super::{ComposeDriver, ImageName};
use crate::upgrade::driver::{DriverError, Image, refused};
use serde::Deserialize;
use std::time::{Duration, Instant};

/// How long a container may take until it runs and says that it is healthy: a platform moves its data at the first start of a release.
const START_LIMIT: Duration = Duration::from_mins(30);
const LOOK: Duration = Duration::from_millis(500);
/// One that checks nothing by itself has to stay for so long.
const STAYS: Duration = Duration::from_secs(5);
/// One that was started so often by itself does not stay.
const MOST_RESTARTS: u64 = 2;
/// Lines of its log, for the error.
const LOG_LINES: &str = "15";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    image: String,
    config: Configured,
    state: State,
    #[serde(default)]
    restart_count: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configured {
    image: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    running: bool,
    #[serde(default)]
    restarting: bool,
    #[serde(default)]
    exit_code: i64,
    started_at: String,
    health: Option<Health>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Health {
    status: String,
}

impl ComposeDriver<'_> {
    pub(in crate::upgrade::driver) fn is_running(&self) -> Result<bool, DriverError> {
        let container = self.container()?;
        Ok(container.is_some_and(|(_, it)| it.state.running && !it.state.restarting))
    }

    /// The image that the container was made from.
    pub(in crate::upgrade::driver) fn running_image(&self) -> Result<Option<Image>, DriverError> {
        let Some((_, container)) = self.container()? else { return Ok(None) };
        let named = ImageName::parse(&container.config.image);
        let digest = match &named.digest {
            Some(digest) => digest.clone(),
            None => self.digest_of(&container.image, &named)?,
        };
        let tag = named.tag.unwrap_or_else(|| "latest".to_owned());
        Ok(Some(Image { name: named.name, tag, digest }))
    }

    /// Wait until the container runs, and is healthy or stays.
    pub(super) fn wait_until_running(&self) -> Result<(), DriverError> {
        let begun = Instant::now();
        let mut stays_since: Option<(String, Instant)> = None;
        let mut restarts = None;
        let Some(id) = self.id()? else {
            let message = format!("the service {} has no container", self.settings.service);
            return Err(refused(self.instance, message, "see `docker compose ps -a` there"));
        };
        loop {
            self.context.cancel.check()?;
            let container = self.inspect(&id)?;
            let state = &container.state;
            let before = *restarts.get_or_insert(container.restart_count);
            let has_ended = !state.running && !state.restarting && state.status != "created";
            if has_ended || container.restart_count > before + MOST_RESTARTS {
                let why = format!(
                    "its container does not stay up ({}, exit code {})",
                    state.status, state.exit_code
                );
                return Err(self.not_running(&id, &why));
            }
            let is_new = |since: &(String, Instant)| since.0 != state.started_at;
            if !state.running || stays_since.as_ref().is_some_and(is_new) {
                stays_since = None;
            }
            if state.running && !state.restarting {
                let since =
                    stays_since.get_or_insert_with(|| (state.started_at.clone(), Instant::now()));
                match state.health.as_ref().map(|health| health.status.as_str()) {
                    Some("healthy") => return Ok(()),
                    Some("starting" | "unhealthy") => {}
                    _ if since.1.elapsed() >= STAYS => return Ok(()),
                    _ => {}
                }
            }
            if begun.elapsed() >= START_LIMIT {
                let why = format!(
                    "its container was not healthy within {} minutes",
                    START_LIMIT.as_secs() / 60
                );
                return Err(self.not_running(&id, &why));
            }
            std::thread::sleep(LOOK);
        }
    }

    fn not_running(&self, id: &str, why: &str) -> DriverError {
        let log = self.docker_both(id).unwrap_or_default();
        let log = if log.is_empty() { String::new() } else { format!("; it said last: {log}") };
        DriverError::NotRunning {
            instance: self.instance.name.clone(),
            message: format!("{why}{log}"),
            hint: format!("see its log: docker logs {id}"),
        }
    }

    /// The end of a container's log, both streams, on one line.
    fn docker_both(&self, id: &str) -> Result<String, DriverError> {
        let command = crate::access::Command::shell(r#"exec docker logs --tail "$1" "$2" 2>&1"#)
            .arguments([LOG_LINES, id])
            .silence(super::PATIENCE);
        let log = self.access.run(&command, &[], super::MOST_BYTES);
        let log = log.map_err(super::access_failed(self.instance))?;
        let text = String::from_utf8_lossy(&log);
        let printable = |it: char| if it.is_control() { ' ' } else { it };
        let lines: Vec<String> =
            text.lines().map(|line| line.chars().map(printable).collect()).collect();
        Ok(lines.join(" | ").chars().take(2_000).collect())
    }

    /// The container of the service, with its id.
    fn container(&self) -> Result<Option<(String, Inspected)>, DriverError> {
        let Some(id) = self.id()? else { return Ok(None) };
        let container = self.inspect(&id)?;
        Ok(Some((id, container)))
    }

    fn id(&self) -> Result<Option<String>, DriverError> {
        let answer = self.compose(&["ps", "-q", &self.settings.service])?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let mut ids: Vec<String> = answer.split_whitespace().map(ToOwned::to_owned).collect();
        if ids.is_empty() {
            // The newer Compose lists only what runs.
            ids = self.stopped()?;
        }
        match &ids[..] {
            [] => Ok(None),
            [id] => Ok(Some(id.clone())),
            _ => {
                let message =
                    format!("the service {} has {} containers", self.settings.service, ids.len());
                Err(refused(
                    self.instance,
                    message,
                    "this version upgrades services of one container",
                ))
            }
        }
    }

    fn inspect(&self, id: &str) -> Result<Inspected, DriverError> {
        let answer = self.docker(&["inspect", "--type", "container", id])?;
        let strange = |why: String| {
            let message = format!("docker inspect gave no description of a container ({why})");
            refused(self.instance, message, "is its version of Docker known to work?")
        };
        // The answer holds secrets, and the error could quote it.
        let mut all: Vec<Inspected> = serde_json::from_slice(&answer)
            .map_err(|error| strange(format!("line {}", error.line())))?;
        all.pop().ok_or_else(|| strange("it is empty".to_owned()))
    }

    /// The ids of its containers that do not run.
    fn stopped(&self) -> Result<Vec<String>, DriverError> {
        let answer = match self.compose(&["ps", "-a", "-q", &self.settings.service]) {
            Ok(answer) => answer,
            // The older one lists all anyway, and together these two are wrong for it.
            Err(DriverError::Access { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let answer = String::from_utf8_lossy(&answer).into_owned();
        Ok(answer.split_whitespace().map(ToOwned::to_owned).collect())
    }
}
