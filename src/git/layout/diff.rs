//! What differs between two commits, in the words of the platform: pages, queries, widgets, data sources, settings.
//!
//! What always holds: each difference of the two trees is told once, by the smallest part that it belongs to; of a part that is
//! new, gone or renamed as a whole, what is in it is only counted.

mod compare;
mod renames;

use super::Trouble;
use super::objects::Objects;
use super::take::newest;
use crate::git::error::GitError;
use crate::model::apps::Schema;
use crate::model::node::display_path;
use compare::Comparison;
use git2::{Oid, Repository};
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// A merge is compared with these of its parents.
const MOST_PARENTS: usize = 16;

/// How a part differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the second commit has it.
    Added,
    /// Both have it.
    Changed,
    /// The second commit has it under another name.
    Renamed,
    /// Only the first commit has it.
    Removed,
}

/// What differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Which versions the files were written in.
    Schema,
    /// A whole app.
    App,
    /// A page; changed: its own settings or, before Appsmith's file format 5, its widgets.
    Page,
    /// A query.
    Query,
    /// A JS object.
    JsObject,
    /// A widget, or a component of `ToolJet`'s.
    Widget,
    /// An event handler of `ToolJet`'s.
    Event,
    /// A version of an app of `ToolJet`'s.
    Version,
    /// A data source.
    DataSource,
    /// A module of `ToolJet`'s.
    Module,
    /// A JavaScript library.
    Library,
    /// The theme.
    Theme,
    /// The app's own settings.
    Settings,
    /// The platform's index of what is there.
    Index,
    /// A file that belongs to nothing of the platform.
    File,
}

/// A difference. Names are as the files have them: escape them before a terminal sees them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// How.
    pub change: ChangeKind,
    /// What.
    pub part: Part,
    /// The app, by its directory; none where it has all of the git repository, or where the part belongs to no app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// The page that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Its name; empty for what there is but one of.
    pub name: String,
    /// What it was called, where it was renamed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// How many files of it differ.
    pub files: u64,
}

/// The version of an app's files differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SchemaChange {
    /// The app, by its directory; none where it has all of the git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// In the first commit.
    pub before: Option<Schema>,
    /// In the second.
    pub after: Option<Schema>,
}

/// What differs between two commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The differences, at most [`Difference::MOST_CHANGES`]: by app, then page, then part.
    pub changes: Vec<Change>,
    /// How many more there are.
    pub changes_left_out: u64,
    /// The versions of files that differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schemas: Vec<SchemaChange>,
    /// What could not be read.
    pub troubles: Vec<Trouble>,
}

impl Difference {
    /// More are counted only.
    pub const MOST_CHANGES: usize = 1_000;
}

/// What a commit changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CommitChanges {
    /// The commit, in hexadecimal digits.
    pub id: String,
    /// Against its first parent; of a merge only what it has like none of its parents.
    #[serde(flatten)]
    pub difference: Difference,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Schema => "schema version",
            Self::App => "app",
            Self::Page => "page",
            Self::Query => "query",
            Self::JsObject => "JS object",
            Self::Widget => "widget",
            Self::Event => "event handler",
            Self::Version => "version",
            Self::DataSource => "data source",
            Self::Module => "module",
            Self::Library => "library",
            Self::Theme => "theme",
            Self::Settings => "settings",
            Self::Index => "index",
            Self::File => "file",
        }
    }
}

/// For people, such as `query getOrders of page Home changed`. What could play with a terminal is escaped.
impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str| display_path(name.as_bytes());
        formatter.write_str(self.part.word())?;
        let name = self.was.as_deref().unwrap_or(&self.name);
        if !name.is_empty() {
            write!(formatter, " {}", shown(name))?;
        }
        if let Some(page) = &self.page {
            write!(formatter, " of page {}", shown(page))?;
        }
        if let Some(app) = self.app.as_deref().filter(|_| self.part != Part::App) {
            write!(formatter, " of app {}", shown(app))?;
        }
        match self.change {
            ChangeKind::Added => formatter.write_str(" added"),
            ChangeKind::Changed => formatter.write_str(" changed"),
            ChangeKind::Removed => formatter.write_str(" removed"),
            ChangeKind::Renamed => write!(formatter, " renamed to {}", shown(&self.name)),
        }
    }
}

impl SchemaChange {
    /// Whether the second commit has a newer one.
    pub fn is_raised(&self) -> bool {
        match (self.before.clone(), self.after.clone()) {
            (Some(before), Some(after)) => {
                before != after && newest(before, after.clone()) == after
            }
            _ => false,
        }
    }
}

/// What differs between commit `before` and commit `after`, in the directory `app`; everywhere where that is empty.
pub fn diff(
    repository: &Repository,
    (before, after): (Oid, Oid),
    app: &Path,
) -> Result<Difference, GitError> {
    let objects = Objects::new(repository)?;
    let roots = [Some(objects.root(before)?), Some(objects.root(after)?)];
    Ok(Comparison::new(objects, roots).within(app))
}

/// What each of these commits changed in the directory `app`; everywhere where that is empty.
pub fn of_commits(
    repository: &Repository,
    commits: &[Oid],
    app: &Path,
) -> Result<Vec<CommitChanges>, GitError> {
    let changes = |id: &Oid| {
        let difference = of_commit(repository, *id, app)?;
        Ok(CommitChanges { id: id.to_string(), difference })
    };
    commits.iter().map(changes).collect()
}

fn of_commit(repository: &Repository, id: Oid, app: &Path) -> Result<Difference, GitError> {
    let root = Objects::new(repository)?.root(id)?;
    let commit = repository
        .find_commit(id)
        .map_err(GitError::unread(format!("commit {id}"), repository.path()))?;
    let against = |parent: Option<Oid>| {
        let objects = Objects::new(repository)?;
        let parent = parent.map(|parent| objects.root(parent)).transpose()?;
        Ok::<_, GitError>(Comparison::new(objects, [parent, Some(root)]).within(app))
    };
    let mut parents = commit.parent_ids().take(MOST_PARENTS);
    let mut difference = against(parents.next())?;
    for parent in parents {
        let other = against(Some(parent))?;
        let is_same = |a: &Change, b: &Change| {
            (a.part, &a.app, &a.page, &a.name) == (b.part, &b.app, &b.page, &b.name)
        };
        difference.changes.retain(|change| other.changes.iter().any(|it| is_same(it, change)));
        difference.schemas.retain(|change| other.schemas.iter().any(|it| it.app == change.app));
        difference.changes_left_out = difference.changes_left_out.min(other.changes_left_out);
    }
    Ok(difference)
}
