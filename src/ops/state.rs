//! State that must survive this host, kept in the repository: small snapshots tagged `belay-state`, numbered, the whole
//! state in each. The highest number counts; of two writers at once, both with the same number, the pins of both count, and the
//! longer journal of each upgrade.

pub(super) mod change;
pub(super) mod journals;

use super::OpsError;
use super::select::TAG_STATE;
use super::session::Session;
use super::tree::{made_file, made_tree};
use crate::host;
use crate::model::event::{Cancel, Events};
use crate::model::id::SnapshotId;
use crate::model::pin::Pin;
use crate::repository::blob_index::BlobIndex;
use crate::repository::format::snapshot::SnapshotFile;
use crate::repository::lock::Lock;
use crate::repository::reader::Reader;
use crate::repository::writer::Writer;
use crate::repository::{RepositoryError, Snapshot, Snapshots};
use jiff::{SignedDuration, Timestamp};
use journals::Stored;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

/// The tag with the number: `belay-state-number=7`.
const TAG_NUMBER: &str = "belay-state-number";
const FILE: &str = "state.json";
const MAX_BYTES: usize = 64 * 1024 * 1024;
/// Older states that are kept besides the newest, should the newest be damaged.
const KEEP_OLDER: u64 = 2;
/// States are kept for as long at least, so that writers at the same moment see each other's.
const KEEP_FOR: SignedDuration = SignedDuration::from_hours(1);

/// The state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Which one.
    pub(super) number: u64,
    /// All pins.
    #[serde(default)]
    pub(super) pins: Vec<Pin>,
    /// The journals of all upgrades, by their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) upgrades: Vec<Stored>,
    /// What a newer Belay keeps here besides.
    #[serde(flatten)]
    others: Map<String, Value>,
    /// A state of the highest number could not be read: there may be more than this.
    #[serde(skip)]
    pub(super) is_incomplete: bool,
}

impl State {
    /// Whether both say the same, whatever their numbers.
    fn has_content_of(&self, other: &Self) -> bool {
        (&self.pins, &self.upgrades, &self.others) == (&other.pins, &other.upgrades, &other.others)
    }

    /// Add journals that it does not have, and those that go on where its own end.
    pub(super) fn add_upgrades(&mut self, upgrades: Vec<Stored>) {
        journals::add(&mut self.upgrades, upgrades);
    }

    /// Add what another has that it does not have itself.
    fn add_all(&mut self, other: Self) {
        self.add(other.pins);
        self.add_upgrades(other.upgrades);
        for (name, value) in other.others {
            self.others.entry(name).or_insert(value);
        }
    }

    /// Add those that it does not have.
    pub(super) fn add(&mut self, pins: Vec<Pin>) {
        for pin in pins {
            let differs = |own: &Pin| own.snapshot != pin.snapshot || own.reason != pin.reason;
            if self.pins.iter().all(differs) {
                self.pins.push(pin);
            }
        }
    }
}

fn number_of(snapshot: &Snapshot) -> Option<u64> {
    if snapshot.file.has_tag(TAG_STATE) {
        snapshot.file.tag(TAG_NUMBER)?.parse().ok()
    } else {
        None
    }
}

/// The newest state; number 0 and empty where there is none. A damaged one is told, and the one before counts.
pub(super) fn read(
    reader: &Reader,
    snapshots: &Snapshots,
    events: &Events,
) -> Result<State, RepositoryError> {
    let mut states: Vec<(u64, &Snapshot)> = snapshots
        .readable
        .iter()
        .filter_map(|snapshot| Some((number_of(snapshot)?, snapshot)))
        .collect();
    states.sort_by_key(|(number, snapshot)| std::cmp::Reverse((*number, snapshot.id)));
    let highest = states.first().map_or(0, |(number, _)| *number);
    let mut is_incomplete = false;
    let mut newest: Option<State> = None;
    for (number, snapshot) in states {
        match &newest {
            Some(state) if state.number != number => break,
            _ => {}
        }
        match read_one(reader, snapshot) {
            Ok(state) => {
                newest.get_or_insert(State { number, ..State::default() }).add_all(state);
            }
            Err(error) if error.is_damage() => {
                is_incomplete |= number == highest;
                events.warn(format!(
                    "The pins and upgrades in snapshot {} cannot be read: {error}.",
                    snapshot.id.short()
                ));
            }
            Err(error) => return Err(error),
        }
    }
    let mut state = newest.unwrap_or_default();
    // The next state must count more than the damaged one.
    (state.number, state.is_incomplete) = (highest, is_incomplete);
    state.pins.sort_by(in_order);
    Ok(state)
}

