//! Notices that wait to be delivered, and lasting problems that were told: what must not be lost by a restart, and what
//! no repository holds.
//!
//! A notice leaves when it was delivered, when its channel is not configured any more, or when it was tried in vain for
//! three days. Pings of one channel leave in the order in which they came, since a late start would undo a success; and
//! one that is of the moment no more does not leave at all ([`Catalog::drop_stale_pings`]).

use crate::catalog::values::{from_json, json, parsed, time, unsigned};
use crate::catalog::{Catalog, CatalogError, rows};
use crate::model::id::{ChannelId, DeliveryId};
use crate::model::notice::Notice;
use jiff::{SignedDuration, Timestamp};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use std::collections::BTreeSet;

pub(super) const TABLES_3: &str = "
    CREATE TABLE outbox (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        delivery_id TEXT NOT NULL UNIQUE,
        channel_id TEXT NOT NULL,
        in_order INTEGER NOT NULL, -- 1: not before older ones of its channel
        notice TEXT NOT NULL,
        made_at TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        next_attempt_at TEXT NOT NULL,
        last_error TEXT
    ) STRICT;
    CREATE INDEX outbox_by_channel ON outbox (channel_id, sequence);

    CREATE TABLE problems (
        problem_key TEXT NOT NULL PRIMARY KEY,
        since TEXT NOT NULL,
        last_told TEXT NOT NULL,
        title TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
";

/// How long a notice is tried.
const KEPT: SignedDuration = SignedDuration::from_hours(3 * 24);
/// No attempt is put off for longer; one that seems to be was planned before the clock was set back.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(24);

/// A notice on its way to one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The same at each attempt.
    pub id: DeliveryId,
    /// Where to.
    pub channel: ChannelId,
    /// What.
    pub notice: Notice,
    /// Since when it waits.
    pub made_at: Timestamp,
    /// How often it was tried in vain.
    pub attempts: u32,
    /// When to try next.
    pub next_attempt_at: Timestamp,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

impl Delivery {
    /// A notice on its way to each of the channels, due at once. A channel that comes twice is told once. `make_id` makes
    /// random ids.
    pub fn to_each(
        notice: &Notice,
        channels: &[ChannelId],
        now: Timestamp,
        mut make_id: impl FnMut() -> DeliveryId,
    ) -> Vec<Self> {
        let channels: BTreeSet<ChannelId> = channels.iter().copied().collect();
        let deliveries = channels.into_iter().map(|channel| Self {
            id: make_id(),
            channel,
            notice: notice.clone(),
            made_at: now,
            attempts: 0,
            next_attempt_at: now,
            last_error: None,
        });
        deliveries.collect()
    }
}

/// Something that is wrong until it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What tells it from others, such as `failure/production`.
    pub key: String,
    /// When it began.
    pub since: Timestamp,
    /// When people were last told.
    pub last_told: Timestamp,
    /// What was told, in a line.
    pub title: String,
}

/// What becomes of a lasting problem.
#[derive(Clone, Copy, Debug)]
pub enum ProblemChange<'a> {
    /// It is there, and was told.
    Set(&'a Problem),
    /// The one of this key is over.
    Clear(&'a str),
}

pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Delivery> {
    Ok(Delivery {
        id: parsed(row, "delivery_id")?,
        channel: parsed(row, "channel_id")?,
        notice: from_json(row, "notice")?,
        made_at: parsed(row, "made_at")?,
        attempts: row.get("attempts")?,
        next_attempt_at: parsed(row, "next_attempt_at")?,
        last_error: row.get("last_error")?,
    })
}

pub(super) fn insert(transaction: &Transaction<'_>, delivery: &Delivery) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO outbox (delivery_id, channel_id, in_order, notice, made_at, attempts, next_attempt_at, last_error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            delivery.id.to_string(),
            delivery.channel.to_string(),
            delivery.notice.kind.is_for_pings(),
            json(&delivery.notice)?,
            time(delivery.made_at),
            delivery.attempts,
            time(delivery.next_attempt_at),
            delivery.last_error,
        ])?;
    Ok(())
}

