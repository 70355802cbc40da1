//! What a path means in a layout: which app, page and part a file belongs to.
//!
//! The inventory and the difference of two commits both go by this, so that they call the same thing by the same name.

use super::Layout;
use super::diff::Part;
use super::documents::{AppMeta, Members, Metadata};
use super::objects::{Entry, Objects};
use super::walk::joined;
use crate::model::node::display_path;
use git2::Oid;
use std::collections::BTreeSet;

/// Since this file format of Appsmith's each widget has a file.
const FILE_PER_WIDGET: u32 = 5;

/// What paths mean in a commit.
pub(super) struct Map {
    pub(super) layout: Layout,
    /// Directories of `ToolJet`'s apps.
    pub(super) apps: BTreeSet<Vec<u8>>,
    /// Directories of `ToolJet`'s modules.
    pub(super) modules: BTreeSet<Vec<u8>>,
}

/// What a path means. What is given by bytes is the path's beginning that long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) part: Part,
    /// The app's directory; none where it belongs to no app.
    pub(super) app: Option<usize>,
    /// The page's directory or, in Appsmith's file format 1, its file.
    pub(super) page: Option<usize>,
    /// The file or directory that is the part.
    pub(super) root: usize,
}

impl Place {
    fn new(part: Part, root: usize) -> Self {
        Self { part, app: None, page: None, root }
    }
}

impl Map {
    /// Tell the layout of the files below directory `root`.
    pub(super) fn of(objects: &mut Objects<'_>, root: Oid) -> Self {
        objects.quietly(|objects| {
            if objects.is_empty(root) {
                return Self::empty();
            }
            match appsmith(objects, root) {
                Some(layout) => Self { layout, ..Self::empty() },
                None => tooljet(objects, root),
            }
        })
    }

    /// Of a commit without files.
    pub(super) fn empty() -> Self {
        Self { layout: Layout::Empty, apps: BTreeSet::new(), modules: BTreeSet::new() }
    }

    pub(super) fn place(&self, path: &[u8]) -> Place {
        match self.layout {
            Layout::Appsmith | Layout::AppsmithOlder => appsmith_place(path),
            Layout::TooljetLegacy => self.legacy_place(path),
            Layout::TooljetGranular | Layout::TooljetMetafree => self.granular_place(path),
            Layout::Empty | Layout::Unknown => Place::new(Part::File, path.len()),
        }
    }

    fn legacy_place(&self, path: &[u8]) -> Place {
        let ends = ends(path);
        let app = prefix_in(&self.apps, path, &ends);
        let part = match app {
            Some(_) if ends.len() == 2 && path.ends_with(b".json") => Part::Version,
            None if path.starts_with(b".meta/") => Part::Index,
            _ => Part::File,
        };
        Place { app, ..Place::new(part, path.len()) }
    }

    fn granular_place(&self, path: &[u8]) -> Place {
        let ends = ends(path);
        let last = path.len();
        if let Some(app) = prefix_in(&self.apps, path, &ends) {
            let within = ends.iter().position(|end| *end == app).unwrap_or_default() + 1;
            let section = &path[app + 1..ends[within]];
            let item = ends.get(within + 1).copied();
            let (part, root) = match (section, item) {
                (b"app", _) => (Part::Settings, ends[within]),
                (b"schema", _) => (Part::Schema, ends[within]),
                (b"pages", Some(item)) => (Part::Page, item),
                (b"queries", Some(item)) => (Part::Query, item),
                (b"components", Some(item)) => (Part::Widget, item),
                (b"events", Some(item)) => (Part::Event, item),
                (b"versions", Some(item)) => (Part::Version, item),
                _ => (Part::File, last),
            };
            return Place { app: Some(app), ..Place::new(part, root) };
        }
        let top = &path[..ends[0]];
        match top {
            b".meta" => Place::new(Part::Index, last),
            b"modules" if ends.len() > 2 => {
                let root = prefix_in(&self.modules, path, &ends).unwrap_or(ends[1]);
                Place::new(Part::Module, root)
            }
            b"data-sources" if ends.len() == 2 && path.ends_with(b".json") => {
                Place::new(Part::DataSource, last)
            }
            b"data-sources" if ends.len() > 2 && path.ends_with(b"/data-source.json") => {
                Place::new(Part::DataSource, ends[ends.len() - 2])
            }
            _ => Place::new(Part::File, last),
        }
    }
}

