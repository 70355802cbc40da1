//! The header and the table of contents.
//!
//! Definitions are passed over, not kept: of an entry only its names stay, and names that repeat are kept once.

use super::error::{ArchiveError, Place};
use super::source::{Fault, Source};
use super::{ArchiveSummary, KNOWN_VERSIONS, TableData, TocEntry, copy};
use crate::model::node::display_path;
use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

const MAGIC: &[u8] = b"PGDMP";
const CUSTOM_FORMAT: u8 = 1;
const SHOWN_CHARACTERS: usize = 200;
/// The whole table of contents; a database with a hundred thousand tables has less.
const MAX_CONTENTS_BYTES: u64 = 512 * 1024 * 1024;
/// A text that is kept. The longest is a COPY statement with 1600 columns.
const MAX_KEPT_BYTES: u64 = 1024 * 1024;

/// What the archive announces, before its data.
pub(super) struct Contents {
    /// Without what only the data tells.
    pub(super) summary: ArchiveSummary,
    /// The entries that data has to follow for, by their number in the archive.
    pub(super) data: HashMap<i64, DataEntry>,
}

/// An entry with data.
pub(super) struct DataEntry {
    /// Its place in the table of contents.
    pub(super) order: u64,
    pub(super) kind: DataKind,
    /// Where its block begins, where that is told.
    pub(super) offset: Option<u64>,
    /// Whether its block came by.
    pub(super) seen: bool,
}

pub(super) enum DataKind {
    Table {
        /// Which of the summary's tables.
        index: usize,
        /// Its columns in the order of the data.
        columns: Vec<String>,
    },
    LargeObjects,
}

impl DataEntry {
    pub(super) fn place(&self, summary: &ArchiveSummary) -> Place {
        match self.kind {
            DataKind::Table { index, .. } => {
                let TableData { schema, table, .. } = &summary.tables[index];
                Place::TableData { schema: schema.to_string(), table: table.to_string() }
            }
            DataKind::LargeObjects => Place::LargeObjects,
        }
    }
}

/// An entry that came by.
pub(super) struct Passed {
    pub(super) id: i64,
    pub(super) kind: Arc<str>,
    /// 1: that of the entry before; 2: before the data, 3: data, 4: after them.
    pub(super) section: i64,
    /// The entries that it needs.
    pub(super) needs: Vec<i64>,
    /// Where it lies in the archive.
    pub(super) bytes: Range<u64>,
}

impl Contents {
    /// `see` is shown each entry.
    pub(super) fn read<R: Read>(
        source: &mut Source<R>,
        mut see: impl FnMut(Passed),
    ) -> Result<Self, ArchiveError> {
        let (summary, version) = read_header(source)?;
        let in_header = |fault: Fault| fault.at(Place::Header);
        let count = source.int().map_err(in_header)?;
        let count = u64::try_from(count).map_err(|_| {
            in_header(Fault::Damaged(format!("a table of contents cannot have {count} entries")))
        })?;
        let mut reading = Reading {
            end: source.position() + MAX_CONTENTS_BYTES,
            source,
            minor: version.1,
            names: HashSet::new(),
            contents: Self { summary, data: HashMap::new() },
        };
        for order in 0..count {
            let place = Place::Contents { entry: order + 1, of: count };
            see(reading.entry(order).map_err(|fault| fault.at(place))?);
        }
        Ok(reading.contents)
    }
}

fn read_header<R: Read>(
    source: &mut Source<R>,
) -> Result<(ArchiveSummary, (u8, u8)), ArchiveError> {
    let in_header = |fault: Fault| fault.at(Place::Header);
    let beginning = source.peek(4 * SHOWN_CHARACTERS).map_err(in_header)?;
    if beginning.is_empty() {
        return Err(ArchiveError::Empty);
    }
    if !beginning.starts_with(MAGIC) && !MAGIC.starts_with(beginning) {
        return Err(ArchiveError::NotAnArchive { beginning: first_line(beginning) });
    }
    source.bytes::<{ MAGIC.len() }>().map_err(in_header)?;
    let [major, minor, _revision] = source.bytes().map_err(in_header)?;
    let version = (major, minor);
    if !(KNOWN_VERSIONS.0..=KNOWN_VERSIONS.1).contains(&version) {
        return Err(ArchiveError::UnknownVersion(version));
    }
    let [integer, offset, format] = source.bytes().map_err(in_header)?;
    if (integer, offset) != (4, 8) {
        return Err(ArchiveError::UnknownSizes { integer, offset });
    }
    if format != CUSTOM_FORMAT {
        return Err(ArchiveError::WrongFormat { format: format_name(format) });
    }
    if let Some(method) = read_compression(source, minor).map_err(in_header)? {
        return Err(ArchiveError::Compressed { method });
    }
    // Second, minute, hour, day, month, year, summer time: when it was made.
    for _ in 0..7 {
        source.int().map_err(in_header)?;
    }
    let mut text = || source.string(MAX_KEPT_BYTES).map_err(in_header);
    let summary = ArchiveSummary {
        database: text()?,
        server_version: text()?,
        pg_dump_version: text()?,
        archive_version: version,
        entries: Vec::new(),
        tables: Vec::new(),
        blocks: Vec::new(),
        large_objects: 0,
        large_object_bytes: 0,
        missing: Vec::new(),
        oversized_rows: 0,
        size_bytes: 0,
    };
    Ok((summary, version))
}

/// The first line of what is no archive, for people.
fn first_line(beginning: &[u8]) -> String {
    let line = beginning.split(|byte| *byte == b'\n').next().unwrap_or_default();
    display_path(line).chars().take(SHOWN_CHARACTERS).collect()
}

