//! Backups of a ToolJet-shaped instance on a real PostgreSQL: what a snapshot holds, whether its keys fit, and each way in which
//! reading a database can fail.
#![allow(clippy::unwrap_used)]

#[path = "tooljet/databases.rs"]
mod databases;
#[path = "tooljet/kept.rs"]
mod kept;
#[path = "tooljet/keys.rs"]
mod keys;
#[path = "tooljet/killed.rs"]
mod killed;
#[path = "tooljet/large.rs"]
mod large;
#[path = "tooljet/reading.rs"]
mod reading;
#[path = "tooljet/restored.rs"]
mod restored;
mod support;

use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::servers::Postgres;
use support::{Run, Sandbox, text, wait_until};

/// The variables of the instance, as its file has them.
fn environment(postgres: &Postgres) -> String {
    let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let port = postgres.port;
    let file =
        file.replace("localhost", "127.0.0.1").replace("PG_PORT=5432", &format!("PG_PORT={port}"));
    format!("{file}TOOLJET_DB_PORT={port}\n")
}

/// The instance `tj` of a sandbox, and the server that it is on.
struct Instance {
    sandbox: Sandbox,
    postgres: Postgres,
}

impl Instance {
    fn new(scale: u32) -> Self {
        Self::on(Postgres::start(), scale)
    }

    fn on(postgres: Postgres, scale: u32) -> Self {
        let instance = Self { sandbox: Sandbox::new(), postgres };
        let seed = Command::new("/usr/bin/python3")
            .args(["tests/fixtures/tooljet/seed.py", &scale.to_string()])
            .output()
            .unwrap();
        assert!(seed.status.success(), "{}", String::from_utf8_lossy(&seed.stderr));
        let path = instance.sandbox.path("seed.sql");
        fs::write(&path, seed.stdout).unwrap();
        instance.postgres.script(&path);
        instance.set_environment(&environment(&instance.postgres));
        instance.configure("");
        instance
    }

    fn environment_path(&self) -> PathBuf {
        self.sandbox.path("tooljet.env")
    }

    fn set_environment(&self, content: &str) {
        fs::write(self.environment_path(), content).unwrap();
    }

    /// `more` is added to the instance's table.
    fn configure(&self, more: &str) {
        self.sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(self.sandbox.config()).unwrap();
        let path = self.environment_path();
        config.extend([format!(
            "\n[instance.tj]\nplatform = \"tooljet\"\nenvironment = \"{}\"\n{more}\n",
            path.display()
        )]);
        fs::write(self.sandbox.config(), config).unwrap();
    }

    /// With programs of PostgreSQL that a script stands in for: `script` is `pg_dump`, and `$REAL` the real one.
    fn with_pg_dump(&self, script: &str) {
        let directory = self.sandbox.path("tools");
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let real = Command::new("sh")
            .args(["-c", "ls -d /usr/lib/postgresql/*/bin | tail -1"])
            .output()
            .unwrap();
        let real = String::from_utf8(real.stdout).unwrap().trim().to_owned();
        for program in ["psql", "pg_dumpall", "pg_restore"] {
            std::os::unix::fs::symlink(format!("{real}/{program}"), directory.join(program))
                .unwrap();
        }
        let path = directory.join("pg_dump");
        let script = format!(
            "#!/bin/sh\nREAL={real}/pg_dump\n[ \"$1\" = --version ] && exec $REAL --version\n{script}\n"
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // An exact version is preferred, and the first of its kind wins.
        self.configure(&format!("component.postgres.tools = \"{}\"", directory.display()));
    }

    fn backup(&self) -> Run {
        self.sandbox.belay(&["backup", "tj", "--json"])
    }

    fn count(&self) -> usize {
        self.sandbox.list().len()
    }

    /// The backup fails, says these words, and leaves no snapshot.
    #[track_caller]
    fn fails(&self, words: &[&str]) {
        let before = self.count();
        let run = self.backup().code(1).says(&["postgres"]).says(words);
        assert_eq!(run.json()["snapshots"].as_array().unwrap().len(), 0);
        assert_eq!(self.count(), before, "a failed run left a snapshot");
    }
}

/// Holds a table until somebody waits for it, and ends that one's connection.
const LOCK_AND_TERMINATE: &str = r"BEGIN;
LOCK TABLE app_versions IN ACCESS EXCLUSIVE MODE;
\! touch 'MARK'
DO $$ BEGIN LOOP
  PERFORM pg_stat_clear_snapshot();
  EXIT WHEN (SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE wait_event_type = 'Lock') > 0;
END LOOP; END $$;
COMMIT;
";

fn component<'a>(manifest: &'a Value, name: &str) -> &'a Value {
    let all = manifest["components"].as_array().unwrap();
    all.iter().find(|component| component["name"] == name).unwrap()
}

