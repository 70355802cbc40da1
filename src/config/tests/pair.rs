//! `[pair.NAME]`: what it means, what is filled in, and what is refused.

use super::*;
use crate::config::pair::{
    CountsSettings, DriverSettings, HttpTarget, OnFailure, Script, Tolerance, TrialKind,
};

const INSTANCES: &str = "[instance.staging]\nplatform = 'appsmith'\nvia = 'docker:staging'\nurl = 'https://staging.example'\n\
    login = { user = 'b', password = 'env:S' }\ncompose = { dir = '/srv/staging', service = 'appsmith' }\n\
    [instance.production]\nplatform = 'appsmith'\nvia = 'ssh:deploy@prod1/docker:appsmith'\nurl = 'https://apps.example'\n\
    login = { user = 'b', password = 'env:P' }\ncompose = { dir = '/srv/appsmith', service = 'appsmith' }\ntimezone = 'Europe/Berlin'\n";
const PAIR: &str = "[pair.main]\nstaging = 'staging'\nproduction = 'production'\n";

fn with(lines: &str) -> String {
    format!("{REPOSITORY}{INSTANCES}{PAIR}{lines}")
}

fn script(program: &str, arguments: &[&str]) -> Script {
    let arguments = arguments.iter().map(|&it| it.to_owned()).collect();
    Script { program: program.to_owned(), arguments }
}

#[test]
fn a_pair_without_a_driver_has_no_upgrades_and_one_with_it_sensible_defaults() {
    assert_eq!(good(&with("")).pair("main").unwrap().upgrades, None);
    let config = good(&with("driver = 'compose'"));
    let upgrades = config.pair("main").unwrap().upgrades.clone().unwrap();
    assert_eq!(upgrades.driver, DriverSettings::Compose);
    let names: Vec<&str> = upgrades.tests.iter().map(|trial| trial.kind.name()).collect();
    assert_eq!(names, TrialKind::NAMED);
    assert_eq!(upgrades.fresh, Duration::from_hours(2));
    assert_eq!(upgrades.soak, Duration::from_mins(30));
    assert_eq!(upgrades.commit_after, Duration::from_hours(168));
    assert_eq!(upgrades.on_failure, OnFailure::Rollback);
    assert_eq!((upgrades.drilled, upgrades.maintenance), (None, None));
    assert_eq!(
        (upgrades.windows.to_string().as_str(), upgrades.approvers.len()),
        ("at any time", 0)
    );
    let compose = config.instance("production").unwrap().compose.clone().unwrap();
    assert_eq!(
        (compose.dir.to_str(), compose.service.as_str()),
        (Some("/srv/appsmith"), "appsmith")
    );
}

const EVERYTHING: &str = "driver = { command = ['/etc/belay/upgrade', '--quiet'], stop = '/etc/belay/stop', start = '/etc/belay/start', timeout = '45m' }
tests = [{ health = {}, timeout = '20s' }, 'keys', { counts = { tolerance = '0.5%', except = ['sessions', 'tooljet_db/*'] } }, { command = '/etc/belay/smoke.sh', timeout = '2m' },
  { http = { url = '/status?full=1', status = 204 } }, { http = { url = 'https://elsewhere.example/x', body = 'fine' } },
  { version = {} }]
fresh = '90m'
soak = '0s'
window = ['Sat 01:00-05:00', 'Mon-Fri 22:00-04:00']
approvers = ['alice', 'bob', 'alice']
on_failure = 'hold'
maintenance = { on = '/etc/belay/maintenance-on', off = ['/etc/belay/maintenance', 'off'] }
drilled = '30d'
commit_after = '3d'
";

