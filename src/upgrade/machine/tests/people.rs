//! What people may say, and what it changes.

use super::*;
use crate::model::id::Sha256;

#[test]
fn what_the_new_version_left_is_lost_only_where_keeping_it_failed_and_somebody_says_why() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Verify);
    scene.fail();
    let discard = What::Ask(Request::RollBack { discard_current: true });
    let early = scene.say("alice", Some("no room"), discard.clone()).unwrap_err();
    assert!(early.message.contains("on its way back already"), "{early}");
    scene.up_to(Step::SaveProduction);
    scene.fail();
    let silent = scene.say("alice", Some(" "), discard.clone()).unwrap_err();
    assert!(silent.hint.contains("--reason"), "{silent}");
    scene.say("alice", Some("no room"), discard).unwrap();
    let back = scene.up_to_rest();
    assert!(!back.contains(&Step::SaveProduction) && back.contains(&Step::PutBackProduction));
    assert_eq!(scene.state(), State::RolledBack);
}

#[test]
fn a_person_may_say_that_production_is_right_although_its_tests_say_no() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Verify);
    scene.fail();
    scene.up_to(Step::VerifyBack);
    let accept = What::Ask(Request::AcceptBack);
    assert!(scene.say("alice", Some("fine"), accept.clone()).is_err());
    for _ in 0..=RETRIES.len() {
        scene.fail();
        scene.pass(HOUR);
    }
    assert_eq!(scene.state(), State::Held);
    assert!(scene.say("alice", None, accept.clone()).is_err());
    scene.say("alice", Some("the test is wrong"), accept).unwrap();
    assert_eq!(scene.up_to_rest(), [Step::LetUsersIn]);
    assert_eq!(scene.state(), State::RolledBack);
}

#[test]
fn an_override_asks_the_rule_again_and_does_without_the_wait() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::GateBeforeStop);
    scene.begin();
    scene.close(Gate::BeforeStop, &[(RuleName::Room, None)]);
    scene.say("bob", Some("it grows tonight"), What::Override(RuleName::Room)).unwrap();
    assert_eq!(scene.next_step(), Step::BackUpStagingAgain);
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::TestStaging);
    scene.succeed();
    scene.facts.window_is_open = false;
    for rule in [RuleName::Soaked, RuleName::Approved, RuleName::Window] {
        scene.say("bob", Some("a security hole"), What::Override(rule)).unwrap();
    }
    assert_eq!(scene.up_to_rest().last(), Some(&Step::MaintenanceOff));
}

#[test]
fn who_may_say_what_and_when() {
    let yes = |scene: &Scene| What::Approve(scene.upgrade.plan().digest());
    let refused = |scene: &mut Scene, by: &str, reason: Option<&str>, what: What| {
        let before = scene.upgrade.journal().clone();
        let refusal = scene.say(by, reason, what).unwrap_err();
        assert!(!refusal.hint.is_empty());
        assert_eq!(scene.upgrade.journal(), &before);
        refusal.message
    };
    let mut scene = Scene::new(|_| {});
    let what = yes(&scene);
    assert!(refused(&mut scene, "bob", None, what).contains("has not passed its tests yet"));
    let resume = What::Ask(Request::Resume);
    assert!(refused(&mut scene, "bob", None, resume.clone()).contains("nothing was held"));
    scene.up_to(Step::TestStagingAgain);
    let what = yes(&scene);
    assert!(refused(&mut scene, "eve", None, what).contains("eve is none of the approvers"));
    let other = What::Approve(Sha256([7; 32]));
    assert!(refused(&mut scene, "bob", None, other).contains("another plan"));
    let room = What::Override(RuleName::Room);
    assert!(refused(&mut scene, "eve", Some("x"), room.clone()).contains("eve is none"));
    assert!(refused(&mut scene, "bob", None, room.clone()).contains("without a reason"));
    for rule in RuleName::ALL {
        if crate::model::upgrade::Overridable::try_from(rule).is_err() {
            let message = refused(&mut scene, "bob", Some("x"), What::Override(rule));
            assert!(message.contains("has no override"), "{message}");
        }
    }
    let long = "x".repeat(5_000);
    assert!(refused(&mut scene, "bob", Some(&long), room.clone()).contains("5000 bytes"));
    let back = What::Ask(Request::RollBack { discard_current: false });
    assert!(refused(&mut scene, "bob", None, back.clone()).contains("has not been touched"));
    scene.up_to(Step::Verify);
    let abort = What::Ask(Request::Abort { keep_staging: false });
    let message = scene.say("bob", None, abort.clone()).unwrap_err();
    assert!(message.hint.contains("belay upgrade rollback"), "{message:?}");
    assert!(refused(&mut scene, "bob", Some("x"), room).contains("no gate is left"));
    let what = yes(&scene);
    assert!(refused(&mut scene, "bob", None, what).contains("nothing left to be approved"));
    scene.up_to(Step::Commit);
    scene.succeed();
    for what in [abort, resume] {
        refused(&mut scene, "bob", None, what);
    }
    let message = scene.say("bob", None, back).unwrap_err();
    assert!(message.hint.contains("belay restore"), "{message:?}");
    assert!(scene.upgrade.possible().is_empty());
    let mut free = Scene::new(|plan| plan.terms.approvers.clear());
    free.up_to(Step::TestStagingAgain);
    let what = yes(&free);
    assert!(refused(&mut free, "bob", None, what).contains("has no `approvers`"));
}

#[test]
fn an_abort_puts_staging_back_unless_it_is_to_stay() {
    for (stop, keep_staging, expected) in [
        (Step::BackUpProduction, false, vec![]),
        (Step::TestStaging, true, vec![]),
        (
            Step::TestStaging,
            false,
            vec![Step::SaveStaging, Step::PutBackStaging, Step::TestStagingBack],
        ),
        (Step::PinLast, true, vec![Step::ResumeWriters, Step::EndMaintenance]),
    ] {
        let mut scene = Scene::new(|_| {});
        scene.up_to(stop);
        scene.ask(Request::Abort { keep_staging }).unwrap();
        assert_eq!(scene.up_to_rest(), expected, "{stop}");
        assert_eq!(scene.state(), State::Aborted);
    }
    // One that was asked for once may still leave staging as it is.
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::TestStaging);
    scene.ask(Request::Abort { keep_staging: false }).unwrap();
    assert!(scene.ask(Request::Abort { keep_staging: false }).is_err());
    scene.fail();
    scene.ask(Request::Abort { keep_staging: true }).unwrap();
    assert_eq!(scene.state(), State::Aborted);
}

#[test]
fn going_back_by_hand_is_possible_until_the_commit() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::Commit);
    scene.ask(Request::RollBack { discard_current: false }).unwrap();
    assert_eq!(scene.state(), State::RollingBack);
    scene.up_to_rest();
    assert_eq!(scene.state(), State::RolledBack);
}

#[test]
fn staging_upgraded_anew_has_to_be_approved_anew() {
    let mut scene = Scene::new(|_| {});
    scene.up_to(Step::GateBeforeStop);
    scene.begin();
    scene.close(Gate::BeforeStop, &[(RuleName::StagingFirst, None)]);
    scene.ask(Request::Resume).unwrap();
    scene.up_to(Step::TestStagingAgain);
    scene.succeed();
    assert_eq!(scene.waits_for(), Waiting::Approval);
}
