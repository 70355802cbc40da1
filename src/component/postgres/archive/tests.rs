//! The reader against what the real `pg_dump` wrote, against every damage of it, and against archives of other
//! versions of the format that an encoder here writes.

use super::*;
use encoder::{Encoder, Entry};
use proptest::prelude::*;

mod encoder;
mod outline;

/// See `tests/fixtures/postgres/README.md`.
const GOLDEN: &[u8] = include_bytes!("../../../../tests/fixtures/postgres/golden-15.dump");

type Row = (usize, Vec<Option<Vec<u8>>>);

fn read(archive: impl Read, wanted: &[Wanted]) -> Result<(ArchiveSummary, Vec<Row>), ArchiveError> {
    let mut rows = Vec::new();
    let summary =
        read_archive(archive, wanted, &mut |row| rows.push((row.wanted, row.values.to_vec())))?;
    Ok((summary, rows))
}

fn summary(archive: &[u8]) -> ArchiveSummary {
    read(archive, &[]).unwrap().0
}

fn message(archive: &[u8]) -> String {
    read(archive, &[]).unwrap_err().to_string()
}

fn wanted(schema: &str, table: &str, columns: &[&str]) -> Wanted {
    let columns = columns.iter().map(|column| (*column).to_owned()).collect();
    Wanted { schema: schema.to_owned(), table: table.to_owned(), columns }
}

fn values<const N: usize>(values: [Option<&str>; N]) -> Vec<Option<Vec<u8>>> {
    values.into_iter().map(|value| value.map(|text| text.as_bytes().to_vec())).collect()
}

/// Gives its bytes a few at a time, so that numbers and rows are split everywhere.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn the_summary_says_what_the_golden_archive_holds() {
    let summary = summary(GOLDEN);
    assert_eq!(summary.database, "golden");
    assert_eq!(summary.archive_version, (1, 14));
    assert!(summary.server_version.starts_with("15."), "{}", summary.server_version);
    assert!(summary.pg_dump_version.starts_with("15."), "{}", summary.pg_dump_version);
    let rows: Vec<(&str, &str, u64)> =
        summary.tables.iter().map(|table| (&*table.schema, &*table.table, table.rows)).collect();
    let expected = [
        ("Odd \"schema\"", "table (a, b)", 2),
        ("public", "empty", 0),
        ("public", "escapes", 7),
        ("public", "measured_2025", 1),
        ("public", "measured_2026", 2),
        ("public", "people", 3),
        ("public", "without_columns", 2),
    ];
    assert_eq!(rows, expected);
    assert_eq!(summary.tables[1].size_bytes, "\\.\n\n\n".len() as u64);
    assert_eq!((summary.large_objects, summary.large_object_bytes), (2, 5000));
    assert_eq!(summary.size_bytes, GOLDEN.len() as u64);
    // As `pg_restore --list` counts them, but for the two BLOB entries.
    assert_eq!(summary.entries.len(), 35 - 2);
    let view = summary.entries.iter().find(|entry| &*entry.name == "calm_people").unwrap();
    assert_eq!((&*view.kind, &*view.schema, &*view.owner), ("VIEW", "public", "postgres"));
    assert_eq!((summary.missing, summary.oversized_rows), (vec![], 0));
}

#[test]
fn wanted_columns_are_decoded_in_the_order_in_which_they_were_asked_for() {
    let wanted = [
        wanted("public", "escapes", &["value"]),
        wanted("Odd \"schema\"", "table (a, b)", &["FROM stdin", "q\"uote", "a, b"]),
        wanted("public", "people", &["name", "picture"]),
        wanted("public", "escapes", &["id"]),
    ];
    let (summary, rows) = read(GOLDEN, &wanted).unwrap();
    let rows_of = |index: usize| -> Vec<_> {
        rows.iter().filter(|(wanted, _)| *wanted == index).map(|(_, row)| row.clone()).collect()
    };
    let escapes = [
        None,
        Some(""),
        Some("\\N"),
        Some("\\."),
        Some("tab\tnewline\nreturn\rbackslash\\"),
        Some("\u{8}\u{c}\u{b}\u{1}"),
        Some("plain"),
    ];
    assert_eq!(rows_of(0), escapes.map(|value| values([value])));
    assert_eq!(
        rows_of(1),
        [values([Some("x"), Some("one"), Some("1")]), values([Some("y"), None, Some("2")])]
    );
    assert_eq!(
        rows_of(2),
        [
            values([Some("Ada"), Some("\\x00ff10")]),
            values([Some("Ünï ☂"), None]),
            values([Some("O'Brien"), Some("\\x")]),
        ]
    );
    assert_eq!(rows_of(3).len(), 7);
    assert_eq!(summary.missing, []);
}

