//! The volumes of an instance whose databases run in its own container: found on the host of that, copied aside while the container
//! is stopped, and exchanged for their copies.
//!
//! What always holds: a copy has its name only once it is complete and durable; it lies beside the volume, on the same file system, where
//! only root looks; a volume and its copy are exchanged by renames, so that what is there after a kill says how far that is; and what a
//! volume held is never removed by that. Where there is no copy, the files of its database server can be moved aside in the same way.

mod engine;
mod script;

pub use engine::OwnFiles;

use super::instance::Living;
use super::room::RoomNeeded;
use super::{Context, OpsError};
use crate::access::{Access, Command, Mount};
use crate::config::{Config, Instance};
use crate::model::id::JobId;
use crate::model::upgrade::VolumeCopy;
use crate::platform::recipe::Recipe;
use std::time::Duration;

/// The answers are paths and numbers.
const MOST_ANSWER: u64 = 64 * 1024;
/// A copy says nothing until it is made, however large it is. A line that is dead is noticed by `ssh`.
const PATIENCE: Duration = Duration::MAX;
/// Of what a volume holds a copy may need so much more: one part of these.
const SPARE: u64 = 16;

/// Where the databases of an instance are.
#[derive(Debug)]
pub enum Own {
    /// On servers of their own.
    Elsewhere,
    /// In its own container, whose volumes cannot be copied aside: why.
    Fixed(String),
    /// In these volumes of its own container.
    Volumes(Vec<Volume>),
}

/// A volume that can be copied aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its directory on the host of the container.
    pub source: String,
    /// What it holds.
    size_bytes: u64,
    /// What is free beside it.
    free_bytes: u64,
    /// Tells its file system from others.
    device: String,
}

/// Look where an instance that runs has its databases. Nothing is changed by that.
pub fn look(config: &Config, instance: &Instance, context: &Context) -> Result<Own, OpsError> {
    let Some(state) = Recipe::of(instance.platform).state else { return Ok(Own::Elsewhere) };
    if instance.via.container().is_none() {
        return Ok(Own::Elsewhere);
    }
    let living = Living::look(config, instance, context)?;
    if !has_own_databases(&living) {
        return Ok(Own::Elsewhere);
    }
    let mounts = living.container.iter().flat_map(|facts| &facts.mounts);
    let mounts = match wanted(mounts, &state) {
        Ok(mounts) => mounts,
        Err(why) => return Ok(Own::Fixed(why)),
    };
    let host = living.access.to(instance.via.host());
    let mut volumes = Vec::new();
    for mount in mounts {
        // What the container has there has to be what the host has: an engine may be on another one.
        let ask = Command::new("stat").arguments(["-L", "-c", "%d:%i", &mount.destination]);
        let inode = living.access.run(&ask, &[], MOST_ANSWER)?;
        let inode = String::from_utf8_lossy(&inode).trim().to_owned();
        let ask = Command::shell(script::LOOK).arguments([mount.source.as_str(), &inode]);
        let answer = host.run(&ask, &[], MOST_ANSWER)?;
        match looked(&String::from_utf8_lossy(&answer), &mount.source) {
            Ok(volume) => volumes.push(volume),
            Err(why) => return Ok(Own::Fixed(why)),
        }
    }
    Ok(Own::Volumes(volumes))
}

/// Whether its databases listen in the container itself: what the configuration says of them is about servers elsewhere.
fn has_own_databases(living: &Living<'_>) -> bool {
    let settings = &living.instance.mongodb;
    if settings.url.is_some() || settings.via.is_some() {
        return false;
    }
    living.mongodb_url().is_some_and(is_local)
}

/// Whether all hosts of a connection string are the machine itself.
fn is_local(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("mongodb://") else { return false };
    let hosts = rest.split(['/', '?']).next().unwrap_or(rest);
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    let name = |host: &str| -> String {
        match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or(rest).to_owned(),
            None => host.split(':').next().unwrap_or(host).to_owned(),
        }
    };
    hosts
        .split(',')
        .map(name)
        .all(|host| matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1"))
}

/// The mounts that hold what an instance keeps; why they cannot be copied, where one of them cannot.
fn wanted<'a>(
    mounts: impl Iterator<Item = &'a Mount>,
    state: &str,
) -> Result<Vec<&'a Mount>, String> {
    let below = |path: &str, above: &str| {
        path == above || path.strip_prefix(above).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut all: Vec<&Mount> =
        mounts.filter(|mount| mount.is_writable && below(&mount.destination, state)).collect();
    if all.iter().all(|mount| mount.destination != state) {
        return Err(format!("nothing is mounted at {state} in its container"));
    }
    for Mount { kind, source, destination, .. } in &all {
        if !matches!(kind.as_str(), "bind" | "volume") || !source.starts_with('/') {
            return Err(format!(
                "what is mounted at {destination} in its container is no directory of a host"
            ));
        }
        if source.contains('\n') {
            return Err(format!(
                "the name of {destination}'s directory on the host has a line break"
            ));
        }
    }
    // What is mounted from within another one goes with that.
    let sources: Vec<String> = all.iter().map(|mount| mount.source.clone()).collect();
    all.retain(|mount| {
        sources.iter().all(|other| *other == mount.source || !below(&mount.source, other))
    });
    all.dedup_by(|one, other| one.source == other.source);
    Ok(all)
}

