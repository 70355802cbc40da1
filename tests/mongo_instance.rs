//! An instance of the platform `mongodb`, through the command line: backed up, restored, and restored again after whatever ended
//! that.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fs;
use support::servers::Mongod;
use support::{Run, Sandbox, wait_until};

const DATABASE: &str = "appsmith";

struct Instance {
    sandbox: Sandbox,
    mongod: Mongod,
}

impl Instance {
    fn new(scale: u32) -> Self {
        let instance = Self { sandbox: Sandbox::new(), mongod: Mongod::start() };
        instance.mongod.seed(DATABASE, scale);
        instance.set_url(&instance.mongod.url(DATABASE));
        let sandbox = &instance.sandbox;
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        let url = sandbox.path("url");
        let table = format!(
            "\n[instance.db]\nplatform = \"mongodb\"\ncomponent.mongodb = {{ url = \"file:{}\" }}\n",
            url.display()
        );
        config.push_str(&table);
        fs::write(sandbox.config(), config).unwrap();
        instance
    }

    fn set_url(&self, url: &str) {
        support::write_secret(&self.sandbox.path("url"), url);
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
    }

    fn backup(&self) -> Value {
        self.belay(&["backup", "db", "--json"]).ok().json()["snapshots"][0].clone()
    }

    fn picture(&self) -> String {
        self.mongod.picture(DATABASE)
    }

    fn change(&self) {
        self.mongod.python(
            "db = client['appsmith']\ndb.user.delete_many({}); db.extra.insert_one({}); db.drop_collection('activeApplications')",
        );
    }
}

#[test]
fn it_comes_back_as_it_was_and_the_state_before_is_in_a_snapshot() {
    let instance = Instance::new(1);
    let wanted = instance.picture();
    let snapshot = instance.backup();
    assert_eq!(snapshot["sealed"], true);
    // Out into a file, and back from it.
    let file = instance.sandbox.path("db.tar.zst");
    let file = support::text(&file);
    instance.belay(&["export", "latest:db", file]).ok();
    let imported = instance.belay(&["import", file, "--instance", "db", "--json"]).ok().json();
    instance.change();
    instance.belay(&["restore", imported["id"].as_str().unwrap(), "--into", "db", "--yes"]).ok();
    assert_eq!(instance.picture(), wanted);

    instance.change();
    let changed = instance.picture();

    let dry = instance.belay(&["restore", "latest:db", "--into", "db", "--dry-run"]).ok();
    let dry = dry.stdout();
    assert!(dry.contains("15 collections with 437 documents"), "{dry}");
    assert!(dry.contains("not in the snapshot, so they go: extra"), "{dry}");
    assert_eq!(instance.picture(), changed);
    let restored =
        instance.belay(&["restore", "latest:db", "--into", "db", "--yes", "--json"]).ok();
    assert_eq!(instance.picture(), wanted);
    let before = restored.json()["before"].as_str().unwrap().to_owned();
    instance.belay(&["restore", &before, "--into", "db", "--yes"]).ok();
    assert_eq!(instance.picture(), changed);
    instance.mongod.python("client.drop_database('appsmith')");
    instance.belay(&["backup", "db"]).code(1).says(&["there is no database 'appsmith'"]);
    let id = snapshot["id"].as_str().unwrap();
    instance.belay(&["restore", id, "--into", "db", "--yes"]).ok();
    assert_eq!(instance.picture(), wanted);
}

#[test]
fn what_is_in_the_repository_is_the_layout_of_mongodump() {
    let instance = Instance::new(1);
    instance.backup();
    let target = instance.sandbox.path("by-restic");
    instance.sandbox.restic(&["restore", "latest", "--target", support::text(&target)]).ok();
    let directory = target.join("mongodb/appsmith");
    let mut names: Vec<String> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(names.contains(&"odd+name+%E2%98%82+%252F.bson".to_owned()), "{names:?}");
    assert!(names.contains(&"activeApplications.metadata.json".to_owned()), "{names:?}");
    assert_eq!(names.len(), 2 * 14 + 1 + 1, "{names:?}");
    // Another program reads the documents, and the metadata in Extended JSON.
    let told = instance.mongod.python(&format!(
        "import bson.json_util, pathlib\nd = pathlib.Path({:?})\nprint(sum(len(bson.decode_all(p.read_bytes())) for p in d.glob('*.bson')))\nm = bson.json_util.loads((d / 'user.metadata.json').read_text())\nprint(m['collectionName'], [i['name'] for i in m['indexes']])",
        directory.display().to_string()
    ));
    assert_eq!(told, "437\nuser ['_id_', 'email_1', 'name_de']");
}

#[test]
fn a_failed_backup_seals_nothing_and_shows_no_secret() {
    let instance = Instance::new(1);
    instance.mongod.python("client.admin.command('createUser', 'u', pwd='right', roles=['root'])");
    let port = instance.mongod.port;
    for (url, said) in [
        (
            format!("mongodb://u:wr0ng-secret@127.0.0.1:{port}/appsmith?authSource=admin"),
            "refused the login",
        ),
        (
            format!(
                "mongodb://u:wr0ng-secret@127.0.0.1:{}/appsmith",
                support::servers::free_port()
            ),
            "cannot be reached",
        ),
        ("mongodb://u:wr0ng-secret:@@h".into(), "cannot be used"),
        (format!("mongodb://127.0.0.1:{port}/"), "names no database"),
    ] {
        instance.set_url(&url);
        for command in [&["backup", "db"][..], &["doctor", "db"]] {
            let run = instance.belay(command);
            let text = run.to_string();
            assert!(text.contains(said), "{text}");
            assert!(!text.contains("wr0ng"), "{text}");
            run.code_in(&[1, 2]);
        }
    }
    assert_eq!(instance.belay(&["list", "--json"]).ok().json(), serde_json::json!([]));
}

#[test]
fn a_restore_that_was_killed_is_undone_or_finished_by_the_next_start() {
    let instance = Instance::new(20);
    let wanted = instance.picture();
    let id = instance.backup()["id"].as_str().unwrap().to_owned();
    let journal = instance.sandbox.state().join("collection-restores/db.json");
    for phase in ["making", "swapping", "clearing"] {
        instance.change();
        let changed = instance.picture();
        let mut running = instance.sandbox.start(&[
            "restore",
            &id,
            "--into",
            "db",
            "--yes",
            "--discard-current",
            "--reason",
            "test",
        ]);
        wait_until(phase, || {
            let text = fs::read_to_string(&journal).unwrap_or_default();
            running.has_ended() || text.contains(&format!("\"phase\": \"{phase}\""))
        });
        running.kill();
        if journal.exists() {
            let told = instance.belay(&["status"]).to_string();
            assert!(told.contains("was interrupted"), "{told}");
        }
        instance.belay(&["backup", "db"]).code_in(&[0, 3]);
        let now = instance.picture();
        assert!(!journal.exists());
        let aside = |line: &&str| !line.starts_with("belay_old_");
        let now: Vec<&str> = now.lines().filter(aside).collect();
        let is = |picture: &str| now == picture.lines().collect::<Vec<_>>();
        assert!(is(&changed) || is(&wanted), "{phase}: {now:?}");
        instance.belay(&["restore", &id, "--into", "db", "--yes"]).code_in(&[0, 3]);
        let now = instance.picture();
        let now: Vec<&str> = now.lines().filter(aside).collect();
        assert_eq!(now, wanted.lines().collect::<Vec<_>>(), "{phase}");
        instance.mongod.python("db = client['appsmith']\nfor n in db.list_collection_names():\n    if n.startswith('belay_old_'): db.drop_collection(n)");
    }
}
