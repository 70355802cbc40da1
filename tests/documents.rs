//! The documents, held to what they say: their commands run, their configurations are right, their links lead somewhere.
//!
//! `docs/TESTING.md` says how blocks are marked. Each script has a test here, which says what must hold after it.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::servers::{POSTGRES_PASSWORD, Postgres};
use support::{Run, Sandbox, Tree, assert_same, text, write_secret};

#[path = "documents/apps.rs"]
mod apps;
#[path = "documents/markdown.rs"]
mod markdown;
#[path = "documents/upgrades.rs"]
mod upgrades;

use markdown::{Block, Mark, anchors, blocks, links};

/// The scripts that have a test below, in `apps` for those of docs/APPS.md, or in `upgrades` for those of docs/UPGRADES.md; `api` is run by tests/api.rs.
const SCRIPTS: &[&str] = &[
    "api",
    "apps",
    "apps-by-hand",
    "apps-new-history",
    "apps-new-host",
    "apps-new-server",
    "apps-pushed-away",
    "appsmithctl",
    "catalog",
    "check",
    "export",
    "first-backup",
    "gate",
    "gate-script",
    "lost-password",
    "new-host",
    "nightly",
    "pins",
    "prune",
    "repair-index",
    "restic-alone",
    "restore-in-place",
    "restore-one-file",
    "stale-locks",
    "tooljet-by-hand",
];

/// What fragments of a configuration are appended to.
const BASE: &str = "[repository.main]\nurl = \"/srv/backup/belay\"\npassword = \"credential:repository-password\"\n\n";

/// A document, by its path from the crate's root.
struct Document {
    name: String,
    path: PathBuf,
    text: String,
}

fn documents() -> Vec<Document> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![root.join("README.md"), root.join("CHANGELOG.md")];
    for folder in ["docs", "docs/adr"] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let files = entries.map(|entry| entry.unwrap().path());
        paths.extend(files.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    paths.sort();
    let document = |path: PathBuf| Document {
        name: path.strip_prefix(root).unwrap().display().to_string(),
        text: fs::read_to_string(&path).unwrap(),
        path,
    };
    paths.into_iter().map(document).collect()
}

/// All blocks, each with its place for messages.
fn all_blocks() -> Vec<(String, Block)> {
    let of = |document: Document| {
        let name = document.name;
        blocks(&document.text)
            .into_iter()
            .map(move |block| (format!("{name}:{}", block.line), block))
    };
    documents().into_iter().flat_map(of).collect()
}

/// The script of this name: its blocks, one after the other.
fn script(name: &str) -> String {
    let is_part = |block: &Block| block.mark == Mark::Test(name.to_owned());
    let parts: Vec<String> = all_blocks()
        .into_iter()
        .filter(|(_, block)| is_part(block))
        .map(|(_, block)| block.content)
        .collect();
    assert!(!parts.is_empty(), "no document has a script '{name}'");
    parts.concat()
}

/// A host with a repository and one good snapshot of the instance `uploads`.
struct Host {
    sandbox: Sandbox,
    original: Tree,
}

impl Host {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.configure(&["uploads"], "last = 10");
        let source = sandbox.source_of("uploads");
        // The documents call the component by the instance's name, as it is where a directory has it.
        let named = sandbox.path("srv/uploads");
        fs::create_dir_all(named.parent().unwrap()).unwrap();
        fs::rename(&source, &named).unwrap();
        let config = fs::read_to_string(sandbox.config()).unwrap();
        fs::write(sandbox.config(), config.replace(text(&source), text(&named))).unwrap();

        fs::create_dir(named.join("sub")).unwrap();
        for (name, content) in [
            ("report.txt", "the report\n"),
            ("empty", ""),
            ("sub/with space", "a\n"),
            ("sub/back\\slash", "b\n"),
            ("sub/line\nbreak", "c\n"),
            ("sub/\u{e4}", "d\n"),
        ] {
            fs::write(named.join(name), content).unwrap();
        }
        sandbox.backup_of("uploads");
        let original = Tree::read(&named);
        Self { sandbox, original }
    }

    fn source(&self) -> PathBuf {
        self.sandbox.path("srv/uploads")
    }

    fn target(&self) -> PathBuf {
        self.sandbox.path("target")
    }

    /// Runs the documents' script of this name.
    fn run(&self, name: &str) -> Run {
        run_in(&self.sandbox, &script(name))
    }

    fn assert_target_is_original(&self) {
        let restored = Tree::read(&self.target().join("files/uploads"));
        assert_same(&self.original, &restored, "the restored tree");
    }
}

