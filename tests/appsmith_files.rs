//! The directories of an Appsmith instance: read as a tar stream where it lives, or not at all.
#![allow(clippy::unwrap_used)]

mod support;

use belay::access::Access;
use belay::component::files::remote::{RemoteSwap, StageError};
use belay::model::event::Cancel;
use std::convert::Infallible;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::servers::{Docker, Mongod, Sshd};
use support::{
    Run, Running, Sandbox, Tree, assert_same, make_strange_tree, text, wait_until, write_secret,
};

struct Instance {
    sandbox: Sandbox,
    _mongod: Mongod,
}

impl Instance {
    /// Where it lives, and what else the configuration says.
    fn new(via: &str, more: &str) -> Self {
        let mongod = Mongod::start();
        mongod.python("client['appsmith'].config.insert_one({'_id': 1})");
        let sandbox = Sandbox::new();
        sandbox.configure(&["data"], "last = 1000");
        write_secret(&sandbox.path("url"), &mongod.url("appsmith"));
        let environment = sandbox.path("docker.env");
        let storage = sandbox.path("storage");
        fs::write(
            &environment,
            format!(
                "APPSMITH_ENCRYPTION_PASSWORD=p\nAPPSMITH_ENCRYPTION_SALT=s\nAPPSMITH_GIT_ROOT={}\n",
                text(&storage)
            ),
        )
        .unwrap();
        let mut config = fs::read_to_string(sandbox.config()).unwrap();
        config.extend([format!(
            "\n{more}\n[instance.app]\nplatform = \"appsmith\"\nvia = \"{via}\"\nenvironment = \"{}\"\n\
             component.mongodb = {{ url = \"file:{}\" }}\n",
            text(&environment),
            text(&sandbox.path("url")),
        )]);
        fs::write(sandbox.config(), config).unwrap();
        Self { sandbox, _mongod: mongod }
    }

    fn storage(&self) -> PathBuf {
        self.sandbox.path("storage")
    }

    fn belay(&self, arguments: &[&str]) -> Run {
        self.sandbox.belay(arguments)
    }

    /// Run with a `tar` that does this in the place of packing.
    fn with_tar(&self, script: &str, arguments: &[&str]) -> Run {
        let bin = self.sandbox.path("bin");
        fs::create_dir_all(&bin).unwrap();
        let calls = self.sandbox.path("calls");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *' -C '*) echo >> '{}'; {script} ;; *) exec /usr/bin/tar \"$@\" ;; esac\n",
            text(&calls)
        );
        fs::write(bin.join("tar"), script).unwrap();
        fs::set_permissions(bin.join("tar"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = self.sandbox.belay_command(arguments);
        command.env("PATH", format!("{}:{}", text(&bin), std::env::var("PATH").unwrap()));
        Run::of(command)
    }

    fn calls(&self) -> usize {
        let calls = fs::read(self.sandbox.path("calls")).unwrap_or_default();
        fs::remove_file(self.sandbox.path("calls")).ok();
        calls.len()
    }
}

