//! Spreading what would happen at the same moment: a part of a duration, chosen by who asks.
//!
//! The same subject always gets the same part, so that a daemon that was restarted waits for the same moment.

use std::time::Duration;

/// A part of `up_to`, from none to all of it, in whole milliseconds: the same for the same subject, and evenly spread
/// over different ones.
pub(super) fn spread(subject: &[u8], up_to: Duration) -> Duration {
    let parts = up_to.as_millis().min(u64::MAX.into()) + 1;
    let part = (u128::from(hash(subject)) * parts) >> 64;
    Duration::from_millis(part as u64)
}

/// FNV-1a over the bytes, then the finisher of `SplitMix64`, because the upper bits count here and FNV hardly moves
/// them for subjects that differ in their last bytes only. It keeps no secret.
fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_spread_evenly_over_all_of_it_and_never_beyond() {
        let up_to = Duration::from_millis(9);
        let mut counts = [0_u32; 10];
        for subject in 0..10_000_u32 {
            counts[spread(&subject.to_be_bytes(), up_to).as_millis() as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }

    #[test]
    fn nothing_is_spread_over_nothing_and_the_longest_is_none_too_long() {
        assert_eq!(spread(b"one", Duration::ZERO), Duration::ZERO);
        assert_eq!(spread(b"one", Duration::from_nanos(999_999)), Duration::ZERO);
        assert!(spread(b"one", Duration::MAX) < Duration::MAX);
    }
}
