//! What can be written on the command line.

use super::apps::arguments::AppsArguments;
use super::upgrade::arguments::UpgradeArguments;
use crate::model::id::{InstanceId, JobId};
use crate::model::via::Via;
use crate::ops::SnapshotRef;
use crate::repository::check::Slice;
use clap::{Args, Parser, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// Backup and disaster recovery for self-hosted low-code platforms.
#[derive(Debug, Parser)]
#[command(name = "belay", version, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed; 2 usage or configuration; 3 done with warnings or partly; \
4 damage found; 5 the gate is closed; 6 not a file of the expected kind; 10 no such repository; 11 locked; 12 wrong password; 130 interrupted."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// Above these in the help, apart from a command's own.
const GENERAL: &str = "General options";

/// Options of all commands.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The configuration file
    #[arg(long, global = true, help_heading = GENERAL, env = "BELAY_CONFIG", value_name = "FILE", default_value = "/etc/belay/belay.toml", value_hint = ValueHint::FilePath)]
    pub(super) config: PathBuf,
    /// A repository of the configuration by its name; or, with --password-file and without any configuration, by its URL
    #[arg(long, global = true, help_heading = GENERAL, value_name = "NAME|URL")]
    pub(super) repository: Option<String>,
    /// A file with a password of the repository that --repository names by its URL
    #[arg(long, global = true, help_heading = GENERAL, value_name = "FILE", requires = "repository", value_hint = ValueHint::FilePath)]
    pub(super) password_file: Option<PathBuf>,
    /// Print one JSON document on standard output instead of text
    #[arg(long, global = true, help_heading = GENERAL)]
    pub(super) json: bool,
    /// Print only results, warnings and errors
    #[arg(long, short, global = true, help_heading = GENERAL)]
    pub(super) quiet: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create the repository of the configuration, and print its recovery key
    Init,
    /// Look for everything that could keep a backup or a restore from working, and say what to do
    Doctor(DoctorArguments),
    /// Look for running instances, and print a configuration that backs them up
    Discover(DiscoverArguments),
    /// Tell each instance's last good snapshot and what is wrong, on one screen
    Status,
    /// Run in the background: take snapshots on their schedules, look after the repositories, serve the API
    Daemon,
    /// List, show, follow and cancel the daemon's jobs
    Job(JobArguments),
    /// Take snapshots of instances
    Backup(BackupArguments),
    /// Ask whether a pair may get another version: every rule, what it saw, and what would make it pass
    Gate(GateArguments),
    /// Bring another version to a pair: both backed up, staging first, and a way back with the data
    Upgrade(UpgradeArguments),
    /// Look after apps that are stored in git repositories: history, differences, what was pushed away
    Apps(AppsArguments),
    /// List the snapshots
    List,
    /// Tell what a snapshot holds
    Show(SnapshotArguments),
    /// List the files of a snapshot
    Ls(LsArguments),
    /// Tell what differs between two snapshots
    Diff(DiffArguments),
    /// Bring a snapshot back, into a directory or in place of an instance
    Restore(RestoreArguments),
    /// Write all of a snapshot into one file, not encrypted, that `tar` unpacks and `belay import` takes back
    Export(ExportArguments),
    /// Make a snapshot of what `appsmithctl backup` left, or `belay export` wrote
    Import(ImportArguments),
    /// Verify the repository, and name what is lost
    Check(CheckArguments),
    /// Forget the snapshots that the retention policies do not keep, and reclaim their room
    Prune(PruneArguments),
    /// Keep a snapshot whatever the retention policy says
    Pin(PinArguments),
    /// Let the retention policy decide about a snapshot again
    Unpin(UnpinArguments),
    /// Say which instance a name of this host stands for
    Adopt(AdoptArguments),
    /// Add, list, remove and try the passwords of the repository
    Key(KeyArguments),
    /// Make the local catalog again
    Catalog(CatalogArguments),
    /// Check, show and recover the configuration
    Config(ConfigArguments),
    /// Talk to a git repository for another process of this program
    #[command(hide = true, name = "git-worker")]
    GitWorker,
    /// Show the main job on a small made-up instance in a temporary directory
    Demo,
    /// Print a script that completes Belay's commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page of Belay, or of one of its commands
    Man {
        /// The command
        command: Option<String>,
    },
}

