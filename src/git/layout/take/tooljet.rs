//! What is particular to `ToolJet`'s layouts in an inventory.

use super::{Taking, newest};
use crate::git::layout::diff::Part;
use crate::git::layout::documents::{
    AppMeta, DataSourceMeta, LegacyMeta, LegacyVersion, Members, ModuleMeta, Text, Thing, Written,
};
use crate::git::layout::map::{Place, is_below, name_of, text};
use crate::git::layout::objects::{Entry, Leaf};
use crate::git::layout::walk::joined;
use crate::git::layout::{App, DataSource, Layout, Module, Page};
use crate::model::apps::Schema;
use crate::model::exact_path::ExactPath;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;

impl Taking<'_> {
    pub(super) fn granular_file(&mut self, path: &[u8], leaf: &Leaf, place: Place) {
        let root = &path[..place.root];
        let is_first = self.is_first(root);
        let app = place.app.map(|end| &path[..end]);
        match (place.part, app) {
            (Part::File, _) => {}
            (Part::Index, _) => drop(self.document::<Thing>(path, leaf)),
            (Part::Schema, Some(app)) => {
                let schema = self.document::<Written>(path, leaf).schema();
                if path.ends_with(b"/schema/schema.json") {
                    self.app(app).schema = schema;
                }
            }
            (Part::DataSource, _) if path.ends_with(b".json") => self.data_source(path, leaf, root),
            (Part::Module, _) => self.module(path, leaf, root, is_first),
            (part, app) => {
                let thing = self.document::<Thing>(path, leaf);
                let Some(app) = app else { return };
                if part == Part::Settings && path.ends_with(b"/app/app.json") {
                    let it = self.app(app);
                    it.id = thing.id();
                    it.name = thing.name.map_or_else(|| name_of(app), |name| name.0);
                } else if is_first {
                    let own = thing.name.filter(|_| root == path);
                    let name = own.map_or_else(|| name_of(root), |name| name.0);
                    self.app(app).add(part, name);
                }
            }
        }
    }

    fn module(&mut self, path: &[u8], leaf: &Leaf, root: &[u8], is_first: bool) {
        let thing = self.document::<Thing>(path, leaf);
        if is_first {
            let path = ExactPath::of_bytes("path", root);
            self.inventory.modules.push(Module { name: name_of(root), id: None, path });
        }
        if let Some(module) =
            self.inventory.modules.last_mut().filter(|_| path[root.len()..] == *b"/app/app.json")
        {
            module.id = thing.id();
            module.name = thing.name.map_or_else(|| name_of(root), |name| name.0);
        }
    }

    pub(super) fn legacy_file(&mut self, path: &[u8], leaf: &Leaf, place: Place) {
        let (Part::Version, Some(end)) = (place.part, place.app) else {
            if place.part == Part::File && path.ends_with(b".json") {
                self.document::<Thing>(path, leaf);
            }
            return;
        };
        let directory = &path[..end];
        let mut version = self.document::<LegacyVersion>(path, leaf);
        let schema =
            version.tooljet_version.take().map(|version| Schema::Tooljet { version: version.0 });
        let is_current = self.current.get(directory).is_some_and(|current| current == path);
        let app = self.app(directory);
        app.versions.push(name_of(path));
        app.schema = app.schema.take().into_iter().chain(schema).reduce(newest);
        if !is_current {
            return;
        }
        let content = version.content();
        let names = |things: Vec<Thing>| {
            things.into_iter().filter_map(|thing| thing.name).map(|name| name.0)
        };
        app.id = content.co_relation_id.map(|id| id.0);
        app.pages =
            names(content.pages.kept).map(|name| Page { name, ..Page::default() }).collect();
        app.queries = names(content.queries.kept).collect();
        (app.widgets, app.events) = (content.components.count, content.events.count);
        if let Some(name) = content.name {
            app.name = name.0;
        }
        for source in content.data_sources.kept {
            self.inventory.data_sources.push(DataSource {
                id: source.id(),
                name: source.name.map(|name| name.0).unwrap_or_default(),
                kind: source.kind.map(|kind| kind.0),
                path: ExactPath::of_bytes("path", path),
            });
        }
    }

    /// The index of the legacy layout; which versions are the current ones is known afterwards.
    pub(super) fn legacy_meta(&mut self) -> LegacyMeta {
        if self.map.layout != Layout::TooljetLegacy {
            return LegacyMeta::default();
        }
        let path = b".meta/meta.json";
        let leaf = self.objects.find_file(self.root, path);
        let meta: LegacyMeta = leaf.map(|leaf| self.document(path, &leaf)).unwrap_or_default();
        for (app, Text(version)) in &meta.apps.0 {
            let file = joined(app.as_bytes(), format!("{version}.json").as_bytes());
            if is_below(&file, b"") && self.objects.find_file(self.root, &file).is_some() {
                self.current.insert(app.clone().into_bytes(), file);
            } else {
                let (app, version) = (app.escape_debug(), version.escape_debug());
                self.objects.trouble(
                    path,
                    format!("it names version '{version}' of app '{app}', which is not there"),
                );
            }
        }
        for app in self
            .map
            .apps
            .iter()
            .filter(|app| !self.current.contains_key(*app))
            .cloned()
            .collect::<Vec<_>>()
        {
            if let Some(file) = self.last_version(&app) {
                self.current.insert(app, file);
            }
        }
        meta
    }

    fn last_version(&mut self, app: &[u8]) -> Option<Vec<u8>> {
        let Some(Entry::Directory(directory)) = self.objects.find(self.root, app) else {
            return None;
        };
        let entries = self.objects.quietly(|objects| objects.entries(app, directory));
        let mut versions = entries
            .into_iter()
            .filter(|(name, entry)| matches!(entry, Entry::Leaf(_)) && name.ends_with(b".json"));
        versions.next_back().map(|(name, _)| joined(app, &name))
    }

    pub(super) fn finish_legacy(&mut self, meta: LegacyMeta) {
        let written = meta.version.map(|version| Schema::Tooljet { version: version.0 });
        for app in self.apps.values_mut().filter(|app| app.schema.is_none()) {
            app.schema.clone_from(&written);
        }
    }

    pub(super) fn check_indexes(&mut self) {
        let apps = self.index::<AppMeta>(b".meta/appMeta.json");
        for (id, path) in apps.into_iter().map(|(id, app)| (id, app.path)) {
            let path = self.indexed(b".meta/appMeta.json", b"apps/", path);
            if let Some(app) = path.and_then(|path| self.apps.get_mut(&path)) {
                app.id.get_or_insert(id);
            }
        }
        let modules = self.index::<ModuleMeta>(b".meta/moduleMeta.json");
        let mut ids = BTreeMap::new();
        for (id, path) in modules.into_iter().map(|(id, module)| (id, module.path)) {
            if let Some(path) = self.indexed(b".meta/moduleMeta.json", b"modules/", path) {
                ids.insert(path, id);
            }
        }
        for module in &mut self.inventory.modules {
            let path = module.path.path().as_os_str().as_bytes();
            module.id = module.id.take().or_else(|| ids.remove(path));
        }
        for (_, source) in self.index::<DataSourceMeta>(b".meta/dataSourceMeta.json") {
            self.indexed(b".meta/dataSourceMeta.json", b"data-sources/", source.path);
        }
    }

    fn index<T: DeserializeOwned>(&mut self, path: &[u8]) -> Vec<(String, T)> {
        let leaf = self.objects.find_file(self.root, path);
        leaf.and_then(|leaf| self.objects.json::<Members<T>>(path, &leaf)).unwrap_or_default().0
    }

    /// The path that an index names, where something is there.
    fn indexed(&mut self, index: &[u8], parent: &[u8], path: Option<String>) -> Option<Vec<u8>> {
        let path = path?.into_bytes();
        if is_below(&path, parent) && self.objects.find(self.root, &path).is_some() {
            return Some(path);
        }
        let named: String = text(&path).chars().take(255).collect();
        self.objects
            .trouble(index, format!("it names '{}', which is not there", named.escape_debug()));
        None
    }
}

impl App {
    /// Add a part of `ToolJet`'s.
    fn add(&mut self, part: Part, name: String) {
        match part {
            Part::Page => self.pages.push(Page { name, ..Page::default() }),
            Part::Query => self.queries.push(name),
            Part::Widget => self.widgets += 1,
            Part::Event => self.events += 1,
            Part::Version => self.versions.push(name),
            _ => {}
        }
    }
}
