//! Two nights of a made-up pair, done by what upgrades any other: a good one, and one whose release breaks on production only.
//!
//! What always holds: all of it lies in one temporary directory and listens on this machine's own address only; whichever way it ends, the
//! directory goes, and no process is left.

mod leftovers;
mod site;
mod timeline;

use self::leftovers::Leftovers;
use self::site::Site;
use self::timeline::Timeline;
use super::conduct;
use super::evidence::Scene;
use super::gate::{self, GateOptions};
use super::hands::{Said, Word};
use super::machine::{State, Upgrade, Waiting};
use super::runner::Rest;
use crate::config::{self, Config, SecretSources};
use crate::host;
use crate::model::id::SnapshotId;
use crate::model::upgrade::{Entry, Environment, Step};
use crate::ops::backup::{BackupOptions, backup};
use crate::ops::demo::{Line, Tell, failed, fingerprint, write_password};
use crate::ops::session::{Session, store_at};
use crate::ops::{Context, OpsError, init};
use crate::repository::Repository;
use jiff::Timestamp;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

const PAIR: &str = "shop";
const SIDES: [&str; 2] = ["staging", "production"];
const OLD: &str = "1.0.0";
const GOOD: &str = "2.0.0";
const BAD: &str = "3.0.0";
/// Who says yes.
const APPROVER: &str = "alice";
/// How often who waits for time to pass looks whether a person wants to stop.
const LOOK: Duration = Duration::from_millis(20);

/// The pair, and what is around it. Servers end before their directory goes.
struct Stage<'a> {
    site: Site,
    config: Config,
    secrets: SecretSources,
    context: &'a Context,
    _directory: tempfile::TempDir,
    /// What scripts have left is gone once all else is.
    _leftovers: Leftovers,
}

/// Upgrade a made-up pair twice, telling what happened when.
pub fn nights(context: &Context, tell: Tell<'_>) -> Result<(), OpsError> {
    let stage = Stage::new(context)?;
    tell(Line::Chapter(format!(
        "A pair of a small shop, made up for this: staging and production run {OLD}, each with {} orders in files. \
         A script puts its releases in place.",
        site::ORDERS
    )));
    for side in SIDES {
        stage.back_up(side)?;
    }
    stage.refusal(tell)?;

    tell(Line::Chapter(format!(
        "A good night: `belay upgrade start {PAIR} --to {GOOD}`, with an approval, and everything else as the gate allows."
    )));
    let upgraded = stage.night(GOOD, tell)?;
    expect(&upgraded, State::Committed)?;
    stage.runs("production", GOOD)?;
    tell(Line::Chapter(format!(
        "Production runs {GOOD}, with all its orders. (A real pair soaks for half an hour, and is committed after a week.)"
    )));

    stage.site.order_of_a_guest("production")?;
    let before = stage.data("production")?;
    tell(Line::Chapter(format!(
        "A bad night: a guest orders on production, without a name, which nobody ever did on staging. {BAD} loses such orders."
    )));
    let failed = stage.night(BAD, tell)?;
    expect(&failed, State::RolledBack)?;
    stage.runs("production", GOOD)?;
    if stage.data("production")? != before {
        return Err(strange("production is not as it was before the bad night"));
    }
    let kept = left_by_the_new_version(&failed)
        .ok_or_else(|| strange("nothing names what the new version has left"))?;
    tell(Line::Chapter(format!(
        "Production runs {GOOD} again by itself, the guest's order included: every byte, mode and time as before. What {BAD} has left \
         is in snapshot {}, which is pinned.",
        kept.short()
    )));
    Ok(())
}

/// The snapshot of production as the new version left it.
fn left_by_the_new_version(upgrade: &Upgrade) -> Option<SnapshotId> {
    upgrade.journal().records.iter().rev().find_map(|record| match &record.entry {
        Entry::Done { step: Step::PutBackProduction, outcome } => outcome.snapshot,
        _ => None,
    })
}

fn expect(upgrade: &Upgrade, wanted: State) -> Result<(), OpsError> {
    let state = upgrade.state();
    if state == wanted {
        return Ok(());
    }
    let trouble = upgrade.trouble().or(upgrade.cause());
    let why = trouble.map(|it| format!(": {}", it.why)).unwrap_or_default();
    Err(strange(&format!("the upgrade is {state} in place of {wanted}{why}")))
}

fn strange(what: &str) -> OpsError {
    OpsError::refused(
        format!("the demonstration went another way than it should: {what}"),
        "is the temporary directory ($TMPDIR) on a disk with room, and does /bin/sh run there?",
    )
}

impl<'a> Stage<'a> {
    fn new(context: &'a Context) -> Result<Self, OpsError> {
        let leftovers = Leftovers::gather();
        let directory =
            tempfile::tempdir().map_err(failed("create a directory in", &std::env::temp_dir()))?;
        // Restores go through no link.
        let root = directory.path().canonicalize();
        let root = root.map_err(failed("look for", directory.path()))?;
        let site = Site::build(&root, &SIDES, OLD)?;
        let password = write_password(&root)?;
        let config = configure(&root, &site, &password)?;
        let secrets = SecretSources::new(Vec::new(), |_| None);
        let repository = config.repository("main")?;
        let made = init::init(&config, repository, &secrets, context)?;
        // What a person's password costs on purpose, at each step again, would be most of the time.
        fs::write(&password, &made.recovery_key).map_err(failed("write", &password))?;
        forget_other_keys(repository, &made.recovery_key)?;
        Ok(Self { site, config, secrets, context, _directory: directory, _leftovers: leftovers })
    }