#[test]
fn git_storage_comes_back_as_it_was_and_what_is_gone_is_told() {
    let instance = Instance::new("local", "");
    // There is none yet, and nobody misses it.
    let first = instance.belay(&["backup", "app", "--json"]).ok().json();
    assert_eq!(first["snapshots"][0]["warnings"], serde_json::json!([]));
    make_strange_tree(&instance.storage());
    let wanted = Tree::read(&instance.storage());
    let told = instance.belay(&["backup", "app", "--json"]).ok().json();
    let snapshot = &told["snapshots"][0];
    assert_eq!(
        (&snapshot["sealed"], &snapshot["warnings"]),
        (&true.into(), &serde_json::json!([]))
    );
    let shown = instance.belay(&["show", "latest:app"]).ok().stdout();
    assert!(shown.contains("git-storage  files"), "{shown}");
    let target = instance.sandbox.path("restored");
    let path = ["--path", "/files/git-storage"];
    let restore = ["restore", "latest:app", "--to-dir", text(&target)];
    instance.belay(&[&restore[..], &path].concat()).ok();
    assert_same(&wanted, &Tree::read(&target.join("files/git-storage")), "git-storage");
    instance.belay(&["check", "--read-data"]).ok();

    fs::remove_dir_all(instance.storage()).unwrap();
    // What is not there, or has nothing in it, is rather not mounted.
    let emptied = "component git-storage of app has no files now";
    instance.belay(&["backup", "app"]).code(1).says(&[emptied, "--allow-empty"]);
    instance.belay(&["backup", "app", "--allow-empty"]).ok();
    instance.belay(&["backup", "app"]).ok();
    make_strange_tree(&instance.storage());
    instance.belay(&["backup", "app"]).ok();
    fs::remove_dir_all(instance.storage()).unwrap();
    fs::create_dir(instance.storage()).unwrap();
    instance.belay(&["backup", "app"]).code(1).says(&[emptied]);
}

#[test]
fn a_tar_that_ends_badly_seals_nothing() {
    let instance = Instance::new("local", "");
    make_strange_tree(&instance.storage());
    fs::write(instance.storage().join("big"), vec![7; 3_000_000]).unwrap();
    let real = "/usr/bin/tar \"$@\"";
    for (script, said) in [
        (format!("{real}; exit 2"), "exit status 2"),
        (
            format!("{real}; echo 'tar: ./big: Cannot open: Permission denied' >&2; exit 2"),
            "Cannot open",
        ),
        (
            format!("{real}; echo 'tar: ./big: Read error' >&2; exit 0"),
            "without an error and said: tar: ./big: Read error",
        ),
        (format!("{real}; echo 'Error response from daemon: oops' >&2; exit 1"), "oops"),
        (format!("{real}; kill -9 $$"), "ended by signal 9"),
        (format!("{real} | head -c 2000000"), "the tar stream of"),
        (format!("{real} | head -c -10240"), "it ends too early"),
        ("exit 0".to_owned(), "it ends too early"),
        ("head -c 10240 /dev/zero".to_owned(), "it has no entries"),
        (format!("{real}; echo more"), "something follows its end mark"),
        ("echo 'no tar at all'".to_owned(), "it ends too early"),
        ("head -c 100000 /dev/urandom".to_owned(), "a block is no header"),
    ] {
        instance
            .with_tar(&script, &["backup", "app"])
            .code(1)
            .says(&["component git-storage of app", said]);
        assert_eq!(instance.calls(), 1, "{script}");
    }
    let bin = instance.sandbox.path("bin");
    fs::remove_file(bin.join("tar")).unwrap();
    std::os::unix::fs::symlink("/usr/bin/busybox", bin.join("tar")).unwrap();
    let mut command = instance.sandbox.belay_command(&["backup", "app"]);
    command.env("PATH", format!("{}:{}", text(&bin), std::env::var("PATH").unwrap()));
    Run::of(command).code(1).says(&["GNU tar 1.28 or newer is needed", "apk add tar"]);
    assert!(instance.sandbox.list().is_empty());
}

#[test]
fn what_changes_while_it_is_read_is_read_again_and_then_told() {
    let instance = Instance::new("local", "");
    make_strange_tree(&instance.storage());
    let real = "/usr/bin/tar \"$@\"";
    let changed = "echo 'tar: ./a: file changed as we read it' >&2; exit 1";
    let run =
        instance.with_tar(&format!("{real}; {changed}"), &["backup", "app", "--json"]).code(3);
    let told = run.json();
    let warning = told["snapshots"][0]["warnings"][0].as_str().unwrap();
    assert_eq!(
        warning,
        "git-storage: a changed each time it was read; the snapshot has it as it was read last."
    );
    assert_eq!(instance.calls(), 3);
    let once = instance.sandbox.path("once");
    let script = format!("{real}; [ -e '{0}' ] && exit 0; : > '{0}'; {changed}", text(&once));
    instance.with_tar(&script, &["backup", "app"]).ok();
    assert_eq!(instance.calls(), 2);
    instance.sandbox.belay_finds_nothing();
}

