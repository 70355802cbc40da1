//! Small queues by hand, and long courses of random ones: what may never be, and that everything has its turn.

use super::*;
use crate::policy::schedule::tests::properties::config;
use proptest::prelude::*;
use std::time::Duration;

const LIMITS: Limits = Limits { overall: 3, per_repository: 2 };

fn now() -> Timestamp {
    "2026-11-21T02:30Z".parse().unwrap()
}

fn id(number: u8) -> JobId {
    JobId([0, 0, 0, 0, 0, 0, 0, number])
}

/// A job of the instance `instance`, or of none where that is empty, on the repository "a".
fn job(number: u8, kind: Kind, instance: &'static str) -> Job<'static> {
    let instance = Some(instance).filter(|instance| !instance.is_empty());
    let order = u64::from(number);
    let (id, not_before) = (id(number), now());
    Job { id, kind, instance, repository: "a", beside: None, not_before, order, gave_way: 0 }
}

/// An upgrade of the instances `x` and `y`, whose repositories are "a" and "b".
fn upgrade(number: u8) -> Job<'static> {
    let beside = Some(Beside { instance: "y", repository: "b" });
    Job { beside, ..job(number, Upgrade, "x") }
}

fn started(queued: &[Job], running: &[Job]) -> Vec<u8> {
    may_start(queued, running, LIMITS, now()).iter().map(|id| id.0[7]).collect()
}

fn giving_way(queued: &[Job], running: &[Job]) -> Vec<u8> {
    give_way(queued, running, now()).iter().map(|id| id.0[7]).collect()
}

use Kind::{Backup, Check, Other, Prune, Restore, Upgrade};

#[test]
fn an_instance_has_one_job_and_limits_hold() {
    assert_eq!(started(&[], &[]), Vec::<u8>::new());
    let queued =
        [job(1, Backup, "x"), job(2, Other, "x"), job(3, Backup, "y"), job(4, Backup, "z")];
    assert_eq!(started(&queued, &[]), [1, 3]);
    assert_eq!(started(&queued, &[job(9, Other, "x")]), [3]);
    let on = |repository| move |job| Job { repository, ..job };
    let elsewhere = queued.map(on("b"));
    assert_eq!(started(&elsewhere, &[job(8, Backup, "u"), job(9, Backup, "v")]), [1]);
    assert_eq!(started(&elsewhere, &[job(9, Backup, "v")]), [1, 3]);
    // One instance is one, whatever the repository.
    assert_eq!(started(&elsewhere, &[job(9, Backup, "y")]), [1, 4]);
}

#[test]
fn backups_go_before_checks_and_these_before_prunes() {
    let queued = [
        job(1, Prune, ""),
        Job { repository: "b", ..job(2, Check, "") },
        Job { repository: "b", ..job(3, Backup, "x") },
        Job { repository: "b", ..job(4, Backup, "w") },
    ];
    assert_eq!(started(&queued, &[]), [3, 4, 1]);
    assert_eq!(started(&queued[..3], &[]), [3, 2, 1]);
    let mut turned = queued;
    turned.reverse();
    assert_eq!(started(&turned, &[]), [3, 4, 1]);
}

#[test]
fn a_restore_goes_before_all_that_waits_and_a_prune_gives_way_to_it() {
    let queued = [job(1, Backup, "x"), job(2, Other, "y"), job(3, Restore, "x")];
    assert_eq!(started(&queued, &[]), [3, 2]);
    assert_eq!(giving_way(&queued[2..], &[job(4, Prune, "")]), [3 + 1]);
    assert_eq!(started(&[job(1, Prune, ""), job(3, Restore, "x")], &[]), [3]);
}

#[test]
fn an_upgrade_has_both_instances_for_itself() {
    let (x, y) = (job(1, Backup, "x"), job(2, Backup, "y"));
    assert_eq!(started(&[x, y, upgrade(3)], &[]), [3], "it goes before backups");
    assert_eq!(started(&[x, y], &[upgrade(9)]), Vec::<u8>::new());
    assert_eq!(started(&[upgrade(3)], &[x]), Vec::<u8>::new());
    assert_eq!(started(&[upgrade(3)], &[Job { repository: "c", ..y }]), Vec::<u8>::new());
    // Both its repositories are in use, and a prune of either gives way to it.
    let prunes = [job(4, Prune, ""), Job { repository: "b", ..job(5, Prune, "") }];
    assert_eq!(started(&prunes, &[upgrade(9)]), Vec::<u8>::new());
    assert_eq!(started(&[upgrade(3)], &prunes[1..]), Vec::<u8>::new());
    assert_eq!(giving_way(&[upgrade(3)], &prunes), [4, 5]);
    let elsewhere = [job(6, Check, ""), Job { repository: "b", ..job(7, Check, "") }];
    assert_eq!(started(&elsewhere, &[upgrade(9)]), [6, 7]);
    // Until it can begin, its instances and both its repositories are kept free.
    let z = job(6, Backup, "z");
    let elsewhere = Job { repository: "c", ..z };
    assert_eq!(started(&[upgrade(3), y, z], &[job(9, Other, "x")]), Vec::<u8>::new());
    assert_eq!(started(&[upgrade(3), y, elsewhere], &[job(9, Other, "x")]), [6]);
}

