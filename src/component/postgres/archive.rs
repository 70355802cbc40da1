//! Reads an archive of `pg_dump -Fc -Z0` to its end while it streams by, and says what it holds or where it is damaged.
//!
//! The format has no sum over its content, so everything that can be checked is: the header, each entry of the table
//! of contents, each block of data, that every entry's data came once, that a table's data ends with COPY's end mark,
//! and that nothing follows. Memory is bounded whatever the archive says: nothing is allocated from a length alone,
//! and of the data only one row of a tapped table is held at a time.
//!
//! Source of the format: `pg_backup_archiver.c` and `pg_backup_custom.c` of PostgreSQL.

mod contents;
mod copy;
mod error;
mod outline;
mod source;

pub use error::{ArchiveError, Place};
pub use outline::Outline;

use contents::{Contents, DataEntry, DataKind};
use copy::{CopyData, Tapped};
use serde::{Deserialize, Serialize};
use source::{Fault, Source};
use std::collections::HashMap;
use std::io::Read;
use std::sync::Arc;

/// The oldest and the newest version of the format that is known: 1.12 is PostgreSQL 9's, 1.16 is 17's and 18's.
pub const KNOWN_VERSIONS: ((u8, u8), (u8, u8)) = ((1, 12), (1, 16));
/// A longer row of a tapped table is not shown, and counted.
pub const MAX_TAPPED_ROW_BYTES: usize = 16 * 1024 * 1024;

const BLOCK_OF_TABLE: u8 = 1;
const BLOCK_OF_LARGE_OBJECTS: u8 = 3;

/// Columns of a table whose rows the caller wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The table's schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The columns, in the order in which their values are to come.
    pub columns: Vec<String>,
}

/// The wanted values of one row.
#[derive(Debug)]
pub struct TapRow<'a> {
    /// Which [`Wanted`], by its place in the list.
    pub wanted: usize,
    /// The values, one for each wanted column; `None` is NULL.
    pub values: &'a [Option<Vec<u8>>],
}

/// A wanted table, or column of it, that the archive does not have; there were no rows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which [`Wanted`], by its place in the list.
    pub wanted: usize,
    /// The column; `None` when the whole table is missing.
    pub column: Option<String>,
}

/// An entry of the table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TocEntry {
    /// What it is: `TABLE`, `TABLE DATA`, `ACL`.
    pub kind: Arc<str>,
    /// The schema that it lies in; empty where it lies in none.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Box<str>,
    /// The role that owns it; empty where nobody does.
    pub owner: Arc<str>,
}

/// The data of one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableData {
    /// The number of the table in the database that was dumped.
    pub oid: u32,
    /// The table's schema.
    pub schema: Arc<str>,
    /// Its name.
    pub table: Box<str>,
    /// Rows, counted as COPY lines.
    pub rows: u64,
    /// Bytes of COPY text, with the end mark.
    pub size_bytes: u64,
}

/// A block of data: the number of its entry, and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block(pub i64, pub u64);

/// What a whole archive holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSummary {
    /// The name of the database that was dumped.
    pub database: String,
    /// The server's version, as it says it.
    pub server_version: String,
    /// The version of the `pg_dump` that wrote the archive.
    pub pg_dump_version: String,
    /// The version of the format.
    pub archive_version: (u8, u8),
    /// The table of contents in its order, without the entries of single large objects, which may be millions.
    pub entries: Vec<TocEntry>,
    /// The tables with data, in the order of the table of contents.
    pub tables: Vec<TableData>,
    /// The blocks of data, in their order; they end the archive.
    pub blocks: Vec<Block>,
    /// Large objects with their content.
    pub large_objects: u64,
    /// Bytes of content of all large objects.
    pub large_object_bytes: u64,
    /// What was wanted and is not there.
    pub missing: Vec<Missing>,
    /// Rows of tapped tables that were not shown, because they are longer than [`MAX_TAPPED_ROW_BYTES`].
    pub oversized_rows: u64,
    /// The archive's size.
    pub size_bytes: u64,
}