#[test]
fn what_was_wanted_and_is_not_there_is_told_and_gives_no_rows() {
    let wanted = [
        wanted("public", "escapes", &["id", "gone", "lost"]),
        wanted("public", "nowhere", &["id"]),
        wanted("other", "escapes", &["id"]),
        // A generated column is made again by the server, and is not in the data.
        wanted("public", "people", &["shout"]),
    ];
    let (summary, rows) = read(GOLDEN, &wanted).unwrap();
    assert_eq!(rows, []);
    let missing =
        |wanted, column: Option<&str>| Missing { wanted, column: column.map(str::to_owned) };
    let expected = [
        missing(0, Some("gone")),
        missing(0, Some("lost")),
        missing(1, None),
        missing(2, None),
        missing(3, Some("shout")),
    ];
    assert_eq!(summary.missing, expected);
}

#[test]
fn it_makes_no_difference_how_the_bytes_arrive() {
    let wanted =
        [wanted("public", "escapes", &["id", "value"]), wanted("public", "people", &["name"])];
    let whole = read(GOLDEN, &wanted).unwrap();
    for length in [1, 2, 3, 7, 64] {
        assert_eq!(read(Drops(GOLDEN, length), &wanted).unwrap(), whole, "{length} at a time");
    }
}

#[test]
fn no_beginning_of_an_archive_is_taken_for_a_whole_one() {
    for length in 0..GOLDEN.len() {
        let error = read(&GOLDEN[..length], &[]).unwrap_err();
        let is_about_the_end = matches!(
            error,
            ArchiveError::Empty | ArchiveError::Truncated { .. } | ArchiveError::DataMissing { .. }
        );
        assert!(is_about_the_end, "{length} bytes: {error}");
    }
}

#[test]
fn no_flipped_bit_and_no_absurd_byte_breaks_the_reader() {
    let wanted = [wanted("public", "escapes", &["value"]), wanted("public", "people", &["name"])];
    let mut archive = GOLDEN.to_vec();
    let mut refused = 0;
    for at in 0..archive.len() {
        let byte = archive[at];
        for other in [byte ^ (1 << (at % 8)), 0xff] {
            archive[at] = other;
            refused += usize::from(other != byte && read(&archive[..], &wanted).is_err());
        }
        archive[at] = byte;
    }
    // The format has no sum: what is flipped within a text or a value stays unseen.
    assert!(refused > GOLDEN.len() / 4, "only {refused} were refused");
}

#[test]
fn something_else_is_no_archive_and_its_first_line_is_shown() {
    assert_eq!(message(b""), "the dump is empty: not one byte came");
    let error = b"pg_dump: error: connection to \x1b[31mserver failed\nsecond line";
    assert_eq!(
        message(error),
        "this is no archive of pg_dump: it begins with 'pg_dump: error: connection to \\u{1b}[31mserver failed'"
    );
    let shown = message(&[b'x'; 5000]);
    assert!(shown.ends_with(&format!("'{}'", "x".repeat(200))), "{shown}");
    assert_eq!(message(b"PGD"), "the archive is cut short in the header");
}

#[test]
fn formats_versions_and_compressions_that_are_not_read_are_named() {
    let changed = |at: usize, byte: u8| {
        let mut archive = GOLDEN.to_vec();
        archive[at] = byte;
        message(&archive)
    };
    assert_eq!(
        changed(6, 17),
        "the archive has version 1.17 of the format; known are 1.12 to 1.16"
    );
    assert_eq!(
        changed(6, 11),
        "the archive has version 1.11 of the format; known are 1.12 to 1.16"
    );
    assert_eq!(changed(5, 2), "the archive has version 2.14 of the format; known are 1.12 to 1.16");
    assert_eq!(
        changed(8, 8),
        "the archive has integers of 8 and offsets of 8 bytes; known are 4 and 8"
    );
    assert_eq!(changed(10, 3), "the archive has the tar format, not the custom one");
    assert_eq!(changed(12, 6), "the archive's data is compressed (gzip, level 6)");
    let zstd = Encoder { compression: 3, ..Encoder::new(15) }.archive(&[]);
    assert_eq!(message(&zstd), "the archive's data is compressed (zstd)");
}

