//! Git-stored apps: mirrors, what is pushed away, what is in them, what staging has and production cannot read, and bringing one
//! back, with the git of this machine on the other side.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use support::servers::Sshd;
use support::{Run, Sandbox, text, write_secret};

/// Whatever git is told is the same everywhere.
fn git_in(directory: &Path, arguments: &[&str]) -> Run {
    let mut git = Command::new("git");
    git.current_dir(directory).args(["-c", "user.name=Dev", "-c", "user.email=dev@example.com"]);
    git.args(["-c", "commit.gpgsign=false", "-c", "advice.detachedHead=false"]).args(arguments);
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    git.env("GIT_TERMINAL_PROMPT", "0");
    Run::of(git)
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    git_in(directory, arguments).ok().stdout().trim().to_owned()
}

/// What is printed has each of these words.
fn prints(run: &Run, words: &[&str]) {
    let printed = run.stdout();
    for word in words {
        assert!(printed.contains(word), "'{word}' was expected:\n{printed}\n{}", run.stderr());
    }
}

/// A host that mirrors git repositories.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    /// With these sections in its configuration.
    fn new(sections: &str) -> Self {
        let sandbox = Sandbox::new();
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        config.push_str(sections);
        fs::write(sandbox.config(), config).unwrap();
        Self { sandbox }
    }

    /// One with a git repository `orders`, and a clone of it that somebody works in: a commit on master, one on staging.
    fn with_orders() -> (Self, PathBuf) {
        let host = Self::new("");
        let (server, work) = (host.sandbox.path("orders.git"), host.sandbox.path("work"));
        fs::create_dir(&work).unwrap();
        git(&work, &["init", "-q", "--bare", "-b", "master", text(&server)]);
        git(&work, &["init", "-q", "-b", "master"]);
        git(&work, &["remote", "add", "origin", text(&server)]);
        host.configure(&format!(
            "[git.orders]\nplatform = 'appsmith'\nurl = '{}'\n",
            text(&server)
        ));
        commit(&work, "application.json", "{}");
        git(&work, &["push", "-q", "origin", "master"]);
        (host, work)
    }

    fn configure(&self, sections: &str) {
        let mut config = fs::read_to_string(self.sandbox.config()).unwrap();
        write!(config, "\n{sections}").unwrap();
        fs::write(self.sandbox.config(), config).unwrap();
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        self.belay(&arguments).code_in(&[0, 3]).json()
    }

    fn mirror(&self) -> PathBuf {
        self.sandbox.state().join("mirrors/orders.git")
    }
}

fn commit(work: &Path, file: &str, content: &str) -> String {
    fs::write(work.join(file), content).unwrap();
    git(work, &["add", "-A"]);
    git(work, &["commit", "-q", "-m", &format!("{file} is {}", &content[..content.len().min(20)])]);
    git(work, &["rev-parse", "HEAD"])
}

/// The four git repositories as the platforms write them, and a host that mirrors them.
fn samples() -> Host {
    let host = Host::new("");
    let samples = host.sandbox.path("samples");
    let mut make = Command::new("tests/fixtures/git/make.sh");
    make.arg(&samples);
    Run::of(make).ok();
    let mut sections = String::from(
        "[instance.staging]\nplatform = 'appsmith'\nvia = 'docker:staging'\n\
         [instance.production]\nplatform = 'appsmith'\nvia = 'docker:production'\n\
         [pair.main]\nstaging = 'staging'\nproduction = 'production'\n",
    );
    for (name, platform, more) in [
        (
            "appsmith-orders",
            "appsmith",
            "pair = 'main'\nbranches = { staging = 'staging', production = 'master' }",
        ),
        ("tooljet-granular", "tooljet", ""),
        ("tooljet-legacy", "tooljet", ""),
        ("tooljet-metafree", "tooljet", ""),
    ] {
        let url = text(&samples.join(format!("{name}.git"))).to_owned();
        write!(sections, "[git.{name}]\nplatform = '{platform}'\nurl = '{url}'\n{more}\n").unwrap();
    }
    host.configure(&sections);
    host
}

