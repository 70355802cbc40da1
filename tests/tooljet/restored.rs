//! `belay restore --into` where the server is another one, or is not as it was: roles without passwords or with others, clients
//! that come back, and what is in the way.

use crate::support::{
    self, servers::POSTGRES_PASSWORD, servers::Postgres, text, wait_until, write_secret,
};
use crate::{Instance, assert_workspaces_work, destroy, environment, picture, walk, workspaces};
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const RESTORE: [&str; 5] = ["restore", "latest:tj", "--into", "tj", "--yes"];

/// Connect as somebody else than the environment file says.
fn connect_as(instance: &Instance, user: &str, password: &str) {
    let path = instance.sandbox.path(&format!("password-of-{user}"));
    write_secret(&path, password);
    instance.configure(&format!(
        "component.postgres.user = \"{user}\"\ncomponent.postgres.password = \"file:{}\"",
        text(&path)
    ));
}

/// Connect as a role that may read all but passwords, as on a managed server.
fn connect_as_reader(instance: &Instance) {
    let roles: Vec<String> =
        workspaces(&instance.postgres).iter().map(|(role, _)| format!("\"{role}\"")).collect();
    let grant = format!("GRANT tooljet, {} TO reader", roles.join(", "));
    instance.postgres.sql("postgres", &grant);
    connect_as(instance, "reader", "of-reader");
}

const MAKE_READER: &str = "CREATE ROLE reader LOGIN PASSWORD 'of-reader'";

/// The picture of a server but for its first superuser, who has a password of its own on each.
fn common(picture: &str) -> String {
    let is_common = |line: &&str| !line.starts_with("ALTER ROLE postgres ");
    picture.lines().filter(is_common).collect::<Vec<_>>().join("\n")
}

fn made(postgres: &Postgres) -> String {
    postgres.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'belay%'")
}

#[test]
fn passwords_that_could_not_be_read_come_from_what_tooljet_keeps() {
    let instance = Instance::new(1);
    instance.postgres.sql("postgres", MAKE_READER);
    connect_as_reader(&instance);
    let id = instance.backup().ok().json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let globals = instance.sandbox.restic(&["dump", &id, "/postgres/globals.sql"]).ok().stdout();
    assert!(globals.contains("CREATE ROLE \"user_") && !globals.contains("PASSWORD"), "{globals}");
    let workspaces = workspaces(&instance.postgres);

    // Roles that are gone, and one that has another password.
    instance.configure("");
    destroy(&instance);
    let (role, _) = &workspaces[0];
    instance.postgres.sql("postgres", &format!("CREATE ROLE \"{role}\" LOGIN PASSWORD 'another'"));
    instance.postgres.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    instance.postgres.sql("postgres", "SELECT pg_reload_conf()");
    let planned = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]);
    let planned = planned.ok();
    assert!(!planned.stdout().contains("without a password"), "{planned}");
    let run = instance.sandbox.belay(&RESTORE).ok();
    assert_workspaces_work(&instance.postgres, 1);

    let log = fs::read(instance.postgres.directory().join("log")).unwrap();
    assert!(String::from_utf8_lossy(&log).contains("SCRAM-SHA-256"), "statements are logged");
    let mut seen = vec![log, run.to_string().into_bytes(), planned.to_string().into_bytes()];
    seen.extend(walk(&instance.sandbox.state()).iter().map(|path| fs::read(path).unwrap()));
    for (_, password) in &workspaces {
        for bytes in &seen {
            assert!(!String::from_utf8_lossy(bytes).contains(password), "{password} shows");
        }
    }

    // A key that does not fit brings none back, and that is told.
    connect_as_reader(&instance);
    let good = fs::read_to_string(instance.environment_path()).unwrap();
    instance.set_environment(&good.replace("KEY=0101", "KEY=0202"));
    let unfit = instance.backup().code(4).json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    instance.configure("");
    let planned = instance.sandbox.belay(&["restore", &unfit, "--into", "tj", "--dry-run"]);
    let planned = planned.ok().stdout();
    let note = format!("the password of the role {role} cannot be decrypted");
    assert!(planned.contains(&note), "{planned}");
}

