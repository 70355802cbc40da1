//! What happens in one job of the daemon, for whoever follows it: in order, from any point, to the end.

use crate::model::event::Event;
use crate::model::job::Ended;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// More events of one job are not kept in memory; the catalog has them all.
const KEPT: usize = 5_000;

/// What happens in a job.
pub struct Live {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// The number of the first event that is still here.
    first: u64,
    events: VecDeque<Event>,
    /// How far it is, and how often that was told.
    progress: Option<Event>,
    told: u64,
    running: bool,
    ended: Option<Ended>,
}

/// Where somebody is who follows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// The number of the next event.
    pub next: u64,
    told: u64,
}

impl From<u64> for Place {
    /// Before the event of this number.
    fn from(next: u64) -> Self {
        Self { next, told: 0 }
    }
}

/// What is new from a place on.
#[derive(Debug, Default)]
pub struct News {
    /// Events with their numbers.
    pub events: Vec<(u64, Event)>,
    /// How far it is, where that is new.
    pub progress: Option<Event>,
    /// Whether it has begun.
    pub running: bool,
    /// How it ended.
    pub ended: Option<Ended>,
}

impl News {
    /// Whether it has not begun, and nothing has ended it either.
    pub fn is_waiting(&self) -> bool {
        !self.running && self.ended.is_none()
    }
}

impl Default for Live {
    fn default() -> Self {
        Self { state: Mutex::default(), changed: watch::Sender::new(()) }
    }
}

impl Live {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.send_replace(());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It has begun.
    pub(super) fn begin(&self) {
        self.change(|state| state.running = true);
    }

    /// Something happened.
    pub(super) fn push(&self, event: Event) {
        self.change(|state| {
            if matches!(event, Event::Progress { .. }) {
                state.progress = Some(event);
                state.told += 1;
                return;
            }
            state.events.push_back(event);
            if state.events.len() > KEPT {
                state.events.pop_front();
                state.first += 1;
            }
        });
    }

    /// It is over.
    pub(super) fn end(&self, ended: Ended) {
        self.change(|state| state.ended = Some(ended));
    }

    /// Wakes whenever there may be news.
    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// What is new, and the place after it.
    pub fn news(&self, place: &mut Place) -> News {
        let state = self.lock();
        let skipped = place.next.saturating_sub(state.first) as usize;
        let numbered = state.events.iter().enumerate().skip(skipped);
        let events: Vec<(u64, Event)> =
            numbered.map(|(index, event)| (state.first + index as u64, event.clone())).collect();
        let progress = (state.told > place.told).then(|| state.progress.clone()).flatten();
        place.next = place.next.max(state.first + state.events.len() as u64);
        place.told = state.told;
        News { events, progress, running: state.running, ended: state.ended.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Event {
        Event::Note { message: text.into() }
    }

    #[test]
    fn whoever_follows_sees_each_event_once_and_only_the_newest_progress() {
        let live = Live::default();
        let mut place = Place::default();
        live.push(note("one"));
        for bytes in 0..3 {
            live.push(Event::Progress { bytes, total_bytes: None, items: 0 });
        }
        let news = live.news(&mut place);
        assert_eq!(news.events, [(0, note("one"))]);
        assert!(matches!(news.progress, Some(Event::Progress { bytes: 2, .. })));
        live.push(note("two"));
        let news = live.news(&mut place);
        assert_eq!((news.events, news.progress), (vec![(1, note("two"))], None));
        let from_later = live.news(&mut Place { next: 7, told: 0 });
        assert!(from_later.events.is_empty());
    }

    #[test]
    fn what_is_too_much_to_keep_goes_first_and_the_numbers_stay() {
        let live = Live::default();
        for index in 0..KEPT + 3 {
            live.push(note(&index.to_string()));
        }
        let news = live.news(&mut Place::default());
        assert_eq!(news.events.first(), Some(&(3, note("3"))));
        assert_eq!(news.events.len(), KEPT);
    }
}
