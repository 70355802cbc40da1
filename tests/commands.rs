//! What commands do with odd arguments, several repositories, and a catalog or a repository that cannot be used.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{PASSWORD, Run, Sandbox, Tree, assert_same, text, wait_until, write_file};

/// A sandbox with the repositories `main` and `other`, and in each an instance with a snapshot: `data` and `web`.
fn with_two_repositories() -> (Sandbox, String, String) {
    let sandbox = Sandbox::without_repository();
    sandbox.configure(&["data", "web"], "last = 10");
    let mut config = fs::read_to_string(sandbox.config()).unwrap();
    for (instance, repository) in [("data", "main"), ("web", "other")] {
        let section = format!("[instance.{instance}]\n");
        config = config.replace(&section, &format!("{section}repository = \"{repository}\"\n"));
    }
    let (url, password) = (sandbox.path("other"), sandbox.password_file());
    let (url, password) = (text(&url), text(&password));
    write!(config, "[repository.other]\nurl = \"{url}\"\npassword = \"file:{password}\"\n")
        .unwrap();
    fs::write(sandbox.config(), config).unwrap();
    for repository in ["main", "other"] {
        sandbox.belay(&["init", "--repository", repository]).ok();
    }
    let mut snapshots = ["data", "web"].map(|instance| {
        write_file(&sandbox.source_of(instance).join("a"), instance.as_bytes());
        let done = sandbox.belay(&["backup", instance, "--json"]).ok().json();
        done["snapshots"][0]["id"].as_str().unwrap().to_owned()
    });
    let [data, web] = &mut snapshots;
    (sandbox, std::mem::take(data), std::mem::take(web))
}

#[test]
fn snapshots_are_found_in_whichever_repository_they_are() {
    let (sandbox, data, web) = with_two_repositories();
    for (snapshot, other) in [(&data, "other"), (&web, "main")] {
        assert!(sandbox.belay(&["show", &snapshot[..8]]).ok().stdout().contains(snapshot.as_str()));
        sandbox.belay(&["show", snapshot, "--repository", other]).code(2).says(&["no snapshot"]);
    }
    for (name, snapshot) in [("latest:data", &data), ("latest:web", &web)] {
        assert!(sandbox.belay(&["show", name]).ok().stdout().contains(snapshot.as_str()));
        sandbox.belay(&["ls", name]).ok();
        sandbox.belay(&["pin", name]).ok();
        sandbox.belay(&["unpin", name]).ok();
    }
    sandbox.belay(&["show", "latest:nobody"]).code(2).says(&["no repository has", "belay list"]);
    sandbox.belay(&["diff", "latest:data", &web]).code(2).says(&["different repositories"]);
    // The other repository is not needed for it.
    fs::rename(sandbox.path("other"), sandbox.path("away")).unwrap();
    sandbox.belay(&["show", "latest:data"]).ok();
    sandbox.belay(&["show", &data]).code(3).says(&["other", "passed over"]);
    sandbox.belay(&["show", &web]).code(10).says(&["there is no repository"]);
}

#[test]
fn a_repository_that_is_away_hides_nothing_of_the_others() {
    let (sandbox, data, _) = with_two_repositories();
    fs::rename(sandbox.path("other"), sandbox.path("away")).unwrap();
    let run = sandbox.belay(&["list"]).code(3).says(&["other", "there is no repository"]);
    assert!(
        run.stdout()
            .lines()
            .any(|line| line.starts_with(&format!("{}  data      main", &data[..8]))),
        "{run}"
    );
    let list = sandbox.belay(&["list", "--json"]).code(3).json();
    assert_eq!(list[0]["repository"], "main", "{list:#}");
    assert!(run.stdout().contains(&data[..8]), "{run}");
    let status = sandbox.belay(&["status", "--json"]).code(3).json();
    let web = status["instances"].as_array().unwrap().iter().find(|one| one["name"] == "web");
    assert!(web.unwrap()["snapshots"].is_null(), "{status:#}");
    assert!(status["problems"].to_string().contains("Repository other"), "{status:#}");
    let status = sandbox.belay(&["status"]).code(3).stdout();
    let web = status.lines().find(|line| line.starts_with("web ")).unwrap();
    assert!(web.contains("unknown"), "{status}");
    fs::rename(sandbox.repository(), sandbox.path("away too")).unwrap();
    sandbox.belay(&["list"]).code(10);
}

