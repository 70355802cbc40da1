//! What lies around the instances: room, windows, and the apps that production pulls.

use super::{Gathering, Question, Scene};
use crate::config::Instance;
use crate::model::upgrade::{Environment, RuleName};
use crate::model::version::Version;
use crate::ops::OpsError;
use crate::ops::apps::to_come::to_come;
use crate::ops::newest::Newest;
use crate::ops::room;
use crate::policy::window::{Opening, Windows};
use crate::upgrade::rules::{App, Room, Window};
use jiff::Timestamp;

/// The room that the snapshots to come need in the repositories.
pub(super) fn repositories(
    scene: &Scene<'_>,
    sides: [(Environment, &Instance); 2],
    newest: &[Option<Newest>; 2],
    gathering: &mut Gathering,
) -> Result<Vec<Room>, OpsError> {
    let mut all = Vec::new();
    // Both have snapshots to come, and in one repository they add up.
    let [(_, staging), (_, production)] = sides;
    let added = |number: usize| newest[number].as_ref().map_or(0, |it| it.most_added_bytes);
    let repositories = if staging.repository == production.repository {
        vec![(Environment::Production, production, added(0).saturating_add(added(1)))]
    } else {
        vec![
            (Environment::Staging, staging, added(0)),
            (Environment::Production, production, added(1)),
        ]
    };
    for (environment, instance, needed_bytes) in repositories {
        let repository = scene.config.repository_of(instance)?;
        let what = "the room in its repository";
        let free = room::free_in_repository(repository);
        let free_bytes = gathering.tried(Some(environment), &[RuleName::Room], what, free)?;
        if free_bytes.is_some() {
            let place = format!("the repository {} ({})", repository.name, repository.location);
            let what = "each further snapshot".to_owned();
            all.push(Room { environment, what, place, needed_bytes, free_bytes });
        }
    }
    Ok(all)
}

/// Whether one of the plan's windows is open on the clock of production's zone; none where they cannot be read, or there are none.
pub(in crate::upgrade) fn window(
    production: &Instance,
    windows: &[String],
    now: Timestamp,
) -> Option<Window> {
    if windows.is_empty() {
        return None;
    }
    let windows = windows.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?;
    let (is_open, opens_at) = match Windows::new(windows, production.timezone.clone()).at(now) {
        Opening::Always | Opening::Until(_) => (true, None),
        Opening::From(opens_at) => (false, Some(opens_at)),
        Opening::Never => (false, None),
    };
    Some(Window { is_open, opens_at })
}

/// The apps on production's branches, judged by the version to come.
pub(super) fn apps(
    scene: &Scene<'_>,
    question: &Question<'_>,
    writer: Option<&Version>,
) -> Vec<App> {
    let found = to_come(scene.config, scene.pair, question.to, writer);
    found
        .into_iter()
        .map(|it| {
            let git = &it.git;
            let name = it.app.map_or_else(|| git.to_string(), |app| format!("{git}: {app}"));
            App { name, readability: it.readability }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn windows_go_by_the_clock_of_production() {
        let text = "[repository.main]\nurl = '/srv/r'\npassword = 'env:P'\n\
            [instance.b]\nplatform = 'postgres'\nvia = 'docker:b'\ntimezone = 'Europe/Berlin'\n";
        let config = Config::parse(text, "test").unwrap();
        let at = |now: &str, windows: &[&str]| {
            let windows: Vec<String> = windows.iter().map(|text| (*text).to_owned()).collect();
            window(config.instance("b").unwrap(), &windows, now.parse().unwrap())
        };
        let saturday = ["Sat 01:00-05:00"];
        let open = Window { is_open: true, opens_at: None };
        // An hour ahead of UTC in winter.
        assert_eq!(at("2026-11-21T00:30:00Z", &saturday), Some(open));
        let opens_at = "2026-11-28T00:00:00Z".parse().ok();
        let closed = Window { is_open: false, opens_at };
        assert_eq!(at("2026-11-21T04:30:00Z", &saturday), Some(closed));
        assert_eq!(at("2026-11-21T00:30:00Z", &[]), None);
        assert_eq!(at("2026-11-21T00:30:00Z", &["whenever"]), None, "that is not known");
    }
}
