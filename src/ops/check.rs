//! Checking a repository, with the catalog beside it.

use super::session::{Session, warn_of_catalog};
use super::{Context, OpsError};
use crate::catalog::LastCheck;
use crate::model::id::RepositoryId;
use crate::repository::check::{CheckOptions, CheckReport};
use jiff::Timestamp;

/// Check the repository; damage is in the report, and no error.
pub fn check(
    session: &Session,
    options: &CheckOptions,
    context: &Context,
) -> Result<CheckReport, OpsError> {
    let _lock = session.lock_for_reading("check", context)?;
    let report = crate::repository::check::check(
        &session.repository,
        options,
        &context.events,
        &context.cancel,
    )?;
    if let Some(catalog) = &session.catalog {
        let last = LastCheck {
            at: Timestamp::now(),
            ok: !report.is_damaged(),
            read_data: options.read_data.is_some(),
        };
        if let Err(error) = catalog.record_check(RepositoryId(session.repository.id().0), last) {
            warn_of_catalog(error, context);
        }
    }
    Ok(report)
}
