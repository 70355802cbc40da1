//! Takes the inventory of a commit: one way through all its files, each put where the map says that it belongs.

mod tooljet;

use super::documents::{Application, Metadata, Thing};
use super::map::{Map, Place, name_of};
use super::objects::{Leaf, Objects};
use super::pointers::{MOST_GITMODULES_BYTES, MOST_POINTER_BYTES, lfs_pointer, set_addresses};
use super::walk::Walk;
use super::{App, DataSource, Inventory, Layout, LfsPointers, Page, Submodule, diff::Part};
use crate::model::apps::Schema;
use crate::model::exact_path::ExactPath;
use git2::Oid;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// More are counted only.
const MOST_SUBMODULES: usize = 1_000;

pub(super) struct Taking<'r> {
    objects: Objects<'r>,
    root: Oid,
    map: Map,
    /// By their directories.
    apps: BTreeMap<Vec<u8>, App>,
    /// In the legacy layout: the file of each app's current version.
    current: BTreeMap<Vec<u8>, Vec<u8>>,
    inventory: Inventory,
    /// What was looked at last: files of one part come one after another.
    last_page: Vec<u8>,
    last_item: Vec<u8>,
    submodules: u64,
}

impl<'r> Taking<'r> {
    pub(super) fn new(mut objects: Objects<'r>, root: Oid) -> Self {
        let map = Map::of(&mut objects, root);
        let directories = match map.layout {
            Layout::Appsmith | Layout::AppsmithOlder => vec![Vec::new()],
            _ => map.apps.iter().cloned().collect(),
        };
        let apps = directories.into_iter().map(|path| (path.clone(), App::at(&path))).collect();
        let inventory = Inventory {
            layout: map.layout,
            schema: None,
            apps: Vec::new(),
            modules: Vec::new(),
            data_sources: Vec::new(),
            lfs: LfsPointers::default(),
            submodules: Vec::new(),
            files: 0,
            troubles: Vec::new(),
            troubles_left_out: 0,
        };
        let (last_page, last_item) = (Vec::new(), Vec::new());
        Self {
            objects,
            root,
            map,
            apps,
            current: BTreeMap::new(),
            inventory,
            last_page,
            last_item,
            submodules: 0,
        }
    }

    pub(super) fn take(mut self) -> Inventory {
        let meta = self.legacy_meta();
        let mut walk = Walk::new(None, Some(self.root));
        while let Some(delta) = walk.next(&mut self.objects) {
            if let Some(leaf) = delta.after {
                self.file(&delta.path, &leaf);
            }
        }
        match self.map.layout {
            Layout::Appsmith | Layout::AppsmithOlder => self.check_appsmith(),
            Layout::TooljetLegacy => self.finish_legacy(meta),
            Layout::TooljetGranular => self.check_indexes(),
            Layout::TooljetMetafree | Layout::Empty | Layout::Unknown => {}
        }
        self.name_submodules();
        let mut inventory = self.inventory;
        inventory.apps = self.apps.into_values().collect();
        inventory.schema =
            inventory.apps.iter().filter_map(|app| app.schema.clone()).reduce(newest);
        inventory.troubles = self.objects.troubles;
        inventory.troubles_left_out = self.objects.troubles_left_out;
        inventory
    }

    fn file(&mut self, path: &[u8], leaf: &Leaf) {
        self.inventory.files += 1;
        if leaf.is_submodule {
            self.submodules += 1;
            if self.inventory.submodules.len() < MOST_SUBMODULES {
                let path = ExactPath::of_bytes("path", path);
                self.inventory.submodules.push(Submodule {
                    path,
                    url: None,
                    commit: leaf.id.to_string(),
                });
            }
            return;
        }
        let place = self.map.place(path);
        let small = self.objects.small(path, leaf, MOST_POINTER_BYTES);
        let pointer =
            small.filter(|_| leaf.is_file()).and_then(|content| lfs_pointer(path, &content));
        if let Some(pointer) = pointer {
            let lfs = &mut self.inventory.lfs;
            lfs.count += 1;
            lfs.size = lfs.size.saturating_add(pointer.size);
            if lfs.first.len() < Inventory::MOST_POINTERS {
                lfs.first.push(pointer);
            }
            if place.part != Part::File {
                self.objects
                    .trouble(path, "it is a pointer of Git LFS: what it points to is not read");
            }
            return;
        }
        match self.map.layout {
            Layout::Appsmith | Layout::AppsmithOlder => self.appsmith_file(path, leaf, place),
            Layout::TooljetLegacy => self.legacy_file(path, leaf, place),
            Layout::TooljetGranular | Layout::TooljetMetafree => {
                self.granular_file(path, leaf, place);
            }
            Layout::Empty | Layout::Unknown => {}
        }
    }

    /// The document, where the path is that of one; what cannot be read is told.
    fn document<T: DeserializeOwned + Default>(&mut self, path: &[u8], leaf: &Leaf) -> T {
        let is_json = path.ends_with(b".json");
        is_json.then(|| self.objects.json(path, leaf)).flatten().unwrap_or_default()
    }

