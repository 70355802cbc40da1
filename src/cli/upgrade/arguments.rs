//! What can be written behind `belay upgrade`.

use crate::model::upgrade::RuleName;
use clap::{Args, Subcommand};

/// `upgrade`.
#[derive(Debug, Args)]
pub(in crate::cli) struct UpgradeArguments {
    #[command(subcommand)]
    pub(in crate::cli) command: UpgradeCommand,
}

/// What to do with upgrades.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum UpgradeCommand {
    /// Tell what an upgrade would do, step by step; nothing is done
    Plan(PlanArguments),
    /// Begin an upgrade: both are backed up, staging goes first, production only when every rule says yes
    Start(StartArguments),
    /// Tell what the upgrade of a pair is at, and what it waits for
    Status(PairArguments),
    /// Say yes to the plan that is on its way
    Approve(ReasonArguments),
    /// Say that a rule is no hindrance, and why; it stays in the journal for ever
    Override(OverrideArguments),
    /// Go on: try again what failed, ask again the rules that said no
    Resume(ResumeArguments),
    /// Give an upgrade up before production is touched
    Abort(AbortArguments),
    /// Bring production's old version back, with its data
    Rollback(RollbackArguments),
    /// Say that production, put back, is right although its tests say no
    Accept(AcceptArguments),
    /// List upgrades
    List(PairArguments),
    /// Tell everything about an upgrade: its plan, its journal, what tests found
    Show(ShowArguments),
    /// Pin the image that an instance runs today, so that nothing but an upgrade changes it
    Adopt(AdoptArguments),
}

/// Where to.
#[derive(Debug, Args)]
pub(in crate::cli) struct PlanArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// The version to go to, such as v2.5.1
    #[arg(long, value_name = "VERSION")]
    pub(in crate::cli) to: String,
    /// A version to stop at on the way, besides those that the platform asks for
    #[arg(long = "stop-at", value_name = "VERSION")]
    pub(in crate::cli) stops: Vec<String>,
}

/// `upgrade start`.
#[derive(Debug, Args)]
pub(in crate::cli) struct StartArguments {
    #[command(flatten)]
    pub(in crate::cli) plan: PlanArguments,
    #[command(flatten)]
    pub(in crate::cli) going: GoingArguments,
    /// Do not ask whether the plan is meant
    #[arg(long)]
    pub(in crate::cli) yes: bool,
}

/// Who does the steps.
#[derive(Debug, Args)]
pub(in crate::cli) struct GoingArguments {
    /// Do the steps in this process, and not in the daemon; it ends where a person has to say something
    #[arg(long)]
    pub(in crate::cli) foreground: bool,
}

/// A pair.
#[derive(Debug, Args)]
pub(in crate::cli) struct PairArguments {
    /// The pair; every one without
    pub(in crate::cli) pair: Option<String>,
}

/// A pair, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct ReasonArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
}

/// `upgrade override`.
#[derive(Debug, Args)]
#[command(
    after_help = "Can be overridden: room, images, soaked, approved, window, apps-readable, drilled. The backups, the keys, the path and \
staging have no override."
)]
pub(in crate::cli) struct OverrideArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// The rule, as `belay gate` calls it
    pub(in crate::cli) rule: RuleName,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
}

/// `upgrade resume`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ResumeArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    #[command(flatten)]
    pub(in crate::cli) going: GoingArguments,
}

/// `upgrade abort`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AbortArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    /// Leave staging at the new version
    #[arg(long)]
    pub(in crate::cli) keep_staging: bool,
    #[command(flatten)]
    pub(in crate::cli) going: GoingArguments,
}

/// `upgrade accept`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AcceptArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: String,
    #[command(flatten)]
    pub(in crate::cli) going: GoingArguments,
}

/// `upgrade rollback`.
#[derive(Debug, Args)]
pub(in crate::cli) struct RollbackArguments {
    /// The pair
    pub(in crate::cli) pair: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) reason: Option<String>,
    /// What the new version left may be lost: there is no room to keep it
    #[arg(long, requires = "reason")]
    pub(in crate::cli) discard_current: bool,
    #[command(flatten)]
    pub(in crate::cli) going: GoingArguments,
}

/// `upgrade show`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArguments {
    /// A pair, for its newest upgrade, or an upgrade's id
    pub(in crate::cli) upgrade: String,
}

/// `upgrade adopt`.
#[derive(Debug, Args)]
pub(in crate::cli) struct AdoptArguments {
    /// The instance
    pub(in crate::cli) name: String,
}
