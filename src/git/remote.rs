//! Talking to a git repository: who we are, whom we talk to, and what it has.
//!
//! Secrets are given to libgit2 in memory and are in no error. The host's key has to be in the user's `known_hosts`.

use super::copy::{self, Wanted};
use super::error::{GitError, told};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use git2::{
    CertificateCheckStatus, Cred, CredentialType, Direction, ErrorClass, ErrorCode, FetchOptions,
    Oid, ProxyOptions, PushOptions, Remote, RemoteCallbacks, Repository,
};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::path::Path;
use zeroize::Zeroizing;

/// How the mirror's refs and the git repository's are the same.
const EVERYTHING: &str = "+refs/*:refs/*";
/// Refs below this are this program's own; a git repository that has such, because a mirror was pushed to it, has them kept
/// under [`THEIRS`].
pub(super) const OWN: &str = "refs/belay/";
pub(super) const THEIRS: &str = "refs/belay/theirs/";
/// What `git` says of where a tag leads to.
const PEELED: &str = "^{}";

/// Who is told that something goes on: how many bytes and objects were taken so far.
pub type Heard<'a> = &'a dyn Fn(u64, u64);

/// Where a git repository is, and who asks.
#[derive(Clone, Serialize, Deserialize)]
pub struct Address {
    /// Where it is.
    pub url: String,
    /// Who asks, over https.
    pub user: String,
    /// A token, over https.
    pub token: Option<Zeroizing<String>>,
    /// A private key, over ssh; none is what an agent has.
    pub ssh_key: Option<Zeroizing<String>>,
    /// That key's passphrase.
    pub ssh_passphrase: Option<Zeroizing<String>>,
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Address").field("url", &self.url).finish_non_exhaustive()
    }
}

/// What a git repository says that it has.
#[derive(Debug, Default)]
pub(super) struct Advertised {
    /// Its refs, by the name that the mirror has for them.
    pub(super) refs: Vec<(String, Oid)>,
    /// The branch that a clone begins with.
    pub(super) head: Option<String>,
}

/// What went on while libgit2 asked back.
#[derive(Default)]
struct Answered {
    key: Cell<bool>,
    agent: Cell<bool>,
    token: Cell<bool>,
    /// The fingerprint of the host's key, where it was not known.
    fingerprint: RefCell<Option<String>>,
}

impl Address {
    /// What is there, without a mirror.
    pub(super) fn look(&self, heard: Heard<'_>) -> Result<Advertised, GitError> {
        let remote = Remote::create_detached(self.url.as_str());
        let mut remote = remote.map_err(|error| self.unreachable(&error, &Answered::default()))?;
        self.connected(&mut remote, Direction::Fetch, heard, |remote| self.listed(remote))
    }

    /// What is there; and, where `decide` wants any of it, what belongs to that and is not in `into` yet. All on one connection:
    /// what is taken is what was listed. No ref is touched.
    pub(super) fn take(
        &self,
        into: &Repository,
        heard: Heard<'_>,
        decide: impl FnOnce(&Advertised) -> Result<Option<Wanted>, GitError>,
    ) -> Result<Advertised, GitError> {
        let mut remote = self.remote(into)?;
        self.connected(&mut remote, Direction::Fetch, heard, |remote| {
            let advertised =
                listed(remote).map_err(|error| self.unreachable(&error, &Answered::default()))?;
            let Some(wanted) = decide(&advertised)? else { return Ok(advertised) };
            match self.directory() {
                Some(path) => self.take_from_directory(path, into, &wanted, heard)?,
                None => self.download(remote, heard)?,
            }
            Ok(advertised)
        })
    }

    fn listed(&self, remote: &Remote<'_>) -> Result<Advertised, GitError> {
        listed(remote).map_err(|error| self.unreachable(&error, &Answered::default()))
    }

    /// The directory of this machine that it is.
    fn directory(&self) -> Option<&Path> {
        self.url.starts_with('/').then(|| Path::new(&self.url))
    }

    fn take_from_directory(
        &self,
        path: &Path,
        into: &Repository,
        wanted: &Wanted,
        heard: Heard<'_>,
    ) -> Result<(), GitError> {
        let taken = Repository::open(path).and_then(|from| copy::copy(&from, into, wanted, heard));
        taken.map_err(|error| self.unreachable(&error, &Answered::default()))
    }

