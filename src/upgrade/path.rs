//! From version to version: over which stops an upgrade goes, and which moves are none.
//!
//! What always holds of the hops that [`hops`] gives: each is one that [`step`] allows, so none skips a checkpoint, goes backwards,
//! stays, or changes the edition.

use crate::model::upgrade::Hop;
use crate::model::version::{Edition, Version};
use crate::platform::recipe::Checkpoint;

/// Words after a version's numbers that say that it does not stay what it is.
const FLOATING: [&str; 10] = [
    "latest", "nightly", "edge", "snapshot", "dev", "develop", "main", "master", "release",
    "stable",
];

/// Why a move from one version to another is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What was asked for is another one tomorrow.
    #[error("cannot upgrade to '{0}': that is no version that stays the same")]
    Floating(String),
    /// It is what runs.
    #[error("cannot upgrade to {0}: it runs already")]
    Same(Version),
    /// It is older than what runs.
    #[error("cannot upgrade from {from} to {to}: that is a downgrade")]
    Downgrade {
        /// What runs.
        from: Version,
        /// What was asked for.
        to: Version,
    },
    /// The data of the editions do not fit each other.
    #[error("cannot upgrade from the {from} edition to the {to} edition")]
    OtherEdition {
        /// What runs.
        from: Edition,
        /// What was asked for.
        to: Edition,
    },
    /// What was asked for names its edition, and which one runs is not known.
    #[error(
        "cannot upgrade to {to}: that is of the {edition} edition, and which edition runs is not known"
    )]
    UnknownEdition {
        /// What was asked for.
        to: Version,
        /// Its edition.
        edition: Edition,
    },
    /// Both sides of the pair run, and not the same.
    #[error("staging runs the {staging} edition and production the {production} edition")]
    EditionsDiffer {
        /// What staging runs.
        staging: Edition,
        /// What production runs.
        production: Edition,
    },
    /// A version that has to be run in between would not be.
    #[error("cannot upgrade from {from} to {to} at once: {} may not be skipped, because {}", range(.checkpoint), .checkpoint.why)]
    SkipsCheckpoint {
        /// What runs.
        from: Version,
        /// What was asked for.
        to: Version,
        /// What may not be skipped.
        checkpoint: Box<Checkpoint>,
    },
    /// Staging cannot go first.
    #[error("staging cannot go first: {0}")]
    Staging(Box<Refusal>),
    /// A stop that was asked for is not on the way.
    #[error("cannot upgrade from {from} to {to} by way of {stop}: it does not lie between them")]
    NotOnTheWay {
        /// What runs.
        from: Version,
        /// What was asked for.
        to: Version,
        /// The stop.
        stop: Version,
    },
}

impl Refusal {
    /// What to do next.
    pub fn hint(&self) -> String {
        match self {
            Self::Floating(_) => {
                "name a release with its numbers, such as v2.5.0; `belay upgrade adopt NAME` pins what runs today".to_owned()
            }
            Self::Same(_) => "there is nothing to do; a newer version can be named with --to".to_owned(),
            Self::Downgrade { .. } => {
                "an older version cannot read newer data: restore a snapshot from when it ran (`belay list`, `belay restore`)".to_owned()
            }
            Self::OtherEdition { .. } => {
                "name a version of the edition that runs; moving to another edition is described by the platform".to_owned()
            }
            Self::UnknownEdition { .. } => {
                "where that edition runs, name the version as what runs tells it, without the edition; moving to another edition is described by the platform".to_owned()
            }
            Self::EditionsDiffer { .. } => {
                "what staging proves holds for its own edition only: put production's edition on staging".to_owned()
            }
            Self::SkipsCheckpoint { checkpoint, .. } => {
                format!("go to {} first; `belay upgrade plan` shows all stops", checkpoint.stop)
            }
            Self::Staging(refusal) => format!("of staging: {}", refusal.hint()),
            Self::NotOnTheWay { .. } => "leave it out, or name one in between".to_owned(),
        }
    }
}

/// The versions that a checkpoint is satisfied by.
fn range(checkpoint: &Checkpoint) -> String {
    let Checkpoint { from, below, stop, .. } = checkpoint;
    if stop == from && below.numbers() == after(from) {
        return from.to_string();
    }
    format!("a version from {from} to below {below}")
}

