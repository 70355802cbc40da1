//! Ways to spoil a gate that is open: each rule alone says no.

use super::{HOUR, NEW_IMAGE, OLD_IMAGE, OTHER_IMAGE, Scene, at, before, now, runs, version};
use crate::model::id::Sha256;
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{Gate, RuleName};
use crate::policy::readable::Readability;
use crate::upgrade::rules::{SnapshotSeen, Window};
use crate::upgrade::words::later;

/// One way to spoil an open gate, and which rule alone says no.
pub(super) struct Spoilt {
    pub(super) gate: Gate,
    pub(super) rule: RuleName,
    pub(super) what: &'static str,
    pub(super) spoil: fn(&mut Scene),
    /// A part of what would make it pass.
    pub(super) needs: &'static str,
}

const fn spoilt(
    gate: Gate,
    rule: RuleName,
    what: &'static str,
    spoil: fn(&mut Scene),
    needs: &'static str,
) -> Spoilt {
    Spoilt { gate, rule, what, spoil, needs }
}

pub(super) fn staging_snapshot(scene: &mut Scene) -> &mut SnapshotSeen {
    scene.seen.staging.snapshot.as_mut().unwrap()
}

pub(super) fn production_snapshot(scene: &mut Scene) -> &mut SnapshotSeen {
    scene.seen.production.snapshot.as_mut().unwrap()
}