#[test]
fn through_ssh_and_docker_and_when_the_container_ends() {
    let docker = Docker::start();
    docker.image("app", &["/usr/bin/tar", "/usr/bin/find"]);
    docker.run(&["run", "-d", "--name", "app", "app", "sleep", "1000000"]);
    // busybox takes its own programs before others, its shell and `env` among them.
    docker.run(&["exec", "app", "rm", "/usr/bin/env", "/bin/sh"]);
    docker.run(&["cp", "/usr/bin/env", "app:/usr/bin/env"]);
    docker.run(&["cp", "/usr/bin/dash", "app:/bin/sh"]);
    docker.run(&["exec", "app", "sh", "-c", "mkdir -p /appsmith-stacks/ssl /appsmith-stacks/git-storage/w/a; cd /appsmith-stacks/git-storage/w/a; echo one > one; ln one two; ln -s one three; chown 1000:1000 one; echo k > /appsmith-stacks/ssl/key; chmod 400 /appsmith-stacks/ssl/key; printf 'APPSMITH_ENCRYPTION_PASSWORD=p\\nAPPSMITH_ENCRYPTION_SALT=s\\n' > /env"]);
    let (variable, socket) = docker.variable();
    let sshd = Sshd::start(&[(variable, &socket)]);
    let more = format!("[access]\nssh_config = \"{}\"\n", sshd.config().display());
    for via in ["ssh:far/docker:app", "docker:app"] {
        let instance = Instance::new(via, &more);
        let config = fs::read_to_string(instance.sandbox.config()).unwrap();
        let environment = instance.sandbox.path("docker.env");
        let config = config.replace(text(&environment), "/env");
        fs::write(instance.sandbox.config(), config).unwrap();
        let command = |arguments: &[&str]| {
            let mut command = instance.sandbox.belay_command(arguments);
            command.env(variable, &socket);
            command
        };
        let run = |arguments: &[&str]| Run::of(command(arguments));
        let taken = run(&["backup", "app", "--json"]).ok().json();
        let snapshot = &taken["snapshots"][0];
        assert_eq!(snapshot["sealed"], true, "{via}");
        let target = instance.sandbox.path("restored");
        run(&["restore", "latest:app", "--to-dir", text(&target)]).ok();
        let storage = target.join("files/git-storage/w/a");
        assert_eq!(fs::read_to_string(storage.join("two")).unwrap(), "one\n");
        let inode =
            |name| std::os::unix::fs::MetadataExt::ino(&fs::metadata(storage.join(name)).unwrap());
        assert_eq!(inode("one"), inode("two"));
        assert_eq!(
            std::os::unix::fs::MetadataExt::uid(&fs::metadata(storage.join("one")).unwrap()),
            1000
        );
        let key = fs::metadata(target.join("files/ssl/key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o7777, 0o400);
        docker.run(&["exec", "app", "sh", "-c", WAIT]);
        let before = instance.sandbox.list().len();
        let running = Running::start(command(&["backup", "app"]));
        wait_until("tar to have begun", || {
            let reached = ["exec", "app", "test", "-e", "/tmp/reached"];
            docker.command(&reached).status().unwrap().success()
        });
        let said = if via == "docker:app" {
            docker.run(&["kill", "app"]);
            "exit status 137"
        } else {
            end_connections(&sshd);
            "exit status 255"
        };
        running.wait().code(1).says(&["component git-storage of app", said]);
        assert_eq!(instance.sandbox.list().len(), before);
        if via != "docker:app" {
            docker.run(&[
                "exec",
                "app",
                "sh",
                "-c",
                "mv /usr/bin/tar.real /usr/bin/tar; rm /tmp/reached",
            ]);
        }
    }
}

/// Makes a tar that stops in the midst of packing.
const WAIT: &str = r#"mv /usr/bin/tar /usr/bin/tar.real
cat > /usr/bin/tar <<'END'
#!/bin/sh
case "$*" in
  *" -C "*) /usr/bin/tar.real "$@" | head -c 1000; : > /tmp/reached; sleep 1000000 ;;
  *) exec /usr/bin/tar.real "$@" ;;
