//! One archive put back over several connections: each fills its share of the tables out of a stream of its own, so that a large archive needs
//! no file, and nobody has to look for where a table's data begin.

use super::fill::{StoredArchive, Together};
use super::{PlannedDatabase, Restore};
use crate::access::Command;
use crate::component::postgres::PostgresError;
use crate::component::postgres::archive::{Block, Outline};
use std::cmp::Reverse;
use std::collections::HashSet;
use std::io::{self, Cursor, Read as _};
use std::ops::Range;
use std::panic::resume_unwind;
use std::slice::from_ref;
use std::sync::mpsc::channel;

/// More would not be served faster by most servers' disks.
const MOST_CONNECTIONS: usize = 4;
/// Small tables that follow each other are filled together, so that what is stored together is read once.
const LEAST_UNIT: u64 = 1024 * 1024;
/// A larger table of contents, such as one of a million large objects, is not kept in memory.
const MOST_CONTENTS: u64 = 64 * 1024 * 1024;

/// How an archive is divided.
pub(super) struct Division<'a> {
    /// Where its data begin.
    data: u64,
    blocks: &'a [Block],
    /// How many connections make what comes after the data.
    connections: usize,
}

/// Tables that are filled by one connection.
#[derive(Debug, Default, PartialEq)]
struct Share {
    entries: HashSet<i64>,
    ranges: Vec<Range<u64>>,
    size_bytes: u64,
}

impl Share {
    fn of(entry: i64, range: Range<u64>) -> Self {
        let size_bytes = range.end - range.start;
        Self { entries: HashSet::from([entry]), ranges: vec![range], size_bytes }
    }

    fn add(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.size_bytes += other.size_bytes;
        self.ranges.extend(other.ranges);
        // As they stand in the archive; those that touch are one.
        self.ranges.sort_by_key(|range| range.start);
        self.ranges.dedup_by(|next, range| {
            let touches = range.end == next.start;
            if touches {
                range.end = next.end;
            }
            touches
        });
    }
}

impl Restore<'_> {
    /// How to put an archive of this size and with these blocks of data back over several connections; none where one is as good.
    pub(super) fn divide<'a>(&self, (size, blocks): (u64, &'a [Block])) -> Option<Division<'a>> {
        let data = size.checked_sub(blocks.iter().map(|block| block.1).sum())?;
        if self.sets_too_much() || data > MOST_CONTENTS || blocks.len() < 2 {
            return None;
        }
        let connections = self.processors().min(MOST_CONNECTIONS);
        (connections > 1).then_some(Division { data, blocks, connections })
    }

    /// How many processors there are where `pg_restore` runs; one where nobody knows.
    pub fn processors(&self) -> usize {
        let asked = Command::new("getconf").argument("_NPROCESSORS_ONLN");
        let answer = self.connection.access.run(&asked, &[], 64);
        let count = answer.ok().and_then(|text| str::from_utf8(&text).ok()?.trim().parse().ok());
        count.unwrap_or(1)
    }

    /// Put an archive back as it was divided.
    pub(super) fn fill_in_shares(
        &self,
        planned: &PlannedDatabase,
        archive: &dyn StoredArchive,
        division: &Division<'_>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<String>, PostgresError> {
        let unreadable = |source| unreadable(planned, source);
        let beginning = archive.ranges(from_ref(&(0..division.data))).map_err(unreadable)?;
        let outline =
            Outline::read(beginning).map_err(|error| unreadable(io::Error::other(error)))?;
        let together = Together::default();
        let before = &mut Cursor::new(outline.before());
        let mut warnings = self.give(planned, &together, None, before, &mut |_| ())?;

        let units = units(division.data, division.blocks, outline.in_order(), LEAST_UNIT);
        // While one waits for the other end of its pipe, another can go on.
        let shares = share_out(units, (division.connections + 1).min(MOST_CONNECTIONS));
        let entries: Vec<_> = shares.iter().map(|share| &share.entries).collect();
        let beginnings = outline.shares(&entries);
        let (told, heard) = channel();
        std::thread::scope(|scope| -> Result<(), PostgresError> {
            let mut threads = Vec::new();
            for (share, beginning) in shares.iter().zip(beginnings) {
                let (told, together) = (told.clone(), &together);
                threads.push(scope.spawn(move || {
                    let data = archive.ranges(&share.ranges).map_err(unreadable);
                    let filled = data.and_then(|data| {
                        let mut all = Cursor::new(beginning).chain(data);
                        self.give(planned, together, None, &mut all, &mut |more| {
                            let _ = told.send(more);
                        })
                    });
                    if filled.is_err() {
                        together.end();
                    }
                    filled
                }));
            }
            drop(told);
            let mut bytes = 0;
            for more in heard {
                bytes += more;
                progress(bytes);
            }
            for thread in threads {
                let filled = thread.join();
                warnings.extend(filled.unwrap_or_else(|panic| resume_unwind(panic))?);
            }
            Ok(())
        })?;

        if let Some(after) = outline.after() {
            let connections = Some((after.len(), division.connections));
            let after = &mut Cursor::new(after);
            warnings.extend(self.give(planned, &together, connections, after, &mut |_| ())?);
        }
        if let Some(last) = outline.last() {
            let last = &mut Cursor::new(last);
            warnings.extend(self.give(planned, &together, None, last, &mut |_| ())?);
        }
        Ok(warnings)
    }
}

