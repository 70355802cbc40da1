//! `[pair.NAME]` and `compose` of instances as they are written.

use crate::model::name::Name;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use toml::Spanned;

/// A staging and a production instance that belong together, or one instance that is both.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPair {
    /// The name of the staging instance. Without it there are no upgrades.
    #[schemars(with = "Option<Name>")]
    pub staging: Option<Spanned<String>>,
    /// The name of the production instance.
    #[schemars(with = "Name")]
    pub production: Spanned<String>,
    /// What puts another version in place: "compose", or a table with the command that does. Without it there are no upgrades.
    #[schemars(with = "Option<RawDriver>")]
    pub driver: Option<Spanned<RawDriver>>,
    /// What an instance has to pass after an upgrade: names, or tables. The default is all that have a name.
    #[schemars(with = "Option<Vec<RawTrial>>")]
    pub tests: Option<Spanned<Vec<Spanned<RawTrial>>>>,
    /// How old the snapshots of both may be when a step depends on them, such as "2h", which is the default.
    #[schemars(with = "Option<String>")]
    pub fresh: Option<Spanned<String>>,
    /// How long staging has to run the new version before production gets it, such as "30m", which is the default.
    #[schemars(with = "Option<String>")]
    pub soak: Option<Spanned<String>>,
    /// When production may be touched, on the clock of its own time zone: "Sat 01:00-05:00", or a list of such. The default is always.
    #[schemars(with = "Option<RawTexts>")]
    pub window: Option<Spanned<RawTexts>>,
    /// The users of this host who may approve. The default is that no approval is needed.
    #[schemars(with = "Option<Vec<String>>")]
    pub approvers: Option<Spanned<Vec<Spanned<String>>>>,
    /// What becomes of an upgrade that fails: "rollback" (the default), or "hold", which leaves it as it is.
    #[schemars(with = "Option<String>")]
    pub on_failure: Option<Spanned<String>>,
    /// What keeps users out while production is upgraded.
    #[schemars(with = "Option<RawMaintenance>")]
    pub maintenance: Option<Spanned<RawMaintenance>>,
    /// How old the last drill of production may be, such as "30d". The default is that no drill is asked for.
    #[schemars(with = "Option<String>")]
    pub drilled: Option<Spanned<String>>,
    /// How long after an upgrade one command takes it back, such as "7d", which is the default.
    #[schemars(with = "Option<String>")]
    pub commit_after: Option<Spanned<String>>,
}

/// Where Docker Compose has an instance.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCompose {
    /// The directory of the compose file, by absolute path, on the instance's host.
    #[schemars(with = "String")]
    pub dir: Spanned<String>,
    /// The service that is the platform.
    #[schemars(with = "String")]
    pub service: Spanned<String>,
    /// Services that write to its databases, too: they are stopped and started with it, and get the new version where they are
    /// of its image.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub workers: Vec<Spanned<String>>,
}

/// What keeps users out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawMaintenance {
    /// The command that keeps them out, on production's host.
    #[schemars(with = "RawTexts")]
    pub on: Spanned<RawTexts>,
    /// The command that lets them in again.
    #[schemars(with = "RawTexts")]
    pub off: Spanned<RawTexts>,
    /// How long each may take. The default is "5m".
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Spanned<String>>,
}

/// A script that puts another version in place.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCommandDriver {
    /// The program by absolute path, or a list of it and its arguments, on the instance's host.
    #[schemars(with = "RawTexts")]
    pub command: Spanned<RawTexts>,
    /// The same for stopping the instance.
    #[schemars(with = "Option<RawTexts>")]
    pub stop: Option<Spanned<RawTexts>>,
    /// The same for starting it again.
    #[schemars(with = "Option<RawTexts>")]
    pub start: Option<Spanned<RawTexts>>,
    /// How long each may take. The default is "30m".
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Spanned<String>>,
}

