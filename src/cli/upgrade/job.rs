//! An upgrade that a job goes on with: as far as the gate allows, and no longer than there is something to do.

use super::text;
use crate::cli::exit::Exit;
use crate::cli::perform::Said;
use crate::config::{Config, SecretSources};
use crate::model::job::UpgradeWork;
use crate::ops::{Context, OpsError};
use crate::upgrade::conduct::by_itself::{Taken, start_as_shown, take_up};
use crate::upgrade::conduct::scene;
use crate::upgrade::machine::State;
use crate::upgrade::shown::Shown;
use serde_json::json;

/// How a command ends that has left an upgrade in this state.
pub(super) fn exit_of(state: State) -> Exit {
    match state {
        State::GateClosed => Exit::Gated,
        State::Held | State::RolledBack | State::Aborted => Exit::Failed,
        _ => Exit::Done,
    }
}

pub(in crate::cli) fn said(
    config: &Config,
    secrets: &SecretSources,
    work: &UpgradeWork,
    context: &Context,
) -> Result<Said, OpsError> {
    let pair = &work.pair;
    let scene = scene(config, secrets, pair.as_str(), context)?;
    let taken = match &work.start {
        Some(start) => start_as_shown(scene, start),
        None => take_up(scene),
    };
    Ok(match taken? {
        Taken::Rested(upgrade, rest) => {
            let text = text::rested(&upgrade, &rest, config);
            Said::new(exit_of(upgrade.state()), text, &Shown::of(&upgrade, config))
        }
        Taken::Nothing => {
            let text = format!("No upgrade of {pair} has anything to do.");
            Said::new(Exit::Done, text, &json!({ "pair": pair }))
        }
        Taken::Busy => {
            let text = format!("Another process works on the upgrade of {pair}.");
            Said::new(Exit::Done, text, &json!({ "pair": pair }))
        }
    })
}