    fn download(&self, remote: &mut Remote<'_>, heard: Heard<'_>) -> Result<(), GitError> {
        let answered = Answered::default();
        let mut options = FetchOptions::new();
        options.remote_callbacks(self.callbacks(&answered, heard));
        options.proxy_options(proxy());
        options.download_tags(git2::AutotagOption::None);
        let downloaded = remote.download(&[EVERYTHING], Some(&mut options));
        downloaded.map_err(|error| self.unreachable(&error, &answered))
    }

    /// Push a commit to a branch that is not there yet.
    pub(super) fn push(
        &self,
        mirror: &Repository,
        commit: Oid,
        branch: &str,
        heard: Heard<'_>,
    ) -> Result<(), GitError> {
        let wanted = format!("refs/heads/{branch}");
        if self.take(mirror, heard, |_| Ok(None))?.refs.iter().any(|(name, _)| *name == wanted) {
            return Err(GitError::BranchExists {
                url: self.url.clone(),
                branch: branch.to_owned(),
            });
        }
        // libgit2 pushes refs, so the commit has one for as long as that takes.
        let passing = format!("{OWN}push/{commit}");
        let passing = mirror
            .reference(&passing, commit, true, "belay: to be pushed")
            .map_err(GitError::unwritten("make a ref for what is pushed", mirror.path()))?;
        let refused = RefCell::new(None);
        let pushed =
            self.push_ref(mirror, passing.name().unwrap_or_default(), &wanted, &refused, heard);
        let mut passing = passing;
        passing.delete().map_err(GitError::unwritten("remove that ref", mirror.path()))?;
        pushed?;
        match refused.into_inner() {
            Some(reason) => {
                Err(GitError::Refused { url: self.url.clone(), branch: branch.to_owned(), reason })
            }
            None => Ok(()),
        }
    }

    fn push_ref(
        &self,
        mirror: &Repository,
        from: &str,
        to: &str,
        refused: &RefCell<Option<String>>,
        heard: Heard<'_>,
    ) -> Result<(), GitError> {
        let mut remote = self.remote(mirror)?;
        let answered = Answered::default();
        let mut callbacks = self.callbacks(&answered, heard);
        callbacks.push_update_reference(|_, status| {
            *refused.borrow_mut() = status.map(ToOwned::to_owned);
            Ok(())
        });
        let mut options = PushOptions::new();
        options.remote_callbacks(callbacks).proxy_options(proxy());
        let pushed = remote.push(&[format!("{from}:{to}")], Some(&mut options));
        pushed.map_err(|error| self.unreachable(&error, &answered))
    }

