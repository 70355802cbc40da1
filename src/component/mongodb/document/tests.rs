//! The validator against documents of every type, made here and by a real server, and against every damage of them.

use super::*;
use proptest::prelude::*;
use std::iter;

/// `mongodump`'s of a database with every type in it, see `tests/fixtures/appsmith`.
const ARCHIVE: &[u8] = include_bytes!("../../../../tests/fixtures/appsmith/appsmith.archive");

/// A document of these elements: type, name, value.
fn document(elements: &[(u8, &str, Vec<u8>)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, name, value) in elements {
        body.push(*kind);
        body.extend_from_slice(name.as_bytes());
        body.push(0);
        body.extend_from_slice(value);
    }
    framed(&body)
}

fn framed(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 5).unwrap();
    [&length.to_le_bytes(), body, &[0]].concat()
}

fn text(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len() + 1).unwrap();
    [&length.to_le_bytes(), text, &[0]].concat()
}

fn binary(subtype: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap();
    [&length.to_le_bytes(), &[subtype][..], bytes].concat()
}

fn scoped(code: &[u8], scope: &[u8]) -> Vec<u8> {
    let parts = [text(code), scope.to_vec()].concat();
    let length = u32::try_from(parts.len() + 4).unwrap();
    [&length.to_le_bytes(), &parts[..]].concat()
}

/// One value of each type that there is.
fn every_type() -> Vec<(u8, &'static str, Vec<u8>)> {
    let empty = framed(&[]);
    vec![
        (1, "double", vec![1; 8]),
        (2, "text", text(b"a\0b\xff")),
        (3, "document", document(&[(16, "x", vec![0; 4])])),
        (4, "array", document(&[(8, "0", vec![1]), (8, "1", vec![0])])),
        (5, "binary", binary(0, b"bytes")),
        (5, "old binary", binary(2, b"bytes")),
        (6, "undefined", vec![]),
        (7, "id", vec![7; 12]),
        (8, "bool", vec![1]),
        (9, "time", vec![9; 8]),
        (10, "null", vec![]),
        (11, "regex", b"a.*\0im\0".to_vec()),
        (12, "pointer", [text(b"db.c"), vec![3; 12]].concat()),
        (13, "code", text(b"f()")),
        (14, "symbol", text(b"s")),
        (15, "scoped", scoped(b"g()", &empty)),
        (16, "int", vec![16; 4]),
        (17, "timestamp", vec![17; 8]),
        (18, "long", vec![18; 8]),
        (19, "decimal", vec![19; 16]),
        (255, "least", vec![]),
        (127, "greatest", vec![]),
    ]
}

fn reason(document: &[u8]) -> Reason {
    validate(document).unwrap_err().reason
}

/// Nested `levels` deep, the document itself counted.
fn nested(levels: usize, kind: u8) -> Vec<u8> {
    (1..levels).fold(framed(&[]), |inner, _| document(&[(kind, "0", inner)]))
}

/// Gives its bytes a few at a time.
struct Drops<'a>(&'a [u8], usize);

impl Read for Drops<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}

fn read_all(input: impl Read) -> Result<Vec<Vec<u8>>, DocumentError> {
    let mut reader = DocumentReader::new(input);
    iter::from_fn(|| reader.next_document().map(|found| found.map(<[u8]>::to_vec)).transpose())
        .collect()
}

#[test]
fn every_type_is_known() {
    for (kind, name, value) in every_type() {
        let one = document(&[(kind, name, value.clone())]);
        assert_eq!(validate(&one), Ok(()), "{name}");
        // In a document in an array.
        let deep = document(&[(4, "", document(&[(3, "0", one.clone()), (10, "1", vec![])]))]);
        assert_eq!(validate(&deep), Ok(()), "{name}");
        if !value.is_empty() {
            let shorter = document(&[(kind, name, value[..value.len() - 1].to_vec())]);
            assert!(validate(&shorter).is_err(), "{name}");
        }
    }
    assert_eq!(validate(&document(&every_type())), Ok(()));
    for kind in (0..=255).filter(|kind| every_type().iter().all(|(known, ..)| known != kind)) {
        assert_eq!(reason(&document(&[(kind, "x", vec![0; 32])])), Reason::Type(kind));
    }
}

