//! The daemon's queue and its schedules.

use super::*;
use crate::catalog::{Entry, EntryState, Handled, Origin};
use crate::model::job::{Ended, Work};

fn entry(number: u8, state: EntryState) -> Entry {
    let is_over = state == EntryState::Ended;
    let ended = Ended {
        exit_code: 0,
        text: "done".into(),
        document: serde_json::json!({ "number": number }),
        failure: None,
        may_pass: false,
    };
    Entry {
        id: JobId([number; 8]),
        work: Work::Backup { instance: name("uploads"), reread: true, allow_empty: false },
        state,
        origin: Origin::Schedule,
        submitted_by: "belay".into(),
        submitted_at: at(1),
        due: Some(at(0)),
        not_before: Some(at(30)),
        attempt: 2,
        gave_way: 3,
        cut_off: 1,
        ended_at: is_over.then(|| at(2)),
        ended: is_over.then_some(ended),
    }
}

#[test]
fn what_waits_and_runs_is_there_again_in_its_order_and_what_ended_goes_with_time() {
    let (directory, catalog) = open();
    let mut first = entry(9, EntryState::Queued);
    for one in [&first, &entry(3, EntryState::Running), &entry(5, EntryState::Ended)] {
        catalog.put_entry(one).unwrap();
    }
    drop(catalog);
    let catalog = Catalog::open(directory.path()).unwrap();
    assert_eq!(catalog.open_entries().unwrap(), [first.clone(), entry(3, EntryState::Running)]);
    assert_eq!(catalog.entry(JobId([5; 8])).unwrap(), Some(entry(5, EntryState::Ended)));

    // One that ended and the one that goes on with it are recorded together.
    first.state = EntryState::Ended;
    first.ended_at = Some(at(50));
    let next = entry(10, EntryState::Queued);
    catalog.put_entries(&[&first, &next]).unwrap();
    assert_eq!(catalog.open_entries().unwrap(), [entry(3, EntryState::Running), next]);
    assert_eq!(catalog.prune_queue(at(40)).unwrap(), 1);
    assert_eq!(catalog.entry(JobId([5; 8])).unwrap(), None);
    assert_eq!(catalog.entry(first.id).unwrap(), Some(first));
}

#[test]
fn a_schedule_is_dealt_with_together_with_what_it_wants_and_a_rebuild_keeps_both() {
    let (directory, catalog) = open();
    let handled = |seconds| Handled {
        known_since: at(0),
        at: at(seconds),
        pattern: "30 2 * * * (UTC)".into(),
        detail: None,
    };
    assert_eq!(catalog.handled("check:main").unwrap(), None);
    catalog.put_scheduled("check:main", &handled(10), None, &[]).unwrap();
    catalog.set_schedule_detail("check:main", "3/29").unwrap();
    let wanted = entry(1, EntryState::Queued);
    catalog.put_scheduled("check:main", &handled(20), Some(&wanted), &[]).unwrap();
    // What was missed is told, or is not dealt with yet.
    let missed = super::outbox::delivery(7);
    let twice = [missed.clone(), missed.clone()];
    catalog.put_scheduled("check:main", &handled(30), None, &twice).unwrap_err();
    assert_eq!(catalog.waiting_deliveries().unwrap(), 0);
    let known = Handled { detail: Some("3/29".into()), ..handled(20) };
    assert_eq!(catalog.handled("check:main").unwrap(), Some(known.clone()));
    catalog.put_scheduled("check:main", &handled(20), None, &[missed]).unwrap();
    assert_eq!(catalog.waiting_deliveries().unwrap(), 1);
    drop(catalog);
    let catalog = Catalog::recreate(directory.path(), at(0)).unwrap().catalog;
    assert_eq!(catalog.handled("check:main").unwrap(), Some(known));
    assert_eq!(catalog.open_entries().unwrap(), [wanted]);
}