fn unreadable(planned: &PlannedDatabase, source: io::Error) -> PostgresError {
    PostgresError::Source { database: planned.facts.name.clone(), source }
}

/// What is filled by one connection at least: a large table, several small ones that follow each other, and all those that are filled `in_order`.
fn units(data: u64, blocks: &[Block], in_order: &HashSet<i64>, least: u64) -> Vec<Share> {
    let (mut units, mut together): (Vec<Share>, Share) = (Vec::new(), Share::default());
    let mut start = data;
    for Block(entry, size) in blocks {
        let one = Share::of(*entry, start..start + size);
        start += size;
        if in_order.contains(entry) {
            together.add(one);
            continue;
        }
        match units.last_mut() {
            Some(unit) if unit.size_bytes < least => unit.add(one),
            _ => units.push(one),
        }
    }
    if !together.entries.is_empty() {
        units.push(together);
    }
    units
}

/// Each unit in a share: the largest first, to whichever has least. No share is empty.
fn share_out(mut units: Vec<Share>, most: usize) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    shares.resize_with(most.min(units.len()), Share::default);
    units.sort_by_key(|unit| Reverse(unit.size_bytes));
    for unit in units {
        let least = shares.iter_mut().min_by_key(|share| (share.size_bytes, share.entries.len()));
        least.expect("there are as many shares as units, up to the most").add(unit);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(share: &Share) -> Vec<(u64, u64)> {
        share.ranges.iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn the_largest_tables_go_apart_and_each_share_has_its_blocks_in_order() {
        let blocks = [Block(7, 10), Block(3, 100), Block(9, 60), Block(4, 50), Block(8, 0)];
        let units = |in_order: &[i64], least| {
            units(1000, &blocks, &in_order.iter().copied().collect(), least)
        };
        let shares = share_out(units(&[], 0), 2);
        assert_eq!(shares.len(), 2);
        assert_eq!(shares[0].entries, HashSet::from([3, 7, 8]));
        assert_eq!(spans(&shares[0]), [(1000, 1110), (1220, 1220)]);
        assert_eq!(shares[1].entries, HashSet::from([9, 4]));
        assert_eq!(spans(&shares[1]), [(1110, 1220)]);
        let size: u64 = shares.iter().map(|share| share.size_bytes).sum();
        assert_eq!(size, 220);
        assert_eq!(share_out(units(&[], 1000), 4).len(), 1, "none is empty");
        assert_eq!(share_out(Vec::new(), 4), []);
    }

    #[test]
    fn small_neighbours_stay_together_and_so_does_what_is_filled_in_order() {
        let blocks = [Block(1, 3), Block(2, 4), Block(3, 90), Block(4, 2), Block(5, 3)];
        let all = units(0, &blocks, &HashSet::from([2, 5]), 5);
        let told: Vec<_> = all.iter().map(spans).collect();
        assert_eq!(told, [vec![(0, 3), (7, 97)], vec![(97, 99)], vec![(3, 7), (99, 102)]]);
        assert_eq!(all.iter().map(|unit| unit.size_bytes).collect::<Vec<_>>(), [93, 2, 7]);
        assert_eq!(all[2].entries, HashSet::from([2, 5]));
        let all = units(0, &blocks, &HashSet::new(), 8);
        let told: Vec<_> = all.iter().map(spans).collect();
        assert_eq!(told, [[(0, 97)], [(97, 102)]]);
    }
}
