//! Reading a server: all its databases, validated while they stream by.

use super::rdb::{Key, RdbError, Summary, Tail, Visitor, walk};
use super::{RedisError, Server, is_disposable};
use crate::access::Finished;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// A server that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The version of the file's format, and the keys of each database.
    pub summary: Summary,
    /// How many keys are more than a cache.
    pub lasting: u64,
}

/// What the manifest says of a server besides counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisDetails {
    /// The server's version.
    pub server_version: String,
    /// The version of the file's format.
    pub rdb_version: u32,
    /// Keys by the number of their database.
    pub databases: BTreeMap<u64, u64>,
    /// How many keys are more than a cache: where there are some, a restore loads them.
    pub lasting: u64,
}

impl RedisDetails {
    /// Of a server that was read.
    pub fn of(server: &Server, dumped: &Dumped) -> Self {
        Self {
            server_version: server.version.clone(),
            rdb_version: dumped.summary.version,
            databases: dumped.summary.databases.clone(),
            lasting: dumped.lasting,
        }
    }
}

/// Hands on the bytes, and counts what must not be lost.
struct Counting<'a> {
    sink: &'a mut dyn Write,
    disposable: &'a [String],
    lasting: u64,
    bytes: u64,
    progress: &'a mut dyn FnMut(u64),
}

impl Visitor for Counting<'_> {
    fn bytes(&mut self, part: &[u8]) -> io::Result<()> {
        self.sink.write_all(part)?;
        self.bytes += part.len() as u64;
        (self.progress)(self.bytes);
        Ok(())
    }

    fn wants(&mut self, key: &Key) -> bool {
        self.lasting += u64::from(!is_disposable(&key.name, self.disposable));
        false
    }

    fn value(&mut self, _: &Key, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Read all databases of a server to their end, into `sink`. Keys whose names begin with one of `disposable` are caches.
/// `progress` is told bytes so far.
pub fn dump(
    server: &Server,
    disposable: &[String],
    sink: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> Result<Dumped, RedisError> {
    let command = server.client().arguments(["--rdb", "-"]);
    let mut running = server.access.start(&command, false)?;
    let mut counting = Counting { sink, disposable, lasting: 0, bytes: 0, progress };
    let walked = walk(running.stdout().buffered(), Tail::Marker, &mut counting);
    let lasting = counting.lasting;
    match walked {
        // Its own failure comes from the pipe that closed on it.
        Err(RdbError::Visitor(source)) => Err(RedisError::Sink(source)),
        Err(source @ RdbError::Damaged { .. }) => {
            Err(RedisError::Invalid { source, said: String::new() })
        }
        Err(source) => {
            let Finished { said } = running.finish()?;
            Err(RedisError::Invalid { source, said })
        }
        Ok(summary) => {
            let Finished { said } = running.finish()?;
            if is_good(&said) {
                Ok(Dumped { summary, lasting })
            } else {
                Err(RedisError::Complained { said })
            }
        }
    }
}

/// Whether `redis-cli` told of a transfer that went well, and of nothing else.
fn is_good(said: &str) -> bool {
    let has_finished = said.lines().any(|line| line.starts_with("Transfer finished with success"));
    let is_harmless = |line: &str| {
        // A server older than the program does not know what it asks for first.
        let is_older =
            line.starts_with("REPLCONF ") && line.contains("Unrecognized REPLCONF option");
        is_older
            || line.is_empty()
            || [
                "sending REPLCONF ",
                "SYNC sent to master, writing ",
                "Transfer finished with success",
            ]
            .iter()
            .any(|word| line.starts_with(word))
    };
    has_finished && said.lines().all(is_harmless)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_transfer_that_went_well_is_good() {
        let said = "sending REPLCONF capa eof\nsending REPLCONF rdb-only 1\n\
                    SYNC sent to master, writing bytes of bulk transfer until EOF marker to '-'\n\
                    Transfer finished with success after 182 bytes\n";
        assert!(is_good(said));
        assert!(is_good(
            "SYNC sent to master, writing 175 bytes to '-'\nTransfer finished with success.\n"
        ));
        assert!(is_good(&format!(
            "REPLCONF rdb-only error: ERR Unrecognized REPLCONF option: rdb-only\n{said}"
        )));
        for bad in ["", "sending REPLCONF capa eof\n", &format!("{said}I/O error\n")] {
            assert!(!is_good(bad), "{bad}");
        }
    }
}
