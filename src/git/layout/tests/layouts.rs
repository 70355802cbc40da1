//! Layouts of which there is no sample, and what each of them says when something is not as it should be.

use super::{app, with};
use crate::git::fixtures::Made;
use crate::git::layout::{Inventory, inventory};
use serde_json::{Value, json};

fn of(files: &[(&str, &str)]) -> Inventory {
    let made = Made::new();
    inventory(&made.repository, made.commit(files, &[])).unwrap()
}

fn json_of(files: &[(&str, &str)]) -> Value {
    serde_json::to_value(of(files)).unwrap()
}

fn told(inventory: &Inventory) -> Vec<String> {
    inventory
        .troubles
        .iter()
        .map(|trouble| format!("{}: {}", trouble.path, trouble.reason))
        .collect()
}

#[test]
fn older_formats_of_appsmith_are_read() {
    let schema = |format: u32| json!({ "platform": "appsmith", "file_format": format, "client": 1, "server": 6 });
    let metadata = |format: u32| {
        format!(
            r#"{{"fileFormatVersion":{format},"clientSchemaVersion":1,"serverSchemaVersion":6}}"#
        )
    };
    let page =
        json!({ "name": "Home", "queries": ["get"], "js_objects": ["Utils"], "widgets": null });
    let fourth = json_of(&[
        ("application.json", r#"{"pages":[{"id":"Home","isDefault":true}]}"#),
        ("metadata.json", &metadata(4)),
        ("theme/editModeTheme.json", "{}"),
        ("theme/publishedTheme.json", "{}"),
        ("pages/Home/canvas.json", "{}"),
        ("pages/Home/queries/get/get.txt", "SELECT 1"),
        ("pages/Home/queries/get/metadata.json", "{}"),
        ("pages/Home/jsobjects/Utils/Utils.js", "export default {}"),
        ("pages/Home/jsobjects/Utils/metadata.json", "{}"),
        ("jslibs/xmlParser.json", "{}"),
    ]);
    let expected = json!({ "schema": schema(4), "pages": [page], "libraries": ["xmlParser"] });
    let expected = json!({ "schema": schema(4), "apps": [app(&expected)], "files": 10 });
    assert_eq!(fourth, with("appsmith_older", &expected));

    let second = json_of(&[
        ("application.json", "{}"),
        ("metadata.json", &metadata(2)),
        ("pages/Home/canvas.json", "{}"),
        ("pages/Home/actions/get.json", "{}"),
        ("pages/Home/actionCollections/Utils.json", "{}"),
    ]);
    let expected = json!({ "schema": schema(2), "pages": [page] });
    let expected = json!({ "schema": schema(2), "apps": [app(&expected)], "files": 5 });
    assert_eq!(second, with("appsmith_older", &expected));

    let first = json_of(&[
        ("application.json", "{}"),
        ("metadata.json", &metadata(1)),
        ("pages/Home.json", "{}"),
        ("actions/get_Home.json", "{}"),
        ("actionCollections/Utils_Home.json", "{}"),
    ]);
    let page = json!({ "name": "Home", "queries": [], "js_objects": [], "widgets": null });
    let expected = json!({
        "schema": schema(1),
        "pages": [page],
        "queries": ["get_Home"],
        "js_objects": ["Utils_Home"],
    });
    let expected = json!({ "schema": schema(1), "apps": [app(&expected)], "files": 5 });
    assert_eq!(first, with("appsmith_older", &expected));
}

#[test]
fn appsmith_without_its_metadata_is_known_by_its_files() {
    let older = of(&[("application.json", "{}"), ("pages/Home/canvas.json", "{}")]);
    assert_eq!(older.layout.name(), "appsmith_older");
    let newer = of(&[
        ("application.json", "{}"),
        ("pages/Home/Home.json", "{}"),
        ("pages/Home/widgets/A.json", "{}"),
    ]);
    assert_eq!(newer.layout.name(), "appsmith");
    assert_eq!((newer.schema.clone(), newer.apps[0].pages[0].widgets), (None, Some(1)));
    assert_eq!(
        told(&newer),
        ["metadata.json: it is missing: which version wrote the files is not known"]
    );
}

#[test]
fn nested_widgets_are_counted_one_by_one() {
    let found = of(&[
        ("metadata.json", r#"{"fileFormatVersion":5,"serverSchemaVersion":12}"#),
        ("application.json", "{}"),
        ("pages/Home/Home.json", "{}"),
        ("pages/Home/widgets/Form1/Form1.json", "{}"),
        ("pages/Home/widgets/Form1/Input1.json", "{}"),
        ("pages/Home/widgets/Text1.json", "{}"),
    ]);
    assert_eq!(found.apps[0].pages[0].widgets, Some(3));
}

#[test]
fn what_a_version_of_tooljets_first_layout_holds_is_named() {
    let document = |app: &str, version: &str| {
        format!(
            r#"{{"tooljet_version":"{version}","app":[{{"definition":{{"appV2":{{"name":"{app}","co_relation_id":"c-1",
            "pages":[{{"name":"Home"}},{{"name":"Orders"}}],"dataQueries":[{{"name":"list"}}],
            "dataSources":[{{"name":"db","kind":"postgresql"}}],"components":[{{}},{{}}],"events":null}}}}}}]}}"#
        )
    };
    let found = json_of(&[
        (".meta/meta.json", r#"{"version":"3.5.1","apps":{"Desk":"v2"}}"#),
        ("Desk/v1.json", &document("Desk of old", "3.0.0")),
        ("Desk/v2.json", &document("Desk", "3.5.1")),
        ("Lager/v1.json", "{}"),
        ("README.md", "hello"),
    ]);
    let schema = json!({ "platform": "tooljet", "version": "3.5.1" });
    let page =
        |name: &str| json!({ "name": name, "queries": [], "js_objects": [], "widgets": null });
    let desk = json!({
        "name": "Desk",
        "id": "c-1",
        "path": "Desk",
        "schema": schema,
        "pages": [page("Home"), page("Orders")],
        "queries": ["list"],
        "widgets": 2,
        "versions": ["v1", "v2"],
    });
    let lager = json!({ "name": "Lager", "path": "Lager", "schema": schema, "versions": ["v1"] });
    let source = json!({ "name": "db", "id": null, "kind": "postgresql", "path": "Desk/v2.json" });
    let expected = json!({ "schema": schema, "apps": [app(&desk), app(&lager)], "data_sources": [source], "files": 5 });
    assert_eq!(found, with("tooljet_legacy", &expected));
}

