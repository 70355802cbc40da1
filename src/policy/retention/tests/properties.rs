//! What holds for every history, every policy and every zone.
//!
//! Histories gather around moments at which clocks change, because that is where calendars go wrong.
//! `PROPTEST_CASES` and `PROPTEST_RNG_SEED` look further than the fixed seed does.

use super::*;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::collections::BTreeSet;
use std::num::NonZeroU32;

/// Zones with a moment that is special in each.
const PLACES: [(&str, &str); 10] = [
    ("UTC", "2027-01-01T00:00Z"),
    ("UTC", "2024-02-29T12:00Z"),
    ("Europe/Berlin", "2026-10-25T01:00Z"),
    ("Europe/Berlin", "2027-03-28T01:00Z"),
    ("America/New_York", "2026-11-01T06:00Z"),
    // Half an hour back and forth.
    ("Australia/Lord_Howe", "2026-04-04T15:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30Z"),
    ("Asia/Kolkata", "2026-12-31T18:30Z"),
    // 30 December 2011 does not exist.
    ("Pacific/Apia", "2011-12-30T10:00Z"),
    // Back over midnight.
    ("America/St_Johns", "2006-10-29T02:31Z"),
];

const HOUR: i64 = 3_600;
const DAY: i64 = 24 * HOUR;

#[derive(Clone, Debug)]
struct Case {
    zone: TimeZone,
    now: Timestamp,
    keep: Keep,
    candidates: Vec<Candidate>,
}

impl Case {
    fn decide(&self) -> Vec<Decision> {
        decide(&self.keep, &self.candidates, None, &self.zone, self.now)
    }

    fn kept(&self) -> BTreeSet<SnapshotId> {
        kept(&self.decide())
    }
}

fn kept(decisions: &[Decision]) -> BTreeSet<SnapshotId> {
    decisions.iter().filter(|decision| decision.is_kept()).map(|decision| decision.id).collect()
}

fn counts() -> impl Strategy<Value = Option<NonZeroU32>> {
    prop_oneof![3 => Just(0), 3 => 1..5_u32, 1 => 5..40_u32].prop_map(NonZeroU32::new)
}

/// None in half of the policies, and short in half of the others: a long one would hide what the other rules do.
fn withins() -> impl Strategy<Value = Option<Within>> {
    let parts = (0..3_u32, 0..14_u32, 0..6_u32, 0..40_u32, 0..80_u32, any::<[bool; 5]>());
    let any = parts.prop_map(|(years, months, weeks, days, hours, used)| {
        let numbers = [(years, "y"), (months, "mo"), (weeks, "w"), (days, "d"), (hours, "h")];
        let used = numbers.iter().zip(used).filter(|((number, _), used)| *used && *number > 0);
        let parts: Vec<_> = used.map(|((number, unit), _)| format!("{number}{unit}")).collect();
        parts.concat().parse().ok()
    });
    let short =
        prop_oneof![(1..6_u32).prop_map(|hours| format!("{hours}h")), Just("1d".to_owned())];
    prop_oneof![2 => Just(None), 1 => short.prop_map(|text| text.parse().ok()), 1 => any]
}

fn policies() -> impl Strategy<Value = Keep> {
    let numbers = (counts(), counts(), counts(), counts(), counts(), counts());
    (numbers, withins()).prop_map(|((last, hourly, daily, weekly, monthly, yearly), within)| Keep {
        last,
        hourly,
        daily,
        weekly,
        monthly,
        yearly,
        within,
    })
}

/// Seconds from the special moment, often in round numbers so that times coincide.
fn near() -> impl Strategy<Value = i64> {
    prop_oneof![(-8..=8_i64).prop_map(|quarters| quarters * HOUR / 4), -3 * HOUR..=3 * HOUR]
}

/// The same, from close by to years away.
fn anywhere() -> impl Strategy<Value = i64> {
    prop_oneof![
        2 => near(),
        1 => (-60..=60_i64).prop_map(|hours| hours * HOUR),
        1 => (-400..=60_i64).prop_map(|days| days * DAY),
        1 => -1_200 * DAY..=60 * DAY,
    ]
}

/// The snapshots of one history: distance, whether good, whether pinned, the first byte of the id.
fn snapshots() -> impl Strategy<Value = Vec<(i64, bool, bool, u8)>> {
    let with = |distance: BoxedStrategy<i64>| {
        let one = (distance, prop::bool::weighted(0.8), prop::bool::weighted(0.05), any::<u8>());
        prop::collection::vec(one, 0..50)
    };
    prop_oneof![with(near().boxed()), with(anywhere().boxed())]
}

