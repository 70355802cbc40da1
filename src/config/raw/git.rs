//! `[git.NAME]` as it is written.

use super::{RawComponents, RawInstance, RawObjectives};
use crate::config::secret::SecretRef;
use crate::model::name::Name;
use crate::policy::retention::Keep;
use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;

/// A git repository that holds apps.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawGit {
    /// Whose apps it holds: "appsmith" or "tooljet".
    #[schemars(with = "String")]
    pub platform: Spanned<String>,
    /// Where it is: "git@HOST:PATH", "ssh://…", "https://…", or an absolute path, also as `file:///path`.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// The pair whose instances use it.
    #[schemars(with = "Option<Name>")]
    pub pair: Option<Spanned<String>>,
    /// Which branch each instance of the pair uses.
    #[serde(default)]
    pub branches: RawBranches,
    /// The private key for ssh. The default is what the user's ssh agent has.
    #[schemars(with = "Option<SecretRef>")]
    pub ssh_key: Option<Spanned<String>>,
    /// That key's passphrase.
    #[schemars(with = "Option<SecretRef>")]
    pub ssh_passphrase: Option<Spanned<String>>,
    /// An access token for https.
    #[schemars(with = "Option<SecretRef>")]
    pub token: Option<Spanned<String>>,
    /// The user that goes with the token. The default is "oauth2", which most servers take with any token.
    pub user: Option<String>,
    /// When the daemon fetches it and takes a snapshot of it: a cron pattern, such as "*/30 * * * *", or "off".
    #[schemars(with = "Option<String>")]
    pub schedule: Option<Spanned<String>>,
    /// By how much a start may be put off, so that not all begin at once, such as "10m". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub jitter: Option<Spanned<String>>,
    /// How late a start that was missed is still made up for, such as "12h". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub catch_up: Option<Spanned<String>>,
    /// How long a backup by the daemon may take, such as "1h". In place of the defaults.
    #[schemars(with = "Option<String>")]
    pub deadline: Option<Spanned<String>>,
    /// What is promised of it.
    pub objectives: Option<RawObjectives>,
    /// A time zone, in place of the defaults.
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Spanned<String>>,
    /// Which snapshots to keep, in place of the defaults.
    pub keep: Option<Keep>,
    /// The repository that its snapshots go to; needed when there are several.
    #[schemars(with = "Option<Name>")]
    pub repository: Option<Spanned<String>>,
}

/// Which branch each instance of a pair uses.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawBranches {
    /// The staging instance's. The default is "staging".
    #[schemars(with = "Option<String>")]
    pub staging: Option<Spanned<String>>,
    /// The production instance's. The default is the git repository's own default branch.
    #[schemars(with = "Option<String>")]
    pub production: Option<Spanned<String>>,
}

impl RawGit {
    /// What it has in common with instances: its snapshots are taken, kept and looked after the same way.
    pub fn as_instance(&self) -> RawInstance {
        RawInstance {
            platform: self.platform.clone(),
            via: None,
            paths: None,
            version: None,
            environment: None,
            component: RawComponents::default(),
            git: Vec::new(),
            quiesce: None,
            url: None,
            plain_http: None,
            login: None,
            token: None,
            compose: None,
            exclude: Vec::new(),
            keep: self.keep.clone(),
            schedule: self.schedule.clone(),
            jitter: self.jitter.clone(),
            catch_up: self.catch_up.clone(),
            deadline: self.deadline.clone(),
            objectives: self.objectives.clone(),
            timezone: self.timezone.clone(),
            repository: self.repository.clone(),
        }
    }
}
