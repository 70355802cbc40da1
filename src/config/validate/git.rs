//! The checks of `[git.NAME]`: an address, whose apps, branches, and no way in that the address cannot use.

use super::{Checker, Defaults};
use crate::config::git::{DEFAULT_STAGING, DEFAULT_USER, GitRepository, GitUrl};
use crate::config::raw::{RawConfig, RawGit, Tables};
use crate::config::{Instance, Platform, SecretRef};
use crate::model::name::Name;
use std::collections::BTreeMap;
use toml::Spanned;

impl Checker<'_> {
    /// Each becomes an instance besides, which is added to `instances`.
    pub(super) fn gits(
        &mut self,
        raw: &RawConfig,
        instances: &mut BTreeMap<Name, Instance>,
        defaults: &Defaults,
    ) -> BTreeMap<Name, GitRepository> {
        let mut gits = BTreeMap::new();
        for (name, raw_git) in &raw.git {
            if raw.instance.contains_key(name) {
                let message = format!("an instance is called '{}', too", name.get_ref());
                let hint = "their snapshots could not be told apart: give it another name";
                self.refuse(&name.span(), message, hint);
                continue;
            }
            let as_instance = raw_git.as_instance();
            let repository = self.repository_of(name, &as_instance, raw);
            let platform = Some(Platform::Git);
            let instance = self.instance(name, repository, &as_instance, platform, defaults);
            let git = self.git(name.get_ref(), raw_git, raw);
            if let (Some(instance), Some(git)) = (instance, git) {
                instances.insert(instance.name.clone(), instance);
                gits.insert(git.name.clone(), git);
            }
        }
        gits
    }

    fn git(&mut self, name: &Name, raw: &RawGit, config: &RawConfig) -> Option<GitRepository> {
        let problems_before = self.problems.len();
        let known = [Platform::Appsmith, Platform::Tooljet];
        let word = raw.platform.get_ref();
        let platform = known.into_iter().find(|known| known.as_str() == word);
        if platform.is_none() {
            self.unknown_word("platform", &raw.platform, &known.map(Platform::as_str));
        }
        let url = raw.url.get_ref().parse::<GitUrl>();
        let url = url.map_err(|error| {
            self.refuse(&raw.url.span(), format!("url: {error}"), error.hint);
        });
        let pair = raw.pair.as_ref();
        let pair = pair.and_then(|pair| self.known_name("pair", "pair", pair, &config.pair));
        let staging = raw.branches.staging.as_ref().map(|name| self.branch("staging", name));
        let production =
            raw.branches.production.as_ref().map(|name| self.branch("production", name));
        let secrets = [
            ("ssh_key", &raw.ssh_key),
            ("ssh_passphrase", &raw.ssh_passphrase),
            ("token", &raw.token),
        ];
        let [ssh_key, ssh_passphrase, token] = secrets.map(|(key, text)| -> Option<SecretRef> {
            let text = text.as_ref()?;
            let is_usable = match &url {
                Ok(GitUrl::Ssh(_)) => key != "token",
                Ok(GitUrl::Web(address)) => key == "token" && address.starts_with("https:"),
                Ok(GitUrl::Local(_)) => false,
                Err(()) => true,
            };
            if !is_usable {
                let hint =
                    "keys are for ssh, tokens for https; a directory and plain http take neither";
                self.refuse(&text.span(), format!("{key} means nothing to this url"), hint);
            }
            self.secret(key, text)
        });
        if let (Some(text), None) = (&raw.ssh_passphrase, &raw.ssh_key) {
            self.refuse(&text.span(), "ssh_passphrase without a key", "name the key with ssh_key");
        }
        (self.problems.len() == problems_before).then_some(())?;
        Some(GitRepository {
            name: name.clone(),
            platform: platform?,
            url: url.ok()?,
            pair,
            staging_branch: staging.unwrap_or_else(|| DEFAULT_STAGING.to_owned()),
            production_branch: production,
            ssh_key,
            ssh_passphrase,
            token,
            user: raw.user.clone().unwrap_or_else(|| DEFAULT_USER.to_owned()),
        })
    }

    /// The name of a branch, without `refs/heads/`.
    fn branch(&mut self, key: &str, name: &Spanned<String>) -> String {
        let text = name.get_ref();
        let is_wrong = text.is_empty()
            || text.starts_with(['-', '/', '.'])
            || text.starts_with("refs/")
            || text.ends_with(['/', '.'])
            || text.contains("..")
            || text.contains(|sign: char| sign.is_control() || " ~^:?*[\\".contains(sign));
        if is_wrong {
            let hint = "write its name as git shows it, such as \"main\"";
            self.refuse(&name.span(), format!("{key}: '{text}' is no name of a branch"), hint);
        }
        text.clone()
    }

    /// The git repositories whose mirrors go into an instance's snapshots, too.
    pub(super) fn git_of(
        &mut self,
        names: &[Spanned<String>],
        known: &Tables<RawGit>,
    ) -> Vec<Name> {
        let mut found: Vec<Name> =
            names.iter().filter_map(|name| self.known_name("git", "git", name, known)).collect();
        found.sort();
        found.dedup();
        found
    }
}
