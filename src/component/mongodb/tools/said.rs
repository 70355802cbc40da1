//! What MongoDB's own programs say on their standard error.

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

/// What `mongorestore` said that counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreSaid {
    /// How many documents it says it has written, and how many it could not.
    pub documents: Option<(u64, u64)>,
    /// What sounds like a failure.
    pub complaints: Vec<String>,
}

impl DumpSaid {
    /// Out of what it said on its standard error.
    pub fn parse(said: &str) -> Self {
        let mut found = Self::default();
        for message in messages(said) {
            if let Some(written) = written(message) {
                found.written.push(written);
            } else if sounds_bad(message) {
                found.complaints.push(message.to_owned());
            } else if !is_usual(message) {
                found.others.push(message.to_owned());
            }
        }
        found
    }
}

impl RestoreSaid {
    /// Out of what it said on its standard error.
    pub fn parse(said: &str) -> Self {
        let mut found = Self::default();
        for message in messages(said) {
            if let Some(documents) = restored(message) {
                found.documents = Some(documents);
            } else if sounds_bad(message) && !is_of_restoring(message) {
                found.complaints.push(message.to_owned());
            }
        }
        found
    }
}

/// The lines, each without its time: `2026-11-01T02:30:00.000+0000<tab>done dumping appsmith.user (40 documents)`.
fn messages(said: &str) -> impl Iterator<Item = &str> {
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split_once('\t').map_or(line, |(_, message)| message))
}

fn sounds_bad(message: &str) -> bool {
    let lower = message.to_ascii_lowercase();
    ["error", "fail", "panic", "cannot"].iter().any(|word| lower.contains(word))
}

fn written(message: &str) -> Option<(String, u64)> {
    let rest = message.strip_prefix("done dumping ")?;
    let (name, count) = rest.rsplit_once(" (")?;
    let count = count.split(' ').next()?.parse().ok()?;
    Some((name.trim_matches('`').to_owned(), count))
}

fn restored(message: &str) -> Option<(u64, u64)> {
    let (restored, rest) = message.split_once(" document(s) restored successfully. ")?;
    let (failed, _) = rest.split_once(" document(s) failed to restore")?;
    Some((restored.parse().ok()?, failed.parse().ok()?))
}

/// That a collection is done, `finished restoring a.b (40 documents, 0 failures)`, or what an index is like, whose name can be
/// anything: both are compared over the wire.
fn is_of_restoring(message: &str) -> bool {
    message.starts_with("finished restoring ") || message.starts_with("index: ")
}

/// That it writes, and how far it is: `[####....]  appsmith.user  40/80  (50.0%)`.
fn is_usual(message: &str) -> bool {
    message.starts_with("writing ") || message.starts_with('[') || message.starts_with("dumped ")
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn what_was_restored_is_told_from_complaints() {
        let said = "2026-11-01T02:30:00.000+0000\tpreparing collections to restore from\n\
                    2026-11-01T02:30:01.000+0000\tfinished restoring a.b (40 documents, 1 failure)\n\
                    2026-11-01T02:30:01.000+0000\tindex: &idx.IndexDocument{Options:{\"name\":\"error_1\"}}\n\
                    2026-11-01T02:30:02.000+0000\t40 document(s) restored successfully. 1 document(s) failed to restore.\n";
        let found = RestoreSaid::parse(said);
        assert_eq!((found.documents, found.complaints), (Some((40, 1)), Vec::new()));
        let found = RestoreSaid::parse("Failed: a.b: error\n40 document(s) restored\n");
        assert_eq!(found.documents, None);
        assert_eq!(found.complaints, ["Failed: a.b: error"]);
    }
}
