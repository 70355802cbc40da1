//! Recipes: of what an instance of a platform is made, as data (`config/platforms/*.toml`).

use crate::config::Platform;
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
    /// What is encrypted with its keys.
    pub key_fit: Option<KeyFitRecipe>,
}

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ComponentKind {
    /// `MongoDB`.
    Mongodb,
    /// `PostgreSQL`.
    Postgres,
}

/// Which variables mean what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentRecipe {
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

/// What is encrypted, and with which key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFitRecipe {
    /// The cipher and where its ciphertext is.
    pub family: CipherFamily,
    /// The variable with the key.
    pub key: String,
    /// The variable with the name of the database that holds the ciphertext.
    pub database: String,
}

/// The ciphers that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CipherFamily {
    /// AES-256-GCM, with keys derived by HKDF from a master key.
    Tooljet,
}

impl Recipe {
    /// Whether it is made of this, too.
    pub fn has(&self, kind: ComponentKind) -> bool {
        self.components.contains(&kind)
    }

    /// The built-in recipe of a platform.
    pub fn of(platform: Platform) -> Self {
        let text = match platform {
            // Directories say themselves what they are.
            Platform::Files => "",
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
            if let Some(key_fit) = &recipe.key_fit {
                assert!(environment.keys.contains(&key_fit.key), "{platform}");
                let has = |database: &DatabaseRecipe| database.name == key_fit.database;
                assert!(recipe.databases.iter().any(has), "{platform}");
            }
        }
    }
}
