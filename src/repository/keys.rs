//! Passwords of a repository: each is a key file that holds the same master key.

use super::format::key::{KeyFile, MAX_BYTES, ScryptCost};
use super::format::{FormatError, crypto::MasterKey, sha256, verify_sum};
use super::{Repository, RepositoryError};
use crate::host;
use crate::model::id::FileId;
use crate::store::{FileKind, FileName, Listed, Store};
use jiff::Timestamp;
use std::fmt::Write as _;
use zeroize::Zeroizing;

/// So many key files are tried, as restic does: each costs as much as a wrong guess.
const MAX_KEYS: usize = 20;
/// The label of the password that `init` prints.
pub const RECOVERY_LABEL: &str = "recovery";
/// A recovery key has 160 bits: so many letters and digits of Crockford's base 32 (no I, L, O, U), in groups of four.
const RECOVERY_DIGITS: usize = 32;
/// With the dashes between the groups.
const RECOVERY_TEXT: usize = 39;
const RECOVERY_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// What may be told of a key file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyInfo {
    /// Its id.
    pub id: FileId,
    /// When it was made.
    pub created: Timestamp,
    /// Who made it.
    pub username: String,
    /// On which machine.
    pub hostname: String,
    /// What it is for, where Belay made it.
    pub label: Option<String>,
    /// Whether this is the one that opened the repository now.
    pub in_use: bool,
}

/// The key files of a repository.
#[derive(Debug, Default)]
pub struct Keys {
    /// Oldest first.
    pub readable: Vec<KeyInfo>,
    /// Damaged ones, with the reason.
    pub damaged: Vec<(FileId, RepositoryError)>,
}

/// A fresh recovery key, as it is printed and typed.
pub fn random_recovery_key() -> Result<String, RepositoryError> {
    let mut random = [0; RECOVERY_DIGITS];
    getrandom::fill(&mut random).map_err(|error| RepositoryError::Internal(error.to_string()))?;
    let mut text = String::with_capacity(RECOVERY_TEXT);
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(RECOVERY_ALPHABET[usize::from(byte % 32)]));
    }
    Ok(text)
}

/// A recovery key as a person typed it from paper, made what was printed: groups, dashes and spaces wherever they are,
/// letters in any case, I and L for 1, O for 0. None for what has not its shape.
fn recovery_key_of(password: &[u8]) -> Option<Zeroizing<String>> {
    let text = std::str::from_utf8(password).ok()?;
    let mut key = Zeroizing::new(String::with_capacity(RECOVERY_TEXT));
    let is_between = |character: &char| {
        character.is_whitespace()
            || matches!(character, '-' | '_' | '\u{2010}'..='\u{2015}' | '\u{2212}')
    };
    let mut digits = 0;
    for character in text.chars().filter(|character| !is_between(character)) {
        let digit = match character.to_ascii_uppercase() {
            'I' | 'L' => '1',
            'O' => '0',
            other => other,
        };
        if digits == RECOVERY_DIGITS || !RECOVERY_ALPHABET.contains(&u8::try_from(digit).ok()?) {
            return None;
        }
        if digits > 0 && digits % 4 == 0 {
            key.push('-');
        }
        key.push(digit);
        digits += 1;
    }
    (digits == RECOVERY_DIGITS).then_some(key)
}

/// Seal the master key with `password` and write the key file.
pub(super) fn write(
    store: &dyn Store,
    master: &MasterKey,
    password: &[u8],
    cost: ScryptCost,
    label: Option<String>,
) -> Result<FileId, RepositoryError> {
    if password.is_empty() {
        return Err(RepositoryError::Refused("an empty password protects nothing".into()));
    }
    let failed = |error| RepositoryError::format(&"the new key", error);
    let owner = (host::username(), host::hostname());
    let file =
        KeyFile::seal(master, password, cost, owner, label, Timestamp::now()).map_err(failed)?;
    let json = serde_json::to_vec(&file).map_err(|error| failed(FormatError::invalid(error)))?;
    let id = FileId(sha256(&json));
    store.write(FileName::Id(FileKind::Key, id), &json)?;
    Ok(id)
}

/// The master key that `password` opens, and the file that held it. The password is tried as it is, and then, where it may
/// be a recovery key that was typed otherwise than it was printed, as that.
pub(super) fn open(
    store: &dyn Store,
    mut files: Vec<Listed>,
    password: &[u8],
) -> Result<(FileId, MasterKey), RepositoryError> {
    files.sort_by_key(|file| file.id);
    let key = recovery_key_of(password);
    let mut opened = open_exactly(store, &files, password);
    if let (Err(RepositoryError::WrongPassword { .. }), Some(key)) = (&opened, &key)
        && key.as_bytes() != password
    {
        opened = open_exactly(store, &files, key.as_bytes());
    }
    if let Err(RepositoryError::WrongPassword { is_recovery_key, .. }) = &mut opened {
        *is_recovery_key = key.is_some();
    }
    opened
}

fn open_exactly(
    store: &dyn Store,
    files: &[Listed],
    password: &[u8],
) -> Result<(FileId, MasterKey), RepositoryError> {
    let mut damaged = String::new();
    let mut tried = 0;
    for listed in files.iter().take(MAX_KEYS) {
        let name = FileName::Id(FileKind::Key, listed.id);
        let opened = read(store, listed.id).and_then(|file| {
            file.open(password).map_err(|error| RepositoryError::format(&name, error))
        });
        match opened {
            Ok(Some(key)) => return Ok((listed.id, key)),
            Ok(None) => tried += 1,
            Err(error) if error.is_damage() => {
                write!(damaged, "; {error}").expect("writing to a String cannot fail");
            }
            Err(error) => return Err(error),
        }
    }
    Err(RepositoryError::WrongPassword {
        location: store.location(),
        tried,
        damaged,
        is_recovery_key: false,
    })
}

