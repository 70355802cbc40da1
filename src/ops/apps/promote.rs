//! Importing an app into an instance, and pulling it there, through the platform's own HTTP interface.
//!
//! What always holds: nothing is pulled by an instance that is known not to read it, nor before a good snapshot of the instance was
//! taken; nothing is imported under a name that is there; there is one call that changes something, and it is the last.

use super::status::version_of;
use super::{Chosen, choose, production_branch};
use crate::catalog::Catalog;
use crate::config::{Config, Credentials, Instance, Platform, SecretSources, Web};
use crate::git::layout::Inventory;
use crate::model::id::SnapshotId;
use crate::model::manifest::KeyFit;
use crate::model::name::Name;
use crate::model::version::Version;
use crate::notify::install_crypto;
use crate::ops::backup::{BackupOptions, backup};
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};
use crate::platform::http::{Call, Client, HttpError, Identity, Limits, is_id};
use crate::policy::readable::{Readability, readable};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Promotion {
    /// The app, as [`super::choose`] takes it.
    pub app: String,
    /// The instance.
    pub into: String,
    /// Its name there; none is the one that its files say.
    pub name: Option<String>,
    /// The workspace there, by name; none is the only one.
    pub workspace: Option<String>,
    /// The version that the instance runs; none is the one that its last snapshot tells.
    pub version: Option<Version>,
    /// What is done.
    pub way: Way,
}

/// How an app gets into an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a new one.
    Import {
        /// Whether it may be edited, and so be committed from, there.
        is_editable: bool,
    },
    /// What is new of one that is there.
    Pull,
}

/// What would be done, or was.
#[derive(Clone, Debug, Serialize)]
pub struct Promoted {
    /// The git repository's name.
    pub git: Name,
    /// The instance.
    pub instance: Name,
    /// The app's name there.
    pub app: String,
    /// The branch that it comes from.
    pub branch: String,
    /// Whether the instance can read it.
    pub readable: Readability,
    /// The calls, in their order; the last one is the one that changes something.
    pub calls: Vec<Call>,
    /// Whether that was made.
    pub is_done: bool,
    /// The snapshot of the instance that was taken before a pull.
    pub snapshot: Option<SnapshotId>,
}

/// Everything is known, and nothing is changed yet.
pub struct Prepared<'a> {
    config: &'a Config,
    instance: &'a Instance,
    way: Way,
    version: Option<Version>,
    inventory: Inventory,
    client: Client,
    /// What is to be done.
    pub planned: Promoted,
}

/// An app or a workspace, as an instance lists it.
struct Listed {
    id: String,
    name: String,
    remote_url: Option<String>,
    branch: Option<String>,
}

