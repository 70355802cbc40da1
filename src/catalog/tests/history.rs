//! Jobs and events.

use super::*;

#[test]
fn a_job_comes_back_as_it_ended() {
    let (_directory, catalog) = open();
    catalog.begin_job(&job(1, 0)).unwrap();
    let mut expected = Job {
        start: job(1, 0),
        finished_at: None,
        outcome: Outcome::Running,
        snapshot: None,
        failure: None,
    };
    assert_eq!(catalog.job(JobId([1; 8])).unwrap(), Some(expected.clone()));
    let id = SnapshotId([4; 32]);
    let failure = JobFailure { error: "it's odd".into(), hint: Some("look".into()) };
    let (done, why) = (JobId([1; 8]), Some(&failure));
    catalog.finish_job(done, at(9), Outcome::Warned, Some(id), why).unwrap();
    expected.finished_at = Some(at(9));
    expected.outcome = Outcome::Warned;
    expected.snapshot = Some(id);
    expected.failure = Some(failure);
    assert_eq!(catalog.jobs(5).unwrap(), [expected]);
    let twice = catalog.finish_job(JobId([1; 8]), at(9), Outcome::Done, None, None).unwrap_err();
    assert!(matches!(twice, CatalogError::Unknown { .. }), "{twice:?}");
}

#[test]
fn runs_are_backups_that_ended_in_the_order_in_which_they_began() {
    let (_directory, catalog) = open();
    // The clock went back between the first and the second.
    for (number, second) in [(1, 100), (2, 50), (3, 60), (4, 70)] {
        catalog.begin_job(&job(number, second)).unwrap();
    }
    catalog.begin_job(&JobStart { kind: JobKind::Check, ..job(5, 80) }).unwrap();
    catalog.begin_job(&JobStart { instance: None, ..job(6, 80) }).unwrap();
    for (number, outcome) in
        [(1, Outcome::Done), (2, Outcome::Failed), (5, Outcome::Failed), (6, Outcome::Failed)]
    {
        catalog.finish_job(JobId([number; 8]), at(90), outcome, None, None).unwrap();
    }
    catalog.mark_interrupted(|process| process.pid != 3).unwrap();
    let runs = catalog.recent_runs(INSTANCE, 10).unwrap();
    let ends: Vec<_> = runs.iter().map(|run| (run.job.0[0], run.time, run.outcome)).collect();
    let expected = [
        (3, at(60), Outcome::Interrupted),
        (2, at(90), Outcome::Failed),
        (1, at(90), Outcome::Done),
    ];
    assert_eq!(ends, expected);
    assert_eq!(catalog.recent_runs(INSTANCE, 1).unwrap(), runs[..1]);
}

#[test]
fn jobs_whose_process_is_gone_are_marked_once() {
    let (_directory, catalog) = open();
    for number in 1..=3 {
        catalog.begin_job(&job(number, 0)).unwrap();
    }
    catalog.finish_job(JobId([1; 8]), at(1), Outcome::Done, None, None).unwrap();
    let gone = catalog.mark_interrupted(|process| *process == job(3, 0).process).unwrap();
    assert_eq!(gone.iter().map(|job| job.start.id).collect::<Vec<_>>(), [JobId([2; 8])]);
    assert_eq!(gone[0].outcome, Outcome::Interrupted);
    assert_eq!(catalog.job(JobId([2; 8])).unwrap().as_ref(), Some(&gone[0]));
    assert_eq!(catalog.mark_interrupted(|process| process.pid == 3).unwrap(), []);
    // It was alive after all, and knows better.
    catalog.finish_job(JobId([2; 8]), at(2), Outcome::Done, None, None).unwrap();
    assert_eq!(catalog.job(JobId([2; 8])).unwrap().unwrap().outcome, Outcome::Done);
}

#[test]
fn events_are_kept_in_order_and_progress_is_not() {
    let (_directory, catalog) = open();
    let id = JobId([1; 8]);
    let note = |text: &str| Event::Note { message: text.to_owned() };
    let error = catalog.add_event(id, 0, at(0), &note("too early")).unwrap_err();
    assert!(matches!(error, CatalogError::Unknown { what: "job", .. }), "{error:?}");
    catalog.begin_job(&job(1, 0)).unwrap();
    catalog.add_event(id, 0, at(2), &note("first")).unwrap();
    catalog
        .add_event(id, 1, at(2), &Event::Progress { bytes: 1, total_bytes: None, items: 1 })
        .unwrap();
    catalog.add_event(id, 1, at(1), &note("second")).unwrap();
    let events = catalog.events(id).unwrap();
    assert_eq!(events.iter().map(|event| event.ordinal).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(events[1].at, at(1));
    assert_eq!(events[1].event, serde_json::json!({"event": "note", "message": "second"}));
}

#[test]
fn old_jobs_go_with_their_events_but_not_the_last_of_a_kind() {
    let (_directory, catalog) = open();
    for number in 1..=15 {
        catalog.begin_job(&job(number, i64::from(number))).unwrap();
        let event = Event::Note { message: "here".to_owned() };
        catalog.add_event(JobId([number; 8]), 0, at(0), &event).unwrap();
        if number != 2 {
            catalog.finish_job(JobId([number; 8]), at(20), Outcome::Done, None, None).unwrap();
        }
    }
    catalog.begin_job(&JobStart { kind: JobKind::Check, ..job(20, 1) }).unwrap();
    catalog.finish_job(JobId([20; 8]), at(2), Outcome::Done, None, None).unwrap();
    assert_eq!(catalog.prune_history(at(5)).unwrap(), 3);
    let left: Vec<u8> =
        catalog.jobs(99).unwrap().iter().rev().map(|job| job.start.id.0[0]).collect();
    assert_eq!(left, [2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 20]);
    assert_eq!(catalog.events(JobId([1; 8])).unwrap(), []);
    assert_eq!(catalog.prune_history(at(99)).unwrap(), 1);
    assert_eq!(catalog.jobs(99).unwrap().len(), 12);
}
