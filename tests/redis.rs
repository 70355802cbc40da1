//! A Redis server: read to its end or not at all, flushed, and loaded back.
#![allow(clippy::unwrap_used)]

mod support;

use belay::access::Access;
use belay::component::redis::{Dumped, RedisError, Server, dump};
use belay::model::event::Cancel;
use belay::model::via::Via;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use support::servers::{Mongod, Redis};
use support::{Run, Sandbox, text, write_secret};

const PASSWORD: &str = support::servers::REDIS_PASSWORD;
const KINDS: &str = "tests/fixtures/redis/kinds.rdb";

fn open(redis: &Redis, password: &str) -> Result<Server, RedisError> {
    Server::open(&access(), &redis.url(), Some(password))
}

fn access() -> Access {
    Access::new(Via::local(), None, &Cancel::new())
}

fn sessions() -> Vec<String> {
    vec!["spring:session:".to_owned()]
}

fn read(server: &Server) -> (Dumped, Vec<u8>) {
    let mut file = Vec::new();
    let dumped = dump(server, &sessions(), &mut file, &mut |_| ()).unwrap();
    (dumped, file)
}

#[test]
fn all_kinds_of_keys_are_read_flushed_and_loaded_back() {
    let redis = Redis::with_file(Some(KINDS));
    let digest = redis.digest();
    let server = open(&redis, PASSWORD).unwrap();
    assert!(server.version.starts_with("7."), "{}", server.version);
    let (dumped, file) = read(&server);
    assert_eq!((dumped.summary.keys(), dumped.lasting), (19, 18));

    server.flush().unwrap();
    assert_eq!(redis.run(&["info", "keyspace"]), "# Keyspace");
    let loaded = server.load(file.as_slice(), &[]).unwrap();
    assert_eq!((loaded.keys, loaded.left_out), (19, 0));
    assert_eq!(redis.digest(), digest);
    assert_eq!(redis.run(&["pexpiretime", "expires"]), "4102444800000");

    // Again, over what is there; and without what is only a cache.
    redis.run(&["set", "text", "another"]);
    assert_eq!(server.load(file.as_slice(), &[]).unwrap().keys, 19);
    assert_eq!(redis.digest(), digest);
    server.flush().unwrap();
    let loaded = server.load(file.as_slice(), &sessions()).unwrap();
    assert_eq!((loaded.keys, loaded.left_out), (18, 1));
    assert_eq!(read(&server).0.lasting, 18);
}

#[test]
fn of_a_server_that_others_may_use_only_one_database_is_flushed_and_filled() {
    let redis = Redis::start();
    redis.run(&["set", "of others", "1"]);
    redis.run(&["-n", "5", "set", "own", "1"]);
    // The same address, in another writing than that of a server beside the instance.
    let elsewhere = format!("redis://127.1:{}/5", redis.port);
    let server = Server::open(&access(), &elsewhere, Some(PASSWORD)).unwrap();
    let (_, file) = read(&server);
    redis.run(&["-n", "5", "set", "late", "1"]);
    server.flush().unwrap();
    assert_eq!(redis.run(&["-n", "5", "dbsize"]), "0");
    assert_eq!(redis.run(&["get", "of others"]), "1");
    redis.run(&["set", "of others", "2"]);
    let loaded = server.load(file.as_slice(), &[]).unwrap();
    assert_eq!((loaded.keys, loaded.left_out), (1, 1));
    assert_eq!(redis.run(&["-n", "5", "keys", "*"]), "own");
    assert_eq!(redis.run(&["get", "of others"]), "2");
}

#[test]
fn an_empty_server_is_really_empty() {
    let redis = Redis::start();
    let server = open(&redis, PASSWORD).unwrap();
    let (dumped, file) = read(&server);
    assert_eq!((dumped.summary.keys(), dumped.lasting), (0, 0));
    assert_eq!(server.load(file.as_slice(), &[]).unwrap().keys, 0);
    server.flush().unwrap();
}

#[test]
fn what_the_server_refuses_is_told() {
    let redis = Redis::with_file(Some(KINDS));
    let error = open(&redis, "wr0ng-secret").err().unwrap();
    assert!(error.to_string().contains("WRONGPASS"), "{error}");
    assert!(error.hint().is_some_and(|hint| hint.contains("password")), "{error}");
    let error = Server::open(&access(), &redis.url(), None).err().unwrap();
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    let error = Server::open(&access(), "redis://127.0.0.1:1", None).err().unwrap();
    assert!(error.to_string().contains("Connection refused"), "{error}");

    redis.run(&[
        "acl",
        "setuser",
        "app",
        "on",
        ">pw",
        "~*",
        "+@all",
        "-flushall",
        "-restore",
        "-psync",
        "-sync",
    ]);
    let url = format!("redis://app:pw@127.0.0.1:{}", redis.port);
    let server = Server::open(&access(), &url, Some("not this")).unwrap();
    let error = server.flush().err().unwrap();
    assert!(error.to_string().contains("NOPERM") && error.hint().is_some(), "{error}");
    let error = dump(&server, &[], &mut Vec::new(), &mut |_| ()).err().unwrap();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    let before = redis.digest();
    let error = server.load(fs::File::open(KINDS).unwrap(), &[]).err().unwrap();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    // A file that is broken after some keys is no success either.
    let server = open(&redis, PASSWORD).unwrap();
    let mut file = fs::read(KINDS).unwrap();
    let end = file.len() - 1;
    file[end] ^= 1;
    let error = server.load(file.as_slice(), &[]).err().unwrap();
    assert!(error.to_string().contains("its sum is wrong"), "{error}");
    assert_eq!(redis.digest(), before);
}

/// An Appsmith instance with MongoDB and Redis.
struct Instance {
    sandbox: Sandbox,
    _mongod: Mongod,
    redis: Redis,
}