#[test]
fn every_key_means_what_it_says_and_is_shown_so_that_it_reads_back() {
    let config = good(&with(EVERYTHING));
    let upgrades = config.pair("main").unwrap().upgrades.clone().unwrap();
    let DriverSettings::Command(command) = &upgrades.driver else { panic!("{upgrades:?}") };
    assert_eq!(command.install, script("/etc/belay/upgrade", &["--quiet"]));
    assert_eq!(command.stop, Some(script("/etc/belay/stop", &[])));
    assert_eq!(command.timeout, Duration::from_mins(45));
    let counts = CountsSettings {
        tolerance: Tolerance::Fraction(50),
        except: vec!["sessions".into(), "tooljet_db/*".into()],
    };
    assert_eq!(upgrades.tests[2].kind, TrialKind::Counts(counts));
    assert_eq!(upgrades.tests[3].kind, TrialKind::Command(script("/etc/belay/smoke.sh", &[])));
    assert_eq!(upgrades.tests[3].timeout, Duration::from_mins(2));
    let TrialKind::Http(http) = &upgrades.tests[4].kind else { panic!("{upgrades:?}") };
    assert_eq!((&http.target, http.status), (&HttpTarget::Path("/status?full=1".into()), 204));
    assert_eq!(upgrades.tests[5].kind.to_string(), "http https://elsewhere.example/x");
    assert_eq!(upgrades.tests[0].kind, TrialKind::Health);
    assert_eq!(upgrades.tests[0].timeout, Duration::from_secs(20));
    assert_eq!(upgrades.tests[6].timeout, TrialKind::Version.usual_timeout());
    assert_eq!((upgrades.soak, upgrades.fresh), (Duration::ZERO, Duration::from_mins(90)));
    assert_eq!(
        upgrades.windows.to_string(),
        "Sat 01:00-05:00, Mon-Fri 22:00-04:00 (Europe/Berlin)"
    );
    assert_eq!(upgrades.approvers, ["alice", "bob"]);
    assert_eq!(upgrades.on_failure, OnFailure::Hold);
    assert_eq!(upgrades.drilled, Some(Duration::from_hours(720)));
    let maintenance = upgrades.maintenance.unwrap();
    assert_eq!(maintenance.off, script("/etc/belay/maintenance", &["off"]));
    for text in [with(EVERYTHING), with("driver = 'compose'"), with("")] {
        let config = good(&text);
        let again = good(&config.show());
        assert_eq!(again.show(), config.show());
        assert_eq!(again.pairs, config.pairs);
        assert_eq!(again.instances, config.instances);
    }
}