/// Runs a script as a person would, with the sandbox for a home directory and `belay` in the path.
fn run_in(sandbox: &Sandbox, script: &str) -> Run {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    sandbox.tidy(&mut command);
    let program = Path::new(env!("CARGO_BIN_EXE_belay")).parent().unwrap();
    let path = format!("{}:{}", text(program), std::env::var("PATH").unwrap());
    let recovery_key = sandbox.path("recovery-key");
    write_secret(&recovery_key, &sandbox.recovery_key);
    command
        .current_dir(sandbox.path(""))
        .env("PATH", path)
        .env("BELAY_CONFIG", sandbox.config())
        .env("REPOSITORY", sandbox.repository())
        .env("PASSWORD_FILE", sandbox.password_file())
        .env("NEW_PASSWORD_FILE", sandbox.path("new-password"))
        .env("RECOVERY_KEY_FILE", recovery_key)
        .env("TARGET", sandbox.path("target"));
    Run::of(command)
}

#[test]
fn every_block_says_what_it_is() {
    let known = ["sh", "toml", "json", "ini", "text"];
    let mut problems = Vec::new();
    for (place, block) in all_blocks() {
        if !known.contains(&block.language.as_str()) {
            problems.push(format!("{place}: '{}' is none of {known:?}", block.language));
        }
        let is_right = match (&block.mark, block.language.as_str()) {
            (Mark::Test(name), "sh") => SCRIPTS.contains(&name.as_str()),
            (Mark::NotRun(reason), "sh") => !reason.is_empty(),
            (Mark::None, "sh") | (Mark::Test(_) | Mark::NotRun(_), _) => false,
            (Mark::Fragment, language) => language == "toml",
            (Mark::None, _) => true,
        };
        if !is_right {
            problems.push(format!("{place}: a block of {} has {:?}", block.language, block.mark));
        }
    }
    assert_eq!(problems, [""; 0], "docs/TESTING.md says how blocks are marked");
}