/// Find out all that it takes: the version, the login, the ids. Only reads.
pub fn prepare<'a>(
    config: &'a Config,
    secrets: &SecretSources,
    promotion: &Promotion,
    context: &Context,
) -> Result<Prepared<'a>, OpsError> {
    let instance = config.instance(&promotion.into)?;
    let chosen = choose(config, &promotion.app)?;
    let git = chosen.git;
    if git.platform != instance.platform {
        return Err(OpsError::usage(
            format!(
                "{} holds apps of {}, and {} is of {}",
                git.name, git.platform, instance.name, instance.platform
            ),
            format!("name an instance of {}", git.platform),
        ));
    }
    ensure_possible(promotion, instance)?;
    let branch = branch_of(config, &chosen, instance)?;
    let (_, commit) = chosen.commit(Some(&branch))?;
    let inventory = chosen.inventory(&commit)?;
    let (app, git_app) = app_of(&chosen, &inventory, &branch)?;
    let verdict = verdict(config, instance, promotion.version.as_ref(), &inventory)?;
    ensure_readable(&verdict, instance)?;
    let mut client = client(secrets, instance, Limits::default())?;
    context.events.phase("asking", instance.name.to_string());
    let failed = failed(instance);
    let mut calls = Vec::new();
    calls.extend(client.log_in().map_err(&failed)?);
    let mut asking = Asking { client: &client, instance, calls: &mut calls, context };
    let wanted = promotion.name.clone().unwrap_or(app);
    let change = match (instance.platform, promotion.way) {
        (Platform::Appsmith, Way::Import { .. }) => {
            let workspace = asking.workspace(promotion.workspace.as_deref())?;
            let apps = asking.apps(&workspace)?;
            ensure_new(&apps, &wanted, instance, &workspace)?;
            Call::appsmith_import(&workspace.id, &git.url.to_string())
        }
        (Platform::Appsmith, Way::Pull) => {
            let apps = asking.all_apps(promotion.workspace.as_deref())?;
            let is_it = |listed: &&Listed| {
                listed.remote_url.as_ref().is_some_and(|url| git.url.is_same_place(url))
                    && listed.branch.as_ref().is_none_or(|its| *its == branch)
                    && promotion.name.as_ref().is_none_or(|name| *name == listed.name)
            };
            Call::appsmith_pull(&only(&apps, is_it, &wanted, instance)?.id)
        }
        (_, Way::Import { is_editable }) => {
            let workspace = asking.workspace(promotion.workspace.as_deref())?;
            let apps = asking.apps(&workspace)?;
            ensure_new(&apps, &wanted, instance, &workspace)?;
            let name = promotion.name.as_deref();
            Call::tooljet_import(&workspace.id, &git_app, &branch, name, is_editable)
        }
        (_, Way::Pull) => {
            let apps = asking.all_apps(promotion.workspace.as_deref())?;
            Call::tooljet_pull(&only(&apps, |it| it.name == wanted, &wanted, instance)?.id)
        }
    };
    calls.push(change);
    let planned = Promoted {
        git: git.name.clone(),
        instance: instance.name.clone(),
        app: wanted,
        branch,
        readable: verdict,
        calls,
        is_done: false,
        snapshot: None,
    };
    let (way, version) = (promotion.way, promotion.version.clone());
    Ok(Prepared { config, instance, way, version, inventory, client, planned })
}

impl Prepared<'_> {
    /// Do it: before a pull a snapshot is taken, and what it tells of the version counts.
    pub fn go(self, secrets: &SecretSources, context: &Context) -> Result<Promoted, OpsError> {
        let Self { config, instance, way, version, inventory, client, planned: mut done } = self;
        if way == Way::Pull {
            let session = Session::open(config, config.repository_of(instance)?, secrets)?;
            let outcome = backup(config, &session, instance, &BackupOptions::default(), context)?;
            if outcome.key_fit == KeyFit::Unfit {
                return Err(OpsError::Gate {
                    message: format!(
                        "the snapshot of {} is not good: its keys do not decrypt what is encrypted in it; nothing was pulled",
                        instance.name
                    ),
                    hint: Some("put the right key into the instance's environment".into()),
                });
            }
            done.snapshot = Some(outcome.id);
            done.readable = verdict(config, instance, version.as_ref(), &inventory)?;
            ensure_readable(&done.readable, instance)?;
        }
        context.cancel.check().map_err(crate::repository::RepositoryError::Cancelled)?;
        context.events.phase("changing", instance.name.to_string());
        if let Some(change) = done.calls.last() {
            client.ask(change).map_err(failed(instance))?;
        }
        done.is_done = true;
        Ok(done)
    }
}

fn failed(instance: &Instance) -> impl Fn(HttpError) -> OpsError + '_ {
    |source| OpsError::Http { instance: instance.name.to_string(), source }
}

/// What the platform has no way for is refused before anything is asked.
fn ensure_possible(promotion: &Promotion, instance: &Instance) -> Result<(), OpsError> {
    let Way::Import { is_editable } = promotion.way else { return Ok(()) };
    if instance.platform != Platform::Appsmith {
        return Ok(());
    }
    if promotion.name.is_some() {
        return Err(OpsError::usage(
            "Appsmith names an app that it imports after its git repository",
            "leave --name out, and rename the app there",
        ));
    }
    if is_editable {
        return Err(OpsError::usage(
            "Appsmith has no such setting for an import",
            "leave --editable out: a branch that is protected there cannot be edited",
        ));
    }
    Ok(())
}

