//! What Git does not hold of apps: credentials, constants, workspaces, permissions and users, by name, out of the last good
//! snapshot of each instance that they run on.
//!
//! What always holds: names and numbers only, never a value; memory is bounded whatever the snapshot holds.

use crate::component::mongodb::MongodbDetails;
use crate::component::mongodb::document::DocumentReader;
use crate::component::mongodb::wire::RawDocument;
use crate::component::postgres::PostgresDetails;
use crate::component::postgres::archive::{TapRow, Wanted, read_archive};
use crate::config::{Config, GitRepository, Instance, Platform, SecretSources};
use crate::model::event::Cancel;
use crate::model::id::SnapshotId;
use crate::model::manifest::Manifest;
use crate::model::name::Name;
use crate::ops::show::read_manifest;
use crate::ops::{Context, OpsError, SnapshotRef};
use crate::repository::reader::{ContentStream, Reader};
use crate::repository::{RepositoryError, Snapshot};
use jiff::Timestamp;
use memchr::memmem;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};

/// More names of a kind are counted, not listed.
const MOST_NAMES: usize = 1_000;
/// Characters of a name that are kept.
const MOST_NAME: usize = 200;
/// The variable that names `ToolJet`'s database of apps.
const TOOLJET_DATABASE: &str = "PG_DB";

/// What Git does not hold of the apps on one instance. Names are as the instance has them: escape them before a terminal sees them.
#[derive(Clone, Debug, Serialize)]
pub struct Outside {
    /// The instance.
    pub instance: Name,
    /// The snapshot that tells it.
    pub snapshot: Option<SnapshotId>,
    /// When that was taken.
    pub taken_at: Option<Timestamp>,
    /// What there is.
    pub kinds: Vec<OutsideKind>,
    /// Why nothing is known; none where something is.
    pub unknown: Option<String>,
    /// What to decide for this environment, where the platform asks for something.
    pub advice: Option<String>,
}

/// Things of one kind that Git does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutsideKind {
    /// `credentials`, `constants`, `workspaces`, `groups` or `users`.
    pub kind: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// How many there are.
    pub count: u64,
    /// Their names, each once, at most 1,000; none of users.
    pub names: Vec<String>,
}

/// Tell what Git does not hold of the apps of a git repository, for each instance that uses it.
pub fn outside(
    config: &Config,
    secrets: &SecretSources,
    git: &GitRepository,
    context: &Context,
) -> Result<Vec<Outside>, OpsError> {
    let pair = git.pair.as_ref().and_then(|name| config.pairs.get(name));
    let of_pair = |name: &Name| pair.is_some_and(|it| it.instances().any(|other| other == name));
    let uses = |it: &&Instance| {
        it.platform == git.platform && (of_pair(&it.name) || it.gits.contains(&git.name))
    };
    let mut all = Vec::new();
    for instance in config.instances.values().filter(uses) {
        let mut outside = Outside {
            instance: instance.name.clone(),
            snapshot: None,
            taken_at: None,
            kinds: Vec::new(),
            unknown: None,
            advice: advice(instance.platform, of_pair(&instance.name)),
        };
        match Told::of(config, secrets, instance, context) {
            Ok((snapshot, told)) => {
                outside.snapshot = Some(snapshot.id);
                outside.taken_at = Some(snapshot.file.time);
                outside.kinds = told.kinds();
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
                outside.unknown = Some(format!("{}{hint}", error.told()));
            }
        }
        all.push(outside);
    }
    Ok(all)
}

/// `ToolJet` asks, when an app is imported, whether it may be edited there.
fn advice(platform: Platform, is_of_pair: bool) -> Option<String> {
    let advice = if is_of_pair {
        "Make application editable: off when the app is imported here, on staging as in production, so that neither commits; on only to \
         restore the app and go on developing it here."
    } else {
        "Make application editable: on when the app is imported here to restore it or to develop it; off where it is only used."
    };
    (platform == Platform::Tooljet).then(|| advice.to_owned())
}

