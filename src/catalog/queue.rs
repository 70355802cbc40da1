//! The daemon's jobs that wait, run or have ended, and up to when its schedules are dealt with: what survives a restart.

use crate::catalog::values::{
    from_json, from_word, json, maybe, maybe_parsed, maybe_time, parsed, time, word,
};
use crate::catalog::{Catalog, CatalogError, Delivery, outbox, rows};
use crate::model::id::JobId;
use crate::model::job::{Ended, Work};
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};
use serde::{Deserialize, Serialize};

pub(super) const TABLES_1: &str = "
    CREATE TABLE queue (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL UNIQUE,
        work_json TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'ended')),
        origin TEXT NOT NULL CHECK (origin IN ('schedule', 'person')),
        submitted_by TEXT NOT NULL,
        submitted_at TEXT NOT NULL,
        due_at TEXT, -- of a schedule
        not_before TEXT,
        attempt INTEGER NOT NULL, -- from 1
        gave_way INTEGER NOT NULL,
        cut_off INTEGER NOT NULL,
        ended_at TEXT,
        ended_json TEXT
    ) STRICT;
    CREATE INDEX queue_open ON queue (sequence) WHERE state <> 'ended';

    CREATE TABLE schedules (
        subject TEXT PRIMARY KEY,
        known_since TEXT NOT NULL,
        handled_at TEXT NOT NULL,
        pattern TEXT NOT NULL,
        detail_json TEXT
    ) STRICT, WITHOUT ROWID;
";

/// Who asked for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A schedule.
    Schedule,
    /// A person.
    Person,
}

/// How far an entry of the queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryState {
    /// It waits.
    Queued,
    /// It runs.
    Running,
    /// It is over.
    Ended,
}

/// A job of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its id.
    pub id: JobId,
    /// What is to be done.
    pub work: Work,
    /// How far it is.
    pub state: EntryState,
    /// Who asked for it.
    pub origin: Origin,
    /// That one's name: a user, or `belay`.
    pub submitted_by: String,
    /// When.
    pub submitted_at: Timestamp,
    /// The time for which a schedule wanted it.
    pub due: Option<Timestamp>,
    /// Not to begin before this.
    pub not_before: Option<Timestamp>,
    /// 1, and one more for each time that it is tried again.
    pub attempt: u32,
    /// How often it ended early because something more urgent was due.
    pub gave_way: u32,
    /// How often it ended with its daemon.
    pub cut_off: u32,
    /// When it was over.
    pub ended_at: Option<Timestamp>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// Up to when a schedule is dealt with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// Since when it is known.
    pub known_since: Timestamp,
    /// The last nominal time that is dealt with.
    pub at: Timestamp,
    /// The schedule as it was then.
    pub pattern: String,
    /// What else has to be known the next time: of a check, the part that was read last, as `n/t`.
    pub detail: Option<String>,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: parsed(row, "job_id")?,
        work: from_json(row, "work_json")?,
        state: from_word(row, "state")?,
        origin: from_word(row, "origin")?,
        submitted_by: row.get("submitted_by")?,
        submitted_at: parsed(row, "submitted_at")?,
        due: maybe_parsed(row, "due_at")?,
        not_before: maybe_parsed(row, "not_before")?,
        attempt: row.get("attempt")?,
        gave_way: row.get("gave_way")?,
        cut_off: row.get("cut_off")?,
        ended_at: maybe_parsed(row, "ended_at")?,
        ended: maybe(row, "ended_json", from_json)?,
    })
}

pub(super) fn put(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
                    "INSERT INTO queue (job_id, work_json, state, origin, submitted_by, submitted_at, due_at, not_before,
                                        attempt, gave_way, ended_at, ended_json, cut_off)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                     ON CONFLICT (job_id) DO UPDATE SET state = excluded.state, not_before = excluded.not_before,
                         gave_way = excluded.gave_way, attempt = excluded.attempt, cut_off = excluded.cut_off,
                         ended_at = excluded.ended_at, ended_json = excluded.ended_json",
                )?
                .execute(params![
                    entry.id.to_string(),
                    json(&entry.work)?,
                    word(&entry.state)?,
                    word(&entry.origin)?,
                    entry.submitted_by,
                    time(entry.submitted_at),
                    maybe_time(entry.due),
                    maybe_time(entry.not_before),
                    entry.attempt,
                    entry.gave_way,
                    maybe_time(entry.ended_at),
                    entry.ended.as_ref().map(json).transpose()?,
                    entry.cut_off,
                ])
                .map(drop)
}