#[test]
fn lengths_and_ends_are_checked() {
    let good = document(&[(2, "a", text(b"text")), (3, "b", document(&[(8, "c", vec![1])]))]);
    assert_eq!(validate(&good), Ok(()));
    for length in 0..good.len() {
        assert!(validate(&good[..length]).is_err(), "cut off after {length}");
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(validate(&longer), Err(Reason::Length.at(0)));
    let change = |at: usize, byte: u8| {
        let mut changed = good.clone();
        changed[at] = byte;
        validate(&changed).unwrap_err()
    };
    assert_eq!(change(good.len() - 1, 1), Reason::NoEnd.at(good.len() - 1));
    // The text's length: one less, one more, none, and negative.
    assert_eq!(change(7, 4), Reason::Text.at(14));
    assert_eq!(change(7, 200), Reason::Length.at(7));
    assert_eq!(change(7, 0), Reason::Length.at(7));
    assert_eq!(change(10, 0x80), Reason::Length.at(7));
    // A nested document that goes beyond what it lies in.
    assert_eq!(change(19, 200), Reason::Length.at(19));
    let unnamed = framed(&[8, b'a', b'b']);
    assert_eq!(reason(&unnamed), Reason::Name);
    assert_eq!(reason(&document(&[(8, "x", vec![2])])), Reason::Bool(2));
    assert_eq!(reason(&document(&[(11, "x", b"a\0b".to_vec())])), Reason::Overrun);
    assert_eq!(reason(&framed(&[0])), Reason::Name);
    assert_eq!(reason(&[5, 0, 0, 0]), Reason::Length);
    assert_eq!(reason(&[]), Reason::Overrun);
    // The length of code with a scope must be that of its parts.
    let mut code = scoped(b"g()", &framed(&[]));
    code.push(0);
    code[0] += 1;
    assert_eq!(reason(&document(&[(15, "x", code)])), Reason::Length);
}

#[test]
fn depth_is_bounded() {
    for kind in [3, 4] {
        assert_eq!(validate(&nested(MAX_DEPTH, kind)), Ok(()));
        assert_eq!(reason(&nested(MAX_DEPTH + 1, kind)), Reason::Depth);
    }
    // As deep as a document's size allows: no stack overflows.
    let mut deepest = framed(&[]);
    let mut body = Vec::new();
    for _ in 0..(1 << 20) {
        body.extend_from_slice(&[0xff, 0xff, 0xff, 0x7f, 3, 0]);
    }
    deepest.splice(4..4, body.into_iter().skip(4));
    let length = u32::try_from(deepest.len()).unwrap();
    deepest[..4].copy_from_slice(&length.to_le_bytes());
    assert!(validate(&deepest).is_err());
    let scopes = (0..300).fold(framed(&[]), |inner, _| document(&[(15, "", scoped(b"", &inner))]));
    assert_eq!(reason(&scopes), Reason::Depth);
}

#[test]
fn elements_of_the_top_level_are_found() {
    let document = document(&every_type());
    let found: Vec<_> = elements(&document).collect();
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, every_type().iter().map(|(_, name, _)| *name).collect::<Vec<_>>());
    let get = |wanted| found.iter().find(|(name, _)| *name == wanted).unwrap().1;
    assert_eq!(get("bool"), Value::Bool(true));
    assert_eq!(get("int"), Value::Int32(0x1010_1010));
    assert_eq!(get("long"), Value::Int64(0x1212_1212_1212_1212));
    assert_eq!(get("document"), Value::Other(3));
    assert_eq!(get("text"), Value::Other(2), "it is not UTF-8");
}

#[test]
fn what_is_built_is_valid_and_found_again() {
    let values = [
        ("db", Value::Text("naïve ☂")),
        ("", Value::Text("")),
        ("EOF", Value::Bool(true)),
        ("size", Value::Int32(-5)),
        ("CRC", Value::Int64(i64::MIN)),
    ];
    let document = build(&values);
    assert_eq!(validate(&document), Ok(()));
    assert_eq!(elements(&document).collect::<Vec<_>>(), values);
    assert_eq!(build(&[]), [5, 0, 0, 0, 0]);
}

#[test]
fn a_stream_is_read_to_its_end_however_it_comes() {
    let long = document(&[(5, "x", binary(0, &vec![1; 3 * BUFFER_BYTES]))]);
    let documents = vec![document(&every_type()), long, framed(&[])];
    let stream = documents.concat();
    for drop in [1, 7, 4096, usize::MAX] {
        assert_eq!(read_all(Drops(&stream, drop)).unwrap(), documents, "{drop}");
    }
    assert_eq!(read_all(io::empty()).unwrap(), Vec::<Vec<u8>>::new());
    let boundaries: Vec<usize> = documents
        .iter()
        .scan(0, |end, document| {
            *end += document.len();
            Some(*end)
        })
        .collect();
    for cut in (1..stream.len()).filter(|cut| *cut < 600 || cut % 9973 == 0) {
        let result = read_all(&stream[..cut]);
        if boundaries.contains(&cut) {
            assert!(result.is_ok(), "cut at {cut}");
        } else {
            let Err(DocumentError::Truncated { end, .. }) = result else { panic!("cut at {cut}") };
            assert_eq!(end, cut as u64);
        }
    }
}

