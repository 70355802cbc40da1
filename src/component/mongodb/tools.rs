//! MongoDB's own program `mongodump`, where the server lives: for servers that are not spoken to over the wire.

use super::MongoError;
use crate::access::{Access, Command, Running};
use zeroize::Zeroizing;

/// The variable that hands over its configuration.
const CONFIG: &str = "BELAY_MONGODUMP";
/// Becomes the program. The connection string comes out of a pipe: it is in no argument, and in no file that a kill would
/// leave behind.
const DUMP: &str = r#"c=$BELAY_MONGODUMP; unset BELAY_MONGODUMP
exec "$1" --config=/dev/fd/3 --db="$2" --archive 3<<END
$c
END"#;
/// The longest answer to the question for the version.
const MOST_BYTES: u64 = 64 * 1024;

/// Where `mongodump` is.
#[derive(Clone)]
pub struct Tools {
    /// The way to there.
    pub access: Access,
    /// Its directory; none where the path leads to it.
    pub directory: Option<String>,
}

/// What `mongodump` said besides what it always says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpSaid {
    /// How many documents of which collection it says it wrote.
    pub written: Vec<(String, u64)>,
    /// What sounds like a failure.
    pub complaints: Vec<String>,
    /// Everything else.
    pub others: Vec<String>,
}

impl Tools {
    fn program(&self) -> String {
        let directory = self.directory.as_ref().map(|directory| format!("{directory}/"));
        directory.unwrap_or_default() + "mongodump"
    }

    /// Its version, such as `100.18.0`.
    pub fn version(&self) -> Result<String, MongoError> {
        let command = Command::new(&self.program()).argument("--version");
        let told = self
            .access
            .run(&command, &[], MOST_BYTES)
            .map_err(|error| MongoError::Dump(Box::new(error)))?;
        let told = String::from_utf8_lossy(&told);
        let version = told.lines().find_map(|line| line.strip_prefix("mongodump version:"));
        let strange = || MongoError::Strange {
            action: "ask mongodump for its version".into(),
            reason: "there is none in its answer".into(),
        };
        Ok(version.ok_or_else(strange)?.trim().to_owned())
    }

    /// Start to dump a database as an archive on its output.
    pub fn dump(&self, url: &str, database: &str) -> Result<Running, MongoError> {
        if url.contains(['\n', '\r']) {
            let reason = "it holds a line break".into();
            return Err(MongoError::Address { reason });
        }
        // As YAML quotes a text.
        let config = Zeroizing::new(format!("uri: '{}'", url.replace('\'', "''")));
        let command = Command::shell(DUMP)
            .arguments([self.program().as_str(), database])
            .secret(CONFIG, &config);
        self.access.start(&command, false).map_err(|error| MongoError::Dump(Box::new(error)))
    }
}

/// The database that a connection string names.
pub fn database_in(url: &str) -> Option<String> {
    let rest = url.split_once("://")?.1;
    let rest = rest.split('?').next()?;
    // A password may hold a slash that should have been escaped, and no host does.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let name = rest.split_once('/')?.1;
    (!name.is_empty()).then(|| name.to_owned())
}

impl DumpSaid {
    /// Out of what it said on its standard error.
    pub fn parse(said: &str) -> Self {
        let mut found = Self::default();
        for line in said.lines().map(str::trim).filter(|line| !line.is_empty()) {
            // `2026-11-01T02:30:00.000+0000<tab>done dumping appsmith.user (40 documents)`
            let message = line.split_once('\t').map_or(line, |(_, message)| message);
            let lower = message.to_ascii_lowercase();
            if let Some(written) = written(message) {
                found.written.push(written);
            } else if ["error", "fail", "panic", "cannot"].iter().any(|word| lower.contains(word)) {
                found.complaints.push(message.to_owned());
            } else if !is_usual(message) {
                found.others.push(message.to_owned());
            }
        }
        found
    }
}

fn written(message: &str) -> Option<(String, u64)> {
    let rest = message.strip_prefix("done dumping ")?;
    let (name, count) = rest.rsplit_once(" (")?;
    let count = count.split(' ').next()?.parse().ok()?;
    Some((name.trim_matches('`').to_owned(), count))
}

/// That it writes, and how far it is: `[####....]  appsmith.user  40/80  (50.0%)`.
fn is_usual(message: &str) -> bool {
    message.starts_with("writing ") || message.starts_with('[') || message.starts_with("dumped ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_in_the_connection_string() {
        for (url, name) in [
            ("mongodb://u:p@h:27017/appsmith", Some("appsmith")),
            ("mongodb://u:p%2F@h,h2/appsmith?authSource=admin", Some("appsmith")),
            ("mongodb+srv://u:a/b@h/db?x=y@z/q", Some("db")),
            ("mongodb://h", None),
            ("mongodb://h/?a=b", None),
            ("h/db", None),
        ] {
            assert_eq!(database_in(url).as_deref(), name, "{url}");
        }
    }

    #[test]
    fn what_it_says_is_told_from_complaints() {
        let said = "2026-11-01T02:30:00.000+0000\twriting appsmith.user to archive on stdout\n\
                    2026-11-01T02:30:00.000+0000\t[####....]  appsmith.user  40/80  (50.0%)\n\
                    2026-11-01T02:30:01.000+0000\tdone dumping appsmith.user (40 documents)\n\
                    2026-11-01T02:30:01.000+0000\tdone dumping `appsmith.odd (1)` (1 document)\n\
                    WARNING: something is old\n\n\
                    2026-11-01T02:30:02.000+0000\tFailed: error writing data\n";
        let found = DumpSaid::parse(said);
        let written = [("appsmith.user", 40), ("appsmith.odd (1)", 1)];
        assert_eq!(found.written, written.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(found.complaints, ["Failed: error writing data"]);
        assert_eq!(found.others, ["WARNING: something is old"]);
    }
}
