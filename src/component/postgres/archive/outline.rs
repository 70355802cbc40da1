//! An archive's beginning, and smaller archives of some of its entries: so that several `pg_restore` put back one archive at once,
//! each out of a stream of its own.
//!
//! What comes when is PostgreSQL's own order (`RestorePass` of `pg_backup_archiver.h`): definitions, data, indexes and constraints, and
//! only then privileges: what was revoked from an owner would keep him from filling his table. Of what comes after the data only what
//! locks a single table may be made by several connections at once: with an archive of all entries `pg_restore` tells which may not
//! (`identify_locking_dependencies` of `pg_backup_archiver.c`), and with one that has no tables it cannot.

use super::contents::{Contents, Passed};
use super::error::ArchiveError;
use super::source::{INT_BYTES, Source};
use std::collections::HashSet;
use std::io::Read;
use std::ops::Range;

/// What each session has to be told first.
const OF_ALL: [&str; 3] = ["ENCODING", "STDSTRINGS", "SEARCHPATH"];
/// Each locks one table, and may take long.
const OF_ONE_TABLE: [&str; 2] = ["INDEX", "CONSTRAINT"];
/// From PostgreSQL 17 on single large objects are made by these, which stand among the data.
const LARGE_OBJECTS: &str = "BLOB METADATA";
const TABLE_DATA: &str = "TABLE DATA";
/// These come last, wherever they stand.
const PRIVILEGES: [&str; 3] = ["ACL", "ACL LANGUAGE", "DEFAULT ACL"];

/// When an entry is put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// In every session.
    Always,
    Before,
    Data,
    /// Over several connections.
    After,
    /// Over one, which has `pg_restore` take it in its own order.
    Last,
}

/// The table of contents of an archive, as it was written.
pub struct Outline {
    /// Header and table of contents.
    bytes: Vec<u8>,
    /// Where the header ends, before the number of entries.
    head: usize,
    entries: Vec<(i64, Stage, Range<usize>)>,
    /// Data of tables that an extension has made, whose constraints are there already.
    of_extensions: HashSet<i64>,
}

impl Outline {
    /// Of an archive up to its data, which `input` ends with.
    pub fn read<R: Read>(input: R) -> Result<Self, ArchiveError> {
        let mut source = Source::keeping(input);
        let mut entries = Vec::new();
        let mut now = Stage::Before;
        let (mut defined, mut last, mut of_extensions) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        Contents::read(&mut source, |Passed { id, kind, section, needs, bytes }| {
            let kind = &*kind;
            now = match section {
                2 => Stage::Before,
                3 if kind == LARGE_OBJECTS => Stage::Before,
                3 => Stage::Data,
                4 if OF_ONE_TABLE.contains(&kind) && needs.iter().all(|id| !last.contains(id)) => {
                    Stage::After
                }
                4 => Stage::Last,
                _ => now,
            };
            let stage = match now {
                _ if OF_ALL.contains(&kind) => Stage::Always,
                _ if PRIVILEGES.contains(&kind) => Stage::Last,
                // It belongs to what stands before it, which another session fills.
                Stage::Data if section == 1 => Stage::After,
                now => now,
            };
            match stage {
                Stage::Before => _ = defined.insert(id),
                Stage::Last => _ = last.insert(id),
                // What an extension makes is not in the archive.
                Stage::Data
                    if kind == TABLE_DATA && !needs.iter().any(|id| defined.contains(id)) =>
                {
                    of_extensions.insert(id);
                }
                _ => {}
            }
            entries.push((id, stage, bytes.start as usize..bytes.end as usize));
        })?;
        let bytes = source.into_kept();
        let first = entries.first().map_or(bytes.len(), |(_, _, bytes)| bytes.start);
        Ok(Self { head: first - INT_BYTES, bytes, entries, of_extensions })
    }

    /// An archive of the definitions that data need.
    pub fn before(&self) -> Vec<u8> {
        self.only(|_, stage| stage == Stage::Before)
    }

    /// Entries of data that are filled in the order of the archive: they refer to each other, and are checked at once.
    pub fn in_order(&self) -> &HashSet<i64> {
        &self.of_extensions
    }

    /// An archive of what follows the data, and that several connections may make at once; none where there is nothing.
    pub fn after(&self) -> Option<Vec<u8>> {
        self.all_of(Stage::After)
    }

    /// An archive of what comes last, by one connection; none where there is nothing.
    pub fn last(&self) -> Option<Vec<u8>> {
        self.all_of(Stage::Last)
    }

    fn all_of(&self, wanted: Stage) -> Option<Vec<u8>> {
        let has_any = self.entries.iter().any(|(_, stage, _)| *stage == wanted);
        has_any.then(|| self.only(|_, stage| stage == wanted))
    }

    /// The beginnings of archives of data: each has its own entries of these, whose blocks follow in the order of the archive. The first one
    /// has what is in none, too: where sequences are.
    pub fn shares(&self, shares: &[&HashSet<i64>]) -> Vec<Vec<u8>> {
        let in_any = |id| shares.iter().any(|share| share.contains(&id));
        let of = |(index, share): (usize, &&HashSet<i64>)| {
            self.only(|id, stage| {
                stage == Stage::Data && (share.contains(&id) || index == 0 && !in_any(id))
            })
        };
        shares.iter().enumerate().map(of).collect()
    }

    fn only(&self, is_wanted: impl Fn(i64, Stage) -> bool) -> Vec<u8> {
        let wanted = |stage, id| stage == Stage::Always || is_wanted(id, stage);
        let chosen = || self.entries.iter().filter(|(id, stage, _)| wanted(*stage, *id));
        let mut archive = self.bytes[..self.head].to_vec();
        // There are no more than there were.
        let count = u32::try_from(chosen().count()).unwrap_or(u32::MAX);
        archive.push(0);
        archive.extend(count.to_le_bytes());
        for (_, _, bytes) in chosen() {
            archive.extend_from_slice(&self.bytes[bytes.clone()]);
        }
        archive
    }
}
