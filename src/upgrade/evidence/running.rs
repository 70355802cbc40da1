//! What an instance runs: its version as it says itself, its edition, and its images as the driver knows them.

use super::{Copies, Gathering, Question, Scene};
use crate::config::Instance;
use crate::config::pair::DriverSettings;
use crate::model::upgrade::{Environment, RuleName};
use crate::model::version::Edition;
use crate::ops::newest::Newest;
use crate::ops::{OpsError, probe};
use crate::platform::http::Limits;
use crate::upgrade::driver::{Driver, DriverError, Image};
use crate::upgrade::rules::{Images, Running, Unread};
use std::time::Duration;

/// How long an instance may take to say which version it is.
const LIMITS: Limits = Limits { connect: Duration::from_secs(10), all: Duration::from_secs(30) };

/// What was found of an instance.
pub(super) struct Found {
    pub(super) running: Option<Running>,
    pub(super) images: Option<Images>,
}

pub(super) fn look(
    scene: &Scene<'_>,
    (environment, instance): (Environment, &Instance),
    newest: Option<&Newest>,
    question: &Question<'_>,
    gathering: &mut Gathering,
) -> Result<Found, OpsError> {
    scene.context.events.phase("asking", instance.name.to_string());
    let driven = driven(scene, (environment, instance), question, gathering)?;
    let is_down =
        environment == Environment::Production && matches!(question.copies, Copies::Made(_));
    let running = running(scene, (environment, instance, is_down), newest, gathering)?;
    let image = driven.as_ref().and_then(|driven| driven.running.clone());
    Ok(Found {
        running: running.map(|running| Running { image, ..running }),
        images: driven.map(|driven| driven.images),
    })
}

fn running(
    scene: &Scene<'_>,
    (environment, instance, is_down): (Environment, &Instance, bool),
    newest: Option<&Newest>,
    gathering: &mut Gathering,
) -> Result<Option<Running>, OpsError> {
    // `staging-first` asks staging only, and `path` both.
    let rules: &[RuleName] = match environment {
        Environment::Staging => &[RuleName::Path, RuleName::StagingFirst],
        Environment::Production => &[RuleName::Path],
    };
    let told = if is_down {
        probe::version_at_rest(scene.config, instance, scene.context)
    } else {
        probe::version(scene.config, scene.secrets, instance, LIMITS, scene.context)
    };
    let told = gathering.tried(Some(environment), rules, "what it runs", told)?;
    let Some((found, without)) = told else { return Ok(None) };
    let Some(found) = found else {
        if !without.is_empty() {
            gathering.unread.push(Unread {
                rules: rules.to_vec(),
                environment: Some(environment),
                why: format!("{environment}: {}", without.join("; ")),
                needed: format!("see that {environment} tells its version (`belay doctor`)"),
            });
        }
        return Ok(None);
    };
    let recorded = || {
        let manifest = newest?.manifest.as_ref()?;
        manifest.edition.as_ref()?.parse::<Edition>().ok()
    };
    let edition = found.version.edition().or_else(recorded);
    Ok(Some(Running { version: found.version, edition, image: None }))
}

/// What a driver that has images says of them.
struct Driven {
    running: Option<String>,
    images: Images,
}

fn driven(
    scene: &Scene<'_>,
    (environment, instance): (Environment, &Instance),
    question: &Question<'_>,
    gathering: &mut Gathering,
) -> Result<Option<Driven>, OpsError> {
    if !matches!(scene.upgrades.driver, DriverSettings::Compose) {
        return Ok(None);
    }
    let fetched = question.fetched[usize::from(environment == Environment::Production)];
    let found = images(scene, instance, question, fetched);
    let rules = [RuleName::Images, RuleName::StagingTested];
    match found {
        Ok(driven) => Ok(Some(driven)),
        Err(error) if error.is_cancelled() => Err(OpsError::from(crate::model::event::Cancelled)),
        Err(error) => {
            let hint = error.hint().unwrap_or_default();
            let error = OpsError::refused(error.to_string(), hint);
            gathering.missed(Some(environment), &rules, "its images", &error);
            Ok(Some(Driven { running: None, images: Images::default() }))
        }
    }
}

fn images(
    scene: &Scene<'_>,
    instance: &Instance,
    question: &Question<'_>,
    fetched: Option<&str>,
) -> Result<Driven, DriverError> {
    let driver = Driver::of(scene.config, scene.upgrades, instance, scene.context)?;
    let running = driver.running_image()?;
    let version = question.to.to_string();
    let new = match (fetched, &running) {
        (Some(digest), Some(running)) => {
            Some(Image { name: running.name.clone(), tag: version, digest: digest.to_owned() })
        }
        _ => driver.fetched_image(&version)?,
    };
    let new = match new {
        Some(image) if driver.has(&image)? => Some(image.digest),
        _ => None,
    };
    let running = running.map(|image| image.digest);
    Ok(Driven { images: Images { old: running.clone(), new }, running })
}