#[test]
fn a_prune_runs_alone() {
    let prune = job(1, Prune, "");
    assert_eq!(started(&[prune], &[]), [1]);
    assert_eq!(started(&[prune], &[job(2, Check, "")]), Vec::<u8>::new());
    assert_eq!(started(&[prune, job(2, Prune, "")], &[]), [1]);
    assert_eq!(started(&[job(2, Backup, "x"), job(3, Check, "")], &[prune]), Vec::<u8>::new());
    // A backup that is ready but whose instance is busy keeps a prune from starting.
    let busy = Job { repository: "b", ..job(3, Other, "x") };
    assert_eq!(started(&[prune, job(2, Backup, "x")], &[busy]), Vec::<u8>::new());
    let later = Job { not_before: now() + Duration::from_secs(1), ..job(2, Backup, "x") };
    assert_eq!(started(&[prune, later], &[]), [1]);
}

#[test]
fn what_is_to_wait_waits_unless_a_wrong_clock_said_so() {
    let wait =
        |hours| Job { not_before: now() + Duration::from_hours(hours), ..job(1, Backup, "x") };
    assert_eq!(started(&[wait(1)], &[]), Vec::<u8>::new());
    assert_eq!(started(&[wait(24)], &[]), Vec::<u8>::new());
    assert_eq!(started(&[wait(25)], &[]), [1]);
}

#[test]
fn a_prune_gives_way_to_a_backup_that_could_start_but_not_for_ever() {
    let prune = job(1, Prune, "");
    let backup = job(2, Backup, "x");
    assert_eq!(giving_way(&[backup], &[prune]), [1]);
    assert_eq!(giving_way(&[job(2, Check, ""), job(3, Other, "x")], &[prune]), Vec::<u8>::new());
    assert_eq!(giving_way(&[backup], &[Job { repository: "b", ..prune }]), Vec::<u8>::new());
    assert_eq!(giving_way(&[backup], &[job(1, Check, "")]), Vec::<u8>::new());
    let later = Job { not_before: now() + Duration::from_secs(1), ..backup };
    assert_eq!(giving_way(&[later], &[prune]), Vec::<u8>::new());
    let busy = Job { repository: "b", ..job(3, Other, "x") };
    assert_eq!(giving_way(&[backup], &[prune, busy]), Vec::<u8>::new());
    assert_eq!(giving_way(&[backup], &[Job { gave_way: 4, ..prune }]), [1]);
    let insisting = Job { gave_way: GIVES_WAY_MOST, ..prune };
    assert_eq!(giving_way(&[backup], &[insisting]), Vec::<u8>::new());
    assert_eq!(started(&[backup, insisting], &[]), [1]);
}

#[test]
fn for_a_job_that_insists_its_place_is_kept_free() {
    let day_ago = now() - Duration::from_hours(24);
    let prune = Job { not_before: day_ago, ..job(5, Prune, "") };
    // Nothing starts on its repository until what runs there has ended, but on others.
    let other = Job { repository: "b", ..job(3, Backup, "y") };
    assert_eq!(started(&[job(2, Backup, "x"), other, prune], &[job(9, Check, "")]), [3]);
    assert_eq!(started(&[job(2, Backup, "x"), other, prune], &[]), [5, 3]);
    // One that insists and came earlier goes first.
    let check = Job { not_before: day_ago, ..job(4, Check, "") };
    assert_eq!(started(&[prune, check, job(2, Backup, "x")], &[]), [4]);
    // The instance is kept, too.
    let stuck = Job { not_before: day_ago, ..job(7, Other, "x") };
    let full = [job(8, Backup, "u"), job(9, Backup, "v")];
    let elsewhere = Job { repository: "b", ..job(1, Backup, "x") };
    assert_eq!(started(&[elsewhere, stuck], &full), Vec::<u8>::new());
    assert_eq!(started(&[elsewhere, job(7, Other, "x")], &full), [1]);
}

const INSTANCES: [&str; 4] = ["", "x", "y", "z"];
const REPOSITORIES: [&str; 2] = ["a", "b"];

prop_compose! {
    fn jobs(most: usize)(
        parts in prop::collection::vec((0..6_usize, 0..4_usize, 0..2_usize, -30..3_i64, 0..7_u32, any::<u64>()), 0..most),
    ) -> Vec<Job<'static>> {
        parts.into_iter().enumerate().map(|(number, (kind, instance, repository, hours, gave_way, order))| {
            let kind = [Backup, Other, Check, Prune, Restore, Upgrade][kind];
            let other = Beside { instance: INSTANCES[(instance + 1) % 4], repository: REPOSITORIES[1 - repository] };
            Job {
                repository: REPOSITORIES[repository],
                beside: (kind == Upgrade && !other.instance.is_empty()).then_some(other),
                not_before: Timestamp::from_second(now().as_second() + hours * 3_600).unwrap(),
                order: order % 4,
                gave_way: if kind == Prune { gave_way } else { 0 },
                ..job(number as u8, kind, INSTANCES[instance])
            }
        }).collect()
    }
}