/// The branch that the instance uses.
fn branch_of(
    config: &Config,
    chosen: &Chosen<'_>,
    instance: &Instance,
) -> Result<String, OpsError> {
    let git = chosen.git;
    let pair = git.pair.as_ref().and_then(|name| config.pairs.get(name));
    if pair.is_some_and(|pair| pair.staging.as_ref() == Some(&instance.name)) {
        return Ok(git.staging_branch.clone());
    }
    production_branch(git, &chosen.mirror).ok_or_else(|| {
        OpsError::usage(
            format!("which branch of {} is meant for {} is not known", git.name, instance.name),
            format!("[git.{}] branches = {{ production = \"…\" }}", git.name),
        )
    })
}

/// The app's name, and what it is known by in the git repository.
fn app_of(
    chosen: &Chosen<'_>,
    inventory: &Inventory,
    branch: &str,
) -> Result<(String, String), OpsError> {
    match inventory.apps.as_slice() {
        [app] if app.name.is_empty() => {
            // Appsmith calls it after the last part of the address.
            let url = chosen.git.url.to_string();
            let name = url.trim_end_matches('/').rsplit(['/', ':']).next().unwrap_or_default();
            let name = name.strip_suffix(".git").unwrap_or(name).to_owned();
            Ok((name.clone(), name))
        }
        [app] => Ok((app.name.clone(), app.id.clone().unwrap_or_else(|| app.name.clone()))),
        apps => {
            let names: Vec<String> =
                apps.iter().map(|app| format!("{}/{}", chosen.git.name, app.name)).collect();
            Err(OpsError::usage(
                format!("{} has {} apps on {branch}", chosen.git.name, apps.len()),
                format!("name one: {}", names.join(", ")),
            ))
        }
    }
}

/// Whether the instance can read the files, by what is known of its version.
fn verdict(
    config: &Config,
    instance: &Instance,
    version: Option<&Version>,
    inventory: &Inventory,
) -> Result<Readability, OpsError> {
    let catalog = Catalog::open(&config.state_dir)?;
    let known = version_of(config, &catalog, &instance.name)?.and_then(|text| text.parse().ok());
    // Each app says by itself what wrote it.
    let of_app = inventory.apps.first().and_then(|app| app.schema.as_ref());
    let schema = of_app.or(inventory.schema.as_ref());
    Ok(readable(schema, version.or(known.as_ref()), None))
}

fn ensure_readable(verdict: &Readability, instance: &Instance) -> Result<(), OpsError> {
    match verdict {
        Readability::NotReadable { reason } => Err(OpsError::Gate {
            message: format!("{} cannot read it: {reason}", instance.name),
            hint: Some("belay apps status tells which commit raised the version".into()),
        }),
        Readability::Readable | Readability::Unknown { .. } => Ok(()),
    }
}

/// A way to an instance's HTTP interface, for who is configured; nothing is asked yet.
pub(crate) fn client(
    secrets: &SecretSources,
    instance: &Instance,
    limits: Limits,
) -> Result<Client, OpsError> {
    let name = &instance.name;
    let missing = |what: &str, how: &str| {
        OpsError::usage(format!("nothing says {what} {name}"), format!("[instance.{name}] {how}"))
    };
    let example = match instance.platform {
        Platform::Appsmith => "login = { user = \"…\", password = \"credential:NAME\" }",
        _ => "token = \"credential:NAME\"",
    };
    let Some(Web { url, credentials, .. }) = &instance.web else {
        return Err(missing("where people open", "url = \"https://…\""));
    };
    let secret = |reference: &crate::config::SecretRef| -> Result<_, OpsError> {
        Ok(Zeroizing::new(reference.resolve(secrets)?.expose().trim_end().to_owned()))
    };
    let identity = match credentials {
        Some(Credentials::Login { user, password }) => {
            Identity::Login { user: user.clone(), password: secret(password)? }
        }
        Some(Credentials::Token(token)) => Identity::Token(secret(token)?),
        None => return Err(missing("who asks", example)),
    };
    install_crypto();
    Client::new(url.clone(), identity, limits).map_err(failed(instance))
}