/// Which of Appsmith's layouts it is.
fn appsmith(objects: &mut Objects<'_>, root: Oid) -> Option<Layout> {
    let has_pages = matches!(objects.find(root, b"pages"), Some(Entry::Directory(_)));
    let metadata = objects.find_file(root, b"metadata.json");
    let read = metadata.and_then(|leaf| objects.json::<Metadata>(b"metadata.json", &leaf));
    let says_so = read.as_ref().is_some_and(Metadata::is_appsmith);
    let has_application = objects.find_file(root, b"application.json").is_some();
    if !(says_so || has_application || (has_pages && metadata.is_some())) {
        return None;
    }
    let is_older = match read.and_then(|metadata| metadata.file_format) {
        Some(format) => format < FILE_PER_WIDGET,
        None => looks_older(objects, root),
    };
    Some(if is_older { Layout::AppsmithOlder } else { Layout::Appsmith })
}

fn looks_older(objects: &mut Objects<'_>, root: Oid) -> bool {
    if matches!(objects.find(root, b"theme"), Some(Entry::Directory(_))) {
        return true;
    }
    let Some(Entry::Directory(pages)) = objects.find(root, b"pages") else { return false };
    objects.entries(b"pages", pages).into_iter().any(|(name, entry)| match entry {
        Entry::Directory(page) => objects.find_file(page, b"canvas.json").is_some(),
        Entry::Leaf(_) => name.ends_with(b".json"),
    })
}

/// Which of `ToolJet`'s layouts it is, and where its apps and modules are.
fn tooljet(objects: &mut Objects<'_>, root: Oid) -> Map {
    const INDEXES: [&[u8]; 3] =
        [b".meta/appMeta.json", b".meta/moduleMeta.json", b".meta/dataSourceMeta.json"];
    let has_indexes = INDEXES.iter().any(|path| objects.find_file(root, path).is_some());
    if !has_indexes && objects.find_file(root, b".meta/meta.json").is_some() {
        let apps = legacy_apps(objects, root);
        return Map { layout: Layout::TooljetLegacy, apps, ..Map::empty() };
    }
    let mut apps = directories_with(objects, root, b"apps", b"app/app.json");
    let modules = directories_with(objects, root, b"modules", b"app/app.json");
    if has_indexes {
        for path in indexed_apps(objects, root) {
            let directory = matches!(objects.find(root, &path), Some(Entry::Directory(_)));
            let holds_one = apps.iter().any(|app| app.starts_with(&joined(&path, b"")));
            if directory && !holds_one && prefix_in(&apps, &path, &ends(&path)).is_none() {
                apps.insert(path);
            }
        }
        return Map { layout: Layout::TooljetGranular, apps, modules };
    }
    let is_metafree = !apps.is_empty()
        || !modules.is_empty()
        || !directories_with(objects, root, b"data-sources", b"data-source.json").is_empty();
    let layout = if is_metafree { Layout::TooljetMetafree } else { Layout::Unknown };
    Map { layout, apps, modules }
}

/// Directories below `top` that have the file `marker`. What lies in them is theirs.
fn directories_with(
    objects: &mut Objects<'_>,
    root: Oid,
    top: &[u8],
    marker: &[u8],
) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let Some(Entry::Directory(directory)) = objects.find(root, top) else { return found };
    let mut open = vec![(top.to_vec(), directory)];
    while let Some((parent, directory)) = open.pop() {
        for (name, entry) in objects.entries(&parent, directory) {
            let Entry::Directory(id) = entry else { continue };
            let path = joined(&parent, &name);
            if objects.find_file(id, marker).is_some() {
                found.insert(path);
            } else {
                open.push((path, id));
            }
        }
    }
    found
}

