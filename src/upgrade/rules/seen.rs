//! What the rules look at: facts, as they were read from the repository and the instances.

use crate::model::id::SnapshotId;
use crate::model::manifest::KeyFit;
use crate::model::upgrade::{Environment, RuleName};
use crate::model::version::{Edition, Version};
use crate::platform::recipe::Checkpoint;
use crate::policy::readable::Readability;
use jiff::Timestamp;

/// Everything that was read for one look at the gate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The staging instance.
    pub staging: InstanceSeen,
    /// The production instance.
    pub production: InstanceSeen,
    /// The platform's versions that may not be skipped.
    pub checkpoints: Vec<Checkpoint>,
    /// What needs room, and where; empty where the driver and the platform need none.
    pub room: Vec<Room>,
    /// What a person should know of the way back besides, a sentence each.
    pub way_back: Vec<String>,
    /// Whether now is a time for it; none where the configuration has no windows.
    pub window: Option<Window>,
    /// The apps on production's branches.
    pub apps: Vec<App>,
    /// The last drill of production's snapshots, whatever came of it.
    pub drill: Option<Drill>,
    /// What could not be read: each closes the rules that it is about.
    pub unread: Vec<Unread>,
}

/// Something that could not be read, and is therefore not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// The rules that look at it.
    pub rules: Vec<RuleName>,
    /// Of which instance it is; none where it is of neither.
    pub environment: Option<Environment>,
    /// What, and why.
    pub why: String,
    /// What to do, as an order such as "start the server".
    pub needed: String,
}

impl Seen {
    /// Whether something that a rule looks at could not be read of an instance.
    pub(super) fn is_unread(&self, rule: RuleName, environment: Environment) -> bool {
        let is_it = |it: &&Unread| it.rules.contains(&rule) && it.environment == Some(environment);
        self.unread.iter().any(|it| is_it(&it))
    }
}

/// What was read of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstanceSeen {
    /// What runs; none where it could not be told. Where writers are stopped, what the instance's files say.
    pub running: Option<Running>,
    /// Its newest snapshot, whatever it is worth, as the repository has it.
    pub snapshot: Option<SnapshotSeen>,
    /// Since when what writes has been stopped without a pause; none where it runs, or that is not certain.
    pub stopped_since: Option<Timestamp>,
    /// The images that are where it lives; none where the driver knows no images.
    pub images: Option<Images>,
}

/// What an instance runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its version.
    pub version: Version,
    /// Its edition, where that can be told.
    pub edition: Option<Edition>,
    /// The digest of its image, where the driver has images.
    pub image: Option<String>,
}

/// A snapshot as the gate sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotSeen {
    /// Its id.
    pub id: SnapshotId,
    /// When its run began: nothing later is certain to be in it.
    pub time: Timestamp,
    /// Whether it kept promise 1.
    pub is_sealed: bool,
    /// Whether the repository has everything that it refers to.
    pub is_whole: bool,
    /// Whether all of it is of one moment.
    pub is_of_one_moment: bool,
    /// Whether its keys decrypt what is in it.
    pub key_fit: KeyFit,
}

/// Digests of images that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Of the version before; none where it is not there.
    pub old: Option<String>,
    /// Of the version to come; none where it is not there.
    pub new: Option<String>,
}

/// Room that is needed in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// For which instance.
    pub environment: Environment,
    /// What for, such as "a restore beside the present databases".
    pub what: String,
    /// Where, such as a directory.
    pub place: String,
    /// Bytes that it takes at most.
    pub needed_bytes: u64,
    /// Bytes that are free; none where that could not be told.
    pub free_bytes: Option<u64>,
}

/// The windows of the configuration, and now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether one is open.
    pub is_open: bool,
    /// When the next one opens; none where none ever does.
    pub opens_at: Option<Timestamp>,
}

/// An app on a branch that production pulls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// Its name, with that of its git repository.
    pub name: String,
    /// Whether the version to come reads it.
    pub readability: Readability,
}

/// A drill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drill {
    /// When it ended.
    pub at: Timestamp,
    /// Whether everything came back and was found right.
    pub passed: bool,
}

/// That staging passed its tests in this hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tested {
    /// The version that it ran.
    pub version: Version,
    /// The digest of its image, where the driver has images.
    pub image: Option<String>,
    /// When it passed for the first time.
    pub first: Timestamp,
    /// When it passed last, with no failure since.
    pub last: Timestamp,
}