#[test]
fn doctor_asks_the_git_repository_itself() {
    let (host, _work) = Host::with_orders();
    let of_orders = |run: &Run| {
        let findings = run.json();
        let all = findings.as_array().or_else(|| findings["findings"].as_array()).unwrap().clone();
        all.into_iter().find(|it| it["subject"] == "git repository orders").unwrap()
    };
    let found = of_orders(&host.belay(&["doctor", "orders", "--json"]));
    assert_eq!(found["verdict"], "ok", "{found}");
    assert!(found["message"].as_str().unwrap().ends_with("can be read: 1 ref"), "{found}");
    assert!(
        !host.mirror().exists(),
        "a look makes no mirror that a fetch would take for the lost one"
    );
    let server = host.sandbox.path("orders.git");
    fs::rename(&server, host.sandbox.path("elsewhere")).unwrap();
    let found = of_orders(&host.belay(&["doctor", "orders", "--json"]).code(1));
    assert_eq!(found["verdict"], "failure", "{found}");
    assert!(found["hint"].as_str().unwrap().contains("`url`"), "{found}");
}

#[test]
fn the_samples_are_listed_to_the_last_page_and_query_and_compared() {
    let host = samples();
    prints(&host.belay(&["apps", "list"]).code(3), &["never fetched", "belay apps fetch"]);
    let fetched = host.json(&["apps", "fetch"]);
    assert_eq!(fetched["fetched"].as_array().unwrap().len(), 4, "{fetched}");
    let list = host.json(&["apps", "list"]);
    let said: Vec<String> = list["apps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|app| {
            format!("{}/{} {} {}", app["git"], app["app"], app["pages"], app["queries"])
                .replace('"', "")
        })
        .collect();
    assert_eq!(
        said,
        [
            "appsmith-orders/appsmith-orders 2 2",
            "tooljet-granular/orders 0 0",
            "tooljet-legacy/Inventory 0 0",
            "tooljet-legacy/Order desk 0 0",
            "tooljet-metafree/orders 0 0",
        ],
        "{list}"
    );
    let shown = host.json(&["apps", "show", "appsmith-orders", "--at", "staging"]);
    assert_eq!(shown["apps"][0]["pages"][0]["name"], "Home", "{shown}");
    assert_eq!(shown["apps"][0]["pages"][1]["queries"][0], "getOrders", "{shown}");
    prints(&host.belay(&["apps", "show", "Order desk"]).ok(), &["Order desk", "v1"]);
    host.belay(&["apps", "show", "orders"]).code(2).says(&["several", "tooljet-granular/orders"]);
    host.belay(&["apps", "show", "nothing"]).code(2).says(&["tooljet-legacy/Order desk"]);

    let status = ["apps", "status", "main", "--production-version", "v2.4.1"];
    let compared = &host.json(&status)["git"][0];
    assert_eq!(compared["relation"]["ahead"], 2, "{compared}");
    assert_eq!(compared["relation"]["behind"], 0, "{compared}");
    assert_eq!(compared["readable"]["verdict"], "not_readable", "{compared}");
    let raised = compared["raised_by"]["subject"].as_str().unwrap();
    assert!(raised.starts_with("System generated commit"), "{compared}");
    assert_eq!(compared["commits"][1]["changed"]["changes"][0]["page"], "Home", "{compared}");
    prints(
        &host.belay(&status).ok(),
        &[
            "Staging is 2 commits ahead",
            "NOT readable by production",
            "server schema 13",
            "was raised by",
            "Add a chart to Home",
        ],
    );
    let newer = host.json(&["apps", "status", "--production-version", "v2.5.0"]);
    assert_eq!(newer["git"][0]["readable"]["verdict"], "readable", "{newer}");

    prints(&host.belay(&["apps", "diff", "appsmith-orders", "master..staging"]).ok(), &["Home"]);
    prints(&host.belay(&["apps", "log", "tooljet-legacy/Inventory"]).ok(), &["Inventory v2"]);
    let kept = host.belay(&["apps", "log", "appsmith-orders", "--kept"]).ok();
    prints(&kept, &["Nothing was pushed away"]);
}

