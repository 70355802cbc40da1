//! Restores into a real PostgreSQL server: all comes back, what is in the way is told before anything is done, and whatever
//! fails or is killed, the old databases or the restored ones serve.
#![allow(clippy::unwrap_used)]

#[path = "postgres/obstacles.rs"]
mod obstacles;
mod support;
#[path = "postgres/taken.rs"]
mod taken;

use belay::component::postgres::PostgresError;
use belay::component::postgres::restore::{Restore, RestorePlan, RolesBefore, State};
use std::fs;
use std::io::{self, BufRead as _, BufReader, Cursor, Read, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use support::{PostgresServer, wait_until};
use taken::{MAINTENANCE, Stored, Taken, assert_same_picture, picture};
use zeroize::Zeroizing;

const TOOLJET: [&str; 2] = ["tooljet_production", "tooljet_db"];
const WORKSPACES: [&str; 2] =
    ["47eaa099-2cb6-416d-86dc-283cf0480ff9", "1509bb0a-9bf1-4331-8a11-8783593942a4"];
const ODD: &str = "Odd \"name\" = 'x' \\ y;host=nowhere ☂";
/// Names that could be taken for connection strings.
const STRINGS: [&str; 3] =
    ["a=b", " host=nowhere.invalid port=1", "postgresql://nowhere.invalid/x"];

fn tooljet() -> PostgresServer {
    let server = PostgresServer::start();
    server
        .run_file(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tooljet/seed-1.sql"));
    server
}

fn role(workspace: &str) -> String {
    format!("user_{workspace}")
}

fn password(workspace: &str) -> String {
    format!("pw-{}", &workspace[..8])
}

/// Each workspace's role logs in and reads its own tables by their bare names.
fn assert_workspaces_work(server: &PostgresServer) {
    for workspace in WORKSPACES {
        let (role, password) = (role(workspace), password(workspace));
        let ask = |statements: &str| server.run_as(&role, &password, "tooljet_db", statements);
        let tables = ask(
            "SELECT relname FROM pg_class WHERE relkind = 'r' AND pg_table_is_visible(oid) AND relnamespace::regnamespace::text ~ 'workspace' ORDER BY 1",
        );
        assert_eq!(tables.lines().count(), 3, "{tables}");
        for table in tables.lines() {
            assert_eq!(ask(&format!("SELECT count(*) FROM \"{table}\"")), "100");
        }
    }
}

fn drop_workspaces(server: &PostgresServer) {
    for database in TOOLJET {
        server.run("postgres", &format!("DROP DATABASE {database}"));
    }
    for workspace in WORKSPACES {
        server.run("postgres", &format!("DROP ROLE \"{}\"", role(workspace)));
    }
}

fn databases(server: &PostgresServer) -> String {
    server.run("postgres", "SELECT string_agg(datname, ' ' ORDER BY datname COLLATE \"C\") FROM pg_database WHERE NOT datistemplate")
}

/// Pids of the client programs that a connection of this name started.
fn processes(application: &str, program: &str) -> Vec<i32> {
    let wanted = format!("PGAPPNAME={application}");
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let is_it = fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim_end() == program);
        is_it
            && fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            })
    })
    .collect()
}

fn signal(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// A session that stays open, having run these statements.
fn hold(server: &PostgresServer, database: &str, statements: &str) -> Child {
    let mut child =
        server.psql(database).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.as_mut().unwrap(), "{statements}\n\\echo ready").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"));
    child
}

