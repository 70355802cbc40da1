//! Secrets: named in the configuration by reference, read only when they are needed, wiped when they are dropped.
//!
//! No message, no `Debug` output and nothing that is serialized holds a secret's value.

use crate::model::name::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use std::borrow::Cow;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// The greatest secret that is read, in bytes.
const MAX_SECRET_BYTES: usize = 64 * 1024;

/// Where credentials are when systemd passes none and `BELAY_CREDENTIALS_DIR` is not set.
const CREDENTIALS_DIR: &str = "/etc/belay/credentials";

/// What systemd puts before the names of files that come from a directory: `LoadCredential=_belay:/etc/belay/credentials`, as
/// Belay's unit has it. No credential's own name begins so.
const LOADED_PREFIX: &str = "_belay_";

/// Where a secret is found. It is no secret itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// `credential:NAME`: in systemd's credentials directory, or else in Belay's own.
    Credential(Name),
    /// `file:/path`: a file, by its absolute path.
    File(PathBuf),
    /// `env:NAME`: a variable of the environment.
    Environment(String),
}

/// A text is no reference to a secret. It may be the secret itself, so it is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no reference to a secret")]
pub struct ParseSecretRefError;

impl ParseSecretRefError {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        "write credential:NAME, file:/path or env:NAME; the secret itself does not belong in this file"
    }
}

impl FromStr for SecretRef {
    type Err = ParseSecretRefError;

    fn from_str(text: &str) -> Result<Self, ParseSecretRefError> {
        let is_variable = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        match text.split_once(':') {
            Some(("credential", name)) => {
                name.parse().map(Self::Credential).map_err(|_| ParseSecretRefError)
            }
            Some(("file", path)) => super::location::absolute_path(path)
                .map(Self::File)
                .map_err(|_| ParseSecretRefError),
            Some(("env", name)) if is_variable(name) => Ok(Self::Environment(name.to_owned())),
            _ => Err(ParseSecretRefError),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(formatter, "credential:{name}"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Environment(name) => write!(formatter, "env:{name}"),
        }
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where a secret is found: credential:NAME, file:/path or env:NAME.",
            "type": "string",
            "pattern": "^(credential:[A-Za-z0-9][A-Za-z0-9._-]{0,63}|file:/.*|env:[A-Za-z_][A-Za-z0-9_]*)$",
        })
    }
}

/// Answers with the value of a variable of the environment.
type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where references lead to: directories and the environment, so that tests need not change the process's own.
#[derive(Clone)]
pub struct SecretSources {
    /// Directories, and what stands before a credential's name in the names of their files.
    credential_places: Vec<(PathBuf, &'static str)>,
    variable: Arc<Lookup>,
}

impl SecretSources {
    /// Credentials in the first of the directories that has them; variables as `variable` answers.
    pub fn new(
        credential_dirs: Vec<PathBuf>,
        variable: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static,
    ) -> Self {
        let credential_places = credential_dirs.into_iter().map(|dir| (dir, "")).collect();
        Self { credential_places, variable: Arc::new(variable) }
    }

    /// The process's own: systemd's `$CREDENTIALS_DIRECTORY`, then `/etc/belay/credentials` or, where that is set,
    /// `$BELAY_CREDENTIALS_DIR`.
    pub fn of_process() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        let directory =
            |name: &str| variable(name).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        let own = directory("BELAY_CREDENTIALS_DIR").unwrap_or_else(|| CREDENTIALS_DIR.into());
        let mut credential_places = vec![(own, "")];
        if let Some(given) = directory("CREDENTIALS_DIRECTORY") {
            credential_places.splice(0..0, [(given.clone(), ""), (given, LOADED_PREFIX)]);
        }
        Self { credential_places, variable: Arc::new(variable) }
    }
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No directory has the credential.
    #[error("the secret '{reference}' was not found: there is no {}", listed(tried))]
    NotFound {
        /// The reference.
        reference: SecretRef,
        /// The files that were looked for.
        tried: Vec<PathBuf>,
    },
    /// The variable is not set.
    #[error("the secret 'env:{variable}' was not found: the variable is not set")]
    Unset {
        /// Its name.
        variable: String,
    },
    /// The file could not be read.
    #[error("the secret in {} could not be read", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Everyone may read or change the file.
    #[error("the secret in {} is refused: everyone may read or change it (mode {mode:04o})", path.display())]
    OpenToEveryone {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What was found cannot be a secret.
    #[error("the secret in {origin} cannot be used: {reason}")]
    Invalid {
        /// The file or `env:NAME`.
        origin: String,
        /// Why.
        reason: InvalidSecret,
    },
}

impl SecretError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotFound { tried, .. } => {
                let last = tried.last()?;
                Some(format!("put it into {}, readable by Belay's user only", last.display()))
            }
            Self::Unset { variable } => Some(format!("set {variable} where Belay is started")),
            Self::Read { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some(
                    "run Belay as the user that may read it; a service is given new credentials when it is started again"
                        .to_owned(),
                )
            }
            Self::OpenToEveryone { path, .. } => Some(format!("chmod 600 {}", path.display())),
            Self::Read { .. } | Self::Invalid { .. } => None,
        }
    }
}

