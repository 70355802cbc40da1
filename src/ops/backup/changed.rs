//! Whether an instance runs another version than in its snapshot before, which Belay did not install: somebody else did, with or without
//! a backup of the version before.
//!
//! What always holds: the last good snapshot of the version before is pinned before the first one of the new version is stored, so that
//! retention cannot take it; and a version that could not be read is no change.

use super::Run;
use crate::catalog::Catalog;
use crate::model::event::Event;
use crate::model::id::{InstanceId, RepositoryId, SnapshotId};
use crate::model::snapshot_record::SnapshotRecord;
use crate::model::upgrade::{Entry, Journal, Step};
use crate::model::version::Version;
use crate::ops::OpsError;
use crate::ops::pins;
use crate::ops::select::{SnapshotRef, TAG_BEFORE_RESTORE};
use jiff::Timestamp;

/// So many snapshots are looked through for one that tells its version.
const MOST_LOOKED_AT: usize = 100;

/// A snapshot that tells which version the instance ran.
struct Known {
    version: String,
    time: Timestamp,
}

impl Run<'_> {
    /// Compare the version with the one before; what is wrong is told, and comes back as a warning.
    pub(super) fn changed_version(
        &self,
        version: Option<&str>,
    ) -> Result<Option<String>, OpsError> {
        let Some(version) = version.filter(|_| self.options.before_restore_of.is_none()) else {
            return Ok(None);
        };
        let catalog = self.session.require_catalog()?;
        let repository = RepositoryId(self.session.repository.id().0);
        let mut own = catalog.snapshots(repository)?;
        own.retain(|record| record.instance == Some(self.identity));
        own.truncate(MOST_LOOKED_AT);
        let Some(known) = last_known(catalog, repository, &own)? else { return Ok(None) };
        if is_same(&known.version, version)
            || self.is_of_an_upgrade(catalog, &known, version)?
            || is_of_a_restore(catalog, repository, &own, &known, version)?
        {
            return Ok(None);
        }
        let mut last_good = None;
        for record in own.iter().filter(|record| record.is_good()) {
            let before = catalog.manifest(repository, record.id)?.and_then(|it| it.version);
            if before.is_some_and(|before| is_same(&before, &known.version)) {
                last_good = Some(record.id);
                break;
            }
        }
        Ok(Some(self.tell_changed(&known.version, version, last_good)))
    }

    fn tell_changed(&self, from: &str, to: &str, last_good: Option<SnapshotId>) -> String {
        let (name, events) = (&self.instance.name, &self.context.events);
        let pinned = match last_good.map(|id| (id, self.pin(id, from, to))) {
            Some((id, Ok(()))) => {
                format!("the last good snapshot of {from}, {}, is pinned", id.short())
            }
            Some((id, Err(error))) => format!(
                "the last good snapshot of {from}, {}, could not be pinned: {error}; run `belay pin {}`",
                id.short(),
                id.short()
            ),
            None => format!("there is no good snapshot of {from}"),
        };
        let warning = format!(
            "{name} runs {to}, which Belay did not install: in the snapshot before it was {from}; {pinned}"
        );
        events.warn(format!("{warning}."));
        events.send(Event::VersionChanged {
            instance: name.clone(),
            from: from.to_owned(),
            to: to.to_owned(),
            last_good,
        });
        warning
    }

    fn pin(&self, id: SnapshotId, from: &str, to: &str) -> Result<(), OpsError> {
        let reason = format!("the last of {from}, before somebody installed {to}");
        let snapshot = SnapshotRef::Prefix(id.to_string());
        pins::pin(self.session, &snapshot, &reason, self.context).map(drop)
    }

    /// Whether an upgrade has put this version there, or was about to, since the snapshot before.
    fn is_of_an_upgrade(
        &self,
        catalog: &Catalog,
        known: &Known,
        version: &str,
    ) -> Result<bool, OpsError> {
        let journals = catalog.upgrades(None)?;
        Ok(journals.iter().any(|journal| explains(journal, self.identity, known.time, version)))
    }
}

