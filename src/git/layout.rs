//! What is in a git repository of apps, read from its objects: platform, apps, pages, queries, data sources, schema versions.
//!
//! What always holds: nothing is checked out, and nothing that a stranger wrote stops it. What is broken, missing or beyond a bound
//! is a [`Trouble`] in the result; an error is only what keeps the commit itself from being read.

pub mod diff;
mod documents;
mod map;
mod objects;
mod pointers;
mod take;
mod walk;

use super::error::GitError;
use crate::model::apps::{AppSummary, AppsSummary, Schema};
use crate::model::exact_path::ExactPath;
use git2::{Oid, Repository};
use serde::Serialize;
use std::fmt;

/// How the files of a git repository of apps lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The commit has no files.
    Empty,
    /// Appsmith since file format 5: a file for each widget.
    Appsmith,
    /// Appsmith before: `canvas.json` for each page.
    AppsmithOlder,
    /// `ToolJet`'s first: `<App>/<version>.json` and `.meta/meta.json`.
    TooljetLegacy,
    /// `ToolJet`'s second: a file for each part, and indexes in `.meta`.
    TooljetGranular,
    /// `ToolJet`'s third: the same without `.meta`.
    TooljetMetafree,
    /// No platform that Belay knows. It is backed up all the same.
    Unknown,
}

impl Layout {
    /// The platform, by its name in the configuration.
    pub fn platform(self) -> Option<&'static str> {
        match self {
            Self::Appsmith | Self::AppsmithOlder => Some("appsmith"),
            Self::TooljetLegacy | Self::TooljetGranular | Self::TooljetMetafree => Some("tooljet"),
            Self::Empty | Self::Unknown => None,
        }
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Appsmith => "appsmith",
            Self::AppsmithOlder => "appsmith_older",
            Self::TooljetLegacy => "tooljet_legacy",
            Self::TooljetGranular => "tooljet_granular",
            Self::TooljetMetafree => "tooljet_metafree",
            Self::Unknown => "unknown",
        }
    }
}

/// For people.
impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "empty",
            Self::Appsmith => "Appsmith",
            Self::AppsmithOlder => "Appsmith, an older file format",
            Self::TooljetLegacy => "ToolJet, a file for each version of an app",
            Self::TooljetGranular => "ToolJet, a file for each part of an app",
            Self::TooljetMetafree => "ToolJet, a file for each part of an app, without .meta",
            Self::Unknown => "of no platform that Belay knows",
        })
    }
}

/// Look at what `commit` holds.
///
/// Fails only where the commit itself cannot be read.
pub fn inventory(repository: &Repository, commit: Oid) -> Result<Inventory, GitError> {
    let objects = objects::Objects::new(repository)?;
    let root = objects.root(commit)?;
    Ok(take::Taking::new(objects, root).take())
}

/// What a commit holds. Names are as the files have them: escape them before a terminal sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// How its files lie, which tells the platform.
    pub layout: Layout,
    /// Which version its files were written in: the newest where apps differ; none where none says so.
    pub schema: Option<Schema>,
    /// The apps, by path.
    pub apps: Vec<App>,
    /// `ToolJet`'s modules, by path.
    pub modules: Vec<Module>,
    /// The data sources, by path.
    pub data_sources: Vec<DataSource>,
    /// Files that are stored elsewhere (Git LFS).
    pub lfs: LfsPointers,
    /// Git repositories within.
    pub submodules: Vec<Submodule>,
    /// All files.
    pub files: u64,
    /// What could not be read, at most [`Inventory::MOST_TROUBLES`].
    pub troubles: Vec<Trouble>,
    /// How many more there were.
    pub troubles_left_out: u64,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct App {
    /// Its name. Appsmith's files do not always say it: then it is empty, and the git repository's name stands for it.
    pub name: String,
    /// What it is known by across instances, where the files say so.
    pub id: Option<String>,
    /// `path`: its directory; empty where the app has all of the git repository.
    #[serde(flatten)]
    pub path: ExactPath,
    /// Which version its files were written in; none where they do not say.
    pub schema: Option<Schema>,
    /// Its pages.
    pub pages: Vec<Page>,
    /// Queries that belong to no page (`ToolJet`, and Appsmith's file format 1).
    pub queries: Vec<String>,
    /// JS objects that belong to no page (Appsmith's file format 1).
    pub js_objects: Vec<String>,
    /// Widgets that belong to no page (`ToolJet`'s components).
    pub widgets: u64,
    /// Event handlers (`ToolJet`).
    pub events: u64,
    /// Its versions (`ToolJet`).
    pub versions: Vec<String>,
    /// JavaScript libraries (Appsmith).
    pub libraries: Vec<String>,
}

