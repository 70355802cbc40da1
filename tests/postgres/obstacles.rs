//! What is in the way of a restore is told before anything is done; and what somebody who is no superuser may do.

use crate::support::{PostgresServer, wait_until};
use crate::taken::{MAINTENANCE, Taken, assert_same_picture, picture};
use crate::{TOOLJET, databases, end, hold, tooljet};
use belay::access::Access;
use belay::component::postgres::Connection;
use belay::component::postgres::restore::{Restore, RestorePlan, look};
use belay::model::event::Cancel;
use belay::model::via::Via;
use zeroize::Zeroizing;

fn in_the_way(plan: &RestorePlan) -> String {
    let told = plan.obstacles.iter().map(|known| format!("{} | {}", known.what, known.hint));
    told.collect::<Vec<_>>().join("\n")
}

#[test]
fn all_that_is_in_the_way_is_told_together_and_nothing_is_done() {
    let server = tooljet();
    let mut taken = Taken::from(&server, &TOOLJET);
    let prepared =
        hold(&server, "tooljet_db", "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'gid-1';");
    let before = picture(&server, &TOOLJET);
    taken.databases[0].roles.push("nobody-made".into());
    taken.databases[0].collate = "xx_XX.utf8".into();
    taken.databases[1].size_bytes = u64::MAX / 2;
    taken.archives[0].extensions.insert("no_such_extension".into());
    taken.archives[1].archive_version = (1, 16);
    taken.archives[1].server_version = "17.2 (Debian)".into();
    let connection = server.connect("obstacles");
    let (plan, _) = taken.plan(&connection);
    let told = in_the_way(&plan);
    for part in [
        "refer to the role nobody-made",
        "has prepared transactions: 'gid-1' | end each in that database: COMMIT PREPARED 'gid-1'",
        "does not have the extension no_such_extension",
        "does not have the locale of the database tooljet_production",
        "the server is the older 15.",
        "install postgresql-client-17",
        "MiB left | make room",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert_eq!(plan.obstacles.len(), 7, "{told}");
    let refused = Restore::new(&connection, MAINTENANCE, &plan).err().unwrap();
    assert!(refused.to_string().starts_with("7 things are in the way"), "{refused}");
    assert_same_picture(&before, &picture(&server, &TOOLJET));
    assert_eq!(databases(&server), "postgres tooljet_db tooljet_production");
    end(prepared);

    let (plan, _) = look(&connection, "tooljet_db", &taken.wanted(), "job").unwrap();
    assert!(in_the_way(&plan).contains("is the one that the restore connects to"));
}

#[test]
fn one_who_is_no_superuser_restores_what_it_may_and_is_told_the_rest() {
    let server = PostgresServer::start();
    server.run("postgres", "CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'of-manager'; CREATE ROLE app LOGIN PASSWORD 'of-app'; CREATE ROLE sees");
    server.run("postgres", "CREATE DATABASE d OWNER app");
    server.run_as("app", "of-app", "d", "CREATE SCHEMA s; CREATE TABLE s.t (a int); INSERT INTO s.t SELECT generate_series(1, 9); GRANT USAGE ON SCHEMA s TO sees; GRANT CREATE ON SCHEMA public TO sees");
    let mut taken = Taken::from(&server, &["d"]);
    taken.passwords = vec![("app".into(), Zeroizing::new("of-app".into()))];
    let before = picture(&server, &["d"]);
    let connect = |role: &str, password: &str| {
        let mut target = server.target();
        target.host = Some("127.0.0.1".into());
        target.user = Some(role.into());
        target.password = Some(Zeroizing::new(password.into()));
        let access = Access::new(Via::local(), None, &Cancel::new());
        Connection::open(access, target, MAINTENANCE, "manager").unwrap()
    };

    let (plan, _) = taken.plan(&connect("app", "of-app"));
    let told = in_the_way(&plan);
    assert!(told.contains("may not create databases | "), "{told}");
    let (plan, _) = taken.plan(&connect("manager", "of-manager"));
    let told = in_the_way(&plan);
    assert!(
        told.contains("the database d belongs to app, and the user that connects is not a member"),
        "{told}"
    );

    server.run("postgres", "DROP DATABASE d");
    server.run("postgres", "DROP ROLE app; DROP ROLE sees; ALTER ROLE manager CONNECTION LIMIT 1");
    let connection = connect("manager", "of-manager");
    let error = look(&connection, MAINTENANCE, &taken.wanted(), "job").err().unwrap();
    assert!(error.to_string().contains("the role manager may have 1 connections"), "{error}");
    server.run("postgres", "ALTER ROLE manager CONNECTION LIMIT -1 NOCREATEROLE");
    let (plan, _) = taken.plan(&connection);
    assert!(in_the_way(&plan).contains("may not create or change roles | "), "{plan:?}");
    server.run("postgres", "ALTER ROLE manager CREATEROLE");
    let plan = taken.put_back(&connection);
    assert_eq!(plan.creates_roles, ["app", "sees"]);
    assert!(
        plan.notes.iter().any(|note| note.contains("manager becomes a member of app")),
        "{plan:?}"
    );
    assert_eq!(server.run_as("app", "of-app", "d", "SELECT count(*) FROM s.t"), "9");

    // Over what is there, with another password and another place in the groups.
    server.run_as("app", "of-app", "d", "DROP TABLE s.t");
    server.run("postgres", "ALTER ROLE app PASSWORD 'changed'");
    let (plan, work) = taken.plan(&connection);
    assert_eq!(plan.changes_roles.len(), 1, "{plan:?}");
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    taken.prepare(&restore, &plan, &work).unwrap();
    restore.swap(&work).unwrap();
    restore.clear_old().unwrap();
    assert_eq!(server.run_as("app", "of-app", "d", "SELECT count(*) FROM s.t"), "9");
    server.run("postgres", "REVOKE app FROM manager");
    let is_of_password = |line: &&str| !line.contains("SCRAM");
    let left: Vec<&str> = before.lines().filter(is_of_password).collect();
    let after = picture(&server, &["d"]);
    let right: Vec<&str> = after.lines().filter(is_of_password).collect();
    assert_same_picture(&left.join("\n"), &right.join("\n"));
}

#[test]
fn followers_and_members_of_other_groups_are_seen() {
    let server = PostgresServer::start();
    server.run("postgres", "CREATE DATABASE d");
    server.run("postgres", "CREATE ROLE team; CREATE ROLE boss SUPERUSER; CREATE ROLE one IN ROLE team, boss; COMMENT ON ROLE one IS 'first'");
    server.run("postgres", "CREATE ROLE \"two 2\" ROLE one CREATEDB VALID UNTIL '2031-02-03' CONNECTION LIMIT 5; ALTER ROLE \"two 2\" SET search_path TO 'a b', c; ALTER ROLE \"two 2\" SET my.x TO 'it''s \\ x'");
    server.run(
        "d",
        "GRANT CREATE ON SCHEMA public TO one; CREATE PUBLICATION all_of_it FOR ALL TABLES",
    );
    let taken = Taken::from(&server, &["d"]);
    let before = picture(&server, &["d"]);
    let connection = server.connect("groups");

    server.run("d", "SELECT pg_create_logical_replication_slot('idle_one', 'pgoutput')");
    let (plan, _) = taken.plan(&connection);
    assert!(
        plan.obstacles.is_empty() && plan.notes.iter().any(|note| note.contains("'idle_one'")),
        "{plan:?}"
    );
    let mut reader = server.program("pg_recvlogical");
    reader.env("PGDATABASE", "d").args([
        "-d",
        "d",
        "--slot=idle_one",
        "--start",
        "-f",
        "/dev/null",
        "-o",
        "proto_version=1",
        "-o",
        "publication_names=all_of_it",
    ]);
    let mut reader = reader.spawn().unwrap();
    wait_until("the slot is read", || {
        server.run("d", "SELECT active FROM pg_replication_slots") == "t"
    });
    server.run(
        "d",
        "CREATE SUBSCRIPTION sub CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)",
    );
    let (plan, _) = taken.plan(&connection);
    let told = in_the_way(&plan);
    assert!(told.contains("through the replication slots 'idle_one'"), "{told}");
    assert!(told.contains("subscribes to others: 'sub'"), "{told}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    wait_until("the slot is free", || {
        server.run("d", "SELECT active FROM pg_replication_slots") == "f"
    });
    server.run("d", "ALTER SUBSCRIPTION sub SET (slot_name = NONE)");
    server.run("d", "DROP SUBSCRIPTION sub");

    // Changed in their groups: what comes back is what was, but for the membership that would make a superuser.
    server.run("postgres", "REVOKE team FROM one; REVOKE \"two 2\" FROM one; GRANT \"two 2\" TO one WITH ADMIN OPTION; ALTER ROLE \"two 2\" RESET ALL");
    server.run("postgres", "COMMENT ON ROLE one IS NULL; ALTER ROLE \"two 2\" NOCREATEDB VALID UNTIL 'infinity' CONNECTION LIMIT -1");
    let changed = picture(&server, &["d"]);
    let (plan, work) = taken.plan(&connection);
    assert!(
        plan.notes
            .iter()
            .any(|note| note == "the role one is not put into boss, which is a superuser here"),
        "{plan:?}"
    );
    assert_eq!(
        plan.changes_roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(),
        ["one", "two 2"]
    );
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    taken.prepare(&restore, &plan, &work).unwrap();
    restore.swap(&work).unwrap();
    let after = picture(&server, &["d"])
        .replace("GRANT \"two 2\" TO one WITH ADMIN OPTION", "GRANT \"two 2\" TO one");
    assert_same_picture(&before, &after);
    restore.swap_back(&work.before).unwrap();
    assert_same_picture(&changed, &picture(&server, &["d"]));

    // Made anew, with its groups.
    restore.clear_new().unwrap();
    server.run("postgres", "DROP DATABASE d");
    server.run("postgres", "DROP ROLE one; DROP ROLE \"two 2\"; DROP ROLE team");
    let plan = taken.put_back(&connection);
    assert_eq!(plan.creates_roles, ["one", "team", "two 2"]);
    assert_same_picture(
        &before.replace("GRANT boss TO one GRANTED BY postgres;\n", ""),
        &picture(&server, &["d"]),
    );
}
