//! COPY's text format: lines of fields between tabs, with backslash escapes, up to a line `\.`.

use super::source::Fault;
use super::{MAX_TAPPED_ROW_BYTES, TableData, TapRow, Wanted};
use memchr::memchr;

/// The columns that a statement such as `COPY public.t (a, "b c") FROM stdin;` names; `None` when it is no such
/// statement. A table without columns has no list.
pub(super) fn columns(statement: &str) -> Option<Vec<String>> {
    let rest = statement.strip_prefix("COPY ")?;
    let (_, mut rest) = identifier(rest)?;
    while let Some(after) = rest.strip_prefix('.') {
        (_, rest) = identifier(after)?;
    }
    rest = rest.trim_start();
    let mut columns = Vec::new();
    if let Some(list) = rest.strip_prefix('(') {
        rest = list;
        loop {
            let (column, after) = identifier(rest)?;
            columns.push(column);
            match after.strip_prefix(", ") {
                Some(next) => rest = next,
                None => break rest = after.strip_prefix(')')?.trim_start(),
            }
        }
    }
    rest.contains("FROM stdin").then_some(columns)
}

/// The identifier that a text begins with, without its quotes, and what follows.
fn identifier(text: &str) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('"') else {
        let end = text.find([' ', '.', ',', '(', ')', '"']).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut name = String::new();
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None => return Some((name, after)),
        }
    }
}

/// How much of a line is the beginning of the end mark.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// Nothing of the line was seen.
    LineBegins,
    /// It is `\`.
    Backslash,
    /// It is `\.`.
    Whole,
    /// It is another line.
    Row,
}

/// A table's data as it comes by in parts that end anywhere.
pub(super) struct CopyData<'a> {
    mark: Mark,
    ended: bool,
    rows: u64,
    tapped: Option<Tapped<'a>>,
}

impl<'a> CopyData<'a> {
    pub(super) fn new(tapped: Option<Tapped<'a>>) -> Self {
        Self { mark: Mark::LineBegins, ended: false, rows: 0, tapped }
    }

    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            if self.ended {
                // `pg_dump` closes with empty lines.
                let only_breaks = bytes.iter().all(|byte| *byte == b'\n');
                return if only_breaks { Ok(()) } else { Err(damaged("rows follow the end mark")) };
            }
            let line_break = memchr(b'\n', bytes);
            let line = &bytes[..line_break.unwrap_or(bytes.len())];
            self.mark = match (self.mark, line) {
                (mark, []) => mark,
                (Mark::LineBegins, b"\\") => Mark::Backslash,
                (Mark::LineBegins, b"\\.") | (Mark::Backslash, b".") => Mark::Whole,
                _ => Mark::Row,
            };
            if let Some(tapped) = &mut self.tapped {
                tapped.feed(line, line_break.is_some() && self.mark != Mark::Whole)?;
            }
            if line_break.is_some() {
                self.ended = self.mark == Mark::Whole;
                self.rows += u64::from(!self.ended);
                self.mark = Mark::LineBegins;
            }
            bytes = &bytes[line.len() + usize::from(line_break.is_some())..];
        }
        Ok(())
    }

    /// How many rows there were, and how many of them were too long to be shown.
    pub(super) fn finish(self) -> Result<(u64, u64), Fault> {
        if !self.ended {
            return Err(damaged("it does not end with COPY's end mark"));
        }
        Ok((self.rows, self.tapped.map_or(0, |tapped| tapped.oversized)))
    }
}

fn damaged(reason: &str) -> Fault {
    Fault::Damaged(reason.to_owned())
}

/// Shows rows of one table to those who want them.
pub(super) struct Tapped<'a> {
    tap: &'a mut dyn FnMut(&TapRow<'_>),
    /// Who wants the table, and which columns by their place.
    takers: Vec<(usize, Vec<usize>)>,
    columns: usize,
    /// The beginning of a row that comes in parts.
    row: Vec<u8>,
    is_oversized: bool,
    oversized: u64,
}

