//! Jobs and their events: the history of this host, which no repository holds.
//!
//! Jobs are in the order in which they began, as the catalog saw it, whatever the clock said.

use crate::catalog::values::{
    from_json, from_word, integer, json, maybe_parsed, maybe_text, maybe_time, parsed, time,
    unsigned, word,
};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::event::Event;
use crate::model::id::{InstanceId, JobId, SnapshotId};
use crate::model::name::Name;
use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(super) const TABLES_1: &str = "
    CREATE TABLE jobs (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        job_id TEXT NOT NULL UNIQUE,
        kind TEXT NOT NULL,
        instance_id TEXT,
        instance_name TEXT,
        repository TEXT, -- its name in the configuration
        started_at TEXT NOT NULL,
        finished_at TEXT,
        outcome TEXT NOT NULL CHECK (outcome IN ('running', 'done', 'warned', 'failed', 'no_room', 'interrupted')),
        snapshot_id TEXT,
        error TEXT,
        pid INTEGER NOT NULL,
        boot_id TEXT NOT NULL,
        process_start INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX jobs_by_instance ON jobs (instance_id, kind, sequence);
    CREATE INDEX jobs_running ON jobs (sequence) WHERE outcome = 'running';

    CREATE TABLE events (
        job_id TEXT NOT NULL REFERENCES jobs (job_id) ON DELETE CASCADE,
        ordinal INTEGER NOT NULL, -- from 0
        at TEXT NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (job_id, ordinal)
    ) STRICT, WITHOUT ROWID;
";

pub(super) const TABLES_2: &str = "ALTER TABLE jobs ADD COLUMN hint TEXT";

pub(super) const TABLES_3: &str =
    "CREATE INDEX jobs_by_snapshot ON jobs (snapshot_id) WHERE snapshot_id IS NOT NULL";

/// How many jobs of each kind an instance keeps in the history, however old they are.
const KEPT_OF_A_KIND: u32 = 10;

/// The operation that a job executes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Takes a snapshot.
    Backup,
    /// Takes a snapshot of what a restore is about to overwrite: no sign that backups succeed again.
    BeforeRestore,
    /// Makes a snapshot of what another program backed up.
    Import,
    /// Brings a snapshot back.
    Restore,
    /// Verifies a repository.
    Check,
    /// Forgets snapshots and reclaims room.
    Prune,
    /// Makes a repository.
    Init,
    /// Adds or removes a password.
    Key,
    /// Pins or unpins a snapshot.
    Pin,
    /// Makes the catalog again.
    Rebuild,
}

impl JobKind {
    /// The kind as a noun, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::BeforeRestore => "snapshot before a restore",
            Self::Import => "import",
            Self::Restore => "restore",
            Self::Check => "check",
            Self::Prune => "prune",
            Self::Init => "creation of a repository",
            Self::Key => "change of keys",
            Self::Pin => "change of pins",
            Self::Rebuild => "rebuild",
        }
    }
}

/// How far a job came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It has not ended yet.
    Running,
    /// All went well.
    Done,
    /// It did what it should, and a person should know something.
    Warned,
    /// It did not do what it should.
    Failed,
    /// It failed because the repository was full.
    NoRoom,
    /// Somebody stopped it, or its process went away.
    Interrupted,
}

/// A process, told from others that had the same number before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The boot during which it runs (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
    /// When it started, in clock ticks since that boot (field 22 of `/proc/PID/stat`).
    pub start: u64,
}

/// What is known of a job when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobStart {
    /// Its id.
    pub id: JobId,
    /// What it executes.
    pub kind: JobKind,
    /// The instance that it is about, if it is about one.
    pub instance: Option<InstanceId>,
    /// That instance's name.
    pub instance_name: Option<Name>,
    /// The repository's name in the configuration.
    pub repository: Option<Name>,
    /// When it began.
    pub started_at: Timestamp,
    /// Who executes it.
    pub process: Process,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// What was known when it began.
    pub start: JobStart,
    /// When it ended. Nobody knows when an interrupted one did, unless it said so itself.
    pub finished_at: Option<Timestamp>,
    /// How far it came.
    pub outcome: Outcome,
    /// The snapshot that it made or restored.
    pub snapshot: Option<SnapshotId>,
    /// Why it failed.
    pub failure: Option<JobFailure>,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFailure {
    /// The error with its reasons.
    pub error: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// How one backup of an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its job.
    pub job: JobId,
    /// When it ended, or began where that is not known.
    pub time: Timestamp,
    /// How; never [`Outcome::Running`].
    pub outcome: Outcome,
    /// The snapshot that it sealed.
    pub snapshot: Option<SnapshotId>,
    /// Why it failed.
    pub failure: Option<JobFailure>,
}