/// Add what is in states that appeared after `before` was listed, by writers who knew state `since` or a later one, but
/// not what was written beside them.
pub(super) fn take_in(
    state: &mut State,
    reader: &Reader,
    snapshots: &Snapshots,
    before: &Snapshots,
    since: u64,
) -> Result<(), RepositoryError> {
    let known: HashSet<SnapshotId> = before.readable.iter().map(|snapshot| snapshot.id).collect();
    let beside = snapshots.readable.iter().filter(|snapshot| {
        !known.contains(&snapshot.id) && number_of(snapshot).is_some_and(|number| number >= since)
    });
    for snapshot in beside {
        match read_one(reader, snapshot) {
            Ok(other) => state.add_all(other),
            // Told when the state was read.
            Err(error) if error.is_damage() => {}
            Err(error) => return Err(error),
        }
    }
    state.pins.sort_by(in_order);
    Ok(())
}

fn in_order(a: &Pin, b: &Pin) -> Ordering {
    (a.pinned_at, a.snapshot, &a.reason).cmp(&(b.pinned_at, b.snapshot, &b.reason))
}

fn read_one(reader: &Reader, snapshot: &Snapshot) -> Result<State, RepositoryError> {
    use crate::repository::format::FormatError;
    let damaged = |error: FormatError| RepositoryError::Damaged {
        file: format!("the state in snapshot {}", snapshot.id),
        source: error,
    };
    let root = reader.tree(snapshot.file.tree)?;
    let node = root.iter().find(|node| node.node.name == FILE.as_bytes());
    let node =
        node.ok_or_else(|| damaged(FormatError::Invalid("state.json is not there".into())))?;
    let json = reader.content(node, MAX_BYTES)?;
    serde_json::from_slice(&json).map_err(|error| damaged(FormatError::Invalid(error.to_string())))
}

/// Write the next state, and drop those that are too old to matter. The caller holds a shared lock.
pub(super) fn write(
    session: &Session,
    index: Arc<BlobIndex>,
    lock: &Lock,
    snapshots: &Snapshots,
    next: &State,
    (events, cancel): (&Events, &Cancel),
) -> Result<Snapshot, OpsError> {
    let now = Timestamp::now();
    let json = serde_json::to_vec_pretty(next)
        .map_err(|error| RepositoryError::Internal(error.to_string()))?;
    let writer = Writer::start(&session.repository, index, cancel)?;
    let (file, _) = made_file(&writer, FILE, &json, now)?;
    let tree = made_tree(&writer, &mut [file])?;
    let tags = vec![TAG_STATE.to_owned(), format!("{TAG_NUMBER}={}", next.number)];
    let file = SnapshotFile { hostname: TAG_STATE.into(), ..snapshot_file(tree, now, tags) };
    let written = writer.commit(file, lock, events)?;
    for snapshot in &snapshots.readable {
        let is_old = now.duration_since(snapshot.file.time) > KEEP_FOR;
        if is_old && number_of(snapshot).is_some_and(|number| number + KEEP_OLDER < next.number) {
            session.repository.remove_snapshot(snapshot.id)?;
        }
    }
    Ok(written)
}

/// A snapshot's document with what all of ours have in common.
pub(super) fn snapshot_file(
    tree: crate::model::id::BlobId,
    time: Timestamp,
    tags: Vec<String>,
) -> SnapshotFile {
    SnapshotFile {
        time,
        parent: None,
        tree,
        paths: Some(vec!["/".into()]),
        hostname: String::new(),
        username: host::username(),
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        excludes: None,
        tags: Some(tags),
        original: None,
        program_version: Some(PROGRAM.into()),
    }
}

/// The program and its version, as snapshots and manifests name it.
pub(super) const PROGRAM: &str = concat!("belay ", env!("CARGO_PKG_VERSION"));
