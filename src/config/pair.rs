//! What the configuration says of a pair: of which instances it is, and how they are upgraded.

use crate::model::name::Name;
use crate::policy::window::Windows;
use reqwest::Url;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A staging and a production instance that belong together, or one instance that is both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its name.
    pub name: Name,
    /// The staging instance, which is in [`Config::instances`](super::Config::instances); none where production has a workspace for that.
    pub staging: Option<Name>,
    /// The production instance, which is another one of them, and of the same platform where there are upgrades.
    pub production: Name,
    /// How its instances are upgraded; none where nothing says how, and where there is no staging instance.
    pub upgrades: Option<Upgrades>,
}

impl Pair {
    /// Where apps are made before production gets them: an instance of its own, or production's other workspace.
    pub fn workshop(&self) -> &Name {
        self.staging.as_ref().unwrap_or(&self.production)
    }

    /// Its instances, staging first.
    pub fn instances(&self) -> impl Iterator<Item = &Name> {
        self.staging.iter().chain([&self.production])
    }
}

/// How the instances of a pair are upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrades {
    /// What puts another version in place.
    pub driver: DriverSettings,
    /// What an instance has to pass afterwards, in the order of the file.
    pub tests: Vec<TrialSettings>,
    /// How old the snapshots of both instances may be when a step depends on them.
    pub fresh: Duration,
    /// How long staging has to run the new version before production gets it.
    pub soak: Duration,
    /// When production may be touched.
    pub windows: Windows,
    /// Who may approve; where it is nobody, no approval is needed.
    pub approvers: Vec<String>,
    /// What becomes of an upgrade that fails.
    pub on_failure: OnFailure,
    /// What keeps users out while production is upgraded.
    pub maintenance: Option<Maintenance>,
    /// How old the last drill may be; none where no drill is asked for.
    pub drilled: Option<Duration>,
    /// How long after an upgrade going back by one command is possible.
    pub commit_after: Duration,
}

/// A program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// An absolute path.
    pub program: String,
    /// What it is given.
    pub arguments: Vec<String>,
}

impl fmt::Display for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.program)?;
        self.arguments.iter().try_for_each(|argument| write!(formatter, " {argument}"))
    }
}

/// What puts another version in place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DriverSettings {
    /// Docker Compose, as each instance's `compose` says.
    Compose,
    /// A script of the user's own, on the host of each instance.
    Command(CommandSettings),
}

/// A driver that is a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSettings {
    /// Puts a version in place, and ends once that is done.
    pub install: Script,
    /// Stops the instance; both this and `start`, or none.
    pub stop: Option<Script>,
    /// Starts it again.
    pub start: Option<Script>,
    /// How long each may take.
    pub timeout: Duration,
}

/// Where Docker Compose has an instance, on the instance's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compose {
    /// The directory of the compose file.
    pub dir: PathBuf,
    /// The service that is the platform.
    pub service: String,
    /// Services that write to its databases, too: they are stopped and started with it, and get the new version where they are of
    /// its image.
    pub workers: Vec<String>,
}

/// What becomes of an upgrade that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The state before comes back.
    #[default]
    Rollback,
    /// It is left as it is, and told.
    Hold,
}

impl OnFailure {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Rollback, Self::Hold];

    /// As the configuration calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rollback => "rollback",
            Self::Hold => "hold",
        }
    }
}

/// What keeps users out, on production's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Maintenance {
    /// Keeps them out; safe to run again.
    pub on: Script,
    /// Lets them in; safe to run again.
    pub off: Script,
    /// How long each may take.
    pub timeout: Duration,
}

/// A test that an instance has to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialSettings {
    /// What is tested.
    pub kind: TrialKind,
    /// How long it may take.
    pub timeout: Duration,
}

/// What a test looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialKind {
    /// The platform says that it is well, and so does what it depends on.
    Health,
    /// The version that runs is the one that should.
    Version,
    /// Every app that was there is there, and its pages answer in view mode.
    AppsOpen,
    /// No table or collection lost rows.
    Counts(CountsSettings),
    /// What is encrypted still decrypts.
    Keys,
    /// A program of this host ends well.
    Command(Script),
    /// A web address answers as it should.
    Http(HttpSettings),
}

