//! The steps of a fetch. In tests it may be ended at each of them, as a kill would end it.

use crate::git::error::GitError;

#[cfg(test)]
thread_local! {
    static STEPS_LEFT: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

/// End the next fetch of this thread after so many steps, as a kill would.
#[cfg(test)]
pub(super) fn kill_after(steps: Option<usize>) {
    STEPS_LEFT.set(steps);
}

/// Said before each change of the mirror.
#[cfg(test)]
pub(super) fn still_alive() -> Result<(), GitError> {
    match STEPS_LEFT.get() {
        Some(0) => Err(GitError::NoCommit { name: "killed".into(), mirror: "killed".into() }),
        left => {
            STEPS_LEFT.set(left.map(|left| left - 1));
            Ok(())
        }
    }
}

/// Said before each change of the mirror.
#[cfg(not(test))]
#[expect(clippy::unnecessary_wraps, reason = "in tests it may be dead")]
pub(super) fn still_alive() -> Result<(), GitError> {
    Ok(())
}
