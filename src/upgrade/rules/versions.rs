//! The rules about versions: which way is gone, that the images are there, and that staging went first and did well.

use super::{Case, Finding, Images, InstanceSeen, Running, TESTS_COUNT_FOR};
use crate::model::upgrade::{Environment, Gate};
use crate::upgrade::path;
use crate::upgrade::words::{ago, later, span, time, until};

const UNTRIED: &str = "nothing runs the new version before staging does";

/// As a person tells digests apart.
fn short(digest: &str) -> &str {
    digest.get(..19).unwrap_or(digest)
}

fn running(environment: Environment, running: &Running) -> String {
    let image = running.image.as_deref().map(|image| format!(" ({})", short(image)));
    format!("{environment} runs {}{}", running.version, image.unwrap_or_default())
}

fn unknown(finding: &mut Finding, environment: Environment) {
    finding.saw(format!("{environment}: what it runs could not be told"));
    finding.needs(format!("see that {environment} tells its version (`belay doctor`)"));
}

pub(super) fn path(case: &Case<'_>) -> Finding {
    let mut finding = Finding::new();
    let hop = case.hop();
    let editions = [&case.seen.staging, &case.seen.production]
        .map(|instance| instance.running.as_ref().and_then(|running| running.edition));
    if let Err(refusal) = path::one_edition(editions[0], editions[1]) {
        finding.saw(refusal.to_string());
        finding.needs(refusal.hint());
    }
    for (environment, instance) in case.sides() {
        // Once staging has gone first, `staging-first` looks at it.
        if case.is_about_production() && environment == Environment::Staging {
            continue;
        }
        let Some(now) = &instance.running else {
            unknown(&mut finding, environment);
            continue;
        };
        finding.saw(format!("{} and goes to {}", running(environment, now), hop.to));
        if environment == Environment::Production && now.version != hop.from {
            finding.needs(format!(
                "make a new plan: this one is for a production that runs {}",
                hop.from
            ));
            continue;
        }
        // Staging may be there already; installing it again changes nothing.
        let is_there = environment == Environment::Staging && now.version == hop.to;
        let edition = now.edition.or(case.plan.edition);
        match path::step(&now.version, &hop.to, edition, &case.seen.checkpoints) {
            Err(path::Refusal::Same(_)) if is_there => {}
            Err(refusal) => {
                finding.saw(refusal.to_string());
                finding.needs(refusal.hint());
            }
            Ok(()) => {}
        }
    }
    finding
}

pub(super) fn images(case: &Case<'_>) -> Finding {
    let environment = case.gate.environment();
    let instance = match environment {
        Environment::Staging => &case.seen.staging,
        Environment::Production => &case.seen.production,
    };
    let Some(Images { old, new }) = &instance.images else {
        return Finding::not_applicable("the driver has no images");
    };
    let mut finding = Finding::new();
    for (which, digest) in [("old", old), ("new", new)] {
        if let Some(digest) = digest {
            finding.saw(format!("{environment}: the {which} image is {}", short(digest)));
        } else {
            finding.saw(format!("{environment}: the {which} image is not there"));
            finding.needs(format!("fetch the {which} image to where {environment} lives"));
        }
    }
    if environment == Environment::Production
        && let (Some(new), Some(tried)) = (new, tried_image(case))
        && new != tried
    {
        finding.saw(format!("staging tried {}", short(tried)));
        finding.needs("fetch to production the very image that staging tried");
    }
    finding
}

fn tried_image<'a>(case: &Case<'a>) -> Option<&'a str> {
    case.tested.and_then(|tested| tested.image.as_deref())
}

/// What upgrades and tests staging: one may be on its way, or not.
fn by_an_upgrade(case: &Case<'_>) -> String {
    let (pair, target) = (&case.plan.pair, case.plan.target());
    format!(
        "`belay upgrade start {pair} --to {target}`, or `belay upgrade resume {pair}` where one is on its way"
    )
}

pub(super) fn staging_first(case: &Case<'_>) -> Finding {
    if case.gate == Gate::Staging {
        return Finding::not_applicable(UNTRIED);
    }
    let mut finding = Finding::new();
    let Some(now) = &case.seen.staging.running else {
        unknown(&mut finding, Environment::Staging);
        return finding;
    };
    finding.saw(running(Environment::Staging, now));
    if now.version != case.hop().to {
        finding.needs(format!("upgrade staging to {} ({})", case.hop().to, by_an_upgrade(case)));
    }
    finding
}

pub(super) fn staging_tested(case: &Case<'_>) -> Finding {
    if case.gate == Gate::Staging {
        return Finding::not_applicable(UNTRIED);
    }
    let mut finding = Finding::new();
    let again = format!("let staging be upgraded and tested ({})", by_an_upgrade(case));
    let Some(tested) = case.tested.filter(|tested| tested.version == case.hop().to) else {
        finding.saw(format!("staging passed no tests with {}", case.hop().to));
        finding.needs(again.as_str());
        return finding;
    };
    finding.saw(format!(
        "staging passed its tests with {}, {}",
        tested.version,
        ago(tested.last, case.now)
    ));
    if tested.last > case.now || case.now > later(tested.last, TESTS_COUNT_FOR) {
        finding.saw(format!("that counts for {}", span(TESTS_COUNT_FOR)));
        finding.needs(again.as_str());
    }
    if image_now(&case.seen.staging) != tested.image.as_deref() {
        finding.saw(format!(
            "it runs {} and passed them with {}",
            image_now(&case.seen.staging).map_or("an unknown image", short),
            tested.image.as_deref().map_or("an unknown image", short)
        ));
        finding.needs(again);
    }
    finding
}

fn image_now(instance: &InstanceSeen) -> Option<&str> {
    instance.running.as_ref().and_then(|running| running.image.as_deref())
}

pub(super) fn soaked(case: &Case<'_>) -> Finding {
    let soak = case.plan.terms.soak;
    if case.gate == Gate::Staging {
        return Finding::not_applicable(UNTRIED);
    }
    if soak.is_zero() {
        return Finding::not_applicable("the pair has no `soak`");
    }
    let mut finding = Finding::new();
    let Some(tested) = case.tested else {
        finding.saw("staging passed no tests yet");
        finding.needs("let staging be upgraded and tested first");
        return finding;
    };
    let ends = later(tested.first, soak);
    finding.saw(format!(
        "staging has run the new version for {} of {}, and passed its tests {}",
        span(until(tested.first, case.now)),
        span(soak),
        ago(tested.last, case.now)
    ));
    if case.now < ends {
        finding.needs(format!("wait until {}", time(ends)));
        finding.passes_at = Some(ends);
    } else if tested.last < ends {
        finding
            .needs(format!("test staging again now that it has soaked ({})", by_an_upgrade(case)));
    }
    finding
}