#[test]
fn a_snapshot_holds_what_an_instance_needs() {
    let instance = Instance::new(20);
    let run = instance.backup().ok();
    let taken = &run.json()["snapshots"][0];
    assert_eq!(taken["key_fit"], "fit");
    let id = taken["id"].as_str().unwrap().to_owned();
    let shown = instance.sandbox.belay(&["show", &id, "--json"]).ok().json();
    let postgres = component(&shown["manifest"], "postgres");
    assert_eq!(postgres["counts"]["databases"], 2);
    assert!(postgres["details"]["skew_ms"].as_f64().unwrap() < 1000.0);
    let databases = postgres["details"]["databases"].as_array().unwrap();
    let rows = instance.postgres.sql("tooljet_production", "SELECT count(*) FROM app_versions");
    assert_eq!(databases[0]["rows"]["public"]["app_versions"].to_string(), rows.trim());
    assert_eq!(databases[0]["name"], "tooljet_production");
    assert_eq!(
        databases[1]["settings"].as_array().unwrap().len(),
        2,
        "a search_path for each workspace's role"
    );

    let restored = instance.sandbox.path("restored");
    let target = text(&restored);
    instance.sandbox.restic(&["restore", &id, "--target", target]).ok();
    assert_eq!(
        fs::read(restored.join("environment/tooljet.env")).unwrap(),
        fs::read(instance.environment_path()).unwrap()
    );
    for (database, count) in [("tooljet_production", 16), ("tooljet_db", 6)] {
        let dump = restored.join(format!("postgres/{database}.dump"));
        let list = instance.postgres.run("pg_restore", &["--list", text(&dump)]);
        assert_eq!(
            list.lines().filter(|line| line.contains(" TABLE DATA ")).count(),
            count,
            "{list}"
        );
    }
    let globals = fs::read_to_string(restored.join("postgres/globals.sql")).unwrap();
    assert_eq!(
        globals.matches("CREATE ROLE user_").count()
            + globals.matches("CREATE ROLE \"user_").count(),
        2
    );
    let settings = fs::read_to_string(restored.join("postgres/tooljet_db.settings.sql")).unwrap();
    assert_eq!(
        settings.matches("IN DATABASE \"tooljet_db\" SET \"search_path\" TO 'workspace_").count(),
        2,
        "{settings}"
    );

    // A second night stores little: the dumps are not compressed.
    let again = instance.backup().ok();
    let added = again.json()["snapshots"][0]["added_bytes"].as_u64().unwrap();
    assert!(added < taken["added_bytes"].as_u64().unwrap(), "{added}");
}

#[test]
fn keys_that_do_not_fit_are_found_and_such_a_snapshot_is_not_good() {
    let instance = Instance::new(1);
    let good = environment(&instance.postgres);
    let key = "LOCKBOX_MASTER_KEY=0101010101010101010101010101010101010101010101010101010101010101";
    assert!(good.contains(key));
    for (bad, word) in [
        (key.replace("=01", "=02"), "cannot be decrypted"),
        (String::new(), "is not set"),
        ("LOCKBOX_MASTER_KEY=changeme".to_owned(), "placeholder"),
    ] {
        instance.set_environment(&good.replace(key, &bad));
        let run = instance.backup().code(4).says(&[word]);
        assert_eq!(run.json()["snapshots"][0]["key_fit"], "unfit");
        assert!(!run.stderr().contains("0101010101"), "{}", run.stderr());
    }
    instance.set_environment(&good);
    instance.backup().ok();
    let list = instance.sandbox.belay(&["list"]).ok().stdout();
    assert_eq!(list.matches("keys unfit").count(), 3, "{list}");
    // The newest good one is kept, whatever the policy says; the unfit ones do not count.
    instance.set_environment(&good.replace(key, ""));
    instance.backup().code(4);
    let plan = instance.sandbox.belay(&["prune", "--dry-run"]).ok().stdout();
    assert!(plan.contains("last good"), "{plan}");
}

