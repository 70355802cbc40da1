//! The plan of an upgrade: made before anything is done, and said in words.

use super::machine::{RELEASE_AFTER, steps};
use super::path::{self, Refusal};
use super::words::span;
use crate::model::id::Sha256;
use crate::model::name::Name;
use crate::model::upgrade::{Environment, Hop, OnFailure, Plan, Side, Step, Terms};
use crate::model::version::{Edition, Version};
use crate::platform::recipe::Checkpoint;
use serde::Serialize;

/// What a plan is made from.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The pair.
    pub pair: Name,
    /// Its staging instance, with what it runs.
    pub staging: Side,
    /// Its production instance, with what it runs.
    pub production: Side,
    /// What both are.
    pub platform: String,
    /// The edition of both, where it is known.
    pub edition: Option<Edition>,
    /// The version that was asked for, as it was written.
    pub to: &'a str,
    /// Versions to stop at, as they were written.
    pub stops: &'a [String],
    /// The platform's versions that may not be skipped.
    pub checkpoints: &'a [Checkpoint],
    /// What the configuration asks for.
    pub terms: Terms,
}

/// Make a plan. Production's version decides on the hops; staging has to be able to take the first of them, or to have taken it.
pub fn plan(asked: Asked<'_>) -> Result<Plan, Refusal> {
    let Asked { pair, staging, production, platform, edition, to, stops, checkpoints, terms } =
        asked;
    let to = path::target(to)?;
    let stops: Vec<Version> =
        stops.iter().map(|stop| path::target(stop)).collect::<Result<_, _>>()?;
    let hops = path::hops(&production.version, &to, edition, checkpoints, &stops)?;
    let first = &hops[0].to;
    if staging.version != *first {
        path::step(&staging.version, first, edition, checkpoints)
            .map_err(|refusal| Refusal::Staging(Box::new(refusal)))?;
    }
    Ok(Plan { pair, staging, production, platform, edition, hops, terms })
}

/// A plan with its steps, as programs read it.
#[derive(Debug, Serialize)]
pub struct Described<'a> {
    /// What an approval is bound to.
    pub digest: Sha256,
    /// The plan itself.
    pub plan: &'a Plan,
    /// What is done, hop by hop.
    pub hops: Vec<DescribedHop<'a>>,
}

/// A hop with its steps.
#[derive(Debug, Serialize)]
pub struct DescribedHop<'a> {
    /// From where to where, and why there.
    #[serde(flatten)]
    pub hop: &'a Hop,
    /// What is done, in order.
    pub steps: Vec<DescribedStep>,
}

/// Something that is done, or waited for.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct DescribedStep {
    /// Which step; none where it is waited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// To which instance; none where it is to both or to none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// In words.
    pub text: String,
}

/// What a plan will do.
pub fn describe(plan: &Plan) -> Described<'_> {
    let hops = plan.hops.iter().map(|hop| {
        let mut described = Vec::new();
        for step in steps(plan) {
            described.extend(waits(step, plan).map(|text| DescribedStep {
                step: None,
                environment: None,
                text,
            }));
            let (environment, text) = (step.environment(), sentence(step, plan, hop));
            described.push(DescribedStep { step: Some(step), environment, text });
        }
        DescribedHop { hop, steps: described }
    });
    Described { digest: plan.digest(), plan, hops: hops.collect() }
}

/// The same for people, a line each.
pub fn lines(plan: &Plan) -> Vec<String> {
    let Plan { pair, staging, production, platform, hops, .. } = plan;
    let mut lines = vec![format!(
        "Pair '{pair}' ({platform}): production '{}' goes from {} to {}, after staging '{}', in {}.",
        production.name,
        production.version,
        plan.target(),
        staging.name,
        if hops.len() == 1 { "one hop".to_owned() } else { format!("{} hops", hops.len()) }
    )];
    for (number, described) in (1..).zip(describe(plan).hops) {
        let Hop { from, to, why } = described.hop;
        let why = why.as_deref().map(|why| format!(", because {why}")).unwrap_or_default();
        lines.push(String::new());
        lines.push(format!("Hop {number}: {from} to {to}{why}."));
        let steps = (1..).zip(described.steps);
        lines.extend(steps.map(|(number, step)| format!("{number:>4}. {}", step.text)));
    }
    lines.push(String::new());
    lines.extend(afterwards(plan));
    lines
}

