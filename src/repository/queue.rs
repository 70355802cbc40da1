//! A queue between threads that is bounded by weight, so that memory is bounded whatever the size of what flows through.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bounded queue for several producers and consumers.
pub(super) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
    capacity: usize,
}

struct State<T> {
    items: VecDeque<(T, usize)>,
    weight: usize,
    closed: bool,
}

impl<T> Queue<T> {
    /// A queue that takes items as long as their weights sum up to at most `capacity`, and always at least one.
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { items: VecDeque::new(), weight: 0, closed: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wait for room and put `item` at the end; false when the queue was closed.
    pub(super) fn push(&self, item: T, weight: usize) -> bool {
        let mut state = self.lock();
        while !state.closed && state.weight > 0 && state.weight + weight > self.capacity {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return false;
        }
        state.weight += weight;
        state.items.push_back((item, weight));
        self.changed.notify_all();
        true
    }

    /// Wait for an item and hand it to `work`; its weight counts until `work` is done. False when the queue was closed
    /// and is empty.
    pub(super) fn pop(&self, work: impl FnOnce(T)) -> bool {
        let mut state = self.lock();
        let (item, weight) = loop {
            if let Some(item) = state.items.pop_front() {
                break item;
            }
            if state.closed {
                return false;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        work(item);
        self.lock().weight -= weight;
        self.changed.notify_all();
        true
    }

    /// Wait until there is no item inside, nor one being worked on, or the queue was closed.
    pub(super) fn wait_until_empty(&self) {
        let mut state = self.lock();
        while state.weight > 0 && !state.closed {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Take no more items; those inside are still handed out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Take no more items, and forget those inside.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.closed = true;
        let forgotten: usize = state.items.drain(..).map(|(_, weight)| weight).sum();
        state.weight -= forgotten;
        self.changed.notify_all();
    }
}
