//! Which entries of a snapshot a restore takes.

use super::Wanted;
use crate::model::manifest::Manifest;
use crate::model::node::{display_path, parse_path};
use crate::ops::OpsError;
use crate::ops::show::path_components;
use std::cell::RefCell;

/// How an entry stands to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It and everything below it is wanted.
    Whole,
    /// Something below it is wanted.
    Way,
    /// Nothing of it is wanted.
    None,
}

/// Paths in the snapshot that are wanted; everything where there are none.
pub(super) struct Selection {
    paths: Vec<Vec<Vec<u8>>>,
    found: RefCell<Vec<bool>>,
    names: Vec<Vec<u8>>,
}

impl Selection {
    /// Components become their paths; a path from the source's machine becomes its place in the snapshot.
    pub(super) fn new(wanted: &Wanted, manifest: Option<&Manifest>) -> Result<Self, OpsError> {
        if wanted.components.iter().any(String::is_empty) {
            return Err(OpsError::usage(
                "an empty component name",
                "name one, or leave --component out",
            ));
        }
        if wanted.paths.iter().any(Vec::is_empty) {
            return Err(OpsError::usage("an empty path", "name one, or leave --path out"));
        }
        let mut components = Vec::new();
        for component in &wanted.components {
            let known = manifest.map(|manifest| manifest.components.as_slice()).unwrap_or_default();
            let Some(found) = known.iter().find(|known| known.name == *component) else {
                let all: Vec<&str> = known.iter().map(|known| known.name.as_str()).collect();
                return Err(OpsError::usage(
                    format!("the snapshot has no component '{component}'"),
                    format!("it has: {}", all.join(", ")),
                ));
            };
            components.push(found.path.clone().into_bytes());
        }
        let mut names: Vec<_> =
            wanted.paths.iter().map(|path| in_snapshot(path, manifest)).collect();
        if names.is_empty() {
            names = components;
        } else if !components.is_empty() {
            ensure_inside(&names, &components, &wanted.components)?;
        }
        let paths: Vec<Vec<Vec<u8>>> = names
            .iter()
            .map(|name| path_components(name).into_iter().map(<[u8]>::to_vec).collect())
            .collect();
        let found = RefCell::new(vec![false; paths.len()]);
        Ok(Self { paths, found, names })
    }

    /// Everything.
    pub(super) fn everything() -> Self {
        Self { paths: Vec::new(), found: RefCell::default(), names: Vec::new() }
    }

    /// How the entry at `path` (`/a/b`) stands to what is wanted.
    pub(super) fn part(&self, path: &[u8]) -> Part {
        if self.paths.is_empty() {
            return Part::Whole;
        }
        let own: Vec<&[u8]> = path.split(|byte| *byte == b'/').skip(1).collect();
        let mut part = Part::None;
        for (index, wanted) in self.paths.iter().enumerate() {
            let shared = own
                .iter()
                .zip(wanted)
                .take_while(|(own, wanted)| **own == wanted.as_slice())
                .count();
            if shared == wanted.len() {
                self.found.borrow_mut()[index] = true;
                part = Part::Whole;
            } else if shared == own.len() && part == Part::None {
                part = Part::Way;
            }
        }
        part
    }

    /// The paths in the snapshot that are wanted; those of all components where everything is.
    pub(super) fn roots(&self, manifest: &Manifest) -> Vec<Vec<u8>> {
        if self.paths.is_empty() {
            let components = manifest.components.iter();
            return components.map(|component| component.path.clone().into_bytes()).collect();
        }
        let mut roots = Vec::new();
        for name in &self.names {
            if path_components(name).is_empty() {
                let components = manifest.components.iter();
                roots.extend(components.map(|component| component.path.clone().into_bytes()));
            } else {
                roots.push(name.clone());
            }
        }
        roots
    }

    /// An error naming what was asked for and never met.
    pub(super) fn ensure_found(&self) -> Result<(), OpsError> {
        match self.found.borrow().iter().position(|found| !found) {
            None => Ok(()),
            Some(index) => Err(OpsError::usage(
                format!("'{}' is not in the snapshot", display_path(&self.names[index])),
                "`belay ls SNAPSHOT` shows what is",
            )),
        }
    }
}

/// An error for a path that lies in none of the components that are named with it.
fn ensure_inside(
    paths: &[Vec<u8>],
    components: &[Vec<u8>],
    names: &[String],
) -> Result<(), OpsError> {
    let is_inside = |path: &[u8]| {
        let parts = path_components(path);
        components.iter().any(|component| parts.starts_with(&path_components(component)))
    };
    match paths.iter().find(|path| !is_inside(path)) {
        None => Ok(()),
        Some(path) => Err(OpsError::usage(
            format!("'{}' is not in component {}", display_path(path), names.join(" or ")),
            "with both, only the paths are restored: leave --component out, or --path",
        )),
    }
}

/// `/srv/uploads/a` where the component `uploads` came from `/srv/uploads` is `/files/uploads/a`.
fn in_snapshot(shown: &[u8], manifest: Option<&Manifest>) -> Vec<u8> {
    let path = parse_path(shown);
    let components = manifest.map(|manifest| manifest.components.as_slice()).unwrap_or_default();
    for component in components {
        let source = parse_path(component.source.as_bytes());
        if let Some(rest) = path.strip_prefix(source.as_slice())
            && (rest.is_empty() || rest.starts_with(b"/"))
        {
            return [component.path.as_bytes(), rest].concat();
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_the_way_and_children_are_whole() {
        let wanted = Wanted {
            components: vec![],
            paths: vec![b"/files/a/b".to_vec(), b"files/c/".to_vec()],
        };
        let selection = Selection::new(&wanted, None).unwrap();
        for (path, part) in [
            ("/files", Part::Way),
            ("/files/a", Part::Way),
            ("/files/a/b", Part::Whole),
            ("/files/a/b/x", Part::Whole),
            ("/files/a/bb", Part::None),
            ("/manifest.json", Part::None),
        ] {
            assert_eq!(selection.part(path.as_bytes()), part, "{path}");
        }
        assert!(selection.ensure_found().is_err(), "files/c was never met");
        assert_eq!(selection.part(b"/files/c"), Part::Whole);
        assert!(selection.ensure_found().is_ok());
        assert_eq!(Selection::everything().part(b"/x"), Part::Whole);
    }
}