impl Instance {
    fn new() -> Self {
        let (mongod, redis) = (Mongod::start(), Redis::with_file(Some(KINDS)));
        mongod.python("client['appsmith'].config.insert_one({'_id': 1})");
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1000");
        write_secret(&sandbox.path("url"), &mongod.url("appsmith"));
        let instance = Self { sandbox, _mongod: mongod, redis };
        instance.set_redis(&format!("{}/0", instance.redis.url()), PASSWORD);
        let mut config = fs::read_to_string(instance.sandbox.config()).unwrap();
        config.extend([format!(
            "\n[instance.app]\nplatform = \"appsmith\"\nvia = \"local\"\nenvironment = \"{}\"\n\
             component.mongodb = {{ url = \"file:{}\" }}\n",
            text(&instance.sandbox.path("docker.env")),
            text(&instance.sandbox.path("url")),
        )]);
        fs::write(instance.sandbox.config(), config).unwrap();
        instance
    }

    fn set_redis(&self, url: &str, password: &str) {
        let environment = format!(
            "APPSMITH_ENCRYPTION_PASSWORD=p\nAPPSMITH_ENCRYPTION_SALT=s\nAPPSMITH_GIT_ROOT=/nonexistent\n\
             APPSMITH_REDIS_URL={url}\nAPPSMITH_REDIS_PASSWORD={password}\n"
        );
        fs::write(self.sandbox.path("docker.env"), environment).unwrap();
    }

    /// Back up with a `redis-cli` that does this in the place of reading.
    fn backup_with(&self, script: &str) -> Run {
        let bin = self.sandbox.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--rdb*) {script} ;; *) exec /usr/bin/redis-cli \"$@\" ;; esac\n"
        );
        fs::write(bin.join("redis-cli"), script).unwrap();
        fs::set_permissions(bin.join("redis-cli"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.sandbox.belay_command(&["backup", "app"]);
        command.env("PATH", format!("{}:{}", text(&bin), std::env::var("PATH").unwrap()));
        Run::of(command)
    }
}

#[test]
fn a_snapshot_of_an_instance_has_its_redis() {
    let instance = Instance::new();
    let belay = |arguments: &[&str]| instance.sandbox.belay(arguments);
    let taken = belay(&["backup", "app", "--json"]).ok().json();
    assert_eq!(taken["snapshots"][0]["counts"]["keys"], 19);
    let target = instance.sandbox.path("restored");
    belay(&["restore", "latest:app", "--to-dir", text(&target)]).ok();
    // Another server reads it.
    let other = Redis::with_file(Some(text(&target.join("redis/dump.rdb"))));
    assert_eq!(other.digest(), instance.redis.digest());
    let manifest = fs::read_to_string(target.join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let components = manifest["components"].as_array().unwrap();
    let redis = components.iter().find(|component| component["name"] == "redis").unwrap();
    let details = &redis["details"];
    assert_eq!(details["lasting"], 18, "{details}");
    assert_eq!(details["databases"], serde_json::json!({"0": 18, "3": 1}));
    assert!(!manifest.to_string().contains(PASSWORD));

    // One that has none.
    instance.set_redis("", "");
    let taken = belay(&["backup", "app", "--json"]).ok().json();
    assert_eq!(taken["snapshots"][0]["counts"]["keys"], serde_json::Value::Null);
}

#[test]
fn a_dump_that_ends_badly_seals_nothing() {
    let instance = Instance::new();
    let real = "/usr/bin/redis-cli \"$@\"";
    for (script, said) in [
        (format!("{real}; exit 1"), "exit status 1"),
        (format!("{real}; echo 'I/O Error while writing' >&2; exit 0"), "I/O Error while writing"),
        (format!("{real} 2>/dev/null"), "redis-cli ended without an error and said"),
        (format!("{real} | head -c 9000"), "it ends after 9000 bytes"),
        ("exit 0".to_owned(), "it ends after 0 bytes"),
        (
            "echo 'sending REPLCONF capa eof' >&2; exit 0".to_owned(),
            "before its end mark; redis-cli said: sending",
        ),
        (format!("{real}; kill -9 $$"), "ended by signal 9"),
        (format!("{real}; echo more"), "something follows its end"),
        ("head -c 20000 /dev/zero".to_owned(), "it is no RDB file"),
    ] {
        let run = instance.backup_with(&script).code(1);
        run.says(&["component redis of app", said]);
    }
    instance.set_redis(&instance.redis.url(), "wr0ng-secret");
    let run = instance.sandbox.belay(&["backup", "app"]).code(1);
    let run = run.says(&["component redis of app", "WRONGPASS", "is the password"]);
    assert!(!run.stderr().contains("wr0ng-secret"));
    instance.set_redis("http://127.0.0.1", "secret");
    instance.sandbox.belay(&["backup", "app"]).code(1).says(&["neither with redis:// nor"]);
    assert!(instance.sandbox.list().is_empty());
}

#[test]
fn a_server_that_ends_in_mid_dump_is_a_failed_run() {
    let instance = Instance::new();
    // Keys enough that not all of them fit into the pipe, and a reader that waits until the server is gone.
    instance.redis.run(&["debug", "populate", "200000", "key", "100"]);
    let pid = instance.redis.run(&["info", "server"]);
    let pid = pid.lines().find_map(|line| line.strip_prefix("process_id:")).unwrap().trim();
    let script =
        format!("exec /usr/bin/redis-cli \"$@\" | {{ head -c 1000; kill -9 {pid}; cat; }}");
    let run = instance.backup_with(&script).code(1);
    run.says(&["component redis of app", "the dump is not whole"]);
    assert!(instance.sandbox.list().is_empty());
}
