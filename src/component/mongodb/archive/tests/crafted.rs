//! Archives made by hand: what may be, and what may not.

use super::*;
use std::error::Error as _;
use std::io::Read;

const METADATA: &str = r#"{"indexes":[{"v":{"$numberInt":"2"},"key":{"_id":{"$numberInt":"1"}},"name":"_id_"}],"uuid":"0123456789abcdef0123456789abcdef","collectionName":"c","type":"collection"}"#;
const VIEW: &str =
    r#"{"options":{"viewOn":"c","pipeline":[]},"indexes":[],"collectionName":"v","type":"view"}"#;

/// An archive's header.
fn header(version: &str) -> Vec<u8> {
    let header = document::build(&[
        ("concurrent_collections", Value::Int32(1)),
        ("version", Value::Text(version)),
        ("server_version", Value::Text("7.0.1")),
        ("tool_version", Value::Text("100.9.0")),
    ]);
    [&MAGIC[..], &header].concat()
}

/// A namespace as a prelude has it: database, collection, metadata, type.
fn named([database, collection, metadata, kind]: [&str; 4]) -> Vec<u8> {
    document::build(&[
        ("db", Value::Text(database)),
        ("collection", Value::Text(collection)),
        ("metadata", Value::Text(metadata)),
        ("size", Value::Int32(0)),
        ("type", Value::Text(kind)),
    ])
}

fn prelude(namespaces: &[[&str; 4]]) -> Vec<u8> {
    let named = namespaces.iter().flat_map(|namespace| named(*namespace));
    header("0.1").into_iter().chain(named).chain(TERMINATOR).collect()
}

fn block(database: &str, collection: &str, documents: &[u8]) -> Vec<u8> {
    [&block_header(database, collection, false, 0), documents, &TERMINATOR].concat()
}

fn end(database: &str, collection: &str, documents: &[u8]) -> Vec<u8> {
    let mut digest = crc64fast::Digest::new();
    digest.write(documents);
    let header = block_header(database, collection, true, digest.sum64().cast_signed());
    [&header[..], &TERMINATOR].concat()
}

fn block_header(database: &str, collection: &str, is_end: bool, sum: i64) -> Vec<u8> {
    document::build(&[
        ("db", Value::Text(database)),
        ("collection", Value::Text(collection)),
        ("EOF", Value::Bool(is_end)),
        ("CRC", Value::Int64(sum)),
    ])
}

const C: [&str; 4] = ["db", "c", METADATA, "collection"];

/// The archive of collection `db.c` with these documents, in any number of blocks.
fn one(blocks: &[&[u8]]) -> Vec<u8> {
    let mut archive = prelude(&[C]);
    for documents in blocks {
        archive.extend(block("db", "c", documents));
    }
    archive.extend(end("db", "c", &blocks.concat()));
    archive
}

fn a_document() -> Vec<u8> {
    document::build(&[("_id", Value::Int64(1)), ("name", Value::Text("one"))])
}

/// All that an error says, sources included.
fn message(archive: &[u8]) -> String {
    let error = error(archive);
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        message = format!("{message}: {error}");
        source = error.source();
    }
    message
}

