//! Processes that scripts leave for a moment, such as the timer beside stopped writers, which looks once a second whether it is needed:
//! who says that nothing is left has to wait for them.

use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use std::time::{Duration, Instant};

/// Longer than anything takes that is left.
const PATIENCE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(20);

/// From when it is made, what loses its parent becomes a child of this process; dropping it waits until there is none.
pub(super) struct Leftovers(());

impl Leftovers {
    pub(super) fn gather() -> Self {
        // A kernel that cannot do this leaves them to the system, which waits for them as well.
        let _ = set_child_subreaper(Some(getpid()));
        Self(())
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        let begun = Instant::now();
        // An error means that there is no child any more.
        while let Ok(ended) = wait(WaitOptions::NOHANG) {
            if ended.is_none() {
                if begun.elapsed() > PATIENCE {
                    break;
                }
                std::thread::sleep(LOOK);
            }
        }
        let _ = set_child_subreaper(None);
    }
}