/// The next number.
fn after(version: &Version) -> [u32; 3] {
    let [major, minor, patch] = version.numbers();
    [major, minor, patch.saturating_add(1)]
}

/// The version that a person asks for: a release that stays what it is.
pub fn target(text: &str) -> Result<Version, Refusal> {
    let floating = || Refusal::Floating(text.chars().take(64).collect());
    let version: Version = text.parse().map_err(|_| floating())?;
    let rest = text.split_once(['-', '+']).map_or("", |(_, rest)| rest).to_ascii_lowercase();
    if rest.split(['-', '+', '.', '_']).any(|word| FLOATING.contains(&word)) {
        return Err(floating());
    }
    Ok(version)
}

/// Whether an instance may go from one version to another at once.
///
/// `edition` is that of the data, where it is known; where it is not, checkpoints of each edition count.
pub fn step(
    from: &Version,
    to: &Version,
    edition: Option<Edition>,
    checkpoints: &[Checkpoint],
) -> Result<(), Refusal> {
    let edition = edition.or_else(|| from.edition());
    match (edition, to.edition()) {
        (Some(from), Some(to)) if from != to => return Err(Refusal::OtherEdition { from, to }),
        // What could not be read is never taken for good.
        (None, Some(edition)) => return Err(Refusal::UnknownEdition { to: to.clone(), edition }),
        _ => {}
    }
    if to == from {
        return Err(Refusal::Same(to.clone()));
    }
    if to < from {
        return Err(Refusal::Downgrade { from: from.clone(), to: to.clone() });
    }
    match skipped(from, to, edition, checkpoints) {
        None => Ok(()),
        Some(checkpoint) => Err(Refusal::SkipsCheckpoint {
            from: from.clone(),
            to: to.clone(),
            checkpoint: Box::new(checkpoint.clone()),
        }),
    }
}

/// Whether both sides run one edition, as far as that is known.
pub fn one_edition(staging: Option<Edition>, production: Option<Edition>) -> Result<(), Refusal> {
    match (staging, production) {
        (Some(staging), Some(production)) if staging != production => {
            Err(Refusal::EditionsDiffer { staging, production })
        }
        _ => Ok(()),
    }
}

/// The first checkpoint between two versions.
fn skipped<'a>(
    from: &Version,
    to: &Version,
    edition: Option<Edition>,
    checkpoints: &'a [Checkpoint],
) -> Option<&'a Checkpoint> {
    checkpoints
        .iter()
        .filter(|it| it.edition.is_none_or(|of| edition.is_none_or(|own| own == of)))
        .filter(|it| *from < it.from && *to >= it.before)
        .min_by(|one, other| one.from.cmp(&other.from))
}

/// All hops from one version to another. `stops` are versions that a person wants to stop at; one that satisfies a checkpoint
/// takes the place of the one that the recipe names.
pub fn hops(
    from: &Version,
    to: &Version,
    edition: Option<Edition>,
    checkpoints: &[Checkpoint],
    stops: &[Version],
) -> Result<Vec<Hop>, Refusal> {
    if let Some(refusal) = step(from, to, edition, &[]).err().or_else(|| outside(from, to, stops)) {
        return Err(refusal);
    }
    let mut stops = stops.to_vec();
    stops.sort();
    stops.dedup();
    let mut hops: Vec<Hop> = Vec::new();
    let mut here = from.clone();
    for wanted in stops.iter().chain([to]) {
        while let Err(refusal) = step(&here, wanted, edition, checkpoints) {
            let Refusal::SkipsCheckpoint { checkpoint, .. } = refusal else { return Err(refusal) };
            let Checkpoint { stop, why, .. } = *checkpoint;
            hops.push(Hop { from: here, to: stop.clone(), why: Some(why) });
            here = stop;
        }
        let why = (wanted != to).then(|| "it was asked for".to_owned());
        hops.push(Hop { from: here, to: wanted.clone(), why });
        here = wanted.clone();
    }
    Ok(hops)
}