#[test]
fn an_empty_database_is_a_good_snapshot() {
    let instance = Instance::new(1);
    instance.postgres.sql("postgres", "CREATE DATABASE empty");
    let settings = instance.environment_path();
    fs::write(
        &settings,
        environment(&instance.postgres).replace("PG_DB=tooljet_production", "PG_DB=empty"),
    )
    .unwrap();
    instance.configure("component.postgres.databases = [\"empty\"]");
    // That it has none of the platform's tables is worth a word.
    let run = instance.backup().code(3).says(&["the database empty has no credentials"]);
    assert_eq!(run.json()["snapshots"][0]["counts"]["rows"], 0);
    assert_eq!(run.json()["snapshots"][0]["key_fit"], "unproven");
}

#[test]
fn each_way_to_fail_is_a_failed_run() {
    let instance = Instance::new(1);
    let good = environment(&instance.postgres);
    instance.set_environment(&good.replace("PG_PASS=fixture-pg-pw", "PG_PASS=wrong"));
    instance.fails(&["password authentication failed", "hint:"]);
    instance.set_environment(&good.replace(&instance.postgres.port.to_string(), "1"));
    instance.fails(&["connection refused", "does the server run there"]);
    instance.set_environment(&good);

    instance.with_pg_dump("$REAL \"$@\"; echo 'pg_dump: error: something went wrong' >&2; exit 0");
    instance.fails(&["ended without an error and said", "something went wrong"]);
    instance.with_pg_dump("$REAL \"$@\"; echo 'the end came' >&2; exit 1");
    instance.fails(&["exit status 1", "the end came"]);
    instance.with_pg_dump("$REAL \"$@\" | head -c 20000; exit 0");
    instance.fails(&["is not whole"]);
    instance.with_pg_dump("$REAL \"$@\" | head -c -1; exit 0");
    instance.fails(&["is not whole"]);
    instance.with_pg_dump("exit 0");
    instance.fails(&["is not whole", "empty"]);
    instance.with_pg_dump("echo 'no space left on device'; exit 0");
    instance.fails(&["is not whole", "no space left on device"]);
    instance.with_pg_dump("$REAL \"$@\" --exclude-table=users; exit $?");
    instance.fails(&["lacks 1 of its tables", "public.users"]);
    instance.with_pg_dump("$REAL \"$@\" | head -c 20000; kill -9 $$");
    instance.fails(&["signal 9"]);
    let lock = instance.sandbox.path("lock");
    let script = instance.sandbox.path("lock.sql");
    fs::write(&script, LOCK_AND_TERMINATE.replace("MARK", text(&lock))).unwrap();
    instance.configure("");
    std::thread::scope(|scope| {
        let postgres = &instance.postgres;
        scope.spawn(|| {
            postgres.run("psql", &["-X", "-q", "-d", "tooljet_production", "-f", text(&script)])
        });
        wait_until("the table to be locked", || lock.exists());
        instance.fails(&["terminating connection"]);
    });
    // And afterwards, all is as it was.
    instance.configure("");
    instance.backup().ok();
}

#[test]
fn a_server_that_stops_in_the_middle_fails_the_run() {
    let instance = Instance::new(1);
    // The dump waits until the server is gone.
    let mark = instance.sandbox.path("dumping");
    instance.with_pg_dump(&format!(
        "touch '{0}'; while [ -e '{0}' ]; do :; done; exec $REAL \"$@\"",
        mark.display()
    ));
    let running = instance.sandbox.start(&["backup", "tj", "--json"]);
    wait_until("the dump to begin", || mark.exists());
    let Instance { sandbox, postgres } = instance;
    drop(postgres);
    fs::remove_file(&mark).unwrap();
    running.wait().code(1).says(&["postgres"]);
    assert_eq!(sandbox.list().len(), 0);
}

