//! Notices that wait, and problems that last.

use super::*;
use crate::model::id::{ChannelId, DeliveryId};
use crate::model::notice::{Notice, NoticeKind};
use std::collections::BTreeSet;
use std::slice;

const ONE: ChannelId = ChannelId([1; 8]);
const TWO: ChannelId = ChannelId([2; 8]);
const NONE: BTreeSet<ChannelId> = BTreeSet::new();
const DAY: i64 = 24 * 3600;

fn notice(kind: NoticeKind, title: &str) -> Notice {
    Notice {
        kind,
        instance: Some(name("production")),
        job: Some(JobId([3; 8])),
        at: at(0),
        since: None,
        reminder: false,
        title: title.to_owned(),
        body: String::new(),
        hint: None,
        host: "prod1".to_owned(),
        log: String::new(),
    }
}

/// One that waits.
pub(super) fn delivery(number: u8) -> Delivery {
    let missed = notice(NoticeKind::Missed, "t");
    Delivery::to_each(&missed, &[ONE], at(0), || DeliveryId([number; 16])).remove(0)
}

fn problem(key: &str, second: i64) -> Problem {
    let (since, last_told) = (at(second), at(second + 5));
    Problem { key: key.to_owned(), since, last_told, title: format!("{key} is wrong") }
}

/// Puts a notice down; its deliveries have the ids of this number and those that follow.
fn put(catalog: &Catalog, kind: NoticeKind, channels: &[ChannelId], first: u8, second: i64) {
    let mut next = first;
    let make_id = || {
        next += 1;
        DeliveryId([next - 1; 16])
    };
    let deliveries = Delivery::to_each(&notice(kind, "t"), channels, at(second), make_id);
    catalog.put_notice(&deliveries, None).unwrap();
}

fn due(catalog: &Catalog, second: i64) -> Vec<u8> {
    let deliveries = catalog.due_deliveries(at(second), &NONE).unwrap();
    deliveries.iter().map(|delivery| delivery.id.0[0]).collect()
}

fn put_off(catalog: &Catalog, number: u8, now: i64, next: i64) {
    catalog.put_off_delivery(DeliveryId([number; 16]), "no answer", at(now), at(next)).unwrap();
}

#[test]
fn a_notice_waits_for_each_channel_until_it_was_delivered() {
    let (directory, catalog) = open();
    put(&catalog, NoticeKind::Failure, &[TWO, ONE, TWO], 1, 0);
    assert_eq!(due(&catalog, -1), [0; 0]);
    assert_eq!(due(&catalog, 0), [1, 2], "a channel that was named twice is told once");
    drop(catalog);

    let catalog = Catalog::open(directory.path()).unwrap();
    let [first, second] = catalog.due_deliveries(at(0), &NONE).unwrap().try_into().unwrap();
    assert_eq!((first.channel, second.channel), (ONE, TWO));
    assert_eq!(&first.notice, &notice(NoticeKind::Failure, "t"));
    assert_eq!((first.made_at, first.attempts, &first.last_error), (at(0), 0, &None));
    let busy = catalog.due_deliveries(at(0), &[TWO].into()).unwrap();
    assert_eq!(busy, slice::from_ref(&first), "nothing of a channel that is busy");
    catalog.remove_delivery(first.id).unwrap();
    catalog.remove_delivery(first.id).unwrap();
    assert_eq!(due(&catalog, 0), [2]);
    assert_eq!(catalog.waiting_deliveries().unwrap(), 1);
}

#[test]
fn what_failed_waits_for_its_next_time() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::Failure, &[ONE, TWO], 1, 0);
    assert_eq!(catalog.next_delivery_at(&NONE).unwrap(), Some(at(0)));
    put_off(&catalog, 1, 10, 70);
    put_off(&catalog, 9, 10, 70);
    assert_eq!((due(&catalog, 69), due(&catalog, 70)), (vec![2], vec![1, 2]));
    let delivery = catalog.due_deliveries(at(70), &NONE).unwrap().remove(0);
    assert_eq!((delivery.attempts, delivery.next_attempt_at), (1, at(70)));
    assert_eq!(delivery.last_error.as_deref(), Some("no answer"));
    catalog.remove_delivery(DeliveryId([2; 16])).unwrap();
    assert_eq!(catalog.next_delivery_at(&NONE).unwrap(), Some(at(70)));
    catalog.remove_delivery(DeliveryId([1; 16])).unwrap();
    assert_eq!(catalog.next_delivery_at(&NONE).unwrap(), None);
}

