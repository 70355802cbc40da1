//! A process that ends anywhere, time that passes, and journals that do not fit.

use super::*;

#[test]
fn a_kill_at_every_step_leads_to_the_same_end() {
    let all = steps(Scene::new(|_| {}).upgrade.plan());
    for killed in all {
        // Within it, and after it.
        for after in [false, true] {
            let mut scene = Scene::new(|_| {});
            scene.up_to(killed);
            if after {
                scene.succeed();
            } else {
                scene.begin();
            }
            let touched = scene.upgrade.has_touched_production();
            scene.take_up();
            if !touched
                && (scene.upgrade.writers_are_stopped() || scene.upgrade.users_are_kept_out())
            {
                assert_eq!(scene.state(), State::StandingDown, "{killed}");
            }
            // The writers' timer may have fired: the last backup is taken again, and the gate asked again.
            let done = scene.up_to(Step::Commit);
            let place = |step| done.iter().position(|it| *it == step);
            if !touched {
                let gate = place(Step::GateProduction).unwrap();
                assert!(place(Step::BackUpStopped).unwrap() < gate, "{killed}");
                assert_eq!(done[gate + 1], Step::UpgradeProduction, "{killed}");
            }
            assert_eq!(scene.state(), State::Provisional, "{killed}");
        }
    }
}

#[test]
fn a_kill_at_every_step_back_leads_back() {
    for killed in course::ROLL_BACK {
        let mut scene = Scene::new(|_| {});
        scene.up_to(Step::Verify);
        scene.fail();
        scene.up_to(killed);
        scene.begin();
        scene.take_up();
        assert_eq!(scene.next_step(), killed, "it is done again");
        scene.up_to_rest();
        assert_eq!(scene.state(), State::RolledBack);
    }
}

#[test]
fn a_step_that_ends_belay_three_times_has_failed() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::UpgradeProduction);
    for _ in 0..MOST_INTERRUPTIONS {
        assert_eq!(scene.begin(), Step::UpgradeProduction);
        scene.take_up();
    }
    assert_eq!(scene.state(), State::RollingBack);
    assert!(scene.upgrade.cause().unwrap().why.contains("ended 3 times"));
}

#[test]
fn backups_that_have_grown_old_meanwhile_are_taken_again() {
    for (stop, again) in [
        (Step::BaselineStaging, Step::BackUpStaging),
        (Step::UpgradeStaging, Step::BackUpStaging),
        (Step::GateBeforeStop, Step::BackUpStagingAgain),
        (Step::TestStaging, Step::TestStaging),
    ] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(stop);
        scene.take_up();
        assert_eq!(scene.next_step(), again, "{stop}");
    }
}

#[test]
fn what_staging_was_before_its_first_try_counts_however_often_that_is_looked_at() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::BaselineStaging);
    let note = |scene: &mut Scene, image: &str| {
        let step = scene.begin();
        assert_eq!(step, Step::BaselineStaging);
        let outcome = Outcome { image: Some(image.to_owned()), ..Outcome::default() };
        scene.apply(Entry::Done { step, outcome }).unwrap();
    };
    note(&mut scene, "old");
    assert!(!scene.upgrade.has_touched_staging());
    // A process that ends after it has taken up what another was killed in.
    assert_eq!(scene.begin(), Step::UpgradeStaging);
    scene.take_up();
    scene.take_up();
    assert_eq!(scene.next_step(), Step::BackUpStaging);
    scene.up_to(Step::BaselineStaging);
    assert!(scene.upgrade.has_touched_staging());
    note(&mut scene, "half");
    let noted = scene.upgrade.outcome(Step::BaselineStaging).unwrap();
    assert_eq!(noted.image.as_deref(), Some("old"));
}

#[test]
fn tests_of_staging_that_have_grown_old_are_run_again() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::BackUpStagingAgain);
    scene.pass(15 * 24 * HOUR);
    assert_eq!(scene.succeed(), Step::TestStagingAgain);
    assert_eq!(scene.next_step(), Step::PullProduction);
}

#[test]
fn a_record_that_does_not_fit_changes_nothing() {
    let done = |step| Entry::Done { step, outcome: Outcome::default() };
    let began = |step| Entry::Began { hop: 0, step };
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::StopWriters);
    for entry in [
        began(Step::UpgradeProduction),
        began(Step::GateProduction),
        began(Step::PullStaging),
        began(Step::Commit),
        began(Step::PutBackProduction),
        Entry::Began { hop: 1, step: Step::StopWriters },
        done(Step::StopWriters),
        Entry::Judged { gate: Gate::Production, results: Vec::new() },
        Entry::Failed { step: Step::Verify, why: String::new(), hint: None, untouched: false },
        Entry::Asked { request: Request::Resume, by: "eve".to_owned(), reason: None },
    ] {
        let before = format!("{:?}", scene.upgrade);
        let misfit = scene.apply(entry.clone()).unwrap_err();
        assert_eq!(format!("{:?}", scene.upgrade), before, "{entry:?}: {misfit}");
    }
    // A gate has no other end than what the rules said.
    scene.up_to(Step::GateProduction);
    scene.begin();
    assert!(scene.apply(done(Step::GateProduction)).is_err());
    let wrong = Record { number: 1, at: scene.now, entry: began(Step::Verify) };
    assert!(scene.upgrade.apply(wrong).unwrap_err().to_string().contains("comes next"));
}

#[test]
fn a_journal_replayed_is_where_it_was_written() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Verify);
    scene.fail();
    scene.up_to(Step::PutBackProduction);
    let json = serde_json::to_string(scene.upgrade.journal()).unwrap();
    let again = Upgrade::replay(serde_json::from_str(&json).unwrap()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{:?}", scene.upgrade));
}