pub(super) fn read_schedule(row: &Row<'_>) -> rusqlite::Result<(String, Handled)> {
    let handled = Handled {
        known_since: parsed(row, "known_since")?,
        at: parsed(row, "handled_at")?,
        pattern: row.get("pattern")?,
        detail: maybe(row, "detail_json", from_json)?,
    };
    Ok((row.get("subject")?, handled))
}

/// What a schedule has done stays as it was, where it is not told anew.
pub(super) fn put_schedule(
    transaction: &Transaction<'_>,
    subject: &str,
    handled: &Handled,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO schedules (subject, known_since, handled_at, pattern, detail_json) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (subject) DO UPDATE SET handled_at = excluded.handled_at, pattern = excluded.pattern",
        )?
        .execute(params![
            subject,
            time(handled.known_since),
            time(handled.at),
            handled.pattern,
            handled.detail.as_ref().map(json).transpose()?,
        ])
        .map(drop)
}

impl Catalog {
    /// Take a job into the queue, or record how far it is now.
    pub fn put_entry(&self, entry: &Entry) -> Result<(), CatalogError> {
        self.put_entries(&[entry])
    }

    /// The same of several, of all or of none: one that ended, and the one that goes on with it.
    pub fn put_entries(&self, entries: &[&Entry]) -> Result<(), CatalogError> {
        self.write("record jobs of the queue", |transaction| {
            entries.iter().try_for_each(|entry| put(transaction, entry))
        })
    }

    /// A schedule is dealt with up to a time; this job, if any, is what is done about it, and these deliveries tell what
    /// was missed: all or nothing.
    pub fn put_scheduled(
        &self,
        subject: &str,
        handled: &Handled,
        entry: Option<&Entry>,
        told: &[Delivery],
    ) -> Result<(), CatalogError> {
        self.write("record what a schedule is to do", |transaction| {
            put_schedule(transaction, subject, handled)?;
            told.iter().try_for_each(|delivery| outbox::insert(transaction, delivery))?;
            entry.map_or(Ok(()), |entry| put(transaction, entry))
        })
    }

    /// The jobs that wait or run, in the order in which they were asked for.
    pub fn open_entries(&self) -> Result<Vec<Entry>, CatalogError> {
        self.read("list the queue", |transaction| {
            rows(
                transaction,
                "SELECT * FROM queue WHERE state <> 'ended' ORDER BY sequence",
                [],
                read,
            )
        })
    }

    /// A job of the daemon, if it is known.
    pub fn entry(&self, id: JobId) -> Result<Option<Entry>, CatalogError> {
        self.read("look up a job of the queue", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM queue WHERE job_id = ?1")?
                .query_row([id.to_string()], read)
                .optional()
        })
    }

    /// The newest jobs of the daemon, newest first.
    pub fn entries(&self, limit: u32) -> Result<Vec<Entry>, CatalogError> {
        self.read("list the jobs of the queue", |transaction| {
            rows(transaction, "SELECT * FROM queue ORDER BY sequence DESC LIMIT ?1", [limit], read)
        })
    }

    /// Drop what ended before a time, and say how many.
    pub fn prune_queue(&self, older_than: Timestamp) -> Result<usize, CatalogError> {
        self.write("drop old jobs of the queue", |transaction| {
            transaction
                .prepare_cached("DELETE FROM queue WHERE state = 'ended' AND ended_at < ?1")?
                .execute([time(older_than)])
        })
    }

    /// What has to be known the next time that a schedule comes.
    pub fn set_schedule_detail(&self, subject: &str, detail: &str) -> Result<(), CatalogError> {
        self.write("record what a schedule has done", |transaction| {
            transaction
                .prepare_cached("UPDATE schedules SET detail_json = ?2 WHERE subject = ?1")?
                .execute([subject, &json(detail)?])
                .map(drop)
        })
    }

    /// Up to when a schedule is dealt with, if it is known.
    pub fn handled(&self, subject: &str) -> Result<Option<Handled>, CatalogError> {
        self.read("look up a schedule", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM schedules WHERE subject = ?1")?
                .query_row([subject], |row| read_schedule(row).map(|(_, handled)| handled))
                .optional()
        })
    }
}