    /// Whether this is the first file of its part.
    fn is_first(&mut self, root: &[u8]) -> bool {
        let is_first = self.last_item != root;
        if is_first {
            root.clone_into(&mut self.last_item);
        }
        is_first
    }

    fn appsmith_file(&mut self, path: &[u8], leaf: &Leaf, place: Place) {
        if let Some(page) =
            place.page.map(|end| &path[..end]).filter(|page| self.last_page != **page)
        {
            page.clone_into(&mut self.last_page);
            let widgets = (self.map.layout == Layout::Appsmith).then_some(0);
            let page = Page { name: name_of(page), widgets, ..Page::default() };
            self.app(b"").pages.push(page);
        }
        let root = &path[..place.root];
        let is_first = self.is_first(root);
        match place.part {
            Part::Schema => {
                if let Some(metadata) = self.objects.json::<Metadata>(path, leaf) {
                    self.app(b"").schema = Some(metadata.schema());
                }
            }
            Part::DataSource => self.data_source(path, leaf, path),
            _ => {
                self.document::<Thing>(path, leaf);
                self.appsmith_item(place, root, is_first);
            }
        }
    }

    fn appsmith_item(&mut self, place: Place, root: &[u8], is_first: bool) {
        let app = self.app(b"");
        match (place.part, place.page.and_then(|_| app.pages.last_mut())) {
            _ if !is_first => {}
            (Part::Query, Some(page)) => page.queries.push(name_of(root)),
            (Part::JsObject, Some(page)) => page.js_objects.push(name_of(root)),
            (Part::Widget, Some(page)) => page.widgets = page.widgets.map(|count| count + 1),
            (Part::Query, None) => app.queries.push(name_of(root)),
            (Part::JsObject, None) => app.js_objects.push(name_of(root)),
            (Part::Library, _) => app.libraries.push(name_of(root)),
            _ => {}
        }
    }

    fn data_source(&mut self, path: &[u8], leaf: &Leaf, root: &[u8]) {
        let thing = self.document::<Thing>(path, leaf);
        // There its file is called by its id.
        let by_file =
            (self.map.layout == Layout::TooljetGranular && root == path).then(|| name_of(path));
        self.inventory.data_sources.push(DataSource {
            id: thing.id().or(by_file),
            name: thing.name.map_or_else(|| name_of(root), |name| name.0),
            kind: thing.kind.or(thing.plugin).map(|kind| kind.0),
            path: ExactPath::of_bytes("path", path),
        });
    }

    fn check_appsmith(&mut self) {
        if self.objects.find_file(self.root, b"metadata.json").is_none() {
            self.objects.trouble(
                b"metadata.json",
                "it is missing: which version wrote the files is not known",
            );
        }
        let path = b"application.json";
        let Some(leaf) = self.objects.find_file(self.root, path) else {
            self.objects.trouble(path, "it is missing: the app cannot be imported");
            return;
        };
        // It was read on the way already, and what is wrong with it was told.
        let application: Application =
            self.objects.quietly(|objects| objects.json(path, &leaf)).unwrap_or_default();
        let app = self.app(b"");
        if let Some(name) = application.name {
            app.name = name.0;
        }
        let there: std::collections::BTreeSet<String> =
            app.pages.iter().map(|page| page.name.clone()).collect();
        for page in application.pages.kept.into_iter().filter_map(|page| page.id) {
            if !there.contains(&page.0) {
                let page = page.0.escape_debug();
                self.objects.trouble(path, format!("it lists page '{page}', which is not there"));
            }
        }
    }

    fn name_submodules(&mut self) {
        if self.submodules > MOST_SUBMODULES as u64 {
            let reason = format!(
                "there are {} submodules, of which {MOST_SUBMODULES} are listed",
                self.submodules
            );
            self.objects.trouble(b".gitmodules", reason);
        }
        if self.inventory.submodules.is_empty() {
            return;
        }
        if let Some(leaf) = self.objects.find_file(self.root, b".gitmodules")
            && let Some(content) = self.objects.small(b".gitmodules", &leaf, MOST_GITMODULES_BYTES)
        {
            set_addresses(&mut self.inventory.submodules, &content);
        }
    }

    fn app(&mut self, directory: &[u8]) -> &mut App {
        self.apps.entry(directory.to_vec()).or_insert_with(|| App::at(directory))
    }
}

impl App {
    fn at(path: &[u8]) -> Self {
        Self {
            name: name_of(path),
            id: None,
            path: ExactPath::of_bytes("path", path),
            schema: None,
            pages: Vec::new(),
            queries: Vec::new(),
            js_objects: Vec::new(),
            widgets: 0,
            events: 0,
            versions: Vec::new(),
            libraries: Vec::new(),
        }
    }
}

/// The newer of two; one that is no version is older than all.
pub(super) fn newest(a: Schema, b: Schema) -> Schema {
    let rank = |schema: &Schema| match schema {
        Schema::Appsmith { server, .. } => (server.is_some(), [server.unwrap_or_default(), 0, 0]),
        Schema::Tooljet { version } => {
            let version = version.parse::<crate::model::version::Version>();
            (version.is_ok(), version.map(|version| version.numbers()).unwrap_or_default())
        }
    };
    if rank(&b) > rank(&a) { b } else { a }
}