/// Names of one kind.
#[derive(Default)]
struct Names {
    count: u64,
    names: BTreeSet<String>,
}

impl Names {
    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.names.len() < MOST_NAMES {
            self.names.insert(name.chars().take(MOST_NAME).collect());
        }
    }
}

/// What a snapshot tells, by kind.
#[derive(Default)]
struct Told(BTreeMap<usize, Names>);

const CREDENTIALS: usize = 0;
const CONSTANTS: usize = 1;
const WORKSPACES: usize = 2;
const GROUPS: usize = 3;
const USERS: usize = 4;

/// By their places above.
const KINDS: [(&str, &str); 5] = [
    ("credentials", "data sources with credentials"),
    ("constants", "workspace constants"),
    ("workspaces", "workspaces"),
    ("groups", "permission groups"),
    ("users", "users"),
];

impl Told {
    fn of(
        config: &Config,
        secrets: &SecretSources,
        instance: &Instance,
        context: &Context,
    ) -> Result<(Snapshot, Self), OpsError> {
        let wanted = SnapshotRef::Latest(instance.name.to_string());
        let session = wanted.find(config, secrets, context)?;
        let _lock = session.lock_for_reading("apps", context)?;
        let reader = Reader::new(&session.repository)?;
        let snapshot = wanted.resolve(&session.repository.snapshots()?, &reader, &session)?;
        let manifest = read_manifest(&reader, &snapshot)?;
        context.events.phase("looking for what Git does not hold in", instance.name.to_string());
        let source = Source { reader: &reader, snapshot: &snapshot, cancel: &context.cancel };
        let mut told = Self::default();
        if let Some(manifest) = &manifest {
            match instance.platform {
                Platform::Appsmith => told.appsmith(&source, manifest)?,
                _ => told.tooljet(&source, manifest)?,
            }
        }
        Ok((snapshot, told))
    }

    fn kinds(self) -> Vec<OutsideKind> {
        let kind = |(place, Names { count, names }): (usize, Names)| {
            let (kind, title) = KINDS[place];
            OutsideKind { kind, title, count, names: names.into_iter().collect() }
        };
        self.0.into_iter().map(kind).collect()
    }

    fn add(&mut self, kind: usize, name: &str) {
        self.0.entry(kind).or_default().add(name);
    }

    fn tooljet(&mut self, source: &Source<'_>, manifest: &Manifest) -> Result<(), OpsError> {
        let details: Option<PostgresDetails> = details(manifest, "postgres");
        let databases = details.map(|details| details.databases).unwrap_or_default();
        let own = |variable: &Option<String>| variable.as_deref() == Some(TOOLJET_DATABASE);
        // Where no environment named them, one has these tables and the others have not.
        let is_said = databases.iter().any(|database| own(&database.variable));
        for database in databases.iter().filter(|it| !is_said || own(&it.variable)) {
            let users = database.rows.get("public").and_then(|tables| tables.get("users"));
            if let Some(users) = users {
                self.0.entry(USERS).or_default().count += users;
            }
            let mut rows = TooljetRows::default();
            let read = source.open(&database.dump)?;
            read_archive(read, &tooljet_tables(), &mut |row| rows.see(row, self))
                .map_err(|error| source.damaged(&database.dump, &error.to_string()))?;
            rows.finish(self);
        }
        Ok(())
    }

    fn appsmith(&mut self, source: &Source<'_>, manifest: &Manifest) -> Result<(), OpsError> {
        let details: Option<MongodbDetails> = details(manifest, "mongodb");
        let collections = details.map(|details| details.collections).unwrap_or_default();
        let mut sources = Joined::default();
        for collection in &collections {
            let Some(file) = &collection.file else { continue };
            let name = collection.name.as_str();
            if name == "user" {
                self.0.entry(USERS).or_default().count += collection.documents;
            }
            if !["datasource", "datasourceStorage", "workspace", "permissionGroup"].contains(&name)
            {
                continue;
            }
            let mut documents = DocumentReader::new(source.open(file)?);
            let damaged = |error: &dyn std::fmt::Display| source.damaged(file, &error.to_string());
            while let Some(document) = documents.next_document().map_err(|error| damaged(&error))? {
                if let Ok(document) = RawDocument::from_bytes(document) {
                    self.document(name, document, &mut sources);
                }
            }
        }
        sources.finish(self);
        Ok(())
    }

