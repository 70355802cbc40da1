//! How a server is read: which locks its other clients see, what becomes of a line that is cut, which keys cannot be tried,
//! and what `doctor` says beforehand.

use super::{Instance, environment};
use crate::support::servers::free_port;
use crate::support::{Running, text, wait_until};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const DATABASE: &str = "tooljet_production";

/// What the connections of an application hold, of every kind and mode.
fn locks(instance: &Instance, application: &str) -> BTreeSet<String> {
    let held = instance.postgres.sql(
        "postgres",
        &format!(
            "SELECT DISTINCT l.locktype || ' ' || l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE a.application_name LIKE '{application}'"
        ),
    );
    held.lines().map(ToOwned::to_owned).collect()
}

/// Tables whose rows such a connection has locked against a change of their shape.
fn tables_locked(instance: &Instance, application: &str) -> BTreeSet<String> {
    let held = instance.postgres.sql(
        DATABASE,
        &format!(
            "SELECT DISTINCT l.relation::regclass::text FROM pg_locks l JOIN pg_stat_activity a USING (pid) JOIN pg_class c ON c.oid = l.relation
            WHERE a.application_name LIKE '{application}' AND c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
        ),
    );
    held.lines().map(ToOwned::to_owned).collect()
}

#[test]
fn other_clients_see_the_locks_of_a_plain_dump_and_no_others() {
    let instance = Instance::new(20);
    // A plain dump whose output nobody takes stops in the middle; all that it locks it has locked before the first row.
    let mut plain = instance.postgres.program("pg_dump");
    plain.args(["-Fc", "-Z0", "-d", DATABASE]).env("PGAPPNAME", "plain").stdout(Stdio::piped());
    let mut plain = plain.spawn().unwrap();
    let copies = |application: &str| {
        let copying = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '{application}' AND query LIKE 'COPY %'"
        );
        instance.postgres.sql("postgres", &copying).trim() == "1"
    };
    wait_until("the plain dump to be held up", || copies("plain"));
    let expected = (locks(&instance, "plain"), tables_locked(&instance, "plain"));
    plain.kill().unwrap();
    plain.wait().unwrap();
    assert!(expected.0.contains("relation AccessShareLock"), "{expected:?}");
    assert_eq!(expected.1.len(), 16, "{expected:?}");

    let mark = instance.sandbox.path("held");
    instance.with_pg_dump(&format!(
        "[ -e '{0}.seen' ] && exec $REAL \"$@\"; touch '{0}' '{0}.seen'; $REAL \"$@\" | {{ while [ -e '{0}' ]; do :; done; cat; }}",
        mark.display()
    ));
    let running = instance.sandbox.start(&["backup", "tj", "--json"]);
    wait_until("Belay's dump to be held up", || mark.exists() && copies("belay %"));
    let connections = instance.postgres.sql(
        "postgres",
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'belay %'",
    );
    let found = (locks(&instance, "belay %"), tables_locked(&instance, "belay %"));
    fs::remove_file(&mark).unwrap();
    running.wait().ok();
    assert_eq!(connections.trim(), "3", "a session for each database, and pg_dump");
    assert_eq!(found, expected);
}

/// Hands bytes on between clients and a server, until it has handed on so many of the server's: then every line is cut.
fn proxy(listener: &TcpListener, server: u16, most: usize, stop: &AtomicBool) {
    let handed_on = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            let client = client.unwrap();
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let server = TcpStream::connect(("127.0.0.1", server)).unwrap();
            let (mut from_client, mut to_server) =
                (client.try_clone().unwrap(), server.try_clone().unwrap());
            scope.spawn(move || {
                let _ = std::io::copy(&mut from_client, &mut to_server);
                let _ = to_server.shutdown(Shutdown::Both);
            });
            let (mut server, mut client, handed_on) = (server, client, &handed_on);
            scope.spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    if handed_on.fetch_add(count, Ordering::SeqCst) > most
                        || client.write_all(&buffer[..count]).is_err()
                    {
                        break;
                    }
                }
                let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
            });
        }
    });
}

