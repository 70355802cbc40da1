//! The machine: when it is on, and what its clock says.

use super::{END, SECONDS_OF_DAY, START};

/// A `SplitMix64`: small, and the same everywhere.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to below `limit`.
    pub(super) fn below(&mut self, limit: i64) -> i64 {
        i64::try_from(self.next() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// Whether what happens so often of a thousand times happens.
    pub(super) fn per_mille(&mut self, times: i64) -> bool {
        self.below(1_000) < times
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        let count = i64::try_from(choices.len()).unwrap();
        choices[usize::try_from(self.below(count)).unwrap()]
    }

    /// A duration between two, each order of magnitude as likely.
    fn about(&mut self, least: i64, most: i64) -> i64 {
        let mut most_of_all = least * 4;
        while most_of_all < most && self.per_mille(700) {
            most_of_all *= 4;
        }
        least + self.below(most_of_all.min(most) - least)
    }
}

/// A while in which the machine is on or off, and its clock is wrong by the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// True seconds; `to` is not part of it.
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) is_on: bool,
    /// What its clock says, less the true time.
    pub(super) wrong_by: i64,
}

impl Phase {
    /// What the clock says at the start and at the end.
    pub(super) fn clock(&self) -> std::ops::Range<i64> {
        self.from + self.wrong_by..self.to + self.wrong_by
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) phases: Vec<Phase>,
}

/// No clock is wrong by more.
pub(super) const WRONG_MOST: i64 = 9 * SECONDS_OF_DAY;

impl Host {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut phases = Vec::new();
        let (mut from, mut wrong_by) = (START, 0);
        while from < END {
            let to = from + random.about(600, 40 * SECONDS_OF_DAY);
            phases.push(Phase { from, to, is_on: true, wrong_by });
            from = to;
            if random.per_mille(700) {
                // Minutes to weeks.
                let to = from + random.about(120, 21 * SECONDS_OF_DAY);
                phases.push(Phase { from, to, is_on: false, wrong_by });
                from = to;
            }
            if random.per_mille(500) {
                wrong_by = Self::set(wrong_by, random);
            }
        }
        Self { phases }
    }

    /// What the clock is wrong by after it was set.
    fn set(wrong_by: i64, random: &mut Random) -> i64 {
        if random.per_mille(600) {
            return 0;
        }
        let most = random.pick(&[5, 300, 7_200, SECONDS_OF_DAY, 4 * SECONDS_OF_DAY]);
        (wrong_by + random.below(2 * most + 1) - most).clamp(-WRONG_MOST, WRONG_MOST)
    }
}