fn read(store: &dyn Store, id: FileId) -> Result<KeyFile, RepositoryError> {
    let name = FileName::Id(FileKind::Key, id);
    let json = store.read(name, MAX_BYTES as u64)?;
    let damaged = |error| RepositoryError::format(&name, error);
    verify_sum(&json, id.0).map_err(damaged)?;
    serde_json::from_slice(&json).map_err(|error| damaged(FormatError::invalid(error)))
}

impl Repository {
    /// Add a password; `label` says what it is for.
    pub fn add_key(
        &self,
        password: &[u8],
        cost: ScryptCost,
        label: Option<String>,
    ) -> Result<FileId, RepositoryError> {
        write(self.store.as_ref(), &self.key, password, cost, label)
    }

    /// What may be told of each key file.
    pub fn keys(&self) -> Result<Keys, RepositoryError> {
        let mut keys = Keys::default();
        for listed in self.store.list(FileKind::Key)? {
            match read(self.store.as_ref(), listed.id) {
                Ok(file) => keys.readable.push(KeyInfo {
                    id: listed.id,
                    created: file.created,
                    username: file.username,
                    hostname: file.hostname,
                    label: file.label,
                    in_use: listed.id == self.key_id,
                }),
                Err(error) if error.is_damage() => keys.damaged.push((listed.id, error)),
                Err(error) => return Err(error),
            }
        }
        keys.readable.sort_by_key(|key| (key.created, key.id));
        Ok(keys)
    }

    /// Remove a password. The one that opened the repository now stays, and must still be there, so that one that opens
    /// it always remains. The caller holds an exclusive lock.
    pub fn remove_key(&self, id: FileId) -> Result<(), RepositoryError> {
        if id == self.key_id {
            return Err(RepositoryError::Refused(format!(
                "the key {} is the one that opened the repository now; open it with another password to remove this one",
                id.short()
            )));
        }
        if let Err(error) = read(self.store.as_ref(), self.key_id) {
            return Err(RepositoryError::Refused(format!(
                "the key {} that opened the repository cannot be read any more ({error}), and the key {} may be the last one",
                self.key_id.short(),
                id.short()
            )));
        }
        Ok(self.store.remove(FileName::Id(FileKind::Key, id))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::local::LocalStore;
    use std::sync::Arc;

    #[test]
    fn two_that_remove_each_others_key_leave_one() {
        let directory = tempfile::tempdir().unwrap();
        let store = || Arc::new(LocalStore::new(directory.path().join("repository")));
        let one = Repository::init(store(), b"one", ScryptCost::RANDOM_KEY).unwrap();
        let id = one.add_key(b"two", ScryptCost::RANDOM_KEY, None).unwrap();
        let two = Repository::open(store(), b"two").unwrap();
        assert!(matches!(one.remove_key(one.key_id()), Err(RepositoryError::Refused(_))));
        one.remove_key(id).unwrap();
        let error = two.remove_key(one.key_id()).unwrap_err();
        assert!(matches!(error, RepositoryError::Refused(_)), "{error}");
        assert!(Repository::open(store(), b"one").is_ok());
    }

    #[test]
    fn a_recovery_key_opens_as_people_type_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = || Arc::new(LocalStore::new(directory.path().join("repository")));
        let made = Repository::init(store(), b"one", ScryptCost::RANDOM_KEY).unwrap();
        let key = "0123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ";
        let id = made.add_key(key.as_bytes(), ScryptCost::RANDOM_KEY, None).unwrap();
        for typed in [
            key.to_owned(),
            key.to_lowercase(),
            key.replace('-', ""),
            key.replace('-', " "),
            key.replace('-', "\u{2013}"),
            format!(" {}\r\n", key.replace("-G", "-\n\tG")),
            key.replace('0', "o").replace('1', "l"),
            key.replace('0', "O").replace('1', "I"),
        ] {
            let opened = Repository::open(store(), typed.as_bytes());
            assert_eq!(opened.map(|opened| opened.key_id()).ok(), Some(id), "{typed:?}");
        }
        for wrong in [key.replace('Z', "Y"), key.replace('Z', ""), format!("{key}0")] {
            let error = Repository::open(store(), wrong.to_lowercase().as_bytes()).err().unwrap();
            assert!(matches!(error, RepositoryError::WrongPassword { .. }), "{wrong}: {error}");
            let is_whole = wrong.len() == key.len();
            let hint = error.hint().unwrap_or_default();
            assert_eq!(hint.contains("letter by letter"), is_whole, "{wrong}: {hint}");
            assert!(!error.to_string().to_uppercase().contains("89AB"), "{error}");
        }
    }

    #[test]
    fn what_has_not_the_shape_of_a_recovery_key_is_tried_only_as_it_is() {
        let other =
            ["correct horse battery staple", "ONE", "u123-4567-89AB-CDEF-GHJK-MNPQ-RSTV-WXYZ"];
        for password in other {
            assert!(recovery_key_of(password.as_bytes()).is_none(), "{password}");
        }
        let key = random_recovery_key().unwrap();
        assert_eq!(*recovery_key_of(key.as_bytes()).unwrap(), key);
        assert!(recovery_key_of(b"\xff").is_none());
    }

    #[test]
    fn recovery_keys_are_long_and_differ() {
        let (one, two) = (random_recovery_key().unwrap(), random_recovery_key().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 39);
        assert!(one.split('-').all(|group| group.len() == 4));
    }
}
