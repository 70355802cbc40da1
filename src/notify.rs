//! Telling people and monitors: one notice to one channel, by a webhook, by mail or by a health-check ping.
//!
//! Always so: a delivery ends within half a minute, whatever the receiver does; it goes to no other host than the one that is
//! configured, and never from TLS to none; no error, and no `Debug` output of one, holds a secret or more of an address than
//! its host. Who calls tries again where [`NotifyError::is_passing`] says so; receivers tell repeats by the delivery's id.

mod http;
mod mail;
mod message;
mod ping;
#[cfg(test)]
mod tests;
mod webhook;

use crate::config::notify::{AddressError, Channel, Target};
use crate::config::{SecretError, SecretSources};
use crate::model::id::DeliveryId;
use crate::model::notice::Notice;
use std::time::Duration;

/// How long a delivery may take.
#[derive(Clone, Copy)]
struct Limits {
    /// Until there is a connection.
    connect: Duration,
    /// Until the receiver has answered.
    all: Duration,
}

const LIMITS: Limits = Limits { connect: Duration::from_secs(10), all: Duration::from_secs(30) };

/// Sends a notice. It blocks for up to 30 seconds, and must not be called in an asynchronous task. `id` has to be the same
/// each time the same notice is sent to the same channel.
pub fn deliver(
    channel: &Channel,
    id: DeliveryId,
    notice: &Notice,
    sources: &SecretSources,
) -> Result<(), NotifyError> {
    deliver_within(LIMITS, channel, id, notice, sources)
}

fn deliver_within(
    limits: Limits,
    channel: &Channel,
    id: DeliveryId,
    notice: &Notice,
    sources: &SecretSources,
) -> Result<(), NotifyError> {
    install_crypto();
    let sent = match &channel.target {
        Target::Webhook(webhook) => webhook::send(limits, webhook, id, notice, sources),
        Target::Mail(mail) => mail::send(limits, mail, id, notice, sources),
        Target::Ping(ping) => ping::send(limits, ping, id, notice, sources),
    };
    sent.map_err(|reason| NotifyError { place: channel.to_string(), reason })
}

/// TLS is of rustls, which asks the process for who does the mathematics. Whoever was first stays. Every HTTP client wants
/// it, also one that uses no TLS.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // An error says that another thread was faster.
        rustls::crypto::ring::default_provider().install_default().ok();
    }
}

/// A notice could not be delivered.
#[derive(Debug, thiserror::Error)]
#[error("cannot tell {place}")]
pub struct NotifyError {
    /// The channel as it may be shown.
    pub place: String,
    /// Why not.
    #[source]
    pub reason: Reason,
}

/// Why a notice could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// A secret, or an address that is one, could not be had.
    #[error(transparent)]
    Secret(#[from] AddressError),
    /// There was no connection, or no answer that could be understood.
    #[error("{0}")]
    NoAnswer(String),
    /// A web server did not take it.
    #[error("it answered with status {status}")]
    Refused {
        /// HTTP's status.
        status: u16,
        /// How long it wants to be left alone, at most six hours.
        retry_after: Option<Duration>,
    },
    /// A web server knows another place, which is another host, not encrypted, or takes no body.
    #[error("it answered with status {status} and leads on to {target}, which is not followed")]
    Redirected {
        /// HTTP's status.
        status: u16,
        /// Where to, by its host.
        target: String,
    },
    /// A mail server did not take it.
    #[error("the mail server answered {code}{said}")]
    MailRefused {
        /// SMTP's reply code.
        code: u16,
        /// What it said, after a colon, unless that could hold the password.
        said: String,
    },
    /// What is configured, or the notice itself, cannot be sent.
    #[error("{0}")]
    Unfit(String),
}

impl From<SecretError> for Reason {
    fn from(error: SecretError) -> Self {
        Self::Secret(error.into())
    }
}

impl NotifyError {
    /// Whether it is worth another try without anybody changing the configuration.
    pub fn is_passing(&self) -> bool {
        match self.reason {
            // Secrets are put in place while the program runs, without a word to it.
            Reason::Secret(_) | Reason::NoAnswer(_) => true,
            Reason::Refused { status, .. } => status >= 500 || matches!(status, 408 | 429),
            Reason::MailRefused { code, .. } => (400..500).contains(&code),
            Reason::Redirected { .. } | Reason::Unfit(_) => false,
        }
    }

    /// How long the receiver wants to be left alone, where it said so: at most six hours.
    pub fn retry_after(&self) -> Option<Duration> {
        match self.reason {
            Reason::Refused { retry_after, .. } => retry_after,
            _ => None,
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        let fixed = match &self.reason {
            Reason::Secret(AddressError::Secret(error)) => return error.hint(),
            Reason::Secret(AddressError::Invalid { .. }) => {
                "put an address that begins with https:// there, and nothing else"
            }
            Reason::Redirected { .. } => {
                "write the address that it leads to into the configuration"
            }
            Reason::Refused { status: 401 | 403, .. } => {
                "see whether the address and the secret are still good there"
            }
            Reason::Refused { status: 404 | 410, .. } => {
                "nobody takes it there any more: make a new address, and change it in the configuration"
            }
            Reason::MailRefused { code: 530 | 534 | 535, .. } => {
                "see whether user and password are right"
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }
}