#[test]
fn a_catalog_that_cannot_be_used_keeps_nobody_from_restoring() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("a"), b"content");
    let snapshot = sandbox.backup();
    let catalog = sandbox.state().join("catalog.sqlite");
    for damage in ["no database", "a directory"] {
        if damage == "no database" {
            fs::write(&catalog, "this is no database".repeat(1000)).unwrap();
        } else {
            fs::remove_file(&catalog).unwrap();
            fs::create_dir(&catalog).unwrap();
        }
        for arguments in [
            &["list"][..],
            &["show", "latest:data"],
            &["ls", &snapshot[..8]],
            &["diff", &snapshot, "latest:data"],
            &["check"],
            &["status"],
        ] {
            let run = sandbox.belay(arguments).code(3);
            assert!(run.stderr().contains("The catalog cannot be used"), "{damage}: {run}");
        }
        assert!(sandbox.belay(&["list"]).code(3).stdout().contains(&snapshot[..8]), "{damage}");
        let target = sandbox.fresh_directory();
        sandbox.belay(&["restore", "latest:data", "--to-dir", text(target.path())]).code(3);
        let restored = target.path().join("files/source-data");
        assert_same(&Tree::read(&sandbox.source()), &Tree::read(&restored), damage);
        sandbox.belay(&["key", "list"]).code(3).says(&["The catalog cannot be used"]);
        let status = sandbox.belay(&["status", "--json"]).code(3).json();
        assert_eq!(status["instances"][0]["last_good"], snapshot, "{status:#}");
        assert_eq!(status["instances"][0]["last_run"], "unknown", "{status:#}");
        let doctor = sandbox.belay(&["doctor"]).code(1).stdout();
        assert!(doctor.contains("FAIL  catalog: "), "{doctor}");
        assert!(doctor.contains("ok    repository main: "), "{doctor}");
        // What writes to the catalog cannot do without.
        sandbox.belay(&["backup", "data"]).code(1).says(&["catalog"]);
    }
    fs::remove_dir(&catalog).unwrap();
    sandbox.belay(&["catalog", "rebuild"]).code_in(&[0, 3]);
    // The recovery key is known by its label; that it works is not.
    let status = sandbox.belay(&["status"]).code(3).stdout();
    assert!(status.contains("has a recovery key"), "{status}");
    sandbox.backup();
}

#[test]
fn a_bare_rebuild_replaces_no_catalog_that_knows_more() {
    let (sandbox, data, _) = with_two_repositories();
    let (main, password) = (sandbox.repository(), sandbox.password_file());
    let bare = |state: &Path| {
        let state = ["catalog", "rebuild", "--json", "--state-dir", text(state)];
        sandbox.belay_bare(&main, &password, &state)
    };
    let before = fs::read(sandbox.state().join("catalog.sqlite")).unwrap();
    let refused = bare(&sandbox.state()).code(1);
    refused.says(&["other repositories", text(&sandbox.path("other")), "--state-dir DIR"]);
    assert_eq!(fs::read(sandbox.state().join("catalog.sqlite")).unwrap(), before);
    let elsewhere = sandbox.path("elsewhere");
    for _ in 0..2 {
        let rebuilt = bare(&elsewhere).ok().json();
        assert_eq!(rebuilt["catalog"], text(&elsewhere.join("catalog.sqlite")), "{rebuilt:#}");
        assert_eq!(rebuilt["snapshots"], 1, "{rebuilt:#}");
    }
    // With the configuration it is made from both.
    let told = sandbox.belay(&["catalog", "rebuild"]).ok().stdout();
    let catalog = sandbox.state().join("catalog.sqlite");
    assert!(told.contains(&format!("The catalog {} was made", catalog.display())), "{told}");
    assert!(told.contains("2 snapshots"), "{told}");
    assert!(sandbox.belay(&["list"]).ok().stdout().contains(&data[..8]));
}

