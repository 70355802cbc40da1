//! Names of images, and tags that mean one thing for good.

use crate::config::Platform;
use crate::model::version::Version;
use serde::{Deserialize, Serialize};
use std::fmt;

/// An image by its name, its tag and its digest: the digest decides, the tag is for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Such as `appsmith/appsmith-ce`.
    pub name: String,
    /// Such as `v1.97`.
    pub tag: String,
    /// Of its manifest in the registry: `sha256:…`.
    pub digest: String,
}

/// `NAME:TAG@DIGEST`, as a compose file has it.
impl fmt::Display for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}@{}", self.name, self.tag, self.digest)
    }
}

impl Image {
    /// `NAME@DIGEST`, which means the same.
    pub fn by_digest(&self) -> String {
        format!("{}@{}", self.name, self.digest)
    }
}

/// An image as somebody named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName {
    /// Without tag and digest.
    pub name: String,
    /// Where there is one.
    pub tag: Option<String>,
    /// Where there is one.
    pub digest: Option<String>,
}

/// Why a tag is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the tag '{tag}' of {name} {why}")]
pub struct TagProblem {
    name: String,
    tag: String,
    why: &'static str,
}

impl TagProblem {
    /// What to do.
    pub fn hint(&self) -> &'static str {
        "name a release by its whole version, such as v1.97 of Appsmith or v3.16.12 of ToolJet"
    }
}

/// Words in tags that are moved from release to release.
const MOVING: [&str; 8] =
    ["latest", "nightly", "edge", "stable", "release", "develop", "main", "master"];

impl ImageName {
    /// Read `NAME[:TAG][@DIGEST]`.
    pub fn parse(text: &str) -> Self {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned())),
            None => (text, None),
        };
        // A colon before the last slash is that of a registry's port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag.to_owned())),
            _ => (rest, None),
        };
        Self { name: name.to_owned(), tag, digest }
    }

    /// The tag that a version has, written as the tag that is there.
    pub fn tag_of(&self, version: &str) -> String {
        // What begins with something else is no bare version, and is told as it was written.
        let is_bare = version.starts_with(|it: char| it.is_ascii_digit());
        match &self.tag {
            Some(tag) if tag.starts_with(['v', 'V']) && is_bare => format!("v{version}"),
            _ => version.to_owned(),
        }
    }

    /// Whether both are of one place in a registry, however they are written.
    pub fn is_same_place(&self, other: &str) -> bool {
        fn bare(name: &str) -> &str {
            let name = name.strip_prefix("index.").unwrap_or(name);
            let name = name.strip_prefix("docker.io/").unwrap_or(name);
            name.strip_prefix("library/").unwrap_or(name)
        }
        bare(&self.name) == bare(other)
    }
}

/// Whether a tag means one release for good, as far as its form can tell.
pub(super) fn is_precise(platform: Platform, name: &str, tag: &str) -> Result<(), TagProblem> {
    let problem = |why| TagProblem { name: name.to_owned(), tag: tag.to_owned(), why };
    let lower = tag.to_ascii_lowercase();
    let mut words = lower.split(|it: char| !it.is_ascii_alphanumeric());
    if tag.is_empty() || words.any(|word| MOVING.contains(&word)) {
        return Err(problem("is moved to other releases"));
    }
    let Ok(version) = tag.parse::<Version>() else {
        return Err(problem("is no version"));
    };
    // Appsmith's releases may have two numbers.
    let bare = version.to_string();
    let numbers = bare.trim_start_matches(['v', 'V']).split(['-', '+']).next().unwrap_or_default();
    if platform != Platform::Appsmith && numbers.split('.').count() < 3 {
        return Err(problem("means all releases of a line"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (text, name, tag, digest) in [
            ("appsmith/appsmith-ce:v1.97", "appsmith/appsmith-ce", Some("v1.97"), None),
            ("appsmith/appsmith-ce", "appsmith/appsmith-ce", None, None),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b", None, None),
            (
                "127.0.0.1:5000/a:v1.2@sha256:ff",
                "127.0.0.1:5000/a",
                Some("v1.2"),
                Some("sha256:ff"),
            ),
            ("a@sha256:ff", "a", None, Some("sha256:ff")),
        ] {
            let parsed = ImageName::parse(text);
            assert_eq!((parsed.name.as_str(), parsed.tag.as_deref()), (name, tag), "{text}");
            assert_eq!(parsed.digest.as_deref(), digest, "{text}");
        }
        let image = Image { name: "a".into(), tag: "v1.97".into(), digest: "sha256:ff".into() };
        assert_eq!(
            (image.to_string().as_str(), image.by_digest().as_str()),
            ("a:v1.97@sha256:ff", "a@sha256:ff")
        );
    }

    #[test]
    fn a_version_is_written_as_the_tag_before_it() {
        for (there, version, expected) in [
            ("a:v1.96", "1.97", "v1.97"),
            ("a:v1.96", "v1.97", "v1.97"),
            ("a:1.96", "1.97", "1.97"),
            ("a:1.96", "v1.97", "v1.97"),
            ("a", "1.97", "1.97"),
            ("a:latest", "1.97", "1.97"),
            ("a:v1.96", "latest", "latest"),
        ] {
            assert_eq!(ImageName::parse(there).tag_of(version), expected, "{there} {version}");
        }
        assert!(ImageName::parse("docker.io/library/redis:7").is_same_place("redis"));
        assert!(!ImageName::parse("ghcr.io/a/redis:7").is_same_place("a/redis"));
    }

    #[test]
    fn a_floating_tag_is_refused() {
        use Platform::{Appsmith, Tooljet};
        for (platform, tag) in [
            (Appsmith, "v1.97"),
            (Appsmith, "v1.9.2"),
            (Appsmith, "v2.5.1-ee"),
            (Tooljet, "v3.16.12"),
            (Tooljet, "v3.16.12-LTS"),
            (Tooljet, "3.20.40-ee"),
        ] {
            assert_eq!(is_precise(platform, "x", tag), Ok(()), "{tag}");
        }
        for (platform, tag, why) in [
            (Appsmith, "", "moved"),
            (Appsmith, "latest", "moved"),
            (Appsmith, "release", "moved"),
            (Appsmith, "v1", "no version"),
            (Appsmith, "nightly-20261121", "moved"),
            (Tooljet, "ee-lts-latest", "moved"),
            (Tooljet, "v3.16-lts-latest", "moved"),
            (Tooljet, "v3.16", "all releases of a line"),
            (Tooljet, "3.16-LTS", "all releases of a line"),
            (Tooljet, "3", "no version"),
            (Appsmith, "v1.97.0.1", "no version"),
        ] {
            let problem = is_precise(platform, "x", tag).unwrap_err();
            assert!(problem.to_string().contains(why), "{tag}: {problem}");
            assert!(problem.hint().contains("whole version"));
        }
    }
}
