//! Putting keys back: flushed first, then each by `RESTORE`, with the time at which it expires.

use super::rdb::{Key, RdbError, Tail, Visitor, crc, walk};
use super::{RedisError, Server, is_disposable};
use crate::access::Finished;
use std::io::{self, BufWriter, Read, Write};

/// What `redis-cli` says at its end is short.
const MOST_ANSWER: u64 = 1024 * 1024;
/// Bytes that are written at once.
const WRITE_BYTES: usize = 256 * 1024;

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Keys that are back.
    pub keys: u64,
    /// Keys that are caches and stay away.
    pub left_out: u64,
}

impl Server {
    /// Remove all keys: of all databases, or of the one that is the instance's.
    pub fn flush(&self) -> Result<(), RedisError> {
        if let Some(database) = self.own_database() {
            let database = database.to_string();
            let answer = self.ask(&["-n", &database, "FLUSHDB"])?;
            if answer.trim() != "OK" {
                return Err(self.refused("FLUSHDB", &answer));
            }
            let left = self.ask(&["-n", &database, "DBSIZE"])?;
            return match left.trim() {
                "0" => Ok(()),
                left => Err(RedisError::NotFlushed { server: self.told(), left: left.to_owned() }),
            };
        }
        let answer = self.ask(&["FLUSHALL"])?;
        if answer.trim() != "OK" {
            return Err(self.refused("FLUSHALL", &answer));
        }
        let left = self.ask(&["INFO", "keyspace"])?;
        let mut lines = left.lines().map(str::trim).filter(|line| !line.is_empty());
        if lines.next() != Some("# Keyspace") {
            return Err(self.refused("INFO", &left));
        }
        match lines.collect::<Vec<_>>() {
            none if none.is_empty() => Ok(()),
            left => Err(RedisError::NotFlushed { server: self.told(), left: left.join("; ") }),
        }
    }

    /// Load the keys of an RDB file that are more than a cache; one of the same name is replaced. Functions and scripts are not
    /// loaded.
    pub fn load(&self, rdb: impl Read, disposable: &[String]) -> Result<Loaded, RedisError> {
        let mut running = self.access.start(&self.client().argument("--pipe"), true)?;
        let mut loading = Loading {
            output: BufWriter::with_capacity(WRITE_BYTES, running.stdin()),
            disposable,
            only: self.own_database(),
            version: 0,
            database: 0,
            commands: 0,
            loaded: Loaded::default(),
        };
        let mut stdout = running.stdout().take(MOST_ANSWER);
        let (walked, answer) = std::thread::scope(|scope| {
            let answer = scope.spawn(move || {
                let mut answer = Vec::new();
                // What it did not say is missed below.
                let _ = stdout.read_to_end(&mut answer);
                String::from_utf8_lossy(&answer).into_owned()
            });
            let walked = walk(rdb, Tail::None, &mut loading);
            let walked = walked.and_then(|_| loading.output.flush().map_err(RdbError::Visitor));
            let Loading { output, commands, loaded, .. } = loading;
            // Whatever is still held is not to be written where that failed.
            drop(output.into_parts());
            (walked.map(|()| (commands, loaded)), answer.join().unwrap_or_default())
        });
        let finished = running.finish();
        let not_loaded = |said: String| RedisError::NotLoaded { server: self.told(), said };
        match (walked, finished) {
            (Ok((commands, loaded)), Ok(Finished { said })) => {
                let end = format!("errors: 0, replies: {commands}");
                let is_whole = said.is_empty() && answer.lines().any(|line| line.trim() == end);
                if is_whole { Ok(loaded) } else { Err(not_loaded(format!("{answer} {said}"))) }
            }
            // Why it took no more, it knows better.
            (Err(RdbError::Visitor(_)) | Ok(_), Err(error)) => Err(error.into()),
            (Err(RdbError::Visitor(error)), Ok(_)) => Err(not_loaded(error.to_string())),
            (Err(error), _) => Err(RedisError::Source(error)),
        }
    }
}

/// Writes commands as the protocol has them: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.
struct Loading<'a, W: Write> {
    output: BufWriter<W>,
    disposable: &'a [String],
    /// The only database whose keys are loaded; none is all.
    only: Option<u64>,
    version: u32,
    database: u64,
    commands: u64,
    loaded: Loaded,
}

impl<W: Write> Loading<'_, W> {
    fn command(&mut self, words: &[&[u8]]) -> io::Result<()> {
        self.commands += 1;
        write!(self.output, "*{}\r\n", words.len())?;
        for word in words {
            write!(self.output, "${}\r\n", word.len())?;
            self.output.write_all(word)?;
            self.output.write_all(b"\r\n")?;
        }
        Ok(())
    }
}

impl<W: Write> Visitor for Loading<'_, W> {
    fn version(&mut self, version: u32) {
        self.version = version;
    }

    fn bytes(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn wants(&mut self, key: &Key) -> bool {
        let is_own = self.only.is_none_or(|only| only == key.database);
        let is_wanted = is_own && !is_disposable(&key.name, self.disposable);
        self.loaded.left_out += u64::from(!is_wanted);
        is_wanted
    }

    fn value(&mut self, key: &Key, value: &[u8]) -> io::Result<()> {
        if self.database != key.database {
            self.command(&[b"SELECT", key.database.to_string().as_bytes()])?;
            self.database = key.database;
        }
        let mut payload = Vec::with_capacity(value.len() + 11);
        payload.push(key.kind);
        payload.extend(value);
        payload.extend((self.version as u16).to_le_bytes());
        payload.extend(crc::update(0, &payload).to_le_bytes());
        let expires = key.expires_ms.unwrap_or(0).to_string();
        self.command(&[
            b"RESTORE",
            &key.name,
            expires.as_bytes(),
            &payload,
            b"REPLACE",
            b"ABSTTL",
        ])?;
        self.loaded.keys += 1;
        Ok(())
    }
}