    fn scene(&self) -> Result<Scene<'_>, OpsError> {
        conduct::scene(&self.config, &self.secrets, PAIR, self.context)
    }

    fn back_up(&self, name: &str) -> Result<(), OpsError> {
        let instance = self.config.instance(name)?;
        let repository = self.config.repository_of(instance)?;
        let session = Session::open(&self.config, repository, &self.secrets)?;
        backup(&self.config, &session, instance, &BackupOptions::default(), self.context)?;
        Ok(())
    }

    /// Nobody gets to production first.
    fn refusal(&self, tell: Tell<'_>) -> Result<(), OpsError> {
        let options = GateOptions {
            pair: PAIR.to_owned(),
            to: GOOD.to_owned(),
            environment: Environment::Production,
        };
        let gated = gate::gate(&self.config, &self.secrets, &options, self.context)?;
        if gated.is_open {
            return Err(strange("production could be upgraded first"));
        }
        let closing = gated.rules.iter().filter(|rule| rule.closes());
        let closing: Vec<&str> = closing.map(|rule| rule.rule.as_str()).collect();
        tell(Line::Chapter(format!(
            "Straight to production? `belay gate {PAIR} --to {GOOD}` says no, by the rules {}.",
            closing.join(", ")
        )));
        Ok(())
    }

    /// Upgrade until it is over, saying yes where somebody has to.
    fn night(&self, to: &str, tell: Tell<'_>) -> Result<Upgrade, OpsError> {
        let plan = conduct::planned(&self.scene()?, to, &[])?;
        let mut timeline = Timeline::new(Timestamp::now());
        let (mut upgrade, mut rest) = conduct::start(self.scene()?, plan, host::username())?;
        loop {
            timeline.tell(upgrade.journal(), tell);
            if upgrade.state().is_over() {
                return Ok(upgrade);
            }
            match rest {
                Rest::Waits { waiting: Waiting::Approval, .. } => self.approve(&upgrade)?,
                Rest::Waits {
                    waiting: Waiting::Soak | Waiting::CommitWindow,
                    until: Some(until),
                } => {
                    self.wait(until)?;
                }
                Rest::Waits { .. } | Rest::Ended(_) => return Ok(upgrade),
            }
            (upgrade, rest) = conduct::go_on(self.scene()?)?;
        }
    }

    fn approve(&self, upgrade: &Upgrade) -> Result<(), OpsError> {
        let what = Said::Approve { plan: upgrade.plan().digest() };
        let reason = Some("looked at staging".to_owned());
        let word = Word { by: APPROVER.to_owned(), reason, what };
        conduct::say(&self.scene()?, &word)?;
        Ok(())
    }

    fn wait(&self, until: Timestamp) -> Result<(), OpsError> {
        while Timestamp::now() < until {
            self.context.cancel.check()?;
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    fn runs(&self, name: &str, wanted: &str) -> Result<(), OpsError> {
        let release = self.site.release(name)?;
        if release == wanted {
            return Ok(());
        }
        Err(strange(&format!("{name} runs {release} in place of {wanted}")))
    }

    fn data(&self, name: &str) -> Result<Vec<crate::ops::demo::Fingerprint>, OpsError> {
        let directory = self.site.data(name);
        fingerprint(&directory).map_err(failed("read", &directory))
    }
}

/// A random key costs little.
fn forget_other_keys(repository: &config::Repository, key: &str) -> Result<(), OpsError> {
    let opened = Repository::open(store_at(&repository.location), key.as_bytes())?;
    for other in opened.keys()?.readable.iter().filter(|other| !other.in_use) {
        opened.remove_key(other.id)?;
    }
    Ok(())
}

fn configure(root: &Path, site: &Site, password: &Path) -> Result<Config, OpsError> {
    let quoted = |text: String| toml::Value::String(text).to_string();
    let path = |path: &Path| quoted(path.display().to_string());
    let script = path(&site.script());
    let mut text = format!(
        "[repository.main]\nurl = {}\npassword = {}\n\n[state]\ndir = {}\n",
        path(&root.join("repository")),
        quoted(format!("file:{}", password.display())),
        path(&root.join("state")),
    );
    for name in SIDES {
        let _ = write!(
            text,
            "\n[instance.{name}]\nplatform = \"files\"\npaths = {{ data = {} }}\nversion = {{ file = {} }}\nurl = {}\n",
            path(&site.data(name)),
            path(&site.release_file(name)),
            quoted(site.url(name)),
        );
    }
    let _ = write!(
        text,
        "\n[pair.{PAIR}]\nstaging = \"staging\"\nproduction = \"production\"\n\
         driver = {{ command = {script}, stop = [{script}, \"stop\"], start = [{script}, \"start\"], timeout = \"1m\" }}\n\
         tests = [\"version\", {{ http = {{ url = \"/health\", body = \"orders\" }}, timeout = \"20s\" }}]\n\
         soak = \"1s\"\ncommit_after = \"1s\"\napprovers = [\"{APPROVER}\"]\n"
    );
    Ok(Config::parse(&text, "the demonstration's configuration")?)
}
