//! The checks of `[pair.NAME]`, and of `compose` of instances: two instances of one platform, a driver that both can be upgraded by,
//! and no test that could never pass.

use super::{Checker, did_you_mean};
use crate::config::pair::{
    CommandSettings, Compose, CountsSettings, DriverSettings, HttpSettings, HttpTarget,
    Maintenance, OnFailure, Script, Tolerance, TrialKind, TrialSettings, Upgrades,
};
use crate::config::raw::{
    RawCommandDriver, RawCompose, RawCounts, RawDriver, RawHttp, RawMaintenance, RawPair, RawTexts,
    RawTrial, RawTrialTable, Tables,
};
use crate::config::{Credentials, Instance, Pair, Platform};
use crate::model::name::Name;
use crate::policy::window::{Window, Windows};
use jiff::tz::TimeZone;
use reqwest::Url;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;
use toml::Spanned;

const DEFAULT_FRESH: Duration = Duration::from_hours(2);
const DEFAULT_SOAK: Duration = Duration::from_mins(30);
const DEFAULT_COMMIT_AFTER: Duration = Duration::from_hours(7 * 24);
const DEFAULT_INSTALL_TIMEOUT: Duration = Duration::from_mins(30);
const DEFAULT_MAINTENANCE_TIMEOUT: Duration = Duration::from_mins(5);
const DEFAULT_STATUS: u16 = 200;
const COMPOSE: &str = "compose";
const SCRIPT_HINT: &str =
    "write the program by its whole path, \"/PATH\", or with arguments, [\"/PATH\", \"ARGUMENT\"]";

