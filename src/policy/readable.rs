//! Whether a server can read the files of an app, by the versions of both: what was pulled by a server too old for it is broken there.

use crate::model::apps::Schema;
use crate::model::version::Version;
use serde::Serialize;

/// Whether a server can read the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Readability {
    /// It can.
    Readable,
    /// It cannot.
    NotReadable {
        /// A sentence: both versions, and what to do.
        reason: String,
    },
    /// Nobody can say.
    Unknown {
        /// A sentence: what is missing, and what to do.
        reason: String,
    },
}

/// The newest numbers of Appsmith's files that are known here.
const KNOWN_FILE_FORMAT: u32 = 5;
const KNOWN_CLIENT_SCHEMA: u32 = 2;
const KNOWN_SERVER_SCHEMA: u32 = 13;
/// Since this release Appsmith's server reads the newest server schema that is known; those before it read less (appsmith #42322).
const READS_13: &str = "v2.5.0";
const OLDER_READ_LESS_THAN: u32 = 13;
/// Releases since this one read 12, which came during 2025 (appsmith #40646); which of those before it do is not recorded.
const READS_12: &str = "v2.0.0";

/// Whether a server of version `reader` can read files of version `schema`, which a server of version `writer` wrote. None of them
/// is a version that is not known.
///
/// A server that is as new as the writer, or newer, can always read its files. For Appsmith the server schema decides otherwise,
/// for `ToolJet` the first two numbers of the version: releases that differ in the last one only read each other's files.
pub fn readable(
    schema: Option<&Schema>,
    reader: Option<&Version>,
    writer: Option<&Version>,
) -> Readability {
    let Some(schema) = schema else {
        return unknown(
            "the files do not say which version wrote them",
            "compare the versions of both servers",
        );
    };
    let Some(reader) = reader else {
        let what =
            format!("the files are of {schema}, but which version the server runs is not known");
        return unknown(&what, "take a snapshot of the instance, which asks for it");
    };
    match schema {
        Schema::Appsmith { file_format, client, server } => {
            appsmith([*file_format, *client, *server], reader, writer)
        }
        Schema::Tooljet { version } => tooljet(version, reader),
    }
}

fn appsmith(
    [file_format, client, server]: [Option<u32>; 3],
    reader: &Version,
    writer: Option<&Version>,
) -> Readability {
    let since = |version: &str| version.parse::<Version>().expect("a version");
    let Some(server) = server else {
        return unknown(
            "metadata.json has no serverSchemaVersion",
            "compare the versions of both servers",
        );
    };
    if server >= OLDER_READ_LESS_THAN && *reader < since(READS_13) {
        return Readability::NotReadable {
            reason: format!(
                "the files are of server schema {server}, and Appsmith {reader} reads {} at most: upgrade it to {READS_13} or newer \
                 before it pulls",
                OLDER_READ_LESS_THAN - 1
            ),
        };
    }
    // What wrote them reads them.
    if writer.is_some_and(|writer| reader >= writer) {
        return Readability::Readable;
    }
    let newer = [
        ("server schema", Some(server), KNOWN_SERVER_SCHEMA),
        ("client schema", client, KNOWN_CLIENT_SCHEMA),
        ("file format", file_format, KNOWN_FILE_FORMAT),
    ];
    if let Some((name, Some(number), known)) =
        newer.into_iter().find(|(_, number, known)| *number > Some(*known))
    {
        let wrote = match writer {
            Some(writer) => format!("Appsmith {reader} is older than {writer}, which wrote them"),
            None => "which version wrote them is not known".to_owned(),
        };
        let what = format!(
            "the files are of {name} {number}, newer than {known}, the newest that is known here, and {wrote}"
        );
        return unknown(&what, "upgrade the server to the version that wrote them before it pulls");
    }
    if server < OLDER_READ_LESS_THAN - 1 || *reader >= since(READS_12) {
        return Readability::Readable;
    }
    let what = format!(
        "the files are of server schema {server}, and whether Appsmith {reader} reads that is not known here"
    );
    unknown(&what, "upgrade the server to the version that wrote them before it pulls")
}

fn tooljet(written: &str, reader: &Version) -> Readability {
    let Ok(version) = written.parse::<Version>() else {
        let what = format!(
            "the files say that ToolJet '{}' wrote them, which is no version",
            written.escape_debug()
        );
        return unknown(&what, "compare the versions of both servers");
    };
    if version.line() <= reader.line() {
        return Readability::Readable;
    }
    let (major, minor) = version.line();
    Readability::NotReadable {
        reason: format!(
            "the files were written by ToolJet {version}, and the server runs {reader}: upgrade it to {major}.{minor} or newer before \
             it pulls"
        ),
    }
}

