//! `belay pin` and `belay unpin`.

use super::arguments::{PinArguments, UnpinArguments};
use super::exit::{Exit, Failure};
use super::open::Environment;
use super::output::field;
use crate::ops::pins::{self, Pinned};

pub(super) fn pin(arguments: &PinArguments, environment: &Environment) -> Result<Exit, Failure> {
    let session = environment.session_of(&arguments.snapshot)?;
    let pinned = pins::pin(&session, &arguments.snapshot, &arguments.reason, &environment.context)?;
    environment.show(&pinned, || text(&pinned))
}

pub(super) fn unpin(
    arguments: &UnpinArguments,
    environment: &Environment,
) -> Result<Exit, Failure> {
    let session = environment.session_of(&arguments.snapshot)?;
    let pinned = pins::unpin(
        &session,
        &arguments.snapshot,
        arguments.reason.as_deref(),
        &environment.context,
    )?;
    if let (Some(reason), false) = (&arguments.reason, pinned.changed) {
        let id = pinned.snapshot.short();
        let hint = if pinned.pins.is_empty() {
            "it is not pinned at all".into()
        } else {
            format!("it is pinned for: {}", pinned.pins.join("; "))
        };
        return Err(Failure {
            hint: Some(hint),
            ..Failure::internal(format!("snapshot {id} has no pin for '{reason}'"))
        });
    }
    environment.show(&pinned, || text(&pinned))
}

fn text(pinned: &Pinned) -> String {
    let id = pinned.snapshot.short();
    let already = if pinned.changed { "" } else { " already" };
    if pinned.pins.is_empty() {
        format!("Snapshot {id} is{already} not pinned: the retention policy decides about it.")
    } else {
        format!("Snapshot {id} is{already} pinned: {}.", field(&pinned.pins.join("; ")))
    }
}