/// What the host says of a volume; why it cannot be copied, where it cannot.
fn looked(answer: &str, source: &str) -> Result<Volume, String> {
    let mut lines = answer.lines();
    let verdict = lines.next();
    let mut text = || lines.next().unwrap_or_default().to_owned();
    let strange = || format!("what the host says of {source} makes no sense");
    match verdict {
        Some("yes") => {
            let source = text();
            let mut bytes = || {
                text().parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)).ok_or_else(strange)
            };
            let (size_bytes, free_bytes) = (bytes()?, bytes()?);
            Ok(Volume { source, size_bytes, free_bytes, device: text() })
        }
        Some("no") => Err(text()),
        _ => Err(strange()),
    }
}

/// The room that copies of volumes need, file system by file system.
pub fn room(volumes: &[Volume]) -> Vec<RoomNeeded> {
    let mut rooms: Vec<(&str, RoomNeeded)> = Vec::new();
    for volume in volumes {
        let needed = volume.size_bytes.saturating_add(volume.size_bytes / SPARE);
        match rooms.iter_mut().find(|(device, _)| *device == volume.device) {
            Some((_, room)) => room.needed_bytes = room.needed_bytes.saturating_add(needed),
            None => rooms.push((
                &volume.device,
                RoomNeeded {
                    what: "a copy of its volumes, its own databases among it,".into(),
                    place: parent(&volume.source).to_owned(),
                    needed_bytes: needed,
                    free_bytes: Some(volume.free_bytes),
                },
            )),
        }
    }
    rooms.into_iter().map(|(_, room)| room).collect()
}

/// Whether there is that room.
pub fn fits(volumes: &[Volume]) -> bool {
    room(volumes).iter().all(|room| room.free_bytes.is_some_and(|free| free >= room.needed_bytes))
}

impl Volume {
    /// Where its copy lies. `area` tells whose copies they are, and `label` which of them it is: letters, digits and `-`.
    pub fn copy_in(&self, area: &str, label: &str) -> VolumeCopy {
        let source = self.source.clone();
        let (parent, base) = (parent(&source), base(&source));
        let copy = format!("{}/{area}/{label}-{base}", parent.trim_end_matches('/'));
        VolumeCopy { source, copy }
    }
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

fn base(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, base)| base)
}

/// The host of an instance's container, for whoever has noted where its copies lie: the container need not run, or be there.
pub struct Shelf {
    access: Access,
    container: String,
}

impl Shelf {
    /// Of an instance in a container; none of another one.
    pub fn of(config: &Config, instance: &Instance, context: &Context) -> Option<Self> {
        let (host, container) = instance.via.container()?;
        let access = Access::new(host, config.ssh_config.clone(), &context.cancel);
        Some(Self { access, container: container.to_owned() })
    }

    /// Whether the container runs.
    pub fn runs(&self) -> Result<bool, OpsError> {
        let ask = Command::shell(script::RUNS).argument(&self.container);
        let answer = self.access.run(&ask, &[], MOST_ANSWER)?;
        match String::from_utf8_lossy(&answer).trim() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(OpsError::refused(
                format!("Docker does not say whether the container {} runs", self.container),
                "is its version of Docker known to work?",
            )),
        }
    }

    /// Refused while the container runs: what its databases have open is not to be moved.
    fn ensure_stopped(&self) -> Result<(), OpsError> {
        if !self.runs()? {
            return Ok(());
        }
        Err(OpsError::refused(
            format!("the container {} runs, although it was stopped", self.container),
            "see who starts it, and stop it",
        ))
    }

    /// Make a copy; `keep` leaves one as it is that is there already, and otherwise it is made anew.
    pub fn copy(&self, copy: &VolumeCopy, token: JobId, keep: bool) -> Result<(), OpsError> {
        self.ensure_stopped()?;
        let keep = if keep { "keep" } else { "" };
        self.run(script::COPY, copy, &[&token.to_string(), keep])?;
        // Whoever started it meanwhile has written while it was copied.
        self.ensure_stopped()
    }

    /// How far a copy is.
    pub fn state(&self, copy: &VolumeCopy) -> Result<CopyState, OpsError> {
        Ok(match self.run(script::STATE, copy, &[])?.as_str() {
            "copied" => CopyState::Copied,
            "swapped" => CopyState::Swapped,
            _ => CopyState::Missing,
        })
    }

    /// Put a copy in the place of the volume, or finish that. Returns where what was in the volume is kept; none where nothing was. What
    /// was done already stays as it is.
    pub fn swap(&self, copy: &VolumeCopy) -> Result<Option<String>, OpsError> {
        self.ensure_stopped()?;
        let kept = self.run(script::SWAP, copy, &[])?;
        Ok((!kept.is_empty()).then_some(kept))
    }

    /// Remove a copy, with what a try that was killed left of it, and its area where nothing else is in it. Returns whether there was one.
    pub fn remove(&self, copy: &VolumeCopy) -> Result<bool, OpsError> {
        Ok(self.run(script::REMOVE, copy, &[])? == "removed")
    }

    fn run(&self, step: &str, copy: &VolumeCopy, arguments: &[&str]) -> Result<String, OpsError> {
        let area = parent(&copy.copy);
        let command = Command::shell(&[script::TOOLS, script::PLACE, step].concat())
            .arguments([copy.source.as_str(), base(area), base(&copy.copy)])
            .arguments(arguments)
            .silence(PATIENCE);
        let answer = self.access.run(&command, &[], MOST_ANSWER)?;
        Ok(String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned())
    }
}

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyState {
    /// There is none.
    Missing,
    /// It is there, complete.
    Copied,
    /// It is the volume again, or on its way to be that.
    Swapped,
}

#[cfg(test)]
mod tests;