fn indexed_apps(objects: &mut Objects<'_>, root: Oid) -> Vec<Vec<u8>> {
    let path = b".meta/appMeta.json";
    let index = objects
        .find_file(root, path)
        .and_then(|leaf| objects.json::<Members<AppMeta>>(path, &leaf));
    let paths = index.unwrap_or_default().0.into_iter().filter_map(|(_, app)| app.path);
    paths.map(String::into_bytes).filter(|path| is_below(path, b"apps/")).collect()
}

/// Whether a path that a document names is one below `parent`, which ends with a slash.
pub(super) fn is_below(path: &[u8], parent: &[u8]) -> bool {
    let is_name = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    path.strip_prefix(parent).is_some_and(|rest| rest.split(|byte| *byte == b'/').all(is_name))
}

fn legacy_apps(objects: &mut Objects<'_>, root: Oid) -> BTreeSet<Vec<u8>> {
    let mut apps = BTreeSet::new();
    for (name, entry) in objects.entries(b"", root) {
        let Entry::Directory(directory) = entry else { continue };
        if name.starts_with(b".") {
            continue;
        }
        let is_version = |(file, entry): &(Vec<u8>, Entry)| {
            matches!(entry, Entry::Leaf(_)) && file.ends_with(b".json")
        };
        if objects.entries(&name, directory).iter().any(is_version) {
            apps.insert(name);
        }
    }
    apps
}

fn appsmith_place(path: &[u8]) -> Place {
    let ends = ends(path);
    let last = path.len();
    let item = ends.get(1).copied();
    let of_app = |part, root| Place { app: Some(0), ..Place::new(part, root) };
    match (&path[..ends[0]], item) {
        (b"metadata.json", None) => of_app(Part::Schema, last),
        (b"application.json", None) => of_app(Part::Settings, last),
        (b"theme.json", None) => of_app(Part::Theme, last),
        (b"theme", Some(_)) => of_app(Part::Theme, ends[0]),
        (b"jslibs", Some(item)) => of_app(Part::Library, item),
        (b"datasources", Some(item)) => of_app(Part::DataSource, item),
        (b"queries" | b"actions", Some(item)) => of_app(Part::Query, item),
        (b"jsobjects" | b"actionCollections", Some(item)) => of_app(Part::JsObject, item),
        (b"pages", Some(page)) => {
            let (part, root) = match (ends.get(2).map(|end| &path[page + 1..*end]), ends.get(3)) {
                (Some(b"queries" | b"actions"), Some(item)) => (Part::Query, *item),
                (Some(b"jsobjects" | b"actionCollections"), Some(item)) => (Part::JsObject, *item),
                (Some(b"widgets"), Some(_)) => (Part::Widget, last),
                _ => (Part::Page, page),
            };
            Place { page: Some(page), ..of_app(part, root) }
        }
        _ => of_app(Part::File, last),
    }
}

/// Where the names in a path end.
fn ends(path: &[u8]) -> Vec<usize> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).collect()
}

/// The first directory above the path that is one of these.
fn prefix_in(directories: &BTreeSet<Vec<u8>>, path: &[u8], ends: &[usize]) -> Option<usize> {
    let above = ends.iter().take(ends.len() - 1);
    above.copied().find(|end| directories.contains(&path[..*end]))
}

/// What a file or directory is called: its own name, without the ending of a document.
pub(super) fn name_of(path: &[u8]) -> String {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    text(name.strip_suffix(b".json").filter(|stem| !stem.is_empty()).unwrap_or(name))
}

/// A name as text: what is not UTF-8 is escaped.
pub(super) fn text(name: &[u8]) -> String {
    std::str::from_utf8(name).map_or_else(|_| display_path(name), str::to_owned)
}