fn end(mut child: Child) {
    drop(child.stdin.take());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn what_was_dropped_comes_back_whole() {
    let server = tooljet();
    let odd = ODD.replace('"', "\"\"");
    server.run("postgres", "CREATE ROLE \"Reader = 'x'\" ADMIN tooljet");
    server.run("postgres", &format!("CREATE DATABASE \"{odd}\" OWNER tooljet TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'de-DE' CONNECTION LIMIT 7"));
    for statements in [
        format!("COMMENT ON DATABASE \"{odd}\" IS 'it''s \\ odd'"),
        format!(
            "REVOKE ALL ON DATABASE \"{odd}\" FROM PUBLIC; GRANT CONNECT ON DATABASE \"{odd}\" TO \"Reader = 'x'\" WITH GRANT OPTION"
        ),
        format!(
            "SET ROLE \"Reader = 'x'\"; GRANT CONNECT ON DATABASE \"{odd}\" TO \"{}\"",
            role(WORKSPACES[0])
        ),
        format!(
            "ALTER DATABASE \"{odd}\" SET my.text TO 'a ''b'' \\ c'; ALTER DATABASE \"{odd}\" SET work_mem TO '9MB'"
        ),
        format!(
            "ALTER ROLE \"Reader = 'x'\" IN DATABASE \"{odd}\" SET search_path TO \"A b\", public"
        ),
    ] {
        server.run("postgres", &statements);
    }
    server.run(ODD, "CREATE TABLE t (a text); CREATE TABLE empty (); INSERT INTO t VALUES ('ä'); SELECT lo_from_bytea(4711, '\\x00ff'); SELECT lo_from_bytea(0, '')");
    server.run(ODD, "ALTER DEFAULT PRIVILEGES FOR ROLE tooljet GRANT SELECT ON TABLES TO \"Reader = 'x'\"; ALTER TABLE t ENABLE ROW LEVEL SECURITY");
    let all = [TOOLJET[0], TOOLJET[1], ODD];
    let before = picture(&server, &all);
    let taken = Taken::from(&server, &all);

    drop_workspaces_and(&server, &odd);
    let connection = server.connect("whole");
    let plan = taken.put_back(&connection);

    assert_eq!(plan.creates_roles.len(), 3, "{plan:?}");
    assert_same_picture(&before, &picture(&server, &all));
    assert_workspaces_work(&server);
    assert_eq!(databases(&server), format!("{ODD} postgres tooljet_db tooljet_production"));
    let again = Taken::from(&server, &all);
    for (before, after) in taken.databases.iter().zip(&again.databases) {
        assert_eq!(
            (&before.settings, &before.roles, &before.locale),
            (&after.settings, &after.roles, &after.locale)
        );
    }
    let analyzed = server.run(
        "tooljet_production",
        "SELECT bool_and(last_analyze IS NOT NULL) FROM pg_stat_user_tables",
    );
    assert_eq!(analyzed, "t");
}

fn drop_workspaces_and(server: &PostgresServer, odd: &str) {
    server.run("postgres", &format!("DROP DATABASE \"{odd}\""));
    server.run("postgres", "DROP ROLE \"Reader = 'x'\"");
    drop_workspaces(server);
}

/// Changes nearly everything, as a failed upgrade or a wrong restore might.
fn wreck(server: &PostgresServer) {
    server
        .run("tooljet_production", "DROP TABLE credentials CASCADE; UPDATE apps SET name = 'lost'");
    for workspace in WORKSPACES {
        let role = role(workspace);
        server.run("tooljet_db", &format!("DROP SCHEMA \"workspace_{workspace}\" CASCADE; ALTER ROLE \"{role}\" INHERIT NOLOGIN CONNECTION LIMIT 3 PASSWORD 'other'; ALTER ROLE \"{role}\" IN DATABASE tooljet_db RESET ALL; ALTER ROLE \"{role}\" SET work_mem TO '5MB'"));
    }
    server.run("postgres", "CREATE ROLE stranger; ALTER DATABASE tooljet_db OWNER TO stranger; ALTER DATABASE tooljet_production CONNECTION LIMIT 1; COMMENT ON DATABASE tooljet_db IS 'wrecked'");
}

#[test]
fn what_is_there_is_swapped_out_with_its_connections_and_may_be_swapped_in_again() {
    let server = tooljet();
    let before = picture(&server, &TOOLJET);
    let mut taken = Taken::from(&server, &TOOLJET);
    taken.passwords =
        WORKSPACES.map(|workspace| (role(workspace), Zeroizing::new(password(workspace)))).to_vec();
    wreck(&server);
    let wrecked = picture(&server, &TOOLJET);
    let connection = server.connect("swaps");
    let (plan, work) = taken.plan(&connection);
    assert_eq!(plan.changes_roles.len(), 2, "{plan:?}");
    assert_eq!(plan.changes_roles[0].what, ["attributes", "password", "settings"]);
    assert!(plan.notes.iter().any(|note| note.contains("tooljet stays as it is")), "{plan:?}");
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    taken.prepare(&restore, &plan, &work).unwrap();
    assert_same_picture(&wrecked, &picture(&server, &TOOLJET));
    assert_eq!(restore.state().unwrap(), State::Old { fresh: 2 });

    let idle = hold(&server, "tooljet_production", "BEGIN; LOCK TABLE apps;");
    let other = hold(&server, "tooljet_db", "SELECT 1;");
    restore.swap(&work).unwrap();
    assert_eq!(restore.state().unwrap(), State::New { aside: 2 });
    end(idle);
    end(other);

    // The role that only the wrecked state had is not ours to drop.
    let restored = |text: &str| {
        text.replace("CREATE ROLE stranger;\n", "").replace("ALTER ROLE stranger WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB NOLOGIN NOREPLICATION NOBYPASSRLS;\n", "")
    };
    assert_same_picture(&before, &restored(&picture(&server, &TOOLJET)));
    assert_workspaces_work(&server);
    assert!(matches!(restore.create(&work), Err(PostgresError::Unclear { .. })));

    let journalled = serde_json::to_string(&work.before).unwrap();
    let known: RolesBefore = serde_json::from_str(&journalled).unwrap();
    restore.swap_back(&known).unwrap();
    assert_same_picture(&wrecked, &picture(&server, &TOOLJET));
    restore.swap_back(&known).unwrap();
    assert!(matches!(restore.clear_old(), Err(PostgresError::Unclear { .. })));

    let (_, work) = taken.plan(&connection);
    restore.swap(&work).unwrap();
    restore.clear_old().unwrap();
    assert_eq!(restore.state().unwrap(), State::New { aside: 0 });
    assert!(matches!(restore.swap_back(&known), Err(PostgresError::Unclear { .. })));
    assert_same_picture(&before, &restored(&picture(&server, &TOOLJET)));
    assert_eq!(databases(&server), "postgres tooljet_db tooljet_production");
}

#[test]
fn an_empty_server_gets_the_roles_without_superuser_and_no_password_in_its_log() {
    let mut taken = Taken::from(&tooljet(), &TOOLJET);
    // As of a server whose passwords may not be read.
    taken.globals = taken
        .globals
        .lines()
        .map(|line| line.split(" PASSWORD ").next().unwrap())
        .map(|line| {
            if line.starts_with("ALTER ROLE") {
                format!("{};\n", line.trim_end_matches(';'))
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    taken.passwords =
        WORKSPACES.map(|workspace| (role(workspace), Zeroizing::new(password(workspace)))).to_vec();
    let server = PostgresServer::start();
    server.run("postgres", "ALTER SYSTEM SET log_statement = 'all'");
    server.run("postgres", "SELECT pg_reload_conf()");
    let connection = server.connect("empty");
    let plan = taken.put_back(&connection);

    assert_eq!(plan.creates_roles.len(), 3);
    let notes = plan.notes.join("\n");
    assert!(notes.contains("tooljet is made without SUPERUSER"), "{notes}");
    assert!(notes.contains("tooljet is made without a password"), "{notes}");
    assert_eq!(
        server.run("postgres", "SELECT rolsuper FROM pg_roles WHERE rolname = 'tooljet'"),
        "f"
    );
    assert_workspaces_work(&server);
    let log = server.log();
    assert!(log.contains("CREATE ROLE") && log.contains("SCRAM-SHA-256"), "statements are logged");
    for workspace in WORKSPACES {
        assert!(!log.contains(&password(workspace)));
    }
    let plan = serde_json::to_string(&plan).unwrap();
    assert!(!plan.contains("SCRAM") && !plan.contains("pw-"), "{plan}");
}

#[test]
fn a_transaction_prepared_after_the_plan_stops_the_swap() {
    let server = tooljet();
    let taken = Taken::from(&server, &TOOLJET);
    let connection = server.connect("prepared");
    let (plan, work) = taken.plan(&connection);
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    taken.prepare(&restore, &plan, &work).unwrap();
    server.run("tooljet_db", "BEGIN; CREATE TABLE p (); PREPARE TRANSACTION 'late'");
    let error = restore.swap(&work).unwrap_err();
    assert!(error.to_string().contains("being accessed by other users"), "{error}");
    assert_workspaces_work(&server);
    assert_eq!(restore.state().unwrap(), State::Old { fresh: 2 });
    assert_eq!(restore.verify(&plan.databases[0], &taken.expected(0)).unwrap(), [""; 0]);
    server.run("tooljet_db", "ROLLBACK PREPARED 'late'");
    restore.swap(&work).unwrap();
    restore.clear_old().unwrap();
    assert_workspaces_work(&server);
}

#[test]
fn a_connection_that_does_not_end_is_named_and_the_old_state_serves() {
    let server = tooljet();
    let taken = Taken::from(&server, &TOOLJET);
    let connection = server.connect("holds");
    let (plan, work) = taken.plan(&connection);
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    taken.prepare(&restore, &plan, &work).unwrap();
    let holder = hold(&server, "tooljet_db", "SET application_name = 'holds on';");
    let pid = server
        .run("postgres", "SELECT pid FROM pg_stat_activity WHERE application_name = 'holds on'");
    signal(pid.parse().unwrap(), rustix::process::Signal::STOP);
    let error = restore.swap(&work).unwrap_err();
    signal(pid.parse().unwrap(), rustix::process::Signal::CONT);
    assert!(matches!(&error, PostgresError::HeldOn { .. }), "{error}");
    assert!(
        error.to_string().contains(&format!("process {pid} of postgres (holds on) in tooljet_db")),
        "{error}"
    );
    assert_workspaces_work(&server);
    assert_eq!(restore.clear_new().unwrap(), [""; 0]);
    assert_eq!(databases(&server), "postgres tooljet_db tooljet_production");
    end(holder);
}

/// Gives the first half, then ends the program that takes it.
struct Killing {
    bytes: Cursor<Vec<u8>>,
    from: u64,
}

impl Read for Killing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.position() >= self.from {
            for pid in processes("killed", "pg_restore") {
                signal(pid, rustix::process::Signal::KILL);
            }
            self.from = u64::MAX;
        }
        let most = buffer.len().min(4096);
        self.bytes.read(&mut buffer[..most])
    }
}

#[test]
fn a_restore_that_is_killed_at_any_step_leaves_the_old_state_and_is_finished_or_undone() {
    let server = tooljet();
    let taken = Taken::from(&server, &TOOLJET);
    drop_workspaces(&server);
    server.run("postgres", "CREATE DATABASE tooljet_db");
    server.run("tooljet_db", "CREATE TABLE old (a int)");
    let wrecked = picture(&server, &["tooljet_db"]);
    let connection = server.connect("killed");
    let journalled = serde_json::to_string(&taken.plan(&connection).0).unwrap();
    let mut plan: RestorePlan = serde_json::from_str(&journalled).unwrap();
    assert!(journalled.contains("search_path") && !journalled.contains("search_path="));
    // The values of settings come from the snapshot again.
    for (planned, facts) in plan.databases.iter_mut().zip(&taken.databases) {
        planned.facts.take_settings(&facts.settings_json()).unwrap();
    }
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    // Each time as after a crash: the plan is the one that was written down, the statements for roles are made anew.
    let work = || taken.plan(&connection).1;
    assert_eq!(restore.state().unwrap(), State::Old { fresh: 0 });

    restore.create(&work()).unwrap();
    let killing = Stored(Box::new(|| {
        let (bytes, from) = (taken.dumps[0].clone(), taken.dumps[0].len() as u64 / 2);
        Box::new(Killing { bytes: Cursor::new(bytes), from })
    }));
    let error = restore.fill(&plan.databases[0], &killing, None, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("signal 9"), "{error}");
    assert_eq!(restore.state().unwrap(), State::Old { fresh: 2 });

    // Undone, nothing of it is left.
    assert_eq!(restore.clear_new().unwrap(), [""; 0]);
    assert_same_picture(&wrecked, &picture(&server, &["tooljet_db"]));
    assert_eq!(databases(&server), "postgres tooljet_db");
    assert_eq!(restore.clear_new().unwrap(), [""; 0]);

    // Begun again, and killed in the middle of the swap.
    restore.create(&work()).unwrap();
    restore.create(&work()).unwrap();
    taken.prepare(&restore, &plan, &work()).unwrap();
    let holder = hold(&server, "postgres", "BEGIN; COMMENT ON DATABASE tooljet_db IS 'held';");
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'killed' AND wait_event_type = 'Lock'";
    std::thread::scope(|scope| {
        let swap = scope.spawn(|| restore.swap(&work()));
        wait_until("the swap waits", || server.run("postgres", waits) == "1");
        for pid in processes("killed", "psql") {
            signal(pid, rustix::process::Signal::KILL);
        }
        let error = swap.join().unwrap().unwrap_err();
        assert!(error.to_string().contains("signal 9"), "{error}");
    });
    end(holder);
    wait_until("its transaction ended", || {
        server.run(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'killed'",
        ) == "0"
    });
    assert_eq!(restore.state().unwrap(), State::Old { fresh: 2 });
    assert_eq!(server.run("tooljet_db", "SELECT count(*) FROM old"), "0");

    // Finished.
    restore.swap(&work()).unwrap();
    assert_eq!(restore.state().unwrap(), State::New { aside: 1 });
    assert_workspaces_work(&server);
    restore.clear_old().unwrap();
    restore.clear_old().unwrap();
    assert_eq!(databases(&server), "postgres tooljet_db tooljet_production");
}

#[test]
fn a_name_is_never_taken_for_a_connection_string() {
    let server = PostgresServer::start();
    for name in STRINGS {
        server.run("postgres", &format!("CREATE DATABASE \"{name}\""));
        server.run(name, "CREATE TABLE t AS SELECT 1");
    }
    for first in STRINGS {
        let taken = Taken::from(&server, &[first]);
        assert!(taken.globals.contains("CREATE ROLE postgres"), "{first}");
        server.run(first, "DROP TABLE t");
        taken.put_back(&server.connect("names"));
        assert_eq!(server.run(first, "SELECT count(*) FROM t"), "1");
    }
}

#[test]
fn bytes_come_back_whatever_the_encoding_says_of_them() {
    let server = PostgresServer::start();
    // In the first any bytes are text; the second knows bytes that UTF-8 has no
    // character for; both others have other bytes for names.
    for encoding in ["SQL_ASCII", "WIN1252", "LATIN1"] {
        server.run(
            "postgres",
            &format!("CREATE DATABASE d ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"),
        );
        let byte = if encoding == "LATIN1" { "\\xe9" } else { "\\x81" };
        let run = |sql: &str| {
            let mut psql = server.psql("d");
            PostgresServer::output(psql.env("PGCLIENTENCODING", "UTF8").args(["-c", sql]))
        };
        run(&format!("CREATE TABLE t AS SELECT E'caf{byte}'::text AS a"));
        run("CREATE TABLE \"Tür\" AS SELECT 1");
        let is_there = || {
            run(
                "SELECT encode(convert_to(a, getdatabaseencoding()), 'hex'), (SELECT count(*) FROM \"Tür\"), getdatabaseencoding() FROM t",
            )
        };
        let before = is_there();
        assert!(before.starts_with("636166") && before.ends_with(encoding), "{before}");
        let taken = Taken::from(&server, &["d"]);
        assert_eq!(taken.rows[0]["public"]["Tür"], 1);
        server.run("postgres", "DROP DATABASE d");
        taken.put_back(&server.connect("bytes"));
        assert_eq!(is_there(), before);
        server.run("postgres", "DROP DATABASE d");
    }
}

#[test]
fn rows_are_counted_as_a_dump_has_them() {
    let server = PostgresServer::start();
    server.run("postgres", "CREATE DATABASE d");
    server.run("d", "CREATE TABLE parent (a int); CREATE TABLE child (b int) INHERITS (parent); INSERT INTO parent VALUES (1); INSERT INTO child SELECT n, n FROM generate_series(1, 3) n");
    // Which partition a value goes to depends on its number in the database.
    server.run("d", "CREATE TYPE kind AS ENUM ('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h'); CREATE TABLE kinds (k kind) PARTITION BY HASH (k); CREATE TABLE kinds_0 PARTITION OF kinds FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE kinds_1 PARTITION OF kinds FOR VALUES WITH (MODULUS 2, REMAINDER 1); INSERT INTO kinds SELECT unnest(enum_range(NULL::kind))");
    // What the script of an extension makes, PostGIS's for one, and the row that somebody added.
    let script = "CREATE EXTENSION citext; CREATE TABLE systems (id int PRIMARY KEY); INSERT INTO systems SELECT generate_series(1, 8500); ALTER EXTENSION citext ADD TABLE systems; UPDATE pg_extension SET extconfig = ARRAY['systems'::regclass::oid], extcondition = ARRAY['WHERE id > 8500'] WHERE extname = 'citext'";
    server.run("d", script);
    let has = |name: &str, counts: &str| {
        let counted = "SELECT (SELECT count(*) FROM ONLY parent), (SELECT count(*) FROM child), (SELECT count(*) FROM kinds), (SELECT count(*) FROM systems)";
        assert_eq!(server.run(name, counted), counts);
    };
    for (added, rows) in [("SELECT", 8500), ("INSERT INTO systems VALUES (9000)", 8501)] {
        server.run("d", added);
        let taken = Taken::from(&server, &["d"]);
        assert_eq!(taken.rows[0]["public"]["systems"], rows - 8500);
        let connection = server.connect("counts");
        let (plan, work) = taken.plan(&connection);
        let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
        restore.create(&work).unwrap();
        let planned = &plan.databases[0];
        // The server does not have the extension's script, which would do this.
        server.run(&planned.fresh, script);
        restore.fill(planned, &taken.stored(0), None, &mut |_| {}).unwrap();
        assert_eq!(restore.verify(planned, &taken.expected(0)).unwrap(), [""; 0]);
        has(&planned.fresh, &format!("1|3|8|{rows}"));

        server.run(&planned.fresh, "DELETE FROM ONLY parent; DELETE FROM kinds WHERE k = 'a'");
        let differences = restore.verify(planned, &taken.expected(0)).unwrap();
        let expected = [
            "public.parent has 0 rows and had 1",
            "the partitions of public.kinds have 1 rows fewer than they had",
        ];
        assert_eq!(differences, expected);
        restore.clear_new().unwrap();
    }
}

/// A source that breaks off.
struct Broken(Cursor<Vec<u8>>);
impl Read for Broken {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("it is damaged")),
            count => Ok(count),
        }
    }
}

