//! Whether what comes back fits beside what is there: on the disk of the MongoDB server, and where the directories are.
//!
//! A server without room ends, and may not start again: that is told before the first byte.

use crate::access::{Access, Command};
use crate::component::mongodb::wire::Room;
use crate::component::mongodb::wire::restore::RESERVE_BYTES;
use crate::model::size::Bytes;
use crate::ops::OpsError;

const MOST_BYTES: u64 = 64 * 1024;

/// A database smaller than this says nothing of how well its documents are compressed.
const TELLING_BYTES: u64 = 16 * 1024 * 1024;

/// Asks for the room where a directory is, or is to be.
const FREE: &str = r#"d=$1; while [ ! -e "$d" ]; do d=$(dirname -- "$d"); done; df -Pk -- "$d""#;

/// A disk where the instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Disk {
    total: u64,
    /// Bytes that are free on it.
    pub(in crate::ops) free: u64,
}

/// What is needed of a place beside what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ops) struct Need {
    /// For what, such as `the collections` or a directory.
    pub(in crate::ops) what: String,
    /// Bytes.
    pub(in crate::ops) bytes: u64,
    pub(in crate::ops) disk: Disk,
}

/// What documents take on the disk, by what those take that are there.
fn stored(documents: u64, room: Room) -> u64 {
    if room.data < TELLING_BYTES {
        return documents;
    }
    // A tenth more, for these are others.
    let stored = u128::from(documents) * u128::from(room.stored) * 11 / u128::from(room.data) / 10;
    u64::try_from(stored).unwrap_or(u64::MAX)
}

/// What the documents, by the room of their server, and the directories need. A directory whose disk cannot be told is left out.
pub(in crate::ops) fn needs(
    documents: Option<(u64, Room)>,
    directories: &[(&str, u64)],
    access: &Access,
) -> Result<Vec<Need>, OpsError> {
    let mut needs = Vec::new();
    if let Some((bytes, room)) = documents {
        let disk = Disk { total: room.total, free: room.free };
        let bytes = stored(bytes, room).saturating_add(RESERVE_BYTES);
        needs.push(Need { what: "the collections".into(), bytes, disk });
    }
    for (path, bytes) in directories {
        let told = access.run(&Command::shell(FREE).argument(path), &[], MOST_BYTES)?;
        let Some(disk) = disk_of(&String::from_utf8_lossy(&told)) else { continue };
        needs.push(Need { what: (*path).to_owned(), bytes: *bytes, disk });
    }
    Ok(needs)
}

/// All that is needed of one disk together with what `need` needs. Disks of one size are taken for one.
pub(in crate::ops) fn on_disk_of(need: &Need, all: &[Need]) -> u64 {
    let same = all.iter().filter(|other| other.disk.total / 1024 == need.disk.total / 1024);
    same.fold(0, |sum, other| sum.saturating_add(other.bytes))
}

/// An error where the documents, by the room of their server, and the directories do not fit.
pub(super) fn ensure(
    documents: Option<(u64, Room)>,
    directories: &[(&str, u64)],
    access: &Access,
) -> Result<(), OpsError> {
    let needs = needs(documents, directories, access)?;
    for need in &needs {
        let (Need { what, disk, .. }, needed) = (need, on_disk_of(need, &needs));
        if needed > disk.free {
            return Err(OpsError::refused(
                format!(
                    "there is no room for {what} beside what is there: about {} are needed on that disk, and {} are free",
                    Bytes(needed),
                    Bytes(disk.free)
                ),
                "make room there, or restore parts one by one with --component",
            ));
        }
    }
    Ok(())
}

/// What `df -Pk` says.
fn disk_of(told: &str) -> Option<Disk> {
    let words: Vec<&str> = told.lines().last()?.split_whitespace().collect();
    let capacity = words.iter().position(|word| word.ends_with('%') && word.len() > 1)?;
    let kib = |back: usize| words.get(capacity.checked_sub(back)?)?.parse::<u64>().ok();
    Some(Disk { total: kib(3)? * 1024, free: kib(1)? * 1024 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_df_says_is_understood() {
        let told = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/a b 1000 400 600 40% /srv/x y\n";
        assert_eq!(disk_of(told), Some(Disk { total: 1_024_000, free: 614_400 }));
        assert_eq!(disk_of("df: nothing"), None);
    }

    #[test]
    fn documents_are_stored_as_those_that_are_there() {
        let room = Room { total: 0, free: 0, data: 100 << 20, stored: 50 << 20 };
        assert_eq!(stored(1000, room), 550);
        assert_eq!(stored(1000, Room { data: 10, ..room }), 1000);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let access =
            Access::new(crate::model::via::Via::local(), None, &crate::model::event::Cancel::new());
        let little = Room { total: 10 << 30, free: 300 << 20, data: 0, stored: 0 };
        assert!(ensure(Some((1 << 20, little)), &[], &access).is_ok());
        let error = ensure(Some((100 << 20, little)), &[], &access).unwrap_err().to_string();
        assert!(error.contains("no room for the collections"), "{error}");
        let error = ensure(None, &[("/tmp/not/there", u64::MAX / 2)], &access).unwrap_err();
        assert!(error.to_string().contains("no room for /tmp/not/there"), "{error}");
    }
}