/// What may never run at once.
fn conflict(a: &Job, b: &Job) -> bool {
    let one_is_prune = a.kind == Prune || b.kind == Prune;
    let places = |job: &Job| {
        let beside =
            job.beside.map(|beside| (beside.instance.to_owned(), beside.repository.to_owned()));
        let own = (job.instance.unwrap_or_default().to_owned(), job.repository.to_owned());
        std::iter::once(own).chain(beside).collect::<Vec<_>>()
    };
    places(a).iter().any(|one| {
        places(b).iter().any(|other| {
            (!one.0.is_empty() && one.0 == other.0) || (one_is_prune && one.1 == other.1)
        })
    })
}

fn fits(all: &[Job], limits: Limits) -> bool {
    let apart = all.iter().enumerate().all(|(at, a)| all[..at].iter().all(|b| !conflict(a, b)));
    let count = |repository: &str| all.iter().filter(|job| job.uses(repository)).count();
    apart
        && all.len() <= limits.overall
        && REPOSITORIES.iter().all(|&repository| count(repository) <= limits.per_repository)
}

prop_compose! {
    fn limits()(overall in 1..5_usize, per_repository in 1..4_usize) -> Limits {
        Limits { overall, per_repository }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_is_queued_only_what_fits_starts_and_something_does(queued in jobs(20), limits in limits(), steps in 1..4_usize) {
        let mut queue = queued;
        let mut running: Vec<Job> = Vec::new();
        for _ in 0..steps {
            let ids = may_start(&queue, &running, limits, now());
            let starting = ids.iter().map(|id| *queue.iter().find(|job| job.id == *id).unwrap());
            let starting: Vec<Job> = starting.collect();
            let ready = queue.iter().filter(|job| job.not_before <= now());
            prop_assert!(starting.iter().all(|job| job.not_before <= now()));
            if running.is_empty() {
                prop_assert_eq!(starting.is_empty(), ready.count() == 0);
            }
            queue.retain(|job| !ids.contains(&job.id));
            running.extend(starting.iter().copied());
            prop_assert!(fits(&running, limits), "{:?}", running);
            for prune in starting.iter().filter(|job| job.kind == Prune && !job.insists(now())) {
                prop_assert!(!queue.iter().any(|job| matches!(job.kind, Backup | Restore | Upgrade) && job.uses(prune.repository) && job.not_before <= now()));
            }
            // Nothing more may start now, and nothing that has just started gives way.
            prop_assert_eq!(may_start(&queue, &running, limits, now()), Vec::new());
            let giving = give_way(&queue, &running, now());
            prop_assert!(ids.iter().all(|id| !giving.contains(id)));
            // The first of them ends.
            if !running.is_empty() {
                running.remove(0);
            }
        }
    }

    /// New jobs keep coming, more than can run, and backups above all: each has its turn within days all the same.
    #[test]
    fn nothing_starves(
        first in jobs(12),
        limits in limits(),
        hours in prop::collection::vec((1..4_i64, 0..3_usize, 0..2_usize), 400),
    ) {
        let mut queue = first.clone();
        // What runs, and how many hours more.
        let mut running: Vec<(Job, i64)> = Vec::new();
        let mut ended = Vec::new();
        for (hour, &(takes, instance, repository)) in hours.iter().enumerate() {
            let now = now() + Duration::from_hours(hour as u64);
            let number = 100 + hour as u64;
            let next = JobId(number.to_be_bytes());
            let kind = if hour % 7 == 0 { Check } else { Backup };
            let fresh = Job { id: next, repository: REPOSITORIES[repository], not_before: now, order: number, ..job(0, kind, INSTANCES[instance + 1]) };
            // As if the queue would refuse what it cannot hold: its length stays the same.
            if queue.len() < 12 + first.len() {
                queue.push(fresh);
            }
            let jobs: Vec<Job> = running.iter().map(|(job, _)| *job).collect();
            for id in give_way(&queue, &jobs, now) {
                let at = running.iter().position(|(job, _)| job.id == id).unwrap();
                let (job, _) = running.remove(at);
                queue.push(Job { gave_way: job.gave_way + 1, ..job });
            }
            let jobs: Vec<Job> = running.iter().map(|(job, _)| *job).collect();
            for id in may_start(&queue, &jobs, limits, now) {
                let at = queue.iter().position(|job| job.id == id).unwrap();
                running.push((queue.remove(at), takes));
            }
            for (_, left) in &mut running {
                *left -= 1;
            }
            ended.extend(running.iter().filter(|(_, left)| *left == 0).map(|(job, _)| job.id));
            running.retain(|(_, left)| *left > 0);
        }
        for job in &first {
            prop_assert!(ended.contains(&job.id), "{:?}", job);
        }
    }
}