fn outside(from: &Version, to: &Version, stops: &[Version]) -> Option<Refusal> {
    let stop = stops.iter().find(|stop| *stop <= from || *stop >= to)?;
    Some(Refusal::NotOnTheWay { from: from.clone(), to: to.clone(), stop: stop.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Platform;
    use crate::platform::recipe::Recipe;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn checkpoints(platform: Platform) -> Vec<Checkpoint> {
        Recipe::of(platform).checkpoints
    }

    fn way(
        platform: Platform,
        from: &str,
        to: &str,
        edition: Option<Edition>,
        via: &[&str],
    ) -> String {
        let stops: Vec<Version> = via.iter().map(|text| version(text)).collect();
        let hops =
            hops(&version(from), &version(to), edition, &checkpoints(platform), &stops).unwrap();
        let versions: Vec<String> = hops.iter().map(|hop| hop.to.to_string()).collect();
        versions.join(" ")
    }

    #[test]
    fn every_checkpoint_of_appsmith_is_stopped_at() {
        const COMMUNITY: Option<Edition> = Some(Edition::Community);
        const ENTERPRISE: Option<Edition> = Some(Edition::Enterprise);
        for (from, to, edition, expected) in [
            ("v1.8.15", "v1.9.2", COMMUNITY, "v1.9.2"),
            ("v1.8.15", "v1.9.1", COMMUNITY, "v1.9.1"),
            ("v1.8.15", "v1.9.3", COMMUNITY, "v1.9.2 v1.9.3"),
            ("v1.9.2", "v1.95", COMMUNITY, "v1.95"),
            ("v1.50", "v1.99", COMMUNITY, "v1.99"),
            ("v1.95", "v2.0", COMMUNITY, "v1.99 v2.0"),
            ("v1.96", "v2.0", COMMUNITY, "v2.0"),
            ("v1.99", "v2.7.1", COMMUNITY, "v2.7.1"),
            ("v1.8.15", "v2.7.1", COMMUNITY, "v1.9.2 v1.99 v2.7.1"),
            ("v1.8.15", "v2.7.1", ENTERPRISE, "v1.9.2 v1.99 v2.5.1 v2.7.1"),
            ("v1.8.15", "v2.7.1", None, "v1.9.2 v1.99 v2.5.1 v2.7.1"),
            ("v2.4", "v2.5.3", ENTERPRISE, "v2.5.3"),
            ("v2.5.0", "v2.6.0", ENTERPRISE, "v2.6.0"),
            ("v2.0", "v2.8.0", COMMUNITY, "v2.3 v2.8.0"),
            ("v2.2.1", "v2.8.0", COMMUNITY, "v2.8.0"),
            ("v2.1", "v2.9.0", ENTERPRISE, "v2.3 v2.5.1 v2.9.0"),
        ] {
            assert_eq!(way(Platform::Appsmith, from, to, edition, &[]), expected, "{from} to {to}");
        }
    }

    #[test]
    fn every_checkpoint_of_tooljet_is_stopped_at() {
        for (from, to, expected) in [
            ("2.15.0", "2.23.0", "2.23.0"),
            ("2.15.0", "2.50.3", "v2.23.0 2.50.3"),
            ("2.15.0", "3.0.0", "v2.23.0 v2.50.0-LTS 3.0.0"),
            ("2.23.0", "2.49.0", "2.49.0"),
            ("2.49.0", "3.20.40", "v2.50.0-LTS 3.20.40"),
            ("2.50.9-LTS", "3.16.0-LTS", "3.16.0-LTS"),
            ("3.0.0", "3.20.40", "3.20.40"),
        ] {
            assert_eq!(way(Platform::Tooljet, from, to, None, &[]), expected, "{from} to {to}");
        }
    }

    #[test]
    fn a_stop_that_is_asked_for_satisfies_a_checkpoint() {
        let via = |stops: &[&str]| way(Platform::Appsmith, "v1.90", "v2.5.1", None, stops);
        assert_eq!(via(&["v1.97"]), "v1.97 v2.5.1");
        assert_eq!(via(&["v2.4", "v1.96", "v1.96"]), "v1.96 v2.4 v2.5.1");
        assert_eq!(via(&["v1.95"]), "v1.95 v1.99 v2.5.1");
        for stop in ["v1.90", "v1.8", "v2.5.1", "v2.6"] {
            let refusal = hops(&version("v1.90"), &version("v2.5.1"), None, &[], &[version(stop)])
                .unwrap_err();
            assert!(matches!(refusal, Refusal::NotOnTheWay { .. }), "{stop}: {refusal}");
        }
    }

    #[test]
    fn a_stop_says_why() {
        let hops =
            hops(&version("v1.90"), &version("v2.0"), None, &checkpoints(Platform::Appsmith), &[]);
        let why: Vec<Option<String>> = hops.unwrap().into_iter().map(|hop| hop.why).collect();
        assert!(why[0].as_ref().unwrap().starts_with("MongoDB 7"), "{why:?}");
        assert_eq!(why[1], None);
    }

    #[test]
    fn moves_that_are_none_are_refused_with_the_reason() {
        let refused = |from: &str, to: &str, edition| {
            step(&version(from), &version(to), edition, &checkpoints(Platform::Appsmith))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            refused("v1.90", "v2.0", None),
            "cannot upgrade from v1.90 to v2.0 at once: a version from v1.96 to below v2.0 may not be skipped, because MongoDB 7, \
             which 2.0 brings, opens databases of feature compatibility 6.0 only (appsmith #41534, #41743)"
        );
        assert!(refused("v1.8", "v1.50", None).contains("at once: v1.9.2 may not be skipped"));
        assert_eq!(
            refused("v2.5.1", "v2.5.0", None),
            "cannot upgrade from v2.5.1 to v2.5.0: that is a downgrade"
        );
        assert_eq!(refused("v2.5", "v2.5.0", None), "cannot upgrade to v2.5.0: it runs already");
        assert_eq!(
            refused("v2.5.0", "v2.7.1-ee", Some(Edition::Community)),
            "cannot upgrade from the community edition to the enterprise edition"
        );
        assert!(refused("v2.5.0-ee", "v2.7.1-ce", None).contains("to the community edition"));
        assert_eq!(
            refused("v2.5.0", "v2.7.1-ee", None),
            "cannot upgrade to v2.7.1-ee: that is of the enterprise edition, and which edition runs is not known"
        );
        let (community, enterprise) = (Some(Edition::Community), Some(Edition::Enterprise));
        let differ = one_edition(community, enterprise).unwrap_err();
        assert_eq!(
            differ.to_string(),
            "staging runs the community edition and production the enterprise edition"
        );
        assert_eq!(one_edition(enterprise, enterprise), Ok(()));
        assert_eq!(one_edition(None, enterprise), Ok(()));
        let downgrade = hops(&version("v2.5.1"), &version("v2.0"), None, &[], &[]).unwrap_err();
        assert!(downgrade.hint().contains("belay restore"), "{}", downgrade.hint());
    }

    #[test]
    fn a_floating_tag_is_refused() {
        for text in [
            "latest",
            "release",
            "v2",
            "nightly-20260101",
            "",
            "v2.5.0-nightly",
            "3.16.0-lts-latest",
        ] {
            let refusal = target(text).unwrap_err();
            assert_eq!(refusal, Refusal::Floating(text.to_owned()));
            assert!(refusal.hint().contains("belay upgrade adopt"));
        }
        for text in ["v1.99", "v2.5.0", "3.16.0-LTS", "v2.5.0-ee"] {
            assert_eq!(target(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_hop_of_a_way_is_a_step() {
        let versions = [
            "v1.5", "v1.9.2", "v1.9.3", "v1.50", "v1.97", "v2.0", "v2.3", "v2.5.1", "v2.7", "v2.9",
        ];
        for platform in [Platform::Appsmith, Platform::Tooljet] {
            let checkpoints = checkpoints(platform);
            for from in versions.map(version) {
                for to in versions.map(version).into_iter().filter(|to| *to > from) {
                    let way = hops(&from, &to, None, &checkpoints, &[]).unwrap();
                    assert!(
                        way.iter()
                            .all(|hop| step(&hop.from, &hop.to, None, &checkpoints) == Ok(()))
                    );
                    assert!(way.windows(2).all(|pair| pair[0].to == pair[1].from));
                    assert_eq!((&way[0].from, &way.last().unwrap().to), (&from, &to));
                }
            }
        }
    }
}