prop_compose! {
    fn cases()(
        (zone_name, moment) in prop::sample::select(&PLACES[..]),
        keep in policies(),
        now in anywhere(),
        snapshots in snapshots(),
    ) -> Case {
        let moment: Timestamp = moment.parse().unwrap();
        let at = |distance| Timestamp::from_second(moment.as_second() + distance).unwrap();
        let candidates = snapshots.iter().enumerate().map(|(place, &(distance, good, pinned, first))| {
            let mut id = [first; 32];
            id[1] = place as u8;
            let pinned = if pinned { vec!["a pin".to_owned()] } else { Vec::new() };
            Candidate { id: SnapshotId(id), time: at(distance), good, pinned }
        });
        // Half of the time nothing is newer than the clock.
        let now = if now % 2 == 0 { at(now) } else { at(100 * DAY) };
        Case { zone: zone(zone_name), now, keep, candidates: candidates.collect() }
    }
}

fn config() -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(2);
    }
    config
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn decisions_are_those_of_the_naive_model(case in cases(), failures in 0..8_u32) {
        let frozen = (failures == 1).then_some(Frozen { failures, last_failure: case.now });
        let decisions = decide(&case.keep, &case.candidates, frozen.as_ref(), &case.zone, case.now);
        prop_assert_eq!(decisions.len(), case.candidates.len());
        let kept = kept(&decisions);
        for (place, candidate) in case.candidates.iter().enumerate() {
            let expected = model::keeps(
                &case.keep, &case.candidates, place, frozen.is_some(), &case.zone, case.now,
            );
            prop_assert_eq!(kept.contains(&candidate.id), expected, "{:?}", candidate);
        }
    }

    #[test]
    fn decisions_come_newest_first_whatever_the_order_given(case in cases(), turn in 0..50_usize) {
        let decisions = case.decide();
        prop_assert!(decisions.is_sorted_by(|a, b| a.time > b.time || (a.time == b.time && a.id < b.id)));
        let mut other = case.clone();
        other.candidates.reverse();
        let places = other.candidates.len().max(1);
        other.candidates.rotate_left(turn % places);
        prop_assert_eq!(other.decide(), decisions);
    }

    #[test]
    fn the_last_good_and_the_pinned_are_kept_and_something_always_is(case in cases()) {
        let kept = case.kept();
        prop_assert_eq!(kept.is_empty(), case.candidates.is_empty());
        let newest_good = |limit: Timestamp| {
            let good = case.candidates.iter().filter(move |one| one.good && one.time <= limit);
            good.max_by_key(|one| (one.time, Reverse(one.id)))
        };
        // The last good one by the clock, and the last good one of all.
        for last_good in [newest_good(case.now), newest_good(Timestamp::MAX)].into_iter().flatten() {
            prop_assert!(kept.contains(&last_good.id));
        }
        for pinned in case.candidates.iter().filter(|one| !one.pinned.is_empty()) {
            prop_assert!(kept.contains(&pinned.id));
        }
    }

    #[test]
    fn no_snapshot_that_is_not_good_pushes_out_another(case in cases()) {
        let mut good_only = case.clone();
        good_only.candidates.retain(|one| one.good);
        prop_assert!(good_only.kept().is_subset(&case.kept()));
    }

    #[test]
    fn adding_to_a_policy_never_forgets_more(case in cases(), more in policies(), longer in 1..30_u32) {
        // From no policy at all to some is the one step that forgets.
        prop_assume!(!case.keep.is_empty());
        let grown = |number: Option<NonZeroU32>, by: Option<NonZeroU32>| match (number, by) {
            (Some(number), Some(by)) => number.checked_add(by.get()),
            (number, by) => number.or(by),
        };
        let keep = &case.keep;
        let years = |within: Within| {
            let text = within.to_string();
            let (years, rest) = text.split_once('y').unwrap_or(("0", &text));
            let years: u32 = years.parse().unwrap();
            format!("{}y{rest}", years + longer).parse().unwrap()
        };
        let richer = Keep {
            last: grown(keep.last, more.last),
            hourly: grown(keep.hourly, more.hourly),
            daily: grown(keep.daily, more.daily),
            weekly: grown(keep.weekly, more.weekly),
            monthly: grown(keep.monthly, more.monthly),
            yearly: grown(keep.yearly, more.yearly),
            within: keep.within.map(years).or(more.within),
        };
        let richer = Case { keep: richer, ..case.clone() };
        prop_assert!(case.kept().is_subset(&richer.kept()));
    }

    #[test]
    fn deciding_again_forgets_nothing_more(case in cases()) {
        let kept = case.kept();
        let mut again = case.clone();
        again.candidates.retain(|one| kept.contains(&one.id));
        prop_assert_eq!(again.kept(), kept);
    }

    #[test]
    fn a_policy_reads_back_as_it_is_written(keep in policies()) {
        let text = toml::to_string(&keep).unwrap();
        prop_assert_eq!(toml::from_str::<Keep>(&text).unwrap(), keep);
    }
}
