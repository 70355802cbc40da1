//! What `mongodump --archive` wrote, on its way into a snapshot: taken apart while it comes, one database of it stored.

use super::Component;
use super::part::Part;
use crate::component::mongodb::archive::{
    ArchiveError, Contents, Kind, Namespace, Prelude, Sink, split,
};
use crate::component::mongodb::wire::restore::is_ours;
use crate::component::mongodb::{MongodbDetails, names};
use crate::model::node::display_path;
use crate::repository::RepositoryError;
use crate::repository::writer::FileStream;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};

/// Databases of the server's own.
const SYSTEM: [&str; 3] = ["admin", "config", "local"];

/// Who looks at documents: the collection's name, and the document's bytes.
pub(super) type See<'a> = &'a dyn Fn(&str, &[u8]);

/// How an archive is taken.
pub(super) struct Taking<'a> {
    /// The database's name; none where the archive says which it is.
    pub(super) database: Option<&'a str>,
    /// Why what is in it is not of one moment.
    pub(super) not_one_moment: &'a str,
    /// Who looks at each document that is taken.
    pub(super) see: See<'a>,
}

/// Why it was not taken.
#[derive(Debug)]
pub(super) enum Untaken {
    Archive(ArchiveError),
    /// It does not hold the database, or nobody knows which is meant.
    Database(String),
    Repository(RepositoryError),
}

/// A database that was taken out of an archive.
pub(super) struct Taken {
    pub(super) database: String,
    pub(super) details: MongodbDetails,
    pub(super) counts: BTreeMap<String, u64>,
    /// What else the archive holds, and is in no snapshot.
    pub(super) left_out: Vec<String>,
}

/// Read an archive to its end without storing anything of it.
pub(super) fn survey(archive: impl Read, database: Option<&str>) -> Result<Taken, Untaken> {
    let taking = Taking { database, not_one_moment: "", see: &|_, _| () };
    take_into(archive, &taking, None)
}

/// Read an archive to its end into a part.
pub(super) fn take(
    archive: impl Read,
    taking: &Taking<'_>,
    mut part: Part<'_>,
    source: String,
) -> Result<(Component, Taken), Untaken> {
    let taken = take_into(archive, taking, Some(&mut part))?;
    let details = serde_json::to_value(&taken.details).expect("names and numbers become JSON");
    let counts = taken.counts.clone();
    let component = part.finish(source, counts, details).map_err(Untaken::Repository)?;
    Ok((component, taken))
}

fn take_into(
    archive: impl Read,
    taking: &Taking<'_>,
    part: Option<&mut Part<'_>>,
) -> Result<Taken, Untaken> {
    let mut sink = DatabaseSink { taking, part, database: Err(String::new()), problem: None };
    let read = split(archive, &mut sink);
    if let Some(problem) = sink.problem {
        return Err(Untaken::Database(problem));
    }
    let summary = read.map_err(|error| match error {
        ArchiveError::Sink { source, namespace } => match source.downcast::<RepositoryError>() {
            Ok(error) => Untaken::Repository(error),
            Err(source) => Untaken::Archive(ArchiveError::Sink { source, namespace }),
        },
        other => Untaken::Archive(other),
    })?;
    let database = sink.database.expect("it was chosen when the prelude was read");
    let prelude = summary.prelude.versions().to_json();
    if let Some(part) = sink.part {
        let stored = part.add(&names::prelude_path(&database), prelude.as_bytes());
        stored.map_err(Untaken::Repository)?;
    }
    let is_ours = |namespace: &Namespace| is_taken(namespace, &database);
    let all = summary.prelude.namespaces().iter();
    let left_out = all.clone().filter(|namespace| !is_ours(namespace));
    let left_out = left_out.map(ToString::to_string).collect();
    let ours = all.zip(&summary.contents).filter(|(namespace, _)| is_ours(namespace));
    let documents = ours.clone().map(|(_, contents)| contents.documents).sum();
    let collections = ours.clone().count() as u64;
    let counts = [("collections", collections), ("documents", documents)];
    let counts = counts.map(|(what, count)| (what.to_owned(), count)).into();
    let server = &summary.prelude.versions().server;
    let ours = ours.map(|(namespace, contents)| (namespace, contents.documents));
    let details = MongodbDetails::of_archive(server, &database, taking.not_one_moment, ours);
    Ok(Taken { database, details, counts, left_out })
}

/// The collections and views of the database, without its users and roles, and without what restores have made or set aside.
fn is_taken(namespace: &Namespace, database: &str) -> bool {
    namespace.database() == database
        && matches!(namespace.kind(), Kind::Collection | Kind::View)
        && !is_ours(namespace.collection())
}

