//! Gathers the differences of two trees by the parts that they belong to.

use super::renames::{Candidate, pair};
use super::{ChangeKind, Difference, Part, SchemaChange};
use crate::git::layout::Layout;
use crate::git::layout::documents::{Metadata, Thing, Written};
use crate::git::layout::map::{Map, Place, name_of, text};
use crate::git::layout::objects::{Entry, Leaf, Objects};
use crate::git::layout::take::newest;
use crate::git::layout::walk::{Delta, Walk, joined};
use crate::model::apps::Schema;
use git2::Oid;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Parts that are gathered; what differs besides is counted by its files.
const MOST_ITEMS: usize = 50_000;
/// Paths of which it is kept whether something is there.
const MOST_LOOKED_UP: usize = 10_000;

/// Two trees: the first and the second.
pub(super) struct Comparison<'r> {
    objects: Objects<'r>,
    roots: [Option<Oid>; 2],
    maps: [Map; 2],
    items: BTreeMap<(Part, Vec<u8>), Item>,
    left_out: u64,
    schemas: BTreeMap<Option<String>, [Option<Schema>; 2]>,
    /// Files come directory by directory, so the same is asked again and again.
    looked_up: BTreeMap<Vec<u8>, [bool; 2]>,
}

/// A part that differs.
struct Item {
    place: Place,
    /// Its file or directory.
    root: Vec<u8>,
    /// Which of the two trees have it.
    there: [bool; 2],
    /// The contents that differ, of the first and the second.
    contents: [Vec<Oid>; 2],
    files: u64,
}

impl<'r> Comparison<'r> {
    pub(super) fn new(mut objects: Objects<'r>, roots: [Option<Oid>; 2]) -> Self {
        let maps =
            roots.map(|root| root.map_or_else(Map::empty, |root| Map::of(&mut objects, root)));
        Self {
            objects,
            roots,
            maps,
            items: BTreeMap::new(),
            left_out: 0,
            schemas: BTreeMap::new(),
            looked_up: BTreeMap::new(),
        }
    }

    /// What differs in the directory `app`.
    pub(super) fn within(mut self, app: &Path) -> Difference {
        let app = app.as_os_str().as_bytes();
        let directory = |root: Option<Oid>| match self.objects.find(root?, app) {
            Some(Entry::Directory(id)) => Some(id),
            _ => None,
        };
        let [before, after] = self.roots.map(directory);
        let mut walk = Walk::below(app.to_vec(), before, after);
        while let Some(delta) = walk.next(&mut self.objects) {
            self.gather(&delta);
        }
        self.difference()
    }

    fn gather(&mut self, delta: &Delta) {
        self.note_schema(delta);
        let place = self.maps[usize::from(delta.after.is_some())].place(&delta.path);
        let place = self.outermost(place, &delta.path);
        let root = &delta.path[..place.root];
        let key = (place.part, root.to_vec());
        if self.items.len() >= MOST_ITEMS && !self.items.contains_key(&key) {
            self.left_out += 1;
            return;
        }
        let there = self.there(root);
        let contents = [Vec::new(), Vec::new()];
        let item = Item { place, root: root.to_vec(), there, contents, files: 0 };
        let item = self.items.entry(key).or_insert(item);
        item.files += 1;
        item.contents[0].extend(delta.before.map(|leaf| leaf.id));
        item.contents[1].extend(delta.after.map(|leaf| leaf.id));
    }

    /// The app or page that only one of the two trees has, or else the part itself.
    fn outermost(&mut self, place: Place, path: &[u8]) -> Place {
        let app = place.app.filter(|end| *end > 0).map(|end| (Part::App, end));
        let page = place.page.map(|end| (Part::Page, end));
        for (part, root) in [app, page].into_iter().flatten() {
            if self.there(&path[..root]) != [true, true] {
                let page = place.page.filter(|_| part == Part::Page);
                return Place { part, page, root, ..place };
            }
        }
        place
    }

    /// Which of the two trees have something at this path.
    fn there(&mut self, path: &[u8]) -> [bool; 2] {
        if let Some(there) = self.looked_up.get(path) {
            return *there;
        }
        let is_in =
            |root: Option<Oid>| root.is_some_and(|root| self.objects.find(root, path).is_some());
        let there = self.roots.map(is_in);
        if self.looked_up.len() >= MOST_LOOKED_UP {
            self.looked_up.clear();
        }
        self.looked_up.insert(path.to_vec(), there);
        there
    }