#[test]
fn options_that_a_command_would_pass_over_are_refused() {
    let sandbox = Sandbox::new();
    for command in [
        &["backup", "data"][..],
        &["status"],
        &["doctor"],
        &["adopt", "data"],
        &["config", "check"],
    ] {
        let run = Run::of(sandbox.belay_command(&[command, &["--repository", "main"]].concat()));
        run.code(2).says(&["takes no --repository", "list, show", "prune"]);
    }
    for command in [&["prune"][..], &["pin", "ab"], &["key", "list"], &["init"], &["demo"]] {
        let bare = sandbox.belay_bare(&sandbox.repository(), &sandbox.password_file(), command);
        bare.code(2).says(&["takes no --password-file", "restore --to-dir", "config recover"]);
    }
    let rebuild = sandbox.belay(&["catalog", "rebuild", "--repository", "main"]);
    rebuild.code(2).says(&["takes no --repository without --password-file"]);
    let url = text(&sandbox.repository()).to_owned();
    sandbox.belay(&["list", "--repository", &url]).code(2).says(&["--password-file"]);
    sandbox.belay(&["list", "--repository", "main"]).ok();
}

#[test]
fn odd_names_can_be_given_as_they_are_and_as_they_are_shown() {
    let sandbox = Sandbox::new();
    let names: [&[u8]; 4] =
        [b"latin-\xff", b"tab\tand\nline", b"back\\slash", "\u{202e}cod".as_bytes()];
    for name in names {
        write_file(&sandbox.source().join(OsStr::from_bytes(name)), name);
    }
    sandbox.backup();
    let shown = sandbox.belay(&["ls", "latest:data", "/files/source-data", "--json"]).ok().json();
    let shown: Vec<&str> =
        shown.as_array().unwrap().iter().filter_map(|entry| entry["path"].as_str()).collect();
    assert_eq!(shown.len(), names.len() + 1, "{shown:?}");
    let raw = names.iter().map(|name| [b"/files/source-data/", *name].concat());
    // Only a backslash has to be given as it is shown.
    let raw = raw.filter(|path| !path.contains(&b'\\'));
    let paths = shown[1..].iter().map(|path| path.as_bytes().to_vec()).chain(raw);
    for path in paths {
        let path = OsStr::from_bytes(&path);
        let mut ls = sandbox.belay_command(&["ls", "latest:data"]);
        ls.arg(path);
        assert_eq!(Run::of(ls).ok().stdout().lines().count(), 1, "{}", path.display());
        let target = sandbox.fresh_directory();
        let mut restore =
            sandbox.belay_command(&["restore", "latest:data", "--to-dir", text(target.path())]);
        restore.arg("--path").arg(path);
        Run::of(restore).ok();
        let restored = fs::read_dir(target.path().join("files/source-data")).unwrap();
        let [restored] = &restored.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()[..]
        else {
            panic!("{} is not the only one", path.display());
        };
        assert_eq!(fs::read(restored).unwrap(), restored.file_name().unwrap().as_bytes());
    }
    sandbox.belay(&["ls", "latest:data", "/none\\n"]).code(2).says(&["'/none\\n' is not in"]);
}

#[test]
fn json_is_one_line_whatever_happens() {
    let sandbox = Sandbox::new();
    sandbox.backup();
    for (arguments, code) in [
        (&["list", "--nonsense", "--json"][..], 2),
        (&["--json"], 2),
        (&["--json", "show", "no id"], 2),
        (&["show", "ffff", "--json"], 2),
        (&["--json", "backup", "data", "--repository", "main"], 2),
        (&["backup", "data", "--json"], 0),
        (&["ls", "latest:data", "--json"], 0),
        (&["config", "recover", "--json"], 0),
        (&["config", "schema", "--json"], 0),
        (&["man", "--json"], 0),
        (&["completions", "bash", "--json"], 0),
    ] {
        let run = sandbox.belay(arguments).code(code);
        assert_eq!(run.stdout().lines().count(), 1, "{run}");
        let document = run.json();
        if code != 0 {
            assert_eq!(document["exit_code"], code, "{run}");
            assert!(document["error"].is_string() && document["hint"].is_string(), "{run}");
        }
    }
    fs::remove_file(sandbox.config()).unwrap();
    sandbox.belay(&["list"]).code(2).says(&["belay.toml", "hint:", "--config FILE"]);
}