fn refused(namespace: [&str; 4]) -> NamespaceError {
    match error(&prelude(&[namespace])) {
        ArchiveError::Namespace { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
fn what_an_archive_may_be() {
    let document = a_document();
    let archives = [
        prelude(&[]),
        one(&[]),
        one(&[&[]]),
        one(&[&document]),
        one(&[&document, &[], &[&document[..], &document].concat()]),
    ];
    let counts = archives.map(|archive| {
        let (summary, _) = read(&archive).unwrap();
        summary.contents.iter().map(|contents| contents.documents).collect::<Vec<_>>()
    });
    assert_eq!(counts, [vec![], vec![0], vec![0], vec![1], vec![3]]);
    // Older programs say less, newer ones may say more.
    let old = document::build(&[
        ("later", Value::Int32(1)),
        ("db", Value::Text("db")),
        ("collection", Value::Text("c")),
        ("metadata", Value::Text(r#"{"options":{},"indexes":[],"later":1}"#)),
    ]);
    let archive = [&header("0.1")[..], &old, &TERMINATOR, &end("db", "c", &[])].concat();
    let (summary, _) = read(&archive).unwrap();
    let namespace = &summary.prelude.namespaces()[0];
    assert_eq!(
        (namespace.kind(), namespace.uuid(), namespace.indexes()),
        (Kind::Collection, None, 0)
    );
    // Users and roles of one database.
    let users = ["db", "$admin.system.users", "", ""];
    let archive =
        [prelude(&[users]), block("db", users[1], &document), end("db", users[1], &document)]
            .concat();
    let (summary, files) = read(&archive).unwrap();
    assert_eq!(summary.prelude.namespaces()[0].kind(), Kind::Auth);
    assert_eq!(
        files.into_iter().collect::<Vec<_>>(),
        [("db/$admin.system.users.bson".to_owned(), document)]
    );
}

#[test]
fn what_is_no_archive_is_shown() {
    assert!(matches!(error(&[]), ArchiveError::Empty));
    let beginning = |bytes: &[u8]| match error(bytes) {
        ArchiveError::NotAnArchive { beginning } => beginning,
        other => panic!("{other}"),
    };
    assert_eq!(beginning(b"Failed: auth error\nmore"), "Failed: auth error");
    assert_eq!(beginning(&[0x1f, 0x8b, 8, 0]), "\\u{1f}\\x8b\\u{8}\\u{0}");
    assert_eq!(beginning(&[b'\\'; 1000]).len(), 200);
    assert!(matches!(
        error(&[&header("0.2")[..], &TERMINATOR].concat()),
        ArchiveError::UnknownVersion(version) if version == "0.2"
    ));
    assert_eq!(
        message(&[&MAGIC[..], &TERMINATOR].concat()),
        "the archive is damaged in the prelude, at byte 4: it has no header"
    );
}

#[test]
fn namespaces_of_the_prelude_are_checked() {
    assert!(
        matches!(error(&prelude(&[C, C])), ArchiveError::Twice { namespace } if namespace == "db.c")
    );
    assert!(matches!(
        error(&prelude(&[C, ["db", "c", VIEW.replace("\"v\"", "\"c\"").as_str(), "view"]])),
        ArchiveError::Twice { .. }
    ));
    for database in ["", "..", "a/b", "a.b", "a\0b"] {
        let error = refused([database, "c", METADATA, "collection"]);
        assert!(matches!(error, NamespaceError::Name(NameError::Database)), "{database}: {error}");
    }
    let error = refused(["db", "", METADATA, "collection"]);
    assert!(matches!(error, NamespaceError::Name(NameError::Collection)), "{error}");
    assert!(matches!(refused(["db", "c", "", "collection"]), NamespaceError::Gone));
    assert!(matches!(refused(["db", "c", METADATA, "timeseries"]), NamespaceError::TimeSeries));
    let series = r#"{"options":{"timeseries":{"timeField":"t"}},"indexes":[]}"#;
    assert!(matches!(refused(["db", "c", series, ""]), NamespaceError::TimeSeries));
    assert!(matches!(
        refused(["db", "system.buckets.c", METADATA, ""]),
        NamespaceError::TimeSeries
    ));
    assert!(matches!(refused(["db", "c", "{", ""]), NamespaceError::Metadata(_)));
    assert!(matches!(refused(["db", "c", "{}", ""]), NamespaceError::Metadata(_)));
    let contradictions = [
        ["db", "other", METADATA, "collection"],
        ["db", "c", METADATA, "view"],
        ["db", "v", VIEW, "collection"],
        ["db", "c", r#"{"indexes":[],"uuid":"0123"}"#, ""],
        ["", "oplog", METADATA, "collection"],
        ["db", "$admin.system.users", METADATA, ""],
    ];
    for namespace in contradictions {
        let error = refused(namespace);
        assert!(matches!(error, NamespaceError::Contradiction(_)), "{namespace:?}: {error}");
    }
    assert_eq!(
        message(&prelude(&[["db", "c\u{1b}", "", "collection"]])),
        "the archive names db.c\\u{1b} in its prelude, at byte 106: \
         it has no metadata: it was dropped or renamed while the dump began"
    );
}

#[test]
fn an_error_says_what_to_do_next() {
    let hint = |archive: &[u8]| error(archive).hint().unwrap();
    assert!(
        hint(&prelude(&[["db", "c", "", ""]])).contains("when no collections are made or dropped")
    );
    assert!(
        hint(&prelude(&[["db", "c", METADATA, "timeseries"]])).contains("a database of its own")
    );
    assert!(hint(&prelude(&[C])).contains("did mongodump end well?"));
    assert!(hint(&[0x1f, 0x8b]).contains("without --gzip"));
    assert!(hint(&one(&[&a_document()])[..120]).contains("run it again"));
    assert!(hint(&header("0.3")).contains("newer"));
    let error = split(&one(&[])[..], &mut Full("begin")).unwrap_err();
    assert_eq!(error.hint(), None);
}

#[test]
fn two_namespaces_never_share_a_file() {
    // A name that is cut off, and one that looks like it: no server allows the latter.
    let long = "x".repeat(250);
    let stem = crate::component::mongodb::names::file_stem(&long);
    let short = stem.replace("%24", "$");
    let metadata = r#"{"indexes":[]}"#;
    let namespaces = [["db", &long, metadata, ""], ["db", &short, metadata, ""]];
    assert!(matches!(error(&prelude(&namespaces)), ArchiveError::Twice { .. }));
}

#[test]
fn documents_of_the_archives_own_are_checked() {
    let with = |elements: &[(&str, Value<'_>)]| {
        message(&[prelude(&[C]), document::build(elements), TERMINATOR.to_vec()].concat())
    };
    let (db, collection) = (("db", Value::Text("db")), ("collection", Value::Text("c")));
    let (eof, crc) = (("EOF", Value::Bool(false)), ("CRC", Value::Int64(0)));
    assert!(with(&[db, collection, eof]).ends_with("'CRC' is no number of 64 bits, or not there"));
    assert!(
        with(&[db, collection, ("EOF", Value::Int32(0)), crc]).contains("'EOF' is no truth value")
    );
    assert!(with(&[db, collection, eof, crc, db]).ends_with("'db' comes twice"));
    let sum = ("CRC", Value::Int64(5));
    assert!(
        with(&[db, collection, eof, sum])
            .ends_with("it has a sum, and is not the end of its namespace")
    );
    let names: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    let many: Vec<_> = names.iter().map(|name| (name.as_str(), Value::Int32(0))).collect();
    assert!(with(&many).ends_with("more than 32 elements"));
    assert!(
        message(&[prelude(&[C]), TERMINATOR.to_vec()].concat()).ends_with("a block has no header")
    );
}

#[test]
fn blocks_belong_to_namespaces_that_are_open() {
    let document = a_document();
    let unknown = [prelude(&[C]), block("db", "d", &document)].concat();
    let at = prelude(&[C]).len();
    assert_eq!(
        message(&unknown),
        format!("the block at byte {at} belongs to db.d, which the prelude does not name")
    );
    let v = ["db", "v", VIEW, "view"];
    let after = [prelude(&[C, v]), end("db", "c", &[]), block("db", "c", &document)].concat();
    assert!(
        matches!(error(&after), ArchiveError::AfterEnd { namespace, .. } if namespace == "db.c")
    );
    let view = [prelude(&[v]), block("db", "v", &document)].concat();
    assert!(message(&view).ends_with("it is a view, which has none"));
    let mut ends = [prelude(&[C]), end("db", "c", &[])].concat();
    ends.splice(ends.len() - 4.., document.iter().copied().chain(TERMINATOR));
    assert!(message(&ends).ends_with("they go on after their end"));
    let missing = [prelude(&[C, v, ["", "oplog", "", ""]]), end("db", "v", &[])].concat();
    assert_eq!(
        message(&missing),
        format!(
            "the archive ends at byte {} without the end of db.c and of one more",
            missing.len()
        )
    );
}

#[test]
fn hostile_documents_are_errors() {
    let huge = [&i32::MAX.to_le_bytes()[..], &[0; 64]].concat();
    assert!(message(&one(&[&huge])).contains("2147483647 is no length of one"));
    let mut deep = document::build(&[]);
    for _ in 0..300 {
        let length = u32::try_from(deep.len() + 7).unwrap();
        deep = [&length.to_le_bytes(), &[3, 0][..], &deep, &[0]].concat();
    }
    assert!(message(&one(&[&deep])).contains("nested more than 256 deep"));
    let damaged = [a_document(), vec![6, 0, 0, 0, 1, 0]].concat();
    let at = prelude(&[C]).len() + block_header("db", "c", false, 0).len() + a_document().len();
    assert!(
        message(&one(&[&damaged])).starts_with(&format!(
            "the archive is damaged or cut off in the documents of db.c: the document at byte {at} "
        )),
        "{}",
        message(&one(&[&damaged]))
    );
}

#[test]
fn a_prelude_without_end_is_refused() {
    let padded = format!("{{\"indexes\":[]{}}}", " ".repeat(16 << 20));
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    let namespaces: Vec<[&str; 4]> = names.iter().map(|name| ["db", name, &padded, ""]).collect();
    let limit = match error(&prelude(&namespaces)) {
        ArchiveError::LongPrelude { limit } => limit,
        other => panic!("{other}"),
    };
    assert_eq!(limit, 64 << 20);
}

/// Fails at one of the three things that it is asked for.
struct Full(&'static str);

/// Takes everything, or nothing if it is full.
struct Room(bool);

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Full {
    fn fail(&self, at: &str) -> io::Result<()> {
        if self.0 == at { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl Sink for Full {
    type Output = Room;

    fn begin(&mut self, _: &Prelude) -> io::Result<()> {
        self.fail("begin")
    }

    fn open(&mut self, _: &Namespace) -> io::Result<Room> {
        self.fail("open")?;
        Ok(Room(self.0 == "write"))
    }

    fn end(&mut self, _: &Namespace, _: Contents, _: Option<Room>) -> io::Result<()> {
        self.fail("end")
    }
}

#[test]
fn what_cannot_be_stored_ends_it() {
    let document = a_document();
    let archive = one(&[&document]);
    for (at, whose) in
        [("begin", "all namespaces"), ("open", "db.c"), ("write", "db.c"), ("end", "db.c")]
    {
        let error = split(&archive[..], &mut Full(at)).unwrap_err();
        let ArchiveError::Sink { namespace, source } = error else { panic!("{at}: {error}") };
        assert_eq!(
            (namespace.as_str(), source.kind()),
            (whose, io::ErrorKind::StorageFull),
            "{at}"
        );
    }
    assert!(split(&archive[..], &mut Full("nowhere")).is_ok());
}

#[test]
fn a_broken_line_is_told_from_an_end() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }
    let archive = one(&[&a_document()]);
    for length in [0, 3, 50, archive.len() - 2, archive.len()] {
        let error = split(archive[..length].chain(Broken), &mut Nothing).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Documents { source: DocumentError::Read { .. }, .. }),
            "after {length}: {error}"
        );
    }
}
