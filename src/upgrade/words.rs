//! How times and durations are said to people.

use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// A duration in at most two units: `2h`, `1d 3h`.
pub(super) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let parts = units.iter().filter_map(|(size, unit)| {
        let count = match size {
            86_400 => seconds / size,
            size => seconds % (if *size == 3_600 { 86_400 } else { size * 60 }) / size,
        };
        (count > 0).then(|| format!("{count}{unit}"))
    });
    let parts: Vec<String> = parts.take(2).collect();
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

/// A time to the second.
pub(super) fn time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago it was, or that it is yet to come.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    match Duration::try_from(now.duration_since(then)) {
        Ok(age) => format!("{} ago", span(age)),
        Err(_) => format!("in the future by {}", span(until(now, then))),
    }
}

/// How long it is from one to the other; nothing where that lies in the past.
pub(super) fn until(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or(Duration::ZERO)
}

/// The moment so much later, or the last of all times.
pub(super) fn later(moment: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    moment.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_two_units() {
        for (seconds, said) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_661, "1h 1m"),
            (7_200, "2h"),
            (90_000, "1d 1h"),
            (86_400, "1d"),
            (86_460, "1d 1m"),
        ] {
            assert_eq!(span(Duration::from_secs(seconds)), said);
        }
    }

    #[test]
    fn the_future_is_not_long_ago() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(ago(later(now, Duration::from_mins(5)), now), "in the future by 5m");
        assert_eq!(ago(now, later(now, Duration::from_mins(5))), "5m ago");
        assert_eq!(later(now, Duration::MAX), Timestamp::MAX);
    }
}
