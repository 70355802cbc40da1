//! Trying again what failed for a reason that can pass.

use crate::policy::spread::spread;
use crate::policy::time::later;
use jiff::Timestamp;
use std::time::Duration;

/// The wait after the first attempt; after each further one it is [`FACTOR`] times as long.
const FIRST_WAIT: Duration = Duration::from_mins(1);
const FACTOR: u32 = 5;
/// No wait is longer, but for the spreading.
const LONGEST_WAIT: Duration = Duration::from_hours(6);
/// Up to one part in so many is added to a wait, so that what failed together is not tried together.
const SPREAD_PART: u32 = 5;

/// How often something is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retries {
    /// The most attempts, with the first one; 0 and 1 mean that nothing is tried again.
    pub attempts_most: u32,
}

/// Four attempts: again after 1, 5 and 25 minutes.
impl Default for Retries {
    fn default() -> Self {
        Self { attempts_most: 4 }
    }
}

impl Retries {
    /// When to try again after the attempt of this number (from 1) failed at `ended_at`; none when it was the last.
    /// The same subject, such as the id of the job, always gets the same answer.
    pub fn next_attempt(
        &self,
        attempt: u32,
        ended_at: Timestamp,
        subject: &[u8],
    ) -> Option<Timestamp> {
        if attempt >= self.attempts_most {
            return None;
        }
        let factor = FACTOR.saturating_pow(attempt.saturating_sub(1));
        let wait = FIRST_WAIT.saturating_mul(factor).min(LONGEST_WAIT);
        let own = [subject, &attempt.to_be_bytes()].concat();
        Some(later(ended_at, wait + spread(&own, wait / SPREAD_PART)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(retries: Retries, subject: &[u8]) -> Vec<Duration> {
        let end = Timestamp::UNIX_EPOCH;
        let next = |attempt| retries.next_attempt(attempt, end, subject);
        (1..).map_while(next).map(|next| next.duration_since(end).try_into().unwrap()).collect()
    }

    #[test]
    fn it_is_tried_again_after_1_5_and_25_minutes_and_a_little_more() {
        for subject in 0..100_u8 {
            let waits = waits(Retries::default(), &[subject]);
            assert_eq!(waits.len(), 3);
            for (wait, minutes) in waits.into_iter().zip([1, 5, 25]) {
                let base = Duration::from_mins(minutes);
                assert!((base..=base + base / 5).contains(&wait), "{wait:?}");
            }
        }
    }

    #[test]
    fn what_failed_together_is_not_tried_together() {
        let all = (0..100_u8).map(|subject| waits(Retries::default(), &[subject]));
        let seconds: std::collections::HashSet<u64> = all.map(|waits| waits[2].as_secs()).collect();
        assert!(seconds.len() > 70, "{}", seconds.len());
        assert_eq!(waits(Retries::default(), b"one"), waits(Retries::default(), b"one"));
    }

    #[test]
    fn many_attempts_wait_for_hours_and_no_longer() {
        let waits = waits(Retries { attempts_most: 40 }, b"one");
        assert_eq!(waits.len(), 39);
        assert!(
            waits[4..].iter().all(|wait| (6.0..=7.2).contains(&(wait.as_secs_f64() / 3_600.0)))
        );
        for attempts_most in [0, 1] {
            assert_eq!(
                Retries { attempts_most }.next_attempt(1, Timestamp::UNIX_EPOCH, b"one"),
                None
            );
        }
        assert_eq!(
            Retries::default().next_attempt(0, Timestamp::MAX, b"one"),
            Some(Timestamp::MAX)
        );
    }
}
