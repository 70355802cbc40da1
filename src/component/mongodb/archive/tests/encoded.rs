//! What the encoder writes: read back, and compared with what `mongodump` writes.

use super::*;

/// Write the archive of these files anew.
fn encode(prelude: &Prelude, files: &BTreeMap<String, Vec<u8>>) -> (Vec<u8>, Vec<Contents>) {
    let mut encoder = Encoder::new(Vec::new(), prelude).unwrap();
    let mut contents = Vec::new();
    while let Some(namespace) = encoder.next_namespace() {
        let documents = namespace.documents_path().map(|path| &files[&path][..]);
        contents.push(encoder.write(documents.unwrap_or_default()).unwrap());
    }
    (encoder.finish().unwrap(), contents)
}

#[test]
fn what_was_split_can_be_put_together_again() {
    for archive in [GOLDEN, WITH_OPLOG] {
        let (summary, files) = read(archive).unwrap();
        let (again, contents) = encode(&summary.prelude, &files);
        // Byte for byte, but for the order in which blocks take turns.
        assert_eq!(again.len(), archive.len());
        let prelude = ..blocks(archive)[0].whole.end;
        assert!(again[prelude] == archive[prelude]);
        let sorted = |archive: &[u8]| {
            let blocks = blocks(archive);
            let mut blocks: Vec<Vec<u8>> =
                blocks.iter().map(|block| archive[block.whole.clone()].to_vec()).collect();
            blocks.sort();
            blocks
        };
        assert!(sorted(&again) == sorted(archive));

        let (summary_again, files_again) = read(&again).unwrap();
        assert_eq!(summary_again.prelude, summary.prelude);
        assert_eq!((&summary_again.contents, &contents), (&summary.contents, &summary.contents));
        assert!(files_again == files);
    }
}

/// The golden archive without its long collections.
fn short_archive() -> Vec<u8> {
    let (summary, files) = read(GOLDEN).unwrap();
    let wanted = ["everyType", "config", "passwordResetToken", "activeApplications"];
    let mut namespaces = summary.prelude.namespaces().to_vec();
    namespaces.retain(|namespace| wanted.contains(&namespace.collection()));
    let prelude = Prelude::new(summary.prelude.versions().clone(), namespaces).unwrap();
    encode(&prelude, &files).0
}

#[test]
fn every_bit_after_the_prelude_counts() {
    let mut archive = short_archive();
    for at in blocks(&archive)[0].whole.end..archive.len() {
        for bit in 0..8_u32 {
            archive[at] ^= 1_u8 << bit;
            assert!(split(&archive[..], &mut Nothing).is_err(), "bit {bit} of byte {at}");
            archive[at] ^= 1_u8 << bit;
        }
    }
    assert!(split(&archive[..], &mut Nothing).is_ok());
}

#[test]
fn a_folder_can_go_into_another_database() {
    let (summary, files) = read(GOLDEN).unwrap();
    let namespaces = files.iter().filter_map(|(path, metadata)| {
        let stem = path.strip_prefix("appsmith/")?.strip_suffix(".metadata.json")?;
        let metadata = String::from_utf8(metadata.clone()).unwrap();
        Some(Namespace::of_files("other".to_owned(), stem, metadata).unwrap())
    });
    let prelude = Prelude::new(summary.prelude.versions().clone(), namespaces.collect()).unwrap();
    let moved = |path: &str| path.replacen("appsmith/", "other/", 1);
    let files: BTreeMap<_, _> =
        files.into_iter().map(|(path, content)| (moved(&path), content)).collect();
    let (archive, _) = encode(&prelude, &files);
    assert!(read(&archive).unwrap().1 == files);
}

