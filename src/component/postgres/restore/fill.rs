//! Filling a fresh database from its archive, which comes as a stream.

use super::{PlannedDatabase, Restore};
use crate::access::{AccessError, Finished, Stopper};
use crate::component::postgres::PostgresError;
use crate::component::postgres::archive::Block;
use crate::component::postgres::dump::warnings_of;
use std::io::{self, Read, Write as _};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Puts the archive, which comes as its input, into a file where there is room, as several connections need one to go by. The file has no
/// name while it is used, so that nothing is left of it whichever way this ends. Without room one connection restores it while it comes.
const SPOOL: &str = r#"set -u
kib=$1
jobs=$2
shift 2
for directory in "${TMPDIR:-}" /var/tmp /tmp; do
  [ -d "$directory" ] && [ -w "$directory" ] || continue
  free=$(df -Pk "$directory" 2>/dev/null | awk 'NR == 2 { print $4 }')
  [ "${free:-0}" -gt "$kib" ] 2>/dev/null || continue
  file=$(mktemp "$directory/belay-archive.XXXXXXXXXX" 2>/dev/null) || continue
  exec 3<> "$file"
  rm -f "$file"
  [ -r /proc/self/fd/3 ] || continue
  cat >&3 || exit 1
  exec "$@" -j "$jobs" /proc/self/fd/3 </dev/null
done
exec "$@""#;
/// What has to stay free beside the file.
const SPARE_BYTES: usize = 64 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
/// Nothing is read or said while indexes are built.
const SILENCE: Duration = Duration::from_hours(24);
/// The longest line of `pg_restore` that is told.
const MOST_OF_LINE: usize = 500;
/// From 17 on, `pg_restore` sets this, which older servers do not know. No other error is passed over.
const NEW_SETTING: &str = "transaction_timeout";

/// What a row is refused by where a check reads another table that is not filled yet. PostgreSQL advises against such checks, and dumps of them
/// come back in their own order only.
const CHECKED: &str = "violates check constraint";

/// Those who fill one database at once: where one fails, none of the others is worth waiting for.
#[derive(Default)]
pub(super) struct Together(Mutex<Members>);

#[derive(Default)]
struct Members {
    is_over: bool,
    all: Vec<Stopper>,
}

impl Together {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.members().is_over
    }

    fn join(&self, stopper: Stopper) {
        let mut members = self.members();
        if members.is_over {
            stopper.stop();
        }
        members.all.push(stopper);
    }

    /// End all who joined, and whoever will.
    pub(super) fn end(&self) {
        let mut members = self.members();
        members.is_over = true;
        members.all.iter().for_each(Stopper::stop);
    }
}

/// Where an archive is read from.
pub trait StoredArchive: Sync {
    /// All of it.
    fn whole(&self) -> Box<dyn Read + Send>;
    /// These ranges of its bytes, which rise, one after the other.
    fn ranges(&self, ranges: &[Range<u64>]) -> io::Result<Box<dyn Read + Send>>;
}

impl Restore<'_> {
    /// Put an archive into the fresh database, with owners, privileges and comments: over several connections, where its size and its blocks of
    /// data are given, and over one where a check asks for their order. `progress` is told how many bytes went in. What `pg_restore` warned of
    /// is returned.
    pub fn fill(
        &self,
        planned: &PlannedDatabase,
        archive: &dyn StoredArchive,
        blocks: Option<(u64, &[Block])>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<String>, PostgresError> {
        let mut warnings = Vec::new();
        if let Some(division) = blocks.and_then(|known| self.divide(known)) {
            match self.fill_in_shares(planned, archive, &division, progress) {
                Err(PostgresError::Refused { said, .. }) if said.contains(CHECKED) => {
                    warnings.push(format!(
                        "it comes back over one connection, in the order of its dump, as over several a check failed: {said}"
                    ));
                    let mut session = self.server()?;
                    self.make_fresh(&mut session, planned)?;
                    session.close()?;
                }
                filled => return filled,
            }
        }
        let mut bytes = 0;
        let archive = &mut archive.whole();
        warnings.extend(self.give(planned, &Together::default(), None, archive, &mut |more| {
            bytes += more;
            progress(bytes);
        })?);
        Ok(warnings)
    }

    /// Whether `pg_restore` sets what the server does not know: each of its sessions complains of that.
    pub(super) fn sets_too_much(&self) -> bool {
        self.connection.tools.major >= 17 && self.connection.server.major() < 17
    }

    /// Give an archive to `pg_restore`: one of so many bytes, which comes without data, to so many connections. `told` hears of more bytes that
    /// went in.
    pub(super) fn give(
        &self,
        planned: &PlannedDatabase,
        together: &Together,
        connections: Option<(usize, usize)>,
        archive: &mut dyn Read,
        told: &mut dyn FnMut(u64),
    ) -> Result<Vec<String>, PostgresError> {
        let connection = self.connection;
        let sets_too_much = self.sets_too_much();
        let program = connection.tools.path("pg_restore");
        let client = |program| connection.client(program, &planned.fresh, &planned.facts.encoding);
        let command = match connections {
            Some((bytes, jobs)) => {
                let (kib, jobs) = (((bytes + SPARE_BYTES) / 1024).to_string(), jobs.to_string());
                client("sh").arguments(["-c", SPOOL, "belay", &kib, &jobs, &program])
            }
            None => client(&program),
        };
        // The name is our own, and plain.
        let mut command =
            command.arguments(["--no-password", "-d", &planned.fresh]).silence(SILENCE);
        if !sets_too_much {
            command = command.argument("--exit-on-error");
        }
        if self.plan.without_tablespaces {
            command = command.argument("--no-tablespaces");
        }
        let name = &planned.facts.name;
        let mut running = connection.access.start(&command, true)?;
        together.join(running.stopper());
        let mut input = running.stdin();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let count = match archive.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => {
                    return Err(PostgresError::Source { database: name.clone(), source });
                }
            };
            if input.write_all(&buffer[..count]).is_err() {
                // Its end tells why it takes no more.
                break;
            }
            told(count as u64);
        }
        drop(input);
        let finished = running.finish();
        if together.is_over() {
            // Another has failed, and tells why.
            return Ok(Vec::new());
        }
        let said = judge(finished, sets_too_much, name)?;
        let warnings = warnings_of("pg_restore", name, &said)?;
        // The archive is believed only when all of it could be read.
        io::copy(archive, &mut io::sink())
            .map_err(|source| PostgresError::Source { database: name.clone(), source })?;
        Ok(warnings)
    }
}