/// A name that is there already would be overwritten, or become another.
fn ensure_new(
    apps: &[Listed],
    name: &str,
    instance: &Instance,
    workspace: &Listed,
) -> Result<(), OpsError> {
    if !apps.iter().any(|app| app.name == name) {
        return Ok(());
    }
    let hint = match instance.platform {
        Platform::Appsmith => {
            "rename the one that is there, or bring it up to date with belay apps pull"
        }
        _ => "give another name with --name, or bring it up to date with belay apps pull",
    };
    Err(OpsError::refused(
        format!(
            "the workspace {} of {} has an app '{name}' already",
            workspace.name, instance.name
        ),
        hint,
    ))
}

/// The only one that fits.
fn only<'a>(
    listed: &'a [Listed],
    fits: impl Fn(&&'a Listed) -> bool,
    wanted: &str,
    instance: &Instance,
) -> Result<&'a Listed, OpsError> {
    let mut found = listed.iter().filter(fits);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(OpsError::refused(
            format!("{} has no app '{wanted}' of this git repository and branch", instance.name),
            "import it first, belay apps import, or say its name there with --name",
        )),
        _ => Err(OpsError::usage(
            format!("{} has several apps '{wanted}'", instance.name),
            "say which with --name or --workspace",
        )),
    }
}

/// Asks, and notes what was asked.
struct Asking<'a> {
    client: &'a Client,
    instance: &'a Instance,
    calls: &'a mut Vec<Call>,
    context: &'a Context,
}

impl Asking<'_> {
    fn list(&mut self, call: Call) -> Result<Vec<Listed>, OpsError> {
        self.context.cancel.check().map_err(crate::repository::RepositoryError::Cancelled)?;
        let answer = self.client.ask(&call).map_err(failed(self.instance))?;
        self.calls.push(call);
        // ToolJet's lists of apps lie in an object since they come in pages.
        let list = answer.as_array().or_else(|| answer["apps"].as_array());
        Ok(list.into_iter().flatten().filter_map(listed).collect())
    }

    fn workspaces(&mut self, wanted: Option<&str>) -> Result<Vec<Listed>, OpsError> {
        let call = match self.instance.platform {
            Platform::Appsmith => Call::appsmith_workspaces(),
            _ => Call::tooljet_workspaces(),
        };
        let mut all = self.list(call)?;
        let names = all.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(", ");
        all.retain(|it| wanted.is_none_or(|wanted| it.name == wanted));
        if all.is_empty() {
            let wanted = wanted.map(|it| format!(" '{it}'")).unwrap_or_default();
            return Err(OpsError::usage(
                format!("{} shows no workspace{wanted}", self.instance.name),
                if names.is_empty() {
                    "may who asks see one there?".to_owned()
                } else {
                    format!("there is {names}")
                },
            ));
        }
        Ok(all)
    }

    fn workspace(&mut self, wanted: Option<&str>) -> Result<Listed, OpsError> {
        let mut all = self.workspaces(wanted)?;
        if all.len() > 1 {
            let names: Vec<String> = all.into_iter().map(|it| it.name).collect();
            return Err(OpsError::usage(
                format!("{} has several workspaces", self.instance.name),
                format!("say which with --workspace: {}", names.join(", ")),
            ));
        }
        Ok(all.remove(0))
    }

    fn apps(&mut self, workspace: &Listed) -> Result<Vec<Listed>, OpsError> {
        self.list(match self.instance.platform {
            Platform::Appsmith => Call::appsmith_applications(&workspace.id),
            _ => Call::tooljet_apps(&workspace.id),
        })
    }

    fn all_apps(&mut self, workspace: Option<&str>) -> Result<Vec<Listed>, OpsError> {
        let mut all = Vec::new();
        for workspace in self.workspaces(workspace)? {
            all.extend(self.apps(&workspace)?);
        }
        Ok(all)
    }
}

fn listed(value: &Value) -> Option<Listed> {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let git = &value["gitApplicationMetadata"];
    Some(Listed {
        id: text(&value["id"]).filter(|id| is_id(id))?,
        name: text(&value["name"])?,
        remote_url: text(&git["remoteUrl"]),
        branch: text(&git["refName"]).or_else(|| text(&git["branchName"])),
    })
}
