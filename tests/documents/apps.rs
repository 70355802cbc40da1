//! The scripts of docs/APPS.md, on a git repository as Appsmith writes it: its commits are the same at every run, so that what
//! the document shows can be held to what is printed.

use super::{all_blocks, run_in, script};
use crate::support::{Run, Sandbox, text};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// A file of the commit that is pushed away.
const REFUND: &str = "pages/Orders/queries/refund/refund.txt";

/// A host that mirrors a git repository `orders`; and a clone of it in the sandbox's `orders`.
struct Host {
    sandbox: Sandbox,
}

impl Host {
    fn new() -> Self {
        let host = Self { sandbox: Sandbox::new() };
        let samples = host.sandbox.path("samples");
        let mut make = Command::new("tests/fixtures/git/make.sh");
        make.arg(&samples);
        Run::of(make).ok();
        fs::rename(samples.join("appsmith-orders.git"), host.server()).unwrap();
        let mut config = fs::read_to_string(host.sandbox.config()).unwrap();
        write!(
            config,
            "\n[instance.staging]\nplatform = 'appsmith'\nvia = 'docker:staging'\n\
             [instance.production]\nplatform = 'appsmith'\nvia = 'docker:production'\n\
             [pair.main]\nstaging = 'staging'\nproduction = 'production'\n\
             [git.orders]\nplatform = 'appsmith'\npair = 'main'\nurl = '{}'\n",
            text(&host.server())
        )
        .unwrap();
        fs::write(host.sandbox.config(), config).unwrap();
        // The sample begins with staging; where production's is the default, nothing has to be said.
        host.sh(
            "git -C server.git symbolic-ref HEAD refs/heads/master; git clone -q server.git orders",
        );
        host
    }

    fn server(&self) -> PathBuf {
        self.sandbox.path("server.git")
    }

    /// In the sandbox, as the people of the document do; at a fixed time, so that commits have the ids which it shows.
    fn sh(&self, script: &str) -> Run {
        let fixed = "export TZ=UTC GIT_AUTHOR_DATE='2026-11-20T16:00:00Z' GIT_COMMITTER_DATE='2026-11-20T16:00:00Z'\n";
        let state = format!("export STATE='{}'\n", text(&self.sandbox.state()));
        run_in(&self.sandbox, &format!("{fixed}{state}{script}")).ok()
    }

    fn run(&self, name: &str) -> Run {
        self.sh(&script(name))
    }

    /// Somebody's commit on master was mirrored, and then somebody else forced another one over it.
    fn is_pushed_over(&self) {
        self.sh("git clone -q server.git colleague && cd colleague
            git config user.name Alex; git config user.email alex@example.com
            mkdir -p pages/Orders/queries/refund
            echo 'UPDATE orders SET refunded = true' > pages/Orders/queries/refund/refund.txt
            echo '{}' > pages/Orders/queries/refund/metadata.json
            git add -A; git commit -q -m 'Refund an order'; git push -q
            belay backup orders
            git reset -q --hard HEAD~1
            git config user.name Kim; git config user.email kim@example.com
            echo '{\"widgetName\":\"Text1\"}' > pages/Home/widgets/Text1.json
            git add -A; git commit -q -m 'A greeting'; git push -q --force
            belay backup orders");
    }
}

/// What the document shows of an output that begins like this.
fn shown(beginning: &str) -> String {
    let is_it = |place: &str, content: &str| {
        place.starts_with("docs/APPS.md") && content.contains(beginning)
    };
    let mut found = all_blocks()
        .into_iter()
        .filter(|(place, block)| block.language == "text" && is_it(place, &block.content));
    found.next().expect("docs/APPS.md shows it").1.content
}

/// Without the time of a fetch.
fn comparable(line: &str) -> String {
    let line = line.split("; kept as ").next().unwrap();
    let line = line.split(", fetched ").next().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let is_time = words.first().is_some_and(|word| word.starts_with("20") && word.contains('-'));
    if is_time { words[2..].join(" ") } else { line.to_owned() }
}

fn assert_shown(document: &str, printed: &str) {
    let printed: Vec<String> = printed.lines().map(comparable).collect();
    for line in document.lines().map(comparable) {
        assert!(printed.contains(&line), "not printed: {line}\n{}", printed.join("\n"));
    }
}

#[test]
fn apps_are_mirrored_looked_at_and_compared() {
    let host = Host::new();
    let printed = host.run("apps").stdout();
    assert_shown(&shown("NOT readable"), &printed);
    assert!(
        printed.contains("getOrders") && printed.contains("Nothing was pushed away"),
        "{printed}"
    );
}

#[test]
fn what_was_pushed_away_is_merged_again() {
    let host = Host::new();
    host.is_pushed_over();
    let printed = host.run("apps-pushed-away").stdout();
    assert_shown(&shown("was rewritten from"), &printed);
    assert!(host.sandbox.path("target").join(REFUND).exists());
    host.sh(&format!("git -C server.git cat-file -e master:{REFUND}"));
    host.sh("git -C server.git merge-base --is-ancestor 'master^{/A greeting}' master");
}

#[test]
fn a_new_history_is_taken_when_that_is_said() {
    let host = Host::new();
    host.sh(
        "belay apps fetch orders; rm -rf server.git; cp -r samples/tooljet-legacy.git server.git",
    );
    host.sandbox.belay(&["apps", "fetch", "orders"]).code(1).says(&["--new-history"]);
    host.run("apps-new-history");
    let kept = host.sandbox.belay(&["apps", "log", "orders", "--kept"]).ok().stdout();
    assert!(kept.contains("Add a chart to Home"), "{kept}");
}

#[test]
fn restic_and_git_alone_bring_back_what_was_pushed_away() {
    let host = Host::new();
    host.is_pushed_over();
    let printed = host.run("apps-by-hand").stdout();
    assert!(printed.contains("\"commits_dropped\": 1"), "{printed}");
    host.sh(&format!("git -C target/apps/orders cat-file -e bring-back:{REFUND}"));
}

#[test]
fn a_new_host_knows_what_was_pushed_away_before_the_fire() {
    let host = Host::new();
    host.is_pushed_over();
    fs::remove_dir_all(host.sandbox.state()).unwrap();
    let printed = host.run("apps-new-host").stdout();
    assert!(printed.contains("Refund an order"), "{printed}");
}

#[test]
fn a_new_git_server_gets_all_from_the_mirror() {
    let host = Host::new();
    host.sh("belay apps fetch; git init -q --bare new.git
        git config --global url.\"$PWD/new.git\".insteadOf git@new.example.com:acme/orders.git");
    host.run("apps-new-server");
    let refs = |git: &str| host.sh(&format!("git -C {git} for-each-ref")).stdout();
    assert_eq!(refs("new.git"), refs("server.git"));
}