fn listed(paths: &[PathBuf]) -> String {
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    shown.join(" and no ")
}

/// Why a text cannot be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// No program could be given it.
    #[error("it holds a NUL character")]
    Nul,
    /// A wrong file was named.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// A wrong file was named.
    #[error("it is not UTF-8 text")]
    NotText,
}

impl SecretRef {
    /// Read the secret from where the reference leads to.
    ///
    /// One line break at the end of a file is not part of the secret.
    pub fn resolve(&self, sources: &SecretSources) -> Result<Secret, SecretError> {
        match self {
            Self::Credential(name) => {
                let places = sources.credential_places.iter();
                let tried: Vec<PathBuf> =
                    places.map(|(dir, prefix)| dir.join(format!("{prefix}{name}"))).collect();
                for path in &tried {
                    match Secret::read_file(path) {
                        Err(SecretError::Read { source, .. })
                            if source.kind() == io::ErrorKind::NotFound => {}
                        answer => return answer,
                    }
                }
                Err(SecretError::NotFound { reference: self.clone(), tried })
            }
            Self::File(path) => Secret::read_file(path),
            Self::Environment(name) => {
                let value = (sources.variable)(name)
                    .ok_or_else(|| SecretError::Unset { variable: name.clone() })?;
                let bytes = Zeroizing::new(value.into_encoded_bytes());
                Secret::from_bytes(&bytes)
                    .map_err(|reason| SecretError::Invalid { origin: self.to_string(), reason })
            }
        }
    }
}

/// A secret's value: wiped from memory when dropped, hidden in `Debug`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// A secret that a person typed.
    pub fn new(mut text: String) -> Result<Self, InvalidSecret> {
        let secret = Self::from_bytes(text.as_bytes());
        text.zeroize();
        secret
    }

    /// Read a secret from a file. One line break at its end is not part of it. A regular file that everyone may read
    /// or change is refused; a pipe is read to its end.
    pub fn read_file(path: &Path) -> Result<Self, SecretError> {
        let failed = |source| SecretError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        // Asked of the open file, so that nobody can exchange it between the question and the reading.
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & 0o7777;
        if metadata.is_file() && mode & 0o006 != 0 {
            return Err(SecretError::OpenToEveryone { path: path.to_owned(), mode });
        }
        // Room for all that is read, so that no copy is left behind when the buffer would grow. One byte, and the
        // longest line break, more than the greatest secret has.
        let limit = MAX_SECRET_BYTES + "\r\n".len() + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        file.take(limit as u64).read_to_end(&mut bytes).map_err(failed)?;
        let value = bytes
            .strip_suffix(b"\n")
            .map_or(&bytes[..], |cut| cut.strip_suffix(b"\r").unwrap_or(cut));
        Self::from_bytes(value)
            .map_err(|reason| SecretError::Invalid { origin: path.display().to_string(), reason })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidSecret> {
        match std::str::from_utf8(bytes) {
            _ if bytes.is_empty() => Err(InvalidSecret::Empty),
            _ if bytes.len() > MAX_SECRET_BYTES => Err(InvalidSecret::TooLong),
            _ if bytes.contains(&0) => Err(InvalidSecret::Nul),
            Ok(text) => Ok(Self(Zeroizing::new(text.to_owned()))),
            Err(_) => Err(InvalidSecret::NotText),
        }
    }

    /// The value. Do not keep copies of it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the value begins or ends with white space. restic cuts that off when it reads a password from a file,
    /// so it could not open a repository with the same file.
    pub fn has_outer_whitespace(&self) -> bool {
        self.0.trim().len() != self.0.len()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests;
