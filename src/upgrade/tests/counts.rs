//! The test `counts`: no table or collection that a snapshot has lost rows.

use super::{Asked, Found, Target};
use crate::config::Platform;
use crate::config::pair::CountsSettings;
use crate::model::manifest::Manifest;
use crate::model::trial::Baseline;
use crate::ops::OpsError;
use crate::ops::probe::{self, Counted};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// What comes and goes by itself: tokens and locks that the platforms throw away.
const APPSMITH_PASSING: [&str; 3] = ["passwordResetToken", "emailVerificationToken", "mongockLock"];
const TOOLJET_PASSING: [&str; 1] = ["user_sessions"];

/// How much of what a snapshot has there was before the upgrade; none where there is no snapshot to compare with.
pub(super) fn before(
    asked: &Asked<'_>,
    snapshot: Option<&Manifest>,
) -> Result<Option<BTreeMap<String, u64>>, OpsError> {
    let Some(snapshot) = snapshot else { return Ok(None) };
    let counted = now(asked, &probe::counted_in(snapshot))?;
    Ok(Some(counted.into_iter().map(|(key, rows)| (key.to_string(), rows)).collect()))
}

pub(super) fn run(
    asked: &Asked<'_>,
    settings: &CountsSettings,
    target: &Target<'_>,
    baseline: &Baseline,
) -> Result<Found, OpsError> {
    let Some(snapshot) = target.snapshot else {
        return Ok(Found::failed("there is no snapshot to compare with: back the instance up"));
    };
    let expected = probe::counted_in(snapshot);
    if expected.is_empty() {
        return Ok(Found::not_applicable("the snapshot has no rows and no documents"));
    }
    let found = now(asked, &expected)?;
    Ok(judge(asked.instance.platform, settings, &expected, &found, baseline))
}

fn now(
    asked: &Asked<'_>,
    wanted: &BTreeMap<Counted, u64>,
) -> Result<BTreeMap<Counted, u64>, OpsError> {
    let wanted: BTreeSet<Counted> = wanted.keys().cloned().collect();
    let left = asked.until.saturating_duration_since(std::time::Instant::now());
    probe::count(asked.config, asked.secrets, asked.instance, &wanted, left, &asked.context)
}

fn judge(
    platform: Platform,
    settings: &CountsSettings,
    expected: &BTreeMap<Counted, u64>,
    found: &BTreeMap<Counted, u64>,
    baseline: &Baseline,
) -> Found {
    let may_lose = Excepted::new(platform, &settings.except);
    let (mut troubles, mut passed_over, mut rows) = (Vec::new(), 0, 0);
    for (key, &in_snapshot) in expected {
        if may_lose.has(key) {
            passed_over += 1;
            continue;
        }
        let name = key.to_string();
        // What was gone before the upgrade, that has not lost.
        let before = baseline.counts.as_ref().and_then(|counts| counts.get(&name).copied());
        let had = before.map_or(in_snapshot, |before| before.min(in_snapshot));
        let has = found.get(key).copied().unwrap_or_default();
        let lost = had.saturating_sub(has);
        rows += has;
        if lost > settings.tolerance.of(had) {
            troubles.push(format!("{name} lost {lost} of {had}"));
        }
    }
    let counted = expected.len() - passed_over;
    let excepted = match passed_over {
        0 => String::new(),
        count => format!("; {count} may lose whatever they like"),
    };
    let summary = format!(
        "{counted} tables and collections were counted, with {rows} rows and documents{excepted}"
    );
    Found::of(summary, troubles)
}

/// Tables and collections that may lose whatever they like.
struct Excepted {
    names: GlobSet,
    paths: GlobSet,
    passing: &'static [&'static str],
}

impl Excepted {
    fn new(platform: Platform, patterns: &[String]) -> Self {
        let (paths, names): (Vec<&String>, Vec<&String>) =
            patterns.iter().partition(|pattern| pattern.contains('/'));
        let passing: &'static [&'static str] = match platform {
            Platform::Appsmith => &APPSMITH_PASSING,
            Platform::Tooljet => &TOOLJET_PASSING,
            _ => &[],
        };
        Self { names: set_of(&names), paths: set_of(&paths), passing }
    }

    fn has(&self, key: &Counted) -> bool {
        self.names.is_match(&key.name)
            || self.paths.is_match(key.to_string())
            || self.passing.contains(&key.name.as_str())
    }
}

/// The configuration has looked at the patterns.
fn set_of(patterns: &[&String]) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        if let Ok(glob) = GlobBuilder::new(pattern).literal_separator(true).build() {
            set.add(glob);
        }
    }
    set.build().unwrap_or_else(|_| GlobSet::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::pair::Tolerance;

    fn key(text: &str) -> Counted {
        let (database, name) = text.split_once('/').unwrap();
        let (schema, name) = match name.split_once('.') {
            Some((schema, name)) => (Some(schema.to_owned()), name),
            None => (None, name),
        };
        Counted { database: database.to_owned(), schema, name: name.to_owned() }
    }

    fn all(of: &[(&str, u64)]) -> BTreeMap<Counted, u64> {
        of.iter().map(|(text, rows)| (key(text), *rows)).collect()
    }

    fn judged(
        settings: &CountsSettings,
        found: &[(&str, u64)],
        before: Option<&[(&str, u64)]>,
    ) -> Found {
        let expected = all(&[
            ("d/public.apps", 12),
            ("d/public.users", 1000),
            ("d/public.user_sessions", 9),
            ("e/w.orders", 3),
        ]);
        let counts =
            before.map(|it| it.iter().map(|(name, rows)| ((*name).to_owned(), *rows)).collect());
        let baseline = Baseline { counts, ..Baseline::default() };
        judge(Platform::Tooljet, settings, &expected, &all(found), &baseline)
    }

    #[test]
    fn lost_rows_are_told_by_table_and_more_rows_are_fine() {
        let settings = CountsSettings::default();
        let fine = judged(
            &settings,
            &[("d/public.apps", 12), ("d/public.users", 2000), ("e/w.orders", 3)],
            None,
        );
        assert!(fine.verdict.is_fine(), "{:?}", fine.details);
        assert!(
            fine.details[0].contains("3 tables and collections were counted, with 2015 rows"),
            "{:?}",
            fine.details
        );
        let lost = judged(&settings, &[("d/public.apps", 11), ("d/public.users", 1000)], None);
        assert_eq!(lost.details[1..], ["d/public.apps lost 1 of 12", "e/w.orders lost 3 of 3"]);
    }

    #[test]
    fn a_tolerance_and_exceptions_are_kept_and_what_was_gone_before_does_not_count() {
        let tolerant =
            CountsSettings { tolerance: Tolerance::Fraction(100), except: vec!["e/**".into()] };
        let found = [("d/public.apps", 12), ("d/public.users", 990)];
        assert!(judged(&tolerant, &found, None).verdict.is_fine());
        let found = [("d/public.apps", 12), ("d/public.users", 989)];
        assert_eq!(
            judged(&tolerant, &found, None).details[1..],
            ["d/public.users lost 11 of 1000"]
        );
        let before: &[(&str, u64)] =
            &[("d/public.users", 985), ("d/public.apps", 12), ("e/w.orders", 0)];
        let strict = CountsSettings::default();
        let found = [("d/public.apps", 12), ("d/public.users", 985)];
        assert!(judged(&strict, &found, Some(before)).verdict.is_fine());
        let by_name = CountsSettings { except: vec!["ord*".into(), "users".into()], ..strict };
        assert!(judged(&by_name, &[("d/public.apps", 12)], None).verdict.is_fine());
    }
}
