//! How a job ended, seen from outside: a job only knows that it was asked to stop.

use super::INTERRUPTED;
use super::entry::{again, as_job, failed, is_of_a_person};
use crate::catalog::{Entry, Origin};
use crate::model::job::{Ended, Failure};
use crate::policy::retries::Retries;
use jiff::Timestamp;
use std::time::Duration;

/// Why a running job is asked to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Somebody wants it so.
    Asked(String),
    /// Something more urgent is due.
    GivesWay,
    /// It took too long.
    Deadline(Duration),
    /// The daemon ends.
    Shutdown,
}

/// How a job ended that was asked to stop for a reason, or for none, and what goes on with it.
pub(super) fn seen(entry: &Entry, stop: Option<&Stop>, ended: Ended) -> (Ended, Option<Entry>) {
    let stop = stop.filter(|_| ended.exit_code == INTERRUPTED);
    match stop {
        Some(Stop::Asked(by)) => {
            let failure = Some(Failure { error: format!("{by} cancelled it"), hint: None });
            (Ended { failure, ..ended }, None)
        }
        Some(Stop::Deadline(deadline)) => {
            let deadline = jiff::SignedDuration::try_from(*deadline).unwrap_or_default();
            let error = format!("it took longer than {deadline:#}, and was stopped");
            let hint = "find out why it takes so long, or set `deadline` higher";
            (failed(&error, Some(hint), 1), None)
        }
        Some(Stop::GivesWay) => {
            let next = again(entry, 0).ok();
            let next = next.map(|next| Entry { gave_way: next.gave_way + 1, ..next });
            let told =
                format!("it gave way to a job that waits, and goes on{}", as_job(next.as_ref()));
            (failed(&told, None, INTERRUPTED), next)
        }
        Some(Stop::Shutdown) if is_of_a_person(&entry.work) => {
            let hint = "ask for it again when the daemon works again";
            (failed("the daemon ends", Some(hint), INTERRUPTED), None)
        }
        Some(Stop::Shutdown) => {
            let next = again(entry, 0).ok();
            let told = format!(
                "the daemon ends; it goes on when the daemon does{}",
                as_job(next.as_ref())
            );
            (failed(&told, None, INTERRUPTED), next)
        }
        None => {
            let may_pass = ended.failure.is_some() && ended.may_pass;
            let is_tried = may_pass && entry.origin == Origin::Schedule;
            let next = is_tried.then(|| tried_again(entry)).flatten();
            (ended, next)
        }
    }
}

/// The next attempt, if there is one more.
fn tried_again(entry: &Entry) -> Option<Entry> {
    let seed = entry.work.subject().as_str().as_bytes();
    let at = Retries::default().next_attempt(entry.attempt, Timestamp::now(), seed)?;
    Some(Entry { not_before: Some(at), ..again(entry, 1).ok()? })
}
