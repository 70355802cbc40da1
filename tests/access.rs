//! Accesses against a real `sshd` and a real Docker engine: what goes through a chain arrives as it was, secrets do not
//! show, and a broken line or a missing program is told.
#![allow(clippy::unwrap_used)]

mod support;

use belay::access::{Access, AccessError, Command};
use belay::model::event::Cancel;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::io::Read as _;
use std::time::Duration;
use support::servers::{Docker, Sshd};
use support::wait_until;

/// What the ways lead to.
struct Servers {
    sshd: Sshd,
    docker: Docker,
}

const CONTAINER: &str = "box";
const LIMIT: u64 = 1 << 20;

fn start() -> Servers {
    let docker = Docker::start();
    docker.image("busybox", &[]);
    docker.run(&[
        "run",
        "-d",
        "--name",
        CONTAINER,
        "-e",
        "GREETING=hello world",
        "busybox",
        "sleep",
        "100000",
    ]);
    let (name, value) = docker.variable();
    Servers { sshd: Sshd::start(&[(name, &value)]), docker }
}

impl Servers {
    fn access(&self, via: &str) -> Access {
        self.access_with(via, &Cancel::new())
    }

    fn access_with(&self, via: &str, cancel: &Cancel) -> Access {
        // A chain that begins in a container goes through ssh here, too: `docker` finds its engine by a variable of the
        // process, which tests that run beside each other cannot set.
        Access::new(via.parse().unwrap(), Some(self.sshd.config()), cancel)
    }
}

/// Tells each argument, and what ends it.
const TELL: &str = r#"for argument; do printf '%s\0' "$argument"; done"#;

fn told(access: &Access, arguments: &[Vec<u8>]) -> Vec<u8> {
    let command = Command::shell(TELL).arguments(arguments);
    access.run(&command, &[], LIMIT).unwrap().to_vec()
}

/// One program: the servers start once.
#[test]
fn through_ssh_and_docker() {
    let servers = start();
    any_bytes_arrive_as_they_were(&servers);
    secrets_arrive_and_do_not_show(&servers);
    streams_and_status_come_back(&servers);
    what_is_in_the_way_is_told(&servers);
    a_cancelled_command_ends_on_the_far_side(&servers);
    a_container_says_what_it_was_started_with(&servers);
    a_broken_line_is_a_failure(&servers);
}

fn any_bytes_arrive_as_they_were(servers: &Servers) {
    for (via, cases) in [("ssh:far", 16), ("ssh:far/docker:box", 8)] {
        let access = servers.access(via);
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let arguments = prop::collection::vec(prop::collection::vec(1_u8.., 0..40), 1..8);
        TestRunner::new(config)
            .run(&arguments, |arguments| {
                let expected: Vec<u8> =
                    arguments.iter().flat_map(|argument| [argument, &b"\0"[..]].concat()).collect();
                prop_assert_eq!(told(&access, &arguments), expected, "{}", via);
                Ok(())
            })
            .unwrap();
    }
    // All bytes there are, at least once.
    let all: Vec<u8> = (1..=255).collect();
    for via in ["ssh:far", "ssh:far/docker:box"] {
        let expected = [&all[..], b"\0"].concat();
        assert_eq!(told(&servers.access(via), std::slice::from_ref(&all)), expected, "{via}");
    }
}

/// The command lines of all processes on this machine; containers are seen from here, too.
fn command_lines() -> String {
    let mut all = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let is_process =
            entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        if is_process {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            all.push_str(&String::from_utf8_lossy(&line).replace('\0', " "));
            all.push('\n');
        }
    }
    all
}