#[test]
fn a_bad_archive_and_what_did_not_come_back_are_told() {
    let server = tooljet();
    let taken = Taken::from(&server, &TOOLJET);
    let connection = server.connect("bad");
    let (plan, work) = taken.plan(&connection);
    let restore = Restore::new(&connection, MAINTENANCE, &plan).unwrap();
    let (planned, dump) = (&plan.databases[1], taken.dumps[1].as_slice());
    for known in [None, Some(taken.known(1))] {
        let fill_from = |archive: Stored<'_>| {
            restore.create(&work).unwrap();
            restore.fill(planned, &archive, known, &mut |_| {})
        };
        let fill =
            |bytes: &[u8]| fill_from(Stored(Box::new(|| Box::new(Cursor::new(bytes.to_vec())))));
        let error = fill(&dump[..dump.len() / 2]).unwrap_err().to_string();
        assert!(error.starts_with("could not put back the database tooljet_db: "), "{error}");
        let error = fill(&[]).unwrap_err().to_string();
        // Where it is divided it is looked at first.
        let why = if known.is_some() { "could not read the dump of" } else { "too short" };
        assert!(error.contains(why), "{error}");

        let broken = Stored(Box::new(|| Box::new(Broken(Cursor::new(dump[..10_000].to_vec())))));
        let error = fill_from(broken).unwrap_err();
        assert_eq!(
            error.to_string(),
            "could not read the dump of database tooljet_db: it is damaged"
        );

        // A role that somebody dropped in between.
        let mut dumped = dump.to_vec();
        for at in 0..dump.len() {
            if dump[at..].starts_with(b"user_47eaa099") {
                dumped[at..at + 4].copy_from_slice(b"gone");
            }
        }
        let error = fill(&dumped).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("role \"gone_47eaa099-2cb6-416d-86dc-283cf0480ff9\" does not exist"),
            "{error}"
        );
        assert!(!error.to_string().contains("Command"), "{error}");
        fill(dump).unwrap();
    }
    server.run(&planned.fresh, "SELECT lo_create(0); CREATE TABLE more (); DROP EXTENSION plpgsql");
    let table = server.run(&planned.fresh, "SELECT c.oid::regclass FROM pg_class c WHERE relkind = 'r' AND relnamespace::regnamespace::text ~ 'workspace_4' ORDER BY relname LIMIT 1");
    server.run(&planned.fresh, &format!("DELETE FROM {table} WHERE id <= 3"));
    let mut expected = taken.rows[1].clone();
    expected.entry("gone".into()).or_default().insert("t".into(), 1);
    let plpgsql = ["plpgsql".to_owned()].into();
    let expected = belay::component::postgres::restore::Expected {
        rows: &expected,
        large_objects: 0,
        extensions: &plpgsql,
    };
    let differences = restore.verify(planned, &expected).unwrap().join("; ");
    for part in [
        "gone.t is missing",
        "has 97 rows and had 100",
        "public.more was not there before",
        "it has 1 large objects and had 0",
        "the extension plpgsql is missing",
    ] {
        assert!(differences.contains(part), "{part}: {differences}");
    }
    assert_workspaces_work(&server);
}