/// What of `--repository` and `--password-file` a command takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// Neither: it works on all repositories, on an instance's own, or on none.
    Nothing,
    /// `--repository` with the name of a repository of the configuration.
    Name,
    /// Also `--repository` with a URL, together with `--password-file`.
    Url,
}

impl Command {
    /// Its name, and what of `--repository` and `--password-file` it takes.
    pub(super) fn takes(&self) -> (&'static str, Takes) {
        match self {
            Self::Init => ("init", Takes::Name),
            Self::Doctor(_) => ("doctor", Takes::Nothing),
            Self::Discover(_) => ("discover", Takes::Nothing),
            Self::Status => ("status", Takes::Nothing),
            Self::Daemon => ("daemon", Takes::Nothing),
            Self::Job(_) => ("job", Takes::Nothing),
            Self::Backup(_) => ("backup", Takes::Nothing),
            Self::Gate(_) => ("gate", Takes::Nothing),
            Self::Upgrade(_) => ("upgrade", Takes::Nothing),
            Self::Apps(_) => ("apps", Takes::Nothing),
            Self::List => ("list", Takes::Url),
            Self::Show(_) => ("show", Takes::Url),
            Self::Ls(_) => ("ls", Takes::Url),
            Self::Diff(_) => ("diff", Takes::Url),
            Self::Restore(RestoreArguments { into: Some(_), .. }) => {
                ("restore --into", Takes::Name)
            }
            Self::Restore(_) => ("restore", Takes::Url),
            Self::Export(_) => ("export", Takes::Url),
            Self::Import(_) => ("import", Takes::Nothing),
            Self::Check(_) => ("check", Takes::Url),
            Self::Prune(_) => ("prune", Takes::Name),
            Self::Pin(_) => ("pin", Takes::Name),
            Self::Unpin(_) => ("unpin", Takes::Name),
            Self::Adopt(_) => ("adopt", Takes::Nothing),
            Self::Key(_) => ("key", Takes::Name),
            Self::Catalog(_) => ("catalog rebuild", Takes::Url),
            Self::Config(ConfigArguments { command: ConfigCommand::Recover { .. } }) => {
                ("config recover", Takes::Url)
            }
            Self::Config(_) => ("config", Takes::Nothing),
            Self::GitWorker => ("git-worker", Takes::Nothing),
            Self::Demo => ("demo", Takes::Nothing),
            Self::Completions { .. } => ("completions", Takes::Nothing),
            Self::Man { .. } => ("man", Takes::Nothing),
        }
    }
}

pub(super) fn snapshot_ref(text: &str) -> Result<SnapshotRef, String> {
    text.parse()
}

/// `discover`.
#[derive(Debug, Args)]
pub(super) struct DiscoverArguments {
    /// Where to look: "local", "ssh:USER@HOST", or several of these
    #[arg(value_name = "VIA", default_value = "local")]
    pub(super) via: Vec<Via>,
    /// A configuration of ssh in place of the user's own
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) ssh_config: Option<PathBuf>,
}

/// `doctor`.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// Only this instance
    pub(super) name: Option<String>,
    /// Look with the eyes of the daemon: as its user, in the sandbox of its unit, with its credentials
    #[arg(long)]
    pub(super) as_service: bool,
}

/// `job`.
#[derive(Debug, Args)]
pub(super) struct JobArguments {
    #[command(subcommand)]
    pub(super) command: JobCommand,
}

/// What to do with the daemon's jobs.
#[derive(Debug, Subcommand)]
pub(super) enum JobCommand {
    /// List the newest jobs
    List {
        /// So many
        #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
        limit: u32,
    },
    /// Tell what a job is to do, and how it ended
    Show {
        /// Its id
        id: JobId,
    },
    /// Show what happens in a job until it ends, and end as it does
    Follow {
        /// Its id
        id: JobId,
    },
    /// Ask a job to stop
    Cancel {
        /// Its id
        id: JobId,
    },
}

