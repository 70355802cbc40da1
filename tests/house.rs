//! The rules of the house, held by reading the sources: layers, who may use which library, how files begin and
//! how long they are, no printing below the command line, no `unwrap`, nothing unfinished.
//!
//! The rules themselves are tested at the end: each finds its violation in a snippet.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

#[path = "house/source.rs"]
mod source;

use source::Source;

/// Modules of the crate's root by rank: a module may use those of lower ranks only, so siblings never use each other.
const LAYERS: &[&[&str]] = &[
    &["model"],
    &["policy", "store", "access", "config", "host"],
    &["repository", "component", "platform", "git", "catalog", "notify"],
    &["ops"],
    &["upgrade"],
    &["daemon"],
    // It is the daemon's face.
    &["http"],
    &["cli"],
    &["main"],
];

/// The exceptions: (who, what it may use besides).
const EXCEPTIONS: &[(&str, &str)] = &[
    // `keep` of the configuration is parsed into the type that retention works with.
    ("config", "policy"),
];

/// Libraries that have their places: (crate, path prefixes below `src/`).
const CONFINED: &[(&str, &[&str])] = &[
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("clap_mangen", &["cli"]),
    ("comfy_table", &["cli"]),
    ("indicatif", &["cli"]),
    ("rusqlite", &["catalog"]),
    ("zstd", &["repository/format", "ops/backup/import", "ops/export"]),
    ("aes", &["repository/format", "ops/backup/import/openssl"]),
    ("ctr", &["repository/format"]),
    ("poly1305", &["repository/format"]),
    ("scrypt", &["repository/format"]),
    ("fastcdc", &["repository/format"]),
    ("aes_gcm", &["platform/keyfit"]),
    ("bson", &["component/mongodb"]),
    ("cbc", &["platform/keyfit", "ops/backup/import/openssl"]),
    ("flate2", &["ops/backup/import"]),
    ("hkdf", &["platform/keyfit"]),
    ("git2", &["git"]),
    ("opendal", &["store"]),
];

const PRINTING: &[&str] = &["println!", "eprintln!", "print!", "eprint!", "dbg!"];
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "unimplemented!", "todo!"];
/// 400 is the aim; above this a file has to be split.
const MOST_LINES: usize = 600;

fn rank(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn layering(source: &Source) -> Vec<String> {
    let own = source.module();
    // The root only declares the modules.
    if own == "lib" {
        return Vec::new();
    }
    let Some(own_rank) = rank(own) else {
        return vec![format!("module '{own}' has no layer: give it one in tests/house.rs")];
    };
    let mut found = Vec::new();
    for used in source.used_modules() {
        let Some(used_rank) = rank(&used) else { continue };
        let allowed =
            used == own || used_rank < own_rank || EXCEPTIONS.contains(&(own, used.as_str()));
        if !allowed {
            found.push(format!("{own} must not use {used}"));
        }
    }
    found
}

fn confined_libraries(source: &Source) -> Vec<String> {
    let place = source.path.strip_suffix(".rs").unwrap();
    let inside = |home: &str| {
        place.strip_prefix(home).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    CONFINED
        .iter()
        .filter(|(library, homes)| {
            !homes.iter().any(|home| inside(home)) && source.uses_library(library)
        })
        .map(|(library, homes)| format!("{library} is for {} only", homes.join(" and ")))
        .collect()
}

fn opening(source: &Source) -> Vec<String> {
    if source.text.starts_with("//!") {
        Vec::new()
    } else {
        vec!["does not open with //!".to_owned()]
    }
}

fn printing(source: &Source) -> Vec<String> {
    if matches!(source.module(), "cli" | "main") {
        return Vec::new();
    }
    source.words_in_code(PRINTING).into_iter().map(|word| format!("{word} outside cli")).collect()
}

fn unwraps(source: &Source) -> Vec<String> {
    let count = source.product_code().matches(".unwrap()").count();
    if count == 0 { Vec::new() } else { vec![format!("{count} unwrap() outside tests")] }
}

fn unfinished(source: &Source) -> Vec<String> {
    UNFINISHED
        .iter()
        .filter(|word| source::contains_word(&source.text, word))
        .map(|word| format!("unfinished: {word}"))
        .collect()
}

fn length(source: &Source) -> Vec<String> {
    let lines = source.text.lines().count();
    if lines > MOST_LINES {
        vec![format!("{lines} lines, at most {MOST_LINES}")]
    } else {
        Vec::new()
    }
}

fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    rust_files(&root, &mut paths);
    paths.sort();
    let mut sources: Vec<Source> = paths
        .iter()
        .map(|path| {
            let relative = path.strip_prefix(&root).unwrap().to_str().unwrap();
            Source::new(relative, &fs::read_to_string(path).unwrap())
        })
        .collect();
    // `#[cfg(test)] mod tests;` makes a file of its own a test.
    let test_files: Vec<String> = sources.iter().flat_map(Source::test_files).collect();
    for source in &mut sources {
        source.is_test = test_files.iter().any(|file| source.is_or_is_below(file));
    }
    sources
}

fn assert_holds(rule: fn(&Source) -> Vec<String>) {
    let sources = sources();
    assert!(sources.iter().any(|source| source.path == "lib.rs"), "the sources were not found");
    let violations: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            rule(source).into_iter().map(|message| format!("src/{}: {message}", source.path))
        })
        .collect();
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
}