/// Stores what is of the database; all else is only looked through.
struct DatabaseSink<'a, 'w> {
    taking: &'a Taking<'a>,
    part: Option<&'a mut Part<'w>>,
    database: Result<String, String>,
    problem: Option<String>,
}

/// The documents of a collection on their way.
struct Documents<'a> {
    file: Option<FileStream>,
    seen: Option<(See<'a>, String)>,
}

impl Write for Documents<'_> {
    fn write(&mut self, document: &[u8]) -> io::Result<usize> {
        if let Some((see, collection)) = &self.seen {
            see(collection, document);
        }
        if let Some(file) = &mut self.file {
            file.append(document).map_err(io::Error::other)?;
        }
        Ok(document.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DatabaseSink<'_, '_> {
    fn is_taken(&self, namespace: &Namespace) -> bool {
        self.database.as_deref().is_ok_and(|database| is_taken(namespace, database))
    }
}

impl<'a> Sink for DatabaseSink<'a, '_> {
    type Output = Documents<'a>;

    fn begin(&mut self, prelude: &Prelude) -> io::Result<()> {
        self.database = choose(prelude, self.taking.database);
        if let Err(problem) = &self.database {
            self.problem = Some(problem.clone());
            return Err(io::Error::other(problem.clone()));
        }
        Ok(())
    }

    fn open(&mut self, namespace: &Namespace) -> io::Result<Documents<'a>> {
        if !self.is_taken(namespace) {
            return Ok(Documents { file: None, seen: None });
        }
        let file = self.part.as_ref().map(|part| part.stream());
        let seen = Some((self.taking.see, namespace.collection().to_owned()));
        Ok(Documents { file, seen })
    }

    fn end(
        &mut self,
        namespace: &Namespace,
        _: Contents,
        output: Option<Documents<'a>>,
    ) -> io::Result<()> {
        if !self.is_taken(namespace) {
            return Ok(());
        }
        let Some(part) = &mut self.part else { return Ok(()) };
        let file = output.and_then(|documents| documents.file);
        if let (Some(path), Some(file)) = (namespace.documents_path(), file) {
            part.add_stream(&path, file).map_err(io::Error::other)?;
        }
        if let Some(path) = namespace.metadata_path() {
            part.add(&path, namespace.metadata().as_bytes()).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// The database that is meant, or why that is not known.
fn choose(prelude: &Prelude, wanted: Option<&str>) -> Result<String, String> {
    let all = prelude.namespaces().iter().map(Namespace::database);
    let all: BTreeSet<&str> = all.filter(|name| !name.is_empty()).collect();
    let list = |names: &mut dyn Iterator<Item = &&str>| {
        let names: Vec<String> = names.map(|name| display_path(name.as_bytes())).collect();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        if all.contains(wanted) {
            return Ok(wanted.to_owned());
        }
        let there = if all.is_empty() { "nothing".into() } else { list(&mut all.iter()) };
        return Err(format!("it has no collection of the database '{wanted}'; it holds {there}"));
    }
    let mut users = all.iter().filter(|name| !SYSTEM.contains(name));
    match (users.next(), users.next()) {
        (Some(only), None) => Ok((*only).to_owned()),
        (None, _) => Err("it has no collection of any database".into()),
        (Some(_), Some(_)) => Err(format!(
            "it holds several databases, and nothing says which is meant: {}",
            list(&mut all.iter().filter(|name| !SYSTEM.contains(name)))
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::mongodb::archive::{Encoder, Versions};

    #[test]
    fn what_restores_leave_is_in_no_snapshot() {
        let metadata = r#"{"indexes":[]}"#;
        let namespace = |name: &str| {
            Namespace::new("d".into(), name.into(), "collection", metadata.into()).unwrap()
        };
        let versions =
            Versions { server: "6.0.5".into(), tool: "1".into(), concurrent_collections: 1 };
        let all = ["a", "belay_new_1_0", "belay_old_1_0"].map(namespace);
        let prelude = Prelude::new(versions, all.into()).unwrap();
        let mut encoder = Encoder::new(Vec::new(), &prelude).unwrap();
        while encoder.next_namespace().is_some() {
            encoder.write(io::empty()).unwrap();
        }
        let taken = survey(&encoder.finish().unwrap()[..], Some("d")).unwrap();
        let names = taken.details.collections.iter().map(|each| each.name.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["a"]);
        assert_eq!(taken.left_out, ["d.belay_new_1_0", "d.belay_old_1_0"]);
    }
}