#[test]
fn a_table_dropped_between_listing_and_dumping_is_told() {
    let instance = Instance::new(1);
    let psql = format!(
        "PGPASSWORD='{}' PGUSER=postgres psql -X -q -c",
        support::servers::POSTGRES_PASSWORD
    );
    instance.with_pg_dump(&format!(
        "{psql} 'DROP TABLE IF EXISTS files' tooljet_production; exec $REAL \"$@\""
    ));
    instance.fails(&["files"]);
}

/// Whether a process that runs now shows one of these in its arguments; and how many there are of PostgreSQL's programs.
fn look_at_processes(shows: impl Fn(&str) -> bool) -> usize {
    let mut seen = 0;
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        seen += usize::from(line.contains("psql") || line.contains("pg_restore"));
        assert!(!shows(&line), "{line}");
    }
    seen
}

#[test]
fn secrets_show_nowhere() {
    let instance = Instance::new(1);
    let setting = "ALTER DATABASE tooljet_db SET app.settings.jwt_secret = 'of-postgrest'; ALTER ROLE tooljet IN DATABASE tooljet_db SET pgrst.jwt_secret = 'of-postgrest'";
    instance.postgres.sql("postgres", setting);
    let mark = instance.sandbox.path("dumping");
    let waits = format!(
        "[ -e '{0}.seen' ] || {{ touch '{0}' '{0}.seen'; while [ -e '{0}' ]; do :; done; }}; exec $REAL \"$@\"",
        mark.display()
    );
    instance.with_pg_dump(&waits);
    let running = instance.sandbox.start(&["backup", "tj", "--json"]);
    let secrets = ["fixture-pg-pw", "0101010101010101", "0202020202020202", "of-postgrest"];
    let shows = |text: &str| secrets.iter().any(|secret| text.contains(secret));
    let look_at_state = || {
        for entry in walk(&instance.sandbox.state()) {
            let bytes = fs::read(&entry).unwrap();
            assert!(!shows(&String::from_utf8_lossy(&bytes)), "{}", entry.display());
        }
    };
    wait_until("the dump to begin", || mark.exists());
    assert!(look_at_processes(shows) > 0, "no psql was running");
    fs::remove_file(&mark).unwrap();
    let run = running.wait().ok();
    assert!(!shows(&run.stderr()) && !shows(&run.stdout()));
    let id = run.json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let manifest = instance.sandbox.belay(&["show", &id, "--json"]).ok().stdout();
    assert!(manifest.contains("app.settings.jwt_secret") && !shows(&manifest), "{manifest}");

    // A restore, which waits where the new databases are made and the present state is saved.
    fs::remove_file(instance.sandbox.path("dumping.seen")).unwrap();
    let settings = || {
        instance.postgres.sql("tooljet_db", "SELECT setrole = 0, unnest(setconfig) FROM pg_db_role_setting WHERE setconfig::text ~ 'jwt' ORDER BY 1")
    };
    let before = settings();
    instance.postgres.sql("postgres", "ALTER DATABASE tooljet_db RESET ALL");
    let arguments = ["restore", &id, "--into", "tj", "--yes", "--json"];
    let mut running = instance.sandbox.start(&arguments);
    let mut seen = 0;
    while !running.has_ended() {
        seen += look_at_processes(shows);
        if mark.exists() {
            let journal = instance.sandbox.state().join("database-restores/tj.json");
            assert!(fs::read_to_string(journal).unwrap().contains("app.settings.jwt_secret"));
            look_at_state();
            fs::remove_file(&mark).unwrap();
        }
    }
    assert!(seen > 0, "no psql was running");
    let run = running.wait().code_in(&[0, 3]);
    assert!(!shows(&run.stderr()) && !shows(&run.stdout()));
    assert_eq!((settings(), before.contains("of-postgrest")), (before.clone(), true));

    instance.with_pg_dump("echo \"$PGPASSWORD\" >&2; exit 1");
    let run = instance.backup().code(1);
    assert!(!shows(&run.stderr()) && !shows(&run.stdout()), "{}", run.stderr());
    look_at_state();
}

