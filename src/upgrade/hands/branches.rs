//! What a production that went back cannot read of its branches: people may have committed while the newer version ran.

use super::Hands;
use crate::config::GitRepository;
use crate::ops::apps::unreadable::{Unreadable, unreadable};
use crate::ops::git::fetch;
use crate::upgrade::machine::Upgrade;

/// More commits are counted, not named.
const MOST_NAMED: usize = 5;

impl Hands<'_> {
    /// A sentence for each git repository of which production's old version cannot read what its branch has now. Git cannot keep
    /// production from going back: what could not be asked is a sentence, too.
    pub(super) fn told_of_branches(&self, upgrade: &Upgrade) -> Vec<String> {
        let (config, pair) = (self.scene.config, self.scene.pair);
        let gits: Vec<&GitRepository> = config.gits_of(&pair.name).collect();
        if gits.is_empty() {
            return Vec::new();
        }
        let mut told = Vec::new();
        let fetched = fetch(
            config,
            self.scene.secrets,
            &gits,
            false,
            &self.context(),
            |git, fetched| {
                if let Err(error) = fetched {
                    let (name, why) = (&git.name, error.told());
                    told.push(format!(
                        "{name} could not be fetched, so what was committed last is not known: {why}"
                    ));
                }
                true
            },
        );
        told.extend(fetched.err().map(|error| error.told()));
        let version = &upgrade.hop().from;
        told.extend(unreadable(config, pair, version).into_iter().map(|found| match found {
            Ok(found) => sentence(&found, &version.to_string()),
            Err(error) => format!("what production can read of its branches: {}", error.told()),
        }));
        told
    }
}

fn sentence(found: &Unreadable, version: &str) -> String {
    let Unreadable { git, branch, commits, why, readable } = found;
    let short = |id: &str| id.chars().take(10).collect::<String>();
    let named = commits.iter().take(MOST_NAMED);
    let mut named: Vec<String> =
        named.map(|it| format!("{} ({}: {})", short(&it.id), it.author, it.subject)).collect();
    if commits.len() > MOST_NAMED {
        named.push(format!("and {} more", commits.len() - MOST_NAMED));
    }
    let way = match readable {
        Some(readable) => format!(
            "a branch with what it can read: belay apps restore {git} --at {} --branch readable --push",
            short(&readable.id)
        ),
        None => "no commit was found that it can read".to_owned(),
    };
    let number = commits.len();
    let noun = if number == 1 { "commit" } else { "commits" };
    format!(
        "{git}: production's branch {branch} has {number} {noun} that {version} cannot read, so do not pull: {}; {why}; {way}",
        named.join(", ")
    )
}
