//! Who goes first where two things go on beside each other.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A step is taken all the same once so much time went by: what stood still for hours would look as if it were dead.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The turn of what goes on beside something else. It is free until as many as there are places [go first](Self::go_first).
#[derive(Clone, Debug)]
pub struct Turn(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: usize,
    first: Mutex<usize>,
    free: Condvar,
}

impl Turn {
    /// One where so many have room at once, such as a processor each.
    pub(super) fn with_places(places: usize) -> Self {
        Self(Arc::new(Inner { places, first: Mutex::default(), free: Condvar::new() }))
    }

    /// Take a place until the answer is dropped. Where none is left, the other takes small steps only.
    pub(super) fn go_first(&self) -> First {
        *self.0.first.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        First(self.clone())
    }

    /// Wait, before a small step, while no place is left.
    pub(super) fn wait(&self) {
        let Inner { places, first, free } = &*self.0;
        let first = first.lock().unwrap_or_else(PoisonError::into_inner);
        drop(free.wait_timeout_while(first, LONGEST_WAIT, |first| *first >= *places));
    }
}

/// Somebody goes first.
#[derive(Debug)]
pub(super) struct First(Turn);

impl Drop for First {
    fn drop(&mut self) {
        let Inner { first, free, .. } = &*self.0.0;
        *first.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn who_waits_goes_on_once_a_place_is_free_and_never_stands_still() {
        let turn = Turn::with_places(2);
        let waits = |turn: &Turn| {
            let begun = Instant::now();
            turn.wait();
            begun.elapsed() >= LONGEST_WAIT
        };
        let first = turn.go_first();
        assert!(!waits(&turn), "one place is free");
        let second = turn.go_first();
        let third = turn.go_first();
        assert!(waits(&turn), "and then a small step is due");
        drop(first);
        assert!(waits(&turn), "the others take both places");
        let begun = Instant::now();
        let waiting = turn.clone();
        let waiter = std::thread::spawn(move || waiting.wait());
        drop(second);
        waiter.join().unwrap();
        assert!(begun.elapsed() < LONGEST_WAIT, "it is woken");
        drop(third);
        assert_eq!(*turn.0.first.lock().unwrap(), 0);
    }
}
