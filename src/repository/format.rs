//! restic's repository format, version 2, as bytes: encoding and decoding without a store.
//!
//! Everything that is decoded may be damaged or hostile: lengths are checked before memory is asked for, and every
//! decoder returns an error instead of panicking (the fuzz targets under `tests/fuzz` hold that).
//! `docs/FORMAT.md` describes the format; restic's design document is its source.

pub mod chunker;
pub mod compress;
pub mod config;
pub mod crypto;
pub mod document;
pub mod index;
pub mod key;
pub mod lock;
pub mod pack;
pub mod quote;
pub mod snapshot;
pub mod sum;
pub mod tree;

use sha2::{Digest as _, Sha256};

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// The authentication code does not fit: damaged, or not of this repository.
    #[error(
        "the authentication code does not fit: the bytes are damaged or belong to another repository"
    )]
    Forged,
    /// Shorter than the format allows.
    #[error("{found} bytes are too few: at least {least} are needed")]
    TooShort {
        /// Bytes that are there.
        found: usize,
        /// Bytes that the format asks for.
        least: usize,
    },
    /// A length is beyond what any writer makes.
    #[error("a length of {length} bytes is beyond the limit of {limit}")]
    TooLong {
        /// What the file says.
        length: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The content does not fit its name.
    #[error("the content's SHA-256 sum is {found}, and {expected} was expected")]
    WrongSum {
        /// The sum in the name.
        expected: String,
        /// The sum of the content.
        found: String,
    },
    /// Anything else that the format forbids.
    #[error("{0}")]
    Invalid(String),
}

impl FormatError {
    /// An error in words.
    pub(crate) fn invalid(message: impl std::fmt::Display) -> Self {
        Self::Invalid(message.to_string())
    }
}

/// The SHA-256 sum that names blobs and files.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// An error unless `bytes` have the sum `expected`.
pub fn verify_sum(bytes: &[u8], expected: [u8; 32]) -> Result<(), FormatError> {
    let found = sha256(bytes);
    if found == expected {
        return Ok(());
    }
    Err(FormatError::WrongSum { expected: hex::encode(expected), found: hex::encode(found) })
}