#[test]
fn a_server_that_knows_none_of_the_roles_or_others_gets_them_as_they_were() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let before = common(&picture(&instance.postgres));
    let other = Postgres::start();
    instance.set_environment(&environment(&other));
    connect_as(&instance, "postgres", POSTGRES_PASSWORD);
    let run = instance.sandbox.belay(&RESTORE).ok();
    assert_workspaces_work(&other, 1);
    other.sql_as("tooljet", "fixture-pg-pw", "tooljet_production", "SELECT * FROM apps").ok();
    // Nobody becomes a superuser by a restore.
    let is_superuser = "ALTER ROLE tooljet WITH SUPERUSER";
    assert!(before.contains(is_superuser));
    let expected = before.replace(is_superuser, "ALTER ROLE tooljet WITH NOSUPERUSER");
    support::assert_same_text(&expected, &common(&picture(&other)));
    let planned = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]);
    assert!(planned.ok().stdout().contains("the role tooljet stays as it is"), "{run}");

    // The databases are gone, and the roles have other passwords.
    other.sql("postgres", "DROP DATABASE tooljet_db");
    other.sql("postgres", "DROP DATABASE tooljet_production");
    for (role, _) in workspaces(&instance.postgres) {
        other.sql("postgres", &format!("ALTER ROLE \"{role}\" PASSWORD 'another' NOLOGIN"));
    }
    instance.sandbox.belay(&RESTORE).ok();
    support::assert_same_text(&expected, &common(&picture(&other)));
    assert_workspaces_work(&other, 1);
}

#[test]
fn who_may_make_roles_and_is_no_superuser_is_told_what_he_cannot_put_back() {
    let instance = Instance::new(1);
    instance.postgres.sql("postgres", MAKE_READER);
    connect_as_reader(&instance);
    instance.backup().ok();
    let other = Postgres::start();
    other.sql("postgres", "CREATE ROLE admin LOGIN CREATEDB CREATEROLE PASSWORD 'of-admin'");
    let before = other.run("pg_dumpall", &["--globals-only", "--no-role-passwords"]);
    instance.set_environment(&environment(&other));
    connect_as(&instance, "admin", "of-admin");
    let planned = instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]);
    let planned = planned.ok().stdout();
    assert_eq!(planned.matches("without a password").count(), 1, "{planned}");
    for note in ["tooljet is made without a password", "can be put back by superusers only"] {
        assert!(planned.contains(note), "{planned}");
    }
    let run = instance.sandbox.belay(&RESTORE).code(1);
    run.says(&["permission denied for schema", "by superusers only: connect as one"]);
    assert_eq!(made(&other).trim(), "0");
    let after = other.run("pg_dumpall", &["--globals-only", "--no-role-passwords"]);
    let lines = |text: &str| {
        text.lines()
            .filter(|line| !line.contains("restrict"))
            .map(ToOwned::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(lines(&before), lines(&after), "no role is left");
}

#[test]
fn clients_that_come_back_again_and_again_do_not_stop_a_restore() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let before = picture(&instance.postgres);
    let workspaces = workspaces(&instance.postgres);
    let (ends, served) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for (role, password) in &workspaces {
            scope.spawn(|| {
                while !ends.load(Ordering::SeqCst) {
                    let wait = "SELECT pg_sleep(0.2)";
                    let run = instance.postgres.sql_as(role, password, "tooljet_db", wait);
                    served.fetch_add(u64::from(run.exit_code() == Some(0)), Ordering::SeqCst);
                }
            });
        }
        wait_until("clients to be served", || served.load(Ordering::SeqCst) > 1);
        let run = instance.sandbox.belay(&RESTORE);
        let until = served.load(Ordering::SeqCst);
        wait_until("clients to be served again", || served.load(Ordering::SeqCst) > until + 1);
        ends.store(true, Ordering::SeqCst);
        run.ok();
    });
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_eq!(made(&instance.postgres).trim(), "0");
}

