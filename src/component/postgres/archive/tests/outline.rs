//! Archives of some of an archive's entries, read again.

use super::encoder::{Encoder, Entry};
use super::{GOLDEN, read_archive, summary};
use crate::component::postgres::archive::{Block, Outline};
use std::collections::HashSet;

fn outline(archive: &[u8]) -> (Outline, usize) {
    let blocks: u64 = summary(archive).blocks.iter().map(|block| block.1).sum();
    let data = archive.len() - blocks as usize;
    (Outline::read(&archive[..data]).unwrap(), data)
}

/// The kinds and names of an archive's entries. It has no data.
fn entries(archive: &[u8]) -> Vec<String> {
    // One with data that do not follow is no whole archive, but its contents are read.
    let mut source = super::Source::new(archive);
    let mut kinds = Vec::new();
    // Of single large objects no name is kept.
    let mut see = |kind: std::sync::Arc<str>| {
        if &*kind != "BLOB" {
            kinds.push(kind);
        }
    };
    let contents = super::Contents::read(&mut source, |passed| see(passed.kind)).unwrap();
    assert!(source.byte_or_end().unwrap().is_none(), "nothing follows the contents");
    let names = contents.summary.entries.iter().map(|entry| &entry.name);
    kinds.iter().zip(names).map(|(kind, name)| format!("{kind} {name}")).collect()
}

#[test]
fn what_the_golden_archive_is_taken_apart_into_is_all_of_it() {
    let whole = summary(GOLDEN);
    let (outline, _) = outline(GOLDEN);
    let shares: Vec<HashSet<i64>> = (0..3)
        .map(|share| whole.blocks.iter().skip(share).step_by(3).map(|block| block.0).collect())
        .collect();
    let beginnings = outline.shares(&shares.iter().collect::<Vec<_>>());
    for (share, beginning) in shares.iter().zip(beginnings) {
        let has_data =
            |entry: &&String| entry.starts_with("TABLE DATA ") || entry.starts_with("BLOBS ");
        assert_eq!(entries(&beginning).iter().filter(has_data).count(), share.len());
    }
    let (before, after) = (entries(&outline.before()), entries(&outline.after().unwrap()));
    let is = |entries: &[String], kind: &str| entries.iter().any(|entry| entry.starts_with(kind));
    assert!(is(&before, "TABLE ") && is(&before, "ENCODING ") && !is(&before, "TABLE DATA "));
    assert!(is(&after, "CONSTRAINT ") && is(&after, "ENCODING "));
    let last = entries(&outline.last().unwrap());
    assert!(is(&last, "MATERIALIZED VIEW DATA ") && is(&last, "ENCODING "));
    assert!(!is(&before, "CONSTRAINT ") && !is(&after, "TABLE ") && !is(&last, "CONSTRAINT "));
    assert!(outline.in_order().is_empty(), "no extension made one of them");
}

#[test]
fn each_entry_is_put_back_once_and_in_its_time() {
    let at = |section: i64, entry: Entry| Entry { section: Some(section), ..entry };
    for minor in [12, 14, 16] {
        let encoder = Encoder::new(minor);
        let data = |id, name: &str| {
            let copy = format!("COPY public.{name} (a) FROM stdin;\n");
            Entry::table(id, "public", name, &copy).chunks(&[b"1\n\\.\n\n\n"])
        };
        let archive = encoder.archive(&[
            at(2, Entry::new(1, "ENCODING", "", "ENCODING")),
            at(2, Entry::new(2, "TABLE", "public", "one")),
            at(1, Entry::new(3, "COMMENT", "public", "of one")),
            at(1, Entry::new(4, "ACL", "public", "of one")),
            data(5, "one").needs(&[2]),
            data(6, "two").needs(&[77]),
            at(3, Entry::new(7, "SEQUENCE SET", "public", "numbers")),
            at(1, Entry::new(8, "COMMENT", "", "of the data")),
            at(4, Entry::new(9, "INDEX", "public", "of one")),
            at(1, Entry::new(10, "COMMENT", "public", "of the index")),
            at(4, Entry::new(11, "FK CONSTRAINT", "public", "one two")),
            at(1, Entry::new(12, "COMMENT", "public", "of the key")),
            at(4, Entry::new(13, "MATERIALIZED VIEW", "public", "of a group")),
            at(4, Entry::new(14, "INDEX", "public", "of the view")).needs(&[13]),
            at(4, Entry::new(15, "CONSTRAINT", "public", "of one")).needs(&[2]),
            at(3, Entry::new(16, "BLOB METADATA", "", "16..17")),
            at(1, Entry::new(17, "COMMENT", "", "of an object")),
        ]);
        let (outline, data) = outline(&archive);
        let before = [
            "ENCODING ENCODING",
            "TABLE one",
            "COMMENT of one",
            "BLOB METADATA 16..17",
            "COMMENT of an object",
        ];
        assert_eq!(entries(&outline.before()), before);
        assert_eq!(*outline.in_order(), HashSet::from([6]), "its table is an extension's");
        let (first, second) = (HashSet::from([6]), HashSet::from([5]));
        let mut shares = outline.shares(&[&first, &second]);
        assert_eq!(
            entries(&shares[0]),
            ["ENCODING ENCODING", "TABLE DATA two", "SEQUENCE SET numbers"]
        );
        assert_eq!(entries(&shares[1]), ["ENCODING ENCODING", "TABLE DATA one"]);
        // With its blocks each share is a whole archive.
        let mut start = data;
        for Block(entry, size) in summary(&archive).blocks {
            let end = start + size as usize;
            shares[usize::from(second.contains(&entry))].extend_from_slice(&archive[start..end]);
            start = end;
        }
        for share in &shares {
            let part = read_archive(&share[..], &[], &mut |_| ()).unwrap();
            assert_eq!((part.blocks.len(), part.tables.len(), part.tables[0].rows), (1, 1, 1));
            assert_eq!(part.server_version, summary(&archive).server_version);
        }
        let after = [
            "ENCODING ENCODING",
            "COMMENT of the data",
            "INDEX of one",
            "COMMENT of the index",
            "CONSTRAINT of one",
        ];
        assert_eq!(entries(&outline.after().unwrap()), after);
        let last = [
            "ENCODING ENCODING",
            "ACL of one",
            "FK CONSTRAINT one two",
            "COMMENT of the key",
            "MATERIALIZED VIEW of a group",
            "INDEX of the view",
        ];
        assert_eq!(entries(&outline.last().unwrap()), last);
    }
    let alone = Encoder::new(14).archive(&[at(2, Entry::new(1, "TABLE", "public", "t"))]);
    let (outline, _) = outline(&alone);
    assert!(outline.after().is_none() && outline.last().is_none());
    let empty = Encoder::new(14).archive(&[]);
    assert_eq!(self::outline(&empty).0.before(), empty);
}

#[test]
fn an_archive_that_ends_in_its_contents_has_no_outline() {
    let (_, data) = outline(GOLDEN);
    for end in [0, 5, 40, data / 2, data - 1] {
        assert!(Outline::read(&GOLDEN[..end]).is_err(), "{end}");
    }
}