esac
END
chmod 755 /usr/bin/tar"#;

/// Its connections are children of the server's process.
fn end_connections(sshd: &Sshd) {
    let server = sshd.id();
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    assert!(!children.is_empty());
    for child in children.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

/// Pack or unpack with tar.
fn tar(arguments: &[&str], root: &Path, input: &[u8]) -> Vec<u8> {
    let mut tar = Command::new("tar");
    tar.args(arguments).args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-C"]).arg(root);
    let pack: &[&str] = if arguments == ["--create"] { &["--format=pax", "."] } else { &[] };
    let child = tar.args(pack).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn directories_are_swapped_in_through_ssh_and_docker_on_a_volume_and_beside() {
    let docker = Docker::start();
    let programs = ["tar", "find", "mv", "stat", "touch", "readlink", "dash"];
    let programs = programs.map(|program| format!("/usr/bin/{program}"));
    docker.image("app", &programs.each_ref().map(String::as_str));
    docker.run(&[
        "run",
        "-d",
        "--name",
        "app",
        "-v",
        "storage:/stacks/volume",
        "app",
        "sleep",
        "1000000",
    ]);
    docker.run(&["exec", "app", "rm", "/usr/bin/env", "/bin/sh"]);
    docker.run(&["cp", "/usr/bin/env", "app:/usr/bin/env"]);
    docker.run(&["cp", "/usr/bin/dash", "app:/bin/sh"]);
    let old = "mkdir -p /stacks/beside; for d in volume beside; do echo old > /stacks/$d/both; echo old > /stacks/$d/old; done";
    docker.run(&["exec", "app", "sh", "-c", old]);
    let (variable, socket) = docker.variable();
    let sshd = Sshd::start(&[(variable, &socket)]);
    let cancel = Cancel::new();
    let access = Access::new("ssh:far/docker:app".parse().unwrap(), Some(sshd.config()), &cancel);
    let source = tempfile::tempdir().unwrap();
    make_strange_tree(source.path());
    fs::write(source.path().join("both"), "new").unwrap();
    let wanted = Tree::read(source.path());
    let stream = tar(&["--create"], source.path(), b"");
    let entries = wanted.len() as u64;
    for place in ["/stacks/volume", "/stacks/beside"] {
        let picture = || {
            let script = format!(
                "cd {place}; find . -name '.belay-*' -prune -o -type f -print0 | sort -z | xargs -0 sha256sum; stat -c '%a %u' ."
            );
            docker.run(&["exec", "app", "sh", "-c", &script])
        };
        let before = picture();
        let swap = RemoteSwap::new(&access, place, "j1");
        swap.stage(|output| -> Result<u64, StageError<Infallible>> {
            output.write_all(&stream)?;
            Ok(entries)
        })
        .unwrap();
        assert_eq!(picture(), before, "{place}");
        let kept = swap.swap().unwrap().unwrap();
        let after = picture();
        assert_ne!(after, before, "{place}");
        assert_eq!(docker.run(&["exec", "app", "cat", &format!("{kept}/both")]), "old\n");
        let mut back = docker.command(&["exec", "app", "tar", "--create", "--format=pax"]);
        back.args(["--numeric-owner", "--xattrs", "--exclude=./.belay-*", "-C", place, "."]);
        let target = tempfile::tempdir().unwrap();
        tar(&["--extract", "-p"], target.path(), &back.output().unwrap().stdout);
        assert_same(&wanted, &Tree::read(target.path()), place);
        swap.undo().unwrap();
        assert_eq!(picture(), before, "{place}");
        swap.swap().unwrap();
        assert_eq!(picture(), after, "{place}");
        swap.drop_old().unwrap();
    }
}