#[test]
fn what_was_pushed_away_comes_back_from_the_mirror_the_repository_and_a_new_catalog() {
    let (host, work) = Host::with_orders();
    let first = git(&work, &["rev-parse", "HEAD"]);
    git(&work, &["checkout", "-q", "-b", "topic"]);
    let topic = commit(&work, "topic", "1");
    git(&work, &["checkout", "-q", "master"]);
    let lost = commit(&work, "lost", "1");
    git(&work, &["tag", "v1"]);
    git(&work, &["push", "-q", "origin", "--all"]);
    git(&work, &["push", "-q", "origin", "--tags"]);
    host.belay(&["backup", "orders"]).ok();

    // Forced back, a branch removed, a tag moved, and the server cleaned up.
    git(&work, &["reset", "-q", "--hard", &first]);
    let new = commit(&work, "new", "1");
    git(&work, &["tag", "-f", "v1"]);
    git(&work, &["push", "-q", "--force", "origin", "master", "v1"]);
    git(&work, &["push", "-q", "origin", ":topic"]);
    let server = host.sandbox.path("orders.git");
    git(&server, &["-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now"]);
    git_in(&server, &["cat-file", "-e", &lost]).code_in(&[1, 128]);

    let id = host.json(&["backup", "orders"])["snapshots"][0]["id"].as_str().unwrap().to_owned();
    let kept = host.json(&["apps", "log", "orders", "--kept"]);
    let kept = kept["kept"].as_array().unwrap().clone();
    let mut said: Vec<String> = kept
        .iter()
        .map(|it| {
            format!("{} {} {}", it["name"], it["from"], it["commits_dropped"]).replace('"', "")
        })
        .collect();
    said.sort();
    let mut expected = [
        format!("refs/heads/master {lost} 1"),
        format!("refs/heads/topic {topic} 1"),
        format!("refs/tags/v1 {lost} 1"),
    ];
    expected.sort();
    assert_eq!(said, expected);
    assert_eq!(git(&host.mirror(), &["rev-parse", "refs/heads/master"]), new);
    prints(
        &host.belay(&["apps", "log", "orders", "--kept"]).ok(),
        &["was rewritten", "was removed", "lost is 1"],
    );

    // Nothing new is told again.
    host.belay(&["backup", "orders"]).ok();
    let again = host.json(&["apps", "log", "orders", "--kept"]);
    assert_eq!(again["kept"].as_array().unwrap().len(), 3);
    assert!(!host.belay(&["backup", "orders"]).ok().stderr().contains("rewritten"));

    // What restic makes of the snapshot is a git repository, with all of it.
    let out = host.sandbox.restic_restore(&id);
    let restored = out.root().join("apps/orders.git");
    git(&restored, &["fsck", "--full", "--strict"]);
    let clone = host.sandbox.path("clone");
    git(&host.sandbox.path(""), &["clone", "-q", text(&restored), text(&clone)]);
    assert_eq!(git(&clone, &["rev-parse", "HEAD"]), new);
    git(&restored, &["cat-file", "-e", &lost]);
    let manifest: Value =
        serde_json::from_slice(&fs::read(out.root().join("manifest.json")).unwrap()).unwrap();
    let details = &manifest["components"][0]["details"];
    assert_eq!(details["refs"]["refs/heads/master"], new.as_str(), "{manifest}");
    assert_eq!(details["rewrites"].as_array().unwrap().len(), 3, "{manifest}");

    // The work that was pushed away comes back as a branch, which is pushed and can be merged going forwards.
    let restore = ["apps", "restore", "orders", "--at", &lost, "--branch", "bring-back"];
    prints(&host.belay(&restore).ok(), &["bring-back", "git merge --ff-only"]);
    git_in(&server, &["rev-parse", "bring-back"]).code(128);
    let pushed: Vec<&str> = restore.iter().copied().chain(["--push"]).collect();
    prints(&host.belay(&pushed).ok(), &["It was pushed"]);
    git(&work, &["fetch", "-q", "origin"]);
    git(&work, &["merge", "-q", "--ff-only", "origin/bring-back"]);
    assert!(work.join("lost").exists() && !work.join("new").exists());
    git(&work, &["merge-base", "--is-ancestor", &lost, "HEAD"]);
    git(&work, &["merge-base", "--is-ancestor", &new, "HEAD"]);
    host.belay(&pushed).code(1).says(&["already", "name another one"]);

    // The host burnt: catalog and mirror are made again from the repository.
    fs::remove_dir_all(host.sandbox.state()).unwrap();
    host.belay(&["catalog", "rebuild"]).ok();
    host.belay(&["apps", "show", "orders"]).code(1).says(&["never fetched"]);
    let directory = host.sandbox.path("files");
    host.belay(&[
        "apps",
        "restore",
        "orders",
        "--from",
        "latest:orders",
        "--to-dir",
        text(&directory),
    ])
    .ok();
    assert!(directory.join("new").exists() && !directory.join("lost").exists());
    host.belay(&["apps", "restore", "orders", "--from", &id, "--branch", "again"]).ok();
}