impl TrialKind {
    /// Those that have a name and need no more.
    pub const NAMED: [&'static str; 5] = ["health", "version", "apps-open", "counts", "keys"];

    /// The one of this name, as it is where nothing else is said.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "health" => Self::Health,
            "version" => Self::Version,
            "apps-open" => Self::AppsOpen,
            "counts" => Self::Counts(CountsSettings::default()),
            "keys" => Self::Keys,
            _ => return None,
        })
    }

    /// What the configuration calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Health => "health",
            Self::Version => "version",
            Self::AppsOpen => "apps-open",
            Self::Counts(_) => "counts",
            Self::Keys => "keys",
            Self::Command(_) => "command",
            Self::Http(_) => "http",
        }
    }

    /// How long it may take where nothing else is said: counting goes through all of a database.
    pub fn usual_timeout(&self) -> Duration {
        match self {
            Self::Counts(_) => Duration::from_mins(30),
            Self::AppsOpen => Duration::from_mins(15),
            _ => Duration::from_mins(5),
        }
    }
}

/// What makes tests different from each other in messages: `health`, `http /status`, `command /etc/belay/smoke.sh`.
impl fmt::Display for TrialKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(script) => write!(formatter, "command {script}"),
            Self::Http(http) => write!(formatter, "http {}", http.target),
            _ => formatter.write_str(self.name()),
        }
    }
}

/// How much may be missing after an upgrade.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountsSettings {
    /// Of each table or collection.
    pub tolerance: Tolerance,
    /// Patterns of tables and collections that may lose whatever they like.
    pub except: Vec<String>,
}

/// How many rows may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tolerance {
    /// So many.
    Rows(u64),
    /// So many of ten thousand, rounded down.
    Fraction(u32),
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Rows(0)
    }
}

impl Tolerance {
    /// How many of so many rows may be missing.
    pub fn of(self, rows: u64) -> u64 {
        match self {
            Self::Rows(most) => most,
            Self::Fraction(parts) => {
                let most = u128::from(rows) * u128::from(parts) / 10_000;
                u64::try_from(most).expect("it is no more than the rows")
            }
        }
    }

    /// `100` rows, `1%` or `0.25%`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let Some(percent) = text.strip_suffix('%') else {
            return is_digits(text).then(|| text.parse().ok().map(Self::Rows)).flatten();
        };
        let (whole, part) = percent.split_once('.').unwrap_or((percent, "0"));
        if !is_digits(whole) || !is_digits(part) || part.len() > 2 {
            return None;
        }
        let scale = if part.len() == 1 { 10 } else { 1 };
        let parts = whole.parse::<u32>().ok()?.checked_mul(100)?;
        let parts = parts.checked_add(part.parse::<u32>().ok()? * scale)?;
        (parts <= 10_000).then_some(Self::Fraction(parts))
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(formatter, "{rows}"),
            Self::Fraction(parts) if parts % 100 == 0 => write!(formatter, "{}%", parts / 100),
            Self::Fraction(parts) => write!(formatter, "{}.{:02}%", parts / 100, parts % 100),
        }
    }
}

/// What a web address has to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSettings {
    /// Where.
    pub target: HttpTarget,
    /// The status.
    pub status: u16,
    /// What has to be in the body.
    pub body: Option<String>,
}

/// A web address of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTarget {
    /// The same for both instances.
    Url(Url),
    /// A path at each instance's own `url`; it begins with `/`.
    Path(String),
}

impl fmt::Display for HttpTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(formatter, "{url}"),
            Self::Path(path) => formatter.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_reads_back_as_it_was_written_and_is_never_more_than_was_said() {
        for (text, of_999) in [("0", 0), ("100", 100), ("1%", 9), ("0.25%", 2), ("100%", 999)] {
            let tolerance = Tolerance::parse(text).unwrap();
            assert_eq!(tolerance.to_string(), text);
            assert_eq!(tolerance.of(999), of_999, "{text}");
        }
        assert_eq!(Tolerance::parse("0.5%").unwrap(), Tolerance::Fraction(50));
        assert_eq!(Tolerance::Fraction(10_000).of(u64::MAX), u64::MAX);
        for text in
            ["", "%", "-1", "+1", "1.5", "101%", "0.001%", "1 %", "99999999999%", ".5%", "1.%"]
        {
            assert_eq!(Tolerance::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_name_has_its_test() {
        for name in TrialKind::NAMED {
            assert_eq!(TrialKind::of_name(name).unwrap().name(), name);
        }
        assert_eq!(TrialKind::of_name("command"), None);
    }
}