    fn remote<'a>(&self, mirror: &'a Repository) -> Result<Remote<'a>, GitError> {
        let remote = mirror.remote_anonymous(&self.url);
        remote.map_err(|error| self.unreachable(&error, &Answered::default()))
    }

    fn connected<T>(
        &self,
        remote: &mut Remote<'_>,
        direction: Direction,
        heard: Heard<'_>,
        work: impl FnOnce(&mut Remote<'_>) -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        let answered = Answered::default();
        let callbacks = self.callbacks(&answered, heard);
        let connection = remote.connect_auth(direction, Some(callbacks), Some(proxy()));
        let mut connection = connection.map_err(|error| self.unreachable(&error, &answered))?;
        work(connection.remote())
    }

    fn callbacks<'a>(&'a self, answered: &'a Answered, heard: Heard<'a>) -> RemoteCallbacks<'a> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks
            .credentials(|url, user, wanted| {
                // A server may lead elsewhere, and who is there gets no secret.
                if origin(url) != origin(&self.url) {
                    return Err(git2::Error::new(
                        ErrorCode::Auth,
                        ErrorClass::Net,
                        "it leads to another server, which gets no secrets",
                    ));
                }
                self.credential(user, wanted, answered)
            })
            .transfer_progress(|progress| {
                heard(progress.received_bytes() as u64, progress.received_objects() as u64);
                true
            })
            .sideband_progress(|_| {
                heard(0, 0);
                true
            })
            .certificate_check(|certificate, _| {
                if let Some(sum) = certificate.as_hostkey().and_then(|key| key.hash_sha256()) {
                    let sum = format!("SHA256:{}", STANDARD_NO_PAD.encode(sum));
                    *answered.fingerprint.borrow_mut() = Some(sum);
                }
                // libgit2 has compared it: `known_hosts` for ssh, the system's authorities for https.
                Ok(CertificateCheckStatus::CertificatePassthrough)
            });
        callbacks
    }

    /// Each thing is offered once: libgit2 asks again for as long as it is given something.
    fn credential(
        &self,
        user: Option<&str>,
        wanted: CredentialType,
        answered: &Answered,
    ) -> Result<Cred, git2::Error> {
        let user = user.unwrap_or("git");
        if wanted.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        if wanted.contains(CredentialType::SSH_KEY) || wanted.contains(CredentialType::SSH_MEMORY) {
            if let Some(key) = &self.ssh_key
                && !answered.key.replace(true)
            {
                let passphrase = self.ssh_passphrase.as_ref().map(|text| text.as_str());
                return Cred::ssh_key_from_memory(user, None, key, passphrase);
            }
            if self.ssh_key.is_none() && !answered.agent.replace(true) {
                return Cred::ssh_key_from_agent(user);
            }
        }
        if wanted.contains(CredentialType::USER_PASS_PLAINTEXT)
            && let Some(token) = &self.token
            && !answered.token.replace(true)
        {
            return Cred::userpass_plaintext(&self.user, token);
        }
        Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Net, "it does not let us in"))
    }

    fn unreachable(&self, error: &git2::Error, answered: &Answered) -> GitError {
        let mut reason = told(error);
        let hint = match (error.class(), error.code()) {
            (_, ErrorCode::Certificate) | (ErrorClass::Ssl, _) => match answered.fingerprint.borrow().as_ref() {
                Some(fingerprint) => {
                    reason = format!("its host key ({fingerprint}) is not in ~/.ssh/known_hosts, or is not the one there");
                    Some("compare the fingerprint with what its administrator says; then, as the user that Belay runs as: ssh-keyscan HOST >> ~/.ssh/known_hosts".to_owned())
                }
                None => Some("is its certificate of an authority that this host trusts?".to_owned()),
            },
            (_, ErrorCode::Auth) | (ErrorClass::Ssh, _)
                if answered.key.get() || answered.agent.get() || answered.token.get() =>
            {
                Some(match (answered.token.get(), self.ssh_key.is_some()) {
                    (true, _) => "is the token right, not expired, and may it read this git repository?",
                    (_, true) => "may the key of `ssh_key` read this git repository, and is `ssh_passphrase` right?",
                    (_, false) => "no ssh_key is configured, and no key of an ssh agent was accepted: name a key with ssh_key = \"credential:NAME\"",
                }.to_owned())
            }
            (_, ErrorCode::Auth) | (ErrorClass::Http, _) if self.token.is_none() => {
                Some("is `url` right? If it asks who is there: token = \"credential:NAME\"".to_owned())
            }
            (_, ErrorCode::Owner) => Some(
                "it belongs to another user: as the user that Belay runs as, git config --global --add safe.directory PATH"
                    .to_owned(),
            ),
            (ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib, _) => Some(
                "it seems damaged: `git fsck --full` there shows what is missing; no ref of its mirror was moved".to_owned(),
            ),
            _ => Some("is `url` right, and does its server run?".to_owned()),
        };
        GitError::Unreachable { url: self.url.clone(), reason, hint }
    }
}

/// What a git repository says that it has.
fn listed(remote: &Remote<'_>) -> Result<Advertised, git2::Error> {
    let mut advertised = Advertised::default();
    for head in remote.list()? {
        // git2 has no other way to a name, and panics at one that is not UTF-8.
        let named = std::panic::AssertUnwindSafe(|| head.name());
        let name = std::panic::catch_unwind(named).map_err(|_| {
            git2::Error::from_str(
                "it has a ref whose name is not UTF-8, which cannot be mirrored: rename it there",
            )
        })?;
        if name == "HEAD" {
            let target = head.symref_target();
            let branch = target.filter(|target| target.starts_with("refs/heads/"));
            advertised.head = branch.map(ToOwned::to_owned);
        } else if name.starts_with("refs/") && !name.ends_with(PEELED) {
            advertised.refs.push((renamed(name), head.oid()));
        }
    }
    advertised.refs.sort();
    advertised.refs.dedup();
    Ok(advertised)
}

/// Scheme, host and port of an address, or all of it where it has no scheme.
fn origin(url: &str) -> &str {
    let Some((_, rest)) = url.split_once("://") else { return url };
    let length = rest.find('/').unwrap_or(rest.len());
    &url[..url.len() - rest.len() + length]
}

/// As the environment and the user's configuration of git say.
fn proxy() -> ProxyOptions<'static> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

/// What the mirror calls a ref of the git repository.
fn renamed(name: &str) -> String {
    match name.strip_prefix(OWN) {
        Some(rest) => format!("{THEIRS}{rest}"),
        // It would be in the way of all that is kept.
        None if name == OWN.trim_end_matches('/') => format!("{THEIRS}belay"),
        None => name.to_owned(),
    }
}