    fn document(&mut self, collection: &str, document: &RawDocument, sources: &mut Joined) {
        let is_deleted = document.get_datetime("deletedAt").is_ok();
        if is_deleted {
            return;
        }
        let name = document.get_str("name").unwrap_or_default();
        let has_login = document
            .get_document("datasourceConfiguration")
            .is_ok_and(|settings| settings.get_document("authentication").is_ok());
        match collection {
            "workspace" => self.add(WORKSPACES, name),
            "permissionGroup" => self.add(GROUPS, name),
            "datasource" => {
                let Ok(id) = document.get_object_id("_id") else { return };
                let id = id.to_hex();
                sources.name(id.as_bytes(), name);
                // Before there were environments, it stood here.
                if has_login {
                    sources.need(id.as_bytes());
                }
            }
            _ => {
                if let (Ok(id), true) = (document.get_str("datasourceId"), has_login) {
                    sources.need(id.as_bytes());
                }
            }
        }
    }
}

/// What a component's own part of the manifest says.
fn details<T: serde::de::DeserializeOwned>(manifest: &Manifest, kind: &str) -> Option<T> {
    let component = manifest.components.iter().find(|component| component.kind == kind)?;
    serde_json::from_value(component.details.clone()).ok()
}

/// Data sources, and which of them need credentials: the two come from different places, in any order.
#[derive(Default)]
struct Joined {
    names: BTreeMap<Vec<u8>, String>,
    needing: BTreeSet<Vec<u8>>,
}

impl Joined {
    /// Nobody has more data sources; whoever wrote the snapshot may not decide what memory this takes.
    const MOST: usize = 20_000;
    const MOST_ID: usize = 64;

    fn name(&mut self, id: &[u8], name: &str) {
        if self.names.len() < Self::MOST && id.len() <= Self::MOST_ID {
            self.names.insert(id.to_vec(), name.chars().take(MOST_NAME).collect());
        }
    }

    fn need(&mut self, id: &[u8]) {
        if self.needing.len() < Self::MOST && id.len() <= Self::MOST_ID {
            self.needing.insert(id.to_vec());
        }
    }

    fn finish(self, told: &mut Told) {
        for id in self.needing {
            if let Some(name) = self.names.get(&id) {
                told.add(CREDENTIALS, name);
            }
        }
    }
}

/// The rows of `ToolJet`'s tables on their way.
#[derive(Default)]
struct TooljetRows(Joined);

/// Tables and their columns, and what kind the last column names. Of tables that a release does not have, or has with other
/// columns, nothing comes.
const TOOLJET_TABLES: [(&str, &[&str], Option<usize>); 7] = [
    ("data_sources", &["id", "name"], None),
    ("data_source_options", &["data_source_id", "options"], None),
    ("organization_constants", &["constant_name"], Some(CONSTANTS)),
    // Before constants had a table of their own.
    ("org_environment_constant_values", &["name"], Some(CONSTANTS)),
    ("organizations", &["name"], Some(WORKSPACES)),
    ("permission_groups", &["name"], Some(GROUPS)),
    // Its name until 3.0.
    ("group_permissions", &["group"], Some(GROUPS)),
];

