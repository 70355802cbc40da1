//! Who goes first where two things go on beside each other.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A step is taken all the same once so much time went by: what stood still for hours would look as if it were dead.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The turn of what goes on beside something else. It is free until somebody [goes first](Self::go_first).
#[derive(Clone, Debug, Default)]
pub struct Turn(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    first: Mutex<usize>,
    free: Condvar,
}

impl Turn {
    /// Until the answer is dropped, the other takes small steps only.
    pub(super) fn go_first(&self) -> First {
        *self.0.first.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        First(self.clone())
    }

    /// Wait, before a small step, while somebody goes first.
    pub(super) fn wait(&self) {
        let first = self.0.first.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.0.free.wait_timeout_while(first, LONGEST_WAIT, |first| *first > 0));
    }
}

/// Somebody goes first.
#[derive(Debug)]
pub(super) struct First(Turn);

impl Drop for First {
    fn drop(&mut self) {
        let Inner { first, free } = &*self.0.0;
        *first.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        free.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn who_waits_goes_on_once_nobody_goes_first_and_never_stands_still() {
        let turn = Turn::default();
        let first = turn.go_first();
        let begun = Instant::now();
        turn.wait();
        assert!(begun.elapsed() >= LONGEST_WAIT, "a small step is due");
        let second = turn.go_first();
        drop(first);
        assert_eq!(*turn.0.first.lock().unwrap(), 1, "the other one goes first still");
        drop(second);
        assert_eq!(*turn.0.first.lock().unwrap(), 0);
        turn.wait();
    }
}
