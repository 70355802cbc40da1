//! Which databases of a server are backed up, and under which names they come back.

use crate::support::{
    Run, Sandbox, servers::POSTGRES_PASSWORD, servers::Postgres, text, write_secret,
};
use crate::{Instance, component};
use std::fs;

/// A server of which all databases are instances' own.
struct Plain {
    sandbox: Sandbox,
    postgres: Postgres,
}

impl Plain {
    fn new() -> Self {
        let server = Self { sandbox: Sandbox::new(), postgres: Postgres::start() };
        write_secret(&server.sandbox.path("superuser"), POSTGRES_PASSWORD);
        server.configure(&[("pg", "")]);
        server
    }

    /// Instances of these names, each with its list of databases; all where there is none.
    fn configure(&self, instances: &[(&str, &str)]) {
        self.sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(self.sandbox.config()).unwrap();
        let password = self.sandbox.path("superuser");
        let (port, password) = (self.postgres.port, text(&password));
        for (name, databases) in instances {
            let databases = match *databases {
                "" => String::new(),
                names => format!(", databases = [{names}]"),
            };
            config.extend([format!(
                "\n[instance.{name}]\nplatform = \"postgres\"\ncomponent.postgres = {{ host = \"127.0.0.1\", port = {port}, user = \"postgres\", password = \"file:{password}\"{databases} }}\n"
            )]);
        }
        fs::write(self.sandbox.config(), config).unwrap();
    }

    /// A database with a table that says where it comes from.
    fn make(&self, name: &str) {
        self.postgres.sql("postgres", &format!("CREATE DATABASE \"{name}\""));
        self.postgres.sql(name, "CREATE TABLE t AS SELECT current_database() AS of");
    }

    fn of(&self, name: &str) -> String {
        self.postgres
            .sql(name, "SELECT string_agg(of, ',') FROM t")
            .trim_end_matches('\n')
            .to_owned()
    }

    fn restore(&self, instance: &str, more: &[&str]) -> Run {
        let arguments = ["restore", "latest:pg", "--into", instance, "--json"];
        self.sandbox.belay(&[&arguments[..], more].concat())
    }
}