/// Everything that a restore has to bring back, as PostgreSQL's own programs tell it.
fn picture(postgres: &Postgres) -> String {
    let mut all = postgres.run("pg_dumpall", &["--globals-only"]);
    for database in ["tooljet_production", "tooljet_db"] {
        all.push_str(&postgres.run("pg_dump", &[database]));
        all.push_str(&postgres.sql(
            database,
            "SELECT d.datname, r.rolname, s.setconfig FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2",
        ));
        all.push_str(&postgres.sql(
            "postgres",
            &format!("SELECT datname, pg_get_userbyid(datdba), datcollate, datctype, (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(coalesce(datacl, acldefault('d', datdba))) a), datallowconn, datconnlimit FROM pg_database WHERE datname = '{database}'"),
        ));
    }
    // Newer programs write a different word into each dump.
    all.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The workspaces' roles with the passwords that ToolJet has for them: in the fixture they begin with their id.
fn workspaces(postgres: &Postgres) -> Vec<(String, String)> {
    let ids = postgres.sql("tooljet_production", "SELECT id FROM organizations ORDER BY 1");
    ids.lines().map(|id| (format!("user_{id}"), format!("pw-{}", &id[..8]))).collect()
}

/// Each workspace's role logs in and reads a table of its own, by a name without a schema.
fn assert_workspaces_work(postgres: &Postgres, scale: usize) {
    let workspaces = workspaces(postgres);
    assert_eq!(workspaces.len(), 2);
    for (role, password) in workspaces {
        let organization = role.strip_prefix("user_").unwrap();
        let table = postgres.sql(
            "tooljet_production",
            &format!(
                "SELECT id FROM internal_tables WHERE organization_id = '{organization}' LIMIT 1"
            ),
        );
        let count = format!("SELECT count(*) FROM \"{}\"", table.trim());
        let read = postgres.sql_as(&role, &password, "tooljet_db", &count).ok();
        assert_eq!(read.stdout().trim(), (100 * scale).to_string());
    }
}

const DROP: &str = "SELECT format('DROP DATABASE %I WITH (FORCE)', datname) FROM pg_database WHERE datname LIKE 'tooljet%' \\gexec
SELECT format('DROP ROLE %I', rolname) FROM pg_roles WHERE rolname LIKE 'user\\_%' \\gexec
";

/// Drop both databases and the workspaces' roles.
fn destroy(instance: &Instance) {
    let script = instance.sandbox.path("drop.sql");
    fs::write(&script, DROP).unwrap();
    instance.postgres.script(&script);
}

#[test]
fn what_was_dropped_comes_back_and_works() {
    let instance = Instance::new(20);
    let before = picture(&instance.postgres);
    instance.backup().ok();
    destroy(&instance);
    let environment = fs::read_to_string(instance.environment_path()).unwrap();
    // The target has another place and other keys: those come back, and the place stays.
    let other = environment
        .replace("=01010101", "=0a0a0a0a")
        .replace("TOOLJET_HOST=http://localhost:8082", "TOOLJET_HOST=http://other:1");
    fs::write(instance.environment_path(), &other).unwrap();
    let planned =
        instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]).ok();
    assert!(
        planned.stdout().contains("database tooljet_production")
            && planned.stdout().contains("LOCKBOX_MASTER_KEY"),
        "{}",
        planned.stdout()
    );
    assert_eq!(
        instance
            .postgres
            .sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'tooljet%'")
            .trim(),
        "0"
    );
    // By way of a file, which another host would take as well.
    let file = instance.sandbox.path("tj.tar.zst");
    let file = text(&file);
    instance.sandbox.belay(&["export", "latest:tj", file]).ok();
    let imported =
        instance.sandbox.belay(&["import", file, "--instance", "tj", "--json"]).ok().json();
    assert_eq!(imported["key_fit"], "fit");
    let id = imported["id"].as_str().unwrap();
    instance.sandbox.belay(&["restore", id, "--into", "tj", "--yes"]).ok();
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_workspaces_work(&instance.postgres, 20);
    let restored = fs::read_to_string(instance.environment_path()).unwrap();
    assert_eq!(restored, other.replace("=0a0a0a0a", "=01010101"));
    instance.backup().ok();
}

