//! What is known of a git repository of apps where git itself is not at hand: in a manifest, and for a verdict.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Which version the files of apps were written in, by what they say themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "platform", rename_all = "lowercase")]
pub enum Schema {
    /// Appsmith's `metadata.json`.
    Appsmith {
        /// `fileFormatVersion`: which files there are.
        file_format: Option<u32>,
        /// `clientSchemaVersion`: of what the editor writes.
        client: Option<u32>,
        /// `serverSchemaVersion`: of what the server writes.
        server: Option<u32>,
    },
    /// `tooljet_version` of `ToolJet`'s files.
    Tooljet {
        /// The server's that wrote them, as they say it.
        version: String,
    },
}

impl fmt::Display for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appsmith { file_format, client, server } => {
                let number =
                    |number: &Option<u32>| number.map_or("unknown".to_owned(), |it| it.to_string());
                let (server, client, format) =
                    (number(server), number(client), number(file_format));
                write!(
                    formatter,
                    "server schema {server}, client schema {client}, file format {format}"
                )
            }
            Self::Tooljet { version } => write!(formatter, "ToolJet {version}"),
        }
    }
}

/// What a git repository held at one commit, in a few lines per app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppsSummary {
    /// How the files lie, by the name that `belay apps show --json` has for it.
    pub layout: String,
    /// Which version they were written in; none where they do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Schema>,
    /// The apps, at most [`AppsSummary::MOST_APPS`].
    pub apps: Vec<AppSummary>,
    /// How many apps there were in all.
    pub app_count: u64,
    /// Modules.
    pub modules: u64,
    /// Data sources.
    pub data_sources: u64,
    /// Pointers to files that are stored elsewhere (Git LFS).
    pub lfs_pointers: u64,
    /// Git repositories within.
    pub submodules: u64,
    /// What could not be read.
    pub troubles: u64,
}

impl AppsSummary {
    /// More apps than these are counted, not listed: the manifest stays small.
    pub const MOST_APPS: usize = 1_000;
}

/// An app in an [`AppsSummary`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSummary {
    /// Its name.
    pub name: String,
    /// What it is known by across instances, where the files say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Its directory in the git repository, escaped for people; empty where it has all of it.
    pub path: String,
    /// Pages.
    pub pages: u64,
    /// Queries, of pages and of the app.
    pub queries: u64,
    /// JS objects.
    pub js_objects: u64,
}