#[test]
fn every_known_version_is_read() {
    for minor in 12..=16 {
        let entries = [
            Entry::new(5, "TABLE", "public", "t"),
            Entry::table(7, "public", "t", "COPY public.t (a, b) FROM stdin;\n")
                .needs(&[5])
                .chunks(&[b"1\t2\n", b"3\t", b"4\n5\t\\N\n", b"\\.\n\n\n"]),
            Entry::large_objects(9, &[(20_000, &[b"abc", b"de"]), (4_294_967_290, &[])]),
            Entry::large_objects(10, &[(20_001, &[b"f"])]),
        ];
        let archive = Encoder::new(minor).archive(&entries);
        let wanted = [wanted("public", "t", &["b"])];
        let (summary, rows) = read(&archive[..], &wanted).unwrap();
        assert_eq!(summary.archive_version, (1, minor));
        assert_eq!(summary.tables[0].rows, 3);
        assert_eq!((summary.large_objects, summary.large_object_bytes), (3, 6));
        let shown = [Some("2"), Some("4"), None].map(|value| (0, values([value])));
        assert_eq!(rows, shown, "1.{minor}");
    }
}

#[test]
fn data_that_does_not_come_or_comes_too_often_is_named() {
    let data: &[&[u8]] = &[b"1\n", b"\\.\n\n\n"];
    let entry = |id, table: &str| {
        Entry::table(id, "public", table, "COPY public.t (a) FROM stdin;\n").chunks(data)
    };
    let silent = |id, table: &str| Entry { block: None, ..entry(id, table) };
    let write = |entries: &[Entry]| Encoder::new(16).archive(entries);
    assert_eq!(
        message(&write(&[entry(1, "a"), silent(2, "b\u{1b}"), silent(3, "c")])),
        "the archive ends without the data of table public.b\\u{1b}, and 1 more"
    );
    let twice = Entry { block_id: 1, ..entry(2, "b") };
    assert_eq!(
        message(&write(&[entry(1, "a"), twice])),
        "the archive is damaged in the data of table public.a: it comes twice"
    );
    let unknown = Entry { block_id: 77, ..entry(2, "b") };
    assert_eq!(
        message(&write(&[entry(1, "a"), unknown])),
        "the archive is damaged in the beginning of a block of data: a block belongs to entry 77, which has no data"
    );
    assert_eq!(
        message(&write(&[entry(1, "a"), entry(1, "b")])),
        "the archive is damaged in the table of contents (entry 2 of 2): the number 1 was given twice"
    );
    let mut archive = write(&[entry(1, "a")]);
    let whole = archive.len();
    archive.push(0);
    assert_eq!(
        message(&archive),
        format!("the archive is whole after {whole} bytes, but something follows")
    );
    assert_eq!(
        message(&write(&[Entry { has_data: true, ..Entry::new(1, "WONDER", "s", "n") }])),
        "the archive is damaged in the table of contents (entry 1 of 1): 'WONDER' is not known to have data"
    );
    let insert = Entry { copy: String::new(), ..entry(1, "a") };
    assert!(message(&write(&[insert])).ends_with("does not come by a COPY statement"));
    let elsewhere = Entry { offset: Some(5), ..entry(1, "a") };
    assert!(message(&write(&[elsewhere])).ends_with("not where the table of contents says"));
}

#[test]
fn table_data_ends_with_the_end_mark_and_with_nothing_else() {
    let data = |chunks: &[&[u8]]| {
        let entry =
            Entry::table(1, "public", "t", "COPY public.t (a) FROM stdin;\n").chunks(chunks);
        read(&Encoder::new(14).archive(&[entry])[..], &[])
            .map(|(summary, _)| summary.tables[0].rows)
            .map_err(|error| error.to_string())
    };
    assert_eq!(data(&[b"\\", b".", b"\n", b"\n\n"]), Ok(0));
    assert_eq!(data(&[b"a\n\\.\n"]), Ok(1));
    assert_eq!(data(&[b"\\.b\n\\\n\\..\n\n\\.\n"]), Ok(4));
    let in_data = "the archive is damaged in the data of table public.t: ";
    let without = Err(format!("{in_data}it does not end with COPY's end mark"));
    for text in ["a\n", "a\n\\.", "a\\.\n"] {
        assert_eq!(data(&[text.as_bytes()]), without, "{text}");
    }
    assert_eq!(data(&[b"\\.\nb\n"]), Err(format!("{in_data}rows follow the end mark")));
}

#[test]
fn a_row_that_is_too_long_is_counted_and_not_shown() {
    let long = vec![b'x'; MAX_TAPPED_ROW_BYTES / 2 + 1];
    let entry = Entry::table(1, "public", "t", "COPY public.t (a) FROM stdin;\n")
        .chunks(&[b"1\n", &long, &long, b"\n2\n", &long, b"\n", b"\\.\n"]);
    let archive = Encoder::new(16).archive(&[entry]);
    let (summary, rows) = read(&archive[..], &[wanted("public", "t", &["a"])]).unwrap();
    assert_eq!((summary.tables[0].rows, summary.oversized_rows), (4, 1));
    let lengths: Vec<usize> = rows.iter().map(|(_, row)| row[0].as_ref().unwrap().len()).collect();
    assert_eq!(lengths, [1, 1, long.len()]);
}

