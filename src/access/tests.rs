//! Commands on this host, and behind stand-ins for `ssh` and `docker` that hand on what they are given as the real ones do.
//! The real ones are in `tests/access.rs`.

use super::*;
use std::io::Read as _;
use std::time::{Duration, Instant};

fn local() -> Access {
    Access::new(Via::local(), None, &Cancel::new())
}

const LIMIT: u64 = 1 << 20;

#[test]
fn output_and_input_are_streams_and_the_status_counts() {
    let output = local().run(&Command::new("cat"), b"bytes \0 \xff", LIMIT).unwrap();
    assert_eq!(output.as_slice(), b"bytes \0 \xff");

    let failing = Command::shell("echo some; echo the reason >&2; exit 3");
    let error = local().run(&failing, &[], LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "sh (via local) failed, exit status 3: the reason");

    let missing = Command::new("no-such-program");
    let error = local().run(&missing, &[], LIMIT).unwrap_err();
    assert!(matches!(error, AccessError::Start { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("install no-such-program"));

    let much = Command::shell("head -c 100000 /dev/zero");
    assert!(matches!(local().run(&much, &[], 1000), Err(AccessError::TooMuch { .. })));
}

#[test]
fn much_on_both_sides_at_once_does_not_stand_still() {
    let input = vec![b'x'; 4 << 20];
    let loud = Command::shell("cat; head -c 300000 /dev/zero >&2");
    let output = local().run(&loud, &input, 8 << 20).unwrap();
    assert_eq!(output.len(), input.len());
}

#[test]
fn what_is_secret_is_in_the_environment_and_not_in_what_is_told() {
    let command = Command::shell("echo \"$WORD\"; echo \"the word is $WORD\" >&2; exit 1")
        .secret("WORD", "open-sesame")
        .variable("PLAIN", "yes");
    let error = local().run(&command, &[], LIMIT).unwrap_err();
    assert_eq!(error.to_string(), "sh (via local) failed, exit status 1: the word is …");
}

#[test]
fn one_that_says_nothing_is_given_up_with_all_that_it_started() {
    let marker = tempfile::tempdir().unwrap();
    let pid = marker.path().join("pid");
    let command = Command::shell("sleep 1000 & echo $! > \"$1\"; wait")
        .argument(pid.to_str().unwrap())
        .silence(Duration::from_millis(300));
    let begun = Instant::now();
    let error = local().run(&command, &[], LIMIT).unwrap_err();
    assert!(matches!(error, AccessError::Silent { .. }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_mins(1));
    let pid = std::fs::read_to_string(pid).unwrap();
    let status = format!("/proc/{}/stat", pid.trim());
    let is_gone = || std::fs::read_to_string(&status).map_or(true, |stat| stat.contains(") Z "));
    while !is_gone() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the child is still there");
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_consumer_is_no_silent_command() {
    let command = Command::shell("head -c 1000000 /dev/zero").silence(Duration::from_millis(200));
    let mut running = local().start(&command, false).unwrap();
    let mut stdout = running.stdout();
    let mut buffer = [0; 10];
    stdout.read_exact(&mut buffer).unwrap();
    // What is tested is the passing of time itself.
    std::thread::sleep(Duration::from_millis(600));
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 1_000_000 - 10);
    running.finish().unwrap();
}

#[test]
fn what_is_gentle_leaves_the_processors_to_others_where_it_can() {
    let nice = |command: Command| {
        let output = local().run(&command, &[], LIMIT).unwrap();
        String::from_utf8_lossy(&output).trim().to_owned()
    };
    let nicer = nice(Command::new("nice").variable("A", "b").gently(true));
    assert!(nicer.parse::<i32>().unwrap() >= 10, "{nicer}");
    // Where there is a shell, and nothing else.
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/bin/sh", directory.path().join("sh")).unwrap();
    let path = format!("PATH={}", directory.path().display());
    let alone = Command::new("env").arguments([&path, "sh", "-c", command::GENTLY, "belay"]);
    assert_eq!(nice(alone.arguments(["/bin/echo", "well"])), "well");
    let missing = local().run(&Command::new("no-such-program").gently(true), &[], LIMIT);
    let error = missing.unwrap_err().to_string();
    assert!(error.contains("no-such-program"), "{error}");
}

#[test]
fn cancelling_ends_what_runs() {
    let cancel = Cancel::new();
    let access = Access::new(Via::local(), None, &cancel);
    let mut running = access.start(&Command::shell("echo ready; sleep 1000"), false).unwrap();
    let mut ready = [0; 5];
    let mut stdout = running.stdout();
    stdout.read_exact(&mut ready).unwrap();
    cancel.cancel();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert!(matches!(running.finish(), Err(AccessError::Cancelled(_))));
}

#[test]
fn a_file_is_replaced_in_one_step_with_its_mode() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a file's .env");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let text = path.to_str().unwrap();
    local().replace_file(text, b"new \xff\n").unwrap();
    assert_eq!(local().read_file(text, LIMIT).unwrap().as_slice(), b"new \xff\n");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    local().replace_file(text, b"").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"");
}

/// Of a directory that somebody else owns, with a file of that one's own.
fn directory_of_nobody() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(".env");
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    for given in [directory.path(), &path] {
        chown(given, Some(NOBODY), Some(NOBODY)).expect("the tests run as root");
    }
    (directory, path)
}

const NOBODY: u32 = 65534;

fn owner_and_mode(path: &std::path::Path) -> (u32, u32) {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    let metadata = std::fs::metadata(path).unwrap();
    (metadata.uid(), metadata.permissions().mode() & 0o777)
}