#[test]
fn every_script_is_in_a_document() {
    let named = |(_, block): (String, Block)| match block.mark {
        Mark::Test(name) => Some(name),
        _ => None,
    };
    let found: BTreeSet<String> = all_blocks().into_iter().filter_map(named).collect();
    let expected: BTreeSet<String> = SCRIPTS.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_configuration_in_a_document_is_right() {
    let sandbox = Sandbox::without_repository();
    let mut checked = 0;
    for (place, block) in all_blocks() {
        if block.language != "toml" {
            continue;
        }
        let start = if block.mark == Mark::Fragment { BASE } else { "" };
        fs::write(sandbox.config(), format!("{start}{}", block.content)).unwrap();
        let run = sandbox.belay(&["config", "check"]);
        assert_eq!(run.exit_code(), Some(0), "{place}: {run}");
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} configurations were found");
}

#[test]
fn every_json_in_a_document_is_json_and_manifests_are_manifests() {
    let mut manifests = 0;
    for (place, block) in all_blocks() {
        if block.language != "json" {
            continue;
        }
        let value: serde_json::Value =
            serde_json::from_str(&block.content).unwrap_or_else(|error| panic!("{place}: {error}"));
        if value.get("schema").is_none() {
            continue;
        }
        let manifest = belay::ops::show::parse_manifest(block.content.as_bytes())
            .unwrap_or_else(|error| panic!("{place}: {error}"));
        // Nothing is left out, and nothing is there that the program would not write.
        assert_eq!(serde_json::to_value(&manifest).unwrap(), value, "{place}");
        manifests += 1;
    }
    assert_eq!(manifests, 1, "docs/FORMAT.md has one manifest");
}

#[test]
fn every_link_leads_somewhere() {
    let mut problems = Vec::new();
    let mut followed = 0;
    for document in documents() {
        for (line, link) in links(&document.text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            followed += 1;
            let (file, anchor) = link.split_once('#').map_or((&*link, None), |(f, a)| (f, Some(a)));
            let target = match file {
                "" => document.path.clone(),
                file => document.path.parent().unwrap().join(file),
            };
            let place = format!("{}:{line}: {link}", document.name);
            if !target.exists() {
                problems.push(format!("{place}: there is no such file"));
            } else if let Some(anchor) = anchor
                && !anchors(&fs::read_to_string(&target).unwrap()).contains(anchor)
            {
                problems.push(format!("{place}: there is no such heading"));
            }
        }
    }
    assert_eq!(problems, [""; 0]);
    assert!(followed > 20, "only {followed} links were found");
}

#[test]
fn the_first_backup_of_the_readme_works() {
    let sandbox = Sandbox::without_repository();
    let run = run_in(&sandbox, &script("first-backup")).ok();
    assert!(run.stdout().lines().any(|line| line == "the same"), "{run}");
    let snapshots = sandbox.path("belay-first/repository/snapshots");
    assert_eq!(fs::read_dir(snapshots).unwrap().count(), 1);
}

#[test]
fn the_nightly_script_backs_up_prunes_and_checks() {
    let host = Host::new();
    host.run("nightly").ok();
    assert_eq!(host.sandbox.list().len(), 2);
}

#[test]
fn the_nightly_script_tells_the_worst_failure_and_goes_on() {
    let host = Host::new();
    fs::remove_dir_all(host.source()).unwrap();
    let status = script("nightly").replace("exit \"$worst\"", "echo \"worst $worst\"");
    let run = run_in(&host.sandbox, &status).ok();
    assert!(run.stdout().contains("worst 1"), "{run}");
    assert_eq!(host.sandbox.list().len(), 1, "the last good snapshot is there");
}

#[test]
fn one_file_comes_back() {
    let host = Host::new();
    host.run("restore-one-file").ok();
    let files: Vec<_> = fs::read_dir(host.target().join("files/uploads")).unwrap().collect();
    assert_eq!(files.len(), 1, "only what was asked for");
    let restored = host.target().join("files/uploads/report.txt");
    assert_eq!(fs::read_to_string(restored).unwrap(), "the report\n");
}

#[test]
fn an_instance_comes_back_in_place_and_what_was_there_is_in_a_snapshot() {
    let host = Host::new();
    fs::write(host.source().join("report.txt"), "spoilt\n").unwrap();
    host.run("restore-in-place").code_in(&[0, 3]);
    assert_same(&host.original, &Tree::read(&host.source()), "the instance");
    let list = host.sandbox.belay(&["list", "--json"]).ok().json();
    let is_before =
        |snapshot: &&serde_json::Value| snapshot["tags"].to_string().contains("before-restore=");
    let before = list.as_array().unwrap().iter().find(is_before).expect("there is such a snapshot");
    let restored = host.sandbox.restore(before["id"].as_str().unwrap());
    let report = restored.tree().join("report.txt");
    assert_eq!(fs::read_to_string(report).unwrap(), "spoilt\n");
}

#[test]
fn restic_alone_brings_everything_back_and_the_sums_prove_it() {
    let host = Host::new();
    let run = host.run("restic-alone").ok();
    assert!(run.stdout().lines().any(|line| line == "all files are as they were"), "{run}");
    host.assert_target_is_original();

    fs::write(host.target().join("files/uploads/sub/line\nbreak"), "x\n").unwrap();
    let check = "cd target/files && sha256sum --check --quiet ../checksums/uploads.sha256";
    run_in(&host.sandbox, check).code(1);
}

#[test]
fn databases_come_back_by_hand_and_each_workspace_logs_in() {
    let postgres = Postgres::start();
    let sandbox = Sandbox::new();
    postgres.script(Path::new("tests/fixtures/tooljet/seed-1.sql"));
    let environment = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let environment = environment
        .replace("localhost", "127.0.0.1")
        .replace("PG_PORT=5432", &format!("PG_PORT={}", postgres.port));
    let file = sandbox.path("tooljet.env");
    fs::write(&file, environment).unwrap();
    let mut config = fs::read_to_string(sandbox.config()).unwrap();
    config.extend([format!(
        "\n[instance.tooljet]\nplatform = \"tooljet\"\nenvironment = \"{}\"\n",
        file.display()
    )]);
    fs::write(sandbox.config(), config).unwrap();
    sandbox.belay(&["backup", "tooljet"]).ok();
    let ids = postgres.sql("tooljet_production", "SELECT id FROM organizations");
    let ids: Vec<&str> = ids.lines().collect();
    assert_eq!(ids.len(), 2);
    for database in ["tooljet_production", "tooljet_db"] {
        postgres.sql("postgres", &format!("DROP DATABASE {database}"));
    }
    for id in &ids {
        postgres.sql("postgres", &format!("DROP ROLE \"user_{id}\""));
    }
    let connection = format!(
        "export PGHOST=127.0.0.1 PGPORT={} PGUSER=postgres PGPASSWORD={POSTGRES_PASSWORD}\n",
        postgres.port
    );
    run_in(&sandbox, &(connection + &script("tooljet-by-hand"))).ok();
    for id in ids {
        let tables = "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()";
        let password = format!("pw-{}", &id[..8]);
        let seen = postgres.sql_as(&format!("user_{id}"), &password, "tooljet_db", tables).ok();
        assert_eq!(seen.stdout().trim(), "3");
    }
}

#[test]
fn restic_alone_also_takes_the_recovery_key() {
    let host = Host::new();
    write_secret(&host.sandbox.password_file(), &host.sandbox.recovery_key);
    host.run("restic-alone").ok();
    host.assert_target_is_original();
}

#[test]
fn a_new_host_goes_on_where_the_burnt_one_ended() {
    let host = Host::new();
    fs::remove_file(host.sandbox.config()).unwrap();
    fs::remove_dir_all(host.sandbox.state()).unwrap();
    fs::remove_dir_all(host.source()).unwrap();
    fs::create_dir(host.source()).unwrap();
    host.run("new-host").code_in(&[0, 3]);
    assert_same(&host.original, &Tree::read(&host.source()), "the instance");
    let list = host.sandbox.belay(&["list", "--json"]).ok().json();
    let ids: BTreeSet<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|snapshot| snapshot["instance_id"].as_str())
        .collect();
    assert_eq!(ids.len(), 1, "the new host goes on with the old instance: {list:#}");
}

