//! Lock files: who works on a repository, shared or exclusive.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// JSON that a lock file may unfold to.
pub const MAX_BYTES: usize = 64 * 1024;
/// A lock that was not refreshed for so long is stale, to restic as to Belay.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// How often a lock is refreshed.
pub const REFRESH_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// An own lock that is older must not be relied upon: another program may take it for stale soon.
pub const RELIABLE_FOR: SignedDuration = SignedDuration::from_mins(22);

/// A lock file's content: restic's members, and Belay's behind them, which restic passes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockFile {
    /// When it was written or refreshed.
    pub time: Timestamp,
    /// Whether its holder must be alone.
    #[serde(default)]
    pub exclusive: bool,
    /// The holder's machine.
    #[serde(default)]
    pub hostname: String,
    /// The holder's user.
    #[serde(default)]
    pub username: String,
    /// The holder's process.
    #[serde(default)]
    pub pid: i32,
    /// The user's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// The group's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// The machine's boot, so that a process number of an earlier boot is told. Belay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// When the process started, in clock ticks after boot, so that a reused number is told. Belay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process_start: Option<u64>,
    /// The machine, where its name alone might be another's too. Belay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_id: Option<String>,
    /// The namespace in which `pid` counts: the inode of `/proc/self/ns/pid`. Belay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_namespace: Option<u64>,
    /// What the holder does, for people: `backup uploads`. Belay's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
