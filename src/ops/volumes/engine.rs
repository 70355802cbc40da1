//! The files of the database server in an instance's own container: where no version starts on them any more they are moved aside, and
//! one that begins on an empty directory gets its data out of a snapshot.

use super::{MOST_ANSWER, Shelf, has_own_databases, script};
use crate::access::{Command, Mount};
use crate::config::{Config, Instance};
use crate::ops::instance::Living;
use crate::ops::{Context, OpsError};
use crate::platform::recipe::Recipe;

/// Those files, on the host of the container, which need not run.
pub struct OwnFiles {
    shelf: Shelf,
    /// The directory of the host that is mounted in the container.
    source: String,
    /// Where they are below it.
    inside: String,
}

impl OwnFiles {
    /// Of an instance; none where its databases are not in its own container, or not in a directory that something else is mounted above.
    pub fn of(
        config: &Config,
        instance: &Instance,
        context: &Context,
    ) -> Result<Option<Self>, OpsError> {
        let Some(path) = Recipe::of(instance.platform).own_mongodb else { return Ok(None) };
        let Some(shelf) = Shelf::of(config, instance, context) else { return Ok(None) };
        let living = Living::look(config, instance, context)?;
        if !has_own_databases(&living) {
            return Ok(None);
        }
        let mounts = living.container.iter().flat_map(|facts| &facts.mounts);
        Ok(below(mounts, &path).map(|(source, inside)| Self { shelf, source, inside }))
    }

    /// Where they were moved to under this name; none where they were not.
    pub fn aside(&self, name: &str) -> Result<Option<String>, OpsError> {
        let path = self.run(script::FILES_ASIDE, name)?;
        Ok((!path.is_empty()).then_some(path))
    }

    /// Move them aside, next to where they are, and leave an empty directory in their place, or finish that. Returns where they are kept.
    pub fn move_aside(&self, name: &str) -> Result<String, OpsError> {
        self.shelf.ensure_stopped()?;
        self.run(script::MOVE_FILES, name)
    }

    fn run(&self, step: &str, name: &str) -> Result<String, OpsError> {
        let command = Command::shell(&[script::TOOLS, script::FILES, step].concat()).arguments([
            self.source.as_str(),
            &self.inside,
            name,
        ]);
        let answer = self.shelf.access.run(&command, &[], MOST_ANSWER)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The directory of the host that a path of a container is below, and where; none where it is itself mounted, or nothing above it is.
fn below<'a>(mounts: impl Iterator<Item = &'a Mount>, path: &str) -> Option<(String, String)> {
    let all = mounts.filter_map(|mount| Some((mount, path.strip_prefix(&mount.destination)?)));
    let above = all.filter(|(_, rest)| rest.is_empty() || rest.starts_with('/'));
    let (mount, rest) = above.min_by_key(|(_, rest)| rest.len())?;
    let is_directory = matches!(mount.kind.as_str(), "bind" | "volume");
    let inside = rest.trim_start_matches('/');
    (is_directory && mount.is_writable && mount.source.starts_with('/') && !inside.is_empty())
        .then(|| (mount.source.clone(), inside.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;
    use crate::model::event::Cancel;
    use crate::model::via::Via;
    use std::fs;

    #[test]
    fn the_nearest_mount_above_counts() {
        let mount = |kind: &str, source: &str, destination: &str| Mount {
            kind: kind.into(),
            source: source.into(),
            destination: destination.into(),
            is_writable: true,
        };
        let state = mount("volume", "/v/_data", "/stacks");
        let found = |mounts: &[&Mount]| below(mounts.iter().copied(), "/stacks/data/mongodb");
        let expected = Some(("/v/_data".to_owned(), "data/mongodb".to_owned()));
        assert_eq!(found(&[&mount("bind", "/x", "/stack"), &state]), expected);
        let data = mount("bind", "/srv/data", "/stacks/data");
        assert_eq!(found(&[&state, &data]), Some(("/srv/data".into(), "mongodb".into())));
        assert_eq!(found(&[&state, &mount("bind", "/srv/db", "/stacks/data/mongodb")]), None);
        assert_eq!(found(&[&state, &mount("tmpfs", "", "/stacks/data")]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn files_go_aside_once_and_an_empty_directory_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let data = root.join("stacks/data");
        fs::create_dir_all(data.join("mongodb")).unwrap();
        fs::write(data.join("mongodb/file"), "failed").unwrap();
        let shelf = Shelf {
            access: Access::new(Via::local(), None, &Cancel::new()),
            container: "no-such-container-of-tests".into(),
        };
        let source = root.join("stacks").to_str().unwrap().to_owned();
        let files = OwnFiles { shelf, source, inside: "data/mongodb".into() };
        let run = |step| files.run(step, "1-hop1").map_err(|error| error.told());
        assert_eq!(run(script::FILES_ASIDE).unwrap(), "");
        let kept = run(script::MOVE_FILES).unwrap();
        assert_eq!(kept, data.join(".belay-failed-1-hop1-mongodb").to_str().unwrap());
        assert_eq!(fs::read_to_string(data.join(&kept).join("file")).unwrap(), "failed");
        assert_eq!(fs::read_dir(data.join("mongodb")).unwrap().count(), 0);
        // What has begun anew there stays; and after a kill between the two it is made.
        fs::write(data.join("mongodb/file"), "anew").unwrap();
        assert_eq!(run(script::MOVE_FILES).unwrap(), kept);
        assert_eq!(fs::read_to_string(data.join("mongodb/file")).unwrap(), "anew");
        fs::remove_dir_all(data.join("mongodb")).unwrap();
        assert_eq!(run(script::MOVE_FILES).unwrap(), kept);
        assert_eq!(fs::read_dir(data.join("mongodb")).unwrap().count(), 0);
        assert_eq!(run(script::FILES_ASIDE).unwrap(), kept);
        // A link would lead to what is nobody's business.
        fs::remove_dir_all(&data).unwrap();
        fs::create_dir_all(root.join("elsewhere/mongodb")).unwrap();
        std::os::unix::fs::symlink(root.join("elsewhere"), &data).unwrap();
        let error = run(script::MOVE_FILES).unwrap_err();
        assert!(error.contains("is a link"), "{error}");
        assert!(root.join("elsewhere/mongodb").exists());
    }
}