#[test]
fn a_file_is_replaced_through_nobodys_links_and_second_names() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let (directory, path) = directory_of_nobody();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
    let new = directory.path().join(".env.belay-new");
    symlink(&victim, &new).unwrap();
    let text = path.to_str().unwrap();
    local().replace_file(text, b"secret").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
    assert_eq!(owner_and_mode(&path), (NOBODY, 0o640));
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(owner_and_mode(&victim), (0, 0o600));

    // What an earlier run left is open to others, and somebody has it open.
    std::fs::write(&new, "left").unwrap();
    let held = directory.path().join("held");
    std::fs::hard_link(&new, &held).unwrap();
    local().replace_file(text, b"another").unwrap();
    assert_eq!(std::fs::read_to_string(&held).unwrap(), "left");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "another");
}

#[test]
fn a_link_leads_only_to_files_of_its_own_owner() {
    use std::os::unix::fs::{lchown, symlink};
    let (directory, path) = directory_of_nobody();
    let link = directory.path().join("link");
    let text = link.to_str().unwrap();
    let plant = |to: &std::path::Path, owner| {
        let _ = std::fs::remove_file(&link);
        symlink(to, &link).unwrap();
        lchown(&link, Some(owner), Some(owner)).unwrap();
    };
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    plant(&victim, NOBODY);
    let error = local().replace_file(text, b"secret").unwrap_err().to_string();
    assert!(error.contains("a link of another owner than"), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
    for (to, owner) in [(std::path::Path::new(".env"), NOBODY), (&path, 0)] {
        plant(to, owner);
        local().replace_file(text, b"secret").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "secret");
        assert!(link.is_symlink());
        std::fs::write(&path, "old").unwrap();
    }
}

/// A file mounted over itself; unmounted with this handle.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn mount(path: &std::path::Path, options: &str) {
        let mut command = std::process::Command::new("mount");
        command.args(["-o", options]).args([path, path]);
        assert!(command.status().unwrap().success(), "the tests run as root");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        std::process::Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[test]
fn the_old_file_stays_beside_and_a_mounted_one_is_written_in_place() {
    let (directory, path) = directory_of_nobody();
    let text = path.to_str().unwrap();
    let replace = |content: &[u8], keep: &str| {
        local().stage_file(text, content)?;
        local().commit_staged(text, Some(keep))
    };
    let kept = replace(b"first", "kept-1").unwrap().unwrap();
    assert_eq!(kept, format!("{text}.kept-1"));
    // Again, as after a crash: what is kept is what was there first.
    assert_eq!(replace(b"second", "kept-1").unwrap().unwrap(), kept);
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "old");
    assert_eq!(owner_and_mode(std::path::Path::new(&kept)), (NOBODY, 0o640));
    assert_eq!(local().commit_staged(text, Some("kept-1")).unwrap().unwrap(), kept);
    assert_eq!(local().commit_staged(text, None).unwrap(), None);

    let spaced = directory.path().join("a \\b .env");
    std::fs::rename(&path, &spaced).unwrap();
    let text = spaced.to_str().unwrap();
    Mounted::mount(&spaced, "bind");
    let _mounted = Mounted(spaced.clone());
    local().stage_file(text, b"third, and longer").unwrap();
    let kept = local().commit_staged(text, Some("kept-2")).unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "second");
    local().replace_file(text, b"last").unwrap();
    assert_eq!(std::fs::read_to_string(&spaced).unwrap(), "last");
    assert_eq!(owner_and_mode(&spaced), (NOBODY, 0o640));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    Mounted::mount(&spaced, "remount,bind,ro");
    let error = local().stage_file(text, b"no").unwrap_err().to_string();
    assert!(error.contains("nobody may write to it"), "{error}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
}

#[test]
fn after_a_relay_failed_nobody_waits_for_an_answer() {
    use std::io::Write as _;
    use std::os::unix::net::UnixStream;

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tunnel = local().tunnel("127.0.0.1", port).unwrap();
    let connect = || {
        let stream = UnixStream::connect(tunnel.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok::<_, std::io::Error>(stream)
    };
    let mut first = connect().unwrap();
    first.write_all(b"x").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut byte = [0];
    server.read_exact(&mut byte).unwrap();
    server.write_all(&byte).unwrap();
    first.read_exact(&mut byte).unwrap();

    // The port is gone; the connection that there is goes on, as far as the server is concerned.
    drop(listener);
    let mut second = connect().unwrap();
    assert_eq!(second.read(&mut byte).unwrap(), 0);
    assert!(tunnel.failure().is_some());
    assert_eq!(first.read(&mut byte).unwrap(), 0);
    for _ in 0..3 {
        let said = connect().and_then(|mut stream| stream.read(&mut byte));
        match said {
            Ok(read) => assert_eq!(read, 0),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn what_nobody_wants_any_more_is_stopped_and_was_no_failure() {
    let running = local().start(&Command::new("sleep").argument("1000"), false).unwrap();
    running.stopper().stop();
    running.finish().unwrap();
}

#[test]
fn a_relay_ends_however_soon_its_connection_is_closed() {
    // A server that keeps a connection until its client has closed it, as most do.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || stream.unwrap().read_to_end(&mut Vec::new()));
        }
    });
    let relay = Command::shell(tunnel::RELAY).arguments(["127.0.0.1", port.as_str()]);
    let relay = relay.silence(Duration::from_secs(30));
    // Where one in twenty does not end this many do not pass, and more than there are processors makes them stumble.
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                for _ in 0..12 {
                    assert_eq!(local().run(&relay, &[], LIMIT).unwrap().as_slice(), b"");
                }
            });
        }
    });
}