#[test]
fn imports_run_downward_only() {
    assert_holds(layering);
}

#[test]
fn each_library_stays_in_its_place() {
    assert_holds(confined_libraries);
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    assert_holds(opening);
}

#[test]
fn only_the_command_line_prints() {
    assert_holds(printing);
}

#[test]
fn nothing_unwraps_outside_tests() {
    assert_holds(unwraps);
}

#[test]
fn nothing_is_left_unfinished() {
    assert_holds(unfinished);
}

#[test]
fn no_file_is_too_long() {
    assert_holds(length);
}

/// What only tests turn on is in one place, and nowhere in a program that is released.
#[test]
fn the_switch_that_ends_an_upgrade_is_in_no_release() {
    let sources = sources();
    let with = sources.iter().filter(|source| source.text.contains("BELAY_ENDS_UPGRADE_AT"));
    let paths: Vec<&str> = with.map(|source| source.path.as_str()).collect();
    assert_eq!(paths, ["upgrade/switch.rs"]);
    let switch = sources.iter().find(|source| source.path == "upgrade/switch.rs").unwrap();
    let lines: Vec<&str> = switch.text.lines().collect();
    let functions = (0..lines.len()).filter(|at| lines[*at].contains("fn "));
    for at in functions {
        let is_debug = lines[at - 1] == "#[cfg(debug_assertions)]";
        let is_nothing =
            lines[at - 1] == "#[cfg(not(debug_assertions))]" && lines[at].ends_with(" {}");
        assert!(is_debug || is_nothing, "{}", lines[at]);
    }
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    assert!(!manifest.unwrap().contains("debug-assertions"), "a release would have the switch");
}

#[test]
fn a_wrong_import_is_found_however_it_is_written() {
    for (path, text, message) in [
        ("model/id.rs", "use crate::ops::backup;", "model must not use ops"),
        (
            "store.rs",
            "pub use crate::{\n  model::id,\n  policy::{self, retention},\n};",
            "store must not use policy",
        ),
        ("policy.rs", "fn f() -> crate::config::Config {}", "policy must not use config"),
        (
            "catalog/rows.rs",
            "use super::super::repository::reader;",
            "catalog must not use repository",
        ),
        (
            "component/files/walk.rs",
            "use super::super::super::catalog;",
            "component must not use catalog",
        ),
        ("ops/backup.rs", "use belay::cli::render;", "ops must not use cli"),
    ] {
        assert_eq!(layering(&Source::new(path, text)), [message], "{text}");
    }
}

#[test]
fn a_right_import_is_not_taken_for_a_wrong_one() {
    for (path, text) in [
        ("ops/backup.rs", "use crate::{model::id::JobId, repository::{writer, store}, config};"),
        ("config/file.rs", "use crate::policy::retention::Keep;"),
        (
            "store/local.rs",
            "//! See [`crate::ops`].\n/* crate::ops */ use super::Store; use crate::model;",
        ),
        ("store/local.rs", "const TEXT: &str = \"crate::ops::x\"; const MARK: char = '\"';"),
        ("main.rs", "fn main() { belay::cli::run() }"),
        ("lib.rs", "pub mod ops; use crate::cli;"),
    ] {
        assert_eq!(layering(&Source::new(path, text)), [""; 0], "{text}");
    }
}