impl<'a> Tapped<'a> {
    /// `None` when nobody wants the table, or not all of the wanted columns are there.
    pub(super) fn new(
        wanted: &[Wanted],
        table: &TableData,
        columns: &[String],
        tap: &'a mut dyn FnMut(&TapRow<'_>),
    ) -> Option<Self> {
        let place = |name: &String| columns.iter().position(|column| column == name);
        let takers: Vec<(usize, Vec<usize>)> = wanted
            .iter()
            .enumerate()
            .filter(|(_, want)| want.schema == *table.schema && want.table == *table.table)
            .filter_map(|(index, want)| {
                Some((index, want.columns.iter().map(place).collect::<Option<Vec<_>>>()?))
            })
            .collect();
        let (row, oversized) = (Vec::new(), 0);
        let columns = columns.len();
        (!takers.is_empty()).then_some(Self {
            tap,
            takers,
            columns,
            row,
            is_oversized: false,
            oversized,
        })
    }

    /// A part of a line; `ends` when a row ends with it.
    fn feed(&mut self, part: &[u8], ends: bool) -> Result<(), Fault> {
        self.is_oversized |= self.row.len() + part.len() > MAX_TAPPED_ROW_BYTES;
        if self.is_oversized {
            self.row = Vec::new();
        } else if !ends || !self.row.is_empty() {
            self.row.extend_from_slice(part);
        }
        if !ends {
            return Ok(());
        }
        if self.is_oversized {
            self.oversized += 1;
            self.is_oversized = false;
            return Ok(());
        }
        let row = std::mem::take(&mut self.row);
        self.show(if row.is_empty() { part } else { &row })
    }

    fn show(&mut self, row: &[u8]) -> Result<(), Fault> {
        let fields: Vec<&[u8]> = row.split(|byte| *byte == b'\t').collect();
        if fields.len() != self.columns.max(1) {
            let reason =
                format!("a row has {} fields instead of {}", fields.len(), self.columns.max(1));
            return Err(Fault::Damaged(reason));
        }
        for (wanted, places) in &self.takers {
            let values: Vec<_> = places.iter().map(|place| decode(fields[*place])).collect();
            (self.tap)(&TapRow { wanted: *wanted, values: &values });
        }
        Ok(())
    }
}

/// A field's value; `None` is NULL.
fn decode(field: &[u8]) -> Option<Vec<u8>> {
    if field == b"\\N" {
        return None;
    }
    let mut value = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = memchr(b'\\', rest) {
        value.extend_from_slice(&rest[..at]);
        let (byte, length) = escape(&rest[at + 1..]);
        value.push(byte);
        rest = &rest[at + 1 + length..];
    }
    value.extend_from_slice(rest);
    Some(value)
}

/// What the bytes behind a backslash stand for, and how many they are.
fn escape(after: &[u8]) -> (u8, usize) {
    let number = |from: usize, most: usize, radix: u32| {
        let digit = |byte: &u8| char::from(*byte).to_digit(radix);
        let digits = after[from..].iter().take(most).map_while(digit);
        digits.fold((0, 0), |(value, length), digit| (value * radix + digit, length + 1))
    };
    match after {
        [] => (b'\\', 0),
        [b'b', ..] => (0x08, 1),
        [b'f', ..] => (0x0c, 1),
        [b'n', ..] => (b'\n', 1),
        [b'r', ..] => (b'\r', 1),
        [b't', ..] => (b'\t', 1),
        [b'v', ..] => (0x0b, 1),
        [b'0'..=b'7', ..] => {
            let (value, length) = number(0, 3, 8);
            // As PostgreSQL does: three digits may say more than a byte holds.
            ((value & 0xff) as u8, length)
        }
        [b'x', digit, ..] if digit.is_ascii_hexdigit() => {
            let (value, length) = number(1, 2, 16);
            (value as u8, 1 + length)
        }
        [byte, ..] => (*byte, 1),
    }
}
