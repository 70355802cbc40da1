//! Reckoning with moments, none of which can fail: what lies beyond all times is the first or the last of them.

use jiff::Timestamp;
use std::time::Duration;

/// A day of 24 hours.
pub(super) const DAY: Duration = Duration::from_hours(24);

/// The moment so much later.
pub(super) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// The moment so much earlier.
pub(super) fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    moment.checked_sub(by).unwrap_or(Timestamp::MIN)
}

/// How long ago `then` was, or none where it lies in the future.
pub(super) fn age(then: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(now.duration_since(then)).ok()
}