/// What it said, where it ended well, or did not only because of the setting.
fn judge(
    finished: Result<Finished, AccessError>,
    sets_too_much: bool,
    database: &str,
) -> Result<String, PostgresError> {
    match finished {
        Ok(finished) => Ok(finished.said),
        Err(AccessError::Failed { said, program, via, ending }) => {
            if said.is_empty() {
                return Err(AccessError::Failed { said, program, via, ending }.into());
            }
            if sets_too_much && only_the_setting(&said) {
                return Ok(String::new());
            }
            Err(PostgresError::Refused { database: database.to_owned(), said: told(&said) })
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether each of its errors is the one that an old server makes of a new setting.
fn only_the_setting(said: &str) -> bool {
    let is_of_it = |line: &str| line.contains(NEW_SETTING);
    let mut errors = said.lines().filter(|line| line.starts_with("pg_restore: error:")).peekable();
    errors.peek().is_some()
        && errors.all(is_of_it)
        && said.lines().any(|line| line == "pg_restore: warning: errors ignored on restore: 1")
}

/// Which object it was about, and the error: not the statement, which may hold passwords, and not the rows.
fn told(said: &str) -> String {
    let lines = || said.lines().map(|line| line.strip_prefix("pg_restore: ").unwrap_or(line));
    let error = lines().find(|line| line.starts_with("error:")).or_else(|| lines().next());
    let object = lines().find_map(|line| line.strip_prefix("from TOC entry "));
    // `215; 1259 16388 TABLE public t owner`
    let object = object.and_then(|entry| entry.splitn(4, ' ').nth(3));
    let error: String = error.unwrap_or_default().chars().take(MOST_OF_LINE).collect();
    let error = error.trim_start_matches("error: ");
    match object {
        Some(object) => format!("{object}: {error}"),
        None => error.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands for `pg_restore` says its arguments, and what it can read.
    fn spooled(kib: &str, directory: &std::path::Path) -> String {
        let stands_in =
            r#"for last; do :; done; [ "$last" = x ] && last=/dev/stdin; echo "$@"; cat "$last""#;
        let mut child = std::process::Command::new("sh")
            .args(["-c", SPOOL, "belay", kib, "3", "sh", "-c", stands_in, "belay", "x"])
            .env("TMPDIR", directory)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(b"an archive").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn an_archive_is_spooled_where_there_is_room_and_nothing_is_left_of_it() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(spooled("1", directory.path()), "x -j 3 /proc/self/fd/3\nan archive");
        assert_eq!(spooled("999999999999999", directory.path()), "x\nan archive", "no room");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_the_one_setting_of_newer_programs_is_passed_over() {
        let of_it = "pg_restore: while INITIALIZING:\npg_restore: error: could not execute query: ERROR:  unrecognized configuration parameter \"transaction_timeout\"\nCommand was: SET transaction_timeout = 0;\n\n";
        let end = "pg_restore: warning: errors ignored on restore: 1";
        assert!(only_the_setting(&format!("{of_it}{end}")));
        assert!(!only_the_setting(of_it), "it broke off");
        let other = "pg_restore: error: could not execute query: ERROR:  no\n";
        assert!(!only_the_setting(&format!("{of_it}{other}{end}")));
        assert!(!only_the_setting(&format!("{other}{end}")));
        assert!(!only_the_setting(end));
    }

    #[test]
    fn neither_statements_nor_rows_are_told() {
        let said = "pg_restore: while PROCESSING TOC:\npg_restore: from TOC entry 215; 1259 16388 TABLE public t owner\npg_restore: error: could not execute query: ERROR:  role \"x\" does not exist\nCommand was: CREATE USER MAPPING … OPTIONS (password 'secret');\nDETAIL:  Key (email)=(a@b)\n";
        let told = told(said);
        assert_eq!(
            told,
            "TABLE public t owner: could not execute query: ERROR:  role \"x\" does not exist"
        );
    }
}
