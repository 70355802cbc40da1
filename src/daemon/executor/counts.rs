//! How many jobs ended how since the daemon began, for the metrics.

use super::{DAMAGED, INTERRUPTED};
use crate::model::job::{Ended, Work};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// By kind and end.
type Ends = BTreeMap<(&'static str, &'static str), u64>;

#[derive(Default)]
pub(super) struct Counts(Mutex<Ends>);

impl Counts {
    pub(super) fn add(&self, work: &Work, ended: &Ended) {
        let end = match (&ended.failure, ended.exit_code) {
            (None, 0) => "success",
            (None, DAMAGED) => "failure",
            (None, _) => "warning",
            (Some(_), INTERRUPTED) => "interrupted",
            (Some(_), _) => "failure",
        };
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *ends.entry((work.noun(), end)).or_default() += 1;
    }

    pub(super) fn all(&self) -> Ends {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