fn unknown(what: &str, advice: &str) -> Readability {
    Readability::Unknown { reason: format!("{what}: {advice}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Option<&str> = None;

    fn appsmith(server: u32) -> Schema {
        Schema::Appsmith { file_format: Some(5), client: Some(2), server: Some(server) }
    }

    fn tooljet(version: &str) -> Schema {
        Schema::Tooljet { version: version.to_owned() }
    }

    fn verdict(schema: &Schema, reader: Option<&str>, writer: Option<&str>) -> Readability {
        let version = |text: Option<&str>| text.map(|text| text.parse::<Version>().unwrap());
        readable(Some(schema), version(reader).as_ref(), version(writer).as_ref())
    }

    fn word(verdict: &Readability) -> &'static str {
        match verdict {
            Readability::Readable => "readable",
            Readability::NotReadable { .. } => "not readable",
            Readability::Unknown { .. } => "unknown",
        }
    }

    #[test]
    fn appsmith_is_judged_by_the_server_schema() {
        for (server, reader, writer, expected) in [
            (13, Some("v2.4.3"), Some("v2.5.0"), "not readable"),
            (13, Some("v2.4.3"), NONE, "not readable"),
            // It cannot have written them, whatever is said.
            (13, Some("v2.4.3"), Some("v2.4.3"), "not readable"),
            (13, Some("v1.9.2"), NONE, "not readable"),
            (13, Some("v2.5.0"), NONE, "readable"),
            (13, Some("v2.5.0"), Some("v2.7.1"), "readable"),
            (13, Some("v2.7.1-ee"), Some("v2.5.0"), "readable"),
            (12, Some("v2.4.3"), Some("v2.4.3"), "readable"),
            (12, Some("v2.0.0"), Some("v2.4.9"), "readable"),
            (12, Some("v2.7.1"), NONE, "readable"),
            (12, Some("v1.80"), NONE, "unknown"),
            (12, Some("v1.80"), Some("v1.98"), "unknown"),
            (12, Some("v1.98"), Some("v1.98"), "readable"),
            (11, Some("v1.80"), NONE, "readable"),
            (13, NONE, Some("v2.5.0"), "unknown"),
            (14, Some("v2.4.3"), NONE, "not readable"),
            (14, Some("v2.5.0"), NONE, "unknown"),
            (14, Some("v2.8.0"), Some("v2.9.0"), "unknown"),
            (14, Some("v2.9.0"), Some("v2.9.0"), "readable"),
            (u32::MAX, Some("v2.9.0"), NONE, "unknown"),
        ] {
            let verdict = verdict(&appsmith(server), reader, writer);
            assert_eq!(word(&verdict), expected, "{server}, {reader:?}, {writer:?}: {verdict:?}");
        }
    }

    #[test]
    fn newer_numbers_of_other_kinds_are_not_passed_over() {
        for (file_format, client) in [(6, 2), (5, 3)] {
            let schema = Schema::Appsmith {
                file_format: Some(file_format),
                client: Some(client),
                server: Some(13),
            };
            assert_eq!(word(&verdict(&schema, Some("v2.7.1"), NONE)), "unknown");
            assert_eq!(word(&verdict(&schema, Some("v2.9.0"), Some("v2.9.0"))), "readable");
        }
        let silent = Schema::Appsmith { file_format: Some(5), client: None, server: None };
        assert_eq!(word(&verdict(&silent, Some("v2.7.1"), Some("v2.7.1"))), "unknown");
    }

    #[test]
    fn tooljet_is_judged_by_the_line_of_its_version() {
        for (written, reader, expected) in [
            ("3.20.40", "3.16.0-LTS", "not readable"),
            ("3.20.40", "2.99.0", "not readable"),
            ("3.20.40", "3.20.1", "readable"),
            ("3.16.0", "3.20.40-lts", "readable"),
            ("2.50.0", "3.0.0", "readable"),
            ("nightly", "3.0.0", "unknown"),
        ] {
            assert_eq!(
                word(&verdict(&tooljet(written), Some(reader), NONE)),
                expected,
                "{written} by {reader}"
            );
        }
        assert_eq!(word(&readable(None, Some(&"3.0.0".parse().unwrap()), None)), "unknown");
    }

    #[test]
    fn reasons_have_both_numbers_and_what_to_do() {
        let reason = |verdict| match verdict {
            Readability::NotReadable { reason } | Readability::Unknown { reason } => reason,
            Readability::Readable => panic!("it is readable"),
        };
        assert_eq!(
            reason(verdict(&appsmith(13), Some("v2.4.3"), NONE)),
            "the files are of server schema 13, and Appsmith v2.4.3 reads 12 at most: upgrade it to v2.5.0 or newer before it pulls"
        );
        assert_eq!(
            reason(verdict(&appsmith(14), Some("v2.8.0"), Some("v2.9.0"))),
            "the files are of server schema 14, newer than 13, the newest that is known here, and Appsmith v2.8.0 is older than \
             v2.9.0, which wrote them: upgrade the server to the version that wrote them before it pulls"
        );
        assert_eq!(
            reason(verdict(&tooljet("3.20.40"), Some("3.16.0-LTS"), NONE)),
            "the files were written by ToolJet 3.20.40, and the server runs 3.16.0-LTS: upgrade it to 3.20 or newer before it pulls"
        );
        assert_eq!(
            reason(verdict(&tooljet("3.20.40"), NONE, NONE)),
            "the files are of ToolJet 3.20.40, but which version the server runs is not known: take a snapshot of the instance, \
             which asks for it"
        );
    }

    #[test]
    fn programs_read_the_verdict_by_its_name() {
        let json = |verdict| serde_json::to_string(&verdict).unwrap();
        assert_eq!(json(Readability::Readable), r#"{"verdict":"readable"}"#);
        let not = Readability::NotReadable { reason: "x".to_owned() };
        assert_eq!(json(not), r#"{"verdict":"not_readable","reason":"x"}"#);
    }
}
