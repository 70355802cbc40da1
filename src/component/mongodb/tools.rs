//! MongoDB's own programs `mongodump` and `mongorestore`, where the server lives.

mod fill;
mod said;

pub use fill::Filler;
pub use said::{DumpSaid, RestoreSaid};

use super::MongoError;
use super::wire::restore::{ASIDE, FRESH};
use crate::access::{Access, AccessError, Command, Running};
use std::time::Duration;
use zeroize::Zeroizing;

/// The variable that hands over their configuration.
const CONFIG: &str = "BELAY_MONGODB";
/// Becomes the program. The connection string comes out of a pipe: it is in no argument, and in no file that a kill would
/// leave behind.
const BECOME: &str = r#"c=$BELAY_MONGODB; unset BELAY_MONGODB
exec "$@" 3<<END
$c
END"#;
/// `mongorestore` makes all indexes after the last document, and says nothing meanwhile.
const INDEXES: Duration = Duration::from_hours(12);
/// The longest answer to the question for the version.
const MOST_BYTES: u64 = 64 * 1024;

/// Where they are.
#[derive(Clone)]
pub struct Tools {
    /// The way to there.
    pub access: Access,
    /// Their directory; none where the path leads to them.
    pub directory: Option<String>,
}

impl Tools {
    fn path(&self, program: &str) -> String {
        let directory = self.directory.as_ref().map(|directory| format!("{directory}/"));
        directory.unwrap_or_default() + program
    }

    /// The version of `mongodump`, such as `100.18.0`.
    pub fn dump_version(&self) -> Result<String, MongoError> {
        self.version("mongodump")
    }

    /// The version of `mongorestore`.
    pub fn restore_version(&self) -> Result<String, MongoError> {
        self.version("mongorestore")
    }

    fn version(&self, program: &str) -> Result<String, MongoError> {
        let command = Command::new(&self.path(program)).argument("--version");
        let told = self.access.run(&command, &[], MOST_BYTES).map_err(failed)?;
        let told = String::from_utf8_lossy(&told);
        let begins = format!("{program} version:");
        let version = told.lines().find_map(|line| line.strip_prefix(&begins));
        let strange = || MongoError::Strange {
            action: format!("ask {program} for its version"),
            reason: "there is none in its answer".into(),
        };
        Ok(version.ok_or_else(strange)?.trim().to_owned())
    }

    /// Start to dump a database as an archive on its output, without what restores are making or have set aside.
    pub fn dump(&self, url: &str, database: &str) -> Result<Running, MongoError> {
        let command = self.command("mongodump", url)?;
        let ours = [FRESH, ASIDE].map(|prefix| format!("--excludeCollectionsWithPrefix={prefix}"));
        let command = command.arguments([&format!("--db={database}"), "--archive"]).arguments(ours);
        self.access.start(&command, false).map_err(failed)
    }

    /// Start to take an archive on its input into a database, all of it or nothing that counts.
    fn restore(&self, url: &str, database: &str) -> Result<Running, MongoError> {
        let included = format!("--nsInclude={}.*", database.replace('*', r"\*"));
        let command = self.command("mongorestore", url)?.silence(INDEXES);
        let command = command.arguments([&included, "--archive", "--stopOnError"]);
        // As over the wire: what a collection holds is older than what it asks of new documents.
        let command = command.arguments(["--maintainInsertionOrder", "--bypassDocumentValidation"]);
        self.access.start(&command, true).map_err(failed)
    }

    fn command(&self, program: &str, url: &str) -> Result<Command, MongoError> {
        if url.contains(['\n', '\r']) {
            let reason = "it holds a line break".into();
            return Err(MongoError::Address { reason });
        }
        // As YAML quotes a text.
        let config = Zeroizing::new(format!("uri: '{}'", url.replace('\'', "''")));
        let command = Command::shell(BECOME).argument(self.path(program));
        Ok(command.argument("--config=/dev/fd/3").secret(CONFIG, &config))
    }
}

fn failed(error: AccessError) -> MongoError {
    MongoError::Program(Box::new(error))
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
}
