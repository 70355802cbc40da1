//! Tells how far a phase is, at most a few times a second.

use crate::model::event::{Event, Events};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_millis(250);

/// How far a phase is; several threads may add to it.
pub(super) struct Progress<'a> {
    events: &'a Events,
    total_bytes: Option<u64>,
    state: Mutex<State>,
}

struct State {
    bytes: u64,
    items: u64,
    told: Instant,
}

impl<'a> Progress<'a> {
    /// Nothing is done yet of `total_bytes`.
    pub(super) fn new(events: &'a Events, total_bytes: Option<u64>) -> Self {
        let state = Mutex::new(State { bytes: 0, items: 0, told: Instant::now() });
        Self { events, total_bytes, state }
    }

    /// One more item of `bytes` is done.
    pub(super) fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bytes += bytes;
        state.items += 1;
        if state.told.elapsed() >= EVERY {
            state.told = Instant::now();
            self.tell(&state);
        }
    }

    /// The phase is over. Returns how many bytes it dealt with.
    pub(super) fn finish(self) -> u64 {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.tell(&state);
        state.bytes
    }

    fn tell(&self, State { bytes, items, .. }: &State) {
        let (bytes, items) = (*bytes, *items);
        self.events.send(Event::Progress { bytes, total_bytes: self.total_bytes, items });
    }
}
