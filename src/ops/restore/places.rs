//! Where nothing is restored to: what Belay itself needs, and instances except as such.

use crate::config::{Config, Location};
use crate::ops::OpsError;
use crate::ops::session::Session;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// How many symbolic links lead to a directory at most.
const MOST_LINKS: u32 = 40;

/// A place that is in use, and what for.
struct Place {
    path: PathBuf,
    what: String,
}

/// Repositories and the state directory, as far as they are known.
fn own_places(session: &Session, config: Option<&Config>) -> Vec<Place> {
    let opened =
        Place { path: session.repository.location().into(), what: "the repository".into() };
    let mut places = vec![opened];
    let Some(config) = config else { return places };
    for repository in config.repositories.values() {
        let Location::Local(path) = &repository.location;
        let what = format!("the repository '{}'", repository.name);
        places.push(Place { path: path.clone(), what });
    }
    places.push(Place { path: config.state_dir.clone(), what: "the state directory".into() });
    places
}

/// An error when a directory to restore into lies in something that is in use.
pub(in crate::ops) fn ensure_free(
    target: &Path,
    session: &Session,
    config: Option<&Config>,
) -> Result<(), OpsError> {
    let mut places = own_places(session, config);
    for instance in config.iter().flat_map(|config| config.instances.values()) {
        places.extend(instance.paths.iter().map(|root| Place {
            path: root.path.clone(),
            what: format!("the directory of the instance '{}'", instance.name),
        }));
    }
    let resolved = resolved(target);
    let Some(place) =
        places.into_iter().find(|place| resolved.starts_with(self::resolved(&place.path)))
    else {
        return Ok(());
    };
    Err(OpsError::refused(
        format!("{} lies in {}, {}", target.display(), place.what, place.path.display()),
        "choose a directory elsewhere; to restore in place of an instance, use --into NAME",
    ))
}

/// An error when putting another tree in the place of `target` would take a repository or the state away.
pub(super) fn ensure_not_own(
    target: &Path,
    session: &Session,
    config: &Config,
) -> Result<(), OpsError> {
    let target = resolved(target);
    for place in own_places(session, Some(config)) {
        let path = resolved(&place.path);
        if target.starts_with(&path) || path.starts_with(&target) {
            return Err(OpsError::refused(
                format!(
                    "{} cannot be replaced: it and {}, {}, overlap",
                    target.display(),
                    place.what,
                    place.path.display()
                ),
                "restore a part that does not hold it with --path, or restore with --to-dir",
            ));
        }
    }
    Ok(())
}

/// Where a path leads, links followed, also when the last parts of it are not there.
pub(super) fn resolved(path: &Path) -> PathBuf {
    resolved_within(path, &mut 0)
}

fn resolved_within(path: &Path, links: &mut u32) -> PathBuf {
    if let Ok(found) = fs::canonicalize(path) {
        return found;
    }
    let Some(parent) = path.parent() else { return path.to_owned() };
    let mut found = resolved_within(parent, links);
    match path.components().next_back() {
        Some(Component::Normal(name)) => found.push(name),
        Some(Component::ParentDir) => {
            found.pop();
        }
        _ => {}
    }
    match fs::read_link(&found) {
        Ok(target) if *links < MOST_LINKS => {
            *links += 1;
            resolved_within(&found.parent().unwrap_or(Path::new("/")).join(target), links)
        }
        _ => found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_followed_as_far_as_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        symlink("a", root.join("link")).unwrap();
        symlink("gone", root.join("dangling")).unwrap();
        symlink("self", root.join("self")).unwrap();
        for (path, expected) in [
            ("a", "a"),
            ("link", "a"),
            ("link/b/c", "a/b/c"),
            ("dangling", "gone"),
            ("dangling/x", "gone/x"),
            ("new/../link/b", "a/b"),
        ] {
            assert_eq!(resolved(&root.join(path)), root.join(expected), "{path}");
        }
        assert!(resolved(&root.join("self")).starts_with(&root));
    }
}
