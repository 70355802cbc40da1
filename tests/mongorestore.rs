//! A MongoDB database that its own programs dump and fill, which are in no registry: stand-ins read and write their archives, on a
//! real server. All comes back, or the old state serves.
#![allow(clippy::unwrap_used)]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use support::servers::{Mongod, Sshd, python_packages};
use support::{Run, Sandbox, text, wait_until};

const DATABASE: &str = "appsmith";
const PASSWORD: &str = "it's-s3cret";

/// An instance of the platform `mongodb`, and a snapshot of it by `mongodump`; it has become another since.
struct Scene {
    sandbox: Sandbox,
    mongod: Mongod,
    snapshot: String,
    /// What the snapshot brings back.
    wanted: String,
}

impl Scene {
    fn new() -> Self {
        let (sandbox, mongod) = (Sandbox::new(), Mongod::start());
        mongod.seed(DATABASE, 1);
        // Not in an argument: they are looked through.
        let mut command = mongod.python_command(
            "import os; client.admin.command('createUser', 'u', pwd=os.environ['MADE_UP'], roles=['root'])\n\
             db = client['appsmith']\n\
             db.create_collection('strict', validator={'n': {'$gt': 5}}, collation={'locale': 'de'})\n\
             db.command('insert', 'strict', documents=[{'_id': 1, 'n': 1}], bypassDocumentValidation=True)\n\
             db.create_collection('clustered', clusteredIndex={'key': {'_id': 1}, 'unique': True})\n\
             db.clustered.insert_one({'_id': 1})",
        );
        command.env("MADE_UP", PASSWORD);
        Run::of(command).ok();
        sandbox.configure(&["data"], "last = 1000");
        let mut scene = Self { sandbox, mongod, snapshot: String::new(), wanted: String::new() };
        scene.use_database(DATABASE);
        scene.make_stand_ins();
        let mut config = fs::read_to_string(scene.sandbox.config()).unwrap();
        let table = format!(
            "\n[instance.db]\nplatform = \"mongodb\"\ncomponent.mongodb = {{ url = \"file:{}\", way = \"mongodump\", tools = \"{}\" }}\n",
            scene.sandbox.path("url").display(),
            scene.tools().display(),
        );
        config.push_str(&table);
        fs::write(scene.sandbox.config(), config).unwrap();
        scene.wanted = scene.picture(DATABASE);
        // Never of one moment, which is a warning.
        let taken = scene.sandbox.belay(&["backup", "db", "--json"]).code(3).json();
        taken["snapshots"][0]["id"].as_str().unwrap().clone_into(&mut scene.snapshot);
        scene.mongod.python(
            "db = client['appsmith']\ndb.user.delete_many({}); db.extra.insert_one({}); db.newPage.drop_indexes(); db.drop_collection('activeApplications')",
        );
        scene
    }

    fn use_database(&self, name: &str) {
        let (port, password) = (self.mongod.port, PASSWORD);
        let url = format!("mongodb://u:{password}@127.0.0.1:{port}/{name}?authSource=admin");
        support::write_secret(&self.sandbox.path("url"), &url);
    }

    fn tools(&self) -> PathBuf {
        self.sandbox.path("tools")
    }

    fn make_stand_ins(&self) {
        fs::create_dir(self.tools()).unwrap();
        for program in ["mongodump", "mongorestore"] {
            let stand_in = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mongorestore/stand_in.py");
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = --version ] && {{ echo '{program} version: 100.18.0'; exit; }}\nPYTHONPATH={} exec /usr/bin/python3 {stand_in} {} {program} \"$@\"\n",
                text(&python_packages()),
                text(&self.tools()),
            );
            let path = self.tools().join(program);
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn set_mode(&self, mode: &str) {
        fs::write(self.tools().join("mode"), mode).unwrap();
    }

    fn picture(&self, database: &str) -> String {
        self.mongod.picture(database)
    }

    fn arguments(&self) -> [&str; 6] {
        ["restore", &self.snapshot, "--into", "db", "--yes", "--json"]
    }

    fn restore(&self) -> Run {
        self.sandbox.belay(&self.arguments())
    }
}