#[test]
fn nothing_waits_for_a_time_that_a_wrong_clock_set() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::Failure, &[ONE], 1, 0);
    put_off(&catalog, 1, 0, 100 * DAY);
    assert_eq!((due(&catalog, DAY - 1), due(&catalog, DAY)), (vec![], vec![1]));
    // Put down, or put off, before the clock was set back by years.
    put_off(&catalog, 1, 1_000 * DAY, 1_000 * DAY + 60);
    put(&catalog, NoticeKind::Failure, &[TWO], 2, 1_000 * DAY);
    assert_eq!(due(&catalog, 0), [1, 2]);
}

#[test]
fn pings_of_a_channel_leave_in_their_order_and_hold_up_nobody_else() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::RunStarted, &[ONE, TWO], 1, 0);
    put(&catalog, NoticeKind::RunSucceeded, &[ONE, TWO], 3, 5);
    let three = ChannelId([3; 8]);
    put(&catalog, NoticeKind::Failure, &[three], 5, 6);
    put(&catalog, NoticeKind::Failure, &[three], 6, 7);
    assert_eq!(due(&catalog, 10), [1, 2, 5], "one of each channel");
    put_off(&catalog, 1, 10, 100);
    put_off(&catalog, 5, 10, 100);
    assert_eq!(due(&catalog, 50), [2, 6]);
    catalog.remove_delivery(DeliveryId([2; 16])).unwrap();
    assert_eq!(due(&catalog, 50), [4, 6]);
    for number in [4, 6] {
        catalog.remove_delivery(DeliveryId([number; 16])).unwrap();
    }
    assert_eq!(catalog.next_delivery_at(&NONE).unwrap(), Some(at(100)), "not that of a later ping");
    let both = [ONE, three].into();
    assert_eq!(catalog.next_delivery_at(&both).unwrap(), None, "whose end is waited for anyway");
    assert_eq!(due(&catalog, 100), [1, 5]);
}

#[test]
fn what_was_tried_for_three_days_is_dropped_and_told() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::Failure, &[ONE], 1, 0);
    put(&catalog, NoticeKind::Failure, &[ONE], 2, 10);
    put(&catalog, NoticeKind::Failure, &[ONE], 3, 0);
    put_off(&catalog, 1, 0, 60);
    put_off(&catalog, 2, 0, 60);
    assert_eq!(catalog.drop_old_deliveries(at(3 * DAY)).unwrap(), []);
    let dropped = catalog.drop_old_deliveries(at(3 * DAY + 1)).unwrap();
    assert_eq!(dropped.len(), 1);
    assert_eq!(dropped[0].id, DeliveryId([1; 16]));
    assert_eq!(dropped[0].last_error.as_deref(), Some("no answer"));
    assert_eq!(due(&catalog, 100 * DAY), [2]);
    catalog.remove_delivery(DeliveryId([2; 16])).unwrap();
    assert_eq!(due(&catalog, 100 * DAY), [3], "what was never tried stays, however old");
}

#[test]
fn a_ping_of_the_past_is_dropped_and_so_is_one_that_a_newer_one_has_overtaken() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::RunStarted, &[ONE, TWO], 1, 0);
    put(&catalog, NoticeKind::RunSucceeded, &[ONE, TWO], 3, 5);
    put(&catalog, NoticeKind::Failure, &[ONE], 5, 0);
    let dropped = |before: i64| -> Vec<u8> {
        let dropped = catalog.drop_stale_pings(at(before)).unwrap();
        dropped.iter().map(|delivery| delivery.id.0[0]).collect()
    };
    assert_eq!(dropped(0), [0; 0], "what was not tried yet comes in its turn");
    put_off(&catalog, 2, 10, 100);
    assert_eq!(dropped(0), [2], "tried in vain, and there is a newer one");
    put_off(&catalog, 4, 10, 100);
    assert_eq!(dropped(0), [0; 0], "the newest stays");
    assert_eq!(dropped(5), [1], "too old, and notices for people are never");
    assert_eq!(due(&catalog, 200), [3, 4]);
    let other = Notice { instance: Some(name("staging")), ..notice(NoticeKind::RunStarted, "t") };
    let other = Delivery::to_each(&other, &[TWO], at(6), || DeliveryId([6; 16]));
    catalog.put_notice(&other, None).unwrap();
    assert_eq!(dropped(5), [0; 0], "another instance has overtaken nothing");
}

