//! The newest snapshots of both instances, as their repositories have them.

use super::{Gathering, Scene};
use crate::config::Instance;
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{Environment, RuleName};
use crate::ops::OpsError;
use crate::ops::newest::{self, Newest};
use crate::ops::session::Session;
use crate::upgrade::rules::{SnapshotSeen, Unread};

/// The rules that look at snapshots.
const RULES: [RuleName; 3] = [RuleName::BothBackedUp, RuleName::Fresh, RuleName::KeyFit];
const WHAT: &str = "its snapshots";

/// The newest snapshots, staging's first. Instances of one repository are looked for together.
pub(super) fn newest(
    scene: &Scene<'_>,
    sides: [(Environment, &Instance); 2],
    gathering: &mut Gathering,
) -> Result<[Option<Newest>; 2], OpsError> {
    let [(_, staging), (_, production)] = sides;
    let groups: &[&[usize]] =
        if staging.repository == production.repository { &[&[0, 1]] } else { &[&[0], &[1]] };
    let mut found = [None, None];
    for group in groups {
        let instances: Vec<&Instance> = group.iter().map(|number| sides[*number].1).collect();
        scene.context.events.phase("looking for the newest snapshots of", told(&instances));
        match look(scene, &instances) {
            Ok(results) => {
                for (number, result) in group.iter().zip(results) {
                    let environment = Some(sides[*number].0);
                    found[*number] = gathering.tried(environment, &RULES, WHAT, result)?.flatten();
                }
            }
            Err(error) if error.is_cancelled() => return Err(error),
            Err(error) => {
                for number in *group {
                    gathering.missed(Some(sides[*number].0), &RULES, WHAT, &error);
                }
            }
        }
    }
    Ok(found)
}

fn told(instances: &[&Instance]) -> String {
    let names: Vec<&str> = instances.iter().map(|instance| instance.name.as_str()).collect();
    names.join(" and ")
}

fn look(
    scene: &Scene<'_>,
    instances: &[&Instance],
) -> Result<Vec<Result<Option<Newest>, OpsError>>, OpsError> {
    let Some(first) = instances.first() else { return Ok(Vec::new()) };
    let repository = scene.config.repository_of(first)?;
    let session = Session::open(scene.config, repository, scene.secrets)?;
    newest::newest(&session, instances, scene.context)
}

/// A snapshot for the rules, with what is wrong with it in words.
pub(super) fn seen(
    newest: &Newest,
    environment: Environment,
    gathering: &mut Gathering,
) -> SnapshotSeen {
    let mut note = |rules: &[RuleName], why: String| {
        gathering.unread.push(Unread {
            rules: rules.to_vec(),
            environment: Some(environment),
            why: format!("{environment}: {why}"),
            needed: "see what is damaged (`belay check`)".to_owned(),
        });
    };
    let short = newest.id.short();
    if let Some(lost) = &newest.lost {
        note(&[RuleName::BothBackedUp], format!("snapshot {short} does not come back: {lost}"));
    }
    let key_fit = newest.key_fit().unwrap_or_else(|| {
        note(&[RuleName::KeyFit], format!("what snapshot {short} says of its keys cannot be read"));
        KeyFit::Unfit
    });
    let is_read = newest.manifest.is_some();
    SnapshotSeen {
        id: newest.id,
        time: newest.time,
        is_sealed: newest.is_sealed(),
        is_whole: newest.lost.is_none() && is_read,
        // Of one that cannot be read it would be the wrong thing to mend.
        is_of_one_moment: newest.not_one_moment().is_none() || !is_read,
        key_fit,
    }
}
