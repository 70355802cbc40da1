//! Identifiers. Content ids are SHA-256 sums and are shown as 64 hexadecimal digits, as restic does;
//! instance and job ids are random.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Why a text is no id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{text}' is no {what}: {expected} hexadecimal digits are expected")]
pub struct ParseIdError {
    what: &'static str,
    text: String,
    expected: usize,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $length:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The first eight digits, as shown to people.
            pub fn short(&self) -> String {
                hex::encode(&self.0[..4])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($name), hex::encode(self.0))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let mut bytes = [0; $length];
                let lower_case = !text.bytes().any(|byte| byte.is_ascii_uppercase());
                match hex::decode_to_slice(text, &mut bytes) {
                    Ok(()) if lower_case => Ok(Self(bytes)),
                    _ => Err(ParseIdError { what: $what, text: text.to_owned(), expected: 2 * $length }),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_id!(
    /// Names any file of a repository but `config`: the SHA-256 sum of its bytes as stored.
    FileId, 32, "file id"
);
hex_id!(
    /// Names a snapshot: the [`FileId`] of its file in `snapshots/`.
    SnapshotId, 32, "snapshot id"
);
hex_id!(
    /// Names a blob: the SHA-256 sum of its plaintext.
    BlobId, 32, "blob id"
);
hex_id!(
    /// A SHA-256 sum of a whole file's content.
    Sha256, 32, "SHA-256 sum"
);
hex_id!(
    /// Identifies a repository for good, wherever it lies: the `id` in its `config` file, which is random.
    RepositoryId, 32, "repository id"
);
hex_id!(
    /// Identifies an instance for good, whatever it is called: random, kept in the catalog and as a tag of each snapshot.
    InstanceId, 16, "instance id"
);
hex_id!(
    /// Identifies one execution of an operation: random.
    JobId, 8, "job id"
);
hex_id!(
    /// Identifies one upgrade of a pair for good: random.
    UpgradeId, 8, "upgrade id"
);
hex_id!(
    /// Identifies one delivery of a notice to one channel, the same at every try: random.
    DeliveryId, 16, "delivery id"
);
hex_id!(
    /// Identifies a channel of notices by its kind and target, whatever else is configured of it: a digest of them.
    ChannelId, 8, "channel id"
);

impl From<FileId> for SnapshotId {
    fn from(id: FileId) -> Self {
        Self(id.0)
    }
}

impl From<SnapshotId> for FileId {
    fn from(id: SnapshotId) -> Self {
        Self(id.0)
    }
}

impl From<FileId> for RepositoryId {
    fn from(id: FileId) -> Self {
        Self(id.0)
    }
}

impl From<BlobId> for Sha256 {
    fn from(id: BlobId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_is_written() {
        let id = JobId([0, 1, 2, 0xab, 0xcd, 0xef, 0xff, 0x10]);
        assert_eq!(id.to_string(), "000102abcdefff10");
        assert_eq!("000102abcdefff10".parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"000102abcdefff10\"");
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "00", "000102ABCDEFFF10", "000102abcdefff1g", "000102abcdefff1000"] {
            assert!(text.parse::<JobId>().is_err(), "{text}");
        }
    }
}
