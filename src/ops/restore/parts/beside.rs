//! What comes back beside the collections of an instance: the keys in its environment file, its directories, and what its Redis
//! holds beyond caches.
//!
//! As with the collections, all is made beside what is there first, and each step may be run again.

use crate::access::Access;
use crate::component::environment::Merged;
use crate::component::files::remote::{RemoteError, RemoteSwap, StageError};
use crate::ops::instance::Living;
use crate::ops::restore::Source;
use crate::ops::restore::items::find_nodes;
use crate::ops::restore::stored::content;
use crate::ops::restore::tarball::write_tree;
use crate::ops::{Context, OpsError};
use serde::{Deserialize, Serialize};

/// What is changed where the instance lives, as the journal has it: it holds no secret.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Beside {
    instance: String,
    /// Makes names unique.
    job: String,
    /// The environment file.
    environment: Option<String>,
    directories: Vec<Directory>,
    redis: Option<Redis>,
}

/// A Redis server that is flushed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Redis {
    /// The file of the snapshot that is loaded then; none where all that it has are caches.
    pub(super) file: Option<String>,
}

/// A directory that comes back.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Directory {
    /// Its component.
    pub(super) name: String,
    /// Where it goes.
    pub(super) path: String,
}

/// What is made anew, with what goes into it.
pub(super) struct Making {
    pub(super) beside: Beside,
    environment: Option<Merged>,
    access: Access,
}

impl Making {
    pub(super) fn new(
        job: String,
        living: &Living<'_>,
        environment: Option<(String, Merged)>,
        (directories, redis): (Vec<Directory>, Option<Redis>),
    ) -> Self {
        let (path, merged) = environment.unzip();
        let instance = living.instance.name.to_string();
        let beside = Beside { instance, job, environment: path, directories, redis };
        Self { beside, environment: merged, access: living.access.clone() }
    }

    /// Variables that get another value.
    pub(super) fn changed(&self) -> impl Iterator<Item = &String> {
        self.environment.iter().flat_map(Merged::changed)
    }

    /// The directories that come back.
    pub(super) fn directories(&self) -> &[Directory] {
        &self.beside.directories
    }

    /// Make all of it beside what is there.
    pub(super) fn make(&self, source: &Source, context: &Context) -> Result<(), OpsError> {
        for directory in &self.beside.directories {
            context
                .events
                .phase("restoring", format!("{} of {}", directory.name, self.beside.instance));
            let nodes = find_nodes(source, &[b"files", directory.name.as_bytes()])?;
            let root =
                nodes.and_then(|mut nodes| nodes.pop()).ok_or_else(|| OpsError::WrongFile {
                    object: format!("snapshot {}", source.snapshot.id.short()),
                    reason: format!("its manifest names {}, which is not in it", directory.name),
                })?;
            let fill = |output: &mut dyn std::io::Write| {
                write_tree(&source.reader, &root, context, output)
            };
            let staged = self.beside.swap_of(&self.access, directory).stage(fill);
            staged.map_err(|error| match error {
                StageError::Source(error) => error,
                StageError::Remote(error) => self.beside.failed(directory, error),
                StageError::Write(error) => {
                    let (path, said) = (directory.path.clone(), error.to_string());
                    self.beside.failed(directory, RemoteError::Complained { path, said })
                }
            })?;
        }
        if let (Some(path), Some(merged)) = (&self.beside.environment, &self.environment) {
            self.access.stage_file(path, &merged.content)?;
        }
        Ok(())
    }
}

impl Beside {
    pub(super) fn is_empty(&self) -> bool {
        self.environment.is_none() && self.directories.is_empty() && self.redis.is_none()
    }

    fn swap_of<'a>(&'a self, access: &'a Access, directory: &'a Directory) -> RemoteSwap<'a> {
        RemoteSwap::new(access, &directory.path, &self.job)
    }

    fn failed(&self, Directory { path, .. }: &Directory, source: RemoteError) -> OpsError {
        let source = Box::new(source);
        OpsError::PutBack { instance: self.instance.clone(), path: path.clone(), source }
    }

    /// Run a step for each directory.
    fn each<'a, T>(
        &'a self,
        access: &'a Access,
        step: impl Fn(&RemoteSwap<'a>) -> Result<T, RemoteError>,
    ) -> Result<Vec<T>, OpsError> {
        let run = |directory: &'a Directory| {
            step(&self.swap_of(access, directory)).map_err(|error| self.failed(directory, error))
        };
        self.directories.iter().map(run).collect()
    }

    /// Put what was made in its place, or finish that. Returns where that is kept which no snapshot has, if `is_saved` is false.
    pub(super) fn swap(&self, access: &Access, is_saved: bool) -> Result<Vec<String>, OpsError> {
        let mut kept: Vec<String> =
            self.each(access, RemoteSwap::swap)?.into_iter().flatten().collect();
        if let Some(path) = &self.environment {
            let keep = (!is_saved).then(|| format!("belay-before-{}", self.job));
            kept.extend(access.commit_staged(path, keep.as_deref())?);
        }
        Ok(if is_saved { Vec::new() } else { kept })
    }

    pub(super) fn has_redis(&self) -> bool {
        self.redis.is_some()
    }

    /// Flush Redis, and load what is more than a cache.
    pub(super) fn fill_redis(&self, living: &Living<'_>, source: &Source) -> Result<(), OpsError> {
        let (Some(redis), Some(recipe)) = (&self.redis, &living.recipe.redis) else {
            return Ok(());
        };
        let Some(server) = living.redis(recipe)? else { return Ok(()) };
        let failed = |source| OpsError::Redis { instance: self.instance.clone(), source };
        server.flush().map_err(failed)?;
        if let Some(file) = &redis.file {
            server.load(content(source, file)?, &recipe.disposable).map_err(failed)?;
        }
        Ok(())
    }

    /// The new state serves: remove what a snapshot has.
    pub(super) fn clear(&self, access: &Access, is_saved: bool) -> Result<(), OpsError> {
        if is_saved {
            self.each(access, RemoteSwap::drop_old)?;
        }
        Ok(())
    }

    /// Remove what was made and is not in its place.
    pub(super) fn abandon(&self, access: &Access) -> Result<(), OpsError> {
        self.each(access, RemoteSwap::abandon)?;
        if let Some(path) = &self.environment {
            access.drop_staged(path)?;
        }
        Ok(())
    }
}