/// A page of an app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Its name.
    pub name: String,
    /// Its queries.
    pub queries: Vec<String>,
    /// Its JS objects.
    pub js_objects: Vec<String>,
    /// Its widgets; none where they lie in one document.
    pub widgets: Option<u64>,
}

/// A module: what `ToolJet` shares between apps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// What it is known by across instances, where the files say so.
    pub id: Option<String>,
    /// `path`: its directory.
    #[serde(flatten)]
    pub path: ExactPath,
}

/// A data source. Credentials are never in git.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DataSource {
    /// Its name.
    pub name: String,
    /// What it is known by across instances, where the files say so.
    pub id: Option<String>,
    /// What it connects to, such as `postgresql` or `postgres-plugin`; none where the file does not say.
    pub kind: Option<String>,
    /// `path`: its file.
    #[serde(flatten)]
    pub path: ExactPath,
}

/// Files of which git holds a pointer only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LfsPointers {
    /// How many.
    pub count: u64,
    /// What they point to, in bytes.
    pub size: u64,
    /// The first [`Inventory::MOST_POINTERS`].
    pub first: Vec<LfsPointer>,
}

/// A pointer to a file that is stored elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LfsPointer {
    /// `path`: where the file belongs.
    #[serde(flatten)]
    pub path: ExactPath,
    /// Its SHA-256 in hexadecimal digits.
    pub oid: String,
    /// Bytes.
    pub size: u64,
}

/// A git repository within.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Submodule {
    /// `path`: where it belongs.
    #[serde(flatten)]
    pub path: ExactPath,
    /// Where `.gitmodules` says that it comes from, without a password; none where it does not say.
    pub url: Option<String>,
    /// Which commit of it, in hexadecimal digits.
    pub commit: String,
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// `path`: where.
    #[serde(flatten)]
    pub path: ExactPath,
    /// Why.
    pub reason: String,
}

impl Inventory {
    /// More are counted only.
    pub const MOST_TROUBLES: usize = 100;
    /// More are counted only.
    pub const MOST_POINTERS: usize = 1_000;

    /// The app that is meant by its path, its id or its name, in this order; none where there is none, or several of that name.
    pub fn app(&self, wanted: &str) -> Option<&App> {
        let by = |matches: &dyn Fn(&App) -> bool| {
            let mut found = self.apps.iter().filter(|app| matches(app));
            found.next().filter(|_| found.next().is_none())
        };
        by(&|app| app.path.path() == std::path::Path::new(wanted))
            .or_else(|| by(&|app| app.id.as_deref() == Some(wanted)))
            .or_else(|| by(&|app| app.name == wanted))
    }

    /// What a manifest says of it.
    pub fn summary(&self) -> AppsSummary {
        let apps = self.apps.iter().take(AppsSummary::MOST_APPS).map(App::summary).collect();
        AppsSummary {
            layout: self.layout.name().to_owned(),
            schema: self.schema.clone(),
            apps,
            app_count: self.apps.len() as u64,
            modules: self.modules.len() as u64,
            data_sources: self.data_sources.len() as u64,
            lfs_pointers: self.lfs.count,
            submodules: self.submodules.len() as u64,
            troubles: self.troubles.len() as u64 + self.troubles_left_out,
        }
    }
}

impl App {
    fn summary(&self) -> AppSummary {
        let of_pages =
            |count: fn(&Page) -> usize| self.pages.iter().map(count).sum::<usize>() as u64;
        AppSummary {
            name: self.name.clone(),
            id: self.id.clone(),
            path: self.path.to_string(),
            pages: self.pages.len() as u64,
            queries: of_pages(|page| page.queries.len()) + self.queries.len() as u64,
            js_objects: of_pages(|page| page.js_objects.len()) + self.js_objects.len() as u64,
        }
    }
}

#[cfg(test)]
mod tests;
