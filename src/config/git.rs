//! Git repositories that hold apps: where each is, whose apps, and how it lets one in.

use super::SecretRef;
use super::location::absolute_path;
use crate::config::Platform;
use crate::model::name::Name;
use std::fmt;
use std::path::PathBuf;

/// The user that goes with a token: GitHub, GitLab and Gitea take any name with a token of theirs.
pub(super) const DEFAULT_USER: &str = "oauth2";
/// The staging instance's branch where nothing is said.
pub(super) const DEFAULT_STAGING: &str = "staging";

/// A git repository that holds apps. [`super::Config::instances`] has one of the same name besides, of the platform
/// [`Platform::Git`], which says when its snapshots are taken, where they go and how long they are kept.
#[derive(Clone, Debug, PartialEq)]
pub struct GitRepository {
    /// Its name.
    pub name: Name,
    /// Whose apps it holds: Appsmith's or `ToolJet`'s.
    pub platform: Platform,
    /// Where it is.
    pub url: GitUrl,
    /// The pair whose instances use it.
    pub pair: Option<Name>,
    /// The branch of the pair's staging instance.
    pub staging_branch: String,
    /// The branch of the pair's production instance; none is the git repository's own default branch.
    pub production_branch: Option<String>,
    /// The private key for ssh; none is what an ssh agent has.
    pub ssh_key: Option<SecretRef>,
    /// That key's passphrase.
    pub ssh_passphrase: Option<SecretRef>,
    /// An access token for https.
    pub token: Option<SecretRef>,
    /// The user that goes with the token.
    pub user: String,
}

/// Where a git repository is. It holds no password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitUrl {
    /// Over ssh, as it was written: `git@host:path` or `ssh://…`.
    Ssh(String),
    /// Over https, or http without a token.
    Web(String),
    /// A directory of this machine.
    Local(PathBuf),
}

impl fmt::Display for GitUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh(text) | Self::Web(text) => formatter.write_str(text),
            Self::Local(path) => path.display().fmt(formatter),
        }
    }
}

impl GitUrl {
    /// Whether an address, however it is written, leads to the same git repository: by host and path, without user, port and
    /// `.git`.
    pub fn is_same_place(&self, other: &str) -> bool {
        place_of(&self.to_string()) == place_of(other)
    }
}

/// Host and path.
fn place_of(url: &str) -> (String, &str) {
    let (authority, path) = match url.split_once("://") {
        Some((_, rest)) => rest.split_once('/').unwrap_or((rest, "")),
        None if url.starts_with('/') => ("", url),
        None => url.split_once(':').unwrap_or(("", url)),
    };
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = host.split(':').next().unwrap_or_default().to_ascii_lowercase();
    let path = path.trim_matches('/');
    (host, path.strip_suffix(".git").unwrap_or(path))
}

/// Why a text is no place of a git repository.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GitUrlError {
    message: String,
    /// What to do about it.
    pub hint: &'static str,
}

impl std::str::FromStr for GitUrl {
    type Err = GitUrlError;

    fn from_str(text: &str) -> Result<Self, GitUrlError> {
        const FORMS: &str =
            "write git@HOST:PATH, ssh://USER@HOST/PATH, https://HOST/PATH, or an absolute path";
        let refused = |message: &str, hint| Err(GitUrlError { message: message.to_owned(), hint });
        if text.chars().any(|sign| sign.is_control() || sign.is_whitespace()) {
            return refused("it has blanks or control characters", FORMS);
        }
        if text.starts_with('-') {
            return refused("it begins with a hyphen", FORMS);
        }
        let local = text.strip_prefix("file://").unwrap_or(text);
        if local.starts_with('/') {
            return absolute_path(local)
                .map(Self::Local)
                .map_err(|error| GitUrlError { message: error.to_string(), hint: FORMS });
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            let user = authority.rsplit_once('@').map(|(user, _)| user);
            return match scheme {
                "ssh" if user.is_some_and(|user| user.contains(':')) => {
                    refused("it holds a password", "ssh works with keys: name one with ssh_key")
                }
                "ssh" => Ok(Self::Ssh(text.to_owned())),
                "https" | "http" if user.is_some() => refused(
                    "it holds a user or a password",
                    "give these with user and token = \"credential:NAME\"",
                ),
                "https" | "http" if rest.contains(['?', '#']) => {
                    refused("it has a query or a fragment", FORMS)
                }
                "https" | "http" => Ok(Self::Web(text.to_owned())),
                _ => refused("this version does not know such addresses", FORMS),
            };
        }
        // As scp has it: a host, a colon, a path.
        match text.split_once(':') {
            Some((host, path)) if !host.is_empty() && !host.contains('/') && !path.is_empty() => {
                Ok(Self::Ssh(text.to_owned()))
            }
            _ => refused("it is no address of a git repository", FORMS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_has_several_addresses() {
        let url: GitUrl = "git@git.example.com:acme/orders.git".parse().unwrap();
        for same in [
            "git@git.example.com:acme/orders.git",
            "ssh://git@git.example.com:2222/acme/orders.git",
            "https://user:token@Git.Example.com/acme/orders",
            "https://git.example.com/acme/orders.git/",
        ] {
            assert!(url.is_same_place(same), "{same}");
        }
        for other in
            ["git@git.example.com:acme/order.git", "git@other.example.com:acme/orders.git", ""]
        {
            assert!(!url.is_same_place(other), "{other}");
        }
    }

    #[test]
    fn each_way_to_write_an_address_is_told_apart() {
        let kind = |text: &str| match text.parse() {
            Ok(GitUrl::Ssh(_)) => "ssh",
            Ok(GitUrl::Web(_)) => "web",
            Ok(GitUrl::Local(_)) => "local",
            Err(_) => "refused",
        };
        for (text, expected) in [
            ("git@github.com:acme/orders.git", "ssh"),
            ("ssh://git@host:2222/acme/orders.git", "ssh"),
            ("https://git.example.com/acme/orders.git", "web"),
            ("http://127.0.0.1:3000/orders.git", "web"),
            ("/srv/git/orders.git", "local"),
            ("file:///srv/git/orders.git", "local"),
            ("ssh://git:secret@host/orders.git", "refused"),
            ("https://user:token@host/orders.git", "refused"),
            ("https://token@host/orders.git", "refused"),
            ("ext::sh -c evil", "refused"),
            ("--upload-pack=evil", "refused"),
            ("git://host/orders.git", "refused"),
            ("orders.git", "refused"),
            ("../orders.git", "refused"),
            ("git@host:a b", "refused"),
            ("", "refused"),
        ] {
            assert_eq!(kind(text), expected, "{text}");
        }
    }
}
