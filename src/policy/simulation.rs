//! 400 days of 200 instances on a fake clock, in a few seconds: five zones whose clocks change twice or more, a machine
//! that is off for minutes to weeks, a clock that is set forth and back, runs that fail for a while, last for hours, or
//! are cut off.
//!
//! The policies decide; at each look their answer must be that of the naive models in `ledger` and `shelf`, which know
//! nothing of the code under test. At the end what happened is compared with what was due, by the machine's true course.

mod host;
mod instance;
mod ledger;
mod shelf;

use host::{Host, Random};
use instance::{Instance, Tally};
use ledger::Dues;

const SECONDS_OF_DAY: i64 = 86_400;
/// 2026-02-01T00:00Z: within the 400 days clocks change three times in the north, and in the south.
const START: i64 = 1_769_904_000;
const END: i64 = START + 400 * SECONDS_OF_DAY;
const INSTANCES: usize = 200;

/// By an hour, by half an hour, at midnight; north and south.
const ZONES: [&str; 5] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Pacific/Auckland",
    "America/Santiago",
];

/// Each with how many of 40 instances have it.
const PATTERNS: [(&str, usize); 7] = [
    ("30 2 * * *", 18),
    ("0 0 * * *", 6),
    ("45 1,2 * * *", 6),
    ("15 */6 * * *", 4),
    ("10 3 * * 0", 3),
    ("0 2 1,15 * *", 2),
    ("*/30 0-4,12 * * *", 1),
];

fn simulate(seed: u64, dues: &Dues) -> Tally {
    let mut random = Random(seed);
    let host = Host::new(&mut random);
    let mut all = Tally::default();
    for number in 0..INSTANCES {
        let mut instance = Instance::new(number, dues, &mut random);
        instance.live(&host, &mut random);
        instance.settle(&host);
        all += instance.tally;
    }
    all
}

#[test]
fn four_hundred_days_go_as_the_naive_models_say() {
    let dues = Dues::walk();
    let tallies = std::thread::scope(|scope| {
        let courses = [1, 2, 3].map(|seed| {
            let dues = &dues;
            scope.spawn(move || simulate(seed, dues))
        });
        courses.map(|course| course.join().unwrap())
    });
    // Each thing that can happen did happen, and often enough to mean something.
    for tally in tallies {
        assert!(tally.on_time > 50_000 && tally.surely > 50_000, "{tally:?}");
        assert!(tally.caught_up > 500 && tally.missed > 10_000, "{tally:?}");
        assert!(tally.overlapped > 2_000, "{tally:?}");
        assert!(tally.clock_went_back > 100 && tally.from_the_future > 100, "{tally:?}");
        assert!(tally.breaches > 5_000 && tally.recoveries > 5_000, "{tally:?}");
        assert!(tally.reminders > 5_000, "{tally:?}");
        assert!(tally.forgotten > 40_000 && tally.frozen > 500, "{tally:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_course() {
    let mut one = Random(7);
    let mut other = Random(7);
    assert_eq!(Host::new(&mut one), Host::new(&mut other));
    assert_eq!(one.below(1_000_000), other.below(1_000_000));
    assert_ne!(Host::new(&mut one), Host::new(&mut Random(8)));
}
