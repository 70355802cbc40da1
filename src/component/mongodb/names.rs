//! The names of files and folders in which `mongodump` keeps databases, and the way back from them.
//!
//! `DATABASE/COLLECTION.bson` and `DATABASE/COLLECTION.metadata.json`. A collection's name is escaped as Go's
//! `url.QueryEscape` does; where that is longer than a file's name may be, it is cut off and a sum of the whole name
//! follows. A database's name needs no escape: the server allows no character that would.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha1::{Digest, Sha1};
use std::fmt::Write as _;

/// What the oplog's file is called, at the top.
pub const OPLOG_FILE: &str = "oplog.bson";

/// The longest escaped name: with `.metadata.json.gz` it has the 255 bytes of a file's name.
const MAX_ESCAPED_BYTES: usize = 238;
/// As much of a longer one is kept before [`SUM_MARK`] and the sum.
const KEPT_BYTES: usize = 208;
/// An escaped `$`, which no collection's name may hold.
const SUM_MARK: &str = "%24";
/// The server allows no longer name of a database.
const MAX_DATABASE_BYTES: usize = 63;
/// The longest name of a collection with its database's.
const MAX_NAMESPACE_BYTES: usize = 255;
/// Users and roles of one database, which `mongodump` writes into its folder with names that it does not escape.
const AUTH: [&str; 3] = ["$admin.system.users", "$admin.system.roles", "$admin.system.version"];

/// Why a name is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No server has a database of that name.
    #[error("it is no name of a database")]
    Database,
    /// No server has a collection of that name.
    #[error("it is no name of a collection")]
    Collection,
    /// A file's name is not what an escape leaves.
    #[error("the name of its file is not one that mongodump writes")]
    Escape,
    /// A file's name is cut off, and the collection's name is not known otherwise.
    #[error("the name of its file is cut off, and its metadata do not tell the collection's name")]
    CutOff,
    /// The metadata tell a name that belongs to another file.
    #[error("its metadata belong to another collection")]
    Other,
}

/// Whether a database may have this name: it is a folder's name too, and never leaves the folder that it lies in.
pub fn check_database(name: &str) -> Result<(), NameError> {
    let forbidden = ['/', '\\', '.', ' ', '"', '$', '\0'];
    if name.is_empty() || name.len() > MAX_DATABASE_BYTES || name.contains(forbidden) {
        return Err(NameError::Database);
    }
    Ok(())
}

/// Whether a collection may have this name.
pub fn check_collection(name: &str) -> Result<(), NameError> {
    if name.is_empty() || name.len() > MAX_NAMESPACE_BYTES || name.contains('\0') {
        return Err(NameError::Collection);
    }
    Ok(())
}

/// Whether it holds users or roles of the database in whose folder it lies; there are no metadata of it.
pub fn is_auth(collection: &str) -> bool {
    AUTH.contains(&collection)
}

/// The path of a collection's documents.
pub fn documents_path(database: &str, collection: &str) -> String {
    format!("{database}/{}.bson", file_stem(collection))
}

/// The path of a collection's or view's metadata.
pub fn metadata_path(database: &str, collection: &str) -> String {
    format!("{database}/{}.metadata.json", file_stem(collection))
}

/// The path of the versions of the server and of the program that wrote a database's folder.
pub fn prelude_path(database: &str) -> String {
    format!("{database}/prelude.json")
}

/// The part of a collection's files' names that comes before `.bson` and `.metadata.json`.
pub fn file_stem(collection: &str) -> String {
    if is_auth(collection) {
        return collection.to_owned();
    }
    let mut escaped = String::with_capacity(collection.len());
    for byte in collection.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(char::from(byte));
            }
            b' ' => escaped.push('+'),
            _ => write!(escaped, "%{byte:02X}").expect("a String takes everything"),
        }
    }
    if escaped.len() > MAX_ESCAPED_BYTES {
        escaped.truncate(KEPT_BYTES);
        escaped.push_str(SUM_MARK);
        BASE64_URL_SAFE_NO_PAD.encode_string(Sha1::digest(collection), &mut escaped);
    }
    escaped
}