#[test]
fn the_parts_of_tooljets_apps_are_named_by_their_documents() {
    let found = of(&[
        (
            ".meta/appMeta.json",
            r#"{"a-1":{"appPath":"apps/pages"},"a-2":{"appPath":"apps/sales/orders"}}"#,
        ),
        ("apps/pages/app/app.json", r#"{"name":"pages"}"#),
        ("apps/pages/schema/schema.json", r#"{"tooljet_version":"3.20.1"}"#),
        ("apps/sales/orders/pages/p-1.json", r#"{"name":"Home"}"#),
        ("apps/sales/orders/pages/Archive/page.json", r#"{"name":"not its name"}"#),
        ("apps/sales/orders/queries/list.json", "{}"),
        ("apps/sales/orders/components/c-1.json", r#"{"name":"table1"}"#),
        ("apps/sales/orders/components/c-2.json", r#"{"name":"table2"}"#),
        ("apps/sales/orders/events/e-1.json", "{}"),
        ("apps/sales/orders/versions/v-1.json", r#"{"name":"v1"}"#),
        ("apps/sales/orders/schema/schema.json", r#"{"tooljet_version":"3.19.9"}"#),
        ("modules/a/b/app/app.json", r#"{"name":"B","co_relation_id":"m-1"}"#),
        ("modules/a/b/queries/q.json", "{}"),
    ]);
    assert_eq!(told(&found), [""; 0]);
    assert_eq!(found.layout.name(), "tooljet_granular");
    let paths: Vec<String> = found.apps.iter().map(|app| app.path.to_string()).collect();
    assert_eq!(paths, ["apps/pages", "apps/sales/orders"], "an app is found by the index, too");
    let orders = &found.apps[1];
    assert_eq!((orders.name.as_str(), orders.id.as_deref()), ("orders", Some("a-2")));
    let pages: Vec<&str> = orders.pages.iter().map(|page| page.name.as_str()).collect();
    assert_eq!(pages, ["Home", "Archive"]);
    assert_eq!(
        (orders.queries.clone(), orders.versions.clone()),
        (vec!["list".to_owned()], vec!["v1".to_owned()])
    );
    assert_eq!((orders.widgets, orders.events), (2, 1));
    assert_eq!(found.schema, found.apps[0].schema, "the newest of all");
    let module = &found.modules[0];
    assert_eq!(
        (found.modules.len(), module.name.as_str(), module.id.as_deref()),
        (1, "B", Some("m-1"))
    );
}

#[test]
fn what_an_index_names_and_is_not_there_is_told() {
    let found = of(&[
        (
            ".meta/appMeta.json",
            r#"{"1":{"appPath":"apps/gone"},"2":{"appPath":"../../etc"},"3":{"appPath":"apps"}}"#,
        ),
        (".meta/moduleMeta.json", r#"{"4":{"modulePath":"modules/gone"}}"#),
        (
            ".meta/dataSourceMeta.json",
            r#"{"5":{"dataSourcePath":"data-sources/a\u0000\u001b.json"},"6":{}}"#,
        ),
    ]);
    assert_eq!(
        told(&found),
        [
            ".meta/appMeta.json: it names 'apps/gone', which is not there",
            ".meta/appMeta.json: it names '../../etc', which is not there",
            ".meta/appMeta.json: it names 'apps', which is not there",
            ".meta/moduleMeta.json: it names 'modules/gone', which is not there",
            r".meta/dataSourceMeta.json: it names 'data-sources/a\0\u{1b}.json', which is not there",
        ]
    );
    let legacy =
        of(&[(".meta/meta.json", r#"{"apps":{"Desk":"v3","..":"x"}}"#), ("Desk/v1.json", "{}")]);
    assert_eq!(
        told(&legacy),
        [
            ".meta/meta.json: it names version 'v3' of app 'Desk', which is not there",
            ".meta/meta.json: it names version 'x' of app '..', which is not there",
        ]
    );
    let appsmith = of(&[
        ("metadata.json", r#"{"fileFormatVersion":5,"serverSchemaVersion":12}"#),
        ("application.json", r#"{"pages":[{"id":"Home"},{"id":"Orders"}]}"#),
        ("pages/Home/Home.json", "{}"),
    ]);
    assert_eq!(told(&appsmith), ["application.json: it lists page 'Orders', which is not there"]);
}

#[test]
fn other_git_repositories_are_no_error() {
    for (files, layout) in [
        (&[][..], "empty"),
        (&[("README.md", "hello")], "unknown"),
        (&[("metadata.json", r#"{"name":"somebody else's"}"#)], "unknown"),
        (&[("apps/web/index.js", "")], "unknown"),
        (&[(".meta/other.json", "{}")], "unknown"),
        (&[("pages/index.html", ""), ("src/main.rs", "")], "unknown"),
    ] {
        let found = of(files);
        assert_eq!((found.layout.name(), found.files as usize), (layout, files.len()));
        assert_eq!((found.apps.len(), told(&found)), (0, Vec::new()));
    }
}
