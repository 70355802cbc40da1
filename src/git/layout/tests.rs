//! The samples are inventoried to the last page and query.

use super::*;
use crate::git::fixtures::{Samples, branch};
use serde_json::{Value, json};

mod difference;
mod hostile;
mod layouts;
mod properties;

fn inventory_of(samples: &Samples, name: &str, branch_name: &str) -> Value {
    let repository = samples.open(name);
    let inventory = inventory(&repository, branch(&repository, branch_name)).unwrap();
    serde_json::to_value(inventory).unwrap()
}

/// An inventory of which but these members are not empty.
fn with(layout: &str, members: &Value) -> Value {
    let mut expected = json!({
        "layout": layout,
        "schema": null,
        "apps": [],
        "modules": [],
        "data_sources": [],
        "lfs": { "count": 0, "size": 0, "first": [] },
        "submodules": [],
        "files": 0,
        "troubles": [],
        "troubles_left_out": 0,
    });
    set(&mut expected, members);
    expected
}

/// An app of which but these members are not empty.
fn app(members: &Value) -> Value {
    let mut expected = json!({
        "name": "",
        "id": null,
        "path": "",
        "schema": null,
        "pages": [],
        "queries": [],
        "js_objects": [],
        "widgets": 0,
        "events": 0,
        "versions": [],
        "libraries": [],
    });
    set(&mut expected, members);
    expected
}

fn set(expected: &mut Value, members: &Value) {
    for (name, value) in members.as_object().unwrap() {
        assert!(expected.get(name).is_some(), "{name}");
        expected[name] = value.clone();
    }
}

#[test]
fn the_sample_of_appsmith_is_inventoried() {
    let samples = Samples::make();
    let page = |name: &str, widgets: u64| json!({ "name": name, "queries": ["getOrders"], "js_objects": ["Utils"], "widgets": widgets });
    let expected = |server: u32, files: u64, widgets_of_home: u64| {
        let schema =
            json!({ "platform": "appsmith", "file_format": 5, "client": 2, "server": server });
        let pages = json!([page("Home", widgets_of_home), page("Orders", 2)]);
        let source = json!({
            "name": "Orders DB",
            "id": "65f0c0ffee_1",
            "kind": "postgres-plugin",
            "path": "datasources/Orders DB.json",
        });
        with(
            "appsmith",
            &json!({
                "schema": schema,
                "apps": [app(&json!({ "schema": schema, "pages": pages }))],
                "data_sources": [source],
                "files": files,
            }),
        )
    };
    assert_eq!(inventory_of(&samples, "appsmith-orders", "master"), expected(12, 15, 1));
    assert_eq!(inventory_of(&samples, "appsmith-orders", "staging"), expected(13, 16, 2));
}

#[test]
fn the_samples_of_tooljet_are_inventoried() {
    let samples = Samples::make();
    let schema = |version: &str| json!({ "platform": "tooljet", "version": version });
    let legacy = |name: &str, version: &str| {
        app(
            &json!({ "name": name, "path": name, "schema": schema("3.16.0"), "versions": [version] }),
        )
    };
    let expected = json!({
        "schema": schema("3.16.0"),
        "apps": [legacy("Inventory", "v2"), legacy("Order desk", "v1")],
        "files": 3,
    });
    assert_eq!(inventory_of(&samples, "tooljet-legacy", "main"), with("tooljet_legacy", &expected));

    let orders = json!({
        "name": "orders",
        "id": "8f14e45f-0001",
        "path": "apps/sales/orders",
        "schema": schema("3.20.40"),
        "widgets": 1,
    });
    let source = json!({
        "name": "Orders DB",
        "id": "8f14e45f-0003",
        "kind": "postgresql",
        "path": "data-sources/8f14e45f-0003.json",
    });
    let expected = json!({
        "schema": schema("3.20.40"),
        "apps": [app(&orders)],
        "modules": [{ "name": "header", "id": "8f14e45f-0002", "path": "modules/header" }],
        "data_sources": [source],
        "files": 8,
    });
    assert_eq!(
        inventory_of(&samples, "tooljet-granular", "main"),
        with("tooljet_granular", &expected)
    );

    let orders = json!({ "name": "orders", "id": "8f14e45f-0001", "path": "apps/orders" });
    let source = json!({
        "name": "orders-db",
        "id": null,
        "kind": "postgresql",
        "path": "data-sources/sales/orders-db/data-source.json",
    });
    let expected = json!({ "apps": [app(&orders)], "data_sources": [source], "files": 2 });
    assert_eq!(
        inventory_of(&samples, "tooljet-metafree", "main"),
        with("tooljet_metafree", &expected)
    );
}

#[test]
fn a_manifest_has_a_few_lines_of_it() {
    let samples = Samples::make();
    let repository = samples.open("appsmith-orders");
    let summary = inventory(&repository, branch(&repository, "staging")).unwrap().summary();
    let schema = json!({ "platform": "appsmith", "file_format": 5, "client": 2, "server": 13 });
    let json = json!({
        "layout": "appsmith",
        "schema": schema,
        "apps": [{ "name": "", "path": "", "pages": 2, "queries": 2, "js_objects": 2 }],
        "app_count": 1,
        "modules": 0,
        "data_sources": 1,
        "lfs_pointers": 0,
        "submodules": 0,
        "troubles": 0,
    });
    assert_eq!(serde_json::to_value(&summary).unwrap(), json);
    assert_eq!(serde_json::from_value::<AppsSummary>(json).unwrap(), summary);
}

#[test]
fn an_app_is_found_by_its_path_its_id_and_its_name() {
    let samples = Samples::make();
    let repository = samples.open("tooljet-granular");
    let found = inventory(&repository, branch(&repository, "main")).unwrap();
    for wanted in ["apps/sales/orders", "8f14e45f-0001", "orders"] {
        assert_eq!(found.app(wanted), Some(&found.apps[0]), "{wanted}");
    }
    assert_eq!(found.app("sales"), None);
    let twins = Inventory { apps: vec![found.apps[0].clone(), found.apps[0].clone()], ..found };
    assert_eq!(twins.app("orders"), None, "it is not guessed which of two is meant");
}

#[test]
fn words_for_people_and_names_for_programs_tell_the_layouts_apart() {
    let layouts = [
        Layout::Empty,
        Layout::Appsmith,
        Layout::AppsmithOlder,
        Layout::TooljetLegacy,
        Layout::TooljetGranular,
        Layout::TooljetMetafree,
        Layout::Unknown,
    ];
    let words: std::collections::BTreeSet<String> =
        layouts.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), layouts.len());
    for layout in layouts {
        assert_eq!(serde_json::to_value(layout).unwrap(), layout.name());
        let first = layout.name().split('_').next();
        assert_eq!(layout.platform(), first.filter(|word| matches!(*word, "appsmith" | "tooljet")));
    }
}