#[test]
fn what_goes_to_former_channels_is_dropped_and_told() {
    let (_directory, catalog) = open();
    put(&catalog, NoticeKind::Failure, &[ONE, TWO], 1, 0);
    assert_eq!(catalog.drop_deliveries_of_others(&[TWO, ONE]).unwrap(), []);
    let dropped = catalog.drop_deliveries_of_others(&[TWO]).unwrap();
    assert_eq!((dropped.len(), dropped[0].channel), (1, ONE));
    assert_eq!(catalog.drop_deliveries_of_others(&[]).unwrap().len(), 1);
    assert_eq!(catalog.waiting_deliveries().unwrap(), 0);
}

#[test]
fn problems_last_until_they_are_cleared() {
    let (directory, catalog) = open();
    let (old, new) = (problem("failure/a", 0), problem("rpo/b", 10));
    catalog.change_problem(ProblemChange::Set(&new)).unwrap();
    catalog.change_problem(ProblemChange::Set(&old)).unwrap();
    let later = Problem { last_told: at(DAY), ..old.clone() };
    catalog.change_problem(ProblemChange::Set(&later)).unwrap();
    drop(catalog);
    let catalog = Catalog::open(directory.path()).unwrap();
    assert_eq!(catalog.problems().unwrap(), [later.clone(), new.clone()]);
    assert_eq!(catalog.problem("failure/a").unwrap(), Some(later));
    catalog.change_problem(ProblemChange::Clear("failure/a")).unwrap();
    catalog.change_problem(ProblemChange::Clear("failure/a")).unwrap();
    assert_eq!(catalog.problem("failure/a").unwrap(), None);
    assert_eq!(catalog.problems().unwrap(), [new]);
}

#[test]
fn a_notice_and_its_problem_are_kept_together_or_not_at_all() {
    let (_directory, catalog) = open();
    let wrong = problem("failure/a", 0);
    let tell = |change, first: u8| {
        let told = notice(NoticeKind::Failure, "t");
        let both = Delivery::to_each(&told, &[ONE, TWO], at(0), || DeliveryId([first; 16]));
        catalog.put_notice(&both, Some(change))
    };
    // The second id is there already.
    tell(ProblemChange::Set(&wrong), 1).unwrap_err();
    assert_eq!((catalog.waiting_deliveries().unwrap(), catalog.problems().unwrap()), (0, vec![]));
    let told = notice(NoticeKind::Failure, "t");
    let set = Some(ProblemChange::Set(&wrong));
    let one = Delivery::to_each(&told, &[ONE], at(0), || DeliveryId([1; 16]));
    catalog.put_notice(&one, set).unwrap();
    assert_eq!((due(&catalog, 0), catalog.problems().unwrap()), (vec![1], vec![wrong]));
    let over = Some(ProblemChange::Clear("failure/a"));
    catalog.put_notice(&[], over).unwrap();
    assert_eq!((due(&catalog, 0), catalog.problems().unwrap()), (vec![1], vec![]));
}

#[test]
fn a_catalog_that_is_made_again_still_tells_what_waits() {
    let (directory, catalog) = open();
    put(&catalog, NoticeKind::RunStarted, &[ONE], 7, 0);
    put(&catalog, NoticeKind::RunFailed, &[ONE], 1, 0);
    put_off(&catalog, 7, 0, 60);
    catalog.change_problem(ProblemChange::Set(&problem("rpo/b", 10))).unwrap();
    let before = catalog.due_deliveries(at(60), &NONE).unwrap();
    drop(catalog);
    let Recreated { catalog, lost, .. } = Catalog::recreate(directory.path(), at(0)).unwrap();
    assert_eq!(lost, [""; 0]);
    assert_eq!(catalog.due_deliveries(at(60), &NONE).unwrap(), before);
    assert_eq!(before[0].id, DeliveryId([7; 16]));
    assert_eq!(catalog.waiting_deliveries().unwrap(), 2);
    assert_eq!(catalog.problems().unwrap(), [problem("rpo/b", 10)]);
}
