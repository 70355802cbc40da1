//! What can be written behind `belay apps`.

use crate::cli::arguments::snapshot_ref;
use crate::model::version::Version;
use crate::ops::SnapshotRef;
use clap::{Args, Subcommand, ValueHint};
use std::path::PathBuf;

/// `apps`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AppsArguments {
    #[command(subcommand)]
    pub(in crate::cli) command: AppsCommand,
}

/// What to do with apps.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AppsCommand {
    /// List the apps of all git repositories
    List,
    /// Bring mirrors of git repositories up to date, without a snapshot
    Fetch(FetchArguments),
    /// Tell what an app consists of
    Show(ShowArguments),
    /// Tell what was done to an app, or what was pushed away
    Log(LogArguments),
    /// Tell what staging has and production has not, and whether production could read it
    Status(StatusArguments),
    /// Tell which pages, queries and other parts differ between two commits
    Diff(DiffArguments),
    /// Bring an app back as a new branch or as files; nothing is forced
    Restore(RestoreArguments),
    /// Import an app into an instance, through the platform's own HTTP interface
    Import(ImportArguments),
    /// Have an instance pull what is new of an app, after a snapshot of it and only what it can read
    Pull(PullArguments),
}

/// `apps fetch`.
#[derive(Debug, Args)]
pub(in crate::cli) struct FetchArguments {
    /// Git repositories of the configuration; all without one
    pub(in crate::cli) names: Vec<String>,
    /// It was emptied or replaced on purpose: keep what the mirror has, and go on with what is there now
    #[arg(long, requires = "names")]
    pub(in crate::cli) new_history: bool,
}

/// `apps show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArguments {
    /// A git repository, git/app, or an app's own name
    pub(in crate::cli) app: String,
    /// A branch, a tag or a commit, in place of production's branch
    #[arg(long, value_name = "COMMIT")]
    pub(in crate::cli) at: Option<String>,
}

/// `apps log`.
#[derive(Debug, Args)]
pub(in crate::cli) struct LogArguments {
    /// A git repository, git/app, or an app's own name
    pub(in crate::cli) app: String,
    /// What was pushed away, and is kept
    #[arg(long, conflicts_with = "at")]
    pub(in crate::cli) kept: bool,
    /// A branch, a tag or a commit, in place of all branches
    #[arg(long, value_name = "COMMIT")]
    pub(in crate::cli) at: Option<String>,
    /// How many commits at most
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(in crate::cli) limit: usize,
}

/// `apps status`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StatusArguments {
    /// A pair of the configuration; all without one
    pub(in crate::cli) pair: Option<String>,
    /// Take production to run this version, such as one that it is to be upgraded to
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) production_version: Option<Version>,
    /// Take staging to run this version
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) staging_version: Option<Version>,
    /// Ask both instances what they really pulled, which reads their databases
    #[arg(long)]
    pub(in crate::cli) live: bool,
}

/// `apps diff`.
#[derive(Debug, Args)]
pub(in crate::cli) struct DiffArguments {
    /// A git repository, git/app, or an app's own name
    pub(in crate::cli) app: String,
    /// Two branches, tags or commits, such as master..staging
    #[arg(value_name = "A..B")]
    pub(in crate::cli) range: String,
}

/// `apps restore`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["at", "from"]))]
#[command(group = clap::ArgGroup::new("target").required(true).args(["branch", "to_dir"]))]
pub(in crate::cli) struct RestoreArguments {
    /// A git repository, git/app, or an app's own name
    pub(in crate::cli) app: String,
    /// A branch, a tag or a commit that the mirror has, also one that was pushed away (`belay apps log APP --kept`)
    #[arg(long, value_name = "COMMIT")]
    pub(in crate::cli) at: Option<String>,
    /// A snapshot: an id, the beginning of one, or latest:NAME
    #[arg(long, value_name = "SNAPSHOT", value_parser = snapshot_ref)]
    pub(in crate::cli) from: Option<SnapshotRef>,
    /// The new branch
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) branch: Option<String>,
    /// Push the new branch; one that is there already is refused
    #[arg(long, requires = "branch")]
    pub(in crate::cli) push: bool,
    /// The branch that is to take it, and whose state a snapshot is asked for; production's without this
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) onto: Option<String>,
    /// Write its files into this directory, which is new or empty
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) to_dir: Option<PathBuf>,
}

/// `apps import`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ImportArguments {
    #[command(flatten)]
    pub(in crate::cli) into: IntoArguments,
    /// Make the application editable there: for a restore or for development, not on staging and production (ToolJet)
    #[arg(long)]
    pub(in crate::cli) editable: bool,
}

/// `apps pull`.
#[derive(Debug, Args)]
pub(in crate::cli) struct PullArguments {
    #[command(flatten)]
    pub(in crate::cli) into: IntoArguments,
}

/// What both take.
#[derive(Debug, Args)]
pub(in crate::cli) struct IntoArguments {
    /// A git repository, git/app, or an app's own name
    pub(in crate::cli) app: String,
    /// The instance
    #[arg(long, value_name = "INSTANCE")]
    pub(in crate::cli) into: String,
    /// Its name there, where it is to be, or is, another one
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) name: Option<String>,
    /// The workspace there, where there are several
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) workspace: Option<String>,
    /// The version that the instance runs, where its snapshots do not tell it
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) instance_version: Option<Version>,
    /// Only ask, and print the calls
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Do not ask a person
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}