fn secrets_arrive_and_do_not_show(servers: &Servers) {
    let secret = r#"a b"c'd\e$f`g !#%"#;
    for via in ["local", "ssh:far", "ssh:far/docker:box"] {
        let access = servers.access(via);
        let command = Command::shell(r#"printf '%s|%s|%s' "$WORD" "$OTHER" "$PLAIN"; cat; echo"#)
            .secret("WORD", secret)
            .secret("OTHER", "second")
            .variable("PLAIN", "a value");
        let output = access.run(&command, b" and input", LIMIT).unwrap();
        let output = String::from_utf8_lossy(&output).into_owned();
        assert_eq!(output, format!("{secret}|second|a value and input\n"), "{via}");
        // While it runs.
        let command = Command::shell("echo runs; cat").secret("WORD", "a-word-that-must-not-show");
        let mut running = access.start(&command, true).unwrap();
        let mut stdout = running.stdout();
        stdout.read_exact(&mut [0; 5]).unwrap();
        let lines = command_lines();
        assert!(lines.contains("echo runs"), "{via}: {lines}");
        assert!(!lines.contains("must-not-show"), "{via}: {lines}");
        drop(running.stdin());
        stdout.read_to_end(&mut Vec::new()).unwrap();
        running.finish().unwrap();
    }
    let command = Command::shell("true").secret("WORD", "two\nlines");
    let error = servers.access("ssh:far").run(&command, &[], LIMIT).unwrap_err();
    assert!(matches!(error, AccessError::SecretWithLineBreak { .. }), "{error}");
}

fn streams_and_status_come_back(servers: &Servers) {
    let access = servers.access("ssh:far/docker:box");
    let input: Vec<u8> = (0..4_000_000_u32).map(|number| (number % 251) as u8).collect();
    assert_eq!(access.run(&Command::new("cat"), &input, 8 << 20).unwrap().as_slice(), input);
    let failing = Command::shell("echo the reason >&2; exit 7");
    let error = access.run(&failing, &[], LIMIT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "sh (via ssh:far/docker:box) failed, exit status 7: the reason",
        "a banner is not what it said"
    );
    let path = "/tmp/it's a file";
    // A new one, and one that is there.
    access.replace_file(path, b"else\n").unwrap();
    access.replace_file(path, b"content\n").unwrap();
    assert_eq!(access.read_file(path, LIMIT).unwrap().as_slice(), b"content\n");
}

fn what_is_in_the_way_is_told(servers: &Servers) {
    let hint_of = |via: &str, program: &str| {
        let access = servers.access(via);
        let error = access
            .run(&Command::new(program).silence(Duration::from_mins(1)), &[], LIMIT)
            .unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    };
    let (error, hint) = hint_of("ssh:far/docker:nobody", "true");
    assert!(error.contains("No such container") && hint.contains("docker ps"), "{error} {hint}");
    let (error, hint) = hint_of("ssh:far/docker:box", "no-such-program");
    assert!(hint.contains("install no-such-program there"), "{error} {hint}");
    let (error, hint) = hint_of("ssh:far", "no-such-program");
    assert!(hint.contains("install no-such-program there"), "{error} {hint}");
    let (error, hint) = hint_of("ssh:127.0.0.1:1", "true");
    assert!(
        error.contains("Connection refused") && hint.contains("is the host up"),
        "{error} {hint}"
    );
    servers.docker.run(&["pause", CONTAINER]);
    let (error, hint) = hint_of("ssh:far/docker:box", "true");
    assert!(error.contains("paused") && hint.contains("unpause"), "{error} {hint}");
    servers.docker.run(&["unpause", CONTAINER]);
}

fn a_cancelled_command_ends_on_the_far_side(servers: &Servers) {
    let cancel = Cancel::new();
    let access = servers.access_with("ssh:far", &cancel);
    let mut running =
        access.start(&Command::shell("while echo tick-of-a-test; do :; done"), false).unwrap();
    let mut stdout = running.stdout();
    stdout.read_exact(&mut [0; 5]).unwrap();
    cancel.cancel();
    stdout.read_to_end(&mut Vec::new()).unwrap();
    assert!(matches!(running.finish(), Err(AccessError::Cancelled(_))));
    wait_until("the far command to end", || !command_lines().contains("tick-of-a-test"));
}

fn a_container_says_what_it_was_started_with(servers: &Servers) {
    let facts = servers.access("ssh:far/docker:box").container_facts().unwrap().unwrap();
    assert!(facts.environment.iter().any(|variable| variable.as_str() == "GREETING=hello world"));
    assert_eq!(facts.image, "busybox");
    assert!(facts.image_id.starts_with("sha256:"));
    assert!(servers.access("ssh:far").container_facts().unwrap().is_none());
}

fn a_broken_line_is_a_failure(servers: &Servers) {
    let access = servers.access("ssh:far");
    let mut running = access.start(&Command::shell("echo begun; cat"), true).unwrap();
    let mut stdout = running.stdout();
    stdout.read_exact(&mut [0; 6]).unwrap();
    // Its connections are children of the server's process.
    let server = servers.sshd.id();
    let children =
        std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    for child in children.split_whitespace() {
        let pid = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    stdout.read_to_end(&mut Vec::new()).unwrap();
    let error = running.finish().unwrap_err();
    assert!(error.hint().unwrap().contains("the line broke"), "{error}");
}
