//! What changed is told in the platform's words, each part once.

use crate::git::fixtures::{Made, Node, Samples, branch, put};
use crate::git::history::commits_between;
use crate::git::layout::diff::{Difference, SchemaChange, diff, of_commits};
use crate::model::apps::Schema;
use git2::{Oid, Repository};
use std::collections::BTreeMap;
use std::path::Path;

fn everywhere() -> &'static Path {
    Path::new("")
}

fn told(difference: &Difference) -> Vec<String> {
    assert_eq!(difference.troubles, []);
    difference.changes.iter().map(ToString::to_string).collect()
}

fn between(repository: &Repository, before: Oid, after: Oid) -> Vec<String> {
    told(&diff(repository, (before, after), everywhere()).unwrap())
}

fn appsmith(server: u32) -> Schema {
    Schema::Appsmith { file_format: Some(5), client: Some(2), server: Some(server) }
}

#[test]
fn the_sample_of_appsmith_says_what_staging_has_and_which_commit_raised_the_schema() {
    let samples = Samples::make();
    let repository = samples.open("appsmith-orders");
    let (master, staging) = (branch(&repository, "master"), branch(&repository, "staging"));
    let raised = SchemaChange { app: None, before: Some(appsmith(12)), after: Some(appsmith(13)) };
    let difference = diff(&repository, (master, staging), everywhere()).unwrap();
    assert_eq!(told(&difference), ["schema version changed", "widget Chart1 of page Home added"]);
    assert_eq!(difference.schemas, std::slice::from_ref(&raised));
    assert!(raised.is_raised());

    let commits: Vec<Oid> = commits_between(&repository, master, staging, 10)
        .unwrap()
        .iter()
        .map(|commit| commit.id.parse().unwrap())
        .collect();
    let each = of_commits(&repository, &commits, everywhere()).unwrap();
    assert_eq!(each.len(), 2);
    assert_eq!(
        (each[0].id.clone(), told(&each[0].difference)),
        (staging.to_string(), vec!["schema version changed".to_owned()])
    );
    assert_eq!(each[0].difference.schemas, [raised]);
    assert_eq!(told(&each[1].difference), ["widget Chart1 of page Home added"]);
    assert_eq!(each[1].difference.schemas, []);

    let back = diff(&repository, (staging, master), everywhere()).unwrap();
    assert_eq!(told(&back), ["schema version changed", "widget Chart1 of page Home removed"]);
    assert!(!back.schemas[0].is_raised());
}

#[test]
fn the_first_commit_adds_whole_pages() {
    let samples = Samples::make();
    let repository = samples.open("appsmith-orders");
    let tip = repository.find_commit(branch(&repository, "master")).unwrap();
    let first = of_commits(&repository, &[tip.parent_id(0).unwrap()], everywhere()).unwrap();
    assert_eq!(
        told(&first[0].difference),
        [
            "schema version added",
            "data source Orders DB added",
            "theme added",
            "settings added",
            "page Home added",
            "page Orders added",
        ]
    );
    assert_eq!(first[0].difference.changes[4].files, 5);
}

#[test]
fn the_samples_of_tooljet_say_what_each_commit_changed() {
    let samples = Samples::make();
    let of_tip = |name: &str| {
        let repository = samples.open(name);
        let tip = branch(&repository, "main");
        of_commits(&repository, &[tip], everywhere()).unwrap().remove(0).difference
    };
    assert_eq!(told(&of_tip("tooljet-granular")), ["widget table1 of app apps/sales/orders added"]);
    let legacy = of_tip("tooljet-legacy");
    assert_eq!(
        told(&legacy),
        ["version v1 of app Inventory removed", "version v2 of app Inventory added"]
    );
    assert_eq!(legacy.schemas, []);
    assert_eq!(
        told(&of_tip("tooljet-metafree")),
        ["data source orders-db added", "app orders added"],
    );
}

