//! Tells how far a phase is, a few times a second at most.

use crate::model::event::{Event, Events};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(250);

/// Counts what a phase has dealt with.
pub(super) struct Progress<'a> {
    events: &'a Events,
    total_bytes: Option<u64>,
    bytes: u64,
    items: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    pub(super) fn new(events: &'a Events, total_bytes: Option<u64>) -> Self {
        Self { events, total_bytes, bytes: 0, items: 0, told: Instant::now() }
    }

    /// One more item, of `bytes` bytes.
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.items += 1;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let Self { bytes, items, total_bytes, .. } = *self;
            self.events.send(Event::Progress { bytes, total_bytes, items });
        }
    }
}
