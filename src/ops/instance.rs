//! An instance of a platform as it is now: its environment in effect, and the ways to its parts.

mod deployment;

use super::{Context, OpsError};
use crate::access::{Access, AccessError, ContainerFacts};
use crate::component::environment::EnvironmentFile;
use crate::component::mongodb::tools::{Filler, Tools, database_in};
use crate::component::mongodb::wire::Server;
use crate::component::postgres::restore::is_of_restore;
use crate::component::postgres::{ServerFacts, ServerUrl, Target};
use crate::component::redis;
use crate::config::{Config, Instance, MongodbSettings, MongodbWay, SecretSources};
use crate::model::via::Via;
use crate::platform::recipe::{DatabaseRecipe, FilesRecipe, Recipe, RedisRecipe};
use std::collections::BTreeMap;
use std::path::Path;
use zeroize::Zeroizing;

/// An environment file of more bytes is none.
const MOST_ENVIRONMENT_BYTES: u64 = 1024 * 1024;

/// Where a server listens of which nobody says otherwise.
const POSTGRES_PORT: u16 = 5432;

/// An instance that was looked at.
pub(super) struct Living<'a> {
    pub(super) instance: &'a Instance,
    pub(super) recipe: Recipe,
    /// Where the instance lives.
    pub(super) access: Access,
    /// Where its environment file is.
    pub(super) file_path: Option<String>,
    /// That file, as it is.
    pub(super) file: Option<Zeroizing<Vec<u8>>>,
    /// What Docker knows of its container.
    pub(super) container: Option<ContainerFacts>,
    /// Its variables in effect: a container's own override those of the file.
    variables: BTreeMap<String, Zeroizing<String>>,
    /// The connection URLs among them.
    urls: BTreeMap<String, ServerUrl>,
}

/// Where the databases of an instance are.
pub(super) struct Databases {
    pub(super) access: Access,
    pub(super) target: Target,
    /// Their names; none where all that the server has are meant.
    pub(super) names: Vec<String>,
    /// The variables of the recipe that tell the names, by name.
    variables: BTreeMap<String, String>,
}

/// All databases of a server that are read.
pub(super) struct AllDatabases {
    pub(super) names: Vec<String>,
    /// Which are left out that somebody may miss.
    pub(super) warning: Option<String>,
    /// Which are left out that a restore has left.
    pub(super) note: Option<String>,
}

impl AllDatabases {
    pub(super) fn of(server: &ServerFacts) -> Self {
        let split = |names: &[String]| -> (Vec<String>, Vec<String>) {
            names.iter().cloned().partition(|name| is_of_restore(name))
        };
        let (mut left, names) = split(&server.databases);
        let (others, closed) = split(&server.closed);
        left.extend(others);
        let warning = (!closed.is_empty()).then(|| {
            format!("databases that cannot be connected to are left out: {}", closed.join(", "))
        });
        let note = (!left.is_empty()).then(|| {
            format!(
                "databases that a restore made or put aside are left out: {}. Drop them when they are not needed.",
                left.join(", ")
            )
        });
        Self { names, warning, note }
    }
}

impl Databases {
    /// The variable of the recipe that tells a database's name.
    pub(super) fn variable(&self, name: &str) -> Option<&String> {
        self.variables.get(name)
    }
}

/// Where the MongoDB database of an instance is.
pub(super) struct MongoDatabase {
    /// From where it is reached.
    access: Access,
    /// The connection string, with its password.
    url: Zeroizing<String>,
    instance: String,
    name: Option<String>,
    /// What reads and fills it; none where that is done over the wire.
    tools: Option<Tools>,
}

impl MongoDatabase {
    /// Reach its server.
    pub(super) fn open(&self, context: &Context) -> Result<Server, OpsError> {
        let opened = Server::open(&self.url, &self.access, &context.cancel);
        opened.map_err(|source| OpsError::Mongodb { instance: self.instance.clone(), source })
    }

    /// What dumps it, with the connection string and the database's name; none where it is read over the wire.
    pub(super) fn dumped_by(&self) -> Result<Option<(&Tools, &str, String)>, OpsError> {
        let Some(tools) = &self.tools else { return Ok(None) };
        let database = self.named(database_in(&self.url))?;
        Ok(Some((tools, &self.url, database)))
    }

