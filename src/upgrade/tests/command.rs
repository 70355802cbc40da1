//! The test `command`: a program on Belay's own host, where it sees the instance as users do, ends well.

use super::{Asked, Found, Target};
use crate::access::Access;
use crate::config::pair::Script;
use crate::model::via::Via;
use crate::ops::OpsError;
use crate::upgrade::script::{ScriptError, ScriptRun};
use std::collections::VecDeque;

/// So many of the last lines are told.
const LAST_LINES: usize = 10;

pub(super) fn run(
    asked: &Asked<'_>,
    script: &Script,
    target: &Target<'_>,
) -> Result<Found, OpsError> {
    let access = Access::new(Via::local(), None, &asked.context.cancel);
    let url = asked.instance.web.as_ref().map(|web| web.url.to_string());
    let variables = [
        ("BELAY_INSTANCE", asked.instance.name.to_string()),
        ("BELAY_URL", url.unwrap_or_default()),
        ("BELAY_VERSION", target.version.to_owned()),
        ("BELAY_PREVIOUS_VERSION", target.previous.unwrap_or_default().to_owned()),
    ];
    let run = ScriptRun {
        access: &access,
        dir: "",
        script,
        variables: &variables,
        limit: asked.limit,
        cancel: &asked.context.cancel,
    };
    let mut last = VecDeque::new();
    let ran = run.run(&mut |line| {
        if last.len() == LAST_LINES {
            last.pop_front();
        }
        last.push_back(line.to_owned());
    });
    let mut found = match ran {
        Ok(()) => Found::passed("it ended with 0"),
        Err(ScriptError::Cancelled(cancelled)) => return Err(cancelled.into()),
        Err(ScriptError::Failed { status, .. }) => Found::failed(format!("it ended with {status}")),
        Err(ScriptError::TooLong { limit, .. }) => {
            Found::failed(format!("it was ended after {} seconds", limit.as_secs()))
        }
        Err(error) => Found::failed(error.to_string()),
    };
    found.details.extend(last);
    Ok(found)
}
