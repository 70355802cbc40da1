//! Whole files: what is accepted and what it means, and what is refused.

mod messages;
mod notify;
mod pair;

use super::*;

const REPOSITORY: &str = "[repository.main]\nurl = '/srv/backup'\npassword = 'credential:p'\n";
const UPLOADS: &str = "[instance.uploads]\nplatform = 'files'\npaths = ['/srv/uploads']\n";

fn good(text: &str) -> Config {
    Config::parse(text, "belay.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// What is said about a text that is refused.
fn refused(text: &str) -> String {
    let error = Config::parse(text, "f").expect_err("the text is wrong");
    assert!(!error.problems().is_empty());
    error.to_string()
}

/// What is said about one instance with these lines, beside one repository.
fn refused_instance(lines: &str) -> String {
    refused(&format!("{REPOSITORY}[instance.uploads]\n{lines}"))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

#[test]
fn directories_of_an_instance_that_hold_each_other_are_refused() {
    for paths in [
        "paths = ['/srv/a', '/srv/a/b']",
        "paths = { one = '/srv/a/b', two = '/srv/a' }",
        "paths = { one = '/srv/a', two = '/srv/a' }",
    ] {
        let message = refused_instance(&format!("platform = 'files'\n{paths}\n"));
        assert!(message.contains("overlap") && message.contains("/srv/a"), "{message}");
    }
    good(&format!("{REPOSITORY}[instance.a]\nplatform = 'files'\npaths = ['/srv/a', '/srv/ab']\n"));
}

#[test]
fn the_example_is_accepted_as_it_is_and_with_everything_uncommented() {
    let config = good(EXAMPLE);
    let uploads = config.instance("uploads").unwrap();
    assert_eq!(uploads.paths, [FilesRoot { name: name("uploads"), path: "/srv/uploads".into() }]);
    assert_eq!(uploads.timezone_name(), "Europe/Berlin");

    // Lines that are keys or tables in comments are offers, which must be right, too.
    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with('[') || rest.contains(" = ") && !rest.starts_with("within") =>
            {
                rest
            }
            _ => line,
        })
        // The other form of a key that is there.
        .filter(|line| !line.starts_with("paths = {"))
        .collect();
    let config = good(&uncommented.join("\n"));
    assert_eq!(config.git("orders").unwrap().pair, Some(name("main")));
    assert_eq!(config.instance("uploads").unwrap().timezone_name(), "UTC");
    assert_eq!(config.repository("main").unwrap().compression, 1);
}

#[test]
fn the_designs_example_reduced_to_this_version_is_accepted() {
    let config = good(
        r#"
        [repository.main]
        url = "/srv/backup/belay"
        password = "credential:repository-password"
        [state]
        dir = "/var/lib/belay/state"
        [defaults]
        timezone = "Europe/Berlin"
        keep = { last = 3, daily = 14, weekly = 8, monthly = 12 }
        [instance.staging]
        platform = "files"
        via = "local"
        paths = ["/srv/staging"]
        [instance.production]
        platform = "files"
        paths = { data = "/srv/production", web = "/srv/web/" }
        repository = "main"
        timezone = "america/new_york"
        keep = { yearly = 2 }
        [instance.uploads]
        platform = "files"
        via = "local"
        paths = ["/srv/uploads"]
        exclude = ["*.tmp"]
        [pair.main]
        staging = "staging"
        production = "production"
        "#,
    );
    let production = config.instance("production").unwrap();
    let root = |name_: &str, path: &str| FilesRoot { name: name(name_), path: path.into() };
    assert_eq!(production.paths, [root("data", "/srv/production"), root("web", "/srv/web")]);
    assert_eq!(production.timezone_name(), "America/New_York");
    assert_eq!(production.keep, toml::from_str::<Keep>("yearly = 2").unwrap());
    let keep = "last = 3\ndaily = 14\nweekly = 8\nmonthly = 12";
    let uploads = config.instance("uploads").unwrap();
    assert_eq!(uploads.keep, toml::from_str::<Keep>(keep).unwrap());
    assert_eq!(uploads.exclude, ["*.tmp"]);
    let pair = config.pair("main").unwrap();
    assert_eq!((pair.workshop().as_str(), pair.production.as_str()), ("staging", "production"));
}

#[test]
fn defaults_are_filled_in() {
    let config = good(&format!("{REPOSITORY}{UPLOADS}"));
    assert_eq!(config.state_dir, Path::new("/var/lib/belay/state"));
    let repository = config.repository("main").unwrap();
    assert_eq!(repository.location, Location::Local("/srv/backup".into()));
    assert_eq!(repository.password.to_string(), "credential:p");
    assert_eq!(repository.compression, 1);
    assert_eq!(repository.lock_wait, Duration::from_mins(1));
    let uploads = config.instance("uploads").unwrap();
    assert_eq!(uploads.keep, Keep::default());
    assert_eq!(uploads.timezone_name(), "UTC");
    assert_eq!(uploads.via, Via::local());
    assert_eq!(config.repository_of(uploads).unwrap(), repository);
}

#[test]
fn what_is_shown_reads_back_as_the_same() {
    let text = format!(
        "{REPOSITORY}compression = 7\nlock_wait = '1h 30m'\n[repository.other]\nurl = 'file:///srv/b2'\n\
         password = 'env:B2'\n[state]\ndir = '/s'\n[defaults]\ntimezone = 'asia/tokyo'\nkeep = {{ last = 2 }}\n\
         [instance.a]\nplatform = 'files'\npaths = ['/srv/z', '/srv/b']\nexclude = ['*.tmp', 'x\"y']\n\
         repository = 'other'\n[instance.b]\nplatform = 'files'\npaths = ['/srv/z']\nrepository = 'main'\nkeep = {{}}\n\
         [instance.c]\nplatform = 'appsmith'\nrepository = 'main'\nvia = 'docker:c'\nurl = 'http://c.example'\nplain_http = true\n\
         login = {{ user = 'u', password = 'env:C' }}\n[instance.d]\nplatform = 'tooljet'\nrepository = 'main'\nvia = 'docker:d'\n\
         url = 'https://d.example'\ntoken = 'env:D'\n[pair.p]\nstaging = 'a'\nproduction = 'b'"
    );
    let config = good(&text);
    assert_eq!(config.source_text(), text);
    let again = good(&config.show());
    assert_eq!(again.show(), config.show());
    assert_eq!(again.repositories, config.repositories);
    assert_eq!(again.instances, config.instances);
    assert_eq!(again.pairs, config.pairs);
    assert_eq!(again.state_dir, config.state_dir);
    insta::assert_snapshot!(good(&format!("{REPOSITORY}{UPLOADS}keep = {{ last = 2 }}")).show(), @r#"
    [state]
    dir = "/var/lib/belay/state"

    [daemon]
    socket = "/run/belay/belay.sock"
    jobs = 2
    jobs_per_repository = 2

    [defaults]
    timezone = "UTC"

    [repository.main]
    url = "/srv/backup"
    password = "credential:p"
    compression = 1
    lock_wait = "1m"
    prune = "0 5 * * SUN"
    check = "0 6 * * *"
    check_period = "720h"

    [instance.uploads]
    platform = "files"
    via = "local"
    exclude = []
    timezone = "UTC"
    repository = "main"
    schedule = "off"
    deadline = "12h"

    [instance.uploads.keep]
    last = 2

    [instance.uploads.paths]
    uploads = "/srv/uploads"
    "#);
}

#[test]
fn a_backup_of_the_repository_or_the_state_is_refused() {
    for path in ["/srv", "/srv/backup", "/srv/backup/data", "/srv/./backup/"] {
        let message = refused_instance(&format!("platform = 'files'\npaths = {{ a = '{path}' }}"));
        assert!(message.contains("would back up itself"), "{message}");
    }
    for path in ["/var/lib", "/var/lib/belay/state", "/var/lib/belay/state/x"] {
        let message = refused_instance(&format!("platform = 'files'\npaths = ['{path}']"));
        assert!(message.contains("would back up its own state"), "{message}");
    }
    // A common beginning of the names is no common directory, and another instance's directory may be shared.
    good(&format!(
        "{REPOSITORY}{UPLOADS}[instance.b]\nplatform = 'files'\npaths = ['/srv/backup2', '/srv/uploads/x']"
    ));
}

#[test]
fn repositories_and_state_do_not_hold_each_other() {
    let other = "[repository.other]\nurl = '/srv/backup/other'\npassword = 'env:A'\n";
    let message = refused(&format!("{REPOSITORY}{other}"));
    assert!(message.contains("the repositories 'main' and 'other' overlap"), "{message}");
    let message = refused(&format!("{REPOSITORY}[state]\ndir = '/srv/backup/state'"));
    assert!(message.contains("state directory /srv/backup/state overlap"), "{message}");
}

#[test]
fn an_instance_says_its_repository_where_there_are_several() {
    let other = "[repository.other]\nurl = '/srv/other'\npassword = 'env:A'\n";
    insta::assert_snapshot!(refused(&format!("{REPOSITORY}{other}{UPLOADS}")), @r#"
    f:7:11: the instance 'uploads' does not say which repository
      7 | [instance.uploads]
        |           ^^^^^^^
      hint: add repository = "main", or another of: main, other
    "#);
    let config = good(&format!("{REPOSITORY}{other}{UPLOADS}repository = 'other'"));
    assert_eq!(config.instance("uploads").unwrap().repository, name("other"));
    insta::assert_snapshot!(refused(UPLOADS), @r"
    f:1:1: no repository is configured
      1 | [instance.uploads]
        | ^
      hint: add a table [repository.main] with url and password
    ");
    assert!(refused("").contains("no repository is configured"));
}

#[test]
fn a_pair_is_of_two_instances() {
    let message = refused(&format!(
        "{REPOSITORY}{UPLOADS}[pair.p]\nstaging = 'uploads'\nproduction = 'uploads'"
    ));
    assert!(message.contains("'uploads' is the pair's staging instance, too"), "{message}");
    let message = refused(&format!("{REPOSITORY}[pair.p]\nstaging = 'a'\nproduction = 'b'"));
    assert!(message.contains("f:5:11: staging: no instance is called 'a'"), "{message}");
    assert!(message.contains("f:6:14: production: no instance is called 'b'"), "{message}");
}

#[test]
fn names_that_are_not_there_are_answered_with_the_nearest() {
    let config = good(&format!("{REPOSITORY}{UPLOADS}"));
    let error = config.instance("uplaods").unwrap_err();
    assert_eq!(error.to_string(), "no instance is called 'uplaods'");
    assert_eq!(error.hint, "did you mean 'uploads'?");
    assert_eq!(config.repository("zzz").unwrap_err().hint, "the configuration has main");
    assert_eq!(config.pair("x").unwrap_err().hint, "the configuration has no pair");
}

#[test]
fn files_are_read_and_failures_name_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("belay.toml");
    let error = Config::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("the configuration {} could not be read", path.display())
    );
    assert!(error.hint().unwrap().contains("--config"));

    std::fs::write(&path, b"[state]\n# \xff").unwrap();
    let error = Config::load(&path).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{}:2:3: this is not UTF-8 text, which TOML has to be", path.display())
    );

    std::fs::write(&path, EXAMPLE).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.origin(), path.display().to_string());
    assert_eq!(config.source_text(), EXAMPLE);
}

#[test]
fn the_schema_knows_the_keys_and_refuses_others() {
    let schema = Config::schema();
    let at = |pointer: &str| {
        schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer} in {schema:#}"))
    };
    assert_eq!(at("/additionalProperties"), false);
    assert_eq!(at("/$defs/RawRepository/required"), &serde_json::json!(["url", "password"]));
    assert_eq!(at("/$defs/RawRepository/properties/compression/maximum"), 19);
    assert_eq!(at("/$defs/RawInstance/required"), &serde_json::json!(["platform"]));
    assert_eq!(at("/$defs/Paths/anyOf/0/type"), "array");
    assert_eq!(at("/$defs/Keep/additionalProperties"), false);
    assert_eq!(at("/$defs/RawPair/required"), &serde_json::json!(["production"]));
    assert_eq!(at("/$defs/Driver/anyOf/0/type"), "string");
    assert_eq!(at("/$defs/RawCommandDriver/required"), &serde_json::json!(["command"]));
    assert_eq!(at("/$defs/RawTrialTable/additionalProperties"), false);
}
