//! What is taken from the platforms' JSON documents.
//!
//! What always holds: a document takes not much more memory than its bytes, however many members it has; members that are not
//! known are skipped, and a member that is known but of another type makes the document one that cannot be read.

use crate::model::apps::Schema;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::marker::PhantomData;

/// A name that is longer, in characters, is cut off.
const MOST_NAME: usize = 255;
/// Elements of a list that are kept.
const MOST_LISTED: usize = 10_000;
/// Members that an index may have.
const MOST_MEMBERS: usize = 100_000;

/// Appsmith's `metadata.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    #[serde(rename = "fileFormatVersion")]
    pub(super) file_format: Option<u32>,
    #[serde(rename = "clientSchemaVersion")]
    client: Option<u32>,
    #[serde(rename = "serverSchemaVersion")]
    server: Option<u32>,
}

impl Metadata {
    /// Whether it is Appsmith's: others have files of this name, too.
    pub(super) fn is_appsmith(&self) -> bool {
        self.file_format.is_some() || self.server.is_some()
    }

    pub(super) fn schema(&self) -> Schema {
        Schema::Appsmith { file_format: self.file_format, client: self.client, server: self.server }
    }
}

/// Appsmith's `application.json`.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Application {
    pub(super) name: Option<Text>,
    pub(super) pages: Listed<Identified>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Identified {
    pub(super) id: Option<Text>,
}

/// A document of one thing: a data source, an app, a module, a page, a query, whichever the platform.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Thing {
    pub(super) name: Option<Text>,
    /// `ToolJet`'s, of a data source.
    pub(super) kind: Option<Text>,
    /// Appsmith's, of a data source.
    #[serde(rename = "pluginId")]
    pub(super) plugin: Option<Text>,
    /// `ToolJet`'s.
    pub(super) co_relation_id: Option<Text>,
    /// Appsmith's.
    #[serde(rename = "gitSyncId")]
    pub(super) git_sync_id: Option<Text>,
}

impl Thing {
    /// What it is known by across instances.
    pub(super) fn id(&self) -> Option<String> {
        self.co_relation_id.as_ref().or(self.git_sync_id.as_ref()).map(|id| id.0.clone())
    }
}

/// Where `ToolJet` says its version: `schema/schema.json` and the documents of the legacy layout.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Written {
    tooljet_version: Option<Text>,
}

impl Written {
    pub(super) fn schema(self) -> Option<Schema> {
        self.tooljet_version.map(|version| Schema::Tooljet { version: version.0 })
    }
}

/// An app in `.meta/appMeta.json`, by its id.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct AppMeta {
    #[serde(rename = "appPath")]
    pub(super) path: Option<String>,
}

/// A module in `.meta/moduleMeta.json`, by its id.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ModuleMeta {
    #[serde(rename = "modulePath")]
    pub(super) path: Option<String>,
}

/// A data source in `.meta/dataSourceMeta.json`, by its id.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct DataSourceMeta {
    #[serde(rename = "dataSourcePath")]
    pub(super) path: Option<String>,
}

/// `.meta/meta.json` of the legacy layout: which version of which app is the current one.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LegacyMeta {
    pub(super) version: Option<Text>,
    pub(super) apps: Members<Text>,
}

/// `<App>/<version>.json` of the legacy layout.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LegacyVersion {
    pub(super) tooljet_version: Option<Text>,
    app: Listed<LegacyApp, 1>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LegacyApp {
    definition: LegacyDefinition,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LegacyDefinition {
    #[serde(rename = "appV2")]
    app: LegacyContent,
}

/// What an app is made of.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct LegacyContent {
    pub(super) name: Option<Text>,
    pub(super) co_relation_id: Option<Text>,
    pub(super) pages: Listed<Thing>,
    #[serde(rename = "dataQueries")]
    pub(super) queries: Listed<Thing>,
    #[serde(rename = "dataSources")]
    pub(super) data_sources: Listed<Thing>,
    pub(super) components: Listed<IgnoredAny, 0>,
    pub(super) events: Listed<IgnoredAny, 0>,
}

impl LegacyVersion {
    pub(super) fn content(self) -> LegacyContent {
        self.app.kept.into_iter().next().unwrap_or_default().definition.app
    }
}

/// A name.
#[derive(Clone, Debug)]
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = String::deserialize(deserializer)?;
        if let Some((end, _)) = text.char_indices().nth(MOST_NAME) {
            text.truncate(end);
            text.shrink_to_fit();
        }
        Ok(Self(text))
    }
}

/// A list, of which the first elements are kept and all are counted. An object is counted by its members.
pub(super) struct Listed<T, const MOST: usize = MOST_LISTED> {
    pub(super) kept: Vec<T>,
    pub(super) count: u64,
}

impl<T, const MOST: usize> Default for Listed<T, MOST> {
    fn default() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Listed<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Elements<T, const MOST: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Elements<T, MOST> {
            type Value = Listed<T, MOST>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a list")
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Listed::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut listed = Listed::default();
                loop {
                    let more = if listed.kept.len() < MOST {
                        list.next_element()?.map(|element| listed.kept.push(element))
                    } else {
                        list.next_element::<IgnoredAny>()?.map(drop)
                    };
                    if more.is_none() {
                        return Ok(listed);
                    }
                    listed.count += 1;
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut listed = Listed::default();
                while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
                    listed.count += 1;
                }
                Ok(listed)
            }
        }

        deserializer.deserialize_any(Elements(PhantomData))
    }
}

/// The members of an object whose names mean something, in their order.
pub(super) struct Members<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Members<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for All<T> {
            type Value = Members<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = object.next_entry()? {
                    if members.len() == MOST_MEMBERS {
                        return Err(A::Error::custom(format_args!(
                            "it has more than {MOST_MEMBERS} members"
                        )));
                    }
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(All(PhantomData))
    }
}