#[test]
fn a_mirror_that_is_lost_comes_back_with_what_was_pushed_away_and_a_damaged_one_is_no_snapshot() {
    let (host, work) = Host::with_orders();
    let lost = commit(&work, "lost", "1");
    git(&work, &["push", "-q", "origin", "master"]);
    host.belay(&["backup", "orders"]).ok();
    git(&work, &["reset", "-q", "--hard", "HEAD~1"]);
    commit(&work, "new", "1");
    git(&work, &["push", "-q", "--force", "origin", "master"]);
    host.belay(&["backup", "orders"]).ok();
    let kept = || {
        let log = host.json(&["apps", "log", "orders", "--kept"]);
        log["kept"].as_array().unwrap().len()
    };

    // A restoring branch is ours: the next fetch leaves it alone.
    host.belay(&["apps", "restore", "orders", "--at", &lost, "--branch", "mine"]).ok();
    host.belay(&["backup", "orders"]).ok();
    git(&host.mirror(), &["rev-parse", "refs/belay/restored/mine"]);
    assert_eq!(kept(), 1);

    // It is not begun anew without what was pushed away.
    fs::remove_dir_all(host.mirror()).unwrap();
    host.belay(&["apps", "fetch"]).code(1).says(&["not there any more", "belay backup orders"]);
    host.belay(&["backup", "orders"]).code(3).says(&["it is back as it was in snapshot"]);
    git(&host.mirror(), &["cat-file", "-e", &lost]);
    assert_eq!(kept(), 1);

    let objects = fs::read_dir(host.mirror().join("objects/pack")).unwrap();
    let files = objects.map(|it| it.unwrap().path());
    for file in files.filter(|path| path.extension().is_some_and(|it| it == "idx")) {
        fs::remove_file(&file).unwrap();
        fs::write(&file, "").unwrap();
    }
    host.belay(&["backup", "orders"]).code(1).says(&["damaged: move", "brings it back"]);
    fs::remove_dir_all(host.mirror()).unwrap();
    host.belay(&["backup", "orders"]).code(3);
    assert_eq!(kept(), 1);
}