#[test]
fn a_line_that_is_cut_fails_the_run() {
    let instance = Instance::new(20);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stop = AtomicBool::new(false);
    let through = environment(&instance.postgres)
        .replace(&instance.postgres.port.to_string(), &port.to_string());
    instance.set_environment(&through);
    std::thread::scope(|scope| {
        scope.spawn(|| proxy(&listener, instance.postgres.port, 300_000, &stop));
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            instance.fails(&["database tooljet_production", "server closed the connection"]);
        }));
        stop.store(true, Ordering::SeqCst);
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        run.unwrap();
    });
    instance.set_environment(&environment(&instance.postgres));
    instance.backup().ok();
}

#[test]
fn keys_that_cannot_be_tried_are_told_at_the_backup_and_by_doctor() {
    let instance = Instance::new(1);
    let doctor = || instance.sandbox.belay(&["doctor", "tj"]);
    let unproven = |words: &[&str]| {
        let run = instance.backup().code(3).says(&["whether"]).says(words);
        assert_eq!(run.json()["snapshots"][0]["key_fit"], "unproven");
    };
    // The database with the ciphertext is left out.
    instance.configure("component.postgres.databases = [\"tooljet_db\"]");
    unproven(&["tooljet_production (pg_db)", "only tooljet_db was read"]);
    let told = doctor().code(3).stdout();
    assert!(told.contains("tooljet_production (PG_DB), which backups leave out"), "{told}");
    assert!(told.contains("component.postgres = { databases"), "{told}");
    // Nobody says which it is.
    instance.configure("component.postgres.databases = [\"tooljet_production\", \"tooljet_db\"]");
    instance.set_environment(
        &environment(&instance.postgres).replace("PG_DB=tooljet_production\n", ""),
    );
    unproven(&["pg_db, which names the database with what is encrypted, is not set"]);
    let told = doctor().code(3).stdout();
    assert!(told.contains("PG_DB, which names the database"), "{told}");
    // It is another database.
    instance.configure("");
    instance.set_environment(
        &environment(&instance.postgres).replace("PG_DB=tooljet_production", "PG_DB=postgres"),
    );
    unproven(&["the database postgres has no credentials, "]);
    let told = doctor().code(3).stdout();
    assert!(told.contains("postgres (PG_DB) has none of the tables"), "{told}");
    // A column that this version does not know by this name.
    instance.set_environment(&environment(&instance.postgres));
    instance.postgres.sql(DATABASE, "ALTER TABLE credentials RENAME value_ciphertext TO sealed");
    let run = instance.backup().code(3).says(&["has no credentials.value_ciphertext"]);
    assert_eq!(run.json()["snapshots"][0]["key_fit"], "fit", "the other fields were tried");
}

#[test]
fn doctor_tells_of_reach_tools_permissions_keys_room_clock_and_the_repositorys_disk() {
    let instance = Instance::new(1);
    let doctor = |code| instance.sandbox.belay(&["doctor", "tj"]).code(code).stdout();
    let directory = text(instance.postgres.directory()).to_owned();
    let told = doctor(3);
    for words in [
        "ok    instance tj: can be reached via local",
        "read by pg_dump ",
        "LOCKBOX_MASTER_KEY is a key",
        "its databases take ",
        "the server's clock agrees",
    ] {
        assert!(told.contains(words), "'{words}' was expected: {told}");
    }
    // Both are temporary directories of one file system here.
    assert!(told.contains(&format!("on the same file system as {directory}/data")), "{told}");
    assert!(!told.contains("no superuser") && !told.contains("not proved"), "{told}");

    // A user who may less, to whom the server does not even say where it lies.
    instance.postgres.sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'readers-own'");
    let environment = environment(&instance.postgres);
    instance.set_environment(
        &environment
            .replace("PG_USER=tooljet", "PG_USER=reader")
            .replace("PG_PASS=fixture-pg-pw", "PG_PASS=readers-own"),
    );
    let told = doctor(3);
    for words in [
        "warn  instance tj: reader is no superuser",
        "may not read the passwords",
        "how much is free there cannot be seen from local",
        "see to it that the server has ",
    ] {
        assert!(told.contains(words), "'{words}' was expected: {told}");
    }
    // Nobody answers there.
    let port = free_port().to_string();
    instance.set_environment(&environment.replace(&instance.postgres.port.to_string(), &port));
    let told = doctor(1);
    assert!(
        told.contains("FAIL  instance tj: ") && told.contains("does the server run there"),
        "{told}"
    );
    // A key that is none.
    instance
        .set_environment(&environment.replace("LOCKBOX_MASTER_KEY=01", "LOCKBOX_MASTER_KEY=zz"));
    assert!(doctor(1).contains("FAIL  instance tj: "), "{told}");
}