fn format_name(format: u8) -> &'static str {
    match format {
        3 => "tar",
        4 => "plain",
        5 => "directory",
        _ => "unknown",
    }
}

/// How the data is compressed: an algorithm since 1.15, a level of gzip before.
fn read_compression<R: Read>(source: &mut Source<R>, minor: u8) -> Result<Option<String>, Fault> {
    if minor < 15 {
        let level = source.int()?;
        return Ok((level != 0).then(|| format!("gzip, level {level}")));
    }
    Ok(match source.byte()? {
        0 => None,
        1 => Some("gzip".to_owned()),
        2 => Some("lz4".to_owned()),
        3 => Some("zstd".to_owned()),
        other => Some(format!("algorithm {other}")),
    })
}

struct Reading<'a, R> {
    source: &'a mut Source<R>,
    /// Where the table of contents must have ended.
    end: u64,
    minor: u8,
    /// Names that were seen.
    names: HashSet<Arc<str>>,
    contents: Contents,
}

impl<R: Read> Reading<'_, R> {
    fn entry(&mut self, order: u64) -> Result<Passed, Fault> {
        let start = self.source.position();
        let id = self.source.int()?;
        if id <= 0 {
            return Err(Fault::Damaged(format!("{id} is no number of an entry")));
        }
        let has_data = self.one_of("whether it has data", 0, 1)? == 1;
        self.pass_text()?; // The catalog's table, and the object in it, as numbers.
        let oid = self.text()?;
        let name = self.text()?;
        let kind = self.name()?;
        let section = self.one_of("the section", 1, 4)?;
        self.pass_text()?; // Its definition, and how it is dropped.
        self.pass_text()?;
        let copy_statement = self.text()?;
        let schema = self.name()?;
        self.pass_text()?; // Its tablespace.
        if self.minor >= 14 {
            self.pass_text()?; // Its access method.
        }
        if self.minor >= 16 {
            self.source.int()?; // The kind of relation.
        }
        let owner = self.name()?;
        self.pass_text()?; // Whether it has OIDs.
        let mut needs = Vec::new();
        while let Some(need) = self.source.optional_string(self.room().min(MAX_KEPT_BYTES))? {
            needs.extend(need.parse::<i64>().ok());
        }
        let offset = self.offset(has_data)?;
        let bytes = start..self.source.position();
        let passed = Passed { id, kind: kind.clone(), section, needs, bytes };
        let entry = TocEntry { kind, schema, name: name.into(), owner };
        if has_data {
            self.add_data(id, order, offset, &entry, &copy_statement, &oid)?;
        }
        if &*entry.kind != "BLOB" {
            self.contents.summary.entries.push(entry);
        }
        Ok(passed)
    }

    fn add_data(
        &mut self,
        id: i64,
        order: u64,
        offset: Option<u64>,
        entry: &TocEntry,
        copy_statement: &str,
        oid: &str,
    ) -> Result<(), Fault> {
        let kind = match &*entry.kind {
            "TABLE DATA" => {
                let columns = copy::columns(copy_statement).ok_or_else(|| {
                    Fault::Damaged("its data does not come by a COPY statement".to_owned())
                })?;
                let tables = &mut self.contents.summary.tables;
                let oid = oid
                    .parse()
                    .map_err(|_| Fault::Damaged("its table has no number".to_owned()))?;
                tables.push(TableData {
                    oid,
                    schema: entry.schema.clone(),
                    table: entry.name.clone(),
                    rows: 0,
                    size_bytes: 0,
                });
                DataKind::Table { index: tables.len() - 1, columns }
            }
            "BLOBS" => DataKind::LargeObjects,
            other => {
                let shown = display_path(other.as_bytes());
                return Err(Fault::Damaged(format!("'{shown}' is not known to have data")));
            }
        };
        let entry = DataEntry { order, kind, offset, seen: false };
        if self.contents.data.insert(id, entry).is_some() {
            return Err(Fault::Damaged(format!("the number {id} was given twice")));
        }
        Ok(())
    }

    fn one_of(&mut self, what: &str, least: i64, most: i64) -> Result<i64, Fault> {
        let value = self.source.int()?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(Fault::Damaged(format!("{what} cannot be {value}")))
        }
    }

    /// How long a text may be here.
    fn room(&self) -> u64 {
        self.end.saturating_sub(self.source.position())
    }

    fn text(&mut self) -> Result<String, Fault> {
        self.source.string(self.room().min(MAX_KEPT_BYTES))
    }

    /// A text that repeats.
    fn name(&mut self) -> Result<Arc<str>, Fault> {
        let text = self.text()?;
        if let Some(name) = self.names.get(text.as_str()) {
            return Ok(name.clone());
        }
        let name: Arc<str> = text.into();
        self.names.insert(name.clone());
        Ok(name)
    }

    /// Pass over a text, and say whether there was one.
    fn pass_text(&mut self) -> Result<bool, Fault> {
        let length = self.source.string_length(self.room())?;
        self.source.take(length.unwrap_or(0), |_| Ok(()))?;
        Ok(length.is_some())
    }

    fn offset(&mut self, has_data: bool) -> Result<Option<u64>, Fault> {
        let flag = self.source.byte()?;
        let offset = u64::from_le_bytes(self.source.bytes()?);
        match (flag, has_data) {
            (1, true) | (3, false) => Ok(None),
            (2, true) => Ok(Some(offset)),
            _ => Err(Fault::Damaged(format!("its offset is marked {flag}"))),
        }
    }
}
