//! A pair of ToolJet-shaped instances, each on a PostgreSQL server of its own, that a script upgrades.

use super::servers::{POSTGRES_PASSWORD, Postgres};
use super::{PASSWORD, Run, Sandbox, text};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What the instances say that they run.
pub const VERSION: &str = "3.16.12-lts";
/// What nothing that is shown may hold: parts of the environment files, and passwords.
const SECRETS: [&str; 6] =
    ["010101010101", "020202020202", "030303030303", "fixture-pg-pw", POSTGRES_PASSWORD, PASSWORD];

/// The pair `main` of the instances `staging` and `production`.
pub struct Pair {
    pub sandbox: Sandbox,
    pub staging: Postgres,
    pub production: Postgres,
}

impl Pair {
    /// `more` is added to the pair's table, `besides` to the end of the configuration.
    pub fn new(more: &str, besides: &str) -> Self {
        let (staging, production) = (Postgres::start(), Postgres::start());
        for server in [&staging, &production] {
            server.script(Path::new("tests/fixtures/tooljet/seed-1.sql"));
        }
        let pair = Self { sandbox: Sandbox::new(), staging, production };
        for (name, server) in [("staging", &pair.staging), ("production", &pair.production)] {
            fs::write(pair.environment(name), environment(server)).unwrap();
        }
        let script = pair.sandbox.path("install");
        fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        pair.configure(more, besides);
        pair
    }

    /// Write the configuration again.
    pub fn configure(&self, more: &str, besides: &str) {
        self.sandbox.configure(&["data"], "last = 1000");
        let mut config = fs::read_to_string(self.sandbox.config()).unwrap();
        for name in ["staging", "production"] {
            let file = self.environment(name);
            config.extend([format!(
                "\n[instance.{name}]\nplatform = \"tooljet\"\nenvironment = \"{}\"\n",
                text(&file)
            )]);
        }
        config.extend([format!(
            "\n[pair.main]\nstaging = \"staging\"\nproduction = \"production\"\n\
             driver = {{ command = \"{}\" }}\ntests = [\"version\", \"counts\", \"keys\"]\n{more}\n{besides}\n",
            text(&self.sandbox.path("install"))
        )]);
        fs::write(self.sandbox.config(), config).unwrap();
    }

    /// The environment file of an instance.
    pub fn environment(&self, name: &str) -> PathBuf {
        self.sandbox.path(&format!("{name}.env"))
    }

    /// Let an instance say that it runs another version.
    pub fn set_version(&self, name: &str, version: &str) {
        let server = if name == "staging" { &self.staging } else { &self.production };
        let statement =
            format!("UPDATE metadata SET data = '{{\"installed_version\": \"{version}\"}}'");
        server.sql("tooljet_production", &statement);
    }

    /// Run a command of Belay's. Nothing that it shows may be a secret.
    #[track_caller]
    pub fn belay(&self, arguments: &[&str]) -> Run {
        let run = self.sandbox.belay(arguments);
        let shown = format!("{}{}", run.stdout(), run.stderr());
        for secret in SECRETS {
            assert!(!shown.contains(secret), "a secret is shown: {run}");
        }
        run
    }

    /// Take a snapshot of both.
    #[track_caller]
    pub fn back_up(&self) {
        self.belay(&["backup", "--pair", "main"]).ok();
    }
}

fn environment(server: &Postgres) -> String {
    let file = fs::read_to_string("tests/fixtures/tooljet/tooljet.env").unwrap();
    let port = server.port;
    let file =
        file.replace("localhost", "127.0.0.1").replace("PG_PORT=5432", &format!("PG_PORT={port}"));
    format!("{file}TOOLJET_DB_PORT={port}\n")
}