/// An event as it was kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its place in its job, from 0.
    pub ordinal: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The event as JSON: what [`Event`] serializes to, in this version or an earlier one.
    pub event: Value,
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    Ok(Job {
        start: JobStart {
            id: parsed(row, "job_id")?,
            kind: from_word(row, "kind")?,
            instance: maybe_parsed(row, "instance_id")?,
            instance_name: maybe_parsed(row, "instance_name")?,
            repository: maybe_parsed(row, "repository")?,
            started_at: parsed(row, "started_at")?,
            process: Process {
                pid: row.get("pid")?,
                boot_id: row.get("boot_id")?,
                start: unsigned(row, "process_start")?,
            },
        },
        finished_at: maybe_parsed(row, "finished_at")?,
        outcome: from_word(row, "outcome")?,
        snapshot: maybe_parsed(row, "snapshot_id")?,
        failure: failure(row)?,
    })
}

fn failure(row: &Row<'_>) -> rusqlite::Result<Option<JobFailure>> {
    let hint = row.get("hint")?;
    Ok(row.get::<_, Option<String>>("error")?.map(|error| JobFailure { error, hint }))
}

pub(super) fn insert(transaction: &Transaction<'_>, job: &Job) -> rusqlite::Result<()> {
    let start = &job.start;
    transaction
        .prepare_cached(
            "INSERT INTO jobs (job_id, kind, instance_id, instance_name, repository, started_at, finished_at,
                               outcome, snapshot_id, error, hint, pid, boot_id, process_start)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            start.id.to_string(),
            word(&start.kind)?,
            maybe_text(start.instance),
            start.instance_name.as_ref().map(Name::as_str),
            start.repository.as_ref().map(Name::as_str),
            time(start.started_at),
            maybe_time(job.finished_at),
            word(&job.outcome)?,
            maybe_text(job.snapshot),
            job.failure.as_ref().map(|failure| failure.error.as_str()),
            job.failure.as_ref().and_then(|failure| failure.hint.as_deref()),
            start.process.pid,
            start.process.boot_id,
            integer(start.process.start),
        ])?;
    Ok(())
}

pub(super) fn read_event(row: &Row<'_>) -> rusqlite::Result<StoredEvent> {
    Ok(StoredEvent {
        ordinal: unsigned(row, "ordinal")?,
        at: parsed(row, "at")?,
        event: from_json(row, "json")?,
    })
}

pub(super) fn insert_event(
    transaction: &Transaction<'_>,
    job: JobId,
    event: &StoredEvent,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO events (job_id, ordinal, at, json) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            job.to_string(),
            integer(event.ordinal),
            time(event.at),
            json(&event.event)?
        ])?;
    Ok(())
}

impl Catalog {
    /// A job begins.
    pub fn begin_job(&self, start: &JobStart) -> Result<(), CatalogError> {
        let job = Job {
            start: start.clone(),
            finished_at: None,
            outcome: Outcome::Running,
            snapshot: None,
            failure: None,
        };
        self.write("record the begin of a job", |transaction| insert(transaction, &job))
    }

