//! Listing a directory as it is at one moment, and telling whether it still is where the walk found it.

use super::{TreeSink, Walk, WalkError, Walked, failed};
use crate::component::files::descent::{Identity, Names, TICK, identity_of, list_settled};
use crate::model::node::display_path;
use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// The longest pause between two listings.
const MAX_PAUSE: Duration = Duration::from_millis(640);

impl<S: TreeSink> Walk<'_, S> {
    /// List a directory; again where it changes meanwhile, as long as the patience lasts. The inner error is the
    /// system's.
    pub(super) fn list(&self, fd: &OwnedFd, path: &[u8]) -> Walked<Result<Names, Errno>, S> {
        let begun = Instant::now();
        let mut pause = TICK;
        loop {
            self.cancel.check()?;
            if let Some(listed) = list_settled(fd).transpose() {
                return Ok(listed);
            }
            let left = self.patience.saturating_sub(begun.elapsed());
            if left.is_zero() {
                let path = display_path(path);
                return Err(WalkError::Unsettled { path, seconds: self.patience.as_secs() });
            }
            std::thread::sleep(pause.min(left));
            pause = (2 * pause).min(MAX_PAUSE);
        }
    }

    /// Whether a directory that was read is still the one of its name. What took its place was not read, and of one that
    /// is gone perhaps not all.
    pub(super) fn look_back(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        was: Identity,
        path: &[u8],
    ) -> Walked<(), S> {
        let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW);
        if matches!(found, Err(Errno::NOENT)) {
            let path = display_path(path);
            self.warn(format!(
                "{path} was removed or moved away while it was read; the snapshot has what was read until then"
            ));
            return Ok(());
        }
        ensure_same(found, was).map_err(failed("look again at", path))
    }
}

/// Whether this is the directory that it was.
pub(super) fn ensure_same(
    found: rustix::io::Result<Stat>,
    was: Identity,
) -> rustix::io::Result<()> {
    if identity_of(&found?) == was { Ok(()) } else { Err(Errno::STALE) }
}
