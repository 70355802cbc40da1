//! Appsmith's field encryption: hex text, under a key that PBKDF2 (HMAC-SHA1, 1024 rounds) derives from
//! `APPSMITH_ENCRYPTION_PASSWORD` and `APPSMITH_ENCRYPTION_SALT`.
//!
//! Newer releases use AES-256-GCM, with 16 bytes of nonce in front and a tag of 16 behind; older ones AES-256-CBC with a nonce of
//! zeros and PKCS#7 padding, and both may stand in one database. CBC has no tag: one value in 256 unpads by chance under a wrong
//! key, so what it gives has to be UTF-8 text, too.

use super::{FitPlace, FitReport, Outcome};
use aes_gcm::aead::{Aead as _, KeyInit as _};
use aes_gcm::aes::Aes256;
use aes_gcm::{AesGcm, Nonce};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::consts::U16;
use cbc::cipher::{BlockModeDecrypt as _, KeyIvInit as _};
use sha1::Sha1;
use std::fmt;
use zeroize::Zeroizing;

const ROUNDS: u32 = 1024;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;

type Gcm = AesGcm<Aes256, U16>;
type Cbc = cbc::Decryptor<Aes256>;

/// Where ciphertext stands: a collection, the document in it, and the names of the members below that which hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The collection.
    pub collection: &'static str,
    /// The way to the document that holds them.
    pub document: &'static [&'static str],
    /// Names of members, at any depth below it.
    pub members: &'static [&'static str],
}

/// What authentications of data sources call what they keep secret.
const SECRETS: &[&str] = &[
    "password",
    "clientSecret",
    "bearerToken",
    "value",
    "token",
    "refreshToken",
    "tokenResponse",
    "secretKey",
];

/// All fields with ciphertext. A version of Appsmith may lack some.
pub const FIELDS: &[Field] = &[
    Field {
        collection: "datasourceStorage",
        document: &["datasourceConfiguration", "authentication"],
        members: SECRETS,
    },
    // Before there were environments.
    Field {
        collection: "datasource",
        document: &["datasourceConfiguration", "authentication"],
        members: SECRETS,
    },
    Field {
        collection: "application",
        document: &["gitApplicationMetadata", "gitAuth"],
        members: &["privateKey"],
    },
];

/// The key that encrypts fields: wiped from memory when dropped, hidden in `Debug`.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(…)")
    }
}

/// Why a value was not decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecryptError {
    /// It is not hex, or of no length that a cipher gives.
    #[error("the value is not shaped as Appsmith's ciphertext")]
    NotCiphertext,
    /// The key is another one, or the value was changed.
    #[error("the value cannot be decrypted with this password and salt")]
    DoesNotFit,
}

impl Key {
    /// The key of an instance's password and salt.
    pub fn derive(password: &str, salt: &str) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt.as_bytes(), ROUNDS, key.as_mut());
        Self(key)
    }

    /// Decrypt a stored value.
    pub fn decrypt(&self, ciphertext: &str) -> Result<Zeroizing<Vec<u8>>, DecryptError> {
        let sealed = hex::decode(ciphertext).map_err(|_| DecryptError::NotCiphertext)?;
        let is_gcm = sealed.len() >= NONCE_BYTES + TAG_BYTES;
        let is_cbc = !sealed.is_empty() && sealed.len().is_multiple_of(BLOCK_BYTES);
        if !is_gcm && !is_cbc {
            return Err(DecryptError::NotCiphertext);
        }
        let gcm = if is_gcm { self.open_gcm(&sealed) } else { None };
        let opened = gcm.or_else(|| if is_cbc { self.open_cbc(&sealed) } else { None });
        opened.ok_or(DecryptError::DoesNotFit)
    }

    fn open_gcm(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let cipher = Gcm::new((&*self.0).into());
        cipher.decrypt(&Nonce::from(*nonce), sealed).ok().map(Zeroizing::new)
    }

    fn open_cbc(&self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let cipher = Cbc::new((&*self.0).into(), (&[0; BLOCK_BYTES]).into());
        let opened = cipher.decrypt_padded_vec::<Pkcs7>(sealed).ok().map(Zeroizing::new)?;
        std::str::from_utf8(&opened).is_ok().then_some(opened)
    }
}

/// Tries all ciphertext of an instance.
pub struct FitProof {
    key: Key,
    report: FitReport,
}

impl FitProof {
    /// Nothing was tried yet.
    pub fn new(key: Key) -> Self {
        Self { key, report: FitReport::default() }
    }

    /// A value of one of the [`FIELDS`]. One that is empty is passed over.
    pub fn add(&mut self, place: FitPlace, value: &str) {
        if value.is_empty() {
            return;
        }
        let outcome = match self.key.decrypt(value) {
            Ok(_) => Outcome::Fit,
            Err(DecryptError::DoesNotFit) => Outcome::Unfit,
            Err(DecryptError::NotCiphertext) => Outcome::NotCiphertext,
        };
        self.report.record(place, outcome);
    }

    /// What all trying showed.
    pub fn finish(self) -> FitReport {
        self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::manifest::KeyFit;
    use serde_json::Value;

    /// Made with another implementation: see the note in the file.
    const VECTORS: &str = include_str!("../../../tests/fixtures/keyfit.json");

    fn vectors() -> (Key, Vec<(String, String)>) {
        let json: Value = serde_json::from_str(VECTORS).unwrap();
        let appsmith = &json["appsmith"];
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let key = Key::derive(&text(&appsmith["password"]), &text(&appsmith["salt"]));
        assert_eq!(hex::encode(*key.0), text(&appsmith["derived_key_hex"]));
        let vectors = appsmith["vectors"].as_array().unwrap().iter();
        let pair = |vector: &Value| (text(&vector["plaintext"]), text(&vector["ciphertext"]));
        (key, vectors.map(pair).collect())
    }

    #[test]
    fn both_ciphers_are_decrypted_and_with_another_key_neither() {
        let (key, vectors) = vectors();
        assert_eq!(vectors.len(), 2);
        let other = Key::derive("appsmith-pass", "another salt");
        for (plaintext, ciphertext) in vectors {
            assert_eq!(key.decrypt(&ciphertext).unwrap().as_slice(), plaintext.as_bytes());
            assert_eq!(other.decrypt(&ciphertext).unwrap_err(), DecryptError::DoesNotFit);
            let mut changed = ciphertext.into_bytes();
            changed[20] ^= 1;
            let changed = String::from_utf8(changed).unwrap();
            assert!(key.decrypt(&changed).is_err(), "{changed}");
        }
        for plain in ["plain text", "abc", "abcdef", &"0".repeat(34)[..]] {
            let error = key.decrypt(plain).unwrap_err();
            assert_eq!(error, DecryptError::NotCiphertext, "{plain}");
        }
    }

    #[test]
    fn one_value_that_does_not_fit_decides() {
        let (key, vectors) = vectors();
        let place = || FitPlace::new("datasourceStorage", "password", Some(b"1"));
        let mut proof = FitProof::new(key.clone());
        proof.add(place(), "");
        assert_eq!(proof.finish().verdict(), KeyFit::Unproven);
        let mut proof = FitProof::new(key);
        for (_, ciphertext) in &vectors {
            proof.add(place(), ciphertext);
        }
        proof.add(place(), &"00".repeat(48));
        let report = proof.finish();
        assert_eq!((report.fit, report.unfit.count), (2, 1));
        assert_eq!(report.verdict(), KeyFit::Unfit);
        assert!(!format!("{:?}", Key::derive("a", "b")).contains("0x"));
    }
}