    /// A job ended, with the snapshot that it was about and why it failed. One that was taken for interrupted may still
    /// say how it really ended.
    pub fn finish_job(
        &self,
        id: JobId,
        at: Timestamp,
        outcome: Outcome,
        snapshot: Option<SnapshotId>,
        failure: Option<&JobFailure>,
    ) -> Result<(), CatalogError> {
        let changed = self.write("record the end of a job", |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE jobs SET finished_at = ?2, outcome = ?3, snapshot_id = ?4, error = ?5, hint = ?6
                     WHERE job_id = ?1 AND outcome IN ('running', 'interrupted')",
                )?
                .execute(params![
                    id.to_string(),
                    time(at),
                    word(&outcome)?,
                    maybe_text(snapshot),
                    failure.map(|failure| failure.error.as_str()),
                    failure.and_then(|failure| failure.hint.as_deref())
                ])
        })?;
        self.must_exist(changed, "running job", &id)
    }

    /// A job, if it is known.
    pub fn job(&self, id: JobId) -> Result<Option<Job>, CatalogError> {
        self.read("look up a job", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM jobs WHERE job_id = ?1")?
                .query_row([id.to_string()], read)
                .optional()
        })
    }

    /// The backup that made a snapshot, if this host did.
    pub fn job_of_snapshot(&self, id: SnapshotId) -> Result<Option<Job>, CatalogError> {
        self.read("look up the job of a snapshot", |transaction| {
            transaction
                .prepare_cached(
                    "SELECT * FROM jobs WHERE kind = 'backup' AND snapshot_id = ?1 ORDER BY sequence DESC LIMIT 1",
                )?
                .query_row([id.to_string()], read)
                .optional()
        })
    }

    /// The newest jobs, newest first.
    pub fn jobs(&self, limit: u32) -> Result<Vec<Job>, CatalogError> {
        self.read("list jobs", |transaction| {
            rows(transaction, "SELECT * FROM jobs ORDER BY sequence DESC LIMIT ?1", [limit], read)
        })
    }

    /// How the newest backups of an instance ended, newest first; those that still run are left out.
    pub fn recent_runs(&self, instance: InstanceId, limit: u32) -> Result<Vec<Run>, CatalogError> {
        self.read("list the runs of an instance", |transaction| {
            rows(
                transaction,
                "SELECT job_id, coalesce(finished_at, started_at) AS time, outcome, snapshot_id, error, hint FROM jobs
                 WHERE instance_id = ?1 AND kind = 'backup' AND outcome <> 'running'
                 ORDER BY sequence DESC LIMIT ?2",
                params![instance.to_string(), limit],
                |row| {
                    Ok(Run {
                        job: parsed(row, "job_id")?,
                        time: parsed(row, "time")?,
                        outcome: from_word(row, "outcome")?,
                        snapshot: maybe_parsed(row, "snapshot_id")?,
                        failure: failure(row)?,
                    })
                },
            )
        })
    }

    /// Marks the running jobs whose process is gone, and returns them as they are then, oldest first.
    pub fn mark_interrupted(
        &self,
        is_alive: impl Fn(&Process) -> bool,
    ) -> Result<Vec<Job>, CatalogError> {
        self.write("mark interrupted jobs", |transaction| {
            let running = "SELECT * FROM jobs WHERE outcome = 'running' ORDER BY sequence";
            let mut gone = rows(transaction, running, [], read)?;
            gone.retain(|job| !is_alive(&job.start.process));
            for job in &mut gone {
                job.outcome = Outcome::Interrupted;
                transaction
                    .prepare_cached("UPDATE jobs SET outcome = 'interrupted' WHERE job_id = ?1")?
                    .execute([job.start.id.to_string()])?;
            }
            Ok(gone)
        })
    }

    /// Keeps an event of a job under its number. Progress is for those who look on, and is not kept.
    pub fn add_event(
        &self,
        job: JobId,
        ordinal: u64,
        at: Timestamp,
        event: &Event,
    ) -> Result<(), CatalogError> {
        if matches!(event, Event::Progress { .. }) {
            return Ok(());
        }
        let changed = self.write("record an event", |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO events (job_id, ordinal, at, json)
                     SELECT job_id, ?2, ?3, ?4 FROM jobs WHERE job_id = ?1",
                )?
                .execute(params![job.to_string(), integer(ordinal), time(at), json(event)?])
        })?;
        self.must_exist(changed, "job", &job)
    }

    /// The part of its work that a job began last, and what that was about.
    pub fn last_phase(&self, job: JobId) -> Result<Option<(String, String)>, CatalogError> {
        let text = |event: &Value, member| Some(event.get(member)?.as_str()?.to_owned());
        let events = self.events(job)?.into_iter().rev().map(|stored| stored.event);
        let mut phases = events.filter(|event| event["event"] == "phase");
        Ok(phases.find_map(|event| Some((text(&event, "phase")?, text(&event, "subject")?))))
    }

    /// The events of a job, in the order in which they happened.
    pub fn events(&self, job: JobId) -> Result<Vec<StoredEvent>, CatalogError> {
        self.read("list the events of a job", |transaction| {
            rows(
                transaction,
                "SELECT * FROM events WHERE job_id = ?1 ORDER BY ordinal",
                [job.to_string()],
                read_event,
            )
        })
    }

    /// Drops jobs that began before a time, with their events, and says how many. Running ones stay, and so do the
    /// newest ten of each kind of each instance: what freezes retention is read from them.
    pub fn prune_history(&self, older_than: Timestamp) -> Result<usize, CatalogError> {
        self.write("drop old jobs", |transaction| {
            transaction
                .prepare_cached(
                    "DELETE FROM jobs WHERE started_at < ?1 AND outcome <> 'running' AND sequence IN (
                         SELECT sequence FROM (
                             SELECT sequence, row_number() OVER (
                                 PARTITION BY instance_id, kind ORDER BY sequence DESC
                             ) AS place FROM jobs
                         ) WHERE place > ?2
                     )",
                )?
                .execute(params![time(older_than), KEPT_OF_A_KIND])
        })
    }
}
