//! Whatever the trees are, nothing panics, and the difference of two is empty exactly where they are the same.

use crate::git::fixtures::{Made, Node};
use crate::git::layout::diff::{diff, of_commits};
use crate::git::layout::{Layout, inventory};
use crate::model::apps::AppsSummary;
use git2::Oid;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;
use std::path::Path;

const NAMES: &[&str] = &[
    "pages",
    "queries",
    "actions",
    "jsobjects",
    "actionCollections",
    "widgets",
    "datasources",
    "data-sources",
    "jslibs",
    "theme",
    "theme.json",
    "metadata.json",
    "application.json",
    "canvas.json",
    ".meta",
    "meta.json",
    "appMeta.json",
    "moduleMeta.json",
    "dataSourceMeta.json",
    "apps",
    "app",
    "app.json",
    "schema",
    "schema.json",
    "modules",
    "versions",
    "events",
    "components",
    "data-source.json",
    "Home",
    "Home.json",
    "v1.json",
    ".json",
    ".gitmodules",
];

const CONTENTS: &[&str] = &[
    "",
    "{}",
    "[]",
    "null",
    "{",
    "{\"name\":\"x\"}",
    "{\"name\":7}",
    r#"{"fileFormatVersion":5,"serverSchemaVersion":13}"#,
    r#"{"fileFormatVersion":4,"serverSchemaVersion":99999999999}"#,
    r#"{"pages":[{"id":"Home"},{"id":"Gone"}]}"#,
    r#"{"version":"3.16.0","apps":{"Home":"v1","pages":"v9"}}"#,
    r#"{"a":{"appPath":"apps/Home"},"b":{"appPath":"apps//.."},"c":{"appPath":"apps/Home/pages"}}"#,
    r#"{"tooljet_version":"3.20.1","app":[{"definition":{"appV2":{"name":"n","pages":[{"name":"p"}]}}}]}"#,
    "version https://git-lfs.github.com/spec/v1\noid sha256:0000000000000000000000000000000000000000000000000000000000000000\nsize 1\n",
    "[submodule \"x\"]\npath=apps\nurl=https://u:p@h/x\n",
];

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => prop::sample::select(NAMES).prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(1..=255_u8, 1..6),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        12 => prop::sample::select(CONTENTS).prop_map(|content| Node::File(content.as_bytes().to_vec())),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Node::File),
        1 => Just(Node::Link(b"Home".to_vec())),
        1 => Just(Node::Submodule(Oid::from_str(&"cd".repeat(20)).unwrap())),
        1 => prop::sample::select(&[0o100_644, 0o040_000, 0o100_755, 0o7][..])
            .prop_map(|mode| Node::Object { mode, id: Oid::from_str(&"ef".repeat(20)).unwrap() }),
    ];
    leaf.prop_recursive(5, 48, 6, |node| directory(node).prop_map(Node::Directory))
}

fn directory(node: impl Strategy<Value = Node>) -> impl Strategy<Value = BTreeMap<Vec<u8>, Node>> {
    prop::collection::btree_map(name(), node, 0..6)
}

/// Files: empty directories are nothing.
fn leaves(node: &Node) -> u64 {
    match node {
        Node::Directory(entries) => entries.values().map(leaves).sum(),
        // A directory that is missing.
        Node::Object { mode: 0o040_000, .. } => 0,
        _ => 1,
    }
}

#[test]
fn no_tree_makes_it_panic() {
    let made = Made::new();
    let trees =
        (directory(node()).prop_map(Node::Directory), directory(node()).prop_map(Node::Directory));
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let holds = runner.run(&trees, |(first, second)| hold(&made, &first, &second));
    assert!(holds.is_ok(), "{}", holds.unwrap_err());
}

fn hold(made: &Made, first: &Node, second: &Node) -> Result<(), TestCaseError> {
    let before = made.commit_of(first, &[]);
    let after = made.commit_of(second, &[before]);
    let merge = made.commit_of(first, &[after, before]);
    for (commit, node) in [(before, first), (after, second)] {
        let found = inventory(&made.repository, commit).unwrap();
        prop_assert_eq!(found.files, leaves(node));
        let is_none = matches!(found.layout, Layout::Unknown | Layout::Empty);
        prop_assert_eq!(found.layout.platform().is_none(), is_none);
        prop_assert!(!is_none || found.apps.is_empty());
        let summary = serde_json::to_string(&found.summary()).unwrap();
        prop_assert_eq!(serde_json::from_str::<AppsSummary>(&summary).unwrap(), found.summary());
        serde_json::to_string(&found).unwrap();
        let same = diff(&made.repository, (commit, commit), Path::new("")).unwrap();
        prop_assert!(same.changes.is_empty() && same.schemas.is_empty());
    }
    let there = diff(&made.repository, (before, after), Path::new("")).unwrap();
    let back = diff(&made.repository, (after, before), Path::new("")).unwrap();
    prop_assert_eq!(there.changes.is_empty(), back.changes.is_empty());
    prop_assert_eq!(there.schemas.len(), back.schemas.len());
    if (leaves(first) > 0) != (leaves(second) > 0) {
        prop_assert!(!there.changes.is_empty());
    }
    for change in &there.changes {
        prop_assert!(!change.to_string().chars().any(char::is_control), "{change}");
    }
    diff(&made.repository, (before, after), Path::new("apps/Home")).unwrap();
    let each = of_commits(&made.repository, &[before, after, merge], Path::new("")).unwrap();
    prop_assert_eq!(&each[1].difference, &there);
    prop_assert!(each[2].difference.changes.len() <= back.changes.len());
    Ok(())
}
