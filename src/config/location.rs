//! Where a repository is: its URL, which this version knows as a local directory only.
//!
//! A URL may hold a password, so it is shown through [`redact_url`] alone.

use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Where a repository is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory of this machine, by an absolute path without `.` and `..`.
    Local(PathBuf),
}

/// Why a text is no location, or no usable path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LocationError {
    message: String,
    hint: Option<&'static str>,
}

impl LocationError {
    fn new(message: String, hint: &'static str) -> Self {
        Self { message, hint: Some(hint) }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }
}

impl std::str::FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let path = match text.split_once(':') {
            Some(("file", rest)) => file_url_path(rest)?,
            Some((scheme, _)) if is_scheme(scheme) => {
                let message = format!("'{scheme}:' repositories are not supported by this version");
                let hint = "it knows local directories: an absolute path, or file:///path";
                return Err(LocationError::new(message, hint));
            }
            _ => text,
        };
        let path = absolute_path(path)?;
        if path == Path::new("/") {
            let message = "a repository cannot be the root directory".to_owned();
            return Err(LocationError::new(message, "name a directory of its own"));
        }
        Ok(Self::Local(path))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(formatter),
        }
    }
}

fn file_url_path(rest: &str) -> Result<&str, LocationError> {
    match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') && !path.contains(['%', '?', '#']) => Ok(path),
        _ => {
            let message = "this file URL does not name a path of this machine".to_owned();
            Err(LocationError::new(
                message,
                "write file:///path without escapes, or the plain path",
            ))
        }
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// A path that means the same wherever Belay is started: absolute, without `.`, `..` and doubled or final `/`.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, LocationError> {
    let path = Path::new(text);
    if text.is_empty() {
        return Err(LocationError::new("the path is empty".to_owned(), "begin it with '/'"));
    }
    if !path.is_absolute() {
        let message = format!("the path '{}' is relative", redact_url(text));
        let hint = "begin it with '/': a relative path depends on where Belay is started";
        return Err(LocationError::new(message, hint));
    }
    if path.components().any(|component| component == Component::ParentDir) {
        let message = format!("the path '{text}' goes back with '..'");
        return Err(LocationError::new(message, "write where it leads to"));
    }
    if text.contains('\0') {
        let message = "the path holds a NUL character".to_owned();
        return Err(LocationError::new(message, "no path of this system can"));
    }
    Ok(path.components().collect())
}

/// A URL as it may be shown: passwords in it and everything after a `?` become `***`. A plain path stays as it is.
/// Where it is not certain what is a password, too much is hidden rather than too little.
pub fn redact_url(url: &str) -> String {
    if url.starts_with('/') {
        return url.to_owned();
    }
    let (address, query) = match url.split_once('?') {
        Some((address, _)) => (address, "?***"),
        None => (url, ""),
    };
    let user_start = match address.find("://") {
        Some(at) => at + "://".len(),
        None => match address.split_once(':') {
            Some((scheme, _)) if is_scheme(scheme) => scheme.len() + 1,
            _ => 0,
        },
    };
    let (scheme, rest) = address.split_at(user_start);
    // A password may hold '/' and '@' when it was not escaped, so the last '@' ends it.
    let shown = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            // A lone word before the host of a web address is a token more often than a name.
            None if scheme.contains("http") => format!("***@{host}"),
            None => rest.to_owned(),
        },
        None => rest.to_owned(),
    };
    format!("{scheme}{shown}{query}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_directories_are_known() {
        for text in ["/srv/backup", "file:///srv/backup", "/srv//backup/", "/srv/./backup"] {
            assert_eq!(text.parse(), Ok(Location::Local("/srv/backup".into())), "{text}");
        }
        let odd = "/srv/with:colon and space";
        assert_eq!(odd.parse::<Location>().unwrap().to_string(), odd);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        let message = |text: &str| text.parse::<Location>().unwrap_err().to_string();
        assert_eq!(message("s3:bucket"), "'s3:' repositories are not supported by this version");
        assert_eq!(
            message("sftp://me@host/x"),
            "'sftp:' repositories are not supported by this version"
        );
        assert_eq!(message("backup/belay"), "the path 'backup/belay' is relative");
        assert_eq!(
            message("me:hunter2@host/x"),
            "'me:' repositories are not supported by this version"
        );
        assert_eq!(message("/srv/../etc"), "the path '/srv/../etc' goes back with '..'");
        assert_eq!(message("/"), "a repository cannot be the root directory");
        assert_eq!(message(""), "the path is empty");
        for text in ["file:/srv", "file://host/srv", "file:///a%20b", "file:"] {
            assert!(message(text).starts_with("this file URL"), "{text}");
        }
    }

    #[test]
    fn passwords_in_urls_are_hidden() {
        for (url, shown) in [
            ("s3:https://key:hunter2@host/bucket", "s3:https://key:***@host/bucket"),
            ("https://u:hun/ter2@host/", "https://u:***@host/"),
            ("https://u:hunt@er2@host/", "https://u:***@host/"),
            ("https://hunter2@host/x", "https://***@host/x"),
            ("sftp://me@host/x", "sftp://me@host/x"),
            ("sftp:me@host:/x", "sftp:me@host:/x"),
            ("sftp:me:hunter2@host:/x", "sftp:me:***@host:/x"),
            ("https://host/x?password=hunter2", "https://host/x?***"),
            ("s3:bucket", "s3:bucket"),
            ("/srv/a:b@c?d", "/srv/a:b@c?d"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }
}