const APP: &[(&str, &str)] = &[
    ("metadata.json", r#"{"fileFormatVersion":5,"serverSchemaVersion":12}"#),
    ("application.json", "{}"),
    ("theme.json", "{}"),
    ("datasources/db.json", r#"{"gitSyncId":"d-1"}"#),
    ("pages/Home/Home.json", r#"{"gitSyncId":"p-1"}"#),
    ("pages/Home/queries/get/get.txt", "SELECT 1"),
    ("pages/Home/queries/get/metadata.json", r#"{"gitSyncId":"q-1"}"#),
    ("pages/Home/jsobjects/Utils/Utils.js", "export default {}"),
    ("pages/Home/jsobjects/Utils/metadata.json", "{\"a\":1}"),
    ("pages/Home/widgets/Table1.json", "{\"a\":2}"),
    ("pages/Orders/Orders.json", "{\"a\":3}"),
    ("pages/Orders/queries/list/list.txt", "SELECT 2"),
    ("pages/Orders/widgets/Text1.json", "{\"a\":4}"),
    ("README.md", "hello"),
];

/// The app with some files instead: without content they are gone.
fn app_with(changes: &[(&str, Option<&str>)]) -> Node {
    let mut root = BTreeMap::new();
    let gone = |path: &str| changes.iter().any(|(changed, _)| *changed == path);
    let kept = APP.iter().filter(|(path, _)| !gone(path)).map(|(path, content)| (*path, *content));
    let new = changes.iter().filter_map(|(path, content)| Some((*path, (*content)?)));
    for (path, content) in kept.chain(new) {
        put(&mut root, path.as_bytes(), Node::File(content.as_bytes().to_vec()));
    }
    Node::Directory(root)
}

#[test]
fn changes_are_told_by_the_part_that_they_belong_to() {
    let made = Made::new();
    let before = made.commit_of(&app_with(&[]), &[]);
    for (changes, expected) in [
        (&[][..], &[][..]),
        (
            &[
                ("pages/Home/queries/get/get.txt", Some("SELECT 3")),
                ("pages/Home/queries/get/metadata.json", Some("{}")),
            ],
            &["query get of page Home changed"],
        ),
        (
            &[("pages/Home/jsobjects/Utils/Utils.js", Some(""))],
            &["JS object Utils of page Home changed"],
        ),
        (
            &[("pages/Home/widgets/Table1.json", Some("{}"))],
            &["widget Table1 of page Home changed"],
        ),
        (&[("pages/Home/Home.json", Some("{}"))], &["page Home changed"]),
        (
            &[
                ("theme.json", Some("{\"b\":1}")),
                ("application.json", Some("{\"b\":1}")),
                ("README.md", None),
            ],
            &["theme changed", "settings changed", "file README.md removed"],
        ),
        (&[("datasources/db.json", Some("{}"))], &["data source db changed"]),
        (
            &[
                ("datasources/db.json", None),
                ("datasources/main.json", Some(r#"{"gitSyncId":"d-1"}"#)),
            ],
            &["data source db renamed to main"],
        ),
        (&[("jslibs/xml.json", Some("{}"))], &["library xml added"]),
        (
            &[
                ("pages/Home/queries/get/get.txt", None),
                ("pages/Home/queries/get/metadata.json", None),
                ("pages/Home/queries/fetch/fetch.txt", Some("SELECT now()")),
                ("pages/Home/queries/fetch/metadata.json", Some(r#"{"gitSyncId":"q-1","b":1}"#)),
            ],
            &["query get of page Home renamed to fetch"],
        ),
        (
            &[
                ("pages/Orders/Orders.json", None),
                ("pages/Orders/queries/list/list.txt", None),
                ("pages/Orders/widgets/Text1.json", None),
                ("pages/Sales/Sales.json", Some("{\"b\":1}")),
                ("pages/Sales/queries/list/list.txt", Some("SELECT 2")),
                ("pages/Sales/widgets/Text1.json", Some("{\"a\":4}")),
            ],
            &["page Orders renamed to Sales"],
        ),
        (
            &[
                ("pages/Orders/Orders.json", None),
                ("pages/Orders/queries/list/list.txt", None),
                ("pages/Orders/widgets/Text1.json", None),
                ("pages/Archive/Archive.json", Some("{}")),
                ("pages/Archive/queries/all/all.txt", Some("SELECT 9")),
            ],
            &["page Archive added", "page Orders removed"],
        ),
    ] {
        let after = made.commit_of(&app_with(changes), &[]);
        assert_eq!(between(&made.repository, before, after), expected, "{changes:?}");
    }
}

#[test]
fn a_migration_to_another_format_changes_pages_and_does_not_replace_them() {
    let made = Made::new();
    let before = made.commit(
        &[
            ("metadata.json", r#"{"fileFormatVersion":1,"serverSchemaVersion":6}"#),
            ("application.json", "{}"),
            ("pages/Home.json", "{\"a\":1}"),
        ],
        &[],
    );
    let after = made.commit_of(&app_with(&[]), &[]);
    let told = between(&made.repository, before, after);
    assert!(told.contains(&"page Home changed".to_owned()), "{told:?}");
    assert!(told.contains(&"page Orders added".to_owned()), "{told:?}");
}

#[test]
fn a_merge_tells_only_what_none_of_its_parents_had() {
    let made = Made::new();
    let base = made.commit_of(&app_with(&[]), &[]);
    let ours = [("pages/Home/queries/get/get.txt", Some("ours"))];
    let theirs = [
        ("pages/Home/widgets/Table1.json", Some("{\"b\":1}")),
        ("pages/Orders/Orders.json", Some("{\"b\":1}")),
    ];
    let merged = [ours[0], theirs[0], ("pages/Orders/Orders.json", Some("{\"b\":2}"))];
    let ours = made.commit_of(&app_with(&ours), &[base]);
    let theirs = made.commit_of(&app_with(&theirs), &[base]);
    let merge = made.commit_of(&app_with(&merged), &[ours, theirs]);
    let each = of_commits(&made.repository, &[merge, theirs], everywhere()).unwrap();
    assert_eq!(told(&each[0].difference), ["page Orders changed"]);
    assert_eq!(
        told(&each[1].difference),
        ["widget Table1 of page Home changed", "page Orders changed"]
    );
}

#[test]
fn apps_of_one_git_repository_are_told_apart() {
    let made = Made::new();
    let files = |folder: &str, query: &str| {
        let app = format!("apps/{folder}");
        [
            (
                format!("{app}/app/app.json"),
                r#"{"co_relation_id":"a-1","name":"Orders"}"#.to_owned(),
            ),
            (format!("{app}/schema/schema.json"), r#"{"tooljet_version":"3.16.0"}"#.to_owned()),
            (format!("{app}/queries/q-1.json"), format!(r#"{{"name":"list","sql":"{query}"}}"#)),
            ("apps/stock/app/app.json".to_owned(), r#"{"name":"Stock"}"#.to_owned()),
            ("apps/stock/pages/p-1.json".to_owned(), r#"{"name":"Home"}"#.to_owned()),
        ]
    };
    let commit = |files: &[(String, String)]| {
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        made.commit(&files, &[])
    };
    let before = commit(&files("sales/orders", "a"));
    let changed = commit(&files("sales/orders", "b"));
    assert_eq!(
        between(&made.repository, before, changed),
        ["query list of app apps/sales/orders changed"]
    );
    let moved = commit(&files("desk/orders2", "b"));
    let difference = diff(&made.repository, (before, moved), everywhere()).unwrap();
    // The same name in another folder.
    assert_eq!(told(&difference), ["app Orders changed"]);
    let fewer = commit(&files("sales/orders", "a")[..3]);
    assert_eq!(between(&made.repository, before, fewer), ["app Stock removed"]);
    let only = |app: &str| told(&diff(&made.repository, (fewer, changed), Path::new(app)).unwrap());
    assert_eq!(only("apps/sales/orders"), ["query list of app apps/sales/orders changed"]);
    assert_eq!(only("apps/stock"), ["app Stock added"]);
    assert_eq!(only("apps/gone"), [""; 0]);
}

#[test]
fn programs_read_the_same() {
    let samples = Samples::make();
    let repository = samples.open("appsmith-orders");
    let (master, staging) = (branch(&repository, "master"), branch(&repository, "staging"));
    let difference = diff(&repository, (master, staging), everywhere()).unwrap();
    let schema = |server: u32| serde_json::json!({ "platform": "appsmith", "file_format": 5, "client": 2, "server": server });
    assert_eq!(
        serde_json::to_value(difference).unwrap(),
        serde_json::json!({
            "changes": [
                { "change": "changed", "part": "schema", "name": "", "files": 1 },
                { "change": "added", "part": "widget", "page": "Home", "name": "Chart1", "files": 1 },
            ],
            "changes_left_out": 0,
            "schemas": [{ "before": schema(12), "after": schema(13) }],
            "troubles": [],
        })
    );
}

#[test]
fn thousands_of_changes_are_counted() {
    let made = Made::new();
    let before = made.commit(&[("metadata.json", r#"{"serverSchemaVersion":12}"#)], &[]);
    let mut root = BTreeMap::new();
    put(&mut root, b"metadata.json", Node::File(br#"{"serverSchemaVersion":12}"#.to_vec()));
    for page in 0..3_000 {
        put(
            &mut root,
            format!("pages/p{page}/p{page}.json").as_bytes(),
            Node::File(b"{}".to_vec()),
        );
    }
    let after = made.commit_of(&Node::Directory(root), &[]);
    let difference = diff(&made.repository, (before, after), everywhere()).unwrap();
    assert_eq!((difference.changes.len(), difference.changes_left_out), (1_000, 2_000));
}
