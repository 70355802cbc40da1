//! Which entries a walk leaves out.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// Patterns, ready to be asked.
pub(super) struct Excludes {
    any: Patterns,
    directories: Patterns,
}

struct Patterns {
    names: GlobSet,
    paths: GlobSet,
}

impl Patterns {
    fn matches(&self, name: &[u8], path: &[u8]) -> bool {
        self.names.is_match(OsStr::from_bytes(name)) || self.paths.is_match(OsStr::from_bytes(path))
    }
}

impl Excludes {
    /// A pattern with a `/` fits the path below the root, one without fits the name at any depth; a `/` at the end only
    /// says that directories are meant.
    pub(super) fn new(patterns: &[String]) -> Result<Self, globset::Error> {
        let empty = || (GlobSetBuilder::new(), GlobSetBuilder::new());
        let (mut any, mut directories) = (empty(), empty());
        for pattern in patterns {
            let body = pattern.trim_end_matches('/');
            let (names, paths) =
                if body.len() < pattern.len() { &mut directories } else { &mut any };
            let glob =
                GlobBuilder::new(body.trim_start_matches('/')).literal_separator(true).build()?;
            if body.contains('/') { paths } else { names }.add(glob);
        }
        let build = |(names, paths): (GlobSetBuilder, GlobSetBuilder)| {
            Ok(Patterns { names: names.build()?, paths: paths.build()? })
        };
        Ok(Self { any: build(any)?, directories: build(directories)? })
    }

    /// Whether the entry is left out. `is_directory` is asked only where it matters.
    pub(super) fn exclude(
        &self,
        name: &[u8],
        path: &[u8],
        is_directory: impl FnOnce() -> bool,
    ) -> bool {
        self.any.matches(name, path) || self.directories.matches(name, path) && is_directory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_excluded(pattern: &str, path: &str, is_directory: bool) -> bool {
        let name = path.rsplit('/').next().unwrap();
        let excludes = Excludes::new(&[pattern.to_owned()]).unwrap();
        excludes.exclude(name.as_bytes(), path.as_bytes(), || is_directory)
    }

    #[test]
    fn patterns_fit_names_paths_or_directories() {
        for (pattern, path, is_directory, expected) in [
            ("*.tmp", "a.tmp", false, true),
            ("*.tmp", "deep/er/a.tmp", false, true),
            ("*.tmp", "a.tmp.txt", false, false),
            ("/cache", "cache", true, true),
            ("/cache", "a/cache", true, false),
            ("cache/", "a/cache", true, true),
            ("cache/", "a/cache", false, false),
            ("/cache/", "a/cache", true, false),
            ("/cache/", "cache", true, true),
            ("a/*", "a/b", false, true),
            ("a/*", "a/b/c", false, false),
            ("a/**", "a/b/c", false, true),
            ("**/x/y", "1/2/x/y", false, true),
            ("[ab]?", "b1", false, true),
        ] {
            assert_eq!(is_excluded(pattern, path, is_directory), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn names_that_are_not_utf_8_are_matched_as_bytes() {
        let excludes = Excludes::new(&["*.tmp".to_owned()]).unwrap();
        assert!(excludes.exclude(b"\xff.tmp", b"\xff.tmp", || false));
    }
}