#[test]
fn a_file_tells_its_namespace() {
    let of = |database: &str, stem: &str, metadata: &str| {
        Namespace::of_files(database.to_owned(), stem, metadata.to_owned())
    };
    let named = |name: &str| format!(r#"{{"indexes":[],"collectionName":"{name}"}}"#);
    assert_eq!(of("db", "a+b", r#"{"indexes":[]}"#).unwrap().collection(), "a b");
    assert_eq!(of("", "oplog", "").unwrap().kind(), Kind::Oplog);
    assert_eq!(of("db", "$admin.system.roles", "").unwrap().kind(), Kind::Auth);
    let long = "x".repeat(250);
    let stem = crate::component::mongodb::names::file_stem(&long);
    assert_eq!(of("db", &stem, &named(&long)).unwrap().collection(), long);
    let cut_off = of("db", &stem, r#"{"indexes":[]}"#).unwrap_err();
    assert!(matches!(cut_off, NamespaceError::Name(NameError::CutOff)), "{cut_off}");
    let other = of("db", "a", &named("b")).unwrap_err();
    assert!(matches!(other, NamespaceError::Name(NameError::Other)), "{other}");
    assert!(matches!(of("db", "a", "").unwrap_err(), NamespaceError::Gone));
}

fn prelude(collections: &[&str]) -> Prelude {
    let namespace = |name: &&str| {
        let view = r#"{"options":{"viewOn":"c"},"indexes":[]}"#;
        let metadata = if *name == "view" { view } else { r#"{"indexes":[]}"# };
        Namespace::new("db".to_owned(), (*name).to_owned(), "", metadata.to_owned()).unwrap()
    };
    let versions =
        Versions { server: "7.0.1".to_owned(), tool: "1".to_owned(), concurrent_collections: 1 };
    Prelude::new(versions, collections.iter().map(namespace).collect()).unwrap()
}

#[test]
fn only_documents_are_written() {
    let written = |name: &str, documents: &[u8]| {
        Encoder::new(io::sink(), &prelude(&[name])).unwrap().write(documents)
    };
    assert!(written("c", &[5, 0, 0, 0, 0]).is_ok());
    for documents in [&[5, 0, 0, 0][..], &[5, 0, 0, 0, 1], &TERMINATOR, &[6, 0, 0, 0, 0, 0]] {
        let error = written("c", documents).unwrap_err();
        assert!(matches!(error, EncodeError::Documents { .. }), "{documents:?}: {error}");
    }
    let error = written("view", &[5, 0, 0, 0, 0]).unwrap_err();
    assert_eq!(error.to_string(), "db.view is a view, and has documents");
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut encoder = Encoder::new(Gone, &prelude(&["c"])).unwrap();
    encoder.write(io::empty()).unwrap();
    assert!(matches!(encoder.finish(), Err(EncodeError::Write(_))));
}

#[test]
#[should_panic(expected = "every namespace of the prelude was written")]
fn an_unfinished_archive_cannot_be_finished() {
    let _ = Encoder::new(Vec::new(), &prelude(&["a", "b"])).unwrap().finish();
}

proptest! {
    #[test]
    fn any_collections_come_back(
        collections in prop::collection::btree_map(
            "[^\\x00]{1,60}",
            prop::collection::vec((any::<String>(), any::<i64>()), 0..5),
            0..5,
        ),
    ) {
        let names: Vec<&str> = collections.keys().map(String::as_str).filter(|name| *name != "view").collect();
        let prelude = prelude(&names);
        let mut files = BTreeMap::new();
        for namespace in prelude.namespaces() {
            let documents = collections[namespace.collection()].iter().flat_map(|(text, number)| {
                document::build(&[("text", Value::Text(text)), ("number", Value::Int64(*number))])
            });
            files.insert(namespace.documents_path().unwrap(), documents.collect());
            files.insert(namespace.metadata_path().unwrap(), namespace.metadata().as_bytes().to_vec());
        }
        let (archive, contents) = encode(&prelude, &files);
        let (summary, files_again) = read(&archive).unwrap();
        prop_assert_eq!(files_again, files);
        prop_assert_eq!(summary.contents, contents);
        prop_assert_eq!(summary.prelude, prelude);
    }
}