/// `backup`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(super) struct BackupArguments {
    /// The instances
    #[arg(group = "what")]
    pub(super) names: Vec<String>,
    /// All instances of the configuration
    #[arg(long, group = "what")]
    pub(super) all: bool,
    /// Both instances of a pair
    #[arg(long, value_name = "PAIR", group = "what")]
    pub(super) pair: Option<String>,
    /// Read every file, also those that look unchanged since the last snapshot
    #[arg(long)]
    pub(super) reread: bool,
    /// Take a component that has no files any more for what it is, and not for a file system that is not mounted
    #[arg(long)]
    pub(super) allow_empty: bool,
}

/// `gate`.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 the gate is open; 5 it is closed.")]
pub(super) struct GateArguments {
    /// The pair
    pub(super) pair: String,
    /// The version to go to, such as v2.5.1
    #[arg(long, value_name = "VERSION")]
    pub(super) to: String,
    /// What stands behind the gate
    #[arg(long, value_name = "NAME", value_enum, default_value_t = EnvironmentArgument::Production)]
    pub(super) environment: EnvironmentArgument,
}

/// One of the two instances of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum EnvironmentArgument {
    /// Where a version is tried
    Staging,
    /// Where users work
    Production,
}

/// `show`.
#[derive(Debug, Args)]
pub(super) struct SnapshotArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
}

/// What `--json` does with paths.
const EXACT_PATHS: &str = "With --json a path is its exact text. One that is not UTF-8 is escaped, and comes a second time \
as base64 of its bytes: path_base64 beside path, target_base64 beside target.";

/// `ls`.
#[derive(Debug, Args)]
#[command(after_help = EXACT_PATHS)]
pub(super) struct LsArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
    /// Only this path of the snapshot and what is below it, as `ls` shows it
    #[arg(default_value = "", hide_default_value = true)]
    pub(super) path: OsString,
}

/// `diff`.
#[derive(Debug, Args)]
#[command(after_help = EXACT_PATHS)]
pub(super) struct DiffArguments {
    /// The earlier snapshot: an id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) a: SnapshotRef,
    /// The later snapshot
    #[arg(value_parser = snapshot_ref)]
    pub(super) b: SnapshotRef,
}

/// `restore`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
#[command(group = clap::ArgGroup::new("target").required(true))]
pub(super) struct RestoreArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
    /// Restore into this directory, which must be empty or not exist
    #[arg(long, value_name = "DIR", group = "target", value_hint = ValueHint::DirPath)]
    pub(super) to_dir: Option<PathBuf>,
    /// Restore in place of this instance; its present state goes into a snapshot first
    #[arg(long, value_name = "NAME", group = "target")]
    pub(super) into: Option<String>,
    /// Only this component (may be given several times)
    #[arg(long, value_name = "NAME")]
    pub(super) component: Vec<String>,
    /// Only this path, as `ls` shows it or where it came from (may be given several times; with --component it must lie in one of
    /// those)
    #[arg(long, value_name = "PATH")]
    pub(super) path: Vec<OsString>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// The snapshot is of another instance, and that is meant
    #[arg(long, requires = "into")]
    pub(super) as_clone: bool,
    /// The name of the instance that is overwritten by another's snapshot
    #[arg(long, value_name = "NAME", requires = "as_clone")]
    pub(super) confirm: Option<String>,
    /// The present state may be lost where there is no room to keep it: without room for a snapshot it is only set aside, and
    /// without room for the new state beside it, it is deleted first
    #[arg(long, requires_all = ["into", "reason"])]
    pub(super) discard_current: bool,
    /// Why the present state may be lost
    #[arg(long, value_name = "TEXT", requires = "discard_current")]
    pub(super) reason: Option<String>,
}

/// `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
    /// The file to write, such as snapshot.tar.zst; - for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// Overwrite a file that exists
    #[arg(long)]
    pub(super) force: bool,
}

/// `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// What `appsmithctl backup` left, .tar.gz or .tar.gz.enc, or an export of Belay, .tar.zst
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    /// The instance of the configuration that it is of
    #[arg(long, value_name = "NAME")]
    pub(super) instance: String,
    /// A file with the password that the file was encrypted with; asked for on the terminal otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) archive_password_file: Option<PathBuf>,
    /// An environment file with the instance's encryption keys, such as its docker.env, where the file holds none or wrong ones;
    /// asked for on the terminal otherwise
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) keys: Option<PathBuf>,
    /// The keys are lost: the snapshot is kept without, and does not count as a good one
    #[arg(long, requires = "reason", conflicts_with = "keys")]
    pub(super) without_keys: bool,
    /// Why there are no keys
    #[arg(long, value_name = "TEXT", requires = "without_keys")]
    pub(super) reason: Option<String>,
    /// Also when the same file was imported before
    #[arg(long)]
    pub(super) again: bool,
    /// Print what the file holds, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    /// Read every byte, or the nth of t slices (1/7 on Monday, 2/7 on Tuesday, …)
    #[arg(long, value_name = "n/t", num_args = 0..=1, default_missing_value = "1/1")]
    pub(super) read_data: Option<Slice>,
}

