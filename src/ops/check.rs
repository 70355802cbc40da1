//! Checking a repository, with the catalog beside it.

use super::job::{self, JobResult, JobSubject};
use super::session::{Session, warn_of_catalog};
use super::{Context, OpsError};
use crate::catalog::{JobKind, LastCheck};
use crate::model::id::RepositoryId;
use crate::repository::check::{CheckOptions, CheckReport, Slice};
use jiff::Timestamp;

/// Check the repository; damage is in the report, and no error.
pub fn check(
    session: &Session,
    options: CheckOptions,
    context: &Context,
) -> Result<CheckReport, OpsError> {
    // Without a catalog nothing is recorded: a check works on a bare machine, too.
    let Some(state_dir) = session.catalog.as_ref().and_then(|catalog| catalog.path().parent())
    else {
        return checked(session, options, context);
    };
    let subject =
        JobSubject { kind: JobKind::Check, instance: None, repository: session.name.as_ref() };
    let id = context.job_id()?;
    let work = |context: &Context| checked(session, options, context);
    Ok(job::run(state_dir, id, &subject, context, work)?.0)
}

impl JobResult for CheckReport {}

fn checked(
    session: &Session,
    options: CheckOptions,
    context: &Context,
) -> Result<CheckReport, OpsError> {
    let _lock = session.lock_for_reading("check", context)?;
    let report = crate::repository::check::check(
        &session.repository,
        &options,
        &context.events,
        &context.cancel,
    )?;
    if let Some(catalog) = &session.catalog {
        // A part that is well says nothing of damage that reading another has found.
        let repository = RepositoryId(session.repository.id().0);
        let before = catalog.repository(repository).ok().flatten().and_then(|it| it.last_check);
        let is_all = options.read_data == Some(Slice::ALL);
        let is_open = !is_all && before.is_some_and(|before| !before.ok && before.read_data);
        let last = LastCheck {
            at: Timestamp::now(),
            ok: !report.is_damaged() && !is_open,
            read_data: options.read_data.is_some() || is_open,
        };
        if let Err(error) = catalog.record_check(RepositoryId(session.repository.id().0), last) {
            warn_of_catalog(error, context);
        }
    }
    Ok(report)
}
