//! Restore in place of a whole instance, whatever it is made of.

use super::into::{self, IntoOptions};
use super::stored::component;
use super::{Source, Wanted, databases, parts};
use crate::config::{Config, Instance, Platform};
use crate::model::id::SnapshotId;
use crate::ops::select::SnapshotRef;
use crate::ops::session::Session;
use crate::ops::{Context, OpsError};

/// How an instance comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As trees of files.
    Files,
    /// As databases of a PostgreSQL server.
    Databases,
    /// As parts of several kinds.
    Parts,
}

impl Kind {
    /// How what is wanted of an instance comes back.
    pub fn of(instance: &Instance, options: &IntoOptions) -> Self {
        // The databases of Appsmith's own PostgreSQL come back as those of any other.
        let is_postgres = options.wanted.components == ["postgres"];
        match instance.platform {
            Platform::Appsmith | Platform::Mongodb if !is_postgres => Self::Parts,
            Platform::Files => Self::Files,
            _ => Self::Databases,
        }
    }
}

/// What was overwritten by a restore.
#[derive(Debug)]
pub struct PutBack {
    /// The snapshot of the state before, which is pinned; none where none could be taken.
    pub before: Option<SnapshotId>,
    /// Where the state before was set aside, where it is in no snapshot, or not all of it.
    pub aside: Vec<String>,
    /// The time between the restored snapshot and now, in seconds.
    pub loss_window_seconds: i64,
    /// What did not come back, or may not work, a sentence each.
    pub warnings: Vec<String>,
}

/// Put a snapshot back in place of all of the instance that it is of. What is overwritten is in a snapshot first, or set aside. What
/// writes should be stopped: what it writes meanwhile may be in no snapshot, and keeps the old databases from being dropped.
pub fn put_back(
    (config, session, instance): (&Config, &Session, &Instance),
    snapshot: SnapshotId,
    discard_current: Option<String>,
    context: &Context,
) -> Result<PutBack, OpsError> {
    let options =
        IntoOptions { discard_current, writers_are_stopped: true, ..IntoOptions::default() };
    let place = (config, session, instance);
    let named = SnapshotRef::Prefix(snapshot.to_string());
    match Kind::of(instance, &options) {
        Kind::Files => {
            let prepared = into::prepare(config, session, instance, &named, &options, context)?;
            let restored = prepared.execute(context)?;
            Ok(PutBack {
                before: restored.before,
                aside: restored.aside.iter().map(ToString::to_string).collect(),
                loss_window_seconds: restored.loss_window_seconds,
                warnings: Vec::new(),
            })
        }
        Kind::Databases => databases_back(place, &named, &options, context),
        Kind::Parts => {
            // Before the others, so that what is saved first is all of the present state.
            let first = if has_postgres(session, &named, context)? {
                let wanted = Wanted { components: vec!["postgres".into()], paths: Vec::new() };
                let options = IntoOptions { wanted, ..options.clone() };
                Some(databases_back(place, &named, &options, context)?)
            } else {
                None
            };
            let mut back = parts_back(place, &named, &options, context)?;
            if let Some(first) = first {
                back.before = first.before.or(back.before);
                back.aside.extend(first.aside);
                back.warnings.extend(first.warnings);
            }
            Ok(back)
        }
    }
}

fn has_postgres(
    session: &Session,
    snapshot: &SnapshotRef,
    context: &Context,
) -> Result<bool, OpsError> {
    let source = Source::open(session, snapshot, context)?;
    Ok(source.manifest.as_ref().and_then(|manifest| component(manifest, "postgres")).is_some())
}

pub(super) fn parts_back(
    (config, session, instance): (&Config, &Session, &Instance),
    snapshot: &SnapshotRef,
    options: &IntoOptions,
    context: &Context,
) -> Result<PutBack, OpsError> {
    let prepared = parts::prepare(config, session, instance, snapshot, options, context)?;
    let restored = prepared.execute(context)?;
    Ok(PutBack {
        before: restored.before,
        aside: restored.aside,
        loss_window_seconds: restored.loss_window_seconds,
        warnings: restored.plan.warnings,
    })
}

fn databases_back(
    (config, session, instance): (&Config, &Session, &Instance),
    snapshot: &SnapshotRef,
    options: &IntoOptions,
    context: &Context,
) -> Result<PutBack, OpsError> {
    let prepared = databases::prepare(config, session, instance, snapshot, options, context)?;
    let restored = prepared.execute(context)?;
    let files = restored.environment_before.into_iter().chain(restored.roles_before);
    Ok(PutBack {
        before: restored.before,
        aside: restored.aside.into_iter().chain(files).collect(),
        loss_window_seconds: restored.loss_window_seconds,
        warnings: restored.plan.warnings,
    })
}
