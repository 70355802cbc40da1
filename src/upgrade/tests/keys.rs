//! The test `keys`: what is encrypted in the database still decrypts, with the keys that the instance has now.

use super::{Asked, Found};
use crate::model::trial::{Baseline, KeysBaseline};
use crate::ops::OpsError;
use crate::ops::probe::{self, KeysTried};

pub(super) fn before(asked: &Asked<'_>) -> Result<Option<KeysBaseline>, OpsError> {
    let tried = probe::try_keys(asked.config, asked.secrets, asked.instance, &asked.context)?;
    Ok(tried.map(|tried| KeysBaseline { fit: tried.fit, unfit: tried.unfit }))
}

pub(super) fn run(asked: &Asked<'_>, baseline: &Baseline) -> Result<Found, OpsError> {
    let tried = probe::try_keys(asked.config, asked.secrets, asked.instance, &asked.context)?;
    let Some(tried) = tried else {
        return Ok(Found::not_applicable("the platform encrypts nothing"));
    };
    Ok(judge(&tried, baseline.keys))
}

fn judge(tried: &KeysTried, before: Option<KeysBaseline>) -> Found {
    let KeysTried { fit, unfit, told } = tried;
    let before = before.unwrap_or_default();
    let mut troubles = Vec::new();
    if *unfit > before.unfit {
        troubles.push(format!("{unfit} values do not decrypt; before it were {}", before.unfit));
        troubles.extend(told.iter().cloned());
    }
    if *fit == 0 && before.fit > 0 {
        troubles.push(format!("none decrypts any more; before it were {}", before.fit));
    }
    if fit + unfit == 0 && before.fit == 0 {
        return Found::not_applicable("nothing is encrypted");
    }
    let mut found =
        Found::of(format!("{fit} of {} values that were tried decrypt", fit + unfit), troubles);
    if found.verdict.is_fine() && *unfit > 0 {
        found.details.push(format!("{unfit} did not decrypt before the upgrade either"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::trial::TrialVerdict::{Failed, NotApplicable, Passed};

    #[test]
    fn what_did_not_decrypt_before_does_not_count_and_what_is_gone_does() {
        for (fit, unfit, before_fit, before_unfit, expected) in [
            (3, 0, 3, 0, Passed),
            (3, 1, 3, 1, Passed),
            (3, 1, 3, 0, Failed),
            (0, 3, 3, 0, Failed),
            (0, 0, 3, 0, Failed),
            (0, 0, 0, 0, NotApplicable),
            (5, 0, 0, 0, Passed),
        ] {
            let tried = KeysTried { fit, unfit, told: vec!["a place".into()] };
            let before = KeysBaseline { fit: before_fit, unfit: before_unfit };
            assert_eq!(judge(&tried, Some(before)).verdict, expected, "{tried:?} {before:?}");
        }
        assert_eq!(judge(&KeysTried { unfit: 1, ..KeysTried::default() }, None).verdict, Failed);
    }
}
