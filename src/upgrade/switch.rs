//! For tests of Belay alone: at a place of an upgrade's journal that was named, this process ends as it would in a power cut.
//!
//! What always holds: a released program has none of this; and nothing happens unless `BELAY_ENDS_UPGRADE_AT` names a file. That has
//! a place a line, such as `kept began upgrade_staging`: the moment, the kind of the record, and its step or `-`. A place that is
//! reached is taken out of the file first, so that each ends one process.

use crate::model::upgrade::Entry;

/// When, as a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Nothing of it is written. At the end of a step all of that was done.
    Before,
    /// It is in the repository, and not in the catalog.
    Kept,
    /// It is in both. At the beginning of a step nothing of that was done.
    Noted,
}

/// End here, where that was asked for.
#[cfg(not(debug_assertions))]
pub(super) fn pass(_: Moment, _: &Entry) {}

/// End here, where that was asked for.
#[cfg(debug_assertions)]
pub(super) fn pass(moment: Moment, entry: &Entry) {
    let Some(file) = std::env::var_os("BELAY_ENDS_UPGRADE_AT") else { return };
    let Ok(text) = std::fs::read_to_string(&file) else { return };
    let place = place(moment, entry);
    let mut places: Vec<&str> = text.lines().collect();
    let Some(found) = places.iter().position(|it| *it == place) else { return };
    places.remove(found);
    places.push("");
    if std::fs::write(&file, places.join("\n")).is_ok() {
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}

#[cfg(debug_assertions)]
fn place(moment: Moment, entry: &Entry) -> String {
    let moment = match moment {
        Moment::Before => "before",
        Moment::Kept => "kept",
        Moment::Noted => "noted",
    };
    let step = entry.step().map_or("-", crate::model::upgrade::Step::as_str);
    format!("{moment} {} {step}", entry.kind())
}
