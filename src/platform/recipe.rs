//! Recipes: of what an instance of a platform is made, as data (`config/platforms/*.toml`).

use crate::config::Platform;
use crate::model::version::{Edition, Version};
use serde::Deserialize;

/// What is known of a platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The databases that it is made of.
    #[serde(default)]
    pub components: Vec<ComponentKind>,
    /// Its variables.
    #[serde(default)]
    pub environment: EnvironmentRecipe,
    /// Its databases on a `PostgreSQL` server, by the variables that tell of them; none where all are meant.
    #[serde(default, rename = "database")]
    pub databases: Vec<DatabaseRecipe>,
    /// Which variables tell of its `MongoDB` database.
    pub mongodb: Option<MongodbRecipe>,
    /// Which variables tell of its Redis server.
    pub redis: Option<RedisRecipe>,
    /// Directories of its, where it lives.
    #[serde(default)]
    pub files: Vec<FilesRecipe>,
    /// What tells its version.
    pub version: Option<VersionRecipe>,
    /// A directory that is there where it has a `PostgreSQL` server of its own, which only the configuration can say how to reach.
    pub own_postgres: Option<String>,
    /// A directory of its container that holds all that it keeps, its own databases among it.
    pub state: Option<String>,
    /// The directory of its container where its own `MongoDB` server has its files, and begins anew where there are none.
    pub own_mongodb: Option<String>,
    /// How its writers are stopped.
    pub quiesce: Option<QuiesceRecipe>,
    /// What is encrypted with its keys.
    pub key_fit: Option<KeyFitRecipe>,
    /// Versions that an upgrade may not skip, oldest first.
    #[serde(default, rename = "checkpoint")]
    pub checkpoints: Vec<Checkpoint>,
}

/// Versions that an upgrade may not skip: who is older than `from` stops at one of them before going to `before` or newer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// The oldest version that will do.
    pub from: Version,
    /// The first after it that will not.
    pub below: Version,
    /// The first version that asks for it.
    pub before: Version,
    /// Where to stop, where nobody says.
    pub stop: Version,
    /// The edition that it is of; none is each.
    pub edition: Option<Edition>,
    /// Why, as a clause that follows "because".
    pub why: String,
}

/// A kind of component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    /// Directories where it lives.
    Files,
    /// `MongoDB`.
    Mongodb,
    /// `PostgreSQL`.
    Postgres,
    /// Redis.
    Redis,
}

/// A `MongoDB` database, by the variables that tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MongodbRecipe {
    /// The connection string: the first of these that is set.
    pub url: Vec<String>,
}

/// A Redis server, by the variables that tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisRecipe {
    /// `redis://…` or `rediss://…`.
    pub url: String,
    /// The password, where the URL has none.
    pub password: String,
    /// How the names of keys begin that are but caches.
    pub disposable: Vec<String>,
}

/// A directory where an instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesRecipe {
    /// The component's name.
    pub name: String,
    /// Where it is as a rule.
    pub path: String,
    /// The variable that says so otherwise.
    pub variable: Option<String>,
}

/// What stops those who write, and starts them again: commands, where the instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuiesceRecipe {
    /// Stops them, and ends when they have stopped.
    pub stop: Vec<String>,
    /// Starts them.
    pub start: Vec<String>,
    /// Variables of the instance's environment that both need.
    #[serde(default)]
    pub variables: Vec<String>,
}

/// A file that tells the version, where the instance lives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionRecipe {
    /// A JSON document.
    pub file: String,
    /// The member of it that is the version.
    pub member: String,
}

/// Which variables mean what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentRecipe {
    /// Where its file is in a container of the platform's own image.
    pub file: Option<String>,
    /// Without these the instance does not work.
    pub required: Vec<String>,
    /// They belong to the data, and come back with it.
    pub keys: Vec<String>,
    /// They belong to the place, and stay the target's.
    pub connection: Vec<String>,
}

/// A database, by the variables that tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseRecipe {
    /// All of it as a connection URL, which comes before the parts.
    pub url: String,
    /// Its name.
    pub name: String,
    /// The server.
    pub host: String,
    /// Its port.
    pub port: String,
    /// Who connects.
    pub user: String,
    /// That user's password.
    pub password: String,
}

/// What is encrypted, and with which key: by the family of its cipher.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, tag = "family", rename_all = "snake_case")]
pub enum KeyFitRecipe {
    /// AES-256 in two modes, with a key derived from a password and a salt.
    Appsmith {
        /// The variable with the password.
        password: String,
        /// The variable with the salt.
        salt: String,
    },
    /// AES-256-GCM, with keys derived by HKDF from a master key.
    Tooljet {
        /// The variable with the key.
        key: String,
        /// The variable with the name of the database that holds the ciphertext.
        database: String,
    },
}

impl KeyFitRecipe {
    /// The variables that the key is made from.
    pub fn variables(&self) -> Vec<&String> {
        match self {
            Self::Appsmith { password, salt } => vec![password, salt],
            Self::Tooljet { key, .. } => vec![key],
        }
    }
}

impl Recipe {
    /// Whether it is made of this, too.
    pub fn has(&self, kind: ComponentKind) -> bool {
        self.components.contains(&kind)
    }

    /// The built-in recipe of a platform.
    pub fn of(platform: Platform) -> Self {
        let text = match platform {
            Platform::Appsmith => include_str!("../../config/platforms/appsmith.toml"),
            // These say themselves what they are.
            Platform::Files | Platform::Git => "",
            Platform::Mongodb => include_str!("../../config/platforms/mongodb.toml"),
            Platform::Postgres => include_str!("../../config/platforms/postgres.toml"),
            Platform::Tooljet => include_str!("../../config/platforms/tooljet.toml"),
        };
        toml::from_str(text).expect("the built-in recipes are tested")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_recipes_can_be_read_and_agree_with_themselves() {
        for platform in Platform::ALL {
            let recipe = Recipe::of(platform);
            let environment = &recipe.environment;
            let both = environment.keys.iter().find(|name| environment.connection.contains(name));
            assert_eq!(both, None, "{platform}: it comes back, and stays");
            for database in &recipe.databases {
                let DatabaseRecipe { url, name, host, user, password, .. } = database;
                for variable in [url, name, host, user, password] {
                    assert!(environment.connection.contains(variable), "{platform}: {variable}");
                }
            }
            for key in recipe.key_fit.iter().flat_map(KeyFitRecipe::variables) {
                assert!(environment.keys.contains(key), "{platform}");
            }
            if let Some(KeyFitRecipe::Tooljet { database, .. }) = &recipe.key_fit {
                assert!(recipe.databases.iter().any(|it| it.name == *database), "{platform}");
            }
            for Checkpoint { from, below, before, stop, .. } in &recipe.checkpoints {
                assert!(from <= stop && stop < below && stop < before, "{platform}: {stop}");
            }
            assert!(recipe.checkpoints.is_sorted_by_key(|it| it.from.clone()), "{platform}");
            let urls = recipe.mongodb.iter().flat_map(|mongodb| &mongodb.url);
            let redis = recipe.redis.iter().flat_map(|redis| [&redis.url, &redis.password]);
            let places = recipe.files.iter().filter_map(|files| files.variable.as_ref());
            for variable in urls.chain(redis).chain(places) {
                assert!(environment.connection.contains(variable), "{platform}: {variable}");
            }
        }
    }
}