/// A test with settings: exactly one test, and how long it may take.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTrialTable {
    /// As the word alone; written as a table where it may take longer or less long.
    pub health: Option<RawPlainTrial>,
    /// The same.
    pub version: Option<RawPlainTrial>,
    /// The same.
    #[serde(rename = "apps-open")]
    pub apps_open: Option<RawPlainTrial>,
    /// The same.
    pub keys: Option<RawPlainTrial>,
    /// How much may be missing.
    #[schemars(with = "Option<RawCounts>")]
    pub counts: Option<Spanned<RawCounts>>,
    /// A program of this host by absolute path, or a list of it and its arguments.
    #[schemars(with = "Option<RawTexts>")]
    pub command: Option<Spanned<RawTexts>>,
    /// A web address.
    #[schemars(with = "Option<RawHttp>")]
    pub http: Option<Spanned<RawHttp>>,
    /// How long it may take.
    #[schemars(with = "Option<String>")]
    pub timeout: Option<Spanned<String>>,
}

/// A test that has no settings of its own: `{}`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPlainTrial {}

/// How much may be missing.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawCounts {
    /// Of each table or collection: a number of rows, such as "100", or a part, such as "1%". The default is "0".
    #[schemars(with = "Option<String>")]
    pub tolerance: Option<Spanned<String>>,
    /// Patterns of tables and collections that may lose whatever they like, such as "sessions" or "`tooljet_db`/*".
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub except: Vec<Spanned<String>>,
}

/// What a web address has to answer.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHttp {
    /// The address, or a path at each instance's own `url`.
    #[schemars(with = "String")]
    pub url: Spanned<String>,
    /// The status. The default is 200.
    #[schemars(with = "Option<u16>", range(min = 100, max = 599))]
    pub status: Option<Spanned<u16>>,
    /// What has to be in the body.
    pub body: Option<String>,
}

/// A text, or a list of texts.
pub(in crate::config) struct RawTexts(pub Vec<Spanned<String>>);

/// What puts another version in place.
pub(in crate::config) enum RawDriver {
    /// A word.
    Named(String),
    /// A table.
    Command(RawCommandDriver),
}

/// A test.
#[expect(clippy::large_enum_variant, reason = "a configuration has few")]
pub(in crate::config) enum RawTrial {
    /// A word.
    Named(String),
    /// A table.
    Table(RawTrialTable),
}

impl<'de> Deserialize<'de> for RawTexts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextsVisitor;

        impl<'de> Visitor<'de> for TextsVisitor {
            type Value = RawTexts;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a text, or a list of texts")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<RawTexts, E> {
                // Whoever has the whole knows its place.
                Ok(RawTexts(vec![Spanned::new(0..0, text.to_owned())]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<RawTexts, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(RawTexts(texts))
            }
        }

        deserializer.deserialize_any(TextsVisitor)
    }
}

impl JsonSchema for RawTexts {
    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [generator.subschema_for::<String>(), generator.subschema_for::<Vec<String>>()]
        })
    }
}

/// A word or a table, neither of which loses its place.
macro_rules! word_or_table {
    ($name:ident, $table:ident($raw:ty), $schema:literal, $expected:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct WordOrTable;

                impl<'de> Visitor<'de> for WordOrTable {
                    type Value = $name;

                    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                        formatter.write_str($expected)
                    }

                    fn visit_str<E: Error>(self, word: &str) -> Result<$name, E> {
                        Ok($name::Named(word.to_owned()))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<$name, A::Error> {
                        <$raw>::deserialize(MapAccessDeserializer::new(table)).map($name::$table)
                    }
                }

                deserializer.deserialize_any(WordOrTable)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                $schema.into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "anyOf": [generator.subschema_for::<String>(), generator.subschema_for::<$raw>()]
                })
            }
        }
    };
}

word_or_table!(
    RawDriver,
    Command(RawCommandDriver),
    "Driver",
    "\"compose\", or a table with a command"
);
word_or_table!(RawTrial, Table(RawTrialTable), "Test", "the name of a test, or a table");
