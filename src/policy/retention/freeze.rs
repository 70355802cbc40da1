//! When failed runs freeze forgetting.
//!
//! While an instance's runs fail, its old snapshots are all it has, and the failure may reach further back than
//! anybody knows: nothing of that instance is forgotten until a run succeeds. Reclaiming what nothing refers to
//! goes on, because it takes no snapshot away.

use jiff::Timestamp;
use serde::Serialize;

/// How a run of `backup` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// It sealed a snapshot, good or not.
    Sealed,
    /// It failed.
    Failed,
    /// A person stopped it, which says nothing of the instance.
    Interrupted,
    /// The repository was full, which says nothing of the instance either; and forgetting is what makes room again.
    NoRoom,
}

/// One run of `backup` of one instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunOutcome {
    /// When it ended.
    pub time: Timestamp,
    /// How.
    pub end: RunEnd,
}

/// Forgetting is frozen, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Frozen {
    /// How many runs failed since the last that did not; at least 1.
    pub failures: u32,
    /// When the newest of them failed.
    pub last_failure: Timestamp,
}

/// Whether the runs of one instance, given newest first, freeze its forgetting: they do when the newest run failed.
/// Interrupted runs, and those that found no room, are passed over. The order given counts, not the times: a clock may have been wrong.
pub fn freeze(last_runs: &[RunOutcome]) -> Option<Frozen> {
    let mut failed = last_runs
        .iter()
        .filter(|run| matches!(run.end, RunEnd::Sealed | RunEnd::Failed))
        .take_while(|run| run.end == RunEnd::Failed);
    let last_failure = failed.next()?.time;
    let earlier = u32::try_from(failed.count()).unwrap_or(u32::MAX);
    Some(Frozen { failures: earlier.saturating_add(1), last_failure })
}

#[cfg(test)]
mod tests {
    use super::RunEnd::{Failed, Interrupted, NoRoom, Sealed};
    use super::*;

    /// What runs that ended so, newest first, come to: the failures, and the place of the newest.
    fn frozen(ends: &[RunEnd]) -> Option<(u32, usize)> {
        let time =
            |place: usize| Timestamp::UNIX_EPOCH - std::time::Duration::from_secs(place as u64);
        let runs: Vec<_> = ends
            .iter()
            .enumerate()
            .map(|(place, &end)| RunOutcome { time: time(place), end })
            .collect();
        let frozen = freeze(&runs)?;
        let newest = (0..ends.len()).find(|&place| time(place) == frozen.last_failure);
        Some((frozen.failures, newest.expect("the time of one of the runs")))
    }

    #[test]
    fn a_newest_run_that_failed_freezes_and_one_that_sealed_does_not() {
        assert_eq!(frozen(&[]), None);
        assert_eq!(frozen(&[Sealed]), None);
        assert_eq!(frozen(&[Sealed, Failed, Failed]), None);
        assert_eq!(frozen(&[Failed]), Some((1, 0)));
        assert_eq!(frozen(&[Failed, Failed, Sealed, Failed]), Some((2, 0)));
        assert_eq!(frozen(&[Failed, Failed, Failed]), Some((3, 0)));
    }

    #[test]
    fn a_full_repository_freezes_nothing_and_thaws_nothing() {
        assert_eq!(frozen(&[NoRoom]), None);
        assert_eq!(frozen(&[NoRoom, Sealed, Failed]), None);
        assert_eq!(frozen(&[NoRoom, Failed, Sealed]), Some((1, 1)));
    }

    #[test]
    fn interrupted_runs_are_passed_over() {
        assert_eq!(frozen(&[Interrupted]), None);
        assert_eq!(frozen(&[Interrupted, Sealed, Failed]), None);
        assert_eq!(frozen(&[Interrupted, Failed, Interrupted, Failed, Sealed]), Some((2, 1)));
    }
}