    /// What fills new collections of it with what comes from a server of that version; none where that is done over the wire.
    pub(super) fn filled_by(&self, server_version: &str) -> Option<Filler> {
        let (tools, url) = (self.tools.clone()?, self.url.clone());
        Some(Filler { tools, url, server_version: server_version.to_owned() })
    }

    /// The database's name: what the configuration says, or the connection string.
    pub(super) fn name(&self, server: &Server) -> Result<String, OpsError> {
        self.named(server.database.clone())
    }

    fn named(&self, in_url: Option<String>) -> Result<String, OpsError> {
        self.name.clone().or(in_url).ok_or_else(|| {
            OpsError::usage(
                format!("the connection string of {} names no database", self.instance),
                "write it behind the host, mongodb://HOST/DATABASE, or: component.mongodb = { database = \"…\" }",
            )
        })
    }
}

impl<'a> Living<'a> {
    /// Look at an instance.
    pub(super) fn look(
        config: &Config,
        instance: &'a Instance,
        context: &Context,
    ) -> Result<Self, OpsError> {
        let access = Access::new(instance.via.clone(), config.ssh_config.clone(), &context.cancel);
        let recipe = Recipe::of(instance.platform);
        let file_path = match &instance.environment {
            Some(path) => Some(text_of(path)?.to_owned()),
            None => recipe.environment.file.clone().filter(|_| instance.via.container().is_some()),
        };
        let file = match &file_path {
            Some(path) => {
                let file = access.read_file(path, MOST_ENVIRONMENT_BYTES);
                Some(file.map_err(|error| unread(error, instance, path))?)
            }
            None => None,
        };
        let container = access.container_facts()?;
        let mut variables = BTreeMap::new();
        if let Some(file) = &file {
            let file = EnvironmentFile::parse(file).map_err(|error| {
                OpsError::refused(
                    format!("the environment file of {} cannot be read: {error}", instance.name),
                    "is the path of `environment` right?",
                )
            })?;
            for name in file.keys() {
                let value = file.get(name).unwrap_or_default();
                variables.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
            }
        }
        for variable in container.iter().flat_map(|facts| &facts.environment) {
            if let Some((name, value)) = variable.split_once('=') {
                variables.insert(name.to_owned(), Zeroizing::new(value.to_owned()));
            }
        }
        let urls = BTreeMap::new();
        let mut living =
            Self { instance, recipe, access, file_path, file, container, variables, urls };
        living.urls = living.read_urls()?;
        Ok(living)
    }

    fn read_urls(&self) -> Result<BTreeMap<String, ServerUrl>, OpsError> {
        let variables = self.recipe.databases.iter().map(|database| &database.url);
        let given = variables.filter_map(|name| Some((name, self.variable(name)?)));
        given
            .map(|(name, text)| match ServerUrl::parse(text) {
                Ok(url) => Ok((name.clone(), url)),
                Err(problem) => Err(OpsError::refused(
                    format!(
                        "{}: the {name} of its environment cannot be read: {problem}",
                        self.instance.name
                    ),
                    "write it as postgres://USER:PASSWORD@HOST:PORT/DATABASE",
                )),
            })
            .collect()
    }

