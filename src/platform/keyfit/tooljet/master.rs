//! `LOCKBOX_MASTER_KEY`: 64 hex digits. What documents and charts ship as an example is refused.

use std::fmt;
use zeroize::Zeroizing;

const HEX_DIGITS: usize = 64;
/// What examples repeat.
const PATTERNS: &[&str] =
    &["0123456789abcdef", "0123456789", "1234567890", "123456789abcdef0", "deadbeef", "abcdef"];
/// What examples say in words. None of them can be in a key.
const WORDS: &[&str] = &[
    "change",
    "default",
    "example",
    "generate",
    "hex",
    "key",
    "lockbox",
    "master",
    "placeholder",
    "replace",
    "sample",
    "secret",
    "test",
    "todo",
    "xxx",
    "your",
];

/// The key that all others are derived from: wiped from memory when dropped, hidden in `Debug`.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; HEX_DIGITS / 2]>);

/// Why a text is no master key. No message holds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyProblem {
    /// There is none.
    #[error("LOCKBOX_MASTER_KEY is empty")]
    Empty,
    /// It is an example that was never replaced.
    #[error("LOCKBOX_MASTER_KEY is a placeholder, not a key: {0}")]
    Placeholder(&'static str),
    /// It is too short or too long.
    #[error("LOCKBOX_MASTER_KEY has {characters} characters, not 64")]
    WrongLength {
        /// How many it has.
        characters: usize,
    },
    /// It has other characters than 0 to 9 and a to f.
    #[error("LOCKBOX_MASTER_KEY has characters that are no hex digits")]
    NotHex,
}

impl MasterKeyProblem {
    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Empty | Self::WrongLength { .. } | Self::NotHex => {
                "look which key the running ToolJet really has; it is made with `openssl rand -hex 32`"
            }
            Self::Placeholder(_) => {
                "what it encrypts is open to everyone who knows the example: make a key with `openssl rand -hex 32`, and enter the secrets anew"
            }
        }
    }
}

impl MasterKey {
    /// The key that a text stands for. White space around it is not part of it.
    pub fn parse(text: &str) -> Result<Self, MasterKeyProblem> {
        let text = text.trim_ascii();
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        if text.is_empty() {
            return Err(MasterKeyProblem::Empty);
        }
        if let Some(why) = placeholder(&lower) {
            return Err(MasterKeyProblem::Placeholder(why));
        }
        if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(MasterKeyProblem::NotHex);
        }
        let mut key = Zeroizing::new([0; HEX_DIGITS / 2]);
        hex::decode_to_slice(text, &mut *key)
            .map_err(|_| MasterKeyProblem::WrongLength { characters: text.len() })?;
        Ok(Self(key))
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &*self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("MasterKey(…)")
    }
}

/// Why a text in lower case is taken for an example.
fn placeholder(text: &str) -> Option<&'static str> {
    let repeats = |pattern: &str| text.bytes().eq(pattern.bytes().cycle().take(text.len()));
    let first = &text[..text.chars().next()?.len_utf8()];
    if repeats(first) {
        Some("it repeats one character")
    } else if PATTERNS.iter().any(|pattern| text.len() >= 8 && repeats(pattern)) {
        Some("it counts up or repeats a pattern")
    } else if WORDS.iter().any(|word| text.contains(word)) || text.starts_with(['<', '$', '{']) {
        Some("it is words")
    } else {
        None
    }
}
