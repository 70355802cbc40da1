//! A ToolJet-shaped instance whose PostgreSQL is in a container and whose environment file is on another host: backed up and
//! restored through `docker:` and through `ssh:…/docker:…`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::process::{Command, Stdio};
use support::servers::{Docker, Sshd};
use support::{Run, Sandbox, assert_same_text, text, wait_until};

const CONTAINER: &str = "postgresql";

/// Makes a cluster in the container, and serves it over its socket alone.
const SERVE: &str = "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin); echo superuser-password > /tmp/pw
initdb -D /tmp/data -A scram-sha-256 -U postgres -N -E UTF8 --pwfile=/tmp/pw >/tmp/initdb.log 2>&1 || exit 1
exec postgres -D /tmp/data -k /var/run/postgresql -c listen_addresses= -c fsync=off";

struct Container {
    docker: Docker,
}

impl Container {
    fn start() -> Self {
        let docker = Docker::start();
        docker.image(
            "postgres",
            &[
                "/usr/lib/postgresql",
                "/usr/share/postgresql",
                "/usr/lib/locale/C.utf8",
                "/usr/share/zoneinfo",
            ],
        );
        let serve = format!(
            "mkdir -p /var/run/postgresql && chown postgres /var/run/postgresql && exec su postgres -s /bin/sh -c '{SERVE}'"
        );
        docker.run(&["run", "-d", "--name", CONTAINER, "postgres", "sh", "-c", &serve]);
        let container = Self { docker };
        wait_until("the container's PostgreSQL", || {
            assert!(
                container.docker.run(&["ps", "-q"]).trim() != "",
                "{:?}",
                Run::of(container.docker.command(&["logs", CONTAINER])).stderr()
            );
            container.psql_command("postgres", "SELECT 1").output().unwrap().status.success()
        });
        container
    }

    fn psql_command(&self, database: &str, statements: &str) -> Command {
        self.docker.command(&[
            "exec", "-e", "PGPASSWORD=superuser-password", CONTAINER, "sh", "-c",
            r#"exec /usr/lib/postgresql/*/bin/psql -X -q -A -t -v ON_ERROR_STOP=1 -U postgres -d "$1" -c "$2""#,
            "psql", database, statements,
        ])
    }

    fn sql(&self, database: &str, statements: &str) -> String {
        Run::of(self.psql_command(database, statements)).ok().stdout()
    }

    fn picture(&self) -> String {
        let dump = |program: &str| {
            let run = format!("exec /usr/lib/postgresql/*/bin/{program}");
            let command = self.docker.command(&[
                "exec",
                "-e",
                "PGPASSWORD=superuser-password",
                "-e",
                "PGUSER=postgres",
                CONTAINER,
                "sh",
                "-c",
                &run,
            ]);
            let text = Run::of(command).ok().stdout();
            text.lines().filter(|line| !line.contains("restrict ")).collect::<Vec<_>>().join("\n")
        };
        let settings = "SELECT d.datname, r.rolname, s.setconfig FROM pg_db_role_setting s LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole ORDER BY 1, 2";
        [
            dump("pg_dumpall --globals-only"),
            dump("pg_dump tooljet_production"),
            dump("pg_dump tooljet_db"),
            self.sql("postgres", settings),
        ]
        .concat()
    }
}

#[test]
fn an_instance_in_containers_and_on_another_host_comes_back() {
    let container = Container::start();
    let (variable, socket) = container.docker.variable();
    let sshd = Sshd::start(&[(variable, &socket)]);
    let sandbox = Sandbox::new();

    let seed = Command::new("/usr/bin/python3")
        .args(["tests/fixtures/tooljet/seed.py", "20"])
        .output()
        .unwrap();
    let seed_file = sandbox.path("seed.sql");
    fs::write(&seed_file, seed.stdout).unwrap();
    let mut seeding = container.docker.command(&[
        "exec", "-i", "-e", "PGPASSWORD=superuser-password", CONTAINER, "sh", "-c",
        "exec /usr/lib/postgresql/*/bin/psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres >/dev/null",
    ]);
    seeding.stdin(Stdio::from(fs::File::open(&seed_file).unwrap()));
    assert!(seeding.status().unwrap().success());
    let before = container.picture();

    let environment = sandbox.path("far.env");
    fs::copy("tests/fixtures/tooljet/tooljet.env", &environment).unwrap();
    for (via, postgres) in
        [("local", "docker:postgresql"), ("ssh:far", "ssh:far/docker:postgresql")]
    {
        sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        config.extend([format!(
            "\n[access]\nssh_config = \"{}\"\n\n[instance.tj]\nplatform = \"tooljet\"\nvia = \"{via}\"\nenvironment = \"{}\"\n\
             component.postgres = {{ via = \"{postgres}\" }}\n",
            sshd.config().display(),
            text(&environment),
        )]);
        fs::write(sandbox.config(), config).unwrap();
        let belay = |arguments: &[&str]| {
            let mut command = sandbox.belay_command(arguments);
            command.env(variable, &socket);
            Run::of(command)
        };
        let taken = belay(&["backup", "tj", "--json"]).ok().json();
        assert_eq!(taken["snapshots"][0]["key_fit"], "fit", "{via}");
        container.sql("postgres", "DROP DATABASE tooljet_production WITH (FORCE)");
        container.sql("postgres", "DROP DATABASE tooljet_db WITH (FORCE)");
        for role in container
            .sql("postgres", "SELECT rolname FROM pg_roles WHERE rolname LIKE 'user%'")
            .lines()
        {
            container.sql("postgres", &format!("DROP ROLE \"{role}\""));
        }
        let file = fs::read_to_string(&environment).unwrap();
        fs::write(&environment, file.replace("=01010101", "=0a0a0a0a")).unwrap();
        belay(&["restore", "latest:tj", "--into", "tj", "--yes"]).ok();
        assert_same_text(&before, &container.picture());
        assert_eq!(fs::read_to_string(&environment).unwrap(), file, "{via}");
    }

    // A container that stops in the middle: the dump has more to give than any pipe holds, and nobody reads on.
    container.sql("tooljet_db", "CREATE TABLE much AS SELECT repeat(md5(i::text), 1000) AS words FROM generate_series(1, 10000) i");
    let mut stopping = sandbox.belay_command(&["backup", "tj", "--json"]);
    stopping.env(variable, &socket);
    let count = sandbox.list().len();
    let mut running = support::Running::start(stopping);
    let copying = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'tooljet_db' AND query LIKE 'COPY %much%' AND state = 'active'";
    wait_until("the dump to be under way", || {
        assert!(!running.has_ended(), "it ended before its server did");
        container.sql("postgres", copying).trim() != "0"
    });
    running.freeze();
    assert_ne!(container.sql("postgres", copying).trim(), "0", "it dumps");
    container.docker.run(&["kill", CONTAINER]);
    running.thaw();
    running.wait().code(1).says(&["hint:"]);
    assert_eq!(sandbox.list().len(), count);
}