#[test]
fn all_databases_of_a_server_come_back_in_place_and_what_is_left_out_is_told() {
    let server = Plain::new();
    let odd = ["a=b", " host=127.0.0.1 port=1"];
    for name in &odd {
        server.make(name);
    }
    server.postgres.sql("postgres", "CREATE TABLE t AS SELECT 'postgres' AS of");
    for name in ["closed", "belay_old_x_0", "belay_new_x_0"] {
        server.postgres.sql("postgres", &format!("CREATE DATABASE {name}"));
    }
    server.postgres.sql("postgres", "ALTER DATABASE closed ALLOW_CONNECTIONS false");
    server.postgres.sql("postgres", "ALTER DATABASE belay_new_x_0 ALLOW_CONNECTIONS false");
    let told = [
        "databases that cannot be connected to are left out: closed",
        "a restore made or put aside are left out: belay_old_x_0, belay_new_x_0",
    ];
    let doctor = server.sandbox.belay(&["doctor", "pg"]).to_string();
    assert!(told.iter().all(|told| doctor.contains(told)), "{doctor}");
    let run = server.sandbox.belay(&["backup", "pg", "--json"]).code(3).says(&told);
    let id = run.json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let shown = server.sandbox.belay(&["show", &id, "--json"]).ok().json();
    let postgres = component(&shown["manifest"], "postgres");
    let databases = postgres["details"]["databases"].as_array().unwrap();
    let mut names: Vec<&str> = databases.iter().map(|one| one["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, [odd[1], odd[0], "postgres"]);

    server.postgres.sql("postgres", "DROP DATABASE \"a=b\"");
    server.postgres.sql("postgres", "UPDATE t SET of = 'lost'");
    server.postgres.sql(odd[1], "DROP TABLE t");
    server.restore("pg", &["--yes"]).code_in(&[0, 3]);
    for name in [odd[0], odd[1], "postgres"] {
        assert_eq!(server.of(name), name);
    }
    let left = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'belay%'";
    assert_eq!(server.postgres.sql("postgres", left).trim(), "belay_new_x_0 belay_old_x_0");
}

#[test]
fn databases_come_back_under_their_own_names_and_no_other_takes_one() {
    let server = Plain::new();
    for name in ["aaa", "bbb"] {
        server.make(name);
    }
    server.configure(&[("pg", "\"aaa\", \"bbb\"")]);
    let run = server.sandbox.belay(&["backup", "pg", "--json"]).ok();
    let first = run.json()["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let change = || {
        for name in ["aaa", "bbb"] {
            server.postgres.sql(name, "UPDATE t SET of = 'changed'");
        }
    };
    let are = || [server.of("aaa"), server.of("bbb")];

    // Sorted in another way; more than there were; fewer.
    for (names, expected, note) in [
        ("\"bbb\", \"aaa\"", ["aaa", "bbb"], ""),
        (
            "\"ccc\", \"aaa\", \"bbb\"",
            ["aaa", "bbb"],
            "the snapshot does not have ccc, which stays as it is",
        ),
        ("\"ccc\", \"bbb\"", ["changed", "bbb"], "of the snapshot, aaa stays out"),
        ("\"bbb\"", ["changed", "bbb"], "of the snapshot, aaa stays out"),
    ] {
        change();
        server.configure(&[("pg", names)]);
        let arguments = ["restore", &first, "--into", "pg", "--json"];
        let run = |more: &str| server.sandbox.belay(&[&arguments[..], &[more]].concat());
        let plan = run("--dry-run").ok().json()["plan"].clone();
        assert!(plan["notes"].to_string().contains(note), "{plan}");
        assert!(plan["databases"].as_array().unwrap().iter().all(|one| one["from"].is_null()));
        run("--yes").code_in(&[0, 3]);
        assert_eq!(are(), expected, "{names}");
    }
    server.configure(&[("pg", "\"ccc\", \"ddd\"")]);
    server
        .sandbox
        .belay(&["restore", &first, "--into", "pg", "--yes"])
        .code(1)
        .says(&["the target names ccc and ddd, and the snapshot has aaa and bbb"]);

    // A clone goes by their order, but for names that both have.
    for (names, from) in [
        ("\"xxx\", \"yyy\"", [("xxx", "aaa"), ("yyy", "bbb")]),
        ("\"bbb\", \"zzz\"", [("bbb", ""), ("zzz", "aaa")]),
    ] {
        server.configure(&[("pg", ""), ("other", names)]);
        let arguments = ["restore", &first, "--into", "other", "--as-clone", "--confirm", "other"];
        let run = |more: &[&str]| server.sandbox.belay(&[&arguments[..], more].concat());
        let plan = run(&["--dry-run"]).ok().stdout();
        let databases =
            run(&["--yes", "--json"]).code_in(&[0, 3]).json()["plan"]["databases"].clone();
        for (name, from) in from {
            let of = if from.is_empty() { name } else { from };
            assert_eq!(server.of(name), of);
            let found =
                databases.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
            assert_eq!(found["from"].as_str().unwrap_or_default(), from);
            assert_eq!(
                plan.contains(&format!("database {from} → {name} ")),
                !from.is_empty(),
                "{plan}"
            );
        }
    }
}

#[test]
fn a_database_that_the_environment_calls_otherwise_goes_by_its_variable() {
    let instance = Instance::new(1);
    instance.backup().ok();
    let good = fs::read_to_string(instance.environment_path()).unwrap();
    let plan = || instance.sandbox.belay(&["restore", "latest:tj", "--into", "tj", "--dry-run"]);
    let renamed = good.replace("TOOLJET_DB=tooljet_db", "TOOLJET_DB=rows_of_users");
    assert_ne!(good, renamed);
    instance.set_environment(&renamed);
    let planned = plan().ok().stdout();
    for line in ["database tooljet_db → rows_of_users ", "database tooljet_production ("] {
        assert!(planned.contains(line), "{planned}");
    }
    let crossed = good
        .replace("PG_DB=tooljet_production", "PG_DB=tooljet_db")
        .replace("TOOLJET_DB=tooljet_db", "TOOLJET_DB=tooljet_production");
    instance.set_environment(&crossed);
    plan().code(1).says(&["is PG_DB in the snapshot, and TOOLJET_DB in the target"]);
}