/// The newest snapshot that says which version the instance ran. A state that a restore was about to overwrite does not count.
fn last_known(
    catalog: &Catalog,
    repository: RepositoryId,
    own: &[SnapshotRecord],
) -> Result<Option<Known>, OpsError> {
    for record in own.iter().filter(|record| overwritten_by(record).is_none()) {
        let manifest = catalog.manifest(repository, record.id)?;
        if let Some(version) = manifest.and_then(|manifest| manifest.version) {
            return Ok(Some(Known { version, time: record.time }));
        }
    }
    Ok(None)
}

/// The snapshot whose restore was about to overwrite what is in this one.
fn overwritten_by(record: &SnapshotRecord) -> Option<SnapshotId> {
    record
        .tags
        .iter()
        .find_map(|tag| tag.strip_prefix(TAG_BEFORE_RESTORE)?.strip_prefix('=')?.parse().ok())
}

/// A database may say which version it was used by last, so that a restore brings that back, too.
fn is_of_a_restore(
    catalog: &Catalog,
    repository: RepositoryId,
    own: &[SnapshotRecord],
    known: &Known,
    version: &str,
) -> Result<bool, OpsError> {
    for record in own.iter().take_while(|record| record.time >= known.time) {
        let Some(restored) = overwritten_by(record) else { continue };
        let restored = catalog.manifest(repository, restored)?.and_then(|it| it.version);
        if restored.is_some_and(|restored| is_same(&restored, version)) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_same(one: &str, other: &str) -> bool {
    match (one.parse::<Version>(), other.parse::<Version>()) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Whether an upgrade says that since a moment it has put this version on that instance, or back.
fn explains(journal: &Journal, id: InstanceId, since: Timestamp, version: &str) -> bool {
    let plan = &journal.plan;
    let (side, steps): (_, &[Step]) = if plan.staging.id == id {
        (&plan.staging, &[Step::UpgradeStaging, Step::PutBackStaging])
    } else {
        (&plan.production, &[Step::UpgradeProduction, Step::PutBackProduction, Step::StartBack])
    };
    let mut hops = journal
        .records
        .iter()
        .filter_map(|record| began(record.at, &record.entry, steps, since))
        .filter_map(|hop| plan.hops.get(hop));
    side.id == id
        && hops.any(|hop| {
            let versions = [&hop.from, &hop.to, &side.version];
            versions.into_iter().any(|it| is_same(&it.to_string(), version))
        })
}

/// The hop in which one of these steps began, not before that moment.
fn began(at: Timestamp, entry: &Entry, steps: &[Step], since: Timestamp) -> Option<usize> {
    match entry {
        Entry::Began { hop, step } if at >= since && steps.contains(step) => Some(*hop),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::upgrade::tests::{at, journal};

    #[test]
    fn only_an_upgrade_of_that_instance_to_that_version_explains_it() {
        let of = |step| {
            journal(vec![Entry::TakenUp { host: "h".into() }, Entry::Began { hop: 0, step }])
        };
        let (staging, production) = (InstanceId([1; 16]), InstanceId([2; 16]));
        let upgraded = of(Step::UpgradeStaging);
        assert!(explains(&upgraded, staging, at(0), "v1.99"));
        assert!(explains(&upgraded, staging, at(0), "1.99.0"), "written another way");
        assert!(!explains(&upgraded, staging, at(0), "v2.5.1"), "of a hop that has not come");
        assert!(!explains(&upgraded, production, at(0), "v1.99"), "the other instance");
        assert!(!explains(&upgraded, staging, at(60), "v1.99"), "before the last snapshot");
        assert!(!explains(&upgraded, InstanceId([3; 16]), at(0), "v1.99"));
        let back = of(Step::PutBackProduction);
        assert!(explains(&back, production, at(0), "v1.90"));
        let tested = of(Step::TestStaging);
        assert!(!explains(&tested, staging, at(0), "v1.99"), "a test installs nothing");
    }
}
