//! The test `version`: the version that runs is the target.

use super::{Asked, Found, Target};
use crate::model::version::Version;
use crate::ops::{OpsError, probe};

/// The version that runs, and how it was found or why not.
pub(super) fn found(asked: &Asked<'_>) -> Result<(Option<String>, Vec<String>), OpsError> {
    let (found, mut said) = probe::version(
        asked.config,
        asked.secrets,
        asked.instance,
        asked.limits(),
        &asked.context,
    )?;
    let Some(found) = found else { return Ok((None, said)) };
    said.insert(0, format!("{} says {}", found.source, found.version));
    Ok((Some(found.version.to_string()), said))
}

pub(super) fn run(asked: &Asked<'_>, target: &Target<'_>) -> Result<Found, OpsError> {
    let (version, said) = found(asked)?;
    Ok(judge(version.as_deref(), target.version, said))
}

fn judge(version: Option<&str>, wanted: &str, said: Vec<String>) -> Found {
    let Some(version) = version else {
        let mut found = Found::failed("nothing tells the version that runs");
        found.details.extend(said);
        return found;
    };
    let is_same = match (version.parse::<Version>(), wanted.parse::<Version>()) {
        (Ok(version), Ok(wanted)) => version == wanted,
        _ => false,
    };
    let mut found = if is_same {
        Found::passed(format!("{version} runs"))
    } else {
        Found::failed(format!("{version} runs instead of {wanted}"))
    };
    found.details.extend(said);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_same_by_their_numbers() {
        let fine = |version, wanted| judge(version, wanted, Vec::new()).verdict.is_fine();
        assert!(fine(Some("v1.97"), "1.97.0"));
        assert!(fine(Some("3.16.12-lts"), "v3.16.12"));
        assert!(!fine(Some("v1.96"), "v1.97"));
        assert!(!fine(None, "v1.97"));
    }
}
