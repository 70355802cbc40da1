//! Events: what happens in a job, told while it happens. The command line and the API only render these.

use crate::model::git::Rewrite;
use crate::model::id::{FileId, SnapshotId};
use crate::model::name::Name;
use crate::model::size::Bytes;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One thing that happened in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A named part of the work began; parts follow each other. `subject` is an instance, a component or a file.
    Phase {
        /// What is done, as a verb: `reading`, `waiting`, `checking packs`.
        phase: String,
        /// To what it is done.
        subject: String,
    },
    /// How far the current phase is. Sent at most a few times a second.
    Progress {
        /// Bytes dealt with so far.
        bytes: u64,
        /// All bytes, where they are known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_bytes: Option<u64>,
        /// Files, blobs or packs dealt with so far.
        items: u64,
    },
    /// Something that a person should know, and that does not make the job fail.
    Warning {
        /// A whole sentence.
        message: String,
    },
    /// Something that may interest a person.
    Note {
        /// A whole sentence.
        message: String,
    },
    /// A snapshot was sealed and is in the repository.
    Sealed {
        /// Its id.
        snapshot: SnapshotId,
        /// The instance's name.
        instance: String,
        /// Bytes of content.
        size: Bytes,
        /// Bytes that were new.
        added: Bytes,
    },
    /// A ref of a git repository moved backwards, vanished or was retargeted. What it led to is kept.
    HistoryRewritten {
        /// The git repository's name.
        git: String,
        /// What happened.
        rewrite: Rewrite,
    },
    /// An instance runs another version than in its snapshot before, and no upgrade of Belay's installed it. A warning says so, too.
    VersionChanged {
        /// The instance's name.
        instance: Name,
        /// The version before.
        from: String,
        /// The version now.
        to: String,
        /// The last good snapshot of the version before, which is pinned for that; none where there is none.
        last_good: Option<SnapshotId>,
    },
    /// A file of the repository was removed.
    Removed {
        /// `snapshot`, `pack`, `index` or `lock`.
        kind: Cow<'static, str>,
        /// Its id.
        id: FileId,
    },
}

/// Where events go. Cloning is cheap; sending never blocks for long and never fails.
#[derive(Clone)]
pub struct Events(Arc<dyn Fn(Event) + Send + Sync>);

impl Events {
    /// Hand every event to `receive`, which may be called from several threads.
    pub fn new(receive: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(receive))
    }

    /// Nobody listens.
    pub fn ignored() -> Self {
        Self::new(|_| {})
    }

    /// Tell an event.
    pub fn send(&self, event: Event) {
        (self.0)(event);
    }

    /// Tell that a part of the work begins.
    pub fn phase(&self, phase: &str, subject: impl Into<String>) {
        self.send(Event::Phase { phase: phase.to_owned(), subject: subject.into() });
    }

    /// Tell something that a person should know.
    pub fn warn(&self, message: impl Into<String>) {
        self.send(Event::Warning { message: message.into() });
    }

    /// Tell something that may interest a person.
    pub fn note(&self, message: impl Into<String>) {
        self.send(Event::Note { message: message.into() });
    }
}

/// A request to stop, shared by everything that works on one job. Setting it is final.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

/// The job was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

impl Cancel {
    /// Nobody asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ask everything that holds this to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether somebody asked.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// An error once somebody asked, for `?`.
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() { Err(Cancelled) } else { Ok(()) }
    }
}
