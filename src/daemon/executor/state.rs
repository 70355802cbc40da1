//! What waits and what runs, as the executor has it in memory.

use super::ending::Stop;
use crate::catalog::Entry;
use crate::daemon::live::Live;
use crate::model::event::Cancel;
use crate::model::id::JobId;
use crate::model::job::Ended;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many jobs that have ended can still be followed from memory.
const MOST_ENDED: usize = 50;

pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) live: Arc<Live>,
    pub(super) running: Option<Running>,
}

pub(super) struct Running {
    pub(super) cancel: Cancel,
    pub(super) since: Instant,
    pub(super) deadline: Duration,
    pub(super) stop: Option<(Stop, Instant)>,
}

#[derive(Default)]
pub(super) struct State {
    /// By the order in which they were asked for.
    pub(super) held: BTreeMap<u64, Held>,
    next: u64,
    pub(super) ended: Vec<(JobId, Arc<Live>)>,
    pub(super) is_closed: bool,
}

impl State {
    pub(super) fn find(&mut self, id: JobId) -> Option<(u64, &mut Held)> {
        let mut held = self.held.iter_mut();
        held.find(|(_, held)| held.entry.id == id).map(|(order, held)| (*order, held))
    }

    pub(super) fn add(&mut self, entry: Entry) {
        let held = Held { entry, live: Arc::default(), running: None };
        self.held.insert(self.next, held);
        self.next += 1;
    }

    /// It is over; it can still be followed from memory for a while.
    pub(super) fn remove(&mut self, id: JobId, ended: Ended) {
        let Some((order, _)) = self.find(id) else { return };
        let held = self.held.remove(&order).expect("it was found");
        held.live.end(ended);
        self.ended.push((id, held.live));
        if self.ended.len() > MOST_ENDED {
            self.ended.remove(0);
        }
    }
}

impl Running {
    pub(super) fn new(deadline: Duration) -> Self {
        Self { cancel: Cancel::new(), since: Instant::now(), deadline, stop: None }
    }

    /// The first reason counts, but for a person's: what somebody stopped does not go on.
    pub(super) fn ask(&mut self, stop: Stop) {
        match &mut self.stop {
            // Since when it does not stop is measured from the first time.
            Some((before, _)) if matches!(stop, Stop::Asked(_)) => *before = stop,
            Some(_) => {}
            none => *none = Some((stop, Instant::now())),
        }
        self.cancel.cancel();
    }
}