#[test]
fn sockets_that_a_restore_leaves_out_are_told() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("a"), b"content");
    let _listener = UnixListener::bind(sandbox.source().join("socket")).unwrap();
    sandbox.backup();
    let target = sandbox.fresh_directory();
    let restored = sandbox.belay(&["restore", "latest:data", "--to-dir", text(target.path())]);
    restored.ok().says(&["Sockets left out: 1."]);
}

#[test]
fn a_password_that_restic_would_cut_is_refused() {
    let sandbox = Sandbox::without_repository();
    support::write_secret(&sandbox.password_file(), " leading");
    sandbox.belay(&["init"]).code(2).says(&["white space", "restic"]);
    assert!(!sandbox.repository().exists());
    support::write_secret(&sandbox.password_file(), PASSWORD);
    sandbox.belay(&["init"]).ok();
    let new = sandbox.path("new");
    support::write_secret(&new, "trailing ");
    let add = sandbox.belay(&["key", "add", "--new-password-file", text(&new)]);
    add.code(2).says(&["white space", "restic"]);
}

/// Runs a command on a terminal of its own, and types each text when its prompt is there. Returns what the terminal
/// shows, with the exit code and the terminal's settings behind it.
fn on_a_terminal(sandbox: &Sandbox, arguments: &str, typed: &[(&str, &str)]) -> String {
    let (belay, config) = (env!("CARGO_BIN_EXE_belay"), sandbox.config());
    let config = text(&config);
    // The interrupt goes to the shell, too, which is to tell the exit code all the same.
    let inner =
        format!("trap : INT; {belay} --config {config} {arguments}; echo \"exit=$?\"; stty -a");
    let shown = sandbox.path("terminal");
    let mut command = Command::new("timeout");
    command.args(["60", "script", "--quiet", "--command", &inner, "/dev/null"]);
    sandbox.tidy(&mut command);
    command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(File::create(&shown).unwrap());
    let mut terminal = command.spawn().unwrap();
    let shown = || String::from_utf8_lossy(&fs::read(&shown).unwrap()).into_owned();
    for (prompt, text) in typed {
        wait_until("the prompt", || {
            shown().contains(prompt) || terminal.try_wait().unwrap().is_some()
        });
        terminal.stdin.as_mut().unwrap().write_all(text.as_bytes()).unwrap();
    }
    wait_until("the end", || terminal.try_wait().unwrap().is_some());
    shown()
}

#[test]
fn an_interrupt_at_a_prompt_ends_it_and_the_terminal_is_as_before() {
    let sandbox = Sandbox::new();
    sandbox.backup();
    let before = Tree::read(&sandbox.source());
    for (arguments, prompt) in [
        ("key add", "password: "),
        ("key test", "password to try: "),
        ("restore latest:data --into data", "go on: "),
    ] {
        let shown = on_a_terminal(&sandbox, arguments, &[(prompt, "\u{3}")]);
        assert!(shown.contains("exit=130"), "{arguments}: {shown}");
        assert!(shown.contains("nothing was done"), "{arguments}: {shown}");
        assert!(shown.split_whitespace().any(|word| word == "echo"), "{arguments}: {shown}");
        assert!(sandbox.files("locks").is_empty(), "{arguments}: a lock is left");
    }
    assert_same(&before, &Tree::read(&sandbox.source()), "the instance");
    let typed = [("password: ", "secret one\n"), ("again: ", "secret one\n")];
    let added = on_a_terminal(&sandbox, "key add", &typed);
    assert!(added.contains("exit=0"), "{added}");
    assert!(!added.contains("secret one"), "what was typed showed: {added}");
}