fn tooljet_tables() -> Vec<Wanted> {
    let wanted = |(table, columns, _): &(&str, &[&str], _)| Wanted {
        schema: "public".into(),
        table: (*table).into(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
    };
    TOOLJET_TABLES.iter().map(wanted).collect()
}

impl TooljetRows {
    fn see(&mut self, row: &TapRow<'_>, told: &mut Told) {
        let (table, _, kind) = TOOLJET_TABLES[row.wanted];
        match (row.values, kind) {
            ([Some(name)], Some(kind)) => told.add(kind, &String::from_utf8_lossy(name)),
            ([Some(id), Some(name)], None) if table == "data_sources" => {
                self.0.name(id, &String::from_utf8_lossy(name));
            }
            // Its options say of each secret where its ciphertext stands; nothing else of them is looked at.
            ([Some(id), Some(options)], None)
                if table == "data_source_options"
                    && memmem::find(options, b"\"credential_id\"").is_some() =>
            {
                self.0.need(id);
            }
            _ => {}
        }
    }

    fn finish(self, told: &mut Told) {
        self.0.finish(told);
    }
}

/// A snapshot that is read.
struct Source<'a> {
    reader: &'a Reader,
    snapshot: &'a Snapshot,
    cancel: &'a Cancel,
}

impl Source<'_> {
    /// The content of a file, by its path.
    fn open(&self, path: &str) -> Result<Watched<'_>, OpsError> {
        let mut tree = self.snapshot.file.tree;
        let mut found = None;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let nodes = self.reader.tree(tree)?;
            let node = nodes.into_iter().find(|node| node.node.name == part.as_bytes());
            let node = node.ok_or_else(|| self.damaged(path, "it is not there"))?;
            tree = node.subtree.unwrap_or(tree);
            found = Some(node);
        }
        let node = found.ok_or_else(|| self.damaged(path, "it has no name"))?;
        Ok(Watched { content: self.reader.stream(&node), cancel: self.cancel })
    }

    fn damaged(&self, path: &str, reason: &str) -> OpsError {
        if let Err(cancelled) = self.cancel.check() {
            return RepositoryError::Cancelled(cancelled).into();
        }
        OpsError::WrongFile {
            object: format!("{path} of snapshot {}", self.snapshot.id.short()),
            reason: reason.to_owned(),
        }
    }
}

/// Content that ends with an error once somebody asked to stop.
struct Watched<'a> {
    content: ContentStream<'a>,
    cancel: &'a Cancel,
}

impl Read for Watched<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        self.content.read(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_counted_and_bounded_and_no_value_is_kept() {
        let mut told = Told::default();
        let mut rows = TooljetRows::default();
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let mut see = |wanted: usize, values: &[Option<Vec<u8>>]| {
            rows.see(&TapRow { wanted, values }, &mut told);
        };
        // The options come before the names, as they do in a dump.
        see(1, &[text("1"), text(r#"{"password": {"credential_id": "7", "encrypted": true}}"#)]);
        see(1, &[text("2"), text(r#"{"host": {"value": "secret-host"}}"#)]);
        see(0, &[text("1"), text("orders")]);
        see(0, &[text("2"), text("open")]);
        for number in 0..1_500 {
            see(2, &[text(&format!("CONST_{number}"))]);
        }
        see(5, &[text(&"x".repeat(1_000))]);
        see(5, &[None]);
        rows.finish(&mut told);
        let kinds = told.kinds();
        let of = |kind: &str| kinds.iter().find(|it| it.kind == kind).unwrap();
        assert_eq!(
            (of("credentials").count, of("credentials").names.clone()),
            (1, vec!["orders".into()])
        );
        assert_eq!((of("constants").count, of("constants").names.len()), (1_500, MOST_NAMES));
        assert_eq!(of("groups").names, ["x".repeat(MOST_NAME)]);
        assert!(!serde_json::to_string(&kinds).unwrap().contains("secret-host"));
    }

    #[test]
    fn the_advice_is_tooljets_and_depends_on_the_environment() {
        assert_eq!(advice(Platform::Appsmith, true), None);
        assert!(advice(Platform::Tooljet, true).unwrap().contains("off when"));
        assert!(advice(Platform::Tooljet, false).unwrap().contains("on when"));
    }
}