pub(super) fn read_problem(row: &Row<'_>) -> rusqlite::Result<Problem> {
    Ok(Problem {
        key: row.get("problem_key")?,
        since: parsed(row, "since")?,
        last_told: parsed(row, "last_told")?,
        title: row.get("title")?,
    })
}

pub(super) fn insert_problem(
    transaction: &Transaction<'_>,
    problem: &Problem,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO problems (problem_key, since, last_told, title) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![problem.key, time(problem.since), time(problem.last_told), problem.title])?;
    Ok(())
}

fn change(transaction: &Transaction<'_>, change: ProblemChange<'_>) -> rusqlite::Result<()> {
    match change {
        ProblemChange::Set(problem) => insert_problem(transaction, problem),
        ProblemChange::Clear(key) => transaction
            .prepare_cached("DELETE FROM problems WHERE problem_key = ?1")?
            .execute([key])
            .map(drop),
    }
}

/// Removes what a condition finds, and answers with it.
fn take(
    transaction: &Transaction<'_>,
    condition: &str,
    parameters: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Delivery>> {
    let found: Vec<Delivery> = rows(
        transaction,
        &format!("SELECT * FROM outbox WHERE {condition} ORDER BY sequence"),
        parameters,
        read,
    )?;
    found.iter().try_for_each(|delivery| remove(transaction, delivery.id).map(drop))?;
    Ok(found)
}

fn remove(transaction: &Transaction<'_>, id: DeliveryId) -> rusqlite::Result<usize> {
    transaction
        .prepare_cached("DELETE FROM outbox WHERE delivery_id = ?1")?
        .execute([id.to_string()])
}

fn texts<'a>(channels: impl IntoIterator<Item = &'a ChannelId>) -> Vec<String> {
    channels.into_iter().map(ToString::to_string).collect()
}

impl Catalog {
    /// Puts a notice's deliveries down, together with what becomes of the problem that it is about: either all of it will
    /// be told or nothing was.
    pub fn put_notice(
        &self,
        deliveries: &[Delivery],
        problem: Option<ProblemChange<'_>>,
    ) -> Result<(), CatalogError> {
        self.write("keep a notice", |transaction| {
            deliveries.iter().try_for_each(|delivery| insert(transaction, delivery))?;
            problem.map_or(Ok(()), |problem| change(transaction, problem))
        })
    }