#[test]
fn mirrors_go_into_the_snapshots_of_an_instance_too_and_a_git_server_that_is_away_keeps_none_from_it()
 {
    let (host, work) = Host::with_orders();
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let config = config.replace("[instance.data]\n", "[instance.data]\ngit = [\"orders\"]\n");
    fs::write(host.sandbox.config(), config).unwrap();
    fs::write(host.sandbox.source().join("upload"), "1").unwrap();
    let server = host.sandbox.path("orders.git");
    let away = host.sandbox.path("away");

    fs::rename(&server, &away).unwrap();
    host.belay(&["backup", "data"]).code(1).says(&["git repository orders", "cannot be reached"]);
    fs::rename(&away, &server).unwrap();
    let added = |host: &Host| {
        host.json(&["backup", "data"])["snapshots"][0]["added_bytes"].as_u64().unwrap()
    };
    added(&host);
    let nothing_new = added(&host);
    let big: Vec<String> = (0..200_000).map(|number| format!("{:x}", number * 7919)).collect();
    let big = big.join(" ");
    commit(&work, "big", &big);
    git(&work, &["push", "-q", "origin", "master"]);
    let pushed = added(&host);
    let nothing_again = added(&host);
    assert!(pushed > 200_000 && nothing_new < 20_000, "{pushed} {nothing_new}");
    assert!(nothing_again < 20_000, "a night grows by what was pushed: {nothing_again}");

    fs::rename(&server, &away).unwrap();
    let run = host.belay(&["backup", "data"]).code(3).says(&["orders", "as it was at"]);
    drop(run);
    host.belay(&["backup", "orders"]).code(1).says(&["cannot be reached", "is `url` right"]);
    fs::rename(&away, &server).unwrap();

    let out = host.sandbox.restic_restore("latest");
    git(&out.root().join("apps/orders.git"), &["fsck", "--full", "--strict"]);
    assert!(out.root().join("files").exists());
    host.belay(&["restore", "latest:orders", "--into", "orders", "--yes"])
        .code(2)
        .says(&["belay apps restore"]);
}

/// git over https, for as long as this lives.
struct GitHttps(Child);

impl GitHttps {
    fn start(host: &Host, login: &str) -> (Self, u16) {
        let path = |name: &str| host.sandbox.path(name);
        let run = |arguments: &str| {
            let mut openssl = Command::new("openssl");
            openssl.args(arguments.split(' ')).current_dir(path(""));
            Run::of(openssl).ok();
        };
        fs::write(path("names"), "subjectAltName = IP:127.0.0.1\n").unwrap();
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        run(&format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=authority"));
        run(&format!("req {key} -keyout key.pem -out request -subj /CN=here"));
        run(
            "x509 -req -in request -CA ca.pem -CAkey ca.key -CAcreateserial -out certificate.pem -days 2 -extfile names",
        );
        let mut server = Command::new("/usr/bin/python3")
            .arg("tests/support/servers/git_https.py")
            .args([text(&path("")), text(&path("certificate.pem")), text(&path("key.pem")), login])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (Self(server), line.trim().parse().unwrap())
    }
}

impl Drop for GitHttps {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// No file below a directory has the secret.
fn assert_nowhere(secret: &str, directory: &Path) {
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "--", secret, text(directory)]);
    let found = Run::of(grep).code_in(&[0, 1]).stdout();
    assert_eq!(found, "", "the secret is in these");
}

/// Run with every argument list written down: none has the secret.
fn without_secrets_in_arguments(
    host: &Host,
    arguments: &[&str],
    secrets: &[&str],
    authority: &Path,
) -> Run {
    let trace = host.sandbox.path("trace");
    let belay = host.sandbox.belay_command(arguments);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-s", "100000", "-v", "-e", "trace=execve", "-o", text(&trace)]);
    strace.arg(belay.get_program()).args(belay.get_args());
    host.sandbox.tidy(&mut strace);
    strace.env("SSL_CERT_FILE", authority);
    let run = Run::of(strace);
    let traced = fs::read_to_string(trace).unwrap();
    assert!(traced.contains("git-worker"), "{traced}");
    for secret in secrets {
        assert!(!traced.contains(secret), "an argument or a variable has {secret}");
        assert!(
            !run.stdout().contains(secret) && !run.stderr().contains(secret),
            "{secret} is told"
        );
    }
    run
}

