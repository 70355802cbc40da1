//! Versions of servers: numbers, in order.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// A server's version, such as `v2.5.0` or `3.16.0-LTS`. It is compared by its numbers; what follows them tells editions and lines
/// of support apart, and no order.
#[derive(Clone, Debug)]
pub struct Version {
    text: String,
    numbers: [u32; 3],
}

/// What was given is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no version: one is two or three numbers, such as v2.5.0")]
pub struct NotAVersion(String);

impl Version {
    /// The first number and the second: what a release line is called by.
    pub fn line(&self) -> (u32, u32) {
        (self.numbers[0], self.numbers[1])
    }

    /// The three numbers.
    pub fn numbers(&self) -> [u32; 3] {
        self.numbers
    }

    /// The edition, where what follows the numbers tells it: `ee` or `ce` among the words there.
    pub fn edition(&self) -> Option<Edition> {
        let (_, rest) = self.text.split_once(['-', '+'])?;
        rest.split(['-', '+', '.']).find_map(|word| match word.to_ascii_lowercase().as_str() {
            "ee" => Some(Edition::Enterprise),
            "ce" => Some(Edition::Community),
            _ => None,
        })
    }
}

/// Which edition of a platform it is, where it has several: their data do not fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edition {
    /// The free one.
    Community,
    /// The paid one.
    Enterprise,
}

impl Edition {
    /// As manifests and recipes call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Community => "community",
            Self::Enterprise => "enterprise",
        }
    }
}

impl fmt::Display for Edition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// What was given is no edition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no edition: they are community and enterprise")]
pub struct NotAnEdition(String);

impl FromStr for Edition {
    type Err = NotAnEdition;

    fn from_str(text: &str) -> Result<Self, NotAnEdition> {
        [Self::Community, Self::Enterprise]
            .into_iter()
            .find(|edition| edition.as_str() == text)
            .ok_or_else(|| NotAnEdition(text.chars().take(64).collect()))
    }
}

impl FromStr for Version {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let no_version = || NotAVersion(text.chars().take(64).collect());
        let text = text.trim();
        let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let end = bare.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(bare.len());
        let (numeric, rest) = bare.split_at(end);
        if text.len() > 64 || !(rest.is_empty() || rest.starts_with(['-', '+'])) {
            return Err(no_version());
        }
        let numbers = numeric
            .split('.')
            .map(str::parse)
            .collect::<Result<Vec<u32>, _>>()
            .map_err(|_| no_version())?;
        let numbers = match numbers[..] {
            [major, minor] => [major, minor, 0],
            [major, minor, patch] => [major, minor, patch],
            _ => return Err(no_version()),
        };
        Ok(Self { text: text.to_owned(), numbers })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let ordered = [
            "1.9",
            "v1.9.2",
            "v1.96",
            "v1.99",
            "v2.2",
            "2.5.0-ee",
            "v2.5.1",
            "3.16.0-LTS",
            "3.20.40",
        ];
        for pair in ordered.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        assert_eq!(version("v2.5"), version("2.5.0-SNAPSHOT"));
        assert_eq!(version("3.20.40-lts").line(), (3, 20));
        assert_eq!(version("3.20.40-lts").numbers(), [3, 20, 40]);
        assert_eq!(version(" v2.5.0 ").to_string(), "v2.5.0");
    }

    #[test]
    fn what_follows_the_numbers_may_tell_the_edition() {
        for (text, edition) in [
            ("v2.5.0", None),
            ("3.16.0-LTS", None),
            ("v2.5.0-ee", Some(Edition::Enterprise)),
            ("3.16.0-ee-lts", Some(Edition::Enterprise)),
            ("3.16.0-CE", Some(Edition::Community)),
            ("3.16.0-free", None),
        ] {
            assert_eq!(version(text).edition(), edition, "{text}");
        }
        assert_eq!("enterprise".parse(), Ok(Edition::Enterprise));
        assert!("Enterprise".parse::<Edition>().is_err());
    }

    #[test]
    fn a_version_is_written_as_it_was_given() {
        let json = serde_json::to_string(&version("v2.5")).unwrap();
        assert_eq!(json, "\"v2.5\"");
        assert_eq!(serde_json::from_str::<Version>(&json).unwrap().to_string(), "v2.5");
        assert!(serde_json::from_str::<Version>("\"latest\"").is_err());
    }

    #[test]
    fn what_is_no_version_is_refused() {
        let long = format!("1.2.3-{}", "x".repeat(64));
        for text in [
            "",
            "v",
            "2",
            "latest",
            "1.2.3.4",
            "1..2",
            "1.2x",
            "-1.2",
            "99999999999.1",
            "release",
            &long,
        ] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let error = "latest".parse::<Version>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "'latest' is no version: one is two or three numbers, such as v2.5.0"
        );
    }
}
