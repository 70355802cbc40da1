//! The upgrades that this host knows of: the journals of the catalog, followed to where they lead.

use super::machine::Upgrade;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::model::name::Name;
use crate::model::upgrade::Journal;
use crate::ops::OpsError;

/// The upgrades of a pair, or of all, newest first.
pub fn upgrades(config: &Config, pair: Option<&Name>) -> Result<Vec<Upgrade>, OpsError> {
    let journals = Catalog::open(&config.state_dir)?.upgrades(pair)?;
    journals.into_iter().map(replayed).collect()
}

/// What a journal has led to.
pub fn replayed(journal: Journal) -> Result<Upgrade, OpsError> {
    let id = journal.id;
    Upgrade::replay(journal).map_err(|misfit| {
        OpsError::refused(
            format!("the journal of upgrade {id} cannot be followed: {misfit}"),
            "it was written by another version of Belay, or is damaged: `belay catalog rebuild` takes the repository's copy",
        )
    })
}
