//! The scripts, on this machine and as in a container.

use super::*;
use std::process::Command;

/// Run a script; as the first process of a container would have it, or on this machine.
fn run(in_container: bool, script: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(if in_container { "unshare" } else { "sh" });
    if in_container {
        command.args(["--pid", "--fork", "--mount-proc", "sh"]);
    }
    command
        .arg("-c")
        .arg(with_born(&script.replace("END_STOP", END_STOP)))
        .arg("belay")
        .args(arguments);
    command.stderr(std::process::Stdio::null()).status().unwrap().success()
}

#[test]
fn what_was_stopped_in_a_container_that_was_started_again_is_not_stopped() {
    let token = format!("of-tests-{}", std::process::id());
    let file = format!("/tmp/belay-stopped-{token}");
    for in_container in [false, true] {
        assert!(run(in_container, STOP, &[&token, "900", "true", "true"]));
        if in_container {
            // Two that begin within a hundredth of a second begin at the same time.
            let is_over = || !run(true, RENEW, &[&token]);
            assert!((0..1_000).any(|_| is_over()), "it counts as stopped for ever");
            assert!(!run(true, HOLD, &[&token]));
            std::fs::remove_file(&file).unwrap();
        } else {
            assert!(run(false, RENEW, &[&token]) && run(false, HOLD, &[&token]));
            assert!(run(false, IS_HELD, &[&token]));
            assert!(!run(true, IS_HELD, &[&token]), "another first process");
            assert!(run(false, FORGET, &[&token]));
        }
        assert!(!run(in_container, IS_HELD, &[&token]));
        assert!(!std::path::Path::new(&file).exists());
        assert!(!run(in_container, RENEW, &[&token]));
    }
}

#[test]
fn a_stop_that_nobody_waits_for_ends_before_anything_is_started() {
    let token = format!("that-goes-on-{}", std::process::id());
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let line = |what: &str| format!("echo {what} >> {}", log.display());
    let stop = format!("sleep 2; {}", line("stopped"));
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(run(false, STOP, &[&token, "900", &stop, "true"])));
        let mark = format!("/tmp/belay-stopped-{token}.stopping");
        while !std::path::Path::new(&mark).exists() {
            std::thread::yield_now();
        }
        let start = [END_STOP, START].concat();
        assert!(run(false, &start, &[&token, &line("started"), ""]));
    });
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "stopped\nstarted\n");
}