#[test]
fn a_backup_whose_repository_is_away_is_a_failed_run_and_freezes_forgetting() {
    let sandbox = Sandbox::new();
    sandbox.configure(&["data"], "last = 1");
    sandbox.nights(2);
    let away = sandbox.path("away");
    fs::rename(sandbox.repository(), &away).unwrap();
    sandbox.belay(&["backup", "data"]).code(10);
    fs::rename(&away, sandbox.repository()).unwrap();

    let status = sandbox.belay(&["status", "--json"]).code_in(&[0, 3]).json();
    assert_eq!(status["instances"][0]["last_run"], "failed", "{status:#}");
    assert_eq!(status["instances"][0]["frozen"], true, "{status:#}");
    let failure = &status["instances"][0]["last_failure"];
    assert!(failure["error"].as_str().unwrap().contains("no repository"), "{failure:#}");
    sandbox.belay(&["prune"]).ok();
    assert_eq!(sandbox.list().len(), 2, "forgotten after a failure");
    sandbox.backup();
    let pruned = sandbox.belay(&["prune"]).ok().stdout();
    assert!(!pruned.contains("1 snapshot were") && !pruned.contains("1 pack were"), "{pruned}");
    assert_eq!(sandbox.list().len(), 1);
}

#[test]
fn why_the_last_run_failed_is_told_until_one_succeeds() {
    let sandbox = Sandbox::new();
    write_file(&sandbox.source().join("a"), b"content");
    sandbox.backup();
    let source = sandbox.source();
    fs::rename(&source, sandbox.path("away")).unwrap();
    sandbox.belay(&["backup", "data"]).code(1);
    let status = sandbox.belay(&["status", "--json"]).code(3).json();
    let failure = &status["instances"][0]["last_failure"];
    assert_eq!(failure["stage"], "reading source-data of data", "{failure:#}");
    assert!(failure["error"].as_str().unwrap().contains("source-data"), "{failure:#}");
    let at = failure["at"].as_str().unwrap()[..16].replace('T', " ");
    let told = format!(
        "the backup at {at} UTC failed while reading source-data of data: component source-data of data"
    );
    let shown = sandbox.belay(&["status"]).code(3).stdout();
    let line = shown.lines().find(|line| line.starts_with("! data: ")).unwrap();
    assert!(line.contains(&told) && line.contains(" What to do: "), "{shown}");
    let doctor = sandbox.belay(&["doctor"]).code(1).stdout();
    assert!(doctor.contains(&format!("warn  instance data: {told}")), "{doctor}");
    fs::rename(sandbox.path("away"), &source).unwrap();
    sandbox.backup();
    let status = sandbox.belay(&["status", "--json"]).code(3).json();
    assert!(status["instances"][0]["last_failure"].is_null(), "{status:#}");
    assert!(!sandbox.belay(&["doctor"]).code(3).stdout().contains("failed"));
}

#[test]
fn a_recovery_key_is_taken_as_it_is_typed_wherever_a_password_is() {
    let sandbox = Sandbox::new();
    sandbox.backup();
    // As after the loss of the state directory: only the key's label tells that there is one.
    fs::remove_dir_all(sandbox.state()).unwrap();
    let status = sandbox.belay(&["status"]).code(3).stdout();
    assert!(status.contains("has a recovery key, which this host has never seen"), "{status}");
    assert!(status.contains("belay key test") && !status.contains("key add"), "{status}");

    let typed = sandbox.recovery_key.to_lowercase().replace('-', " ");
    let file = sandbox.path("typed");
    support::write_secret(&file, &format!("  {typed} \n"));
    let test = ["key", "test", "--new-password-file", text(&file)];
    assert!(sandbox.belay(&test).ok().stdout().contains("is proven now"));
    assert!(!sandbox.belay(&["status"]).code_in(&[0, 3]).stdout().contains("recovery key"));
    sandbox.belay_bare(&sandbox.repository(), &file, &["list"]).ok();
    let typed = [("password to try: ", &*format!("{typed}\n"))];
    let shown = on_a_terminal(&sandbox, "key test", &typed);
    assert!(shown.contains("exit=0"), "{shown}");
    let of_another = "0".repeat(32);
    support::write_secret(&file, &of_another);
    let wrong =
        sandbox.belay(&test).code(12).says(&["opens none of the 2 keys", "letter by letter"]);
    assert!(!wrong.stderr().contains(&of_another), "{wrong}");
    // As the password of the configuration.
    support::write_secret(&sandbox.password_file(), &sandbox.recovery_key.to_lowercase());
    sandbox.belay(&["list"]).ok();
}