    /// The value of a variable in effect; one that is empty is not set.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(|value| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The value of a variable that its container itself has.
    pub(super) fn own(&self, name: &str) -> Option<&str> {
        let own = self.container.iter().flat_map(|facts| &facts.environment);
        let mut own = own.filter_map(|variable| variable.split_once('='));
        own.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// Where a directory of the recipe is, an absolute path: as its variable says, or else the usual one.
    pub(super) fn directory<'b>(&'b self, recipe: &'b FilesRecipe) -> Result<&'b str, OpsError> {
        let said = recipe.variable.as_deref().and_then(|name| Some((name, self.variable(name)?)));
        match said {
            Some((_, path)) if path.starts_with('/') => Ok(path),
            Some((name, path)) => Err(OpsError::refused(
                format!(
                    "{}: the {name} of its environment is no absolute path: {path}",
                    self.instance.name
                ),
                "write the whole path, from / on",
            )),
            None => Ok(&recipe.path),
        }
    }

    /// Its Redis server, by what its environment says; none where that says nothing.
    pub(super) fn redis(&self, recipe: &RedisRecipe) -> Result<Option<redis::Server>, OpsError> {
        let Some(url) = self.variable(&recipe.url) else { return Ok(None) };
        let server = redis::Server::open(&self.access, url, self.variable(&recipe.password));
        let instance = self.instance.name.to_string();
        server.map(Some).map_err(|source| OpsError::Redis { instance, source })
    }

    /// The connection string of its MongoDB database that its environment says.
    pub(super) fn mongodb_url(&self) -> Option<&str> {
        let mut variables = self.recipe.mongodb.iter().flat_map(|recipe| &recipe.url);
        variables.find_map(|name| self.variable(name))
    }

    /// Whether what writes to it, in its container, can be told to stop: in one that does not run nothing writes.
    pub(super) fn has_writers_that_run(&self) -> bool {
        self.recipe.quiesce.is_some() && self.container.as_ref().is_some_and(|it| it.is_running)
    }

    /// Where its MongoDB database is; an error where nothing says so.
    pub(super) fn mongodb(&self, secrets: &SecretSources) -> Result<MongoDatabase, OpsError> {
        let MongodbSettings { via, url, database, way, tools } = &self.instance.mongodb;
        let instance = self.instance.name.to_string();
        let (url, nearest) = if let Some(url) = url {
            (url.resolve(secrets)?.expose().trim().to_owned(), Via::local())
        } else if let Some(url) = self.mongodb_url() {
            (url.to_owned(), self.instance.via.clone())
        } else {
            let variables = self.recipe.mongodb.iter().flat_map(|recipe| &recipe.url);
            let names: Vec<&str> = variables.map(String::as_str).collect();
            let unset = if names.is_empty() {
                String::new()
            } else {
                format!(": its environment does not say {}", names.join(" or "))
            };
            return Err(OpsError::usage(
                format!("nothing says how the MongoDB database of {instance} is reached{unset}"),
                "add component.mongodb = { url = \"file:/PATH\" } with a connection string in that file",
            ));
        };
        let access = self.access.to(via.clone().unwrap_or(nearest));
        let name = database.clone();
        let directory = tools.as_deref().map(text_of).transpose()?.map(ToOwned::to_owned);
        let tools = match way {
            MongodbWay::Wire => None,
            MongodbWay::Mongodump => Some(Tools { access: access.clone(), directory }),
        };
        Ok(MongoDatabase { access, url: Zeroizing::new(url), instance, name, tools })
    }

    /// Where its databases are: as the configuration says, and otherwise as its environment says.
    pub(super) fn databases(&self, secrets: &SecretSources) -> Result<Databases, OpsError> {
        let settings = &self.instance.postgres;
        let via = settings.via.as_ref().unwrap_or(&self.instance.via);
        let password = match &settings.password {
            Some(reference) => {
                Some(Zeroizing::new(reference.resolve(secrets)?.expose().to_owned()))
            }
            None => None,
        };
        let tools = settings.tools.as_deref().map(text_of).transpose()?.map(ToOwned::to_owned);
        let target = Target {
            host: settings.host.clone(),
            port: settings.port,
            user: settings.user.clone(),
            password,
            ssl_mode: None,
            tools,
        };
        let access = self.access.to(via.clone());
        let mut variables = BTreeMap::new();
        for DatabaseRecipe { name: variable, .. } in &self.recipe.databases {
            if let Some(name) = self.variable(variable) {
                variables.entry(name.to_owned()).or_insert_with(|| variable.clone());
            }
        }
        let databases = Databases { access, target, names: settings.databases.clone(), variables };
        if self.recipe.databases.is_empty() { Ok(databases) } else { self.completed(databases) }
    }

    /// What the environment says of a database: its URL, and what that leaves out from the variables of its parts.
    pub(super) fn database(&self, recipe: &DatabaseRecipe) -> ServerUrl {
        let url = self.urls.get(&recipe.url).cloned().unwrap_or_default();
        let of = |variable: &String| self.variable(variable).map(ToOwned::to_owned);
        ServerUrl {
            host: url.host.or_else(|| of(&recipe.host)),
            port: url.port.or_else(|| of(&recipe.port)?.parse().ok()),
            user: url.user.or_else(|| of(&recipe.user)),
            password: url.password.or_else(|| of(&recipe.password).map(Zeroizing::new)),
            database: url.database.or_else(|| of(&recipe.name)),
            ssl_mode: url.ssl_mode,
        }
    }

    /// The name of the database that a variable of the recipe names.
    pub(super) fn database_name(&self, variable: &str) -> Option<String> {
        let recipe = self.recipe.databases.iter().find(|recipe| recipe.name == variable)?;
        self.database(recipe).database
    }

    /// What the configuration leaves open, from the environment.
    fn completed(&self, mut databases: Databases) -> Result<Databases, OpsError> {
        let all = self.recipe.databases.iter().map(|recipe| (recipe, self.database(recipe)));
        if databases.names.is_empty() {
            for (recipe, said) in all.clone() {
                let DatabaseRecipe { name: variable, url, .. } = recipe;
                let name = said.database.ok_or_else(|| {
                    OpsError::refused(
                        format!("{}: the environment says neither {variable} nor {url}", self.instance.name),
                        format!("set {variable} there, or name the databases: component.postgres = {{ databases = [\"…\"] }}"),
                    )
                })?;
                databases.names.push(name);
            }
            databases.names.dedup();
        }
        let is_meant = |said: &ServerUrl| {
            said.database.as_ref().is_some_and(|name| databases.names.contains(name))
        };
        let meant: Vec<_> = all.clone().filter(|(_, said)| is_meant(said)).collect();
        let meant = if meant.is_empty() { all.take(1).collect() } else { meant };
        let [(first, said), others @ ..] = meant.as_slice() else { return Ok(databases) };
        let target = &mut databases.target;
        // In the server's own container its socket is surer than the name that others know it by.
        let is_inside =
            self.instance.postgres.via.as_ref().is_some_and(|via| via.container().is_some());
        if target.host.is_none() && !is_inside {
            for (other, other_said) in others {
                let another = other_said.host.is_some() && other_said.host != said.host;
                let another_port =
                    other_said.port.is_some_and(|port| port != said.port.unwrap_or(POSTGRES_PORT));
                if another || another_port {
                    return Err(self.on_several_servers((first, said), (other, other_said)));
                }
            }
            target.host.clone_from(&said.host);
            target.port = target.port.or(said.port);
            target.ssl_mode.clone_from(&said.ssl_mode);
        }
        if target.user.is_none() {
            target.user.clone_from(&said.user);
            if target.password.is_none() {
                target.password.clone_from(&said.password);
            }
        }
        Ok(databases)
    }

    fn on_several_servers(
        &self,
        (first, first_said): (&DatabaseRecipe, &ServerUrl),
        (other, other_said): (&DatabaseRecipe, &ServerUrl),
    ) -> OpsError {
        let name = |said: &ServerUrl| said.database.clone().unwrap_or_default();
        OpsError::usage(
            format!(
                "the databases of {} are on different servers: {} ({}) and {} ({}) differ, or their ports do",
                self.instance.name, first.host, first.url, other.host, other.url
            ),
            format!(
                "if they are one server, say how it is reached: component.postgres = {{ host = \"…\" }}; if they are two, name the databases of one here, \
                 component.postgres = {{ databases = [\"{}\"] }}, and add an instance of platform = \"postgres\" for {} on the other",
                name(first_said),
                name(other_said)
            ),
        )
    }
}

/// Where nothing else is known to be wrong, the file may be what was lost.
fn unread(error: AccessError, instance: &Instance, path: &str) -> OpsError {
    if !matches!(error, AccessError::Failed { .. }) || error.hint().is_some() {
        return error.into();
    }
    let Instance { name, .. } = instance;
    OpsError::refused(
        format!("the environment file of {name} could not be read: {error}"),
        format!(
            "is {path} right, and may it be read? A file that is lost comes back with `belay restore latest:{name} --to-dir DIRECTORY --path /environment`"
        ),
    )
}

/// Paths of the configuration are UTF-8, as the file is.
fn text_of(path: &Path) -> Result<&str, OpsError> {
    path.to_str().ok_or_else(|| {
        OpsError::usage(format!("{} is not UTF-8 text", path.display()), "name another path")
    })
}