    /// What is to be delivered now: of each channel the oldest that is due, of one of pings the oldest only if it is due;
    /// nothing of the channels that are `busy`. So ask again when one was delivered.
    pub fn due_deliveries(
        &self,
        now: Timestamp,
        busy: &BTreeSet<ChannelId>,
    ) -> Result<Vec<Delivery>, CatalogError> {
        let busy = texts(busy);
        let horizon = now.saturating_add(LONGEST_WAIT).expect("hours are of a fixed length");
        self.read("list due notices", |transaction| {
            rows(
                transaction,
                "SELECT * FROM outbox WHERE sequence IN (
                    SELECT min(sequence) FROM outbox
                    WHERE (next_attempt_at <= ?1 OR next_attempt_at > ?2)
                    AND channel_id NOT IN (SELECT value FROM json_each(?3))
                    AND NOT (in_order AND EXISTS (
                        SELECT 1 FROM outbox AS older
                        WHERE older.channel_id = outbox.channel_id AND older.sequence < outbox.sequence))
                    GROUP BY channel_id)
                 ORDER BY sequence",
                params![time(now), time(horizon), json(&busy)?],
                read,
            )
        })
    }

    /// When the next delivery is due, but for the channels that are `busy`; none where nothing waits.
    pub fn next_delivery_at(
        &self,
        busy: &BTreeSet<ChannelId>,
    ) -> Result<Option<Timestamp>, CatalogError> {
        let busy = texts(busy);
        self.read("look for the next notice", |transaction| {
            transaction
                .prepare_cached(
                    "SELECT next_attempt_at FROM outbox WHERE NOT (in_order AND EXISTS (
                        SELECT 1 FROM outbox AS older
                        WHERE older.channel_id = outbox.channel_id AND older.sequence < outbox.sequence))
                     AND channel_id NOT IN (SELECT value FROM json_each(?1))
                     ORDER BY next_attempt_at LIMIT 1",
                )?
                .query_row([json(&busy)?], |row| parsed(row, "next_attempt_at"))
                .optional()
        })
    }

    /// How many notices wait.
    pub fn waiting_deliveries(&self) -> Result<u64, CatalogError> {
        self.read("count notices", |transaction| {
            transaction.query_row("SELECT count(*) AS waiting FROM outbox", [], |row| {
                unsigned(row, "waiting")
            })
        })
    }

    /// It arrived, or was refused for good. Unknown ones change nothing: it was dropped meanwhile.
    pub fn remove_delivery(&self, id: DeliveryId) -> Result<(), CatalogError> {
        self.write("remove a notice", |transaction| remove(transaction, id).map(drop))
    }

    /// It did not arrive: try again at that time, or a day from now where that is later. `error` holds no secret.
    pub fn put_off_delivery(
        &self,
        id: DeliveryId,
        error: &str,
        now: Timestamp,
        next_attempt_at: Timestamp,
    ) -> Result<(), CatalogError> {
        let horizon = now.saturating_add(LONGEST_WAIT).expect("hours are of a fixed length");
        let next = next_attempt_at.min(horizon);
        self.write("put a notice off", |transaction| {
            transaction
                .prepare_cached(
                    "UPDATE outbox SET attempts = attempts + 1, next_attempt_at = ?2, last_error = ?3
                     WHERE delivery_id = ?1",
                )?
                .execute(params![id.to_string(), time(next), error])
                .map(drop)
        })
    }

    /// Drops what is older than three days and was tried, and answers with it: somebody has to say that it was never
    /// told. What was never tried, since nothing ran meanwhile, stays: deliver first, then call this.
    pub fn drop_old_deliveries(&self, now: Timestamp) -> Result<Vec<Delivery>, CatalogError> {
        let oldest = now.saturating_sub(KEPT).expect("hours are of a fixed length");
        self.write("drop old notices", |transaction| {
            take(transaction, "made_at < ?1 AND attempts > 0", [time(oldest)])
        })
    }

    /// Drops pings that tell nothing of the moment any more, and answers with them: those that were made before a time,
    /// and those that were tried in vain while a newer one of the same channel and instance waits.
    pub fn drop_stale_pings(&self, before: Timestamp) -> Result<Vec<Delivery>, CatalogError> {
        self.write("drop pings of the past", |transaction| {
            let condition = "in_order AND (made_at < ?1 OR attempts > 0 AND EXISTS (
                SELECT 1 FROM outbox AS newer
                WHERE newer.channel_id = outbox.channel_id AND newer.sequence > outbox.sequence
                AND newer.notice ->> 'instance' IS outbox.notice ->> 'instance'))";
            take(transaction, condition, [time(before)])
        })
    }

    /// Drops what goes to channels that are not among these, and answers with it.
    pub fn drop_deliveries_of_others(
        &self,
        configured: &[ChannelId],
    ) -> Result<Vec<Delivery>, CatalogError> {
        let configured = texts(configured);
        self.write("drop notices of former channels", |transaction| {
            let condition = "channel_id NOT IN (SELECT value FROM json_each(?1))";
            take(transaction, condition, [json(&configured)?])
        })
    }

    /// A lasting problem, if it was told and is not over.
    pub fn problem(&self, key: &str) -> Result<Option<Problem>, CatalogError> {
        self.read("look up a problem", |transaction| {
            transaction
                .prepare_cached("SELECT * FROM problems WHERE problem_key = ?1")?
                .query_row([key], read_problem)
                .optional()
        })
    }

    /// All lasting problems, the oldest first.
    pub fn problems(&self) -> Result<Vec<Problem>, CatalogError> {
        self.read("list problems", |transaction| {
            rows(
                transaction,
                "SELECT * FROM problems ORDER BY since, problem_key",
                [],
                read_problem,
            )
        })
    }

    /// Changes a problem without telling anybody.
    pub fn change_problem(&self, problem: ProblemChange<'_>) -> Result<(), CatalogError> {
        self.write("record a problem", |transaction| change(transaction, problem))
    }
}