#[test]
fn doctor_warns_where_a_restore_would_have_no_room() {
    let instance = Instance::new(1);
    // What `df` says stands in for a disk that is nearly full.
    let tools = instance.sandbox.fresh_directory();
    let df = tools.path().join("df");
    fs::write(&df, "#!/bin/sh\necho head\necho '/dev/none 100 90 10 90% /'\n").unwrap();
    fs::set_permissions(&df, fs::Permissions::from_mode(0o755)).unwrap();
    let mut doctor = instance.sandbox.belay_command(&["doctor", "tj"]);
    doctor.env("PATH", format!("{}:{}", tools.path().display(), std::env::var("PATH").unwrap()));
    let told = Running::start(doctor).wait().code(3).stdout();
    assert!(told.contains("has 10.0 KiB free"), "{told}");
    assert!(told.contains("make room there: a restore makes the databases anew"), "{told}");
}

#[test]
fn connection_urls_are_read_and_stay_at_a_restore() {
    let instance = Instance::new(1);
    let port = instance.postgres.port;
    let parts = ["PG_", "TOOLJET_DB"];
    let parts: String = environment(&instance.postgres)
        .lines()
        .filter(|line| !parts.iter().any(|part| line.starts_with(part)))
        .fold(String::new(), |all, line| all + line + "\n");
    let url = |database: &str| {
        format!("postgres://tool%6Aet:fixture%2Dpg-pw@127.0.0.1:{port}/{database}?sslmode=disable")
    };
    let urls = |first: &str, second: &str| {
        format!("{parts}DATABASE_URL={first}\nTOOLJET_DB_URL={second}\n")
    };
    instance.set_environment(&urls(&url(DATABASE), &url("tooljet_db")));
    let run = instance.backup().ok();
    assert_eq!(run.json()["snapshots"][0]["key_fit"], "fit");
    assert_eq!(run.json()["snapshots"][0]["counts"]["databases"], 2);

    // The target's own URL stays, and the keys come back.
    let other = urls(&url(DATABASE).replace("?sslmode=disable", ""), &url("tooljet_db"));
    instance.set_environment(&other.replace("=01010101", "=0a0a0a0a"));
    instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--yes"]).code_in(&[0, 3]);
    assert_eq!(fs::read_to_string(instance.environment_path()).unwrap(), other);

    // A server that encrypts nothing is asked to; a wrong password; no URL at all.
    instance
        .set_environment(&urls(&url(DATABASE).replace("disable", "require"), &url("tooljet_db")));
    instance.fails(&["server does not support SSL"]);
    instance.set_environment(&urls(&url(DATABASE).replace("fixture", "wrong"), &url("tooljet_db")));
    instance.fails(&["password authentication failed"]);
    instance.set_environment(&urls("mysql://u:secret-of-url@h/d", &url("tooljet_db")));
    let run =
        instance.backup().code(1).says(&["DATABASE_URL", "does not begin with", "write it as"]);
    assert!(!run.stderr().contains("secret-of-url"), "{run}");
}

#[test]
fn databases_on_two_servers_are_two_instances() {
    let instance = Instance::new(1);
    let port = instance.postgres.port;
    let elsewhere = environment(&instance.postgres)
        .replace("TOOLJET_DB_HOST=127.0.0.1", "TOOLJET_DB_HOST=::1")
        .replace(&format!("TOOLJET_DB_PORT={port}"), "TOOLJET_DB_PORT=1");
    instance.set_environment(&elsewhere);
    instance.backup().code(2).says(&[
        "pg_host (database_url) and tooljet_db_host (tooljet_db_url) differ",
        "component.postgres = { databases = [\"tooljet_production\"] }",
        "platform = \"postgres\" for tooljet_db",
    ]);
    // As it says.
    instance.configure("component.postgres.databases = [\"tooljet_production\"]");
    let run = instance.backup().ok();
    assert_eq!(run.json()["snapshots"][0]["key_fit"], "fit");
}
