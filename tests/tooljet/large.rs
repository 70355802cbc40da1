//! A database that is large enough to come back over several connections: all of it, in PostgreSQL's order, or nothing.

use crate::support::{self, Running, wait_until};
use crate::{Instance, assert_workspaces_work, destroy, picture};
use std::fs;

const RESTORE: [&str; 5] = ["restore", "latest:tj", "--into", "tj", "--yes"];

/// Two tables of 20 MB each; and what must not come before its time: a trigger that refuses rows, an owner who may not write to his own
/// table, a view of rows, and another trigger that refuses indexes. Both tables wait while there is a role `held`, in a database that is made.
const LARGE: &str = "
CREATE FUNCTION is_let(n bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
  IF n = 5 AND current_database() <> 'tooljet_production' AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'held') THEN
    PERFORM pg_sleep(1000);
  END IF;
  RETURN true; END $$;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more rows'; END $$;
CREATE FUNCTION refuse_indexes() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no more indexes'; END $$;
CREATE TABLE first (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, word text, CHECK (public.is_let(id)));
CREATE TABLE second (id bigint PRIMARY KEY REFERENCES first, word text, CHECK (public.is_let(id)));
INSERT INTO first (word) SELECT repeat(md5(n::text), 20) FROM generate_series(1, 30000) n;
INSERT INTO second SELECT id, word FROM first;
CREATE INDEX by_word ON second (md5(word));
COMMENT ON INDEX by_word IS 'an index';
CREATE MATERIALIZED VIEW first_ones AS SELECT * FROM first WHERE id < 100;
CREATE TRIGGER closed BEFORE INSERT ON second FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TABLE of_all (id int, place text) PARTITION BY LIST (place);
CREATE TABLE of_one PARTITION OF of_all FOR VALUES IN ('one');
INSERT INTO of_all SELECT n, 'one' FROM generate_series(1, 10) n;
SELECT lo_from_bytea(4711, repeat('large object ', 10000)::bytea);
COMMENT ON LARGE OBJECT 4711 IS 'a large object';
GRANT SELECT ON LARGE OBJECT 4711 TO tooljet;
CREATE TABLE locked (id int); INSERT INTO locked VALUES (1); ALTER TABLE locked OWNER TO tooljet;
REVOKE ALL ON locked FROM tooljet;
CREATE EVENT TRIGGER closed ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION refuse_indexes();
";

/// Two tables of 20 MB each, whose rows are refused as long as the other table, which is in front of it in a dump, has none.
const IN_ORDER: &str = "
CREATE TABLE first (id bigint PRIMARY KEY, word text);
CREATE FUNCTION first_is_there() RETURNS boolean LANGUAGE sql AS $$ SELECT EXISTS (SELECT FROM public.first) $$;
INSERT INTO first SELECT n, repeat(md5(n::text), 20) FROM generate_series(1, 30000) n;
CREATE TABLE second (id bigint PRIMARY KEY, word text, CHECK (public.first_is_there()));
INSERT INTO second SELECT id, word FROM first;
";

#[test]
fn a_large_database_whose_tables_need_an_order_comes_back_in_it() {
    let instance = Instance::new(1);
    let path = instance.sandbox.path("in_order.sql");
    fs::write(&path, format!("\\connect tooljet_production\n{IN_ORDER}")).unwrap();
    instance.postgres.script(&path);
    let before = picture(&instance.postgres);
    instance.backup().ok();
    destroy(&instance);
    let run = instance.sandbox.belay(&RESTORE).code_in(&[0, 3]);
    if std::thread::available_parallelism().unwrap().get() > 1 {
        let run = run.says(&["it comes back over one connection", "violates check constraint"]);
        assert!(!run.stderr().contains("Failing row"), "a row is nothing to be told: {run}");
    }
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_workspaces_work(&instance.postgres, 1);
}

/// Connections that fill a table and are held.
fn held(instance: &Instance) -> usize {
    let query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'COPY %'";
    instance.postgres.sql("postgres", query).trim().parse().unwrap()
}

#[test]
fn a_large_database_comes_back_over_several_connections_in_order_or_not_at_all() {
    let instance = Instance::new(1);
    let path = instance.sandbox.path("large.sql");
    fs::write(&path, format!("\\connect tooljet_production\n{LARGE}")).unwrap();
    instance.postgres.script(&path);
    let before = picture(&instance.postgres);
    instance.backup().ok();

    // One of its connections breaks while the others are at work.
    instance.postgres.sql("postgres", "CREATE ROLE held");
    let mut running = Running::start(instance.sandbox.belay_command(&RESTORE));
    let at_once = std::thread::available_parallelism().unwrap().get().min(2);
    wait_until("both tables to be filled", || {
        assert!(!running.has_ended(), "{}", running.stderr_so_far());
        held(&instance) == at_once
    });
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND query LIKE 'COPY public.second%'";
    instance.postgres.sql("postgres", end);
    let run = running.wait().code(1);
    let run = run.says(&["could not put back the database tooljet_production"]);
    // What the client says of that differs from one moment to the other.
    let ends = [
        "terminating connection",
        "closed the connection",
        "connection to server was lost",
        "no connection to the server",
        "Connection reset",
    ];
    assert!(ends.iter().any(|end| run.stderr().contains(end)), "{run}");
    instance.postgres.sql("postgres", "DROP ROLE held");
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_eq!(held(&instance), 0, "nothing is at work any more");

    destroy(&instance);
    instance.sandbox.belay(&RESTORE).ok();
    support::assert_same_text(&before, &picture(&instance.postgres));
    assert_workspaces_work(&instance.postgres, 1);
    // What a sequence gives next is no number that is there.
    let next = "INSERT INTO first (word) VALUES ('next') RETURNING id";
    assert_eq!(instance.postgres.sql("tooljet_production", next).trim(), "30001");
}
