//! The plan of an upgrade that nobody has started: what a look at the gate is measured by.

use super::evidence::{Evidence, Scene};
use crate::config::pair::{OnFailure as Configured, Upgrades};
use crate::model::id::InstanceId;
use crate::model::upgrade::{Hop, OnFailure, Plan, Side, Terms};
use crate::model::version::Version;
use crate::ops::OpsError;

/// The conditions that the configuration asks for. Whether volumes are copied aside depends on what is found.
pub fn terms(upgrades: &Upgrades) -> Terms {
    Terms {
        fresh: upgrades.fresh,
        soak: upgrades.soak,
        windows: upgrades.windows.all().iter().map(ToString::to_string).collect(),
        approvers: upgrades.approvers.clone(),
        on_failure: match upgrades.on_failure {
            Configured::Rollback => OnFailure::Rollback,
            Configured::Hold => OnFailure::Hold,
        },
        maintenance: upgrades.maintenance.is_some(),
        copy_volumes: false,
        drilled: upgrades.drilled,
        commit_after: upgrades.commit_after,
    }
}

/// A plan for the direct way to a version, be it allowed or not: that is for the rule `path` to say. It is only for looking, as what is
/// not known of an instance has a stand-in: no rule looks at it then.
pub(super) fn direct(
    scene: &Scene<'_>,
    evidence: &Evidence,
    to: &Version,
) -> Result<Plan, OpsError> {
    let seen = &evidence.seen;
    let sides = scene.sides()?;
    let side = |number: usize| {
        let instance = [&seen.staging, &seen.production][number];
        let manifest = evidence.newest[number].as_ref().and_then(|it| it.manifest.as_ref());
        Side {
            id: manifest.map_or(InstanceId([0; 16]), |manifest| manifest.instance.id),
            name: sides[number].1.name.clone(),
            version: instance.running.as_ref().map_or(to, |running| &running.version).clone(),
        }
    };
    let editions = [&seen.production, &seen.staging].map(|it| it.running.as_ref()?.edition);
    let (staging, production) = (side(0), side(1));
    let hop = Hop { from: production.version.clone(), to: to.clone(), why: None };
    Ok(Plan {
        pair: scene.pair.name.clone(),
        platform: sides[1].1.platform.to_string(),
        edition: editions.into_iter().flatten().next(),
        hops: vec![hop],
        terms: Terms { copy_volumes: evidence.copies_volumes, ..terms(scene.upgrades) },
        staging,
        production,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::time::Duration;

    #[test]
    fn a_plan_has_the_conditions_that_the_configuration_asks_for() {
        let text = "[repository.main]\nurl = '/srv/r'\npassword = 'env:P'\n\
            [instance.a]\nplatform = 'postgres'\nvia = 'docker:a'\n\
            [instance.b]\nplatform = 'postgres'\nvia = 'docker:b'\ntimezone = 'Europe/Berlin'\n\
            [pair.main]\nstaging = 'a'\nproduction = 'b'\ndriver = { command = '/install' }\n\
            tests = ['counts']\nfresh = '3h'\nsoak = '1h'\nwindow = ['Sat 01:00-05:00', 'Sun 02:00-03:00']\n\
            approvers = ['alice']\non_failure = 'hold'\ndrilled = '30d'\ncommit_after = '3d'\n\
            maintenance = { on = '/on', off = '/off' }\n";
        let config = Config::parse(text, "test").unwrap();
        let upgrades = config.pair("main").unwrap().upgrades.as_ref().unwrap();
        let hours = Duration::from_hours;
        let expected = Terms {
            fresh: hours(3),
            soak: hours(1),
            windows: vec!["Sat 01:00-05:00".into(), "Sun 02:00-03:00".into()],
            approvers: vec!["alice".into()],
            on_failure: OnFailure::Hold,
            maintenance: true,
            copy_volumes: false,
            drilled: Some(hours(30 * 24)),
            commit_after: hours(3 * 24),
        };
        assert_eq!(terms(upgrades), expected);
    }
}