#[test]
fn a_pair_may_be_of_one_instance_which_is_never_upgraded() {
    let alone = format!("{REPOSITORY}{INSTANCES}[pair.main]\nproduction = 'production'\n");
    let config = good(&alone);
    let pair = config.pair("main").unwrap();
    assert_eq!((&pair.staging, pair.workshop().as_str()), (&None, "production"));
    assert_eq!(pair.instances().collect::<Vec<_>>(), [&pair.production]);
    assert_eq!(good(&config.show()).pairs, config.pairs);
    insta::assert_snapshot!(refused(&format!("{alone}driver = 'compose'\n")), @r#"
    f:19:10: driver: the pair main has no staging instance
      19 | driver = 'compose'
         |          ^^^^^^^^^
      hint: name one, staging = "NAME", which is upgraded and tested first; or leave driver out
    "#);
}

#[test]
fn what_is_wrong_is_told_where_it_stands_and_with_what_to_do() {
    insta::assert_snapshot!(refused(&with("driver = 'compse'\n")), @r"
    f:20:10: driver: unknown driver 'compse': this version knows compose
      20 | driver = 'compse'
         |          ^^^^^^^^
      hint: did you mean 'compose'?
    ");
    insta::assert_snapshot!(refused(&with("soak = '1h'\n")), @r#"
    f:20:8: soak means nothing without driver
      20 | soak = '1h'
         |        ^^^^
      hint: add driver = "compose", or driver = { command = "/PATH" }
    "#);
    insta::assert_snapshot!(refused(&with("driver = 'compose'\nwindow = 'Sat 1-5'\n")), @r#"
    f:21:10: window: 'Sat 1-5' is no window: '1' is no time of the day
      21 | window = 'Sat 1-5'
         |          ^^^^^^^^^
      hint: write days and hours, such as "Sat 01:00-05:00", "Mon-Fri 22:00-04:00", "Sat,Sun 00:00-24:00" or "02:00-05:00"
    "#);
    insta::assert_snapshot!(refused(&with("driver = 'compose'\ntests = ['helth', { http = { url = 'ftp://x' } }, {}, 'keys', 'keys']\n")), @r#"
    f:21:10: tests: unknown test 'helth': this version knows health, version, apps-open, counts, keys
      21 | tests = …
         |         ^
      hint: did you mean 'health'?
    f:21:36: url: this is no web address
      21 | tests = …
         |         ^
      hint: write https://HOST/PATH without a password, or a path at each instance's own url, "/PATH"
    f:21:51: tests: a table has exactly one test
      21 | tests = …
         |         ^
      hint: write { health = {}, timeout = "10m" }, { counts = { … } }, { command = "/PATH" } or { http = { url = "…" } }
    f:21:63: tests: 'keys' is there twice
      21 | tests = …
         |         ^
      hint: leave one of them out
    "#);
    insta::assert_snapshot!(refused(&with("driver = { command = 'upgrade.sh', stop = '/stop', timeout = '0s' }\n")), @r#"
    f:20:22: command: 'upgrade.sh' is no path of a program
      20 | driver = { command = …
         |                      ^
      hint: write the program by its whole path, "/PATH", or with arguments, ["/PATH", "ARGUMENT"]
    f:20:43: start is missing: what is stopped has to be started again
      20 | driver = { command = …
         |                      ^
      hint: give both stop and start, or none
    f:20:62: timeout: nothing is done in no time
      20 | driver = { command = …
         |                      ^
      hint: write such as "10m"
    "#);
    insta::assert_snapshot!(refused(&with("driver = { comand = '/x' }\n")), @r"
    f:20:12: unknown key 'comand'
      20 | driver = { comand = …
         |            ^^^^^^
      hint: did you mean 'command'?
    ");
    insta::assert_snapshot!(refused(&with("driver = 'compose'\ntests = [{ counts = { tolerance = 'few', except = ['[a'] } }]\nfresh = '0s'\napprovers = ['a b']\non_failure = 'panic'\n")), @r#"
    f:21:35: tolerance: 'few' is no number of rows
      21 | tests = …
         |         ^
      hint: write such as "100", or a part, such as "1%" or "0.25%"
    f:21:52: except: '[a' is no pattern: unclosed character class; missing ']'
      21 | tests = …
         |         ^
      hint: write such as "sessions", "tooljet_db/*" or "*_log"
    f:22:9: fresh: nothing is that young
      22 | fresh = '0s'
         |         ^^^^
      hint: write such as "2h"
    f:23:14: approvers: 'a b' is no name of a user
      23 | approvers = ['a b']
         |              ^^^^^
      hint: write the names that users have on this host, such as "alice"
    f:24:14: unknown on_failure 'panic': this version knows rollback, hold
      24 | on_failure = 'panic'
         |              ^^^^^^^
    "#);
    insta::assert_snapshot!(refused(&with("driver = 'compose'\ntests = [{ command = '/x', tiemout = '1m' }]\n")), @r"
    f:21:28: unknown key 'tiemout'
      21 | tests = …
         |         ^
      hint: did you mean 'timeout'?
    ");
    for (lines, words) in [
        ("driver = 'compose'\ntests = []", "tests: nothing is named"),
        ("driver = 'compose'\nwindow = []", "window: nothing is named"),
        ("driver = 'compose'\napprovers = []", "approvers: nobody is named"),
        ("driver = 'compose'\nmaintenance = { on = '/on' }", "'off' is missing"),
        (
            "driver = 'compose'\ntests = [{ http = { url = '/x', status = 99 } }]",
            "there is no status 99",
        ),
        (
            "driver = 'compose'\ntests = [{ http = { url = 'https://a:b@x' } }]",
            "this is no web address",
        ),
        ("driver = 7", "\"compose\", or a table with a command is expected"),
        ("driver = { command = [] }", "no program is named"),
        (
            "driver = 'compose'\nmaintenance = { on = 'on', off = '/off' }",
            "maintenance.on: 'on' is no path",
        ),
    ] {
        let message = refused(&with(lines));
        assert!(message.contains(words) && !message.contains("a:b"), "{lines}: {message}");
    }
}

#[test]
fn what_could_never_work_is_refused() {
    let bare = "[instance.staging]\nplatform = 'appsmith'\nvia = 'docker:a'\n[instance.production]\nplatform = 'appsmith'\nvia = 'docker:b'\n";
    let text = |lines: &str| format!("{REPOSITORY}{bare}{PAIR}{lines}");
    let message = refused(&text("driver = 'compose'"));
    for words in [
        "the instance 'staging' does not say where Docker Compose has it",
        "add compose = { dir = \"/DIRECTORY\", service = \"NAME\" } to [instance.production]",
        "health needs url of the instance 'production'",
        "apps-open needs url of the instance 'staging'",
    ] {
        assert!(message.contains(words), "{words}: {message}");
    }
    good(&text("driver = { command = '/x' }\ntests = ['version', 'counts', 'keys']"));
    let message =
        refused(&text("driver = { command = '/x' }\ntests = [{ http = { url = '/x' } }]"));
    assert!(message.contains("http /x needs url of the instance 'staging'"), "{message}");
    let with_url =
        text("driver = { command = '/x' }").replace("'docker:a'", "'docker:a'\nurl = 'https://a'");
    let message = refused(&with_url);
    assert!(
        message.contains("apps-open needs somebody who may see the apps of 'staging'"),
        "{message}"
    );

    let other = bare.replace(
        "platform = 'appsmith'\nvia = 'docker:b'",
        "platform = 'tooljet'\nvia = 'docker:b'",
    );
    let message = refused(&format!(
        "{REPOSITORY}{other}{PAIR}driver = {{ command = '/x' }}\ntests = ['counts']"
    ));
    assert!(message.contains("upgrades are for two of one platform"), "{message}");
    let files = "[instance.staging]\nplatform = 'files'\npaths = ['/srv/a']\n[instance.production]\nplatform = 'files'\npaths = ['/srv/b']\n";
    let message = refused(&format!(
        "{REPOSITORY}{files}{PAIR}driver = {{ command = '/x' }}\ntests = ['counts']"
    ));
    assert!(message.contains("nothing says which version staging runs"), "{message}");
    let database = "component.mongodb = { url = 'env:M' }\n";
    let mongodb = format!(
        "[instance.staging]\nplatform = 'mongodb'\n{database}[instance.production]\nplatform = 'mongodb'\n{database}"
    );
    let message = refused(&format!(
        "{REPOSITORY}{mongodb}{PAIR}driver = {{ command = '/x' }}\ntests = ['keys']"
    ));
    assert!(message.contains("keys means nothing to the platform mongodb"), "{message}");
    let message = refused_instance(
        "platform = 'files'\npaths = ['/x']\ncompose = { dir = '/c', service = 'x' }",
    );
    assert!(message.contains("compose means nothing to the platform files"), "{message}");
    for (compose, words) in [
        ("{ dir = 'c', service = 'x' }", "the path 'c' is relative"),
        ("{ dir = '/c', service = '-x' }", "'-x' is no name of a service"),
        ("{ dir = '/c' }", "'service' is missing"),
    ] {
        let message = refused(&format!(
            "{REPOSITORY}[instance.a]\nplatform = 'appsmith'\nvia = 'docker:a'\ncompose = {compose}"
        ));
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn workers_are_services_beside_the_platform() {
    let with_workers = |workers: &str| {
        let service = "service = 'appsmith' }";
        let named = format!("service = 'appsmith', workers = {workers} }}");
        with("driver = 'compose'").replacen(service, &named, 1)
    };
    let config = good(&with_workers("['worker-1', 'postgrest']"));
    let compose = config.instance("staging").unwrap().compose.clone().unwrap();
    assert_eq!(compose.workers, ["worker-1", "postgrest"]);
    assert_eq!(good(&config.show()).instance("staging").unwrap().compose, Some(compose));
    for (workers, words) in
        [("['appsmith']", "is the service itself"), ("['-x']", "is no name of a service")]
    {
        let told = refused(&with_workers(workers));
        assert!(told.contains(words), "{told}");
    }
}

#[test]
fn directories_that_say_their_version_can_be_upgraded_by_a_command() {
    let instance = |name: &str, version: &str| {
        format!(
            "[instance.{name}]\nplatform = 'files'\npaths = ['/srv/{name}']\nurl = 'https://{name}.example'\nversion = {version}\n"
        )
    };
    let text = |version: &str, pair: &str| {
        let both = instance("staging", version) + &instance("production", version);
        format!("{REPOSITORY}{both}{PAIR}{pair}")
    };
    let command = "driver = { command = '/x' }\ntests = ['version', { http = { url = '/up' } }]";
    let written = text("{ file = '/srv/app/package.json', member = 'version' }", command);
    let config = good(&written);
    let version = config.instance("production").unwrap().version.clone().unwrap();
    assert_eq!(version.file.to_str(), Some("/srv/app/package.json"));
    assert_eq!(version.member.as_deref(), Some("version"));
    assert_eq!(good(&config.show()).instance("staging").unwrap().version, Some(version));
    for (version, pair, words) in [
        ("{ file = 'VERSION' }", command, "the path 'VERSION' is relative"),
        ("{ file = '/v', member = '' }", command, "version.member: nothing is named"),
        ("{ member = 'version' }", command, "'file' is missing"),
        ("{ file = '/v' }", "driver = 'compose'\ntests = ['version']", "are in no container"),
        (
            "{ file = '/v' }",
            "driver = { command = '/x' }",
            "health means nothing to the platform files",
        ),
        (
            "{ file = '/v' }",
            "driver = { command = '/x' }\ntests = ['counts']",
            "counts means nothing to the platform files",
        ),
    ] {
        let message = refused(&text(version, pair));
        assert!(message.contains(words), "{words}: {message}");
    }
    let message =
        refused_instance("platform = 'appsmith'\nvia = 'docker:a'\nversion = { file = '/v' }");
    assert!(message.contains("version means nothing to the platform appsmith"), "{message}");
}