fn ways_about_backups() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{BothBackedUp, Fresh, KeyFit as Fit};
    vec![
        spoilt(
            Staging,
            BothBackedUp,
            "not sealed",
            |it| staging_snapshot(it).is_sealed = false,
            "back up staging",
        ),
        spoilt(
            Production,
            BothBackedUp,
            "blobs gone",
            |it| production_snapshot(it).is_whole = false,
            "back up production",
        ),
        spoilt(
            BeforeStop,
            BothBackedUp,
            "production not sealed",
            |it| production_snapshot(it).is_sealed = false,
            "back up production",
        ),
        spoilt(
            Staging,
            BothBackedUp,
            "skewed",
            |it| production_snapshot(it).is_of_one_moment = false,
            "back up production with its writers stopped",
        ),
        spoilt(
            Staging,
            Fresh,
            "old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            BeforeStop,
            Fresh,
            "old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            Production,
            Fresh,
            "staging's is old",
            |it| staging_snapshot(it).time = before(3),
            "back up staging",
        ),
        spoilt(
            Staging,
            Fresh,
            "from the future",
            |it| staging_snapshot(it).time = later(now(), HOUR),
            "set the clock right",
        ),
        spoilt(
            Production,
            Fresh,
            "writers never stopped",
            |it| it.seen.production.stopped_since = None,
            "back up production while its writers are stopped",
        ),
        spoilt(
            Production,
            Fresh,
            "writers ran in between",
            |it| production_snapshot(it).time = before(1),
            "back up production while its writers are stopped",
        ),
        spoilt(
            Production,
            Fresh,
            "production's is from the future",
            |it| production_snapshot(it).time = later(now(), HOUR),
            "back up production while its writers are stopped",
        ),
        spoilt(
            Staging,
            Fit,
            "other keys",
            |it| production_snapshot(it).key_fit = KeyFit::Unfit,
            "set production's own keys",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ways_about_versions() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{Images as Pictures, Path, Soaked, StagingFirst, StagingTested};
    vec![
        spoilt(
            Staging,
            Pictures,
            "not pulled",
            |it| it.seen.staging.images.as_mut().unwrap().new = None,
            "fetch the new image",
        ),
        spoilt(
            Production,
            Pictures,
            "no way back",
            |it| it.seen.production.images.as_mut().unwrap().old = None,
            "fetch the old image",
        ),
        spoilt(
            BeforeStop,
            Pictures,
            "another image under the same tag",
            |it| it.seen.production.images.as_mut().unwrap().new = Some(OTHER_IMAGE.to_owned()),
            "the very image that staging tried",
        ),
        spoilt(
            Staging,
            Path,
            "production moved on",
            |it| it.seen.production.running = runs("v2.4.4", OLD_IMAGE),
            "make a new plan",
        ),
        spoilt(
            Production,
            Path,
            "production is not to be told",
            |it| it.seen.production.running = None,
            "tells its version",
        ),
        spoilt(
            Staging,
            Path,
            "staging is newer",
            |it| it.seen.staging.running = runs("v2.6.0", NEW_IMAGE),
            "restore a snapshot",
        ),
        spoilt(
            Staging,
            Path,
            "staging is far behind",
            |it| it.seen.staging.running = runs("v1.50", OLD_IMAGE),
            "go to v1.99 first",
        ),
        spoilt(
            Staging,
            Path,
            "another edition",
            |it| it.plan.hops[0].to = version("v2.5.1-ee"),
            "a version of the edition that runs",
        ),
        spoilt(
            Production,
            StagingFirst,
            "staging was put back",
            |it| it.seen.staging.running = runs("v2.4.3", NEW_IMAGE),
            "upgrade staging to v2.5.1",
        ),
        spoilt(
            Production,
            StagingFirst,
            "another version than the target",
            |it| it.seen.staging.running = runs("v2.5.2", NEW_IMAGE),
            "upgrade staging to v2.5.1",
        ),
        spoilt(
            BeforeStop,
            StagingTested,
            "another image since",
            |it| it.seen.staging.running = runs("v2.5.1", OTHER_IMAGE),
            "staging be upgraded and tested (",
        ),
        spoilt(
            Production,
            StagingTested,
            "tests of another version",
            |it| it.tested.as_mut().unwrap().version = version("v2.5.0"),
            "staging be upgraded and tested (",
        ),
        spoilt(
            BeforeStop,
            Soaked,
            "not for long",
            |it| it.tested.as_mut().unwrap().first = now(),
            "wait until 2026-11-21T03:00:00Z",
        ),
        spoilt(
            Production,
            Soaked,
            "not tested at its end",
            |it| it.tested.as_mut().unwrap().first = before(3),
            "test staging again now",
        ),
        spoilt(
            Production,
            StagingTested,
            "expired",
            |it| {
                let tested = it.tested.as_mut().unwrap();
                (tested.first, tested.last) = (before(400), before(399));
            },
            "staging be upgraded and tested (",
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn ways_about_conditions() -> Vec<Spoilt> {
    use Gate::{BeforeStop, Production, Staging};
    use RuleName::{Approved, AppsReadable, Drilled, Room as Space, Window as Time};
    vec![
        spoilt(
            Staging,
            Space,
            "full",
            |it| it.seen.room[0].free_bytes = Some(1 << 30),
            "free 4.0 GiB in /srv/appsmith of production",
        ),
        spoilt(
            Production,
            Space,
            "not to be told",
            |it| it.seen.room[0].free_bytes = None,
            "can be looked at",
        ),
        spoilt(
            Production,
            Approved,
            "nobody",
            |it| it.approvals.clear(),
            "one of alice, bob says `belay upgrade approve main` once staging has passed",
        ),
        spoilt(
            Production,
            Approved,
            "the wrong name",
            |it| it.approvals[0].by = "eve".to_owned(),
            "one of alice, bob",
        ),
        spoilt(
            BeforeStop,
            Approved,
            "another plan",
            |it| it.approvals[0].plan = Sha256([0; 32]),
            "one of alice, bob",
        ),
        spoilt(
            BeforeStop,
            Approved,
            "another hop",
            |it| it.approvals[0].hop = 1,
            "one of alice, bob",
        ),
        spoilt(
            Production,
            Time,
            "closed",
            |it| {
                it.seen.window =
                    Some(Window { is_open: false, opens_at: Some(at("2026-11-28T00:00:00Z")) });
            },
            "wait until 2026-11-28T00:00:00Z",
        ),
        spoilt(
            BeforeStop,
            Time,
            "never",
            |it| it.seen.window = Some(Window { is_open: false, opens_at: None }),
            "opens some day",
        ),
        spoilt(Production, Time, "not to be told", |it| it.seen.window = None, "can be read"),
        spoilt(
            Staging,
            AppsReadable,
            "too new",
            |it| {
                it.seen.apps[0].readability =
                    Readability::NotReadable { reason: "schema 14".to_owned() }
            },
            "belay apps status",
        ),
        spoilt(
            Production,
            AppsReadable,
            "nobody knows",
            |it| {
                it.seen.apps[0].readability =
                    Readability::Unknown { reason: "no metadata".to_owned() }
            },
            "belay apps status",
        ),
        spoilt(Staging, Drilled, "never", |it| it.seen.drill = None, "be drilled"),
        spoilt(
            Production,
            Drilled,
            "failed",
            |it| it.seen.drill.as_mut().unwrap().passed = false,
            "be drilled",
        ),
        spoilt(
            Production,
            Drilled,
            "long ago",
            |it| it.seen.drill.as_mut().unwrap().at = before(24 * 31),
            "be drilled",
        ),
        spoilt(
            Production,
            Drilled,
            "in the future",
            |it| it.seen.drill.as_mut().unwrap().at = later(now(), HOUR),
            "be drilled",
        ),
    ]
}

pub(super) fn ways() -> Vec<Spoilt> {
    let mut ways = ways_about_backups();
    ways.extend(ways_about_versions());
    ways.extend(ways_about_conditions());
    ways
}