#[test]
fn a_module_without_a_layer_is_found() {
    assert_eq!(layering(&Source::new("helpers.rs", "")).len(), 1);
}

#[test]
fn a_library_out_of_its_place_is_found() {
    let found = |path, text| confined_libraries(&Source::new(path, text));
    assert_eq!(found("ops.rs", "#[derive(clap::Args)] struct X;"), ["clap is for cli only"]);
    assert_eq!(found("ops.rs", "use rusqlite::Connection;"), ["rusqlite is for catalog only"]);
    assert_eq!(
        found("repository/writer.rs", "use zstd;"),
        ["zstd is for repository/format and ops/backup/import and ops/export only"]
    );
    assert_eq!(found("repository/formatter.rs", "use aes::Aes256;").len(), 1);
    assert_eq!(found("repository/format/crypto.rs", "use aes::Aes256;"), [""; 0]);
    assert_eq!(found("cli/list.rs", "use clap::Args; use comfy_table::Table;"), [""; 0]);
    assert_eq!(found("ops.rs", "use crate::store::zstd::level; fn my_zstd() {}"), [""; 0]);
}

#[test]
fn printing_unwrapping_and_unfinished_work_are_found() {
    let product = Source::new("ops.rs", "//! x\nfn f() { println!(\"a\"); g().unwrap() }");
    assert_eq!(printing(&product), ["println! outside cli"]);
    assert_eq!(unwraps(&product), ["1 unwrap() outside tests"]);
    assert_eq!(printing(&Source::new("cli/list.rs", "fn f() { println!() }")), [""; 0]);
    assert_eq!(printing(&Source::new("ops.rs", "fn f() { writeln!(x) } // println!()")), [""; 0]);
    let test = "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { println!(\"}\"); h().unwrap(); } }";
    assert_eq!(unwraps(&Source::new("ops.rs", test)), [""; 0]);
    assert_eq!(printing(&Source::new("ops.rs", test)), [""; 0]);
    let after = format!("{test}\nfn late() {{ h().unwrap() }}");
    assert_eq!(unwraps(&Source::new("ops.rs", &after)).len(), 1);
    assert_eq!(unfinished(&Source::new("ops.rs", "// FIXME: later")), ["unfinished: FIXME"]);
    assert_eq!(unfinished(&Source::new("ops.rs", "fn f() { todo!() }")), ["unfinished: todo!"]);
    assert_eq!(unfinished(&Source::new("ops.rs", "const TODOS: u8 = 1;")), [""; 0]);
}

#[test]
fn a_file_that_is_all_test_is_known_by_its_parent() {
    let parent = Source::new("policy/retention.rs", "#[cfg(test)]\nmod tests;\nmod keep;");
    assert_eq!(parent.test_files(), ["policy/retention/tests.rs"]);
    let mut tests = Source::new("policy/retention/tests.rs", "fn f() { g().unwrap() }");
    assert_eq!(unwraps(&tests).len(), 1);
    tests.is_test = true;
    assert_eq!(unwraps(&tests), [""; 0]);
    let is_below = |path| Source::new(path, "").is_or_is_below("policy/retention/tests.rs");
    assert!(is_below("policy/retention/tests.rs") && is_below("policy/retention/tests/model.rs"));
    assert!(!is_below("policy/retention/tests_of_taste.rs") && !is_below("policy/retention.rs"));
}

#[test]
fn a_missing_opening_and_a_long_file_are_found() {
    assert_eq!(opening(&Source::new("ops.rs", "use x;\n//! late")).len(), 1);
    assert_eq!(opening(&Source::new("ops.rs", "//! what it is for")), [""; 0]);
    assert_eq!(length(&Source::new("ops.rs", &"\n".repeat(MOST_LINES))), [""; 0]);
    assert_eq!(length(&Source::new("ops.rs", &"\n".repeat(MOST_LINES + 1))).len(), 1);
}