/// Read an archive to its end. `tap` is given each row of the wanted tables, as it comes by; what it was given counts
/// only when the whole archive is good.
pub fn read_archive<R: Read>(
    input: R,
    wanted: &[Wanted],
    tap: &mut dyn FnMut(&TapRow<'_>),
) -> Result<ArchiveSummary, ArchiveError> {
    let mut source = Source::new(input);
    let Contents { mut summary, mut data } = Contents::read(&mut source, drop)?;
    let mut blocks = Blocks { source, wanted, tap, summary: &mut summary };
    let mut left = data.len();
    loop {
        let start = blocks.source.position();
        let between = |fault: Fault| fault.at(Place::Blocks);
        let Some(kind) = blocks.source.byte_or_end().map_err(between)? else { break };
        if left == 0 {
            return Err(ArchiveError::Trailing { position: start });
        }
        let id = blocks.source.int().map_err(between)?;
        let Some(entry) = data.get_mut(&id) else {
            let reason = format!("a block belongs to entry {id}, which has no data");
            return Err(between(Fault::Damaged(reason)));
        };
        let place = entry.place(blocks.summary);
        check_block(entry, kind, start).map_err(|fault| fault.at(place.clone()))?;
        blocks.read(entry).map_err(|fault| fault.at(place))?;
        blocks.summary.blocks.push(Block(id, blocks.source.position() - start));
        entry.seen = true;
        left -= 1;
    }
    let size_bytes = blocks.source.position();
    let unseen = data.values().filter(|entry| !entry.seen);
    if let Some(first) = unseen.min_by_key(|entry| entry.order) {
        let first = first.place(&summary);
        return Err(ArchiveError::DataMissing { first, others: left - 1 });
    }
    let missing = missing(wanted, &summary, data.values());
    Ok(ArchiveSummary { missing, size_bytes, ..summary })
}

/// Whether a block that begins at `start` can be an entry's data.
fn check_block(entry: &DataEntry, kind: u8, start: u64) -> Result<(), Fault> {
    let expected = match entry.kind {
        DataKind::Table { .. } => BLOCK_OF_TABLE,
        DataKind::LargeObjects => BLOCK_OF_LARGE_OBJECTS,
    };
    if entry.seen {
        return Err(Fault::Damaged("it comes twice".to_owned()));
    }
    if kind != expected {
        return Err(Fault::Damaged(format!("its block is of kind {kind}, not {expected}")));
    }
    // Written only where `pg_dump` could go back in its output; `pg_restore` reads from there.
    if entry.offset.is_some_and(|offset| offset != start) {
        return Err(Fault::Damaged("it is not where the table of contents says".to_owned()));
    }
    Ok(())
}

/// The blocks of data that follow the table of contents.
struct Blocks<'a, R> {
    source: Source<R>,
    wanted: &'a [Wanted],
    tap: &'a mut dyn FnMut(&TapRow<'_>),
    summary: &'a mut ArchiveSummary,
}

impl<R: Read> Blocks<'_, R> {
    fn read(&mut self, entry: &DataEntry) -> Result<(), Fault> {
        match &entry.kind {
            DataKind::Table { index, columns } => self.table(*index, columns),
            DataKind::LargeObjects => self.large_objects(),
        }
    }

    fn table(&mut self, index: usize, columns: &[String]) -> Result<(), Fault> {
        let table = &mut self.summary.tables[index];
        let tapped = Tapped::new(self.wanted, table, columns, self.tap);
        let mut copy = CopyData::new(tapped);
        table.size_bytes = self.source.chunks(|part| copy.feed(part))?;
        (table.rows, self.summary.oversized_rows) = {
            let (rows, oversized) = copy.finish()?;
            (rows, self.summary.oversized_rows + oversized)
        };
        Ok(())
    }

    fn large_objects(&mut self) -> Result<(), Fault> {
        // Ids above 2^31 are written as negative numbers; 0 ends the list.
        while self.source.int()? != 0 {
            self.summary.large_objects += 1;
            self.summary.large_object_bytes += self.source.chunks(|_| Ok(()))?;
        }
        Ok(())
    }
}

/// What was wanted and is not in the archive.
fn missing<'a>(
    wanted: &[Wanted],
    summary: &ArchiveSummary,
    data: impl Iterator<Item = &'a DataEntry>,
) -> Vec<Missing> {
    let mut columns_of: HashMap<(&str, &str), &[String]> = HashMap::new();
    for entry in data {
        if let DataKind::Table { index, columns } = &entry.kind {
            let table = &summary.tables[*index];
            columns_of.insert((&table.schema, &table.table), columns);
        }
    }
    let mut missing = Vec::new();
    for (index, want) in wanted.iter().enumerate() {
        match columns_of.get(&(want.schema.as_str(), want.table.as_str())) {
            None => missing.push(Missing { wanted: index, column: None }),
            Some(columns) => {
                let absent = want.columns.iter().filter(|column| !columns.contains(column));
                missing.extend(
                    absent.map(|column| Missing { wanted: index, column: Some(column.clone()) }),
                );
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests;
