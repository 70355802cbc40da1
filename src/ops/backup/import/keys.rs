//! The encryption keys of an imported snapshot: those in the archive, or those that a person gives. None at all is a
//! decision that somebody took and gave a reason for, and never an accident.

use super::{Looked, OpsError};
use crate::component::environment::{self, EnvironmentFile};
use crate::config::{Platform, Secret};
use crate::platform::recipe::{KeyFitRecipe, Recipe};
use std::path::Path;
use zeroize::Zeroizing;

/// No environment file is longer.
const MOST_BYTES: u64 = 1024 * 1024;

/// Where the keys come from.
pub enum Keys {
    /// The archive has them.
    Archive,
    /// Given: lines of an environment file.
    Given(EnvironmentFile),
    /// There are none, for this reason.
    Without(String),
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Archive => "Archive",
            Self::Given(_) => "Given(…)",
            Self::Without(_) => "Without",
        })
    }
}

/// What a snapshot gets.
pub(super) struct Resolved {
    /// The environment file.
    pub(super) environment: Option<Zeroizing<Vec<u8>>>,
    /// Password and salt.
    pub(super) pair: Option<(Zeroizing<String>, Zeroizing<String>)>,
    pub(super) warning: Option<String>,
}

/// The variables of password and salt.
pub fn variables() -> [String; 2] {
    match Recipe::of(Platform::Appsmith).key_fit {
        Some(KeyFitRecipe::Appsmith { password, salt }) => [password, salt],
        _ => unreachable!("the recipe of Appsmith is built in"),
    }
}

/// Both, where both are set.
fn pair_in(file: &EnvironmentFile) -> Option<(Zeroizing<String>, Zeroizing<String>)> {
    let [password, salt] = variables();
    let value = |name: &str| {
        let value = file.get(name).filter(|value| !value.is_empty())?;
        Some(Zeroizing::new(value.to_owned()))
    };
    Some((value(&password)?, value(&salt)?))
}

/// Whether an environment file has both.
pub(super) fn are_in(text: &[u8]) -> bool {
    EnvironmentFile::parse(text).is_ok_and(|file| pair_in(&file).is_some())
}

impl Keys {
    /// From an environment file, such as the running instance's.
    pub fn of_file(path: &Path) -> Result<Self, OpsError> {
        use std::io::Read as _;
        let failed = |source| OpsError::Io { action: "read", path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        // Room for all, so that no copy is left behind when it would grow.
        let mut text = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize + 1));
        file.take(MOST_BYTES).read_to_end(&mut text).map_err(failed)?;
        let file = EnvironmentFile::parse(&text).ok().filter(|file| pair_in(file).is_some());
        let [password, salt] = variables();
        file.map(Self::Given).ok_or_else(|| {
            OpsError::usage(
                format!("{} does not set both {password} and {salt}", path.display()),
                "name the environment file of the instance that the archive is of, /appsmith-stacks/configuration/docker.env as a rule",
            )
        })
    }

    /// What a person typed.
    pub fn of(given: [&Secret; 2]) -> Result<Self, OpsError> {
        let mut text = Zeroizing::new(String::new());
        for (name, value) in variables().iter().zip(given) {
            let quoted = environment::quote(value.expose()).map_err(|error| {
                OpsError::usage(format!("{name}: {error}"), "give both in a file with --keys")
            })?;
            for part in [name, "=", quoted.as_str(), "\n"] {
                text.push_str(part);
            }
        }
        let file = EnvironmentFile::parse(text.as_bytes());
        Ok(Self::Given(file.expect("it is text")))
    }

    /// What the snapshot of an archive gets; an error where there are no keys and nobody said why.
    pub(super) fn resolve(&self, looked: &Looked) -> Result<Resolved, OpsError> {
        if looked.manifest.is_some() {
            return match self {
                Self::Archive => Ok(Resolved { environment: None, pair: None, warning: None }),
                _ => Err(OpsError::usage(
                    format!(
                        "{} is an export of Belay, and keeps the keys that its snapshot has",
                        looked.file
                    ),
                    "leave out --keys, --without-keys and --reason",
                )),
            };
        }
        let own = looked.environment.as_deref();
        let unread = |_| {
            OpsError::usage(
                format!("the docker.env in {} is no text", looked.file),
                "give the keys in a file with --keys",
            )
        };
        match self {
            Self::Archive if looked.has_keys => {
                let file = EnvironmentFile::parse(own.unwrap_or(&Vec::new())).map_err(unread)?;
                let environment = looked.environment.clone();
                Ok(Resolved { environment, pair: pair_in(&file), warning: None })
            }
            Self::Archive => Err(OpsError::usage(
                format!(
                    "{} does not hold the instance's encryption keys: appsmithctl leaves them out of what it does not encrypt",
                    looked.file
                ),
                "give the environment file of the instance it is of with --keys FILE; if they are lost: --without-keys --reason TEXT",
            )),
            Self::Given(given) => {
                let text = own.map_or(&b""[..], |text| text);
                let file = EnvironmentFile::parse(text).map_err(unread)?;
                let variables = variables();
                let names: Vec<&str> = variables.iter().map(String::as_str).collect();
                let [password, salt] = &variables;
                let keys = Self::only(given, [password, salt])?;
                let merged = environment::merge(&file, &keys, &names, &[]).map_err(|error| {
                    OpsError::usage(
                        format!("docker.env: {error}"),
                        "write the keys in single quotes",
                    )
                })?;
                let pair = pair_in(given);
                Ok(Resolved { environment: Some(merged.content), pair, warning: None })
            }
            Self::Without(_) if looked.has_keys => Err(OpsError::usage(
                format!("{} holds the instance's encryption keys", looked.file),
                "leave out --without-keys and --reason",
            )),
            Self::Without(reason) => Ok(Resolved {
                environment: looked.environment.clone(),
                pair: None,
                warning: Some(format!(
                    "The snapshot has no keys, which was asked for: {reason}. What is encrypted in it cannot be read after a restore."
                )),
            }),
        }
    }

    /// Nothing else of a file than the keys.
    fn only(given: &EnvironmentFile, names: [&String; 2]) -> Result<EnvironmentFile, OpsError> {
        let value = |name: &str| {
            Secret::new(given.get(name).unwrap_or_default().to_owned()).map_err(|error| {
                OpsError::usage(format!("{name}: {error}"), "look at the file that --keys names")
            })
        };
        match Self::of([&value(names[0])?, &value(names[1])?])? {
            Self::Given(file) => Ok(file),
            _ => unreachable!("they were given"),
        }
    }
}