/// What is waited for before a step.
fn waits(step: Step, plan: &Plan) -> Option<String> {
    let terms = &plan.terms;
    match step {
        Step::TestStagingAgain => Some(format!("Let staging run it for {}.", span(terms.soak))),
        Step::PullProduction if !terms.approvers.is_empty() => {
            Some(format!("Wait until one of {} approves.", terms.approvers.join(", ")))
        }
        Step::BackUpStagingAgain if !terms.windows.is_empty() => {
            Some(format!("Wait for the window: {}.", terms.windows.join(" or ")))
        }
        _ => None,
    }
}

fn sentence(step: Step, plan: &Plan, hop: &Hop) -> String {
    let (staging, production) = (&plan.staging.name, &plan.production.name);
    let Hop { from, to, .. } = hop;
    match step {
        Step::PullStaging => format!("Fetch {to} to where '{staging}' lives."),
        Step::BackUpStaging => format!("Back up '{staging}'."),
        Step::BackUpProduction => format!("Back up '{production}'."),
        Step::PinBoth => "Pin both snapshots.".to_owned(),
        Step::GateStaging => format!("Ask the gate whether '{staging}' may be upgraded."),
        Step::BaselineStaging => format!("Test '{staging}' as it is."),
        Step::UpgradeStaging => format!("Upgrade '{staging}' to {to}."),
        Step::TestStaging => format!("Test '{staging}', and compare with before."),
        Step::TestStagingAgain => format!("Test '{staging}' again."),
        Step::PullProduction => format!("Fetch {to} to where '{production}' lives."),
        Step::BackUpStagingAgain => format!("Back up '{staging}' again."),
        Step::BaselineProduction => format!("Test '{production}' as it is."),
        Step::GateBeforeStop => format!("Ask the gate whether '{production}' may be stopped."),
        Step::MaintenanceOn => format!("Keep users out of '{production}'."),
        Step::StopWriters => format!("Stop what writes to '{production}'."),
        Step::BackUpStopped => format!("Back up '{production}', {from}, for the last time."),
        Step::PinLast => "Pin the last snapshots.".to_owned(),
        Step::CopyVolumes => format!("Copy the volumes of '{production}' aside."),
        Step::HoldWriters => format!("See that nothing but Belay starts '{production}' again."),
        Step::GateProduction => {
            format!(
                "Read everything again, and ask the gate whether '{production}' may be upgraded."
            )
        }
        Step::UpgradeProduction => format!("Upgrade '{production}' to {to}."),
        Step::Verify => format!("Test '{production}', and compare with before."),
        Step::MaintenanceOff => format!("Let users into '{production}'."),
        // They stand in no hop.
        other => other.action().to_owned(),
    }
}