#[test]
fn what_is_in_the_way_is_told_and_limits_of_connections_are_not() {
    let instance = Instance::on(Postgres::start_with(&["max_prepared_transactions=5"]), 1);
    let workspaces = workspaces(&instance.postgres);
    let (role, password) = &workspaces[0];
    let limits = format!(
        "ALTER ROLE \"{role}\" CONNECTION LIMIT 1; ALTER DATABASE tooljet_db CONNECTION LIMIT 1"
    );
    instance.postgres.sql("postgres", &limits);
    let mut holder = instance.postgres.program("psql");
    holder.env("PGUSER", role).env("PGPASSWORD", password);
    holder.args(["-d", "tooljet_db", "-c", "SELECT pg_sleep(100000)"]);
    let holder = support::Running::start(holder);
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'");
    let are = |count: &str| instance.postgres.sql("postgres", &sessions).trim() == count;
    wait_until("somebody to be connected", || are("1"));
    instance.backup().ok();
    let before = picture(&instance.postgres);

    instance.postgres.sql("tooljet_db", "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'gid-1'");
    let run = instance.sandbox.belay(&RESTORE).code(1);
    run.says(&["tooljet_db has prepared transactions: 'gid-1'", "ROLLBACK PREPARED 'gid-1'"]);
    assert!(are("1"), "nobody was sent away");
    assert_eq!(made(&instance.postgres).trim(), "0");
    instance.postgres.sql("tooljet_db", "ROLLBACK PREPARED 'gid-1'");
    support::assert_same_text(&before, &picture(&instance.postgres));

    instance.sandbox.belay(&RESTORE).ok();
    holder.wait();
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert!(before.contains("CONNECTION LIMIT 1") && before.contains("|t|1"));
    assert_workspaces_work(&instance.postgres, 1);

    // Who is no superuser is bound by them, and is told which limit it is.
    instance.postgres.sql("postgres", MAKE_READER);
    connect_as_reader(&instance);
    instance.backup().code(1).says(&["too many connections", "CONNECTION LIMIT"]);
}

#[test]
fn of_two_restores_one_says_who_is_at_work() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let before = picture(&instance.postgres);
    let mark = instance.sandbox.path("saving");
    instance.with_pg_dump(&format!(
        "touch '{0}'; while [ -e '{0}' ]; do :; done; exec $REAL \"$@\"",
        mark.display()
    ));
    let first = instance.sandbox.start(&RESTORE);
    wait_until("the first to save what is there", || mark.exists());
    let busy = format!("process {}", first.id());
    instance.sandbox.belay(&RESTORE).code(11).says(&[&busy, "belay status"]);
    instance.with_pg_dump("exec $REAL \"$@\"");
    fs::remove_file(&mark).unwrap();
    first.wait().ok();
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_eq!(made(&instance.postgres).trim(), "0");
}

#[test]
fn one_database_or_the_keys_come_back_alone() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let id = instance.sandbox.list().pop().unwrap().id;
    let file = fs::read_to_string(instance.environment_path()).unwrap();
    let other = file.replace("=02020202", "=0b0b0b0b");
    instance.set_environment(&other);
    let databases = ["tooljet_production", "tooljet_db"];
    for database in databases {
        instance.postgres.sql(database, "CREATE TABLE since_then (a int)");
    }
    let are_restored = || {
        databases.map(|database| {
            let gone = "SELECT to_regclass('since_then') IS NULL";
            instance.postgres.sql(database, gone).trim() == "t"
        })
    };
    let environment = || fs::read_to_string(instance.environment_path()).unwrap();
    let restore = |snapshot: &str, part: &[&str]| {
        let arguments = [&["restore", snapshot, "--into", "tj", "--json"], part].concat();
        instance.sandbox.belay(&arguments)
    };

    for part in [
        ["--component", "deployment", "--yes"],
        ["--path", "/postgres/globals.sql", "--yes"],
        ["--path", "/postgres/tooljet_db.dump/x", "--yes"],
    ] {
        restore(&id, &part).code(2);
    }
    let one = ["--path", "/postgres/tooljet_db.dump"];
    let plan = restore(&id, &[one[0], one[1], "--dry-run"]).ok().json()["plan"].to_string();
    assert!(plan.contains("tooljet_production stay as they are"), "{plan}");
    assert!(plan.contains("other values than the snapshot of SECRET_KEY_BASE"), "{plan}");
    let run = restore(&id, &[one[0], one[1], "--yes"]).ok();
    assert_eq!((are_restored(), environment()), ([false, true], other.clone()));
    // And back: what was saved has this one only.
    restore(run.json()["before"].as_str().unwrap(), &["--yes"]).ok();
    assert_eq!(are_restored(), [false, false]);
    let run = restore(&id, &["--component", "environment", "--yes"]).ok();
    assert_eq!((are_restored(), environment()), ([false, false], file.clone()));
    assert!(run.json()["before"].is_string(), "the file was saved first");
    restore(&id, &["--component", "environment", "--yes"]).code(1).says(&["nothing to be done"]);
    instance.set_environment(&other);
    restore(&id, &["--component", "postgres", "--yes"]).ok();
    assert_eq!((are_restored(), environment()), ([true, true], other));
    assert_eq!(made(&instance.postgres).trim(), "0");
}
