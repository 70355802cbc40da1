//! The new state of databases, made and compared beside the present one: nothing that serves is touched.

use super::super::Source;
use super::super::stored::{component, file};
use crate::access::Access;
use crate::component::environment::Merged;
use crate::component::postgres::restore::{
    Expected, PlannedDatabase, Restore, RoleWork, StoredArchive,
};
use crate::component::postgres::{DatabaseDetails, PostgresError};
use crate::model::event::{Event, Events};
use crate::model::id::BlobId;
use crate::model::name::Name;
use crate::ops::backup::progress_of;
use crate::ops::turn::{First, Turn};
use crate::ops::{Context, OpsError};
use crate::repository::reader::Reader;
use std::io::{self, Read};
use std::ops::Range;
use std::thread::Scope;

/// A smaller archive is restored by one connection: several would not gain what they cost.
const LEAST_DIVIDED: u64 = 32 * 1024 * 1024;

/// What is made, and of what.
pub(super) struct Making<'a> {
    pub(super) instance: &'a Name,
    pub(super) source: &'a Source,
    pub(super) databases: &'a [PlannedDatabase],
    /// What the snapshot says of each.
    pub(super) details: &'a [DatabaseDetails],
    pub(super) roles: &'a RoleWork,
    /// The new environment file, where it differs from the present one.
    pub(super) environment: Option<&'a (String, Merged)>,
    /// Where that is.
    pub(super) place: Access,
}

impl Making<'_> {
    fn failed(&self, source: PostgresError) -> OpsError {
        OpsError::Postgres { instance: self.instance.to_string(), source }
    }

    /// Make it. Each share of a large database that is filled takes a place in the turn.
    pub(super) fn make(
        &self,
        restore: &Restore<'_>,
        turn: Option<&Turn>,
        context: &Context,
    ) -> Result<(), OpsError> {
        restore.create(self.roles).map_err(|error| self.failed(error))?;
        for (planned, details) in self.databases.iter().zip(self.details) {
            let name = &planned.facts.name;
            context.events.phase("restoring", format!("database {name}"));
            let archive = file(self.source, &details.dump)?;
            let mut progress = progress_of(&context.events);
            let warnings = std::thread::scope(|scope| {
                let (reader, blobs) = (&self.source.reader, &archive.content[..]);
                let stored = Stored { reader, blobs, turn, scope };
                let size = self.size_of(&details.dump).filter(|size| *size >= LEAST_DIVIDED);
                let blocks = size.map(|size| (size, &details.archive.blocks[..]));
                restore.fill(planned, &stored, blocks, &mut |bytes| progress(bytes, 0))
            });
            let warnings = warnings.map_err(|error| self.failed(error))?;
            for warning in warnings {
                context.events.warn(format!("{name}: {warning}"));
            }
            context.events.phase("verifying", format!("database {name}"));
            let expected = Expected {
                rows: &details.rows,
                large_objects: details.large_objects,
                extensions: &details.archive.extensions,
            };
            let differences =
                restore.verify(planned, &expected).map_err(|error| self.failed(error))?;
            if let Some(first) = differences.first() {
                return Err(OpsError::refused(
                    format!(
                        "database {name} did not come back as it was ({} differences): {first}",
                        differences.len()
                    ),
                    "the present state is unchanged; run `belay check --read-data`, and look at the server's log",
                ));
            }
            restore.settle(planned).map_err(|error| self.failed(error))?;
        }
        if let Some((path, merged)) = self.environment {
            self.place.stage_file(path, &merged.content)?;
        }
        Ok(())
    }

    /// How large an archive is, as the manifest says.
    fn size_of(&self, dump: &str) -> Option<u64> {
        let postgres = component(self.source.manifest.as_ref()?, "postgres")?;
        let file = postgres.files.iter().find(|file| file.path == dump)?;
        Some(file.size_bytes)
    }
}

/// A file of the snapshot that is read ahead.
struct Stored<'scope, 'env> {
    reader: &'scope Reader,
    blobs: &'scope [BlobId],
    turn: Option<&'scope Turn>,
    scope: &'scope Scope<'scope, 'env>,
}

impl StoredArchive for Stored<'_, '_> {
    fn whole(&self) -> Box<dyn Read + Send> {
        Box::new(self.reader.stream_ahead(self.blobs, self.scope))
    }

    fn ranges(&self, ranges: &[Range<u64>]) -> io::Result<Box<dyn Read + Send>> {
        let stream = self.reader.ranges_ahead(self.blobs, ranges, self.scope);
        let stream = stream.map_err(io::Error::other)?;
        Ok(Box::new(OfShare { stream, _first: self.turn.map(Turn::go_first) }))
    }
}

/// A share of the data: it goes first until its tables are filled, which is as long as it is kept. What follows the data leaves processors
/// idle.
struct OfShare<R> {
    stream: R,
    _first: Option<First>,
}

impl<R: Read> Read for OfShare<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

/// For what goes on beside something else that tells how far it is: only what a person should know is told.
pub(super) fn quiet(context: &Context) -> Context {
    let events = context.events.clone();
    context.with_events(Events::new(move |event| {
        if let Event::Warning { .. } | Event::Note { .. } = event {
            events.send(event);
        }
    }))
}