#[test]
fn a_restore_over_a_running_instance_saves_it_first_and_keeps_what_was_written_meanwhile() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let good = picture(&instance.postgres);
    instance.postgres.sql("tooljet_production", "DELETE FROM app_versions; INSERT INTO metadata VALUES (gen_random_uuid(), '{\"new\": true}')");
    let (role, _) = workspaces(&instance.postgres).remove(0);
    instance
        .postgres
        .sql("postgres", &format!("ALTER ROLE \"{role}\" PASSWORD 'another' CONNECTION LIMIT 3"));
    let changed = picture(&instance.postgres);
    // Somebody is connected.
    let mut holder = instance.postgres.program("psql");
    holder.args(["-d", "tooljet_production", "-c", "SELECT pg_sleep(100000)"]);
    let holder = support::Running::start(holder);
    wait_until("somebody to be connected", || {
        instance
            .postgres
            .sql(
                "postgres",
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(1%'",
            )
            .trim()
            == "1"
    });
    let first = instance.sandbox.list().pop().unwrap().id;
    let run = instance
        .sandbox
        .belay(&["restore", &first, "--into", "tj", "--yes", "--json"])
        .code_in(&[0, 3]);
    holder.wait();
    support::assert_same_text(&good, &picture(&instance.postgres));
    assert_workspaces_work(&instance.postgres, 1);
    let saved = run.json()["before"].as_str().unwrap().to_owned();
    assert_eq!(run.json()["aside"].as_array().unwrap().len(), 0, "nobody wrote meanwhile");
    let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'belay%'";
    assert_eq!(instance.postgres.sql("postgres", left).trim(), "0");
    // And back again.
    instance.sandbox.belay(&["restore", &saved, "--into", "tj", "--yes"]).ok();
    support::assert_same_text(&changed, &picture(&instance.postgres));
}

#[test]
fn the_old_databases_are_kept_where_somebody_wrote_while_they_were_saved() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let first = instance.sandbox.list().pop().unwrap().id;
    let good = picture(&instance.postgres);
    let aside = |statements: &str| {
        let psql = format!(
            "PGPASSWORD='{}' PGUSER=postgres psql -X -q -d tooljet_db -c",
            support::servers::POSTGRES_PASSWORD
        );
        instance.with_pg_dump(&format!(
            "[ \"$PGDATABASE\" = tooljet_db ] && {psql} '{statements}' >&2; exec $REAL \"$@\""
        ));
        let run = instance
            .sandbox
            .belay(&["restore", &first, "--into", "tj", "--yes", "--json"])
            .code_in(&[0, 3]);
        let aside = run.json()["aside"].as_array().unwrap().clone();
        assert_eq!(run.exit_code() == Some(3), !aside.is_empty(), "{run}");
        aside.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // The server does that by itself.
    assert_eq!(aside("ANALYZE"), [""; 0]);
    support::assert_same_text(&good, &picture(&instance.postgres));
    let kept = aside("CREATE TABLE meanwhile (a int)");
    assert_eq!(kept.len(), 2);
    let database = &kept[1];
    instance.postgres.sql("postgres", &format!("ALTER DATABASE {database} ALLOW_CONNECTIONS true"));
    assert_eq!(instance.postgres.sql(database, "SELECT count(*) FROM meanwhile").trim(), "0");
}

#[test]
fn a_restore_that_cannot_be_done_leaves_the_old_state_serving() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let before = picture(&instance.postgres);
    let restore = || instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--yes"]);
    // The programs for reading fail, and the one for writing.
    instance.with_pg_dump("exec $REAL \"$@\"");
    let pg_restore = instance.sandbox.path("tools/pg_restore");
    fs::remove_file(&pg_restore).unwrap();
    for script in [
        "#!/bin/sh\nexit 1\n",
        "#!/bin/sh\nhead -c 10000 >/dev/null; kill -9 $$\n",
        "#!/bin/sh\ncat >/dev/null; exit 0\n",
    ] {
        fs::write(&pg_restore, script).unwrap();
        fs::set_permissions(&pg_restore, fs::Permissions::from_mode(0o755)).unwrap();
        restore().code(1);
        support::assert_same_text(&before, &picture(&instance.postgres));
        let left = "SELECT count(*) FROM pg_database WHERE datname LIKE 'belay%'";
        assert_eq!(instance.postgres.sql("postgres", left).trim(), "0", "{script}");
    }
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        if entry.path().is_dir() {
            files.extend(walk(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files
}