fn afterwards(plan: &Plan) -> Vec<String> {
    let production = &plan.production.name;
    let last = plan.hops.last().map_or(&plan.production.version, |hop| &hop.from);
    let fails = match plan.terms.on_failure {
        OnFailure::Rollback => format!(
            "Where '{production}' fails its tests, what the new version left is saved, and the version before is put back with its \
             data; where '{}' fails, it is put back, and '{production}' stays untouched.",
            plan.staging.name
        ),
        OnFailure::Hold => {
            "Where the new version fails, everything is left as it is until a person decides."
                .to_owned()
        }
    };
    let watch = span(plan.terms.commit_after);
    let pinned = span(RELEASE_AFTER);
    vec![
        fails,
        format!(
            "Afterwards '{production}' is watched for {watch}; until then `belay upgrade rollback {}` brings {last} back. The \
             snapshots stay pinned for {pinned} more.",
            plan.pair
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Platform;
    use crate::model::id::InstanceId;
    use crate::model::upgrade::tests as example;
    use crate::platform::recipe::Recipe;

    fn side(name: &str, version: &str) -> Side {
        Side {
            id: InstanceId([1; 16]),
            name: name.parse().unwrap(),
            version: version.parse().unwrap(),
        }
    }

    fn planned(staging: &str, production: &str, to: &str, stops: &[&str]) -> Result<Plan, Refusal> {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        plan(Asked {
            pair: "main".parse().unwrap(),
            staging: side("trial", staging),
            production: side("shop", production),
            platform: "appsmith".to_owned(),
            edition: Some(Edition::Community),
            to,
            stops: &stops,
            checkpoints: &Recipe::of(Platform::Appsmith).checkpoints,
            terms: example::plan().terms,
        })
    }

    #[test]
    fn a_plan_has_a_hop_for_each_checkpoint() {
        let plan = planned("v1.90", "v1.90", "v2.5.1", &[]).unwrap();
        let way: Vec<String> =
            plan.hops.iter().map(|hop| format!("{} {}", hop.from, hop.to)).collect();
        assert_eq!(way, ["v1.90 v1.99", "v1.99 v2.5.1"]);
        let plan = planned("v1.90", "v1.90", "v2.5.1", &["v1.97"]).unwrap();
        assert_eq!(plan.hops[0].to.to_string(), "v1.97");
    }

    #[test]
    fn staging_may_be_behind_or_have_gone_first_but_not_beyond() {
        assert!(planned("v2.1", "v2.4.3", "v2.5.1", &[]).is_ok());
        assert!(planned("v2.5.1", "v2.4.3", "v2.5.1", &[]).is_ok());
        for (staging, why) in [("v2.7.1", "downgrade"), ("v1.50", "may not be skipped")] {
            let refusal = planned(staging, "v2.4.3", "v2.5.1", &[]).unwrap_err();
            assert!(refusal.to_string().contains(why), "{staging}: {refusal}");
            assert!(refusal.to_string().starts_with("staging cannot go first: "), "{refusal}");
            assert!(!refusal.hint().is_empty());
        }
    }

    #[test]
    fn what_is_no_way_is_refused() {
        for (to, stops, why) in [
            ("latest", &[][..], "stays the same"),
            ("v2.4.3", &[], "runs already"),
            ("v2.4.2", &[], "downgrade"),
            ("v2.5.1-ee", &[], "enterprise"),
            ("v2.5.1", &["release"], "stays the same"),
            ("v2.5.1", &["v2.6.0"], "does not lie between"),
        ] {
            let refusal = planned("v2.4.3", "v2.4.3", to, stops).unwrap_err();
            assert!(refusal.to_string().contains(why), "{to}: {refusal}");
        }
    }

    #[test]
    fn a_plan_is_said_step_by_step() {
        let plan = planned("v2.4.3", "v2.4.3", "v2.5.1", &[]).unwrap();
        let text = lines(&plan).join("\n");
        insta::assert_snapshot!(text, @r"
        Pair 'main' (appsmith): production 'shop' goes from v2.4.3 to v2.5.1, after staging 'trial', in one hop.

        Hop 1: v2.4.3 to v2.5.1.
           1. Fetch v2.5.1 to where 'trial' lives.
           2. Back up 'trial'.
           3. Back up 'shop'.
           4. Pin both snapshots.
           5. Ask the gate whether 'trial' may be upgraded.
           6. Test 'trial' as it is.
           7. Upgrade 'trial' to v2.5.1.
           8. Test 'trial', and compare with before.
           9. Let staging run it for 30m.
          10. Test 'trial' again.
          11. Wait until one of alice, bob approves.
          12. Fetch v2.5.1 to where 'shop' lives.
          13. Back up 'trial' again.
          14. Test 'shop' as it is.
          15. Ask the gate whether 'shop' may be stopped.
          16. Keep users out of 'shop'.
          17. Stop what writes to 'shop'.
          18. Back up 'shop', v2.4.3, for the last time.
          19. Pin the last snapshots.
          20. Copy the volumes of 'shop' aside.
          21. See that nothing but Belay starts 'shop' again.
          22. Read everything again, and ask the gate whether 'shop' may be upgraded.
          23. Upgrade 'shop' to v2.5.1.
          24. Test 'shop', and compare with before.
          25. Let users into 'shop'.

        Where 'shop' fails its tests, what the new version left is saved, and the version before is put back with its data; where 'trial' fails, it is put back, and 'shop' stays untouched.
        Afterwards 'shop' is watched for 7d; until then `belay upgrade rollback main` brings v2.4.3 back. The snapshots stay pinned for 30d more.
        ");
        let json = serde_json::to_value(describe(&plan)).unwrap();
        assert_eq!(json["digest"], plan.digest().to_string());
        assert_eq!(json["hops"][0]["to"], "v2.5.1");
        let staged: Vec<&str> = json["hops"][0]["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| step["step"].as_str().unwrap_or("wait"))
            .collect();
        let place = |name| staged.iter().position(|step| *step == name).unwrap();
        assert!(place("test_staging") < place("upgrade_production"));
        assert_eq!(staged[place("upgrade_production") - 1], "gate_production");
        assert_eq!(staged.iter().filter(|step| **step == "wait").count(), 2);
    }

    #[test]
    fn what_is_not_configured_is_not_in_the_plan() {
        let mut plan = planned("v2.4.3", "v2.4.3", "v2.5.1", &[]).unwrap();
        let terms = &mut plan.terms;
        (terms.maintenance, terms.copy_volumes, terms.soak) =
            (false, false, std::time::Duration::ZERO);
        (terms.approvers, terms.on_failure) = (Vec::new(), OnFailure::Hold);
        let text = lines(&plan).join("\n");
        for word in ["users", "volumes", "again.\n     ", "approves", "window"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        assert!(text.contains("until a person decides"));
    }
}
