//! `[[notify]]` as it is written.

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// Somebody who is told: exactly one of webhook, mail and ping.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawNotify {
    /// Of what, for a webhook or mail: "failure", "recovery", "missed", "rpo", "check-failed", "history-rewritten", "upgrade", "version-changed". The default is all.
    #[schemars(with = "Option<Vec<String>>")]
    pub on: Option<Spanned<Vec<Spanned<String>>>>,
    /// The names of the instances it is about. The default is all.
    #[schemars(with = "Option<Vec<String>>")]
    pub instances: Option<Spanned<Vec<Spanned<String>>>>,
    /// A request to a web address.
    pub webhook: Option<RawWebhook>,
    /// A mail.
    pub mail: Option<RawMail>,
    /// A health-check monitor, which misses backups that do not come.
    pub ping: Option<RawPing>,
}

/// A request to a web address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWebhook {
    /// The address, or a reference to it where it is a secret.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// For style = "json" the key that signs the request; for "ntfy" an access token.
    #[schemars(with = "Option<crate::config::secret::SecretRef>")]
    pub secret: Option<Spanned<String>>,
    /// What the receiver takes: "json" (the default), "slack", "mattermost", "ntfy".
    #[schemars(with = "Option<String>")]
    pub style: Option<Spanned<String>>,
}

/// A mail by SMTP.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawMail {
    /// To whom.
    #[schemars(with = "Vec<String>")]
    pub to: Spanned<Vec<Spanned<String>>>,
    /// Who sends it.
    #[schemars(with = "String")]
    pub from: Spanned<String>,
    /// The SMTP server's name or address.
    #[schemars(with = "String")]
    pub server: Spanned<String>,
    /// Its port. The default is 587, for "implicit" 465, for "none" 25.
    #[schemars(with = "Option<u16>", range(min = 1))]
    pub port: Option<Spanned<u16>>,
    /// "starttls" (the default; a server that has none is refused), "implicit", "none".
    #[schemars(with = "Option<String>")]
    pub tls: Option<Spanned<String>>,
    /// Who logs in there.
    #[schemars(with = "Option<String>")]
    pub user: Option<Spanned<String>>,
    /// That user's password.
    #[schemars(with = "Option<crate::config::secret::SecretRef>")]
    pub password: Option<Spanned<String>>,
}

/// A health-check monitor that takes pings as Healthchecks does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPing {
    /// The check's address, or a reference to it.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
}