impl Checker<'_> {
    pub(super) fn pairs(
        &mut self,
        raw_pairs: &Tables<RawPair>,
        raw: &crate::config::raw::RawConfig,
        instances: &BTreeMap<Name, Instance>,
    ) -> BTreeMap<Name, Pair> {
        let mut pairs = BTreeMap::new();
        for (name, raw_pair) in raw_pairs {
            let known = raw_pair
                .staging
                .as_ref()
                .map(|it| self.known_name("instance", "staging", it, &raw.instance));
            let production =
                self.known_name("instance", "production", &raw_pair.production, &raw.instance);
            let Some(production) = production else { continue };
            // A name that is not known was told.
            if known == Some(None) {
                continue;
            }
            let staging = known.flatten();
            if staging.as_ref() == Some(&production) {
                let message =
                    format!("production: '{production}' is the pair's staging instance, too");
                self.refuse(
                    &raw_pair.production.span(),
                    message,
                    "a pair is of two different instances",
                );
                continue;
            }
            // Of one that is wrong itself that was told.
            let of_staging = staging.as_ref().and_then(|staging| instances.get(staging));
            let both = of_staging.zip(instances.get(&production));
            let name = name.get_ref().clone();
            let upgrades = match (&staging, &raw_pair.driver) {
                (None, Some(driver)) => {
                    let message = format!("driver: the pair {name} has no staging instance");
                    let hint = "name one, staging = \"NAME\", which is upgraded and tested first; or leave driver out";
                    self.refuse(&driver.span(), message, hint);
                    None
                }
                _ => self.upgrades(raw_pair, both),
            };
            pairs.insert(name.clone(), Pair { name, staging, production, upgrades });
        }
        pairs
    }

    /// How its instances are upgraded; none where nothing says how, or something is wrong.
    fn upgrades(
        &mut self,
        raw: &RawPair,
        both: Option<(&Instance, &Instance)>,
    ) -> Option<Upgrades> {
        let Some(driver) = &raw.driver else {
            self.without_driver(raw);
            return None;
        };
        if let Some((staging, production)) = both {
            self.upgradable(driver, staging, production);
        }
        let zone = both.map_or(TimeZone::UTC, |(_, production)| production.timezone.clone());
        let mut or = |key, given: Option<&Spanned<String>>, default| {
            given.and_then(|given| self.duration(key, given)).unwrap_or(default)
        };
        let fresh = or("fresh", raw.fresh.as_ref(), DEFAULT_FRESH);
        let soak = or("soak", raw.soak.as_ref(), DEFAULT_SOAK);
        let commit_after = or("commit_after", raw.commit_after.as_ref(), DEFAULT_COMMIT_AFTER);
        let drilled = raw.drilled.as_ref().and_then(|given| self.duration("drilled", given));
        let nothing = [("fresh", &raw.fresh, Some(fresh)), ("drilled", &raw.drilled, drilled)];
        for (key, text, _) in nothing.into_iter().filter(|it| it.2 == Some(Duration::ZERO)) {
            let span = text.as_ref().map_or(0..0, Spanned::span);
            self.refuse(&span, format!("{key}: nothing is that young"), "write such as \"2h\"");
        }
        let driver = self.driver(driver);
        let tests = self.trials(raw, both);
        let windows = self.windows(raw.window.as_ref(), zone);
        let approvers = self.approvers(raw);
        let on_failure =
            self.word("on_failure", raw.on_failure.as_ref(), &OnFailure::ALL, OnFailure::as_str);
        let maintenance = raw.maintenance.as_ref().map(|it| self.maintenance(it.get_ref()));
        let maintenance = match maintenance {
            Some(given) => Some(given?),
            None => None,
        };
        Some(Upgrades {
            driver: driver?,
            tests,
            fresh,
            soak,
            windows,
            approvers,
            on_failure: on_failure?,
            maintenance,
            drilled,
            commit_after,
        })
    }

    /// What is said of upgrades means nothing where there are none.
    fn without_driver(&mut self, raw: &RawPair) {
        let given = [
            ("tests", raw.tests.as_ref().map(Spanned::span)),
            ("fresh", raw.fresh.as_ref().map(Spanned::span)),
            ("soak", raw.soak.as_ref().map(Spanned::span)),
            ("window", raw.window.as_ref().map(Spanned::span)),
            ("approvers", raw.approvers.as_ref().map(Spanned::span)),
            ("on_failure", raw.on_failure.as_ref().map(Spanned::span)),
            ("maintenance", raw.maintenance.as_ref().map(Spanned::span)),
            ("drilled", raw.drilled.as_ref().map(Spanned::span)),
            ("commit_after", raw.commit_after.as_ref().map(Spanned::span)),
        ];
        for (key, span) in given {
            if let Some(span) = span {
                let message = format!("{key} means nothing without driver");
                let hint = "add driver = \"compose\", or driver = { command = \"/PATH\" }";
                self.refuse(&span, message, hint);
            }
        }
    }

    /// Both have to be of one platform, and to be where the driver finds them.
    fn upgradable(
        &mut self,
        driver: &Spanned<RawDriver>,
        staging: &Instance,
        production: &Instance,
    ) {
        if staging.platform != production.platform {
            let message = format!(
                "driver: {} is of the platform {}, and {} of {}",
                staging.name, staging.platform, production.name, production.platform
            );
            self.refuse(&driver.span(), message, "upgrades are for two of one platform");
        }
        let is_compose = matches!(driver.get_ref(), RawDriver::Named(word) if word == COMPOSE);
        for instance in [staging, production] {
            let name = &instance.name;
            if instance.platform == Platform::Files && instance.version.is_none() {
                let message = format!("driver: nothing says which version {name} runs");
                let hint = format!(
                    "add version = {{ file = \"/PATH\" }} to [instance.{name}], or leave driver out"
                );
                self.refuse(&driver.span(), message, hint);
                return;
            }
            if instance.platform == Platform::Files && is_compose {
                let message = format!("driver: directories such as {name} are in no container");
                self.refuse(&driver.span(), message, "write driver = { command = \"/PATH\" }");
                return;
            }
            if is_compose && instance.compose.is_none() {
                let message = format!(
                    "driver: the instance '{}' does not say where Docker Compose has it",
                    instance.name
                );
                let hint = format!(
                    "add compose = {{ dir = \"/DIRECTORY\", service = \"NAME\" }} to [instance.{}]",
                    instance.name
                );
                self.refuse(&driver.span(), message, hint);
            }
        }
    }

    pub(super) fn compose(&mut self, raw: &RawCompose) -> Option<Compose> {
        let dir = self.path("compose.dir", &raw.dir);
        let service = self.service("compose.service", &raw.service);
        let workers = raw.workers.iter().map(|worker| {
            let name = self.service("compose.workers", worker)?;
            if Some(&name) == service.as_ref() {
                let message = format!("compose.workers: '{name}' is the service itself");
                self.refuse(&worker.span(), message, "name those only that stand beside it");
            }
            Some(name)
        });
        let workers: Option<Vec<String>> = workers.collect();
        if dir.as_deref().is_some_and(|dir| dir.to_str().is_none()) {
            return None;
        }
        Some(Compose { dir: dir?, service: service?, workers: workers? })
    }

    fn service(&mut self, key: &str, raw: &Spanned<String>) -> Option<String> {
        let service = raw.get_ref();
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let begins = service.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
        if begins && service.bytes().all(is_allowed) {
            return Some(service.clone());
        }
        let message = format!("{key}: '{service}' is no name of a service");
        self.refuse(&raw.span(), message, "write it as it stands in the compose file");
        None
    }

    fn driver(&mut self, raw: &Spanned<RawDriver>) -> Option<DriverSettings> {
        match raw.get_ref() {
            RawDriver::Named(word) if word == COMPOSE => Some(DriverSettings::Compose),
            RawDriver::Named(word) => {
                let message =
                    format!("driver: unknown driver '{word}': this version knows {COMPOSE}");
                let hint = did_you_mean(word, [COMPOSE])
                    .unwrap_or_else(|| "or write driver = { command = \"/PATH\" }".to_owned());
                self.refuse(&raw.span(), message, hint);
                None
            }
            RawDriver::Command(table) => self.command_driver(table).map(DriverSettings::Command),
        }
    }

    fn command_driver(&mut self, raw: &RawCommandDriver) -> Option<CommandSettings> {
        let install = self.script("command", &raw.command);
        let mut perhaps = |key, raw: Option<&Spanned<RawTexts>>| match raw {
            Some(raw) => self.script(key, raw).map(Some),
            None => Some(None),
        };
        let (stop, start) =
            (perhaps("stop", raw.stop.as_ref()), perhaps("start", raw.start.as_ref()));
        if let (Some(one), None, key) | (None, Some(one), key) =
            (&raw.stop, &raw.start, if raw.stop.is_some() { "start" } else { "stop" })
        {
            let message = format!("{key} is missing: what is stopped has to be started again");
            self.refuse(&one.span(), message, "give both stop and start, or none");
        }
        let timeout = self.timeout(raw.timeout.as_ref(), DEFAULT_INSTALL_TIMEOUT);
        Some(CommandSettings { install: install?, stop: stop?, start: start?, timeout })
    }

    fn maintenance(&mut self, raw: &RawMaintenance) -> Option<Maintenance> {
        let on = self.script("maintenance.on", &raw.on);
        let off = self.script("maintenance.off", &raw.off);
        let timeout = self.timeout(raw.timeout.as_ref(), DEFAULT_MAINTENANCE_TIMEOUT);
        Some(Maintenance { on: on?, off: off?, timeout })
    }

    /// A time within which something has to be done.
    fn timeout(&mut self, raw: Option<&Spanned<String>>, default: Duration) -> Duration {
        let Some(raw) = raw else { return default };
        let timeout = self.duration("timeout", raw);
        if timeout == Some(Duration::ZERO) {
            let hint = "write such as \"10m\"";
            self.refuse(&raw.span(), "timeout: nothing is done in no time", hint);
        }
        timeout.unwrap_or(default)
    }

    fn script(&mut self, key: &str, raw: &Spanned<RawTexts>) -> Option<Script> {
        let texts: Vec<&String> = raw.get_ref().0.iter().map(Spanned::get_ref).collect();
        let Some((program, arguments)) = texts.split_first() else {
            self.refuse(&raw.span(), format!("{key}: no program is named"), SCRIPT_HINT);
            return None;
        };
        let is_wrong = |text: &String| text.contains('\0');
        if !program.starts_with('/')
            || program.ends_with('/')
            || texts.iter().any(|it| is_wrong(it))
        {
            let message = format!("{key}: '{program}' is no path of a program");
            self.refuse(&raw.span(), message, SCRIPT_HINT);
            return None;
        }
        let arguments = arguments.iter().map(|it| (*it).clone()).collect();
        Some(Script { program: (*program).clone(), arguments })
    }

    fn windows(&mut self, raw: Option<&Spanned<RawTexts>>, zone: TimeZone) -> Windows {
        let mut windows = Vec::new();
        for text in raw.iter().flat_map(|raw| &raw.get_ref().0) {
            match text.get_ref().parse::<Window>() {
                Ok(window) => windows.push(window),
                Err(error) => {
                    let span = whole_or(text, raw);
                    self.refuse(&span, format!("window: {error}"), error.hint());
                }
            }
        }
        if let Some(raw) = raw
            && raw.get_ref().0.is_empty()
        {
            let hint = "leave it out where production may be touched at any time";
            self.refuse(&raw.span(), "window: nothing is named", hint);
        }
        Windows::new(windows, zone)
    }

    fn approvers(&mut self, raw: &RawPair) -> Vec<String> {
        let mut approvers: Vec<String> = Vec::new();
        let Some(list) = &raw.approvers else { return approvers };
        if list.get_ref().is_empty() {
            let hint = "leave it out where no approval is needed";
            self.refuse(&list.span(), "approvers: nobody is named", hint);
        }
        for name in list.get_ref() {
            let text = name.get_ref();
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-@".contains(&byte);
            if text.is_empty() || text.starts_with('-') || !text.bytes().all(allowed) {
                let message = format!("approvers: '{text}' is no name of a user");
                let hint = "write the names that users have on this host, such as \"alice\"";
                self.refuse(&name.span(), message, hint);
            } else if !approvers.contains(text) {
                approvers.push(text.clone());
            }
        }
        approvers
    }

    /// What is tested; where nothing is said, all that has a name.
    fn trials(
        &mut self,
        raw: &RawPair,
        both: Option<(&Instance, &Instance)>,
    ) -> Vec<TrialSettings> {
        let with_usual = |kind: TrialKind| TrialSettings { timeout: kind.usual_timeout(), kind };
        let Some(list) = &raw.tests else {
            let of_name = |name: &str| TrialKind::of_name(name).expect("it is one of the names");
            let all: Vec<TrialSettings> =
                TrialKind::NAMED.map(|name| with_usual(of_name(name))).into();
            let driver = raw.driver.as_ref().map_or(0..0, Spanned::span);
            for trial in &all {
                self.possible(&trial.kind, &driver, both);
            }
            return all;
        };
        if list.get_ref().is_empty() {
            let hint = "name at least one, such as \"health\": an upgrade that nobody looks at has not passed";
            self.refuse(&list.span(), "tests: nothing is named", hint);
        }
        let mut trials: Vec<TrialSettings> = Vec::new();
        for raw in list.get_ref() {
            let Some(trial) = self.trial(raw) else { continue };
            self.possible(&trial.kind, &raw.span(), both);
            let key = trial.kind.to_string();
            if trials.iter().any(|other| other.kind.to_string() == key) {
                let message = format!("tests: '{key}' is there twice");
                self.refuse(&raw.span(), message, "leave one of them out");
                continue;
            }
            trials.push(trial);
        }
        trials
    }

    fn trial(&mut self, raw: &Spanned<RawTrial>) -> Option<TrialSettings> {
        match raw.get_ref() {
            RawTrial::Named(word) => {
                let Some(kind) = TrialKind::of_name(word) else {
                    let known = TrialKind::NAMED;
                    let message = format!(
                        "tests: unknown test '{word}': this version knows {}",
                        known.join(", ")
                    );
                    let hint = did_you_mean(word, known).unwrap_or_else(|| {
                        "or write a table, such as { command = \"/PATH\" } or { http = { url = \"/PATH\" } }".to_owned()
                    });
                    self.refuse(&raw.span(), message, hint);
                    return None;
                };
                Some(TrialSettings { timeout: kind.usual_timeout(), kind })
            }
            RawTrial::Table(table) => self.trial_table(table, &raw.span()),
        }
    }

    fn trial_table(&mut self, raw: &RawTrialTable, span: &Range<usize>) -> Option<TrialSettings> {
        let plain = [
            (&raw.health, TrialKind::Health),
            (&raw.version, TrialKind::Version),
            (&raw.apps_open, TrialKind::AppsOpen),
            (&raw.keys, TrialKind::Keys),
        ];
        let plain: Vec<TrialKind> =
            plain.into_iter().filter(|(raw, _)| raw.is_some()).map(|(_, kind)| kind).collect();
        let kind = match (&plain[..], &raw.counts, &raw.command, &raw.http) {
            ([kind], None, None, None) => Some(kind.clone()),
            ([], Some(counts), None, None) => self.counts(counts.get_ref()).map(TrialKind::Counts),
            ([], None, Some(command), None) => {
                self.script("command", command).map(TrialKind::Command)
            }
            ([], None, None, Some(http)) => self.http(http.get_ref()).map(TrialKind::Http),
            _ => {
                let hint = "write { health = {}, timeout = \"10m\" }, { counts = { … } }, { command = \"/PATH\" } or { http = { url = \"…\" } }";
                self.refuse(span, "tests: a table has exactly one test", hint);
                None
            }
        };
        let usual = kind.as_ref().map_or(Duration::ZERO, TrialKind::usual_timeout);
        let timeout = self.timeout(raw.timeout.as_ref(), usual);
        Some(TrialSettings { kind: kind?, timeout })
    }

    fn counts(&mut self, raw: &RawCounts) -> Option<CountsSettings> {
        let problems_before = self.problems.len();
        let mut tolerance = Tolerance::default();
        if let Some(text) = &raw.tolerance {
            if let Some(parsed) = Tolerance::parse(text.get_ref()) {
                tolerance = parsed;
            } else {
                let message = format!("tolerance: '{}' is no number of rows", text.get_ref());
                let hint = "write such as \"100\", or a part, such as \"1%\" or \"0.25%\"";
                self.refuse(&text.span(), message, hint);
            }
        }
        for pattern in &raw.except {
            if let Err(error) = globset::Glob::new(pattern.get_ref()) {
                let message =
                    format!("except: '{}' is no pattern: {}", pattern.get_ref(), error.kind());
                let hint = "write such as \"sessions\", \"tooljet_db/*\" or \"*_log\"";
                self.refuse(&pattern.span(), message, hint);
            }
        }
        let except = raw.except.iter().map(|it| it.get_ref().clone()).collect();
        (self.problems.len() == problems_before).then_some(CountsSettings { tolerance, except })
    }

    fn http(&mut self, raw: &RawHttp) -> Option<HttpSettings> {
        let problems_before = self.problems.len();
        let text = raw.url.get_ref();
        let is_plain =
            |text: &str| !text.contains(|it: char| it.is_control() || it.is_whitespace());
        let target = if text.starts_with('/') && !text.starts_with("//") && is_plain(text) {
            Some(HttpTarget::Path(text.clone()))
        } else {
            let url = Url::parse(text).ok().filter(|url| {
                matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && url.username().is_empty()
                    && url.password().is_none()
            });
            url.map(HttpTarget::Url)
        };
        if target.is_none() {
            let hint = "write https://HOST/PATH without a password, or a path at each instance's own url, \"/PATH\"";
            self.refuse(&raw.url.span(), "url: this is no web address", hint);
        }
        let status = raw.status.as_ref().map_or(DEFAULT_STATUS, |status| *status.get_ref());
        if let (Some(given), false) = (&raw.status, (100..600).contains(&status)) {
            let message = format!("status: there is no status {status}");
            self.refuse(&given.span(), message, "write a number from 100 to 599");
        }
        let target = target?;
        (self.problems.len() == problems_before).then(|| HttpSettings {
            target,
            status,
            body: raw.body.clone(),
        })
    }

    /// A test that has no way to what it looks at could never pass.
    fn possible(
        &mut self,
        kind: &TrialKind,
        span: &Range<usize>,
        both: Option<(&Instance, &Instance)>,
    ) {
        let Some((staging, production)) = both else { return };
        for instance in [staging, production] {
            let Instance { name, platform, web, .. } = instance;
            let is_app_platform = matches!(platform, Platform::Appsmith | Platform::Tooljet);
            let is_database = matches!(platform, Platform::Mongodb | Platform::Postgres);
            let means_nothing = match kind {
                TrialKind::Command(_) | TrialKind::Http(_) => false,
                TrialKind::Counts(_) => *platform == Platform::Files,
                TrialKind::Version => is_database,
                TrialKind::Health | TrialKind::AppsOpen | TrialKind::Keys => {
                    is_database || *platform == Platform::Files
                }
            };
            if means_nothing {
                let message = format!("tests: {kind} means nothing to the platform {platform}");
                self.refuse(span, message, "say tests = […] without it");
                return;
            }
            let needs_url = matches!(kind, TrialKind::Health | TrialKind::AppsOpen)
                || matches!(kind, TrialKind::Http(http) if matches!(http.target, HttpTarget::Path(_)));
            if needs_url && web.is_none() {
                let message = format!("tests: {kind} needs url of the instance '{name}'");
                let hint = format!(
                    "add url = \"https://HOST\" to [instance.{name}], or say tests = […] without it"
                );
                self.refuse(span, message, hint);
                continue;
            }
            let credentials = web.as_ref().and_then(|web| web.credentials.as_ref());
            let needed = match platform {
                Platform::Appsmith => "login = { user = \"…\", password = \"credential:NAME\" }",
                _ => "token = \"credential:NAME\"",
            };
            let has = matches!(
                (platform, credentials),
                (Platform::Appsmith, Some(Credentials::Login { .. }))
                    | (Platform::Tooljet, Some(Credentials::Token(_)))
            );
            if matches!(kind, TrialKind::AppsOpen) && is_app_platform && !has {
                let message =
                    format!("tests: {kind} needs somebody who may see the apps of '{name}'");
                let hint = format!(
                    "add {needed} to [instance.{name}], or say tests = […] without apps-open"
                );
                self.refuse(span, message, hint);
            }
        }
    }
}

/// Where a text stands: by itself in a list, or as the whole value.
fn whole_or(text: &Spanned<String>, whole: Option<&Spanned<RawTexts>>) -> Range<usize> {
    let own = text.span();
    if own.is_empty() { whole.map_or(own, Spanned::span) } else { own }
}