#[test]
fn a_restore_takes_no_more_than_the_paths_that_are_named() {
    let sandbox = Sandbox::new();
    for name in ["a", "b"] {
        write_file(&sandbox.source().join(name), b"then");
    }
    sandbox.backup();
    for name in ["a", "b"] {
        write_file(&sandbox.source().join(name), b"now");
    }
    let target = sandbox.path("target");
    let (a, missing) = ("/files/source-data/a", "/files/source-data/missing");
    let refused: [(&[&str], &str); 6] = [
        (&["--component", "source-data", "--path", missing], "is not in the snapshot"),
        (&["--path", a, "--path", missing], "is not in the snapshot"),
        (&["--path", "/files/source-data", "--path", missing], "is not in the snapshot"),
        (&["--component", "source-data", "--path", "/manifest.json"], "is not in component"),
        (&["--path", ""], "an empty path"),
        (&["--component", ""], "an empty component name"),
    ];
    for (options, message) in refused {
        for goal in [&["--to-dir", text(&target)][..], &["--into", "data", "--yes"]] {
            let arguments = [&["restore", "latest:data"], goal, options].concat();
            sandbox.belay(&arguments).code(2).says(&[message]);
            assert!(!target.exists());
            assert_eq!(fs::read(sandbox.source().join("a")).unwrap(), b"now");
        }
    }
    let both = ["--component", "source-data", "--path", a];
    let into = ["restore", "latest:data", "--into", "data", "--yes"];
    sandbox.belay(&[&into[..], &both].concat()).ok();
    assert_eq!(fs::read(sandbox.source().join("a")).unwrap(), b"then");
    assert_eq!(fs::read(sandbox.source().join("b")).unwrap(), b"now");
    let all = ["restore", "latest:data", "--path", "/", "--to-dir", text(&target)];
    sandbox.belay(&all).ok();
    assert_eq!(fs::read(target.join("files/source-data/b")).unwrap(), b"then");
}

#[test]
fn a_reason_that_pins_nothing_is_told() {
    let sandbox = Sandbox::new();
    sandbox.backup();
    sandbox.belay(&["pin", "latest:data", "--reason", "audit"]).ok();
    let unpin = sandbox.belay(&["unpin", "latest:data", "--reason", "nope"]).code(1);
    unpin.says(&["no pin for 'nope'", "audit"]);
    sandbox.belay(&["unpin", "latest:data", "--reason", "audit"]).ok();
}

#[test]
fn a_backup_of_several_ends_with_the_code_that_all_failures_share() {
    let (sandbox, ..) = with_two_repositories();
    fs::rename(sandbox.path("other"), sandbox.path("away")).unwrap();
    let run = sandbox.belay(&["backup", "--all", "--json"]).code(1).json();
    assert_eq!(run["failures"][0]["exit_code"], 10, "{run:#}");
    assert_eq!(run["snapshots"][0]["instance"], "data", "{run:#}");
    fs::rename(sandbox.repository(), sandbox.path("away too")).unwrap();
    let run = sandbox.belay(&["backup", "--all", "--json"]).code(10).json();
    assert_eq!(run["failures"].as_array().unwrap().len(), 2, "{run:#}");
}

#[test]
fn a_list_says_that_there_is_nothing_only_where_it_looked_everywhere() {
    let (sandbox, data, _) = with_two_repositories();
    fs::rename(sandbox.path("other"), sandbox.path("away")).unwrap();
    fs::remove_file(sandbox.repository().join("snapshots").join(data)).unwrap();
    let list = sandbox.belay(&["list"]).code(3).stdout();
    assert!(!list.contains("yet"), "{list}");
    fs::remove_file(sandbox.config()).unwrap();
    let url = text(&sandbox.repository()).to_owned();
    sandbox.belay(&["list", "--repository", &url]).code(2).says(&["needs --password-file"]);
}