/// `prune`.
#[derive(Debug, Args)]
pub(super) struct PruneArguments {
    /// Print what would be forgotten and reclaimed, and why, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How much of the repository may stay unused before packs are copied to reclaim it, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0, value_parser = percent)]
    pub(super) max_unused: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("a number from 0 to 100 is expected".into()),
    }
}

/// `pin`.
#[derive(Debug, Args)]
pub(super) struct PinArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
    /// Why it is kept
    #[arg(long, value_name = "TEXT", default_value = "by hand")]
    pub(super) reason: String,
}

/// `unpin`.
#[derive(Debug, Args)]
pub(super) struct UnpinArguments {
    /// An id, the beginning of one, or latest:NAME
    #[arg(value_parser = snapshot_ref)]
    pub(super) snapshot: SnapshotRef,
    /// Only the pin for this reason, instead of all
    #[arg(long, value_name = "TEXT")]
    pub(super) reason: Option<String>,
}

/// `adopt`.
#[derive(Debug, Args)]
pub(super) struct AdoptArguments {
    /// The instance of the configuration
    pub(super) name: String,
    /// It is another instance than the one that has snapshots under this name
    #[arg(long, conflicts_with = "id")]
    pub(super) new: bool,
    /// It is the instance with this id
    #[arg(long)]
    pub(super) id: Option<InstanceId>,
}

/// `key`.
#[derive(Debug, Args)]
pub(super) struct KeyArguments {
    #[command(subcommand)]
    pub(super) command: KeyCommand,
}

/// What to do with passwords.
#[derive(Debug, Subcommand)]
pub(super) enum KeyCommand {
    /// Add a password
    Add {
        /// A file with the new password; asked for on the terminal otherwise
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_password_file: Option<PathBuf>,
        /// What the password is for
        #[arg(long, value_name = "TEXT")]
        label: Option<String>,
        /// Make and print another recovery key instead
        #[arg(long, conflicts_with_all = ["new_password_file", "label"])]
        recovery: bool,
    },
    /// List the passwords' keys
    List,
    /// Remove a password
    Remove {
        /// The beginning of its key's id
        id: String,
    },
    /// Try a password; a recovery key that works, in any case and with or without its dashes, is noted as proven
    Test {
        /// A file with the password; asked for on the terminal otherwise
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        new_password_file: Option<PathBuf>,
    },
}

/// `catalog`.
#[derive(Debug, Args)]
pub(super) struct CatalogArguments {
    #[command(subcommand)]
    pub(super) command: CatalogCommand,
}

/// What to do with the catalog.
#[derive(Debug, Subcommand)]
pub(super) enum CatalogCommand {
    /// Make the catalog again from the repository; the old one is kept beside it
    Rebuild {
        /// Where the catalog is, when --repository stands in for a configuration; one that knows other repositories is not replaced
        #[arg(long, value_name = "DIR", default_value = "/var/lib/belay/state", value_hint = ValueHint::DirPath)]
        state_dir: PathBuf,
    },
}

/// `config`.
#[derive(Debug, Args)]
pub(super) struct ConfigArguments {
    #[command(subcommand)]
    pub(super) command: ConfigCommand,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Say whether the configuration is right, and where it is not
    Check,
    /// Print the JSON Schema of the configuration, for editors
    Schema,
    /// Print the configuration in effect, defaults filled in and secrets hidden
    Show,
    /// Print the configuration in the newest snapshot of the repository
    Recover {
        /// Only that of this host
        #[arg(long)]
        host: Option<String>,
        /// Write it to this file, which must not exist, instead of printing it
        #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
        output: Option<PathBuf>,
    },
}