#[test]
fn the_longest_document_is_read_and_longer_ones_are_refused_before_they_come() {
    let fill = MAX_DOCUMENT_BYTES - framed(&[5, 0, 0, 0, 0, 0, 0]).len();
    let longest = document(&[(5, "", binary(0, &vec![0; fill]))]);
    assert_eq!(longest.len(), MAX_DOCUMENT_BYTES);
    assert_eq!(read_all(&longest[..]).unwrap(), [longest]);
    let longer = i32::try_from(MAX_DOCUMENT_BYTES).unwrap() + 1;
    for length in [longer, i32::MAX, 4, 0, -1, -2, i32::MIN] {
        let stream = [&framed(&[])[..], &length.to_le_bytes()].concat();
        let error = read_all(&stream[..]).unwrap_err();
        assert!(
            matches!(error, DocumentError::Length { offset: 5, length: said } if said == length),
            "{error}"
        );
    }
    // A document that claims 16 MiB and has none of them costs no memory.
    let mut reader = DocumentReader::new(&[0, 0, 0, 1, 0][..]);
    assert!(matches!(reader.next_document(), Err(DocumentError::Truncated { offset: 0, end: 5 })));
    assert_eq!(reader.buffer.len(), BUFFER_BYTES);
}

#[test]
fn a_stream_that_fails_says_where() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::ConnectionReset.into())
        }
    }
    let error = read_all(framed(&[])[..3].chain(Fails)).unwrap_err();
    assert!(matches!(error, DocumentError::Read { offset: 3, .. }), "{error}");
    let damaged = [framed(&[]), document(&[(8, "x", vec![9])])].concat();
    let error = read_all(&damaged[..]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the document at byte 5 is damaged: 9 is neither false nor true (its byte 7)"
    );
}

#[test]
fn documents_of_a_real_server_are_valid() {
    let mut reader = DocumentReader::new(&ARCHIVE[4..]);
    let mut count = 0;
    while !reader.is_at_end().unwrap() {
        count += usize::from(reader.document_or_terminator().unwrap().is_some());
    }
    // 15 of the prelude and its header, 30 headers, and the documents that the fixtures' README counts.
    assert_eq!(count, 15 + 1 + 30 + 437);
}

/// Documents as a strategy: the bytes, made without the code that is tested.
fn any_document() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop::sample::select(every_type()).prop_map(|(kind, _, value)| (kind, value));
    let value = leaf.prop_recursive(6, 64, 8, |inner| {
        let elements = prop::collection::vec(("[^\\x00]{0,5}", inner), 0..8);
        (prop::bool::ANY, elements).prop_map(|(array, elements)| {
            let elements: Vec<_> = elements
                .iter()
                .map(|(name, (kind, value))| (*kind, name.as_str(), value.clone()))
                .collect();
            (if array { 4 } else { 3 }, document(&elements))
        })
    });
    prop::collection::vec(value, 0..6).prop_map(|values| {
        let elements: Vec<_> =
            values.into_iter().map(|(kind, value)| (kind, "name", value)).collect();
        document(&elements)
    })
}

proptest! {
    #[test]
    fn documents_are_valid_and_shorter_ones_are_not(document in any_document(), cut in any::<prop::sample::Index>()) {
        prop_assert_eq!(validate(&document), Ok(()));
        prop_assert!(validate(&document[..cut.index(document.len())]).is_err());
        prop_assert!(elements(&document).all(|(name, _)| name == "name"));
    }

    #[test]
    fn any_bytes_are_looked_at_without_panic(
        mut document in any_document(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for (at, byte) in changes {
            let at = at.index(document.len());
            document[at] = byte;
        }
        let found = elements(&document).count();
        if validate(&document).is_ok() {
            prop_assert!(found <= document.len());
        }
    }

    #[test]
    fn texts_come_back(texts in prop::collection::vec(("[^\\x00]{0,9}", any::<String>()), 0..6)) {
        let values: Vec<_> =
            texts.iter().map(|(name, text)| (name.as_str(), Value::Text(text))).collect();
        let document = build(&values);
        prop_assert_eq!(validate(&document), Ok(()));
        prop_assert_eq!(elements(&document).collect::<Vec<_>>(), values);
    }
}