#[test]
fn over_https_it_is_the_token_that_lets_in_and_it_shows_nowhere() {
    let (host, work) = Host::with_orders();
    let (_server, port) = GitHttps::start(&host, "oauth2:a-made-up-token");
    let authority = host.sandbox.path("ca.pem");
    let secrets = host.sandbox.fresh_directory();
    let token = secrets.path().join("token");
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let place = text(&host.sandbox.path("orders.git")).to_owned();
    let with = |lines: &str| {
        let url = format!("https://127.0.0.1:{port}/orders.git'\n{lines}");
        fs::write(host.sandbox.config(), config.replace(&format!("{place}'"), &url)).unwrap();
    };
    let fetch = |authority: &Path| {
        without_secrets_in_arguments(
            &host,
            &["apps", "fetch"],
            &["a-made-up-token", "wrong-token"],
            authority,
        )
    };
    with("");
    fetch(&authority).code(1).says(&["token = "]);
    with(&format!("token = 'file:{}'", text(&token)));
    write_secret(&token, "wrong-token");
    fetch(&authority).code(1).says(&["is the token right"]);
    write_secret(&token, "a-made-up-token");
    fetch(&host.sandbox.path("certificate.pem")).code(1).says(&["authority that this host trusts"]);
    fetch(&authority).ok();
    assert_eq!(git(&host.mirror(), &["rev-parse", "master"]), git(&work, &["rev-parse", "HEAD"]));
    assert_nowhere("a-made-up-token", &host.sandbox.state());
}

#[test]
fn over_ssh_the_host_has_to_be_known_and_the_key_to_be_opened() {
    support::require_root("sshd lets root in");
    let (host, work) = Host::with_orders();
    let sshd = Sshd::start(&[]);
    let key = sshd.directory().join("closed");
    let mut keygen = Command::new("ssh-keygen");
    keygen.args([
        "-q",
        "-t",
        "ed25519",
        "-N",
        "a made-up passphrase",
        "-C",
        "test",
        "-f",
        text(&key),
    ]);
    Run::of(keygen).ok();
    fs::copy(sshd.directory().join("closed.pub"), sshd.directory().join("authorized")).unwrap();
    let passphrase = sshd.directory().join("passphrase");
    let place = text(&host.sandbox.path("orders.git")).to_owned();
    let config = fs::read_to_string(host.sandbox.config()).unwrap();
    let with = |lines: &str| {
        let url = format!("ssh://root@127.0.0.1:{}{place}'\n{lines}", sshd.port());
        fs::write(host.sandbox.config(), config.replace(&format!("{place}'"), &url)).unwrap();
    };
    let secrets = ["a made-up passphrase", "PRIVATE KEY", "wrong passphrase"];
    let fetch = || without_secrets_in_arguments(&host, &["apps", "fetch"], &secrets, &key);
    let opened =
        format!("ssh_key = 'file:{}'\nssh_passphrase = 'file:{}'", text(&key), text(&passphrase));
    with(&opened);
    write_secret(&passphrase, "a made-up passphrase");
    fetch().code(1).says(&["SHA256:", "known_hosts", "ssh-keyscan"]);
    fs::create_dir(host.sandbox.path(".ssh")).unwrap();
    fs::copy(sshd.directory().join("known_hosts"), host.sandbox.path(".ssh/known_hosts")).unwrap();
    write_secret(&passphrase, "wrong passphrase");
    fetch().code(1).says(&["is `ssh_passphrase` right"]);
    with("");
    fetch().code(1).says(&["ssh_key = "]);
    with(&opened);
    write_secret(&passphrase, "a made-up passphrase");
    fetch().ok();
    let lost = commit(&work, "pushed", "1");
    git(&work, &["push", "-q", "origin", "master"]);
    fetch().ok();
    git(&host.mirror(), &["cat-file", "-e", &lost]);
    let push = ["apps", "restore", "orders", "--at", "master~1", "--branch", "back", "--push"];
    without_secrets_in_arguments(&host, &push, &secrets, &key).ok();
    git(&host.sandbox.path("orders.git"), &["rev-parse", "refs/heads/back"]);
    assert_nowhere("a made-up passphrase", &host.sandbox.state());
    assert_nowhere("PRIVATE KEY", &host.sandbox.state());
    let mirror = fs::read_to_string(host.mirror().join("config")).unwrap();
    assert!(!mirror.contains("127.0.0.1"), "{mirror}");
}
