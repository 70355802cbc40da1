//! Git repositories that no platform wrote: everything broken is told, and nothing stops the inventory.

use super::super::objects::Objects;
use super::super::take::Taking;
use crate::git::error::GitError;
use crate::git::fixtures::{Made, Node, put};
use crate::git::layout::diff::diff;
use crate::git::layout::{Inventory, Layout, inventory};
use git2::{ObjectType, Oid};
use std::collections::BTreeMap;
use std::path::Path;

const GOOD: &[(&str, &str)] = &[
    ("metadata.json", r#"{"fileFormatVersion":5,"serverSchemaVersion":12}"#),
    ("application.json", "{}"),
    ("pages/Home/Home.json", "{}"),
    ("pages/Home/queries/get/metadata.json", "{}"),
];

fn good() -> BTreeMap<Vec<u8>, Node> {
    let mut root = BTreeMap::new();
    for (path, content) in GOOD {
        put(&mut root, path.as_bytes(), file(content));
    }
    root
}

fn file(content: &str) -> Node {
    Node::File(content.as_bytes().to_vec())
}

fn object((mode, id): (u32, Oid)) -> Node {
    Node::Object { mode, id }
}

fn absent() -> Oid {
    Oid::from_str(&"ab".repeat(20)).unwrap()
}

fn told(inventory: &Inventory) -> Vec<String> {
    inventory
        .troubles
        .iter()
        .map(|trouble| format!("{}: {}", trouble.path, trouble.reason))
        .collect()
}

/// What the app has is found whatever lies beside it.
fn assert_good(found: &Inventory) {
    assert_eq!(found.layout, Layout::Appsmith);
    let pages = &found.apps[0].pages;
    let home = pages.iter().find(|page| page.name == "Home").expect("the page is there");
    assert_eq!(home.queries, ["get"]);
}

#[test]
fn broken_documents_are_told_each() {
    let made = Made::new();
    let commit = made.commit(
        &[
            ("metadata.json", r#"{"fileFormatVersion":5,"serverSchemaVersion":"13"}"#),
            ("application.json", r#"{"pages":[{"id":"Home"}"#),
            ("datasources/a.json", "[1,2]"),
            ("datasources/b.json", ""),
            ("datasources/c.json", r#"{"name":"\u001b[31m","pluginId":null}"#),
            ("pages/Home/Home.json", "{}"),
            ("pages/Home/queries/get/metadata.json", "\u{feff}{}"),
        ],
        &[],
    );
    let found = inventory(&made.repository, commit).unwrap();
    assert_good(&found);
    assert_eq!(
        told(&found),
        [
            "application.json: it is not the JSON that it is to be: EOF while parsing a list at line 1 column 23",
            "metadata.json: it is not the JSON that it is to be: invalid type: string \"13\", expected u32 at line 1 column 49",
            "datasources/a.json: it is no JSON object",
            "datasources/b.json: it is no JSON object",
            "pages/Home/queries/get/metadata.json: it is no JSON object",
        ]
    );
    let names: Vec<&str> = found.data_sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "\u{1b}[31m"]);
    assert_eq!(found.schema, None);
}

#[test]
fn documents_that_are_too_large_or_too_deep_are_not_read() {
    let made = Made::new();
    let large = format!("{{\"pages\":[\"{}\"]}}", "x".repeat(16 << 20));
    let deep = format!("{{\"a\":{}", "[".repeat(1 << 20));
    let long = format!("{{\"name\":\"{}\"}}", "n".repeat(1 << 20));
    let mut root = good();
    put(&mut root, b"application.json", file(&large));
    put(&mut root, b"theme.json", file(&deep));
    put(&mut root, b"datasources/a.json", file(&long));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    let told = told(&found);
    assert_eq!(
        told[0],
        "application.json: it has 16777230 bytes, and no more than 16777216 are read"
    );
    assert!(told[1].starts_with("theme.json: it is not the JSON that it is to be: "), "{told:?}");
    assert_eq!(told.len(), 2);
    assert_eq!(found.data_sources[0].name.len(), 255);
}

#[test]
fn lists_without_end_are_counted_but_not_kept() {
    let made = Made::new();
    let pages = "{},".repeat(1 << 20);
    let document = format!(
        r#"{{"app":[{{"definition":{{"appV2":{{"pages":[{pages}{{"name":"last"}}],"components":[{pages}0]}}}}}}]}}"#
    );
    let commit = made.commit(
        &[(".meta/meta.json", r#"{"apps":{"Desk":"v1"}}"#), ("Desk/v1.json", &document)],
        &[],
    );
    let found = inventory(&made.repository, commit).unwrap();
    assert_eq!(told(&found), [""; 0]);
    assert_eq!((found.apps[0].pages.len(), found.apps[0].widgets), (0, (1 << 20) + 1));
    let members: Vec<String> = (0..100_001).map(|at| format!(r#""{at}":{{}}"#)).collect();
    let index = format!("{{{}}}", members.join(","));
    let commit = made.commit(&[(".meta/appMeta.json", &index)], &[]);
    let found = inventory(&made.repository, commit).unwrap();
    assert_eq!(found.layout, Layout::TooljetGranular);
    assert!(told(&found)[0].contains("it has more than 100000 members"), "{:?}", told(&found));
}

#[test]
fn names_of_any_bytes_are_told_exactly() {
    let made = Made::new();
    let mut root = good();
    put(&mut root, b"pages/\xff\x1b/queries/\xfe/metadata.json", file("{}"));
    put(&mut root, b"datasources/\xfd.json", file("{}"));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    let page = &found.apps[0].pages[1];
    assert_eq!(
        (page.name.as_str(), page.queries.as_slice()),
        (r"\xff\u{1b}", &[r"\xfe".to_owned()][..])
    );
    let json = serde_json::to_value(&found.data_sources[0]).unwrap();
    assert_eq!(json["path"], r"datasources/\xfd.json");
    assert_eq!(json["path_base64"], "ZGF0YXNvdXJjZXMv/S5qc29u");
}

#[test]
fn names_that_git_does_not_write_are_only_names() {
    let made = Made::new();
    let mut root = good();
    for name in [&b".."[..], b".", b".git", b"a/b", b"/", b"pages/x/queries/y"] {
        root.insert(name.to_vec(), file("x"));
    }
    let below = Node::Directory(BTreeMap::from([(b"metadata.json".to_vec(), file("{}"))]));
    root.insert(b"apps/x".to_vec(), below);
    let commit = made.commit_of(&Node::Directory(root.clone()), &[]);
    assert_good(&inventory(&made.repository, commit).unwrap());
    // libgit2 refuses a directory with such an entry.
    root.insert(b"jslibs".to_vec(), Node::Directory(BTreeMap::from([(Vec::new(), file("x"))])));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    assert!(told(&found)[0].contains("jslibs: object "), "{:?}", told(&found));
}

#[test]
fn what_lies_too_deep_is_not_looked_at() {
    let made = Made::new();
    let mut entry = made.write(&file("x"));
    for _ in 0..10_000 {
        let below = BTreeMap::from([(b"d".to_vec(), object(entry))]);
        entry = made.write(&Node::Directory(below));
    }
    let mut root = good();
    root.insert(b"deep".to_vec(), object(entry));
    root.insert(b"n".repeat(5_000), file("x"));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    let told = told(&found);
    assert_eq!(told.len(), 2);
    assert_eq!(told[0], ": a path in it has more than 4096 bytes: it was not looked at");
    assert!(told[1].starts_with("deep/d/d/"), "{told:?}");
    assert!(
        told[1].ends_with("d: it lies below 100 directories: what is in it was not looked at"),
        "{told:?}"
    );
}

#[test]
fn few_objects_that_unfold_to_billions_of_files_are_stopped() {
    let made = Made::new();
    let mut entry = made.write(&file("x"));
    for _ in 0..12 {
        let names = (b'a'..=b'j').map(|name| (vec![name], object(entry)));
        entry = made.write(&Node::Directory(names.collect()));
    }
    let mut root = good();
    root.insert(b"zz".to_vec(), object(entry));
    let commit = made.commit_of(&Node::Directory(root), &[]);
    let mut objects = Objects::new(&made.repository).unwrap();
    let root = objects.root(commit).unwrap();
    objects.entries_left = 10_000;
    let found = Taking::new(objects, root).take();
    assert_good(&found);
    assert!(found.files < 10_000);
    let told = told(&found);
    assert!(!told.is_empty() && told.len() <= 2, "{told:?}");
    assert!(
        told.iter().all(|trouble| trouble.ends_with("entries: the others were not looked at")),
        "{told:?}"
    );
}

#[test]
fn missing_objects_are_named() {
    let made = Made::new();
    let mut root = good();
    let missing = absent();
    put(&mut root, b"datasources/a.json", Node::Object { mode: 0o100_644, id: missing });
    put(&mut root, b"README.md", Node::Object { mode: 0o100_644, id: missing });
    put(&mut root, b"jslibs", Node::Object { mode: 0o040_000, id: missing });
    let blob = made.object(ObjectType::Blob, b"not a tree");
    put(&mut root, b"theme", Node::Object { mode: 0o040_000, id: blob });
    let commit = made.commit_of(&Node::Directory(root), &[]);
    let found = inventory(&made.repository, commit).unwrap();
    let told = told(&found);
    for path in ["README.md", "datasources/a.json", "jslibs"] {
        assert!(told.contains(&format!("{path}: object {missing} is missing")), "{told:?}");
    }
    assert!(told.iter().any(|trouble| trouble.starts_with("theme: object ")), "{told:?}");
    let good = made.commit(GOOD, &[]);
    let difference = diff(&made.repository, (good, commit), Path::new("")).unwrap();
    assert!(!difference.troubles.is_empty());
}

#[test]
fn a_commit_without_its_root_is_of_no_platform() {
    let made = Made::new();
    let missing = absent();
    let rootless = made.commit_tree(missing, &[]);
    let found = inventory(&made.repository, rootless).unwrap();
    assert_eq!((found.layout, found.files), (Layout::Unknown, 0));
    assert_eq!(told(&found), [format!(": object {missing} is missing")]);
    let good = made.commit(GOOD, &[]);
    let difference = diff(&made.repository, (rootless, good), Path::new("")).unwrap();
    assert_eq!((difference.troubles, difference.changes.len()), (found.troubles, 3));
}

#[test]
fn a_commit_that_cannot_be_read_is_an_error_that_says_so() {
    let made = Made::new();
    let missing = absent();
    let error = inventory(&made.repository, missing).unwrap_err();
    assert!(matches!(&error, GitError::NoCommit { name, .. } if *name == missing.to_string()));
    let blob = made.object(ObjectType::Blob, b"x");
    let error = inventory(&made.repository, blob).unwrap_err().to_string();
    assert!(error.starts_with(&format!("commit {blob} in the mirror /")), "{error}");
    assert!(error.ends_with("cannot be read: it is a blob"), "{error}");
    let garbage = made.object(ObjectType::Commit, b"tree of knowledge");
    assert!(matches!(inventory(&made.repository, garbage), Err(GitError::Read { .. })));
}

#[test]
fn links_are_not_followed() {
    let made = Made::new();
    let mut root = good();
    put(&mut root, b"metadata.json", Node::Link(b"/etc/passwd".to_vec()));
    put(&mut root, b"pages/Link", Node::Link(b"Home".to_vec()));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    assert_eq!(told(&found)[0], "metadata.json: it is to be a file: links are not followed");
}

#[test]
fn pointers_of_lfs_are_counted_and_submodules_listed() {
    let made = Made::new();
    let pointer = |size: &str| {
        format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {size}\n",
            "4D".repeat(32)
        )
    };
    let mut root = good();
    put(&mut root, b"assets/film.mp4", file(&pointer("12345")));
    put(&mut root, b"assets/other.mp4", file(&pointer("1")));
    put(&mut root, b"assets/none.txt", file(&pointer("minus one")));
    put(&mut root, b"theme.json", file(&pointer("7")));
    put(&mut root, b"libs/a", Node::Submodule(absent()));
    put(&mut root, b"libs/b", Node::Submodule(absent()));
    let modules = "[submodule \"a\"]\n\tpath = libs/a\n\turl = https://me:hunter2@host/a.git\n[submodule \"c\"]\n\tpath = libs/c\n";
    put(&mut root, b".gitmodules", file(modules));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(root), &[])).unwrap();
    assert_good(&found);
    assert_eq!((found.lfs.count, found.lfs.size, found.files), (3, 12_353, 11));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(
        json["lfs"]["first"][1],
        serde_json::json!({ "path": "assets/film.mp4", "oid": "4d".repeat(32), "size": 12345 })
    );
    let commit = absent().to_string();
    assert_eq!(
        json["submodules"],
        serde_json::json!([
            { "path": "libs/a", "url": "https://me:***@host/a.git", "commit": commit },
            { "path": "libs/b", "url": null, "commit": commit },
        ])
    );
    assert_eq!(
        told(&found),
        ["theme.json: it is a pointer of Git LFS: what it points to is not read"]
    );
}

#[test]
fn too_many_submodules_are_counted() {
    let made = Made::new();
    let names = (0..1_001).map(|at| (format!("m{at}").into_bytes(), Node::Submodule(absent())));
    let found = inventory(&made.repository, made.commit_of(&Node::Directory(names.collect()), &[]))
        .unwrap();
    assert_eq!((found.submodules.len(), found.layout), (1_000, Layout::Unknown));
    assert_eq!(told(&found), [".gitmodules: there are 1001 submodules, of which 1000 are listed"]);
}