/// The collection whose files have this stem. `told` is the name that its metadata tell, where they do: a name that
/// was cut off can be had from there only.
pub fn collection_of(stem: &str, told: Option<&str>) -> Result<String, NameError> {
    if let Some(told) = told {
        if file_stem(told) == stem || unescape(stem).is_ok_and(|name| name == told) {
            return Ok(told.to_owned());
        }
        return Err(NameError::Other);
    }
    let is_cut_off = stem.len() == MAX_ESCAPED_BYTES
        && stem[..].get(KEPT_BYTES..).is_some_and(|end| end.starts_with(SUM_MARK));
    if is_cut_off {
        return Err(NameError::CutOff);
    }
    unescape(stem)
}

/// Undo the escape: `+` is a space, `%XX` a byte, all else itself.
fn unescape(stem: &str) -> Result<String, NameError> {
    let mut name = Vec::with_capacity(stem.len());
    let mut rest = stem.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        name.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (digits, after) = after.split_first_chunk::<2>().ok_or(NameError::Escape)?;
                rest = after;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                let byte = high.zip(low).map(|(high, low)| 16 * high + low);
                byte.ok_or(NameError::Escape)? as u8
            }
            other => *other,
        });
    }
    String::from_utf8(name).map_err(|_| NameError::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_escaped_as_mongodump_escapes_them() {
        // The folder that mongodump wrote of the fixture has this name in it.
        assert_eq!(file_stem("odd name ☂ %2F"), "odd+name+%E2%98%82+%252F");
        assert_eq!(file_stem("a-b_c.d~e"), "a-b_c.d~e");
        assert_eq!(file_stem("a/../b+\n\"*"), "a%2F..%2Fb%2B%0A%22%2A");
        assert_eq!(file_stem("$admin.system./x"), "%24admin.system.%2Fx");
        assert_eq!(file_stem("$admin.system.users"), "$admin.system.users");
        assert_eq!(documents_path("db", "a b"), "db/a+b.bson");
        assert_eq!(metadata_path("db", "a b"), "db/a+b.metadata.json");
    }

    #[test]
    fn long_names_are_cut_off_and_end_with_a_sum() {
        let longest = "x".repeat(238);
        assert_eq!(file_stem(&longest), longest);
        let longer = "x".repeat(239);
        // printf x%.0s {1..239} | sha1sum | xxd -r -p | base64 | tr +/ -_
        let expected = format!("{}%24Nq75d-cu3iRxNs-ce3Tvf9gagoU", "x".repeat(208));
        assert_eq!(file_stem(&longer), expected);
        assert_eq!(collection_of(&expected, None), Err(NameError::CutOff));
        assert_eq!(collection_of(&expected, Some(&longer)).as_ref(), Ok(&longer));
        assert_eq!(collection_of(&expected, Some("y")), Err(NameError::Other));
        // Cut in the middle of an escape: bytes are counted, whatever they are.
        let umbrellas = file_stem(&"☂".repeat(60));
        assert_eq!(umbrellas.len(), 238);
        assert!(umbrellas.starts_with("%E2%98%82"), "{umbrellas}");
        assert_eq!(&umbrellas[200..211], "2%98%82%%24");
    }

    #[test]
    fn stems_that_nobody_wrote_are_refused() {
        for stem in ["%", "%2", "a%zz", "%FF", "%+1", "%e2%98"] {
            assert_eq!(collection_of(stem, None), Err(NameError::Escape), "{stem}");
        }
        assert_eq!(collection_of("a%2fb+c", None).as_deref(), Ok("a/b c"));
        // Older ones wrote a space as %20.
        assert_eq!(collection_of("a%20b", Some("a b")).as_deref(), Ok("a b"));
    }

    #[test]
    fn a_database_is_a_folder_and_stays_in_its_place() {
        for name in ["appsmith", "a-b_c", "naïve", "☂"] {
            assert_eq!(check_database(name), Ok(()), "{name}");
        }
        for name in
            ["", ".", "..", "a/b", "a.b", "a b", "a\\b", "$external", "a\0", &"x".repeat(64)]
        {
            assert_eq!(check_database(name), Err(NameError::Database), "{name}");
        }
        for name in ["", "a\0b", &"x".repeat(256)] {
            assert_eq!(check_collection(name), Err(NameError::Collection), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_name_comes_back_from_a_safe_file(name in any::<String>()) {
            let stem = file_stem(&name);
            prop_assert!(stem.len() <= 238 && !stem.contains(['/', '\0']));
            prop_assert_eq!(collection_of(&stem, Some(&name)), Ok(name.clone()));
            match collection_of(&stem, None) {
                Ok(back) => prop_assert_eq!(back, name),
                Err(error) => prop_assert!(error == NameError::CutOff && name.len() > 79),
            }
        }
    }
}