#[test]
fn the_recovery_key_makes_up_for_a_lost_password() {
    let host = Host::new();
    fs::remove_file(host.sandbox.password_file()).unwrap();
    host.run("lost-password").ok();
    let password = fs::read_to_string(host.sandbox.password_file()).unwrap();
    assert_ne!(password.trim(), host.sandbox.recovery_key);
    host.sandbox.backup_of("uploads");
}

#[test]
fn pins_come_and_go() {
    let host = Host::new();
    let run = host.run("pins").ok();
    assert!(run.stdout().contains("pinned: before the move"), "{run}");
    let list = host.sandbox.belay(&["list", "--json"]).ok().json();
    assert_eq!(list[0]["pinned"], false, "{list:#}");
}

#[test]
fn a_sound_repository_passes_both_checks() {
    let host = Host::new();
    host.run("check").ok();
    let packs = host.sandbox.packs();
    let pack = host.sandbox.pack_path(packs.first().unwrap());
    fs::remove_file(pack).unwrap();
    host.run("check").code(4);
}

#[test]
fn restic_repairs_a_lost_index() {
    let host = Host::new();
    for index in host.sandbox.files("index") {
        fs::remove_file(host.sandbox.repository().join("index").join(index)).unwrap();
    }
    host.sandbox.belay(&["check"]).code(4);
    host.run("repair-index").ok();
    host.sandbox.belay_finds_nothing();
}

#[test]
fn a_prune_is_planned_and_done() {
    let host = Host::new();
    host.run("prune").ok();
    assert_eq!(host.sandbox.list().len(), 1);
    host.sandbox.restic_finds_nothing();
}

#[test]
fn unlocking_leaves_no_lock() {
    let host = Host::new();
    host.run("stale-locks").ok();
    assert_eq!(host.sandbox.files("locks").len(), 0);
}

#[test]
fn a_lost_catalog_is_made_again() {
    let host = Host::new();
    fs::remove_dir_all(host.sandbox.state()).unwrap();
    host.run("catalog").ok();
    assert_eq!(host.sandbox.list().len(), 1);
    host.sandbox.backup_of("uploads");
}

#[test]
fn archives_of_appsmithctl_move_over_as_documented() {
    let sandbox = Sandbox::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/appsmith");
    let mut command = Command::new(fixtures.join("make-appsmithctl.sh"));
    command.arg(sandbox.path("archives"));
    Run::of(command).ok();
    fs::copy(fixtures.join("docker.env"), sandbox.path("docker.env")).unwrap();
    write_secret(&sandbox.path("archive-password"), "fixture-archive-password");
    let mut config = fs::read_to_string(sandbox.config()).unwrap();
    config
        .push_str("\n[instance.production]\nplatform = \"appsmith\"\nvia = \"docker:appsmith\"\n");
    fs::write(sandbox.config(), config).unwrap();
    let told = run_in(&sandbox, &script("appsmithctl")).ok().stdout();
    assert_eq!(told.matches("its keys fit").count(), 3, "{told}");
    assert_eq!(sandbox.list().len(), 3);
}

#[test]
fn an_export_comes_back_as_documented() {
    let host = Host::new();
    let mut config = fs::read_to_string(host.sandbox.config()).unwrap();
    config.push_str("\n[instance.copy]\nplatform = \"files\"\npaths = [\"/srv/copy\"]\n");
    fs::write(host.sandbox.config(), config).unwrap();
    host.run("export").ok();
    host.assert_target_is_original();
    let restored = Tree::read(&host.sandbox.path("from-import/files/uploads"));
    assert_same(&host.original, &restored, "what the import brought back");
}