#[test]
fn it_comes_back_as_it_was_here_and_by_ssh_under_another_name() {
    let scene = Scene::new();
    let changed = scene.picture(DATABASE);
    let planned = ["restore", &scene.snapshot, "--into", "db", "--dry-run"];
    let planned = scene.sandbox.belay(&planned).ok().to_string();
    assert!(planned.contains("mongorestore 100.18.0 fills the new collections"), "{planned}");
    let restored = scene.restore().code_in(&[0, 3]);
    assert!(!restored.to_string().contains("s3cret"), "{restored}");
    assert_eq!(scene.picture(DATABASE), scene.wanted);
    let arguments = fs::read_to_string(scene.tools().join("arguments")).unwrap();
    assert_eq!(
        arguments,
        "--config=/dev/fd/3\n--nsInclude=appsmith.*\n--archive\n--stopOnError\n--maintainInsertionOrder\n--bypassDocumentValidation"
    );
    // The state before, by the same way.
    let restored = restored.json();
    let before = restored["before"].as_str().unwrap();
    scene.sandbox.belay(&["restore", before, "--into", "db", "--yes"]).code_in(&[0, 3]);
    assert_eq!(scene.picture(DATABASE), changed);

    // Through ssh, where the connection string goes before the archive.
    let sshd = Sshd::start(&[]);
    let config = fs::read_to_string(scene.sandbox.config()).unwrap();
    let config = config.replace("way = ", "via = \"ssh:far\", way = ");
    let access = format!("\n[access]\nssh_config = \"{}\"\n", sshd.config().display());
    fs::write(scene.sandbox.config(), config + &access).unwrap();
    scene.use_database("another_name");
    scene.restore().code_in(&[0, 3]);
    assert_eq!(scene.picture("another_name"), scene.wanted);
    assert_eq!(scene.picture(DATABASE), changed);
}

#[test]
fn whatever_goes_wrong_the_old_state_serves_and_nothing_is_left() {
    let scene = Scene::new();
    let changed = scene.picture(DATABASE);
    for (mode, said) in [
        ("fail", "disk full"),
        ("stop", "ended well before it had taken all"),
        ("complain", "3 failed"),
        ("lose", "should have"),
        ("lose-index", "has other indexes"),
    ] {
        scene.set_mode(mode);
        let run = scene.restore().code(1).says(&[said]);
        assert!(!run.to_string().contains("s3cret"), "{run}");
        assert_eq!(scene.picture(DATABASE), changed, "{mode}");
    }
    fs::remove_file(scene.tools().join("mongorestore")).unwrap();
    scene.restore().code(1).says(&["mongorestore"]);
    let doctor = scene.sandbox.belay(&["doctor", "db"]).to_string();
    assert!(doctor.contains("mongorestore, which a restore in place needs"), "{doctor}");
    let nowhere = format!("mongodb://127.0.0.1:{}/appsmith", support::servers::free_port());
    support::write_secret(&scene.sandbox.path("url"), &nowhere);
    scene.restore().code(1).says(&["cannot be reached", "restore by hand", "--to-dir"]);
    assert_eq!(scene.picture(DATABASE), changed);
}

#[test]
fn one_that_was_killed_is_cleared_away_by_the_next_start_and_no_argument_has_the_password() {
    let scene = Scene::new();
    let changed = scene.picture(DATABASE);
    scene.set_mode("hang");
    let running = scene.sandbox.start(&scene.arguments());
    let hanging = || fs::read_to_string(scene.tools().join("hanging")).unwrap_or_default();
    wait_until("the stand-in to stand still", || hanging().ends_with('\n'));
    let mut seen = 0;
    for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let arguments = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        seen += usize::from(arguments.contains("mongorestore"));
        assert!(!arguments.contains(PASSWORD), "{arguments}");
    }
    assert!(seen > 0, "the program runs");
    assert_ne!(scene.picture(DATABASE), changed, "it has begun");
    running.kill();
    let stand_in = Pid::from_raw(hanging().trim().parse().unwrap()).unwrap();
    kill_process(stand_in, Signal::KILL).unwrap();
    wait_until("the stand-in to end", || {
        !PathBuf::from(format!("/proc/{}", stand_in.as_raw_nonzero())).exists()
    });

    let told = scene.sandbox.belay(&["status"]).to_string();
    assert!(told.contains("was interrupted"), "{told}");
    scene.sandbox.belay(&["backup", "db"]).code(3).says(&["the state before it serves"]);
    assert_eq!(scene.picture(DATABASE), changed);
    scene.set_mode("");
    scene.restore().code_in(&[0, 3]);
    assert_eq!(scene.picture(DATABASE), scene.wanted);
}
