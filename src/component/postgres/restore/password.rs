//! Passwords of roles, as servers keep them.
//!
//! A password goes to the server only as a hash: a statement that fails is written to the server's log as it is.
//! Source of the format: RFC 5803, and `src/common/scram-common.c` of PostgreSQL.

use crate::component::postgres::literal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const ITERATIONS: u32 = 4096;
const SALT_BYTES: usize = 16;

/// A new hash of a password, as a literal.
pub(super) fn hashed(password: &str) -> Zeroizing<String> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).expect("the system gives random bytes");
    Zeroizing::new(literal(&verifier(password, &salt, ITERATIONS)))
}

/// Whether a literal is the hash of this password. Not known, as with `md5`, is no.
pub(super) fn fits(hash: &str, password: &str) -> bool {
    let parts = || {
        let hash = hash.strip_prefix('\'')?.strip_suffix('\'')?;
        let (iterations, rest) = hash.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
        let (salt, _) = rest.split_once('$')?;
        Some((hash, iterations.parse().ok()?, STANDARD.decode(salt).ok()?))
    };
    parts().is_some_and(|(hash, iterations, salt)| verifier(password, &salt, iterations) == hash)
}

fn verifier(password: &str, salt: &[u8], iterations: u32) -> String {
    let mut salted = Zeroizing::new([0; 32]);
    pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, iterations, salted.as_mut());
    let keyed = |word: &[u8]| {
        let mac = Hmac::<Sha256>::new_from_slice(salted.as_ref()).expect("any length is a key");
        mac.chain_update(word).finalize().into_bytes()
    };
    let stored = STANDARD.encode(Sha256::digest(keyed(b"Client Key")));
    let server = STANDARD.encode(keyed(b"Server Key"));
    format!("SCRAM-SHA-256${iterations}:{}${stored}:{server}", STANDARD.encode(salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_fits_its_password_only() {
        let hash = hashed("pw-47eaa099");
        assert!(hash.starts_with("'SCRAM-SHA-256$4096:"));
        assert!(fits(&hash, "pw-47eaa099"));
        assert!(!fits(&hash, "pw-47eaa098"));
        for strange in ["", "''", "'md5abc'", "'SCRAM-SHA-256$x:y$z'", "'SCRAM-SHA-256$1:%$z:a'"] {
            assert!(!fits(strange, "pw"), "{strange}");
        }
    }
}