#[test]
fn a_row_with_another_number_of_fields_is_damage_where_it_is_looked_at() {
    let entry = Entry::table(1, "public", "t", "COPY public.t (a, b) FROM stdin;\n")
        .chunks(&[b"1\t2\n3\n\\.\n"]);
    let archive = Encoder::new(16).archive(&[entry]);
    let error = read(&archive[..], &[wanted("public", "t", &["a"])]).unwrap_err();
    assert!(error.to_string().ends_with("a row has 1 fields instead of 2"), "{error}");
}

#[test]
fn a_length_allocates_nothing() {
    let mut archive = Encoder::new(16).head(1);
    // A number of an entry, no data, and a text of 2 GiB.
    for value in [1_u32, 0, 0x7fff_ffff] {
        archive.push(0);
        archive.extend(value.to_le_bytes());
    }
    assert!(message(&archive).ends_with("a text of 2147483647 bytes is too long"));
    let chunk = Entry::table(1, "public", "t", "COPY public.t (a) FROM stdin;\n").chunks(&[b"x"]);
    let mut archive = Encoder::new(16).archive(&[chunk]);
    let at = archive.len() - 10;
    archive[at] = 0xff;
    assert!(matches!(read(&archive[..at + 4], &[]), Err(ArchiveError::Truncated { .. })));
}

#[test]
fn an_input_that_fails_is_an_error_with_its_place() {
    let broken = GOLDEN[..GOLDEN.len() - 100].chain(Broken);
    let error = read(broken, &[]).unwrap_err();
    assert_eq!(error.to_string(), "the dump could not be read any further in the large objects");
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the line dropped");
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("the line dropped"))
    }
}

#[test]
fn escapes_are_those_of_copy() {
    let entry = Entry::table(1, "public", "t", "COPY public.t (a) FROM stdin;\n")
        .chunks(&[b"\\101\\0012\\x4a\\x4Ag\\xg\\q\\377\\b\n\\.\n"]);
    let archive = Encoder::new(16).archive(&[entry]);
    let (_, rows) = read(&archive[..], &[wanted("public", "t", &["a"])]).unwrap();
    assert_eq!(rows[0].1[0].as_deref(), Some(&b"A\x012JJgxgq\xff\x08"[..]));
}

#[test]
fn columns_are_read_from_the_copy_statement() {
    let columns = |statement| copy::columns(statement);
    let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    assert_eq!(columns("COPY public.t (a, \"b c\") FROM stdin;\n"), list(&["a", "b c"]));
    assert_eq!(columns("COPY t (a) WITH OIDS FROM stdin;\n"), list(&["a"]));
    assert_eq!(columns("COPY public.nothing  FROM stdin;\n"), list(&[]));
    assert_eq!(
        columns("COPY \"a.b\".\"t\"\" (x)\" (\"y\"\"\", z) FROM stdin;\n"),
        list(&["y\"", "z"])
    );
    for no in [
        "",
        "INSERT INTO t",
        "COPY t (a",
        "COPY \"t (a) FROM stdin",
        "COPY t (a) TO stdout",
        "COPY  (a",
    ] {
        assert_eq!(columns(no), None, "{no}");
    }
}

proptest! {
    /// Whatever the rows hold and wherever chunks are cut, the rows come back.
    #[test]
    fn rows_come_back(
        rows in proptest::collection::vec(
            proptest::collection::vec(proptest::option::of("[\\\\.N\t\nab]{0,6}"), 2), 0..8),
        cut in 1_usize..20,
        drop in 1_usize..30,
    ) {
        let mut data = Vec::new();
        for row in &rows {
            let fields: Vec<String> = row.iter().map(|value| encoder::field(value.as_ref())).collect();
            data.extend_from_slice(fields.join("\t").as_bytes());
            data.push(b'\n');
        }
        data.extend_from_slice(b"\\.\n\n\n");
        let chunks: Vec<&[u8]> = data.chunks(cut).collect();
        let entry = Entry::table(1, "s", "t", "COPY s.t (a, b) FROM stdin;\n").chunks(&chunks);
        let archive = Encoder::new(16).archive(&[entry]);
        let (summary, shown) = read(Drops(&archive, drop), &[wanted("s", "t", &["a", "b"])]).unwrap();
        prop_assert_eq!(summary.tables[0].rows, rows.len() as u64);
        let expected: Vec<Row> = rows.iter().map(|row| {
            (0, row.iter().map(|value| value.clone().map(String::into_bytes)).collect())
        }).collect();
        prop_assert_eq!(shown, expected);
    }
}
