//! Telling what was pushed away in git repositories, whoever fetched it: a job of the daemon, or a command without it.

use super::{Teller, of_host};
use crate::catalog::CatalogError;
use crate::model::git::Rewrite;
use crate::model::name::Name;
use crate::model::notice::{Notice, NoticeKind};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// More are counted only.
const MOST_TOLD: usize = 20;

impl Teller {
    /// Tell what nobody was told of yet: one notice for each git repository.
    pub(in crate::daemon) fn tell_rewrites(&self) -> Result<(), CatalogError> {
        let _telling = self.telling();
        let mut untold: BTreeMap<Name, Vec<Rewrite>> = BTreeMap::new();
        for (git, rewrite) in self.catalog().untold_rewrites()? {
            untold.entry(git).or_default().push(rewrite);
        }
        for (git, rewrites) in untold {
            let deliveries = self.deliveries(&notice(&git, &rewrites));
            self.catalog().tell_rewrites(&git, &rewrites, &deliveries, Timestamp::now())?;
            self.wake.notify_one();
        }
        Ok(())
    }
}

fn notice(git: &Name, rewrites: &[Rewrite]) -> Notice {
    let refs = match rewrites {
        [one] => one.name.clone(),
        several => format!("{} refs", several.len()),
    };
    let mut body: Vec<String> =
        rewrites.iter().take(MOST_TOLD).map(|rewrite| rewrite.told(git.as_str())).collect();
    if rewrites.len() > MOST_TOLD {
        body.push(format!("And {} more.", rewrites.len() - MOST_TOLD));
    }
    Notice {
        instance: Some(git.clone()),
        body: body.join("\n"),
        hint: Some(format!("belay apps log {git} --kept")),
        ..of_host(
            NoticeKind::HistoryRewritten,
            format!("History was rewritten in the git repository {git}: {refs}"),
        )
    }
}
