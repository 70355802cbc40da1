//! Channels: who is told of what. A channel is shown without what may be a secret in its address.

use super::secret::{SecretError, SecretRef, SecretSources};
use crate::model::id::ChannelId;
use crate::model::name::Name;
use crate::model::notice::{Notice, NoticeKind};
use lettre::message::Mailbox;
use reqwest::Url;
use sha2::{Digest as _, Sha256};
use std::fmt;

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Of what; not looked at for pings.
    pub on: Vec<NoticeKind>,
    /// Of which instances, which are in [`Config::instances`](super::Config); none is all.
    pub instances: Option<Vec<Name>>,
    /// Where to.
    pub target: Target,
}

/// Where notices go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A request to a web address.
    Webhook(Webhook),
    /// A mail.
    Mail(Mail),
    /// A health-check monitor.
    Ping(Ping),
}

/// A request to a web address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where to.
    pub url: Address,
    /// With [`Style::Json`] the key that signs, with [`Style::Ntfy`] the access token, otherwise none.
    pub secret: Option<SecretRef>,
    /// What the receiver takes.
    pub style: Style,
}

/// What a webhook's receiver takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// The notice as JSON.
    #[default]
    Json,
    /// A text as Slack's incoming webhooks take it.
    Slack,
    /// A text as Mattermost's incoming webhooks take it.
    Mattermost,
    /// A text with headers, as ntfy takes it.
    Ntfy,
}

impl Style {
    /// All that this version knows.
    pub const ALL: [Self; 4] = [Self::Json, Self::Slack, Self::Mattermost, Self::Ntfy];

    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::Ntfy => "ntfy",
        }
    }
}

/// A mail by SMTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// To whom; at least one.
    pub to: Vec<Mailbox>,
    /// Who sends it.
    pub from: Mailbox,
    /// The server's name or address.
    pub server: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// Who logs in there, if anybody does; never with [`MailTls::None`].
    pub login: Option<MailLogin>,
}

/// Who logs in at an SMTP server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: SecretRef,
}

/// How a connection to an SMTP server is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MailTls {
    /// From STARTTLS on; a server that does not offer it gets nothing.
    #[default]
    Starttls,
    /// From its beginning.
    Implicit,
    /// Not at all.
    None,
}

impl MailTls {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Starttls, Self::Implicit, Self::None];

    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starttls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }

    /// The port where servers expect it.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Starttls => 587,
            Self::Implicit => 465,
            Self::None => 25,
        }
    }
}

/// A health-check monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// The check's address.
    pub url: Address,
}

/// A web address. Its path may be a secret, so neither `Display` nor `Debug` shows it.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    /// As it is.
    Plain(Url),
    /// Found where secrets are.
    Secret(SecretRef),
}

impl Address {
    /// The address itself. Do not show it.
    pub fn resolve(&self, sources: &SecretSources) -> Result<Url, AddressError> {
        match self {
            Self::Plain(url) => Ok(url.clone()),
            Self::Secret(reference) => {
                let secret = reference.resolve(sources)?;
                parse_web_address(secret.expose()).map_err(|reason| AddressError::Invalid {
                    reference: reference.clone(),
                    reason,
                })
            }
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(url) => formatter.write_str(&origin_of(url)),
            Self::Secret(reference) => reference.fmt(formatter),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Address({self})")
    }
}

/// An address that is a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The secret could not.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It is not one.
    #[error("the secret '{reference}' is no address: {reason}")]
    Invalid {
        /// Where it is found.
        reference: SecretRef,
        /// Why, without the text.
        reason: NoWebAddress,
    },
}

/// Why a text is no web address. It may be a secret, so it is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWebAddress {
    /// It cannot be read as one.
    #[error("it does not begin with https:// or http:// and a host")]
    Malformed,
    /// It is not sent to the receiver as it stands.
    #[error("it has a '#', and what follows is never sent")]
    Fragment,
}

/// A web address: https or http.
pub(super) fn parse_web_address(text: &str) -> Result<Url, NoWebAddress> {
    let url = Url::parse(text).map_err(|_| NoWebAddress::Malformed)?;
    if !matches!(url.scheme(), "https" | "http") || !url.has_host() {
        return Err(NoWebAddress::Malformed);
    }
    if url.fragment().is_some() { Err(NoWebAddress::Fragment) } else { Ok(url) }
}

/// An address as it may be shown: the path of a webhook's is its password as often as not.
pub fn origin_of(url: &Url) -> String {
    let hidden = if url.path() == "/" && url.query().is_none() { "" } else { "***" };
    format!("{}/{hidden}", url.origin().ascii_serialization())
}

impl Channel {
    /// Whether it is to carry the notice. One that is about no instance, such as a failed check of a repository, goes to
    /// all: their instances' snapshots may be in it.
    pub fn wants(&self, notice: &Notice) -> bool {
        let wants_kind = match self.target {
            Target::Ping(_) => notice.kind.is_for_pings(),
            Target::Webhook(_) | Target::Mail(_) => self.on.contains(&notice.kind),
        };
        let wants_instance = match (&self.instances, &notice.instance) {
            (Some(wanted), Some(instance)) => wanted.contains(instance),
            _ => true,
        };
        wants_kind && wants_instance
    }

    /// The same for the same kind and target, whatever else is configured of it.
    pub fn id(&self) -> ChannelId {
        let parts = match &self.target {
            Target::Webhook(webhook) => {
                vec!["webhook".to_owned(), webhook.style.as_str().to_owned(), exact(&webhook.url)]
            }
            Target::Ping(ping) => vec!["ping".to_owned(), exact(&ping.url)],
            Target::Mail(mail) => {
                let user = mail.login.as_ref().map_or("", |login| &login.user);
                let port = mail.port.to_string();
                let fixed = ["mail", &mail.server, &port, user].map(str::to_owned);
                let people = mail.to.iter().chain([&mail.from]).map(|one| one.email.to_string());
                fixed.into_iter().chain(people).collect()
            }
        };
        let mut id = ChannelId([0; 8]);
        let length = id.0.len();
        id.0.copy_from_slice(&Sha256::digest(parts.join("\0"))[..length]);
        id
    }
}

/// What tells one address from another. It goes into a digest only.
fn exact(address: &Address) -> String {
    match address {
        Address::Plain(url) => url.to_string(),
        Address::Secret(reference) => reference.to_string(),
    }
}

/// What it is and where it goes, without secrets: `the webhook https://hooks.example.com/***`.
impl fmt::Display for Channel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Webhook(webhook) => write!(formatter, "the webhook {}", webhook.url),
            Target::Ping(ping) => write!(formatter, "the health check {}", ping.url),
            Target::Mail(mail) => {
                let to: Vec<String> = mail.to.iter().map(|one| one.email.to_string()).collect();
                let (server, port) = (&mail.server, mail.port);
                write!(formatter, "mail to {} by {server}:{port}", to.join(", "))
            }
        }
    }
}