    /// Note which version the files say that they were written in, where that may differ.
    fn note_schema(&mut self, delta: &Delta) {
        for (side, leaf) in [delta.before, delta.after].into_iter().enumerate() {
            let Some(leaf) = leaf else { continue };
            let place = self.maps[side].place(&delta.path);
            let Some(schema) = self.schema(side, place.part, &delta.path, &leaf) else { continue };
            let noted = &mut self.schemas.entry(app_of(place, &delta.path)).or_default()[side];
            *noted = noted.take().into_iter().chain([schema]).reduce(newest);
        }
    }

    fn schema(&mut self, side: usize, part: Part, path: &[u8], leaf: &Leaf) -> Option<Schema> {
        match (self.maps[side].layout, part) {
            (Layout::Appsmith | Layout::AppsmithOlder, Part::Schema) => {
                self.objects.json::<Metadata>(path, leaf).map(|metadata| metadata.schema())
            }
            (Layout::TooljetLegacy, Part::Version) | (_, Part::Schema)
                if path.ends_with(b".json") =>
            {
                self.objects.json::<Written>(path, leaf).and_then(Written::schema)
            }
            _ => None,
        }
    }

    fn difference(mut self) -> Difference {
        let mut changes = Vec::new();
        let (mut gone, mut new) = (Vec::new(), Vec::new());
        for item in std::mem::take(&mut self.items).into_values() {
            let side = usize::from(item.there[1]);
            let candidate = self.candidate(item, side);
            match candidate.there {
                [true, true] => changes.push(candidate.told(ChangeKind::Changed)),
                [_, false] => gone.push(candidate),
                [false, true] => new.push(candidate),
            }
        }
        let olds = pair(&gone, &new);
        let was: BTreeSet<usize> = olds.iter().flatten().copied().collect();
        changes.extend(new.iter().zip(olds).map(|(new, old)| match old {
            Some(old) => new.told_of(&gone[old]),
            None => new.told(ChangeKind::Added),
        }));
        let removed = gone.iter().enumerate().filter(|(at, _)| !was.contains(at));
        changes.extend(removed.map(|(_, candidate)| candidate.told(ChangeKind::Removed)));
        changes.sort_by_cached_key(|change| {
            let page =
                if change.part == Part::Page { Some(&change.name) } else { change.page.as_ref() };
            (change.app.clone(), page.cloned(), change.part, change.name.clone())
        });
        let too_many = changes.len().saturating_sub(Difference::MOST_CHANGES) as u64;
        changes.truncate(Difference::MOST_CHANGES);
        let differs = |(app, [before, after]): (_, [Option<Schema>; 2])| {
            (before != after).then_some(SchemaChange { app, before, after })
        };
        Difference {
            changes,
            changes_left_out: self.left_out + too_many,
            schemas: self.schemas.into_iter().filter_map(differs).collect(),
            troubles: self.objects.troubles,
        }
    }

    fn candidate(&mut self, item: Item, side: usize) -> Candidate {
        let Item { place, root, there, contents, files } = item;
        let thing =
            self.objects.quietly(|objects| thing(objects, self.roots[side], place.part, &root));
        let id = thing.as_ref().and_then(Thing::id);
        let own = thing
            .and_then(|thing| thing.name)
            .filter(|_| self.maps[side].layout.platform() == Some("tooljet"));
        let name = match place.part {
            Part::Schema | Part::Settings | Part::Theme => String::new(),
            Part::Index | Part::File => text(&root),
            _ => own.map_or_else(|| name_of(&root), |name| name.0),
        };
        let page = place.page.filter(|_| place.part != Part::Page).map(|end| name_of(&root[..end]));
        let contents = contents.into_iter().nth(side).unwrap_or_default();
        Candidate {
            part: place.part,
            app: app_of(place, &root),
            page,
            name,
            id,
            there,
            contents,
            files,
        }
    }
}

/// The document that says what a part is called and known by, whichever the platform.
fn thing(objects: &mut Objects<'_>, tree: Option<Oid>, part: Part, root: &[u8]) -> Option<Thing> {
    let own =
        joined(root, [root.rsplit(|byte| *byte == b'/').next()?, b".json"].concat().as_slice());
    let documents: &[&[u8]] = match part {
        Part::App | Part::Module => &[b"app/app.json"],
        Part::DataSource => &[b"data-source.json"],
        Part::Query | Part::JsObject => &[b"metadata.json"],
        _ => &[],
    };
    let mut named = documents.iter().map(|name| joined(root, name)).chain([own, root.to_vec()]);
    let found = named.find_map(|path| Some((objects.find_file(tree?, &path)?, path)));
    let (leaf, path) = found.filter(|(_, path)| path.ends_with(b".json"))?;
    objects.json(&path, &leaf)
}

/// The app's directory, unless that is the root.
fn app_of(place: Place, path: &[u8]) -> Option<String> {
    place.app.filter(|end| *end > 0).map(|end| text(&path[..end]))
}
