//! What people read when a file is wrong, and that no secret is in it.

use super::*;

#[test]
fn unknown_keys_are_refused_with_their_place_and_the_nearest_known_one() {
    insta::assert_snapshot!(refused(&format!("{REPOSITORY}lock_wiat = '5m'\n")), @r"
    f:4:1: unknown key 'lock_wiat'
      4 | lock_wiat = …
        | ^^^^^^^^^
      hint: did you mean 'lock_wait'?
    ");
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = []\ncadence = '30 2 * * *'\n"), @r"
    f:7:1: unknown key 'cadence'
      7 | cadence = …
        | ^^^^^^^
      hint: known here: platform, via, paths, version, environment, component, url, plain_http, login, token, compose, git, quiesce, exclude, keep, schedule, jitter, catch_up, deadline, objectives, timezone, repository
    ");
    insta::assert_snapshot!(refused("[repositry.main]\nurl = '/x'"), @r"
    f:1:2: unknown key 'repositry'
      1 | [repositry.main]
        |  ^^^^^^^^^
      hint: did you mean 'repository'?
    ");
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = ['/x']\nkeep = { last = 1, dayly = 2 }"), @r"
    f:7:20: unknown key 'dayly'
      7 | keep = { last = 1, dayly = …
        |                    ^^^^^
      hint: did you mean 'daily'?
    ");
}

#[test]
fn broken_toml_and_wrong_types_are_refused_with_their_place() {
    insta::assert_snapshot!(refused("[repository.main\nurl = '/x'"), @r"
    f:1:17: unclosed table, expected `]`
      1 | [repository.main
        |                 ^
    ");
    insta::assert_snapshot!(refused(&format!("{REPOSITORY}compression = '3'")), @r"
    f:4:15: this is of the wrong type (string): a whole number is expected
      4 | compression = '3'
        |               ^^^
    ");
    insta::assert_snapshot!(refused("[repository.main]\npassword = 'env:A'\n"), @r"
    f:1:1: 'url' is missing
      1 | [repository.main]
        | ^^^^^^^^^^^^^^^^^
    ");
    insta::assert_snapshot!(refused(&format!("{REPOSITORY}{UPLOADS}via = 'local'\nvia = 'local'")), @r"
    f:8:1: duplicate key
      8 | via = 'local'
        | ^^^
    ");
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = '/srv/uploads'"), @r"
    f:6:9: this is of the wrong type (string): a list of paths, or a table of names and paths is expected
      6 | paths = '/srv/uploads'
        |         ^^^^^^^^^^^^^^
    ");
    insta::assert_snapshot!(refused("[repository.'a b']\nurl = '/x'\npassword = 'env:A'"), @r"
    f:1:13: 'a b' is no name: use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or a digit
    ");
}

#[test]
fn all_problems_of_the_values_are_told_at_once() {
    let text = "[repository.main]\nurl = 's3:https://me:hunter2@host/bucket'\npassword = 'hunter2'\ncompression = 20\n\
                lock_wait = '-5m'\n[state]\ndir = 'state'\n[defaults]\ntimezone = 'Europe/Berln'\n\
                [instance.uploads]\nplatform = 'file'\nvia = 'sch:prod'\npaths = [\n  'uploads',\n]\n\
                exclude = ['', '[a']\nrepository = 'mian'\n[pair.main]\nstaging = 'upload'\nproduction = 'uploads'\n";
    insta::assert_snapshot!(refused(text), @r#"
    f:2:7: url: 's3:' repositories are not supported by this version
      2 | url = …
        |       ^
      hint: it knows local directories: an absolute path, or file:///path
    f:3:12: password: this is no reference to a secret
      3 | password = …
        |            ^
      hint: write credential:NAME, file:/path or env:NAME; the secret itself does not belong in this file
    f:4:15: compression: there is no level 20
      4 | compression = 20
        |               ^^
      hint: zstd levels are 1 (fast) to 19 (small)
    f:5:13: lock_wait: '-5m' is no length of time
      5 | lock_wait = '-5m'
        |             ^^^^^
      hint: write such as "30s", "5m", "1h 30m" or "7d"
    f:7:7: dir: the path 'state' is relative
      7 | dir = 'state'
        |       ^^^^^^^
      hint: begin it with '/': a relative path depends on where Belay is started
    f:9:12: timezone: 'Europe/Berln' is not known
      9 | timezone = 'Europe/Berln'
        |            ^^^^^^^^^^^^^^
      hint: did you mean 'Europe/Berlin'?
    f:11:12: unknown platform 'file': this version knows appsmith, files, mongodb, postgres, tooljet
      11 | platform = 'file'
         |            ^^^^^^
      hint: did you mean 'files'?
    f:12:7: via: unknown access 'sch': this version knows local, docker, ssh
      12 | via = 'sch:prod'
         |       ^^^^^^^^^^
      hint: write such as "local", "docker:NAME", "ssh:USER@HOST" or "ssh:USER@HOST/docker:NAME"
    f:14:3: paths: the path 'uploads' is relative
      14 |   'uploads',
         |   ^^^^^^^^^
      hint: begin it with '/': a relative path depends on where Belay is started
    f:16:12: exclude: the pattern is empty
      16 | exclude = ['', '[a']
         |            ^^
      hint: leave it out: it matches nothing
    f:16:16: exclude: '[a' is no pattern: unclosed character class; missing ']'
      16 | exclude = ['', '[a']
         |                ^^^^
      hint: write such as "*.tmp", "cache/**" or "[ab]?"
    f:17:14: repository: no repository is called 'mian'
      17 | repository = 'mian'
         |              ^^^^^^
      hint: did you mean 'main'?
    f:19:11: staging: no instance is called 'upload'
      19 | staging = 'upload'
         |           ^^^^^^^^
      hint: did you mean 'uploads'?
    "#);
}

#[test]
fn a_password_in_the_file_is_never_shown() {
    for text in [
        "[repository.main]\nurl = '/x'\npassword = 'hunter2'",
        "[repository.main]\nurl = '/x'\npasswrod = 'hunter2'",
        "[repository.main]\nurl = '/x'\nsecret = 'hunter2'",
        "[repository.main]\nurl = '/x'\npassword = ['hunter2']",
        "[repository.main]\nurl = '/x'\npassword = { value = 'hunter2' }",
        "[repository.main]\nurl = '/x'\npassword = 'hunter2",
        "[repository.main]\nurl = '/x'\npassword = hunter2",
        "[repository.main]\nurl = '/x'\npassword 'hunter2'",
        "[repository.main]\nurl = '/x'\npassword = 'credential:hunter2!'",
        "[repository.main]\nurl = '/x'\npassword = 'env:A' 'hunter2'",
        "[repository.main]\nurl = '/x'\npassword = \"\"\"\nhunter2\n\"\"\"",
        "[repository.main]\nurl = '/x'\npassword = \"\"\"\nhunter2\"\"\" x",
        "[repository.main]\nurl = 'https://a:hunter2@b'\npassword = 'env:A'",
        "[repository.main]\nurl = 'a:hunter2@b'\npassword = 'env:A'",
        "[repository.main]\nurl = ['hunter2']\npassword = 'env:A'",
        "repository = { main = { url = 7, password = 'hunter2' } }",
        "repository = { main = { url = '/x', password = 'hunter2', compression = 77 } }",
        "repository.main.password = 'hunter2'",
        "password = 'hunter2'",
        "[repository.main]\nurl = '/x'\npassword = 'env:A'\nlock_wait = 3 # was hunter2",
    ] {
        let error = Config::parse(text, "f").expect_err(text);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
    insta::assert_snapshot!(refused("[repository.main]\nurl = '/x'\npassword = 'hunter2'"), @r"
    f:3:12: password: this is no reference to a secret
      3 | password = …
        |            ^
      hint: write credential:NAME, file:/path or env:NAME; the secret itself does not belong in this file
    ");
}

#[test]
fn a_number_as_password_is_not_shown_either() {
    let message = refused("[repository.main]\nurl = '/x'\npassword = 314159");
    assert!(message.contains("f:3:12:") && !message.contains("314159"), "{message}");
}

#[test]
fn components_need_names_of_their_own() {
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = ['/srv/a/uploads', '/srv/b/uploads']"), @r#"
    f:6:28: paths: /srv/a/uploads and /srv/b/uploads would both be called 'uploads'
      6 | paths = ['/srv/a/uploads', '/srv/b/uploads']
        |                            ^^^^^^^^^^^^^^^^
      hint: give names of your own: paths = { NAME = "/srv/b/uploads" }
    "#);
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = ['/', '/srv/my files', '/srv/..']"), @r#"
    f:6:10: paths: / and the directory of the repository 'main', /srv/backup, overlap: the repository would back up itself
      6 | paths = ['/', '/srv/my files', '/srv/..']
        |          ^^^
      hint: move the repository, or name narrower paths
    f:6:10: paths: / and the state directory /var/lib/belay/state overlap: Belay would back up its own state
      6 | paths = ['/', '/srv/my files', '/srv/..']
        |          ^^^
      hint: move the state directory, or name narrower paths; the catalog can be rebuilt
    f:6:10: paths: the root directory has no name that its component could take
      6 | paths = ['/', '/srv/my files', '/srv/..']
        |          ^^^
      hint: give names of your own: paths = { NAME = "/" }
    f:6:15: paths: 'my files' cannot be the name of a component
      6 | paths = ['/', '/srv/my files', '/srv/..']
        |               ^^^^^^^^^^^^^^^
      hint: give names of your own: paths = { NAME = "/srv/my files" }
    f:6:32: paths: the path '/srv/..' goes back with '..'
      6 | paths = ['/', '/srv/my files', '/srv/..']
        |                                ^^^^^^^^^
      hint: write where it leads to
    "#);
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = { a = '/a', 'b c' = '/b' }"), @r"
    f:6:21: 'b c' is no name: use 1 to 64 letters, digits, '-', '_' or '.', beginning with a letter or a digit
      6 | paths = { a = …
        |               ^
    ");
    insta::assert_snapshot!(refused_instance("platform = 'files'\npaths = []"), @r"
    f:6:9: paths: nothing is named
      6 | paths = []
        |         ^^
      hint: name at least one directory: an empty snapshot could not be told from a lost one
    ");
    let text = format!(
        "{REPOSITORY}[instance.x]\nplatform = 'files'\npaths.a = '/srv/a/uploads'\npaths.b = '/srv/b/uploads'"
    );
    assert_eq!(good(&text).instance("x").unwrap().paths.len(), 2);
}
